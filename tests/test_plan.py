"""What a plan estimates, compared with runs, simulation and arithmetic."""

import heapq
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from support import made_result
from torch import Tensor, nn

from tadaconv import experiment as experiment_module
from tadaconv import preview
from tadaconv.data.source import Source
from tadaconv.data.synthetic import SyntheticClips
from tadaconv.errors import RunError, UserError
from tadaconv.execution.seed_design import read_seeds
from tadaconv.execution.store import Store
from tadaconv.preview import Probe, RunPlan, Spread, probing
from tadaconv.preview import plan as plan_module
from tadaconv.preview.plan import duration, makespan, size
from tadaconv.regime import Regime
from tadaconv.run_options import RunOptions
from tadaconv.sequential import SeedDesign
from tadaconv.spec import Backbone, Context, Schedule, Synthetic, TAda
from tadaconv.table import LoadedTable, Row, Table

CPU = torch.device("cpu")
REGIME = Regime(
    summary="",
    backbone=Backbone(name="tiny"),
    data=Synthetic(num_frames=4, size=16, num_train=12, num_val=10),
    schedule=Schedule(epochs=2, batch_size=4, lr=0.01),
)
ROWS = [Row("TSN", None), Row("(1,1)", TAda(context=Context(kernels=(1, 1)))), Row("TSN again", None)]
TABLE = LoadedTable("mini", "", Table(base=Row("(3,3)", TAda()), rows=ROWS))
EXPERIMENT = ROWS[1].cell(REGIME, 0).experiment

PROBE = Probe(
    num_steps_timed=8, num_eval_batches_timed=3, num_steps=100, num_epochs=4, num_evaluations=4,
    step_seconds=Spread(low=0.1, median=0.2, high=0.4), eval_seconds=Spread(low=1, median=2, high=3),
    setup_seconds=0.5, checkpoint_seconds=0.25, checkpoint_bytes=2**20, weights_bytes=2**19, storage_bytes=2**11,
    memory_bytes=2**29, host_memory_bytes=2**29,
)  # fmt: skip


class SlowClips(SyntheticClips):
    """Every batch takes its time, so that all else costs next to nothing."""

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
        time.sleep(0.06)
        return super().train_batch(indices, epoch, seed)

    def val_batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        time.sleep(0.02 * len(indices))
        return super().val_batch(indices)


def test_a_cell_takes_what_its_probe_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(experiment_module, "open_source", SlowClips)
    probing.set_up(EXPERIMENT, CPU)
    found = preview.probe(EXPERIMENT, CPU, budget_seconds=0.2)
    assert (found.num_steps, found.num_epochs, found.num_eval_batches_timed) == (6, 2, 3)
    assert 3 <= found.num_steps_timed <= 5
    assert found.step_seconds.low >= 0.06
    assert found.eval_seconds.low >= 0.2  # ten clips, though four were timed
    sizes: list[int] = []
    checkpoint = tmp_path / "cell.pt"
    result = experiment_module.run(
        EXPERIMENT, "cpu", lambda _: sizes.append(checkpoint.stat().st_size if checkpoint.exists() else 0), checkpoint
    )
    assert found.cell_seconds.median >= 6 * 0.06 + 2 * 0.2  # the steps and the evaluations that SlowClips slows
    assert sizes[-1] * 0.95 < found.checkpoint_bytes <= sizes[-1]
    stored = len(result.model_dump_json()) + len(EXPERIMENT.model_dump_json())
    assert 0.8 * stored < found.storage_bytes < 1.25 * stored


def test_processes_of_a_cell_are_taken_to_share_its_steps_and_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_step_seconds", lambda *_: [1.0] * 3)
    monkeypatch.setattr(probing, "_eval_seconds", lambda *_: [1.0])
    monkeypatch.setattr(SyntheticClips, "eval_batch", Source.eval_batch)  # else all clips are one batch
    in_parts = EXPERIMENT.but(schedule__norm_batch=2)  # two micro-batches a step, three batches an evaluation
    for cores, step, evaluation in ((4, 1 / 2, 2 / 3), (1, 1.0, 1.0)):  # two processes of one core are no faster
        found = preview.probe(in_parts, CPU, 0.0, RunOptions(gpus_per_cell=2), cores=cores)
        assert (found.step_seconds.median, found.eval_seconds.median) == pytest.approx((step, evaluation))


def test_a_probe_leaves_no_trace() -> None:
    torch.set_num_threads(2)
    try:
        before = torch.get_rng_state()
        found = preview.probe(EXPERIMENT, CPU, budget_seconds=0.0)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert found.num_steps_timed == probing.MIN_STEPS
    assert found.memory_bytes == found.host_memory_bytes


def test_cells_are_timed_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()

    class Watching(SyntheticClips):
        def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
            threads.add(torch.get_num_threads())
            return super().train_batch(indices, epoch, seed)

    monkeypatch.setattr(experiment_module, "open_source", Watching)
    torch.set_num_threads(2)
    try:
        preview.probe(EXPERIMENT, CPU, budget_seconds=0.0)
    finally:
        torch.set_num_threads(1)
    assert threads == {1}


def test_an_experiment_of_one_step_is_timed_by_it() -> None:
    short = EXPERIMENT.but(schedule__epochs=1, schedule__batch_size=12)
    found = preview.probe(short, CPU, budget_seconds=0.0)
    assert (found.num_steps, found.num_steps_timed) == (1, 1)


def test_micro_batches_are_timed_two_at_most_and_a_step_by_its_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """A micro-batch takes 0.03 s to read, and two are read of six, which a step would read."""
    asked: list[int] = []

    class Watching(SyntheticClips):
        def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
            asked.append(len(indices))
            time.sleep(0.03)
            return super().train_batch(indices, epoch, seed)

    monkeypatch.setattr(experiment_module, "open_source", Watching)
    in_six = EXPERIMENT.but(schedule__batch_size=6, schedule__norm_batch=1)
    found = preview.probe(in_six, CPU, budget_seconds=0.0)
    assert (found.num_steps, found.num_steps_timed, found.num_micro_batches) == (4, 3, 6)
    assert asked == [1] * 2 * 4
    assert found.step_seconds.low >= 6 * 0.03
    asked.clear()
    found = preview.probe(in_six.but(schedule__norm_batch=3), CPU, budget_seconds=0.0)
    assert (found.num_micro_batches, asked) == (2, [3] * 2 * 4)
    assert found.step_seconds.low >= 2 * 0.03


def test_compiling_counts_as_setup_for_every_shape_of_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that takes 0.1 s a shape: batches of 7 and 6 in parts of 4, 3 and 2, evaluations of 6 and 4."""
    compiled: list[tuple[int, bool]] = []

    class Compiled(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, clips: Tensor) -> Tensor:
            shape = len(clips), self.model.training
            if shape not in compiled:
                compiled.append(shape)
                time.sleep(0.1)
            scores: Tensor = self.model(clips)
            return scores

    before_steps: list[set[tuple[int, bool]]] = []
    step_seconds = probing._step_seconds
    monkeypatch.setattr(
        probing, "_step_seconds", lambda *given: before_steps.append(set(compiled)) or step_seconds(*given)
    )
    monkeypatch.setattr("tadaconv.training.fit.compiled", Compiled)
    monkeypatch.setattr(SyntheticClips, "eval_batch", Source.eval_batch)  # else all clips are one batch
    uneven = EXPERIMENT.but(data__num_train=13, schedule__batch_size=7, schedule__norm_batch=4)
    options = RunOptions(compile=True)
    found = preview.probe(uneven, CPU, 0.0, options)
    of_training = {(4, True), (3, True)}
    of_evaluation = {(7, False), (3, False)}
    assert [set(compiled)] == before_steps == [of_training | of_evaluation]
    assert found.setup_seconds > 0.1 * len(compiled)


def test_out_of_memory_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried ...")

    monkeypatch.setattr(experiment_module, "build_model", full)
    with pytest.raises(RunError, match=r"out of memory on cpu with batches of 4 clips; .*set schedule.norm_batch"):
        preview.probe(EXPERIMENT, CPU)


def test_a_cell_is_setup_steps_evaluations_and_checkpoints() -> None:
    # A checkpoint of 0.25 s is written every 25 s at most: one, and a hundredth of the rest.
    for seconds, run in ((PROBE.cell_seconds.low, 0.5 + 100 * 0.1 + 4 * 1),
                         (PROBE.cell_seconds.median, 0.5 + 100 * 0.2 + 4 * 2),
                         (PROBE.cell_seconds.high, 0.5 + 100 * 0.4 + 4 * 3)):  # fmt: skip
        assert seconds == pytest.approx(run + 0.25 + run / 100)
    # One of 10 ms at the end of each of four epochs, and where 30 s have passed.
    quick = PROBE.model_copy(update={"checkpoint_seconds": 0.01})
    assert quick.cell_seconds.high == pytest.approx(0.5 + 100 * 0.4 + 4 * 3 + 5 * 0.01)
    of_one_view = {"num_evaluations": 2, "curve_eval_seconds": Spread(low=0.1, median=0.2, high=0.3)}
    several = PROBE.model_copy(update=of_one_view)
    assert several.cell_seconds.median == pytest.approx(1.01 * (0.5 + 100 * 0.2 + 2 * 0.2 + 2) + 0.25)


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_spreads_are_quartiles(seconds: list[float]) -> None:
    found = Spread.of(seconds)
    assert [found.low, found.median, found.high] == pytest.approx(np.quantile(seconds, [0.25, 0.5, 0.75]).tolist())


@given(st.lists(st.floats(0, 100), max_size=30), st.integers(1, 6))
def test_makespan_is_that_of_workers_at_a_queue(jobs: list[float], workers: int) -> None:
    clock, busy = 0.0, [0.0] * workers
    for job in jobs:
        clock = heapq.heappop(busy)
        heapq.heappush(busy, clock + job)
    assert makespan(jobs, workers) == pytest.approx(max(busy))
    assert makespan(jobs, 1) == pytest.approx(sum(jobs))


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.0951, 0.118, "95-120 ms"),
        (34.6, 35.4, "35 s"),
        (34.6, 44.4, "35-44 s"),
        (0.5, 1.23, "0.5-1.2 s"),
        (80, 100, "1.3-1.7 min"),
        (3000, 4000, "0.8-1.1 h"),
        (7200, 7210, "2.0 h"),
        (9e5, 1e6, "10-12 days"),
        (0, 0, "0 ms"),
    ],
)
def test_durations_have_two_digits(low: float, high: float, words: str) -> None:
    assert duration(Spread(low=low, median=low, high=high)) == words


def test_sizes() -> None:
    assert [size(n) for n in (12, 2**11, 3 * 2**20, 410 * 2**20, 2**31)] == [
        "12 B", "2.0 KiB", "3.0 MiB", "410 MiB", "2.0 GiB"
    ]  # fmt: skip


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was measured, without measuring."""
    measured: list[str] = []
    monkeypatch.setattr(plan_module, "set_up", lambda *_: None)
    monkeypatch.setattr(plan_module, "probe", lambda experiment, *_: measured.append(experiment.key) or PROBE)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(2)), raising=False)
    return measured


def design(seeds: str) -> SeedDesign:
    first, last = read_seeds(seeds)
    return SeedDesign(first=first, last=last, smallest=1.0)


def planned(
    workers: int = 1, seeds: str = "2", store: Store | None = None, gpus: int = 1, norm_batch: int = 0
) -> RunPlan:
    measure = preview.Measure("cpu", workers, options=RunOptions(gpus_per_cell=gpus))
    regime = REGIME.but(schedule__norm_batch=norm_batch)
    return preview.plan_table(TABLE, "small", regime, measure, store, design=design(seeds))


def printed(found: RunPlan) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(preview.render_plan(found))
    return captured.get()


def test_every_row_is_measured_once_and_a_cell_that_two_rows_have_counts_once(probed: list[str]) -> None:
    found = planned()
    assert probed == [row.cell(REGIME, 0).key for row in (ROWS[0], ROWS[1], TABLE.table.base)]
    assert [(row.row, row.num_cells) for row in found.rows] == [
        ("TSN", 2),
        ("(1,1)", 2),
        ("TSN again", 0),
        ("(3,3)", 2),
    ]
    assert (found.num_cells, found.num_finished, found.num_steps) == (6, 0, 600)
    assert [row.shared_with for row in found.rows] == ["", "", "TSN", ""]
    for seeds in ("2", "3:12"):
        lines = [line.split() for line in printed(planned(seeds=seeds)).splitlines() if line.startswith(" TSN again ")]
        assert lines == [["TSN", "again", "0", "shared"]]
        assert "TSN again: its cells are shared with TSN." in printed(planned(seeds=seeds))
    assert found.one_worker_seconds.median == pytest.approx(6 * PROBE.cell_seconds.median)
    assert found.device == "CPU (1 thread)"


def test_an_ensemble_adds_no_cell(probed: list[str]) -> None:
    both = Row("both", None, ensemble=("TSN", "(3,3)"))
    table = Table(base=TABLE.table.base, rows=[both, *TABLE.table.rows])
    measure = preview.Measure("cpu", 1)
    made = LoadedTable("mini", "?", table)
    found = preview.plan_table(made, "small", REGIME, measure, design=design("2"))
    assert found.model_copy(update={"rows": found.rows[:-1]}) == planned()
    assert (found.rows[-1].row, found.rows[-1].num_to_run, found.rows[-1].ensemble) == ("both", 0, both.ensemble)
    assert "ensemble" in next(line for line in printed(found).splitlines() if line.startswith(" both "))
    alone = preview.plan_table(made, "small", REGIME, measure, design=design("1"), rows=["both"])
    assert [(row.row, row.num_cells) for row in alone.rows] == [("TSN", 1), ("(3,3)", 1), ("both", 0)]
    assert len(probed) == 3 + 3 + 2


def test_finished_cells_cost_nothing(probed: list[str], tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "journal.log"))
    for cell in TABLE.table.cells(REGIME, [0, 1], ["TSN"]) + TABLE.table.cells(REGIME, [0], ["(1,1)"]):
        attempt = store.claim(store.add("mini-small", cell))
        assert attempt is not None
        store.finish(attempt, made_result())
    found = planned(store=store)
    assert probed == [row.cell(REGIME, 0).key for row in (ROWS[1], TABLE.table.base)]
    assert (found.num_cells, found.num_finished, found.num_steps) == (6, 3, 300)
    text = printed(found)
    assert "6 cells, 3 finished before, 3 to run in 300 training" in " ".join(text.split())
    assert "done" in next(line for line in text.splitlines() if line.startswith(" TSN "))


@pytest.mark.usefixtures("probed")
def test_workers_beyond_the_cores_bring_nothing() -> None:
    one, two, eight = (planned(workers) for workers in (1, 2, 8))
    assert two.seconds.low == pytest.approx(one.seconds.low / 2)
    assert eight.seconds == two.seconds
    assert "(only 2 cells at once on this machine)" in " ".join(printed(eight).split())
    assert "at once" not in printed(two)


@pytest.mark.usefixtures("probed")
def test_a_plan_states_its_assumptions_for_several_processes_a_cell() -> None:
    said = " ".join(printed(planned(workers=2, gpus=2, norm_batch=2)).split())
    assert "(only 1 cell at once on this machine)" in said
    assert f"{size(2**29)} a process, of which a cell has 2" in said
    assert "The time of summing gradients is not included." in said
    assert "processes" not in printed(planned(workers=2))
    with pytest.raises(
        UserError,
        match=r"row '.*': --gpus-per-cell 2 does not divide the 1 micro-batch of",
    ):
        planned(gpus=2)


def test_gpus_of_a_cell_are_no_other_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    for workers, gpus, expected in ((2, 4, 2), (4, 4, 2), (3, 2, 3), (1, 16, 1)):
        measure = preview.Measure("auto", workers, options=RunOptions(gpus_per_cell=gpus))
        assert plan_module._at_once(torch.device("cuda:0"), measure) == (expected, expected)


def test_several_workers_on_a_gpu_may_bring_all_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for device, workers, expected in (("cuda", 4, (2, 4)), ("auto", 2, (2, 2)), ("cuda:1", 3, (1, 3))):
        measure = preview.Measure(device, workers)
        assert plan_module._at_once(torch.device("cuda:0"), measure) == expected


def test_a_row_that_cannot_be_run_is_shown_with_its_error(monkeypatch: pytest.MonkeyPatch, probed: list[str]) -> None:
    def fails(*_: object) -> Probe:
        probed.append("")
        if len(probed) == 2:
            raise RunError("out of memory on cuda with batches of 4 clips")
        return PROBE

    monkeypatch.setattr(plan_module, "probe", fails)
    found = planned()
    assert not found.ok
    assert found.num_steps == 400
    assert "(1,1): out of memory on cuda with batches of 4 clips" in printed(found)
    assert "cannot be run" in printed(found)


def test_a_row_that_cannot_be_built_is_named() -> None:
    table = LoadedTable("t", "", Table(base=Row("no such", None, backbone="nonsense"), rows=[]))
    with pytest.raises(UserError, match=r"row 'no such': unknown backbone 'nonsense'"):
        preview.plan_table(table, "small", REGIME, preview.Measure("cpu"), design=design("1"))


@pytest.mark.usefixtures("probed")
def test_a_study_costs_its_base_times_its_trials() -> None:
    def study(num_ended: int) -> RunPlan:
        return preview.plan_trials(
            "where", "small", REGIME, preview.Measure("cpu"), ROWS[1], num_trials=20, num_ended=num_ended, seeds=2
        )

    found = study(num_ended=5)
    assert (found.num_cells, found.num_finished, found.num_steps) == (40, 10, 3000)
    assert found.one_worker_seconds.high == pytest.approx(30 * PROBE.cell_seconds.high)
    assert (study(25).num_finished, study(25).num_steps, study(25).rows[0].probe) == (40, 0, None)


@pytest.mark.usefixtures("probed")
def test_it_fits_80_columns_with_how_it_was_measured_and_round_trips() -> None:
    found = planned(workers=2)
    text = printed(found)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "…" not in text
    words = " ".join(text.split())
    assert "From up to 8 steps and 3 evaluation batches a row, timed on CPU (1 thread)" in words
    probes = [PROBE.model_copy(update={"num_micro_batches": number}) for number in (1, 8)]
    rows = [row.model_copy(update={"probe": probe}) for row, probe in zip(found.rows[:2], probes, strict=True)]
    cut = " ".join(printed(found.model_copy(update={"rows": rows})).split())
    assert "From up to 8 steps of 2 micro-batches and 3 evaluation batches a row" in cut
    assert "Time: 1.5-5.3 min with one worker; 0.7-2.7 min with 2." in words
    tree = json.loads(found.model_dump_json())
    assert (tree["num_cells"], tree["num_steps"], tree["rows"][0]["num_to_run"]) == (6, 600, 2)


def finish(store: Store, row: Row, scores: Sequence[float]) -> None:
    for seed, score in enumerate(scores):
        attempt = store.claim(store.add("mini-small", row.cell(REGIME, seed)))
        assert attempt is not None
        store.finish(attempt, made_result(score))


@pytest.mark.usefixtures("probed")
def test_an_adaptive_number_of_seeds_has_an_expected_and_a_largest_number_of_cells() -> None:
    found = planned(workers=2, seeds="3:12")
    assert found.expected is not None
    assert [row.num_cells for row in found.rows] == [12, 12, 0, 12]
    assert found.num_cells == 36
    assert found.one_worker_seconds.median == pytest.approx(36 * PROBE.cell_seconds.median)
    numbers = [row.expected_to_run for row in found.rows]
    assert numbers[2] == 0
    assert all(number is not None and 3 < number < 12 for number in numbers[:2])
    assert numbers[3] == max(number for number in numbers if number is not None), "the base is in every comparison"
    expected = sum(number for number in numbers if number is not None)
    assert (found.expected.num_cells, found.expected.num_to_run) == (pytest.approx(expected),) * 2
    assert found.expected.one_worker_seconds.median == pytest.approx(expected * PROBE.cell_seconds.median)
    assert found.expected.seconds.low <= found.seconds.low
    assert planned(seeds="3").expected is None


@pytest.mark.usefixtures("probed")
def test_the_expectation_follows_from_the_results_so_far(tmp_path: Path) -> None:
    """TSN is decided after three seeds; of the other two, all is open."""
    store = Store.open(str(tmp_path / "journal.log"))
    base = TABLE.table.base
    finish(store, ROWS[0], [40.0, 40.3, 39.8])
    finish(store, base, [50.0, 50.1, 49.9, 50.0])
    found = planned(seeds="3:8", store=store)
    assert [(row.num_cells, row.num_finished) for row in found.rows] == [(3, 3), (8, 0), (0, 0), (8, 4)]
    assert [row.expected_to_run for row in found.rows][::2] == [0, 0]
    finish(store, ROWS[1], [30.0, 30.2, 29.9])
    found = planned(seeds="3:8", store=store)
    assert [(row.num_cells, row.num_finished) for row in found.rows] == [(3, 3), (3, 3), (0, 0), (3, 3)]
    assert found.expected is not None
    assert (found.expected.num_cells, found.expected.num_to_run) == (9, 0)


@pytest.mark.usefixtures("probed")
def test_expected_cells_of_a_table_are_those_of_runs_simulated_one_by_one(tmp_path: Path) -> None:
    """Of two comparisons with results, whose numbers of seeds the base has the larger of."""
    store, base = Store.open(str(tmp_path / "journal.log")), TABLE.table.base
    scores = {ROWS[0].name: [51.5, 49.0, 50.0], ROWS[1].name: [47.0, 50.5, 48.0], base.name: [50.0, 49.5, 51.0]}
    for row in (ROWS[0], ROWS[1], base):
        finish(store, row, scores[row.name])
    found = planned(seeds="3:8", store=store)
    adaptive, rng = design("3:8"), np.random.default_rng(5)
    numbers = []
    for _ in range(1000):
        needed = []
        for row in ROWS[:2]:
            known = np.subtract(scores[row.name], scores[base.name])
            sd = np.std(known, ddof=1) * np.sqrt(2 / rng.chisquare(2))
            mean = rng.normal(known.mean(), sd / np.sqrt(3))
            needed.append(int(adaptive.num_needed([*known, *rng.normal(mean, sd, 5)])) or 8)
        numbers.append([needed[0] - 3, needed[1] - 3, max(needed) - 3])
    expected = [row.expected_to_run for row in found.rows if row.row != "TSN again"]
    assert expected == pytest.approx(np.mean(numbers, axis=0), abs=4 * np.std(numbers) * np.sqrt(2 / 1000))


@pytest.mark.usefixtures("probed")
def test_an_adaptive_plan_fits_80_columns_and_states_what_it_rests_on() -> None:
    found = planned(workers=2, seeds="3:12")
    text = printed(found)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "…" not in text
    wide = Console(width=200)
    with wide.capture() as captured:
        wide.print(preview.render_plan(found))
    words = " ".join(text.split())
    assert words == " ".join(captured.get().split()), "nothing is cut off"
    assert "up to 36 cells, 0 finished before, up to 36 to run in up to 3,600 training steps" in words
    assert re.search(r"Expected time: \S+ min with one worker; \S+ min with 2\. Time of all cells: \S+ min with", words)
    assert "Expected is the mean of 1,000 simulated runs." in words
    assert "a standard deviation of 1 point, and true differences one of 2 points." in words
    tree = json.loads(found.model_dump_json())
    assert tree["num_cells"] == 36
    assert 9 < tree["expected"]["num_cells"] < 36
    assert RunPlan.model_validate({k: v for k, v in tree.items() if k in RunPlan.model_fields} | {"rows": []}).expected


@pytest.mark.parametrize(("seeds", "stored", "num_at_once"), [("2", 0, 6), ("2", 2, 4), ("3:9", 0, 9), ("3:9", 3, 6)])
def test_workers_of_a_plan_are_those_of_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seeds: str, stored: int, num_at_once: int
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        plan_module, "num_workers_for", lambda *given: asked.append(given[3]) or (2, "2 workers: 2 cores")
    )
    store = Store.open(str(tmp_path / "journal.log"))
    finish(store, ROWS[0], [50.0] * stored)
    found = preview.workers_of_table(TABLE, REGIME, "cpu", RunOptions(), store, design=design(seeds))
    assert (found, asked) == ((2, "2 workers: 2 cores"), [num_at_once])


@pytest.mark.parametrize(("last", "num_to_run"), [([49.9, 50.0, 50.1], 0), ([52.0, 50.0, 47.0], 10)])
def test_workers_of_a_table_whose_first_seeds_have_all_run(
    tmp_path: Path, last: Sequence[float], num_to_run: int
) -> None:
    """A table that has finished, and one that has not: as a run has it, by the cells that may come."""
    store, base = Store.open(str(tmp_path / "journal.log")), TABLE.table.base
    for row, scores in ((ROWS[0], [40.0, 40.3, 39.8]), (ROWS[1], last), (base, [60.0, 60.1, 59.9])):
        finish(store, row, scores if num_to_run == 0 or row is not base else [50.0, 50.1, 49.9])
    asked = RunOptions()
    number, why = preview.workers_of_table(TABLE, REGIME, "cpu", asked, store, design=design("3:8"))
    assert (number >= 1, bool(why)) == (True, num_to_run > 0)
    found = preview.plan_table(TABLE, "small", REGIME, preview.Measure("cpu"), store, design=design("3:8"))
    assert found.num_cells - found.num_finished == num_to_run
    if num_to_run == 0:
        assert "9 cells, 9 finished before, 0 to run\n" in re.sub(" *\n", "\n", printed(found))
        assert json.loads(found.model_dump_json())["num_cells"] == 9


@pytest.mark.usefixtures("probed")
def test_rows_that_are_one_experiment_are_planned_without_further_seeds() -> None:
    alone = LoadedTable("mini", "", Table(base=ROWS[0], rows=[ROWS[2]]))
    found = preview.plan_table(alone, "small", REGIME, preview.Measure("cpu"), design=design("3:8"))
    assert [(row.num_cells, row.expected_to_run) for row in found.rows] == [(3, 3), (0, 0)]
