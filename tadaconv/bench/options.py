"""What a benchmark is asked for, and the checks of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tadaconv.bench.device import DTYPES
from tadaconv.environment import resolve_device
from tadaconv.errors import UserError, lookup, unknown
from tadaconv.models import RIVALS
from tadaconv.nn.taps import has_fused_kernels
from tadaconv.spec import calibration_factors
from tadaconv.training.computing import require_compiler

Mode = Literal["eager", "compiled"]

FEWEST_ROUNDS = 3


def method_names() -> tuple[str, ...]:
    """Names of what is compared with the plain network."""
    return ("tada", "naive", "fused", *(name for name in RIVALS if name != "none"))


@dataclass(frozen=True)
class Options:
    """What both benchmarks ask for.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: a name in ``DTYPES``.
        modes: ``eager``, ``compiled``, or both.
        methods: compared with the plain network: ``tada``, ``naive``, ``fused`` or names in ``RIVALS``; none named is
            everyone that the device can run.
        num_clips: clips a pass.
        num_frames: frames a clip.
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
        for name in self.methods:
            if name not in method_names():
                raise unknown("method", name, method_names())
        if "fused" in self.methods and not has_fused_kernels(device):
            raise UserError(
                f"method 'fused' is for NVIDIA GPUs since Ampere, by Triton, and there is no kernel for {device}"
            )
        if "compiled" in self.modes:
            require_compiler(device, "use --mode eager")

    def includes(self, name: str) -> bool:
        """Whether a method takes part."""
        return not self.methods or name in self.methods

    def includes_fused(self, calibration: str) -> bool:
        """Whether the fused kernels take part with a calibration of ours: of taps, on a device that has them."""
        has_taps = any("k2" in factor for factor in calibration_factors(calibration))
        return self.includes("fused") and has_taps and has_fused_kernels(resolve_device(self.device))

    def ordered_modes(self) -> list[Mode]:
        """The modes in the order they are run."""
        return [mode for mode in get_args(Mode) if mode in self.modes]


def require_taps(options: Options, calibrations: Sequence[str]) -> None:
    """Raise :class:`UserError` if the fused kernels are named, and no calibration has factors of taps."""
    if "fused" in options.methods and not any(map(options.includes_fused, calibrations)):
        raise UserError("method 'fused' is for calibrations of taps; use --calibration k2 or cin_k2")
