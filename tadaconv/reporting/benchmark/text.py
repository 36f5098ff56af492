"""What a report of benchmarks says in words and numbers."""

from collections.abc import Iterable, Sequence

from tadaconv.bench.record import Benchmark, Case, Spread, Timing
from tadaconv.reporting.benchmark.data import BenchmarkManifest, NamedRun
from tadaconv.reporting.core.export import Listing
from tadaconv.text import listed, plural
from tadaconv.text import three_digits as three_digits

FEWEST_WITH_INTERVAL = 6
"""Rounds below which order statistics give no 95 % interval of a median."""

_MOST_FINDINGS = 4
"""Of a report in the page of all."""

_OURS = "TAdaConv of this package"
_NAIVE = "TAdaConv computed naively, with a kernel for every frame"

_SAME = {
    "machine": "the machine", "processor": "the processor", "device": "the device", "threads": "the number of threads",
    "tadaconv": "the version of tadaconv", "commit": "the commit", "torch": "the version of torch",
    "cuda": "the version of CUDA", "driver": "the driver", "cudnn": "the version of cuDNN",
}  # fmt: skip
"""What times depend on, by its name in the environment."""


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
    """What tables say of a method, by column: times in milliseconds, memory in MiB, parts of the limits in percent."""
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
    backbone = run.settings.backbone
    plain = listed(list(dict.fromkeys(case.plain.name for case in run.cases)))
    return f"A training step of {plain}" + (f" (backbone {backbone})" if backbone else "")


def clips(run: Benchmark) -> str:
    """How many clips a run took at a time, and how large they are."""
    asked = run.settings
    return f"{plural(asked.num_clips, 'clip')} of {plural(asked.num_frames, 'frame')} at {asked.size_px} px"


def setting(run: Benchmark) -> str:
    """Clips, dtype, mode and device in one line."""
    asked, where = run.settings, run.environment
    device, processor = where.get("device", "an unknown device"), where.get("processor", "")
    parts = [
        clips(run),
        asked.dtype,
        listed(_modes(run)),
        device,
        *([processor] if processor not in ("", device) else []),
    ]
    return ", ".join(parts)


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
    """Who is who over all runs, in one line; empty where plain networks ran alone."""
    cases = [case for named in manifest.runs for case in named.run.cases]
    named = kinds(timing.name for case in cases for timing in case.timings[1:])
    lines = "; ".join(f"{listed(names)}: {kind}" for kind, names in named.items())
    return f"{lines}." if lines else ""


def capitalised(case: str) -> str:
    """A case's name as a heading begins: a training step's is a phrase, an operator's begins with a stage's name."""
    return case[:1].upper() + case[1:] if case.startswith("training step") else case


def case_title(case: Case) -> str:
    """A case with its mode, as a heading."""
    return f"{capitalised(case.name)}, {case.mode}"


def run_heading(run: Benchmark, *, alone: bool) -> str:
    """What a run timed, as a heading; as :func:`case_heading` with its clips unless it is ``alone`` on the page."""
    return subject(run) if alone else f"{subject(run)}, {clips(run)}"


def case_heading(run: Benchmark, case: Case, *, alone: bool) -> str:
    """The heading of a case.

    Args:
        run: that the case is of.
        case: that is headed.
        alone: whether the page has no other run; if it has, clips are named, by which runs may differ.
    """
    return case_title(case) if alone else f"{case_title(case)}, {clips(run)}"


def title(manifest: BenchmarkManifest) -> str:
    """What was measured, in one line."""
    kinds = {named.run.bench for named in manifest.runs}
    if kinds == {"op"}:
        return "How fast is the operator, against the plain convolution?"
    if kinds == {"step"}:
        return "How fast is a training step, against the plain network\u2019s?"
    return "How fast are the operator and a training step, against the plain network\u2019s?"


def listing(manifest: BenchmarkManifest) -> Listing:
    """What the page of all reports says of this one."""
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
    ratios = [(case, timing.ratio["both"]) for case in cases for timing in case.timings[1:] if timing.name == name]
    plain = listed(list(dict.fromkeys(case.plain.name for case, _ in ratios)), "or")
    if len(ratios) == 1:
        ratio = ratios[0][1]
        ends = interval(ratio)
        known = f"95 % interval {ends.replace(', ', ' to ')}" if ends else "too few rounds for an interval"
        return f"{three_digits(ratio.median)} times as long as {plain} ({known})."
    medians = [ratio.median for _, ratio in ratios]
    least, most = three_digits(min(medians)), three_digits(max(medians))
    span = least if least == most else f"{least} to {most}"
    lows, highs = ([getattr(ratio, end) for _, ratio in ratios] for end in ("interval_low", "interval_high"))
    if None in lows or None in highs:
        known = "too few rounds for intervals"
    else:
        known = f"95 % intervals reach from {three_digits(min(lows))} to {three_digits(max(highs))}"
    return f"{span} times as long as {plain}, over {plural(len(ratios), noun)} ({known})."


def case_note(case: Case) -> str:
    """What is said below a case's table: rounds, what the device reached, and naive over ours."""
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
    """What must not be compared, and what to be careful with; empty where there is nothing."""
    lines = []
    runs = manifest.runs
    apart = [phrase for key, phrase in _SAME.items() if len({named.run.environment.get(key, "") for named in runs}) > 1]
    if apart:
        lines.append(
            f"The runs differ in {listed(apart)}. Compare within a run alone: each ratio is to the plain network of "
            "its own run."
        )
    elif len(runs) > 1:
        lines.append(
            "Compare within a run alone: what else the machine had to do is shared by the methods of a round, "
            "and by no two runs."
        )
    dirty = [named.file for named in runs if named.run.environment.get("dirty")]
    if dirty:
        lines.append(f"Code with changes that had not been committed: {listed(dirty)}.")
    few = [named.file for named in runs if _rounds(named) < FEWEST_WITH_INTERVAL]
    if few:
        lines.append(f"Fewer than {FEWEST_WITH_INTERVAL} rounds give no 95 % interval: {listed(few)}.")
    return lines


def _rounds(named: NamedRun) -> int:
    return min(len(case.plain.seconds["both"]) for case in named.run.cases)
