"""Sentences that reports of several kinds have in common."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from tadaconv.metrics import TOP1, Metric
from tadaconv.reporting.core.format import some
from tadaconv.text import listed, plural


def first_line(question: str) -> str:
    """The first paragraph of a docstring, in one line; empty without a docstring."""
    return " ".join(question.partition("\n\n")[0].split())


class Clips(NamedTuple):
    """The clips of one side, training or validation."""

    side: str
    listed: int
    missing: int

    @property
    def fraction(self) -> float:
        """The fraction of the listed clips that is missing, 0 to 1."""
        return self.missing / self.listed

    @property
    def in_words(self) -> str:
        """``234,643 of 246,535 training clips``."""
        return f"{self.listed - self.missing:,} of {self.listed:,} {self.side} clips"


def listed_clips(data: Mapping[str, Any]) -> list[Clips]:
    """By side, training first, how many clips annotations list and how many of them are missing; empty without any.

    ``data`` is that of a description as it is written.
    """
    sides = zip(
        ("training", "validation"), data.get("num_listed", (0, 0)), data.get("num_missing", (0, 0)), strict=True
    )
    return [Clips(*side) for side in sides if side[1]]


def missing_notes(clips: Sequence[Clips]) -> list[str]:
    """How many of the clips that annotations list are missing, by side; empty where none is."""
    if not any(side.missing for side in clips):
        return []
    parts = [f"{side.in_words} ({side.missing:,} missing or broken, {100 * side.fraction:.2f} %)" for side in clips]
    return [f"Clips of the annotations: {listed(parts)}. Missing clips are not replaced."]


_FAMILIES = {
    "frame": (
        "frame, from a single frame",
        "\u201cshows a 3\u201d is that digit",
    ),
    "set": (
        "set, from the frames in any order",
        "\u201cone of 4 to 7\u201d one of these throughout and \u201ctwo of 4 to 7\u201d two of them in random "
        "alternation",
    ),
    "order": (
        "order, only from their order",
        "\u201c8 becomes 9\u201d a digit that changes midway, \u201c8 grows\u201d and \u201c8 shrinks\u201d one that "
        "changes its size",
    ),
    "gap": (
        "gap, only from the order of frames that are not neighbours",
        "\u201c5, later 6\u201d a 5 and, after a pause, a 6",
    ),
    "turn": (
        "turn, only from the direction in which a shape turns",
        "\u201c7 turns clockwise\u201d a digit that turns by 60 to 100 degrees",
    ),
}
"""By family of the synthetic clips, how its classes can be recognised, and what their names mean."""


def points_of_curves(conditions: Iterable[Mapping[str, Any]], metric: Metric = TOP1) -> tuple[str, str]:
    """At the end of which epochs a curve has points; and, where these see less than results do, that they do.

    ``conditions`` have the data and the schedule of cells, each as an experiment is written.
    """
    trees = [(tree.get("data", {}), tree.get("schedule", {})) for tree in conditions]
    sparse = any(schedule.get("evaluate_every", 1) > 1 for _, schedule in trees)
    fewer = any(
        schedule.get("curve_views") == "one"
        and data.get("num_temporal_views", 1) * data.get("num_spatial_crops", 1) > 1
        for data, schedule in trees
    )
    when = "at the end of each epoch that was evaluated" if sparse else "at the end of every epoch"
    sizes = sorted({schedule["curve_clips"] for _, schedule in trees if schedule.get("curve_clips")})
    seen = ["the middle view of a clip"] if fewer else []
    seen += [f"{listed(sizes, 'or')} of the validation {metric.samples}"] if sizes else []
    if not seen:
        return when, ""
    return when, f" Curves are of {listed(seen)}; other {metric.nouns} are of all, so a curve ends elsewhere."


def as_markdown(text: str) -> str:
    """``text`` as Markdown that shows it as it is."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>()#+-.!|~$&" else c for c in text)


def by_seed(cells: pd.DataFrame, *columns: str) -> list[str]:
    """Each cell that has a line in ``cells`` (row, seed) once, in words; with ``columns`` each value of these, too."""
    lines = dict.fromkeys(cells[["row", "seed", *columns]].itertuples(index=False, name=None))
    return [", ".join([str(row), f"seed {seed}", *map(str, more)]) for row, seed, *more in lines]


def left_out_note(names: Sequence[str], noun: str, which: str) -> str:
    """How many of a ``noun`` are not drawn, with a space before it; empty where all are."""
    if not names:
        return ""
    return f" {plural(len(names), noun)} {which} {'is' if len(names) == 1 else 'are'} left out ({some(names)})."


def outside(metric: Metric) -> str:
    """Where a score cannot be: ``not between 0 and 100 %``."""
    if metric.low is None or metric.high is None:
        return f"that is not a number {metric.range_in_words}".rstrip()
    return f"not between {metric.low:g} and {metric.with_unit(f'{metric.high:g}')}"


def meaning_of_families(families: Collection[str], *, classes: bool = False) -> str:
    """What the families of the synthetic clips are, and their ``classes`` as well; empty for families of others."""
    names = set(families)
    if not names or not names <= set(_FAMILIES):
        return ""
    how, meanings = zip(*(_FAMILIES[family] for family in _FAMILIES if family in names), strict=True)
    text = f"How classes of each family can be recognised: {'; '.join(how)}."
    return f"{text} Clips are of moving digits: {', '.join(meanings)}." if classes else text
