"""The interface that a rival of TAdaConv fills in."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from tadaconv.errors import UserError, unknown


@dataclass(frozen=True)
class Operator:
    """A temporal operator that can take a convolution's place.

    Attributes:
        build: makes the module that replaces a convolution of the host, from that convolution, the number of frames
            it sees (keyword ``num_frames``; None where nobody said) and the rival's own options (keywords with
            defaults). It keeps the convolution's weights under their names, and takes and returns clips,
            (N, C, T, H, W).
        source: the paper, for readers.
        place: ``conv`` for a block's spatial convolution, ``entry`` for its first convolution.
        identity: whether a network with it starts as the network without it: ``exact``, to ``rounding``, or not at
            all (``no``), as its paper has it.
    """

    build: Callable[..., nn.Module]
    source: str
    place: Literal["conv", "entry"] = "conv"
    identity: Literal["exact", "rounding", "no"] = "no"

    def options(self) -> dict[str, Any]:
        """The rival's own options with their defaults."""
        parameters = list(inspect.signature(self.build).parameters.values())
        return {p.name: p.default for p in parameters[1:] if p.name != "num_frames"}

    def replace(self, conv: nn.Module, num_frames: int | None, options: Mapping[str, Any]) -> nn.Module:
        """What stands in for ``conv``; raises :class:`UserError` for an option the rival does not have."""
        for name in options:
            if name not in self.options():
                raise unknown("option of this rival", name, self.options())
        try:
            return self.build(conv, num_frames=num_frames, **options)
        except (TypeError, ValueError) as error:
            raise UserError(f"options {dict(options)} do not fit: {error}") from error
