import json
import logging
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from support import Page

from tadaconv.errors import UserError
from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.reporting.study import study_report
from tadaconv.reporting.study.data import collect
from tadaconv.reporting.study.importance import importance
from tadaconv.reporting.study.latex import latex_table
from tadaconv.reporting.study.page import headline, importances, infeasible, methods, unfinished
from tadaconv.study import InfeasibleDraw

SCRIPT = "<script>alert(1)</script>"
INFEASIBLE = [
    InfeasibleDraw(3, "", {"stage2": True, "reduction": 4}, {}, f"no stage 2 in {SCRIPT}"),
    InfeasibleDraw(5, f"first {SCRIPT}", {"stage2": False}, {}, "no stage at all"),
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, make_study):
    """A report of a study with a hostile name and error, in a folder with a space and a quote."""
    out = tmp_path_factory.mktemp("it's a folder")
    loaded, records = make_study(14)
    records[2] = replace(records[2], name=SCRIPT)
    failed = next(i for i, record in enumerate(records) if record.status == "failed")
    records[failed] = replace(records[failed], why=f"RunError: {SCRIPT} & more")
    return loaded, records, out, study_report(loaded, "quick", records, out, max_macs=10_310_000, infeasible=INFEASIBLE)


@pytest.fixture(scope="module")
def page(hostile) -> Page:
    return Page((hostile[3] / "report.html").read_text())


def test_all_files_are_there(hostile) -> None:
    folder = hostile[3]
    assert folder.relative_to(hostile[2]).as_posix() == "reports/placed-quick"
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    drawn = ("pareto", "best_so_far", "slices", "learning_curves", "placement_map")
    assert names == {f"figures/{name}.{kind}" for name in drawn for kind in ("svg", "png", "pdf")} | {
        "trials.csv", "curves.csv", "cells.csv", "confirmation.csv", "infeasible.csv", "parameters.json", "report.json",
        "table.tex", "report.ipynb", "report.html",
    }  # fmt: skip
    assert len(pd.read_csv(folder / "trials.csv")) == 14


def test_the_page_asks_for_nothing_and_shows_names_as_text(hostile, page: Page) -> None:
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    addresses = [v for _, attrs in page.tags for k, v in attrs.items() if k in ("src", "href", "srcset", "action")]
    assert len(addresses) == 5
    assert all(address and address.startswith("data:image/svg+xml;base64,") for address in addresses)
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")
    assert SCRIPT in page.text
    assert f"RunError: {SCRIPT} & more" in page.text
    assert "<script" not in (hostile[3] / "report.html").read_text()


def test_the_page_opens_with_what_a_reader_needs(hostile, page: Page) -> None:
    _, records, _, _ = hostile
    finished = [record for record in records if record.status == "finished"]
    best = max(finished, key=lambda record: record.score)
    parts = [
        "Which stages need it?",
        f"14 trials: {len(finished)} finished",
        f"is the best of {len(finished)} finished trials: {best.score:.1f} %",
        "optimistically biased by selection",
        "tada study placed --confirm 3 --seeds 3",
        "The most accurate trials",
    ]
    places = [page.words.index(part) for part in parts]
    assert places == sorted(places)
    assert "Too few trials to estimate importance" in page.words
    assert "logarithmic" in page.words
    assert "at most 1.02 times the bare backbone" in page.words
    assert "torch 2.9.0" in page.words


def test_every_trial_is_on_the_page_with_its_end(hostile, page: Page) -> None:
    every = page.words[page.words.index("All trials") :]
    for record in hostile[1]:
        assert record.name in every
        assert (record.why or "") in every
    for status in ("finished", "pruned", "over budget", "failed"):
        assert len(re.findall(rf" {status} (?:\d|\u2013)", every)) >= sum(r.status == status for r in hostile[1])


def test_infeasible_draws_are_on_the_page_with_their_reason_and_are_no_trials(hostile, page: Page) -> None:
    assert page.words.count("Not counted: 2 draws infeasible in this regime.") == 2
    said = page.words[page.words.index("Infeasible draws") :]
    assert f"stage2 yes, reduction 4 infeasible: no stage 2 in {SCRIPT}" in said
    assert f"first {SCRIPT} infeasible: no stage at all" in said
    assert pd.read_csv(hostile[3] / "infeasible.csv")["why"].tolist() == [draw.why for draw in INFEASIBLE]
    assert "2 draws infeasible in this regime" in (hostile[3] / "table.tex").read_text()


def test_an_infeasible_draw_of_the_sampler_is_named_by_its_parameters(make_study) -> None:
    loaded, records = make_study(3)
    block = infeasible(collect(loaded, "quick", records, infeasible=INFEASIBLE[:1]))
    assert block is not None
    assert "1 draw of the space" in " ".join(block.html.split())
    assert block.text == f"stage2 yes, reduction 4, infeasible: no stage 2 in {SCRIPT}"
    assert infeasible(collect(loaded, "quick", records)) is None


def test_the_notebook_holds_its_outputs_and_no_warning(hostile) -> None:
    notebook = nbformat.read(hostile[3] / "report.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    outputs = [output for cell in code for output in cell.outputs]
    assert not [o for o in outputs if o.output_type in ("stream", "error")]
    assert sum("image/png" in o.get("data", {}) for o in outputs) == 5


def test_the_same_results_are_not_reported_twice(hostile, caplog: pytest.LogCaptureFixture) -> None:
    loaded, records, out, folder = hostile
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with caplog.at_level(logging.INFO, "tadaconv.reporting"):
        assert study_report(loaded, "quick", records, out, max_macs=10_310_000, infeasible=INFEASIBLE) == folder
    assert "up to date" in caplog.text
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_a_report_made_again_has_the_same_bytes(hostile, tmp_path: Path) -> None:
    loaded, records, out, folder = hostile
    copy = shutil.copytree(folder, tmp_path / "copy")
    (folder / "report.html").unlink()
    (folder / "report.ipynb").unlink()
    study_report(loaded, "quick", records, out, max_macs=10_310_000, infeasible=INFEASIBLE)
    for file in (p for p in copy.rglob("*") if p.is_file()):
        assert (folder / file.relative_to(copy)).read_bytes() == file.read_bytes(), file.name


def test_new_trials_make_an_old_format_out_of_date(make_study, tmp_path: Path) -> None:
    loaded, records = make_study(8)
    folder = study_report(loaded, "labs/my_lab.py", records[:4], tmp_path, ["csv", "tex"])
    assert folder.name == "placed-my_lab"
    old = json.loads((folder / "report.json").read_text())["digests"]
    study_report(loaded, "labs/my_lab.py", records, tmp_path, ["csv"])
    assert len(pd.read_csv(folder / "trials.csv")) == 8
    new = json.loads((folder / "report.json").read_text())["digests"]
    assert new["tex"] == old["tex"]
    assert new["csv"] != old["csv"]
    assert not (folder / "report.html").exists()


def test_wrong_calls(make_study, tmp_path: Path) -> None:
    loaded, records = make_study(3)
    with pytest.raises(UserError, match=r"unknown report format 'htm'; one of: html, "):
        study_report(loaded, "quick", records, tmp_path, ["htm"])
    waiting = [replace(record, status="waiting", score=None) for record in records]
    for none in ([], waiting):
        with pytest.raises(UserError, match=r"no results of placed .*: tada study placed --regime proxy"):
            study_report(loaded, "proxy", none, tmp_path)


def test_the_table_for_a_paper_has_the_front_the_best_and_what_was_named(make_study) -> None:
    loaded, records = make_study(24)
    records = [replace(r, name=f"{r.name} 50%_&") for r in records]
    export = collect(loaded, "quick", records)
    tex = latex_table(export)
    body = tex.partition("\\midrule\n")[2].partition("\n\\bottomrule")[0].split("\n\\addlinespace\n")
    front = export.trials[export.trials["front"] | export.trials["best"]]["name"]
    assert len(body) == len(front)
    assert all(line.count(" & ") == 3 and line.endswith(r" \\") for line in body)
    assert sum("\\textbf" in line for line in body) == 1
    assert r"50\%\_\&" in tex
    assert "optimistically biased by selection (winner\u2019s curse); confirm it with: tada study placed" in tex
    assert "see placed_confirm-quick." in latex_table(collect(loaded, "quick", records, confirmed=True))


@pytest.mark.parametrize("size", ["10pt", "12pt"])
def test_the_table_for_a_paper_fits_a_line(size: str, make_study, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    loaded, records = make_study(40)
    table = latex_table(collect(loaded, "quick", [replace(r, macs=r.macs * 2000) for r in records]))
    long = [replace(r, name=f"{r.name}, 50 % of the channels and no more than one block in two") for r in records]
    (tmp_path / "short.tex").write_text(table, encoding="utf-8")
    (tmp_path / "long.tex").write_text(latex_table(collect(loaded, "quick", long)), encoding="utf-8")
    inside = r"\noindent\input{short}\clearpage\noindent\input{long}"
    document = rf"\documentclass[{size}]{{article}}\usepackage{{booktabs}}\begin{{document}}{inside}\end{{document}}"
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    call = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said[-2000:]
    assert "Overfull" not in said, said


def test_parts_of_a_study_without_an_end(make_study) -> None:
    loaded, records = make_study(30)
    failed = collect(loaded, "quick", [record for record in records if record.status == "failed"])
    said = Page(headline(failed).html).words
    assert "No trial has finished yet." in said
    assert "biased" not in said
    assert "0 finished trials with an operator plugged in" in importances(importance(failed)).text
    assert "the loss is not finite" in Page(unfinished(failed).html).words
    assert unfinished(collect(loaded, "quick", records[:1])) is None


METHODS = {
    "fANOVA": "a random forest is fitted",
    "Pareto": "Pareto front if no other",
    "selection": "The bias of the best by selection",
    "t": "Student",
    "Wilson": "Wilson",
    "Holm": "Holm",
}


def used(export, found) -> set[str]:
    said = Page(methods(export, found).html).words
    return {name for name, sentence in METHODS.items() if sentence in said}


def test_only_the_methods_that_are_used_are_explained(make_study, make_result) -> None:
    loaded, records = make_study(30)
    few = [record for record in records if record.status == "finished"][:2]
    nothing = importance(collect(loaded, "quick", few))
    assert used(collect(loaded, "quick", few), nothing) == {"Pareto", "selection"}
    assert used(collect(loaded, "quick", few[:1]), nothing) == {"Pareto"}
    assert used(collect(loaded, "quick", [replace(few[0], macs=None)]), nothing) == set()
    shown = replace(nothing, data=pd.DataFrame({"parameter": ["a"]}), why_not=None)
    assert used(collect(loaded, "quick", few), shown) == {"Pareto", "selection", "fANOVA"}

    def anew(record, *scores: float):
        cells = (Cell(record.name, record.cells[0].cell.experiment.but(seed=9 + s)) for s in range(len(scores)))
        done = (CellRecord(c, "finished", make_result(s)) for c, s in zip(cells, scores, strict=True))
        return replace(record, confirmed=tuple(done))

    one = [anew(few[0], 60.0), anew(few[1], 61.0)]
    assert used(collect(loaded, "quick", one), nothing) == {"Pareto", "selection", "Wilson"}
    two = [anew(few[0], 60.0, 62.0), anew(few[1], 61.0, 65.0)]
    assert used(collect(loaded, "quick", two), nothing) == {"Pareto", "selection", "t", "Holm"}


def test_methods_say_which_trials_do_not_count_only_where_there_are_some(make_study) -> None:
    loaded, records = make_study(30)
    whole, found = collect(loaded, "quick", records), importance(collect(loaded, "quick", records[:2]))
    assert "Trials that were pruned, failed or were over budget have none" in Page(methods(whole, found).html).words
    alone = collect(loaded, "quick", [record for record in records if record.status == "finished"])
    assert "have none" not in Page(methods(alone, found).html).words
    assert "that of its one seed" in Page(methods(alone, found).html).words
    several = collect(loaded, "quick", make_study(6, seeds=3)[1])
    assert "mean over its seeds" in Page(methods(several, found).html).words
    assert "over the square root of the seeds a trial" in Page(methods(several, found).html).words
