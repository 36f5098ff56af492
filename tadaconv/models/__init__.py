"""Backbones, and the plug-in that makes them temporally adaptive."""

from collections.abc import Callable

from tadaconv.errors import lookup
from tadaconv.models.host import Host, Site
from tadaconv.models.plugin import plug_in, promised_start
from tadaconv.models.resnet import BasicBlock, Bottleneck, ResNet
from tadaconv.models.rivals import RIVALS
from tadaconv.spec import Backbone, Temporal

__all__ = ["BACKBONES", "RIVALS", "Host", "Site", "build", "plug_in", "promised_start"]


def _tiny(num_classes: int, dropout: float) -> ResNet:
    """One basic block a stage at an eighth to a quarter of ResNet-18's width, for frames of a few dozen pixels."""
    return ResNet(BasicBlock, (1, 1, 1, 1), num_classes, widths=(16, 32, 48, 64, 64), small_stem=True, dropout=dropout)


def _resnet18(num_classes: int, dropout: float) -> ResNet:
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, dropout=dropout)


def _resnet34(num_classes: int, dropout: float) -> ResNet:
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, dropout=dropout)


def _resnet50(num_classes: int, dropout: float) -> ResNet:
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, dropout=dropout)


def _resnet50_max_pool(num_classes: int, dropout: float) -> ResNet:
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, max_pool=True, dropout=dropout)


BACKBONES: dict[str, Callable[[int, float], Host]] = {
    "tiny": _tiny,
    "resnet18": _resnet18,
    "resnet34": _resnet34,
    "resnet50": _resnet50,
    "resnet50_max_pool": _resnet50_max_pool,
}
"""Backbones by name: (num_classes, dropout) to a network on clips."""


def build(backbone: Backbone, temporal: Temporal, num_classes: int, num_frames: int | None = None) -> Host:
    """The network of an experiment; raises :class:`UserError` for an unknown backbone, listing the right ones."""
    host = lookup("backbone", backbone.name, BACKBONES)(num_classes, backbone.dropout)
    return plug_in(host, temporal, num_frames)
