"""Several processes that train one network, against one process that does it all; and what becomes of them."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import rank_programs
import torch
from torch import Tensor

from tadaconv import child
from tadaconv.errors import RunError, UserError
from tadaconv.result import Progress
from tadaconv.training.rank_processes import run_on_ranks
from tadaconv.training.ranks import Ranks


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> Generator[list["subprocess.Popen[bytes]"]]:
    """The processes that are started; none is left when the test is over."""
    started = []
    start = child.start

    def noted(*arguments: Any) -> "subprocess.Popen[bytes]":
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(child, "start", noted)
    yield started
    assert all(process.poll() is not None for process in started)


def require_same(ours: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    assert ours.keys() == others.keys()
    for name, value in ours.items():
        torch.testing.assert_close(
            value, others[name], rtol=1e-12, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("size", [2, 4])
def test_steps_of_ranks_are_those_of_one_process(size: int) -> None:
    """Of 2 ranks one has two of three micro-batches, and of 4 one has none; without ``norm_batch`` all but one."""
    reached = run_on_ranks("rank_programs:train_all", (rank_programs.SCHEDULES, None), ["cpu"] * size)
    for schedule, ours in zip(rank_programs.SCHEDULES, reached, strict=True):
        require_same(ours, rank_programs.train(schedule))


class _StoppedError(Exception):
    pass


def stop_at(step: int) -> Any:
    def report(progress: Progress) -> None:
        if progress.step >= step:
            raise _StoppedError

    return report


def test_what_was_begun_by_ranks_goes_on_by_one_process_and_the_reverse(tmp_path: Path) -> None:
    schedule = rank_programs.SGD
    undisturbed = rank_programs.train(schedule)
    by_ranks, by_one = tmp_path / "ranks.pt", tmp_path / "one.pt"
    with pytest.raises(_StoppedError):
        run_on_ranks("rank_programs:train_all", ([schedule], by_ranks), ["cpu"] * 2, stop_at(3))
    assert 3 <= torch.load(by_ranks)["state"]["step"] < 6
    require_same(rank_programs.train(schedule, checkpoint=by_ranks), undisturbed)
    with pytest.raises(_StoppedError):
        rank_programs.train(schedule, checkpoint=by_one, report=stop_at(3))
    assert torch.load(by_one)["state"]["step"] == 3
    (ours,) = run_on_ranks("rank_programs:train_all", ([schedule], by_one), ["cpu"] * 2)
    require_same(ours, undisturbed)


@pytest.mark.parametrize("size", [2, 3])
def test_an_evaluation_by_ranks_is_that_of_one_process(size: int) -> None:
    """Nothing is counted twice where seven clips cannot be shared alike; bit for bit, as the batches are the same."""
    ours, others = run_on_ranks("rank_programs:evaluate_all", None, ["cpu"] * size), rank_programs.evaluations()
    assert ours == others
    for mine, other in zip(ours, others, strict=True):
        assert torch.equal(mine.labels, other.labels)
        assert torch.equal(mine.probabilities, other.probabilities)
        heads = 1 if len(mine.per_head) == 0 else 2
        assert sum(number for _, _, number in mine.confusion) == 7 * heads


def test_sums_are_over_all_ranks_whatever_the_shapes_and_types() -> None:
    total = run_on_ranks("rank_programs:sums", None, ["cpu"] * 2)
    assert torch.equal(total[0], torch.full((2, 3), 3.0))
    assert torch.equal(total[1], torch.arange(6.0).view(2, 3).t())
    assert total[2].item() == 3
    assert total[2].dtype == torch.int64
    assert total[3].item() == 1.0
    assert torch.equal(total[4], torch.arange(16.0).view(1, 2, 2, 4) * 11)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("user", UserError, "^give another value$"),
        ("run", RunError, "^no more memory$"),
        ("other", RunError, "^rank 1 of 2, on cpu: UnknownElsewhereError: odd$"),
        ("killed", RunError, r"^rank 1 of 2, on cpu, died \(killed by signal 9, perhaps out of memory\)$"),
        ("exit", RunError, r"^rank 1 of 2, on cpu, died \(exit status 3\)$"),
    ],
)
def test_a_rank_that_fails_ends_all(
    how: str, error: type[Exception], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "tadaconv"), pytest.raises(error, match=f"(?m){message}") as caught:
        run_on_ranks("rank_programs:fail", how, ["cpu"] * 2)
    assert {"rank 0 is here", "rank 1 is here"} == {record.getMessage() for record in caplog.records}
    if how in ("user", "run", "other"):
        assert "rank_programs.py" in "".join(caught.value.__notes__)


def test_a_rank_leaves_a_signal_to_stop_to_whoever_started_it() -> None:
    assert run_on_ranks("rank_programs:fail", "told to stop", ["cpu"] * 2) == "done"


def test_ranks_that_find_different_checkpoints_train_nothing(tmp_path: Path) -> None:
    first, third = tmp_path / "1.pt", tmp_path / "3.pt"
    for step, checkpoint in ((1, first), (3, third)):
        with pytest.raises(_StoppedError):
            rank_programs.train(rank_programs.SGD, checkpoint=checkpoint, report=stop_at(step + 1))
    with pytest.raises(RunError, match="changed while it was read; another process writes it"):
        run_on_ranks("rank_programs:train_on_from_own", [first, third], ["cpu"] * 2)


def test_ranks_end_with_whoever_started_them(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom tadaconv import child\nfrom tadaconv.training.rank_processes import run_on_ranks\n"
        "start = child.start\n"
        "def noted(*arguments):\n"
        "    process = start(*arguments)\n"
        "    print(process.pid, flush=True)\n"
        "    return process\n"
        "child.start = noted\n"
        "run_on_ranks('time:sleep', 600, ['cpu'] * 2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as parent:
        assert parent.stdout is not None
        numbers = [int(parent.stdout.readline()) for _ in range(2)]
        parent.kill()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{number}").exists() for number in numbers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_each_part_is_of_one_rank() -> None:
    for size in range(1, 6):
        shares = [Ranks(rank, size).own(range(11)) for rank in range(size)]
        assert sorted(part for share in shares for part in share) == list(range(11))
