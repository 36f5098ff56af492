"""How long a worker may be silent, whoever watches and whatever the clocks do; and what a late one may still do."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from fake_cells import ROWS, FakeRun, row, worker
from hypothesis import given
from hypothesis import strategies as st

from tadaconv.errors import StorageError
from tadaconv.execution.backend import Attempt
from tadaconv.execution.lease import Lease, LeaseKeeper, Reaper
from tadaconv.execution.planner import plan
from tadaconv.execution.store import MAX_DEATHS, Store
from tadaconv.result import Progress

SECONDS = 60.0
ELSEWHERE = Lease("w9", "far", "another machine", 1, "1", "cpu")


def claimed(store: Store, label: str = "TSN") -> Attempt:
    """An attempt at a cell that has just been taken."""
    plan(store, "t-quick", [row(label)], [0])
    waiting = next(a for found in store.attempts().values() for a in found if a.status == "waiting")
    attempt = store.claim(waiting.trial_id)
    assert attempt is not None
    return attempt


class Watched:
    """A reaper whose clock is told, of one attempt whose lease is written by hand."""

    def __init__(self, store: Store, lease: Lease | None = ELSEWHERE, seconds: float = SECONDS) -> None:
        self.store, self.lease, self.now = store, lease, 0.0
        self.attempt = claimed(store)
        self.reaper = Reaper(store, seconds, clock=lambda: self.now)
        if lease is not None:
            self.renew()

    def renew(self, **changes: int) -> None:
        assert self.lease is not None
        self.lease = replace(self.lease, beat=self.lease.beat + 1, **changes)
        assert self.store.renew(self.attempt, asdict(self.lease))

    def look(self, after: float) -> list[str]:
        self.now += after
        return self.reaper.observe()

    def expire(self) -> list[str]:
        """Look until the attempt is taken back."""
        for _ in range(100):
            if lines := self.look(after=SECONDS / 8):
                return lines
        raise AssertionError("it never expires")


class FakeStore:
    """What a reaper needs of a store, in memory: one attempt that is being run."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt, self.taken = attempt, 0
        self.backend = self

    def running(self) -> list[Attempt]:
        return [self.attempt]

    def renew(self, beat: int) -> None:
        lease = asdict(replace(ELSEWHERE, beat=beat))
        self.attempt = replace(self.attempt, attrs={**self.attempt.attrs, "lease": lease})

    def reap(self, _: Attempt, __: str) -> str:
        self.taken += 1
        return "taken"


@pytest.fixture(scope="module")
def attempt(tmp_path_factory: pytest.TempPathFactory) -> Attempt:
    return claimed(Store.open(str(tmp_path_factory.mktemp("lease") / "journal.log")))


@given(st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), max_size=200))
def test_a_lease_expires_when_it_is_unchanged_for_its_length_of_observed_time(
    attempt: Attempt, looks: list[tuple[float, bool]]
) -> None:
    """Gaps between looks of any length, with a renewal before the look or none.

    The oracle adds up the watched time since the value was first seen, of which a look brings a quarter of the length
    at most: whoever slept, or was stopped, or whose clock leapt, learns little from the gap.
    """
    store = FakeStore(attempt)
    now, beat, still = 0.0, 0, 0.0
    reaper = Reaper(store, SECONDS, clock=lambda: now)  # type: ignore[arg-type]
    seen = -1
    for gap, renews in looks:
        now += gap
        if renews:
            beat += 1
            store.renew(beat)
        before = store.taken
        reaper.observe()
        still = 0.0 if beat != seen else still + min(gap, SECONDS / 4)
        seen = beat
        assert (store.taken > before) == (still >= SECONDS)


@given(st.lists(st.floats(0.1, 1e6), min_size=9, max_size=60), st.integers(2, 4))
def test_a_worker_that_renews_in_time_never_counts_as_dead(attempt: Attempt, gaps: list[float], every: int) -> None:
    store, now = FakeStore(attempt), 0.0
    reaper = Reaper(store, SECONDS, clock=lambda: now)  # type: ignore[arg-type]
    for look, gap in enumerate(gaps):
        now += gap
        if look % every == 0:  # up to four looks later, so after less than four quarters of watched time
            store.renew(look)
        reaper.observe()
    assert store.taken == 0


def test_an_attempt_with_an_expired_lease_is_requeued_once(store: Store) -> None:
    watched = Watched(store)
    (line,) = watched.expire()
    assert line == "TSN, seed 0: worker w9 on far did not renew its lease for 60 s; the cell was requeued"
    assert SECONDS <= watched.now <= SECONDS + 2 * SECONDS / 8
    assert [a.status for a in store.attempts()[watched.attempt.key]] == ["dropped", "waiting"]
    assert watched.look(after=SECONDS) == []


def test_a_lease_that_moves_again_counts_from_there(store: Store) -> None:
    watched = Watched(store)
    for _ in range(20):
        for _ in range(4):
            assert watched.look(after=SECONDS / 5) == []
        watched.renew()
    assert [a.status for a in store.attempts()[watched.attempt.key]] == ["running"]


def test_an_attempt_with_a_lease_renewed_at_the_last_moment_is_not_requeued(store: Store) -> None:
    watched = Watched(store)
    stale = store.backend.running()[0]
    watched.renew()
    assert store.reap(stale, "it was still when I looked") is None
    assert [a.status for a in store.attempts()[stale.key]] == ["running"]


def test_a_cell_claimed_by_a_silent_worker_is_requeued(store: Store) -> None:
    watched = Watched(store, lease=None)
    (line,) = watched.expire()
    assert "a worker claimed the cell and did not renew its lease for 60 s" in line
    assert [a.status for a in store.attempts()[watched.attempt.key]] == ["dropped", "waiting"]


def test_a_lease_of_another_version_is_watched_like_none(store: Store) -> None:
    watched = Watched(store, lease=None)
    store.renew(watched.attempt, {"heartbeat": "2026-01-01"})
    assert "did not renew its lease" in watched.expire()[0]


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])


def lease_of(pid: int) -> Lease:
    from tadaconv.execution.lease import _born

    return replace(Lease.of_this_process("w0", "cpu"), pid=pid, born=_born(pid))


def test_a_dead_process_is_gone_even_as_a_zombie() -> None:
    process = sleeper()
    lease = lease_of(process.pid)
    assert not lease.process_is_gone
    process.kill()
    deadline = time.monotonic() + 10
    while not lease.process_is_gone:  # a zombie: nobody has waited for it
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    process.wait()
    assert lease.process_is_gone


def test_a_stopped_process_is_not_gone() -> None:
    process = sleeper()
    lease = lease_of(process.pid)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.05)
    assert not lease.process_is_gone
    process.kill()
    process.wait()


def test_another_process_of_the_same_number_is_not_the_worker() -> None:
    own = Lease.of_this_process("w0", "cpu")
    assert not own.process_is_gone
    assert replace(own, born=str(int(own.born) - 1)).process_is_gone


@pytest.mark.parametrize("machine", ["another boot/pid:[1]", ""])
def test_a_process_elsewhere_is_not_known_to_be_gone(machine: str) -> None:
    assert not replace(Lease.of_this_process("w0", "cpu"), machine=machine, pid=2**22 + 1).process_is_gone


def test_a_worker_that_died_on_this_machine_is_known_at_once(store: Store) -> None:
    process = sleeper()
    lease = lease_of(process.pid)
    process.kill()
    process.wait()
    watched = Watched(store, lease)
    (line,) = watched.look(after=0.0)
    assert f"worker w0 (process {process.pid} on {lease.host}) died" in line


def test_of_two_observers_of_a_death_one_requeues_the_cell_and_reports_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second does all of it in the middle of the first one's: when the first is about to end the attempt."""
    process = sleeper()
    lease = lease_of(process.pid)
    process.kill()
    process.wait()
    Watched(store, lease)
    end = store.backend.storage.set_trial_state_values
    lines: list[str] = []

    def end_after_another(*args: Any) -> bool:
        monkeypatch.undo()
        lines.extend(Reaper(Store.open(store.shown)).observe())
        return end(*args)

    monkeypatch.setattr(store.backend.storage, "set_trial_state_values", end_after_another)
    lines += Reaper(store).observe()
    (attempts,) = store.attempts().values()
    assert [a.status for a in attempts] == ["dropped", "waiting"]
    assert attempts[-1].attrs["deaths"] == 1
    assert len(lines) == 1


def die_again(store: Store, step: int) -> str:
    """Take the cell, come to ``step``, die, and be found dead."""
    (attempts,) = store.attempts().values()
    attempt = store.claim(attempts[-1].trial_id)
    assert attempt is not None
    store.renew(attempt, asdict(replace(ELSEWHERE, step=step)))
    line = store.reap(store.backend.attempt(attempt.trial_id), "it died")
    assert line is not None
    return line


def test_a_cell_that_kills_its_workers_is_given_up(store: Store) -> None:
    plan(store, "t-quick", ROWS[:1], [0])
    for _ in range(MAX_DEATHS - 1):
        assert "was requeued" in die_again(store, step=0)
    assert "recorded as failed" in die_again(store, step=0)
    (record,) = store.records("t-quick")
    assert (record.status, record.error) == ("failed", f"{MAX_DEATHS} workers in a row died while running this cell; "
                                                       "the last one: it died")  # fmt: skip


def test_a_cell_that_comes_further_each_time_may_cost_any_number_of_workers(store: Store) -> None:
    plan(store, "t-quick", ROWS[:1], [0])
    for step in range(1, 3 * MAX_DEATHS):
        assert "was requeued" in die_again(store, step)
    for _ in range(MAX_DEATHS - 2):
        assert "was requeued" in die_again(store, step=5)  # no further than before
    assert "recorded as failed" in die_again(store, step=5)


def test_a_keeper_renews_only_the_attempt_it_holds(store: Store) -> None:
    attempt = claimed(store)

    def beat() -> int:
        return int(store.backend.attempt(attempt.trial_id).attrs["lease"]["beat"])

    with LeaseKeeper(store, Lease.of_this_process("w0", "cpu"), seconds=0.2) as keeper:
        with keeper.held(attempt):
            first = beat()
            keeper.progress(Progress(step=3, num_steps=9, train_loss=1.0, curve=[]))
            deadline = time.monotonic() + 10
            while beat() < first + 3:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            lease = store.backend.attempt(attempt.trial_id).attrs["lease"]
            assert (lease["worker"], lease["pid"], lease["step"], lease["num_steps"]) == ("w0", os.getpid(), 3, 9)
        last = beat()
        time.sleep(0.3)
        assert beat() == last
        assert not keeper.lost.is_set()


def test_a_keeper_is_lost_after_its_attempt_was_requeued_until_the_next_one(store: Store) -> None:
    attempt = claimed(store)
    with LeaseKeeper(store, Lease.of_this_process("w0", "cpu"), seconds=0.2) as keeper:
        with keeper.held(attempt):
            assert not keeper.lost.is_set()
            store.requeue(store.backend.attempt(attempt.trial_id), "taken")
            assert keeper.lost.wait(10)
        again = store.claim(store.attempts()[attempt.key][-1].trial_id)
        assert again is not None
        with keeper.held(again):
            assert not keeper.lost.is_set()


def test_a_storage_that_is_full_for_a_while_ends_no_run(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = claimed(store)
    with LeaseKeeper(store, Lease.of_this_process("w0", "cpu"), seconds=0.2) as keeper, keeper.held(attempt):
        full = threading.Event()

        def refuse(*_: object) -> bool:
            full.set()
            raise StorageError("no space left")

        with monkeypatch.context() as patch:
            patch.setattr(store, "renew", refuse)
            assert full.wait(10)
        before = store.backend.attempt(attempt.trial_id).attrs["lease"]["beat"]
        deadline = time.monotonic() + 10
        while store.backend.attempt(attempt.trial_id).attrs["lease"]["beat"] == before:
            assert time.monotonic() < deadline, "it goes on when it can"
            time.sleep(0.02)
    assert "the lease was not renewed: no space left" in caplog.text


def test_the_result_of_a_worker_that_was_suspended_too_long_is_discarded(
    store: Store, fake_run: FakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    """The first worker stands still in its third step until another has taken the cell over and finished it."""
    plan(store, "t-quick", ROWS[:1], [0])
    steps = 0

    def stop(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            taker = Store.open(store.shown)
            (late,) = taker.backend.running()
            assert taker.reap(late, "it was silent")
            assert [r.status for r in worker(taker, fake_run, name="w1").work()] == ["finished"]

    fake_run.stop = stop
    with caplog.at_level(logging.WARNING, "tadaconv"):
        assert worker(store, fake_run, name="w0").work() == []
    late_one, taken_over = store.attempts()[ROWS[0].key]
    assert (late_one.status, taken_over.status) == ("dropped", "finished")
    assert "result" not in late_one.attrs
    assert taken_over.attrs["lease"]["worker"] == "w1"
    (line,) = [r.getMessage() for r in caplog.records if "is discarded" in r.getMessage()]
    assert line.startswith("TSN, seed 0: worker w0 did not renew its lease for too long")


def test_a_worker_stopped_for_longer_than_its_lease_loses_its_cell_to_another(store: Store, tmp_path: Path) -> None:
    """A real process, stopped and continued by signals; whoever watches is on another machine, as far as he knows."""
    plan(store, "t-quick", ROWS[:1], [0])
    key = ROWS[0].key
    code = (
        "import logging, sys, time; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; from fake_cells import FakeRun, worker; from tadaconv.execution.store import Store\n"
        "logging.basicConfig(format='%(message)s', stream=sys.stdout)\n"
        "out = Path(sys.argv[1])\n"
        "def stop(_, step):\n"
        "    while step == 3 and not (out / 'go').exists(): time.sleep(0.01)\n"
        "worker(Store.open(str(out / 'journal.log')), FakeRun(out / 'log', stop), lease_seconds=1.0).work()\n"
    )
    paths = [str(Path(__file__).parents[n]) for n in (0, 2)]
    late = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), *paths], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while (key, 3) not in FakeRun(tmp_path / "log").steps():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    late.send_signal(signal.SIGSTOP)
    (attempt,) = store.backend.running()
    store.renew(attempt, {**attempt.attrs["lease"], "machine": "another"})
    (tmp_path / "go").touch()
    records = worker(store, FakeRun(tmp_path / "log"), name="w1", lease_seconds=1.0).work()
    assert [r.status for r in records] == ["finished"]
    late.send_signal(signal.SIGCONT)
    said, _ = late.communicate(timeout=60)
    assert late.returncode == 0
    assert said.count("worker w0 did not renew its lease for too long and the cell was requeued") == 1
    assert [a.status for a in store.attempts()[key]] == ["dropped", "finished"]
    assert store.records("t-quick")[0].result == records[0].result


def test_a_worker_waits_for_a_cell_of_a_silent_worker(store: Store, fake_run: FakeRun) -> None:
    claimed(store)
    (record,) = worker(store, fake_run, lease_seconds=0.5).work()
    assert record.status == "finished"


def test_a_hidden_process_of_another_user_is_not_known_to_be_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mounted with ``hidepid``, /proc does not show it; a signal is refused, which tells that it is there."""
    hidden = replace(Lease.of_this_process("w0", "cpu"), pid=2**22 + 1, born="1")
    assert hidden.process_is_gone

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refused)
    assert not hidden.process_is_gone
