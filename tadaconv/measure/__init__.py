"""What a network costs, in multiply-adds, parameters and memory; and how good detections are."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tadaconv.measure.calibration import LayerCalibration, by_stage, calibrations, inspected_clips, summarise
    from tadaconv.measure.cost import KINDS, Cost, count
    from tadaconv.measure.memory import peak_memory_bytes, reset_peak_memory

__all__ = [
    "KINDS",
    "Cost",
    "LayerCalibration",
    "by_stage",
    "calibrations",
    "count",
    "inspected_clips",
    "peak_memory_bytes",
    "reset_peak_memory",
    "summarise",
]

_HOMES = {
    "calibration": ("LayerCalibration", "by_stage", "calibrations", "inspected_clips", "summarise"),
    "cost": ("KINDS", "Cost", "count"),
    "memory": ("peak_memory_bytes", "reset_peak_memory"),
}


def __getattr__(name: str) -> Any:
    # Names that need torch are imported when first used: detections are scored without waiting for it.
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"tadaconv.measure.{home}"), name)
    raise AttributeError(f"module 'tadaconv.measure' has no attribute {name!r}")
