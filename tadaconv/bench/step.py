"""A training step, forward, cross-entropy and backward, of whole networks."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tadaconv.bench.device import DTYPES
from tadaconv.bench.record import Benchmark
from tadaconv.bench.run import Heat, Make, Report, run, silently
from tadaconv.bench.settings import Settings, contestants, require_taps
from tadaconv.bench.turn import Form, Turn, naive
from tadaconv.bench.work import least_work
from tadaconv.environment import resolve_device
from tadaconv.errors import UserError, lookup
from tadaconv.models import build
from tadaconv.nn.frames import channels_last
from tadaconv.spec import Backbone, Rival, TAda, Temporal

NUM_CLASSES = 400
"""As in Kinetics-400."""


@dataclass(frozen=True)
class Names:
    """What a backbone is called, and what it is called with our operator in it."""

    plain: str
    tada: str


BACKBONES = {
    "resnet50": Names("TSN-50", "TAda2D-50"),
    "convnext_tiny_clip": Names("ConvNeXt-T", "TAdaConvNeXt-T"),
}
"""The backbones that the paper makes temporally adaptive, by their names in ``tadaconv.models``."""


def clips_for(settings: Settings) -> Tensor:
    """The clips that every contestant gets, (N, 3, T, H, W), float32."""
    size = (settings.num_clips, 3, settings.num_frames, settings.size, settings.size)
    clips = torch.randn(size, generator=torch.Generator().manual_seed(1)).to(resolve_device(settings.device))
    return clips.contiguous(memory_format=torch.channels_last_3d)


def network(backbone: str, temporal: Temporal, num_frames: int) -> nn.Module:
    """A backbone drawn from a fixed seed, with ``temporal`` plugged in."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(Backbone(name=backbone), temporal, NUM_CLASSES, num_frames)


def make(backbone: str, settings: Settings, temporal: Temporal, form: Form, compiled: bool) -> Turn:
    """The turn of a network: float32 weights, and in bfloat16 the autocast that training uses."""
    clips, dtype = clips_for(settings), DTYPES[settings.dtype]
    model = network(backbone, temporal, settings.num_frames)
    model = channels_last((naive(model) if form == "naive" else model).to(clips.device).train())
    labels = torch.randint(NUM_CLASSES, (len(clips),), generator=torch.Generator().manual_seed(2)).to(clips.device)
    autocast: AbstractContextManager[Any] = nullcontext()
    if dtype != torch.float32:
        autocast = torch.autocast(clips.device.type, dtype)
    loss = partial(F.cross_entropy, target=labels)
    return Turn(model, clips, loss=loss, autocast=autocast, compiled=compiled, fused=form == "fused")


def heat(backbone: str, settings: Settings, calibration: str = "cin") -> Heat:
    """Everyone asked for, on one backbone."""
    names, tada = lookup("backbone", backbone, BACKBONES), TAda(calibration=calibration)
    ours = names.tada if tada.calibration == TAda().calibration else f"{names.tada} {tada.calibration}"
    slow = f"naive {ours}"
    entrants: dict[str, tuple[Temporal, Form]] = {names.plain: (None, "eager")}
    entrants |= {ours: (tada, "eager")} if settings.asked("tada") else {}
    entrants |= {slow: (tada, "naive")} if settings.asked("naive") else {}
    entrants |= {f"{ours}, fused": (tada, "fused")} if settings.asked_fused(calibration) else {}
    for rival in contestants()[3:]:
        entrants |= {rival: (Rival(name=rival), "eager")} if settings.asked(rival) else {}
    makes: dict[str, Make] = {
        who: partial(make, backbone, settings, temporal, form) for who, (temporal, form) in entrants.items()
    }
    work = least_work(network(backbone, None, settings.num_frames), clips_for(settings).to(DTYPES[settings.dtype]))
    pairs = {ours: slow} if {ours, slow} <= entrants.keys() else {}
    return Heat(f"training step of {names.plain}", makes, work, pairs)


def bench(
    settings: Settings, backbone: str = "resnet50", report: Report = silently, calibration: str = "cin"
) -> Benchmark:
    """Time a training step with our operator and its rivals against the plain backbone's.

    Args:
        settings: device, dtype, clips, rounds and contestants.
        backbone: a name in ``BACKBONES``.
        report: told how far it has come.
        calibration: of ours, and of the form with a kernel for every frame.

    Raises:
        UserError: a name that is not known, or a setting that cannot be run.
        RunError: memory is out.
    """
    settings.check()
    if settings.num_clips * settings.num_frames == 1 and settings.size == 32:
        raise UserError("--clips 1 --frames 1 --size 32 leave the last batch norm one value; raise one of the three")
    require_taps(settings, (calibration,))
    asked: dict[str, str | list[str]] = {"backbone": backbone}
    if calibration != "cin":
        asked["calibrations"] = [calibration]
    return run("step", [heat(backbone, settings, calibration)], settings, asked, report)
