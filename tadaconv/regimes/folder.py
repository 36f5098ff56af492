"""A folder of labelled clips on two CPU cores: minutes a cell for a few dozen videos.

Run: tada ablate context --regime folder --data DIR

For another data set, copy this file and change what differs: resnet18 or resnet50, more frames, pixels and epochs where
there are hundreds of clips and a GPU.
"""

from tadaconv.regime import Regime
from tadaconv.regimes.quick import REGIME as QUICK
from tadaconv.spec import Backbone, Folder, Schedule

REGIME = Regime(
    summary="your own clips: DIR/<class>/*, or DIR/train/<class>/* and DIR/val/<class>/*; 8 frames at 112 px",
    backbone=Backbone(name="tiny"),
    stand_ins=QUICK.stand_ins,
    # No mirror images: whether left and right are classes is for whoever knows the clips to say.
    data=Folder(num_frames=8, size=112, short_side=128, mirror="no"),
    schedule=Schedule(optimizer="adamw", epochs=30, batch_size=8, lr=3e-3, warmup_epochs=2, weight_decay=0.05),
)
