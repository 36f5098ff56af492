"""Kinetics-400 with 8 frames at interval 8, as the paper's authors configured it; rows of 16 frames at interval 5.

Run: tada ablate k400 --data DIR

The paper's: configs/projects/tada/k400/tada2d_8x8.yaml and tada2d_16x5.yaml of
github.com/alibaba-mmai-research/TAdaConv at 75b7839, with the frames, crops and views of its code. There the one view
of an evaluation while training is drawn at random; here it is the middle one. What is not listed below is as in
``ssv2_8f``: the two configurations agree in it.

A batch norm's statistics are over 16 clips, ``norm_batch=16``: the 128 were spread over 8 GPUs, and not synchronised.

The learning rate may belong to 256 clips. The configurations of October 2021 have 16 clips and 16 GPUs, those of
February 2022 have 128 in all, and the rate stayed 0.24, and 0.12 at 16 frames. It is used as configured; half of it,
``schedule__lr=0.12`` and 0.06, is the first control.

Ours: what ConvNeXts and the networks of the table ``plug_in`` are trained by, for which no recipe was published. Of
those rows only the order is compared with the paper's.
"""

from tadaconv.regime import Published, Recipe
from tadaconv.regimes.ssv2_8f import CONVNEXT as CONVNEXT_OF_SEGMENTS
from tadaconv.regimes.ssv2_8f import REGIME as SSV2
from tadaconv.spec import Sampling

VIEWS = "10 clips x 3 crops of 256 px"

# Those of ``ssv2_8f``; a window is of 64 or 80 frames throughout.
CONVNEXT = tuple(
    recipe.but(num_frames=num_frames, changes={**recipe.changes, "data__sampling__interval": interval})
    for recipe in CONVNEXT_OF_SEGMENTS
    for num_frames, interval in ((16, 5), (32, 2), (None, 8))
)

# The other hosts take ResNet-50's weights as far as they have its layers, and the rate of 0.24 at 256 clips.
HOSTS = tuple(
    Recipe(
        backbones=backbones,
        origin="ours",
        changes={
            "data__sampling__interval": interval,
            "schedule__batch_size": 64,
            "schedule__lr": 0.06,
            "schedule__norm_batch": 0,
        },
    )
    for backbones, interval in ((("slow_only_8x8", "r2plus1d", "r3d"), 8), (("slowfast_4x16", "slowfast_8x8"), 2))
)

# As tada2d_16x5.yaml has it.
SIXTEEN = Recipe(
    num_frames=16,
    origin="paper",
    changes={
        "data__sampling__interval": 5,
        "schedule__batch_size": 64,
        "schedule__lr": 0.12,
        "schedule__norm_batch": 8,
    },
)

# Of regimes whose own recipe serves every host but ConvNeXts.
PLAIN = (
    *CONVNEXT,
    Recipe(backbones=("slowfast_4x16", "slowfast_8x8"), origin="ours", changes={"data__sampling__interval": 2}),
    Recipe(num_frames=16, origin="ours", changes={"data__sampling__interval": 5}),
)

REGIME = SSV2.but(
    summary="Kinetics-400, 8 frames at interval 8, the paper's recipe: ResNet-50, 224 px, 100 epochs; "
    "10 x 3 views of 256 px",
    data__layout="kinetics400",
    data__sampling=Sampling(kind="intervals", rule="paper", interval=8),
    data__mirror="yes",
    data__num_temporal_views=10,
    schedule__epochs=100,
    schedule__lr=0.24,
    schedule__warmup_epochs=8,
    schedule__warmup_lr=0.01,
    recipes=(*CONVNEXT, *HOSTS, SIXTEEN),
    published=(
        Published(data="Kinetics-400", num_frames=8, views=VIEWS),
        Published(data="Kinetics-400", num_frames=16, views=VIEWS),
    ),
)
