"""The calibrations of a network for clips: how far they are from one, and what they vary with."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from torch import Tensor, nn

from tadaconv.measure.forward_pass import in_evaluation_mode
from tadaconv.models import Host, Site
from tadaconv.nn import TAdaConv2d, TAdaConv3d
from tadaconv.result import NUM_INSPECTED, StageCalibration


def inspected_clips(num_val: int, num_clips: int = NUM_INSPECTED) -> Tensor:
    """Which of ``num_val`` validation clips are inspected, (``num_clips`` or all there are,) of int64, drawn at random.

    Always the same: clips of a folder are in the order of their classes, so that the first ones would show few classes.
    """
    return torch.from_numpy(np.random.default_rng(0).permutation(num_val)[:num_clips])


@dataclass(frozen=True)
class LayerCalibration:
    """The calibrations of one layer for clips.

    Attributes:
        site: where the layer is.
        sizes: by factor of the calibration, such as ``cin`` and ``cout``, how many numbers a frame takes; in the order
            in which they follow each other in ``alpha``. Channels that a placement leaves out have none.
        kernel: taps of the convolution, (k, k) or (k, k, k).
        alpha: (clips, all these numbers, frames of the layer's input), float32 on the CPU; 1 leaves a kernel be.
    """

    site: Site
    sizes: dict[str, int]
    kernel: tuple[int, ...]
    alpha: Tensor

    def factors(self) -> dict[str, Tensor]:
        """Alpha cut into the factors of the calibration, each (clips, its size, frames)."""
        return dict(zip(self.sizes, self.alpha.split(list(self.sizes.values()), 1), strict=True))


@torch.no_grad()
def calibrations(model: Host, clips_NCTHW: Tensor) -> list[LayerCalibration]:
    """The calibrations of every adaptive convolution of ``model`` for ``clips``, from the first layer to the last.

    The network runs once, in evaluation mode, which is undone afterwards. Empty for a network without calibrations.
    """
    layers: list[LayerCalibration] = []
    handles = []

    def keep(site: Site, layer: TAdaConv2d | TAdaConv3d) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, alpha_NDT: Tensor) -> None:
            alpha = alpha_NDT.detach().float().cpu()
            layers.append(LayerCalibration(site, dict(layer.calibrated), tuple(layer.kernel_size), alpha))

        return hook

    for site in model.sites():
        layer = model.get_submodule(site.conv)
        if isinstance(layer, TAdaConv2d | TAdaConv3d):
            handles.append(layer.context.register_forward_hook(keep(site, layer)))
    if not handles:
        return []
    try:
        with in_evaluation_mode(model):
            model(clips_NCTHW)
    finally:
        for handle in handles:
            handle.remove()
    return layers


def by_stage(layers: list[LayerCalibration]) -> dict[str, StageCalibration]:
    """The calibrations of each stage in three numbers, each factor of each layer weighing the same."""
    stages: dict[str, list[Tensor]] = {}
    for layer in layers:
        stages.setdefault(f"res{layer.site.stage}", []).append(layer.alpha.double())
    return {name: summarise(alphas) for name, alphas in sorted(stages.items())}


def summarise(alphas: list[Tensor]) -> StageCalibration:
    """Alphas of several layers, each (clips, factors, frames) in float64, in three numbers.

    The rest is constant. With ``m`` the mean of a factor over clips and frames, averages over all factors,
    ``distance ** 2 == mean((m - 1) ** 2) + over_clips ** 2 + over_time ** 2``.
    """

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
