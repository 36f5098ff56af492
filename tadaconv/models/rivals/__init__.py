"""Rivals of TAdaConv by name, each in a file of its own, behind one interface: :class:`Operator`."""

from tadaconv.models.rivals import none
from tadaconv.models.rivals.operator import Operator

__all__ = ["RIVALS", "Operator"]

RIVALS: dict[str, Operator] = {
    "none": none.OPERATOR,
}
"""What a row can name: ``Rival(name="tsm")``."""
