"""Validation accuracy while rows train."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tadaconv.reporting.ablation.data import Export
from tadaconv.reporting.ablation.figures.rows import common_base
from tadaconv.reporting.ablation.summary import comparisons, recipes_of
from tadaconv.reporting.ablation.text import mixed_recipes, of_many, of_seeds
from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import Drawing, figure, parted_by_cell
from tadaconv.reporting.core.format import percent
from tadaconv.reporting.core.labels import ends, label_of, to_versus
from tadaconv.reporting.core.text import by_seed, left_out_of_it, points_of_curves

MOST_PANELS = 10


def learning_curves_data(export: Export) -> pd.DataFrame:
    """One line a row, seed and epoch: row, seed, epoch, val_top1 (%), versus, in the table's order of rows.

    ``versus`` is the row that a row is compared with, empty for none. A cell with an accuracy that is none, of any
    epoch, is left out.
    """
    order = {row.name: i for i, row in enumerate(export.manifest.rows)}
    df, _ = parted_by_cell(export.curves[["row", "seed", "epoch", "val_top1"]], "val_top1")
    versus = {row: versus or "" for row, versus in comparisons(export.manifest).items()}
    df = df.assign(versus=df["row"].map(versus))
    return df.sort_values(["row", "seed", "epoch"], key=lambda c: c.map(order) if c.name == "row" else c)


def learning_curves(export: Export) -> Drawing | None:
    """Validation top-1 over the epochs; None while no cell has finished two: a single point is no curve."""
    data = learning_curves_data(export)
    if data["epoch"].nunique() < 2:
        return None
    base = common_base(export)
    rows = rows_with_panels(data)
    shown = _ends_of_curves(data, rows)
    _, left_out = parted_by_cell(export.curves, "val_top1")
    ran = [cell.experiment for cell in export.manifest.cells]
    return draw_learning_curves(
        shown, base, num_rows=len(rows), left_out=by_seed(left_out), conditions=ran, recipes=recipes_of(export)
    )


def rows_with_panels(data: pd.DataFrame) -> list[str]:
    """Rows with a panel of their own: those that are compared with another, or that no other is compared with."""
    versus = dict(zip(data["row"], data["versus"], strict=True))
    return [name for name, other in versus.items() if other or name not in versus.values()] or [*versus]


def _ends_of_curves(data: pd.DataFrame, rows: list[str]) -> pd.DataFrame:
    """The curves of the rows that :func:`ends` keeps, in its order, and of those they are compared with."""
    if len(rows) <= MOST_PANELS:
        return data
    last = data.sort_values("epoch", kind="stable").groupby(["row", "seed"])["val_top1"].last()
    final = pd.DataFrame({"row": rows, "final": last.groupby("row").mean().reindex(rows).to_numpy()})
    kept = ends(final, "final", MOST_PANELS)[0]["row"].tolist()
    versus = dict(zip(data["row"], data["versus"], strict=True))
    order = {name: i for i, name in enumerate(dict.fromkeys([*kept, *(versus[name] for name in kept)]))}
    return data[data["row"].isin(order)].sort_values("row", key=lambda names: names.map(order), kind="stable")


def learning_curves_caption(
    data: pd.DataFrame,
    base: str | None,
    num_rows: int,
    left_out: Sequence[str] = (),
    conditions: Iterable[Mapping[str, Any]] = (),
    recipes: Mapping[str, object] | None = None,
) -> str:
    """What is drawn.

    Args:
        data: The curves shown.
        base: None where each row is compared with one of its own.
        num_rows: The rows that a panel would be of.
        left_out: The cells whose curve cannot be drawn.
        conditions: As :func:`points_of_curves` takes them.
        recipes: By row, in what its recipe differs from those of others.
    """
    when, views = points_of_curves(conditions)
    seeds_by_row = data.groupby("row")["seed"].nunique()
    seeds = of_seeds(seeds_by_row)
    band = "; bands reach from the lowest seed to the highest" if (seeds_by_row > 1).any() else ""
    beside = ", with the base row dashed in each panel" if (data["row"] == base).any() else ""
    beside = beside if base else ", with the row it is compared with dashed and named below it"
    cut = of_many(len(rows_with_panels(data)), num_rows, "those that end most and least accurate")
    text = f"Validation top-1 {when}, mean over {seeds}{band}. One panel a row{beside}.{views} {cut}".strip()
    text += left_out_of_it(left_out, "cell", "with a value not between 0 and 100 %")
    return text + mixed_recipes(recipes or {}, data["row"])


def learning_curves_alt(data: pd.DataFrame) -> str:
    """The learning curves in words: where each row ends."""
    last = data[data["epoch"] == data["epoch"].max()].groupby("row", sort=False)["val_top1"].mean()
    ends = "; ".join(f"{name} ends at {percent(value)} %" for name, value in last.items())
    return f"Learning curves, validation top-1 over epochs, one panel a row. {ends}."


@figure(caption=learning_curves_caption, alt=learning_curves_alt)
def draw_learning_curves(data: pd.DataFrame, base: str | None) -> Figure:
    """A small panel for each row with the row it is compared with; ten lines in one panel could not be told apart.

    ``base`` is the row that all are compared with; None where each has its own, which its panel then names.
    """
    versus, names = dict(zip(data["row"], data["versus"], strict=True)), rows_with_panels(data)
    titles = [label_of(name, 21) + ("" if base else to_versus(versus[name], 21)) for name in names]
    dashed = label_of(f"base: {base}", 40) if base else "the row it is compared with"
    keys = {"the row named above the panel": _ROW_CURVE, dashed: _BASE_CURVE}
    figure, panels = small_panels(titles, "validation top-1 (%)", keys)
    curves = {str(name): _curve(rows) for name, rows in data.groupby("row")}
    # Set beforehand: panels that share their axes would find the limits anew with every curve.
    panels[0].set(xlim=_around(data["epoch"]), ylim=_around(data["val_top1"]))
    for ax, name in zip(panels, names, strict=True):
        ax.grid(axis="y")
        ax.locator_params(nbins=4)
        looks = [(versus[name], _BASE_CURVE), (name, _BASE_CURVE if name == base else _ROW_CURVE)]
        for row, look in looks:
            if row in curves:
                epochs, mean, low, high = curves[row]
                # The band is the range of the seeds: at three of them a confidence band hides the curves.
                ax.fill_between(epochs, low, high, color=look["color"], alpha=0.18, linewidth=0)
                ax.plot(epochs, mean, **look)
    return figure


def small_panels(titles: Sequence[str], label: str, keys: Mapping[str, dict[str, Any]]) -> tuple[Figure, list[Axes]]:
    """A grid of panels over the epochs, one a title, laid out by hand.

    The layout engine would take longer than everything else; here all that stands around them is of known size.

    Args:
        titles: What stands above each panel, in one line or more.
        label: That of the vertical axis.
        keys: What the legend says, and the look of the line beside it.
    """
    num_columns = min(3, len(titles))
    num_rows = -(-len(titles) // num_columns)
    above = 0.06 + 0.142 * max(title.count("\n") + 1 for title in titles)
    legend, panel, below, left, gap = 0.3, 0.75, 0.44, 0.56, 0.12
    height = legend + num_rows * (above + panel + gap) - gap + below
    width = (style.WIDTH - left - 0.05 - gap * (num_columns - 1)) / num_columns
    figure = Figure(figsize=(style.WIDTH, height))
    grid = {
        "left": left / style.WIDTH, "right": 1 - 0.05 / style.WIDTH, "top": 1 - (legend + above) / height,
        "bottom": below / height, "wspace": gap / width, "hspace": (above + gap) / panel,
    }  # fmt: skip
    panels = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False, gridspec_kw=grid)
    figure.supxlabel("epoch", fontsize=8.5, y=0.05 / height, va="bottom")
    figure.supylabel(label, fontsize=8.5, x=0.02 / style.WIDTH, ha="left")
    lines = [Line2D([], [], **look) for look in keys.values()]
    by_hand = {**style.LEGEND, "loc": "upper left", "bbox_to_anchor": (0, 1)}
    figure.legend(lines, list(keys), ncols=len(keys), handlelength=2.2, **by_hand)
    used, unused = panels.ravel()[: len(titles)], panels.ravel()[len(titles) :]
    for ax, title in zip(used, titles, strict=True):
        ax.set_title(title, loc="left", pad=3)
    for ax in unused:
        ax.set_visible(False)
    for ax in used[-num_columns:]:
        ax.xaxis.set_tick_params(labelbottom=True)  # the panel below may be an empty one
    return figure, list(used)


def _around(values: "pd.Series[float]") -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


_ROW_CURVE: dict[str, Any] = {"color": style.ROW}
_BASE_CURVE: dict[str, Any] = {"color": style.BASE, "linestyle": (0, (3, 1.5))}


def _curve(rows: pd.DataFrame) -> tuple[Any, Any, Any, Any]:
    """Epochs, and over the seeds the mean, the lowest and the highest top-1 at each."""
    over_seeds = rows.groupby("epoch")["val_top1"]
    mean = over_seeds.mean()
    return mean.index.to_numpy(), mean.to_numpy(), over_seeds.min().to_numpy(), over_seeds.max().to_numpy()
