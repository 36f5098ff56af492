"""Does adapting the kernel to each frame beat other temporal operators and dynamic filters?

Rows replace the temporally-adaptive convolution by a temporal convolution, a temporal shift (TSM), a temporal kernel
per clip and channel (TAM), or by operators that adapt to each frame separately: squeeze-and-excitation, CondConv and
dynamic convolution. Paper, comparison with other temporal operators and dynamic filters; squeeze-and-excitation is not
in the paper.

The base is the operator alone; only the row of TAdaConv as published has a temporal aggregation. Without an operator,
and with squeeze-and-excitation, CondConv or dynamic convolution, a network cannot use the order of frames.
Run: tada ablate rivals
"""

from tadaconv.spec import Aggregation, Rival, TAda
from tadaconv.table import Claim, PaperResult, Row, Table

BASE = TAda(aggregation=Aggregation(kind="none"))
SOURCE = "paper, comparison with other operators"


def on_ssv2(top1: float) -> PaperResult:
    """A ResNet-50 on 8 frames in table 8 of the paper."""
    return PaperResult(
        top1=top1,
        source="paper, table 8",
        data="Something-Something-V2",
        num_frames=8,
        views="2 clips x 3 crops of 256 px",
        gmacs=43,
    )


TABLE = Table(
    base=Row("TAdaConv", BASE),
    rows=[
        Row("no operator (TSN)", None),
        Row("temporal convolution", Rival(name="temporal_conv")),
        Row("TSM", Rival(name="tsm"), paper=on_ssv2(59.1)),
        Row("TAM", Rival(name="tam"), paper=on_ssv2(62.7)),
        Row("SE", Rival(name="squeeze_excitation")),
        Row("CondConv", Rival(name="condconv")),
        Row("dynamic convolution", Rival(name="dynamic_conv")),
        Row("TAdaConv + aggregation", TAda(), paper=on_ssv2(64.0)),
    ],
    claims=[
        Claim("Adapting the kernel beats none.", "TAdaConv", "no operator (TSN)", SOURCE),
        Claim("It beats a temporal convolution.", "TAdaConv", "temporal convolution", SOURCE),
        Claim("It beats a temporal shift.", "TAdaConv", "TSM", SOURCE),
        Claim("It beats a temporal kernel for each clip.", "TAdaConv", "TAM", SOURCE),
        Claim("It beats conditional convolution.", "TAdaConv", "CondConv", SOURCE),
        Claim("It beats dynamic convolution.", "TAdaConv", "dynamic convolution", SOURCE),
    ],
)
