"""Backbones, and the plug-in that makes them temporally adaptive; axes are named as in :mod:`tadaconv.nn`."""

from collections.abc import Callable

from tadaconv.errors import lookup
from tadaconv.models import convnext, resnet, slowfast
from tadaconv.models.host import Host, Site, takes_clips
from tadaconv.models.official import import_official, load_official
from tadaconv.models.plugin import plug_in, promised_start
from tadaconv.models.pretrained import Loaded, load_pretrained, read_weights
from tadaconv.models.rivals import RIVALS
from tadaconv.models.third_party import as_host, create
from tadaconv.spec import Backbone, Temporal

__all__ = [
    "BACKBONES",
    "RIVALS",
    "Host",
    "Loaded",
    "Site",
    "build",
    "import_official",
    "load_official",
    "load_pretrained",
    "plug_in",
    "promised_start",
    "takes_clips",
]


BACKBONES: dict[str, Callable[[int, float], Host]] = {
    "tiny": resnet.tiny,
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "resnet50_max_pool": resnet.resnet50_max_pool,
    "slow_only_8x8": resnet.slow_only_8x8,
    "slowfast_4x16": slowfast.slowfast_4x16,
    "slowfast_8x8": slowfast.slowfast_8x8,
    "r2plus1d": resnet.r2plus1d,
    "r3d": resnet.r3d,
    "convnext_tiny": convnext.convnext_tiny,
    "convnext_small": convnext.convnext_small,
    "convnext_base": convnext.convnext_base,
    "convnext_tiny_clip": convnext.convnext_tiny_clip,
    "convnext_small_clip": convnext.convnext_small_clip,
    "convnext_base_clip": convnext.convnext_base_clip,
    "tiny_slow_only_8x8": resnet.tiny_slow_only_8x8,
    "tiny_slowfast_4x16": slowfast.tiny_slowfast_4x16,
    "tiny_slowfast_8x8": slowfast.tiny_slowfast_8x8,
    "tiny_r2plus1d": resnet.tiny_r2plus1d,
    "tiny_r3d": resnet.tiny_r3d,
    "tiny_convnext_clip": convnext.tiny_convnext_clip,
}
"""Backbones by name: (num_classes, dropout) to a network on clips."""


def build(backbone: Backbone, temporal: Temporal, num_classes: int, num_frames: int | None = None) -> Host:
    """The network of an experiment: the backbone, its pretrained weights if it names any, and the operator plugged in.

    Raises :class:`UserError` for an unknown backbone, and lists the right ones, and for weights that cannot be read or
    are of another architecture.

    Args:
        backbone: its name, its weights and its dropout.
        temporal: what is plugged in; None for nothing.
        num_classes: outputs of the classifier.
        num_frames: T, frames of a clip, for operators that learn over a fixed number of them; None if not known.
    """
    if backbone.name.startswith(("timm:", "torchvision:")):
        host = as_host(create(backbone.name, num_classes, backbone.dropout))
    else:
        host = lookup("backbone", backbone.name, BACKBONES)(num_classes, backbone.dropout)
    if backbone.weights:
        load_pretrained(host, read_weights(backbone))
    return plug_in(host, temporal, num_frames)
