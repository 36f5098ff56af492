"""The sizes of the network and of the clips on which costs are counted and rows are checked."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch

from tadaconv.errors import UserError
from tadaconv.models import Host, build, plug_in
from tadaconv.models.localizing import FeatureBackbone, localizing_network
from tadaconv.regime import Regime
from tadaconv.spec import Backbone, Experiment, Features, Folder, Localization, Record, Temporal, Untrimmed, errors_of
from tadaconv.table import Row

ClipShape = tuple[int, ...]
"""(C, T, H, W)"""


class Scale(Record):
    """A network's size and a clip's; a row may name another backbone and number of frames."""

    backbone: str
    num_classes: int
    clip: ClipShape
    localization: Localization | None = None
    """What finds segments in clips; None where their class is recognized."""
    window: int | None = None
    """Frames of an untrimmed clip that one step of the features spans."""

    def with_frames(self, num_frames: int | None) -> "Scale":
        """The same with clips of ``num_frames``, or with its own if None."""
        channels, frames, *size = self.clip
        return self.model_copy(update={"clip": (channels, num_frames or frames, *size)})

    def of(self, row: Row, regime: Regime | None) -> "Scale":
        """The scale of a row: this one, with the frames that the row names, and its backbone or the stand-in for it.

        In a regime, with the size of its recipe's clips.

        Raises :class:`UserError` for a row that the regime cannot take, as running its table does.
        """
        if regime is None:
            if row.features is not None:
                raise UserError(f"row {row.name!r}: {_NO_BACKBONE}")
            own = row.backbone or self.backbone
            return self.with_frames(row.num_frames).model_copy(update={"backbone": own})
        own_frames = replace(row, num_frames=row.num_frames or self.clip[1])
        return _scale_of(own_frames.cell(regime, seed=0).experiment, self.num_classes)

    def require(self, temporal: Temporal) -> None:
        """Raise :class:`UserError` unless the backbone with ``temporal`` plugged in takes clips of this scale."""
        from tadaconv.dry_run import require_fit  # what reads a study need not load what trains

        require_fit(Backbone(name=self.backbone), temporal, self.clip)

    def network(self, host: Host, temporal: Temporal) -> Host:
        """A copy of the bare backbone with ``temporal`` plugged in, and behind it what localizes, if anything does."""
        plugged = plug_in(host, temporal, self.clip[1])
        if self.localization is None or self.window is None:
            return plugged
        backbone, num_steps = FeatureBackbone(plugged, self.window), self.clip[1] // self.window
        return localizing_network(
            backbone, self.localization, [self.num_classes], num_steps, num_features=backbone.num_features
        )


_NO_BACKBONE = (
    "features on a disk are made already, so there is no backbone to build; tada plan TABLE --data DIR measures what "
    "localizing on them takes"
)


def in_words(scales: Sequence[Scale]) -> str:
    """The scale of a table's rows, for readers; frames are all that occur."""
    backbones, frames = {scale.backbone for scale in scales}, {scale.clip[1] for scale in scales}
    _, _, height, width = scales[0].clip
    steps = [] if scales[0].window is None else [f"steps of {scales[0].window}"]
    return ", ".join(
        [
            scales[0].backbone if len(backbones) == 1 else "each row's own backbone",
            f"{scales[0].num_classes} classes",
            f"{'/'.join(map(str, sorted(frames)))} frames of {height} x {width}",
            *steps,
        ]
    )


PAPER = Scale(backbone="resnet50", num_classes=400, clip=(3, 8, 256, 256))
"""The scale on which the paper prints its costs: 400 classes, 8 frames of 256 pixels unless a row has others."""


def scale_of(regime: Regime) -> Scale:
    """The scale of a regime's own network and clips; a folder not yet scanned counts as 400 classes.

    Raises :class:`UserError` for features on a disk, which have no backbone.
    """
    if isinstance(regime.data, Features):
        raise UserError(_NO_BACKBONE)
    if isinstance(regime.data, Folder):
        num_classes = regime.data.num_classes or PAPER.num_classes
    elif isinstance(regime.data, Untrimmed):
        from tadaconv.data.untrimmed import CLASSES

        num_classes = len(CLASSES)
    else:
        from tadaconv.data.synthetic import class_names

        num_classes = len(class_names(regime.data))
    return _scale_of(regime.experiment(None, seed=0), num_classes)


def _scale_of(experiment: Experiment, num_classes: int) -> Scale:
    data = experiment.data
    return Scale(
        backbone=experiment.backbone.name,
        num_classes=num_classes,
        clip=data.shapes[-1],
        localization=experiment.localization,
        window=data.window if isinstance(data, Untrimmed) else None,
    )


def build_host(scale: Scale) -> Host:
    """The backbone of this scale without any temporal operator, its weights drawn from seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(Backbone(name=scale.backbone), None, scale.num_classes)


def errors_of_row(row: Row) -> AbstractContextManager[None]:
    """Put the row's name in front of the :class:`UserError` that is raised meanwhile; a bare backbone is no row."""
    return nullcontext() if row.name == row.backbone else errors_of(f"row {row.name!r}")
