"""Which parts of the context make the calibration work?

Each row computes the calibration of a frame from a different context: from the frame alone or with its neighbours in
time, by one temporal convolution (linear) or two with a ReLU between them, with or without the clip's global
descriptor. Paper section 3.2 and the ablation of the calibration weight generation in section 5.

Rows use the operator without its temporal aggregation, so that the context is the only exchange between frames: no
calibration, linear 1 and (1,1) cannot use the order of frames.   Run: tada ablate context
"""

from tadaconv.spec import Aggregation, Context, TAda
from tadaconv.table import Claim, Row, Table

BASE = TAda(context=Context(kernels=(3, 3), global_descriptor=True), aggregation=Aggregation(kind="none"))
LOCAL = BASE.but(context__global_descriptor=False)
SOURCE = "paper, section 5, calibration weight generation"

TABLE = Table(
    base=Row("(3,3) + global", BASE),
    rows=[
        Row("no calibration (TSN)", None),
        Row("linear 1", LOCAL.but(context__kernels=(1,))),
        Row("linear 3", LOCAL.but(context__kernels=(3,))),
        Row("(1,1)", LOCAL.but(context__kernels=(1, 1))),
        Row("(3,1)", LOCAL.but(context__kernels=(3, 1))),
        Row("(1,3)", LOCAL.but(context__kernels=(1, 3))),
        Row("(3,3)", LOCAL),
        Row("linear 1 + global", BASE.but(context__kernels=(1,))),
        Row("(1,1) + global", BASE.but(context__kernels=(1, 1))),
    ],
    claims=[
        Claim("Temporally adaptive calibration helps.", "(3,3) + global", "no calibration (TSN)", SOURCE),
        Claim("Local temporal context helps.", "(3,3)", "(1,1)", SOURCE),
        Claim("The global descriptor helps.", "(1,1) + global", "(1,1)", SOURCE),
        Claim("The global descriptor adds to local context.", "(3,3) + global", "(3,3)", SOURCE),
        Claim("A larger second kernel helps.", "(3,3)", "(3,1)", SOURCE),
        Claim("A larger first kernel helps.", "(3,3)", "(1,3)", SOURCE),
        Claim("Non-linear beats linear at equal context.", "(1,1) + global", "linear 1 + global", SOURCE),
    ],
)
