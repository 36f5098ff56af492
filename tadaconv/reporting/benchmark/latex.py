"""The table of benchmarks for a paper."""

from collections.abc import Iterator

from tadaconv.bench.record import Benchmark, Case, Timing
from tadaconv.reporting.benchmark import text
from tadaconv.reporting.benchmark.data import BenchmarkManifest
from tadaconv.reporting.core.latex import NameColumn, escape, name_column

_HEADS = [("", ""), ("time", "(ms)"), ("time ratio", ""), ("forward", ""), ("backward", "")]
_MEMORY = ("memory", "(MiB)")


def latex_table(manifest: BenchmarkManifest) -> str:
    """Every case as a group of rows of one ``tabular``; needs the package booktabs and no other.

    It fits a column of 345 pt, the text of an ``article`` at 10 pt: quartiles and shares of the machine's limits are
    in ``table.csv``. Where several runs are reported, a line above the groups says on what each ran. Comments say it
    all.
    """
    timings = [timing for named in manifest.runs for case in named.run.cases for timing in case.timings]
    has_memory = any(timing.peak_memory_bytes is not None for timing in timings)
    heads = [*_HEADS, *([_MEMORY] if has_memory else [])]
    names = name_column(timing.name for timing in timings)
    lines = [
        *(
            f"% {_line(f'{named.file}: {text.subject(named.run)}. {text.setting(named.run)}')}"
            for named in manifest.runs
        ),
        *(f"% {_line(note)}" for note in filter(None, [text.methods(manifest), *text.warnings(manifest)])),
        "% Needs \\usepackage{booktabs}. Time ratio: the time of a pass over the plain network's in the same round,",
        "% forward and backward together and each alone: medians, in brackets 95 % intervals. Time: of both together.",
        f"\\begin{{tabular}}{{@{{}}{names.spec}{'r' * (len(heads) - 1)}@{{}}}}",
        "\\toprule",
        " & ".join(name for name, _ in heads) + r" \\",
        " & ".join(unit for _, unit in heads) + r" \\",
    ]
    for named in manifest.runs:
        lines += _run(named.run, len(heads), has_memory, names, alone=len(manifest.runs) == 1)
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _run(run: Benchmark, width: int, has_memory: bool, names: NameColumn, *, alone: bool) -> Iterator[str]:
    if not alone:
        yield "\\midrule"
        yield _across(width, escape(f"{text.subject(run)}: {text.setting(run)}"))
    for case in run.cases:
        yield "\\midrule"
        yield _across(width, f"\\textit{{{escape(text.case_title(case))}}}")
        yield from (_timing(names, case, timing, has_memory) for timing in case.timings)


def _across(width: int, line: str) -> str:
    """A line over all columns; a long one is wrapped before it could widen them."""
    return f"\\multicolumn{{{width}}}{{@{{}}p{{0.8\\linewidth}}@{{}}}}{{\\raggedright {line}}} \\\\"


def _timing(names: NameColumn, case: Case, timing: Timing, has_memory: bool) -> str:
    numbers, is_plain = text.numbers(timing), timing is case.plain
    interval = f" {{\\scriptsize [{numbers['interval']}]}}" if numbers["interval"] else ""
    fields = [
        names.cell(timing.name),
        numbers["milliseconds"],
        "1" if is_plain else numbers["ratio"] + interval,
        "" if is_plain else numbers["forward"],
        "" if is_plain else numbers["backward"],
        *([escape(numbers["memory"])] if has_memory else []),
    ]
    return " & ".join(fields) + r" \\"


def _line(note: str) -> str:
    return " ".join(note.split())
