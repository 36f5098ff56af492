"""Try it, and CI: synthetic clips of 16 pixels and a tiny residual network, a ten-row table in minutes on two cores.

Of the recipes and clips that were tried, those with the least minimum detectable difference for about the time of
the regime ``quick_1``: see benchmarks/README.md.
"""

from tadaconv.regime import Regime
from tadaconv.spec import Backbone, Schedule, Synthetic

REGIME = Regime(
    summary="synthetic clips, a tiny network, any CPU: a ten-row table in minutes",
    backbone=Backbone(name="tiny"),
    stand_ins={
        "resnet50": "tiny",
        "slow_only_8x8": "tiny_slow_only_8x8",
        "slowfast_4x16": "tiny_slowfast_4x16",
        "slowfast_8x8": "tiny_slowfast_8x8",
        "r2plus1d": "tiny_r2plus1d",
        "r3d": "tiny_r3d",
        "convnext_tiny_clip": "tiny_convnext_clip",
    },
    data=Synthetic(
        num_frames=8,
        size=16,
        num_train=2880,
        num_val=2880,
        noise=0.05,
        families=("frame", "set", "order", "turn"),
        val_twins=True,
    ),
    schedule=Schedule(
        optimizer="adamw", epochs=4, batch_size=16, lr=4e-3, warmup_epochs=0.25, weight_decay=0.01, curve_clips=480
    ),
)
