"""What becomes of each class: accuracy by family, what is taken for what, and which classes the operator helps."""

from collections.abc import Collection, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tadaconv import statistics as st
from tadaconv.metrics import TOP1
from tadaconv.reporting.ablation.data import Export, Manifest
from tadaconv.reporting.ablation.figures.rows import LOOKS, named, signed
from tadaconv.reporting.ablation.text import interval_of, mixed_recipes, of_many, of_seeds
from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import Drawing, figure, parted
from tadaconv.reporting.core.format import difference, percent
from tadaconv.reporting.core.labels import ends, label_of, name_rows, pitch, short_labels
from tadaconv.reporting.core.text import by_seed, left_out_note, meaning_of_families
from tadaconv.text import listed, plural

MOST_CLASSES = 40
"""With more classes than this no confusion matrix is drawn, and gains are shown for some classes alone."""

NUMBERED_CLASSES = 12
"""Up to so many classes, two matrices side by side have room for numbers."""

EXTREME_CLASSES = 15
"""Of many classes, so many of the largest gains and losses are shown."""


# Accuracy by class family


def accuracy_by_family_data(export: Export) -> pd.DataFrame:
    """Mean top-1 in percent over the seeds, one line per row with a result and one column per class family."""
    names = [row.name for row in export.manifest.rows]
    families, _ = parted(export.families, "top1")
    table = families.pivot_table(index="row", columns="family", values="top1", aggfunc="mean")
    return table.reindex(index=[n for n in names if n in table.index], columns=export.manifest.families)


def accuracy_by_family(export: Export) -> Drawing | None:
    """Top-1 by class family; None where the classes have no families."""
    data = accuracy_by_family_data(export)
    if data.empty:
        return None
    summary = named(export)
    rows, _ = ends(summary[summary["row"].isin(data.index)], "mean")
    return draw_accuracy_by_family(data.loc[rows["row"]], set(rows.loc[rows["reference"], "row"]), export=export)


def accuracy_by_family_caption(data: pd.DataFrame, export: Export) -> str:
    """What is drawn of ``export``; families of the synthetic clips are explained."""
    known, unknown = parted(export.families, "top1")
    num_seeds, num_rows = known.groupby("row")["seed"].nunique()[data.index], known["row"].nunique()
    cut = of_many(len(data), num_rows, "the most and the least accurate")
    text = (
        f"Validation top-1 in percent by family of classes, mean over {of_seeds(num_seeds)}; the stronger the colour, "
        f"the more accurate. {cut}{meaning_of_families(data.columns)}"
    ).strip() + left_out_note(by_seed(unknown, "family"), "value", "not between 0 and 100 %")
    return text + mixed_recipes(export, data.index)


def accuracy_by_family_alt(data: pd.DataFrame) -> str:
    """The heat map in words."""
    rows = (
        f"{name}: " + ", ".join(f"{family} {percent(value)} %" for family, value in values.items())
        for name, values in data.to_dict("index").items()
    )
    return "Heat map of validation top-1 by row and class family. " + "; ".join(rows) + "."


@figure(caption=accuracy_by_family_caption, alt=accuracy_by_family_alt)
def draw_accuracy_by_family(data: pd.DataFrame, references: Collection[str]) -> Figure:
    """A heat map with its numbers written in; one hue from light to dark, so it reads in grey."""
    labels = [label_of(str(name)) for name in data.index]
    figure, ax = style.canvas(0.55 + pitch(labels, 0.28) * len(data))
    sns.heatmap(
        data, ax=ax, annot=True, fmt=".0f", vmin=0, vmax=100, cmap=sns.light_palette(style.FILL, as_cmap=True),
        cbar=False, linewidths=1.5, linecolor="white", annot_kws={"fontsize": 8.5, "color": style.INK},
        xticklabels=[label_of(str(family), 14) for family in data.columns], yticklabels=False,
    )  # fmt: skip
    ax.set(xlabel="", ylabel="")
    ax.tick_params(axis="x", top=False, bottom=False, labeltop=True, labelbottom=False)
    name_rows(ax, [i + 0.5 for i in range(len(data))], labels, [name in references for name in data.index])
    return figure


# With the operator and without


class Contrast(NamedTuple):
    """The table's base and its row without an operator on the same backbone and frames, by name; None for none."""

    base: str
    without: str | None


def contrast(manifest: Manifest) -> Contrast:
    """The two rows of a table that tell what the operator does.

    ``without`` is None where the base itself has no operator, where every row has one, and where no such row runs on
    the base's backbone and frames.
    """
    ran = {cell.row: {**cell.experiment, "seed": None} for cell in manifest.cells}
    base = ran.get(manifest.base)
    if base is None or base["temporal"] is None:
        return Contrast(manifest.base, None)
    bare = {**base, "temporal": None}
    return Contrast(manifest.base, next((row.name for row in manifest.rows if ran.get(row.name) == bare), None))


def classes_by_family(manifest: Manifest) -> list[tuple[str, str]]:
    """Every class with its family, classes of a family together and otherwise in order; the family may be empty."""
    families = list(dict.fromkeys([*manifest.families, *manifest.class_families.values()]))
    return sorted(manifest.class_families.items(), key=lambda pair: families.index(pair[1]))


# Confusion


def confusion_data(export: Export) -> pd.DataFrame:
    """One line per row, class and predicted class that occur, of the row without an operator and the base.

    Columns: row, class, predicted, clips (validation clips, summed over seeds), percent (of the clips of that class).
    """
    clips, _ = _known_clips(export)
    data = clips.groupby(["row", "class", "predicted"], sort=False)["clips"].sum().reset_index()
    data["percent"] = 100 * data["clips"] / data.groupby(["row", "class"])["clips"].transform("sum")
    return data


def _known_clips(export: Export) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of the confusion of the rows of :func:`contrast`, the lines that count clips of known classes, and the others."""
    every = export.confusion[export.confusion["row"].isin(contrast(export.manifest))]
    known = every[["class", "predicted"]].isin(list(export.manifest.class_families)).all(axis=1)
    return every[known & (every["clips"] > 0)], every[~(known & (every["clips"] > 0))]


def confusion(export: Export) -> Drawing | None:
    """Confusion matrices of the base and of the row without an operator; None without results, or for many classes."""
    data, classes = confusion_data(export), classes_by_family(export.manifest)
    if not 2 <= len(classes) <= MOST_CLASSES or export.manifest.base not in set(data["row"]):
        return None
    chosen = contrast(export.manifest)
    rows = [name for name in (chosen.without, chosen.base) if name is not None and name in set(data["row"])]
    clips, left_out = _known_clips(export)
    num_seeds = clips.groupby("row")["seed"].nunique().to_dict()
    seeds_of = {str(name): int(num_seeds[name]) for name in rows}
    return draw_confusion(data, rows, classes, num_seeds=seeds_of, left_out=by_seed(left_out, "class", "predicted"))


_SMALL, _LETTER = 7.5, 0.057
"""Points of the classes' labels, and inches that a letter of them takes."""


def confusion_caption(num_seeds: dict[str, int], classes: list[tuple[str, str]], left_out: Sequence[str] = ()) -> str:
    """Caption of the confusion matrices of the rows ``num_seeds``; ``classes`` are pairs of class and family.

    ``left_out`` are the cells, each with two classes, whose clips cannot be shown.
    """
    rows = listed([f"{row} ({plural(seeds, 'seed')})" for row, seeds in num_seeds.items()])
    families = list(dict.fromkeys(family for _, family in classes if family))
    text = (
        f"Confusion matrices of the validation clips: {rows}. Clips are summed over "
        "seeds. Every line is in percent of its class; values that round to zero are left blank. Colour grows with the "
        "square root of the percent. "
    )
    if families:
        text += f"Lines separate the families {listed(families)}. " if len(families) > 1 else ""
    return (text + meaning_of_families(families, classes=True)).strip() + left_out_note(
        left_out, "count", "of no clips or of an unknown class"
    )


def confusion_alt(data: pd.DataFrame, num_seeds: dict[str, int]) -> str:
    """The confusion matrices in words: the most frequent mistakes of each row."""
    mistakes_of = []
    for row in num_seeds:
        wrong = data[(data["row"] == row) & (data["class"] != data["predicted"])]
        worst = wrong.sort_values("percent", ascending=False, kind="stable").head(3)
        mistakes = [
            f"{line['class']} for {line['predicted']} in {line['percent']:.0f} %" for line in worst.to_dict("records")
        ]
        mistakes_of.append(
            f"{row} most often mistakes " + ", ".join(mistakes) if mistakes else f"{row} makes no mistake"
        )
    return f"Confusion matrices. {'; '.join(mistakes_of)}."


@figure(caption=confusion_caption, alt=confusion_alt)
def draw_confusion(data: pd.DataFrame, rows: Sequence[str], classes: list[tuple[str, str]]) -> Figure:
    """A matrix a row, side by side, or one below the other for more classes than a line has room for.

    ``classes`` are pairs of class and family, in the order they are shown. Colour grows with the square root of the
    percent, so that rare mistakes are seen; numbers are written where there is room for them.
    """
    beside = len(classes) <= NUMBERED_CLASSES
    num_columns = len(rows) if beside else 1
    num_lines = len(rows) // num_columns
    families = [label_of(family, 12) for _, family in classes]
    names = short_labels([name for name, _ in classes], 14 if beside else 20)
    letters = max(map(len, names)) + max(len(line) for family in families for line in family.split("\n"))
    side = min((style.WIDTH - _LETTER * letters - 0.5) / num_columns, 3.2 if beside else 4.2)
    height = num_lines * (side + 0.25) + _LETTER * max(map(len, names)) + (0.35 if beside else 0.6)
    figure = Figure(figsize=(style.WIDTH, height), layout="constrained")
    panels = figure.subplots(num_lines, num_columns, sharex=True, sharey=True, squeeze=False).ravel()
    size = 72 * side / len(classes)
    places = {name: i for i, (name, _) in enumerate(classes)}
    for ax, row in zip(panels, rows, strict=True):
        _matrix(ax, data[data["row"] == row], places, min(_SMALL, size / 1.95) if beside else None)
        _separate(ax, families)
        ax.set_title(label_of(row, 28 if num_columns > 1 else 56), loc="left", pad=4)
        middles = [i + 0.5 for i in range(len(names))]
        ax.set_xticks(middles, names, rotation=90, fontsize=min(_SMALL, 0.85 * size))
        ax.set_yticks(middles, names, fontsize=min(_SMALL, 0.85 * size))
    figure.supxlabel("predicted class", fontsize=8.5)
    figure.supylabel("class", fontsize=8.5)
    for ax in panels[-1:] if beside else panels:
        _name_families(ax, families)
    if not beside:
        keys = [
            Patch(facecolor=_shade(percent, written=False), edgecolor=style.SOFT, linewidth=0.5) for percent in _KEYS
        ]
        figure.legend(keys, [f"{percent} %" for percent in _KEYS], ncols=len(_KEYS), handlelength=1.2, **style.LEGEND)
    return figure


_KEYS = (1, 10, 25, 50, 100)


def _shade(percent: float, written: bool) -> Any:
    """The colour of a percentage, lighter where a number is written on it."""
    return sns.light_palette(style.FILL if written else style.ROW, as_cmap=True)((percent / 100) ** 0.5)


def _matrix(ax: Axes, data: pd.DataFrame, places: dict[str, int], size: float | None) -> None:
    """The squares of a row's confusion, with the percent in each where ``size``, in points, is given."""
    shown = data[data["percent"] >= 0.5]
    corners = [(x, y) for x, y in zip(shown["predicted"].map(places), shown["class"].map(places), strict=True)]
    squares = [[(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)] for x, y in corners]
    colours = [_shade(value, written=size is not None) for value in shown["percent"]]
    ax.add_collection(PolyCollection(squares, facecolors=colours, edgecolors="none"), autolim=False)
    if size is not None:
        for (x, y), value in zip(corners, shown["percent"], strict=True):
            ax.text(x + 0.5, y + 0.5, f"{value:.0f}", ha="center", va="center", fontsize=size)
    ax.set(xlim=(0, len(places)), ylim=(len(places), 0))
    ax.tick_params(length=0)
    ax.spines[["top", "right"]].set_visible(True)


def _separate(ax: Axes, families: list[str]) -> None:
    for i in range(1, len(families)):
        if families[i] != families[i - 1]:
            ax.axhline(i, color=style.INK, linewidth=0.9)
            ax.axvline(i, color=style.INK, linewidth=0.9)


def _name_families(ax: Axes, families: list[str]) -> None:
    """The families at the right of a matrix."""
    middles = {
        family: fmean(i + 0.5 for i, name in enumerate(families) if name == family)
        for family in dict.fromkeys(families)
        if family
    }
    heights = style.space_out(list(middles.values()), 0.045 * len(families))
    for family, height in zip(middles, heights, strict=True):
        ax.annotate(
            family, (1, height), (5, 0), ax.get_yaxis_transform(), "offset points", va="center",
            color=style.SOFT, fontsize=8, annotation_clip=False,
        )  # fmt: skip


# Gain by class


def gain_by_class_data(export: Export) -> pd.DataFrame:
    """One line a class: family, class, n (seeds that both rows have), mean, low, high (points).

    The gain is the base's top-1 on the class minus that of the row without an operator, paired by seed, with the 95 %
    interval over seeds, cut to what accuracies can differ by. Families are in their order, classes in each from the
    largest gain down. Empty where the table has no such two rows.
    """
    chosen, columns = contrast(export.manifest), ["family", "class", "n", "mean", "low", "high"]
    classes, _ = parted(export.classes, "top1")
    base, without = (
        classes[classes["row"] == name].pivot_table(index="class", columns="seed", values="top1") for name in chosen
    )
    lines = []
    for name, family in classes_by_family(export.manifest):
        if name in base.index and name in without.index:
            change = st.t_interval((base.loc[name] - without.loc[name]).dropna())
            # At two or three seeds the interval may exceed what a difference of two accuracies can be.
            low, high = np.clip([change.low, change.high], -100, 100)
            if change.n:
                lines.append((family, name, change.n, change.mean, low, high))
    floats = dict.fromkeys(["mean", "low", "high"], "float64")
    df = pd.DataFrame(lines, columns=columns).astype({"n": "int64", **floats})
    ordered = df.assign(place=pd.factorize(df["family"])[0], loss=-df["mean"])
    return ordered.sort_values(["place", "loss"], kind="stable", ignore_index=True)[columns]


def gain_by_class(export: Export) -> Drawing | None:
    """Gain of the base over the row without an operator, class by class; None where the table has no such rows."""
    data, chosen = gain_by_class_data(export), contrast(export.manifest)
    if data.empty or chosen.without is None:
        return None
    shown = data
    if len(data) > MOST_CLASSES:
        gains = data[data["mean"] > 0].nlargest(EXTREME_CLASSES, "mean")
        losses = data[data["mean"] < 0].nsmallest(EXTREME_CLASSES, "mean")
        shown = pd.concat([gains, losses]).sort_index(ignore_index=True)
    if shown.empty:  # not one of many classes gains or loses
        return None
    return draw_gain_by_class(shown, chosen.base, str(chosen.without), export=export)


def gain_by_class_caption(data: pd.DataFrame, base: str, without: str, export: Export) -> str:
    """What is drawn of the classes of ``export``: ``base`` has the operator, the other row has none."""
    num_classes = len(gain_by_class_data(export))
    _, unknown = parted(export.classes[export.classes["row"].isin([base, without])], "top1")
    text = (
        f"Gain in top-1 of {base} over {without} by class, in points, paired by seed; in each family from the largest "
        "down. "
    )
    if data["low"].notna().any():
        text += "Bars are 95 % intervals over seeds, cut at 100 points, for one class each. "
    if data["low"].isna().any():
        text += "A marker without a bar has one seed, or the same gain in all seeds. "
    if len(data) < num_classes:
        gains, losses = int((data["mean"] > 0).sum()), int((data["mean"] < 0).sum())
        text += (
            f"Of {num_classes} classes the {gains} with the largest gains and the {losses} with the largest losses are "
            "shown; the extremes of many are biased by selection. "
        )
    text = (text + meaning_of_families(data["family"].unique(), classes=True)).strip()
    text += left_out_note(by_seed(unknown, "class"), "value", "not between 0 and 100 %")
    return text + mixed_recipes(export, [base, without])


def gain_by_class_alt(data: pd.DataFrame) -> str:
    """The gains by class in words."""
    classes = "; ".join(
        f"{row['class']}: {difference(row['mean'], TOP1)}{interval_of(row)}" for row in data.to_dict("records")
    )
    return f"Dot plot of the gain in top-1 by class, in points. {classes}."


@figure(caption=gain_by_class_caption, alt=gain_by_class_alt)
def draw_gain_by_class(data: pd.DataFrame, base: str, without: str) -> Figure:
    """A horizontal dot plot, each family below its name."""
    rows, y = [], 0.0
    for family, part in data.groupby("family", sort=False):
        if family:
            rows.append((label_of(str(family)), y + 0.1, True))
            y += 1
        for name in part["class"]:
            rows.append((label_of(str(name), 30), y, False))
            y += 1
        y += 0.3
    labels, places, bold = (list(values) for values in zip(*rows, strict=True))
    at = [place for _, place, is_family in rows if not is_family]
    about = label_of(f"gain in top-1 of {base} over {without} (points)", 44)
    figure, ax = style.canvas(0.75 + 0.14 * about.count("\n") + pitch(labels, 0.24) * y)
    known = data.assign(y=at).dropna(subset=["low", "high"])
    ax.hlines(known["y"], known["low"], known["high"], color=style.ROW, linewidth=2.0)
    ax.plot(data["mean"], at, **LOOKS[False])
    ax.axvline(0, color=style.BASE, linewidth=1.1, zorder=0)
    ax.set(ylim=(y - 0.5, -0.6), xlabel=about)
    ax.xaxis.set_major_formatter(lambda value, _: signed(value))
    name_rows(ax, places, labels, bold)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
    return figure
