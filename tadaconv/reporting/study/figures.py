"""The figures of a study's report. Each is a data function, ``export -> DataFrame``, and a drawing function."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from tadaconv.metrics import TOP1, Metric
from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import Drawing, figure
from tadaconv.reporting.core.format import count_scale, in_unit_of
from tadaconv.reporting.core.labels import label_of
from tadaconv.reporting.core.placement import draw_heatmap, placed, placement_map_data
from tadaconv.reporting.core.scatter import beside_the_cheapest, draw_front, names_at_the_right
from tadaconv.reporting.core.text import points_of_curves
from tadaconv.reporting.study.data import Parameter, StudyExport, with_operator
from tadaconv.reporting.study.importance import NUM_FORESTS, NUM_SHUFFLES, Importance
from tadaconv.reporting.study.parameters import value_in_words
from tadaconv.reporting.study.text import too_good
from tadaconv.text import listed, plural

_EDGE: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.6, "linestyle": ""}
_HOLLOW: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": style.SOFT, "linestyle": ""}
_LOOKS: dict[str, dict[str, Any]] = {
    "finished": {"marker": "o", "color": style.ROW, "markersize": 5, **_EDGE},
    "first": {"marker": "D", "color": style.BASE, "markersize": 5.5, **_EDGE},
    "pruned": {"marker": "x", "color": style.SOFT, "markersize": 4.5, "linestyle": "", "markeredgewidth": 1.1},
    "failed": {"marker": "v", "markersize": 5, **_HOLLOW},
    "over budget": {"marker": "s", "markersize": 4.5, **_HOLLOW},
}
"""How a trial is drawn: a marker for each way to end, and one for those that are tried first."""

_BUDGET: dict[str, Any] = {"color": style.SOFT, "linewidth": 1.0, "linestyle": (0, (4, 2))}
_SAID = {"first": "finished, tried first", "pruned": "pruned, where it stood"}


# Scores against cost


def pareto_data(export: StudyExport) -> pd.DataFrame:
    """One line a finished trial, and one a trial over budget, whose cost is known.

    Columns: trial, name, status, macs (multiply-adds a clip), mean (of the score), front, first, best, reference
    (whether its label stands out, as those tried first do).
    """
    trials, name = export.trials, export.metric.name
    kept = trials[trials["status"].isin(["finished", "over budget"]) & trials["macs"].notna()]
    data = kept[["trial", "name", "status", "macs", name, "front", "first", "best"]].rename(columns={name: "mean"})
    return data.assign(reference=data["first"]).astype({"macs": "float64"}).reset_index(drop=True)


def pareto(export: StudyExport) -> Drawing | None:
    """The score against multiply-adds with the Pareto front; None while no trial has finished."""
    data = pareto_data(export)
    if not (data["status"] == "finished").any():
        return None
    budget = export.manifest.max_macs
    return draw_pareto(data, budget, export.metric)


def pareto_caption(data: pd.DataFrame, budget: float | None, metric: Metric = TOP1) -> str:
    """Caption of the scatter with the front."""
    text = (
        f"Validation {metric.label} against the cost of a clip, in multiply-adds of convolutions and linear layers. "
        f"The line is the Pareto front: no finished trial is as cheap and as {metric.equative} as one on it, and "
        "better in one of the two."
        " Diamonds are the configurations that the study names and tries first."
    )
    if budget is not None:
        text += " Dashed: the budget of the study, the most that a trial may cost; beyond it, hatched, none is run."
    if (data["status"] == "over budget").any():
        text += " Squares on the axis cost too much and were not run."
    side = too_good(metric)
    return f"{text} The front is made of the luckiest trials at each cost, and lies too {side} for that reason."


def pareto_alt(data: pd.DataFrame, metric: Metric = TOP1) -> str:
    """The scatter in words."""
    front = data[data["front"]].sort_values("macs")
    points = "; ".join(
        f"{r['name']}: {r['macs']:.4g} at {metric.in_words(r['mean'])}" for r in front.to_dict("records")
    )
    over = int((data["status"] == "over budget").sum())
    more = f" {plural(over, 'trial')} over budget." if over else ""
    return (
        f"Scatter plot of validation {metric.label} against multiply-adds a clip. On the Pareto front: {points}.{more}"
    )


@figure(caption=pareto_caption, alt=pareto_alt)
def draw_pareto(data: pd.DataFrame, budget: float | None, metric: Metric = TOP1) -> Figure:
    """A scatter with the front as steps; trials on it, and those tried first, are named in a column at the right."""
    finished, over = data[data["status"] == "finished"], data[data["status"] == "over budget"]
    named = finished[finished["front"] | finished["first"]]
    labels = [
        label_of(name + (" (best)" if best else ""), 30)
        for name, best in zip(named["name"], named["best"], strict=True)
    ]
    num_lines = max(label.count("\n") + 1 for label in labels)
    figure, ax = style.canvas(max(3.6, 1.2 + 0.17 * num_lines * len(named)))
    unit, name = count_scale(data["macs"])
    cost = data["macs"] / unit
    least, most = float(cost.min()), max(float(cost.max()), budget / unit if budget else 0.0)
    span = max(most - least, 0.005 * least)
    for first, part in finished.groupby("first"):
        ax.plot(part["macs"] / unit, part["mean"], **_LOOKS["first" if first else "finished"], zorder=3)
    ax.set(xlim=(max(0.0, least - 0.08 * span), least + 1.08 * span), ylabel=metric.axis)
    ax.set_xlabel(f"multiply-adds a clip ({name})" if name else "multiply-adds a clip")
    _draw_front(ax, finished[finished["front"]], unit, budget)
    beside_the_cheapest(ax, least, most, "trial")
    ax.grid(axis="y")
    names_at_the_right(ax, (named["macs"] / unit).tolist(), named, labels, num_lines)
    _draw_budget(ax, over["macs"] / unit, budget / unit if budget else None)
    keys = [Line2D([], [], **_LOOKS[kind]) for kind in ("finished", "first")]
    keys.append(Line2D([], [], color=style.ROW, linewidth=1.4))
    said = ["trial", "tried first", "Pareto front"]
    if budget is not None and budget / unit < ax.get_xlim()[1]:
        # Not written beside the line: lines to names run there.
        keys.append(Line2D([], [], **_BUDGET))
        said.append("budget")
    if len(over):
        keys.append(Line2D([], [], **_LOOKS["over budget"]))
        said.append("over budget, not run")
    num_columns = len(keys) if len(keys) < 5 else 3
    figure.legend(keys, said, ncols=num_columns, handlelength=1.6, columnspacing=1.2, **style.LEGEND)
    return figure


def _draw_front(ax: Axes, front: pd.DataFrame, unit: float, budget: float | None) -> None:
    right = min(ax.get_xlim()[1], budget / unit) if budget else ax.get_xlim()[1]
    draw_front(ax, front["macs"] / unit, front["mean"], right)


def _draw_budget(ax: Axes, over: "pd.Series[float]", budget: float | None) -> None:
    """Hatch what costs too much; trials there were not run, so they lie on the axis without a score."""
    left, right = ax.get_xlim()
    if budget is not None and budget < right:
        ax.axvspan(budget, right, facecolor="none", edgecolor=style.FAINT, hatch="////", linewidth=0, zorder=0)
        ax.axvline(budget, **_BUDGET, zorder=1)
    if len(over):
        ax.plot(over, [0.035] * len(over), transform=ax.get_xaxis_transform(), **_LOOKS["over budget"], clip_on=False)
    ax.set_xlim(left, right)


# Where the operator pays


def placement_data(export: StudyExport) -> pd.DataFrame:
    """As :func:`.placement_map_data`, a line a trial, with its trial, name and status.

    Only trials that finished have a score: seeds that ended before their trial was pruned or failed are too few,
    and pruned for what they came to. ``row`` is the number of the trial as text.
    """
    numbers = export.cells["trial"]
    origins = [
        cell.model_copy(update={"row": str(number)})
        for number, cell in zip(numbers, export.manifest.cells, strict=True)
    ]
    finished = export.trials.loc[export.trials["status"] == "finished", "trial"]
    metric = export.metric
    cells = export.cells.assign(**{metric.name: export.cells[metric.name].where(numbers.isin(finished))})
    data = placement_map_data(placed(origins, cells, metric), metric)
    about = export.trials[["trial", "name", "status"]]
    return data.assign(trial=data["row"].astype("int64")).merge(about, on="trial")


def placement_map(export: StudyExport) -> Drawing | None:
    """Score by stages and share of channels; None unless trials that are otherwise alike differ in one of them."""
    data = placement_data(export)
    shown = data[data["on_map"]]
    if len(shown[["stages", "share"]].drop_duplicates()) < 2 or not shown["n"].any():
        return None
    return draw_placement_map(data, export.metric)


_BECAME = {
    "pruned": ("was pruned", "were pruned"),
    "over budget": ("was over budget", "were over budget"),
    "failed": ("failed", "failed"),
    "running": ("is running", "are running"),
    "waiting": ("is waiting", "are waiting"),
}


_MOST_NAMED = 8


def placement_map_caption(data: pd.DataFrame, metric: Metric = TOP1) -> str:
    """Caption of the map: what stands behind its numbers, what became of trials without one, and what is not on it."""
    shown, apart = data[data["on_map"]], data[~data["on_map"]]
    text = (
        f"Validation {in_unit_of(metric)}, {_behind(shown)}, by the stages that hold the operator and the share of "
        "their channels that is calibrated. The trials on it are alike in all else; a dash marks what none asks for."
    )
    ended = [
        f"{_named(part['name'].tolist())} {_BECAME[status][len(part) > 1]}"
        for status in _BECAME
        if len(part := shown[shown["status"] == status])
    ]
    if ended:
        text += f" No result, by the reason: {'; '.join(ended)}."
    if len(apart) > _MOST_NAMED:
        text += f" {len(apart)} trials are not on the map, since something else differs."
    elif len(apart):
        others = listed([_in_brackets(trial, metric) for trial in _lines(apart)])
        text += f" Not on the map, since something else differs: {others}."
    return text


def placement_map_alt(data: pd.DataFrame, metric: Metric = TOP1) -> str:
    """The map in words."""
    shown = data[data["on_map"]]
    cells = "; ".join(
        f"{r['stages']}, {100 * r['share']:.3g} % of the channels: "
        + (metric.in_words(r[metric.name]) if r["n"] else f"{r['status']}, no result")
        for r in _lines(shown)
    )
    return f"Heat map of validation {metric.label} by stages and share of channels, {_behind(shown)}. {cells}."


def _behind(shown: pd.DataFrame) -> str:
    """``from one seed``, ``mean over 3 seeds`` or ``mean over 1 to 3 seeds``."""
    num_seeds = sorted(shown.loc[shown["n"] > 0, "n"].unique().tolist())
    if num_seeds == [1]:
        return "each from one seed"
    several = plural(num_seeds[0], "seed") if len(num_seeds) == 1 else f"{num_seeds[0]} to {num_seeds[-1]} seeds"
    return f"mean over {several}"


def _named(names: list[str]) -> str:
    return listed(names) if len(names) <= _MOST_NAMED else f"{len(names)} trials"


def _in_brackets(trial: dict[Any, Any], metric: Metric) -> str:
    return f"{trial['name']} ({metric.in_words(trial[metric.name]) if trial['n'] else trial['status']})"


def _lines(data: pd.DataFrame) -> list[dict[Any, Any]]:
    return data.to_dict("records")


@figure(caption=placement_map_caption, alt=placement_map_alt)
def draw_placement_map(data: pd.DataFrame, metric: Metric = TOP1) -> Figure:
    """The map of the trials that are on it; what has no result shows what became of it."""
    return draw_heatmap(data[data["on_map"]], metric)


# History


def best_so_far_data(export: StudyExport) -> pd.DataFrame:
    """One line a trial that ended: trial, status, top1 (or another; where a pruned one stood), best (so far), first."""
    metric = export.metric
    trials = export.trials[~export.trials["status"].isin(["running", "waiting"])]
    data = trials[["trial", "status", "first"]].copy()
    scores = trials[metric.name]
    data[metric.name] = scores.where(trials["status"] != "pruned", trials["reached"])
    data["best"] = (scores.cummax() if metric.higher_is_better else scores.cummin()).ffill()
    return data.reset_index(drop=True)


def best_so_far(export: StudyExport) -> Drawing | None:
    """The trials in their order with the best so far; None while none has finished."""
    data = best_so_far_data(export)
    if not (data["status"] == "finished").any():
        return None
    return draw_best_so_far(data, export.metric)


def best_so_far_caption(data: pd.DataFrame, metric: Metric = TOP1) -> str:
    """Caption of the history."""
    text = f"Validation {metric.label} of the trials in the order they were started, and the best so far."
    if (data["status"] == "pruned").any():
        text += f" Crosses are pruned trials, at the {metric.noun} where they were stopped, which is not a final one."
    if data["status"].isin(["failed", "over budget"]).any():
        text += f" Trials below the axis have no {metric.noun}."
    return text


def best_so_far_alt(data: pd.DataFrame, metric: Metric = TOP1) -> str:
    """The history in words: each trial that was the best when it finished."""
    rises = data[data["best"].notna() & (data["best"] != data["best"].shift())]
    steps = "; ".join(f"trial {r['trial']}: {metric.in_words(r['best'])}" for r in rises.to_dict("records"))
    changed = "rose" if metric.higher_is_better else "fell"
    return f"Scatter plot of validation {metric.label} by trial. The best so far {changed} at {steps}."


@figure(caption=best_so_far_caption, alt=best_so_far_alt)
def draw_best_so_far(data: pd.DataFrame, metric: Metric = TOP1) -> Figure:
    """A scatter over the number of the trial; what has no score lies in a strip below."""
    figure, ax = style.canvas(3.3)
    ax.step(data["trial"], data["best"], where="post", color=style.INK, linewidth=1.2, zorder=1)
    kinds = data["status"].where(~(data["first"] & (data["status"] == "finished")), "first")
    keys, said = [Line2D([], [], color=style.INK, linewidth=1.2)], ["best so far"]
    for kind, look in _LOOKS.items():
        here = data[kinds == kind]
        if here.empty:
            continue
        known = here.dropna(subset=[metric.name])
        ax.plot(known["trial"], known[metric.name], **look, zorder=3)
        unknown = here[here[metric.name].isna()]
        ax.plot(unknown["trial"], [-0.06] * len(unknown), transform=ax.get_xaxis_transform(), **look, clip_on=False)
        keys.append(Line2D([], [], **look))
        said.append(_SAID.get(kind, kind))
    ax.set(xlabel="trial", ylabel=metric.axis)
    ax.spines["bottom"].set_position(("outward", 16))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y")
    figure.legend(keys, said, ncols=3, handlelength=1.6, columnspacing=1.2, **style.LEGEND)
    return figure


# Scores by value of each parameter


def slices_data(export: StudyExport) -> pd.DataFrame:
    """One line a finished trial and parameter it has: parameter, trial, value (as drawn), top1 (or another), first.

    Trials that plug nothing in are left out: their parameters mean nothing.
    """
    score = export.metric.name
    finished = export.trials[export.trials["status"] == "finished"].set_index("trial")
    finished = finished[finished.index.isin(with_operator(export))]
    lines = [
        (parameter.name, number, parameter.drawn[number], trial[score], trial["first"])
        for parameter in export.space.parameters
        for number, trial in finished.iterrows()
        if number in parameter.drawn
    ]
    return pd.DataFrame(lines, columns=["parameter", "trial", "value", score, "first"])


def slices(export: StudyExport) -> Drawing | None:
    """The score by the value of each parameter that varies; None where none does."""
    data = slices_data(export)
    varying = [
        name for name, part in data.groupby("parameter", sort=False) if part["value"].map(repr).unique().size > 1
    ]
    if not varying:
        return None
    data = data[data["parameter"].isin(varying)]
    parameters = {p.name: p for p in export.space.parameters if p.name in varying}
    return draw_slices(data, parameters, export.metric)


def slices_caption(data: pd.DataFrame, metric: Metric = TOP1) -> str:
    """Caption of the panels by parameter."""
    return (
        f"Validation {metric.label} of the finished trials by the value of each parameter, {data['trial'].nunique()} "
        "trials. "
        "The other parameters vary along, and the search draws good values more often: a difference between two "
        "columns is a hint, not an effect. Parameters are called as in the study\u2019s file; the space that was "
        "searched, further down, lists the values of each."
    )


def slices_alt(data: pd.DataFrame, metric: Metric = TOP1) -> str:
    """The panels in words: the mean of each value."""
    said = []
    for name, part in data.groupby("parameter", sort=False):
        means = part.groupby(part["value"].map(value_in_words), sort=False)[metric.name].mean()
        said.append(f"{name}: " + ", ".join(f"{value} {metric.in_words(mean)}" for value, mean in means.items()))
    return f"Dot plots of validation {metric.label} by parameter value, means: " + "; ".join(said) + "."


@figure(caption=slices_caption, alt=slices_alt)
def draw_slices(data: pd.DataFrame, parameters: dict[str, Parameter], metric: Metric = TOP1) -> Figure:
    """A small panel a parameter; a choice has a column with the mean of its trials, a number its own scale."""
    num_columns = min(3, len(parameters))
    num_rows = -(-len(parameters) // num_columns)
    titles = [label_of(name, 22) for name in parameters]
    height = num_rows * (1.35 + 0.142 * max(title.count("\n") for title in titles))
    figure = Figure(figsize=(style.WIDTH, 0.55 + height), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False).ravel()
    for ax, parameter, title in zip(panels, parameters.values(), titles, strict=False):
        _slice(ax, data[data["parameter"] == parameter.name], parameter, metric.name)
        ax.set_title(title, loc="left", pad=3)
        ax.grid(axis="y")
        ax.locator_params(axis="y", nbins=4)
    for ax in panels[len(parameters) :]:
        ax.set_visible(False)
    figure.supylabel(metric.axis, fontsize=8.5)
    keys = [Line2D([], [], **_LOOKS["finished"]), Line2D([], [], **_LOOKS["first"])]
    keys.append(Line2D([], [], color=style.INK, linewidth=1.6))
    figure.legend(keys, ["trial", "tried first", "mean of a choice"], ncols=3, handlelength=1.6, **style.LEGEND)
    return figure


def _slice(ax: Axes, data: pd.DataFrame, parameter: Parameter, score: str) -> None:
    kind = (parameter.distribution or {"name": "CategoricalDistribution"})["name"]
    look = {first: {**_LOOKS["first" if first else "finished"], "markersize": 4} for first in (False, True)}
    if kind != "CategoricalDistribution":
        for first, part in data.groupby("first"):
            ax.plot(part["value"].astype(float), part[score], **look[bool(first)], alpha=0.8)
        if (parameter.distribution or {}).get("attributes", {}).get("log"):
            low, high = data["value"].min(), data["value"].max()
            ax.set_xscale("log", base=10 if high > 100 * low else 2)
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_locator(NullLocator())
        return
    choices = {json.dumps(choice): choice for choice in _choices(parameter, data)}
    for place, (key, _) in enumerate(choices.items()):
        here = data[data["value"].map(json.dumps) == key].sort_values("trial")
        if here.empty:
            continue
        # Trials of one choice side by side in the order they ran, so that equal ones are told apart.
        beside = here.assign(x=[place + 0.5 * ((i + 0.5) / len(here) - 0.5) for i in range(len(here))])
        for first, part in beside.groupby("first"):
            ax.plot(part["x"], part[score], **look[bool(first)], alpha=0.8)
        ax.hlines(here[score].mean(), place - 0.36, place + 0.36, color=style.INK, linewidth=1.6, zorder=4)
    ax.set_xticks(range(len(choices)), [label_of(value_in_words(choice), 9) for choice in choices.values()])
    ax.set_xlim(-0.6, len(choices) - 0.4)


def _choices(parameter: Parameter, data: pd.DataFrame) -> list[Any]:
    if parameter.distribution is None:
        return list(data["value"])
    return list(parameter.distribution["attributes"]["choices"])


# Learning curves


def learning_curves_data(export: StudyExport) -> pd.DataFrame:
    """One line a trial and epoch: trial, name, status, best, first, base, epoch, val_top1 (or another)."""
    about = export.trials[["trial", "name", "status", "best", "first", "base"]]
    return export.curves.merge(about, on="trial").sort_values(["trial", "epoch"], ignore_index=True)


def learning_curves(export: StudyExport) -> Drawing | None:
    """The validation score over the epochs of every trial; None while no trial has finished an epoch."""
    data = learning_curves_data(export)
    if data.empty:
        return None
    return draw_learning_curves(data, export.metric, conditions=export.manifest.conditions)


def learning_curves_caption(data: pd.DataFrame, conditions: Mapping[str, Any], metric: Metric = TOP1) -> str:
    """Caption of the curves; ``conditions`` are what the cells share, as the manifest has them."""
    when, views = points_of_curves([conditions], metric)
    text = f"Validation {metric.label} {when}, {plural(data['trial'].nunique(), 'trial')}.{views}"
    num_pruned = int((data.drop_duplicates("trial")["status"] == "pruned").sum())
    return f"{text} A cross marks where one was pruned ({num_pruned})." if num_pruned else text


def learning_curves_alt(data: pd.DataFrame, metric: Metric = TOP1) -> str:
    """The learning curves in words: where each ends."""
    last = data.sort_values("epoch").drop_duplicates("trial", keep="last").sort_values("trial")
    ends = "; ".join(
        f"{r['name']} {'pruned' if r['status'] == 'pruned' else 'ends'} at epoch {r['epoch']} with "
        f"{metric.in_words(r[metric.curve_column])}"
        for r in last.to_dict("records")
    )
    return f"Learning curves, validation {metric.label} over epochs. {ends}."


@figure(caption=learning_curves_caption, alt=learning_curves_alt)
def draw_learning_curves(data: pd.DataFrame, metric: Metric = TOP1) -> Figure:
    """All curves in one pair of axes; the best and the base stand out, and a cross ends one that was pruned."""
    figure, ax = style.canvas(3.3)
    for _, part in data.groupby("trial"):
        trial = part.iloc[0]
        look = _curve_look(trial)
        ax.plot(part["epoch"], part[metric.curve_column], **look)
        if trial["status"] == "pruned":
            ax.plot(part["epoch"].iloc[-1], part[metric.curve_column].iloc[-1], **_LOOKS["pruned"], zorder=3)
    ax.set(xlabel="epoch", ylabel=metric.axis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y")
    first = data.drop_duplicates("trial")
    keys, said = [Line2D([], [], **_OTHER_CURVE)], ["a trial"]
    finished = first[first["status"] == "finished"]
    for _, trial in finished[finished["best"] | finished["base"]].sort_values("best", ascending=False).iterrows():
        keys.append(Line2D([], [], **_curve_look(trial)))
        role = "best, and base" if trial["best"] and trial["base"] else "best" if trial["best"] else "base"
        said.append(f"{role}: {label_of(trial['name'], 40)}")
    if (first["status"] == "pruned").any():
        keys.append(Line2D([], [], **_LOOKS["pruned"]))
        said.append("pruned here")
    figure.legend(keys, said, ncols=2, handlelength=2.2, **style.LEGEND)
    return figure


_OTHER_CURVE: dict[str, Any] = {"color": style.SOFT, "linewidth": 0.7, "alpha": 0.75}
_BEST_CURVE: dict[str, Any] = {"color": style.ROW, "linewidth": 2.2, "zorder": 4}
_BASE_CURVE: dict[str, Any] = {"color": style.BASE, "linestyle": (0, (3, 1.5)), "linewidth": 1.8, "zorder": 5}


def _curve_look(trial: "pd.Series[Any]") -> dict[str, Any]:
    if trial["best"]:
        return _BEST_CURVE
    return _BASE_CURVE if trial["base"] and trial["status"] == "finished" else _OTHER_CURVE


# Importance


def importance(found: Importance) -> Drawing | None:
    """The importance of the parameters; None where it cannot be told."""
    if found.data.empty:
        return None
    return draw_importance(found)


def importance_caption(found: Importance) -> str:
    """Caption of the importances."""
    return (
        f"Importance by fANOVA over {found.num_trials} finished trials: the share of the variance of "
        f"{found.metric.label}, over the space, that a parameter explains by itself. Dots are means over {NUM_FORESTS} "
        f"random forests, bars their range, which says how steady the estimate is on these trials and nothing of other "
        f"trials. Grey: the most it came to when the same {found.metric.nouns} were dealt out at random {NUM_SHUFFLES} "
        "times."
    )


def importance_alt(found: Importance) -> str:
    """The importances in words."""
    said = "; ".join(
        f"{r['parameter']}: {100 * r['importance']:.0f} % ({100 * r['low']:.0f} to {100 * r['high']:.0f}), by noise "
        f"{100 * r['noise']:.0f}"
        for r in found.data.to_dict("records")
    )
    return f"Dot plot of the importance of parameters. {said}."


@figure(caption=importance_caption, alt=importance_alt)
def draw_importance(found: Importance) -> Figure:
    """A horizontal dot plot in percent; the bar to the tick is what noise alone would give."""
    data = found.data
    labels = [label_of(name) for name in data["parameter"]]
    figure, ax = style.canvas(0.95 + 0.3 * len(data))
    for y, row in enumerate(data.to_dict("records")):
        low, mean, high, noise = (100 * row[part] for part in ("low", "importance", "high", "noise"))
        ax.barh(y, noise, height=0.55, **_NOISE)
        ax.hlines(y, low, high, color=style.ROW, linewidth=2.0)
        ax.plot(mean, y, **_LOOKS["finished"])
    ax.set(
        ylim=(len(data) - 0.4, -0.6), xlabel=f"variance of {found.metric.label} explained by the parameter alone (%)"
    )
    ax.set_xlim(left=0)
    ax.set_yticks(range(len(data)), labels)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
    keys = [Line2D([], [], **{**_LOOKS["finished"], "linestyle": "-"}), Patch(**_NOISE)]
    figure.legend(
        keys, ["mean and range over forests", "what noise alone would give"], ncols=2, handlelength=2.0, **style.LEGEND
    )
    return figure


_NOISE: dict[str, Any] = {"facecolor": style.FAINT, "edgecolor": style.SOFT, "linewidth": 0.5}
