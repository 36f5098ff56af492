"""Localizers: networks that find segments in the features of untrimmed videos."""

from tadaconv.models.localizers.bmn import BMN
from tadaconv.models.localizers.localizer import Localizer
from tadaconv.models.localizers.official_bmn import import_official_bmn, load_official_bmn

__all__ = ["BMN", "Localizer", "import_official_bmn", "load_official_bmn"]
