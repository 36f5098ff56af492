"""Does the operator improve every video network it is plugged into?

TAdaConv replaces the spatial convolutions of SlowOnly, SlowFast, R(2+1)D and R3D, and in R(2+1)D of the temporal ones
as well; each row is compared with its own backbone. Published table 3. Its top-1 on Kinetics-400 is shown next to
ours; on Something-Something-V2 the paper has, without and with: SlowOnly 60.31 and 63.30, SlowFast 4x16 56.71 and
59.80, SlowFast 8x8 61.54 and 63.88, R(2+1)D 61.06, 62.86 (2d) and 63.78 (2d+1d), R3D 59.86 and 62.85.

Rows use the operator without its temporal aggregation: the published costs are those of the operator alone.
Run: tada ablate plug_in
"""

from decimal import Decimal

from tadaconv.spec import Aggregation, TAda
from tadaconv.table import Claim, PaperResult, Row, Table

TADA = TAda(aggregation=Aggregation(kind="none"))
BOTH = TADA.but(placement__convs="both")
SOURCE = "paper, table 3"


def published(top1: float, params_m: str, gmacs: str, num_frames: int = 8) -> PaperResult:
    """A row of published table 3: top-1 on Kinetics-400 in percent, and its costs as printed."""
    return PaperResult(
        top1=top1,
        source=SOURCE,
        data="Kinetics-400",
        num_frames=num_frames,
        views="views not stated",
        gmacs=Decimal(gmacs),
        params_m=Decimal(params_m),
    )


BASE = Row("SlowOnly 8x8", None, published(74.56, "32.5", "54.52"), "slow_only_8x8", 8)

TABLE = Table(
    base=BASE,
    rows=[
        BASE,
        Row("SlowOnly 8x8 + TAdaConv", TADA, published(75.85, "35.6", "54.53"), "slow_only_8x8", 8),
        Row("SlowFast 4x16", None, published(75.03, "34.5", "36.10", 32), "slowfast_4x16", 32, versus="SlowFast 4x16"),
        Row(
            "SlowFast 4x16 + TAdaConv",
            TADA,
            published(76.47, "37.7", "36.11", 32),
            "slowfast_4x16",
            32,
            versus="SlowFast 4x16",
        ),
        Row("SlowFast 8x8", None, published(76.19, "34.5", "65.71", 32), "slowfast_8x8", 32, versus="SlowFast 8x8"),
        Row(
            "SlowFast 8x8 + TAdaConv",
            TADA,
            published(77.43, "37.7", "65.73", 32),
            "slowfast_8x8",
            32,
            versus="SlowFast 8x8",
        ),
        Row("R(2+1)D", None, published(73.63, "28.1", "49.55"), "r2plus1d", 8, versus="R(2+1)D"),
        Row("R(2+1)D + TAdaConv 2d", TADA, published(75.19, "31.2", "49.57"), "r2plus1d", 8, versus="R(2+1)D"),
        Row("R(2+1)D + TAdaConv 2d+1d", BOTH, published(75.36, "34.4", "49.58"), "r2plus1d", 8, versus="R(2+1)D"),
        Row("R3D", None, published(73.83, "47.0", "84.23"), "r3d", 8, versus="R3D"),
        Row("R3D + TAdaConv 3d", TADA, published(74.91, "50.1", "84.24"), "r3d", 8, versus="R3D"),
    ],
    claims=[
        Claim("It improves SlowOnly.", "SlowOnly 8x8 + TAdaConv", "SlowOnly 8x8", SOURCE),
        Claim("It improves SlowFast 4x16.", "SlowFast 4x16 + TAdaConv", "SlowFast 4x16", SOURCE),
        Claim("It improves SlowFast 8x8.", "SlowFast 8x8 + TAdaConv", "SlowFast 8x8", SOURCE),
        Claim("It improves R(2+1)D.", "R(2+1)D + TAdaConv 2d", "R(2+1)D", SOURCE),
        Claim(
            "Temporal convolutions gain from it as well.", "R(2+1)D + TAdaConv 2d+1d", "R(2+1)D + TAdaConv 2d", SOURCE
        ),
        Claim("It improves R3D.", "R3D + TAdaConv 3d", "R3D", SOURCE),
    ],
    regime="k400_8x8",
)
