"""What stands under each figure of a study, and in place of it for those who cannot see it."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from tadaconv.reporting.core.format import listed, percent, plural
from tadaconv.reporting.core.text import points_of_curves
from tadaconv.reporting.study.importance import NUM_FORESTS, NUM_SHUFFLES, Importance
from tadaconv.reporting.study.words import value_in_words


def pareto(data: pd.DataFrame, budget: float | None) -> str:
    """Caption of the scatter with the front."""
    text = (
        "Validation top-1 against the cost of a clip, in multiply-adds of convolutions and linear layers. The line is "
        "the Pareto front: no finished trial is as cheap and as accurate as one on it, and better in one of the two."
        " Diamonds are the configurations that the study names and tries first."
    )
    if budget is not None:
        text += " Dashed: the budget of the study, the most that a trial may cost; beyond it, hatched, none is run."
    if (data["status"] == "over budget").any():
        text += " Squares on the axis cost too much and were not run."
    return text + " The front is made of the luckiest trials at each cost, and lies too high for that reason."


def alt_pareto(data: pd.DataFrame) -> str:
    """The scatter in words."""
    front = data[data["front"]].sort_values("macs")
    points = "; ".join(f"{r['name']}: {r['macs']:.4g} at {percent(r['mean'])} %" for r in front.to_dict("records"))
    over = int((data["status"] == "over budget").sum())
    more = f" {plural(over, 'trial')} over budget." if over else ""
    return f"Scatter plot of validation top-1 against multiply-adds a clip. On the Pareto front: {points}.{more}"


_BECAME = {
    "pruned": ("was pruned", "were pruned"),
    "over budget": ("was over budget", "were over budget"),
    "failed": ("failed", "failed"),
    "running": ("is running", "are running"),
    "waiting": ("is waiting", "are waiting"),
}
_MOST_NAMED = 8


def placement_map(data: pd.DataFrame) -> str:
    """Caption of the map: what stands behind its numbers, what became of trials without one, and what is not on it."""
    shown, apart = data[data["on_map"]], data[~data["on_map"]]
    text = (
        f"Validation top-1 in percent, {_behind(shown)}, by the stages that hold the operator and the share of their "
        "channels that is calibrated. The trials on it are alike in all else; a dash marks what none asks for."
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
        text += f" Not on the map, since something else differs: {listed([_in_brackets(r) for r in _lines(apart)])}."
    return text


def alt_placement(shown: pd.DataFrame) -> str:
    """The map in words."""
    cells = "; ".join(
        f"{r['stages']}, {100 * r['share']:.3g} % of the channels: "
        + (f"{percent(r['top1'])} %" if r["n"] else f"{r['status']}, no result")
        for r in _lines(shown)
    )
    return f"Heat map of validation top-1 by stages and share of channels, {_behind(shown)}. {cells}."


def _behind(shown: pd.DataFrame) -> str:
    """``from one seed``, ``mean over 3 seeds`` or ``mean over 1 to 3 seeds``."""
    num_seeds = sorted(shown.loc[shown["n"] > 0, "n"].unique().tolist())
    if num_seeds == [1]:
        return "each from one seed"
    several = plural(num_seeds[0], "seed") if len(num_seeds) == 1 else f"{num_seeds[0]} to {num_seeds[-1]} seeds"
    return f"mean over {several}"


def _named(names: list[str]) -> str:
    return listed(names) if len(names) <= _MOST_NAMED else f"{len(names)} trials"


def _in_brackets(trial: dict[Any, Any]) -> str:
    return f"{trial['name']} ({percent(trial['top1']) + ' %' if trial['n'] else trial['status']})"


def _lines(data: pd.DataFrame) -> list[dict[Any, Any]]:
    return data.to_dict("records")


def best_so_far(data: pd.DataFrame) -> str:
    """Caption of the history."""
    text = "Validation top-1 of the trials in the order they were started, and the best so far."
    if (data["status"] == "pruned").any():
        text += " Crosses are pruned trials, at the accuracy where they were stopped, which is not a final one."
    if data["status"].isin(["failed", "over budget"]).any():
        text += " Trials below the axis have no accuracy."
    return text


def alt_best_so_far(data: pd.DataFrame) -> str:
    """The history in words: each trial that was the best when it finished."""
    rises = data[data["best"].notna() & (data["best"] != data["best"].shift())]
    steps = "; ".join(f"trial {r['trial']}: {percent(r['best'])} %" for r in rises.to_dict("records"))
    return f"Scatter plot of validation top-1 by trial. The best so far rose at {steps}."


def slices(data: pd.DataFrame) -> str:
    """Caption of the panels by parameter."""
    return (
        f"Validation top-1 of the finished trials by the value of each parameter, {data['trial'].nunique()} trials. "
        "The other parameters vary along, and the search draws good values more often: a difference between two "
        "columns is a hint, not an effect. Parameters are called as in the study\u2019s file; the space that was "
        "searched, further down, lists the values of each."
    )


def alt_slices(data: pd.DataFrame) -> str:
    """The panels in words: the mean of each value."""
    said = []
    for name, part in data.groupby("parameter", sort=False):
        means = part.groupby(part["value"].map(value_in_words), sort=False)["top1"].mean()
        said.append(f"{name}: " + ", ".join(f"{value} {percent(mean)} %" for value, mean in means.items()))
    return "Dot plots of validation top-1 by parameter value, means: " + "; ".join(said) + "."


def learning_curves(data: pd.DataFrame, conditions: Mapping[str, Any] | None = None) -> str:
    """Caption of the curves; ``conditions`` are what the cells share, as the manifest has them."""
    when, views = points_of_curves([conditions or {}])
    text = f"Validation top-1 {when}, {plural(data['trial'].nunique(), 'trial')}.{views}"
    num_pruned = int((data.drop_duplicates("trial")["status"] == "pruned").sum())
    return f"{text} A cross marks where one was pruned ({num_pruned})." if num_pruned else text


def alt_curves(data: pd.DataFrame) -> str:
    """The learning curves in words: where each ends."""
    last = data.sort_values("epoch").drop_duplicates("trial", keep="last").sort_values("trial")
    ends = "; ".join(
        f"{r['name']} {'pruned' if r['status'] == 'pruned' else 'ends'} at epoch {r['epoch']} with "
        f"{percent(r['val_top1'])} %"
        for r in last.to_dict("records")
    )
    return f"Learning curves, validation top-1 over epochs. {ends}."


def importance(found: Importance) -> str:
    """Caption of the importances."""
    return (
        f"Importance by fANOVA over {found.num_trials} finished trials: the share of the variance of top-1, over the "
        f"space, that a parameter explains by itself. Dots are means over {NUM_FORESTS} random forests, bars their "
        f"range, which says how steady the estimate is on these trials and nothing of other trials. Grey: the most it "
        f"came to when the same accuracies were dealt out at random {NUM_SHUFFLES} times."
    )


def alt_importance(found: Importance) -> str:
    """The importances in words."""
    said = "; ".join(
        f"{r['parameter']}: {100 * r['importance']:.0f} % ({100 * r['low']:.0f} to {100 * r['high']:.0f}), by noise "
        f"{100 * r['noise']:.0f}"
        for r in found.frame.to_dict("records")
    )
    return f"Dot plot of the importance of parameters. {said}."
