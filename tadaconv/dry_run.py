"""Dry runs: whether an experiment can be built and trained, before anything is run or queued for it."""

from functools import lru_cache

import torch
from torch import Tensor

from tadaconv.data import num_training_clips, require_usable_clips
from tadaconv.data.folder import MEMORY_SHARE
from tadaconv.data.memory import total_bytes
from tadaconv.data.prefetch import DEPTH
from tadaconv.errors import UserError
from tadaconv.measure import count
from tadaconv.models import Host, build, takes_clips
from tadaconv.models.localizing import build_model
from tadaconv.models.pretrained import load_checked, read_weights
from tadaconv.spec import Backbone, Experiment, Folder, Temporal
from tadaconv.text import plural
from tadaconv.training import smallest_batch


@lru_cache(maxsize=1)
def _shapes_of_weights(weights: str, fingerprint: str) -> dict[str, Tensor]:
    """The shapes of pretrained weights, which are read, checked and dropped; the rows of a table share the shapes."""
    state = read_weights(Backbone(name="", weights=weights, weights_fingerprint=fingerprint))
    return {name: torch.empty_like(value, device="meta") for name, value in state.items()}


def dry_run(experiment: Experiment) -> None:
    """Build the network of ``experiment`` and pass the shape of a clip through it, without memory or arithmetic.

    It takes a moment and runs before anything is queued. Pretrained weights are read once for consecutive
    experiments that share them. Raises :class:`UserError` for names, options, placements, weights
    and clips that do not fit together, and for batches that :func:`require_batches` refuses.
    """
    backbone, data = experiment.backbone, experiment.data
    if backbone.weights:
        shapes = _shapes_of_weights(backbone.weights, backbone.weights_fingerprint)
        with torch.device("meta"):
            load_checked(build(backbone.but(weights="", weights_fingerprint=""), None, 2), shapes)
    for shape in data.shapes:
        with torch.device("meta"), torch.no_grad():
            network = _bare(experiment).eval()
            with takes_clips(backbone.name, shape):
                network(torch.empty(1, *shape))
    require_usable_clips(data)
    require_batches(experiment)


def _bare(experiment: Experiment) -> Host:
    """The network of an experiment for two classes, without pretrained weights."""
    return build_model(experiment.but(backbone__weights="", backbone__weights_fingerprint=""), [2])


def require_fit(backbone: Backbone, temporal: Temporal, clip_CTHW: tuple[int, ...]) -> None:
    """Raise :class:`UserError` unless ``backbone`` with ``temporal`` plugged in can be built and takes such clips.

    Neither memory nor arithmetic is spent: the shape alone is passed through the network.

    Args:
        backbone: the host; its weights are not read.
        temporal: what is plugged in.
        clip_CTHW: the shape of a clip: channels, frames, height and width.
    """
    with torch.device("meta"), torch.no_grad():
        network = build(backbone.but(weights="", weights_fingerprint=""), temporal, 2, clip_CTHW[1]).eval()
        with takes_clips(backbone.name, clip_CTHW):
            network(torch.empty(1, *clip_CTHW))


_PROCESS_BYTES = {"cpu": 500 * 2**20, "cuda": 3 * 2**30}
"""Main memory of a worker that trains a small network, by the kind of its device."""

_TIMES_ACTIVATIONS = 4
"""Memory of a step on the CPU, in outputs of convolutions: those of norms and activations, and gradients, are kept too.
Measured of ResNet-50, SlowFast and ConvNeXt: 3 to 4.5."""


def worker_bytes(experiment: Experiment, device_type: str) -> int:
    """Roughly the most main memory that a worker of ``experiment`` takes; nothing is trained or read for it.

    The process, and on the CPU weights with their gradients and moments, and the activations of a step; and clips that
    are kept or read ahead.

    Args:
        experiment: with its clips resolved.
        device_type: ``cpu`` or ``cuda``.
    """
    data, schedule = experiment.data, experiment.schedule
    num_bytes = _PROCESS_BYTES[device_type]
    if device_type == "cpu":
        with torch.device("meta"):
            network = _bare(experiment)
        cost = count(network, data.shapes[0])
        clips_at_once = schedule.norm_batch or schedule.batch_size
        num_bytes += 4 * (4 * cost.params + _TIMES_ACTIVATIONS * clips_at_once * cost.activations)
    if isinstance(data, Folder):
        frame_bytes = 3 * 4 * max(data.short_side, data.size) ** 2 // 3  # of 4:3
        num_bytes += 2 * DEPTH * schedule.batch_size * data.num_frames * frame_bytes
        num_bytes += int(MEMORY_SHARE * total_bytes()) if data.layout == "classes" else 0
    return num_bytes


def require_batches(experiment: Experiment) -> None:
    """Raise :class:`UserError` if an epoch has a batch of one clip and the network cannot be trained on one.

    Or a micro-batch, where ``norm_batch`` cuts batches. A batch norm behind a pooling over frames and space has one
    value per channel there, and no variance. All rows of a table see the same batches, so none is given others; a row
    that takes one clip a batch is left as it is.
    """
    data, schedule = experiment.data, experiment.schedule
    at_once = schedule.norm_batch or schedule.batch_size
    if at_once > 2 and isinstance(data, Folder):
        return  # two classes are two clips at least, and no batch of them has one
    num_train = num_training_clips(data)
    if at_once > 1 and (num_train is None or smallest_batch(num_train, schedule.batch_size, schedule.norm_batch) > 1):
        return
    with torch.device("meta"), torch.no_grad():
        network = _bare(experiment).train()
        try:
            network(torch.empty(1, *data.shapes[0]))
        except ValueError as error:
            clips = "" if num_train is None else f" of {plural(num_train, 'training clip')}"
            parts = f" and these into micro-batches of at most {schedule.norm_batch}" if schedule.norm_batch else ""
            options = "schedule.batch_size and schedule.norm_batch" if schedule.norm_batch else "schedule.batch_size"
            raise UserError(
                f"an epoch{clips}, cut into batches of at most {schedule.batch_size}{parts}, has one of a single clip, "
                f"on which a batch norm of this network cannot be trained ({str(error).splitlines()[0]}); "
                + ("give more clips" if num_train == 1 else f"set the regime's {options} to 3 or more")
            ) from error
