import re

from tadaconv.reporting.export import collect
from tadaconv.reporting.latex import escape, latex_table
from tadaconv.reporting.summary import summarise


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
    columns = re.fullmatch(r"\\begin\{tabular\}\{@\{\}(\w+)@\{\}\}", body[0])
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
