"""Merging, held against the union of what the storages hold, whatever ended where and in whichever order."""

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import postgres_server
import pytest
from fake_cells import ROWS, result, row
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from tadaconv import cli
from tadaconv.errors import RunError, UserError
from tadaconv.execution import journal
from tadaconv.execution.cells import Cell
from tadaconv.execution.merge import merge
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store

STUDY = "t-quick"
FINISH, FAIL, REQUEUE, LEAVE, RUN = "finish", "fail", "requeue", "leave waiting", "leave running"
PROTOCOL = {"study": "s-quick", "pruner": {"name": "none", "options": {}}}


@pytest.fixture
def new(tmp_path: Path) -> Callable[[str], Store]:
    return lambda name: Store.open(str(tmp_path / f"{name}.log"))


def put(store: Store, cell: Cell, act: str, top1: float = 50.0) -> None:
    trial_id = store.add(STUDY, cell)
    if act == LEAVE:
        return
    attempt = store.claim(trial_id)
    assert attempt is not None
    if act == FINISH:
        assert store.finish(attempt, result(top1))
    elif act == FAIL:
        store.fail(attempt, "it broke", "Traceback ...", "cpu", 3, retry=False)
    elif act == REQUEUE:
        store.requeue(attempt, "stopped")


def ended(store: Store) -> Counter[tuple[str, str, str]]:
    """Every result, failure and pruning by study, cell and what it says."""
    return Counter(
        (
            store.name_of(attempt.study_id),
            key,
            str(attempt.attrs["result"]["top1"] if attempt.status == "finished" else attempt.status),
        )
        for key, attempts in store.attempts().items()
        for attempt in attempts
        if attempt.status in ("finished", "failed", "pruned")
    )


def bytes_of(store: Store) -> bytes:
    return Path(store.shown).read_bytes()


CELLS = [Cell(cell.label, cell.experiment.but(seed=seed)) for cell in ROWS for seed in (0, 1)]
ACTS = st.dictionaries(st.sampled_from(range(len(CELLS))), st.sampled_from([FINISH, FAIL, REQUEUE, LEAVE, RUN]))


@settings(max_examples=25)
@given(storages=st.lists(ACTS, min_size=3, max_size=3))
def test_merging_gives_the_union_in_any_order_and_is_idempotent(
    tmp_path_factory: pytest.TempPathFactory, storages: list[dict[int, str]]
) -> None:
    folder = tmp_path_factory.mktemp("union")
    stores = [Store.open(str(folder / f"{number}.log")) for number in range(3)]
    for store, acts in zip(stores, storages, strict=True):
        for index, act in acts.items():
            put(store, CELLS[index], act)
    finished = {CELLS[index].key for acts in storages for index, act in acts.items() if act == FINISH}
    num_failed = sum(act == FAIL for acts in storages for act in acts.values())
    before = [bytes_of(store) for store in stores]
    for order in permutations(range(3)):
        into = Store.open(str(folder / f"into{''.join(map(str, order))}.log"))
        merged = merge([stores[index] for index in order], into)
        found = ended(into)
        assert {key: n for (_, key, what), n in found.items() if what == "50.0"} == dict.fromkeys(finished, 1)
        assert sum(n for (_, _, what), n in found.items() if what == "failed") == num_failed
        assert sum(each.num_results for each in merged) == len(finished)
        assert not any(attempts[-1].status in ("waiting", "running") for attempts in into.attempts().values())
        after = bytes_of(into)
        again = merge([stores[index] for index in order], into)
        assert bytes_of(into) == after
        assert all(each.num_results == each.num_ended == 0 for each in again)
    assert [bytes_of(store) for store in stores] == before


def test_attempts_keep_all_that_is_known_of_them(new: Callable[[str], Store]) -> None:
    a, into = new("a"), new("into")
    put(a, ROWS[0], FINISH, 61.4)
    put(a, ROWS[1], FAIL)
    merge([a], into)
    for cell in ROWS[:2]:
        (theirs,), (ours,) = a.attempts([cell.key])[cell.key], into.attempts([cell.key])[cell.key]
        assert ours.attrs == theirs.attrs
        for name in ("state", "value", "started", "ended", "params"):
            assert getattr(ours, name) == getattr(theirs, name), name


def test_plans_are_merged_and_the_next_call_runs_the_missing_cells(new: Callable[[str], Store]) -> None:
    a, b, into = new("a"), new("b"), new("into")
    plan(a, STUDY, ROWS[:2], [0, 1])
    plan(b, STUDY, ROWS[1:], [2])
    plan(b, "other-quick", ROWS[:1], [0])
    for store, key in ((a, ROWS[0].key), (b, ROWS[0].key)):
        (attempt,) = store.attempts([key])[key]
        claimed = store.claim(attempt.trial_id)
        assert claimed is not None
        store.finish(claimed, result(50.0))
    first, second = merge([a, b], into)
    assert {label: sorted(row.seeds) for label, row in into.read_plan(STUDY).items()} == {
        "TSN": [0, 1], "linear 1": [0, 1, 2], "(1,1)": [2]
    }  # fmt: skip
    assert (first.num_results, first.num_open, second.num_results, second.num_known) == (1, 3, 0, 1)
    assert [record.status for record in into.records("other-quick")] == ["finished"]
    planned = plan(into, STUDY, ROWS, [0, 1, 2])
    assert (planned.num_finished, len(planned.to_run)) == (1, 8)


def test_a_table_keeps_the_direction_of_its_metric(new: Callable[[str], Store]) -> None:
    a, into = new("a"), new("into")
    put(a, ROWS[0], FINISH)
    a.make_study("errors-quick", higher_is_better=False)
    merge([a], into)
    storage, studies = into.backend.storage, into.backend.studies()
    directions = {name: storage.get_study_directions(study_id) for name, study_id in studies.items()}
    assert directions == {STUDY: [StudyDirection.MAXIMIZE], "errors-quick": [StudyDirection.MINIMIZE]}


def test_studies_of_other_programs_are_left(new: Callable[[str], Store]) -> None:
    a, into = new("a"), new("into")
    put(a, ROWS[0], FINISH)
    a.backend.storage.create_new_study([StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE], "theirs")
    merge([a], into)
    assert into.studies() == [STUDY]


def test_a_row_planned_differently_is_noted(new: Callable[[str], Store]) -> None:
    a, into = new("a"), new("into")
    plan(a, STUDY, [row("TSN", lr=0.2)], [0])
    plan(into, STUDY, [row("TSN")], [0])
    (found,) = merge([a], into)
    assert found.notes == [f"t-quick, row 'TSN': another experiment in {a.shown}; the plan of {into.shown} is kept"]
    assert into.read_plan(STUDY)["TSN"].seeds == {0: row("TSN").key}


def test_two_different_results_of_a_cell_are_noted(new: Callable[[str], Store]) -> None:
    a, into = new("a"), new("into")
    for store, tops in ((a, (60.25, 50.0)), (into, (61.375, 50.0))):
        for cell, top1 in zip(ROWS, tops, strict=False):
            put(store, cell, FINISH, top1)
    (found,) = merge([a], into)
    assert found.notes == [
        f"TSN, seed 0 (cell {ROWS[0].key}): top-1 60.25 % in {a.shown}, 61.38 % in {into.shown}, which is kept"
    ]
    assert (found.num_results, found.num_known) == (0, 2)
    assert str(found) == f"{a.shown}: 0 results and 0 failed or pruned attempts copied, 2 known already"
    assert ended(into)[(STUDY, ROWS[0].key, "61.375")] == 1


def test_waiting_attempts_are_withdrawn_and_running_ones_stay(new: Callable[[str], Store]) -> None:
    a, into = new("a"), new("into")
    for cell in ROWS[:2]:
        put(a, cell, FINISH)
    put(into, ROWS[0], LEAVE)
    put(into, ROWS[1], RUN)
    (waiting,) = into.attempts([ROWS[0].key])[ROWS[0].key]
    (found,) = merge([a], into)
    assert (found.num_results, found.num_busy) == (1, 1)
    assert "1 result left out, as the cells are being run" in str(found)
    assert into.claim(waiting.trial_id) is None
    assert [record.status for record in into.records_of(ROWS[:2])] == ["finished", "running"]


def test_a_worker_that_is_faster_keeps_its_cell(new: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    a, into, worker = new("a"), new("into"), new("into")
    put(a, ROWS[0], FINISH)
    put(into, ROWS[0], LEAVE)
    withdraw = Store.withdraw

    def late(store: Store, attempt: Any, why: str) -> None:
        assert worker.claim(attempt.trial_id) is not None
        withdraw(store, attempt, why)

    monkeypatch.setattr(Store, "withdraw", late)
    (found,) = merge([a], into)
    assert (found.num_results, found.num_busy) == (0, 1)
    (attempt,) = worker.attempts()[ROWS[0].key]
    assert worker.finish(attempt, result(50.0))
    assert list(ended(into).values()) == [1]


def test_a_storage_is_not_merged_into_itself(new: Callable[[str], Store], tmp_path: Path) -> None:
    a = new("a")
    (tmp_path / "link.log").symlink_to(a.shown)
    for other in (a, Store.open(str(tmp_path / "link.log"))):
        with pytest.raises(UserError, match="cannot be merged into itself"):
            merge([other], a)


def test_a_full_disk_is_one_line(new: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    a, into = new("a"), new("into")
    put(a, ROWS[0], FINISH)
    into.make_study(STUDY)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal._File, "append_logs", full)
    with pytest.raises(RunError, match=r"cannot write to the storage .*into\.log: No space left on device"):
        merge([a], into)


def search(store: Store, number: int, cell: Cell, params: Mapping[str, Any], choices: Any, **more: Any) -> None:
    store.set_study_attr("s-quick", "protocol", PROTOCOL)
    distributions = {"kernel": CategoricalDistribution(choices), "share": FloatDistribution(0, 1)}
    attrs = {"trial": number, **({"result": more.pop("of").model_dump(mode="json")} if "of" in more else {})}
    store.add(
        "s-quick", Cell(f"trial {number}", cell.experiment), more.pop("state", TrialState.COMPLETE),
        params=params, distributions=distributions, attrs={**attrs, **more.pop("attrs", {})}, **more,
    )  # fmt: skip


def rows_of(store: Store) -> list[tuple[str, int, str, str, dict[str, Any], float | None]]:
    return [
        (store.name_of(row.study_id), row.attrs["trial"], row.attrs["label"], row.key, dict(row.params), row.value)
        for row in store.backend.attempts()
        if "trial" in row.attrs
    ]


def test_searches_are_joined_by_configuration_and_split_by_space(new: Callable[[str], Store]) -> None:
    a, b, into = new("a"), new("b"), new("into")
    few, many = [1, 3], [1, 3, 5]
    first, second, third = ROWS
    search(a, 0, first, {"kernel": 1, "share": 0.5}, few, value=50.0, of=result(50.0))
    search(a, 1, second, {"kernel": 3, "share": 0.5}, few, state=TrialState.PRUNED, attrs={"pruned": "no hope"})
    search(b, 0, first, {"kernel": 1, "share": 0.5}, many, value=50.0, of=result(50.0))
    search(b, 1, third, {"kernel": 5, "share": 0.25}, many, value=70.0, of=result(70.0))
    for _ in range(2):
        merge([a, b], into)
        assert rows_of(into) == [
            ("s-quick", 0, "trial 0", first.key, {"kernel": 1, "share": 0.5}, 50.0),
            ("s-quick", 1, "trial 1", second.key, {"kernel": 3, "share": 0.5}, None),
            ("s-quick-space2", 2, "trial 2", third.key, {"kernel": 5, "share": 0.25}, 70.0),
        ]
    assert into.study_attrs("s-quick-space2")["protocol"] == PROTOCOL
    assert set(into.study_attrs("s-quick")["space"]) == {"kernel", "share"}


def test_a_search_is_given_the_result_that_a_table_has(new: Callable[[str], Store]) -> None:
    a, into = new("a"), new("into")
    search(a, 0, ROWS[0], {"kernel": 1, "share": 0.5}, [1, 3], value=60.0, of=result(60.0))
    put(into, ROWS[0], FINISH, 61.0)
    (found,) = merge([a], into)
    assert len(found.notes) == 1
    assert [(name, value) for name, _, _, _, _, value in rows_of(into)] == [("s-quick", 61.0)]
    assert ended(into) == {(STUDY, ROWS[0].key, "61.0"): 1}
    after = bytes_of(into)
    merge([a], into)
    assert bytes_of(into) == after


def test_a_table_and_a_search_of_one_name_are_kept_apart(new: Callable[[str], Store]) -> None:
    a, into = new("a"), new("into")
    search(a, 0, ROWS[0], {"kernel": 1, "share": 0.5}, [1, 3], value=60.0, of=result(60.0))
    plan(into, "s-quick", ROWS, [0])
    for one, other in ((a, into), (into, a)):
        with pytest.raises(UserError, match="s-quick is a table in one of"):
            merge([one], other)


@pytest.mark.parametrize("name", [STUDY, "s-quick"])
def test_the_origin_of_files_comes_along_and_two_files_of_one_name_are_kept_apart(
    new: Callable[[str], Store], tmp_path: Path, name: str
) -> None:
    a, into = new("a"), new("into")
    attr = "table" if name == STUDY else "study"
    for store, folder in ((a, "here"), (into, "there")):
        put(store, ROWS[0], FINISH)
        search(store, 0, ROWS[0], {"kernel": 1, "share": 0.5}, [1, 3], value=50.0, of=result(50.0))
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text("the same")
        store.set_study_attr(name, attr, str(tmp_path / folder / "mine.py"))
    merge([a], new("empty"))
    assert new("empty").study_attrs(name)[attr] == str(tmp_path / "here" / "mine.py")

    merge([a], into)
    (tmp_path / "there" / "mine.py").write_text("another")
    before = bytes_of(into)
    with pytest.raises(
        UserError, match=f"^{name} in .*a.log holds the results of a different {attr} than in .*into.log; "
    ):
        merge([a], into)
    assert bytes_of(into) == before


@pytest.mark.skipif(postgres_server.found() is not None, reason=str(postgres_server.found()))
def test_from_a_journal_to_postgresql_and_back(new: Callable[[str], Store]) -> None:
    a, back = new("a"), new("back")
    for cell, act in zip(ROWS, (FINISH, FAIL, LEAVE), strict=True):
        put(a, cell, act)
    search(a, 0, CELLS[1], {"kernel": 1, "share": 0.5}, [1, 3], value=60.0, of=result(60.0))
    with postgres_server.Server() as server:
        there = Store.open(server.url(server.new_database()))
        for _ in range(2):
            (found,) = merge([a], there)
        assert (found.num_results, found.num_ended, found.num_known) == (0, 0, 3)
        assert postgres_server.PASSWORD not in str(found)
        (home,) = merge([there], back)
        (again,) = merge([there], a)
        there.backend.storage.remove_session()
        del there
    assert (home.num_results, home.num_ended) == (2, 1)
    assert (again.num_results, again.num_ended, again.num_known) == (0, 0, 3)
    assert ended(back) == ended(a)
    assert rows_of(back) == rows_of(a)


def test_the_command_merges_and_reports(
    new: Callable[[str], Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, into = new("a"), new("into")
    put(a, ROWS[0], FINISH, 60.0)
    put(into, ROWS[0], FINISH, 61.0)
    with pytest.raises(SystemExit) as done:
        cli.main(["merge", a.shown, "--storage", into.shown])
    assert done.value.code == 0
    assert capsys.readouterr().out.splitlines() == [
        f"TSN, seed 0 (cell {ROWS[0].key}): top-1 60.00 % in {a.shown}, 61.00 % in {into.shown}, which is kept",
        f"{a.shown}: 0 results and 0 failed or pruned attempts copied, 1 known already",
    ]
    with pytest.raises(SystemExit) as done:
        cli.main(["merge", str(tmp_path / "none.log"), "--storage", str(tmp_path / "never_made.log")])
    assert done.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "never_made.log").exists()
