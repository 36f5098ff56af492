"""The figures of a study's report: a function a figure, with its caption, its alternative text and its data."""

import json
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import figure
from tadaconv.reporting.core.format import count_scale, in_unit_of
from tadaconv.reporting.core.labels import label_of, pitch
from tadaconv.reporting.core.placement import draw_heatmap, placed, placement_map_data
from tadaconv.reporting.core.scatter import beside_the_cheapest, draw_front, names_at_the_right
from tadaconv.reporting.core.text import points_of_curves
from tadaconv.reporting.study.data import Parameter, StudyExport, with_operator
from tadaconv.reporting.study.importance import NUM_FORESTS, NUM_SHUFFLES, Importance
from tadaconv.reporting.study.parameters import value_in_words
from tadaconv.reporting.study.text import BIASED
from tadaconv.text import plural

_EDGE: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.6, "linestyle": ""}
_HOLLOW: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": style.SOFT, "linestyle": ""}
_LOOKS: dict[str, dict[str, Any]] = {
    "finished": {"marker": "o", "color": style.ROW, "markersize": 5, **_EDGE},
    "first": {"marker": "D", "color": style.BASE, "markersize": 5.5, **_EDGE},
    "pruned": {"marker": "x", "color": style.SOFT, "markersize": 4.5, "linestyle": "", "markeredgewidth": 1.1},
    "failed": {"marker": "v", "markersize": 5, **_HOLLOW},
    "over budget": {"marker": "s", "markersize": 4.5, **_HOLLOW},
}
"""How a trial is drawn: a marker for each status it can end with, and one for those that are tried first."""

_BUDGET: dict[str, Any] = {"color": style.SOFT, "linewidth": 1.0, "linestyle": (0, (4, 2))}


# Scores against cost


def pareto_data(export: StudyExport) -> pd.DataFrame:
    """One line a finished trial, and one a trial over budget, whose cost is known.

    Columns: trial, name, status, macs (multiply-adds per clip), mean (of the score), front, first, best, reference
    (whether its label is emphasised, as of those tried first).
    """
    trials, name = export.trials, export.metric.name
    kept = trials[trials["status"].isin(["finished", "over budget"]) & trials["macs"].notna()]
    data = kept[["trial", "name", "status", "macs", name, "front", "first", "best"]].rename(columns={name: "mean"})
    return data.assign(reference=data["first"]).astype({"macs": "float64"}).reset_index(drop=True)


def pareto_caption(export: StudyExport) -> str:
    """Caption of the scatter plot."""
    metric = export.metric
    text = (
        f"Validation {metric.label} against the cost of a clip, in multiply-adds of convolutions and linear layers. "
        f"The line is the Pareto front: no finished trial is as cheap and as {metric.equative} as one on it, and "
        "better in one of the two. Diamonds are the configurations that the study names and tries first."
    )
    if export.manifest.max_macs is not None:
        text += " Dashed: the budget of the study, above which (hatched) no trial is run."
    if (export.trials["status"] == "over budget").any():
        text += " Squares on the axis: trials over budget, which were not run."
    return f"{text} The front is {BIASED}."


def pareto_alt(export: StudyExport) -> str:
    """The scatter plot in words."""
    metric, data = export.metric, pareto_data(export)
    front = data[data["front"]].sort_values("macs").to_dict("records")
    points = "; ".join(f"{r['name']}: {r['macs']:.4g} at {metric.in_words(r['mean'])}" for r in front)
    return f"Scatter plot of validation {metric.label} against multiply-adds per clip. On the Pareto front: {points}."


@figure(caption=pareto_caption, alt=pareto_alt)
def pareto(export: StudyExport) -> Figure | None:
    """The score against multiply-adds with the Pareto front; None while no trial has finished.

    Trials on the front, and those tried first, are named in a column at the right.
    """
    data = pareto_data(export)
    finished, over = data[data["status"] == "finished"], data[data["status"] == "over budget"]
    if finished.empty:
        return None
    named = finished[finished["front"] | finished["first"]]
    names = named["name"] + named["best"].map({True: " (best)", False: ""})
    labels = [label_of(name, 30) for name in names]
    num_lines = max(label.count("\n") + 1 for label in labels)
    figure, ax = style.canvas(max(3.6, 1.2 + 0.17 * num_lines * len(named)))
    unit, name = count_scale(data["macs"])
    budget = (export.manifest.max_macs or 0) / unit
    costs = data["macs"] / unit
    least, most = float(costs.min()), max(float(costs.max()), budget)
    span = max(most - least, 0.005 * least)
    for first, part in finished.groupby("first"):
        look = _LOOKS["first" if first else "finished"]
        ax.plot(part["macs"] / unit, part["mean"], **look, zorder=3, label="tried first" if first else "trial")
    right = least + 1.08 * span
    ax.set(xlim=(max(0.0, least - 0.08 * span), right), ylabel=export.metric.axis)
    ax.set_xlabel(f"multiply-adds per clip ({name})" if name else "multiply-adds per clip")
    front = finished[finished["front"]]
    draw_front(ax, front["macs"] / unit, front["mean"], min(right, budget or right))
    ax.lines[-1].set_label("Pareto front")
    beside_the_cheapest(ax, least, most, "trial")
    names_at_the_right(ax, (named["macs"] / unit).tolist(), named, labels, num_lines)
    if budget:
        ax.axvspan(budget, right, facecolor="none", edgecolor=style.FAINT, hatch="////", linewidth=0, zorder=0)
        ax.axvline(budget, **_BUDGET, zorder=1, label="budget")
    if len(over):
        on_axis = {**_LOOKS["over budget"], "transform": ax.get_xaxis_transform(), "clip_on": False}
        ax.plot(over["macs"] / unit, [0.035] * len(over), **on_axis, label="over budget, not run")
    ax.set_xlim(right=right)
    style.legend(figure, 3 if len(over) and budget else 4)
    return figure


# Where the operator pays


def placement_data(export: StudyExport) -> pd.DataFrame:
    """As :func:`.placement_map_data`, a line a trial, with its trial, name and status.

    Only trials that finished have a score: the results of a trial that was pruned or failed are incomplete. ``row`` is
    the number of the trial as text.
    """
    numbers, metric = export.cells["trial"], export.metric
    origins = [
        cell.model_copy(update={"row": str(number)})
        for number, cell in zip(numbers, export.manifest.cells, strict=True)
    ]
    finished = export.trials.loc[export.trials["status"] == "finished", "trial"]
    cells = export.cells.assign(**{metric.name: export.cells[metric.name].where(numbers.isin(finished))})
    data = placement_map_data(placed(origins, cells, metric), metric)
    about = export.trials[["trial", "name", "status"]]
    return data.assign(trial=data["row"].astype("int64")).merge(about, on="trial")


def placement_map_caption(export: StudyExport) -> str:
    """Caption of the map."""
    num_others = int((~placement_data(export)["on_map"]).sum())
    text = (
        f"Validation {in_unit_of(export.metric)}, mean over the seeds of a trial, by the stages that hold the operator "
        "and the fraction of their channels that is calibrated. The trials on the map differ in these two alone; a "
        "trial without a result is shown by its status, and a dash means that there is no such trial."
    )
    return text + (f" Not shown: {plural(num_others, 'trial')} with other differences." if num_others else "")


def placement_map_alt(export: StudyExport) -> str:
    """The map in words."""
    data, metric = placement_data(export), export.metric
    cells = "; ".join(
        f"{r['stages']}, {100 * r['share']:.3g} % of the channels: "
        + (metric.in_words(r[metric.name]) if r["n"] else f"{r['status']}, no result")
        for r in data[data["on_map"]].to_dict("records")
    )
    return f"Heat map of validation {metric.label} by stages and fraction of channels. {cells}."


@figure(caption=placement_map_caption, alt=placement_map_alt)
def placement_map(export: StudyExport) -> Figure | None:
    """Score by stages and fraction of channels; None unless trials that agree in all else differ in one of them."""
    data = placement_data(export)
    shown = data[data["on_map"]]
    if len(shown[["stages", "share"]].drop_duplicates()) < 2 or not shown["n"].any():
        return None
    return draw_heatmap(shown, export.metric)


# History


def best_so_far_data(export: StudyExport) -> pd.DataFrame:
    """One line per trial that ended: trial, status, first, top1 (or another metric), best (so far).

    The score of a pruned trial is the last it reached.
    """
    metric = export.metric
    trials = export.trials[~export.trials["status"].isin(["running", "waiting"])]
    scores = trials[metric.name]
    best = (scores.cummax() if metric.higher_is_better else scores.cummin()).ffill()
    reached = {metric.name: scores.where(trials["status"] != "pruned", trials["reached"])}
    return trials[["trial", "status", "first"]].assign(**reached, best=best).reset_index(drop=True)


def best_so_far_caption(export: StudyExport) -> str:
    """Caption of the history."""
    metric, statuses = export.metric, export.trials["status"]
    text = f"Validation {metric.label} of the trials in the order they were started, and the best so far."
    if (statuses == "pruned").any():
        text += f" Crosses are pruned trials, at the {metric.noun} where they were stopped, which is not a final one."
    if statuses.isin(["failed", "over budget"]).any():
        text += f" Trials below the axis have no {metric.noun}."
    return text


def best_so_far_alt(export: StudyExport) -> str:
    """The history in words: each trial that was the best when it finished."""
    data, metric = best_so_far_data(export).dropna(subset=["best"]), export.metric
    steps = data[data["best"] != data["best"].shift()].to_dict("records")
    steps_in_words = "; ".join(f"trial {step['trial']}: {metric.in_words(step['best'])}" for step in steps)
    return f"Scatter plot of validation {metric.label} by trial. The best so far by trial: {steps_in_words}."


@figure(caption=best_so_far_caption, alt=best_so_far_alt)
def best_so_far(export: StudyExport) -> Figure | None:
    """The trials in their order with the best so far; None while none has finished.

    Trials without a score are drawn in a strip below the axis.
    """
    data, metric = best_so_far_data(export), export.metric
    if not (data["status"] == "finished").any():
        return None
    figure, ax = style.canvas(3.3)
    ax.step(data["trial"], data["best"], where="post", color=style.INK, linewidth=1.2, zorder=1, label="best so far")
    data["look"] = data["status"].mask(data["first"] & (data["status"] == "finished"), "first")
    labels = {"first": "finished, tried first", "pruned": "pruned, at its last score"}
    for name, look in _LOOKS.items():
        trials = data[data["look"] == name]
        if len(trials):
            ax.plot(trials["trial"], trials[metric.name], **look, zorder=3, label=labels.get(name, name))
            unknown = trials.loc[trials[metric.name].isna(), "trial"]
            ax.plot(unknown, [-0.06] * len(unknown), transform=ax.get_xaxis_transform(), **look, clip_on=False)
    ax.set(xlabel="trial", ylabel=metric.axis)
    ax.spines["bottom"].set_position(("outward", 16))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y")
    style.legend(figure, 3)
    return figure


# Scores by value of each parameter


def slices_data(export: StudyExport) -> pd.DataFrame:
    """One line a finished trial and parameter it has: parameter, trial, value (as drawn), top1 (or another), first.

    Left out are trials that plug nothing in, whose parameters have no effect, and parameters that do not vary.
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
    data = pd.DataFrame(lines, columns=["parameter", "trial", "value", score, "first"], dtype=object)
    data = data.astype({"trial": "int64", score: "float64", "first": "bool"})  # values keep their types
    return data[data["value"].map(repr).groupby(data["parameter"]).transform("nunique") > 1]


def slices_caption(export: StudyExport) -> str:
    """Caption of the panels by parameter."""
    return (
        f"Validation {export.metric.label} of the finished trials by the value of each parameter, "
        f"{slices_data(export)['trial'].nunique()} trials. The other parameters vary as well, and the search draws "
        "good values more often: a difference between two columns is a hint, not a causal effect. Parameters have "
        "their names in the study\u2019s file; the space that was searched, below, lists the values of each."
    )


def slices_alt(export: StudyExport) -> str:
    """The panels in words: the mean of each value."""
    metric, parts = export.metric, []
    for name, part in slices_data(export).groupby("parameter", sort=False):
        means = part.groupby(part["value"].map(value_in_words), sort=False)[metric.name].mean()
        parts.append(f"{name}: " + ", ".join(f"{value} {metric.in_words(mean)}" for value, mean in means.items()))
    return f"Dot plots of validation {metric.label} by parameter value, means: {'; '.join(parts)}."


@figure(caption=slices_caption, alt=slices_alt)
def slices(export: StudyExport) -> Figure | None:
    """The score by the value of each parameter that varies, a panel each; None where none does."""
    data, metric = slices_data(export), export.metric
    parameters = [parameter for parameter in export.space.parameters if parameter.name in set(data["parameter"])]
    if not parameters:
        return None
    num_columns = min(3, len(parameters))
    num_rows = -(-len(parameters) // num_columns)
    titles = [label_of(parameter.name, 22) for parameter in parameters]
    height = num_rows * (1.35 + 0.142 * max(title.count("\n") for title in titles))
    figure = Figure(figsize=(style.WIDTH, 0.55 + height), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False).ravel()
    for ax, parameter, title in zip(panels, parameters, titles, strict=False):
        draw_slice(ax, data[data["parameter"] == parameter.name], parameter, metric.name)
        ax.set_title(title, loc="left", pad=3)
        ax.grid(axis="y")
        ax.locator_params(axis="y", nbins=4)
    for ax in panels[len(parameters) :]:
        ax.set_visible(False)
    figure.supylabel(metric.axis, fontsize=8.5)
    style.legend(figure, 3)
    return figure


def draw_slice(ax: Axes, data: pd.DataFrame, parameter: Parameter, score: str) -> None:
    """Draw the trials of one parameter: a choice has a column with the mean of its trials, a number its own scale.

    Args:
        ax: where to draw.
        data: the lines of :func:`slices_data` of this parameter.
        parameter: with its distribution.
        score: the column of the metric.
    """
    distribution = parameter.distribution or {"name": "CategoricalDistribution", "attributes": {}}
    attributes = distribution["attributes"]
    if distribution["name"] == "CategoricalDistribution":
        keys = [json.dumps(choice) for choice in attributes.get("choices", data["value"])]
        choices = list(dict.fromkeys(keys))
        data = data.assign(choice=data["value"].map(json.dumps).map(choices.index)).sort_values("trial")
        # Trials of one choice side by side in the order they ran, so that equal ones do not overlap.
        by_choice = data.groupby("choice")["trial"]
        offset = (by_choice.cumcount() + 0.5) / by_choice.transform("size") - 0.5
        data = data.assign(x=data["choice"] + 0.5 * offset)
        means = data.groupby("choice")[score].mean()
        mean_look: dict[str, Any] = {"color": style.INK, "linewidth": 1.6, "zorder": 4, "label": "mean of a choice"}
        ax.hlines(means, means.index - 0.36, means.index + 0.36, **mean_look)
        ax.set_xticks(range(len(choices)), [label_of(value_in_words(json.loads(key)), 9) for key in choices])
        ax.set_xlim(-0.6, len(choices) - 0.4)
    else:
        data = data.assign(x=data["value"].astype(float))
        if attributes.get("log"):
            ax.set_xscale("log", base=10 if data["x"].max() > 100 * data["x"].min() else 2)
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_locator(NullLocator())
    for first, part in data.groupby("first"):
        look = {**_LOOKS["first" if first else "finished"], "markersize": 4, "alpha": 0.8}
        ax.plot(part["x"], part[score], **look, label="tried first" if first else "trial")


# Learning curves


def learning_curves_data(export: StudyExport) -> pd.DataFrame:
    """One line per trial and epoch: trial, name, status, best, first, base, epoch, val_top1 (or another)."""
    about = export.trials[["trial", "name", "status", "best", "first", "base"]]
    return export.curves.merge(about, on="trial").sort_values(["trial", "epoch"], ignore_index=True)


def learning_curves_caption(export: StudyExport) -> str:
    """Caption of the curves."""
    trials = learning_curves_data(export).drop_duplicates("trial")
    when, views = points_of_curves([export.manifest.conditions], export.metric)
    text = f"Validation {export.metric.label} {when}, {plural(len(trials), 'trial')}.{views}"
    num_pruned = int((trials["status"] == "pruned").sum())
    return f"{text} A cross marks where a trial was pruned ({num_pruned})." if num_pruned else text


def learning_curves_alt(export: StudyExport) -> str:
    """The learning curves in words: where each ends."""
    metric = export.metric
    last = learning_curves_data(export).groupby("trial").last().to_dict("records")
    ends = "; ".join(
        f"{r['name']} {'pruned' if r['status'] == 'pruned' else 'ends'} at epoch {r['epoch']} with "
        f"{metric.in_words(r[metric.curve_column])}"
        for r in last
    )
    return f"Learning curves, validation {metric.label} over epochs. {ends}."


_CURVES: dict[str, dict[str, Any]] = {
    "a trial": {"color": style.SOFT, "linewidth": 0.7, "alpha": 0.75},
    "best": {"color": style.ROW, "linewidth": 2.2, "zorder": 4},
    "best, and base": {"color": style.ROW, "linewidth": 2.2, "zorder": 4},
    "base": {"color": style.BASE, "linestyle": (0, (3, 1.5)), "linewidth": 1.8, "zorder": 5},
}
"""How a curve is drawn, by the role of its trial."""


@figure(caption=learning_curves_caption, alt=learning_curves_alt)
def learning_curves(export: StudyExport) -> Figure | None:
    """The validation score over the epochs of every trial, a cross where it was pruned; None without a curve.

    The best trial and the base are emphasised.
    """
    data, metric = learning_curves_data(export), export.metric
    if data.empty:
        return None
    figure, ax = style.canvas(3.3)
    for _, part in data.groupby("trial"):
        epochs, scores, trial = part["epoch"], part[metric.curve_column], part.iloc[0]
        is_base = trial["base"] and trial["status"] == "finished"
        role = ("best, and base" if is_base else "best") if trial["best"] else "base" if is_base else "a trial"
        label = role if role == "a trial" else f"{role}: {label_of(trial['name'], 40)}"
        ax.plot(epochs, scores, **_CURVES[role], label=label)
        if trial["status"] == "pruned":
            ax.plot(epochs.iloc[-1], scores.iloc[-1], **_LOOKS["pruned"], zorder=3, label="pruned here")
    ax.set(xlabel="epoch", ylabel=metric.axis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y")
    style.legend(figure, 2)
    return figure


# Importance


def importance_caption(result: Importance) -> str:
    """Caption of the importances."""
    return (
        f"Importance by fANOVA over {result.num_trials} finished trials: the fraction of the variance of "
        f"{result.metric.label}, over the space, that a parameter explains by itself. Dots are means over "
        f"{NUM_FORESTS} random forests, bars their range, which shows how steady the estimate is on these trials, not "
        f"how it would be on others. Grey: the noise level, the largest importance of any parameter in {NUM_SHUFFLES} "
        f"random permutations of the {result.metric.nouns}."
    )


def importance_alt(result: Importance) -> str:
    """The importances in words."""
    importances = "; ".join(
        f"{r['parameter']}: {100 * r['importance']:.0f} % ({100 * r['low']:.0f} to {100 * r['high']:.0f}), noise "
        f"{100 * r['noise']:.0f}"
        for r in result.data.to_dict("records")
    )
    return f"Dot plot of the importance of parameters. {importances}."


@figure(caption=importance_caption, alt=importance_alt)
def importance(result: Importance) -> Figure | None:
    """The importance of the parameters in percent, in front of the noise level; None where it cannot be estimated."""
    if result.data.empty:
        return None
    data = 100 * result.data.set_index("parameter")
    labels = [label_of(name) for name in data.index]
    figure, ax = style.canvas(0.95 + pitch(labels, 0.3) * len(data))
    places = range(len(data))
    edge: dict[str, Any] = {"edgecolor": style.SOFT, "linewidth": 0.5}
    ax.barh(places, data["noise"], height=0.55, facecolor=style.FAINT, **edge, label="noise level")
    ax.hlines(places, data["low"], data["high"], color=style.ROW, linewidth=2.0, label="range over forests")
    ax.plot(data["importance"], places, **_LOOKS["finished"], label="mean over forests")
    label = f"variance of {result.metric.label} explained by the parameter alone (%)"
    ax.set(ylim=(len(data) - 0.4, -0.6), xlabel=label)
    ax.set_xlim(left=0)
    ax.set_yticks(places, labels)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
    style.legend(figure, 3)
    return figure
