"""EPIC-KITCHENS-100 with 8 frames. The recipe is ours: the authors released none for TAda2D on it.

Run: tada ablate context --regime epic100_8f --data DIR

A clip is a window of 64 frames at 60 a second, as long as the 32 frames at interval 2 in the authors' configurations
of other networks, configs/projects/epic-kitchen-ar/ek100/*.yaml of github.com/alibaba-mmai-research/TAdaConv, whose 50
epochs are taken over too. Views are 10 x 3. The network starts from ImageNet, theirs from Kinetics-700, so their
numbers are not to be reached. Verb and noun have a head each, and cells are ranked by action.

By arithmetic, not timed. A TAda2D takes 33 GMACs for 8 frames of 224 px, and 99 to train on them. 67,000 clips x 50
epochs x 99 GMACs are 332 PMACs: 3.1 hours a cell at 30 TMACs a second, which is assumed of a data-centre GPU in
bfloat16, where 300 clips a second are read. The 9,668 x 30 views take 0.1 hours more.
"""

from tadaconv.regimes.k400_8x8 import PLAIN
from tadaconv.regimes.k400_8x8 import REGIME as KINETICS

REGIME = KINETICS.but(
    summary="EPIC-KITCHENS-100, 8 frames at interval 8 of 60 a second; our recipe, since none of TAda2D was released",
    data__layout="epic100",
    data__sampling__fps=60.0,
    schedule__epochs=50,
    schedule__batch_size=64,
    schedule__lr=0.06,
    schedule__warmup_epochs=5,
    schedule__norm_batch=0,
    recipes=PLAIN,
)
