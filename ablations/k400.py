"""How does TAda2D compare with the networks of its time on Kinetics-400?

TSM, TANet and TAda2D on one ResNet-50, the ensemble of TAda2D with 8 and 16 frames, SlowFast, and TAdaConvNeXt-T.
Published table 10, whose top-1 and costs are shown next to ours.   Run: tada ablate k400
"""

from tadaconv.spec import Rival, TAda
from tadaconv.table import Claim, PaperResult, Row, Table

SOURCE = "paper, table 10"


def published(top1: float, gmacs: float, num_frames: int, views: str = "10 clips x 3 crops of 256 px") -> PaperResult:
    """A row of published table 10: top-1 in percent and multiply-adds per clip."""
    return PaperResult(top1=top1, source=SOURCE, data="Kinetics-400", num_frames=num_frames, views=views, gmacs=gmacs)


CONVNEXT_VIEWS = "4 clips x 3 crops of 256 px"

TABLE = Table(
    base=Row("TAda2D, 8 frames", TAda(), published(76.7, 43, 8), "resnet50", 8),
    rows=[
        Row("TSM, 8 frames", Rival(name="tsm"), published(74.1, 43, 8), "resnet50", 8),
        Row("TANet, 8 frames", Rival(name="tam"), published(76.3, 43, 8), "resnet50", 8),
        Row("SlowFast 4x16", None, published(75.6, 36.1, 32), "slowfast_4x16", 32),
        Row("SlowFast 8x8", None, published(77.0, 65.7, 32), "slowfast_8x8", 32, versus="TAda2D, 16 frames"),
        Row("TAda2D, 16 frames", TAda(), published(77.4, 86, 16), "resnet50", 16),
        Row(
            "TAda2D, 8 + 16 frames",
            None,
            published(78.2, 129, 8 + 16),
            versus="TAda2D, 16 frames",
            ensemble=("TAda2D, 8 frames", "TAda2D, 16 frames"),
        ),
        Row("TAdaConvNeXt-T, 16 frames", TAda(), published(78.4, 47, 16, CONVNEXT_VIEWS), "convnext_tiny_clip", 16),
        Row(
            "TAdaConvNeXt-T, 32 frames",
            TAda(),
            published(79.1, 94, 32, CONVNEXT_VIEWS),
            "convnext_tiny_clip",
            32,
            versus="TAda2D, 16 frames",
        ),
    ],
    claims=[
        Claim("TAda2D beats TSM.", "TAda2D, 8 frames", "TSM, 8 frames", SOURCE),
        Claim("TAda2D beats TANet.", "TAda2D, 8 frames", "TANet, 8 frames", SOURCE),
        Claim("TAda2D beats SlowFast 4x16.", "TAda2D, 8 frames", "SlowFast 4x16", SOURCE),
        Claim("TAda2D beats SlowFast 8x8.", "TAda2D, 16 frames", "SlowFast 8x8", SOURCE),
        Claim("TAda2D gains from more frames.", "TAda2D, 16 frames", "TAda2D, 8 frames", SOURCE),
        Claim("TAda2D gains from an ensemble of both.", "TAda2D, 8 + 16 frames", "TAda2D, 16 frames", SOURCE),
        Claim(
            "TAdaConvNeXt-T gains from more frames.", "TAdaConvNeXt-T, 32 frames", "TAdaConvNeXt-T, 16 frames", SOURCE
        ),
        Claim("TAdaConvNeXt-T beats TAda2D.", "TAdaConvNeXt-T, 32 frames", "TAda2D, 16 frames", SOURCE),
    ],
    regime="k400_8x8",
)
