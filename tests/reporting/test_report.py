import hashlib
import io
import json
import logging
import re
import shutil
import unicodedata
from ast import literal_eval
from dataclasses import replace
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from rich.console import Console
from support import Page

from tadaconv.errors import RunError, UserError
from tadaconv.reporting import FORMATS, report
from tadaconv.reporting.ablation import page as blocks
from tadaconv.reporting.ablation.data import collect, read_export
from tadaconv.reporting.ablation.terminal import terminal_table
from tadaconv.reporting.core.notebook import execute
from tadaconv.reporting.core.options import ReportOptions
from tadaconv.table import Claim

SCRIPT, SPECIAL = "<script>alert(1)</script>", "50%_a&b \"c\" 'd'"
DRAWN = (
    "verdicts", "accuracy_by_row", "differences", "accuracy_by_family", "accuracy_by_macs", "accuracy_by_latency",
    "confusion", "learning_curves", "calibration_over_training",
)  # fmt: skip
HIDDEN = "a\x1b[31mb\u202ec\x00\t\x9bd"
VISIBLE = r"a\x1b[31mb\u202ec\x00\t\x9bd"
CLAIM = Claim(f"{SCRIPT} helps {HIDDEN}", SPECIAL, SCRIPT, "a source & more")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, make_up):
    """A report on rows with hostile names, a failed cell and a missing seed, in a folder with a space and a quote."""
    out = tmp_path_factory.mktemp("it's a folder")
    loaded, records = make_up(
        {
            SCRIPT: [50.0, 51.0, None],
            SPECIAL: [55.0, 57.5, 58.0],
            HIDDEN: [42.0, 40.0, 41.5],
            "base": [60.0, 61.0, 63.0],
        },
        claims=[CLAIM],
    )
    failed = next(i for i, record in enumerate(records) if record.status == "failed")
    told = f"{records[failed].error} {HIDDEN}"
    records[failed] = replace(records[failed], error=told, traceback=f"Traceback\n{told}")
    folder = report(loaded, "quick", records[:-1], out)
    return loaded, records[:-1], out, folder


@pytest.fixture(scope="module")
def page(hostile) -> Page:
    return Page((hostile[3] / "report.html").read_text())


def test_all_files_are_there(hostile) -> None:
    folder = hostile[3]
    assert folder.relative_to(hostile[2]).as_posix() == "reports/made_up-quick"
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    figures = {f"figures/{n}.{k}" for k in ("svg", "png", "pdf") for n in DRAWN}
    assert names == figures | {
        "table.csv", "cells.csv", "curves.csv", "families.csv", "classes.csv", "confusion.csv", "calibration.csv",
        "labels.csv", "claims.csv", "report.json",
        "table.tex", "report.ipynb", "report.html",
    }  # fmt: skip
    assert len(pd.read_csv(folder / "table.csv")) == 4
    cells = pd.read_csv(folder / "cells.csv")
    assert cells["status"].value_counts().to_dict() == {"finished": 10, "failed": 1}


def test_the_page_asks_for_nothing(page: Page) -> None:
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    addresses = [v for _, attrs in page.tags for k, v in attrs.items() if k in ("src", "href", "srcset", "action")]
    within, drawn = (
        [a for a in addresses if a and a.startswith(start)] for start in ("#", "data:image/svg+xml;base64,")
    )
    assert len(drawn) == len(DRAWN)
    assert len(addresses) == len(within) + len(drawn)
    assert {address[1:] for address in within} == {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")


def test_the_page_says_nothing_that_is_meant_for_who_reads_the_template(page: Page) -> None:
    assert "open it in that folder" not in page.text


def test_names_come_out_as_text(hostile, page: Page) -> None:
    for name in (SCRIPT, SPECIAL):
        assert page.text.count(name) >= 3
    html = (hostile[3] / "report.html").read_text()
    assert "<script" not in html
    assert "url(" not in html
    assert "@import" not in html
    assert r"50\%\_a\&b" in (hostile[3] / "table.tex").read_text().replace(r"\allowbreak{}", "")


def hidden_in(text: str) -> set[str]:
    return {c for c in text if c != "\n" and (unicodedata.category(c) == "Cc" or 0x2028 <= ord(c) <= 0x202E)}


def test_what_steers_a_reader_unseen_is_made_visible(hostile, page: Page) -> None:
    # In the row's name, a claim, an error and its traceback: on the page, in the notebook, the LaTeX and the terminal.
    loaded, records, _, folder = hostile
    html = (folder / "report.html").read_text()
    assert hidden_in(html) == set()
    assert page.text.count(VISIBLE) >= 5
    assert VISIBLE in " ".join(attrs["alt"] or "" for tag, attrs in page.tags if tag == "img")
    for cell in nbformat.read(folder / "report.ipynb", as_version=4).cells:
        for output in cell.get("outputs", []):
            texts = [v for k, v in output["data"].items() if k.startswith("text/")]
            assert hidden_in("".join([*texts, *map(str, output["metadata"].values())])) == set()
    assert hidden_in((folder / "table.tex").read_text()) == set()
    console = Console(width=100, record=True, file=io.StringIO(), force_terminal=False)
    console.print(terminal_table(loaded, "quick", records))
    text = console.export_text()
    assert hidden_in(text) == set()
    assert text.count(r"\x9bd") == 3  # the row, its error and the claim


def test_names_are_read_back_from_the_data_as_they_are(hostile) -> None:
    loaded, _, _, folder = hostile
    names = [row.name for row in loaded.table.all_rows]
    assert HIDDEN in names
    cells = pd.read_csv(folder / "cells.csv", dtype={"row": str}, keep_default_na=False)
    assert set(cells["row"]) == set(names)
    assert set(read_export(folder).cells["row"]) == set(names)


def test_the_page_says_what_it_can_and_no_more(page: Page) -> None:
    text = page.words
    assert "4 rows, 3 seeds: 10 of 12 cells finished, 1 failed, 1 not run." in text
    assert "the loss is not finite at step 40" in text
    assert "Undecided" in text
    assert "Means are over the n seeds that finished." in text
    assert "torch 2.9.0" in text
    assert "num train 1024" in text


def test_the_notebook_holds_its_outputs_and_hides_nothing(hostile) -> None:
    notebook = nbformat.read(hostile[3] / "report.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    outputs = [output for cell in code for output in cell.outputs]
    assert not [o for o in outputs if o.output_type in ("stream", "error")]
    assert sum("image/png" in o.get("data", {}) for o in outputs) == len(DRAWN)
    assert not any("<script" in o["data"].get("text/html", "") for o in outputs)


def test_the_same_results_are_not_reported_twice(hostile, caplog: pytest.LogCaptureFixture) -> None:
    loaded, records, out, folder = hostile
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with caplog.at_level(logging.INFO, "tadaconv.reporting"):
        assert report(loaded, "quick", records, out) == folder
    assert "up to date" in caplog.text
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_a_report_made_again_has_the_same_bytes(hostile, tmp_path: Path) -> None:
    loaded, records, out, folder = hostile
    (folder / "notes.txt").write_text("mine")  # the user's own file stays
    copy = shutil.copytree(folder, tmp_path / "copy")
    (folder / "report.html").unlink()
    (folder / "report.ipynb").unlink()
    report(loaded, "quick", records, out)
    for file in (p for p in copy.rglob("*") if p.is_file()):
        assert (folder / file.relative_to(copy)).read_bytes() == file.read_bytes(), file.name


def test_a_format_made_from_older_results_is_out_of_date(made_up, tmp_path: Path) -> None:
    old = made_up({"a": [50.0], "base": [60.0]})
    new = made_up({"a": [51.0], "base": [60.0]})
    folder = report(old[0], "quick", old[1], tmp_path, ["tex", "csv"])
    report(new[0], "quick", new[1], tmp_path, ["csv"])
    assert "50.0" in (folder / "table.tex").read_text()
    assert set(json.loads((folder / "report.json").read_text())["digests"]) == {"csv", "tex"}
    report(new[0], "quick", new[1], tmp_path, ["tex"])
    assert "51.0" in (folder / "table.tex").read_text()
    assert not (folder / "report.html").exists()


def test_a_regime_given_as_a_path_names_the_folder_by_its_stem(made_up, tmp_path: Path) -> None:
    loaded, records = made_up({"base": [60.0]})
    assert report(loaded, "labs/my_lab.py", records, tmp_path, ["csv"]).name == "made_up-my_lab"


def test_an_unknown_format(made_up, tmp_path: Path) -> None:
    loaded, records = made_up({"base": [60.0]})
    with pytest.raises(UserError, match=r"unknown report format 'htm'; one of: html, "):
        report(loaded, "quick", records, tmp_path, ["htm"])
    assert FORMATS == ("html", "ipynb", "tex", "csv")


def test_no_results_yet(made_up, tmp_path: Path) -> None:
    loaded, _ = made_up({"base": [60.0]})
    with pytest.raises(UserError, match="make them with: tada ablate made_up --regime quick"):
        report(loaded, "quick", [], tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_template_of_ones_own_that_fails(made_up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It is found in the current folder, runs in the report's, and its kernel has not loaded torch.
    (tmp_path / "reports").mkdir()
    lines = [
        "# %%",
        "import sys, pathlib",
        "from tadaconv.reporting.export import read_export",
        "read_export('.')",
    ]
    lines += ["raise ValueError(('torch' in sys.modules, pathlib.Path.cwd().name))"]
    (tmp_path / "reports" / "ablation.py").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    loaded, records = made_up({"base": [60.0]})
    with pytest.raises(UserError, match=r"ablation\.py: code cell 1 .* fails: ValueError: \(False, 'made_up-quick'\)"):
        report(loaded, "quick", records, tmp_path / "runs")


def test_page_and_csv_agree_on_what_is_compared(hosts, tmp_path: Path) -> None:
    loaded, records = hosts
    folder = report(loaded, "quick", records, tmp_path, ["csv"])
    csv = pd.read_csv(folder / "table.csv", keep_default_na=False).set_index("row")
    export = read_export(folder)
    text = _text(blocks.results(export))
    assert "Against base" not in text
    assert "Rows differ in backbone and number of frames" in text
    for row in loaded.table.all_rows:
        other = "" if row is loaded.table.base else row.versus or loaded.table.base.name
        assert csv.loc[row.name, "versus"] == other
        line = re.search(rf" {re.escape(row.name)} (\d(?: of \d)? \d.*?)171\.0 ", text)
        assert line is not None
        assert re.findall(r"to (\S+)", line[1]) == ([other] if other else [])


def test_conditions_say_what_each_row_ran_on(hosts) -> None:
    text = _text(blocks.conditions(collect(hosts[0], "quick", hosts[1])))
    assert "tiny for slow_only_8x8: slow_only_8x8 + cin; slow_only_8x8 + cout; slow_only_8x8" in text
    assert "32: slowfast_4x16; slowfast_4x16 + cin; slowfast_4x16 + cout" in text
    assert "num frames" not in text


def _text(block: blocks.Block) -> str:
    return Page(block.html).words


def test_files_of_the_users_own_are_not_written_over(made_up, tmp_path: Path) -> None:
    loaded, records = made_up({"a": [50.0], "base": [60.0]})
    folder = tmp_path / "reports" / "made_up-quick"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    assert report(loaded, "quick", records, tmp_path, ["csv"]) == folder
    assert report(loaded, "quick", records, tmp_path, ["csv", "tex"]) == folder
    assert (folder / "notes.txt").read_text() == "mine"
    for content in (None, "{}", "[1]"):
        other = tmp_path / str(content)
        theirs = other / "reports" / "made_up-quick"
        theirs.mkdir(parents=True)
        (theirs / "table.tex").write_text("mine")
        if content is not None:
            (theirs / "report.json").write_text(content)
        with pytest.raises(UserError, match=r"holds files that no report has written, .*table\.tex"):
            report(loaded, "quick", records, other, ["csv"])
        assert (theirs / "table.tex").read_text() == "mine"


def test_what_was_deleted_comes_back(made_up, tmp_path: Path) -> None:
    loaded, records = made_up({"a": [50.0], "base": [60.0]})
    folder = report(loaded, "quick", records, tmp_path, ["csv"])
    before = (folder / "cells.csv").read_bytes()
    (folder / "cells.csv").unlink()
    assert (report(loaded, "quick", records, tmp_path, ["csv"]) / "cells.csv").read_bytes() == before


def test_text_that_no_file_can_hold_is_written_as_its_escape(made_up, tmp_path: Path) -> None:
    loaded, records = made_up({"a": [50.0, None], "base": [60.0, 61.0]})
    half = "cannot read \udcff.mp4"
    records = [replace(r, error=half, traceback=half) if r.status == "failed" else r for r in records]
    folder = report(loaded, "quick", records, tmp_path, ["csv"])
    assert "cannot read \\udcff.mp4" in (folder / "cells.csv").read_text()


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        ("import os; os._exit(3)", RunError, "has died"),
        ("raise ValueError('one\\ntwo')", UserError, "ValueError: one$"),
    ],
)
def test_a_template_that_ends_its_kernel_or_fails_is_one_line(
    code: str, error: type[Exception], said: str, tmp_path: Path
) -> None:
    template = tmp_path / "mine.py"
    template.write_text(f"# %%\n{code}\n")
    with pytest.raises(error, match=said):
        execute(template, tmp_path)


def test_a_template_takes_parameters_and_nothing_else_and_hides_warnings(tmp_path: Path) -> None:
    template = tmp_path / "mine.py"
    template.write_text(
        '# %% tags=["parameters"]\nfolder, num = ".", 1\nnum = 1\n\n# %%\nimport sys\nprint(num + 1)\n'
        "print('a warning', file=sys.stderr)\n"
    )
    notebook = execute(template, tmp_path, {"num": 41})
    assert [o["text"] for cell in notebook.cells for o in cell.get("outputs", [])] == ["42\n"]
    with pytest.raises(UserError, match="unknown parameter of the template 'mine': 'nun'; one of: num"):
        execute(template, tmp_path, {"nun": 41})


def test_a_report_says_which_template_and_parameters_made_it(made_up, tmp_path: Path) -> None:
    loaded, records = made_up({"base": [60.0]})
    template = tmp_path / "mine.py"
    template.write_text(
        '# %% tags=["parameters"]\nfolder = "."\nlimit = 1.0\nwords = "a"\n\n# %%\nprint(limit, words)\n'
    )

    def made(formats: list[str], **parameters: object) -> dict[str, object]:
        choices = ReportOptions(str(template), parameters)
        folder = report(loaded, "quick", records, tmp_path / "runs", formats, options=choices)
        assert read_export(folder).manifest.cells
        return json.loads((folder / "report.json").read_text())

    tree = made(["csv"])
    assert (tree["template"], tree["parameters"]) == (None, {})  # nothing has been executed
    tree = made(["ipynb"], limit=2.5, words="2.5")
    digest = hashlib.sha256(template.read_bytes()).hexdigest()
    assert tree["template"] == {"name": "mine.py", "digest": digest[:16]}
    assert tree["parameters"] == {"limit": "2.5", "words": "'2.5'"}
    assert {name: literal_eval(text) for name, text in tree["parameters"].items()} == {"limit": 2.5, "words": "2.5"}
    # A table alone is made by no template: what made the notebook stays.
    assert made(["csv", "tex"], limit=7.0)["parameters"] == tree["parameters"]
    assert made(["ipynb"])["parameters"] == {}


def test_a_report_from_before_templates_were_named_is_read_and_made_again(made_up, tmp_path: Path) -> None:
    loaded, records = made_up({"base": [60.0]})
    folder = report(loaded, "quick", records, tmp_path, ["csv"])
    tree = json.loads((folder / "report.json").read_text())
    before = (folder / "report.json").read_bytes()
    (folder / "report.json").write_text(
        json.dumps({k: v for k, v in tree.items() if k not in ("template", "parameters")})
    )
    assert read_export(folder).manifest.template is None
    for damaged in ('{"digests": 3}', "[", '{"digests": {}, "template": "x"}'):
        (folder / "report.json").write_text(damaged)
        report(loaded, "quick", records, tmp_path, ["csv"])
        assert (folder / "report.json").read_bytes() == before
