"""A few synthetic clips, and a tiny network that starts from a file of weights."""

from pathlib import Path

from tadaconv.regime import Recipe, Regime
from tadaconv.spec import Backbone, Schedule, Synthetic

REGIME = Regime(
    summary="synthetic clips of 16 pixels, a tiny network from a file of weights",
    backbone=Backbone(name="tiny", weights=str(Path(__file__).parent.parent / "start.pth")),
    stand_ins={"slow_only_8x8": "tiny_slow_only_8x8"},
    data=Synthetic(num_frames=4, size=16, num_train=16, num_val=60),
    # So low a rate that weights stay what they were but for new layers: the file of trained weights compresses.
    schedule=Schedule(optimizer="adamw", epochs=3, batch_size=8, lr=1e-11, weight_decay=0.0),
    recipes=(
        Recipe(
            backbones=("slow_only_8x8",),
            origin="ours",
            changes={"backbone__weights": "", "schedule__lr": 1e30, "schedule__optimizer": "sgd"},
        ),
    ),
)
