"""One GPU: synthetic clips of 112 pixels and the paper's ResNet-50, small enough for many cells.

Sized by arithmetic for about a minute a cell on a data-centre GPU: 31,360 training clips at 8.7 GMACs forward, three
times that with the gradients, are 0.8 petaMACs. It has not been timed on one yet; `tada plan TABLE --regime proxy`
measures yours. Clips and validation are those of the regime quick, at a larger size; the recipe has not been tuned.
"""

from tadaconv.regime import Regime
from tadaconv.spec import Backbone, Schedule, Synthetic

REGIME = Regime(
    summary="synthetic clips of 112 pixels, ResNet-50, one GPU: about a minute per cell (estimated)",
    backbone=Backbone(name="resnet50"),
    data=Synthetic(
        num_frames=8,
        size=112,
        num_train=6272,
        num_val=4200,
        noise=0.05,
        families=("frame", "set", "order", "gap", "turn"),
        val_twins=True,
    ),
    schedule=Schedule(
        optimizer="adamw", epochs=5, batch_size=64, lr=1e-3, warmup_epochs=0.5, weight_decay=0.05, curve_clips=560
    ),
)
