"""What a plan estimates of reading, compared with simulated pipelines, clips of known slowness, and real readers."""

import math
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor

from tadaconv import experiment as experiment_module
from tadaconv import preview
from tadaconv.data import prefetch
from tadaconv.data.synthetic import SyntheticClips
from tadaconv.preview import Load, Probe, Reading, RowPlan, RunPlan, Spread, plan, probing
from tadaconv.preview.reading import BatchesThere, Machine, load
from tadaconv.regime import Regime
from tadaconv.sequential import SeedDesign
from tadaconv.spec import Backbone, Schedule, Synthetic, TAda
from tadaconv.table import LoadedTable, Row, Table

CPU = torch.device("cpu")
REGIME = Regime(
    summary="",
    backbone=Backbone(name="tiny"),
    data=Synthetic(num_frames=4, size=16, num_train=13, num_val=10),
    schedule=Schedule(epochs=2, batch_size=4, lr=0.01),
)
ONE_SEED = SeedDesign(first=1, last=1, smallest=1.0)
TABLE = LoadedTable("mini", "", Table(base=Row("(3,3)", TAda()), rows=[Row("TSN", None)]))
EXPERIMENT = TABLE.table.rows[0].cell(REGIME, 0).experiment
SECONDS_A_CLIP = 0.05

times = st.floats(0.01, 10.0)


class SlowDisk(SyntheticClips):
    """Clips that are read one after the other, when a batch is asked for."""

    is_in_memory = False
    form = "video"

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
        time.sleep(SECONDS_A_CLIP * len(indices))
        return super().train_batch(indices, epoch, seed)

    def val_batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        time.sleep(SECONDS_A_CLIP * len(indices))
        return super().val_batch(indices)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment_module, "open_source", lambda *given, **_: SlowDisk(*given))
    monkeypatch.setattr(prefetch, "_num_readers", 1)


def certain(seconds: float) -> Spread:
    return Spread(low=seconds, median=seconds, high=seconds)


def seconds_of_steps(compute: float, reading: float, num_steps: int) -> float:
    """Wall time of steps whose batches are read one after the other, three ahead of the step that uses them."""
    read_at, done_at = [0.0] * num_steps, [0.0] * num_steps
    for step in range(num_steps):
        free_at = done_at[step - 3] if step >= 3 else 0.0
        read_at[step] = max(read_at[step - 1] if step else 0.0, free_at) + reading
        done_at[step] = max(read_at[step], done_at[step - 1] if step else 0.0) + compute
    return done_at[-1]


@given(times, times, st.integers(1, 64))
def test_the_slower_of_reading_and_computing_decides_on_a_gpu(compute: float, reading: float, readers: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefetch, "_num_readers", readers)
        seen = load(certain(compute), reading, Machine(64, num_computing=0))
    simulated = (seconds_of_steps(compute, reading, 600) - seconds_of_steps(compute, reading, 200)) / 400
    assert seen.seconds.median == pytest.approx(simulated)
    assert seen.waiting == pytest.approx(1 - compute / simulated)
    # As many cores are enough and one fewer is not, where every core reads at the same rate.
    wanted = seen.num_cores_wanted
    assert reading * readers / wanted <= compute * (1 + 1e-9)
    assert wanted == 1 or reading * readers / (wanted - 1) > compute * (1 - 1e-9)


@given(times, times, st.integers(1, 8), st.integers(1, 16))
def test_on_the_cpu_no_core_does_more_than_there_is_time_for(
    compute: float, reading: float, cores: int, readers: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefetch, "_num_readers", readers)
        seconds = load(certain(compute), reading, Machine(cores, num_computing=1)).seconds.median
    work = compute + reading * min(readers, cores)
    bounds = [compute, reading, work / cores]
    assert seconds == pytest.approx(max(bounds))


def test_without_reading_ahead_computing_and_reading_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "_num_readers", 0)
    seen = load(certain(1.0), 3.0, Machine(2, num_computing=0))
    assert (seen.seconds.median, seen.waiting, seen.num_cores_wanted) == (4.0, 0.75, 6)


@pytest.mark.usefixtures("slow_disk")
def test_reading_and_computing_are_timed_apart_and_clips_are_read_once_for_all_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates: probing.MeasuredRates = {}
    found = preview.probe(EXPERIMENT, CPU, budget_seconds=0.1, cores=8, rates=rates)
    assert found.reading is not None
    step, evaluation = found.reading.step, found.reading.evaluation
    assert 0 < found.reading.train_clips_per_second <= 1 / SECONDS_A_CLIP
    assert 0 < found.reading.val_clips_per_second <= 1 / SECONDS_A_CLIP
    assert step.reading_seconds >= 13 / 4 * SECONDS_A_CLIP  # thirteen clips, four steps
    assert evaluation.reading_seconds >= 10 * SECONDS_A_CLIP
    assert step.compute_seconds.median < 3 * SECONDS_A_CLIP  # a batch of three or four would sleep so long
    assert evaluation.compute_seconds.median < 10 * SECONDS_A_CLIP
    assert (found.step_seconds, found.eval_seconds) == (step.seconds, evaluation.seconds)

    monkeypatch.setattr(probing, "measure_rates", None)
    again = preview.probe(EXPERIMENT, CPU, budget_seconds=0.0, cores=8, rates=rates)
    assert again.reading is not None
    assert again.reading.train_clips_per_second == found.reading.train_clips_per_second


def test_of_clips_in_memory_nothing_is_read() -> None:
    probe = preview.probe(EXPERIMENT, CPU, budget_seconds=0.05)
    assert probe.reading is None
    assert "its clips" not in printed(planned(probe))


def test_rows_share_what_was_read_and_workers_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(plan, "set_up", lambda *_: None)
    monkeypatch.setattr(plan, "probe", lambda *arguments: given.append(arguments[4:]) or PROBE)
    monkeypatch.setattr(plan, "num_cores", lambda: 9)
    preview.plan_table(TABLE, "small", REGIME, preview.Measure("cpu", workers=4), design=ONE_SEED)
    (cores, rates), (other_cores, other_rates) = given
    assert rates is other_rates
    assert (cores, other_cores) == (2, 2)


def test_batches_that_are_there_are_as_large_as_asked_for() -> None:
    source = SyntheticClips(REGIME.data, CPU)  # type: ignore[arg-type]
    first, second = (source.train_batch(torch.arange(number), 0, 0) for number in (4, 3))
    there = BatchesThere(source, [first, second], source.val_batch(torch.arange(3)))
    for number in (4, 3, 4, 1):
        clips, labels = there.train_batch(torch.arange(50, 50 + number), 9, 9)
        assert len(clips) == len(labels) == number
    assert there.num_val == len(there.val_batch(torch.arange(3))[0]) == 3


PROBE = Probe(
    num_steps_timed=8, num_eval_batches_timed=3, num_steps=100, num_epochs=4, num_evaluations=4,
    step_seconds=certain(0.2), eval_seconds=certain(2.0), setup_seconds=0.5, checkpoint_seconds=0.25,
    checkpoint_bytes=2**20, weights_bytes=2**19, storage_bytes=2**11, memory_bytes=2**29, host_memory_bytes=2**29,
)  # fmt: skip


def planned(probe: Probe) -> RunPlan:
    row = RowPlan(row="(3,3)", num_cells=1, num_finished=0, probe=probe)
    return RunPlan(
        name="mini", regime="small", device="CPU (1 thread)", workers=1, gpus_per_cell=1, at_once=(1, 1), rows=[row],
        one_worker_seconds=certain(60.0), seconds=certain(60.0),
    )  # fmt: skip


def printed(found: RunPlan) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(preview.render_plan(found))
    return captured.get()


def reading(form: str, compute: float, seconds: float) -> Reading:
    one = Load(
        compute_seconds=Spread(low=0.11, median=compute, high=0.95), reading_seconds=seconds,
        seconds=certain(max(compute, seconds)), waiting=max(0.0, 1 - compute / seconds),
        num_cores_wanted=math.ceil(seconds / compute),
    )  # fmt: skip
    return Reading(
        form=form, num_readers=2, num_cores=2, train_clips_per_second=12.0, val_clips_per_second=6.5, step=one,
        evaluation=one,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("form", "seconds", "said"),
    [
        (
            "video",
            1.3,
            "Clips are read from videos, by 2 readers on 2 cores of a worker: 12 a second in training and 6.5 in "
            "evaluation, while the network does not compute. Training would wait for them up to 85 % of the time. "
            "Extrapolated from (3,3), it would not with 7 cores a worker in training and 7 in evaluation, or with a "
            "pack of JPEGs (tada data pack).",
        ),
        ("pack", 1.3, "it would not with 7 cores a worker in training and 7 in evaluation."),
        ("frames", 0.1, "while the network does not compute. Training hardly waits for them."),
    ],
)
def test_a_plan_shows_how_long_computing_waits_and_what_would_help(form: str, seconds: float, said: str) -> None:
    text = printed(planned(PROBE.model_copy(update={"reading": reading(form, 0.2, seconds)})))
    assert said in " ".join(text.split())
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "…" not in text
