"""Where in the network does calibration help most?

The operator is placed in every stage, in the late stages, in the early ones, or in every stage but on a fraction of
the channels. Paper section 5, ablation of the stages; the fractions are not in the paper. Which blocks of a stage is a
question for a backbone with several blocks per stage, and so for a separate table.

Rows use the operator without its temporal aggregation, so that they differ in the placement of the calibration alone.
Run: tada ablate placement
"""

from tadaconv.spec import Aggregation, TAda
from tadaconv.table import Claim, Row, Table

BASE = TAda(aggregation=Aggregation(kind="none"))
SOURCE = "paper, section 5, stages with TAdaConv"

TABLE = Table(
    base=Row("res2+3+4+5", BASE),
    rows=[
        Row("no calibration (TSN)", None),
        Row("res2", BASE.but(placement__stages=(2,))),
        Row("res2+3", BASE.but(placement__stages=(2, 3))),
        Row("res2+3+4", BASE.but(placement__stages=(2, 3, 4))),
        Row("res5", BASE.but(placement__stages=(5,))),
        Row("res4+5", BASE.but(placement__stages=(4, 5))),
        Row("res3+4+5", BASE.but(placement__stages=(3, 4, 5))),
        Row("1/4 of the channels", BASE.but(placement__share=1 / 4)),
        Row("1/2 of the channels", BASE.but(placement__share=1 / 2)),
    ],
    claims=[
        Claim("The last stage alone helps.", "res5", "no calibration (TSN)", SOURCE),
        Claim("Two stages help more than one.", "res4+5", "res5", SOURCE),
        Claim("Three stages help more than two.", "res3+4+5", "res4+5", SOURCE),
        Claim("All stages help most.", "res2+3+4+5", "res3+4+5", SOURCE),
        Claim("The last stage contributes more than the first.", "res5", "res2", SOURCE),
        Claim("The late half contributes more than the early half.", "res4+5", "res2+3", SOURCE),
    ],
)
