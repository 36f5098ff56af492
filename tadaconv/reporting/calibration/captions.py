"""What stands under each figure of a calibration, and in place of it for those who cannot see."""

import pandas as pd

from tadaconv.reporting.calibration.words import number
from tadaconv.reporting.core.format import plural
from tadaconv.result import NUM_INSPECTED


def alpha_over_time(data: pd.DataFrame) -> str:
    """Caption of the heat maps, with how to read the order of the channels."""
    text = "Alpha of each frame. "
    if set(data["factor"]) != {"k2"}:
        text += (
            "In each map time runs to the right, and channels stand in one order for all clips, by their mean over "
            "these: it lies above one over the dotted line, and below one under it. "
        )
    if "k2" in set(data["factor"]):
        text += "Taps are drawn as they lie in the kernel, one kernel a frame. "
    if (data["num"] > data.groupby(["layer", "factor"])["order"].transform("max") + 1).any():
        text += "Where a layer has more channels than are drawn, these are spread evenly over that order. "
    return (
        f"{text}Blue is below one, orange above; every layer has its own scale. On top: the clip\u2019s class, what "
        "the network predicts and with which probability, and some of the clip\u2019s frames, each above the frames "
        "around it."
    )


def alt_over_time(data: pd.DataFrame, clips: pd.DataFrame) -> str:
    """The heat maps in words: in each layer and clip, the range of alpha."""
    names = dict(zip(clips["clip"], clips["class"], strict=True))
    ranges = data.groupby(["name", "factor", "clip"], sort=False)["alpha"].agg(["min", "max"]).reset_index()
    said = [
        f"{line['name']}, {names[line['clip']]}: {line['min']:.2f} to {line['max']:.2f}"
        for line in ranges.to_dict("records")
    ]
    return f"Heat maps of alpha over channels and frames, by layer and clip. {'; '.join(said)}."


def alpha_spread(num_clips: int) -> str:
    """Caption of the quantile bars and shares."""
    return (
        f"Left: alpha in each layer from the first to the last, over channels, frames and {plural(num_clips, 'clip')}; "
        "thick bars hold the middle half, thin ones 95 %, the mark within is the median. Right: what the mean square "
        "distance from one consists of. Constant is the same for every clip and frame, as a plain convolution with "
        "other weights could have it; the rest adapts, between clips or between the frames of a clip."
    )


def alt_spread(data: pd.DataFrame) -> str:
    """The spread in words."""
    said = []
    for line in data.to_dict("records"):
        parts = "alpha is one"
        if line["constant"] == line["constant"]:
            parts = (
                f"{line['constant']:.0f} % constant, {line['over_clips']:.0f} % between clips, "
                f"{line['over_time']:.0f} % between frames"
            )
        said.append(f"{line['name']}: 95 % of alpha in {line['q025']:.3f} to {line['q975']:.3f}, {parts}")
    return f"Bars of the spread of alpha by layer. {'; '.join(said)}."


def alpha_over_training(data: pd.DataFrame) -> str:
    """Caption of the panels by stage."""
    start = " At epoch 0 alpha is one by construction." if (data["epoch"] == 0).any() else ""
    return (
        f"Distance of alpha from one after the epochs evaluated, by stage, as root mean squares over {NUM_INSPECTED} "
        f"validation clips; the squares of the three parts add up to the square of the distance.{start}"
    )


def alt_over_training(data: pd.DataFrame) -> str:
    """The panels in words: where each stage ends."""
    last = data[data["epoch"] == data["epoch"].max()]
    said = [
        f"{line['stage']} ends at {number(line['distance'])}, of which {number(line['over_time'])} between frames"
        for line in last.to_dict("records")
    ]
    return f"Lines of the distance of alpha from one over epochs, by stage. {'; '.join(said)}."


def calibration_over_training(data: pd.DataFrame, num_seeds: int, num_shown: int, num_rows: int) -> str:
    """Caption of a table's small multiples, ``num_shown`` of the ``num_rows`` rows that calibrate."""
    band = ", mean over the seeds; bands reach from the lowest to the highest" if num_seeds > 1 else ""
    panels = "One panel a row that calibrates."
    if num_shown < num_rows:
        panels = (
            f"Of {num_rows} rows that calibrate, the {num_shown} of the highest and the lowest accuracy have a panel."
        )
    start = " Rows that start at one do so at epoch 0." if (data["epoch"] == 0).any() else ""
    return (
        "Distance of alpha from one after the epochs evaluated, by stage: its root mean square over layers, channels, "
        f"frames and {NUM_INSPECTED} validation clips{band}.{start} {panels}"
    )


def alt_by_row(data: pd.DataFrame) -> str:
    """A table's small multiples in words: where each row ends."""
    last = data[data["epoch"] == data.groupby("row")["epoch"].transform("max")]
    said = []
    for row, lines in last.groupby("row", sort=False):
        ends = ", ".join(f"{line['stage']} {number(line['distance'])}" for line in lines.to_dict("records"))
        said.append(f"{row}: {ends}")
    return f"Lines of the distance of alpha from one over epochs, one panel a row. At the end {'; '.join(said)}."
