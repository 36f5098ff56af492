"""Which cells run, and what a report shows, over calls with other rows, seeds and tables."""

from pathlib import Path
from tempfile import TemporaryDirectory

from fake_cells import ROWS, FakeRun, ablate, row
from hypothesis import given, settings
from hypothesis import strategies as st

from tadaconv.execution.cells import Cell
from tadaconv.execution.store import Store


def shown(store: Store, study: str) -> dict[tuple[str, int], str]:
    return {(r.cell.label, r.cell.experiment.seed): r.status for r in store.records(study)}


def test_every_cell_runs_once_and_a_second_call_runs_none(store: Store, fake_run: FakeRun) -> None:
    planned, records = ablate(store, "t-quick", fake_run, seeds=range(2))
    assert str(planned) == "6 cells: 0 finished before, 6 to run"
    assert [r.status for r in records] == ["finished"] * 6
    again, none = ablate(Store.open(store.shown), "t-quick", fake_run, seeds=range(2))
    assert (again.to_run, again.num_finished, none) == ((), 6, [])
    assert len(fake_run.keys()) == len(set(fake_run.keys())) == 6


def test_cells_run_seed_by_seed_in_the_order_of_the_rows(store: Store, fake_run: FakeRun) -> None:
    ablate(store, "t-quick", fake_run, seeds=range(2))
    assert fake_run.keys() == [r.experiment.but(seed=seed).key for seed in range(2) for r in ROWS]


def test_more_seeds_run_only_the_new_cells_and_fewer_take_none_away(store: Store, fake_run: FakeRun) -> None:
    ablate(store, "t-quick", fake_run)
    planned, _ = ablate(store, "t-quick", fake_run, seeds=range(3))
    assert (planned.num_finished, planned.num_new) == (3, 6)
    ablate(store, "t-quick", fake_run, seeds=range(1))
    assert shown(store, "t-quick") == {(r.label, seed): "finished" for r in ROWS for seed in range(3)}
    assert len(fake_run.keys()) == 9


def test_a_changed_row_runs_alone(store: Store, fake_run: FakeRun) -> None:
    ablate(store, "t-quick", fake_run)
    changed = [ROWS[0], row("linear 1", 3), ROWS[2]]
    planned, records = ablate(store, "t-quick", fake_run, rows=changed)
    assert [r.cell for r in records] == [changed[1]]
    assert (planned.num_finished, planned.num_new) == (2, 1)
    assert [r.cell for r in store.records("t-quick")] == changed


def test_a_row_renamed_keeps_its_result(store: Store, fake_run: FakeRun) -> None:
    ablate(store, "t-quick", fake_run)
    _, records = ablate(store, "t-quick", fake_run, rows=[Cell("plain", ROWS[0].experiment), *ROWS[1:]])
    assert records == []
    assert shown(store, "t-quick")[("plain", 0)] == "finished"


def test_chosen_rows_keep_the_others_in_the_report_unless_they_changed(store: Store, fake_run: FakeRun) -> None:
    ablate(store, "t-quick", fake_run, chosen=["TSN"])
    assert shown(store, "t-quick") == {("TSN", 0): "finished"}
    ablate(store, "t-quick", fake_run, chosen=["(1,1)"], seeds=range(2))
    assert list(shown(store, "t-quick")) == [("TSN", 0), ("(1,1)", 0), ("(1,1)", 1)]
    ablate(store, "t-quick", fake_run, rows=[row("TSN", lr=0.2), *ROWS[1:]], chosen=["linear 1"])
    assert list(shown(store, "t-quick")) == [("linear 1", 0), ("(1,1)", 0), ("(1,1)", 1)]


def test_one_experiment_in_two_tables_or_twice_in_one_runs_once(store: Store, fake_run: FakeRun) -> None:
    twins = [*ROWS, Cell("also TSN", ROWS[0].experiment)]
    planned, _ = ablate(store, "t-quick", fake_run, rows=twins)
    assert len(planned.to_run) == 3
    assert shown(store, "t-quick") == {(r.label, 0): "finished" for r in twins}
    planned, records = ablate(store, "other-quick", fake_run, rows=[Cell("mine", ROWS[1].experiment), row("new", 3, 3)])
    assert [r.cell.label for r in records] == ["new"]
    assert planned.num_finished == 1
    assert shown(store, "other-quick") == {("mine", 0): "finished", ("new", 0): "finished"}


def test_a_cell_another_table_has_queued_is_run_from_its_queue(store: Store, fake_run: FakeRun) -> None:
    from tadaconv.execution.planner import plan

    plan(store, "t-quick", ROWS, [0])
    planned, records = ablate(store, "other-quick", fake_run, rows=[Cell("mine", ROWS[1].experiment)])
    assert planned.num_resumed == 1
    assert [r.status for r in records] == ["finished"]
    assert [store.name_of(a.study_id) for a in store.attempts()[ROWS[1].key]] == ["t-quick"]


def test_cells_the_table_no_longer_has_leave_the_queue(store: Store, fake_run: FakeRun) -> None:
    from tadaconv.execution.planner import plan

    plan(store, "t-quick", ROWS, [0])
    plan(store, "other-quick", ROWS[2:], [0])
    plan(store, "t-quick", ROWS[:1], [0])
    states = {r.label: [a.status for a in store.attempts()[r.key]] for r in ROWS}
    assert states == {"TSN": ["waiting"], "linear 1": ["dropped"], "(1,1)": ["waiting"]}
    ablate(store, "t-quick", fake_run)  # back in the table: queued anew
    assert shown(store, "t-quick") == {(r.label, 0): "finished" for r in ROWS}


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["a-quick", "b-quick"]),
        st.lists(st.sampled_from(range(3)), min_size=1, unique=True),
        st.integers(1, 2),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=15, deadline=None)
@given(calls=CALLS)
def test_no_sequence_of_calls_runs_an_experiment_twice(calls: list[tuple[str, list[int], int, bool]]) -> None:
    with TemporaryDirectory() as folder:
        store, fake_run = Store.open(f"{folder}/journal.log"), FakeRun(Path(folder, "log"))
        wanted: set[str] = set()
        for study, chosen, num_seeds, only in calls:
            rows = ROWS if only else [ROWS[i] for i in chosen]
            labels = [ROWS[i].label for i in chosen] if only else None
            ablate(store, study, fake_run, rows=rows, seeds=range(num_seeds), chosen=labels)
            wanted |= {ROWS[i].experiment.but(seed=seed).key for i in chosen for seed in range(num_seeds)}
        assert sorted(fake_run.keys()) == sorted(wanted)
