"""Localizers: networks that find segments in the features of untrimmed videos."""

from tadaconv.models.localizers.localizer import Localizer
from tadaconv.models.localizers.point import Point

__all__ = ["Localizer", "Point"]
