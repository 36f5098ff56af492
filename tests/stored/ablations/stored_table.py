"""Does a random start of the calibration change what a tiny network says of a clip?

Run: tada ablate stored_table --regime stored_regime --seeds 2
"""

from tadaconv.ablation import Claim, PaperResult, Row, Table
from tadaconv.spec import Context, Placement, TAda

BASE = TAda(context=Context(kernels=(1, 1)), init="random", placement=Placement(stages=(2,)))

TABLE = Table(
    base=Row("(1,1) in res2", BASE, PaperResult(61.5, "nowhere, table 1", "moving digits", 4, "1 clip x 1 crop")),
    rows=[
        Row("no calibration (TSN)", None),
        Row("both together", None, ensemble=("no calibration (TSN)", "(1,1) in res2")),
        Row("a rate far too high", None, backbone="slow_only_8x8"),
    ],
    claims=[
        Claim("calibration helps", better="(1,1) in res2", worse="no calibration (TSN)", source="nowhere, section 5")
    ],
)
