"""The parts of a benchmark's page, each a function of the manifest; a notebook cell calls one of them."""

from typing import Any

from tadaconv.bench.record import Case, Settings, Timing
from tadaconv.reporting.benchmark import text
from tadaconv.reporting.benchmark.data import BenchmarkManifest, table_frame
from tadaconv.reporting.core.page import Block, render


def headline(manifest: BenchmarkManifest) -> Block:
    """What was measured, a sentence a method, and warnings."""
    runs = [(text.run_title(named.run), text.setting(named.run), text.findings(named.run)) for named in manifest.runs]
    question, methods, warnings = text.title(manifest), text.methods(manifest), text.warnings(manifest)
    html = render(
        "benchmark_headline", benchmark=manifest.benchmark, question=question, runs=runs, methods=methods,
        warnings=warnings,
    )  # fmt: skip
    lines = [f"{title}. {setting}. {' '.join(findings)}" for title, setting, findings in runs]
    return Block(html, "\n".join([question, *lines, *filter(None, [methods]), *warnings]))


def results(manifest: BenchmarkManifest) -> Block:
    """A table a case: ratios with intervals and quartiles, times, and fractions of the machine's limits."""
    cases = [
        (f"{text.case_title(case)}, {text.clips(named.run)}", text.setting(named.run), _case(case))
        for named in manifest.runs
        for case in named.run.cases
    ]
    table = table_frame(manifest)
    columns = ["file", "race", "mode", "contestant", "seconds", "ratio", "ratio_low", "ratio_high"]
    lines = table.loc[table["phase"] == "both", columns].to_string(index=False)
    return Block(render("benchmark_results", cases=cases), lines)


def provenance(manifest: BenchmarkManifest) -> Block:
    """The machine, date and settings of each run, and the files that were left out."""
    runs = [(named.file, _asked(named.run.settings), named.run.environment) for named in manifest.runs]
    html = render("benchmark_provenance", runs=runs, left_out=manifest.left_out)
    lines = [f"{file}: {asked} {environment}" for file, asked, environment in runs]
    lines += [f"left out: {file.file}: {file.why}" for file in manifest.left_out]
    return Block(html, "\n".join(lines))


def methods(manifest: BenchmarkManifest) -> Block:
    """Methods, with references; of the methods that are used alone."""
    cases = [case for named in manifest.runs for case in named.run.cases]
    ratios = [timing.ratio["both"] for case in cases for timing in case.timings[1:]]
    has_interval = any(text.interval(ratio) for ratio in ratios)
    html = render("benchmark_methods", has_ratio=bool(ratios), has_interval=has_interval)
    named = [
        "interleaved trials in random order",
        *(["ratios within a round"] if ratios else []),
        "medians" + (" with intervals by order statistics" if has_interval else ""),
        *(["quartiles"] if ratios else []),
        "the roofline model",
    ]
    return Block(html, f"Methods: {', '.join(named)}.")


def _case(case: Case) -> dict[str, Any]:
    lines = [_line(timing, is_plain=timing is case.plain) for timing in case.timings]
    return {
        "lines": lines,
        "note": text.case_note(case),
        "has_interval": any(line["interval"] for line in lines),
        "has_memory": any(timing.peak_memory_bytes is not None for timing in case.timings),
    }


def _line(timing: Timing, *, is_plain: bool) -> dict[str, Any]:
    tagged = is_plain and not timing.name.startswith("plain")
    return {"name": timing.name, "plain": is_plain, "tagged": tagged, **text.numbers(timing)}


def _asked(settings: Settings) -> dict[str, str]:
    shown = settings.model_dump(exclude={"modes", "calibrations"}, exclude_none=True)
    return {name.replace("_", " "): str(value) for name, value in shown.items()}
