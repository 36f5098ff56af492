"""Makes a backbone temporally adaptive: swaps its convolutions by placement rule and keeps the weights."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Literal, TypeVar

from torch import nn

from tadaconv.errors import UserError, lookup
from tadaconv.models.host import Host, Site
from tadaconv.models.rivals import RIVALS
from tadaconv.nn import TAdaConv2d, TAdaConv3d
from tadaconv.nn.aggregation import AggregatedBatchNorm2d, AggregatedBatchNorm3d, AggregatedLayerNorm2d
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
    if isinstance(norm, nn.LayerNorm):
        aggregated = AggregatedLayerNorm2d(norm.normalized_shape[0], aggregation, norm.eps)
    elif isinstance(norm, nn.BatchNorm3d):
        aggregated = AggregatedBatchNorm3d(norm.num_features, aggregation, norm.eps, norm.momentum)
    elif isinstance(norm, nn.BatchNorm2d):
        aggregated = AggregatedBatchNorm2d(norm.num_features, aggregation, norm.eps, norm.momentum)
    else:
        raise UserError(f"no aggregation can extend a {type(norm).__name__}; use Aggregation(kind='none')")
    aggregated.load_state_dict(norm.state_dict(), strict=False)
    return aggregated.to(norm.weight.device, norm.weight.dtype)


def _swap(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put ``new`` where ``name`` was, in the training or evaluation mode of what was there."""
    model.set_submodule(name, new.train(model.get_submodule(name).training))


def _put_rival(model: nn.Module, site: Site, rival: Rival, num_frames: int | None) -> None:
    operator = lookup("rival", rival.name, RIVALS)
    name = site.conv if operator.place == "conv" else site.entry
    frames = None if num_frames is None else num_frames // site.temporal_stride
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


def plug_in(model: Model, temporal: Temporal, num_frames: int | None = None) -> Model:
    """A copy of ``model`` with ``temporal`` in place of the convolutions its placement picks.

    The copy keeps every weight under its name. A TAda with ``init="identity"`` computes exactly what ``model`` does.
    ``temporal=None`` gives a plain copy (TSN).

    Args:
        model: a backbone on clips.
        temporal: what is plugged in, and where.
        num_frames: frames of a clip, for the rivals that learn over a fixed number of them.

    Raises:
        UserError: the placement picks nothing, or the operator cannot take a convolution's place.
    """
    plugged = deepcopy(model)
    if temporal is None:
        return plugged
    for site in chosen_sites(list(plugged.sites()), temporal.placement):
        if isinstance(temporal, Rival):
            _put_rival(plugged, site, temporal, num_frames)
        else:
            _swap(plugged, site.conv, _adaptive(plugged.get_submodule(site.conv), temporal))
        if temporal.aggregation.kind != "none":
            norm = plugged.get_submodule(site.norm)
            _swap(plugged, site.norm, _aggregated(norm, temporal.aggregation))
    return plugged
