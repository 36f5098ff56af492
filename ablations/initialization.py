"""How should the calibration be initialized?

At identity the last layer of the context is zero and alpha is exactly 1: the network starts equal to the plain one.
The alternatives initialize the last layer at random, so that alpha is around one or, without the one, around zero. The
paper argues for identity with pretrained weights; a regime that trains from scratch tests whether it matters there
too.

Rows use the operator without its temporal aggregation, which has an initialization of its own.
Run: tada ablate initialization
"""

from tadaconv.spec import Aggregation, TAda
from tadaconv.table import Claim, Row, Table

BASE = TAda(init="identity", aggregation=Aggregation(kind="none"))
SOURCE = "paper, initialisation of the calibration"

TABLE = Table(
    base=Row("identity", BASE),
    rows=[
        Row("no calibration (TSN)", None),
        Row("random last layer", BASE.but(init="random")),
        Row("without the one", BASE.but(init="without_one")),
    ],
    claims=[
        Claim("Starting at identity beats a random start around one.", "identity", "random last layer", SOURCE),
        Claim("Starting at identity beats a random start around zero.", "identity", "without the one", SOURCE),
    ],
)
