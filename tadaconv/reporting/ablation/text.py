"""The sentences of a report: verdicts, what the numbers cover, and what they cannot tell."""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from math import inf
from typing import Any

import pandas as pd

from tadaconv import statistics as st
from tadaconv.measure.detection import NUM_DRAWS
from tadaconv.metrics import TOP1, Metric
from tadaconv.reporting.ablation.data import Export, Learned, Manifest
from tadaconv.reporting.ablation.detections import (
    classes_by_order,
    detections_of,
    order_blind,
    precision_on,
    tiou_shown,
)
from tadaconv.reporting.ablation.learned import seeds_to_decide
from tadaconv.reporting.ablation.paper import MOST_MISSING, clips_of, unlike_paper, views
from tadaconv.reporting.ablation.summary import (
    agreement,
    comparisons,
    differing,
    is_marked,
    paper_order,
    planned_cells,
    planned_seeds,
    summarise,
    untested,
    validation_clips,
    verdicts,
)
from tadaconv.reporting.core.export import Listing, ends_of
from tadaconv.reporting.core.format import (
    MINUS,
    at_once,
    coefficient,
    difference,
    distance,
    p_value,
    percent,
    published,
    score,
    some,
)
from tadaconv.reporting.core.text import first_line, missing_notes
from tadaconv.run_options import BFLOAT16, precision_of
from tadaconv.sequential import SeedDesign
from tadaconv.table import PaperResult
from tadaconv.text import listed, plural, three_digits

VERDICTS = ("supported", "equivalent", "contradicted", "undecided")


def title(manifest: Manifest) -> str:
    """The question of the table in one line."""
    return first_line(manifest.question) or manifest.table


def listing(export: Export) -> Listing:
    """What the page of all reports says of this one."""
    manifest, counts = export.manifest, Counter(verdicts(export)["verdict"])
    return Listing(
        kind="table",
        name=manifest.table,
        regime=manifest.regime,
        title=title(manifest),
        ran=what_was_run(export),
        claims={verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]},
        **ends_of(manifest.cells),
    )


def what_was_run(export: Export) -> str:
    """How many cells there are, and how many of them are in which state."""
    manifest, status = export.manifest, export.cells.drop_duplicates("cell")["status"]
    counts = {name: int((status == name).sum()) for name in ("finished", "failed", "running", "waiting")}
    num_ensembles = sum(bool(row.ensemble) for row in manifest.rows)
    seeds_of = planned_seeds(manifest)
    num_seeds = [len(seeds_of[row.name]) for row in manifest.rows if not row.ensemble]
    planned = sum(map(len, planned_cells(manifest).values()))
    counts["not run"] = planned - sum(counts.values())
    parts = [f"{counts.pop('finished')} of {plural(planned, 'cell')} finished"]
    parts += [f"{number} {state}" for state, number in counts.items() if number > 0]
    of_these = f" ({plural(num_ensembles, 'ensemble')})" if num_ensembles else ""
    least, most = min(num_seeds), max(num_seeds)
    seeds = plural(most, "seed") if least == most else f"{least} to {most} seeds"
    return f"{plural(len(manifest.rows), 'row')}{of_these}, {seeds}: {', '.join(parts)}."


# Claims


def claims_summary(verdicts: Sequence[str]) -> str:
    """How many claims have which verdict."""
    counts = Counter(verdicts)
    return f"{plural(len(verdicts), 'claim')}: {', '.join(f'{counts[v]} {v}' for v in VERDICTS if counts[v])}."


def rates_sentence(lines: Sequence[Mapping[Any, Any]], design: SeedDesign | None) -> str:
    """At which rates the verdicts on claims are false, each alone and all together.

    Args:
        lines: Of :func:`~.summary.verdicts`.
        design: How many seeds the table is run with; without one, nothing is known of all claims together.
    """
    if design is None:
        return "A claim is decided by the 95 % interval of its own difference, not adjusted for other claims."
    looks = ", all looks at further seeds together" if design.is_adaptive else ""
    alone = f"The verdict on a claim is false with a probability of at most 5 %{looks}."
    significant = [line for line in lines if line["verdict"] in ("supported", "contradicted")]
    if len(lines) < 2 or not significant:
        return alone
    num_wide = sum(bool(line["table_wide"]) for line in significant)
    return (
        f"{alone} {num_wide} of the {plural(len(significant), 'claim')} supported or contradicted "
        f"{'holds' if num_wide == 1 else 'hold'} at 5 % for all {len(lines)} claims together as well (Holm)."
    )


def verdict_in_words(verdict: str, design: SeedDesign | None, metric: Metric) -> str:
    """A verdict as readers see it: ``equivalent within 1 point``."""
    if verdict != "equivalent" or design is None:
        return verdict
    return f"equivalent within {smallest_in_words(design, metric)}"


def smallest_in_words(design: SeedDesign | None, metric: Metric) -> str:
    """The smallest difference of interest with its unit: of the design, or without one of the metric."""
    if design is None or design.smallest == metric.difference:
        return metric.difference_in_words
    return metric.of_difference(f"{design.smallest:g}")


def claim_sentence(line: Mapping[Any, Any], metric: Metric = TOP1, design: SeedDesign | None = None) -> str:
    """The result of a claim, and where it is undecided, the power of its test.

    Args:
        line: Of :func:`~.summary.verdicts`.
        metric: The metric that the cells are evaluated by.
        design: How many seeds the table is run with.
    """
    better, worse, n, sd = _quoted(line["better"]), _quoted(line["worse"]), int(line["n"]), float(line["sd"])
    if n == 0:
        return f"No seed has a result of both {better} and {worse}."
    if is_one_experiment(line):
        return f"{better} and {worse} are the same experiment: their difference is zero by construction, at any seed."
    is_open, is_adaptive = line["verdict"] == "undecided", design is not None and design.is_adaptive
    if n == 1:
        known = "one seed, so no interval; run at least three"
    elif sd == 0:
        known = f"the same in all {n} seeds, so no interval"
    elif line["low"] != line["low"]:
        known = f"{n} paired seeds, so no interval yet"
    else:
        low, high = (difference(line[end], metric) for end in ("low", "high"))
        known = f"{'repeated ' if is_adaptive else ''}95 % interval {low} to {high}, {n} paired seeds"
    may_be_level = line["verdict"] in ("undecided", "equivalent")
    sentences = [f"{better} is {_side(float(line['effect']), metric, may_be_level=may_be_level)} {worse} ({known})."]
    if line["verdict"] == "equivalent":
        sentences.append(f"A difference of {smallest_in_words(design, metric)} or more is ruled out either way.")
    if design is not None and design.is_adaptive:
        sentences.append(
            f"Undecided after {n} of at most {plural(design.last, 'seed')}."
            if is_open
            else f"Decided after {plural(int(line['num_needed']), 'seed')}."
        )
        if line["p"] == line["p"]:
            p_holm = p_value(line["p_holm"]).removeprefix("p = ")
            sentences.append(f"Repeated {p_value(line['p'])}; {p_holm} after Holm over the claims.")
    elif _has_p(line):
        few = n < st.seeds_for_sign_flip()
        least = f"{n} seeds cannot give less than {2.0 ** (1 - n):.3g}"
        p, p_holm = p_value(line["p"]), p_value(line["p_holm"]).removeprefix("p = ")
        # Of few seeds the exact p, which is not to look smaller than the least: 0.0625 of five.
        sentences.append(f"Sign-flip p = {line['p']:.3g}; {least}." if few else f"Sign-flip {p}; {p_holm} after Holm.")
    if is_open and sd > 0:
        needed = seeds_to_decide(float(line["effect"]), sd, design)
        sentences.append(
            "At the measured difference and standard deviation, deciding it with 80 % power takes "
            f"{'more than 1000' if needed is None else f'about {max(needed, n + 1)}'} seeds."
        )
        sentences.append(power_sentence([sd], [n], metric, design))
    if line["across_recipes"]:
        sentences.append("The two were trained with different recipes, so the difference includes the effect of these.")
    return " ".join(sentences)


def is_one_experiment(line: Mapping[Any, Any]) -> bool:
    """Whether the two rows of a line of :func:`~.summary.verdicts` share their cells, so that they cannot differ."""
    return line["verdict"] == "equivalent" and int(line["num_needed"]) == 0


def _side(effect: float, metric: Metric, *, may_be_level: bool) -> str:
    """``0.4 points above``; *level with* for a difference that is too small to print."""
    if may_be_level and round(effect, metric.decimals) == 0:
        return "level with"
    return f"{distance(effect, metric)} {'above' if effect > 0 else 'below'}"


def _quoted(name: object) -> str:
    return f"\u201c{name}\u201d"


def _has_p(line: Mapping[Any, Any]) -> bool:
    """Whether the sentence on a claim has a p-value: not where seeds are equal and too few for it to be small."""
    n, effect, sd = int(line["n"]), float(line["effect"]), float(line["sd"])
    return n > 1 and (sd > 0 or (effect != 0 and n >= st.seeds_for_sign_flip()))


def power_sentence(
    sds: Sequence[float], counts: Sequence[int], metric: Metric, design: SeedDesign | None = None
) -> str:
    """The minimum detectable difference of a fixed design, and the seeds it takes to detect the smallest of interest.

    Args:
        sds: Standard deviations of paired differences, of one row or more.
        counts: The pairs behind each of them.
        metric: The metric that the cells are evaluated by.
        design: How many seeds the table is run with.
    """
    smallest = metric.difference if design is None else design.smallest

    def ranges(sds: Sequence[float]) -> tuple[str, str]:
        effects = sorted(st.detectable_effect(sd, n) for sd, n in zip(sds, counts, strict=True))
        needed = sorted(st.seeds_needed(smallest, sd) or inf for sd in sds)
        low, high = metric.ends
        shown = [score(e, metric) if e <= high - low else f"more than {high - low:g}" for e in effects]
        seeds = ["more than 1000" if number == inf else f"{number}" for number in needed]
        by_row = [" to ".join(dict.fromkeys((values[0], values[-1]))) for values in (shown, seeds)]
        return metric.of_difference(by_row[0]), f"{by_row[1]} seeds"

    upper = [st.upper_sd(sd, n) for sd, n in zip(sds, counts, strict=True)]
    (effect, needed), (upper_effect, upper_needed) = ranges(sds), ranges(upper)
    of_fixed = " of a fixed design of as many seeds" if design is not None and design.is_adaptive else ""
    by_row = " by row" if " to " in effect else ""
    return (
        f"The minimum detectable difference{of_fixed} at 80 % power is {effect}{by_row}; detecting "
        f"{smallest_in_words(design, metric)} takes {needed}. At the upper 80 % bound of the "
        f"standard deviation it is {upper_effect}, and {upper_needed}."
    )


# Notes below the table

OTHER_RECIPE = "\u2020"
"""Behind a difference to a row of another recipe."""

_ASPECTS = {"backbone": "backbone", "num_frames": "number of frames", "recipe": "recipe"}
"""What rows may differ in besides the operator; a column of the summary where they do."""


def legend(
    summary: pd.DataFrame,
    metric: Metric,
    bold: str = "Bold",
    underlined: str = "Underlined",
    design: SeedDesign | None = None,
) -> list[str]:
    """What brackets, marks and signs of a table mean, in a terminal, on a page and in LaTeX.

    Args:
        summary: Of :func:`~.summary.summarise`.
        metric: The metric that the cells are evaluated by.
        bold: What the mark of the best row is called.
        underlined: What the mark of tied rows is called.
        design: How many seeds the table is run with.
    """
    is_adaptive = design is not None and design.is_adaptive
    covers, standing = set(summary["covers"]), set(summary["standing"])
    aspects = [aspect for name, aspect in _ASPECTS.items() if name in summary]
    rows = f"rows of the same {listed(aspects)}" if aspects else "rows"
    test = f"{'repeated ' if is_adaptive else ''}paired t test at 5 %, after Holm"
    fewest = "two seeds" if design is None or not is_adaptive else plural(design.first, "seed")
    mixes = (summary["across_recipes"] & (summary["num_pairs"] > 0)).any()
    ours = [
        _quoted(row) for row in summary.loc[(summary["recipe_of"] == "ours") & (summary["status"] != "missing"), "row"]
    ]
    in_group = set(summary.loc[summary["num_ranked"] > 1, "row"])
    averaging = set(summary.loc[summary["ensemble"] != "", "row"])
    lacking = untested(summary)
    alone = [row for row in lacking if row not in in_group | averaging]
    apart = [row for row in lacking if row in averaging]
    lacking = [row for row in lacking if row in in_group]
    notes = {
        metric.hint: metric.hint,
        f"Brackets: 95 % interval of the mean over seeds, for these validation {metric.samples}.": "seeds" in covers,
        f"Brackets of a row with one seed: 95 % {'bootstrap' if metric.of_segments else 'binomial'} interval over the "
        f"validation {metric.samples}. It does not cover seeds; at least two seeds, better three, are needed for "
        "that.": "clips" in covers,
        f"{bold}: significantly {metric.beyond} all other {rows} ({test}).": "best" in standing,
        f"{underlined}: the {metric.superlative} of the {rows}, and those not significantly {metric.short_of} it "
        f"({test}).": "tie" in standing,
        f"Not tested, so neither marked nor ruled out: {some(lacking)}. The test needs {fewest} shared "
        f"with the {metric.superlative} of the {rows}, and differences that vary between seeds.": lacking,
        f"Not tested, so neither marked nor ruled out: {some(alone)}. There is no result of other {rows}.": alone,
        f"Not tested, so neither marked nor ruled out: {some(apart)}. Only rows that train are ranked.": apart,
        "\u0394: mean of the differences paired by seed.": summary["num_pairs"].any() and not is_adaptive,
        "\u0394: mean of the differences paired by seed, over the seeds that both rows have, with its repeated 95 % "
        "interval, which covers all looks at further seeds together. Rows that were decided got no further seeds.": (
            summary["num_pairs"].any() and is_adaptive
        ),
        "The number of pairs is given if rows differ in their seeds: the difference is over their common seeds, and "
        "is not that of the two means.": summary["other_seeds"].any(),
        f"{OTHER_RECIPE}: to a row trained with a different recipe; the difference includes its effect.": mixes,
        f"Trained with our own recipe, not the paper\u2019s: {some(ours)}.": ours,
    }
    same = [
        f"{_quoted(row)} is the same experiment as {_quoted(first)}: they share their cells, so their "
        "difference is 0 by construction and takes no further seeds."
        for row, first in summary.loc[summary["same_as"] != "", ["row", "same_as"]].itertuples(index=False, name=None)
    ]
    averages = [
        f"{_quoted(row)} is an ensemble: it averages the class probabilities of {parts}, seed by seed."
        for row, parts in summary.loc[summary["ensemble"] != "", ["row", "ensemble"]].itertuples(index=False, name=None)
    ]
    return [*(note for note, is_shown in notes.items() if is_shown), *same, *averages]


def table_notes(export: Export, summary: pd.DataFrame) -> list[str]:
    """The notes of a page below the table: what its intervals cover, and what is missing."""
    heads = next((list(cell.per_head) for cell in export.manifest.cells if cell.per_head), [])
    notes = [
        *_ceiling_notes(export),
        *_mixing_notes(export),
        *legend(summary, export.metric, design=export.manifest.design),
        *missing_notes(clips_of(export.manifest)),
        *_gap_notes(export, summary),
        *ensemble_gaps(export.manifest),
    ]
    if heads:
        notes.append(
            f"Accuracies are of the {at_once(heads)}: the probabilities of {listed(heads)} are multiplied in each view "
            "and the products averaged over views."
        )
    notes += _videos_notes(export)
    if summary["seconds"].notna().any():
        notes.append("Seconds per cell: training and validation, perhaps next to other cells on the same machine.")
    return notes


def power_notes(export: Export, summary: pd.DataFrame) -> list[str]:
    """The notes below the tests of a table: what its p-values are, their power, and what no interval covers."""
    varying, design = summary[summary["delta_sd"] > 0], export.manifest.design
    notes = [*_clips_notes(export, summary), *_p_notes(summary, design)]
    if len(varying):
        sds, pairs = varying["delta_sd"].tolist(), varying["num_pairs"].tolist()
        notes.append(power_sentence(sds, pairs, export.metric, design))
    return notes


def _ceiling_notes(export: Export) -> list[str]:
    """What a network that is blind to the order of frames reaches at most, and which rows lie above it."""
    ceiling = order_blind(export)
    if ceiling is None:
        return []
    on, tiou = classes_by_order(export), tiou_shown(export)
    note = (
        f"A network that is blind to the order of frames reaches at most {percent(ceiling.mean)} % "
        f"[{percent(ceiling.low)}, {percent(ceiling.high)}] on {on}, at any tIoU; the brackets hold 95 % of the ways "
        "in which it may break ties."
    )
    rows = precision_on(export, {on: ceiling.classes})
    is_above = rows["low"] > ceiling.high  # a mean without an interval may be high by chance
    parts = {
        f"Above it at tIoU {tiou:g} with the whole interval over seeds": rows[is_above],
        f"Above it at tIoU {tiou:g} by the mean alone": rows[~is_above & (rows["mean"] > ceiling.mean)],
    }
    found = [f"{which}: {_scores_in_words(lines)}." for which, lines in parts.items() if len(lines)]
    return [" ".join([note, *(found or [f"No row lies above it at tIoU {tiou:g}."])])]


def _scores_in_words(rows: pd.DataFrame) -> str:
    """Rows with their mean in percent and its interval: ``"A" 92.1 % [90.0, 94.2]``."""
    shown = []
    for row in rows.sort_values("mean", ascending=False, kind="stable").to_dict("records"):
        known = f" [{percent(row['low'])}, {percent(row['high'])}]" if row["low"] == row["low"] else ""
        shown.append(f"{_quoted(row['row'])} {percent(row['mean'])} %{known}")
    return some(shown)


def _videos_notes(export: Export) -> list[str]:
    """On how many segments of how many videos detections are evaluated, and which labels they have."""
    for origin, scores in detections_of(export)[:1]:
        heads = list(scores.by_head)
        labels = f" mAP is of the {heads[-1]}; each label is scored over the same detections." if heads else ""
        videos = plural(origin.num_val or 0, "validation video")
        return [f"Evaluated on {videos} with {scores.num_segments:,} true segments.{labels}"]
    return []


def detection_methods(export: Export) -> dict[str, Any]:
    """What the methods of a page say of detections; empty where cells do not localize."""
    for origin, scores in detections_of(export)[:1]:
        return {
            "tious": listed([f"{tiou:g}" for tiou in scores.tious]),
            "num_draws": NUM_DRAWS,
            "suppression": origin.experiment["localization"]["suppression"],
            "by_order": classes_by_order(export),
        }
    return {}


def _mixing_notes(export: Export) -> list[str]:
    """The differences that include the effect of more than the operator."""
    varied = differing(export.manifest)
    if not varied:
        return []
    aspects = listed([_ASPECTS[name] for name in varied])
    across = [
        _quoted(row)
        for row, versus in comparisons(export.manifest).items()
        if any(row in by_row and versus in by_row and by_row[row] != by_row[versus] for by_row in varied.values())
    ]
    if across:
        return [f"Rows differ in {aspects}: the difference of {listed(across)} includes this effect."]
    return [f"Rows differ in {aspects}: every difference is taken between rows of the same {aspects}."]


def _clips_notes(export: Export, summary: pd.DataFrame) -> list[str]:
    """How far accuracies may be off on other validation clips, which intervals over seeds do not cover."""
    if "seeds" in set(summary["covers"]) and (known := detections_of(export)):
        row = summary["row"].iloc[int(summary[export.metric.column("mean")].argmax())]
        origin, scores = next(pair for pair in known if pair[0].row == row)
        ends = " to ".join(map(percent, scores.interval))
        return [
            "Intervals over seeds do not cover the choice of validation videos: the bootstrap interval of "
            f"{_quoted(row)}, seed {origin.seed}, over {plural(origin.num_val or 0, 'video')} is {ends} %."
        ]
    best, clips = summary[export.metric.column("mean")].max(), validation_clips(export.manifest)
    if "seeds" not in set(summary["covers"]) or not clips or not export.metric.of_classes:
        return []
    low, high = st.wilson_interval(best, clips)
    return [
        f"Intervals over seeds do not cover the choice of validation clips: the binomial interval of {percent(best)} % "
        f"over {clips} clips is {percent(low)} to {percent(high)} %."
    ]


def _gap_notes(export: Export, summary: pd.DataFrame) -> list[str]:
    trained, noun = summary[(summary["ensemble"] == "") & (summary["same_as"] == "")], export.metric.noun
    failed, planned = int(trained["num_failed"].sum()), int(trained["num_planned"].sum())
    missing = planned - failed - int(trained["n"].sum())
    same = summary[(summary["n"] > 1) & summary[export.metric.column("low")].isna()]["row"].tolist()
    differs = summary["num_needed"].fillna(1) > 0  # from the row it is compared with, in more than its name
    alike = summary[(summary["num_pairs"] > 1) & summary["delta_low"].isna() & differs]["row"].tolist()
    none_shared = summary["n"].any() and summary["versus"].any() and summary["delta_mean"].isna().all()
    notes = {
        f"Of {plural(planned, 'planned cell')}: {failed} failed, {missing} without a result. Means are over the n "
        "seeds that finished.": failed or missing,
        "A running cell may have lost its worker, which the storage does not show; the command that runs the table "
        "resumes it.": (export.cells["status"] == "running").any(),
        "No row shares a finished seed with the row it is compared with, so there are no differences.": none_shared,
        f"All seeds gave the same {noun} for {some(same)}, so there is no interval; check whether the seeds have an "
        "effect, or whether the row is at chance level or at its maximum.": same,
        f"The difference is the same in every seed for {some(alike)}, so it has no interval.": alike,
    }
    return [note for note, is_shown in notes.items() if is_shown]


def ensemble_gaps(manifest: Manifest) -> list[str]:
    """The ensembles that have no value for some seeds, and why."""
    gaps: dict[tuple[str, str], list[int]] = {}
    for ensemble in manifest.ensembles:
        if ensemble.why is not None:
            gaps.setdefault((ensemble.row, ensemble.why), []).append(ensemble.seed)
    return [f"{_quoted(row)} has no value with seed {listed(seeds)}: {why}." for (row, why), seeds in gaps.items()]


def _p_notes(summary: pd.DataFrame, design: SeedDesign | None) -> list[str]:
    """What p is, and which p the seeds of this table cannot reach."""
    if design is not None and design.is_adaptive:
        return [
            "p: the repeated p-value of the t test that decides, all looks at further seeds together, after Holm over "
            "the rows."
        ] * bool(summary["p"].notna().any())
    pairs, tests = int(summary["num_pairs"].max()), int(summary["p"].notna().sum())
    fewest, notes = st.seeds_for_sign_flip(max(tests, 1)), []
    if pairs >= st.seeds_for_sign_flip():
        notes.append(
            "p: sign-flip test of the paired differences, after Holm over the rows. Unlike the t test, which decides "
            "claims and marks, it does not assume that differences are normal; the two may disagree."
        )
    if 2 <= pairs < fewest:
        least = min(1.0, tests * 2.0 ** (1 - pairs))
        notes.append(
            f"With {pairs} pairs and {plural(tests, 'row')}, sign-flip p after Holm cannot come below {least:.2g}; it "
            f"takes {fewest} seeds to reach 0.05. Intervals assume that differences between seeds are roughly normal."
        )
    return notes


# Published numbers and other regimes


def paper_notes(export: Export, summary: pd.DataFrame) -> list[str]:
    """What the paper's numbers were measured on, how ours compare where measured alike, and whether orders agree."""
    results = [row.paper for row in export.manifest.rows if row.paper is not None]
    if not results:
        return ["There is no published number with a known source for these rows."]
    theirs = " and on ".join(_measured_on(results))
    return [
        f"The paper's numbers were measured on {theirs}; ours on {our_clips(export.manifest)}.",
        *_compared_notes(export.manifest, summary, export.metric),
        *order_notes(export.manifest),
        f"Order of the rows in the paper: {_agreement_in_words(paper_order(export))}.",
    ]


_UNLIKE = {
    "data": "other data",
    "backbone": "another backbone",
    "frames": "another number of frames",
    "views": "other views",
    "metric": "another metric",
    "recipe": "a recipe of ours",
    "unsaid": "the regime does not state that it measures what the paper did",
    "missing": f"more than {100 * MOST_MISSING:g} % of the listed validation clips are missing",
    "unlisted": "no annotations list the validation clips",
}
"""By aspect of :func:`~.paper.unlike_paper`, why numbers are not compared."""


def order_notes(manifest: Manifest) -> list[str]:
    """Of which rows the published numbers are not compared with ours, only their order, and why."""
    rows_of: dict[tuple[str, ...], list[str]] = {}
    for row, aspects in unlike_paper(manifest).items():
        rows_of.setdefault(aspects, []).append(_quoted(row))
    return [
        f"Not compared with the paper's number, only in order: {'all rows' if len(rows_of) == 1 else some(rows)}. "
        f"Why: {listed([_UNLIKE[aspect] for aspect in aspects])}."
        for aspects, rows in rows_of.items()
        if aspects
    ]


def _compared_notes(manifest: Manifest, summary: pd.DataFrame, metric: Metric) -> list[str]:
    """How far our means are from the published numbers that are measured alike."""
    lines = summary[summary["paper_delta_mean"].notna()].to_dict("records")
    if not lines:
        return []
    notes = [f"Measured as in the paper: {'; '.join(paper_sentence(line, metric) for line in lines)}."]
    if summary["paper_delta_low"].notna().any():
        notes.append("Intervals cover our seeds alone, as a published number comes without its standard deviation.")
    rows = {line["row"] for line in lines}
    environments = [cell.environment for cell in manifest.cells if cell.row in rows and cell.environment.get("cuda")]
    if BFLOAT16 in map(precision_of, environments):
        notes.append("Cells of ours on GPUs were computed in bfloat16, the authors\u2019 in float32.")
    return notes


def paper_sentence(line: Mapping[Any, Any], metric: Metric) -> str:
    """How far our mean of a row is from the published number: ``"A" is 0.4 points below 64.0 % (...)``."""
    seeds = plural(int(line["n"]), "seed")
    low, high = (line[f"paper_delta_{end}"] for end in ("low", "high"))
    known = (
        f"95 % interval {difference(low, metric)} to {difference(high, metric)}, " if low == low else "no interval, "
    )
    number = metric.with_unit(published(line[f"paper_{metric.name}"], metric))
    side = _side(float(line["paper_delta_mean"]), metric, may_be_level=True)
    return f"{_quoted(line['row'])} is {side} {number} ({known}{seeds})"


def has_paper(export: Export) -> bool:
    """Whether a row has a published number."""
    return any(row.paper is not None for row in export.manifest.rows)


def latex_notes(export: Export, *, paper: bool = True) -> list[str]:
    """The comments of the LaTeX table on its clips and, with ``paper``, on its published numbers."""
    notes = missing_notes(clips_of(export.manifest))
    return [*notes, *paper_notes(export, summarise(export))] if paper and has_paper(export) else notes


# What was learned, and at which cost


def learned_sentences(export: Export, learned: Learned) -> list[str]:
    """What the cells of a table cost and decided, what is open, and what other designs would have taken."""
    done, design = learned, export.manifest.design
    failed = f" ({done.num_failed} failed)" if done.num_failed else ""
    rate = ""
    if done.pairs_decided and done.hours:
        an_hour = three_digits(done.pairs_decided / done.hours)
        rate = f", {plural(done.pairs_decided, 'pair')} of rows in all, {an_hour} an hour"
    sentences = [
        f"{plural(done.num_cells, 'cell')}{failed} took {device_time(done.hours, done.device)}.",
        f"They decided {_decided(done)}{rate}.",
        *_rest_sentences(done, design),
    ]
    if done.fixed_seeds is not None and done.fixed_hours is not None:
        sentences.append(
            f"A fixed design takes about {plural(done.fixed_seeds, 'seed')} of every row, "
            f"{device_time(done.fixed_hours, done.device)}, to decide as much with 80 % power."
        )
    if design is not None and done.saved_cells and done.saved_hours is not None:
        sentences.append(
            f"{design.last} seeds of every row would have taken {plural(done.saved_cells, 'more cell')} "
            f"({device_time(done.saved_hours, done.device)})."
        )
    return sentences


def learned_in_short(learned: Learned) -> str:
    """The same in a line, for a terminal."""
    cost = f"{device_time(learned.hours, learned.device)}, {plural(learned.num_cells, 'cell')}"
    rest = " The design is exhausted." if learned.is_exhausted else ""
    if learned.rest_pairs:
        rest += f" To decide {plural(learned.rest_pairs, 'open comparison')}: {_rest_cells(learned)}."
    if learned.new_run_pairs:
        rest += f" To decide {plural(learned.new_run_pairs, 'open comparison')}: {_new_run(learned)}."
    return f"Decided in {cost}: {_decided(learned)}.{rest}"


def _decided(learned: Learned) -> str:
    rows = f"{learned.rows_decided} of {plural(learned.num_rows, 'row comparison')}"
    claims = f"{learned.claims_decided} of {plural(learned.num_claims, 'claim')}"
    return f"{claims} and {rows}" if learned.num_claims else rows


def _rest_cells(learned: Learned) -> str:
    time = device_time(learned.rest_hours, learned.device)
    return f"about {plural(learned.rest_cells, 'further cell')}, {time} (an estimate)"


def _new_run(learned: Learned) -> str:
    time = device_time(learned.new_run_hours, learned.device)
    return (
        f"a new run in another folder (--out), up to {plural(learned.new_run_seeds, 'seed')} of a row, about "
        f"{plural(learned.new_run_cells, 'cell')}, {time} (an estimate)"
    )


def _rest_sentences(learned: Learned, design: SeedDesign | None) -> list[str]:
    """What it would take to decide what is open."""
    last = 0 if design is None else design.last
    notes = {
        f"The design is exhausted: rows that are still compared have all {plural(last, 'seed')}, and get no further "
        "ones.": learned.is_exhausted,
        f"To decide {plural(learned.rest_pairs, 'open comparison')} at the measured differences and standard "
        f"deviations, with 80 % power, takes {_rest_cells(learned)}, up to {plural(learned.rest_seeds, 'seed')} of a "
        "row.": learned.rest_pairs,
        f"The design, of at most {plural(last, 'seed')}, does not suffice for "
        f"{plural(learned.new_run_pairs, 'open comparison')}: at the measured differences and standard deviations, "
        f"with 80 % power, it takes {_new_run(learned)}.": learned.new_run_pairs,
        f"{plural(learned.rest_beyond, 'open comparison')} would take more than 1000 seeds: the measured difference is "
        "too small for its standard deviation.": learned.rest_beyond,
        f"For {plural(learned.rest_unknown, 'open comparison')} there is no estimate, which takes a standard deviation "
        "between seeds.": learned.rest_unknown,
    }
    return [note for note, is_shown in notes.items() if is_shown]


def device_time(hours: float, device: str) -> str:
    """``1.50 CPU hours``, ``25.2 CPU minutes``, ``3.60 CPU seconds``."""
    seconds, minutes = f"{three_digits(3600 * hours)} {device} seconds", f"{three_digits(60 * hours)} {device} minutes"
    return f"{three_digits(hours)} {device} hours" if hours >= 1 else minutes if 60 * hours >= 1 else seconds


def elsewhere_notes(export: Export) -> list[str]:
    """How far other regimes of the storage rank the rows as this one does."""
    return [
        f"Order of the rows in regime {_quoted(other.regime)}: {_agreement_in_words(agreement(export, other))}."
        for other in export.manifest.elsewhere
    ]


def tau_note(export: Export) -> list[str]:
    """What Kendall's tau and its interval mean, where the page has one."""
    if not any(order.tau == order.tau for order in _agreements(export)):
        return []
    return [
        f"Kendall\u2019s tau is 1 for the same order, 0 for unrelated orders and {MINUS}1 for the reverse. Its "
        "interval, from five rows on, takes the rows as a sample of design choices and includes noise between seeds."
    ]


def _agreements(export: Export) -> list[st.Agreement]:
    """With the paper and with each other regime."""
    return [paper_order(export), *(agreement(export, other) for other in export.manifest.elsewhere)]


def _agreement_in_words(order: st.Agreement) -> str:
    if order.n < 3:
        return f"not compared, which takes three rows with both numbers, and there are {order.n}"
    if order.tau != order.tau:
        return "not compared, as all rows are equal in one of the two"
    interval = "" if order.low != order.low else f" [{coefficient(order.low)}, {coefficient(order.high)}]"
    return f"Kendall\u2019s tau {coefficient(order.tau)}{interval} over {order.n} rows"


def methods_used(export: Export, summary: pd.DataFrame) -> set[str]:
    """The methods behind a page of ``export``, by the names that ``templates/blocks/methods.html.j2`` has."""
    claims = verdicts(export).to_dict("records")
    pairs = int(summary["num_pairs"].max())
    design = export.manifest.design
    is_adaptive = design is not None and design.is_adaptive
    tested = [int(line["n"]) for line in claims if _has_p(line)]
    tested += [pairs] if pairs >= st.seeds_for_sign_flip() else []
    tested = [] if is_adaptive else tested
    orders = _agreements(export)
    used = {
        "t": bool((summary["n"] > 1).any()),
        "wilson": export.metric.of_classes
        and ("clips" in set(summary["covers"]) or bool(_clips_notes(export, summary))),
        "flips": bool(tested),
        "draws": max(tested, default=0) > st.EXACT_UP_TO,
        "holm": max(tested, default=0) >= st.seeds_for_sign_flip(),
        "sequential": is_adaptive and bool((summary["num_pairs"] > 1).any()),
        "equivalence": design is not None and bool((summary["num_pairs"] > 1).any()),
        "claims": bool(claims),
        "many claims": len(claims) > 1,
        "best": bool(is_marked(summary).any()),
        "power": bool((summary["delta_sd"] > 0).any())
        or any(line["verdict"] == "undecided" and line["sd"] > 0 for line in claims),
        "tau": any(order.tau == order.tau for order in orders),
        "tau interval": any(order.low == order.low for order in orders),
        "costs": bool(summary["macs"].notna().any()),
    }
    return {name for name, is_used in used.items() if is_used}


def _measured_on(results: list[PaperResult]) -> list[str]:
    """By data set, the frames and views of the paper's results."""
    parts = []
    for data in sorted({result.data for result in results}):
        here = [result for result in results if result.data == data]
        views = listed(sorted({result.views for result in here}), "or")
        steps = views.startswith("windows of ")  # of features, which say how many
        parts.append(", ".join([data, *([] if steps else [_frames({result.num_frames for result in here})]), views]))
    return parts


def _frames(counts: set[int]) -> str:
    return f"{listed(sorted(counts), 'or')} {'frame' if counts == {1} else 'frames'}"


def our_clips(manifest: Manifest) -> str:
    """The clips of this regime in a few words, in the order data, frames, views."""
    data = manifest.conditions.get("data", {})
    frames = {int(n) for n in differing(manifest).get("num_frames", {}).values()} or {data.get("num_frames", 0)}
    kinds = {
        "synthetic": "synthetic clips of moving digits",
        "folder": "a folder of clips",
        "untrimmed": "synthetic untrimmed clips of moving digits",
        "features": "features of videos",
    }
    named = sorted({row.measured_as.data for row in manifest.rows if row.measured_as is not None})
    clips = listed(named) if named else kinds.get(data.get("kind", ""), "other clips")
    judged = sorted({views(cell.experiment["data"]) for cell in manifest.cells})
    shown = [] if data.get("kind") == "features" else [_frames(frames)]
    return ", ".join([clips, *shown, listed(judged or [views(data)], "or")])


# Parts of captions


def mixed_recipes(export: Export, rows: Collection[str]) -> str:
    """That ``rows`` of a figure were trained with different recipes, with a space before it; empty where not."""
    recipes = differing(export.manifest).get("recipe", {})
    if len({recipes[row] for row in rows if row in recipes}) < 2:
        return ""
    return " Rows were trained with different recipes, listed under conditions: differences include their effect."


def of_seeds(num_seeds: "pd.Series[int]") -> str:
    """``3 seeds``; where rows have different numbers, of how many each row's mean is: ``2 or 3 seeds, by row``."""
    counts = sorted(set(num_seeds))
    return plural(counts[0], "seed") if len(counts) == 1 else f"{listed(counts, 'or')} seeds, by row"


def of_many(shown: int, num_rows: int, which: str) -> str:
    """What is shown of a table that is too long for a figure, with a space at the end; empty for a shorter one."""
    if shown == num_rows:
        return ""
    return f"Of {num_rows} rows, {shown} are shown, sorted: {which}. "


def interval_of(row: Mapping[Hashable, Any], metric: Metric = TOP1) -> str:
    """The interval of a difference, ``low`` to ``high``, in brackets with a space before it; empty without one."""
    known = row["low"] == row["low"]
    return f" ({difference(row['low'], metric)} to {difference(row['high'], metric)})" if known else ""
