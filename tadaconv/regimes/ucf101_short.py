"""UCF101, split 1, from ImageNet. Ours, not the paper's: a day's table of ten rows x three seeds on one GPU.

Run: tada ablate context --regime ucf101_short --data DIR --seeds 3

By arithmetic, not timed. A TAda2D takes 33 GMACs for 8 frames of 224 px, and 99 to train on them. 9,500 clips x 80
epochs x 99 GMACs are 75 PMACs: 0.7 hours at 30 TMACs a second, which is assumed of a data-centre GPU in bfloat16.
Thirty cells take 21 hours, and their 3,800 x 10 views 0.5 hours more, where 300 clips a second are read.

Frames and crops are those of ``k400_8x8``, with 10 x 1 views. Rate and decay are chosen, not tuned.
"""

from tadaconv.regimes.k400_8x8 import PLAIN
from tadaconv.regimes.k400_8x8 import REGIME as KINETICS

REGIME = KINETICS.but(
    summary="UCF101, split 1, 8 frames; our recipe: ten rows x three seeds a day on one GPU (estimated)",
    data__layout="ucf101",
    data__split="1",
    data__num_spatial_crops=1,
    schedule__epochs=80,
    schedule__batch_size=64,
    schedule__lr=0.02,
    schedule__warmup_epochs=5,
    schedule__warmup_lr=1e-4,
    schedule__weight_decay=5e-4,
    schedule__norm_batch=0,
    recipes=PLAIN,
)
