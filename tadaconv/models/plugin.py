"""Makes a backbone temporally adaptive: swaps its convolutions by placement rule and keeps the weights."""

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Literal, TypeVar, overload

from torch import nn

from tadaconv.errors import UserError, lookup
from tadaconv.models.foreign import FrameHost, as_host
from tadaconv.models.host import Host, Site
from tadaconv.models.rivals import RIVALS
from tadaconv.nn import TAdaConv2d, TAdaConv3d
from tadaconv.nn.aggregation import AggregatedBatchNorm2d, AggregatedBatchNorm3d, AggregatedLayerNorm2d
from tadaconv.nn.frames import FrameBatchNorm2d, FrameLayerNorm2d
from tadaconv.spec import Aggregation, Placement, Rival, TAda, Temporal, calibration_factors

Model = TypeVar("Model", bound=Host)


def chosen_sites(sites: Sequence[Site], placement: Placement) -> list[Site]:
    """The sites a placement picks; raises :class:`UserError` if there is none."""
    kinds = {"spatial": {"spatial"}, "temporal": {"temporal"}, "both": {"spatial", "temporal"}}[placement.convs]
    chosen = []
    for site in sites:
        last = max(other.block for other in sites if other.stage == site.stage)
        fits = {
            "all": True,
            "first": site.block == 0,
            "last": site.block == last,
            "alternate": site.block % 2 == 1,
        }[placement.blocks]
        if site.stage in placement.stages and site.kind in kinds and fits:
            chosen.append(site)
    if not chosen:
        raise UserError(
            f"placement (stages {placement.stages}, blocks {placement.blocks!r}, convs {placement.convs!r}) picks no "
            "convolution of this backbone; choose other stages, blocks='all' or convs='spatial'"
        )
    return chosen


def _adaptive(conv: nn.Module, tada: TAda) -> nn.Module:
    """The adaptive convolution that starts from ``conv``'s arguments and weights."""
    if not isinstance(conv, nn.Conv2d | nn.Conv3d):
        raise UserError(f"a {type(conv).__name__} cannot be calibrated; sites are nn.Conv2d or nn.Conv3d")
    adaptive = (TAdaConv2d if isinstance(conv, nn.Conv2d) else TAdaConv3d)(
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


def _aggregated(norm: nn.Module, aggregation: Aggregation) -> nn.Module:
    """The aggregating norm whose first branch is ``norm``; raises :class:`UserError` for a norm of another kind."""
    aggregated: nn.Module
    if isinstance(norm, FrameLayerNorm2d):
        aggregated = AggregatedLayerNorm2d(norm.normalized_shape[0], aggregation, norm.eps)
    elif isinstance(norm, nn.BatchNorm3d):
        aggregated = AggregatedBatchNorm3d(norm.num_features, aggregation, norm.eps, norm.momentum)
    elif isinstance(norm, FrameBatchNorm2d):
        aggregated = AggregatedBatchNorm2d(norm.num_features, aggregation, norm.eps, norm.momentum)
    else:
        raise UserError(f"no aggregation can extend a {type(norm).__name__}; use Aggregation(kind='none')")
    aggregated.load_state_dict(norm.state_dict(), strict=False)
    return aggregated.to(norm.weight.device, norm.weight.dtype)


def _swap(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put ``new`` where ``name`` was, in the training or evaluation mode of what was there."""
    new.train(model.get_submodule(name).training)
    if isinstance(model, FrameHost):
        model.put(name, new)
    else:
        model.set_submodule(name, new)


def _put_rival(model: nn.Module, sites: Sequence[Site], rival: Rival, num_frames: int | None) -> None:
    operator = lookup("rival", rival.name, RIVALS)
    places = {site.conv if operator.place == "conv" else site.entry: site for site in sites}  # a block has one entry
    for name, site in places.items():
        frames = None if num_frames is None else math.ceil(num_frames / site.temporal_stride)
        _swap(model, name, operator.replace(model.get_submodule(name), frames, rival.options))


def promised_start(temporal: Temporal) -> Literal["exact", "rounding", "no"]:
    """How near to its host a network with ``temporal`` starts: bit for bit, to rounding, or not at all."""
    if temporal is None:
        return "exact"
    if isinstance(temporal, Rival):
        return lookup("rival", temporal.name, RIVALS).identity
    if temporal.init != "identity":
        return "no"
    taps_or_time = {"k2", "cin_k2"} & set(calibration_factors(temporal.calibration)) or (
        temporal.placement.convs != "spatial"
    )
    return "rounding" if taps_or_time else "exact"


@overload
def plug_in(model: Model, temporal: Temporal, num_frames: int | None = None) -> Model: ...
@overload
def plug_in(model: nn.Module, temporal: Temporal, num_frames: int | None = None) -> Host: ...
def plug_in(model: nn.Module, temporal: Temporal, num_frames: int | None = None) -> Host:
    """A copy of ``model`` with ``temporal`` in place of the convolutions its placement picks.

    The copy keeps every weight under its name. A TAda with ``init="identity"`` computes exactly what ``model`` does.
    ``temporal=None`` gives a plain copy (TSN).

    A live model of timm or torchvision comes back within a host, under ``model.``: an image model then takes clips,
    sees their frames as one batch and averages its scores over them; a video model takes clips as it did.

    Args:
        model: a backbone on clips; a ResNet or ConvNeXt of timm or torchvision, or a video ResNet of torchvision; or
            any model on clips with a method ``sites()`` as :class:`tadaconv.models.Host` has it.
        temporal: what is plugged in, and where.
        num_frames: frames of a clip, for the rivals that learn over a fixed number of them, and for image models that
            are to take frames folded into the batch, (N * num_frames, 3, H, W).

    Raises:
        UserError: the placement picks nothing, the operator cannot take a convolution's place, or no place for an
            operator is known in the model.
    """
    plugged = as_host(deepcopy(model), num_frames)
    if temporal is None:
        return plugged
    sites = chosen_sites(list(plugged.sites()), temporal.placement)
    if isinstance(temporal, Rival):
        _put_rival(plugged, sites, temporal, num_frames)
    for site in sites:
        if isinstance(temporal, TAda):
            _swap(plugged, site.conv, _adaptive(plugged.get_submodule(site.conv), temporal))
        if temporal.aggregation.kind != "none":
            norm = plugged.get_submodule(site.norm)
            _swap(plugged, site.norm, _aggregated(norm, temporal.aggregation))
    return plugged
