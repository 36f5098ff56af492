"""How many workers a table gets where the call does not say: as many as cores, memory, GPUs and cells allow."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fake_cells import ROWS

from tadaconv.cli.options import CrewOptions
from tadaconv.data import memory
from tadaconv.dry_run import worker_bytes
from tadaconv.errors import UserError
from tadaconv.execution import launcher
from tadaconv.execution.launcher import Crew, num_workers_for  # the function itself, which is replaced in other tests
from tadaconv.execution.worker import WorkerCall
from tadaconv.run_options import RunOptions
from tadaconv.spec import Backbone, Experiment, Folder, Schedule, Synthetic, TAda

GIB = 2**30


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Eight cores, no GPU, 20 GiB free, and workers of 2 GiB each; its attributes change that."""
    has = SimpleNamespace(cores=8, gpus=0, free=20 * GIB, worker=2 * GIB)
    monkeypatch.setattr(launcher, "num_cores", lambda: has.cores)
    monkeypatch.setattr(memory, "free_bytes", lambda: has.free)
    monkeypatch.setattr("tadaconv.dry_run.worker_bytes", lambda *_: has.worker)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has.gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: has.gpus)
    return has


@pytest.mark.parametrize(
    ("has", "device", "per_cell", "num_at_once", "expected", "why"),
    [
        ({}, "auto", 1, 30, 8, "8 workers: 8 cores"),
        ({"cores": 2}, "cpu", 1, 30, 2, "2 workers: 2 cores"),
        ({"cores": 1}, "auto", 1, 30, 1, "1 worker: 1 core"),
        ({}, "auto", 1, 3, 3, "3 workers: 3 cells to run at a time"),
        ({}, "auto", 1, 1, 1, "1 worker: 1 cell to run at a time"),
        ({"free": 7 * GIB}, "cpu", 1, 30, 3, "3 workers: 7.0 GiB of memory are free, and one takes about 2.0 GiB"),
        ({"free": GIB}, "cpu", 1, 30, 1, "1 worker: 1.0 GiB of memory are free, and one takes about 2.0 GiB"),
        ({}, "cpu", 4, 30, 2, "2 workers: 8 cores, 4 a cell"),
        ({"cores": 2}, "cpu", 4, 30, 1, "1 worker: 2 cores, 4 a cell"),
        ({"gpus": 4}, "auto", 1, 30, 4, "4 workers: 4 GPUs"),
        ({"gpus": 4}, "cuda", 2, 30, 2, "2 workers: 4 GPUs, 2 a cell"),
        ({"gpus": 4}, "cuda:3", 1, 30, 1, "1 worker: 1 GPU"),
        ({"gpus": 4}, "cpu", 1, 30, 8, "8 workers: 8 cores"),
        ({"gpus": 4, "cores": 2}, "auto", 1, 30, 2, "2 workers: 2 cores"),
        ({"gpus": 4, "free": 5 * GIB}, "auto", 1, 30, 2, "2 workers: 5.0 GiB of memory are free, and one takes"),
    ],
)
def test_the_least_of_what_there_is(
    machine: SimpleNamespace, has: dict[str, int], device: str, per_cell: int, num_at_once: int, expected: int, why: str
) -> None:
    vars(machine).update(has)
    number, line = num_workers_for(ROWS, device, per_cell, num_at_once)
    assert number == expected
    assert line.startswith(why)
    assert "\n" not in line


def test_the_largest_cell_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    large = ROWS[0].experiment.but(schedule__batch_size=64)
    cells = [*ROWS, type(ROWS[0])("large", large)]
    monkeypatch.setattr(
        "tadaconv.dry_run.worker_bytes", lambda one, _: 8 * GIB if one.schedule.batch_size == 64 else GIB
    )
    assert num_workers_for(ROWS, "cpu", 1, 30)[0] == 8
    assert num_workers_for(cells, "cpu", 1, 30)[0] == 2


def test_a_crew_is_fitted_only_where_the_number_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "num_workers_for", num_workers_for)
    call = WorkerCall("j.log", "", "cpu", tmp_path)
    fitted, why = Crew(call, None).fitted(ROWS, 5)
    assert (fitted.num_workers, why) == (5, "5 workers: 5 cells to run at a time")
    assert Crew(call, 2).fitted(ROWS, 5) == (Crew(call, 2), "")
    pytest.importorskip("ray")
    assert Crew(call, None, "ray").fitted(ROWS, 5) == (Crew(call, 1, "ray"), "")


def test_too_few_gpus_for_a_cell_are_refused_though_the_number_is_open(
    tmp_path: Path, machine: SimpleNamespace
) -> None:
    machine.gpus = 2
    call = WorkerCall("j.log", "", "cuda", tmp_path, options=RunOptions(gpus_per_cell=4))
    with pytest.raises(UserError, match="needs 4 GPUs, and this machine has 2"):
        Crew(call, None)


def test_only_tables_take_what_the_machine_carries(tmp_path: Path) -> None:
    assert CrewOptions().crew("j.log", tmp_path).num_workers == 1
    assert CrewOptions().crew("j.log", tmp_path, default_workers=None).num_workers is None
    assert CrewOptions(workers=3).crew("j.log", tmp_path, default_workers=None).num_workers == 3


def experiment(**changes: object) -> Experiment:
    made = Experiment(
        backbone=Backbone(name="resnet50"), temporal=TAda(),
        data=Synthetic(num_frames=8, size=64, num_train=8, num_val=8),
        schedule=Schedule(epochs=1, batch_size=8, lr=0.1),
    )  # fmt: skip
    return made.but(**changes)


def test_the_estimate_is_near_what_a_step_was_measured_to_take() -> None:
    """1,560 MB at the peak of a step of ResNet-50, of which clips are random numbers."""
    assert 1.2 * 2**30 < worker_bytes(experiment(), "cpu") < 2.2 * 2**30


def test_the_estimate_grows_with_batches_frames_and_pixels_and_not_with_clips() -> None:
    usual = worker_bytes(experiment(), "cpu")
    for changes in ({"schedule__batch_size": 16}, {"data__num_frames": 16}, {"data__size": 96}):
        assert worker_bytes(experiment(**changes), "cpu") > 1.3 * usual
    assert worker_bytes(experiment(data__num_train=10**6), "cpu") == usual
    assert worker_bytes(experiment(schedule__batch_size=64, schedule__norm_batch=8), "cpu") == usual
    assert worker_bytes(experiment(schedule__batch_size=64), "cuda") < worker_bytes(
        experiment(schedule__batch_size=64), "cpu"
    )


def test_clips_that_may_be_kept_or_are_read_ahead_count() -> None:
    data = Folder(root="/clips", fingerprint="ab12", num_classes=2, num_frames=8, size=64)
    synthetic = worker_bytes(experiment(), "cpu")
    listed = worker_bytes(experiment(data=data.but(layout="ssv2", num_listed=(100, 100))), "cpu")
    assert synthetic < listed < worker_bytes(experiment(data=data), "cpu")
    assert worker_bytes(experiment(data=data), "cuda") > memory.total_bytes() / 8
