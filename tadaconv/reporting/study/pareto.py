"""The Pareto front, which tables have as well; see :mod:`tadaconv.reporting.pareto`."""

from tadaconv.reporting.pareto import on_front

__all__ = ["on_front"]
