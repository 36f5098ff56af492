"""What a report says in words: verdicts, what the numbers cover, and what they cannot tell."""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from math import inf
from typing import Any

import pandas as pd

from tadaconv.metrics import TOP1, Metric
from tadaconv.reporting.ablation.data import Export, Manifest
from tadaconv.reporting.ablation.paper import ASPECTS, MOST_MISSING, clips_of, unlike_paper, views
from tadaconv.reporting.ablation.summary import (
    agreement,
    compares_apart,
    comparisons,
    differing,
    groups,
    is_marked,
    paper_order,
    recipes_of,
    summarise,
    untested,
    validation_clips,
    verdicts,
)
from tadaconv.reporting.core import statistics as st
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
from tadaconv.table import PaperResult
from tadaconv.text import listed, plural

VERDICTS = ("supported", "contradicted", "undecided")


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
    """How many cells there are, and what became of them."""
    manifest, status = export.manifest, export.cells["status"]
    counts = {name: int((status == name).sum()) for name in ("finished", "failed", "running", "waiting")}
    averages = [row for row in manifest.rows if row.ensemble]
    planned = (len(manifest.rows) - len(averages)) * len(manifest.seeds)
    missing = planned - sum(counts.values())
    parts = [f"{counts['finished']} of {plural(planned, 'cell')} finished"]
    parts += [f"{counts[name]} {name}" for name in ("failed", "running", "waiting") if counts[name]]
    parts += [f"{missing} not run"] if missing > 0 else []
    of_these = f" ({len(averages)} of them {'an ensemble' if len(averages) == 1 else 'ensembles'})" if averages else ""
    size = f"{plural(len(manifest.rows), 'row')}{of_these}, {plural(len(manifest.seeds), 'seed')}"
    return f"{size}: {', '.join(parts)}."


def claim_sentence(line: dict[Any, Any], metric: Metric = TOP1) -> str:
    """What a line of :func:`~.summary.verdicts` found, and what it would take to find more."""
    mixed = " The two were trained by different recipes, whose effect is in the difference."
    return _claim_found(line, metric) + (mixed if line["across_recipes"] and line["n"] else "")


def _claim_found(line: dict[Any, Any], metric: Metric) -> str:
    pair = f"\u201c{line['better']}\u201d", f"\u201c{line['worse']}\u201d"
    n, effect = int(line["n"]), float(line["effect"])
    if n == 0:
        return f"No seed has a result in both {pair[0]} and {pair[1]}."
    # A difference too small to print is none; unless it was found to be one.
    level = round(effect, metric.decimals) == 0 and line["verdict"] == "undecided"
    how = "level with" if level else "above" if effect > 0 else "below"
    by = "" if level else f"{distance(effect, metric)} "
    if n == 1:
        return (
            f"{pair[0]} lies {by}{how} {pair[1]} in the one seed that both have, which cannot tell what another would "
            "say; run at least three."
        )
    if line["sd"] == 0:
        same = f"{pair[0]} lies {by}{how} {pair[1]} in each of {n} seeds. Without a spread there is no interval."
        return f"{same} {_sign_flip(line)}" if _says_p(line) else same
    interval = (
        f"95 % interval {difference(line['low'], metric)} to {difference(line['high'], metric)}, {n} seeds in pairs"
    )
    if n < st.seeds_for_sign_flip():
        test = f"Sign-flip p = {line['p']:.3g}, where {n} seeds cannot give less than {2.0 ** (1 - n):.3g}."
    else:
        test = _sign_flip(line)
    found = f"{pair[0]} lies {by}{how} {pair[1]} ({interval}). {test}"
    return f"{found} {what_it_takes(float(line['sd']), n, metric)}" if line["verdict"] == "undecided" else found


def _says_p(line: Mapping[Any, Any]) -> bool:
    """Whether the sentence on a claim has a p-value: not where it could only say that seeds are too few."""
    n, effect, sd = int(line["n"]), float(line["effect"]), float(line["sd"])
    return n > 1 and (sd > 0 or (effect != 0 and n >= st.seeds_for_sign_flip()))


def _sign_flip(line: dict[Any, Any]) -> str:
    return f"Sign-flip {p_value(line['p'])}, {p_value(line['p_holm']).removeprefix('p = ')} after Holm."


def claims_summary(verdicts: list[str]) -> str:
    """What became of one claim or more, in one sentence."""
    kinds = {"supported": "supported here", "contradicted": "contradicted", "undecided": "undecided"}
    found = [(verdicts.count(kind), words) for kind, words in kinds.items() if kind in verdicts]
    if len(verdicts) == 1:
        return f"The one claim is {found[0][1]}."
    if len(found) == 1:
        return f"{'Both' if len(verdicts) == 2 else f'All {len(verdicts)}'} claims are {found[0][1]}."
    parts = [f"{count} {'is' if count == 1 else 'are'} {words}" for count, words in found]
    return f"Of {len(verdicts)} claims, {listed(parts)}."


def what_it_takes(sd: float, n: int, metric: Metric) -> str:
    """What ``n`` seeds can show where paired differences deviate by ``sd``, and what the metric's own would take."""
    upper = st.upper_sd(sd, n)
    shown, safely_shown = (metric.of_difference(_effect(st.detectable_effect(each, n), metric)) for each in (sd, upper))
    needed, safely_needed = (st.seeds_needed(metric.difference, each) for each in (sd, upper))
    return (
        f"With {n} seeds a true difference of {shown} would show four times in five, and one of "
        f"{metric.difference_in_words} with {_seeds(needed, '')}, if seeds vary as these do. They may vary more: to be "
        f"safe, count on {safely_shown} and on {_seeds(safely_needed)}."
    )


def _seeds(number: float | None, noun: str = " seeds") -> str:
    return ("more than 1000" if number is None or number == inf else f"{number:.0f}") + noun


def table_notes(export: Export, summary: pd.DataFrame) -> list[str]:
    """What stands below the table: what its intervals cover, what was left out, and what seeds cannot tell."""
    apart = compares_apart(summary, export.manifest.base)
    metric = export.metric
    return [
        *filter(None, [metric.hint]),
        *_mixing_notes(export),
        *recipe_notes(export.manifest),
        *missing_notes(clips_of(export.manifest)),
        *_head_notes(export),
        *_interval_notes(export, summary, apart),
        *_standing_notes(export, summary),
        *_gap_notes(export, summary, apart),
        *ensemble_notes(export.manifest),
        *_ensemble_gaps(export.manifest),
        *_pair_notes(summary),
        *_power_notes(summary, metric),
        *_time_notes(summary),
    ]


def _standing_notes(export: Export, summary: pd.DataFrame) -> list[str]:
    """What bold and underlined scores mean, where there are any."""
    if not is_marked(summary).any():
        return []
    ranked, metric = groups(export.manifest), export.metric
    alike = _alike(export.manifest)
    among = f"of the rows on the same {alike}" if len(ranked) > 1 else "of the rows"
    ties = set(summary.loc[summary["standing"] == "tie", "row"])
    notes = []
    if (summary["standing"] == "best").any():
        notes.append(f"Bold is the best {among}: significantly {metric.beyond} every other.")
    if any(len(ties & set(group)) > 1 for group in ranked):
        notes.append(
            f"Underlined are the {metric.superlative} {metric.noun} {among} and those it cannot be told apart from: "
            "with these seeds any of them may be the best."
        )
    elif ties:
        notes.append(
            f"Underlined is the {metric.superlative} {metric.noun} {among}; it is not shown to lie {metric.beyond} "
            "every other."
        )
    notes[-1] += " Tested in pairs with Student\u2019s t at 5 % after Holm."
    if untested(summary):
        takes = [
            f"two seeds that a row shares with the {metric.superlative}",
            "differences that are not the same in all of them",
        ]
        takes += [f"a second row on the same {alike}"] if len(ranked) > 1 else []
        notes.append(
            f"Not tested, and so neither marked nor ruled out: {some(untested(summary))}. "
            f"The test takes {listed(takes)}."
        )
    return notes


def _alike(manifest: Manifest) -> str:
    """What rows have in common that are ranked against each other."""
    return "backbone, frames and recipe" if "recipe" in differing(manifest) else "backbone and frames"


def recipe_notes(manifest: Manifest) -> list[str]:
    """Which rows the regime trains by a recipe that the paper has not; none where there is no such row."""
    ran = {cell.row for cell in manifest.cells}
    ours = [f"\u201c{row.name}\u201d" for row in manifest.rows if row.recipe == "ours" and row.name in ran]
    return [f"Trained by a recipe of ours, not the paper\u2019s: {some(ours)}."] if ours else []


def _time_notes(summary: pd.DataFrame) -> list[str]:
    """What the column of seconds is not."""
    if not summary["seconds"].notna().any():
        return []
    return [
        "Seconds a cell are those of training and validation on a machine that may have run other cells at the time: "
        "they tell what the table took, not what a row costs."
    ]


def _pair_notes(summary: pd.DataFrame) -> list[str]:
    """That a difference is not always the one between the means beside it."""
    if not summary["other_seeds"].any():
        return []
    return [
        "Where pairs are counted below a difference, one of the two rows has a result of other seeds as well: it is "
        "the mean over the seeds that both have, and not the difference of the means that stand in the table."
    ]


def _power_notes(summary: pd.DataFrame, metric: Metric) -> list[str]:
    """What the seeds of this table can show, over its rows, and what the sign-flip test cannot."""
    notes = []
    told = summary[summary["delta_sd"] > 0]
    if len(told):
        counts = told["num_pairs"].tolist()
        upper = [st.upper_sd(sd, n) for sd, n in zip(told["delta_sd"], counts, strict=True)]
        effects, needed = _power_ranges(told["delta_sd"].tolist(), counts, metric)
        safe_effects, safely_needed = _power_ranges(upper, counts, metric)
        depending = ", depending on the row" if len(told) > 1 else ""
        notes.append(
            f"With these seeds a true difference shows four times in five from {effects} on{depending}; for "
            f"{metric.difference_in_words} to show as often it takes {needed}. That is if other seeds vary as these "
            f"do. They may vary more: to be safe, count on {safe_effects} and on {safely_needed}."
        )
    pairs = int(summary["num_pairs"].max())
    tests = int(summary["p"].notna().sum())
    fewest, least = st.seeds_for_sign_flip(max(tests, 1)), 2.0 ** (1 - pairs)
    if pairs >= st.seeds_for_sign_flip():
        notes.append(
            "p is that of the sign-flip test of the differences in pairs, after Holm over the rows. It does not take "
            "differences for normal, as the t behind intervals and marks does, and may disagree with them; claims and "
            "marks go by t."
        )
        if pairs < fewest:
            notes.append(
                f"From {plural(pairs, 'pair')} over {plural(tests, 'row')} p after Holm cannot come below "
                f"{tests * least:.2g}; it takes {fewest} seeds to reach 0.05."
            )
    elif pairs >= 2:
        over = f"; over {plural(tests, 'row')} and after Holm it takes {fewest}" if tests > 1 else ""
        notes.append(
            f"An exact sign-flip test of {plural(pairs, 'pair')} cannot give p below {least:.3g}; it "
            f"takes {st.seeds_for_sign_flip()} seeds to reach 0.05{over}. Here the intervals alone decide, and they "
            "assume that differences between seeds are roughly normal."
        )
    return notes


def _power_ranges(sds: list[float], counts: list[int], metric: Metric) -> tuple[str, str]:
    """Over rows, the differences that so many seeds show, and the seeds that it takes to show the metric's own."""
    effects = [st.detectable_effect(sd, n) for sd, n in zip(sds, counts, strict=True)]
    needed = [st.seeds_needed(metric.difference, sd) or inf for sd in sds]
    return metric.of_difference(_range(sorted(effects), metric)), _seeds_range(sorted(needed))


def _effect(difference: float, metric: Metric) -> str:
    """A difference of scores, which cannot be more than there is between the ends of the metric."""
    low, high = metric.ends
    return score(difference, metric) if difference <= high - low else f"more than {high - low:g}"


def _range(values: list[float], metric: Metric) -> str:
    low, high = _effect(values[0], metric), _effect(values[-1], metric)
    return low if low == high else f"{low} to {high}"


def _seeds_range(numbers: list[float]) -> str:
    fewest, most = numbers[0], numbers[-1]
    return _seeds(fewest) if fewest == most else f"{fewest:.0f} to {_seeds(most)}"


def _head_notes(export: Export) -> list[str]:
    """Of what the scores are where clips have several labels."""
    heads = next((list(cell.per_head) for cell in export.manifest.cells if cell.per_head), [])
    if not heads:
        return []
    as_one = ", as an action" if at_once(heads) == "action" else ""
    return [
        f"A clip counts where {listed(heads)} are told at once{as_one}: "
        "their probabilities are multiplied in each view, and the products averaged over views."
    ]


_ASPECTS = {"backbone": "backbone", "num_frames": "frames a clip", "recipe": "recipe"}


def _mixing_notes(export: Export) -> list[str]:
    """What a difference in score holds beside the operators, where rows differ in more than what is plugged in."""
    found, metric = differing(export.manifest), export.metric
    if not found:
        return []
    what, share, their = listed([_ASPECTS[name] for name in found]), "it", "its"
    if len(found) > 1:
        share, their = "both" if len(found) == 2 else "all three", "their"
    across = [
        f"\u201c{row}\u201d"
        for row, versus in comparisons(export.manifest).items()
        if any(row in by_row and versus in by_row and by_row[row] != by_row[versus] for by_row in found.values())
    ]
    if across:
        taken = f"the difference of {across[0]} is" if len(across) == 1 else f"the differences of {listed(across)} are"
        return [
            f"Rows differ in {what}: {taken} taken between rows that do not share {share}, which mixes {their} effect "
            f"on {metric.noun} with that of what is plugged in."
        ]
    return [
        f"Rows differ in {what}: every difference here is taken between rows that share {share}; to compare the "
        f"{metric.nouns} of others mixes {their} effect with that of what is plugged in."
    ]


def _interval_notes(export: Export, summary: pd.DataFrame, apart: bool) -> list[str]:
    covers, clips = set(summary["covers"]), validation_clips(export.manifest)
    notes = ["Brackets below a number hold its 95 % interval."] if covers & {"seeds", "clips"} else []
    if "seeds" in covers:
        other = "the row named below each" if apart else "the base row"
        by_seed = f" Differences to {other} are taken seed by seed." if summary["num_pairs"].any() else ""
        notes.append(
            "Intervals of rows with several seeds cover training with other seeds, judged on the same validation "
            f"clips.{by_seed}"
        )
        best = summary[export.metric.column("mean")].max()
        if clips and best == best and export.metric.of_classes:
            low, high = st.wilson_interval(best, clips)
            notes.append(
                f"They do not cover the choice of validation clips: {percent(best)} % of {clips} clips has a binomial "
                f"interval of {percent(low)} to {percent(high)} %."
            )
    if "clips" in covers:
        other = "another row" if apart else "the base row"
        difference = f", and from one seed a difference to {other} has no interval" if len(summary) > 1 else ""
        notes.append(
            f"Intervals of rows with one seed are the binomial error of {clips} validation clips. They do not cover "
            f"seeds{difference}: two or more seeds are needed, three at least to be of use."
        )
    return notes


def _gap_notes(export: Export, summary: pd.DataFrame, apart: bool) -> list[str]:
    notes = []
    trained = summary[summary["ensemble"] == ""]
    if (trained["status"] != "finished").any():
        failed, planned = int(trained["num_failed"].sum()), int(trained["num_planned"].sum())
        missing = planned - failed - int(trained["n"].sum())
        gaps = [f"{failed} failed"] if failed else []
        gaps += [f"{missing} {'has' if missing == 1 else 'have'} no result"] if missing else []
        notes.append(
            f"Of {planned} planned cells {listed(gaps)}. n counts the seeds that finished; failed and missing cells "
            "are left out of a mean, never filled in."
        )
    if (export.cells["status"] == "running").any():
        notes.append(
            "A cell counts as running from when a worker began it until it ends. The storage does not show whether "
            "that worker still lives; the command that runs the table goes on with what a dead one left."
        )
    if summary["n"].any() and summary["versus"].any() and summary["delta_mean"].isna().all():
        other = "the row it is compared with" if apart else "the base row"
        notes.append(f"No row shares a finished seed with {other}, so there are no differences to it.")
    same = summary[(summary["n"] > 1) & summary[export.metric.column("low")].isna()]["row"].tolist()
    if same:
        notes.append(
            f"All seeds gave the same {export.metric.noun} for {', '.join(same)}. That says nothing about their "
            "spread, so there is no interval; see whether the seeds take effect, or whether the row is at chance or at "
            "its ceiling."
        )
    alike = summary[(summary["num_pairs"] > 1) & summary["delta_low"].isna()]["row"].tolist()
    if alike:
        notes.append(
            f"The difference is the same in every seed for {', '.join(alike)}. Without a spread it has no interval."
        )
    return notes


def ensemble_notes(manifest: Manifest) -> list[str]:
    """What the numbers of each row that averages others are."""
    notes = []
    for row in manifest.rows:
        if row.ensemble:
            parts = listed([f"\u201c{name}\u201d" for name in row.ensemble])
            notes.append(
                f"\u201c{row.name}\u201d trains nothing: it is the mean of the class probabilities of {parts}, clip by "
                "clip, of networks of the same seed. Its parameters and multiply-adds are theirs together."
            )
            if any(each.per_head for each in manifest.ensembles if each.row == row.name):
                notes[-1] += " Probabilities of labels are averaged over views before they are multiplied."
    return notes


def ensemble_gaps(manifest: Manifest) -> list[tuple[str, list[int], str]]:
    """The rows that average others and have no value for some seeds: row, seeds, and why."""
    gaps: dict[tuple[str, str], list[int]] = {}
    for each in manifest.ensembles:
        if each.why is not None:
            gaps.setdefault((each.row, each.why), []).append(each.seed)
    return [(row, seeds, why) for (row, why), seeds in gaps.items()]


def _ensemble_gaps(manifest: Manifest) -> list[str]:
    return [
        f"\u201c{row}\u201d has no value for {'seed' if len(seeds) == 1 else 'seeds'} {listed(seeds)}: {why}."
        for row, seeds, why in ensemble_gaps(manifest)
    ]


def paper_notes(export: Export, summary: pd.DataFrame) -> list[str]:
    """On what the paper's numbers were measured, how ours stand to those measured alike, and whether orders agree."""
    results = [row.paper for row in export.manifest.rows if row.paper is not None]
    if not results:
        return ["No published number to set beside these rows has been traced to its source."]
    theirs = " and on ".join(_measured_on(results))
    ours = f"The paper's numbers were measured on {theirs}; ours on {our_clips(export.manifest)}."
    why_not = order_notes(export.manifest)
    if not summary["paper_alike"].any():
        notes = [" ".join([ours, *why_not])]
    else:
        notes = [ours, *_compared_notes(export.manifest, summary, export.metric), *why_not]
    found = paper_order(export)
    if found.tau == found.tau:
        return [*notes, f"The order of {found.n} rows agrees with the paper\u2019s by {_tau(found)}."]
    why = "too few to compare an order, which takes three" if found.n < 3 else "no order to compare, as all are equal"
    return [*notes, f"{plural(found.n, 'row').capitalize()} with both numbers: {why}."]


def order_notes(manifest: Manifest) -> list[str]:
    """Why published numbers are not compared with ours, only their order: a sentence for all rows, or one a reason."""
    unlike = unlike_paper(manifest)
    common = [aspect for aspect in ASPECTS if all(aspect in aspects for aspects in unlike.values())]
    if not unlike:
        return ["The numbers cannot be compared, only their order."]
    if common:
        return [f"The numbers cannot be compared, only their order: {_why_unlike(common, manifest)}."]
    rows_of: dict[str, list[str]] = {}
    for row, aspects in unlike.items():
        if aspects:
            rows_of.setdefault(_why_unlike(aspects, manifest), []).append(f"\u201c{row}\u201d")
    return [f"Of {some(rows)} only the order can be compared: {why}." for why, rows in rows_of.items()]


_UNLIKE = {
    "data": "the data", "backbone": "the backbone", "frames": "the frames a clip", "views": "the views",
    "recipe": "the recipe, which is ours,",
}  # fmt: skip


def _why_unlike(aspects: Sequence[str], manifest: Manifest) -> str:
    """In what cells and the paper's are not measured alike, as a clause; ``aspects`` are one or more."""
    other = [_UNLIKE[aspect] for aspect in aspects if aspect in _UNLIKE]
    is_one = other in (["the backbone"], [_UNLIKE["recipe"]])
    clauses = [f"{listed(other)} {'differs' if is_one else 'differ'}"] if other else []
    if "unsaid" in aspects:
        clauses.append("the regime does not say that it measures what the paper did")
    if "missing" in aspects:
        side = next(side for side in clips_of(manifest) if side.side == "validation")
        clauses.append(
            f"of {side.listed:,} listed validation clips {side.missing:,} are missing, which is more than "
            f"{100 * MOST_MISSING:g} %"
        )
    if "unlisted" in aspects:
        clauses.append("no annotations say how many validation clips there should be")
    return listed(clauses)


def _compared_notes(manifest: Manifest, summary: pd.DataFrame, metric: Metric) -> list[str]:
    """How far our means lie from the published numbers that are measured alike, and what else is to be known of it."""
    lines = summary[summary["paper_delta_mean"].notna()].to_dict("records")
    if not lines:
        return []
    notes = [f"Measured as the paper did: {'; '.join(paper_sentence(line, metric) for line in lines)}."]
    if any(line["paper_delta_low"] == line["paper_delta_low"] for line in lines):
        notes[0] += " Intervals cover our seeds alone: a published number comes without its spread."
    clips = clips_of(manifest)
    if any(side.missing for side in clips):
        notes[0] += f" Ours are from {listed([side.in_words for side in clips])}."
    rows = {line["row"] for line in lines}
    of_gpus = [cell.environment for cell in manifest.cells if cell.row in rows and cell.environment.get("cuda")]
    computed_in = {precision_of(environment) for environment in of_gpus}
    if BFLOAT16 in computed_in:
        which = "On GPUs ours" if len(computed_in) == 1 else "Some of ours"
        notes[0] += f" {which} are computed in bfloat16, the authors\u2019 in float32."
    return notes


def paper_sentence(line: Mapping[Any, Any], metric: Metric) -> str:
    """How far our mean of a row lies from the published number: ``"A" lies 0.4 points below 64.0 % (...)``."""
    effect, n = float(line["paper_delta_mean"]), int(line["n"])
    if abs(effect) < 0.5 * 10.0**-metric.decimals:
        where = "level with"
    else:
        where = f"{distance(effect, metric)} {'above' if effect > 0 else 'below'}"
    if line["paper_delta_low"] == line["paper_delta_low"]:
        low, high = (difference(line[f"paper_delta_{end}"], metric) for end in ("low", "high"))
        known = f"95 % interval {low} to {high}, {n} seeds"
    else:
        known = "one seed, without an interval" if n == 1 else f"{n} seeds that are all equal, without an interval"
    number = metric.with_unit(published(line[f"paper_{metric.name}"], metric))
    return f"\u201c{line['row']}\u201d lies {where} {number} ({known})"


def has_paper(export: Export) -> bool:
    """Whether a row has a published number."""
    return any(row.paper is not None for row in export.manifest.rows)


def latex_notes(export: Export, *, paper: bool = True) -> list[str]:
    """What the LaTeX table says of its clips, its recipes and, with ``paper``, of its published numbers."""
    notes = [*recipe_notes(export.manifest), *missing_notes(clips_of(export.manifest))]
    summary = summarise(export)
    return [*notes, *paper_notes(export, summary)] if paper and has_paper(export) else notes


def elsewhere_notes(export: Export) -> list[str]:
    """How far other regimes of the storage rank the rows as this one does; none where there is no other."""
    notes = []
    for other in export.manifest.elsewhere:
        found = agreement(export, other)
        if found.tau == found.tau:
            ranks = f"ranks the {found.n} rows that both have as this one does by {_tau(found)}"
        elif found.n < 3:
            ranks = f"shares {plural(found.n, 'row')} with this one, too few to compare an order, which takes three"
        else:
            ranks = "gives no order to compare, as all rows that both have are equal in one"
        notes.append(f"Regime \u201c{other.regime}\u201d {ranks}.")
    return notes


def tau_note(export: Export) -> list[str]:
    """What Kendall's tau and its interval mean, where the page has one."""
    found = [paper_order(export), *(agreement(export, other) for other in export.manifest.elsewhere)]
    if not any(each.tau == each.tau for each in found):
        return []
    interval = (
        " Its interval takes the rows as a sample of design choices; noise between seeds is in it."
        if any(each.low == each.low for each in found)
        else " Its interval takes five rows or more."
    )
    recipes = " It ranks rows of different recipes together." if recipes_of(export) else ""
    meaning = f"Kendall\u2019s tau is 1 for the same order, 0 for unrelated ones and {MINUS}1 for the reverse."
    return [f"{meaning}{interval}{recipes}"]


def _tau(found: st.Agreement) -> str:
    interval = "" if found.low != found.low else f" [{coefficient(found.low)}, {coefficient(found.high)}]"
    return f"Kendall\u2019s tau {coefficient(found.tau)}{interval}"


def methods_used(export: Export, summary: pd.DataFrame) -> set[str]:
    """The methods behind what a page of ``export`` says, by the names that ``templates/blocks/methods.html.j2`` has."""
    claims = verdicts(export).to_dict("records")
    pairs = int(summary["num_pairs"].max())
    said = [int(line["n"]) for line in claims if _says_p(line)]
    said += [pairs] if pairs >= st.seeds_for_sign_flip() else []
    orders = [paper_order(export), *(agreement(export, other) for other in export.manifest.elsewhere)]
    used = {
        "t": bool((summary["n"] > 1).any()),
        "wilson": any("binomial" in note for note in _interval_notes(export, summary, apart=False)),
        "flips": bool(said),
        "draws": max(said, default=0) > st.EXACT_UP_TO,
        "holm": max(said, default=0) >= st.seeds_for_sign_flip(),
        "claims": bool(claims),
        "many claims": len(claims) > 1,
        "best": bool(is_marked(summary).any()),
        "power": bool((summary["delta_sd"] > 0).any())
        or any(line["verdict"] == "undecided" and line["sd"] > 0 for line in claims),
        "tau": any(each.tau == each.tau for each in orders),
        "tau interval": any(each.low == each.low for each in orders),
        "costs": bool(summary["macs"].notna().any()),
    }
    return {name for name, is_used in used.items() if is_used}


def _measured_on(results: list[PaperResult]) -> list[str]:
    """By data set, the frames and views of the paper's results."""
    found = []
    for data in sorted({result.data for result in results}):
        here = [result for result in results if result.data == data]
        views = listed(sorted({result.views for result in here}), "or")
        found.append(f"{data}, {_frames({result.num_frames for result in here})}, {views}")
    return found


def _frames(counts: set[int]) -> str:
    return f"{listed(sorted(counts), 'or')} {'frame' if counts == {1} else 'frames'}"


def our_clips(manifest: Manifest) -> str:
    """The clips of this regime in a few words, in the order data, frames, views."""
    data = manifest.conditions.get("data", {})
    frames = {int(n) for n in differing(manifest).get("num_frames", {}).values()} or {data.get("num_frames", 0)}
    kinds = {"synthetic": "synthetic clips of moving digits", "folder": "a folder of clips"}
    named = sorted({row.measured_as.data for row in manifest.rows if row.measured_as is not None})
    clips = listed(named) if named else kinds.get(data.get("kind", ""), "other clips")
    judged = sorted({views(cell.experiment["data"]) for cell in manifest.cells})
    return ", ".join([clips, _frames(frames), listed(judged or [views(data)], "or")])


def mixed_recipes(recipes: Mapping[str, object], rows: Collection[str]) -> str:
    """That ``rows`` of a figure were trained by different recipes, with a space before it; nothing where they were not.

    ``recipes`` has, by row, in what its recipe differs from those of others.
    """
    if len({recipes[row] for row in rows if row in recipes}) < 2:
        return ""
    return (
        " Rows were trained by different recipes, which the conditions list: how they lie to each other shows the "
        "effect of these as well."
    )


def of_seeds(num_seeds: "pd.Series[int]") -> str:
    """``3 seeds``; where rows have different numbers, of how many each row's mean is: ``2 or 3 seeds, by row``."""
    counts = sorted(set(num_seeds))
    return plural(counts[0], "seed") if len(counts) == 1 else f"{listed(counts, 'or')} seeds, by row"


def of_many(shown: int, num_rows: int, which: str) -> str:
    """What is shown of a table that is too long for a figure, with a space at the end; nothing of a shorter one."""
    if shown == num_rows:
        return ""
    return f"Of {num_rows} rows, {shown} are shown, sorted: {which}. "


def interval_of(row: dict[Hashable, Any], metric: Metric = TOP1) -> str:
    """The interval of a difference, ``low`` to ``high``, in brackets with a space before it; nothing without one."""
    known = row["low"] == row["low"]
    return f" ({difference(row['low'], metric)} to {difference(row['high'], metric)})" if known else ""
