"""The frozen description of an experiment: what is built, on which clips, by which recipe, from which seed.

Imports no torch, so that planning, listing and reporting stay instant. Every description is a pydantic model:
unknown keys are rejected, values are checked where they enter, and the JSON round-trips.
"""

import hashlib
import json
import math
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from tadaconv.errors import UserError, unknown
from tadaconv.metrics import TOP1, Metric, metric_named
from tadaconv.text import text_to_path

PROTOCOL: Final = 1
"""Raised when a change makes results incomparable with earlier ones; it is part of every cell key."""

FACTORS = ("cin", "cout", "k2", "cin_k2")
"""The single calibration dimensions: input channels, output channels, kernel taps, and input channel x tap."""

CALIBRATIONS: tuple[str, ...] = tuple(
    "+".join(chosen) for size in range(1, len(FACTORS) + 1) for chosen in combinations(FACTORS, size)
)
"""Every calibration: the single dimensions and all their outer products, such as ``cin+cout``."""


def calibration_factors(calibration: str) -> tuple[str, ...]:
    """Split ``cin+cout`` into its factors; raises :class:`UserError` that lists the right names, nearest first."""
    chosen = calibration.split("+")
    ordered = "+".join(f for f in FACTORS if f in chosen)
    if ordered not in CALIBRATIONS or len(set(chosen)) != len(chosen) or set(chosen) - set(FACTORS):
        raise unknown("calibration", calibration, CALIBRATIONS)
    return tuple(ordered.split("+"))


class Record(BaseModel):
    """What is read and written as JSON: frozen, and an unknown key is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Spec(Record):
    """A piece of a description."""

    model_config = ConfigDict(validate_default=True)

    def but(self, **changes: Any) -> Self:
        """A copy with fields replaced; ``context__kernels=(1, 1)`` reaches into ``context``.

        Raises :class:`UserError` for a field that does not exist or a value it does not take.
        """
        flat: dict[str, Any] = {}
        nested: dict[str, dict[str, Any]] = {}
        for name, value in changes.items():
            head, _, rest = name.partition("__")
            if head not in type(self).model_fields:
                raise unknown(f"field of {type(self).__name__}", head, type(self).model_fields)
            if rest:
                nested.setdefault(head, {})[rest] = value
            else:
                flat[head] = value
        for head, inner in nested.items():
            part = flat.get(head, getattr(self, head))
            if not isinstance(part, Spec):
                raise UserError(f"{type(self).__name__}.{head} has no fields to change")
            flat[head] = part.but(**inner)
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        try:
            return type(self)(**{**fields, **flat})
        except ValidationError as error:
            raise UserError(describe(error)) from error


_KINDS = ("tada", "rival", "synthetic", "untrimmed", "folder", "features", "point", "bmn")
"""Values of ``kind``, which pydantic names in the place of an error though no description has such a field."""


def describe(error: ValidationError) -> str:
    """The first complaint of a validation error as one line: where, what, and the value that was given."""
    first = error.errors()[0]
    loc = [str(part) for part in first["loc"] if part not in _KINDS]
    if first["loc"] and isinstance(first["loc"][0], int):  # of an argument without a name
        loc[0] = f"argument {first['loc'][0] + 1}"
    where = ".".join(loc) or error.title
    context = first.get("ctx", {}).get("error")
    complaint = str(context) if context is not None else first["msg"]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{error.title}: unknown key {where!r}; remove it or correct its spelling{more}"
    if not first["loc"] and context is not None:  # fields that do not fit together; the complaint has their values
        return f"{error.title}: {complaint}{more}"
    value = f"{first['input']!r:.80}"
    named = isinstance(first["input"], str) and value in complaint
    return f"{error.title}: {where}: {complaint}{'' if named else f', got {value}'}{more}"


@contextmanager
def errors_of(subject: str) -> Generator[None]:
    """Put ``subject``, such as ``row '(1,1)'``, in front of the :class:`UserError` that is raised meanwhile.

    A validation error becomes one.
    """
    try:
        yield
    except ValidationError as error:
        raise UserError(f"{subject}: {describe(error)}") from error
    except UserError as error:
        raise UserError(f"{subject}: {error}") from error


def _without_neutral(spec: Spec, tree: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """``tree``, which is ``spec`` as JSON, without those of the fields ``names`` that have their default."""
    fields = type(spec).model_fields
    left_out = {name for name in names if getattr(spec, name) == fields[name].default}
    return {name: value for name, value in tree.items() if name not in left_out}


def _require_odd(kernel: int) -> int:
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"a temporal kernel must be a positive odd number of frames, not {kernel}")
    return kernel


TemporalKernel = Annotated[int, AfterValidator(_require_odd)]
"""A number of frames, odd."""


class Context(Spec):
    """How the calibration of a frame is made from the clip (TAda, arXiv:2110.06178, section 3.2)."""

    kernels: tuple[TemporalKernel, ...] = Field((3, 3), min_length=1, max_length=2)
    """Temporal kernels in frames: (K1,) for the linear context, (K1, K2) for the non-linear one."""
    global_descriptor: bool = True
    """Add an FC of the clip's descriptor to every frame's descriptor."""
    reduction: int = Field(4, ge=1)
    """Channel reduction r of the non-linear context's hidden layer."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Normalisation before the non-linear context's ReLU."""
    descriptor: Literal["average", "max"] = "average"
    """How a frame is pooled over space."""
    variation: Literal["dynamic", "time_invariant", "static"] = "dynamic"
    """dynamic: one calibration per frame and clip; time_invariant: one per clip, the same for all its frames; static:
    one learned calibration for all clips."""

    @property
    def linear(self) -> bool:
        """Whether the context is one temporal convolution, without a hidden layer."""
        return len(self.kernels) == 1


class Aggregation(Spec):
    """What follows the operator: ``BN1(y) + BN2(pool_t(y))``, BN2 starting at zero (TAda, section 3.4)."""

    kind: Literal["none", "average", "max", "mix", "conv"] = "average"
    """none: BN1 alone; average, max: temporal pooling; mix: the mean of both; conv: a learned channel-wise temporal
    convolution that starts as the average."""
    kernel: TemporalKernel = 3
    """Temporal kernel in frames, stride 1, padded to keep the length."""


class Placement(Spec):
    """Which convolutions of a backbone are replaced, and which fraction of their channels is calibrated."""

    stages: tuple[int, ...] = Field((2, 3, 4, 5), min_length=1)
    """Stages by the paper's numbers: res2 to res5."""
    blocks: Literal["all", "first", "last", "alternate"] = "all"
    """Blocks of each chosen stage; alternate takes the second, fourth, ... of a stage."""
    convs: Literal["spatial", "temporal", "both"] = "spatial"
    """Which convolutions of a block: the spatial one, (1, k, k) or (k, k, k); the (k, 1, 1) one that a factorised
    backbone has after it; or both."""
    share: float = Field(1.0, gt=0, le=1)
    """Fraction of the channels that are calibrated; the rest keep alpha = 1."""

    @field_validator("stages")
    @classmethod
    def _stages_in_order(cls, stages: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(stages)) != len(stages) or set(stages) - {2, 3, 4, 5}:
            raise ValueError("stages are chosen from 2, 3, 4 and 5, each at most once")
        return tuple(sorted(stages))


class TAda(Spec):
    """A temporally-adaptive convolution in place of a backbone's spatial ones (arXiv:2110.06178)."""

    kind: Literal["tada"] = "tada"
    calibration: str = "cin"
    """Calibrated dimension: cin, cout, k2, cin_k2, or an outer product such as cin+cout."""
    context: Context = Context()
    init: Literal["identity", "random", "without_one"] = "identity"
    """identity: the last layer is zero and alpha = 1; random: alpha = 1 + a random last layer; without_one: alpha = a
    random last layer, with no one added."""
    aggregation: Aggregation = Aggregation()
    placement: Placement = Placement()

    @field_validator("calibration")
    @classmethod
    def _known_calibration(cls, calibration: str) -> str:
        return "+".join(calibration_factors(calibration))

    @model_validator(mode="after")
    def _share_needs_channels(self) -> Self:
        if self.placement.share < 1 and "k2" in calibration_factors(self.calibration):
            raise ValueError("the factor k2 has no channels to share; use placement share 1 or the factor cin_k2")
        return self


class Rival(Spec):
    """Another temporal operator in the place a temporally-adaptive convolution would take."""

    kind: Literal["rival"] = "rival"
    name: str
    """A name in tadaconv.models.RIVALS."""
    options: dict[str, bool | int | float | str] = {}
    """The rival's own arguments, by name; those left out keep its paper's values."""
    aggregation: Aggregation = Aggregation(kind="none")
    """What follows the operator; no rival's paper has one."""
    placement: Placement = Placement()

    @model_validator(mode="after")
    def _whole_convolutions(self) -> Self:
        if self.placement.share < 1:
            raise ValueError("a rival takes whole convolutions; a placement's share is for TAda")
        return self


Temporal = Annotated[TAda | Rival, Field(discriminator="kind")] | None
"""What makes a backbone temporal; None is TSN, which convolves every frame with the same kernel."""


class Backbone(Spec):
    """The network that hosts the operator."""

    name: str
    """A name in tadaconv.models.BACKBONES, or timm:<name> or torchvision:<name> for a model of theirs."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the classifier."""
    weights: str = ""
    """Pretrained weights; empty: none. timm:resnet50.a1_in1k, torchvision:ResNet50_Weights.IMAGENET1K_V1, or the path
    of a .pth, .pt or .safetensors file. A path is not part of the cell key: the fingerprint is."""
    weights_fingerprint: str = ""
    """Hash of the file of weights; see tadaconv.weights."""

    @property
    def weights_file(self) -> Path | None:
        """The file of weights; None where there are none, or where a package has them."""
        named = self.weights.startswith(("timm:", "torchvision:"))
        return Path(self.weights) if self.weights and not named else None


class Synthetic(Spec):
    """Moving handwritten digits, made from (seed, index) on the device that trains; see tadaconv.data.synthetic."""

    METRIC: ClassVar = TOP1.name
    """The metric that cells on these clips are evaluated by, see :mod:`tadaconv.metrics`; no part of the key."""

    kind: Literal["synthetic"] = "synthetic"
    num_frames: int = Field(8, ge=4)
    """Frames per clip."""
    size: int = Field(32, ge=16)
    """Height and width of a frame in pixels."""
    num_train: int = Field(ge=1)
    """Training clips an epoch; every epoch draws new ones."""
    num_val: int = Field(ge=1)
    """Validation clips, the same for every row and seed."""
    noise: float = Field(0.1, ge=0)
    """Standard deviation of the pixel noise; pixels are from 0 to 1."""
    seed: int = Field(0, ge=0)
    """Seed of the clips; weights and order have their own."""
    families: tuple[Literal["frame", "set", "order", "gap", "turn"], ...] = ("frame", "set", "order")
    """Families of classes."""
    val_twins: bool = False
    """Validation clips of classes that are each other's reverse come in pairs, a clip and the same clip played
    backwards. A network that is blind to the order of frames is then right about one of each two at most, in every
    seed, rather than by chance about more in one seed than in another."""

    @field_validator("families")
    @classmethod
    def _differ(cls, families: tuple[str, ...]) -> tuple[str, ...]:
        if not families or len(set(families)) < len(families):
            raise ValueError("name one family or more, and none twice: frame, set, order, gap, turn")
        return families

    @model_serializer(mode="wrap")
    def _as_ever(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without later fields at their defaults, as it was always written."""
        return _without_neutral(self, write(self), ("families", "val_twins"))

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of a clip, (C, T, H, W): in training, and in evaluation if that is another."""
        return [(3, self.num_frames, self.size, self.size)]


class Untrimmed(Spec):
    """Long clips with actions in them, made from (seed, index) on the device that trains.

    See tadaconv.data.untrimmed.
    """

    METRIC: ClassVar = "map"

    kind: Literal["untrimmed"] = "untrimmed"
    num_frames: int = Field(128, ge=16)
    """Frames per clip, a multiple of window."""
    size: int = Field(16, ge=16)
    """Height and width of a frame in pixels."""
    window: int = Field(8, ge=2)
    """Frames that one step of the features spans; windows do not overlap."""
    num_train: int = Field(ge=1)
    """Training clips an epoch; every epoch draws new ones."""
    num_val: int = Field(ge=2, multiple_of=2)
    """Validation clips, the same for every row and seed. They come in pairs whose windows hold the same frames in
    another order."""
    noise: float = Field(0.1, ge=0)
    """Standard deviation of the pixel noise; pixels are from 0 to 1."""
    seed: int = Field(0, ge=0)
    """Seed of the clips; weights and order have their own."""

    @model_validator(mode="after")
    def _whole_windows(self) -> Self:
        if self.num_frames % self.window or self.num_frames < 4 * self.window:
            raise ValueError(
                f"num_frames, {self.num_frames}, has to be a multiple of window, {self.window}, of 4 windows or more"
            )
        return self

    @property
    def num_steps(self) -> int:
        """Steps of a clip's features."""
        return self.num_frames // self.window

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of a clip, (C, T, H, W): in training, and in evaluation if that is another."""
        return [(3, self.num_frames, self.size, self.size)]


class Sampling(Spec):
    """Which frames of a video make a clip; see tadaconv.data.sampling."""

    kind: Literal["segments", "intervals"] = "segments"
    """segments: one frame from each of as many equal segments of the video; intervals: frames at a fixed distance, from
    a part of it."""
    rule: Literal["even", "paper"] = "even"
    """even: the middles of equal parts; paper: the frames and crops of the code that the paper's authors published,
    which has other views and crops scaled frames."""
    interval: int = Field(8, ge=1)
    """Distance of two frames of a clip in frames at fps, for intervals. The rule paper spreads T frames over the T x
    interval frames of its window, from the first to the last: 8 frames at interval 8 are 9 apart."""
    fps: float = Field(30.0, gt=0, allow_inf_nan=False)
    """Frames a second that intervals are counted in, whatever a video has."""

    @model_serializer(mode="wrap")
    def _as_meant(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Segments use neither interval nor fps, so these are not written at their defaults."""
        return _without_neutral(self, write(self), ("interval", "fps") if self.kind == "segments" else ())


def _require_pixels(side: int) -> int:
    if side != 0 and side < 16:
        raise ValueError("give 16 pixels or more, or 0")
    return side


PixelsOrZero = Annotated[int, AfterValidator(_require_pixels)]

_PLACES: Final = ("root", "index", "split", "folder", "annotations", "subsets")
_RESOLVED: Final = ("root", "index", "fingerprint", "num_classes", "num_listed", "num_missing")
"""Fields of a folder of clips that are filled in when it is read from a disk."""


def without_places(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a stored description without the paths of its clips and their lists, which change no result."""
    return {name: value for name, value in data.items() if name not in _PLACES}


_NEUTRAL = (
    "layout", "split", "index", "num_listed", "num_missing", "sampling", "eval_size", "jitter", "short_clips",
)  # fmt: skip
"""Later fields of a folder of clips. At their defaults they are not written, so that older keys stay valid."""


def _mirror_of_flip(value: object) -> object:
    """Older descriptions have ``flip``, true or false, in the place of ``mirror``."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value


class Folder(Spec):
    """A folder of labelled clips; see tadaconv.data.folder."""

    METRIC: ClassVar = TOP1.name

    kind: Literal["folder"] = "folder"
    root: str = ""
    """Where the clips are: a path, as a file:// URL where it is not UTF-8. Not part of the cell key: the fingerprint
    is."""
    layout: str = "classes"
    """How labels are read: classes, from the names of folders; or as a name in tadaconv.data.layouts, such as ssv2,
    from the annotation files of a data set."""
    split: str = ""
    """Which split of the data set: 1, 2 or 3 of ucf101 and hmdb51, a file of ids of kinetics400, what the names of a
    list have in common. Not part of the cell key: the fingerprint is."""
    index: str = ""
    """Folder of the clips' index, which tada data check has written; empty for folders of classes. Not part of the cell
    key: the fingerprint is."""
    fingerprint: str = ""
    """Hash of the clips: of folders of classes their names, sizes and contents; of other layouts their ids, labels,
    numbers of frames and sizes in pixels, and how many are missing."""
    num_classes: int = Field(0, ge=0)
    """Number of classes, of all heads."""
    num_listed: tuple[int, int] = (0, 0)
    """Clips that the annotations list for training and for validation; 0 without annotations."""
    num_missing: tuple[int, int] = (0, 0)
    """Clips of those that are missing or broken, and left out because that was accepted."""
    num_frames: int = Field(8, ge=1)
    """Frames per clip."""
    sampling: Sampling = Sampling()
    """Which frames of a video make a clip."""
    short_clips: Literal["refuse", "repeat"] = "refuse"
    """Videos with too few frames for a clip: refuse them before anything trains, or repeat frames."""
    size: int = Field(112, ge=16)
    """Height and width of a training crop in pixels."""
    eval_size: PixelsOrZero = 0
    """Height and width of the crops in evaluation, in pixels; 0: as size. Frames are scaled so that a crop is as wide
    as their short side."""
    short_side: PixelsOrZero = 128
    """Short side to which videos are scaled when decoded, in pixels; 0: as they are."""
    jitter: tuple[float, float] = (1.0, 340 / 224)
    """Least and largest short side, in crops, to which a training clip is scaled before it is cropped. The sampling's
    rule says how: even cuts the box out and scales it with antialiasing; paper scales the whole frame to whole pixels
    without, and cuts the crop out of that."""
    mirror: Annotated[Literal["no", "yes", "swap"], BeforeValidator(_mirror_of_flip)] = Field(
        "yes", validation_alias=AliasChoices("mirror", "flip")
    )
    """Mirror every second training clip, at random: no where left and right are classes; swap to exchange such classes
    along, by their names. The older flip, true or false, is read as yes or no."""
    num_temporal_views: int = Field(1, ge=1)
    """Clips per video in evaluation."""
    num_spatial_crops: Literal[1, 3] = 1
    """Crops per clip in evaluation: 1 (centre) or 3 along the long side."""
    val_share: float = Field(0.25, gt=0, lt=1)
    """Fraction of each class held out where the folder has no train/ and val/."""

    @field_validator("jitter")
    @classmethod
    def _crops_that_fit(cls, jitter: tuple[float, float]) -> tuple[float, float]:
        if not 1 <= jitter[0] <= jitter[1] < float("inf"):
            raise ValueError("jitter is (least, largest) short side in crops, with 1 <= least <= largest")
        return jitter

    @model_serializer(mode="wrap")
    def _as_ever(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without later fields at their defaults, as it was always written; ``flip`` for a plain mirror."""
        tree = _without_neutral(self, write(self), _NEUTRAL)
        if self.mirror == "swap":
            return tree
        tree["mirror"] = self.mirror == "yes"  # in its place, so that what is stored keeps its order
        return {"flip" if name == "mirror" else name: value for name, value in tree.items()}

    def but(self, **changes: Any) -> Self:
        """As :meth:`Spec.but`; ``flip=True`` and ``flip=False`` are read as ``mirror="yes"`` and ``mirror="no"``."""
        if "flip" in changes and "mirror" not in changes:
            changes["mirror"] = changes.pop("flip")
        return super().but(**changes)

    def as_found(self, resolved: Iterable["Folder"]) -> Self:
        """With the fields that a disk gave the first of ``resolved`` of this layout and split; without one as it is."""
        same = (folder for folder in resolved if (folder.layout, folder.split) == (self.layout, self.split))
        first = next(same, self)
        return self.but(**{name: getattr(first, name) for name in _RESOLVED})

    @property
    def eval_side(self) -> int:
        """Height and width of a clip in evaluation, in pixels."""
        return self.eval_size or self.size

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of a clip, (C, T, H, W): in training, and in evaluation if that is another."""
        return [(3, self.num_frames, side, side) for side in dict.fromkeys((self.size, self.eval_side))]

    @property
    def path(self) -> Path:
        """Where the clips are."""
        return text_to_path(self.root)


class Features(Spec):
    """Features of untrimmed videos on a disk, a file a video; see tadaconv.data.features.

    Feature i sees frames around its centre, at ``(offset + i * stride) / fps`` seconds, and spans [i, i + 1] in steps.
    Known sets: HACS by SlowFast 15 fps, windows of 32 frames: stride 8, offset 16; by TAda2D 30 fps, stride 16. EPIC by
    SlowFast 30 fps, windows of 32: 16, 16; by TAda2D 60 fps, stride 8. THUMOS by I3D 30 fps, windows of 16: 4, 8.
    """

    METRIC: ClassVar = "map"

    kind: Literal["features"] = "features"
    root: str = ""
    """Where features and annotations are: a path, as a file:// URL where it is not UTF-8. Not part of the cell key: the
    fingerprint is."""
    folder: str = ""
    """The folder of the features under root; empty for root itself. Not part of the cell key: the fingerprint is."""
    annotations: str = ""
    """The annotations under root: a JSON file as of ActivityNet, HACS or THUMOS, or the folder of EPIC-KITCHENS-100's
    tables; empty where root has one such file or folder. Not part of the cell key: the fingerprint is."""
    subsets: tuple[str, str] = ("training", "validation")
    """The subsets of the annotations that are trained and evaluated on; of EPIC-KITCHENS-100 train and validation. Not
    part of the cell key: the fingerprint is."""
    index: str = ""
    """The file with what is known of the features' files. Not part of the cell key: the fingerprint is."""
    fingerprint: str = ""
    """Hash of the names, shapes and values of features, and of their annotations."""
    num_channels: int = Field(0, ge=0)
    """Numbers in a feature."""
    num_classes: int = Field(0, ge=0)
    """Number of classes, of all heads."""
    num_listed: tuple[int, int] = (0, 0)
    """Videos that the annotations list for training and for validation."""
    num_missing: tuple[int, int] = (0, 0)
    """Videos of those without features, and left out because that was accepted."""
    fps: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Frames a second that stride and offset are counted in."""
    stride: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Frames from one feature to the next."""
    offset: float | None = Field(None, allow_inf_nan=False)
    """The centre of what the first feature sees, in frames: half a window where the first window starts with the video;
    where videos were padded so that features reach their ends, 0 or half a stride. No value fits all sets, so it is
    given with fps and stride; all three may be left out where tada features wrote the features, whose manifest has
    them."""
    resize: bool = False
    """Scale the features of every video to num_steps by linear interpolation over its whole duration, which is all that
    is then asked of its time."""
    features_per_step: int = Field(1, ge=1)
    """Features in a row whose mean is a step."""
    num_steps: int = Field(ge=1)
    """Steps that a network sees at once. A longer video is cut into overlapping windows; a shorter one is padded."""
    window_stride: int = Field(0, ge=0)
    """Steps from one window of a video to the next; 0: half of num_steps."""
    missing: Literal["refuse", "leave_out"] = "refuse"
    """Videos without features: refuse them before anything trains, or leave them out."""

    @model_validator(mode="after")
    def _has_times(self) -> Self:
        times = {"fps": self.fps, "stride": self.stride, "offset": self.offset}
        given = [name for name, value in times.items() if value is not None]
        if self.resize and (given or self.features_per_step > 1):
            raise ValueError(
                "resize spreads features over the duration; leave out fps, stride, offset and features_per_step"
            )
        if 0 < len(given) < 3:
            lacking = ", ".join(name for name in times if name not in given)
            raise ValueError(
                f"{', '.join(given)} without {lacking}: give all three; offset is the centre of the first feature in "
                "frames, which is half a window without padding"
            )
        if self.window_stride > self.num_steps:
            raise ValueError(f"window_stride, {self.window_stride}, leaves gaps between windows of {self.num_steps}")
        return self

    def as_found(self, resolved: Iterable["Features"]) -> Self:
        """With the fields that a disk gave the first of ``resolved`` of this folder; without one as it is."""
        first = next((other for other in resolved if other.folder == self.folder), self)
        names = [*_RESOLVED, "annotations", "num_channels"]
        if self.fps is None:  # of the manifest
            names += ["fps", "stride", "offset"]
        return self.but(**{name: getattr(first, name) for name in names})

    @property
    def num_frames(self) -> int:
        """What takes the place of a clip's frames: steps of a window."""
        return self.num_steps

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of a window, (C, T); of features that are not known yet, of one channel."""
        return [(self.num_channels or 1, self.num_steps)]

    @property
    def path(self) -> Path:
        """Where features and annotations are."""
        return text_to_path(self.root)


Data = Annotated[Synthetic | Untrimmed | Folder | Features, Field(discriminator="kind")]


class Point(Spec):
    """A single-stage localizer without anchors, see tadaconv.models.localizers.point."""

    kind: Literal["point"] = "point"
    width: int = Field(512, ge=1)
    """Channels of its layers."""
    levels: int = Field(6, ge=1)
    """Levels of the pyramid; level l has every 2^l-th step."""


class BMN(Spec):
    """A boundary-matching network, see tadaconv.models.localizers.bmn."""

    kind: Literal["bmn"] = "bmn"
    max_duration: int = Field(0, ge=0)
    """Steps of the longest proposal; 0: as many as a window has."""
    num_samples: int = Field(32, ge=2)
    """Features that are sampled of a proposal."""
    widths: tuple[int, int, int] = (256, 512, 128)
    """Channels of the features over time, of the map of proposals, and of its convolutions."""
    groups: int = Field(4, ge=1)
    """Groups of the convolutions over time."""
    conventions: Literal["meaning", "authors"] = "meaning"
    """Where labels and proposals of the authors' code are not what a step means: either."""
    fusion: Literal["snippet", "video"] = "snippet"
    """Classes are those of the steps of a proposal, or of the whole video."""
    powers: tuple[float, float] = (1.0, 1.0)
    """Exponents of a proposal's probability to match and of its estimated overlap, in its score."""
    boundary_scores: bool = False
    """Multiply the scores of start and end in."""


Localizer = Annotated[Point | BMN, Field(discriminator="kind")]


class Suppression(Spec):
    """How detections of a class that overlap a better one are suppressed, see tadaconv.measure.detection."""

    sigma: float = Field(0.5, gt=0)
    """Soft-NMS: a score is multiplied by exp(-tIoU^exponent / sigma) for each better detection."""
    exponent: float = Field(2.0, gt=0)
    """Of tIoU."""
    low: float = Field(0.0, ge=0, le=1)
    """tIoU above which scores are lowered, by a better detection that is short."""
    high: float = Field(0.0, ge=0, le=1)
    """The same by one that is as long as the video; in between by its length."""
    by_class: bool = True
    """Whether detections of other classes are left alone; else segments are suppressed whatever their classes."""
    most: int = Field(100, ge=1)
    """Detections of a video that are kept, the best ones."""


class Localization(Spec):
    """What finds the segments of an untrimmed video from its features, and how it is evaluated."""

    localizer: Localizer = Point()
    suppression: Suppression = Suppression()
    tious: tuple[float, ...] = Field((0.3, 0.4, 0.5, 0.6, 0.7), min_length=1)
    """Temporal IoU from which a detection is right; the score is the mean over these thresholds."""
    rule: Literal["official", "authors"] = "official"
    """Of segments with several labels: official scores each label by all detections, as the challenge does; authors, as
    the code of the paper's authors, drops those whose labels never occur together in the truth."""

    @field_validator("tious")
    @classmethod
    def _thresholds(cls, tious: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < tiou <= 1 for tiou in tious) or list(tious) != sorted(set(tious)):
            raise ValueError("tious are above 0, at most 1, and ascend")
        return tious


NUM_LAST_EVALUATED: Final = 10
"""Every one of the last epochs of training, so many, is evaluated."""

_LATER: Final = ("cosine", "evaluate_every", "curve_views", "curve_clips", "norm_batch")
"""Later fields of :class:`Schedule`. At their defaults they are written neither to keys nor to stored descriptions, so
that cells that were run before keep their keys."""


class Schedule(Spec):
    """The recipe of training."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov momentum, or AdamW."""
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    """Most clips per step; an epoch is cut into even batches."""
    lr: float = Field(gt=0)
    """Peak learning rate, at this batch size."""
    warmup_epochs: float = Field(0.0, ge=0)
    """Epochs of linear warm-up from warmup_lr."""
    warmup_lr: float = Field(1e-4, ge=0)
    """Learning rate at the first step of the warm-up."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD."""
    weight_decay: float = Field(1e-4, ge=0)
    """Not applied to norms and biases."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest gradient norm; None leaves gradients alone."""
    # Later fields, which are not written at their defaults: see _LATER.
    cosine: Literal["after_warmup", "all_epochs"] = "after_warmup"
    """Over which epochs the learning rate falls by half a cosine from lr to 0: those after the warm-up, which ends at
    lr; or all, where the warm-up ends at what the cosine has come to by then, below lr."""
    evaluate_every: int = Field(1, ge=1)
    """Epochs from one evaluation to the next; each of the last ten epochs has one in any case."""
    curve_views: Literal["all", "one"] = "all"
    """Views of a validation clip in the evaluations while training: all, or the middle one alone. The result is over
    all views."""
    curve_clips: int = Field(0, ge=0)
    """Validation clips in the evaluations while training, drawn once at random, the same for every row and seed; 0:
    all. The result is over all."""
    norm_batch: int = Field(0, ge=0)
    """Most clips that a batch-norm statistic is taken over in training; 0: all of the batch. A batch is cut into as few
    even micro-batches as this allows, which go through the network one after the other."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.cosine == "all_epochs" and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs, {self.warmup_epochs:g}, has to be below epochs, {self.epochs}")
        if self.norm_batch > self.batch_size:
            raise ValueError(
                f"norm_batch, {self.norm_batch}, is above batch_size, {self.batch_size}; lower it, or set it to 0 for "
                "all clips of the batch"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_ever(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without later fields at their defaults, as it was always written."""
        return _without_neutral(self, write(self), _LATER)

    @property
    def num_micro_batches(self) -> int:
        """Into how many micro-batches a batch of ``batch_size`` clips is cut."""
        return math.ceil(self.batch_size / self.norm_batch) if self.norm_batch else 1

    def evaluates_after(self, epoch: int) -> bool:
        """Whether the network is evaluated at the end of ``epoch``, counted from 1; it always is after the last."""
        return epoch % self.evaluate_every == 0 or epoch > self.epochs - NUM_LAST_EVALUATED


class Experiment(Spec):
    """One cell: the same experiment, seed and machine give the same numbers."""

    protocol: Literal[1] = PROTOCOL
    backbone: Backbone
    temporal: Temporal = None
    data: Data
    schedule: Schedule
    localization: Localization | None = None
    """What finds segments; None: the network recognizes the class of a clip. Left out where it is None, as it was."""
    seed: int = Field(0, ge=0)
    """Seed of the weights, the data order and the augmentation."""

    @model_validator(mode="after")
    def _task_of_data(self) -> Self:
        is_untrimmed = isinstance(self.data, Untrimmed | Features)
        if is_untrimmed and self.localization is None:
            raise ValueError("untrimmed clips have segments, so the regime needs localization=Localization(...)")
        if not is_untrimmed and self.localization is not None:
            raise ValueError("clips with a class have no segments; a regime with localization needs untrimmed data")
        if isinstance(self.data, Features) and self.temporal is not None:
            raise ValueError("features are made already, so no operator is plugged in; a row names features instead")
        return self

    @model_serializer(mode="wrap")
    def _as_ever(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a localization where there is none, as it was always written."""
        return _without_neutral(self, write(self), ("localization",))

    @property
    def metric(self) -> Metric:
        """The metric that the cell is evaluated by, which follows from its data."""
        return metric_named(self.data.METRIC)

    @property
    def curve_has_fewer_views(self) -> bool:
        """Whether the evaluations while training see one view of a validation clip, and the result several."""
        data = self.data
        several = isinstance(data, Folder) and data.num_temporal_views * data.num_spatial_crops > 1
        return several and self.schedule.curve_views == "one"

    @property
    def curve_has_fewer_clips(self) -> bool:
        """Whether the evaluations while training may see fewer validation clips than the result."""
        num_val = self.data.num_val if isinstance(self.data, Synthetic) else math.inf
        return 0 < self.schedule.curve_clips < num_val

    def canonical_json(self) -> str:
        """The description as sorted, compact JSON, without what does not change the result.

        Paths of clips and weights are left out, as their fingerprints identify them; so are later fields at their
        defaults. Raises :class:`UserError` for a file of weights without its fingerprint.
        """
        if self.backbone.weights_file is not None and not self.backbone.weights_fingerprint:
            raise UserError(
                f"the weights {self.backbone.weights!r} have no fingerprint; pass the backbone through "
                "tadaconv.weights.resolve_weights"
            )
        tree = self.model_dump(mode="json")
        tree["data"] = without_places(tree["data"])
        if self.backbone.weights_file is not None or not self.backbone.weights:
            del tree["backbone"]["weights"]
        if not self.backbone.weights_fingerprint:
            del tree["backbone"]["weights_fingerprint"]
        placement = (tree["temporal"] or {}).get("placement", {})
        if placement.get("convs") == "spatial":
            del placement["convs"]  # a later field, which older keys do not have
        # Values that differ from the default but mean the same:
        if isinstance(self.data, Folder) and self.data.eval_side == self.data.size:
            tree["data"].pop("eval_size", None)
        if not self.curve_has_fewer_views:
            tree["schedule"].pop("curve_views", None)
        if not self.curve_has_fewer_clips:
            tree["schedule"].pop("curve_clips", None)
        return json.dumps(tree, sort_keys=True, separators=(",", ":"))

    @cached_property
    def key(self) -> str:
        """The cell key: 16 hex digits of the SHA-256 of :meth:`canonical_json`."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:16]
