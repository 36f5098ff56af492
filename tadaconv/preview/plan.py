"""Estimates what running a table or study takes: cells, hours, memory and disk, from steps that are measured."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import computed_field
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from tadaconv.data.prefetch import num_cores
from tadaconv.environment import environment, resolve_device
from tadaconv.errors import RunError
from tadaconv.execution.cells import Cell
from tadaconv.execution.launcher import num_workers_for
from tadaconv.metrics import Metric, metric_named
from tadaconv.preview.probing import BUDGET_SECONDS, MICRO_BATCHES_TIMED, MeasuredRates, Probe, probe, set_up
from tadaconv.preview.reading import Load, Spread
from tadaconv.preview.rendering import rows_table
from tadaconv.regime import Regime
from tadaconv.run_options import RunOptions, require_division
from tadaconv.sequential import NUM_SIMULATED, SeedDesign
from tadaconv.spec import Record, errors_of
from tadaconv.table import LoadedTable, Row
from tadaconv.table_run import Seeding, dry_run_cells
from tadaconv.text import plural
from tadaconv.training.computing import require

if TYPE_CHECKING:
    from tadaconv.execution.store import Store


class RowPlan(Record):
    """What is left to run of a row. A cell that an earlier row has as well counts there."""

    row: str
    num_cells: int
    num_finished: int
    """Cells that have a result in the storage."""
    probe: Probe | None = None
    """None where nothing is left to run, or the row cannot be run."""
    error: str | None = None
    """Why the row cannot be run on this device."""
    ensemble: tuple[str, ...] = ()
    """Of a row that averages others, which has no cells, their names."""
    shared_with: str = ""
    """Of a row all of whose cells an earlier row has as well, its name."""
    expected_to_run: float | None = None
    """Of an adaptive number of seeds, the expected number of cells without a result that are to be run; ``num_cells``
    is the largest."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def num_to_run(self) -> int:
        """Cells without a result."""
        return self.num_cells - self.num_finished


class Expected(Record):
    """What is expected of an adaptive number of seeds; all other numbers of a plan are the largest that it can take."""

    num_cells: float
    """With those that have a result."""
    num_to_run: float
    one_worker_seconds: Spread
    seconds: Spread
    """With all workers."""
    assumptions: str
    """A sentence on what the numbers rest on."""


class RunPlan(Record):
    """What running the rest of a table or study takes on a device; times in seconds, sizes in bytes."""

    name: str
    """Of the table or study."""
    regime: str
    device: str
    """What was measured on."""
    workers: int
    gpus_per_cell: int
    """GPUs, or processes on the CPU, that train a cell together. One was measured; the times do not include adding up
    gradients."""
    at_once: tuple[int, int]
    """Cells that run at full speed at once: at worst and at best. Workers beyond the number of cores do not add speed;
    how much several on a GPU do is not known in advance."""
    rows: list[RowPlan]
    one_worker_seconds: Spread
    seconds: Spread
    """With all workers."""
    why_workers: str = ""
    """Why there are as many workers; empty where the call said how many."""
    expected: Expected | None = None
    """Of an adaptive number of seeds."""

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
        why_workers: why there are as many; empty where the call said how many.
        on_row: called with the name of every row before it is measured.
        options: how cells are run.
    """

    device: str = "auto"
    workers: int = 1
    why_workers: str = ""
    on_row: Callable[[str], None] = lambda _: None
    options: RunOptions = field(default_factory=RunOptions)


def plan_table(
    loaded: LoadedTable,
    regime_name: str,
    regime: Regime,
    measure: Measure,
    store: "Store | None" = None,
    *,
    design: SeedDesign,
    rows: Sequence[str] | None = None,
) -> RunPlan:
    """Measure every row that has cells left, and add up times and sizes. Trains a few steps; no result is kept.

    Args:
        loaded: the table.
        regime_name: what the regime is called.
        regime: with its clips resolved.
        measure: on which device, and for how many workers.
        store: where finished cells are; None if there is no storage yet.
        design: how many seeds each row gets.
        rows: names of the rows to run; None means all, and an ensemble its parts.

    Raises:
        UserError: for a row or a device that does not exist, and a row that cannot be built or take the regime's clips.
    """
    cells_by_row: dict[str, list[Cell]] = {}
    sharing: dict[str, list[tuple[str, int]]] = {}
    for seed in range(design.last):
        for cell in loaded.table.cells(regime, [seed], rows):
            of_row = cells_by_row.setdefault(cell.label, [])
            places = sharing.setdefault(cell.key, [])
            if not places:  # a cell that an earlier row has as well counts there
                of_row.append(cell)
            places.append((cell.label, seed))
    records = [] if store is None else store.records_of([cell for of_row in cells_by_row.values() for cell in of_row])
    scores = {record.cell.key: record.result.score for record in records if record.result is not None}
    most = dict.fromkeys(cells_by_row, np.full(1, design.last))
    expected = most
    metric = metric_named(regime.data.METRIC)
    if design.is_adaptive:
        by_place = {place: scores[key] for key, places in sharing.items() for place in places if key in scores}
        comparisons = Seeding(loaded.table, regime, design, rows).comparisons
        expected, most = _simulated(design, comparisons, list(cells_by_row), by_place, metric)

    def shares(seeds: Mapping[str, NDArray[np.int64]], cells: Sequence[Cell]) -> float:
        """How many of ``cells`` are wanted, in the mean over simulated runs of so many ``seeds`` of each row."""
        wanted = [np.any([seeds[row] > seed for row, seed in sharing[cell.key]], axis=0) for cell in cells]
        return float(sum(np.mean(one) for one in wanted))

    shared = {label: places[0][0] for places in sharing.values() for label, _ in places[1:]}
    planned = []
    for label, of_row in cells_by_row.items():
        left = [cell for cell in of_row if cell.key not in scores]
        num_cells, num_left = (round(shares(most, cells)) for cells in (of_row, left))
        planned.append(
            RowPlan(
                row=label, num_cells=num_cells, num_finished=num_cells - num_left,
                expected_to_run=shares(expected, left) if design.is_adaptive else None,
                shared_with=shared.get(label, ""),
            )
        )  # fmt: skip
    planned += [
        RowPlan(row=row.name, num_cells=0, num_finished=0, ensemble=row.ensemble)
        for row in loaded.table.ensembles
        if rows is None or row.name in rows
    ]
    to_measure = [cells_by_row[row.row][0] for row in planned if row.num_to_run]
    return _plan(loaded.name, regime_name, measure, planned, to_measure, metric)


def _simulated(
    design: SeedDesign,
    comparisons: Sequence[tuple[str, str]],
    rows: Sequence[str],
    scores: Mapping[tuple[str, int], float],
    metric: Metric,
) -> tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]]:
    """How many seeds each row comes to have, in every simulated run; and the most that it can come to have."""
    rng = np.random.default_rng(0)
    simulated = {row: np.full(NUM_SIMULATED, design.first) for row in rows}
    most = {row: np.full(1, design.first) for row in rows}
    for pair in comparisons:
        both = [[scores.get((row, seed)) for seed in range(design.last)] for row in pair]
        differences = [a - b for a, b in zip(*both, strict=True) if a is not None and b is not None]
        needed = design.simulated_seeds(differences, metric.difference, rng)
        _, at_most = design.seeds_wanted(*([*takewhile(lambda score: score is not None, one)] for one in both))
        for row in pair:
            simulated[row] = np.maximum(simulated[row], needed)
            most[row] = np.maximum(most[row], at_most)
    return simulated, most


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
    """Plan the rest of a study as if every trial cost what its base does; only that is measured.

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
        UserError: for a device that does not exist, and a base that cannot be built or take the regime's clips.
    """
    num_finished = min(num_ended, num_trials) * seeds
    row = RowPlan(row=base.name, num_cells=num_trials * seeds, num_finished=num_finished)
    to_measure = [base.cell(regime, 0)] if row.num_to_run else []
    return _plan(name, regime_name, measure, [row], to_measure, metric_named(regime.data.METRIC))


def _plan(
    name: str, regime_name: str, measure: Measure, rows: Sequence[RowPlan], cells: Sequence[Cell], metric: Metric
) -> RunPlan:
    """The plan of ``rows``, for which ``cells`` are measured, one a row that has any left."""
    device = resolve_device(measure.device)
    require(measure.options, device)
    dry_run_cells(cells)
    for cell in cells:
        with errors_of(f"row {cell.label!r}"):
            require_division(cell.experiment.schedule, measure.options.gpus_per_cell)
    rates: MeasuredRates = {}
    measured = {cell.label: _probe_row(cell, device, measure, rates, cell is cells[0]) for cell in cells}
    rows = [row.model_copy(update=measured.get(row.row, {})) for row in rows]
    at_once = _at_once(device, measure)
    one_worker_seconds, seconds = _times(rows, [row.num_to_run for row in rows], at_once)
    return RunPlan(
        name=name,
        regime=regime_name,
        device=_device_words(device, measure.options),
        workers=measure.workers,
        gpus_per_cell=measure.options.gpus_per_cell,
        at_once=at_once,
        rows=list(rows),
        one_worker_seconds=one_worker_seconds,
        seconds=seconds,
        why_workers=measure.why_workers,
        expected=_expected(rows, at_once, metric),
    )


def workers_of_table(
    loaded: LoadedTable,
    regime: Regime,
    device: str,
    options: RunOptions,
    store: "Store | None" = None,
    *,
    design: SeedDesign,
    rows: Sequence[str] | None = None,
) -> tuple[int, str]:
    """How many workers ``tada ablate`` starts where it is not told, and why; see :func:`num_workers_for`.

    Args:
        loaded: the table.
        regime: with its clips resolved.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        options: how cells are run.
        store: where finished cells are; None if there is no storage yet.
        design: how many seeds each row gets.
        rows: names of the rows to run; None means all, and an ensemble its parts.
    """
    seeding = Seeding(loaded.table, regime, design, rows)
    if store is not None:
        seeding.note_results(store)
    if not seeding.has_work:
        return 1, ""
    return num_workers_for(seeding.may_run, device, options.gpus_per_cell, seeding.num_at_once)


def _expected(rows: Sequence[RowPlan], at_once: tuple[int, int], metric: Metric) -> Expected | None:
    """What is expected of rows whose numbers of seeds are adaptive; None for others."""
    numbers = [row.expected_to_run or 0.0 for row in rows]
    if all(row.expected_to_run is None for row in rows):
        return None
    one_worker_seconds, seconds = _times(rows, numbers, at_once)
    effect = metric.of_difference(f"{2 * metric.difference:g}")
    return Expected(
        num_cells=sum(numbers) + sum(row.num_finished for row in rows),
        num_to_run=sum(numbers),
        one_worker_seconds=one_worker_seconds,
        seconds=seconds,
        assumptions=f"Expected is the mean of {NUM_SIMULATED:,} simulated runs. Comparisons with two pairs of results "
        "or more go on as these leave open; of others, differences between seeds have a standard deviation of "
        f"{metric.difference_in_words}, and true differences one of {effect}.",
    )


def _times(rows: Sequence[RowPlan], numbers: Sequence[float], at_once: tuple[int, int]) -> tuple[Spread, Spread]:
    """How long so many cells of each row take with one worker, and with as many as run ``at_once``."""
    measured = [(row.probe.cell_seconds, number) for row, number in zip(rows, numbers, strict=True) if row.probe]
    jobs = [time for time, number in measured for _ in range(round(number))]
    worst, best = at_once
    low, median, high = ([time.low for time in jobs], [time.median for time in jobs], [time.high for time in jobs])
    one_worker = Spread(
        low=sum(time.low * number for time, number in measured),
        median=sum(time.median * number for time, number in measured),
        high=sum(time.high * number for time, number in measured),
    )
    middle = (makespan(median, best) + makespan(median, worst)) / 2
    return one_worker, Spread(low=makespan(low, best), median=middle, high=makespan(high, worst))


def _probe_row(
    cell: Cell, device: torch.device, measure: Measure, rates: MeasuredRates, first: bool
) -> dict[str, Probe | str]:
    """The probe of the cell's row, or the error, by the name of the field of :class:`RowPlan`."""
    measure.on_row(cell.label)
    try:
        with errors_of(f"row {cell.label!r}"):
            if first:  # imports, the decoding of clips: once a worker, not once a cell
                set_up(cell.experiment, device, measure.options)
            cores = max(1, num_cores() // measure.workers)
            return {"probe": probe(cell.experiment, device, BUDGET_SECONDS, measure.options, cores, rates)}
    except RunError as error:
        return {"error": str(error)}


def _device_words(place: torch.device, options: RunOptions) -> str:
    """The device, and the options that are not the default: ``CPU (1 thread), compiled``."""
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


def render_plan(plan: RunPlan) -> Group:
    """The plan as a table with its totals and how they were measured, for a terminal of 80 columns."""
    num_to_run = plan.num_cells - plan.num_finished
    up_to = "up to " if plan.expected and num_to_run else ""
    steps = f" in {up_to}{plan.num_steps:,} training steps" if num_to_run else ""
    table = rows_table(
        ["cells\nto run", "steps\na cell", "a step", "an evalu-\nation", "a cell", "memory\na cell", "check-\npoint"],
        ["all rows", _to_run(num_to_run, plan.expected.num_to_run if plan.expected else None)],
    )
    for row in plan.rows:
        number = _to_run(row.num_to_run, None if row.shared_with else row.expected_to_run)
        table.add_row(escape(row.row), number, *_measured(row))
    return Group(
        *filter(None, [plan.why_workers]),
        f"{escape(plan.name)} in the regime {escape(plan.regime)} on {plan.device}: "
        f"{up_to}{plural(plan.num_cells, 'cell')}, {plan.num_finished} finished before, "
        f"{up_to}{num_to_run} to run{steps}",
        table,
        *(escape(f"{row.row}: its cells are shared with {row.shared_with}.") for row in plan.rows if row.shared_with),
        *_reading(plan),
        *_totals(plan),
    )


def _to_run(most: int, expected: float | None) -> str:
    """``12``, or ``5/12`` where so many are expected."""
    return str(most) if expected is None else f"{expected:.0f}/{most}"


def _measured(row: RowPlan) -> list[str]:
    if row.probe is None:
        why = {"ensemble": row.ensemble, "shared": row.shared_with, "cannot be run": row.error}
        return [next((word for word, is_so in why.items() if is_so), "done")]
    return [
        f"{row.probe.num_steps:,}",
        duration(row.probe.step_seconds),
        duration(row.probe.eval_seconds),
        duration(row.probe.cell_seconds),
        size(row.probe.memory_bytes),
        size(row.probe.checkpoint_bytes),
    ]


MIN_WAITING = 0.05
"""Fraction of the time spent waiting for clips from which on the plan advises how to read faster."""

_CLIPS = {"video": "videos", "frames": "frames", "pack": "a pack"}
"""What clips are read from, for readers, by the form of a source."""


def _reading(plan: RunPlan) -> list[Table | str]:
    """Times of reading clips and of computing, and advice where computing waits; empty where clips are in memory."""
    readings = {row.row: row.probe.reading for row in plan.rows if row.probe and row.probe.reading}
    if not readings:
        return []
    reading_and_waiting = ["its clips\nare read", "it\nwaits"]
    table = rows_table(["a step\ncomputes", *reading_and_waiting, "an evaluation\ncomputes", *reading_and_waiting])
    for name, reading in readings.items():
        table.add_row(escape(name), *_load(reading.step), *_load(reading.evaluation))
    name, slowest = max(readings.items(), key=lambda item: item[1].step.num_cores_wanted)
    by = f"{plural(slowest.num_readers, 'reader')} on " if slowest.num_readers else ""
    sentences = [
        f"Clips are read from {_CLIPS.get(slowest.form, 'a disk')}, by {by}{plural(slowest.num_cores, 'core')} of a "
        f"worker: {_two_digits(slowest.train_clips_per_second)} a second in training and "
        f"{_two_digits(slowest.val_clips_per_second)} in evaluation, while the network does not compute."
    ]
    most = max(load.waiting for reading in readings.values() for load in (reading.step, reading.evaluation))
    if most < MIN_WAITING:
        sentences.append("Training hardly waits for them.")
    else:
        pack = "" if slowest.form == "pack" else ", or with a pack of JPEGs (tada data pack)"
        sentences.append(
            f"Training would wait for them up to {100 * most:.0f} % of the time. Extrapolated from {escape(name)}, "
            f"it would not with {plural(slowest.step.num_cores_wanted, 'core')} a worker in training and "
            f"{slowest.evaluation.num_cores_wanted} in evaluation{pack}."
        )
    return [table, " ".join(sentences)]


def _load(load: Load) -> list[str]:
    return [duration(load.compute_seconds), _seconds(load.reading_seconds), f"{100 * load.waiting:.0f} %"]


def _totals(plan: RunPlan) -> list[str]:
    failed = [f"{escape(row.row)}: {escape(row.error)}" for row in plan.rows if row.error]
    probes = [row.probe for row in plan.rows if row.probe]
    if not probes:
        return failed
    times = [("Time", plan.one_worker_seconds, plan.seconds)]
    if plan.expected:
        most = ("Time of all cells", plan.one_worker_seconds, plan.seconds)
        times = [("Expected time", plan.expected.one_worker_seconds, plan.expected.seconds), most]
    sentences = [
        f"{name}: {duration(one_worker)} with one worker"
        + (f"; {duration(all_workers)} with {plan.workers}{_limits(plan)}." if plan.workers > 1 else ".")
        for name, one_worker, all_workers in times
    ]
    sentences += [f"Cells to run: expected/at most. {plan.expected.assumptions}"] if plan.expected else []
    memory = max(probe.memory_bytes for probe in probes)
    host_memory = max(probe.host_memory_bytes for probe in probes)
    on_gpu = "" if memory == host_memory else f" on the GPU and {size(host_memory)} of main memory"
    per = "worker" if plan.gpus_per_cell == 1 else f"process, of which a cell has {plan.gpus_per_cell}"
    weights = sum(row.num_to_run * row.probe.weights_bytes for row in plan.rows if row.probe)
    results = sum(row.num_to_run * row.probe.storage_bytes for row in plan.rows if row.probe)
    num_steps, num_batches = (
        max(probe.num_steps_timed for probe in probes),
        max(probe.num_eval_batches_timed for probe in probes),
    )
    is_cut = any(probe.num_micro_batches > MICRO_BATCHES_TIMED for probe in probes)
    sentences += [
        f"Memory: up to {size(memory)}{on_gpu} a {per}. Disk: up to "
        f"{size(max(probe.checkpoint_bytes for probe in probes))} for the checkpoint of each running cell; "
        f"{size(weights)} for all trained weights and class probabilities, which are kept, and {size(results)} for all "
        "results.",
        f"From up to {plural(num_steps, 'step')}{f' of {MICRO_BATCHES_TIMED} micro-batches' if is_cut else ''} and "
        f"{plural(num_batches, 'evaluation batch', 'evaluation batches')} a row, timed on {plan.device} after warming "
        "up: lower to upper quartile. The evaluations of the schedule and a checkpoint after every epoch are counted "
        "in; other load on the machine is not.",
    ]
    if plan.gpus_per_cell > 1:
        sentences.append(
            f"One process was measured: steps and evaluations are taken to be {plan.gpus_per_cell} times as fast with "
            f"{plan.gpus_per_cell}. The time of summing gradients is not included."
        )
    return [*sentences, *failed]


def _limits(plan: RunPlan) -> str:
    worst, best = plan.at_once
    if worst != best:
        return f" (as fast as {worst} to {plan.workers} workers: they share {plural(worst, 'GPU')})"
    if best == plan.workers:
        return ""
    return f" (only {plural(best, 'cell')} at once on this machine)"


_UNITS = ((86400.0, "days", 3), (3600.0, "h", 1), (60.0, "min", 1.5), (1.0, "s", 1), (1e-3, "ms", 0))
"""Seconds a unit has, its name, and from how many of it on it is used."""


def duration(spread: Spread) -> str:
    """A range of seconds in two significant digits: ``95-120 ms``; one number where both ends are the same."""
    seconds, unit, _ = next((s, name, least) for s, name, least in _UNITS if spread.high >= least * s)
    low, high = (_two_digits(value / seconds) for value in (spread.low, spread.high))
    return f"{high} {unit}" if low == high else f"{low}-{high} {unit}"


def _seconds(seconds: float) -> str:
    return duration(Spread(low=seconds, median=seconds, high=seconds))


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
