"""The result of one experiment. Imports no torch, so that reports can be read on any machine.

In storages and files a score of top-1 is called ``top1`` or ``val_top1``, as it always was, without a metric: a storage
may be written by workers of this version and of earlier ones, and both read all of it. Scores of any other
metric are written as ``metric`` and ``score``, which an earlier version refuses to read instead of mistaking them.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tadaconv.metrics import TOP1
from tadaconv.spec import Record

NUM_INSPECTED = 32
"""Validation clips that calibrations are inspected on, the same ones for every cell on the same clips."""


class StageCalibration(Record):
    """How far the calibrations of a stage are from a plain convolution's, on ``NUM_INSPECTED`` validation clips.

    Root mean squares over the stage's layers, channels (or taps) and the inspected clips; alpha is 1 where an operator
    changes nothing.
    """

    distance: float
    """Of alpha from one."""
    over_time: float
    """Of alpha from its mean over the frames of a clip: what is temporally adaptive."""
    over_clips: float
    """Of alpha's mean over frames from the mean of all clips: what is adaptive."""


class Scored(Record):
    """A record with the score of a metric, in a field ``score``."""

    STORED_TOP1: ClassVar = "top1"
    """What a score of top-1 is called where it is stored."""

    metric: str = Field(TOP1.name, description="Name of the metric, see :mod:`tadaconv.metrics`.")

    @model_validator(mode="before")
    @classmethod
    def _read_top1(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or cls.STORED_TOP1 not in tree:
            return tree
        return {"score" if name == cls.STORED_TOP1 else name: value for name, value in tree.items()}

    @model_serializer(mode="wrap")
    def _write_top1(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        tree: dict[str, Any] = handler(self)
        if tree.get("detection", ...) is None:  # of recognition, as it was always written
            del tree["detection"]
        if tree.get("metric") != TOP1.name:
            return tree
        del tree["metric"]
        return {self.STORED_TOP1 if name == "score" else name: value for name, value in tree.items()}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        tree = handler.resolve_ref_schema(handler(schema))
        tree["properties"][cls.STORED_TOP1] = tree["properties"]["score"]
        tree["required"] = [name for name in tree["required"] if name != "score"]
        return tree


def stored_score(tree: Mapping[str, Any]) -> float:
    """The score of a stored result, without reading all of it."""
    return float(tree["top1"] if "top1" in tree else tree["score"])


def stored_curve(points: list[dict[str, Any]]) -> dict[int, float]:
    """The scores of a stored curve, by epoch."""
    return {point["epoch"]: point["val_top1"] if "val_top1" in point else point["score"] for point in points}


def stored_metric(tree: Mapping[str, Any]) -> str:
    """The name of the metric of a result, or of a point of a curve, as it is stored."""
    return str(tree.get("metric", TOP1.name))


class CurvePoint(Scored):
    """The state of a training run at the end of an epoch that was evaluated."""

    STORED_TOP1: ClassVar = "val_top1"

    epoch: int
    """Epochs finished, from 1."""
    step: int
    """Optimizer steps finished."""
    train_loss: float
    """Mean cross-entropy over the epoch's training clips, in nats."""
    score: float
    """On the validation clips, over the schedule's ``curve_views`` and ``curve_clips``."""
    calibration: dict[str, StageCalibration] = Field(default_factory=dict)
    """By stage, res2 to res5; empty where nothing is calibrated."""


class HeadAccuracy(Record):
    """Accuracy of one of several labels of a clip, in percent of the validation clips."""

    top1: float
    top5: float


class SubsetAccuracy(Record):
    """Top-1 in percent on some of the validation clips; ``per_head`` is empty where clips have one label."""

    num_val: int = Field(description="How many clips these are.")
    top1: float
    per_head: dict[str, float]


class DurationScores(Record):
    """Recall of the true segments of some durations."""

    shortest: float
    """These are as long, in the unit of the data, or longer."""
    longest: float | None
    """And shorter than this; None without a limit."""
    num_segments: int
    recall: list[float]
    """In percent, at each tIoU; empty where there are no segments."""


class OrderBlind(Record):
    """What a network that is blind to the order of frames reaches at most, in percent, see tadaconv.data.untrimmed."""

    classes: list[str]
    mean: float
    low: float
    """2.5 % of the ways in which ties can be broken are below."""
    high: float


class DetectionScores(Record):
    """Detections in untrimmed videos against the true segments; average precision and recall in percent."""

    tious: list[float]
    """Thresholds of temporal IoU, ascending."""
    by_tiou: list[float]
    """Mean average precision at each threshold; the score is their mean."""
    interval: tuple[float, float]
    """95 % bootstrap interval of the score over validation videos, for this one network."""
    by_head: dict[str, list[float]] = Field(default_factory=dict)
    """The same by label, where segments have several, such as verb, noun and action; of action it is ``by_tiou``."""
    by_class: dict[str, list[float]]
    """Average precision of each class that has segments, at each threshold."""
    average_recall: dict[int, float]
    """Recall at so many detections a video on average, classes aside, mean over thresholds: AR@AN."""
    recall_auc: float
    """Area under average recall from 1 to 100 detections a video, in percent of 100."""
    num_segments: int
    """True segments of the validation videos."""
    unit: str
    """Of durations."""
    by_duration: list[DurationScores]
    order_blind: OrderBlind | None = None
    """None where no classes differ by order alone."""


class Result(Scored):
    """The outcome of one cell; accuracies in percent, times in seconds, costs in multiply-adds per clip."""

    score: float
    """On all validation clips and over all their views; a curve may be of fewer, see ``curve_views``."""
    top5: float | None = None
    """Like all that follows on classes, only of a metric of classes."""
    loss: float
    """Validation cross-entropy in nats; of several heads the sum of theirs."""
    per_head: dict[str, HeadAccuracy] = Field(default_factory=dict)
    """By label, such as verb and noun, where clips have several: ``score`` and ``top5`` are then of all at once, an
    action, for which the products of their probabilities are averaged over views. Else empty."""
    per_subset: dict[str, SubsetAccuracy] = Field(default_factory=dict)
    """On subsets that the data set evaluates separately, by their name, such as its tail."""
    per_class: dict[str, float] = Field(default_factory=dict)
    """Top-1 by class, in percent, in class order; of its head."""
    per_family: dict[str, float] = Field(default_factory=dict)
    """Top-1 by class family (synthetic clips), in percent."""
    classes: list[str] = Field(default_factory=list)
    """Every class, in order; results of 0.1.0 have none."""
    family_classes: dict[str, list[str]] = Field(default_factory=dict)
    """The classes of each family; empty where there are no families."""
    confusion: list[tuple[int, int, int]] = Field(default_factory=list)
    """Validation clips by class and predicted class, (class, predicted, clips), as indices into classes; pairs that do
    not occur are left out."""
    detection: DetectionScores | None = None
    """What is measured of localization; else None."""
    num_val: int
    """Validation clips behind the accuracies, or videos behind detections."""
    curve: list[CurvePoint]
    params: int
    macs: int
    """Convolutions and linear layers, the paper's convention."""
    cost: dict[str, Any]
    """Multiply-adds by kind, the unit and the input shape."""
    train_clips_per_second: float
    eval_clips_per_second: float
    peak_memory_bytes: int
    """CUDA: peak allocated. CPU: peak resident size of the process. Of several: of rank 0."""
    seconds: float
    """Wall time of training and evaluation, over all resumptions."""
    environment: dict[str, str]
    """Device and versions the numbers come from."""

    @property
    def top1(self) -> float:
        """The score of a result of top-1, in percent; raises :class:`AttributeError` for any other metric."""
        if self.metric != TOP1.name:
            raise AttributeError(f"this result is evaluated by {self.metric!r}, see score")
        return self.score


class Progress(Record):
    """The progress of a running cell; passed to the ``report`` callback of ``tadaconv.experiment.run``."""

    step: int
    """Optimizer steps finished."""
    num_steps: int
    train_loss: float
    """Cross-entropy of the last step's clips, in nats."""
    curve: list[CurvePoint]
    """One point an epoch evaluated so far."""
    learning_rate: float | None = None
    """Of the last step."""
    clips_per_second: float | None = None
    """Training clips, without evaluations, since the report before; None in the first."""
