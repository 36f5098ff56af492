"""Localization on HACS Segments, on features that are on a disk. The recipe is ours: the authors released none.

Run: tada ablate hacs --data DIR

DIR holds HACS_segments_v1.1.1.json, or a file of that form, and a folder of features for each row: tsn and tada2d.
Features of a whole video are scaled to 200 steps, as the BMN proposals of TCANet for HACS have it
(github.com/qinzhi-0110/Temporal-Context-Aggregation-Network-Pytorch), by one of the paper's authors, whose soft-NMS is
taken over too. There the classes of a video come from another network, here from a linear classifier of the features
that is trained along, so the paper's number is not to be reached.
"""

from tadaconv.regime import Regime
from tadaconv.spec import BMN, Backbone, Features, Localization, Point, Schedule, Suppression

REGIME = Regime(
    summary="HACS Segments, features on a disk: BMN or point; our recipe, since none was released",
    backbone=Backbone(name="features"),
    data=Features(resize=True, num_steps=200, subsets=("training", "validation")),
    schedule=Schedule(optimizer="adamw", epochs=10, batch_size=16, lr=1e-3, warmup_epochs=1.0, weight_decay=1e-5),
    localization=Localization(
        localizer=BMN(fusion="video"),
        suppression=Suppression(sigma=0.4, exponent=2.5, low=0.5, high=0.9, by_class=False, most=200),
        tious=(0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95),
    ),
    localizers=(Point(width=256),),
)
