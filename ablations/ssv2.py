"""How does TAda2D compare with the networks of its time on Something-Something-V2?

TSM, TANet and TAda2D on one ResNet-50 with 8 and with 16 frames, the ensemble of TAda2D with both, and TAdaConvNeXt-T
with 16 and 32. Published table 8, whose top-1 and costs are shown next to ours. Not included: SmallBig R50 with 8
frames, 61.6 at 57 G.   Run: tada ablate ssv2
"""

from tadaconv.spec import Rival, TAda
from tadaconv.table import Claim, PaperResult, Row, Table

SOURCE = "paper, table 8"


def published(top1: float, gmacs: float, num_frames: int) -> PaperResult:
    """A row of published table 8: top-1 in percent and multiply-adds per clip."""
    return PaperResult(
        top1=top1,
        source=SOURCE,
        data="Something-Something-V2",
        num_frames=num_frames,
        views="2 clips x 3 crops of 256 px",
        gmacs=gmacs,
    )


TABLE = Table(
    base=Row("TAda2D, 8 frames", TAda(), published(64.0, 43, 8), "resnet50", 8),
    rows=[
        Row("TSM, 8 frames", Rival(name="tsm"), published(59.1, 43, 8), "resnet50", 8),
        Row("TANet, 8 frames", Rival(name="tam"), published(62.7, 43, 8), "resnet50", 8),
        Row("TSM, 16 frames", Rival(name="tsm"), published(63.4, 86, 16), "resnet50", 16, versus="TAda2D, 16 frames"),
        Row("TANet, 16 frames", Rival(name="tam"), published(64.6, 86, 16), "resnet50", 16, versus="TAda2D, 16 frames"),
        Row("TAda2D, 16 frames", TAda(), published(65.6, 86, 16), "resnet50", 16),
        Row(
            "TAda2D, 8 + 16 frames",
            None,
            published(67.2, 129, 8 + 16),
            versus="TAda2D, 16 frames",
            ensemble=("TAda2D, 8 frames", "TAda2D, 16 frames"),
        ),
        Row("TAdaConvNeXt-T, 16 frames", TAda(), published(64.8, 47, 16), "convnext_tiny_clip", 16),
        Row(
            "TAdaConvNeXt-T, 32 frames",
            TAda(),
            published(67.1, 94, 32),
            "convnext_tiny_clip",
            32,
            versus="TAda2D, 16 frames",
        ),
    ],
    claims=[
        Claim("TAda2D beats TSM with 8 frames.", "TAda2D, 8 frames", "TSM, 8 frames", SOURCE),
        Claim("TAda2D beats TANet with 8 frames.", "TAda2D, 8 frames", "TANet, 8 frames", SOURCE),
        Claim("TAda2D beats TSM with 16 frames.", "TAda2D, 16 frames", "TSM, 16 frames", SOURCE),
        Claim("TAda2D beats TANet with 16 frames.", "TAda2D, 16 frames", "TANet, 16 frames", SOURCE),
        Claim("TAda2D gains from more frames.", "TAda2D, 16 frames", "TAda2D, 8 frames", SOURCE),
        Claim("TAda2D gains from an ensemble of both.", "TAda2D, 8 + 16 frames", "TAda2D, 16 frames", SOURCE),
        Claim(
            "TAdaConvNeXt-T gains from more frames.", "TAdaConvNeXt-T, 32 frames", "TAdaConvNeXt-T, 16 frames", SOURCE
        ),
        Claim("TAdaConvNeXt-T beats TAda2D.", "TAdaConvNeXt-T, 32 frames", "TAda2D, 16 frames", SOURCE),
    ],
    regime="ssv2_8f",
)
