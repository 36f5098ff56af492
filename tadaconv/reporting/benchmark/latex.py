"""The table of benchmarks for a paper."""

from collections.abc import Iterator

from tadaconv.reporting.benchmark import words
from tadaconv.reporting.benchmark.record import BenchmarkManifest, Entry, Race, Run
from tadaconv.reporting.latex import escape

_HEADS = ["", "ms", "over plain", "quartiles", "forward", "backward", "copy (\\%)", "matrix (\\%)"]


def latex_table(manifest: BenchmarkManifest) -> str:
    """Every race as a group of rows of one ``tabular``; needs the package booktabs and no other.

    Where several runs are reported, a line above the groups says on what each ran. Comments say it all.
    """
    has_memory = any(
        entry.peak_memory_bytes is not None for n in manifest.runs for race in n.run.races for entry in race.entries
    )
    heads = [*_HEADS, *(["MiB"] if has_memory else [])]
    lines = [
        *(
            f"% {_line(f'{named.file}: {words.subject(named.run)}. {words.setting(named.run)}')}"
            for named in manifest.runs
        ),
        *(f"% {_line(warning)}" for warning in words.warnings(manifest)),
        "% Needs \\usepackage{booktabs}. Brackets: 95 % intervals of the median. Times are of a pass, forward and",
        "% backward; copy and matrix: of what a copy and a matrix product reach on the same machine.",
        f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        "\\toprule",
        " & ".join(heads) + r" \\",
    ]
    for named in manifest.runs:
        lines += _run(named.run, len(heads), has_memory, alone=len(manifest.runs) == 1)
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _run(run: Run, width: int, has_memory: bool, *, alone: bool) -> Iterator[str]:
    if not alone:
        yield "\\midrule"
        yield f"\\multicolumn{{{width}}}{{l}}{{{escape(f'{words.subject(run)}, {words.setting(run)}')}}} \\\\"
    for race in run.races:
        yield "\\midrule"
        yield f"\\multicolumn{{{width}}}{{l}}{{\\textit{{{escape(f'{race.name}, {race.mode}')}}}}} \\\\"
        yield from (_entry(race, entry, has_memory) for entry in race.entries)


def _entry(race: Race, entry: Entry, has_memory: bool) -> str:
    ratio, is_plain = entry.ratio["both"], entry is race.plain
    ends = words.interval(ratio)
    fields = [
        escape(entry.name),
        words.three_digits(1e3 * entry.time["both"].median),
        "1" if is_plain else words.three_digits(ratio.median) + (f" [{ends}]" if ends else ""),
        "" if is_plain else words.quartiles(ratio),
        "" if is_plain else words.three_digits(entry.ratio["forward"].median),
        "" if is_plain else words.three_digits(entry.ratio["backward"].median),
        words.per_cent(entry.copy_share["both"]),
        words.per_cent(entry.matrix_share["both"]),
        *([escape(words.mebibytes(entry.peak_memory_bytes))] if has_memory else []),
    ]
    return " & ".join(fields) + r" \\"


def _line(text: str) -> str:
    return " ".join(text.split())
