"""What running a table will take, before it is paid for: cells, hours, memory and disk, from a measured probe."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict, Field, computed_field
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table as Rendered

from tadaconv.data.prefetch import num_cores
from tadaconv.environment import environment, resolve_device
from tadaconv.errors import RunError
from tadaconv.execution import Cell
from tadaconv.preview.probing import BUDGET_SECONDS, MICRO_BATCHES_TIMED, MeasuredRates, Probe, probe, set_up
from tadaconv.preview.reading import Load, Spread
from tadaconv.regime import Regime
from tadaconv.run_options import RunOptions, require_division
from tadaconv.spec import errors_of
from tadaconv.table import LoadedTable, Row
from tadaconv.table_run import dry_run_cells
from tadaconv.text import plural
from tadaconv.training.computing import require

if TYPE_CHECKING:
    from tadaconv.execution import Store


class RowPlan(BaseModel):
    """What a row still needs. A cell that an earlier row has as well counts there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: str
    num_cells: int
    num_finished: int = Field(description="Cells that have a result in the storage.")
    probe: Probe | None = Field(description="Measured on this row; None where nothing is left to run, or it failed.")
    error: str | None = Field(None, description="Why the row cannot be run on this device.")
    ensemble: tuple[str, ...] = Field((), description="Of a row that averages others, which has no cells, their names.")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def num_to_run(self) -> int:
        """Cells without a result."""
        return self.num_cells - self.num_finished


class RunPlan(BaseModel):
    """What running the rest of a table will take on a device; times in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Of the table or study.")
    regime: str
    device: str = Field(description="What was measured on.")
    workers: int
    gpus_per_cell: int = Field(
        description="GPUs, on the CPU processes, that train a cell together. One was measured, and what they take to "
        "add up gradients is not in the times."
    )
    at_once: tuple[int, int] = Field(
        description="Cells that will run at full speed at once: at worst and at best. More workers than cores wait for "
        "each other; what several to a GPU bring is not known before."
    )
    rows: list[RowPlan]
    one_worker_seconds: Spread
    seconds: Spread = Field(description="With all workers.")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def num_cells(self) -> int:
        """All cells, those with a result included."""
        return sum(row.num_cells for row in self.rows)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def num_finished(self) -> int:
        """Cells that have a result."""
        return sum(row.num_finished for row in self.rows)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def num_steps(self) -> int:
        """Training steps of the cells that are left, without those of rows that cannot be run."""
        return sum((row.num_cells - row.num_finished) * row.probe.num_steps for row in self.rows if row.probe)

    @property
    def ok(self) -> bool:
        """Whether every row can be run."""
        return all(row.error is None for row in self.rows)


@dataclass(frozen=True)
class Measure:
    """How a plan measures.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        workers: processes on this machine.
        on_row: called with the name of every row before it is measured.
        budget_seconds: how long the steps of a row are timed.
        options: how cells are run.
    """

    device: str = "auto"
    workers: int = 1
    on_row: Callable[[str], None] = lambda _: None
    budget_seconds: float = BUDGET_SECONDS
    options: RunOptions = field(default_factory=RunOptions)


def plan_table(
    loaded: LoadedTable,
    regime_name: str,
    regime: Regime,
    measure: Measure,
    store: "Store | None" = None,
    *,
    seeds: Sequence[int],
    rows: Sequence[str] | None = None,
) -> RunPlan:
    """Measure every row that has cells left, and add up what they will take. Trains a few steps and keeps nothing.

    Args:
        loaded: the table.
        regime_name: what the regime is called.
        regime: with its clips resolved.
        measure: on which device, and for how many workers.
        store: where finished cells are; None if there is no storage yet.
        seeds: seeds to run.
        rows: names of the rows to run; None means all, and an ensemble its parts.

    Raises:
        UserError: for a row or a device that is not there, and a row that cannot be built or take the regime's clips.
    """
    place = resolve_device(measure.device)
    require(measure.options, place)
    wanted = loaded.table.cells(regime, seeds, rows)
    cells = _unique(wanted)
    records = store.records_of(cells) if store is not None else []
    finished = {record.cell.key for record in records if record.status == "finished"}
    left = [cell for cell in cells if cell.key not in finished]
    dry_run_cells(left)
    for cell in left:
        _require_division(cell, measure)
    by_row = {cell.label: [own for own in cells if own.label == cell.label] for cell in wanted}
    probes: dict[str, Probe | RunError] = {}
    rates: MeasuredRates = {}
    for label, of_row in by_row.items():
        if any(cell.key not in finished for cell in of_row):
            probes[label] = _probe_row(of_row[0], place, measure, rates, first=not probes)
    planned = [
        _row_plan(label, len(of_row), sum(cell.key in finished for cell in of_row), probes.get(label))
        for label, of_row in by_row.items()
    ]
    planned += [
        RowPlan(row=row.name, num_cells=0, num_finished=0, probe=None, ensemble=row.ensemble)
        for row in loaded.table.ensembles
        if rows is None or row.name in rows
    ]
    return _add_up(loaded.name, regime_name, planned, place, measure)


def plan_trials(
    name: str,
    regime_name: str,
    regime: Regime,
    measure: Measure,
    base: Row,
    *,
    num_trials: int,
    num_ended: int,
    seeds: int,
) -> RunPlan:
    """What the rest of a study will take if every trial costs what its base does, which alone is measured.

    Args:
        name: of the study.
        regime_name: what the regime is called.
        regime: with its clips resolved.
        measure: on which device, and for how many workers.
        base: what the study is compared with.
        num_trials: how many trials it shall have.
        num_ended: how many of them have ended.
        seeds: cells of a trial.

    Raises:
        UserError: for a device that is not there, and a base that cannot be built or take the regime's clips.
    """
    place = resolve_device(measure.device)
    require(measure.options, place)
    left = max(0, num_trials - num_ended)
    found = None
    if left:
        dry_run_cells([base.cell(regime, 0)])
        _require_division(base.cell(regime, 0), measure)
        found = _probe_row(base.cell(regime, 0), place, measure, {}, first=True)
    num_finished = (num_trials - left) * seeds
    return _add_up(name, regime_name, [_row_plan(base.name, num_trials * seeds, num_finished, found)], place, measure)


def _unique(cells: Iterable[Cell]) -> list[Cell]:
    return list({cell.key: cell for cell in reversed(list(cells))}.values())[::-1]


def _require_division(cell: Cell, measure: Measure) -> None:
    with errors_of(f"row {cell.label!r}"):
        require_division(cell.experiment.schedule, measure.options.gpus_per_cell)


def _probe_row(
    cell: Cell, place: torch.device, measure: Measure, rates: MeasuredRates, first: bool
) -> Probe | RunError:
    measure.on_row(cell.label)
    try:
        with errors_of(f"row {cell.label!r}"):
            if first:  # imports, the decoding of clips: once a worker, not once a cell
                set_up(cell.experiment, place, measure.options)
            cores = max(1, num_cores() // measure.workers)
            return probe(cell.experiment, place, measure.budget_seconds, measure.options, cores, rates)
    except RunError as error:
        return error


def _row_plan(label: str, num_cells: int, num_finished: int, found: Probe | RunError | None) -> RowPlan:
    error = str(found) if isinstance(found, RunError) else None
    measured = found if isinstance(found, Probe) else None
    return RowPlan(row=label, num_cells=num_cells, num_finished=num_finished, probe=measured, error=error)


def _add_up(name: str, regime_name: str, rows: list[RowPlan], place: torch.device, measure: Measure) -> RunPlan:
    costs = [row.probe.cell_seconds for row in rows if row.probe for _ in range(row.num_cells - row.num_finished)]
    worst, best = at_once = _at_once(place, measure)
    one = Spread(
        low=sum(cost.low for cost in costs),
        median=sum(cost.median for cost in costs),
        high=sum(cost.high for cost in costs),
    )
    middle = [cost.median for cost in costs]
    several = Spread(
        low=makespan([cost.low for cost in costs], best),
        median=(makespan(middle, best) + makespan(middle, worst)) / 2,
        high=makespan([cost.high for cost in costs], worst),
    )
    return RunPlan(
        name=name,
        regime=regime_name,
        device=_device_words(place, measure.options),
        workers=measure.workers,
        gpus_per_cell=measure.options.gpus_per_cell,
        at_once=at_once,
        rows=rows,
        one_worker_seconds=one,
        seconds=several,
    )


def _device_words(place: torch.device, options: RunOptions) -> str:
    """The device, and what is not as it would be without options: ``CPU (1 thread), compiled``."""
    device = "CPU (1 thread)" if place.type == "cpu" else environment(place)["device"]
    chosen = {
        "float32": place.type == "cuda" and options.precision == "float32",
        "compiled": options.compile,
        "fused kernels": options.fused_kernels,
    }
    return ", ".join([device, *(words for words, is_so in chosen.items() if is_so)])


def _at_once(place: torch.device, measure: Measure) -> tuple[int, int]:
    """Cells that run at full speed at once, at worst and at best."""
    per_cell = measure.options.gpus_per_cell
    on_gpus = place.type == "cuda"
    units = num_cores() if not on_gpus else torch.cuda.device_count() if measure.device in ("auto", "cuda") else 1
    most = min(measure.workers, max(1, units // per_cell))
    return most, measure.workers if on_gpus and per_cell == 1 else most


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Wall time of jobs that ``workers`` take from one queue, each the next as soon as it is free."""
    free = [0.0] * workers
    for job in seconds:
        soonest = free.index(min(free))
        free[soonest] += job
    return max(free)


def render_plan(found: RunPlan) -> Group:
    """The plan as a table with its totals and what they rest on, for a terminal of 80 columns."""
    table = Rendered(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, show_footer=True)
    num_to_run = found.num_cells - found.num_finished
    table.add_column("row", "all rows", overflow="fold", min_width=12)
    for heading, footer in (
        ("cells\nto run", str(num_to_run)),
        ("steps\na cell", ""),
        ("a step", ""),
        ("an evalu-\nation", ""),
        ("a cell", ""),
        ("memory\na cell", ""),
        ("check-\npoint", ""),
    ):
        table.add_column(heading, footer, justify="right", no_wrap=True)
    for row in found.rows:
        table.add_row(escape(row.row), str(row.num_cells - row.num_finished), *_measured(row))
    return Group(
        f"{escape(found.name)} in the regime {escape(found.regime)} on {found.device}: "
        f"{plural(found.num_cells, 'cell')}, {found.num_finished} finished before, "
        f"{num_to_run} to run in {found.num_steps:,} training steps",
        table,
        *_reading(found),
        *_totals(found),
    )


def _measured(row: RowPlan) -> list[str]:
    if row.probe is None:
        said = "ensemble" if row.ensemble else "cannot be run" if row.error else "done"
        return [said, "", "", "", "", ""]
    return [
        f"{row.probe.num_steps:,}",
        duration(row.probe.step_seconds),
        duration(row.probe.eval_seconds),
        duration(row.probe.cell_seconds),
        size(row.probe.memory_bytes),
        size(row.probe.checkpoint_bytes),
    ]


MIN_WAITING = 0.05
"""Part of the time that is waited for clips from which on it is said what would help."""


def _reading(found: RunPlan) -> list[Rendered | str]:
    """How long clips are read and computed on, and what would help where that waits; nothing of clips in memory."""
    rows = [(row.row, row.probe.reading) for row in found.rows if row.probe and row.probe.reading]
    if not rows:
        return []
    table = Rendered(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("row", overflow="fold", min_width=10)
    for what in ("a step", "an evaluation"):
        for heading in (f"{what}\ncomputes", "its clips\nare read", "it\nwaits"):
            table.add_column(heading, justify="right", no_wrap=True)
    for name, reading in rows:
        table.add_row(escape(name), *_load(reading.step), *_load(reading.evaluation))
    readings = [reading for _, reading in rows]
    one = readings[0]
    by = f"{plural(one.num_readers, 'reader')} on " if one.num_readers else ""
    training, evaluation = (
        _rates([getattr(reading, f"{what}_clips_per_second") for reading in readings]) for what in ("train", "val")
    )
    how = (
        f"Clips are read from {_CLIPS.get(one.form, 'a disk')}, by {by}{plural(one.num_cores, 'core')} of a worker: "
        f"{training} a second in training and {evaluation} in evaluation, while nothing computes."
    )
    most = max(max(reading.step.waiting, reading.evaluation.waiting) for reading in readings)
    if most < MIN_WAITING:
        return [table, f"{how} Computing hardly waits for them."]
    name, worst = max(rows, key=lambda row: row[1].step.num_cores_wanted)
    wanted = worst.step.num_cores_wanted, worst.evaluation.num_cores_wanted
    pack = "" if one.form == "pack" else ", or a pack of JPEGs (tada data pack); tada plan --data PACK measures one"
    return [
        table,
        f"{how} Computing would wait for them up to {100 * most:.0f} % of the time. What would keep it busy, by "
        f"arithmetic from {escape(name)}: {plural(wanted[0], 'core')} a worker in training and {wanted[1]} in "
        f"evaluation{pack}.",
    ]


_CLIPS = {"video": "videos", "frames": "frames", "pack": "a pack"}
"""What clips are read from, for readers, by the form of a source."""


def _rates(clips_per_second: Sequence[float]) -> str:
    low, high = _two_digits(min(clips_per_second)), _two_digits(max(clips_per_second))
    return low if low == high else f"{low} to {high}"


def _load(load: Load) -> list[str]:
    reading = Spread(low=load.reading_seconds, median=load.reading_seconds, high=load.reading_seconds)
    return [duration(load.compute_seconds), duration(reading), f"{100 * load.waiting:.0f} %"]


def _totals(found: RunPlan) -> list[str]:
    failed = [f"{escape(row.row)}: {escape(row.error)}" for row in found.rows if row.error]
    probes = [row.probe for row in found.rows if row.probe]
    if not probes:
        return failed
    time = f"Time: {duration(found.one_worker_seconds)} with one worker"
    if found.workers > 1:
        time += f"; {duration(found.seconds)} with {found.workers}{_limits(found)}"
    memory = max(probe.memory_bytes for probe in probes)
    host = max(probe.host_memory_bytes for probe in probes)
    checkpoint = max(probe.checkpoint_bytes for probe in probes)
    stored, weights = (
        sum((row.num_cells - row.num_finished) * getattr(row.probe, what) for row in found.rows if row.probe)
        for what in ("storage_bytes", "weights_bytes")
    )
    on_gpu = "" if memory == host else f" on the GPU, {size(host)} beside it"
    holder = "a worker" if found.gpus_per_cell == 1 else f"for each of the {found.gpus_per_cell} processes of a cell"
    together = (
        []
        if found.gpus_per_cell == 1
        else [
            f"One process was measured: the {found.gpus_per_cell} of a cell are taken to be as much faster in steps "
            "and evaluations, by arithmetic. What adding up their gradients takes is not counted."
        ]
    )
    steps, batches = ([getattr(p, f"num_{what}_timed") for p in probes] for what in ("steps", "eval_batches"))
    parts = [probe.num_micro_batches for probe in probes]
    in_parts = (
        f" (at most {MICRO_BATCHES_TIMED} of the {_between(parts)} micro-batches of each)"
        if max(parts) > MICRO_BATCHES_TIMED
        else ""
    )
    evaluated = plural(max(batches), "evaluation batch", "evaluation batches")
    return [
        f"{time}.",
        f"Memory: up to {size(memory)}{on_gpu} {holder}. Disk: up to {size(checkpoint)} for the checkpoint of each "
        f"running cell; {size(weights)} for all trained weights and class probabilities, which are kept, and "
        f"{size(stored)} for all results.",
        f"From {_between(steps)} steps{in_parts} and {evaluated} a row, "
        f"timed on {found.device} after warming up: lower to upper quartile. The evaluations of the schedule and a "
        "checkpoint after every epoch are counted in; what else the machine will be doing is not.",
        *together,
        *failed,
    ]


def _limits(found: RunPlan) -> str:
    worst, best = found.at_once
    if worst != best:
        return f" (no faster than {plural(worst, 'worker')} to as fast as {best}: they share {plural(worst, 'GPU')})"
    if best == found.workers:
        return ""
    if found.gpus_per_cell > 1:
        return f" (here no more than {plural(best, 'cell')} at once, of {found.gpus_per_cell} processes each)"
    return f" ({plural(best, 'core')} here, so no more at once)"


def _between(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


_UNITS = ((86400.0, "days", 3), (3600.0, "h", 1), (60.0, "min", 1.5), (1.0, "s", 1), (1e-3, "ms", 0))
"""Seconds a unit has, its name, and from how many of it on it is used."""


def duration(spread: Spread) -> str:
    """A range of seconds in two significant digits: ``95-120 ms``; one number where both ends are the same."""
    seconds, unit, _ = next((s, name, least) for s, name, least in _UNITS if spread.high >= least * s)
    low, high = (_two_digits(value / seconds) for value in (spread.low, spread.high))
    return f"{high} {unit}" if low == high else f"{low}-{high} {unit}"


def _two_digits(value: float) -> str:
    rounded = float(f"{value:.2g}")
    return f"{rounded:.1f}" if 0 < rounded < 10 else f"{rounded:.0f}"


def size(num_bytes: int) -> str:
    """Bytes as ``410 MiB``, in two or three digits."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if num_bytes >= 2**power:
            value = num_bytes / 2**power
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{num_bytes} B"
