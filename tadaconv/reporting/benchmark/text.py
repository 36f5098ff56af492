"""The sentences and numbers of a report of benchmarks."""

from collections.abc import Iterable, Sequence

from tadaconv.bench.record import Benchmark, Case, Spread, Timing
from tadaconv.reporting.benchmark.data import BenchmarkManifest
from tadaconv.reporting.core.export import Listing
from tadaconv.text import listed, plural
from tadaconv.text import three_digits as three_digits

FEWEST_WITH_INTERVAL = 6
"""Rounds below which order statistics give no 95 % interval of a median."""

_MOST_FINDINGS = 4
"""Of a report, on the page of all reports."""

_OURS = "TAdaConv of this package"
_NAIVE = "TAdaConv computed naively, with a kernel for every frame"

_SAME = {
    "machine": "the machine", "processor": "the processor", "device": "the device", "threads": "the number of threads",
    "tadaconv": "the version of tadaconv", "commit": "the commit", "torch": "the version of torch",
    "cuda": "the version of CUDA", "driver": "the driver", "cudnn": "the version of cuDNN",
}  # fmt: skip
"""What times depend on, by name in the environment."""


def interval(spread: Spread) -> str:
    """The ends of the 95 % interval; empty where there is none."""
    if spread.interval_low is None or spread.interval_high is None:
        return ""
    return f"{three_digits(spread.interval_low)}, {three_digits(spread.interval_high)}"


def quartiles(spread: Spread) -> str:
    """The quartiles, from the lower to the upper."""
    return f"{three_digits(spread.quartile_low)} to {three_digits(spread.quartile_high)}"


def mebibytes(memory: int | None) -> str:
    """Bytes in MiB, or a dash where they are not known."""
    return "\u2013" if memory is None else f"{memory / 2**20:.0f}"


def per_cent(share: float) -> str:
    """A part of one in percent, with a decimal below ten."""
    return f"{100 * share:.{1 if share < 0.0995 else 0}f}"


def numbers(timing: Timing) -> dict[str, str]:
    """The numbers of a method by column: times in milliseconds, memory in MiB, fractions of the limits in percent."""
    ratio = timing.ratio["both"]
    return {
        "milliseconds": three_digits(1e3 * timing.time["both"].median),
        "ratio": three_digits(ratio.median),
        "quartiles": quartiles(ratio),
        "interval": interval(ratio),
        "forward": three_digits(timing.ratio["forward"].median),
        "backward": three_digits(timing.ratio["backward"].median),
        "of_copy": per_cent(timing.copy_share["both"]),
        "of_matrix": per_cent(timing.matrix_share["both"]),
        "memory": mebibytes(timing.peak_memory_bytes),
    }


def subject(run: Benchmark) -> str:
    """What a run timed: the operator, or the step of a network."""
    if run.bench == "op":
        return "The operator alone"
    plain = listed(list(dict.fromkeys(case.plain.name for case in run.cases)))
    return f"A training step of {plain} (backbone {run.settings.backbone})"


def clips(run: Benchmark) -> str:
    """How many clips a run took at a time, and how large they are."""
    asked = run.settings
    return f"{plural(asked.num_clips, 'clip')} of {plural(asked.num_frames, 'frame')} at {asked.size_px} px"


def setting(run: Benchmark) -> str:
    """Clips, dtype, mode and device in one line."""
    device, processor = run.environment.get("device", "an unknown device"), run.environment.get("processor", "")
    machine = [device] if processor in ("", device) else [device, processor]
    return ", ".join([clips(run), run.settings.dtype, listed(_modes(run)), *machine])


def _modes(run: Benchmark) -> list[str]:
    return list(dict.fromkeys(case.mode for case in run.cases))


def is_ours(name: str) -> bool:
    """Whether a method is TAdaConv as this package computes it, by the names that ``tada bench`` gives."""
    return name.startswith("TAda")


def kinds(names: Iterable[str]) -> dict[str, list[str]]:
    """The methods that are compared with the plain network: their names by what they are."""
    names = list(dict.fromkeys(names))
    ours = [name for name in names if is_ours(name)]
    naive = [name for name in names if name.startswith("naive ")]
    rivals = [name for name in names if name not in {*ours, *naive}]
    rival = "a published rival" if len(rivals) == 1 else "published rivals"
    return {kind: members for kind, members in ((_OURS, ours), (_NAIVE, naive), (rival, rivals)) if members}


def methods(manifest: BenchmarkManifest) -> str:
    """The methods of all runs by kind, in one line; empty where plain networks ran alone."""
    cases = [case for named in manifest.runs for case in named.run.cases]
    by_kind = kinds(timing.name for case in cases for timing in case.timings[1:])
    lines = [f"{listed(names)}: {kind}" for kind, names in by_kind.items()]
    return f"{'; '.join(lines)}." if lines else ""


def capitalised(case: str) -> str:
    """A case's name as a heading begins: a training step's is a phrase, an operator's begins with a stage's name."""
    return case[:1].upper() + case[1:] if case.startswith("training step") else case


def case_title(case: Case) -> str:
    """A case with its mode, as a heading."""
    return f"{capitalised(case.name)}, {case.mode}"


def run_title(run: Benchmark) -> str:
    """What a run timed and on which clips, as a heading."""
    return f"{subject(run)}, {clips(run)}"


_TITLES = {
    ("op",): "How fast is the operator, compared with the plain convolution?",
    ("step",): "How fast is a training step, compared with the plain network\u2019s?",
    ("op", "step"): "How fast are the operator and a training step, compared with the plain network\u2019s?",
}
"""By the benchmarks that were run."""


def title(manifest: BenchmarkManifest) -> str:
    """What was measured, in one line."""
    return _TITLES[tuple(sorted({named.run.bench for named in manifest.runs}))]


def listing(manifest: BenchmarkManifest) -> Listing:
    """The entry of this report on the page of all reports."""
    lines = [f"{subject(named.run)}, {finding}" for named in manifest.runs for finding in findings(named.run)]
    more = len(lines) - _MOST_FINDINGS
    devices = dict.fromkeys(named.run.environment.get("device", "an unknown device") for named in manifest.runs)
    return Listing(
        kind="benchmark",
        name=manifest.benchmark,
        title=title(manifest),
        ran=f"{plural(len(manifest.runs), 'run')} on {', '.join(devices)}.",
        findings=[*lines[:_MOST_FINDINGS], *([f"{plural(more, 'more finding')} on its page."] if more > 0 else [])],
    )


def findings(run: Benchmark) -> list[str]:
    """A sentence a mode and method: its ratio to the plain network, or from where to where over the cases."""
    sentences, modes = [], _modes(run)
    for mode in modes:
        cases = [case for case in run.cases if case.mode == mode]
        names = dict.fromkeys(timing.name for case in cases for timing in case.timings[1:])
        where = f", {mode}" if len(modes) > 1 else ""
        noun = "layer" if run.bench == "op" else "network"
        sentences += [f"{name}{where}: {_finding(name, cases, noun)}" for name in names]
    return sentences


def _finding(name: str, cases: Sequence[Case], noun: str) -> str:
    compared = [(case, timing.ratio["both"]) for case in cases for timing in case.timings[1:] if timing.name == name]
    ratios = [ratio for _, ratio in compared]
    several = "s" if len(ratios) > 1 else ""
    plain = listed(list(dict.fromkeys(case.plain.name for case, _ in compared)), "or")
    medians = _from_to([ratio.median for ratio in ratios])
    ends = [end for ratio in ratios for end in (ratio.interval_low, ratio.interval_high) if end is not None]
    known = (
        f"95 % interval{several} {_from_to(ends)}" if len(ends) == 2 * len(ratios) else "too few rounds for an interval"
    )
    over = f", over {plural(len(ratios), noun)}" if several else ""
    return f"{medians} times as long as {plain}{over} ({known})."


def _from_to(values: Sequence[float]) -> str:
    least, most = three_digits(min(values)), three_digits(max(values))
    return least if least == most else f"{least} to {most}"


def case_note(case: Case) -> str:
    """The note below a case's table: rounds, what the device reached, and naive over ours."""
    gigabytes, gigamacs = (limit.per_second.median / 1e9 for limit in (case.copy_limit, case.matrix_limit))
    rounds = len(case.plain.seconds["both"])
    note = (
        f"{plural(rounds, 'round')} of {case.repeats} {'pass' if case.repeats == 1 else 'passes'} a method. A copy "
        f"reached {three_digits(gigabytes)} GB/s, a matrix product {three_digits(gigamacs)} billion multiply-adds a "
        "second."
    )
    for name, spread in case.naive_over_ours.items():
        ends = interval(spread)
        known = f" (95 % interval {ends.replace(', ', ' to ')})" if ends else ""
        note += f" With a kernel for every frame it takes {three_digits(spread.median)} times as long as {name}{known}."
    return note


def warnings(manifest: BenchmarkManifest) -> list[str]:
    """What must not be compared, and limits of the data; empty where there are none."""
    lines = []
    runs = manifest.runs
    differ = [name for key, name in _SAME.items() if len({named.run.environment.get(key, "") for named in runs}) > 1]
    if len(runs) > 1:
        opening = f"The runs differ in {listed(differ)}. " if differ else ""
        lines.append(
            f"{opening}Compare methods within a run only: a ratio is relative to the plain network of the same run, "
            "and the load of the machine differs between runs."
        )
    dirty = [named.file for named in runs if named.run.environment.get("dirty")]
    if dirty:
        lines.append(f"Measured with uncommitted changes of the code: {listed(dirty)}.")
    few = [
        named.file
        for named in runs
        if any(len(case.plain.seconds["both"]) < FEWEST_WITH_INTERVAL for case in named.run.cases)
    ]
    if few:
        lines.append(f"No 95 % interval, which needs {FEWEST_WITH_INTERVAL} rounds: {listed(few)}.")
    return lines
