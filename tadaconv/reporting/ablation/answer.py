"""The answer to a table's question in one sentence, built from its verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tadaconv.reporting.ablation.data import Export
from tadaconv.reporting.ablation.summary import base_verdicts, compares_apart, summarise, verdicts
from tadaconv.reporting.ablation.text import is_one_experiment, verdict_in_words
from tadaconv.reporting.core.format import difference
from tadaconv.text import listed, plural

ORDER = ("supported", "better", "equivalent", "undecided", "contradicted", "worse")
"""The verdicts as they are shown: what is known, what is open, what was refuted."""

_MOST_NAMED = 4
"""How many of one verdict are named; others are counted."""


def judged(export: Export) -> pd.DataFrame:
    """The lines of :func:`~.summary.verdicts`, or in a table without claims those of its rows, as they are shown.

    By verdict in the ``ORDER``, the largest difference first.
    """
    df = verdicts(export) if export.manifest.claims else base_verdicts(export)
    order = pd.DataFrame({"verdict": df["verdict"].map(ORDER.index), "size": -df["effect"].abs().astype(float)})
    return df.loc[order.sort_values(["verdict", "size"], kind="stable", na_position="last").index]


def is_apart(export: Export) -> bool:
    """Whether the lines are rows, without claims, that are compared with different rows, which have to be named."""
    return not export.manifest.claims and compares_apart(summarise(export), export.manifest.base)


def answer(export: Export) -> str:
    """One sentence: what is known, largest first, what is open, and what was refuted; empty without a comparison."""
    lines = judged(export).to_dict("records")
    if not lines:
        return ""
    if len(lines) == 1 and lines[0]["n"]:
        return _of_one(export, lines[0])
    subject = _subject(export, len(lines))
    if all(line["verdict"] == "undecided" for line in lines):
        return _nothing_known(export, lines, subject)
    with_result = [line for line in lines if line["n"]]
    groups = {verdict: [line for line in with_result if line["verdict"] == verdict] for verdict in ORDER}
    parts = [_group(export, group) for group in groups.values() if group]
    if num_without := len(lines) - len(with_result):
        parts.append(f"{num_without} {'has' if num_without == 1 else 'have'} no result")
    return f"Of {subject}, {'; '.join(parts)}."


def _of_one(export: Export, line: Mapping[Any, Any]) -> str:
    metric = export.metric
    verdict = verdict_in_words(line["verdict"], export.manifest.design, metric)
    text = f"\u201c{line['text'].rstrip('.')}\u201d"
    if export.manifest.claims:
        subject = f"The claim {text}"
    else:
        subject = text if is_apart(export) else f"{text}, compared with \u201c{line['worse']}\u201d,"
    if is_one_experiment(line):
        return f"{subject} is {verdict}: the two rows are the same experiment."
    if line["low"] != line["low"]:
        seeds = "one seed gives no interval; run at least three" if line["n"] == 1 else "without an interval"
        return f"{subject} is {verdict}: {_effect(export, line)}, {seeds}."
    ends = " to ".join(difference(line[end], metric) for end in ("low", "high"))
    return f"{subject} is {verdict}: {_effect(export, line)}, 95 % interval {ends}."


def _subject(export: Export, number: int) -> str:
    if export.manifest.claims:
        return plural(number, "claim")
    if is_apart(export):
        return f"{plural(number, 'row')}, each compared with a row of its own"
    return f"{plural(number, 'row')} compared with \u201c{export.manifest.base}\u201d"


def _group(export: Export, lines: Sequence[Mapping[Any, Any]]) -> str:
    """How many came out one way, and which: ``2 are supported, largest first: "A" (+6.1 points) and "B" (...)``."""
    verdict = verdict_in_words(lines[0]["verdict"], export.manifest.design, export.metric)
    order = ", largest first" if len(lines) > 1 and lines[0]["verdict"] not in ("equivalent", "undecided") else ""
    return f"{len(lines)} {'is' if len(lines) == 1 else 'are'} {verdict}{order}: {_named(export, lines)}"


def _named(export: Export, lines: Sequence[Mapping[Any, Any]]) -> str:
    num_named = len(lines) if len(lines) <= _MOST_NAMED + 1 else _MOST_NAMED
    names = [f"\u201c{line['text'].rstrip('.')}\u201d ({_effect(export, line)})" for line in lines[:num_named]]
    return listed([*names, f"{len(lines) - num_named} more"] if num_named < len(lines) else names)


def _effect(export: Export, line: Mapping[Any, Any]) -> str:
    effect = export.metric.of_difference(difference(line["effect"], export.metric))
    to = f" to \u201c{line['worse']}\u201d" if is_apart(export) else ""
    return f"{effect}{to}{', across recipes' if line['across_recipes'] else ''}"


def _nothing_known(export: Export, lines: Sequence[Mapping[Any, Any]], subject: str) -> str:
    """That nothing is decided, why, and which differences are the largest so far."""
    most = max(line["n"] for line in lines)
    if most == 0:
        return f"Of {subject}, none is decided: no seed has a result of both rows of a comparison."
    measured = [line for line in lines if line["n"]]
    least, num_run = min(line["n"] for line in measured), len(export.manifest.seeds)
    why = f" after {most} seeds"
    if least < most or most < num_run:
        pairs = plural(most, "pair") if least == most else f"{least} to {most} pairs"
        why = f" after {pairs} of {plural(num_run, 'seed')}"
    if most == 1:
        why = ", as one seed gives no interval (run at least three)"
    largest = "largest difference so far is that" if len(measured) == 1 else "largest differences so far are those"
    return f"Of {subject}, none is decided{why}; the {largest} of {_named(export, measured)}."
