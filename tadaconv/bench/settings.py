"""What a benchmark is asked for, and the checks of it."""

from dataclasses import dataclass
from typing import Literal, get_args

from tadaconv.bench.device import DTYPES
from tadaconv.errors import UserError, lookup, unknown
from tadaconv.experiment import resolve_device
from tadaconv.models import RIVALS
from tadaconv.training.computing import require_compiler

Mode = Literal["eager", "compiled"]

FEWEST_ROUNDS = 3


def contestants() -> tuple[str, ...]:
    """Who can race against the plain network."""
    return ("tada", "naive", *(name for name in RIVALS if name != "none"))


@dataclass(frozen=True)
class Settings:
    """What both benchmarks ask for.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: a name in ``DTYPES``.
        modes: ``eager``, ``compiled``, or both.
        contestants: beside the plain network: ``tada``, ``naive`` or names in ``RIVALS``; none named is everyone.
        num_clips: clips a pass.
        num_frames: frames a clip.
        size: height and width of a network's frames in pixels.
        rounds: turns of each contestant.
    """

    device: str = "auto"
    dtype: str = "fp32"
    modes: tuple[str, ...] = ("eager",)
    contestants: tuple[str, ...] = ()
    num_clips: int = 2
    num_frames: int = 8
    size: int = 224
    rounds: int = 15

    def check(self) -> None:
        """Raises :class:`UserError` for what cannot be run, before anything is."""
        device = resolve_device(self.device)
        lookup("dtype", self.dtype, DTYPES)
        if self.rounds < FEWEST_ROUNDS:
            raise UserError(f"--rounds {self.rounds} shows no spread; take at least {FEWEST_ROUNDS}")
        if self.size < 32:
            raise UserError(f"--size {self.size} leaves the last stage no pixel; use 32 or more")
        if not self.modes:
            raise UserError("no mode is named; use --mode eager, compiled or eager,compiled")
        for mode in self.modes:
            if mode not in get_args(Mode):
                raise unknown("mode", mode, get_args(Mode))
        for name in self.contestants:
            if name not in contestants():
                raise unknown("contestant", name, contestants())
        if "compiled" in self.modes:
            require_compiler(device, "use --mode eager")

    def asked(self, name: str) -> bool:
        """Whether a contestant takes part."""
        return not self.contestants or name in self.contestants

    def ordered_modes(self) -> list[Mode]:
        """The modes in the order they are run."""
        return [mode for mode in get_args(Mode) if mode in self.modes]
