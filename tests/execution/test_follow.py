"""What is told of cells that others run: each end once, whoever saw it first."""

import pytest
from fake_cells import ROWS, FakeRun, result, worker

from tadaconv.errors import RunError
from tadaconv.execution.backend import Attempt
from tadaconv.execution.cells import Cell
from tadaconv.execution.follow import Follower
from tadaconv.execution.journal import JournalBackend
from tadaconv.execution.lease import Lease
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.execution.worker import Event


class Watched:
    """A follower of a planned table, seen from another process than the one that works."""

    def __init__(self, store: Store, cells: list[Cell] = ROWS) -> None:
        plan(store, "t-quick", cells, [0])
        self.store = store
        self.events: list[Event] = []
        self.follower = Follower(Store.open(store.shown), "t-quick", cells, self.events.append)

    def told(self) -> list[tuple[str, str, str]]:
        """What a look tells."""
        before = len(self.events)
        self.follower.update()
        return [(event.kind, event.cell.label, event.worker) for event in self.events[before:]]

    def claim(self, cell: Cell = ROWS[0]) -> Attempt:
        attempt = self.store.claim(self.store.attempts([cell.key])[cell.key][-1].trial_id)
        assert attempt is not None
        return attempt


@pytest.fixture
def watched(store: Store) -> Watched:
    return Watched(store)


def lease(**changes: object) -> dict[str, object]:
    own = {"worker": "w7", "host": "far", "machine": "", "pid": 1, "born": "", "device": "cuda:1", "step": 2}
    return {**own, "num_steps": 4, "beat": 1, **changes}


def test_there_are_no_events_without_changes(watched: Watched) -> None:
    assert watched.told() == watched.told() == []
    assert watched.follower._open.keys() == {cell.key for cell in ROWS}


def test_cells_that_others_run_and_finish_are_reported_once(watched: Watched) -> None:
    attempt = watched.claim()
    assert watched.told() == [], "no lease yet"
    watched.store.renew(attempt, lease())
    assert watched.told() == [("progress", "TSN", "w7 on far")]
    (event,) = watched.events
    assert event.progress is not None
    assert (event.progress.step, event.progress.num_steps, event.device) == (2, 4, "cuda:1")
    watched.store.finish(attempt, result(61.0))
    assert watched.told() == [("finished", "TSN", "w7")]
    assert watched.told() == []
    assert [(r.status, r.result) for r in watched.follower.ended] == [("finished", result(61.0))]
    assert watched.follower._open.keys() == {cell.key for cell in ROWS[1:]}


def test_events_of_own_workers_are_not_reported_twice(watched: Watched) -> None:
    attempt = watched.claim()
    watched.follower.take(Event("started", ROWS[0], worker="w7"))
    watched.store.renew(attempt, lease())
    assert watched.told() == []
    watched.store.finish(attempt, result(61.0))
    watched.follower.take(Event("finished", ROWS[0], result=result(61.0), worker="w7"))
    assert watched.told() == []
    assert [event.kind for event in watched.events] == ["started", "finished"]
    assert len(watched.follower.ended) == 1


def test_a_workers_event_after_that_of_the_storage_is_dropped(watched: Watched) -> None:
    watched.store.finish(watched.claim(), result(61.0))
    assert [kind for kind, _, _ in watched.told()] == ["finished"]
    watched.follower.take(Event("finished", ROWS[0], result=result(61.0), worker="w7"))
    assert [event.kind for event in watched.events] == ["finished"]


def test_a_cell_that_fails_elsewhere_for_good_has_ended(watched: Watched, fake_run: FakeRun) -> None:
    def stop(*_: object) -> None:
        raise RunError("no luck")

    fake_run.stop = stop
    worker(watched.store, fake_run, ROWS[:1], name="w1").work()
    assert watched.told() == [("failed", "TSN", "w1")]
    assert [(r.status, r.error) for r in watched.follower.ended] == [("failed", "no luck")]


def test_a_requeued_cell_is_no_end_and_one_left_between_two_attempts_is_queued(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = watched.claim()
    with monkeypatch.context() as patch:
        patch.setattr(watched.store, "requeue_ended", lambda *_: None)  # its worker dies between the two
        watched.store.requeue(attempt, "stopped")
    assert [a.status for a in watched.store.attempts()[attempt.key]] == ["dropped"]
    assert watched.told() == []
    assert [a.status for a in watched.store.attempts()[attempt.key]] == ["dropped", "waiting"]


@pytest.mark.parametrize("ends", ["withdrawn", "pruned"])
def test_a_cell_that_another_call_took_off_the_queue_is_queued_again(watched: Watched, ends: str) -> None:
    if ends == "pruned":
        watched.store.prune(watched.claim(), {"pruned": "not worth it"})
    else:
        watched.store.withdraw(watched.store.attempts()[ROWS[0].key][0], "not wanted there")
    for _ in range(3):
        assert watched.told() == []
    assert [a.status for a in watched.store.attempts()[ROWS[0].key]][1:] == ["waiting"]
    watched.store.finish(watched.claim(), result(61.0))
    assert [kind for kind, _, _ in watched.told()] == ["finished"]


def test_cells_of_other_tables_are_ignored(watched: Watched) -> None:
    other = Cell("other", ROWS[0].experiment.but(schedule__lr=0.9))
    plan(watched.store, "other-quick", [other], [0])
    attempt = watched.claim(other)
    watched.store.renew(attempt, lease())
    assert watched.told() == []
    watched.store.finish(attempt, result(1.0))
    assert watched.told() == []
    assert watched.follower.is_pending


def test_when_all_have_ended_the_storage_is_left_alone(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    for cell in ROWS:
        watched.store.finish(watched.claim(cell), result(61.0))
    assert len(watched.told()) == len(ROWS)
    assert not watched.follower.is_pending
    monkeypatch.setattr(Lease, "read", pytest.fail)
    monkeypatch.setattr(JournalBackend, "running", pytest.fail)
    assert watched.told() == []
