"""Localizers: networks that find segments in the features of untrimmed videos."""

from collections.abc import Sequence
from typing import Any

from tadaconv import spec
from tadaconv.models.localizers.localizer import Localizer
from tadaconv.models.localizers.point import Point

__all__ = ["Localizer", "Point", "make_localizer"]


def make_localizer(localizer: "spec.Point | spec.BMN", num_features: int, num_classes: Sequence[int]) -> Localizer[Any]:
    """The localizer of a description.

    Args:
        localizer: which one, and its sizes.
        num_features: channels of the features.
        num_classes: of each label.
    """
    assert isinstance(localizer, spec.Point)
    return Point(num_features, num_classes, width=localizer.width, levels=localizer.levels)
