"""What a report says in words: verdicts, what the numbers cover, and what they cannot tell."""

from typing import Any

import pandas as pd

from tadaconv.ablation import PaperResult
from tadaconv.reporting import statistics as st
from tadaconv.reporting.export import Export, Manifest
from tadaconv.reporting.summary import compares_apart, comparisons, differing, paper_order, validation_clips
from tadaconv.reporting.words import listed, percent, plural, points


def title(manifest: Manifest) -> str:
    """The question of the table in one line."""
    return " ".join(manifest.question.partition("\n\n")[0].split()) or manifest.table


def what_was_run(export: Export) -> str:
    """How many cells there are, and what became of them."""
    manifest, status = export.manifest, export.cells["status"]
    counts = {name: int((status == name).sum()) for name in ("finished", "failed", "running", "waiting")}
    planned = len(manifest.rows) * len(manifest.seeds)
    missing = planned - sum(counts.values())
    parts = [f"{counts['finished']} of {plural(planned, 'cell')} finished"]
    parts += [f"{counts[name]} {name}" for name in ("failed", "running", "waiting") if counts[name]]
    parts += [f"{missing} not run"] if missing > 0 else []
    size = f"{plural(len(manifest.rows), 'row')}, {plural(len(manifest.seeds), 'seed')}"
    return f"{size}: {', '.join(parts)}."


def claim_sentence(line: dict[Any, Any]) -> str:
    """What a line of :func:`~tadaconv.reporting.summary.verdicts` found, and what it would take to find more."""
    pair = f"\u201c{line['better']}\u201d", f"\u201c{line['worse']}\u201d"
    n, effect = int(line["n"]), float(line["effect"])
    if n == 0:
        return f"No seed has a result in both {pair[0]} and {pair[1]}."
    how = "level with" if round(effect, 1) == 0 else "above" if effect > 0 else "below"
    by = "" if how == "level with" else f"{abs(effect):.1f} points "
    if n == 1:
        return (
            f"{pair[0]} lies {by}{how} {pair[1]} in the one seed that both have, which cannot tell what another would "
            "say; run at least three."
        )
    if line["sd"] == 0:
        return f"{pair[0]} lies {by}{how} {pair[1]} in each of {n} seeds. Without a spread there is no interval."
    interval = f"95 % interval {points(line['low'])} to {points(line['high'])}, {n} seeds in pairs"
    sentence = f"{pair[0]} lies {by}{how} {pair[1]} ({interval})."
    if n >= st.seeds_for_sign_flip():
        sentence += f" Sign-flip p = {line['p']:.3f}, {line['p_holm']:.3f} after Holm."
    return f"{sentence} {what_it_takes(float(line['sd']), n)}" if line["verdict"] == "undecided" else sentence


def what_it_takes(spread: float, n: int) -> str:
    """What ``n`` seeds can show where paired differences vary by ``spread`` points, and what one point would take."""
    seeds = st.seeds_needed(1.0, spread)
    needed = "more than 1000 seeds" if seeds is None else plural(seeds, "seed")
    return (
        f"With {n} seeds a true difference of {st.detectable_effect(spread, n):.1f} points would show four times in "
        f"five; for one of 1 point to show as often it takes about {needed}."
    )


def table_notes(export: Export, summary: pd.DataFrame) -> list[str]:
    """What stands below the table: what its intervals cover, what was left out, and what seeds cannot tell."""
    apart = compares_apart(summary, export.manifest.base)
    notes = [*_mixing_notes(export), *_interval_notes(export, summary, apart), *_gap_notes(summary, apart)]
    pairs = int(summary["num_pairs"].max())
    fewest = st.seeds_for_sign_flip()
    if 2 <= pairs < fewest:
        notes.append(
            f"An exact sign-flip test of {plural(pairs, 'pair')} cannot give p below {2.0 ** (1 - pairs):.3g}; it "
            f"takes {fewest} seeds to reach 0.05. Here the intervals alone decide, and they assume that differences "
            "between seeds are roughly normal."
        )
    return notes


_ASPECTS = {"backbone": "backbone", "num_frames": "frames a clip"}


def _mixing_notes(export: Export) -> list[str]:
    """What a difference in accuracy holds beside the operators, where rows differ in more than what is plugged in."""
    found = differing(export.manifest)
    if not found:
        return []
    what, share, their = " and ".join(_ASPECTS[name] for name in found), "it", "its"
    if len(found) > 1:
        share, their = "both", "their"
    across = [
        f"\u201c{row}\u201d"
        for row, versus in comparisons(export.manifest).items()
        if any(row in by_row and versus in by_row and by_row[row] != by_row[versus] for by_row in found.values())
    ]
    if across:
        taken = f"the difference of {across[0]} is" if len(across) == 1 else f"the differences of {listed(across)} are"
        return [
            f"Rows differ in {what}: {taken} taken between rows that do not share {share}, which mixes {their} effect "
            "on accuracy with that of what is plugged in."
        ]
    return [
        f"Rows differ in {what}: every difference here is taken between rows that share {share}; to compare the "
        f"accuracies of others mixes {their} effect with that of what is plugged in."
    ]


def _interval_notes(export: Export, summary: pd.DataFrame, apart: bool) -> list[str]:
    covers, clips = set(summary["covers"]), validation_clips(export.manifest)
    notes = ["Brackets below a number hold its 95 % interval."] if covers & {"seeds", "clips"} else []
    if "seeds" in covers:
        other = "the row named below each" if apart else "the base row"
        notes.append(
            "Intervals of rows with several seeds cover training with other seeds, judged on the same validation "
            f"clips. Differences to {other} are taken seed by seed."
        )
        best = summary["top1_mean"].max()
        if clips and best == best:
            low, high = st.wilson_interval(best, clips)
            notes.append(
                f"They do not cover the choice of validation clips: {percent(best)} % of {clips} clips has a binomial "
                f"interval of {percent(low)} to {percent(high)} %."
            )
    if "clips" in covers:
        other = "another row" if apart else "the base row"
        notes.append(
            f"Intervals of rows with one seed are the binomial error of {clips} validation clips. They do not cover "
            f"seeds, and from one seed a difference to {other} has no interval: two or more seeds are needed, "
            "three at least to be of use."
        )
    return notes


def _gap_notes(summary: pd.DataFrame, apart: bool) -> list[str]:
    notes = []
    if (summary["status"] != "finished").any():
        notes.append(
            "n counts the seeds that finished; failed and missing cells are left out of a mean, never filled in."
        )
    if summary["n"].any() and summary["delta_mean"].isna().all():
        other = "the row it is compared with" if apart else "the base row"
        notes.append(f"No row shares a finished seed with {other}, so there are no differences to it.")
    same = summary[(summary["n"] > 1) & summary["top1_low"].isna()]["row"].tolist()
    if same:
        notes.append(
            f"All seeds gave the same accuracy for {', '.join(same)}. That says nothing about their spread, so there "
            "is no interval; see whether the seeds take effect, or whether the row is at chance or at its ceiling."
        )
    return notes


def paper_notes(export: Export, summary: pd.DataFrame) -> list[str]:
    """On what the paper's numbers were measured, what differs here, and whether the orders agree."""
    results = [row.paper for row in export.manifest.rows if row.paper is not None]
    if not results:
        return ["The paper prints no number for these rows that could be traced to a source."]
    theirs = " and on ".join(_measured_on(results))
    notes = [
        f"The paper's numbers were measured on {theirs}; ours on {our_clips(export.manifest)}. "
        "The numbers cannot be compared, only their order."
    ]
    both, tau, p = paper_order(summary)
    if tau == tau:
        notes.append(f"Kendall\u2019s tau between the two orders, over {both} rows: {points(tau)} (p = {p:.2f}).")
    else:
        why = "too few to compare an order, which takes three" if both < 3 else "no order to compare, as all are equal"
        notes.append(f"{plural(both, 'row').capitalize()} with both numbers: {why}.")
    return notes


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
    views = data.get("num_temporal_views", 1), data.get("num_spatial_crops", 1)
    parts = [
        kinds.get(data.get("kind", ""), "other clips"),
        _frames(frames),
        f"{plural(views[0], 'clip')} x {plural(views[1], 'crop')} of {data.get('size', 0)} px",
    ]
    return ", ".join(parts)
