"""The figures of what a calibration does: a function a figure, with its caption, its alternative text and its data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tadaconv.errors import unknown
from tadaconv.reporting.calibration.data import PLACES, Array, CalibrationExport, constant_part
from tadaconv.reporting.calibration.text import FACTORS, layer_names
from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import figure
from tadaconv.reporting.core.format import number
from tadaconv.reporting.core.labels import epochs_axis, label_of, pitch
from tadaconv.reporting.renamed import moved_figure
from tadaconv.result import NUM_INSPECTED
from tadaconv.text import plural

MOST_CHANNELS = 64
"""Channels of a layer that are shown; more would be thinner than a line."""
MOST_FRAMES = 4
"""Frames of a clip that are shown above its alpha."""

ALPHA = LinearSegmentedColormap.from_list("alpha", ["#03264f", "#1f66a8", "#a3a3a3", "#f2b266", "#fff2cf"])
"""Below one blue, above one orange, and the lower the darker, so that it can be read in greyscale."""

_AT_ONE: dict[str, Any] = {"color": style.INK, "linewidth": 0.8, "linestyle": (0, (1, 2))}


# Alpha over time and channels


def alpha_over_time_data(export: CalibrationExport, layers: Sequence[str] = ()) -> pd.DataFrame:
    """One line a clip, layer, factor, channel and frame, with its alpha, and the layer's name and sizes.

    Columns are clip, layer, factor, name, num, kernel, channel, order, mean, frame, alpha.

    ``layers`` are names of ``layers.csv``; by default the last of each stage, and of each kind and frame rate where
    a stage has several. Of a factor with many channels ``MOST_CHANNELS`` are taken, evenly spread over their ``order``,
    which is that of their mean over the clips and frames; taps stay in the order of the kernel. Raises
    :class:`UserError` for an unknown layer.
    """
    known = list(dict.fromkeys(export.layers["layer"]))
    for name in layers:
        if name not in known:
            raise unknown("layer", name, known)
    shown = set(layers or export.layers.groupby(["stage", "kind", "num_frames"])["layer"].last())
    parts = []
    for name, line in zip(layer_names(export.layers), export.layers.to_dict("records"), strict=True):
        if line["layer"] in shown:
            alphas_NDT = export.alphas[f"{line['layer']}.{line['factor']}"]
            part = _long(alphas_NDT, _channels(alphas_NDT, line["factor"]))
            parts.append(part.assign(name=name, **{key: line[key] for key in ("layer", "factor", "num", "kernel")}))
    return pd.concat(parts, ignore_index=True)


def _channels(alphas_NDT: Array, factor: str) -> Array:
    """Which channels are shown, in their order."""
    num = alphas_NDT.shape[1]
    if factor == "k2":
        return np.arange(num)
    order = np.argsort(alphas_NDT.mean((0, 2), dtype=np.float64), kind="stable")
    channels: Array = order[np.linspace(0, num - 1, min(MOST_CHANNELS, num)).round().astype(int)]
    return channels


def _long(alphas_NDT: Array, channels: Array) -> pd.DataFrame:
    shown = alphas_NDT[:, channels]
    means = shown.mean((0, 2), dtype=np.float64)
    clip, order, frame = (index.ravel() for index in np.indices(shown.shape))
    columns = {"clip": clip, "channel": channels[order], "order": order, "mean": means[order], "frame": frame}
    return pd.DataFrame({**columns, "alpha": shown.ravel()})


def alpha_over_time_caption(export: CalibrationExport, layers: Sequence[str] = ()) -> str:
    """Caption of the heat maps, with how to read the order of the channels."""
    data = alpha_over_time_data(export, layers)
    text = "Alpha of each frame. "
    if set(data["factor"]) != {"k2"}:
        text += (
            "In each map time runs to the right, and channels have one order for all clips, by their mean over the "
            "clips and frames: this is above one over the dotted line, and below one under it. "
        )
    if "k2" in set(data["factor"]):
        text += "Taps are drawn at their places in the kernel, one kernel per frame. "
    if (data["num"] > data.groupby(["layer", "factor"])["order"].transform("max") + 1).any():
        text += "Where a layer has more channels than are drawn, these are spread evenly over that order. "
    return (
        f"{text}Blue is below one, orange above; every layer has its own scale. On top: the clip\u2019s class, the "
        "predicted class with its probability, and some of the clip\u2019s frames, each above the frames around it."
    )


def alpha_over_time_alt(export: CalibrationExport, layers: Sequence[str] = ()) -> str:
    """The heat maps in words: in each layer and clip, the range of alpha."""
    names = dict(zip(export.clips["clip"], export.clips["class"], strict=True))
    groups = alpha_over_time_data(export, layers).groupby(["name", "factor", "clip"], sort=False)["alpha"]
    ranges = "; ".join(
        f"{line['name']}, {names[line['clip']]}: {line['min']:.2f} to {line['max']:.2f}"
        for line in groups.agg(["min", "max"]).reset_index().to_dict("records")
    )
    return f"Heat maps of alpha over channels and frames, by layer and clip. {ranges}."


@figure(caption=alpha_over_time_caption, alt=alpha_over_time_alt)
def alpha_over_time(export: CalibrationExport, layers: Sequence[str] = ()) -> Figure:
    """Alpha of the clips shown, over channels and frames; see :func:`alpha_over_time_data`.

    A column a clip with its frames on top, a line of heat maps a layer and factor with its own scale of colours.
    """
    groups = [group for _, group in alpha_over_time_data(export, layers).groupby(["layer", "factor"], sort=False)]
    num_parts = min(MOST_FRAMES, len(export.frames[0]))
    heights = [(style.WIDTH - 1.5) / len(export.clips) / num_parts]  # of frames that are square
    heights += [0.42 if group["factor"].iloc[0] == "k2" else 0.95 for group in groups]
    figure = Figure(figsize=(style.WIDTH, 0.7 + sum(heights) + 0.1 * len(groups)), layout="constrained")
    axes = figure.subplots(len(heights), len(export.clips), sharex=True, squeeze=False, height_ratios=heights)
    for ax, clip, frames in zip(axes[0], export.clips.to_dict("records"), export.frames, strict=True):
        _draw_frames(ax, frames, num_parts, clip)
    for row, group in zip(axes[1:], groups, strict=True):
        _draw_layer(figure, row.tolist(), group, len(export.frames[0]))
    for ax in axes[-1]:
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        ax.set_xlabel("frame", fontsize=8, labelpad=1)
    for ax in axes.ravel():
        ax.tick_params(axis="x", length=0, labelsize=7.5, pad=2)
        ax.set_yticks([])
    return figure


def _draw_frames(ax: Axes, frames_THWC: Array, num_parts: int, clip: dict[Any, Any]) -> None:
    """The middle frame of each of ``num_parts`` parts of the clip, above the frames of that part."""
    num_frames = len(frames_THWC)
    length = num_frames / num_parts
    strip = np.concatenate([frames_THWC[int((part + 0.5) * length)] for part in range(num_parts)], 1)
    ax.imshow(strip, extent=(0.5, num_frames + 0.5, 0, 1), aspect="auto", interpolation="none")
    for part in range(1, num_parts):
        ax.axvline(0.5 + part * length, color="white", linewidth=0.8)
    predicted = "right" if clip["predicted"] == clip["class"] else f"\u2192 {clip['predicted']}"
    prediction = f"{predicted}, {100 * clip['probability']:.0f} %"
    title = f"{label_of(clip['class'], 22)}\n{label_of(prediction, 22)}"
    ax.set_title(title, fontsize=7.5, pad=3, loc="left", linespacing=1.1)
    ax.spines[:].set_visible(False)


def _draw_layer(figure: Figure, axes: list[Axes], group: pd.DataFrame, num_frames: int) -> None:
    """A map a clip, as long as the clip's ``num_frames`` also where the layer has fewer, and their scale of colours."""
    name, factor, num, kernel = group[["name", "factor", "num", "kernel"]].iloc[0]
    distance = (group["alpha"] - 1).abs()
    reach = max(float(distance.quantile(0.99)), 1e-3)
    means = group.drop_duplicates("order")["mean"]
    below_one = int((means < 1).sum())
    for ax, (_, clip) in zip(axes, group.groupby("clip"), strict=True):
        alpha_DT = clip.pivot_table(index="order", columns="frame", values="alpha").to_numpy()
        picture = _taps(alpha_DT, kernel) if factor == "k2" else alpha_DT
        image = ax.imshow(
            np.ma.masked_invalid(picture), cmap=ALPHA, norm=Normalize(1 - reach, 1 + reach), aspect="auto",
            interpolation="none", extent=(0.5, num_frames + 0.5, 0, len(picture)), origin="lower",
        )  # fmt: skip
        if factor != "k2" and 0 < below_one < len(means):
            ax.axhline(below_one, **_AT_ONE)
        ax.spines[:].set(visible=True, linewidth=0.5)
    count = f"{num}" if num == len(means) else f"{len(means)} of {num}"
    label = f"{label_of(name, 15)}\n{label_of(f'{count} {FACTORS[factor]}', 15)}"
    axes[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8, linespacing=1.15)
    bar = figure.colorbar(
        image, ax=axes, ticks=[1 - reach, 1, 1 + reach], format=lambda value, _: number(value, reach),
        extend="both" if distance.max() > reach else "neither", fraction=0.02, pad=0.01, aspect=12,
    )  # fmt: skip
    bar.ax.tick_params(labelsize=7, length=2, pad=2)
    bar.outline.set_linewidth(0.5)


def _taps(alpha_DT: Array, kernel: str) -> Array:
    """Each frame's taps at their places in the kernel, first row on top, with an empty column between the frames."""
    sizes = [int(size) for size in kernel.split(" x ")]
    rows, columns = int(np.prod(sizes[:-1])), sizes[-1]
    boxes = alpha_DT.reshape(rows, columns, -1)[::-1].transpose(0, 2, 1)
    spaced: Array = np.pad(boxes, ((0, 0), (0, 0), (0, 1)), constant_values=np.nan)
    return spaced.reshape(rows, -1)


# Alpha over time with segments and detections, of localization

MOST_LINES = 6
"""Channels of a layer that are drawn over time."""


def alpha_and_segments_data(export: CalibrationExport, layers: Sequence[str] = ()) -> pd.DataFrame:
    """One line a clip, layer, factor, channel and frame, with its alpha and the layer's name, as the lines are drawn.

    ``layers`` are names of ``layers.csv``; by default the one whose alpha varies most over time. Of each factor those
    ``MOST_LINES`` channels are taken that vary most over time in the clips shown. Raises :class:`UserError` for an
    unknown layer.
    """
    known = list(dict.fromkeys(export.layers["layer"]))
    for name in layers:
        if name not in known:
            raise unknown("layer", name, known)
    shown = layers or [str(export.layers["layer"].iloc[int(export.layers["over_time"].argmax())])]
    parts = []
    for name, line in zip(layer_names(export.layers), export.layers.to_dict("records"), strict=True):
        if line["layer"] in shown:
            alphas_NDT = export.alphas[f"{line['layer']}.{line['factor']}"]
            channels = np.argsort(-alphas_NDT.std(2).mean(0), kind="stable")[:MOST_LINES]
            part = _long(alphas_NDT, np.sort(channels)).drop(columns=["order", "mean"])
            parts.append(part.assign(name=name, layer=line["layer"], factor=line["factor"]))
    return pd.concat(parts, ignore_index=True)


def alpha_and_segments_caption() -> str:
    """Caption of the lines over time."""
    return (
        f"Alpha of the {MOST_LINES} channels that vary most over time, over the frames of each clip. True segments "
        "are shaded, with their class on top. Below: the best detections, twice as many as there are true segments, "
        "the best on top, each with its class and score; solid where a true segment of the class has a tIoU of 0.5 or "
        "more with it, else hollow."
    )


def alpha_and_segments_alt(export: CalibrationExport) -> str:
    """The segments of each clip in words, true and detected."""
    assert export.segments is not None
    texts = []
    for clip, lines in export.segments.groupby("clip"):
        true, detected = (
            [f"{line['class']} {line['start']:.0f} to {line['end']:.0f}" for line in group.to_dict("records")]
            for group in (lines[lines["kind"] == "true"], lines[lines["kind"] == "detected"])
        )
        texts.append(f"Clip {int(str(clip)) + 1}: {', '.join(true)}; detected {', '.join(detected) or 'nothing'}")
    return f"Lines of alpha over frames, with true segments shaded, and bars of detections. {'. '.join(texts)}."


@figure(caption=alpha_and_segments_caption, alt=alpha_and_segments_alt)
def alpha_and_segments(export: CalibrationExport, layers: Sequence[str] = ()) -> Figure | None:
    """Alpha of each clip over its frames, and its segments, true and detected; None unless the cell localizes."""
    if export.segments is None:
        return None
    groups = [group for _, group in alpha_and_segments_data(export, layers).groupby(["layer", "factor"], sort=False)]
    num_frames, by_clip = len(export.frames[0]), [lines for _, lines in export.segments.groupby("clip")]
    num_parts = 16  # an untrimmed clip has as many frames or more
    heights: list[float] = []
    for lines in by_clip:
        heights += [
            (style.WIDTH - 0.6) / num_parts,
            *[0.85] * len(groups),
            0.1 + 0.13 * (lines["kind"] != "true").sum(),
        ]
    figure = Figure(figsize=(style.WIDTH, sum(heights) + 0.34 * len(by_clip)), layout="constrained")
    axes = iter(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights))
    for clip, frames, lines in zip(export.clips.to_dict("records"), export.frames, by_clip, strict=True):
        true = lines[lines["kind"] == "true"].to_dict("records")
        top = next(axes)
        _draw_strip(top, frames, num_parts)
        top.set_title(f"validation clip {clip['index']}", fontsize=8, pad=2, loc="left")
        for group in groups:
            _draw_alpha_lines(next(axes), group[group["clip"] == clip["clip"]], true)
        last = next(axes)
        _draw_detections(last, lines[lines["kind"] != "true"].to_dict("records"), num_frames)
        last.tick_params(axis="x", labelbottom=True, labelsize=7.5, pad=2)
    last.set(xlim=(0, num_frames), xlabel="frame")
    last.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return figure


def _draw_strip(ax: Axes, frames_THWC: Array, num_parts: int) -> None:
    """The middle frame of each of ``num_parts`` parts of a clip."""
    num_frames = len(frames_THWC)
    strip = np.concatenate([frames_THWC[int((part + 0.5) * num_frames / num_parts)] for part in range(num_parts)], 1)
    ax.imshow(strip, extent=(0, num_frames, 0, 1), aspect="auto", interpolation="none")
    for part in range(1, num_parts):
        ax.axvline(part * num_frames / num_parts, color="white", linewidth=0.8)
    ax.set_axis_off()


def _draw_alpha_lines(ax: Axes, lines: pd.DataFrame, true: Sequence[dict[Any, Any]]) -> None:
    alpha_TD = lines.pivot_table(index="frame", columns="channel", values="alpha").to_numpy()
    for i, alpha_T in enumerate(alpha_TD.T):
        look: dict[str, Any] = {"color": (style.ROW, style.BASE, style.INK)[i % 3], "linewidth": 0.8}
        ax.plot(np.arange(len(alpha_T)) + 0.5, alpha_T, **look, linestyle="-" if i < 3 else (0, (2, 1)))
    ax.axhline(1, **_AT_ONE)
    for segment in true:
        ax.axvspan(segment["start"], segment["end"], color=style.FAINT, zorder=0)
        middle = (segment["start"] + segment["end"]) / 2
        ax.annotate(
            label_of(segment["class"], 14), (middle, 1), (0, 1), ("data", "axes fraction"), "offset points",
            ha="center", va="bottom", fontsize=7, annotation_clip=False,
        )  # fmt: skip
    ax.tick_params(axis="x", length=0, labelbottom=False)
    ax.tick_params(axis="y", labelsize=7)
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.set_ylabel(label_of(lines["name"].iloc[0], 9), fontsize=7.5)


def _draw_detections(ax: Axes, detections: Sequence[dict[Any, Any]], num_frames: int) -> None:
    for place, line in enumerate(detections):
        is_right, to_left = line["tiou"] >= 0.5, line["end"] > 0.75 * num_frames
        ax.barh(
            place, line["end"] - line["start"], left=line["start"], height=0.62, linewidth=0.8,
            facecolor=style.ROW if is_right else "none", edgecolor=style.ROW,
        )  # fmt: skip
        ax.annotate(
            label_of(f"{line['class']} {line['score']:.2f}", 40), (line["start"] if to_left else line["end"], place),
            (-3 if to_left else 3, 0), textcoords="offset points", ha="right" if to_left else "left", va="center",
            fontsize=6.5,
        )  # fmt: skip
    ax.set_ylim(max(len(detections), 1) - 0.5, -0.5)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)


# The change of alpha from frame to frame, of localization

_MARKS: dict[str, dict[str, Any]] = {
    "boundary": {"color": style.BASE, "marker": "D"},
    "inside": {"color": style.ROW, "marker": "o"},
    "background": {"color": style.SOFT, "marker": "s", "markerfacecolor": "white"},
}


def alpha_changes_caption(export: CalibrationExport) -> str:
    """Caption of the marks by layer."""
    return (
        f"Mean absolute difference of alpha from a frame to the next, over {plural(export.manifest.num_clips, 'clip')} "
        "and all channels, with 95 % bootstrap intervals over clips."
    )


def alpha_changes_alt(export: CalibrationExport) -> str:
    """The marks in words."""
    assert export.changes is not None
    names = _names_of_factors(export)
    texts = [
        f"{name}, {PLACES[line['place']]}: {number(line['change'])}"
        for name, line in zip(names, export.changes.to_dict("records"), strict=True)
    ]
    return f"Marks of the change of alpha from frame to frame, by layer. {'; '.join(texts)}."


def _names_of_factors(export: CalibrationExport) -> list[str]:
    """The name of the layer and factor of each line of ``changes``."""
    assert export.changes is not None
    keys = zip(export.layers["layer"], export.layers["factor"], strict=True)
    names = dict(zip(keys, layer_names(export.layers), strict=True))
    return [names[key] for key in zip(export.changes["layer"], export.changes["factor"], strict=True)]


@figure(caption=alpha_changes_caption, alt=alpha_changes_alt)
def alpha_changes(export: CalibrationExport) -> Figure | None:
    """How much alpha changes at boundaries, inside segments and in the background; None unless the cell localizes."""
    if export.changes is None:
        return None
    data = export.changes.assign(name=_names_of_factors(export))
    names = list(dict.fromkeys(data["name"]))
    labels = [label_of(name, 30) for name in names]
    figure, ax = style.canvas(0.9 + pitch(labels, 0.42) * len(names))
    for i, (place, words) in enumerate(PLACES.items()):
        lines = data[data["place"] == place]
        places = [names.index(name) + 0.24 * (i - 1) for name in lines["name"]]
        ax.hlines(places, lines["low"], lines["high"], color=_MARKS[place]["color"], linewidth=1.4)
        ax.plot(lines["change"], places, linestyle="none", markersize=5, label=words, **_MARKS[place])
    ax.set(yticks=range(len(names)), yticklabels=labels, ylim=(len(names) - 0.5, -0.5), xlim=(0, None))
    ax.set_xlabel("mean |change of alpha| from a frame to the next")
    ax.grid(axis="x")
    ax.spines["left"].set_visible(False)
    style.legend(figure, 3)
    return figure


# The spread of alpha by layer

_PARTS: dict[str, tuple[str, str, str]] = {
    "constant": ("constant", style.FAINT, ""),
    "over_clips": ("between clips", style.FILL, "////"),
    "over_time": ("between frames", style.BASE, ""),
}
"""Label, colour and hatch of the parts of a distance from one; they differ in greyscale as well."""


def alpha_spread_data(export: CalibrationExport) -> pd.DataFrame:
    """One line a layer and factor, first to last: name, quantiles of alpha, distance, and the parts of its square.

    ``constant``, ``over_clips`` and ``over_time`` are per cent of the mean square distance from one; unknown where that
    is zero.
    """
    layers = export.layers
    square = (layers["distance"] ** 2).where(layers["distance"] > 1e-7)
    parts = {part: 100 * layers[part] ** 2 / square for part in _PARTS}
    data = layers[["q025", "q250", "q500", "q750", "q975", "distance"]].assign(**parts)
    data.insert(0, "name", layer_names(layers))
    return data


def alpha_spread_caption(export: CalibrationExport) -> str:
    """Caption of the quantile bars and parts."""
    return (
        "Left: alpha in each layer from the first to the last, over channels, frames and "
        f"{plural(export.manifest.num_clips, 'clip')}; thick bars cover the middle 50 %, thin ones 95 %, the mark "
        "is the median. Right: the parts of the mean square distance from one. Constant is the same for every clip and "
        "frame, as in a plain convolution with other weights; the rest adapts, between clips or between the frames of "
        "a clip."
    )


def alpha_spread_alt(export: CalibrationExport) -> str:
    """The spread in words."""
    lines = []
    for line in alpha_spread_data(export).to_dict("records"):
        parts = ", ".join(f"{line[part]:.0f} % {label}" for part, (label, _, _) in _PARTS.items())
        is_one = line["constant"] != line["constant"]
        lines.append(
            f"{line['name']}: 95 % of alpha in {line['q025']:.3f} to {line['q975']:.3f}, "
            + ("alpha is one" if is_one else parts)
        )
    return f"Bars of the spread of alpha by layer. {'; '.join(lines)}."


@figure(caption=alpha_spread_caption, alt=alpha_spread_alt)
def alpha_spread(export: CalibrationExport) -> Figure:
    """How far alpha spreads in each layer, and what it varies with: quantile bars, and bars of the parts.

    The first layer is on top.
    """
    data = alpha_spread_data(export)
    labels = [label_of(name, 30) for name in data["name"]]
    figure = Figure(figsize=(style.WIDTH, 0.95 + pitch(labels, 0.24) * len(data)), layout="constrained")
    spread, parts = figure.subplots(1, 2, sharey=True, width_ratios=[1.15, 1])
    places = range(len(data))
    spread.hlines(places, data["q025"], data["q975"], color=style.ROW, linewidth=1.4)
    spread.hlines(places, data["q250"], data["q750"], color=style.ROW, linewidth=5.0)
    spread.plot(data["q500"], places, "|", color="white", markersize=5, markeredgewidth=1.2)
    spread.axvline(1, **_AT_ONE, zorder=1)
    spread.set(yticks=places, yticklabels=labels, ylim=(len(data) - 0.5, -0.5), xlabel="alpha")
    spread.grid(axis="x")
    spread.locator_params(axis="x", nbins=5)
    widths = data[[*_PARTS]].fillna(0)
    starts = widths.cumsum(axis=1) - widths
    for part, (label, colour, hatch) in _PARTS.items():
        look: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.4}
        parts.barh(places, widths[part], left=starts[part], height=0.66, **look, label=label)
    parts.set(xlim=(0, 100), xlabel="square of the distance (%)")
    for ax in (spread, parts):
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
    style.legend(figure, 3, loc="outside upper right")
    return figure


# The distance from one over training

_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "distance": ("distance from one", {"color": style.INK, "linewidth": 2.2}),
    "constant": ("constant part", {"color": style.SOFT, "linewidth": 1.2, "linestyle": (0, (1, 1.2))}),
    "over_clips": ("between clips", {"color": style.ROW, "linewidth": 1.4, "linestyle": (0, (4, 1.5))}),
    "over_time": ("between frames", {"color": style.BASE, "linewidth": 1.6}),
}


def alpha_over_training_data(export: CalibrationExport) -> pd.DataFrame:
    """One line an epoch and stage: epoch, stage, distance, over_clips, over_time, constant.

    A row that starts at one has a first line at epoch 0.
    """
    values = ["distance", "over_clips", "over_time"]
    data = export.training[["epoch", "stage", *values]]
    if export.manifest.cells[0].experiment["temporal"]["init"] == "identity" and len(data):
        start = pd.DataFrame({"epoch": 0, "stage": data["stage"].unique(), **dict.fromkeys(values, 0.0)})
        data = pd.concat([start, data], ignore_index=True)
    parts = [constant_part(*distances) for distances in data[values].itertuples(index=False)]
    return data.assign(constant=parts).sort_values(["stage", "epoch"], ignore_index=True)


def alpha_over_training_caption(export: CalibrationExport) -> str:
    """Caption of the panels by stage."""
    start = (
        " At epoch 0 alpha is one by construction." if (alpha_over_training_data(export)["epoch"] == 0).any() else ""
    )
    return (
        f"Distance of alpha from one after the epochs evaluated, by stage, as root mean squares over {NUM_INSPECTED} "
        f"validation clips; the squares of the three parts add up to the square of the distance.{start}"
    )


def alpha_over_training_alt(export: CalibrationExport) -> str:
    """The panels in words: where each stage ends."""
    ends = "; ".join(
        f"{line['stage']} ends at {number(line['distance'])}, of which {number(line['over_time'])} between frames"
        for line in alpha_over_training_data(export).groupby("stage", as_index=False).last().to_dict("records")
    )
    return f"Lines of the distance of alpha from one over epochs, by stage. {ends}."


@figure(caption=alpha_over_training_caption, alt=alpha_over_training_alt)
def alpha_over_training(export: CalibrationExport) -> Figure | None:
    """The distance of alpha from one during training and its parts, a panel a stage; None where it was not recorded."""
    data = alpha_over_training_data(export)
    if data.empty:
        return None
    stages = data.groupby("stage")
    figure = Figure(figsize=(style.WIDTH, 2.3), layout="constrained")
    panels = figure.subplots(1, len(stages), sharex=True, sharey=True, squeeze=False).ravel()
    for ax, (stage, lines) in zip(panels, stages, strict=True):
        for part, (label, look) in _LINES.items():
            ax.plot(lines["epoch"], lines[part], **look, label=label)
        ax.set_title(stage, loc="left", pad=3)
        epochs_axis(ax, int(data["epoch"].max()))
    panels[0].set(ylim=(0, None), ylabel="root mean square")
    figure.supxlabel("epoch", fontsize=8.5)
    style.legend(figure, 4)
    return figure


__getattr__ = moved_figure  # notebooks of earlier versions import it from here
