"""The options of a benchmark, and their checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tadaconv.bench.device import DTYPES
from tadaconv.environment import resolve_device
from tadaconv.errors import UserError, lookup
from tadaconv.models import RIVALS
from tadaconv.nn.taps import has_fused_kernels
from tadaconv.spec import calibration_factors
from tadaconv.training.computing import require_compiler

Mode = Literal["eager", "compiled"]

FEWEST_ROUNDS = 3


def method_names() -> tuple[str, ...]:
    """Names of the methods that are compared with the plain network."""
    return ("tada", "naive", "fused", *(name for name in RIVALS if name != "none"))


@dataclass(frozen=True)
class Options:
    """The options of both benchmarks.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: a name in ``DTYPES``.
        modes: ``eager``, ``compiled``, or both.
        methods: compared with the plain network: ``tada``, ``naive``, ``fused`` or names in ``RIVALS``; none named
            means all that the device can run.
        num_clips: clips a pass.
        num_frames: frames per clip.
        size: height and width of a network's frames in pixels.
        rounds: trials of each method.
    """

    device: str = "auto"
    dtype: str = "fp32"
    modes: tuple[str, ...] = ("eager",)
    methods: tuple[str, ...] = ()
    num_clips: int = 2
    num_frames: int = 8
    size: int = 224
    rounds: int = 15

    def check(self) -> None:
        """Raises :class:`UserError` for what cannot be run, before anything runs."""
        device = resolve_device(self.device)
        lookup("dtype", self.dtype, DTYPES)
        if self.rounds < FEWEST_ROUNDS:
            raise UserError(f"--rounds {self.rounds} is too few for quartiles; use at least {FEWEST_ROUNDS}")
        if self.size < 32:
            raise UserError(f"--size {self.size} leaves no pixel in the last stage; use 32 or more")
        if not self.modes:
            raise UserError("no mode is named; use --mode eager, compiled or eager,compiled")
        for kind, names, known in (("mode", self.modes, get_args(Mode)), ("method", self.methods, method_names())):
            for name in names:
                lookup(kind, name, dict.fromkeys(known))
        if "fused" in self.methods and not has_fused_kernels(device):
            raise UserError(f"method 'fused' needs Triton and an NVIDIA GPU since Ampere, not {device}")
        if "compiled" in self.modes:
            require_compiler(device, "use --mode eager")

    def includes(self, name: str) -> bool:
        """Whether a method is run."""
        return not self.methods or name in self.methods

    def includes_fused(self, calibration: str) -> bool:
        """Whether the fused kernels are run with a calibration: one of taps, on a device that supports them."""
        has_taps = any("k2" in factor for factor in calibration_factors(calibration))
        return self.includes("fused") and has_taps and has_fused_kernels(resolve_device(self.device))

    def ordered_modes(self) -> list[Mode]:
        """The modes in the order they are run."""
        return [mode for mode in get_args(Mode) if mode in self.modes]


def require_taps(options: Options, calibrations: Sequence[str]) -> None:
    """Raise :class:`UserError` if the fused kernels are named, and no calibration has factors of taps."""
    if "fused" in options.methods and not any(map(options.includes_fused, calibrations)):
        raise UserError("method 'fused' needs a calibration of taps; use --calibration k2 or cin_k2")
