"""Makes a backbone temporally adaptive: swaps its convolutions by placement rule and keeps the weights."""

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Literal, TypeVar, cast, overload

from torch import nn

from tadaconv.errors import UserError, lookup
from tadaconv.models.host import Host, Site
from tadaconv.models.rivals import RIVALS
from tadaconv.models.third_party import FrameHost, ThirdPartyHost, as_host, computes_as, has_hooks
from tadaconv.nn import TAdaConv2d, TAdaConv3d
from tadaconv.nn.aggregation import AggregatedBatchNorm2d, AggregatedBatchNorm3d, AggregatedLayerNorm2d
from tadaconv.nn.frames import FoldedBatchNorm2d, FrameBatchNorm2d, FrameConv2d, FrameLayerNorm2d, TemporalConv
from tadaconv.spec import Aggregation, Placement, Rival, TAda, Temporal, calibration_factors

Model = TypeVar("Model", bound=Host)

_AGGREGATED = {
    FrameLayerNorm2d: AggregatedLayerNorm2d,
    nn.BatchNorm3d: AggregatedBatchNorm3d,
    FrameBatchNorm2d: AggregatedBatchNorm2d,
    FoldedBatchNorm2d: AggregatedBatchNorm2d,
}
"""The aggregating norm that takes a norm's place."""


def chosen_sites(sites: Sequence[Site], placement: Placement) -> list[Site]:
    """The sites a placement picks; raises :class:`UserError` where it picks none."""
    kinds = ("spatial", "temporal") if placement.convs == "both" else (placement.convs,)
    last: dict[int, int] = {}
    for site in sites:
        last[site.stage] = max(site.block, last.get(site.stage, 0))
    chosen = []
    for site in sites:
        rules = {
            "all": True,
            "first": site.block == 0,
            "last": site.block == last[site.stage],
            "alternate": site.block % 2 == 1,
        }
        if site.stage in placement.stages and site.kind in kinds and rules[placement.blocks]:
            chosen.append(site)
    if not chosen:
        raise UserError(
            f"placement (stages {placement.stages}, blocks {placement.blocks!r}, convs {placement.convs!r}) selects no "
            "convolution of this backbone; choose other stages, blocks='all' or convs='spatial'"
        )
    return chosen


def _shown(model: nn.Module, name: str) -> str:
    """A module's name as the caller knows it."""
    return name.removeprefix("model.") if isinstance(model, ThirdPartyHost) else name


def _part(model: nn.Module, name: str) -> nn.Module:
    """The module ``name``; raises :class:`UserError` where the model has none, or has it elsewhere too."""
    try:
        part = model.get_submodule(name)
    except AttributeError as error:
        message = f"sites() names {name!r}, but this {type(model).__name__} has no such module; correct the name"
        raise UserError(message) from error
    others = [at for at, module in model.named_modules(remove_duplicate=False) if module is part and at != name]
    if others:
        raise UserError(
            f"{_shown(model, name)} and {_shown(model, others[0])} are one module; use a separate module in each "
            "place, or choose another placement"
        )
    return part


def _refuse_losses(module: nn.Module, name: str) -> None:
    """Raises :class:`UserError` where what replaces ``module`` would drop hooks, or layers and tensors added to it."""
    plain = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    lost = {*module._modules, *module._parameters, *module._buffers} - plain
    if has_hooks(module):
        lost = {"hooks (of a rival, or your own)"}
    if lost:
        raise UserError(
            f"{name} has {', '.join(sorted(lost))}, which would be lost; plug in first and add them afterwards, or "
            "choose another placement"
        )


def _take_state(new: nn.Module, old: nn.Module) -> nn.Module:
    """``new`` with the same parameters and buffers as ``old``, so that they stay frozen, tied and in their layout."""
    for name, value in [*old.named_parameters(recurse=False), *old.named_buffers(recurse=False)]:
        assert hasattr(new, name), name
        setattr(new, name, value)
    return new


def _adaptive(conv: nn.Module, tada: TAda, name: str) -> nn.Module:
    """The adaptive convolution with the arguments and the weights of ``conv``.

    Raises :class:`UserError` for a module that cannot be replaced without loss.
    """
    kinds = (nn.Conv2d, nn.Conv3d, FrameConv2d, TemporalConv)
    if not isinstance(conv, nn.Conv2d | nn.Conv3d) or not any(computes_as(conv, kind) for kind in kinds):
        raise UserError(
            f"{name} is a {type(conv).__name__}, whose forward pass cannot be calibrated; plug into a plain "
            "nn.Conv2d or nn.Conv3d, and only once"
        )
    _refuse_losses(conv, name)
    adaptive = (TAdaConv2d if isinstance(conv, nn.Conv2d) else TAdaConv3d)(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,
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
    return _take_state(adaptive, conv)


def _aggregated(norm: nn.Module, aggregation: Aggregation, name: str) -> nn.Module:
    """The aggregating norm that has ``norm`` as its first branch.

    Raises :class:`UserError` for a norm of another kind, or without weights or running statistics.
    """
    kind = next((kind for kind in _AGGREGATED if computes_as(norm, kind)), None)
    if kind is None:
        raise UserError(
            f"{name} is a {type(norm).__name__}, which no aggregation can extend; plug in before norms are "
            "converted or frozen, or use Aggregation(kind='none')"
        )
    if any(value is None for value in [*norm._parameters.values(), *norm._buffers.values()]):
        raise UserError(
            f"{name} lacks weights or running statistics ({norm.extra_repr()}), so that no aggregation can extend it; "
            "take a norm with both, or Aggregation(kind='none')"
        )
    _refuse_losses(norm, name)
    weight = cast(nn.Parameter, norm.weight)
    options = {option: getattr(norm, option) for option in ("eps", "momentum") if hasattr(norm, option)}
    aggregated = _AGGREGATED[kind](weight.shape[0], aggregation, **options).to(weight.device, weight.dtype)
    _take_state(aggregated.norm, norm)
    return aggregated


def _swap(model: nn.Module, name: str, new: nn.Module) -> None:
    """Replace the module ``name`` by ``new``, in the same training or evaluation mode."""
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
        conv = _part(model, name)
        new = operator.replace(conv, frames, rival.options)
        if new is not conv:
            _refuse_losses(conv, _shown(model, name))
        _swap(model, name, new)


def promised_start(temporal: Temporal) -> Literal["exact", "rounding", "no"]:
    """Whether a network with ``temporal`` starts equal to its host: bit for bit, to rounding, or not."""
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

    The copy keeps every weight, under its name in state dicts and frozen where it was. A TAda with
    ``init="identity"`` computes exactly what ``model`` does. ``temporal=None`` gives a plain copy (TSN).

    A live model of timm or torchvision comes back within a host, under ``model.``: an image model then takes clips,
    sees their frames as one batch and averages its scores over them; a video model takes clips as it did.

    Args:
        model: a backbone on clips; a ResNet or ConvNeXt of timm or torchvision, or a video ResNet of torchvision; or
            any model on clips with a method ``sites()`` as :class:`tadaconv.models.Host` has it.
        temporal: the operator and its placement.
        num_frames: frames of a clip, for the rivals that learn over a fixed number of them, and for image models that
            are to take frames folded into the batch, (N * num_frames, 3, H, W).

    Raises:
        UserError: the placement selects no convolution, a convolution cannot be replaced without loss (its own forward
            pass, hooks, parametrised weights, a TAdaConv already, one module in two places), the model has no known
            sites, or an argument is of another type.
    """
    if not (temporal is None or isinstance(temporal, TAda | Rival)):
        raise UserError(f"temporal must be TAda(...), Rival(...) or None, not {' '.join(repr(temporal).split()):.60}")
    if num_frames is not None and (type(num_frames) is not int or num_frames < 1):
        raise UserError(f"num_frames must be a positive integer, such as 8, or None, not {num_frames!r}")
    plugged = as_host(deepcopy(model), num_frames)
    if temporal is None:
        return plugged
    sites = chosen_sites(list(plugged.sites()), temporal.placement)
    if isinstance(temporal, Rival):
        _put_rival(plugged, sites, temporal, num_frames)
    for site in sites:
        if isinstance(temporal, TAda):
            conv = _part(plugged, site.conv)
            _swap(plugged, site.conv, _adaptive(conv, temporal, _shown(plugged, site.conv)))
        if temporal.aggregation.kind != "none":
            norm = _part(plugged, site.norm)
            _swap(plugged, site.norm, _aggregated(norm, temporal.aggregation, _shown(plugged, site.norm)))
    return plugged
