"""Where notebooks that were written before look for the parts of the page."""

from tadaconv.reporting.benchmark.page import headline, methods, provenance, results

__all__ = ["headline", "methods", "provenance", "results"]
