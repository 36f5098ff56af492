"""The figures of what a calibration does. Each is a data function, to a DataFrame, and a drawing function."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tadaconv.errors import unknown
from tadaconv.reporting.calibration.data import Array, CalibrationExport, constant_part
from tadaconv.reporting.calibration.text import FACTORS, layer_names
from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import Drawing, figure
from tadaconv.reporting.core.format import number
from tadaconv.reporting.core.labels import epochs_axis, label_of
from tadaconv.reporting.renamed import moved_figure
from tadaconv.result import NUM_INSPECTED
from tadaconv.text import plural

MOST_CHANNELS = 64
"""Channels of a layer that are shown; more would be thinner than a line."""
MOST_FRAMES = 4
"""Frames of a clip that are shown above its alpha."""

ALPHA = LinearSegmentedColormap.from_list("alpha", ["#03264f", "#1f66a8", "#a3a3a3", "#f2b266", "#fff2cf"])
"""Below one blue, above one orange, and the lower the darker, so that a copy in grey says the same."""


# Alpha over time and channels


def alpha_over_time_data(export: CalibrationExport, layers: Sequence[str] = ()) -> pd.DataFrame:
    """One line a clip, layer, factor, channel and frame, with its alpha, and what the drawing says of the layer.

    Columns are clip, layer, factor, name, num, kernel, channel, order, mean, frame, alpha.

    ``layers`` are names of ``layers.csv``; by default the last of each stage, and of each kind and frame rate where
    a stage has several. Of a factor with many channels
    ``MOST_CHANNELS`` are taken, evenly spread over their ``order``, which is that of their mean over the clips and
    frames; taps stay in the order of the kernel. Raises :class:`UserError` for a layer that is not there.
    """
    known = list(dict.fromkeys(export.layers["layer"]))
    for name in layers:
        if name not in known:
            raise unknown("layer", name, known)
    alike = export.layers.groupby(["stage", "kind", "num_frames"])
    wanted = set(layers) or {names.iloc[-1] for _, names in alike["layer"]}
    parts = []
    for name, line in zip(layer_names(export.layers), export.layers.to_dict("records"), strict=True):
        if line["layer"] in wanted:
            alphas = export.alphas[f"{line['layer']}.{line['factor']}"]
            part = _long(alphas, _picked(alphas, line["factor"]))
            same = {key: line[key] for key in ("layer", "factor", "num", "kernel")}
            parts.append(part.assign(name=name, **same))
    return pd.concat(parts, ignore_index=True)


def _picked(alphas_NDT: Array, factor: str) -> Array:
    """Which channels are shown, in their order."""
    if factor == "k2":
        return np.arange(alphas_NDT.shape[1])
    order = np.argsort(alphas_NDT.mean((0, 2), dtype=np.float64), kind="stable")
    at = np.linspace(0, len(order) - 1, min(MOST_CHANNELS, len(order))).round().astype(int)
    picked: Array = order[at]
    return picked


def _long(alphas_NDT: Array, picked: Array) -> pd.DataFrame:
    shown = alphas_NDT[:, picked]
    means = shown.mean((0, 2), dtype=np.float64)
    clip, order, frame = (index.ravel() for index in np.indices(shown.shape))
    columns = {"clip": clip, "channel": picked[order], "order": order, "mean": means[order], "frame": frame}
    return pd.DataFrame({**columns, "alpha": shown.ravel()})


def alpha_over_time(export: CalibrationExport, layers: Sequence[str] = ()) -> Drawing | None:
    """Alpha of the clips shown, over channels and frames, a line of panels a layer; see the data function."""
    data = alpha_over_time_data(export, layers)
    return draw_alpha_over_time(data, export.clips, export.frames)


def alpha_over_time_caption(data: pd.DataFrame) -> str:
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


def alpha_over_time_alt(data: pd.DataFrame, clips: pd.DataFrame) -> str:
    """The heat maps in words: in each layer and clip, the range of alpha."""
    names = dict(zip(clips["clip"], clips["class"], strict=True))
    ranges = data.groupby(["name", "factor", "clip"], sort=False)["alpha"].agg(["min", "max"]).reset_index()
    said = [
        f"{line['name']}, {names[line['clip']]}: {line['min']:.2f} to {line['max']:.2f}"
        for line in ranges.to_dict("records")
    ]
    return f"Heat maps of alpha over channels and frames, by layer and clip. {'; '.join(said)}."


@figure(caption=alpha_over_time_caption, alt=alpha_over_time_alt)
def draw_alpha_over_time(data: pd.DataFrame, clips: pd.DataFrame, frames: list[Array]) -> Figure:
    """A column a clip with its frames on top, a line of heat maps a layer and factor with its own scale of colours."""
    groups = [group for _, group in data.groupby(["layer", "factor"], sort=False)]
    heads = [_head(clip) for clip in clips.to_dict("records")]
    left, right, gap = 1.05, 0.62, 0.08
    num_shown = min(MOST_FRAMES, min(len(clip) for clip in frames))
    width = (style.WIDTH - left - right - gap * (len(clips) - 1)) / len(clips)
    strip = width / num_shown
    heights = [strip, *(0.42 if group["factor"].iloc[0] == "k2" else 0.95 for group in groups)]
    top, bottom, between = 0.08 + 0.14 * max(head.count("\n") + 1 for head in heads), 0.42, 0.1
    height = top + sum(heights) + between * len(groups) + bottom
    figure = Figure(figsize=(style.WIDTH, height))
    mean = sum(heights) / len(heights)
    grid = figure.add_gridspec(
        len(heights), len(clips), height_ratios=heights, hspace=between / mean, wspace=gap / width,
        left=left / style.WIDTH, right=1 - right / style.WIDTH, top=1 - top / height, bottom=bottom / height,
    )  # fmt: skip
    for column, (head, clip) in enumerate(zip(heads, frames, strict=True)):
        _draw_frames(figure.add_subplot(grid[0, column]), clip, num_shown, head)
    for line, group in enumerate(groups, 1):
        _draw_layer(figure, grid, line, group, len(frames[0]), is_last=line == len(groups))
    return figure


def _head(clip: dict[Any, Any]) -> str:
    taken = "right" if clip["predicted"] == clip["class"] else f"\u2192 {clip['predicted']}"
    sure = f"{100 * clip['probability']:.0f} %"
    return f"{label_of(clip['class'], 22)}\n{label_of(f'{taken}, {sure}', 22)}"


def _draw_frames(ax: Axes, clip_THWC: Array, num_shown: int, head: str) -> None:
    """The middle frame of each of ``num_shown`` parts of the clip, above the frames that it stands for."""
    step = len(clip_THWC) / num_shown
    strip = np.concatenate([clip_THWC[int((part + 0.5) * step)] for part in range(num_shown)], 1)
    ax.imshow(strip, extent=(0, len(clip_THWC), 0, 1), aspect="auto", interpolation="none")
    for part in range(1, num_shown):
        ax.axvline(part * step, color="white", linewidth=0.8)
    ax.set(xlim=(0, len(clip_THWC)), ylim=(0, 1), xticks=[], yticks=[])
    ax.set_title(head, fontsize=7.5, pad=3, loc="left", linespacing=1.1)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _draw_layer(figure: Figure, grid: GridSpec, line: int, group: pd.DataFrame, num_frames: int, is_last: bool) -> None:
    """A map a clip, as long as the clip's ``num_frames`` also where the layer sees fewer."""
    num, factor = int(group["num"].iloc[0]), group["factor"].iloc[0]
    reach = max(float(np.quantile((group["alpha"] - 1).abs(), 0.99)), 1e-3)
    scale = Normalize(1 - reach, 1 + reach)
    axes = []
    image = None
    for column, (_, clip) in enumerate(group.groupby("clip")):
        ax = figure.add_subplot(grid[line, column])
        alpha_DT = clip.pivot_table(index="order", columns="frame", values="alpha").to_numpy()
        picture = _taps(alpha_DT, group["kernel"].iloc[0]) if factor == "k2" else alpha_DT
        image = ax.imshow(
            np.ma.masked_invalid(picture), cmap=ALPHA, norm=scale, aspect="auto", interpolation="none",
            extent=(0, num_frames, 0, len(picture)), origin="lower",
        )  # fmt: skip
        _mark_one(ax, group, factor)
        _frame_ticks(ax, num_frames, is_last)
        axes.append(ax)
    what = FACTORS[factor]
    shown = int(group["order"].max()) + 1
    count = f"{num}" if shown == num else f"{shown} of {num}"
    axes[0].set_ylabel(
        f"{label_of(group['name'].iloc[0], 15)}\n{label_of(f'{count} {what}', 15)}",
        rotation=0, ha="right", va="center", fontsize=8,
        labelpad=6, linespacing=1.15,
    )  # fmt: skip
    assert image is not None
    _colour_bar(figure, axes[-1], image, reach, bool((group["alpha"] - 1).abs().max() > reach))


def _taps(alpha_DT: Array, kernel: str) -> Array:
    """Each frame's taps as they lie in the kernel, first row on top, with an empty column between the frames."""
    sizes = [int(size) for size in kernel.split(" x ")]
    rows, columns = int(np.prod(sizes[:-1])), sizes[-1]
    boxes = alpha_DT.reshape(rows, columns, -1)[::-1].transpose(0, 2, 1)
    spaced = np.pad(boxes, ((0, 0), (0, 0), (0, 1)), constant_values=np.nan)
    flat: Array = spaced.reshape(rows, -1)
    return flat


def _mark_one(ax: Axes, group: pd.DataFrame, factor: str) -> None:
    """A line where the channels' means, by which they are ordered, pass one."""
    means = group.drop_duplicates("order")["mean"]
    at = int((means < 1).sum())
    if factor != "k2" and 0 < at < len(means):
        ax.axhline(at, color=style.INK, linewidth=0.8, linestyle=(0, (1, 2)))


def _frame_ticks(ax: Axes, num_frames: int, is_last: bool) -> None:
    step = max(1, ceil(num_frames / 8))
    shown = list(range(0, num_frames, step)) if is_last else []
    ax.set(xticks=[frame + 0.5 for frame in shown], xticklabels=[str(frame + 1) for frame in shown], yticks=[])
    ax.tick_params(axis="x", length=0, labelsize=7.5, pad=2)
    for spine in ax.spines.values():
        spine.set(visible=True, linewidth=0.5)
    if is_last:
        ax.set_xlabel("frame", fontsize=8, labelpad=1)


def _colour_bar(figure: Figure, ax: Axes, image: AxesImage, reach: float, is_cut: bool) -> None:
    box = ax.get_position()
    inch = 1 / style.WIDTH
    bar_ax = figure.add_axes((box.x1 + 0.07 * inch, box.y0, 0.07 * inch, box.height))
    bar = figure.colorbar(image, cax=bar_ax, ticks=[1 - reach, 1, 1 + reach])
    low, high = number(1 - reach, reach), number(1 + reach, reach)
    bar.ax.set_yticklabels([f"\u2264 {low}", "1", f"\u2265 {high}"] if is_cut else [low, "1", high])
    lowest, _, highest = bar.ax.get_yticklabels()
    lowest.set_verticalalignment("bottom")
    highest.set_verticalalignment("top")
    bar.ax.tick_params(labelsize=7, length=2, pad=2)
    bar.outline.set_linewidth(0.5)


# The spread of alpha by layer


def alpha_spread_data(export: CalibrationExport) -> pd.DataFrame:
    """One line a layer and factor, first to last: name, quantiles of alpha, distance, and the shares of its square.

    ``constant``, ``over_clips`` and ``over_time`` are per cent of the mean square distance from one; not known where
    that is zero.
    """
    layers = export.layers
    data = layers[["q025", "q250", "q500", "q750", "q975", "distance"]].copy()
    data.insert(0, "name", layer_names(layers))
    square = (layers["distance"] ** 2).where(layers["distance"] > 1e-7)
    for part in _PARTS:
        data[part] = 100 * layers[part] ** 2 / square
    return data


_PARTS: dict[str, tuple[str, str, str]] = {
    "constant": ("constant", style.FAINT, ""),
    "over_clips": ("between clips", style.FILL, "////"),
    "over_time": ("between frames", style.BASE, ""),
}
"""Label, colour and hatch of what a distance from one consists of; greys differ as well."""


def alpha_spread(export: CalibrationExport) -> Drawing | None:
    """How far alpha spreads in each layer, and what it varies with."""
    data = alpha_spread_data(export)
    return draw_alpha_spread(data, num_clips=export.manifest.num_clips)


def alpha_spread_caption(num_clips: int) -> str:
    """Caption of the quantile bars and shares."""
    return (
        f"Left: alpha in each layer from the first to the last, over channels, frames and {plural(num_clips, 'clip')}; "
        "thick bars hold the middle half, thin ones 95 %, the mark within is the median. Right: what the mean square "
        "distance from one consists of. Constant is the same for every clip and frame, as a plain convolution with "
        "other weights could have it; the rest adapts, between clips or between the frames of a clip."
    )


def alpha_spread_alt(data: pd.DataFrame) -> str:
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


@figure(caption=alpha_spread_caption, alt=alpha_spread_alt)
def draw_alpha_spread(data: pd.DataFrame) -> Figure:
    """Quantile bars of alpha beside bars of shares, the first layer on top."""
    labels = [label_of(name, 30) for name in data["name"]]
    pitch = max(0.24, 0.07 + 0.142 * max(label.count("\n") + 1 for label in labels))
    figure = Figure(figsize=(style.WIDTH, 0.95 + pitch * len(data)), layout="constrained")
    spread, parts = figure.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": [1.15, 1]})
    places = range(len(data))
    for place, line in zip(places, data.to_dict("records"), strict=True):
        spread.hlines(place, line["q025"], line["q975"], color=style.ROW, linewidth=1.4)
        spread.hlines(place, line["q250"], line["q750"], color=style.ROW, linewidth=5.0)
        spread.plot(line["q500"], place, marker="|", color="white", markersize=5, markeredgewidth=1.2)
    spread.axvline(1, color=style.INK, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    spread.set(yticks=list(places), yticklabels=labels, ylim=(len(data) - 0.5, -0.5), xlabel="alpha")
    spread.grid(axis="x")
    spread.locator_params(axis="x", nbins=5)
    _stack(parts, data)
    for ax in (spread, parts):
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
    keys = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=name) for name, colour, hatch in _PARTS.values()
    ]
    figure.legend(
        handles=keys, ncols=3, handlelength=1.4, columnspacing=1.2, **{**style.LEGEND, "loc": "outside upper right"}
    )
    return figure


def _stack(ax: Axes, data: pd.DataFrame) -> None:
    start = np.zeros(len(data))
    with mpl.rc_context({"hatch.linewidth": 0.7}):
        for part, (_, colour, hatch) in _PARTS.items():
            widths = data[part].fillna(0).to_numpy()
            ax.barh(range(len(data)), widths, left=start, height=0.66, color=colour, hatch=hatch, edgecolor="white",
                    linewidth=0.4)  # fmt: skip
            start += widths
    ax.set(xlim=(0, 100), xlabel="square of the distance (%)")


# The distance from one over training


def alpha_over_training_data(export: CalibrationExport) -> pd.DataFrame:
    """One line an epoch and stage: epoch, stage, distance, constant, over_clips, over_time.

    A row that starts at one has a first line at epoch 0.
    """
    return _with_start(export.training, export.manifest.cells[0].experiment)


def _with_start(training: pd.DataFrame, experiment: dict[str, Any]) -> pd.DataFrame:
    values = ["distance", "over_clips", "over_time"]
    data = training[["epoch", "stage", *values]]
    if (experiment["temporal"] or {}).get("init") == "identity" and len(data):
        start = pd.DataFrame({"epoch": 0, "stage": list(dict.fromkeys(data["stage"])), **dict.fromkeys(values, 0.0)})
        data = pd.concat([start, data], ignore_index=True)
    parts = [constant_part(*each) for each in data[values].itertuples(index=False)]
    return data.assign(constant=parts).sort_values(["stage", "epoch"], ignore_index=True)


def alpha_over_training(export: CalibrationExport) -> Drawing | None:
    """How alpha left one while the network was trained; None for results from before that was recorded."""
    data = alpha_over_training_data(export)
    if data.empty:
        return None
    return draw_alpha_over_training(data)


_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "distance": ("distance from one", {"color": style.INK, "linewidth": 2.2}),
    "constant": ("constant part", {"color": style.SOFT, "linewidth": 1.2, "linestyle": (0, (1, 1.2))}),
    "over_clips": ("between clips", {"color": style.ROW, "linewidth": 1.4, "linestyle": (0, (4, 1.5))}),
    "over_time": ("between frames", {"color": style.BASE, "linewidth": 1.6}),
}


def alpha_over_training_caption(data: pd.DataFrame) -> str:
    """Caption of the panels by stage."""
    start = " At epoch 0 alpha is one by construction." if (data["epoch"] == 0).any() else ""
    return (
        f"Distance of alpha from one after the epochs evaluated, by stage, as root mean squares over {NUM_INSPECTED} "
        f"validation clips; the squares of the three parts add up to the square of the distance.{start}"
    )


def alpha_over_training_alt(data: pd.DataFrame) -> str:
    """The panels in words: where each stage ends."""
    last = data[data["epoch"] == data["epoch"].max()]
    said = [
        f"{line['stage']} ends at {number(line['distance'])}, of which {number(line['over_time'])} between frames"
        for line in last.to_dict("records")
    ]
    return f"Lines of the distance of alpha from one over epochs, by stage. {'; '.join(said)}."


@figure(caption=alpha_over_training_caption, alt=alpha_over_training_alt)
def draw_alpha_over_training(data: pd.DataFrame) -> Figure:
    """A small panel a stage with the distance from one and the parts it consists of."""
    stages = sorted(set(data["stage"]))
    figure = Figure(figsize=(style.WIDTH, 2.3), layout="constrained")
    panels = figure.subplots(1, len(stages), sharex=True, sharey=True, squeeze=False).ravel()
    for ax, stage in zip(panels, stages, strict=True):
        lines = data[data["stage"] == stage]
        for part, (_, look) in _LINES.items():
            ax.plot(lines["epoch"], lines[part], **look)
        ax.set_title(stage, loc="left", pad=3)
        epochs_axis(ax, int(data["epoch"].max()))
    panels[0].set(ylim=(0, None), ylabel="root mean square")
    figure.supxlabel("epoch", fontsize=8.5)
    keys = [Line2D([], [], label=name, **look) for name, look in _LINES.values()]
    figure.legend(handles=keys, ncols=4, handlelength=2.0, columnspacing=1.2, **style.LEGEND)
    return figure


__getattr__ = moved_figure  # as notebooks of before import it from here
