"""What the report of a trained cell says in words, from its numbers alone."""

from typing import Any

import pandas as pd

from tadaconv.reporting.calibration.data import CalibrationExport, CalibrationManifest, by_stage, shares
from tadaconv.reporting.core.export import Listing, ends_of
from tadaconv.reporting.core.format import number, percent
from tadaconv.text import listed, plural

FACTORS = {
    "cin": "input channels",
    "cout": "output channels",
    "k2": "taps",
    "cin_k2": "pairs of input channel and tap",
}
"""What the factors of a calibration scale."""


def layer_names(layers: pd.DataFrame) -> list[str]:
    """A name for each line of ``layers.csv``, unique: stage and block, and what else tells two apart."""
    lines = layers.to_dict("records")
    kinds, factors = len(set(layers["kind"])) > 1, len(set(layers["factor"])) > 1
    names = [
        f"res{line['stage']}, block {line['block'] + 1}"
        + (f", {line['kind']}" if kinds else "")
        + (f", {line['factor']}" if factors else "")
        for line in lines
    ]
    if len(set(names)) < len(names):  # of two pathways, say
        names = [f"{name}, {line['layer'].partition('.')[0]}" for name, line in zip(names, lines, strict=True)]
    return names if len(set(names)) == len(names) else [f"{line['layer']}, {line['factor']}" for line in lines]


def title(manifest: CalibrationManifest) -> str:
    """What is looked at, in one line."""
    return f"What the calibration of \u201c{manifest.row}\u201d does"


def listing(manifest: CalibrationManifest) -> Listing:
    """What the page of all reports says of this one."""
    return Listing(
        kind="calibration",
        name=manifest.table,
        regime=manifest.regime,
        title=title(manifest),
        ran=f"Row \u201c{manifest.row}\u201d, seed {manifest.seed}, at {percent(manifest.top1)} %; "
        f"{plural(manifest.num_clips, 'validation clip')} passed through the trained network.",
        **ends_of(manifest.cells),
    )


def about(manifest: CalibrationManifest) -> str:
    """Which cell was opened, and how good it is."""
    num_val = manifest.cells[0].num_val
    return f"Seed {manifest.seed}, cell {manifest.cells[0].cell}: validation top-1 {percent(manifest.top1)} %" + (
        f" of {plural(num_val, 'clip')}." if num_val else "."
    )


def findings(export: CalibrationExport) -> list[str]:
    """What the numbers support: how far alpha is from one, with what it varies, and where most."""
    manifest, parts = export.manifest, shares(export.layers)
    over = f"Over {plural(manifest.num_clips, 'validation clip')}"
    if parts is None:
        return [f"{over} alpha is one throughout: the network does what it would do without a calibration."]
    low, high = manifest.alpha_low, manifest.alpha_high
    span = max(abs(low - 1), abs(high - 1))
    scaled = listed([FACTORS[name] for name in export.layers["factor"].unique()])
    return [
        f"Alpha scales the {scaled} of a layer\u2019s kernel; where it is one, the kernel is as it was learned. "
        f"{over} 95 % of all alphas lie between {number(low, span)} and {number(high, span)}.",
        _of_what(parts),
        *_by_stage(export),
        *_away_from_the_ends(export),
    ]


def _of_what(parts: dict[str, float]) -> str:
    if parts["constant"] > 1 - 1e-8:
        return "All of its distance from one is constant: the same for every clip and frame."
    return (
        f"Of its mean square distance from one {_share(parts['constant'])} is constant, the same for every clip and "
        f"frame, {_share(parts['over_clips'])} lies between clips and {_share(parts['over_time'])} between the frames "
        "of a clip."
    )


def _share(part: float) -> str:
    value = 100 * part
    return "nothing" if value < 1e-8 else "under 1 %" if value < 0.95 else f"{value:.0f} %"


def _by_stage(export: CalibrationExport) -> list[str]:
    stages = by_stage(export.layers)
    if len(stages) < 2:
        return []
    distance = {int(str(stage)): float(value) for stage, value in stages["distance"].items()}
    over_time = {int(str(stage)): float(value) for stage, value in stages["over_time"].items()}
    far, near = max(distance, key=distance.__getitem__), min(distance, key=distance.__getitem__)
    sentence = (
        f"It is farthest from one in res{far} (root mean square {number(distance[far])}) and nearest in res{near} "
        f"({number(distance[near])})"
    )
    moves = max(over_time, key=over_time.__getitem__)
    if over_time[moves] < 1e-6:
        return [f"{sentence}."]
    there = "there too" if moves == far else f"in res{moves}"
    return [f"{sentence}; it varies most over time {there} ({number(over_time[moves])})."]


def _away_from_the_ends(export: CalibrationExport) -> list[str]:
    """How much alpha varies over time where the zeros beyond the ends of a clip have no part in it."""
    layers = export.layers.dropna(subset=["over_inner_time"])
    if layers.empty or len(layers) < len(export.layers):
        return []
    squares = layers[["over_time", "over_inner_time"]].pow(2).mul(layers["num"], axis=0).sum() / layers["num"].sum()
    whole, inner = (float(squares[name]) ** 0.5 for name in ("over_time", "over_inner_time"))
    return [
        f"Over time it varies by {number(whole)} (root mean square), and by {number(inner)} over the frames whose "
        "context lies within the clip."
    ]


def context_notes(temporal: dict[str, Any]) -> list[str]:
    """What this row's context can make of a clip, and what follows for the figures."""
    return [_context(temporal["context"]), *_calibration(temporal)]


def _context(context: dict[str, Any]) -> str:
    if context["variation"] == "static":
        return (
            "The context of this row is static: it learns one calibration for all clips and frames. Nothing can vary "
            "over clips or time."
        )
    if context["variation"] == "time_invariant":
        return (
            "The context of this row is time-invariant: it makes one calibration a clip, the same for all its frames. "
            "Nothing can vary over time."
        )
    reach = 1 + sum(kernel - 1 for kernel in context["kernels"])
    sizes = listed(context["kernels"])
    kind = f"non-linear, two temporal convolutions of {sizes} frames with a ReLU between them"
    if len(context["kernels"]) == 1:
        kind = f"linear, one temporal convolution of {plural(context['kernels'][0], 'frame')}"
    sees = "that frame alone" if reach == 1 else f"the {reach} frames around it"
    also = ", and from the average of the whole clip" if context["global_descriptor"] else ""
    ends = " Beyond the ends of a clip it sees zeros, so the first and last frames differ for that reason too."
    made = f"The context of this row is {kind}: a frame\u2019s calibration is made from {sees}{also}."
    return made + (ends if reach > 1 else "")


def _calibration(temporal: dict[str, Any]) -> list[str]:
    factors = temporal["calibration"].split("+")
    notes = []
    if factors != ["cin"]:
        notes.append(
            f"This row calibrates {listed([FACTORS[name] for name in factors])} ({temporal['calibration']})"
            + (": the factors multiply, and each is shown by itself." if len(factors) > 1 else ".")
            + (" Taps are drawn as they lie in the kernel, one kernel a frame." if "k2" in factors else "")
        )
    if temporal["placement"]["share"] < 1:
        notes.append(
            f"The placement calibrates {100 * temporal['placement']['share']:g} % of the channels; the rest keep "
            "alpha at one and are left out here."
        )
    if temporal["init"] != "identity":
        how = "at random around zero" if temporal["init"] == "without_one" else "at random around one"
        notes.append(f"This row starts alpha {how}, not at one: a distance from one is not all learned.")
    return notes
