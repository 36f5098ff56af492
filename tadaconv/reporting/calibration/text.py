"""The sentences of the report of a trained cell."""

from typing import Any

import pandas as pd

from tadaconv.metrics import metric_named
from tadaconv.reporting.calibration.data import PLACES, CalibrationExport, CalibrationManifest, by_stage, shares
from tadaconv.reporting.core.export import Listing, ends_of
from tadaconv.reporting.core.format import number, score
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
    """The title of the report."""
    return f"The calibration of \u201c{manifest.row}\u201d"


def listing(manifest: CalibrationManifest) -> Listing:
    """The entry of this report on the page of all reports."""
    return Listing(
        kind="calibration",
        name=manifest.table,
        regime=manifest.regime,
        title=title(manifest),
        ran=f"Row \u201c{manifest.row}\u201d, seed {manifest.seed}, at {_score(manifest)}; "
        f"{plural(manifest.num_clips, 'validation clip')} inspected.",
        **ends_of(manifest.cells),
    )


def _score(manifest: CalibrationManifest) -> str:
    metric = metric_named(manifest.metric)
    return metric.with_unit(score(manifest.score, metric))


def about(manifest: CalibrationManifest) -> str:
    """Which cell was inspected, and its accuracy."""
    num_val = manifest.cells[0].num_val
    preposition = "on" if manifest.localizes else "of"
    of_clips = f" {preposition} {plural(num_val, 'clip')}" if num_val else ""
    cell = f"Seed {manifest.seed}, cell {manifest.cells[0].cell}"
    return f"{cell}: validation {metric_named(manifest.metric).label} {_score(manifest)}{of_clips}."


def findings(export: CalibrationExport) -> list[str]:
    """How far alpha is from one, with what it varies, and in which stages most."""
    manifest, fractions = export.manifest, shares(export.layers)
    over = f"Over {plural(manifest.num_clips, 'validation clip')}"
    if fractions is None:
        return [f"{over} alpha is one throughout: the network computes the same as without a calibration."]
    low, high = manifest.alpha_low, manifest.alpha_high
    span = max(abs(low - 1), abs(high - 1))
    scaled = listed([FACTORS[name] for name in export.layers["factor"].unique()])
    return [
        f"Alpha scales the {scaled} of a layer\u2019s kernel; where it is one, the kernel is the learned one. "
        f"{over}, 95 % of all alphas are between {number(low, span)} and {number(high, span)}.",
        _parts(fractions),
        *_by_stage(export),
        *_away_from_the_ends(export),
        *_from_frame_to_frame(export),
    ]


def _parts(fractions: dict[str, float]) -> str:
    if fractions["constant"] > 1 - 1e-8:
        return "All of its distance from one is constant: the same for every clip and frame."
    constant, over_clips, over_time = (_percent(fractions[part]) for part in ("constant", "over_clips", "over_time"))
    return (
        f"Of its mean square distance from one, {constant} is constant, the same for every clip and frame; "
        f"{over_clips} is between clips, and {over_time} between the frames of a clip."
    )


def _percent(fraction: float) -> str:
    return "none" if fraction < 1e-10 else "under 1 %" if fraction < 0.0095 else f"{100 * fraction:.0f} %"


def _by_stage(export: CalibrationExport) -> list[str]:
    stages = by_stage(export.layers)
    if len(stages) < 2:
        return []
    distance, over_time = stages["distance"], stages["over_time"]
    sentence = (
        f"It is farthest from one in res{distance.idxmax()} (root mean square {number(distance.max())}) and nearest in "
        f"res{distance.idxmin()} ({number(distance.min())})"
    )
    if over_time.max() < 1e-6:
        return [f"{sentence}."]
    return [f"{sentence}; it varies most over time in res{over_time.idxmax()} ({number(over_time.max())})."]


def _away_from_the_ends(export: CalibrationExport) -> list[str]:
    """How much alpha varies over time where the zeros beyond the ends of a clip have no effect on it."""
    layers = export.layers.dropna(subset=["over_inner_time"])
    if layers.empty or len(layers) < len(export.layers):
        return []
    squares = layers[["over_time", "over_inner_time"]].pow(2).mul(layers["num"], axis=0).sum() / layers["num"].sum()
    whole, inner = squares.pow(0.5)
    return [
        f"Over time it varies by {number(whole)} (root mean square), and by {number(inner)} over the frames whose "
        "context is within the clip."
    ]


def _from_frame_to_frame(export: CalibrationExport) -> list[str]:
    """How much alpha changes at boundaries of segments and elsewhere, the mean over all layers; of localization."""
    if export.changes is None:
        return []
    weighed = export.changes.merge(export.layers[["layer", "factor", "num"]], on=["layer", "factor"])
    weighed["change"] *= weighed["num"]
    sums = weighed.groupby("place", sort=False)[["change", "num"]].sum(min_count=1)
    means = sums["change"] / sums["num"]
    if not (means.max() > 1e-6):
        return ["It does not change from frame to frame."]
    parts = [f"{number(means[place], means.max())} {words}" for place, words in PLACES.items()]
    return [f"From a frame to the next it changes by {listed(parts)} (mean absolute difference over all layers)."]


_FIXED_CONTEXTS = {
    "static": "The context of this row is static: it learns one calibration for all clips and frames.",
    "time_invariant": "The context of this row is time-invariant: one calibration a clip, the same for all its frames.",
}
"""Contexts whose calibration does not vary over time, in words."""


def context_notes(manifest: CalibrationManifest) -> list[str]:
    """What this row's context and calibration are, and what follows for the figures."""
    temporal = manifest.cells[0].experiment["temporal"]
    return [_context(temporal["context"]), *_calibration(temporal)]


def _context(context: dict[str, Any]) -> str:
    if context["variation"] in _FIXED_CONTEXTS:
        return _FIXED_CONTEXTS[context["variation"]]
    kernels = context["kernels"]
    reach = 1 + sum(kernel - 1 for kernel in kernels)
    source = "that frame alone" if reach == 1 else f"the {reach} frames around it"
    also = ", and from the average of the whole clip" if context["global_descriptor"] else ""
    text = (
        f"The context of this row: temporal convolutions of kernel size {listed(kernels, 'then')}. A frame\u2019s "
        f"calibration is computed from {source}{also}."
    )
    if reach > 1:
        text += " Beyond the ends of a clip they are padded with zeros, which affects the first and last frames."
    return text


def _calibration(temporal: dict[str, Any]) -> list[str]:
    factors, share = temporal["calibration"].split("+"), temporal["placement"]["share"]
    starts = {"without_one": "at random around zero", "random": "at random around one"}
    notes = []
    if factors != ["cin"]:
        multiply = ": the factors multiply, and each is shown by itself" if len(factors) > 1 else ""
        scaled = listed([FACTORS[name] for name in factors])
        notes.append(f"This row calibrates {scaled} ({temporal['calibration']}){multiply}.")
    if share < 1:
        notes.append(
            f"The placement calibrates {100 * share:g} % of the channels; the others have no alpha and are not shown."
        )
    if temporal["init"] in starts:
        notes.append(
            f"Alpha of this row starts {starts[temporal['init']]}, so not all of its distance from one is learned."
        )
    return notes
