"""Rivals of TAdaConv by name, each in a separate file, behind one interface: :class:`Operator`."""

from tadaconv.models.rivals import condconv, dynamic_conv, none, squeeze_excitation, tam, temporal_conv, tsm
from tadaconv.models.rivals.operator import Operator

__all__ = ["RIVALS", "Operator"]

RIVALS: dict[str, Operator] = {
    "none": none.OPERATOR,
    "temporal_conv": temporal_conv.OPERATOR,
    "tsm": tsm.OPERATOR,
    "tam": tam.OPERATOR,
    "squeeze_excitation": squeeze_excitation.OPERATOR,
    "condconv": condconv.OPERATOR,
    "dynamic_conv": dynamic_conv.OPERATOR,
}
"""By the name that a row gives: ``Rival(name="tsm")``."""
