"""Does temporally adaptive calibration help to localize actions?

Each row is a backbone of features for the same localizer, trained with it end to end; a feature is the mean over a
window of frames. On the clips of the regime quick_localize two of the three classes, grows and shrinks, differ by the
order of frames within windows alone: no row that is blind to it lies above the ceiling that the report prints.

Rows with a context use the operator without its temporal aggregation unless they name it. No calibration, (1,1) and
(1,1) + global cannot use the order of frames.   Run: tada ablate localization
"""

from tadaconv.spec import Aggregation, Context, Rival, TAda
from tadaconv.table import Claim, Row, Table

BASE = TAda(context=Context(kernels=(3, 3), global_descriptor=True), aggregation=Aggregation(kind="none"))
LOCAL = BASE.but(context__global_descriptor=False)
SOURCE = "paper, section 6: features of TAda2D localize better than those of TSN"

TABLE = Table(
    base=Row("(3,3) + global", BASE),
    rows=[
        Row("no calibration (TSN)", None),
        Row("(1,1)", LOCAL.but(context__kernels=(1, 1))),
        Row("(1,1) + global", BASE.but(context__kernels=(1, 1))),
        Row("(3,3)", LOCAL),
        Row("(3,3) + global, aggregation", BASE.but(aggregation=Aggregation())),
        Row("TSM", Rival(name="tsm")),
        Row("TAM", Rival(name="tam")),
    ],
    claims=[
        Claim("Features of temporally adaptive convolutions localize better.", "(3,3) + global, aggregation",
              "no calibration (TSN)", SOURCE),
        Claim("Calibration alone helps.", "(3,3) + global", "no calibration (TSN)", SOURCE),
        Claim("It does so by its local temporal context.", "(3,3)", "(1,1)", SOURCE),
    ],
    regime="quick_localize",
)  # fmt: skip
