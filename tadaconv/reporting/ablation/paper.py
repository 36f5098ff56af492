"""Where a published number may be compared with ours: only where the same was measured, on nearly all of the clips."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from tadaconv.reporting.ablation.data import Manifest, ReportedRow
from tadaconv.reporting.core.export import CellOrigin
from tadaconv.reporting.core.text import Clips, listed_clips
from tadaconv.text import plural

MOST_MISSING: Final = 0.005
"""Largest fraction of listed validation clips that may be missing where a published number is compared with ours."""

ASPECTS: Final = ("data", "metric", "backbone", "frames", "views", "recipe", "unsaid", "missing", "unlisted")
"""In what a cell may be other than what the paper measured; see :func:`unlike_paper`."""


def clips_of(manifest: Manifest) -> list[Clips]:
    """The listed clips of a table, as :func:`listed_clips` has them; they are the same for every row."""
    return next((clips for cell in manifest.cells if (clips := listed_clips(cell.experiment["data"]))), [])


def views(data: Mapping[str, Any]) -> str:
    """How a cell is judged, in the words of published tables: ``2 clips x 3 crops of 256 px``."""
    clips, crops = data.get("num_temporal_views", 1), data.get("num_spatial_crops", 1)
    if data["kind"] == "features":
        return f"windows of {plural(data['num_steps'], 'step')}"
    side = data.get("eval_size") or data.get("size", 0)
    return f"{plural(clips, 'clip')} x {plural(crops, 'crop')} of {side} px"


def num_frames_of(data: Mapping[str, Any]) -> int:
    """The frames of a clip, or the steps of a window of features."""
    return int(data["num_steps"] if data["kind"] == "features" else data["num_frames"])


def unlike_paper(manifest: Manifest) -> dict[str, tuple[str, ...]]:
    """By row with a published number and a cell, in what the two are measured differently; may be empty.

    Of ``ASPECTS``, in their order: *data*, *metric*, *frames* and *views*; *backbone*, where one stands in for that of
    the row; *recipe*, where it is ours; *unsaid*, where the regime does not state that it measures what the paper did;
    *missing*, where more than ``MOST_MISSING`` of the listed validation clips are; *unlisted*, where no annotations
    list them.
    """
    cells = {cell.row: cell for cell in reversed(manifest.cells)}
    rows = {row.name: row for row in manifest.rows}
    return {
        row.name: _unlike_parts(row, [(rows[name], cells[name]) for name in row.ensemble])
        if row.ensemble
        else _unlike(row, cells[row.name])
        for row in manifest.rows
        if row.paper and all(name in cells for name in row.ensemble or (row.name,))
    }


def _unlike_parts(row: ReportedRow, parts: Sequence[tuple[ReportedRow, CellOrigin]]) -> tuple[str, ...]:
    """Of a row that averages others: in what any of them is not measured as its number; frames are theirs together."""
    assert row.paper is not None, "asked of rows with a published number"
    differs: set[str] = set()
    for part, cell in parts:
        own = replace(row.paper, num_frames=num_frames_of(cell.experiment["data"]))
        differs |= set(_unlike(part.model_copy(update={"paper": own}), cell))
    if sum(num_frames_of(cell.experiment["data"]) for _, cell in parts) != row.paper.num_frames:
        differs.add("frames")
    return tuple(aspect for aspect in ASPECTS if aspect in differs)


def _unlike(row: ReportedRow, cell: CellOrigin) -> tuple[str, ...]:
    assert row.paper is not None, "asked of rows with a published number"
    measured, data = row.measured_as, cell.experiment["data"]
    metric = "map" if cell.experiment.get("localization") else "top1"
    is_synthetic = data["kind"] in ("synthetic", "untrimmed")
    validation = next((clips for clips in listed_clips(data) if clips.side == "validation"), None)
    differs = {
        "data": is_synthetic or (measured is not None and measured.data != row.paper.data),
        "backbone": row.backbone not in (None, cell.experiment["backbone"]["name"]),
        "frames": data["kind"] != "features" and num_frames_of(data) != row.paper.num_frames,
        "metric": row.paper.metric != metric,
        "views": {views(data), views(data) if measured is None else measured.views} != {row.paper.views},
        "recipe": measured is None and row.recipe == "ours",
        "unsaid": measured is None and row.recipe != "ours" and not is_synthetic,
        "missing": validation is not None and validation.fraction > MOST_MISSING,
        "unlisted": validation is None and not is_synthetic,
    }
    return tuple(aspect for aspect in ASPECTS if differs[aspect])
