"""Scores by the stages that hold the operator and the fraction of their channels, of rows or of trials."""

import json
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from tadaconv.metrics import TOP1, Metric
from tadaconv.reporting.core import style
from tadaconv.reporting.core.export import CellOrigin


def placed(origins: list[CellOrigin], cells: pd.DataFrame, metric: Metric = TOP1) -> pd.DataFrame:
    """One line per cell: row, stages, share, rest, and the column of the metric (NaN where there is no result).

    ``stages`` are such as "res4+res5", and empty without a :class:`~tadaconv.spec.TAda`; ``share`` is the fraction of
    the channels, 0 to 1. ``rest`` is everything else about the experiment but its seed, as JSON.

    Args:
        origins: the cells of a manifest.
        cells: the frame of the same cells (columns cell and that of the metric).
        metric: the metric they are evaluated by.
    """
    lines = []
    # Line by line, not by key: two trials may share a cell, of which one was pruned.
    for origin, key, score in zip(origins, cells["cell"], cells[metric.name], strict=True):
        assert origin.cell == key, "manifest and frame hold the same cells in the same order"
        rest = {name: value for name, value in origin.experiment.items() if name != "seed"}
        temporal, stages, share = rest["temporal"] or {}, "", float("nan")
        if temporal.get("kind") == "tada":
            place = {**temporal["placement"]}
            stages, share = _stages_in_words(sorted(place.pop("stages"))), float(place.pop("share"))
            rest["temporal"] = {**temporal, "placement": place}
        lines.append((origin.row, stages, share, json.dumps(rest, sort_keys=True), score))
    return pd.DataFrame(lines, columns=["row", "stages", "share", "rest", metric.name])


def placement_map_data(cells: pd.DataFrame, metric: Metric = TOP1) -> pd.DataFrame:
    """One line per row or trial of ``cells``, of :func:`placed`.

    Columns: row, stages, share, that of the metric (mean over seeds), n (seeds with a result), num_planned, on_map. The
    map holds rows that differ in stages and share alone, in nothing else of the operator, the network, the clips or the
    recipe; of several such groups it holds the largest, of equally large ones the first.
    """
    data = cells.groupby("row", sort=False).agg(
        stages=("stages", "first"), share=("share", "first"), rest=("rest", "first"), score=(metric.name, "mean"),
        n=(metric.name, "count"), num_planned=(metric.name, "size"),
    ).rename(columns={"score": metric.name}).reset_index()  # fmt: skip
    alike = data["rest"].where(data["stages"] != "")
    on_map = alike == alike.value_counts(sort=False).idxmax() if alike.notna().any() else alike.notna()
    return data.assign(on_map=on_map).drop(columns="rest")


def _stages_in_words(stages: list[int]) -> str:
    if len(stages) > 2 and stages == list(range(stages[0], stages[-1] + 1)):
        return f"res{stages[0]}\u2013res{stages[-1]}"
    return "+".join(f"res{stage}" for stage in stages)


def draw_heatmap(data: pd.DataFrame, metric: Metric = TOP1) -> Figure:
    """A heat map with its numbers written in, few stages above many; a dash where no row is.

    What has no result shows its status, where ``data`` has a column ``status``.
    """
    data = data.assign(weighted=data[metric.name].fillna(0) * data["n"], status=data.get("status", "no result"))
    sums = data.groupby(["stages", "share"], sort=False).agg(
        weighted=("weighted", "sum"), n=("n", "sum"), num_planned=("num_planned", "sum"),
        status=("status", lambda statuses: ",\n".join(dict.fromkeys(statuses))),
    ).reset_index()  # fmt: skip
    sums["score"] = (sums["weighted"] / sums["n"]).where(sums["n"] > 0)
    shares = sorted(sums["share"].unique())
    stages = sorted(sums["stages"].unique(), key=_by_extent)
    grid = sums.pivot_table(index="stages", columns="share", values="score", dropna=False)
    grid = grid.reindex(index=stages, columns=shares)
    words = {(row["stages"], row["share"]): _in_cell(row, metric) for row in sums.to_dict("records")}
    written = [[words.get((stage, share), "") for share in shares] for stage in stages]
    figure, ax = style.canvas(0.8 + 0.36 * len(stages))
    sns.heatmap(
        grid, ax=ax, annot=pd.DataFrame(written, index=stages, columns=shares), fmt="", cbar=False, linewidths=1.5,
        linecolor="white", cmap=sns.light_palette(style.FILL, as_cmap=True, reverse=not metric.higher_is_better),
        annot_kws={"fontsize": 8.5, "color": style.INK},
    )  # fmt: skip
    for y, stage in enumerate(stages):
        for x, share in enumerate(shares):
            if grid.isna().iloc[y, x]:
                status = words.get((stage, share), "\u2013")
                ax.text(x + 0.5, y + 0.5, status, ha="center", va="center", color=style.SOFT)
    ax.set_xticklabels([f"{100 * share:.3g} %" for share in shares])
    ax.set(xlabel="fraction of the channels that is calibrated", ylabel="")
    ax.set_yticks([i + 0.5 for i in range(len(stages))], stages, rotation=0)
    ax.tick_params(length=0)
    return figure


def _in_cell(row: dict[Any, Any], metric: Metric) -> str:
    if not row["n"]:
        return str(row["status"])
    return f"{row['score']:.{metric.decimals}f}" + (f"\nn = {row['n']}" if row["n"] < row["num_planned"] else "")


def _by_extent(stages: str) -> tuple[int, str]:
    """Few stages before many."""
    if "\u2013" in stages:
        first, last = stages.split("\u2013")
        return int(last[3:]) - int(first[3:]) + 1, stages
    return stages.count("+") + 1, stages
