"""Rows that average others: their accuracy is that of the mean of the probabilities, seed by seed, or says why not."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from tadaconv.execution.cells import CellRecord, scores_file
from tadaconv.reporting import report
from tadaconv.reporting.ablation import page as blocks
from tadaconv.reporting.ablation.data import collect, read_export
from tadaconv.reporting.ablation.ensembles import ensembles_of
from tadaconv.reporting.ablation.latex import latex_table
from tadaconv.reporting.ablation.summary import summarise, verdicts
from tadaconv.reporting.ablation.terminal import terminal_table
from tadaconv.reporting.ablation.text import what_was_run
from tadaconv.scores import Scores, as_npz
from tadaconv.spec import Rival, TAda
from tadaconv.table import Claim, LoadedTable, PaperResult, Row, Table

NUM_CLIPS, NUM_CLASSES, SEEDS = 60, 8, (0, 1, 2)
PAPER = PaperResult(67.2, "paper, table 8", "Something-Something-V2", 12, "2 clips x 3 crops", 129)
LOADED = LoadedTable(
    "two", "Do two see more?",
    Table(
        base=Row("a", TAda()),
        rows=[
            Row("b", Rival(name="tsm")),
            Row("a + b", None, PAPER, versus="b", ensemble=("a", "b")),
        ],
        claims=[Claim("two see more", "a + b", "a", "made up")],
    ),
)  # fmt: skip


Ran = tuple[list[CellRecord], dict[tuple[str, int], Scores]]


def of_cell(key: str, draw: np.random.Generator, labels: NDArray[np.int64], **changes: object) -> Scores:
    raw = draw.random((NUM_CLIPS, NUM_CLASSES)) + 0.25 * (np.arange(NUM_CLASSES) == labels)
    scores = Scores(
        cell=key,
        fingerprint="clips",
        clips=np.array([f"{i:03}" for i in range(NUM_CLIPS)]),
        classes=np.array([f"class {i}" for i in range(NUM_CLASSES)]),
        heads={"class": NUM_CLASSES},
        labels=labels,
        probabilities=(raw / raw.sum(1, keepdims=True)).astype(np.float16),
    )
    return replace(scores, **changes)  # type: ignore[arg-type]


@pytest.fixture
def ran(tmp_path: Path, make_record: Callable[..., CellRecord]) -> Ran:
    """Three seeds of both rows, and the class probabilities that each left in ``tmp_path``."""
    draw = np.random.default_rng(11)
    labels = draw.integers(0, NUM_CLASSES, (NUM_CLIPS, 1))
    records, left = [], {}
    for seed in SEEDS:
        for name, params, macs in (("a", 1000, 50_000), ("b", 900, 20_000)):
            made = make_record(LOADED.table.row(name), seed, 40.0 + seed, params=params, macs=macs)
            left[name, seed] = of_cell(made.cell.key, draw, labels)
            records.append(made)
            write(left[name, seed], tmp_path)
    return records, left


def write(scores: Scores, out: Path) -> None:
    file = scores_file(out, scores.cell)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(as_npz(scores))


def expected(left: dict[tuple[str, int], Scores], seed: int) -> tuple[float, float]:
    a, b = (left[name, seed].probabilities.astype(np.float64) for name in ("a", "b"))
    best = np.argsort(-(a + b) / 2, axis=1, kind="stable")
    labels = left["a", seed].labels
    return 100 * float((best[:, :1] == labels).mean()), 100 * float((best[:, :5] == labels).any(1).mean())


def drawn(records: list[CellRecord], out: Path) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(terminal_table(LOADED, "made up", records, out, styled=False))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_each_seed_averages_the_cells_of_that_seed(ran: Ran, tmp_path: Path) -> None:
    records, left = ran
    found = ensembles_of(LOADED, records, tmp_path)
    assert [(each.row, each.seed) for each in found] == [("a + b", seed) for seed in SEEDS]
    for each in found:
        assert (each.top1, each.top5) == pytest.approx(expected(left, each.seed))
        assert each.cells == {name: left[name, each.seed].cell for name in ("a", "b")}
        assert (each.params, each.macs, each.num_val, each.why) == (1900, 70_000, NUM_CLIPS, None)
    assert len({each.top1 for each in found}) == 3
    across = {(name, seed): left[name, (seed + (name == "b")) % 3] for name, seed in left}
    assert [each.top1 for each in found] != pytest.approx([expected(across, seed)[0] for seed in SEEDS])


def test_the_row_stands_beside_the_others(ran: Ran, tmp_path: Path) -> None:
    records, left = ran
    export = collect(LOADED, "made up", records, ensembles=ensembles_of(LOADED, records, tmp_path))
    summary = summarise(export).set_index("row")
    line, top1 = summary.loc["a + b"], np.array([expected(left, seed)[0] for seed in SEEDS])
    own = np.array([40.0 + seed for seed in SEEDS])
    assert (line["n"], line["status"], line["params"], line["macs"]) == (3, "finished", 1900, 70_000)
    assert line["top1_mean"] == pytest.approx(top1.mean())
    assert line["top1_sd"] == pytest.approx(top1.std(ddof=1))
    assert (line["delta_mean"], line["num_pairs"]) == (pytest.approx((top1 - own).mean()), 3)
    assert (line["paper_top1"], line["ensemble"], line["standing"]) == (67.2, "a; b", "")
    alone = Table(base=LOADED.table.base, rows=[LOADED.table.row("b")])
    without = summarise(collect(replace(LOADED, table=alone), "made up", records)).set_index("row")
    shared = [name for name in without.columns if name not in ("p_holm", "reference")]
    assert summary.loc[["b", "a"], shared].equals(without.loc[["b", "a"], shared])
    (claim,) = verdicts(export).to_dict("records")
    assert (claim["n"], claim["effect"]) == (3, pytest.approx((top1 - own).mean()))
    assert what_was_run(export) == "3 rows (1 ensemble), 3 seeds: 6 of 6 cells finished."
    page = blocks.results(export).html
    note = "“a + b” is an ensemble: it averages the class probabilities of a; b, seed by seed."
    assert note in page
    assert f"{top1.mean():.1f}" in page
    tex = latex_table(summarise(export), "a", "title")
    assert f"\na + b & 3 & {top1.mean():.1f} " in tex
    assert f"% {note}" in tex
    text = drawn(records, tmp_path)
    assert f"{top1.mean():.1f} [" in next(each for each in text.splitlines() if each.lstrip().startswith("a + b "))
    assert note in " ".join(text.split())


def test_a_report_is_read_back_where_the_probabilities_are_not(ran: Ran, tmp_path: Path) -> None:
    records, left = ran
    folder = report(LOADED, "made up", records, tmp_path, ["csv", "tex"])
    shutil.rmtree(tmp_path / "weights")
    moved = shutil.move(folder, tmp_path / "elsewhere")
    line = summarise(read_export(moved)).set_index("row").loc["a + b"]
    assert line["top1_mean"] == pytest.approx(np.mean([expected(left, seed)[0] for seed in SEEDS]))
    tree = json.loads((tmp_path / "elsewhere" / "report.json").read_text())
    assert [each["top5"] for each in tree["ensembles"]] == pytest.approx([expected(left, seed)[1] for seed in SEEDS])
    assert tree["rows"][1]["ensemble"] == ["a", "b"]
    assert "a + b,finished,3," in (tmp_path / "elsewhere" / "table.csv").read_text()
    report(LOADED, "made up", records, tmp_path, ["csv"])  # they are missed
    assert "a + b,missing,0," in (folder / "table.csv").read_text()


def test_what_is_missing_is_said(ran: Ran, tmp_path: Path) -> None:
    records, left = ran
    scores_file(tmp_path, left["b", 1].cell).unlink()
    other = [replace(r, status="failed", result=None) if r is records[5] else r for r in records]
    found = ensembles_of(LOADED, other, tmp_path)
    assert [each.top1 is None for each in found] == [False, True, True]
    assert found[1].why is not None
    assert found[1].why.startswith(f"{tmp_path / 'weights'} has no class probabilities of “b”; copy them with")
    assert found[2].why == "“b” failed"
    text = " ".join(drawn(other, tmp_path).split())
    assert "“a + b” has no value with seed 2: “b” failed." in text
    assert "1 of 3" in text
    page = blocks.results(collect(LOADED, "made up", other, ensembles=found)).html
    assert "“a + b” has no value with seed 2: “b” failed." in page
    assert "Of 6 planned cells: 1 failed, 0 without a result." in page
    without = [r for r in records if r.cell.label == "a"]
    export = collect(LOADED, "made up", without, ensembles=ensembles_of(LOADED, without, tmp_path))
    assert "“a + b” has no value with seed 0, 1 and 2: “b” has no result yet." in blocks.results(export).html
    assert "a + b (no value)" in " ".join(drawn(without, tmp_path).split())
    assert "a + b (no value)" in latex_table(summarise(export), "a", "title")


def test_other_clips_give_no_number_but_the_reason(ran: Ran, tmp_path: Path) -> None:
    records, left = ran
    write(replace(left["b", 0], fingerprint="others"), tmp_path)
    write(replace(left["b", 1], cell=left["b", 1].cell, clips=left["b", 1].clips[::-1]), tmp_path)
    scores_file(tmp_path, left["b", 2].cell).write_bytes(b"torn")
    told = [each.why or "" for each in ensembles_of(LOADED, records, tmp_path)]
    reason = "were evaluated on other clips, or in another order, so their class probabilities cannot be averaged"
    assert told[0] == f"'a' and 'b' {reason}"
    assert "in another order" in told[1]
    assert "cannot be read" in told[2]


def test_a_table_without_ensembles_reads_nothing(tmp_path: Path, make_record: Callable[..., CellRecord]) -> None:
    plain = Table(base=Row("a", TAda()), rows=[Row("b", None)])
    made = make_record(plain.base, 0, 50.0)
    assert ensembles_of(replace(LOADED, table=plain), [made], tmp_path / "nowhere") == []
