"""Diving48, version 2, from ImageNet. Ours, not the paper's: a day's table of ten rows x three seeds on one GPU.

Run: tada ablate context --regime diving48_short --data DIR --seeds 3

By arithmetic, not timed. A TAda2D takes 33 GMACs for 8 frames of 224 px, and 99 to train on them. 15,000 clips x 50
epochs x 99 GMACs are 74 PMACs: 0.7 hours at 30 TMACs a second, which is assumed of a data-centre GPU in bfloat16.
Thirty cells take 21 hours, and their 2,000 x 6 views 0.1 hours more, where 300 clips a second are read.

A class depends on the whole dive, so frames are one from each segment, and views those of ``ssv2_8f``; no class is
another's mirror image. Rate and decay are chosen, not tuned.
"""

from tadaconv.regimes.ssv2_8f import CONVNEXT
from tadaconv.regimes.ssv2_8f import REGIME as SSV2

REGIME = SSV2.but(
    summary="Diving48 V2, 8 frames; our recipe: ten rows x three seeds a day on one GPU (estimated)",
    data__layout="diving48",
    data__mirror="yes",
    schedule__epochs=50,
    schedule__batch_size=64,
    schedule__lr=0.02,
    schedule__warmup_epochs=5,
    schedule__weight_decay=5e-4,
    schedule__norm_batch=0,
    recipes=CONVNEXT,
)
