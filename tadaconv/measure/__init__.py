"""What a network costs, in multiply-adds, parameters and memory."""

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
