"""Localizers: networks that find segments in the features of untrimmed videos."""

from collections.abc import Sequence
from typing import Any

from tadaconv import spec
from tadaconv.models.localizers.bmn import BMN
from tadaconv.models.localizers.localizer import Localizer
from tadaconv.models.localizers.official_bmn import import_official_bmn, load_official_bmn
from tadaconv.models.localizers.point import Point

__all__ = ["BMN", "Localizer", "Point", "import_official_bmn", "load_official_bmn", "make_localizer"]


def make_localizer(
    localizer: "spec.Point | spec.BMN", num_features: int, num_classes: Sequence[int], num_steps: int
) -> Localizer[Any]:
    """The localizer of a description.

    Args:
        localizer: which one, and its sizes.
        num_features: channels of the features.
        num_classes: of each label.
        num_steps: steps of the longest window.
    """
    if isinstance(localizer, spec.Point):
        return Point(num_features, num_classes, width=localizer.width, levels=localizer.levels)
    return BMN(
        num_features,
        num_classes,
        num_steps,
        min(localizer.max_duration or num_steps, num_steps),
        num_samples=localizer.num_samples,
        widths=localizer.widths,
        groups=localizer.groups,
        conventions=localizer.conventions,
        fusion=localizer.fusion,
        powers=localizer.powers,
        boundary_scores=localizer.boundary_scores,
    )
