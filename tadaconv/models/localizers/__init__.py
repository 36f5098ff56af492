"""Localizers: networks that find segments in the features of untrimmed videos."""

from tadaconv.models.localizers.localizer import Localizer

__all__ = ["Localizer"]
