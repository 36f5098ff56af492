"""What stands under each figure, for readers who have never seen the code, and in place of it for those who cannot see.

The words say what is drawn and what an interval covers; they are computed from what the figure shows.
"""

import pandas as pd

from tadaconv.reporting.words import percent, plural

_FAMILIES = {
    "frame": "classes of the family frame can be told from a single frame",
    "set": "set, from the frames in any order",
    "order": "order, only from their order",
}
"""The families of the synthetic clips."""


def accuracy_by_row(data: pd.DataFrame) -> str:
    """Caption of the dot plot, with what its intervals cover."""
    covers = set(data["covers"])
    text = "Validation top-1 of each row. "
    if (data["n"] > 1).any():
        text += "Large markers are means over seeds, small rings below them the single seeds. "
    if "seeds" in covers:
        text += "Bars are 95 % intervals of the mean over seeds, for these validation clips. "
    if "clips" in covers:
        text += "Dashed bars come from one seed and cover the choice of validation clips alone, not another seed. "
    if data["versus"].any():
        text += (
            "Diamonds are rows that others are compared with. The dotted line in a row marks the mean of the row it is "
            "compared with, named below it."
        )
    elif (data["reference"] & (data["n"] > 0)).any():
        text += "The diamond and the dotted line mark the base row."
    return text.strip()


def alt_by_row(data: pd.DataFrame) -> str:
    """The dot plot in words."""
    return "Dot plot of validation top-1 by row. " + "; ".join(_said(row) for row in data.to_dict("records")) + "."


def accuracy_by_macs(data: pd.DataFrame) -> str:
    """Caption of the scatter, with the range of costs, which is often too small to see."""
    least, most = data["macs"].min(), data["macs"].max()
    joined = " Dotted lines join each row to the row it is compared with." if data["versus"].any() else ""
    return (
        "Validation top-1 against the cost of a clip, in multiply-adds of convolutions and linear layers. Higher is "
        f"more accurate, further left is cheaper; vertical bars are 95 % intervals.{joined} {_costs_apart(least, most)}"
    )


def alt_by_macs(data: pd.DataFrame) -> str:
    """The scatter in words."""
    rows = "; ".join(f"{row['row']}: {row['macs']:.4g} at {percent(row['mean'])} %" for row in data.to_dict("records"))
    return f"Scatter plot of validation top-1 against multiply-adds a clip. {rows}."


def learning_curves(data: pd.DataFrame, base: str | None) -> str:
    """Caption of the small multiples; ``base`` is None where each row is compared with one of its own."""
    num_seeds = data["seed"].nunique()
    seeds = plural(num_seeds, "seed")
    band = "; bands reach from the lowest seed to the highest" if num_seeds > 1 else ""
    beside = ", with the base row dashed in each panel" if (data["row"] == base).any() else ""
    beside = beside if base else ", with the row it is compared with dashed and named below it"
    return f"Validation top-1 at the end of every epoch, mean over {seeds}{band}. One panel a row{beside}."


def alt_curves(data: pd.DataFrame) -> str:
    """The learning curves in words: where each row ends."""
    last = data[data["epoch"] == data["epoch"].max()].groupby("row", sort=False)["val_top1"].mean()
    ends = "; ".join(f"{name} ends at {percent(value)} %" for name, value in last.items())
    return f"Learning curves, validation top-1 over epochs, one panel a row. {ends}."


def accuracy_by_family(data: pd.DataFrame) -> str:
    """Caption of the heat map; families of the synthetic clips are explained."""
    text = (
        "Validation top-1 in percent by family of classes, mean over seeds; the stronger the colour, the more accurate."
    )
    if set(data.columns) == set(_FAMILIES):
        meaning = "; ".join(_FAMILIES[name] for name in data.columns)
        text += f" {meaning[0].upper()}{meaning[1:]}."
    return text


def alt_by_family(data: pd.DataFrame) -> str:
    """The heat map in words."""
    rows = (
        f"{name}: " + ", ".join(f"{family} {percent(value)} %" for family, value in values.items())
        for name, values in data.to_dict("index").items()
    )
    return "Heat map of validation top-1 by row and class family. " + "; ".join(rows) + "."


def as_markdown(text: str) -> str:
    """``text`` as Markdown that shows it as it is."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>()#+-.!|~$&" else c for c in text)


def _costs_apart(least: float, most: float) -> str:
    if most > 2 * least:
        factor = f"{most / least:.{0 if most >= 10 * least else 1}f}"
        return f"The dearest row costs {factor} times as much as the cheapest."
    return f"The dearest row costs {100 * (most / least - 1):.2f} % more than the cheapest."


def _said(row: dict[object, object]) -> str:
    if not row["n"]:
        return f"{row['row']}: {'failed' if row['status'] == 'failed' else 'not run'}"
    against = f" (compared with {row['versus']})" if row["versus"] else ""
    return f"{row['row']}: {percent(float(str(row['mean'])))} %{against}"
