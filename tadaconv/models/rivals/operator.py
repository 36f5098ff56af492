"""The interface of a rival of TAdaConv."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from tadaconv.errors import UserError, unknown


def hidden_width(num_channels: int, reduction: int) -> int:
    """``num_channels // reduction``; raises :class:`UserError` unless that and the reduction are at least 1."""
    if reduction < 1:
        raise UserError(f"option reduction must be at least 1, not {reduction}")
    if reduction > num_channels:
        raise UserError(f"option reduction={reduction} leaves none of {num_channels} channels; lower it")
    return num_channels // reduction


@dataclass(frozen=True)
class Operator:
    """A temporal operator that can take a convolution's place.

    Attributes:
        build: makes the module that replaces a convolution of the host, from that convolution, which it may change or
            use up, and the rival's options (keywords with defaults). A rival that depends on the number of frames of
            a clip has a keyword ``num_frames`` for it, which is None where it is not known. The module keeps the
            convolution's weights under their names and takes and returns clips, (N, C, T, H, W). Raises
            :class:`UserError` for a convolution or an option that it does not support.
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
        """The rival's options with their defaults."""
        parameters = list(inspect.signature(self.build).parameters.values())
        return {p.name: p.default for p in parameters[1:] if p.name != "num_frames"}

    def replace(self, conv: nn.Module, num_frames: int | None, options: Mapping[str, Any]) -> nn.Module:
        """The module that replaces ``conv``: a new one, or ``conv`` itself, changed.

        Raises :class:`UserError` for an option the rival does not have, a value of another type than its default's,
        and for all that ``build`` rejects.

        Args:
            conv: a convolution of the host.
            num_frames: T, the frames of a clip that the convolution takes; None where it is not known.
            options: the rival's options by name.
        """
        defaults = self.options()
        for name, value in options.items():
            if name not in defaults:
                raise unknown("option of this rival", name, defaults)
            kind = type(defaults[name])
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise UserError(f"option {name} must be {kind.__name__} (such as {defaults[name]!r}), not {value!r}")
        takes_frames = "num_frames" in inspect.signature(self.build).parameters
        return self.build(conv, **options, **({"num_frames": num_frames} if takes_frames else {}))
