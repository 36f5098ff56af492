"""Pretrained image weights, of timm, of torchvision or of a file, into backbones on clips.

Backbones have timm's parameter names, and torchvision's residual networks have the same; torchvision's ConvNeXts are
renamed. A 2-d kernel becomes a 3-d one by repeating it over time and dividing by the frames (I3D, arXiv:1705.07750), so
that a clip of one repeated frame has the scores of the image.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from torch import nn

from tadaconv.errors import UserError
from tadaconv.models.host import Site
from tadaconv.models.state_dicts import State, checked, first_line, fit, read_content, refuse_mismatch
from tadaconv.models.third_party import import_package
from tadaconv.spec import Backbone
from tadaconv.weights import fingerprint

_CONVNEXT_LAYERS = {"block.0": "conv_dw", "block.2": "norm", "block.3": "mlp.fc1", "block.5": "mlp.fc2"}
_CLASSIFIERS = ("fc.", "head.fc.", "classifier.2.")
_PLAIN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Loaded:
    """The result of :func:`load_pretrained`, by the network's names.

    Attributes:
        loaded: taken as they are.
        inflated: taken with frames added to the kernel.
        left: left at their initial values: a classifier of another size, convolutions over time, parameters of an
            operator, and all of SlowFast that has no counterpart in an image network.
    """

    loaded: tuple[str, ...]
    inflated: tuple[str, ...]
    left: tuple[str, ...]


def from_torchvision(name: str) -> str:
    """The name that timm has for a parameter of torchvision's ConvNeXts; other names as they are."""
    if match := re.fullmatch(r"features\.0\.([01])\.(\w+)", name):
        return f"stem.{match[1]}.{match[2]}"
    if match := re.fullmatch(r"features\.(\d)\.(\d+)\.(block\.[0235])\.(\w+)", name):
        return f"stages.{int(match[1]) // 2}.blocks.{match[2]}.{_CONVNEXT_LAYERS[match[3]]}.{match[4]}"
    if match := re.fullmatch(r"features\.(\d)\.(\d+)\.layer_scale", name):
        return f"stages.{int(match[1]) // 2}.blocks.{match[2]}.gamma"
    if match := re.fullmatch(r"features\.(\d)\.([01])\.(weight|bias)", name):
        return f"stages.{int(match[1]) // 2}.downsample.{match[2]}.{match[3]}"
    return re.sub(r"^classifier\.0\.", "head.norm.", re.sub(r"^classifier\.2\.", "head.fc.", name))


def load_pretrained(model: nn.Module, state_dict: State) -> Loaded:
    """Load the weights of an image network of timm or torchvision into a network on clips, by name.

    Shapes that are equal are taken as they are, a 2-d kernel into (1, k, k) too; into (t, k, k) and (t, 1, 1) it is
    repeated over time and divided by t. In SlowFast only the slow pathway takes weights, where shapes fit.

    Args:
        model: one of ours, or of timm or torchvision within a host; before or after the plug-in.
        state_dict: the weights, with timm's or torchvision's names, with or without the ``module.`` of a parallel
            wrapper before every one.

    Raises:
        UserError: unexpected or missing names, shapes that differ, or values that are no dense, real, finite tensors;
            the network is then unchanged.
    """
    return load_checked(model, checked(state_dict))


def load_checked(model: nn.Module, state_dict: State) -> Loaded:
    """:func:`load_pretrained` of a checked state dict, or, for a network on the meta device, of its shapes."""
    targets = model.state_dict()
    slow = {name.partition(".")[0] for name in targets} >= {"slow", "fast"}
    sources = _renamed(state_dict, targets, slow)
    fitted = {name: fit(state_dict[source], targets[name].shape) for name, source in sources.items() if name in targets}
    classifier = [name for name in fitted if _is_classifier(name)]
    if any(fitted[name] is None for name in classifier):
        fitted |= dict.fromkeys(classifier)  # a bias alone may fit, and would belong to other weights
    filled = {name: value for name in targets if (value := fitted.get(name)) is not None}
    left = [name for name in targets if name not in filled]
    refuse_mismatch(
        "these weights are of another architecture",
        "name weights of this backbone",
        missing=[name for name in _not_expected(model, left, set(filled), slow) if name not in fitted],
        unexpected=[source for name, source in sources.items() if name not in targets],
        mismatched=[
            f"{name} {tuple(state_dict[sources[name]].shape)} for {tuple(targets[name].shape)}"
            for name in left
            if name in fitted and not _is_classifier(name) and not (slow and name.startswith("slow."))
        ],
    )
    with torch.no_grad():
        for name, value in filled.items():
            targets[name].copy_(value)
    inflated = [name for name in filled if state_dict[sources[name]].numel() != targets[name].numel()]
    return Loaded(
        loaded=tuple(name for name in filled if name not in inflated), inflated=tuple(inflated), left=tuple(left)
    )


def _renamed(state_dict: State, targets: State, slow: bool) -> dict[str, str]:
    """The names of the weights, by the network's names for them."""
    ours = {name.removeprefix("model.") for name in targets}
    renamed = {}
    for name in state_dict:
        new = name if name in ours else from_torchvision(name)
        if slow and not new.startswith(_CLASSIFIERS):
            new = f"slow.{new}"
        renamed[f"model.{new}" if f"model.{new}" in targets else new] = name
    return renamed


def _is_classifier(name: str) -> bool:
    return name.removeprefix("model.").startswith(_CLASSIFIERS)


def _not_expected(model: nn.Module, left: list[str], filled: set[str], slow: bool) -> list[str]:
    """The names among ``left`` that an image network should have filled."""
    sites: Iterable[Site] = getattr(model, "sites", list)()
    layers = {layer for site in sites for layer in (site.conv, site.norm, site.entry)}
    added = {name for layer in layers for name in left if name.removeprefix(f"{layer}.") not in (name, *_PLAIN)}
    return [
        name
        for name in left
        if name not in added
        and not name.endswith("num_batches_tracked")
        and not _is_classifier(name)
        and not (slow and name.startswith("fast."))
        and not _looks_over_time(model, name.rpartition(".")[0], filled)
    ]


def _looks_over_time(model: nn.Module, name: str, filled: set[str]) -> bool:
    """Whether a module is a (t, 1, 1) convolution, or is next to one in a module without any filled name."""
    parent = name.rpartition(".")[0]
    siblings = [module for module in model.get_submodule(parent).children() if isinstance(module, nn.Conv3d)]
    over_time = any(conv.kernel_size[0] > 1 and conv.kernel_size[1:] == (1, 1) for conv in siblings)
    return over_time and not any(other.startswith(f"{parent}.") for other in filled)


_TORCHVISION_FILES = {
    "ResNet18_Weights.IMAGENET1K_V1": "resnet18-f37072fd.pth",
    "ResNet34_Weights.IMAGENET1K_V1": "resnet34-b627a593.pth",
    "ResNet50_Weights.IMAGENET1K_V1": "resnet50-0676ba61.pth",
    "ResNet50_Weights.IMAGENET1K_V2": "resnet50-11ad3fa6.pth",
    "ConvNeXt_Tiny_Weights.IMAGENET1K_V1": "convnext_tiny-983f1562.pth",
    "ConvNeXt_Small_Weights.IMAGENET1K_V1": "convnext_small-0c510722.pth",
    "ConvNeXt_Base_Weights.IMAGENET1K_V1": "convnext_base-6075fbad.pth",
}
"""The files of torchvision's weights for our backbones, which can be fetched elsewhere without the package."""


def _file_behind(package: str, name: str) -> str:
    """The file and the address of the weights that a package has by this name, as the end of a message."""
    if package == "torchvision" and name in _TORCHVISION_FILES:
        return f": {_TORCHVISION_FILES[name]} from https://download.pytorch.org/models"
    if package == "timm" and "." in name:  # names with a tag are those of its repositories
        return f": model.safetensors from https://huggingface.co/timm/{name}"
    return ""


def read_weights(backbone: Backbone) -> State:
    """The state dict that ``backbone.weights`` names, on the CPU.

    Raises :class:`UserError` for a missing package, name or file, a file that has changed since its fingerprint was
    taken, and one that holds anything but weights; see :func:`checked`.
    """
    package, _, name = backbone.weights.partition(":")
    if backbone.weights_file is None:
        try:
            library = import_package(package)
            if package == "timm":
                return checked(library.create_model(name, pretrained=True).state_dict())
            return checked(import_module("torchvision.models").get_weight(name).get_state_dict(progress=False))
        except Exception as error:  # each hub has errors of its own
            raise UserError(
                f"cannot get the weights {backbone.weights!r}: {first_line(error)}; alternatively, give the file, "
                f"backbone__weights=PATH in your own regime{_file_behind(package, name)}"
            ) from error
    present = fingerprint(backbone.weights_file)
    if backbone.weights_fingerprint not in ("", present):
        raise UserError(
            f"the weights {backbone.weights!r} have changed since this was planned (fingerprint {present}, not "
            f"{backbone.weights_fingerprint}); plan it again"
        )
    return read_file(backbone.weights_file)


def read_file(file: Path) -> State:
    """The state dict in a .safetensors file, or in one of ``torch.save`` that holds tensors only.

    It may be the entry ``state_dict`` or ``model`` of a checkpoint. Raises :class:`UserError` for a file that
    is missing or broken, and for one that holds anything but weights; see :func:`checked`.
    """
    content = read_content(file)
    for part in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(part), Mapping):
            content = content[part]
    try:
        return checked(content)
    except UserError as error:
        raise UserError(f"{str(file)!r}: {error}") from error
