"""Live timm and torchvision models as hosts: image models get their frames folded, video models are taken as they are.

Models are recognised by the names and kinds of their modules, so that neither package is imported for an existing
model. A model of another structure becomes a host by its own method ``sites()``; see
:class:`tadaconv.models.Host`.
"""

import difflib
import math
import operator
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tadaconv.command import install
from tadaconv.errors import UserError
from tadaconv.models.host import Host, Site
from tadaconv.models.state_dicts import first_line
from tadaconv.nn import FrameBatchNorm2d, FrameConv2d
from tadaconv.nn.frames import FrameLayerNorm2d, fold, unfold

PACKAGES = ("timm", "torchvision")
"""The packages whose models and weights can be named, as ``timm:<name>`` and ``torchvision:<name>``."""


def import_package(name: str) -> Any:
    """The package ``name``; raises :class:`UserError` with the extra to install where it cannot be imported."""
    mend = install(name, f"torch=={torch.__version__}")
    try:
        return import_module(name)
    except (ImportError, RuntimeError, OSError) as error:  # not installed, or built for another torch
        raise UserError(f"{name} cannot be imported ({first_line(error)}): {mend}") from error


def create(name: str, num_classes: int, dropout: float) -> nn.Module:
    """The model behind ``timm:<name>`` or ``torchvision:<name>``, its weights random.

    Raises :class:`UserError` where the package or the model is missing, or where the model has no such dropout.

    Args:
        name: ``timm:<name>`` or ``torchvision:<name>``.
        num_classes: outputs of the classifier.
        dropout: before the classifier.
    """
    package, _, model = name.partition(":")
    library = import_package(package)
    models = library if package == "timm" else import_module("torchvision.models")
    known = models.list_models()
    if model.partition(".")[0] not in known:
        nearest = ", ".join(difflib.get_close_matches(model, known, 5, 0.0))
        raise UserError(f"unknown backbone {name!r}; the nearest of {package}: {nearest}")
    if package == "timm":
        return cast(nn.Module, models.create_model(model, num_classes=num_classes, drop_rate=dropout))
    if dropout:
        raise UserError(f"the models of torchvision take no dropout; give {name!r} dropout 0, not {dropout}")
    return cast(nn.Module, models.get_model(model, num_classes=num_classes))


class _Frames(Tensor):
    """The batch of frames within an image model; the class has the number of frames of a clip.

    Every operation on such frames returns such frames, so that a module derives its clips from its input: calls in
    several threads do not interfere, and a block that activation checkpointing runs again sees the clips it saw before.
    """

    num_frames: int

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Iterable[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        # Frames of clips of several lengths may be concatenated outside of the model, by hooks of the caller.
        others = [kind for kind in types if not issubclass(kind, _Frames)]
        return super().__torch_function__(func, (cls, *others), args, kwargs or {})  # type: ignore[no-untyped-call]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As a plain tensor: a file must not need these classes."""
        return self.as_subclass(Tensor).__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A plain tensor: PyTorch's way of copying subclasses needs more of the class."""
        copied: Tensor = self.as_subclass(Tensor).__deepcopy__(memo)
        return copied


@cache
def _frames_of(num_frames: int) -> type[_Frames]:
    """The class of frames of which ``num_frames`` make a clip."""
    return cast(type[_Frames], type(f"FramesOfClipsOf{num_frames}", (_Frames,), {"num_frames": num_frames}))


class _Call(threading.local):
    """The number of frames where tensors have no class for it: while a graph is traced, which no other call shares, and
    after an operation that returns plain tensors.
    """

    num_frames: int | None = None


_call = _Call()


def _with_length(x_BCHW: Tensor, num_frames: int) -> Tensor:
    """``x_BCHW`` as frames that know the length of their clip; unchanged for tracers, which need plain tensors."""
    if torch.compiler.is_compiling() or type(x_BCHW) is not Tensor:
        return x_BCHW
    return x_BCHW.as_subclass(_frames_of(num_frames))


def _plain(x: Tensor) -> Tensor:
    """``x`` as a plain tensor, without the length of its clips."""
    if not isinstance(x, _Frames):
        return x
    with torch._C.DisableTorchFunctionSubclass():  # as_subclass(Tensor) cannot be compiled
        return x.view(x.shape)


def _num_clips(size: int, num_frames: int | None) -> int:
    """The clips of ``num_frames`` in a batch of frames; raises :class:`UserError` where there is no such number."""
    if num_frames is None or size % num_frames:
        length = "unknown length" if num_frames is None else f"{num_frames} frames"
        raise UserError(
            f"{size} frames are not divisible into clips of {length}; give the host clips (N, 3, T, H, W), or "
            "num_frames to plug_in and a multiple of as many frames"
        )
    return size // num_frames


@dataclass(frozen=True)
class _ToClips:
    """Before a site's module: the batch of frames as clips. ``channels_last`` frames are (B, H, W, C)."""

    channels_last: bool

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        del module
        x_BCHW, num_frames, size = _plain(inputs[0]), _call.num_frames, inputs[0].shape[0]
        if isinstance(inputs[0], _Frames):
            # A compiled part of the model sees only the batch: it is compiled for each size, as dividing a symbol
            # into clips costs the tracer half a minute.
            num_frames, size = type(inputs[0]).num_frames, operator.index(size)
        return unfold(x_BCHW.permute(0, 3, 1, 2) if self.channels_last else x_BCHW, _num_clips(size, num_frames))


@dataclass(frozen=True)
class _ToFrames:
    """After a site's module: its clips as the batch of frames that the rest of the model takes."""

    channels_last: bool

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        del module, inputs
        y_BCHW = fold(output)
        return _with_length(y_BCHW.permute(0, 2, 3, 1) if self.channels_last else y_BCHW, output.shape[2])


_HOST_HOOKS = (_ToClips, _ToFrames)


def has_hooks(module: nn.Module) -> bool:
    """Whether ``module`` has forward or backward hooks other than those of a :class:`FrameHost`."""
    kinds = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    return any(not isinstance(hook, _HOST_HOOKS) for hooks in kinds for hook in hooks.values())


def computes_as(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether ``module`` is a ``kind`` that computes in the same way: no overridden method, no parametrised weight."""
    same = all(
        getattr(type(module), method, None) is getattr(kind, method, None)
        for method in ("forward", "_conv_forward", "__call__")
    )
    own = "forward" in vars(module) or parametrize.is_parametrized(module)
    return isinstance(module, kind) and same and not own


class ThirdPartyHost(Host):
    """A model of another package, under the name ``model``, with its sites."""

    def __init__(self, model: nn.Module, sites: list[Site]) -> None:
        super().__init__()
        self.model, self._sites = model, sites

    def sites(self) -> Iterator[Site]:
        """Every place for an operator, from the first to the last."""
        yield from self._sites

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """The model's own scores, (N, num_classes); raises :class:`UserError` where it gives none."""
        return _scores(self.model, self.model(x_NCTHW))


class FrameHost(ThirdPartyHost):
    """An image model on clips: it sees the frames as one batch, and its scores are averaged over a clip (TSN).

    The modules at its sites see clips, (N, C, T, H, W), through hooks, so that they keep their names.

    Args:
        model: takes (B, 3, H, W); changed in place.
        sites: by names within the host, which begin with ``model.``.
        num_frames: frames of a clip, for batches of frames that are folded already; None for clips only.
    """

    def __init__(self, model: nn.Module, sites: list[Site], num_frames: int | None = None) -> None:
        super().__init__(model, sites)
        self.num_frames = num_frames
        self.channels_last: dict[str, bool] = {}
        for site in sites:
            for name in (site.conv, site.norm, site.entry):
                if name not in self.channels_last:
                    module = self.get_submodule(name)
                    self.channels_last[name] = _takes_channels_last(module)
                    self.put(name, _on_clips(module, name))

    def put(self, name: str, module: nn.Module) -> None:
        """Put ``module``, which takes clips, at a site; its other hooks see clips as well.

        An operator may have been made from the former module with its hooks; those of the host are replaced.
        """
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if isinstance(hook, _HOST_HOOKS)]:
                del hooks[key]
        self.set_submodule(name, module)
        last = self.channels_last[name]
        module.register_forward_pre_hook(_ToClips(last), prepend=True)
        module.register_forward_hook(_ToFrames(last))

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """Class scores of each clip, (N, num_classes), from (N, 3, T, H, W) or, folded, (N * num_frames, 3, H, W).

        Raises :class:`UserError` where folded frames are not divisible into clips, or the model gives no scores.
        """
        if x_NCTHW.dim() == 4:
            x_NCTHW = unfold(x_NCTHW, _num_clips(x_NCTHW.shape[0], self.num_frames))
        frames_BCHW = fold(x_NCTHW.contiguous(memory_format=torch.channels_last_3d))
        outer, _call.num_frames = _call.num_frames, x_NCTHW.shape[2]
        try:
            output = self.model(_with_length(frames_BCHW, x_NCTHW.shape[2]))
        finally:
            _call.num_frames = outer
        of_frames: Tensor = _scores(self.model, output).unflatten(0, (x_NCTHW.shape[0], -1))
        return of_frames.mean(1)


def _takes_channels_last(module: nn.Module) -> bool:
    """Whether it is a layer norm on (B, H, W, C); both packages call that on (B, C, H, W) LayerNorm2d."""
    names = {kind.__name__ for kind in type(module).__mro__}
    return "LayerNorm" in names and "LayerNorm2d" not in names


def _on_clips(module: nn.Module, name: str) -> nn.Module:
    """The module of a site as the class of the same layer on clips: only ``forward`` differs, the state stays.

    Raises :class:`UserError` for a module that computes anything else.
    """
    if computes_as(module, nn.Conv2d):
        module.__class__ = FrameConv2d
    elif computes_as(module, nn.BatchNorm2d):
        module.__class__ = FrameBatchNorm2d
    elif isinstance(module, nn.LayerNorm) and type(module).__name__ in ("LayerNorm", "LayerNorm2d"):
        module.__class__ = FrameLayerNorm2d
    else:
        raise UserError(
            f"{name.removeprefix('model.')} is a {type(module).__name__}, which no operator can replace or "
            "extend; take a model with plain convolutions, batch norms or layer norms there"
        )
    return module


@dataclass(frozen=True)
class _Family:
    """Image models of one structure, by the names of their modules.

    Attributes:
        block: the name of a block; its groups are the block's stage and its number in the stage.
        stages: the stage in names, of res2 to res5.
        parts: names that every block has, of modules or parameters, and no other module.
        conv: the convolution that an operator replaces, within a block.
        norm: the normalisation after it.
        entry: the first convolution.
    """

    block: re.Pattern[str]
    stages: str
    parts: frozenset[str]
    conv: str
    norm: str
    entry: str

    def is_block(self, module: nn.Module) -> bool:
        """Whether ``module`` is a block, by whatever name."""
        return self.parts <= module._modules.keys() | module._parameters.keys()  # a wrapper passes attributes on

    def sites(self, model: nn.Module) -> Iterator[Site]:
        """The sites in blocks that have their names."""
        for name, module in model.named_modules():
            if (match := self.block.fullmatch(name)) and self.is_block(module):
                stage, block = 2 + self.stages.index(match[1]), int(match[2])
                yield Site(stage, block, f"{name}.{self.conv}", f"{name}.{self.norm}", f"{name}.{self.entry}")


_IN_STAGES = re.compile(r"(layer[1-4]|stages\.[0-3]|features)\.")
_RESIDUAL_BLOCK = re.compile(r"layer([1-4])\.(\d+)")
_FAMILIES = (
    _Family(_RESIDUAL_BLOCK, "1234", frozenset({"conv2", "bn2"}), "conv2", "bn2", "conv1"),
    # ConvNeXts of timm, then of torchvision, whose features alternate between stages and downsampling.
    _Family(
        re.compile(r"stages\.([0-3])\.blocks\.(\d+)"),
        "0123",
        frozenset({"conv_dw", "norm"}),
        "conv_dw",
        "norm",
        "conv_dw",
    ),
    _Family(
        re.compile(r"features\.([1357])\.(\d+)"),
        "1357",
        frozenset({"block", "layer_scale"}),
        "block.0",
        "block.2",
        "block.0",
    ),
)


def _is_video_block(module: nn.Module) -> bool:
    over_time = any(isinstance(layer, nn.Conv3d) for layer in module.modules())
    return over_time and {"conv1", "conv2"} <= module._modules.keys() and "bn2" not in module._modules


def _video_sites(model: nn.Module) -> Iterator[Site]:
    """Video ResNets of torchvision: the ``conv2`` of a block is a sequence of 3-d convolutions and batch norms.

    Raises :class:`UserError` for a block without a convolution and its batch norm there, as where they are wrapped.
    """
    stem = model.get_submodule("stem") if "stem" in model._modules else nn.Identity()
    stride = math.prod(conv.stride[0] for conv in stem.modules() if isinstance(conv, nn.Conv3d))
    for name, block in model.named_modules():
        match = _RESIDUAL_BLOCK.fullmatch(name)
        if match is None or not _is_video_block(block):
            continue
        for part in sorted({"conv1", "conv2", "conv3"} & block._modules.keys()):
            modules = block.get_submodule(part).named_modules(prefix=f"{name}.{part}")
            layers = [(at, layer) for at, layer in modules if layer._parameters]
            convs, norms = layers[::2], layers[1::2]
            if not (
                len(convs) == len(norms) > 0
                and all(isinstance(conv, nn.Conv3d) for _, conv in convs)
                and all(isinstance(norm, nn.BatchNorm3d) for _, norm in norms)
            ):
                raise UserError(
                    f"{name}.{part} is not a sequence of plain 3-d convolutions, each with its batch norm, so that no "
                    "operator can replace it; plug in first, and wrap the network that comes back"
                )
            if part == "conv1":
                entry = convs[0][0]
            for (at, conv), (norm, _) in zip(convs, norms, strict=True):
                assert isinstance(conv, nn.Conv3d)
                if part == "conv2":
                    over_time = conv.kernel_size[0] > 1 and conv.kernel_size[1:] == (1, 1)
                    kind: Literal["spatial", "temporal"] = "temporal" if over_time else "spatial"
                    yield Site(1 + int(match[1]), int(match[2]), at, norm, entry, kind, stride)
                stride *= conv.stride[0]


def as_host(model: nn.Module, num_frames: int | None = None) -> Host:
    """``model`` as a host, changed in place; one that is a host already, or has its own ``sites()``, is not changed.

    Raises :class:`UserError` where no place for an operator is known in it.
    """
    if isinstance(model, Host) or callable(getattr(model, "sites", None)):
        return cast(Host, model)
    of_images = [site for family in _FAMILIES for site in family.sites(model)]
    sites = of_images or list(_video_sites(model))
    for name, module in model.named_modules() if sites else ():
        is_block = any(family.is_block(module) for family in _FAMILIES) or _is_video_block(module)
        if is_block and _IN_STAGES.match(name) and not any(site.conv.startswith(f"{name}.") for site in sites):
            raise UserError(
                f"{name} is a block in which an operator's place is not known, since it is wrapped; plug in first, and "
                "wrap the network that comes back"
            )
    if sites:
        within = [_within_model(site) for site in sites]
        return FrameHost(model, within, num_frames) if of_images else ThirdPartyHost(model, within)
    raise UserError(
        f"no place for an operator is known in a {type(model).__name__}; supported are the ResNets and ConvNeXts of "
        "timm and torchvision, torchvision's video ResNets, and any model with sites(), as tadaconv.models.Host has"
    )


def _scores(model: nn.Module, output: object) -> Tensor:
    """``output`` of ``model`` where it is scores, (B, num_classes); raises :class:`UserError` for anything else."""
    if isinstance(output, Tensor) and output.dim() == 2:
        return _plain(output)
    form = f"a tensor {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
    raise UserError(
        f"{type(model).__name__} gives {form} instead of scores (B, num_classes); plug into the whole model, without "
        "features_only or a feature extractor"
    )


def _within_model(site: Site) -> Site:
    return replace(site, **{part: f"model.{getattr(site, part)}" for part in ("conv", "norm", "entry")})  # type: ignore[arg-type]
