"""A metric that is no accuracy goes through all of it: one entry of ``METRICS``, and nothing of reports is edited."""

import json
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import optuna
import pandas as pd
import pytest
from rich.console import Console

from tadaconv.ablation import Claim, LoadedTable, PaperResult, Row, Table, current_records
from tadaconv.errors import UserError
from tadaconv.execution.attrs import CURVE, PRUNED
from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.execution.live import LineView
from tadaconv.execution.merge import merge
from tadaconv.execution.planner import plan
from tadaconv.execution.store import Store
from tadaconv.execution.worker import Event
from tadaconv.metrics import METRICS, Metric
from tadaconv.regime import Regime, load_regime
from tadaconv.reporting import report
from tadaconv.reporting.ablation.data import collect, read_export
from tadaconv.reporting.ablation.summary import summarise, verdicts
from tadaconv.reporting.ablation.terminal import terminal_table
from tadaconv.reporting.archive import read_storage
from tadaconv.reporting.calibration import calibration_report
from tadaconv.reporting.core.options import ReportOptions
from tadaconv.reporting.study import study_report
from tadaconv.reporting.study.confirmation import confirmation_sentences
from tadaconv.reporting.study.data import collect as collect_study
from tadaconv.reporting.study.data import read_study
from tadaconv.reporting.study.importance import importance
from tadaconv.reporting.study.terminal import StudyTable
from tadaconv.result import CurvePoint, Result
from tadaconv.spec import Aggregation, Placement, Synthetic, TAda, Temporal
from tadaconv.study import LoadedStudy, Proposer, Pruner, Sampler, Study, TrialRecord, confirm, trial_records
from tadaconv.study.pruning import reason_to_prune

TEMPLATES = Path(__file__).resolve().parents[2] / "reports"
REGIME = load_regime("quick")
OPERATOR = TAda(aggregation=Aggregation(kind="none"))
DECLARED = """
Metric(
    name="mae", label="MAE", noun="error", nouns="errors", unit="px", unit_of_differences="px", higher_is_better=False,
    low=0.0, decimals=2, difference=0.1, difference_in_words="0.1 px",
)
"""
OF_ACCURACIES = re.compile(r"accura|top-?[15]\b|\bpercent\b|\bpoints?\b|Wilson|confusion", re.IGNORECASE)
"""What nothing says of a metric that is none."""


@pytest.fixture(autouse=True)
def _clips_are_judged_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "mae", eval(DECLARED, {"Metric": Metric}))
    monkeypatch.setattr(Synthetic, "METRIC", "mae")


def result(error: float, **changes: object) -> Result:
    curve = [
        CurvePoint(metric="mae", epoch=e, step=8 * e, train_loss=1 / e, score=error * (1 + 1 / e)) for e in range(1, 5)
    ]
    tree = {
        "metric": "mae", "score": error, "loss": 0.5, "num_val": 64, "curve": curve, "params": 171_000,
        "macs": 10_300_000, "cost": {}, "train_clips_per_second": 210.0, "eval_clips_per_second": 800.0,
        "peak_memory_bytes": 400_000_000, "seconds": 41.5, "environment": {"device": "cpu", "tadaconv": "0"},
    }  # fmt: skip
    return Result.model_validate({**tree, **changes})


def template(name: str, folder: Path) -> str:
    """The shipped template in a project that declares the metric: a notebook is executed by a process of its own."""
    text = (TEMPLATES / f"{name}.py").read_text(encoding="utf-8")
    declared = f"# %%\nfrom tadaconv.metrics import METRICS, Metric\nMETRICS['mae'] = {DECLARED.strip()}\n\n# %%\nfrom"
    path = folder / f"{name}.py"
    path.write_text(text.replace("# %%\nfrom", declared, 1), encoding="utf-8")
    return str(path)


def words_of(folder: Path) -> dict[str, str]:
    """All that a report says, by file: of its notebook what the cells put out, of its page what a reader reads."""
    said = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if file.suffix in (".tex", ".csv")}
    page = (folder / "report.html").read_text(encoding="utf-8")
    page = re.sub(r'src="data:[^"]*"|<style>.*?</style>|<script.*?</script>', "", page, flags=re.DOTALL)
    notebook = nbformat.read(folder / "report.ipynb", as_version=4)
    outputs = [
        "".join(output["data"].get(kind, ""))
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "data" in output
        for kind in ("text/plain", "text/html", "text/markdown")
    ]
    return {**said, "report.html": page, "report.ipynb": "\n".join(outputs)}


def require_no_accuracy(said: dict[str, str]) -> None:
    assert said
    for name, text in said.items():
        found = OF_ACCURACIES.search(text)
        assert not found, (name, text[max(0, found.start() - 80) : found.end() + 80])


# --- Tables


ERRORS = {"close": [0.31, 0.29, 0.33], "base": [0.52, 0.49, 0.55], "far": [12.7, 12.2, 13.1]}


@pytest.fixture
def table() -> LoadedTable:
    published = {
        row: PaperResult(error, "paper, table 1", "Drift", 8, "1 clip x 1 crop")
        for row, error in {"base": 0.5, "close": 0.3, "far": 11.9}.items()
    }
    base = Row("base", OPERATOR, published["base"])
    rows = [
        Row(
            "close",
            OPERATOR.but(context__reduction=2),
            published["close"],
        ),
        Row(
            "far",
            OPERATOR.but(placement__stages=(5,)),
            published["far"],
        ),
    ]
    claims = [
        Claim("narrow contexts help", "close", "base", "paper"),
        Claim("one stage is enough", "far", "base", "paper"),
    ]
    return LoadedTable("drift", "What lowers it?", Table(base=base, rows=rows, claims=claims))


@pytest.fixture
def stored(table: LoadedTable, tmp_path: Path) -> tuple[Store, list[CellRecord]]:
    """The table in a journal, run by what a worker does without the training."""
    store = Store.open(str(tmp_path / "journal.log"))
    plan(store, "drift-quick", table.table.cells(REGIME, [0]), [0, 1, 2])
    for trial_id, _, _ in store.backend.waiting(list(store.backend.studies().values()), None, 100):
        claimed = store.claim(trial_id)
        assert claimed is not None
        error = ERRORS[claimed.attrs["label"]][claimed.attrs["spec"]["seed"]]
        assert store.finish(claimed, result(error))
    return store, current_records(table, REGIME, "drift-quick", store)


def test_a_table_of_errors_is_read_from_the_storage_as_it_was_written(stored: tuple[Store, list[CellRecord]]) -> None:
    store, records = stored
    assert {(r.cell.label, r.cell.experiment.seed): r.result.score for r in records if r.result} == {
        (row, seed): error for row, errors in ERRORS.items() for seed, error in enumerate(errors)
    }
    assert {r.result.metric for r in records if r.result} == {"mae"}
    archive = read_storage(store)
    assert archive.studies["direction"].tolist() == ["minimize"]
    assert sorted(archive.cells["mae"]) == sorted(error for errors in ERRORS.values() for error in errors)
    assert archive.cells["top1"].isna().all()
    assert archive.curves["val_mae"].notna().all()
    with pytest.raises(AttributeError, match="evaluated by 'mae'"):
        _ = records[0].result.top1  # type: ignore[union-attr]


def test_the_lowest_error_is_the_best_and_claims_follow(
    table: LoadedTable, stored: tuple[Store, list[CellRecord]]
) -> None:
    export = collect(table, "quick", stored[1])
    summary = summarise(export).set_index("row")
    assert summary["standing"].to_dict() == {"close": "best", "far": "below", "base": "below"}
    assert summary.loc["far", "mae_mean"] == pytest.approx(sum(ERRORS["far"]) / 3)
    assert (summary["mae_low"] >= 0).all(), "an end that the metric has"
    assert verdicts(export)["verdict"].tolist() == ["supported", "contradicted"]


def test_a_report_of_errors_speaks_of_nothing_else(
    table: LoadedTable, stored: tuple[Store, list[CellRecord]], tmp_path: Path
) -> None:
    options = ReportOptions(template=template("ablation", tmp_path))
    folder = report(table, "quick", stored[1], tmp_path, regime=REGIME, options=options)
    said = words_of(folder)
    require_no_accuracy(said)
    page, tex = said["report.html"], said["table.tex"]
    assert "MAE (px)" in page
    assert "Lower MAE is better." in page
    assert r"\textbf{0.31}" in tex
    assert re.search(r"\u201cclose\u201d is 0\.21 px below \u201cbase\u201d", page)
    assert "2 claims: 1 supported, 1 contradicted." in page
    assert "Order of the rows in the paper: Kendall\u2019s tau 1.00 over 3 rows." in page
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["metric"] == "mae"
    assert pd.read_csv(folder / "table.csv").columns[3] == "mae_mean"
    assert not list(folder.glob("confusion.csv"))
    drawn = {file.stem for file in (folder / "figures").glob("*.svg")}
    assert drawn == {
        "verdicts", "accuracy_by_row", "differences", "accuracy_by_macs", "accuracy_by_latency", "placement_map",
        "learning_curves",
    }  # fmt: skip
    assert summarise(read_export(folder)).equals(summarise(collect(table, "quick", stored[1], regime=REGIME)))


def test_a_terminal_shows_errors(table: LoadedTable, stored: tuple[Store, list[CellRecord]]) -> None:
    console = Console(record=True, width=100)
    console.print(terminal_table(table, "quick", stored[1], styled=False))
    shown = console.export_text()
    require_no_accuracy({"terminal": shown})
    assert re.search(r"MAE.*\n.*\(px\)", shown)
    assert "*0.31" in shown
    assert "significantly below all other rows" in shown


def test_lines_of_a_run_and_notes_of_a_merge_are_of_errors(
    stored: tuple[Store, list[CellRecord]], table: LoadedTable, tmp_path: Path
) -> None:
    console = Console(record=True, width=100)
    cell = stored[1][0].cell
    LineView(console, 1).event(Event("finished", cell, result=result(0.31)))
    assert console.export_text() == f"[1/1] {cell.name}: MAE 0.310 px, 0 s\n"
    other = Store.open(str(tmp_path / "other.log"))
    plan(other, "drift-quick", table.table.cells(REGIME, [0]), [0])
    for trial_id, _, _ in other.backend.waiting(list(other.backend.studies().values()), None, 100):
        claimed = other.claim(trial_id)
        assert claimed is not None
        other.finish(claimed, result(0.4))
    (merged,) = merge([stored[0]], other)
    kept = f"MAE 0.310 px in {stored[0].shown}, 0.400 px in {other.shown}, which is kept"
    assert sum(note.endswith(kept) for note in merged.notes) == 1


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -0.1])
def test_what_is_no_error_counts_as_failed(
    table: LoadedTable, stored: tuple[Store, list[CellRecord]], wrong: float
) -> None:
    first, *others = stored[1]
    broken = CellRecord(first.cell, "finished", result(wrong))
    export = collect(table, "quick", [broken, *others])
    assert export.cells["status"].tolist()[0] == "failed"
    assert export.cells["error"].tolist()[0] == "the error is not a number from 0 on"


def test_two_metrics_are_no_table(table: LoadedTable, stored: tuple[Store, list[CellRecord]]) -> None:
    first, *others = stored[1]
    assert first.result is not None
    mixed = CellRecord(first.cell, "finished", first.result.model_copy(update={"metric": "top1"}))
    with pytest.raises(UserError, match="the cells are evaluated by top-1 and MAE"):
        collect(table, "quick", [mixed, *others])


# --- Studies


def again(record: TrialRecord, seed: int) -> CellRecord:
    """A trial on a new seed, where it does worse."""
    cell = Cell(record.name, record.cells[0].cell.experiment.but(seed=seed))
    return CellRecord(cell, "finished", result(error_of(record.temporal, seed) + 0.2))


def suggest(trial: optuna.Trial) -> Temporal:
    share = trial.suggest_float("share", 0.25, 1.0, step=0.25)
    reduction = trial.suggest_categorical("reduction", [2, 4, 8])
    return OPERATOR.but(placement=Placement(stages=(4,), share=share), context__reduction=reduction)


def loaded_study(pruner: str = "median") -> LoadedStudy:
    start = {"all": {"share": 1.0, "reduction": 2}, "few": {"share": 0.25, "reduction": 8}}
    seeds = 3 if pruner == "wilcoxon" else 1
    options = {"n_startup_trials": 1, "n_warmup_steps": 0} if pruner == "median" else {}
    study = Study(suggest, start, "all", Sampler("random"), Pruner(pruner, options), seeds=seeds)
    return LoadedStudy("drifts", "Where does it pay?", study)


def error_of(temporal: Temporal, seed: int = 0) -> float:
    """Fewest channels and the strongest reduction are the best."""
    assert isinstance(temporal, TAda)
    return 0.3 + temporal.placement.share + 0.1 / temporal.context.reduction + 0.01 * seed


def run_study(study: LoadedStudy, store: Store, num_trials: int, regime: Regime = REGIME) -> list[TrialRecord]:
    proposer = Proposer(study, regime, "drifts-quick", store)
    while not proposer.top_up(1, num_trials).done:
        for trial_id, _, _ in store.backend.waiting(list(store.backend.studies().values()), None, 100):
            claimed = store.claim(trial_id)
            assert claimed is not None
            experiment = regime.experiment(OPERATOR, 0).model_validate(claimed.attrs["spec"])
            made = result(error_of(experiment.temporal, experiment.seed))
            for epoch in range(1, len(made.curve) + 1):
                why = reason_to_prune(store.backend, claimed, made.curve[:epoch])
                if why is not None:
                    store.prune(claimed, {PRUNED: why, CURVE: [p.model_dump() for p in made.curve[:epoch]]})
                    break
            else:
                store.finish(claimed, made)
    return trial_records(study, regime, "drifts-quick", store)


@pytest.fixture
def _rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tadaconv.dry_run.dry_run", lambda _: None)


@pytest.mark.usefixtures("_rehearsed")
def test_a_study_of_errors_prunes_the_high_and_finds_the_low(tmp_path: Path) -> None:
    store, study = Store.open(str(tmp_path / "journal.log")), loaded_study()
    records = run_study(study, store, 12)
    pruned = [record for record in records if record.status == "pruned"]
    finished = [record for record in records if record.status == "finished"]
    assert pruned
    assert all(str(record.why).endswith("not below the median of the others there") for record in pruned)
    assert all(re.match(r"validation MAE \d\.\d\d px after epoch", str(record.why)) for record in pruned)
    lowest = min(records, key=lambda record: error_of(record.temporal))
    assert lowest.status == "finished"
    assert max(error_of(r.temporal) for r in pruned) > min(error_of(r.temporal) for r in finished)
    export = collect_study(study, "quick", records)
    assert export.trials.loc[export.trials["best"], "name"].tolist() == [lowest.name]
    assert read_storage(store).studies["direction"].tolist() == ["minimize"]
    best = confirm(study, records, 1).table.rows[0]
    assert best.temporal == lowest.temporal


@pytest.mark.usefixtures("_rehearsed")
def test_seeds_of_a_configuration_that_is_worse_are_not_run(tmp_path: Path) -> None:
    records = run_study(loaded_study("wilcoxon"), Store.open(str(tmp_path / "journal.log")), 8)
    assert {record.status for record in records} <= {"finished", "pruned"}
    lowest = min(records, key=lambda record: error_of(record.temporal))
    assert lowest.status == "finished"


@pytest.mark.usefixtures("_rehearsed")
def test_a_report_of_a_study_of_errors_speaks_of_nothing_else(tmp_path: Path) -> None:
    study = loaded_study("none")
    records = run_study(study, Store.open(str(tmp_path / "journal.log")), 12)
    folder = study_report(
        study, "quick", records, tmp_path, options=ReportOptions(template=template("study", tmp_path))
    )
    said = words_of(folder)
    require_no_accuracy(said)
    page = said["report.html"]
    assert "\u201cfew\u201d is the best of 12 finished trials: 0.56 px" in page
    assert "Difference to \u201call\u201d (1.35 px, from one seed): \u22120.79 px" in page
    assert "The error of the best of many trials is optimistically biased" in page
    assert all("Lower MAE is better." in said[name] for name in ("report.html", "table.tex"))
    export = read_study(folder)
    confirmed = [
        replace(r, confirmed=tuple(again(r, seed) for seed in (1, 2, 3))) if r.name in ("all", "few", "trial 8") else r
        for r in records
    ]
    said = confirmation_sentences(collect_study(study, "quick", confirmed, confirmed=True))
    require_no_accuracy({"confirmation": " ".join(said)})
    assert "The error of a selected trial in the search is optimistically biased" in said[0]
    assert "a difference of +0.22 px." in said[1]
    assert any("The lowest error on new seeds: few" in sentence for sentence in said)
    front = export.trials[export.trials["front"]]
    assert front["name"].tolist() == ["few"], "all cost the same"
    assert importance(export).why_not is None
    console = Console(record=True, width=100)
    console.print(StudyTable(study, "quick", records))
    require_no_accuracy({"terminal": console.export_text()})


def test_the_calibrations_of_a_cell_that_is_judged_by_an_error_are_refused(
    table: LoadedTable, stored: tuple[Store, list[CellRecord]], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"predicted classes, and the metric of .* is MAE"):
        calibration_report(table, "quick", stored[1][0], tmp_path)
