"""Localization on EPIC-KITCHENS-100, on features that are on a disk: verbs, nouns and actions.

Run: tada ablate epic_localization --data DIR

DIR holds a folder with EPIC_100_train.csv, EPIC_100_validation.csv and EPIC_100_video_info.csv, and a folder of
features for each row: tsn and tada2d. Times are those of the manifest that tada features writes; for other features,
copy this file and add fps, stride and offset.

Windows, recipe, scores and soft-NMS are those of the authors' configuration for features of a ViViT
(configs/projects/epic-kitchen-tal/bmn_epic.yaml of github.com/alibaba-mmai-research/TAdaConv): 200 steps of two
features each, every 100 steps; AdamW with a peak of 2e-3, 10 epochs, batches of 16. It has none for TAda2D, and takes
the classes of each snippet from the backbone's classifier; here a linear classifier of the features is trained along.
Labels are scored by the challenge's rule. The paper's numbers are by another, which drops detections of actions that do
not occur, so they are not compared with ours.
"""

from tadaconv.regime import Regime
from tadaconv.spec import BMN, Backbone, Features, Localization, Point, Schedule, Suppression

REGIME = Regime(
    summary="EPIC-KITCHENS-100, features on a disk: verbs, nouns and actions by BMN or point",
    backbone=Backbone(name="features"),
    data=Features(features_per_step=2, num_steps=200, window_stride=100, subsets=("train", "validation")),
    schedule=Schedule(
        optimizer="adamw",
        epochs=10,
        batch_size=16,
        lr=2e-3,
        warmup_epochs=1.0,
        warmup_lr=1e-5,
        weight_decay=1e-4,
        cosine="all_epochs",
    ),
    localization=Localization(
        localizer=BMN(max_duration=100, powers=(1.2, 1.0)),
        suppression=Suppression(sigma=0.4, low=0.25, high=0.9, by_class=False, most=2000),
        tious=(0.1, 0.2, 0.3, 0.4, 0.5),
    ),
    localizers=(Point(width=256),),
)
