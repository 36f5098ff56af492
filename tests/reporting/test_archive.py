"""A storage as flat files: everything in it can be made again from the files alone."""

import csv
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from tadaconv.reporting.export import as_csv

from tadaconv import cli
from tadaconv.errors import UserError
from tadaconv.execution.cells import Cell, scores_file
from tadaconv.execution.merge import merge
from tadaconv.execution.store import Store
from tadaconv.reporting import archive
from tadaconv.reporting.archive import read_storage, write_archive
from tadaconv.result import CurvePoint, Result
from tadaconv.spec import Backbone, Experiment, Rival, Schedule, Synthetic, TAda

SCHEDULE = Schedule(epochs=2, batch_size=2, lr=0.1)
DATA = Synthetic(num_train=8, num_val=8)
EXPERIMENTS = [
    Experiment(backbone=Backbone(name="tiny"), temporal=temporal, data=DATA, schedule=SCHEDULE, seed=seed)
    for temporal in (None, TAda(), Rival(name="tsm", options={"share": 0.25}), Rival(name="se", options={"share": "x"}))
    for seed in (0, 7)
]

Frames = dict[str, list[dict[str, Any]]]


def result(top1: float) -> Result:
    return Result(
        score=top1, top5=100.0, loss=0.1 + 0.2, per_class={"NA": top1, "b, c": 1 / 3}, per_family={"": 2.5}, num_val=8,
        curve=[CurvePoint(epoch=e, step=4 * e, train_loss=1 / 3 / e, score=top1) for e in (1, 2)], params=2**40,
        macs=2**50 + 1, cost={"unit": "multiply-adds", "shape": [1, 3]}, train_clips_per_second=1 / 7,
        eval_clips_per_second=2.0, peak_memory_bytes=2**33, seconds=12.5, environment={"device": "NA", "cuda": ""},
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Results, a failure, a stop, a pruned and a copied trial of a search, and what waits."""
    store = Store.open(str(tmp_path / "journal.log"))
    for index, experiment in enumerate(EXPERIMENTS):
        claimed = store.claim(store.add("t-quick", Cell(f"row {index}", experiment)))
        assert claimed is not None
        if index < 6:
            store.finish(claimed, result(100 / (index + 1)))
        elif index == 6:
            store.fail(claimed, 'it "broke",\r\nbadly\udc80', "Traceback\n  x", "cpu", 3, retry=False)
        else:
            store.requeue(claimed, "stopped by Ctrl-C")
    store.set_study_attr("t-quick", "plan", {"row": {"experiment": {}, "seeds": {"0": "k"}}})
    space = {"params": {"p": 0.1}, "distributions": {"p": FloatDistribution(0, 1)}}
    done = {"trial": 0, "copied": "t-quick", "result": result(100.0).model_dump(mode="json")}
    store.add("s-quick", Cell("trial 0", EXPERIMENTS[0]), TrialState.COMPLETE, value=100.0, attrs=done, **space)
    pruned = {"trial": 1, "pruned": "no hope", "curve": [{"epoch": 1}]}
    store.add("s-quick", Cell("trial 1", EXPERIMENTS[7]), TrialState.PRUNED, attrs=pruned, **space)
    return store


def read_csvs(folder: Path) -> Frames:
    found = {}
    for path in folder.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            found[path.stem] = list(csv.DictReader(file))
    return found


def read_parquets(folder: Path) -> Frames:
    frames = {path.stem: pd.read_parquet(path) for path in folder.glob("*.parquet")}
    return {
        name: [{k: "" if pd.isna(v) else v for k, v in line.items()} for line in frame.to_dict("records")]
        for name, frame in frames.items()
    }


def rebuilt(frames: Frames) -> dict[str, tuple[Experiment, Result]]:
    """Every result, from the files alone."""
    found = {}
    for cell in frames["cells"]:
        tree = {name: cell.get(name) for name in {"top1", *Result.model_fields} - {"metric", "score", "curve"}}
        kinds = (int, float, float | None)
        numbers = ["top1", *(name for name, field in Result.model_fields.items() if field.annotation in kinds)]
        tree |= {name: json.loads(tree[name] or "null") for name in tree.keys() - set(numbers)}
        points = [
            {**p, "calibration": json.loads(p["calibration"])} for p in frames["curves"] if p["cell"] == cell["cell"]
        ]
        tree["curve"] = [CurvePoint.model_validate({k: v for k, v in p.items() if k != "cell"}) for p in points]
        found[cell["cell"]] = Experiment.model_validate_json(cell["experiment"]), Result.model_validate(tree)
    return found


READERS: dict[str, Callable[[Path], Frames]] = {"csv": read_csvs, "parquet": read_parquets}


@pytest.fixture(params=READERS)
def form(request: pytest.FixtureRequest) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    return str(request.param)


def test_every_result_can_be_made_again(store: Store, form: str, tmp_path: Path) -> None:
    write_archive(read_storage(store), tmp_path / "out", form)
    frames = READERS[form](tmp_path / "out")
    expected = {e.key: (e, result(100 / (index + 1))) for index, e in enumerate(EXPERIMENTS[:6])}
    assert rebuilt(frames) == expected
    assert list(rebuilt(frames)) == sorted(expected)


def test_every_attempt_is_there_with_all_its_attributes(store: Store, form: str, tmp_path: Path) -> None:
    write_archive(read_storage(store), tmp_path / "out", form)
    frames = READERS[form](tmp_path / "out")
    lines = {(line["study"], int(line["trial"])): line for line in frames["attempts"]}
    rows = store.backend.attempts()
    assert [*lines] == sorted((store.name_of(row.study_id), row.number) for row in rows)
    results = rebuilt(frames)
    for row in rows:
        line = lines[store.name_of(row.study_id), row.number]
        told = json.loads(line["attributes"])
        told |= {"cell": line["cell"], "label": line["label"], "spec": json.loads(line["experiment"])}
        if "result" in row.attrs and "result" not in told:
            told["result"] = results[row.key][1].model_dump(mode="json")
        told |= {name: line[name] for name in ("error", "traceback") if line[name] != "" or name in row.attrs}
        told |= {"trial": int(line["configuration"])} if line["configuration"] != "" else {}
        told |= {name: line["reason"] for name in ("interrupted", "pruned") if name in row.attrs}
        escaped = {k: v.replace("\udc80", "\\udc80") if isinstance(v, str) else v for k, v in row.attrs.items()}
        assert told == escaped
        assert json.loads(line["parameters"]) == row.params
        assert line["state"] == row.state.name.lower()
        times = pd.to_datetime([line["started"], line["ended"]], utc=True)
        for time, was in zip(times, (row.started, row.ended), strict=True):
            assert (None if pd.isna(time) else time.to_pydatetime()) == (was and was.astimezone(UTC))


def test_cells_name_their_class_probabilities_where_they_are(store: Store, form: str, tmp_path: Path) -> None:
    kept = EXPERIMENTS[1].key
    file = scores_file(Path(store.shown).parent, kept)
    file.parent.mkdir()
    file.write_bytes(b"scores")
    write_archive(read_storage(store), tmp_path / "out", form)
    named = {cell["cell"]: cell["scores"] for cell in READERS[form](tmp_path / "out")["cells"]}
    assert named == {key: f"weights/{kept}.scores.npz" if key == kept else "" for key in named}
    assert kept in named


def test_studies_hold_their_plans(store: Store) -> None:
    studies = read_storage(store).studies
    assert studies["study"].tolist() == ["s-quick", "t-quick"]
    assert studies["num_attempts"].tolist() == [2, 9]
    assert studies["num_results"].tolist() == [1, 6]
    assert json.loads(studies["attributes"][1])["plan"]["row"]["seeds"] == {"0": "k"}


def test_leaves_are_columns_of_one_type(store: Store) -> None:
    cells = read_storage(store).cells
    assert cells.columns[: len(archive.CELL_COLUMNS)].tolist() == archive.CELL_COLUMNS
    own = cells.columns[len(archive.CELL_COLUMNS) :].tolist()
    assert own == sorted(own)
    by_key = cells.set_index("cell")
    tada, tsm = by_key.loc[EXPERIMENTS[2].key], by_key.loc[EXPERIMENTS[4].key]
    assert tada["experiment.temporal.context.kernels"] == "[3, 3]"
    assert tsm["experiment.temporal.options.share"] == 0.25
    assert pd.isna(tada["experiment.temporal.options.share"])
    assert (tada["experiment.schedule.lr"], tada["environment.device"]) == (0.1, "NA")
    assert str(cells["experiment.data.num_frames"].dtype) == "Int64"


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([1, "a", None, True], ["1", '"a"', "", "true"]),
        ([2**70, None], [str(2**70), ""]),
        ([1, None], ["1", ""]),
        ([1.0, None], ["1.0", ""]),
        ([True, None], ["True", ""]),
        (["1", None, "b\udc80"], ["1", "", "b\\udc80"]),
        ([None], [""]),
    ],
)
def test_a_column_whose_type_is_not_known_has_that_of_its_values(values: list[Any], written: list[str]) -> None:
    frame = archive._frame([{"c": value, "d": ""} for value in values], ["d"])
    assert [line["c"] for line in csv.DictReader(as_csv(frame).splitlines())] == written


def test_the_same_storage_gives_the_same_bytes(store: Store, form: str, tmp_path: Path) -> None:
    paths = write_archive(read_storage(store), tmp_path / "a", form)
    assert {path.name for path in paths} == {f"{n}.{form}" for n in ("studies", "attempts", "cells", "curves")}
    again = Store.open(store.shown, create=False)
    for one, other in zip(paths, write_archive(read_storage(again), tmp_path / "b", form), strict=True):
        assert one.read_bytes() == other.read_bytes()
    copy = Store.open(str(tmp_path / "copy.log"))
    merge([store], copy)
    write_archive(read_storage(copy), tmp_path / "c", form)
    assert (tmp_path / "a" / f"curves.{form}").read_bytes() == (tmp_path / "c" / f"curves.{form}").read_bytes()


def test_an_empty_storage_has_the_same_columns(tmp_path: Path, form: str, store: Store) -> None:
    empty = read_storage(Store.open(str(tmp_path / "empty.log")))
    write_archive(empty, tmp_path / "out", form)
    full = read_storage(store)
    for name in ("studies", "attempts", "curves"):
        assert getattr(empty, name).dtypes.to_dict() == getattr(full, name).dtypes.to_dict()
        assert len(getattr(empty, name)) == 0


def test_only_what_it_wrote_is_written_over(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "cells.csv").write_text("mine")
    with pytest.raises(UserError, match=r"cells\.csv is not as 'tada export' wrote it"):
        write_archive(read_storage(store), out, "csv")
    assert [path.name for path in out.iterdir()] == ["cells.csv"]
    (out / "cells.csv").unlink()
    write_archive(read_storage(store), out, "csv")
    before = (out / "attempts.csv").read_bytes()
    store.add("t-quick", Cell("more", EXPERIMENTS[6]))
    write_archive(read_storage(store), out, "csv")
    assert (out / "attempts.csv").read_bytes().startswith(before[: before.index(b"t-quick")])
    assert (out / "attempts.csv").read_bytes() != before
    with (out / "attempts.csv").open("a") as file:
        file.write("a note of mine\n")
    with pytest.raises(UserError, match=r"attempts\.csv is not as"):
        write_archive(read_storage(store), out, "csv")


def test_an_export_cut_short_can_be_repeated(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, written = archive.write_atomically, []

    def dies(path: Path, content: str | bytes) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path.name)
        real(path, content)

    monkeypatch.setattr(archive, "write_atomically", dies)
    with pytest.raises(KeyboardInterrupt):
        write_archive(read_storage(store), tmp_path / "out", "csv")
    monkeypatch.setattr(archive, "write_atomically", real)
    store.add("t-quick", Cell("more", EXPERIMENTS[6]))
    write_archive(read_storage(store), tmp_path / "out", "csv")


def test_a_wrong_format_or_folder_is_one_line(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_storage(store)
    with pytest.raises(UserError, match="unknown format 'xlsx'; one of: "):
        write_archive(found, tmp_path, "xlsx")
    (tmp_path / archive.MANIFEST).write_text("[]")
    with pytest.raises(UserError, match="name another folder with --out"):
        write_archive(found, tmp_path, "csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'pyarrow>="):
        write_archive(found, tmp_path / "other", "parquet")


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=30)
@given(error=TEXT, trace=TEXT)
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, error: str, trace: str) -> None:
    folder = tmp_path_factory.mktemp("text")
    store = Store.open(str(folder / "j.log"))
    claimed = store.claim(store.add("t-quick", Cell("row", EXPERIMENTS[0])))
    assert claimed is not None
    store.fail(claimed, error, trace, "cpu", 0, retry=False)
    write_archive(read_storage(store), folder, "csv")
    (line,) = read_csvs(folder)["attempts"]
    assert (line["error"], line["traceback"]) == (error, trace)
    assert datetime.fromisoformat(line["ended"]).tzinfo is not None


def test_the_command_names_what_it_wrote(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(["export", "--storage", store.shown, "--out", str(tmp_path / "out")])
    assert done.value.code == 0
    written = [Path(line.removeprefix("written: ")) for line in capsys.readouterr().out.splitlines()]
    assert sorted(path.stem for path in written) == ["attempts", "cells", "curves", "studies"]
    assert all(path.is_file() for path in written)
