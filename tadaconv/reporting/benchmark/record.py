"""Where notebooks that were written before look for what reads their folder."""

from tadaconv.reporting.benchmark.data import read_benchmark

__all__ = ["read_benchmark"]
