"""Trained weights go where the results of their cells go, and nowhere else."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_cells import ROWS, result

from tadaconv import cli
from tadaconv.errors import RunError
from tadaconv.execution.cells import Cell, scores_file, weights_file
from tadaconv.execution.merge import merge
from tadaconv.execution.merged_weights import run_folder, take_files
from tadaconv.execution.store import Store

STUDY = "t-quick"


@pytest.fixture
def new(tmp_path: Path) -> Callable[[str], Store]:
    def make(name: str) -> Store:
        (tmp_path / name).mkdir()
        return Store.open(str(tmp_path / name / "journal.log"))

    return make


def folder(store: Store) -> Path:
    return Path(store.shown).parent


def train(store: Store, cell: Cell, weights: str | None, top1: float = 50.0) -> None:
    attempt = store.claim(store.add(STUDY, cell))
    assert attempt is not None
    if weights is not None:
        path = weights_file(folder(store), cell.key)
        path.parent.mkdir(exist_ok=True)
        path.write_text(weights)
    assert store.finish(attempt, result(top1))


def held(store: Store) -> dict[str, str]:
    """What each file of the run folder's weights holds, by cell key."""
    return {path.stem: path.read_text() for path in (folder(store) / "weights").glob("*")}


def test_weights_follow_the_results_that_are_kept(new: Callable[[str], Store]) -> None:
    a, b, into = new("a"), new("b"), new("into")
    train(a, ROWS[0], "one")
    train(a, ROWS[1], "two")
    train(b, ROWS[1], "other two", top1=60.0)
    train(b, ROWS[2], "three")
    found = merge([a, b], into)
    assert held(into) == {ROWS[0].key: "one", ROWS[1].key: "two", ROWS[2].key: "three"}
    assert [each.num_weights for each in found] == [2, 1]
    assert str(found[1]) == (
        f"{b.shown}: 1 result and 0 failed or pruned attempts copied, 1 known already; 1 file of trained weights copied"
    )
    assert [note.partition(":")[2] for note in found[1].notes] == [
        f" top-1 60.00 % in {b.shown}, 50.00 % in {into.shown}, which is kept"
    ]
    before = {path: path.stat().st_mtime_ns for path in (folder(into) / "weights").iterdir()}
    assert [each.num_weights for each in merge([b, a], into)] == [0, 0]
    assert {path: path.stat().st_mtime_ns for path in (folder(into) / "weights").iterdir()} == before
    assert held(b)[ROWS[1].key] == "other two"


def test_class_probabilities_follow_as_weights_do_and_none_is_written_over(new: Callable[[str], Store]) -> None:
    a, into = new("a"), new("into")
    for cell, scores in zip(ROWS[:3], ("one", "two", None), strict=True):
        train(a, cell, "weights")
        if scores is not None:
            scores_file(folder(a), cell.key).write_text(scores)
    (folder(into) / "weights").mkdir()
    scores_file(folder(into), ROWS[1].key).write_text("own")
    (found,) = merge([a], into)
    assert (found.num_weights, found.num_scores) == (3, 1)
    assert str(found).endswith("; 3 files of trained weights copied; 1 file of class probabilities copied")
    assert found.notes == [
        f"linear 1, seed 0 (cell {ROWS[1].key}): other class probabilities in {folder(a)} than in {folder(into)}, "
        "which are kept"
    ]
    assert [scores_file(folder(into), cell.key).read_text() for cell in ROWS[:2]] == ["one", "own"]
    assert not scores_file(folder(into), ROWS[2].key).exists()  # results of before they were kept have none
    (again,) = merge([a], into)
    assert (again.num_weights, again.num_scores) == (0, 0)


def test_another_training_with_the_same_accuracy_keeps_its_own(new: Callable[[str], Store]) -> None:
    a, into = new("a"), new("into")
    train(a, ROWS[0], "one")
    attempt = into.claim(into.add(STUDY, ROWS[0]))
    assert attempt is not None
    assert into.finish(attempt, result(50.0).model_copy(update={"seconds": 2.0}))
    (found,) = merge([a], into)
    assert (found.num_known, found.num_weights, found.notes) == (1, 0, [])
    assert held(into) == {}


def test_weights_that_came_later_are_taken_by_merging_again(new: Callable[[str], Store]) -> None:
    a, into = new("a"), new("into")
    for cell in (ROWS[0], ROWS[1]):
        train(a, cell, None)
    (found,) = merge([a], into)
    assert found.notes == [
        f"{a.shown}: 2 results without trained weights, which are not in {folder(a) / 'weights'}: "
        "TSN, seed 0; linear 1, seed 0"
    ]
    (folder(a) / "weights").mkdir()
    weights_file(folder(a), ROWS[1].key).write_text("two")
    (found,) = merge([a], into)
    assert (found.num_weights, found.notes, held(into)) == (1, [], {ROWS[1].key: "two"})


def test_many_that_lack_theirs_are_one_line(new: Callable[[str], Store]) -> None:
    a, into = new("a"), new("into")
    for seed in range(5):
        train(a, Cell("TSN", ROWS[0].experiment.but(seed=seed)), None)
    ((note,),) = [each.notes for each in merge([a], into)]
    assert note.endswith(": TSN, seed 0; TSN, seed 1; TSN, seed 2; and 2 more")


def test_existing_weights_are_not_overwritten(new: Callable[[str], Store]) -> None:
    a, into = new("a"), new("into")
    train(a, ROWS[0], "one")
    mine = weights_file(folder(into), ROWS[0].key)
    mine.parent.mkdir()
    mine.write_text("own")
    for _ in range(2):
        (found,) = merge([a], into)
        assert found.notes == [
            f"TSN, seed 0 (cell {ROWS[0].key}): other trained weights in {folder(a)} than in {folder(into)}, which are "
            "kept"
        ]
        assert held(into) == {ROWS[0].key: "own"}


def test_storages_of_one_folder_share_their_weights(tmp_path: Path) -> None:
    a, into = Store.open(str(tmp_path / "a.log")), Store.open(str(tmp_path / "into.log"))
    train(a, ROWS[0], "one")
    (found,) = merge([a], into)
    assert (found.num_results, found.num_weights, found.notes) == (1, 0, [])
    assert held(into) == {ROWS[0].key: "one"}


@pytest.mark.parametrize("fails", ["shutil.copyfileobj", "pathlib.Path.replace"])
def test_a_full_disk_leaves_results_and_no_half_file(
    fails: str, new: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, into = new("a"), new("into")
    train(a, ROWS[0], "one")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(fails, full)
        with pytest.raises(
            RunError, match=r"^the results are merged, but the trained weights of TSN, seed 0 .*: No space left"
        ):
            merge([a], into)
    assert held(into) == {}
    (found,) = merge([a], into)
    assert (found.num_known, found.num_weights, held(into)) == (1, 1, {ROWS[0].key: "one"})


@pytest.mark.parametrize("key", ["../../secret", "/etc/passwd", "", "a/b", "a\0b"])
def test_a_key_that_is_a_path_leads_nowhere(key: str, tmp_path: Path) -> None:
    (tmp_path / "secret.pt").write_text("secret")
    taken = take_files("trained weights", {key: "hostile"}, tmp_path / "a", tmp_path / "into")
    assert (taken.copied, taken.differing, taken.missing) == ([], [], [key])
    assert [path.name for path in tmp_path.iterdir()] == ["secret.pt"]


def test_a_servers_weights_lie_in_the_run_folder_that_is_named(
    new: Callable[[str], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, server, into = new("a"), new("server"), new("into")
    monkeypatch.setattr(
        "tadaconv.execution.merge.run_folder", lambda store: None if store is server else run_folder(store)
    )
    train(a, ROWS[0], "one")
    (found,) = merge([a], server, tmp_path / "out")
    assert found.num_weights == 1
    assert weights_file(tmp_path / "out", ROWS[0].key).read_text() == "one"
    (found,) = merge([server], into)
    assert found.notes == [
        f"{server.shown}: 1 result without trained weights, which are on the machines that trained them: TSN, seed 0"
    ]
    assert (held(server), held(into)) == ({}, {})


def test_the_command_takes_weights_along(
    new: Callable[[str], Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = new("a")
    train(a, ROWS[0], "one")
    with pytest.raises(SystemExit) as done:
        cli.main(["merge", a.shown, "--out", str(tmp_path / "all")])
    assert done.value.code == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{a.shown}: 1 result and 0 failed or pruned attempts copied, 0 known already; 1 file of trained weights copied"
    ]
    assert weights_file(tmp_path / "all", ROWS[0].key).read_text() == "one"
