import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as hs

from tadaconv.reporting.ablation.data import collect
from tadaconv.reporting.ablation.latex import latex_table
from tadaconv.reporting.ablation.summary import summarise
from tadaconv.reporting.core.latex import NameColumn, _pieces, escape


def test_specials_are_spelt_out() -> None:
    assert escape("50%_a&b") == r"50\%\_a\&b"
    assert escape(r"\input{x} #1 $y^2$ ~") == (
        r"\textbackslash{}input\{x\} \#1 \$y\textasciicircum{}2\$ \textasciitilde{}"
    )
    assert escape("<a|b>") == r"\textless{}a\textbar{}b\textgreater{}"


def test_the_table_has_one_line_a_row_and_as_many_fields_as_columns(context) -> None:
    loaded, records = context
    table = latex_table(summarise(collect(loaded, "quick", records)), loaded.table.base.name, "Why?\n\n100 % sure")
    body = [line for line in table.splitlines() if not line.startswith("%")]
    columns = re.fullmatch(r"\\begin\{tabular\}\{@\{\}(\w+)@\{\}\}", body[1])
    assert columns is not None
    rows = [line for line in body if line.endswith(r"\\")]
    assert len(rows) == 12  # headings are two lines
    assert {line.count("&") + 1 for line in rows} == {len(columns[1])}
    assert [line for line in body if line in ("\\toprule", "\\midrule", "\\bottomrule")] == [
        "\\toprule", "\\midrule", "\\bottomrule",
    ]  # fmt: skip
    assert r"(3,3) + global (base) & 3 & \underline{71.0} {\scriptsize [69.1, 72.8]} & -- &" in table
    assert table.splitlines()[0] == "% Why? 100 % sure"
    assert "% paper, (3,3) + global: paper, table 8" in table


def test_rows_without_a_result_stay_in(made_up) -> None:
    loaded, records = made_up({"[a] 50%": [None], "b": [None], "base": [60.0]})
    table = latex_table(summarise(collect(loaded, "quick", records[:1] + records[2:])), "base", "t")
    assert r"{[}a] 50\% (failed) & 0 of 1 & -- & -- & -- & -- \\" in table
    assert r"b (not run) & 0 of 1 &" in table
    assert "paper" not in table


def test_each_row_names_the_row_it_is_compared_with(hosts) -> None:
    loaded, records = hosts
    table = latex_table(summarise(collect(loaded, "quick", records)), loaded.table.base.name, "t")
    lines = [line.removesuffix(r" \\").split(" & ") for line in table.splitlines() if line.endswith(r"\\")]
    assert "% Wider than the text of an article" in table
    columns = re.search(r"\\begin\{tabular\}\{@\{\}(\w+)@\{\}\}", table)
    assert columns is not None
    assert {len(line) for line in lines} == {len(columns[1])}
    to = lines[0].index("to")
    assert columns[1][to] == "l"
    expected = {escape(row.name): escape(row.versus or loaded.table.base.name) for row in loaded.table.rows} | {
        escape(loaded.table.base.name): "--"
    }
    assert {line[0]: line[to] for line in lines[2:]} == expected


def test_the_papers_numbers_keep_their_digits(hosts) -> None:
    loaded, records = hosts
    table = latex_table(summarise(collect(loaded, "quick", records)), loaded.table.base.name, "t")
    assert table.count("& 75.85 ") == 7


def test_the_best_is_bold_and_ties_are_underlined(made_up) -> None:
    loaded, records = made_up({"best": [70.0, 71.0, 72.1, 70.5], "base": [60.0, 61.2, 62.0, 60.4]})
    table = latex_table(summarise(collect(loaded, "quick", records)), "base", "t")
    assert "\nbest & 4 & \\textbf{70.9} {" in table
    assert "\nbase (base) & 4 & 60.9 {" in table
    assert "% Bold: " in table
    loaded, records = made_up({"close": [70.0, 71.0, 69.1, 70.5], "base": [69.0, 72.0, 69.0, 70.4]})
    table = latex_table(summarise(collect(loaded, "quick", records)), "base", "t")
    assert table.count("\\underline{70.") == 2
    assert "\\textbf" not in table


def test_the_papers_column_can_be_left_out(context) -> None:
    loaded, records = context
    summary = summarise(collect(loaded, "quick", records))
    with_it, without = (latex_table(summary, "b", "t", paper=paper) for paper in (True, False))
    assert "paper" in with_it
    assert "64.0" in with_it
    assert "paper" not in without
    assert "64.0" not in without
    assert with_it.count("&") == without.count("&") + 12


def test_a_row_with_a_gap_says_of_how_many_seeds(made_up) -> None:
    loaded, records = made_up({"a": [50.0, None, 51.0], "base": [60.0, 61.0, 63.0]})
    table = latex_table(summarise(collect(loaded, "quick", records)), "base", "t")
    assert "\na & 2 of 3 & " in table
    assert "\nbase (base) & 3 & " in table


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(hs.text())
def test_a_title_stays_in_its_comment(context_summary: pd.DataFrame, title: str) -> None:
    lines = latex_table(context_summary, "b", title).split("\n")
    assert lines[0].startswith("% ")
    assert lines[0].isprintable()
    assert lines[1].startswith("% Needs")


@pytest.fixture(scope="module")
def context_summary(make_up) -> pd.DataFrame:
    loaded, records = make_up({"a": [50.0], "base": [60.0]})
    return summarise(collect(loaded, "quick", records))


@given(hs.text())
def test_whatever_is_escaped_breaks_no_table(text: str) -> None:
    escaped = escape(text)
    assert not re.search(r"(?<!\\)[&#_%]", escaped)
    assert not re.search(r"[\x00-\x1f\x7f\u2028\u2029\u200b\u202e]", escaped)
    assert not escaped.startswith(("[", "*"))
    # Braces and dollars come in pairs: what is opened is closed within the name.
    bare = re.sub(r"\\[\\{}$%&#_]", "", escaped)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert escaped.count(r"\ifdefined") == escaped.count(r"\fi{}") == escaped.count(r"\else")


def test_letters_stand_for_themselves_where_every_engine_has_them() -> None:
    assert escape("na\u00efve caf\u00e9, e\u0301") == "na\u00efve caf\u00e9, \u00e9"
    assert escape("\u03b1 \u2265 \u0394") == r"$\alpha$ $\geq$ $\Delta$"
    assert escape("\u5377\u79ef x") == "\\ifdefined\\Umathchar \u5377\u79ef\\else {[}U+5377 U+79EF]\\fi{} x"
    assert escape("a\u202eb\x07") == "a{[}U+202E]b{[}U+0007]"
    assert escape("--x") == r"-\kern0pt-x"


def test_letters_that_pdflatex_lacks_are_left_to_the_other_engines() -> None:
    for letter in ("\u03ac", "\u1f00", "\u0105", "\u00ab", "\u0430"):
        code_point = f"U+{ord(letter):04X}"
        assert escape(letter) == rf"\ifdefined\Umathchar {letter}\else {{[}}{code_point}]\fi{{}}"
    greek = [chr(code) for code in (*range(0x391, 0x3A2), *range(0x3A3, 0x3AA), *range(0x3B1, 0x3CA))]
    assert all(re.fullmatch(r"\$\\?[A-Za-z]+\$", escape(letter)) for letter in greek)


HARD = [
    "".join(map(chr, range(0x21, 0x7F))),
    *("".join(map(chr, range(start, start + 32))) for start in range(0xA0, 0x180, 32)),
    "\u0391\u0392\u0393\u03a9 \u03b1\u03b2\u03b3\u03c2\u03c9\u03bf \u03ac \u2264\u2265\u2192\u221e\u00b2",
    "\u65f6\u95f4 \u0430\u0431\u0432 \U0001f389\ufe0f \u0627\u0644 x\u0323\u0301 \u200b\u200d\u202e\ufeff",
    "a\x00\x07\x1b\x7f\x85b\u2028c\ue000",
    "[x]", "*star", "(paren)", "--workers ,, '' ?` !`", "\\end{tabular}\\input{x}",
]  # fmt: skip


@given(hs.text(hs.sampled_from("ab_/-., %[*\u03ac\u0301\u5377"), max_size=60))
def test_a_name_that_wraps_is_the_same_name(name: str) -> None:
    pieces = _pieces(name)
    assert "".join(pieces) == name
    assert all(pieces) or name == ""
    assert max((len(word) for piece in pieces for word in piece.split(" ")), default=0) <= 13 or "\u0301" in name
    wrapped = NameColumn("p{1cm}", wraps=True).cell(name)
    assert wrapped.count("{") == wrapped.count("}")
    assert NameColumn("l", wraps=False).cell(name) == escape(name)


@pytest.mark.parametrize("long", [False, True])
def test_the_table_fits_the_text_of_an_article(long: bool, context, make_up, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    loaded, records = context
    if long:
        names = [
            "no res2, no res3, no res4, share 0.25, reduction 1", "resnet50_tada_cin_k2_share_0.25/reduction_1-seed_0",
            "x" * 90, "50%_of_\u03ac\u03ad_" * 6,
        ]  # fmt: skip
        loaded, records = make_up({**{name: [50.0, 61.0, 52.5] for name in names}, "base": [60.0, 71.0, 63.0]})
    summary = summarise(collect(loaded, "quick", records))
    table = latex_table(summary, loaded.table.base.name, "t", paper=False)
    measured = f"\\sbox0{{{table}}}\\typeout{{WIDTH \\the\\wd0 OF \\the\\textwidth}}\\box0"
    document = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{measured}\\end{{document}}"
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    call = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r"WIDTH ([\d.]+)pt ?OF ([\d.]+)pt", done.stdout)
    assert found is not None, done.stdout[-2000:]
    assert float(found[1]) <= float(found[2]) == 345.0
    # A word that is wider than its column would write over the numbers beside it.
    assert [float(pt) for pt in re.findall(r"Overfull \\hbox \(([\d.]+)pt", done.stdout) if float(pt) > 1] == []


@pytest.mark.parametrize("engine", ["pdflatex", "xelatex", "lualatex"])
def test_a_table_with_any_names_compiles(engine: str, context, make_up, tmp_path: Path) -> None:
    if shutil.which(engine) is None:
        pytest.skip(f"{engine} is not installed")
    loaded, records = make_up({**{name: [50.0, 51.0, 52.5] for name in HARD}, "base": [60.0, 61.0, 63.0]})
    hostile = latex_table(summarise(collect(loaded, "quick", records)), "base", "100 %\n\\x\u2028 \x85 }{")
    ordinary = latex_table(summarise(collect(context[0], "quick", context[1])), "b", "t")
    (tmp_path / "hostile.tex").write_text(hostile, encoding="utf-8")
    (tmp_path / "ordinary.tex").write_text(ordinary, encoding="utf-8")
    tables = "\\input{hostile}\\input{ordinary}"
    document = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{tables}\\end{{document}}"
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    call = [engine, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 1000
