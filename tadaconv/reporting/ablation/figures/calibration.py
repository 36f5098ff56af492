"""How far the calibrations of a table's rows are from one while they train."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from tadaconv.reporting.ablation.data import Export
from tadaconv.reporting.ablation.figures.curves import MOST_PANELS, small_panels
from tadaconv.reporting.ablation.summary import summarise
from tadaconv.reporting.core import style
from tadaconv.reporting.core.figure import LARGEST, Drawing, figure, parted_by_cell
from tadaconv.reporting.core.format import number
from tadaconv.reporting.core.labels import ends, epochs_axis, label_of
from tadaconv.reporting.core.text import by_seed, left_out_note
from tadaconv.result import NUM_INSPECTED


def calibration_over_training_data(export: Export) -> pd.DataFrame:
    """One line per row, epoch and stage: row, epoch, stage, distance, low, high; in the table's order of rows.

    ``distance`` is the mean over the row's seeds, ``low`` and ``high`` their range. A row that starts at one has a
    first line at epoch 0. A cell with a distance that is not finite, of any epoch and stage, is left out.
    """
    known, _ = _known_distances(export)
    experiments = {cell.row: cell.experiment for cell in export.manifest.cells}
    over_seeds = known.groupby(["row", "epoch", "stage"])["distance"].agg(["mean", "min", "max"])
    ranges = over_seeds.reset_index().rename(columns={"mean": "distance", "min": "low", "max": "high"})
    at_one = {
        row for row, experiment in experiments.items() if (experiment["temporal"] or {}).get("init") == "identity"
    }
    start = ranges[ranges["row"].isin(at_one)].drop_duplicates(["row", "stage"])
    start = start.assign(epoch=0, distance=0.0, low=0.0, high=0.0)
    order = {row.name: i for i, row in enumerate(export.manifest.rows)}
    every = pd.concat([start, ranges], ignore_index=True) if len(start) else ranges
    ranks = every["row"].map(order)
    every = every.assign(rank=ranks).sort_values(["rank", "epoch", "stage"], kind="stable", ignore_index=True)
    return every[["row", "epoch", "stage", "distance", "low", "high"]]


def _known_distances(export: Export) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The lines of the cells that have a curve, and of those that have none."""
    every = export.calibration
    return parted_by_cell(
        every.assign(distance=every["distance"].where(every["stage"].isin(_STAGES))), "distance", high=LARGEST
    )


def calibration_over_training(export: Export) -> Drawing | None:
    """How far each row's alpha moved from one, by stage; None where nothing was recorded."""
    data = calibration_over_training_data(export)
    if data.empty:
        return None
    mean = export.metric.column("mean")
    rows = summarise(export)[["row", mean]]
    calibrated = rows[rows["row"].isin(data["row"])]
    kept = ends(calibrated, mean, MOST_PANELS)[0]["row"].tolist()
    shown = data[data["row"].isin(kept)]
    return draw_calibration_over_training(shown, export=export)


_STAGES: dict[str, dict[str, Any]] = {
    "res2": {"color": "#9aa4af", "linewidth": 1.2},
    "res3": {"color": style.ROW, "linewidth": 1.4, "linestyle": (0, (4, 1.5))},
    "res4": {"color": style.BASE, "linewidth": 1.6, "linestyle": (0, (1, 1))},
    "res5": {"color": style.INK, "linewidth": 2.2},
}
"""The look of a stage's line: the later, the stronger."""


def calibration_over_training_caption(data: pd.DataFrame, export: Export) -> str:
    """What is drawn of ``export``."""
    known, unknown = _known_distances(export)
    num_seeds, num_rows, num_shown = (df.nunique() for df in (known["seed"], known["row"], data["row"]))
    band = ", mean over the seeds; bands reach from the lowest to the highest" if num_seeds > 1 else ""
    panels = "One panel per row that calibrates."
    if num_shown < num_rows:
        panels = (
            f"Of {num_rows} rows that calibrate, the {num_shown} of the highest and the lowest {export.metric.noun} "
            "have a panel."
        )
    start = " Rows that start at one do so at epoch 0." if (data["epoch"] == 0).any() else ""
    return (
        "Distance of alpha from one after the epochs evaluated, by stage: its root mean square over layers, channels, "
        f"frames and {NUM_INSPECTED} validation clips{band}.{start} {panels}"
        f"{left_out_note(by_seed(unknown), 'cell', 'with a distance that cannot be drawn')}"
    )


def calibration_over_training_alt(data: pd.DataFrame) -> str:
    """A table's small multiples in words: where each row ends."""
    last = data[data["epoch"] == data.groupby("row")["epoch"].transform("max")]
    at_end = []
    for row, lines in last.groupby("row", sort=False):
        stages = ", ".join(f"{line['stage']} {number(line['distance'])}" for line in lines.to_dict("records"))
        at_end.append(f"{row}: {stages}")
    return f"Lines of the distance of alpha from one over epochs, one panel per row. At the end {'; '.join(at_end)}."


@figure(caption=calibration_over_training_caption, alt=calibration_over_training_alt)
def draw_calibration_over_training(data: pd.DataFrame) -> Figure:
    """A small panel a row with a line a stage; the band is the range of the seeds."""
    rows = list(dict.fromkeys(data["row"]))
    titles = [label_of(row, 21) for row in rows]
    looks = {stage: look for stage, look in _STAGES.items() if stage in set(data["stage"])}
    figure, panels = small_panels(titles, "distance of alpha from one", looks)
    last = max(int(data["epoch"].max()), 1)
    # Set beforehand: panels that share their axes would find the limits anew with every curve.
    panels[0].set(xlim=(0, last), ylim=(0, 1.05 * data["high"].max() or 1.0))
    for ax, row in zip(panels, rows, strict=True):
        for stage, lines in data[data["row"] == row].groupby("stage"):
            look = looks[str(stage)]
            ax.fill_between(lines["epoch"], lines["low"], lines["high"], color=look["color"], alpha=0.18, linewidth=0)
            ax.plot(lines["epoch"], lines["distance"], **look)
        epochs_axis(ax, last)
    return figure
