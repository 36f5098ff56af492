"""The interface that a rival of TAdaConv fills in."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from tadaconv.errors import UserError, unknown


def hidden_width(num_channels: int, reduction: int) -> int:
    """``num_channels // reduction``; raises :class:`UserError` unless that and the reduction are at least 1."""
    if reduction < 1:
        raise UserError(f"option reduction is at least 1, not {reduction}")
    if reduction > num_channels:
        raise UserError(f"option reduction={reduction} leaves none of {num_channels} channels; lower it")
    return num_channels // reduction


@dataclass(frozen=True)
class Operator:
    """A temporal operator that can take a convolution's place.

    Attributes:
        build: makes the module that replaces a convolution of the host, from that convolution, which it may change or
            use up, the number of frames it sees (keyword ``num_frames``; None where nobody said) and the rival's own
            options (keywords with defaults). It keeps the convolution's weights under their names, takes and returns
            clips, (N, C, T, H, W), and raises :class:`UserError` for a convolution or an option it cannot do with.
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
        """What stands in for ``conv``, which is used up: it may be what is returned, changed.

        Raises :class:`UserError` for an option the rival does not have, a value of another type than its default's,
        and whatever ``build`` refuses.

        Args:
            conv: a convolution of the host.
            num_frames: T, that the convolution sees; None where nobody says.
            options: the rival's own options by name.
        """
        defaults = self.options()
        for name, value in options.items():
            if name not in defaults:
                raise unknown("option of this rival", name, defaults)
            kind = type(defaults[name])
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise UserError(f"option {name} is of type {kind.__name__} (such as {defaults[name]!r}), not {value!r}")
        return self.build(conv, num_frames=num_frames, **options)
