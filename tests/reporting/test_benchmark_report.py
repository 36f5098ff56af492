"""Reports of what ``tada bench`` wrote."""

import json
import logging
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import product
from math import comb
from pathlib import Path
from statistics import median
from typing import Any

import nbformat
import pandas as pd
import pytest
from rich.console import Console
from support import Page

from tadaconv.bench.record import PHASES, Benchmark, Case, Limit, Phase, Settings, Work
from tadaconv.bench.statistics import limit, ratios, timing
from tadaconv.errors import UserError
from tadaconv.reporting.benchmark import benchmark_report, figures, page, text
from tadaconv.reporting.benchmark.data import (
    ROUND_COLUMNS,
    TABLE_COLUMNS,
    BenchmarkManifest,
    collect,
    read_benchmark,
    rounds_frame,
    table_frame,
)
from tadaconv.reporting.benchmark.latex import latex_table
from tadaconv.reporting.benchmark.terminal import terminal_tables
from tadaconv.reporting.core.options import ReportOptions

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
SCRIPT = "<script>alert('1')</script>"
SPECIAL = r"TAda 50%_a&b $\alpha$ [x] #1"

ENVIRONMENT = {"device": "CPU (2 threads)", "processor": "a processor", "machine": "Linux", "tadaconv": "0.1.0+aa",
               "torch": "2.9.0", "date": "2026-03-01"}  # fmt: skip


def measured(
    names: list[str], rounds: int = 7, memory: int | None = 2**28, mode: str = "eager", case: str = "res2: 3x3"
) -> Case:
    """A case as the benchmarks make it; method i takes about i + 1 times as long."""
    work: dict[Phase, Work] = {phase: Work(bytes=800, multiply_adds=600) for phase in PHASES}
    seconds: list[dict[Phase, list[float]]] = []
    for i, _ in enumerate(names):
        parts: dict[Phase, list[float]] = {
            phase: [0.01 * (i + 1) * (1 + 0.03 * ((3 * r + 5 * i) % 7)) * (1 + j) for r in range(rounds)]
            for j, phase in enumerate(("forward", "backward"))
        }  # type: ignore[misc]
        seconds.append({**parts, "both": [a + b for a, b in zip(parts["forward"], parts["backward"], strict=True)]})
    copy, matrix = _limit(Work(bytes=1600, multiply_adds=0), rounds), _limit(Work(bytes=0, multiply_adds=900), rounds)
    timings = [timing(n, s, seconds[0], work, copy, matrix, memory) for n, s in zip(names, seconds, strict=True)]
    naive = {names[1]: ratios(seconds[-1]["both"], seconds[1]["both"])} if len(names) > 2 else {}
    return Case(name=case, mode=mode, repeats=2, work=work, copy_limit=copy, matrix_limit=matrix, timings=timings,
                naive_over_ours=naive)  # type: ignore[arg-type] # fmt: skip


def _limit(work: Work, rounds: int) -> Limit:
    return limit(work, [0.02 + 0.001 * r for r in range(rounds)])


def benchmark(cases: list[Case], bench: str = "op", **environment: str) -> Benchmark:
    settings = Settings(
        dtype="fp32", modes=["eager"], num_clips=2, num_frames=8, size_px=56, rounds=7,
        backbone="resnet50" if bench == "step" else None,
    )  # fmt: skip
    return Benchmark(bench=bench, settings=settings, environment={**ENVIRONMENT, **environment}, cases=cases)  # type: ignore[arg-type]


def write(path: Path, found: Benchmark) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found.model_dump_json(indent=1))
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A report on a file with hostile names, in a folder with a space and a quote: the file, out, the folder."""
    out = tmp_path_factory.mktemp("it's a folder")
    case = measured([SCRIPT, SPECIAL, "naive"], case=f"{SCRIPT}: a & b")
    path = write(out / "files" / "it's a <b>file.json", benchmark([case, measured(["plain", SCRIPT], case="$x$")]))
    return path, out, benchmark_report([path], out)


def text_of(block: page.Block) -> str:
    return re.sub(r"\s+", " ", Page(block.html).text.replace("\xa0", " "))


SHIPPED = sorted(path for path in RESULTS.glob("*.json") if path.name.startswith(("op-", "step-")))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_is_stored_is_read_to_the_last_digit(path: Path) -> None:
    tree = json.loads(path.read_text())
    (named,) = collect([path]).runs
    read = named.run.model_dump(mode="json")
    assert named.file == path.name
    assert named.run.file_stem == path.stem
    assert {**read["settings"], **tree["settings"]} == read["settings"]
    assert {name: read[name] for name in tree if name != "settings"} == {
        name: value for name, value in tree.items() if name != "settings"
    }


def test_what_a_later_version_adds_is_no_reason_to_turn_a_file_away(tmp_path: Path) -> None:
    tree = json.loads(SHIPPED[0].read_text())
    expected = Benchmark.model_validate(tree)
    for part in (tree, tree["settings"], tree["races"][0], tree["races"][0]["entries"][0]["ratio"]["both"]):
        part["added later"] = 1
    path = tmp_path / "later.json"
    path.write_text(json.dumps(tree))
    assert collect([path]).runs[0].run == expected


def test_a_report_that_was_exported_before_is_read(tmp_path: Path) -> None:
    """It holds less of the device's limits and of the settings, which nothing on a page tells of."""
    manifest = collect([SHIPPED[0]])
    tree = json.loads(manifest.model_dump_json())
    for run in (named["run"] for named in tree["runs"]):
        del run["settings"]["modes"], run["settings"]["calibrations"]
        for case in run["races"]:
            del case["work"]
            for reached in (case["copy_limit"], case["matrix_limit"]):
                del reached["work"], reached["seconds"]
    (tmp_path / "report.json").write_text(json.dumps(tree))
    earlier = read_benchmark(tmp_path)
    pd.testing.assert_frame_equal(table_frame(earlier), table_frame(manifest))
    for block in (page.headline, page.results, page.provenance, page.methods):
        assert block(earlier) == block(manifest)
    assert latex_table(earlier) == latex_table(manifest)
    (before,), (now,) = figures.ratios(earlier), figures.ratios(manifest)
    assert (before.caption, before.alt) == (now.caption, now.alt)


def test_notebooks_that_were_written_before_find_their_functions() -> None:
    from tadaconv.reporting.benchmark import blocks, record

    for name in ("headline", "methods", "provenance", "results"):
        assert getattr(blocks, name) is getattr(page, name)
    assert record.read_benchmark is read_benchmark


def test_the_tables_say_what_was_measured(tmp_path: Path) -> None:
    path = write(
        tmp_path / "one.json", benchmark([measured(["plain", "TAda cin", "naive cin"]), measured(["p", "q"], case="b")])
    )
    tree, manifest = json.loads(path.read_text()), collect([path])
    table, rounds = table_frame(manifest), rounds_frame(manifest)
    assert list(table) == TABLE_COLUMNS
    assert list(rounds) == ROUND_COLUMNS
    assert len(table) == 5 * 3
    assert len(rounds) == 5 * 3 * 7
    for case in tree["races"]:
        for one, phase in product(case["entries"], PHASES):
            own, plain = one["seconds"][phase], case["entries"][0]["seconds"][phase]
            key = {"race": case["name"], "contestant": one["name"], "phase": phase}
            (line,) = table[(table[list(key)] == pd.Series(key)).all(axis=1)].to_dict("records")
            within = sorted(a / b for a, b in zip(own, plain, strict=True))
            assert line["ratio"] == pytest.approx(median(within), rel=1e-12)
            assert line["seconds"] == pytest.approx(median(own), rel=1e-12)
            # Of 7 numbers the least and the greatest hold the median between them unless all lie on one side of it.
            assert (line["ratio_low"], line["ratio_high"]) == pytest.approx((within[0], within[-1]), rel=1e-12)
            assert 2 * comb(7, 0) / 2**7 <= 0.05 < 2 * (comb(7, 0) + comb(7, 1)) / 2**7
            by_round = rounds[(rounds[list(key)] == pd.Series(key)).all(axis=1)]
            assert by_round["seconds"].tolist() == own
            assert sorted(by_round["ratio"]) == pytest.approx(within)
            assert by_round["round"].tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_the_figure_draws_the_rounds_and_the_medians(tmp_path: Path) -> None:
    path = write(
        tmp_path / "one.json",
        benchmark([measured(["plain", "TAda cin", "naive"]), measured(["plain", "TAda cin", "naive"], case="b")]),
    )
    manifest = collect([path])
    data = figures.ratios_data(manifest.runs[0].run)
    assert data["plain"].tolist() == [True, False, False] * 2
    (drawing,) = figures.ratios(manifest)
    panels = drawing.figure.axes
    assert len(panels) == 2
    drawn = data[~data["plain"]]
    rings = [
        offsets[:, 0].tolist() for ax in panels for c in ax.collections if (offsets := c.get_offsets()).shape[0] == 7
    ]
    assert rings == drawn["rounds"].tolist()
    points = [line.get_xdata()[0] for ax in panels for line in ax.lines if line.get_marker() in ("o", "s")]
    assert points == drawn["ratio"].tolist()
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["TAda cin", "naive"]
    for value in (*drawn["low"], *drawn["high"], 1.0):
        assert panels[0].get_xlim()[0] < value < panels[0].get_xlim()[1]
    for line in drawn.to_dict("records"):
        assert f"{line['method']} {line['ratio']:.2f}" in drawing.alt
    assert data["ratio"].max() > figures.LOG_FROM
    assert panels[0].get_xscale() == "log"
    assert "logarithmic" in drawing.caption


def test_a_training_step_is_drawn_with_its_memory(tmp_path: Path) -> None:
    cases = [measured(["TSN", "TAda2D"], memory=3 * 2**20), measured(["TSN", "TAda2D"], memory=None, mode="compiled")]
    run = benchmark(cases, "step")
    (drawing,) = figures.ratios(collect([write(tmp_path / "one.json", run)]))
    eager, compiled = ([note.get_text() for note in ax.texts] for ax in drawing.figure.axes)
    ratio = f"{run.cases[0].timings[1].ratio['both'].median:.2f}"
    assert eager[0] == f"{ratio}, 3 MiB"
    assert eager[1].endswith("ms, 3 MiB")
    assert compiled[0] == ratio
    assert "peak memory" in drawing.caption
    assert figures.ratios_data(benchmark(cases))["memory"].isna().all()


def test_the_picture_of_a_run_says_what_it_ran_on() -> None:
    picture = figures.picture(benchmark([measured(["plain", "TAda"])]))
    assert picture is not None
    assert picture.startswith(b"\x89PNG")
    assert figures.picture(benchmark([measured(["plain"])])) is None


@pytest.mark.parametrize("rounds", [5, 7])
def test_a_terminal_of_80_columns_shows_every_number(rounds: int) -> None:
    names = ["plain convolution", "TAda cin", "naive k2", "tsm", "tam", "squeeze_excitation"]
    run = benchmark([measured(names, rounds=rounds), measured(["plain", "TAda"], case="[b]", rounds=rounds)])
    run = run.but(settings__rounds=rounds)
    console = Console(width=80)
    with console.capture() as printed:
        console.print(terminal_tables(run))
    shown = printed.get()
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 80
    assert "…" not in shown
    assert "[b], eager" in shown
    assert ("Fewer than 6 rounds" in shown) == (rounds < 6)
    lines = {line[1:19].strip(): line[19:].split() for line in shown.splitlines()}
    for one in run.cases[0].timings:
        ratio = one.ratio["both"]
        ends = [ratio.quartile_low, ratio.quartile_high, ratio.interval_low, ratio.interval_high]
        numbers = [1e3 * one.time["both"].median, ratio.median, *(end for end in ends if end is not None)]
        assert lines[one.name][: len(numbers)] == [text.three_digits(number) for number in numbers]
        assert lines[one.name][-1] == "256"


def test_panels_of_other_methods_stand_below_each_other(tmp_path: Path) -> None:
    cases = [
        measured(["plain", "TAda cin"]),
        measured(["plain", "TAda k2", "naive"], case="b"),
        measured(["alone"], case="c"),
    ]
    (drawing,) = figures.ratios(collect([write(tmp_path / "one.json", benchmark(cases))]))
    labels = [[label.get_text() for label in ax.get_yticklabels()] for ax in drawing.figure.axes]
    assert labels == [["TAda cin"], ["TAda k2", "naive"]]


def test_a_run_of_the_plain_network_alone_has_no_figure(tmp_path: Path) -> None:
    manifest = collect([write(tmp_path / "one.json", benchmark([measured(["plain"])]))])
    assert figures.ratios(manifest) == []
    assert "ran alone" in text_of(page.headline(manifest))
    assert re.search(r"^plain & [\d.]+ & 1 & ", latex_table(manifest), re.MULTILINE)


def test_a_report_is_whole_and_asks_for_nothing(hostile: tuple[Path, Path, Path]) -> None:
    path, out, folder = hostile
    assert folder == out / "reports" / f"benchmark-{path.stem}"
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    drawn = {name for name in names if name.startswith("figures/")}
    assert names - drawn == {"report.json", "table.csv", "rounds.csv", "table.tex", "report.ipynb", "report.html"}
    assert {"figures/ratios.svg", "figures/ratios.png"} <= drawn
    assert {Path(name).stem for name in drawn} == {"ratios"}
    html = (folder / "report.html").read_text()
    parsed = Page(html)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    addresses = [v for _, attrs in parsed.tags for k, v in attrs.items() if k in ("src", "href", "srcset", "action")]
    assert addresses
    assert all(address and address.startswith("data:image/svg+xml;base64,") for address in addresses)
    assert "<script" not in html
    assert "url(" not in html
    for name in (SCRIPT, SPECIAL, path.name):
        assert name in parsed.text
    said = re.sub(r"\s+", " ", parsed.text.replace("\xa0", " "))
    for fact in (
        "CPU (2 threads)",
        "fp32",
        "2 clips of 8 frames at 56 px",
        "torch 2.9.0",
        "date 2026-03-01",
        "rounds 7",
    ):
        assert fact in said


def test_the_notebook_holds_its_outputs_and_hides_nothing(hostile: tuple[Path, Path, Path]) -> None:
    notebook = nbformat.read(hostile[2] / "report.ipynb", as_version=4)
    nbformat.validate(notebook)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [o for o in outputs if o.output_type in ("stream", "error")]
    assert sum("image/png" in o.get("data", {}) for o in outputs) == 1
    assert not any("<script" in o["data"].get("text/html", "") for o in outputs)


def test_the_latex_table_is_one_with_special_characters_spelt_out(hostile: tuple[Path, Path, Path]) -> None:
    tex = (hostile[2] / "table.tex").read_text()
    body = [line for line in tex.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(body) == 2 + 3 + 2
    assert len({len(re.findall(r"(?<!\\)&", line)) for line in body}) == 1
    assert r"TAda 50\%\_a\&b \$\textbackslash{}alpha\$ {[}x] \#1" in tex.replace(r"\allowbreak{}", "")
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 1


LONG = "naive TAda of many a word and kernel"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("which", ["shipped", "long"])
def test_the_latex_table_fits_the_text_of_an_article(which: str, tmp_path: Path) -> None:
    long = measured(["ConvNeXt-T of ever more blocks", LONG], case=f"training step of {LONG * 4}", memory=2**40)
    paths = SHIPPED if which == "shipped" else [write(tmp_path / "one.json", benchmark([long]))]
    # With one run, and with several: the line on what each ran is long.
    tables = [latex_table(collect(chosen)) for chosen in ([paths[0]], paths)]
    (tmp_path / "tables.tex").write_text("\n\n\\noindent\n".join(tables), encoding="utf-8")
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\noindent\n\\input{tables}\\end{document}"
    )
    call = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said[-2000:]
    assert [float(pt) for pt in re.findall(r"Overfull \\hbox \(([\d.]+)pt", said) if float(pt) > 1] == []


def test_methods_are_named_once_and_by_kind(tmp_path: Path) -> None:
    op = benchmark([measured(["plain convolution", "TAda cin", "naive cin", "tsm"])])
    step = benchmark([measured(["TSN-50", "TAda2D-50", "tsm", "tam"])], "step")
    paths = [write(tmp_path / "op.json", op), write(tmp_path / "step.json", step)]
    manifest = collect(paths)
    who = (
        "TAda cin and TAda2D-50: TAdaConv of this package; naive cin: TAdaConv computed naively, with a kernel for "
        "every frame; tsm and tam: published rivals."
    )
    assert text.methods(manifest) == who
    assert text_of(page.headline(manifest)).count(who) == 1
    assert f"% {who}" in latex_table(manifest)
    first, second = (drawing.caption for drawing in figures.ratios(manifest))
    assert "Marks: circles for TAda cin (TAdaConv of this package); squares for naive cin (TAdaConv computed" in first
    assert "squares for tsm (a published rival)." in first
    assert "plain convolution in the same round" in first
    assert "squares for tsm and tam (published rivals)." in second
    assert "plain network in the same round" in second
    alone = collect([write(tmp_path / "alone.json", benchmark([measured(["plain", "tam"])]))])
    assert "circles" not in figures.ratios(alone)[0].caption


def test_methods_that_no_number_needs_are_not_named(tmp_path: Path) -> None:
    def named(names: list[str], rounds: int = 7) -> str:
        path = write(tmp_path / "one.json", benchmark([measured(names, rounds=rounds)]))
        return text_of(page.methods(collect([path])))

    assert "Order Statistics" in named(["plain", "TAda"])
    assert "Order Statistics" not in named(["plain", "TAda"], rounds=5)
    assert "Hyndman" in named(["plain", "TAda"], rounds=5)
    assert "Hyndman" not in named(["plain"])
    assert "Roofline" in named(["plain"])


def test_the_same_files_give_the_same_bytes(
    hostile: tuple[Path, Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, out, folder = hostile
    (folder / "notes.txt").write_text("mine")
    copy = shutil.copytree(folder, tmp_path / "copy")
    with caplog.at_level(logging.INFO, "tadaconv.reporting"):
        benchmark_report([path], out)
    assert "up to date" in caplog.text
    for name in ("report.html", "table.tex", "table.csv", "rounds.csv"):
        (folder / name).unlink()
    benchmark_report([path], out, ["tex", "csv"])
    for name in ("table.tex", "table.csv", "rounds.csv", "notes.txt"):
        assert (folder / name).read_bytes() == (copy / name).read_bytes(), name
    assert read_benchmark(folder) == read_benchmark(copy)
    assert str(tmp_path.parent) not in (folder / "report.json").read_text()


def test_csv_alone_writes_data_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "one.json", benchmark([measured(["plain", "TAda"])]))
    folder = benchmark_report([path], tmp_path, ["csv"])
    assert {p.name for p in folder.iterdir()} == {"report.json", "table.csv", "rounds.csv"}
    again = pd.read_csv(folder / "table.csv")
    pd.testing.assert_frame_equal(again, table_frame(read_benchmark(folder)).astype({"peak_memory_bytes": "int64"}))


def test_fewer_than_six_rounds_have_no_interval(tmp_path: Path) -> None:
    manifest = collect([write(tmp_path / "one.json", benchmark([measured(["plain", "TAda"], rounds=5, memory=None)]))])
    assert table_frame(manifest)["ratio_low"].isna().all()
    assert "No 95 % interval, which needs 6 rounds: one.json." in text.warnings(manifest)
    said = text_of(page.headline(manifest)) + text_of(page.results(manifest))
    assert "too few rounds for an interval" in said
    assert "Memory (MiB)" not in said
    assert "[" not in latex_table(manifest).partition(r"\midrule")[2]
    (drawing,) = figures.ratios(manifest)
    assert "interval" not in drawing.caption


def test_a_finding_is_said_with_its_interval(tmp_path: Path) -> None:
    cases = [measured(["plain", "TAda cin"]), measured(["plain", "TAda cin"], case="b", mode="compiled")]
    run = collect([write(tmp_path / "one.json", benchmark(cases, "step"))]).runs[0].run
    ratio = run.cases[0].timings[1].ratio["both"]
    assert ratio.interval_low is not None
    assert ratio.interval_high is not None
    ends = f"95 % interval {ratio.interval_low:.2f} to {ratio.interval_high:.2f}"
    said = f"{ratio.median:.2f} times as long as plain ({ends})."
    assert text.findings(run) == [f"TAda cin, eager: {said}", f"TAda cin, compiled: {said}"]
    assert text.subject(run) == f"A training step of {run.cases[0].plain.name} (backbone resnet50)"


def test_runs_of_other_clips_have_other_headings_and_titles(tmp_path: Path) -> None:
    runs = [benchmark([measured(["TSN-50", "TAda2D-50"])], "step") for _ in range(2)]
    sizes = [64, 112]
    paths = [write(tmp_path / f"{px}.json", run.but(settings__size_px=px)) for px, run in zip(sizes, runs, strict=True)]
    manifest = collect(paths)
    headings = re.findall(r"<h3>(.*?)</h3>", page.results(manifest).html)
    headings += re.findall(r"<h3>(.*?)</h3>", page.headline(manifest).html)
    assert len(headings) == len(set(headings)) == 4
    titles = {drawing.figure.get_suptitle() for drawing in figures.ratios(manifest)}
    for px in sizes:
        assert any(f"at {px} px" in heading for heading in headings)
        assert any(f"at {px} px" in title for title in titles)


def test_runs_that_do_not_compare_are_said_not_to(tmp_path: Path) -> None:
    case = measured(["plain", "TAda"])
    paths = [
        write(tmp_path / "a" / "one.json", benchmark([case])),
        write(tmp_path / "b" / "one.json", benchmark([case], processor="another", tadaconv="0.1.0+bb")),
        write(tmp_path / "b" / "two.json", benchmark([case], dirty="yes")),
    ]
    manifest = collect(paths)
    assert [named.file for named in manifest.runs] == ["a/one.json", "b/one.json", "b/two.json"]
    said = " ".join(text.warnings(manifest))
    assert "The runs differ in the processor and the version of tadaconv. Compare methods within a run only" in said
    assert "uncommitted changes of the code: b/two.json." in said
    assert text.warnings(collect(paths[:1])) == []
    assert "differ in" not in " ".join(text.warnings(collect([paths[0], paths[0].parent])))
    assert len(collect([paths[0], paths[0].parent]).runs) == 1
    assert text.title(manifest) == "How fast is the operator, compared with the plain convolution?"


def test_a_folder_lists_what_it_leaves_out() -> None:
    manifest = collect([RESULTS])
    assert [named.file for named in manifest.runs] == [path.name for path in SHIPPED]
    others = sorted(path.name for path in RESULTS.glob("*.json") if path not in SHIPPED)
    assert [each.file for each in manifest.left_out] == others
    assert manifest.benchmark == "results"
    said = text_of(page.provenance(manifest))
    for name in others:
        assert re.search(rf"{re.escape(name)} ?Not a result of tada bench: it has no benchmark\.", said)


def test_a_file_that_is_no_result() -> None:
    with pytest.raises(UserError, match=r"chaos-journal\.json' is not a result of tada bench: it has no benchmark$"):
        collect([RESULTS / "chaos-journal.json"])


Damage = Callable[[dict[str, Any]], None]


def first(tree: dict[str, Any]) -> dict[str, Any]:
    timing: dict[str, Any] = tree["races"][0]["entries"][1]
    return timing


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a round is missing": (lambda t: first(t)["seconds"]["both"].pop(), "have not all the same rounds"),
    "no round": (lambda t: [v.clear() for e in t["races"][0]["entries"] for v in e["seconds"].values()], "same rounds"),
    "a phase is missing": (lambda t: first(t)["ratio"].pop("forward"), "lacks a phase"),
    "not a number": (lambda t: first(t)["ratio"]["both"].update(median=float("nan")), "finite number"),
    "time runs backwards": (lambda t: first(t)["seconds"]["both"].__setitem__(0, -1.0), "not above zero"),
    "no case": (lambda t: t["races"].clear(), "races"),
    "two of one name": (lambda t: first(t).update(name="plain"), "two methods"),
    "two cases of one name": (lambda t: t["races"].append(t["races"][0]), "two cases"),
    "another kind": (lambda t: t.update(bench="a\nb"), "bench"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_turned_away_in_one_line(damage: str, tmp_path: Path) -> None:
    tree = json.loads(benchmark([measured(["plain", "TAda"])]).model_dump_json())
    spoil, said = DAMAGES[damage]
    spoil(tree)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(UserError) as raised:
        collect([path])
    assert "bad.json' is not a result of tada bench: " in str(raised.value)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    write(tmp_path / "good.json", benchmark([measured(["plain", "TAda"])]))
    assert [each.file for each in collect([tmp_path]).left_out] == ["bad.json"]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b"[1]", b"null", b'{"bench": "op"}'])
def test_what_is_not_a_result_at_all(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.json' is not a result of tada bench: it "):
        collect([tmp_path / "x.json"])
    with pytest.raises(UserError, match="has no result of tada bench; make one with: tada bench op"):
        collect([tmp_path])


def test_wrong_calls(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file '.*nowhere\.json'"):
        benchmark_report([tmp_path / "nowhere.json"], tmp_path)
    with pytest.raises(UserError, match="unknown report format 'pdf'"):
        benchmark_report([RESULTS], tmp_path, ["pdf"])
    with pytest.raises(UserError, match="no benchmark is named"):
        benchmark_report([], tmp_path)
    with pytest.raises(UserError, match=r"has no exported report"):
        read_benchmark(tmp_path)
    assert not any(tmp_path.iterdir())


def test_several_paths_name_the_report() -> None:
    assert collect(SHIPPED[:1]).benchmark == SHIPPED[0].stem
    assert collect(SHIPPED[:3]).benchmark == f"{SHIPPED[0].stem}-and-2-more"


def test_words_of_numbers() -> None:
    assert [text.per_cent(x) for x in (0.004, 0.0994, 0.0996, 1.234)] == ["0.4", "9.9", "10", "123"]
    assert [text.mebibytes(x) for x in (None, 2**20)] == ["\u2013", "1"]


def test_a_manifest_of_a_later_version_is_not_taken_for_ours() -> None:
    manifest = collect(SHIPPED[:1])
    tree = json.loads(manifest.model_dump_json())
    assert BenchmarkManifest.model_validate(tree) == manifest
    with pytest.raises(ValueError, match="surprise"):
        BenchmarkManifest.model_validate({**tree, "surprise": 1})


def test_a_template_of_ones_own_lies_beside(tmp_path: Path) -> None:
    template = tmp_path / "mine.py"
    template.write_text("# %%\nprint(6 * 7)\n")
    path = write(tmp_path / "one.json", benchmark([measured(["plain", "TAda"])]))
    folder = benchmark_report([path], tmp_path, ["ipynb"], options=ReportOptions(str(template)))
    assert folder.name == "benchmark-one-mine"
    notebook = nbformat.read(folder / "report.ipynb", as_version=4)
    assert notebook.cells[0].outputs[0].text == "42\n"
