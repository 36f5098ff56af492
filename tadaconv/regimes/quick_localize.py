"""Try localization, and CI: synthetic untrimmed clips and a tiny residual network, an eight-row table on two cores."""

from tadaconv.regime import Regime
from tadaconv.regimes.quick import REGIME as QUICK
from tadaconv.spec import Backbone, Localization, Point, Schedule, Untrimmed

REGIME = Regime(
    summary="synthetic untrimmed clips, a tiny network, any CPU: segments instead of classes of clips",
    backbone=Backbone(name="tiny"),
    stand_ins=QUICK.stand_ins,
    data=Untrimmed(num_frames=128, size=16, window=8, num_train=300, num_val=100, noise=0.05),
    schedule=Schedule(
        optimizer="adamw",
        epochs=12,
        batch_size=2,
        lr=2e-3,
        warmup_epochs=1.0,
        weight_decay=0.01,
        clip_norm=1.0,
        curve_clips=30,
    ),
    localization=Localization(localizer=Point(width=64, levels=3)),
)
