"""Cells to rows: means with intervals, paired differences to the row compared with, and what became of the claims."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tadaconv import statistics as st
from tadaconv.metrics import ROUNDING_ERROR, TOP1, Metric, metric_named
from tadaconv.reporting.ablation.data import Elsewhere, EnsembleOrigin, Export, Manifest
from tadaconv.reporting.ablation.paper import unlike_paper
from tadaconv.reporting.core.export import OWN_COLUMNS, CellOrigin, as_csv
from tadaconv.sequential import Direction, Judgement, SeedDesign
from tadaconv.spec import without_places


def base_columns(metric: Metric) -> list[str]:
    """The columns that every ``table.csv`` has; see :func:`table_columns`."""
    over_seeds = [metric.column(statistic) for statistic in ("mean", "low", "high", "sd")]
    return [
        "row", "status", "n", *over_seeds, "standing", "delta_mean", "delta_low", "delta_high", "num_pairs", "params",
        "macs", "seconds", f"paper_{metric.name}", "paper_source",
    ]  # fmt: skip


def summarise(export: Export) -> pd.DataFrame:
    """One line per row of the table, in its order: :func:`base_columns`, then further columns of the page.

    The columns of scores carry the name of the metric, of top-1 for example ``top1_mean``.

    ``status`` is *finished* where every seed of :func:`planned_seeds` has a result, *partial* where some have,
    *failed* where none has and a cell failed, *missing* where none has and none failed. ``n`` counts the seeds
    behind ``top1_mean``: failed and missing cells lower it and are never averaged. ``state`` is why a row has none:
    *running*, *failed*, *waiting*, *not run* or, of an ensemble, *no value*. Scores and differences are in the unit
    of the metric; ``seconds`` is the mean of a cell. The interval covers seeds where n >= 2 (``covers`` is "seeds")
    and else only the validation clips ("clips"; of a metric of classes alone). ``top1_sd`` is the standard
    deviation between seeds, and ``standing`` is *best*, *tie*, *below* or empty, see :func:`standings`. ``delta_*``
    are the differences to the row ``versus``, paired by seed; ``num_pairs`` counts the pairs, and ``other_seeds``
    is true where one of the two means, in an adaptive design that of the row, has other seeds as well, so that the
    difference is not that of the means. ``verdict`` is *better*, *worse*, *equivalent* or *undecided*, and empty
    for a row that is compared with none; ``num_needed`` is the number of seeds after which it was, see
    :func:`judge`, and 0 where both rows are the same experiment. ``delta_sd`` is the standard deviation of the
    differences, ``p`` the sign-flip p-value, in an adaptive design the repeated p-value, and ``p_holm`` the same
    adjusted over the table. ``versus`` is empty for a
    row that is compared with none, and ``reference`` marks rows that are compared with none or that others are
    compared with, and ``across_recipes`` those whose recipe is not that of the row ``versus``. ``ensemble`` names
    the rows that a row averages. ``paper_delta_*`` are our mean minus the published number, where the two are
    measured alike (see :mod:`.paper`), with the interval over our seeds; ``recipe_of`` is whose the recipe is,
    *paper* or *ours*, where the regime has a separate one for the row. ``same_as`` is the first row that is the same
    experiment, so that the two share their cells, and ``num_ranked`` counts the rows with a result that a row may be
    ranked with, itself among them: none for an ensemble. Where rows differ in ``OWN_COLUMNS`` or
    ``recipe``, these are what a row ran on; they are empty for one without a cell.
    """
    return _summary(export).copy()


@lru_cache(maxsize=2)  # a report asks a dozen times
def _summary(export: Export) -> pd.DataFrame:
    scores, metric = scores_by_seed(export), export.metric
    values = dict(zip(scores.index, scores.to_numpy(), strict=True))
    lines: dict[str, list[dict[Any, Any]]] = {row.name: [] for row in export.manifest.rows}
    for cell in export.cells[["row", "status", "params", "macs", "seconds"]].to_dict("records"):
        lines[cell["row"]].append(cell)
    for ensemble in export.manifest.ensembles:
        if ensemble.top1 is not None:
            costs = {"params": ensemble.params, "macs": ensemble.macs, "seconds": nan}
            lines[ensemble.row].append({"status": "finished", **costs})
    planned = planned_seeds(export.manifest)
    df = pd.DataFrame([_row_line(export, values, name, cells, len(planned[name])) for name, cells in lines.items()])
    df["ensemble"] = ["; ".join(row.ensemble) for row in export.manifest.rows]
    df["same_as"] = ["" if first == name else first for name, first in first_rows(export.manifest).items()]
    df.loc[(df["ensemble"] != "") & (df["n"] == 0), "state"] = "no value"
    published = f"paper_{metric.name}"
    df[published] = [nan if row.paper is None else row.paper.score for row in export.manifest.rows]
    df["paper_source"] = ["" if row.paper is None else row.paper.source for row in export.manifest.rows]
    unlike = unlike_paper(export.manifest)
    df["paper_alike"] = [unlike.get(name) == () for name in df["row"]]
    for part in ("mean", "low", "high"):
        known = df["paper_alike"] & ((part == "mean") | (df["covers"] == "seeds"))
        df[f"paper_delta_{part}"] = (df[metric.column(part)] - df[published]).where(known)
    df["recipe_of"] = [row.recipe or "" for row in export.manifest.rows]
    design = export.manifest.design
    # In an adaptive design rows differ in their seeds on purpose; notable are seeds of the row without a partner.
    is_adaptive = design is not None and design.is_adaptive
    most = df["n"] if is_adaptive else np.fmax(df["n"], df["versus"].map(df.set_index("row")["n"]))
    df["other_seeds"] = (df["num_pairs"] > 0) & (df["num_pairs"] < most)
    df["p_holm"] = st.holm(df["p"])
    ranked = groups(export.manifest)
    with_result = set(df.loc[df["n"] > 0, "row"])
    num_ranked = {name: len(with_result.intersection(group)) for group in ranked for name in group}
    df["num_ranked"] = [num_ranked.get(name, 0) for name in df["row"]]
    standing = standings(metric.sign * scores, ranked, design)
    df["standing"] = [standing[name] for name in df["row"]]
    apart = differing(export.manifest)
    own, other = (df[column].map(apart.get("recipe", {})) for column in ("row", "versus"))
    df["across_recipes"] = own.notna() & other.notna() & (own != other)
    for aspect, ran_on in apart.items():
        ran = pd.Series([ran_on.get(name) for name in df["row"]], index=df.index, dtype=object)
        df[aspect] = ran.astype("Int64") if aspect == "num_frames" else ran.fillna("")
    df = df.astype({"params": "Int64", "macs": "Int64", "num_needed": "Int64"})
    df["reference"] = ~df["versus"].astype(bool) | df["row"].isin(set(df["versus"]))
    first = base_columns(metric)
    return df[[*first, *(c for c in df.columns if c not in first)]]


def first_rows(manifest: Manifest) -> dict[str, str]:
    """By row, the first one that has the same cells: itself, but for a row that is the same experiment as another."""
    first_of: dict[str, str] = {}
    place = {row.name: number for number, row in enumerate(manifest.rows)}
    for cell in sorted(manifest.cells, key=lambda cell: place[cell.row]):
        first_of.setdefault(cell.cell, cell.row)
    by_row = {cell.row: first_of[cell.cell] for cell in manifest.cells}
    return {name: by_row.get(name, name) for name in place}


def planned_cells(manifest: Manifest) -> dict[str, set[int]]:
    """As :func:`planned_seeds`, of the rows that train, without those whose cells an earlier row has as well."""
    first, seeds = first_rows(manifest), planned_seeds(manifest)
    by_row: dict[str, set[int]] = {}
    for row in manifest.rows:
        if not row.ensemble:
            by_row.setdefault(first[row.name], set()).update(seeds[row.name])
    return by_row


def planned_seeds(manifest: Manifest) -> dict[str, set[int]]:
    """By row, its seeds: in an adaptive design the first ones and those it got since, else those of the table."""
    design = manifest.design
    if design is None or not design.is_adaptive:
        return {row.name: set(manifest.seeds) for row in manifest.rows}
    first = min(manifest.seeds, default=0)
    planned = {row.name: set(range(first, first + design.first)) for row in manifest.rows}
    for cell in manifest.cells:
        planned[cell.row].add(cell.seed)
    for ensemble in manifest.ensembles:
        planned[ensemble.row].add(ensemble.seed)
    return planned


def judge(design: SeedDesign | None, differences: NDArray[np.float64]) -> Judgement:
    """What paired differences show, by the design of a table.

    Without one, as in reports of earlier versions, by Student's interval, and without equivalence.
    """
    judged = (design or SeedDesign(first=1, last=1, smallest=1.0)).judge(differences)
    if design is None and judged.direction == "equivalent":
        return judged._replace(direction="undecided", num_needed=None)
    return judged


def _judge_rows(manifest: Manifest, one: str, other: str, differences: NDArray[np.float64]) -> Judgement:
    """As :func:`judge`; two rows that are the same experiment are equivalent by construction, after no seeds."""
    judged, first = judge(manifest.design, differences), first_rows(manifest)
    if manifest.design is None or first[one] != first[other] or not len(differences):
        return judged
    return judged._replace(direction="equivalent", num_needed=0, p=nan)


def _verdict(direction: Direction, metric: Metric, better: str, worse: str) -> str:
    """The word for a direction: ``better``, ``worse``, *equivalent* or *undecided*."""
    above, below = (better, worse) if metric.higher_is_better else (worse, better)
    return {"above": above, "below": below}.get(direction, direction)


def comparisons(manifest: Manifest) -> dict[str, str | None]:
    """By row, the row that its differences are taken to; None for one that is compared with none, such as the base."""
    chosen = {row.name: row.versus or manifest.base for row in manifest.rows}
    return {name: None if versus == name else versus for name, versus in chosen.items()}


def compares_apart(summary: pd.DataFrame, base: str) -> bool:
    """Whether rows are compared with different rows, so that each has to be named; else all with the base."""
    return set(summary.loc[summary["reference"], "row"]) != {base}


def differing(manifest: Manifest) -> dict[str, dict[str, str | int]]:
    """By aspect, *backbone*, *num_frames* or *recipe*, what each row with a cell ran on; only where rows differ.

    Of a recipe that in which it differs from that of another row, such as ``batch size 64, lr 0.24``.
    """
    run_on: dict[str, dict[str, str | int]] = {"backbone": {}, "num_frames": {}, "recipe": {}}
    recipes: dict[str, dict[str, Any]] = {}
    for cell in manifest.cells:
        run_on["backbone"][cell.row] = cell.experiment["backbone"]["name"]
        run_on["num_frames"][cell.row] = cell.experiment["data"]["num_frames"]
        recipes[cell.row] = _recipe(cell.experiment)
    names = dict.fromkeys(name for recipe in recipes.values() for name in recipe)
    apart = [name for name in names if len({str(recipe.get(name)) for recipe in recipes.values()}) > 1]
    for row, recipe in recipes.items():
        parts = [f"{name.replace('_', ' ')} {recipe[name]}" for name in apart if name in recipe]
        run_on["recipe"][row] = ", ".join(parts) or "none of these"
    return {aspect: by_row for aspect, by_row in run_on.items() if len(set(by_row.values())) > 1}


def _recipe(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """How a cell is trained and evaluated, besides its backbone, frames and seed; neutral values may be left out."""
    data, backbone = experiment["data"], experiment["backbone"]
    file = backbone.get("weights_fingerprint")
    return {
        **experiment["schedule"],
        "dropout": backbone["dropout"],
        "weights": backbone.get("weights") or (f"of file {file[:8]}" if file else "none"),
        **{name: value for name, value in without_places(data).items() if name != "num_frames"},
    }


def summary_files(export: Export) -> dict[str, str]:
    """What is written of the summary, to six digits: ``table.csv``, ``claims.csv`` and ``labels.csv``."""
    summary, manifest = summarise(export), export.manifest
    columns = table_columns(summary, manifest.base, export.metric)
    if manifest.design is not None:
        columns += ["verdict", "num_needed"]
    frames = {
        "table": summary[columns],
        **({"claims": verdicts(export)} if manifest.claims else {}),
        **({"labels": by_label(export)} if export.metric.of_classes else {}),
    }
    return {f"{name}.csv": as_csv(_without_rounding(frame), digits=6) for name, frame in frames.items()}


def _without_rounding(df: pd.DataFrame) -> pd.DataFrame:
    """The frame with 0 where a difference or an end of its interval is no more than rounding."""
    names = ["effect", "low", "high"] if "effect" in df else [name for name in map(str, df) if "delta_" in name]
    return df.assign(**{name: df[name].mask(df[name].abs() <= ROUNDING_ERROR, 0.0) for name in names})


def table_columns(summary: pd.DataFrame, base: str, metric: Metric = TOP1) -> list[str]:
    """:func:`base_columns`, then what there is of the other columns that are written.

    ``paper_delta_*`` where a published number is measured as ours, ``versus`` where rows are compared with different
    ones, what else rows differ in, ``recipe_of`` where a row has a separate recipe, and ``ensemble`` where a row
    averages others.
    """
    own = [column for column in (*OWN_COLUMNS, "recipe") if column in summary]
    own += [column for column in ("recipe_of", "ensemble") if summary[column].any()]
    compared = ["paper_delta_mean", "paper_delta_low", "paper_delta_high"] if summary["paper_alike"].any() else []
    return [*base_columns(metric), *compared, *(["versus"] if compares_apart(summary, base) else []), *own]


def by_label(export: Export) -> pd.DataFrame:
    """Accuracies in percent of each label, of all at once, and on the clips that the data set evaluates separately.

    A line a row, label and set of clips: ``row``, ``clips``, *all* or the name of a subset, ``num_val`` of them,
    ``label``, empty for all labels at once, ``n`` seeds, ``top1_mean`` and ``top1_sd`` over them, and ``top5_mean``,
    NaN for subsets. Without lines where clips have one label and no subsets, and of a metric that is not of classes.
    """
    lines: list[tuple[str, str, str, int, float | None, float | None]] = []
    of_cells, cells = export.cells.set_index(["row", "seed"]), list[CellOrigin | EnsembleOrigin]()
    if export.metric.of_classes:
        cells = [*export.manifest.cells, *export.manifest.ensembles]
    for cell in cells:
        subsets = cell.per_subset if isinstance(cell, CellOrigin) else {}
        if cell.num_val is None or not (cell.per_head or subsets):
            continue
        at_once: Any = of_cells.loc[(cell.row, cell.seed)] if isinstance(cell, CellOrigin) else cell
        lines.append((cell.row, "all", "", cell.num_val, at_once.top1, at_once.top5))
        lines += [(cell.row, "all", head, cell.num_val, of.top1, of.top5) for head, of in cell.per_head.items()]
        for name, subset in subsets.items():
            lines.append((cell.row, name, "", subset.num_val, subset.top1, nan))
            lines += [(cell.row, name, head, subset.num_val, top1, nan) for head, top1 in subset.per_head.items()]
    df = pd.DataFrame(lines, columns=["row", "clips", "label", "num_val", "top1", "top5"])
    over_seeds = df.groupby(["row", "clips", "label"], sort=False).agg(
        num_val=("num_val", "first"), n=("top1", "size"), top1_mean=("top1", "mean"), top1_sd=("top1", "std"),
        top5_mean=("top5", "mean"),
    ).reset_index()  # fmt: skip
    order = {row.name: place for place, row in enumerate(export.manifest.rows)}
    over_seeds = over_seeds.sort_values("row", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    return over_seeds[["row", "clips", "num_val", "label", "n", "top1_mean", "top1_sd", "top5_mean"]]


def scores_by_seed(export: Export) -> pd.DataFrame:
    """Scores, one line per row and a column a seed; NaN where a cell has no result."""
    cells = export.cells
    assert not cells.duplicated(["row", "seed"]).any(), "a row has one cell a seed"
    finished = cells[cells["status"] == "finished"]
    table = finished.set_index(["row", "seed"])[export.metric.name].unstack("seed")  # noqa: PD010 - nothing is aggregated here
    table = table.reindex(index=[row.name for row in export.manifest.rows], columns=export.manifest.seeds)
    for ensemble in export.manifest.ensembles:
        if ensemble.top1 is not None:
            table.loc[ensemble.row, ensemble.seed] = ensemble.top1
    return table


def verdicts(export: Export) -> pd.DataFrame:
    """One line a claim: its text, better, worse and source, then what became of it.

    ``effect`` is better - worse in the unit of differences, the mean of the differences paired by seed, with its
    interval, ``low`` to ``high``, see :func:`judge`; ``n`` counts the pairs, and ``sd`` is the standard deviation of
    their differences. ``verdict`` is *supported* where the whole interval is on the side of zero that the metric calls
    better, *contradicted* where it is on the other, *equivalent* where it is within the smallest difference of interest
    around zero, else *undecided*; ``num_needed`` is the number of seeds after which it was, 0 where the two rows are
    the same experiment. ``p`` is the sign-flip p-value, in an adaptive design the repeated p-value, and ``p_holm`` the
    same adjusted over the claims.
    ``table_wide`` is true where *supported* or *contradicted* hold at 5 % for all claims together, by the p-values of
    the test that decides, adjusted by Holm over the claims; where no design is stored it is false.
    ``across_recipes`` is true where the two rows were trained with different recipes.
    """
    lines = [
        {"text": claim.text, "better": claim.better, "worse": claim.worse, "source": claim.source}
        for claim in export.manifest.claims
    ]
    return _judged(export, lines, "supported", "contradicted")


def base_verdicts(export: Export) -> pd.DataFrame:
    """As :func:`verdicts`, one line for each row that is compared with another, which is ``worse``.

    ``text`` is the row's name, and the verdict is *better* or *worse* in place of *supported* or *contradicted*.
    """
    pairs = comparisons(export.manifest)
    lines = [{"text": row, "better": row, "worse": versus, "source": ""} for row, versus in pairs.items() if versus]
    return _judged(export, lines, "better", "worse")


def _judged(export: Export, lines: Sequence[dict[str, Any]], better: str, worse: str) -> pd.DataFrame:
    """Pairs of rows with what is known of their differences; ``better`` and ``worse`` are the words of verdicts."""
    scores, metric, design = scores_by_seed(export), export.metric, export.manifest.design
    named = ["text", "better", "worse", "source"]
    numbers = ["verdict", "effect", "low", "high", "n", "num_needed", "sd", "p", "p_holm", "table_wide"]
    if not lines:
        return pd.DataFrame(columns=[*named, *numbers, "across_recipes"])
    differences = [(scores.loc[line["better"]] - scores.loc[line["worse"]]).dropna().to_numpy() for line in lines]
    judgements = [
        _judge_rows(export.manifest, line["better"], line["worse"], values)
        for line, values in zip(lines, differences, strict=True)
    ]
    df = pd.DataFrame(lines, columns=named)
    df["verdict"] = [_verdict(judgement.direction, metric, better, worse) for judgement in judgements]
    df["effect"], df["low"], df["high"], df["n"] = zip(*(judgement.interval for judgement in judgements), strict=True)
    df["num_needed"] = pd.array([judgement.num_needed for judgement in judgements], dtype="Int64")
    df["sd"] = [st.standard_deviation(values) for values in differences]
    df["p"] = [_p_value(design, values, judgement) for values, judgement in zip(differences, judgements, strict=True)]
    df["p_holm"] = st.holm(df["p"])
    is_significant = st.holm([judgement.p for judgement in judgements]) <= 1 - st.CONFIDENCE
    df["table_wide"] = is_significant & df["verdict"].isin([better, worse]) & (design is not None)
    recipe = differing(export.manifest).get("recipe", {})
    pairs = zip(df["better"], df["worse"], strict=True)
    df["across_recipes"] = [len({recipe[row] for row in pair if row in recipe}) > 1 for pair in pairs]
    return df


def _p_value(design: SeedDesign | None, differences: NDArray[np.float64], judged: Judgement) -> float:
    """The p-value that is shown: of looks at further and further seeds the repeated one, else that of signs."""
    if (design is not None and design.is_adaptive) or judged.num_needed == 0:
        return judged.p
    return st.sign_flip_p(differences)


def groups(manifest: Manifest) -> list[list[str]]:
    """The rows that may be ranked against each other: those trained by one recipe on the same backbone and frames.

    In the order of the table; a row without a cell is in none.
    """
    ran_on = {
        cell.row: (
            cell.experiment["backbone"]["name"], cell.experiment["data"]["num_frames"], str(_recipe(cell.experiment))
        )
        for cell in manifest.cells
    }  # fmt: skip
    by_aspects: dict[tuple[str, int, str], list[str]] = {}
    for name in (row.name for row in manifest.rows if row.name in ran_on):
        by_aspects.setdefault(ran_on[name], []).append(name)
    return list(by_aspects.values())


def standings(scores: pd.DataFrame, groups: list[list[str]], design: SeedDesign | None = None) -> dict[str, str]:
    """By row of ``scores``, its standing within its group.

    The row of the highest mean is *best* where it is significantly above every other row of its group that has a
    result: by the t test of the differences paired by seed, in an adaptive design the repeated one, at 5 % after Holm
    over the group. Else it is a *tie*, and so is every row that is not significantly below it; one that is, is *below*.
    Empty is a row that was not tested, of unknown standing: without two seeds in common with the row on top, or in an
    adaptive design the first ones, in a group where no other row has a result, or where the row on top has a single
    seed. Differences that are all zero are a tie. Differences that are equal but
    not zero cannot be tested: such a row is empty, and keeps the row on top from being best.

    The rows that are *best* or a *tie* leave out the one that is truly best at most one time in twenty, as comparisons
    with the best do (Hsu, Annals of Statistics 12, 1984). Where several rows have the highest mean, each in turn is
    taken for the row on top, none is best, and a row is a tie if it is one to any of them, and below if it is below all
    of them: what is left out would be left out whichever of them were chosen, so the bound holds, and neither the order
    of rows nor, in a fixed design, that of seeds changes a mark.

    Args:
        scores: See :func:`scores_by_seed`; higher is better.
        groups: The rows that are ranked against each other, see :func:`groups`.
        design: How many seeds the table is run with.
    """
    marks = dict.fromkeys(map(str, scores.index), "")
    for members in groups:
        known = scores.loc[members].dropna(how="all")
        if len(known) > 1:
            marks |= _ranked(known, design)
    return marks


def _ranked(scores: pd.DataFrame, design: SeedDesign | None) -> dict[str, str]:
    """The marks of the rows of one group that have a result, two or more of them."""
    by_row = {str(name): values for name, values in zip(scores.index, scores.to_numpy(dtype=float), strict=True)}
    means = {name: float(_known(values).mean()) for name, values in by_row.items()}
    highest = max(means.values())
    on_top = [name for name, mean in means.items() if highest - mean <= ROUNDING_ERROR]
    if len(on_top) == 1:
        return _marks(by_row, on_top[0], design)
    differing = {by_row[name].tobytes(): name for name in on_top}  # rows that are equal in every seed give the same
    by_top = [_marks(by_row, top, design) for top in differing.values()]
    ties = {name for marks in by_top for name, mark in marks.items() if mark != "below"}
    below = [name for name in by_row if all(marks.get(name) == "below" for marks in by_top)]
    return {**dict.fromkeys(below, "below"), **dict.fromkeys(ties, "tie")}


def _marks(by_row: Mapping[str, NDArray[np.float64]], top: str, design: SeedDesign | None) -> dict[str, str]:
    """The marks of the rows where ``top`` is the one on top."""
    if len(_known(by_row[top])) < 2:
        return {}
    ahead = {name: _known(by_row[top] - values) for name, values in by_row.items() if name != top}
    p_of = {name: judge(design, differences).p for name, differences in ahead.items()}
    p_values = dict(zip(p_of, st.holm(list(p_of.values())), strict=True))
    below = {name for name, p in p_values.items() if p <= 1 - st.CONFIDENCE and ahead[name].mean() > 0}
    tested = {name for name, d in ahead.items() if len(d) > 1 and (p_of[name] == p_of[name] or _is_zero(d))}
    marks = {name: "below" if name in below else "tie" for name in tested}
    return {**marks, top: "best" if below == set(ahead) else "tie"}


def is_marked(summary: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows have their score in bold or underlined."""
    return summary["standing"].isin(["best", "tie"])


def untested(summary: pd.DataFrame) -> list[str]:
    """The rows with a result that lack a mark for want of a test, where there are marks at all."""
    if not is_marked(summary).any():
        return []
    return [str(row) for row in summary.loc[(summary["n"] > 0) & (summary["standing"] == ""), "row"]]


def _is_zero(differences: NDArray[np.float64]) -> bool:
    return bool((np.abs(differences) <= ROUNDING_ERROR).all())


def paper_order(export: Export) -> st.Agreement:
    """How far our numbers and the paper's agree in the order of the rows that have both."""
    published = {row.name: row.paper.score for row in export.manifest.rows if row.paper is not None}
    return agreement(export, Elsewhere(metric=export.metric.name, regime="", score=published, num_seeds={}))


def agreement(export: Export, other: Elsewhere) -> st.Agreement:
    """How far the rows with a mean here and a score elsewhere are in the same order, from worst to best.

    ``n`` counts these rows; the rest is NaN for fewer than three of them.
    """
    summary, metric = summarise(export), export.metric
    ours = metric.sign * summary[metric.column("mean")]
    theirs = metric_named(other.metric).sign * summary["row"].map(other.score).astype(float)
    both = ours.notna() & theirs.notna()
    if both.sum() < 3:
        return st.Agreement(nan, nan, nan, int(both.sum()))
    return st.kendall_tau(ours[both].tolist(), theirs[both].tolist())


def validation_clips(manifest: Manifest) -> int | None:
    """The validation clips behind the score of a cell; they are the same for every row and seed."""
    return next((cell.num_val for cell in manifest.cells if cell.num_val), None)


def _row_line(
    export: Export,
    scores: Mapping[str, NDArray[np.float64]],
    name: str,
    cells: Sequence[Mapping[Any, Any]],
    num_planned: int,
) -> dict[str, object]:
    metric, design, versus = export.metric, export.manifest.design, comparisons(export.manifest)[name]
    finished = [cell for cell in cells if cell["status"] == "finished"]
    statuses = [cell["status"] for cell in cells]
    num_failed = statuses.count("failed")
    values = _known(scores[name])
    score, covers = _interval(values, validation_clips(export.manifest), metric)
    lowest, highest = metric.ends
    delta = np.empty(0) if versus is None else _known(scores[name] - scores[versus])
    judged = judge(design, delta) if versus is None else _judge_rows(export.manifest, name, versus, delta)
    change = judged.interval
    return {
        "row": name,
        "status": _status(score.n, num_failed, num_planned),
        "n": score.n,
        metric.column("mean"): score.mean,
        metric.column("low"): max(score.low, lowest) if score.low == score.low else nan,
        metric.column("high"): min(score.high, highest) if score.high == score.high else nan,
        metric.column("sd"): st.standard_deviation(values),
        "delta_mean": change.mean,
        "delta_low": change.low,
        "delta_high": change.high,
        "params": finished[0]["params"] if score.n else pd.NA,
        "macs": finished[0]["macs"] if score.n else pd.NA,
        "seconds": float(np.mean([cell["seconds"] for cell in finished])) if finished else nan,
        "versus": versus or "",
        "covers": covers,
        "state": "" if score.n else next((s for s in ("running", "failed", "waiting") if s in statuses), "not run"),
        "num_failed": num_failed,
        "num_planned": num_planned,
        "num_pairs": change.n,
        "delta_sd": st.standard_deviation(delta),
        "p": _p_value(design, delta, judged),
        "verdict": "" if versus is None else _verdict(judged.direction, metric, "better", "worse"),
        "num_needed": judged.num_needed,
    }


def _known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[~np.isnan(values)]


def _interval(values: NDArray[np.float64], num_val: int | None, metric: Metric) -> tuple[st.Interval, str]:
    """The mean score with the interval that can be known, and what that interval covers."""
    interval = st.t_interval(values)
    if interval.n == 1 and num_val and metric.of_classes:
        return st.Interval(interval.mean, *st.wilson_interval(interval.mean, num_val), 1), "clips"
    return interval, "seeds" if interval.low == interval.low else ""


def _status(num_finished: int, num_failed: int, num_planned: int) -> str:
    if num_finished:
        return "finished" if num_finished == num_planned else "partial"
    return "failed" if num_failed else "missing"
