"""HMDB51, split 1, from ImageNet. Ours, not the paper's: half a day's table of ten rows x three seeds on one GPU.

Run: tada ablate context --regime hmdb51_short --data DIR --seeds 3

By arithmetic, not timed. A TAda2D takes 33 GMACs for 8 frames of 224 px, and 99 to train on them. 3,570 clips x 100
epochs x 99 GMACs are 35 PMACs: 0.33 hours at 30 TMACs a second, which is assumed of a data-centre GPU in bfloat16.
Thirty cells take 10 hours, and their 1,530 x 10 views 0.2 hours more, where 300 clips a second are read.

All but the epochs is as in ``ucf101_short``.
"""

from tadaconv.regimes.ucf101_short import REGIME as UCF101

REGIME = UCF101.but(
    summary="HMDB51, split 1, 8 frames; our recipe: ten rows x three seeds in half a day on one GPU (estimated)",
    data__layout="hmdb51",
    schedule__epochs=100,
)
