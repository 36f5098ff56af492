"""Does adapting the kernel to its frame beat other ways to see time, or to adapt?

In place of a temporally adaptive convolution, rows put a temporal convolution, a temporal shift (TSM), a temporal
kernel for each clip and channel (TAM), and what adapts to a frame by itself: squeeze-and-excitation, CondConv and
dynamic convolution. Paper section 5, comparison with other temporal operators and dynamic filters.

Of the rows, none has an aggregation but the last of TAdaConv, as published: the base shows the operator alone. No
operator, squeeze-and-excitation, CondConv and dynamic convolution are blind to time.   Run: tada ablate rivals
"""

from tadaconv.ablation import Claim, Row, Table
from tadaconv.spec import Aggregation, Rival, TAda

BASE = TAda(aggregation=Aggregation(kind="none"))
SOURCE = "paper, comparison with other operators"

TABLE = Table(
    base=Row("TAdaConv", BASE),
    rows=[
        Row("no operator (TSN)", None),
        Row("temporal convolution", Rival(name="temporal_conv")),
        Row("TSM", Rival(name="tsm")),
        Row("TAM", Rival(name="tam")),
        Row("squeeze-and-excitation", Rival(name="squeeze_excitation")),
        Row("CondConv", Rival(name="condconv")),
        Row("dynamic convolution", Rival(name="dynamic_conv")),
        Row("TAdaConv + aggregation", TAda()),
    ],
    claims=[
        Claim("Adapting the kernel beats none.", "TAdaConv", "no operator (TSN)", SOURCE),
        Claim("It beats a temporal convolution.", "TAdaConv", "temporal convolution", SOURCE),
        Claim("It beats a temporal shift.", "TAdaConv", "TSM", SOURCE),
        Claim("It beats a temporal kernel for each clip.", "TAdaConv", "TAM", SOURCE),
        Claim("It beats scaling the channels of a frame.", "TAdaConv", "squeeze-and-excitation", SOURCE),
        Claim("It beats conditional convolution.", "TAdaConv", "CondConv", SOURCE),
        Claim("It beats dynamic convolution.", "TAdaConv", "dynamic convolution", SOURCE),
    ],
)
