"""Which dimension of the kernel should the calibration scale?

A frame's calibration can scale the kernel along its input channels, its output channels, its taps, or every pair of
input channel and tap; and along several of these at once, as an outer product. Paper section 5, ablation of the
calibration dimension; the outer products are not in the paper.

Rows use the operator without its temporal aggregation, so that they differ in the calibration dimension alone.
Run: tada ablate calibration_dimension
"""

from tadaconv.spec import Aggregation, TAda
from tadaconv.table import Claim, Row, Table

BASE = TAda(calibration="cin", aggregation=Aggregation(kind="none"))
SOURCE = "paper, section 5, calibration dimension"

TABLE = Table(
    base=Row("cin", BASE),
    rows=[
        Row("no calibration (TSN)", None),
        Row("k2", BASE.but(calibration="k2")),
        Row("cout", BASE.but(calibration="cout")),
        Row("cin_k2", BASE.but(calibration="cin_k2")),
        Row("cin+cout", BASE.but(calibration="cin+cout")),
        Row("cin+k2", BASE.but(calibration="cin+k2")),
    ],
    claims=[
        Claim("Input channels are better to calibrate than output channels.", "cin", "cout", SOURCE),
        Claim("Input channels are better to calibrate than taps.", "cin", "k2", SOURCE),
        Claim("Taps are the worst single dimension to calibrate.", "cout", "k2", SOURCE),
    ],
)
