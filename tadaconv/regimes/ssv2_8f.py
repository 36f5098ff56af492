"""Something-Something-V2 with 8 frames, as the paper's authors configured it; rows of 16 frames as they did those.

Run: tada ablate ssv2 --data DIR

The paper's: configs/projects/tada/ssv2/tada2d_8f.yaml and tada2d_16f.yaml of github.com/alibaba-mmai-research/TAdaConv
at 75b7839, with the frames, crops and views of its code. Training clips are mirrored as in the first release of that
code, once and with left and right exchanged in the labels; the later one mirrors a second time without the exchange.
A batch norm's statistics are over 16 clips, ``norm_batch=16``: the 128 were spread over 8 GPUs, and not synchronised.

The learning rate may belong to 256 clips. The configurations of October 2021 have 16 clips and 16 GPUs, those of
February 2022 have 128 in all, and the rate stayed 0.48, and 0.24 at 16 frames. It is used as configured; half of it,
``schedule__lr=0.24`` and 0.12, is the first control.

Ours: what ConvNeXts and the networks of the table ``plug_in`` are trained by, for which no recipe was published. Of
those rows only the order is compared with the paper's.
"""

from tadaconv.regime import Published, Recipe, Regime
from tadaconv.spec import Backbone, Folder, Sampling, Schedule

VIEWS = "2 clips x 3 crops of 256 px"

# ConvNeXts start from their own weights. The figures are those of the authors' later TAdaConvNeXtV2-T, its rate of 5e-4
# at 512 clips scaled to 64, without its augmentation and its rates by layer.
CONVNEXT = tuple(
    Recipe(
        backbones=(f"convnext_{size}", f"convnext_{size}_clip"),
        origin="ours",
        changes={
            "backbone__weights": f"torchvision:ConvNeXt_{size.title()}_Weights.IMAGENET1K_V1",
            "schedule__optimizer": "adamw",
            "schedule__batch_size": 64,
            "schedule__lr": 6.25e-5,
            "schedule__warmup_lr": 1e-6,
            "schedule__weight_decay": 0.02,
            "schedule__norm_batch": 0,
        },
    )
    for size in ("tiny", "small", "base")
)

# The other hosts take ResNet-50's weights as far as they have its layers, and the rate of 0.48 at 256 clips.
HOSTS = Recipe(
    backbones=("slow_only_8x8", "slowfast_4x16", "slowfast_8x8", "r2plus1d", "r3d"),
    origin="ours",
    changes={"schedule__batch_size": 64, "schedule__lr": 0.12, "schedule__norm_batch": 0},
)

# As tada2d_16f.yaml has it.
SIXTEEN = Recipe(
    num_frames=16,
    origin="paper",
    changes={"schedule__batch_size": 64, "schedule__lr": 0.24, "schedule__norm_batch": 8},
)

REGIME = Regime(
    summary="Something-Something-V2, 8 frames, the paper's recipe: ResNet-50, 224 px, 64 epochs; 2 x 3 views of 256 px",
    backbone=Backbone(name="resnet50", dropout=0.5, weights="torchvision:ResNet50_Weights.IMAGENET1K_V1"),
    data=Folder(
        layout="ssv2",
        num_frames=8,
        sampling=Sampling(kind="segments", rule="paper"),
        short_clips="repeat",
        size=224,
        eval_size=256,
        short_side=0,
        jitter=(1.0, 340 / 224),
        mirror="swap",
        num_temporal_views=2,
        num_spatial_crops=3,
    ),
    schedule=Schedule(
        optimizer="sgd",
        epochs=64,
        batch_size=128,
        lr=0.48,
        warmup_epochs=4,
        warmup_lr=1e-4,
        momentum=0.9,
        weight_decay=1e-4,
        cosine="all_epochs",
        evaluate_every=5,
        curve_views="one",
        norm_batch=16,
    ),
    recipes=(*CONVNEXT, HOSTS, SIXTEEN),
    published=(
        Published(data="Something-Something-V2", num_frames=8, views=VIEWS),
        Published(data="Something-Something-V2", num_frames=16, views=VIEWS),
    ),
)
