"""A training step, forward, cross-entropy and backward, of whole networks."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadaconv.bench.device import DTYPES
from tadaconv.bench.options import Options, require_taps
from tadaconv.bench.record import Benchmark
from tadaconv.bench.roofline import least_work
from tadaconv.bench.run import OnProgress, no_progress, run
from tadaconv.bench.trial import Form, Trial
from tadaconv.bench.workload import Workload, choose_methods
from tadaconv.environment import resolve_device
from tadaconv.errors import UserError, lookup
from tadaconv.models import build
from tadaconv.spec import Backbone, TAda, Temporal

NUM_CLASSES = 400
"""As in Kinetics-400."""


@dataclass(frozen=True)
class Names:
    """The names of a backbone, and of it with our operator."""

    plain: str
    tada: str


BACKBONES = {
    "resnet50": Names("TSN-50", "TAda2D-50"),
    "convnext_tiny_clip": Names("ConvNeXt-T", "TAdaConvNeXt-T"),
}
"""The backbones that the paper makes temporally adaptive, by their names in ``tadaconv.models``."""


def clips_for(options: Options) -> Tensor:
    """The clips that every method gets, (N, 3, T, H, W), float32."""
    size = (options.num_clips, 3, options.num_frames, options.size, options.size)
    clips = torch.randn(size, generator=torch.Generator().manual_seed(1)).to(resolve_device(options.device))
    return clips.contiguous(memory_format=torch.channels_last_3d)


def network(backbone: str, temporal: Temporal, num_frames: int) -> nn.Module:
    """A backbone drawn from a fixed seed, with ``temporal`` plugged in."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(Backbone(name=backbone), temporal, NUM_CLASSES, num_frames)


def make(backbone: str, options: Options, temporal: Temporal, form: Form, compiled: bool) -> Trial:
    """The trial of a network: float32 weights, and in bfloat16 the autocast that training uses.

    Args:
        backbone: a name in ``tadaconv.models``.
        options: device, dtype, and the clips' number, frames and size.
        temporal: what is plugged in.
        form: in which form adaptive convolutions are computed.
        compiled: whether ``torch.compile`` compiles it in the first trial.
    """
    clips, dtype = clips_for(options), DTYPES[options.dtype]
    model = network(backbone, temporal, options.num_frames)
    labels = torch.randint(NUM_CLASSES, (len(clips),), generator=torch.Generator().manual_seed(2)).to(clips.device)
    autocast: AbstractContextManager[Any] = nullcontext()
    if dtype != torch.float32:
        autocast = torch.autocast(clips.device.type, dtype)
    return Trial(model, clips, form, compiled, loss=partial(F.cross_entropy, target=labels), autocast=autocast)


def workload(backbone: str, options: Options, calibration: str = "cin") -> Workload:
    """The methods of ``options``, on one backbone.

    Args:
        backbone: a name in ``BACKBONES``; raises :class:`UserError` for any other.
        options: the methods, and the clips they run on.
        calibration: of ours, and of the form with a kernel for every frame.
    """
    names, tada = lookup("backbone", backbone, BACKBONES), TAda(calibration=calibration)
    ours = names.tada if tada.calibration == TAda().calibration else f"{names.tada} {tada.calibration}"
    methods, naive = choose_methods(
        options, partial(make, backbone, options), names.plain, [(ours, f"naive {ours}", tada)]
    )
    work = least_work(network(backbone, None, options.num_frames), clips_for(options).to(DTYPES[options.dtype]))
    return Workload(f"training step of {names.plain}", methods, work, naive)


def bench(
    options: Options, backbone: str = "resnet50", progress: OnProgress = no_progress, calibration: str = "cin"
) -> Benchmark:
    """Time a training step with our operator and its rivals against the plain backbone's.

    Args:
        options: device, dtype, clips, rounds and methods.
        backbone: a name in ``BACKBONES``.
        progress: called with the current step, and the fraction that is done.
        calibration: of ours, and of the form with a kernel for every frame.

    Raises:
        UserError: an unknown name, or a setting that cannot be run.
        RunError: out of memory.
    """
    options.check()
    if options.num_clips * options.num_frames == 1 and options.size == 32:
        raise UserError("--clips 1 --frames 1 --size 32 leave the last batch norm one value; increase one of the three")
    require_taps(options, (calibration,))
    workloads = [workload(backbone, options, calibration)]
    return run("step", workloads, options, progress, calibrations=(calibration,), backbone=backbone)
