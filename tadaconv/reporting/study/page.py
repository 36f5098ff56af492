"""The parts of a study's page, each a function of the exported results; a notebook cell calls one of them."""

from math import nan
from typing import Any

import pandas as pd

from tadaconv.metrics import Metric
from tadaconv.reporting.core.format import count_scale
from tadaconv.reporting.core.page import Block, flat, render
from tadaconv.reporting.core.provenance import provenance as cells_of
from tadaconv.reporting.core.text import listed_clips, missing_notes
from tadaconv.reporting.study import text
from tadaconv.reporting.study.confirmation import (
    confirmation_data,
    confirmation_notes,
    confirmation_sentences,
    late_best,
)
from tadaconv.reporting.study.data import StudyExport, counts
from tadaconv.reporting.study.importance import Importance
from tadaconv.reporting.study.importance import sentences as importance_sentences
from tadaconv.reporting.study.parameters import parameters_in_words, value_in_words
from tadaconv.reporting.study.selection import seed_sd

_MOST_RANKED = 10
_MOST_UNFOLDED = 5


def headline(export: StudyExport) -> Block:
    """The question, how many trials ended how, the best in words, and how far to believe it."""
    question = text.title(export.manifest)
    about = [part for part in export.manifest.question.split("\n\n")[1:] if part.strip()]
    ran, best = _what_became(export), text.best_sentences(export)
    warning, manifest = text.warning(export), export.manifest
    command = None if manifest.confirmation else manifest.confirm_with
    html = render(
        "study_headline", manifest=manifest, question=question, about=about, ran=ran, best=best, warning=warning,
        command=command,
    )  # fmt: skip
    advice = f"Run: {command}" if command else f"Results on new seeds: {manifest.confirmation}."
    plain = "\n".join([question, ran, *best, *([f"{warning} {advice}"] if best else [])])
    return Block(html, plain)


def confirmation(export: StudyExport) -> Block | None:
    """The trials that were run on new seeds, with their scores there and in the search; None where none were."""
    data = confirmation_data(export)
    if data.empty:
        return None
    sentences, late, metric = confirmation_sentences(export), late_best(export), export.metric
    command = export.manifest.confirm_with
    html = render(
        "study_confirmation", sentences=sentences, late=late, command=command, rows=data.to_dict("records"),
        against=bool(data["num_pairs"].any()), notes=confirmation_notes(data, metric), metric=metric,
    )  # fmt: skip
    over_seeds = [metric.column(statistic) for statistic in ("mean", "low", "high")]
    columns = ["trial", "name", "searched", "n", *over_seeds, "change", "delta_mean"]
    late_line = [f"{late} {command}"] if late else []
    return Block(html, "\n".join([*sentences, *late_line, data[columns].to_string(index=False)]))


def ranking(export: StudyExport) -> Block:
    """The best trials, those tried first and the Pareto front, the best first."""
    metric = export.metric
    finished = export.trials[export.trials["status"] == "finished"].sort_values(
        [metric.name, "trial"], ascending=[not metric.higher_is_better, True]
    )
    shown = finished[(finished.reset_index(drop=True).index < _MOST_RANKED) | finished["first"] | finished["front"]]
    note = f"All {len(finished)} finished trials."
    if len(shown) < len(finished):
        note = (
            f"{len(shown)} of {len(finished)} finished trials: the {_MOST_RANKED} {metric.most}, those on the Pareto "
            "front and those tried first."
        )
    html = _table("study_trials", shown, metric, heading=f"The {metric.most} trials", note=note)
    return Block(html, shown[["name", metric.name, "macs", "what"]].to_string(index=False))


def cost_heading(export: StudyExport) -> Block:
    """The heading of the figures of the front and of the placement."""
    title = f"{export.metric.noun.capitalize()} against cost"
    return Block(f"<h2>{title}</h2>\n", title)


def importances(result: Importance) -> Block:
    """Which parameters matter, in words; what was left out and why."""
    sentences = importance_sentences(result)
    return Block(render("study_importance", sentences=sentences), "\n".join(sentences))


def every_trial(export: StudyExport) -> Block:
    """All trials in their order, with their status and why; folded away, as there are many."""
    html = _table("study_every", export.trials, export.metric, ran=_what_became(export))
    return Block(html, export.trials[["name", "status", export.metric.name, "why"]].to_string(index=False))


def unfinished(export: StudyExport) -> Block | None:
    """The trials that failed or were over budget, with why; None where none did."""
    ended = export.trials[export.trials["status"].isin(["failed", "over budget"])]
    if ended.empty:
        return None
    trials = ended.to_dict("records")
    plain = "\n".join(f"{trial['name']}, {trial['status']}: {trial['why']}" for trial in trials)
    html = render("study_unfinished", trials=trials, groups=counts(ended), fold=len(trials) > _MOST_UNFOLDED)
    return Block(html, plain)


def infeasible(export: StudyExport) -> Block | None:
    """The draws that cannot be run in the regime, with why; None where there are none."""
    if export.infeasible.empty:
        return None
    draws = [{**draw, "drawn": parameters_in_words(draw)} for draw in export.infeasible.to_dict("records")]
    plain = "\n".join(f"{draw['name'] or draw['drawn']}, infeasible: {draw['why']}" for draw in draws)
    html = render("study_infeasible", draws=draws, fold=len(draws) > _MOST_UNFOLDED)
    return Block(html, plain)


def conditions(export: StudyExport) -> Block:
    """What all trials share: backbone, clips, recipe, seeds and budget; and the space they were drawn from."""
    manifest = export.manifest
    groups = {name: flat(values) for name, values in manifest.conditions.items()}
    clips = next((cell.num_val for cell in manifest.cells if cell.num_val), None)
    missing = missing_notes(listed_clips(manifest.conditions.get("data", {})))
    space = [(parameter.name, _range(parameter.distribution)) for parameter in export.space.parameters]
    html = render("study_conditions", manifest=manifest, groups=groups, clips=clips, missing=missing, space=space)
    return Block(html, "\n".join(f"{name}: {values}" for name, values in [*groups.items(), *space]))


def provenance(export: StudyExport) -> Block:
    """Where the numbers come from: versions and devices, and every cell with its key."""
    names = dict(zip(export.trials["trial"], export.trials["name"], strict=True))
    lines = [*export.cells.to_dict("records"), *export.confirmation.to_dict("records")]
    cells = [{**cell, "row": names[cell["trial"]]} for cell in lines]
    return cells_of([*export.manifest.cells, *export.manifest.confirmed], cells)


def methods(export: StudyExport, result: Importance) -> Block:
    """How the numbers on this page are made, with references: of the methods that it uses alone."""
    trials = export.trials
    finished = trials[trials["status"] == "finished"]
    new = confirmation_data(export)
    covers = set(new["covers"])
    used = {
        "front": bool(trials["front"].any()),
        "importance": not result.data.empty,
        "selection": len(finished) > 1,
        "interval": "seeds" in covers or bool(new["delta_low"].notna().any()),
        "wilson": "clips" in covers,
        "ranked": bool(new["standing"].isin(["best", "tie"]).any()),
    }
    html = render(
        "study_methods", several=bool((trials["num_seeds"] > 1).any()), unfinished=len(finished) < len(trials),
        sd_known=pd.notna(seed_sd(export.cells, export.metric)), metric=export.metric, **used,
    )  # fmt: skip
    methods = ["means", *(_METHODS[name] for name in used if used[name])]
    return Block(html, f"Methods: {', '.join(methods)}.")


_METHODS = {
    "front": "Pareto dominance",
    "importance": "fANOVA",
    "selection": "the expected largest of n normal numbers",
    "interval": "Student's t",
    "wilson": "Wilson",
    "ranked": "Holm and Hsu's comparisons with the best",
}


def _what_became(export: StudyExport) -> str:
    return text.what_became(export.trials, export.manifest.num_infeasible)


def _table(template: str, trials: pd.DataFrame, metric: Metric, **context: Any) -> str:
    unit = count_scale(trials["macs"].dropna())
    rows = [
        {**row, "macs": nan if pd.isna(row["macs"]) else int(row["macs"]), "drawn": parameters_in_words(row)}
        for row in trials.to_dict("records")
    ]
    several = bool((trials["num_seeds"] > 1).any())
    return render(template, rows=rows, macs=unit, several=several, metric=metric, **context)


def _range(distribution: dict[str, Any] | None) -> str:
    """A distribution in words: its choices, or its ends with step and scale."""
    if distribution is None:
        return "distributions of different kinds"
    attributes = distribution["attributes"]
    if "choices" in attributes:
        return " | ".join(map(value_in_words, attributes["choices"]))
    step = f", step {attributes['step']:g}" if attributes.get("step") not in (None, 1) else ""
    scale = ", logarithmic" if attributes.get("log") else ""
    return f"{attributes['low']:g} to {attributes['high']:g}{step}{scale}"
