"""How should frames be aggregated after the operator?

After the calibrated convolution, the paper adds a second branch that pools over neighbouring frames: BN1(y) +
BN2(pool(y)). Rows omit this branch, or pool by another function or over more frames. Paper section 5, ablation of the
temporal aggregation. The base is TAda2D as published.
Run: tada ablate aggregation
"""

from tadaconv.spec import Aggregation, TAda
from tadaconv.table import Claim, PaperResult, Row, Table

BASE = TAda(aggregation=Aggregation(kind="average", kernel=3))
TADA2D = PaperResult(
    top1=64.0,
    source="paper, table 8",
    data="Something-Something-V2",
    num_frames=8,
    views="2 clips x 3 crops of 256 px",
    gmacs=43,
)
SOURCE = "paper, section 5, temporal aggregation"

TABLE = Table(
    base=Row("average, kernel 3", BASE, paper=TADA2D),
    rows=[
        Row("no calibration (TSN)", None),
        Row("none", BASE.but(aggregation__kind="none")),
        Row("max", BASE.but(aggregation__kind="max")),
        Row("mix", BASE.but(aggregation__kind="mix")),
        Row("conv", BASE.but(aggregation__kind="conv")),
        Row("average, kernel 5", BASE.but(aggregation__kernel=5)),
    ],
    claims=[
        Claim("Aggregation after the operator helps further.", "average, kernel 3", "none", SOURCE),
    ],
)
