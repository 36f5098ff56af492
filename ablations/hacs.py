"""Do features of TAda2D localize actions better than those of TSN, on HACS Segments?

The same localizer on features of either: BMN, as in the paper, and a single-stage one without anchors. The paper's
number is the average mAP of BMN on features of TAda2D (FEATURE_ZOO.md of its code); the classes of its detections come
from a network that was not released, and its number for TSN could not be traced.
Run: tada ablate hacs --data DIR
"""

from tadaconv.table import Claim, PaperResult, Row, Table

PAPER = PaperResult(
    top1=32.3,
    source="FEATURE_ZOO.md of the paper's code",
    data="HACS Segments",
    num_frames=200,
    views="windows of 200 steps",
    metric="map",
)
SOURCE = "paper, section 6, temporal action localization"

TABLE = Table(
    base=Row("TAda2D, BMN", None, PAPER, features="tada2d", localizer="bmn"),
    rows=[
        Row("TSN, BMN", None, features="tsn", localizer="bmn"),
        Row("TSN, point", None, features="tsn", localizer="point", versus="TAda2D, point"),
        Row("TAda2D, point", None, features="tada2d", localizer="point", versus="TAda2D, point"),
    ],
    claims=[
        Claim("Features of TAda2D localize better, by BMN.", "TAda2D, BMN", "TSN, BMN", SOURCE),
        Claim("They do so by another localizer too.", "TAda2D, point", "TSN, point", SOURCE),
    ],
    regime="hacs",
)
