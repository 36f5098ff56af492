import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tadaconv.cli.running import print_table
from tadaconv.execution.cells import CellRecord
from tadaconv.regime import load_regime
from tadaconv.regimes import quick
from tadaconv.reporting.ablation.data import collect
from tadaconv.reporting.ablation.latex import latex_table
from tadaconv.reporting.ablation.summary import summarise
from tadaconv.reporting.ablation.terminal import terminal_table
from tadaconv.reporting.core.format import MINUS, p_value
from tadaconv.spec import TAda
from tadaconv.table import LoadedTable, PaperResult, Row, Table

LIGHT = """
import sys
import tadaconv.reporting
heavy = {"torch", "pandas", "matplotlib", "seaborn", "statsmodels", "nbclient", "nbconvert", "IPython", "optuna"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
import tadaconv.reporting.ablation.terminal
heavy -= {"pandas"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert "scipy.stats" not in sys.modules
"""


def drawn(loaded, records, width: int = 80, styled: bool = True) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(terminal_table(loaded, "quick", records, styled=styled))
    return console.export_text()


def test_imports_nothing_heavy() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], check=True)


def test_wide_intervals_cut_no_digit_off_elsewhere(make_result) -> None:
    paper = PaperResult(61.6, "paper", "Kinetics-400", 8, "10 clips x 3 crops of 256 px")
    base, other = Row("base, which has words", TAda(), paper), Row("another, which has more words", None, paper)
    scores = ((base, [1.0, 99.0]), (other, [99.0, 1.0]))
    loaded = LoadedTable("made_up", "Is it wide?", Table(base=base, rows=[other]))
    cells = [
        CellRecord(row.cell(quick.REGIME, seed), "finished", make_result(top1))
        for row, values in scores
        for seed, top1 in enumerate(values)
    ]
    text = drawn(loaded, cells)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("61.6") == 2


@pytest.mark.parametrize("width", [80, 120])
def test_every_row_and_number_fits(context, width: int) -> None:
    text = drawn(*context, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "71.0 [69.1,72.8]" in text
    assert re.search(r"-30.7\s.*\[-32.9,-28.5\]".replace("-", MINUS), text, re.DOTALL)
    assert "64.0" in text
    assert "over seeds" in text


def test_failed_rows_say_why(made_up) -> None:
    text = drawn(*made_up({"other": [None, None], "base": [60.0, 61.0]}))
    assert "other (failed)" in text
    assert "other failed with seed 0, 1: RunError: the loss is not finite at step 40" in " ".join(text.split())


def test_rows_on_their_way(made_up) -> None:
    loaded, records = made_up({"a": [1.0], "b": [1.0], "base": [2.0]})
    moving = [type(r)(r.cell, status) for r, status in zip(records, ("running", "waiting", "waiting"), strict=True)]
    text = drawn(loaded, moving)
    assert "a (running)" in text
    assert "b (waiting)" in text
    assert "base (base, waiting)" in text
    assert "base (base, not run)" in drawn(loaded, moving[:2])


def test_names_are_text_not_markup(made_up) -> None:
    text = drawn(*made_up({"[red]x[/red]": [1.0], "base": [2.0]}))
    assert "[red]x[/red]" in text


def test_one_seed_is_named_as_such(made_up) -> None:
    assert "over the validation clips" in " ".join(drawn(*made_up({"a": [1.0], "base": [2.0]})).split())


@pytest.mark.parametrize("width", [80, 120])
def test_each_row_names_the_row_it_is_compared_with(hosts, width: int) -> None:
    loaded, _ = hosts
    text = drawn(*hosts, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for host in ("slowfast_4x16", "r2plus1d", "r3d"):
        found = re.findall(rf"to\s+{host}\s", text)
        assert len(found) == sum(row.versus == host for row in loaded.table.rows)
    assert "Δ to base" not in text


def test_a_table_on_one_base_names_it_once(context) -> None:
    text = drawn(*context)
    assert text.count("Δ to base") == 1


def test_without_any_result_headings_have_no_unit(made_up) -> None:
    loaded, records = made_up({"other": [None], "base": [None]})
    for text in (drawn(loaded, records), latex_table(summarise(collect(loaded, "quick", records)), "base", "t")):
        assert "params" in text
        assert "MACs" in text
        assert "()" not in text


def styles(loaded, records) -> dict[str, str]:
    """By row without a seed count, the style of its accuracy."""
    table = terminal_table(loaded, "quick", records)
    rows, accuracies = (list(column.cells) for column in (table.columns[0], table.columns[2]))
    return {
        row.plain.split("\n")[0]: " ".join(f"{span.style} {span.start}-{span.end}" for span in accuracy.spans)
        for row, accuracy in zip(rows, accuracies, strict=True)
    }


def test_the_best_is_bold_and_ties_are_underlined(made_up) -> None:
    best = made_up({"a": [70.0, 71.0, 72.1, 70.4], "base": [60.0, 61.2, 62.0, 60.4]})
    assert styles(*best) == {"a": "bold 0-4", "base (base)": ""}
    text = " ".join(drawn(*best).split())
    assert "Bold: significantly above all other rows (paired t test at 5 %, after Holm)" in text
    assert "Underlined" not in text
    tie = made_up({"a": [70.0, 71.0, 69.1, 70.5], "base": [69.0, 72.0, 69.0, 70.4]})
    assert styles(*tie) == {"a": "underline 0-4", "base (base)": "underline 0-4"}
    assert "Underlined: the highest" in drawn(*tie)


def test_marks_are_signs_where_there_are_no_styles(made_up) -> None:
    best = made_up({"a": [70.0, 71.0, 72.1, 70.4], "base": [60.0, 61.2, 62.0, 60.4]})
    text = drawn(*best, styled=False)
    assert re.search(r" \*70\.9 \[", text)
    assert "*: significantly above all other rows" in text
    assert not re.search("~|Bold|Underline", text)
    text = drawn(*made_up({"a": [70.0, 71.0, 69.1], "b": [1.0, 2.1, 3.3], "base": [69.0, 72.0, 69.0]}), styled=False)
    assert len(re.findall(r" ~7\d\.\d \[", text)) == 2
    assert "~: the highest" in text


@pytest.mark.parametrize(("terminal", "signs"), [({"force_terminal": True, "no_color": True}, 0), ({}, 2)])
def test_a_console_without_styles_gets_signs(made_up, terminal: dict[str, bool], signs: int) -> None:
    loaded, records = made_up({"a": [70.0, 71.0, 69.1, 70.5], "base": [69.0, 72.0, 69.0, 70.4]})
    console = Console(width=80, file=io.StringIO(), _environ={"TERM": "xterm"}, **terminal)
    print_table(console, loaded, "quick", load_regime("quick"), records, Path("runs"))
    assert console.file.getvalue().count("~7") == signs


def test_a_row_with_a_gap_says_of_how_many_seeds(made_up) -> None:
    loaded, records = made_up({"a": [50.0, None, 51.0], "b": [float("nan"), 61.0, 62.0], "base": [60.0, 61.0, 63.0]})
    text = drawn(loaded, records)
    assert "2 of 3" in text
    assert "b failed with seed 0: the accuracy is not a number" in " ".join(text.split())


@pytest.mark.parametrize(
    ("p", "said"), [(0.0, "p < 0.001"), (0.00049, "p < 0.001"), (0.0005, "p = 0.001"), (0.031, "p = 0.031")]
)
def test_no_p_is_said_to_be_zero(p: float, said: str) -> None:
    assert p_value(p) == said
