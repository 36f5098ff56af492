"""The parts of a benchmark's page, each a function of the manifest; a notebook cell calls one of them."""

from typing import Any

from tadaconv.reporting.benchmark import words
from tadaconv.reporting.benchmark.frame import table_frame
from tadaconv.reporting.benchmark.record import BenchmarkManifest, Entry, Race
from tadaconv.reporting.core.page import Block, render


def headline(manifest: BenchmarkManifest) -> Block:
    """What was measured, what came out in a sentence a contestant, and what to be careful with."""
    runs = [
        {
            "file": named.file,
            "subject": words.run_heading(named.run, alone=len(manifest.runs) == 1),
            "setting": words.setting(named.run),
            "found": words.findings(named.run),
        }
        for named in manifest.runs
    ]
    question, who, warnings = words.title(manifest), words.contestants(manifest), words.warnings(manifest)
    html = render(
        "benchmark_headline", benchmark=manifest.benchmark, question=question, runs=runs, who=who, warnings=warnings
    )
    found = [f"{run['subject']}. {run['setting']}. {' '.join(run['found'])}" for run in runs]
    return Block(html, "\n".join([question, *found, *filter(None, [who]), *warnings]))


def results(manifest: BenchmarkManifest) -> Block:
    """A table a race: ratios with intervals and quartiles, times, and what of the machine's limits was reached."""
    runs = [
        {
            "subject": words.subject(named.run),
            "setting": words.setting(named.run),
            "races": [
                {**_race(race), "title": words.race_heading(named.run, race, alone=len(manifest.runs) == 1)}
                for race in named.run.races
            ],
        }
        for named in manifest.runs
    ]
    table = table_frame(manifest)
    columns = ["file", "race", "mode", "contestant", "seconds", "ratio", "ratio_low", "ratio_high"]
    text = table.loc[table["phase"] == "both", columns].to_string(index=False)
    return Block(render("benchmark_results", runs=runs), text)


def provenance(manifest: BenchmarkManifest) -> Block:
    """Where and when each run was measured, what was asked for, and the files that were left out."""
    runs = [(named.file, _asked(named.run.settings.model_dump()), named.run.environment) for named in manifest.runs]
    html = render("benchmark_provenance", runs=runs, left_out=manifest.left_out)
    lines = [f"{file}: {asked} {environment}" for file, asked, environment in runs]
    lines += [f"left out: {each.file}: {each.why}" for each in manifest.left_out]
    return Block(html, "\n".join(lines))


def methods(manifest: BenchmarkManifest) -> Block:
    """How the numbers are made, with references; of what is nowhere on the page nothing is said."""
    races = [race for named in manifest.runs for race in named.run.races]
    ratios = [entry.ratio["both"] for race in races for entry in race.entries[1:]]
    has_interval = any(words.interval(ratio) for ratio in ratios)
    html = render("benchmark_methods", has_ratio=bool(ratios), has_interval=has_interval)
    named = [
        "turns in random order",
        *(["ratios within a round"] if ratios else []),
        "medians" + (" with intervals by order statistics" if has_interval else ""),
        *(["quartiles"] if ratios else []),
        "the roofline model",
    ]
    return Block(html, f"Methods: {', '.join(named)}.")


def _race(race: Race) -> dict[str, Any]:
    lines = [_line(entry, is_plain=entry is race.plain) for entry in race.entries]
    return {
        "lines": lines,
        "note": words.race_note(race),
        "has_interval": any(line["interval"] for line in lines),
        "has_memory": any(entry.peak_memory_bytes is not None for entry in race.entries),
    }


def _line(entry: Entry, *, is_plain: bool) -> dict[str, Any]:
    ratio = entry.ratio["both"]
    return {
        "name": entry.name,
        "plain": is_plain,
        "tagged": is_plain and not entry.name.startswith("plain"),
        "ratio": words.three_digits(ratio.median),
        "interval": words.interval(ratio),
        "quartiles": words.quartiles(ratio),
        "forward": words.three_digits(entry.ratio["forward"].median),
        "backward": words.three_digits(entry.ratio["backward"].median),
        "milliseconds": words.three_digits(1e3 * entry.time["both"].median),
        "of_copy": words.per_cent(entry.copy_share["both"]),
        "of_matrix": words.per_cent(entry.matrix_share["both"]),
        "memory": words.mebibytes(entry.peak_memory_bytes),
    }


def _asked(settings: dict[str, Any]) -> dict[str, str]:
    return {name.replace("_", " "): str(value) for name, value in settings.items() if value is not None}
