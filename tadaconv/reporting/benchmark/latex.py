"""The table of benchmarks for a paper."""

from collections.abc import Iterator

from tadaconv.reporting.benchmark import words
from tadaconv.reporting.benchmark.record import BenchmarkManifest, Entry, Race, Run
from tadaconv.reporting.core.latex import NameColumn, escape, name_column

_HEADS = [("", ""), ("time", "(ms)"), ("time ratio", ""), ("forward", ""), ("backward", "")]
_MEMORY = ("memory", "(MiB)")


def latex_table(manifest: BenchmarkManifest) -> str:
    """Every race as a group of rows of one ``tabular``; needs the package booktabs and no other.

    It fits a column of 345 pt, the text of an ``article`` at 10 pt: quartiles and shares of the machine's limits are
    in ``table.csv``. Where several runs are reported, a line above the groups says on what each ran. Comments say it
    all.
    """
    entries = [entry for named in manifest.runs for race in named.run.races for entry in race.entries]
    has_memory = any(entry.peak_memory_bytes is not None for entry in entries)
    heads = [*_HEADS, *([_MEMORY] if has_memory else [])]
    names = name_column(entry.name for entry in entries)
    lines = [
        *(
            f"% {_line(f'{named.file}: {words.subject(named.run)}. {words.setting(named.run)}')}"
            for named in manifest.runs
        ),
        *(f"% {_line(text)}" for text in filter(None, [words.contestants(manifest), *words.warnings(manifest)])),
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


def _run(run: Run, width: int, has_memory: bool, names: NameColumn, *, alone: bool) -> Iterator[str]:
    if not alone:
        yield "\\midrule"
        yield _across(width, escape(f"{words.subject(run)}: {words.setting(run)}"))
    for race in run.races:
        yield "\\midrule"
        yield _across(width, f"\\textit{{{escape(words.race_title(race))}}}")
        yield from (_entry(names, race, entry, has_memory) for entry in race.entries)


def _across(width: int, text: str) -> str:
    """A line over all columns; a long one is wrapped before it could widen them."""
    return f"\\multicolumn{{{width}}}{{@{{}}p{{0.8\\linewidth}}@{{}}}}{{\\raggedright {text}}} \\\\"


def _entry(names: NameColumn, race: Race, entry: Entry, has_memory: bool) -> str:
    ratio, is_plain = entry.ratio["both"], entry is race.plain
    ends = words.interval(ratio)
    interval = f" {{\\scriptsize [{ends}]}}" if ends else ""
    fields = [
        names.cell(entry.name),
        words.three_digits(1e3 * entry.time["both"].median),
        "1" if is_plain else words.three_digits(ratio.median) + interval,
        "" if is_plain else words.three_digits(entry.ratio["forward"].median),
        "" if is_plain else words.three_digits(entry.ratio["backward"].median),
        *([escape(words.mebibytes(entry.peak_memory_bytes))] if has_memory else []),
    ]
    return " & ".join(fields) + r" \\"


def _line(text: str) -> str:
    return " ".join(text.split())
