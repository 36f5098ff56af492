"""Checkpoints of TAda2D as its authors release them (github.com/alibaba-mmai-research/TAdaConv, arXiv:2110.06178).

Depth, widths, classes, placement, kernels and reduction are read from names and shapes. Settings that leave no
trace there are those of every configuration of the release: a batch norm's epsilon is 1e-5, in the backbone and in the
context; the pooling of the aggregation spans 3 frames; the stem and the first block of every stage halve height and
width, frames are kept, and there is no max-pool. Where a checkpoint contains its configuration, these settings are
checked in it.
"""

import json
import re
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import torch

from tadaconv.errors import UserError
from tadaconv.models.plugin import chosen_sites, plug_in
from tadaconv.models.resnet import Bottleneck, ResNet
from tadaconv.models.state_dicts import State, checked, fit, read_content, refuse_mismatch, some
from tadaconv.spec import Placement, TAda

DROPOUT = 0.5
"""Dropout before the classifier in the release's configurations for Kinetics-400 and Something-Something-V2."""

SUPPORTED = "supported is TAda2D: bottleneck blocks with TAdaConv (b_rf) in backbone.conv2 to conv5, and head.out"

LOOKS_LIKE = {
    r"slow_conv|fast_conv|slowfast": "SlowFast or SlowOnly",
    r"dwconv|conv_dw": "a ConvNeXt, such as TAdaConvNeXt",
    r"conv_branch\.[ab]1": "R(2+1)D",
    r"resblocks|_embd$|pos_embed|class_embedding|cls_token": "a transformer, such as ViViT or TAdaFormer",
    r"Mixed_3b": "S3D",
    r"^layer1\.0\.": "an image ResNet with torchvision's or timm's names",
    r"conv_branch\.b\.weight$": "a ResNet of the release without TAdaConv, such as TSN, R3D or CSN",
}
"""Patterns in names by which other architectures are recognised, the most specific first."""

_ENDS = {"conv1": "backbone.conv1.a", "bn1": "backbone.conv1.a_bn", "fc": "head.out"}
_PARTS = {
    "conv1": "conv_branch.a",
    "bn1": "conv_branch.a_bn",
    "conv2": "conv_branch.b",
    "conv2.context.fc": "conv_branch.b_rf.g",
    "conv2.context.hidden.0": "conv_branch.b_rf.a",
    "conv2.context.hidden.1": "conv_branch.b_rf.bn",
    "conv2.context.last": "conv_branch.b_rf.b",
    "bn2": "conv_branch.b_bn",
    "bn2.bn_pool": "conv_branch.b_avgpool_bn",
    "conv3": "conv_branch.c",
    "bn3": "conv_branch.c_bn",
    "downsample.0": "short_cut",
    "downsample.1": "short_cut_bn",
}
"""Our names in a block, and the authors'."""

_CONFIGURED: dict[str, tuple[Any, ...]] = {
    "BN.EPS": (1e-5, "1e-5"),
    "VIDEO.BACKBONE.STEM.NAME": ("Base2DStem", "Base3DStem"),
    "VIDEO.BACKBONE.DOWNSAMPLING": ([True] * 5,),
    "VIDEO.BACKBONE.DOWNSAMPLING_TEMPORAL": ([False] * 5,),
    "VIDEO.BACKBONE.BRANCH.POOL_K": ([3, 1, 1],),
}
"""Settings that cannot be read from shapes, and the values that are supported."""


def _check_configuration(text: object) -> None:
    """Raise :class:`UserError` where the configuration in a checkpoint differs from the release's."""
    try:
        config = json.loads(text)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise UserError("the checkpoint's 'cfg' is not the release's JSON; import only its 'model_state'") from error
    for path, supported in _CONFIGURED.items():
        value = config
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None and value not in supported:
            raise UserError(f"the checkpoint was made with {path} = {value!r}; supported is {supported[0]!r}")


def _refuse_other_architectures(state: State) -> None:
    adaptive = any(re.match(r"backbone\.conv[2-5]\.res_\d+\.conv_branch\.b_rf\.", name) for name in state)
    signs = LOOKS_LIKE
    if adaptive:
        signs = {r"^head\.linear[12]\.": "TAda2D with two heads, such as verb and noun"}
        if any(name.endswith("conv_branch.b.weight") and state[name].dim() == 7 for name in state):
            signs = {r"conv_branch\.b\.weight$": "R3D with TAdaConv, whose kernels span frames"}
    for sign, architecture in signs.items():
        if matching := [name for name in state if re.search(sign, name)]:
            raise UserError(f"the checkpoint looks like {architecture} (it has {matching[0]}); {SUPPORTED}")
    if not adaptive:
        raise UserError(
            f"the architecture of the checkpoint is unknown (its names: {some(state) or 'none'}); {SUPPORTED}"
        )


def _shape(state: State, name: str, num_dims: int) -> tuple[int, ...]:
    """The shape from which the structure is read; raises :class:`UserError` if it is missing or of other length."""
    if name not in state:
        raise UserError(f"the checkpoint misses {name}; {SUPPORTED}")
    shape = tuple(state[name].shape)
    if len(shape) != num_dims:
        raise UserError(f"{name} has shape {shape}, where TAda2D has {num_dims} dimensions; {SUPPORTED}")
    return shape


def _depths(state: State) -> list[int]:
    """Blocks of res2 to res5, which are numbered from 1."""
    blocks = {match[0] for name in state if (match := re.match(r"backbone\.conv\d\.res_\d+", name))}
    return [next(n for n in count() if f"backbone.conv{stage}.res_{n + 1}" not in blocks) for stage in (2, 3, 4, 5)]


def _host(state: State) -> ResNet:
    """The network without TAdaConv, at its random start."""
    stem = _shape(state, "backbone.conv1.a.weight", 5)
    classes = _shape(state, "head.out.weight", 2)
    widths = [_shape(state, f"backbone.conv{stage}.res_1.conv_branch.a.weight", 5)[0] for stage in (2, 3, 4, 5)]
    return ResNet(Bottleneck, _depths(state), classes[0], widths=(stem[0], *widths), dropout=DROPOUT)


def _placement(state: State, host: ResNet) -> tuple[Placement, list[str]]:
    """Where TAdaConv is, as a placement and as the authors' names of the branches."""
    sites = list(host.sites())
    branches = {site: f"backbone.conv{site.stage}.res_{site.block + 1}.conv_branch" for site in sites}
    adaptive = [site for site in sites if any(name.startswith(f"{branches[site]}.b_rf.") for name in state)]
    stages = tuple(sorted({site.stage for site in adaptive}))
    for blocks in ("all", "first", "last", "alternate"):
        placement = Placement().but(stages=stages, blocks=blocks)
        try:
            picked = chosen_sites(sites, placement)
        except UserError:  # the rule picks no block of these stages
            continue
        if picked == adaptive:
            return placement, [branches[site] for site in adaptive]
    raise UserError(
        f"TAdaConv is in {some(f'conv{site.stage}.res_{site.block + 1}' for site in adaptive)}, which is not a "
        "supported placement: all, the first, the last or every second block of some stages"
    )


def _reduction(hidden: dict[int, int]) -> int:
    """The reduction r for which C // r is the width of the hidden layer, for every C."""
    for reduction in range(1, max(hidden) + 1):
        if all(channels // reduction == width for channels, width in hidden.items()):
            return reduction
    widths = some(f"{width} hidden channels of {channels}" for channels, width in hidden.items())
    raise UserError(f"no single reduction results in {widths}, as b_rf.a.weight has in the checkpoint; {SUPPORTED}")


def _temporal(state: State, host: ResNet) -> TAda:
    """The operator in the network, read from the shapes of the routing functions (the contexts)."""
    placement, branches = _placement(state, host)
    first = [_shape(state, f"{branch}.b_rf.a.weight", 5) for branch in branches]
    last = _shape(state, f"{branches[0]}.b_rf.b.weight", 5)
    aggregated = any(".b_avgpool_bn." in name for name in state)
    return TAda().but(
        placement=placement,
        context__kernels=(first[0][2], last[2]),
        context__reduction=_reduction({shape[1]: shape[0] for shape in first}),
        aggregation__kind="average" if aggregated else "none",
    )


def _official(name: str) -> str:
    """The authors' name of a tensor of ours."""
    module, _, kind = name.rpartition(".")
    if module in _ENDS:
        return f"{_ENDS[module]}.{kind}"
    layer, block, part = module.split(".", 2)
    return f"backbone.conv{int(layer.removeprefix('layer')) + 1}.res_{int(block) + 1}.{_PARTS[part]}.{kind}"


def import_official(state_dict: Mapping[str, Any]) -> ResNet:
    """Our network with the weights of a TAda2D that the authors' code trained (arXiv:2110.06178).

    Clips (N, 3, T, H, W), normalised with mean 0.45 and standard deviation 0.225, to logits (N, num_classes); the
    authors' head, in evaluation, gives their softmax. The network is in evaluation mode on the CPU, in float64 if the
    weights are and else in float32, and shares no memory with ``state_dict``. In training it drops half of the features
    before the classifier, as the release's configurations do.

    Args:
        state_dict: tensors by the authors' names, with or without the ``module.`` of a parallel wrapper; or a whole
            training checkpoint, of which ``model_state`` is taken, never the running average ``model_ema_state``. Its
            configuration, ``cfg``, is checked for the settings that shapes do not show.

    Raises:
        UserError: another architecture, a missing or surplus name, a wrong shape, or settings that are not supported.
    """
    whole = isinstance(state_dict, Mapping) and isinstance(state_dict.get("model_state"), Mapping)
    state = checked(state_dict["model_state"] if whole else state_dict)
    _refuse_other_architectures(state)
    if whole and "cfg" in state_dict:
        _check_configuration(state_dict["cfg"])
    host = _host(state)
    network = plug_in(host, _temporal(state, host))
    network.to(torch.promote_types(state["backbone.conv1.a.weight"].dtype, torch.float32))
    ours = network.state_dict()
    official = {name: _official(name) for name in ours}
    values = {name: fit(state[theirs], ours[name].shape) for name, theirs in official.items() if theirs in state}
    refuse_mismatch(
        "the checkpoint is not a whole TAda2D of the authors' release",
        SUPPORTED,
        missing=[theirs for name, theirs in official.items() if name not in values],
        unexpected=sorted(state.keys() - set(official.values())),
        mismatched=[
            f"{official[name]} {tuple(state[official[name]].shape)} for {tuple(ours[name].shape)}"
            for name, value in values.items()
            if value is None
        ],
    )
    network.load_state_dict(values)
    return network.eval()


def load_official(path: str | Path) -> ResNet:
    """:func:`import_official` of a file that the authors' code wrote; no code in a pickle is run.

    Raises:
        UserError: the file is missing or broken, holds more than tensors and plain values, or is not a TAda2D.
    """
    checkpoint = read_content(Path(path))
    try:
        return import_official(checkpoint)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
