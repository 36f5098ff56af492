"""Makes a backbone temporally adaptive: swaps its spatial convolutions by placement rule and keeps the weights."""

from collections.abc import Sequence
from copy import deepcopy
from typing import TypeVar

from torch import nn

from tadaconv.errors import UserError
from tadaconv.models.resnet import ResNet, Site
from tadaconv.nn import AggregatedBatchNorm2d, TAdaConv2d
from tadaconv.spec import Placement, TAda, Temporal

Model = TypeVar("Model", bound=ResNet)


def chosen_sites(sites: Sequence[Site], placement: Placement) -> list[Site]:
    """The sites a placement picks; raises :class:`UserError` if there is none."""
    chosen = []
    for site in sites:
        last = max(other.block for other in sites if other.stage == site.stage)
        fits = {
            "all": True,
            "first": site.block == 0,
            "last": site.block == last,
            "alternate": site.block % 2 == 1,
        }[placement.blocks]
        if site.stage in placement.stages and fits:
            chosen.append(site)
    if not chosen:
        raise UserError(
            f"placement (stages {placement.stages}, blocks {placement.blocks!r}) picks no convolution of this "
            "backbone; choose other stages or blocks='all'"
        )
    return chosen


def _adaptive(conv: nn.Conv2d, tada: TAda) -> TAdaConv2d:
    """The adaptive convolution that starts from ``conv``'s arguments and weights."""
    adaptive = TAdaConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        conv.groups,
        conv.bias is not None,
        conv.padding_mode,
        calibration=tada.calibration,
        context=tada.context,
        init=tada.init,
        share=tada.placement.share,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    adaptive.load_state_dict(conv.state_dict(), strict=False)
    return adaptive


def _aggregated(norm: nn.BatchNorm2d, tada: TAda) -> AggregatedBatchNorm2d:
    """The aggregating batch norm whose first branch is ``norm``."""
    aggregated = AggregatedBatchNorm2d(norm.num_features, tada.aggregation, norm.eps, norm.momentum)
    aggregated.load_state_dict(norm.state_dict(), strict=False)
    return aggregated.to(norm.weight.device, norm.weight.dtype)


def plug_in(model: Model, temporal: Temporal) -> Model:
    """A copy of ``model`` with ``temporal`` in place of the spatial convolutions its placement picks.

    The copy keeps every weight under its name. With ``init="identity"`` it computes exactly what ``model`` does.
    ``temporal=None`` gives a plain copy (TSN). Raises :class:`UserError` if the placement picks nothing.
    """
    plugged = deepcopy(model)
    if temporal is None:
        return plugged
    for site in chosen_sites(list(plugged.sites()), temporal.placement):
        conv, norm = plugged.get_submodule(site.conv), plugged.get_submodule(site.norm)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        plugged.set_submodule(site.conv, _adaptive(conv, temporal).train(conv.training))
        if temporal.aggregation.kind != "none":
            plugged.set_submodule(site.norm, _aggregated(norm, temporal).train(norm.training))
    return plugged
