"""What the calibrations of a network do to clips: how far they lie from one, and what they vary with."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn

from tadaconv.models import Host, Site
from tadaconv.nn import TAdaConv2d, TAdaConv3d
from tadaconv.result import StageCalibration


@dataclass(frozen=True)
class LayerCalibration:
    """The calibrations that one layer gave to clips.

    Attributes:
        site: where the layer is.
        calibration: its calibrated dimensions, such as ``cin`` or ``cin+cout``.
        alpha: (clips, calibrated factors, frames of the layer's input), float32 on the CPU; 1 leaves a kernel be.
    """

    site: Site
    calibration: str
    alpha: Tensor


@torch.no_grad()
def calibrations(model: Host, clips_NCTHW: Tensor) -> list[LayerCalibration]:
    """What every adaptive convolution of ``model`` gives to ``clips``, from the first layer to the last.

    The network runs once, in evaluation mode, and is left as it was. Empty for a network that calibrates nothing.
    """
    found: list[LayerCalibration] = []
    handles = []

    def keep(site: Site, calibration: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, alpha_NDT: Tensor) -> None:
            found.append(LayerCalibration(site, calibration, alpha_NDT.detach().float().cpu()))

        return hook

    for site in model.sites():
        layer = model.get_submodule(site.conv)
        if isinstance(layer, TAdaConv2d | TAdaConv3d):
            handles.append(layer.context.register_forward_hook(keep(site, layer.calibration)))
    if not handles:
        return []
    was_training = model.training
    model.eval()
    try:
        model(clips_NCTHW)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return found


def by_stage(layers: list[LayerCalibration]) -> dict[str, StageCalibration]:
    """The calibrations of each stage in three numbers, each factor of each layer weighing the same."""
    stages: dict[str, list[Tensor]] = {}
    for layer in layers:
        stages.setdefault(f"res{layer.site.stage}", []).append(layer.alpha.double())
    return {name: _summarise(alphas) for name, alphas in sorted(stages.items())}


def _summarise(alphas: list[Tensor]) -> StageCalibration:
    def rms(parts: list[Tensor]) -> float:
        # A layer's frames may be fewer than another's: each layer is averaged before they are.
        factors = sum(part.shape[1] for part in parts)
        return sqrt(sum(float(part.square().mean()) * part.shape[1] for part in parts) / factors)

    means = [alpha.mean(2, keepdim=True) for alpha in alphas]
    return StageCalibration(
        distance=rms([alpha - 1 for alpha in alphas]),
        over_time=rms([alpha - mean for alpha, mean in zip(alphas, means, strict=True)]),
        over_clips=rms([mean - mean.mean(0, keepdim=True) for mean in means]),
    )
