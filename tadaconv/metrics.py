"""Metrics of cells, with their names in text, unit, direction and range.

A cell has one score, the value of one metric; everything that ranks, tests, prunes, draws or words scores asks the
metric for it. A further metric is one entry of ``METRICS``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from tadaconv.errors import UserError, lookup
from tadaconv.text import capitalised

ROUNDING_ERROR = 1e-9
"""Scores and differences that are no further apart differ by rounding alone."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A measure of how good a trained network is.

    Attributes:
        name: in storages, in ``report.json`` and as the column of CSV files; never changed.
        label: what headings, axes and captions call it.
        noun: the quantity in running text, such as *accuracy*.
        nouns: the same of several.
        unit: of a value; empty for a bare number.
        unit_of_differences: of the difference of two values; empty for a bare number.
        higher_is_better: its direction.
        low: the least value there is; None without one.
        high: the largest value there is; None without one.
        decimals: how many a value is shown with.
        difference: the size of a difference for which the seeds are counted that it takes to see it.
        difference_in_words: the same with its unit.
        adjective: of a network that has more of it, such as *accurate*; empty for *good*.
        of_classes: whether it counts correct predictions among classes. Only then are there top-5, accuracies by class
            and family, confusion, and Wilson's interval over the validation clips.
        of_segments: whether it rates segments detected in videos. Only then are there average precision by class and
            threshold, recall, and a bootstrap interval over the validation videos.
    """

    name: str
    label: str
    noun: str
    nouns: str
    unit: str
    unit_of_differences: str
    higher_is_better: bool
    low: float | None = None
    high: float | None = None
    decimals: int = 1
    difference: float = 1.0
    difference_in_words: str
    adjective: str = ""
    of_classes: bool = False
    of_segments: bool = False

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1: times it, the largest score is the best."""
        return 1 if self.higher_is_better else -1

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """As Optuna calls it."""
        return "maximize" if self.higher_is_better else "minimize"

    @property
    def samples(self) -> str:
        """What it is measured on, *clips* or *videos*."""
        return "videos" if self.of_segments else "clips"

    @property
    def hint(self) -> str:
        """A sentence where lower is better; empty where higher is, which readers expect."""
        return "" if self.higher_is_better else f"Lower {self.label} is better."

    @property
    def superlative(self) -> str:
        """The best value is the *highest* or the *lowest*."""
        return "highest" if self.higher_is_better else "lowest"

    @property
    def beyond(self) -> str:
        """On which side of another a better value is, *above* or *below*."""
        return "above" if self.higher_is_better else "below"

    @property
    def short_of(self) -> str:
        """On which side of another a worse value is, *below* or *above*."""
        return "below" if self.higher_is_better else "above"

    @property
    def equative(self) -> str:
        """*accurate* or *good*, for ``as accurate as``."""
        return self.adjective or "good"

    @property
    def most(self) -> str:
        """*most accurate*, or *best*."""
        return f"most {self.adjective}" if self.adjective else "best"

    def extremes(self, article: str = "") -> str:
        """*most and least accurate*, or *best and worst*, each behind ``article``."""
        if self.adjective:
            return f"{article}most and {article}least {self.adjective}"
        return f"{article}best and {article}worst"

    @property
    def heading(self) -> str:
        """``top-1 %``, for the heading of a column."""
        return f"{self.label} {self.unit}".rstrip()

    @property
    def heading_on_page(self) -> str:
        """``Top-1 (%)``."""
        return capitalised(self.label) + (f" ({self.unit})" if self.unit else "")

    @property
    def axis(self) -> str:
        """``validation top-1 (%)``, for an axis."""
        return f"validation {self.label}" + (f" ({self.unit})" if self.unit else "")

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest value; infinite where there is none."""
        low = float("-inf") if self.low is None else self.low
        return low, float("inf") if self.high is None else self.high

    @property
    def range_in_words(self) -> str:
        """``from 0 to 100``, ``from 0 on``, ``up to 0``; empty without ends."""
        if self.low is None:
            return "" if self.high is None else f"up to {self.high:g}"
        return f"from {self.low:g} on" if self.high is None else f"from {self.low:g} to {self.high:g}"

    def column(self, statistic: str) -> str:
        """The column of a statistic over seeds: ``top1_mean``."""
        return f"{self.name}_{statistic}"

    @property
    def curve_column(self) -> str:
        """The column of what a curve has after an epoch: ``val_top1``."""
        return f"val_{self.name}"

    def holds(self, value: float) -> bool:
        """Whether ``value`` can be a score: a finite number between the ends."""
        low, high = self.ends
        return isfinite(value) and low <= value <= high

    def with_unit(self, number: str) -> str:
        """A value that is text already, with its unit: ``61.2 %``."""
        return f"{number} {self.unit}".rstrip()

    def in_words(self, value: float, more_decimals: int = 0) -> str:
        """``61.2 %``; of a message that compares single cells, with a decimal more."""
        return self.with_unit(f"{value:.{self.decimals + more_decimals}f}")

    def of_difference(self, number: str) -> str:
        """A difference that is text already, with its unit: ``0.4 points``."""
        return f"{number} {self.unit_of_differences}".rstrip()


TOP1 = Metric(
    name="top1",
    label="top-1",
    noun="accuracy",
    nouns="accuracies",
    unit="%",
    unit_of_differences="points",
    higher_is_better=True,
    low=0.0,
    high=100.0,
    difference_in_words="1 point",
    adjective="accurate",
    of_classes=True,
)
"""How many of a hundred validation clips have their class predicted."""

MEAN_AVERAGE_PRECISION = Metric(
    name="map",
    label="mAP",
    noun="mean average precision",
    nouns="mean average precisions",
    unit="%",
    unit_of_differences="points",
    higher_is_better=True,
    low=0.0,
    high=100.0,
    difference_in_words="1 point",
    adjective="precise",
    of_segments=True,
)
"""Average precision of detected segments, mean over classes and thresholds of temporal IoU."""

METRICS: dict[str, Metric] = {metric.name: metric for metric in (TOP1, MEAN_AVERAGE_PRECISION)}
"""Metrics by name."""


def metric_named(name: str) -> Metric:
    """The metric called ``name``; raises :class:`UserError`, which lists the right names, for any other."""
    return lookup("metric", name, METRICS)


def common_metric(names: Iterable[str]) -> Metric:
    """The one metric of cells that are compared; top-1 while none has a result.

    Raises :class:`UserError` where there are several: their scores cannot be ranked together.
    """
    metrics = [metric_named(name) for name in dict.fromkeys(names)] or [TOP1]
    if len(metrics) > 1:
        labels = " and ".join(metric.label for metric in metrics)
        raise UserError(f"the cells are evaluated by {labels}; put the metrics into separate tables or studies")
    return metrics[0]
