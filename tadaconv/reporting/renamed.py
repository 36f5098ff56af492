"""Modules by the names that they had before, as written notebooks and templates of users' own import them."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any

RENAMED = {
    "tadaconv.reporting.blocks": "tadaconv.reporting.ablation.page",
    "tadaconv.reporting.export": "tadaconv.reporting.ablation.data",
    "tadaconv.reporting.figures": "tadaconv.reporting.ablation.figures",
    "tadaconv.reporting.provenance": "tadaconv.reporting.core.provenance",
    "tadaconv.reporting.summary": "tadaconv.reporting.ablation.summary",
    "tadaconv.reporting.benchmark.blocks": "tadaconv.reporting.benchmark.page",
    "tadaconv.reporting.benchmark.record": "tadaconv.reporting.benchmark.data",
    "tadaconv.reporting.calibration.blocks": "tadaconv.reporting.calibration.page",
    "tadaconv.reporting.calibration.frame": "tadaconv.reporting.calibration.data",
    "tadaconv.reporting.study.blocks": "tadaconv.reporting.study.page",
    "tadaconv.reporting.study.frame": "tadaconv.reporting.study.data",
}
"""Old name -> new name, of what templates import."""


def moved_figure(name: str) -> Any:
    """The figure of a table that was among those of calibrations; raises AttributeError for any other name."""
    if name != "calibration_over_training":
        raise AttributeError(f"module 'tadaconv.reporting.calibration.figures' has no attribute {name!r}")
    return import_module("tadaconv.reporting.ablation.figures").calibration_over_training


class RenamedFinder:
    """Finds a module by its old name."""

    def find_spec(self, name: str, _path: Sequence[str] | None = None, _target: object = None) -> ModuleSpec | None:
        """The module, loaded by its new name; None for any other."""
        return spec_from_loader(name, self) if name in RENAMED else None  # type: ignore[arg-type]

    def create_module(self, _spec: ModuleSpec) -> None:
        """A new module, which the one of the new name replaces."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of the new name in its place."""
        sys.modules[module.__name__] = import_module(RENAMED[module.__name__])
