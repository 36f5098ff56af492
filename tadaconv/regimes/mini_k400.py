"""Mini-Kinetics: 200 classes of Kinetics-400. Ours, not the paper's: a day's table of ten rows on one GPU.

Run: tada ablate context --regime mini_k400 --data DIR

DIR holds Kinetics-400 as for ``k400_8x8``, and next to its CSV files, or in the current folder, ``mini_kinetics.txt``:
the ids of the wanted clips, one a line, those of training and of validation; an id is the 11 characters of YouTube's,
or the path of a video that is named after it. Two lists go by the name of Mini-Kinetics (Xie et al., arXiv:1712.04851;
Meng et al., arXiv:2007.15796), so the choice is yours. Which clips there are is part of a key, the file's name is not.

By arithmetic, not timed. A TAda2D takes 33 GMACs for 8 frames of 224 px, and 99 to train on them. 80,000 clips x 30
epochs x 99 GMACs are 238 PMACs: 2.2 hours at 30 TMACs a second, which is assumed of a data-centre GPU in bfloat16. Ten
rows take 22 hours, and their 5,000 x 30 views 0.6 hours more, where 300 clips a second are read.

Frames, crops and views are those of ``k400_8x8``. Batch norms are over the whole batch.
"""

from tadaconv.regimes.k400_8x8 import PLAIN
from tadaconv.regimes.k400_8x8 import REGIME as KINETICS

REGIME = KINETICS.but(
    summary="Mini-Kinetics, from your own file of ids, 8 frames; our recipe: ten rows a day on one GPU (estimated)",
    data__split="mini_kinetics.txt",
    schedule__epochs=30,
    schedule__batch_size=64,
    schedule__lr=0.06,
    schedule__warmup_epochs=3,
    schedule__norm_batch=0,
    recipes=PLAIN,
)
