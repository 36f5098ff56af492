"""The table of benchmarks for a paper."""

from collections.abc import Iterator

from tadaconv.bench.record import Benchmark, Case, Timing
from tadaconv.reporting.benchmark import text
from tadaconv.reporting.benchmark.data import BenchmarkManifest
from tadaconv.reporting.core.latex import NameColumn, comment, escape, name_column, tabular

_HEADS = [("", ""), ("time", "(ms)"), ("time ratio", ""), ("forward", ""), ("backward", ""), ("memory", "(MiB)")]


def latex_table(manifest: BenchmarkManifest) -> str:
    """Every case as a group of rows of one ``tabular``; needs the package booktabs and no other.

    It fits a column of 345 pt, the text of an ``article`` at 10 pt: quartiles and fractions of the machine's limits are
    in ``table.csv``. Where several runs are reported, a line above the groups names the setting of each.
    """
    timings = [timing for named in manifest.runs for case in named.run.cases for timing in case.timings]
    has_memory = any(timing.peak_memory_bytes is not None for timing in timings)
    heads = _HEADS if has_memory else _HEADS[:-1]
    names = name_column(timing.name for timing in timings)
    settings = [f"{named.file}: {text.subject(named.run)}. {text.setting(named.run)}" for named in manifest.runs]
    notes = [*settings, *filter(None, [text.methods(manifest), *text.warnings(manifest)])]
    rows = [
        row for named in manifest.runs for row in _rows(named.run, len(heads), names, alone=len(manifest.runs) == 1)
    ]
    lines = [
        *map(comment, notes),
        "% Needs \\usepackage{booktabs}. Time ratio: the time of a pass over the plain network's in the same round,",
        "% forward and backward together and each alone: medians, in brackets 95 % intervals. Time: of both together.",
        *tabular(f"{names.spec}{'r' * (len(heads) - 1)}", zip(*heads, strict=True), rows),
    ]
    return "\n".join(lines) + "\n"


def _rows(run: Benchmark, width: int, names: NameColumn, *, alone: bool) -> Iterator[list[str]]:
    if not alone:
        yield [_across(width, escape(f"{text.subject(run)}: {text.setting(run)}"))]
    for case in run.cases:
        yield [_across(width, f"\\textit{{{escape(text.case_title(case))}}}")]
        yield from (_fields(names, case, timing)[:width] for timing in case.timings)


def _across(width: int, line: str) -> str:
    """A line over all columns, between rules; a long one is wrapped before it could widen them."""
    return f"\\addlinespace\n\\multicolumn{{{width}}}{{@{{}}p{{0.8\\linewidth}}@{{}}}}{{\\raggedright {line}}}"


def _fields(names: NameColumn, case: Case, timing: Timing) -> list[str]:
    numbers = text.numbers(timing)
    interval = f" {{\\scriptsize [{numbers['interval']}]}}" if numbers["interval"] else ""
    ratios = [numbers["ratio"] + interval, numbers["forward"], numbers["backward"]]
    if timing is case.plain:
        ratios = ["1", "", ""]
    return [names.cell(timing.name), numbers["milliseconds"], *ratios, escape(numbers["memory"])]
