"""What a report of benchmarks says in words and numbers."""

from collections.abc import Iterable, Sequence

from tadaconv.reporting.benchmark.record import BenchmarkManifest, NamedRun, Race, Run, Spread
from tadaconv.reporting.words import listed, plural
from tadaconv.text import three_digits as three_digits

FEWEST_WITH_INTERVAL = 6
"""Rounds below which order statistics give no 95 % interval of a median."""

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


def subject(run: Run) -> str:
    """What a run timed: the operator, or the step of a network."""
    if run.bench == "op":
        return "The operator alone"
    backbone = run.settings.backbone
    plain = listed(list(dict.fromkeys(race.plain.name for race in run.races)))
    return f"A training step of {plain}" + (f" (backbone {backbone})" if backbone else "")


def clips(run: Run) -> str:
    """How many clips a run took at a time, and how large they are."""
    asked = run.settings
    return f"{plural(asked.num_clips, 'clip')} of {plural(asked.num_frames, 'frame')} at {asked.size_px} px"


def setting(run: Run) -> str:
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


def _modes(run: Run) -> list[str]:
    return list(dict.fromkeys(race.mode for race in run.races))


def is_ours(name: str) -> bool:
    """Whether a contestant is TAdaConv as this package computes it, by the names that ``tada bench`` gives."""
    return name.startswith("TAda")


def kinds(names: Iterable[str]) -> dict[str, list[str]]:
    """What the contestants beside the plain network are: their names by what each is, without what nobody is."""
    names = list(dict.fromkeys(names))
    ours = [name for name in names if is_ours(name)]
    naive = [name for name in names if name.startswith("naive ")]
    rivals = [name for name in names if name not in {*ours, *naive}]
    rival = "a published rival" if len(rivals) == 1 else "published rivals"
    return {what: members for what, members in ((_OURS, ours), (_NAIVE, naive), (rival, rivals)) if members}


def contestants(manifest: BenchmarkManifest) -> str:
    """Who is who over all runs, in one line; empty where plain networks ran alone."""
    races = [race for named in manifest.runs for race in named.run.races]
    found = kinds(entry.name for race in races for entry in race.entries[1:])
    said = "; ".join(f"{listed(names)}: {what}" for what, names in found.items())
    return f"{said}." if said else ""


def capitalised(race: str) -> str:
    """A race's name as a heading begins: a training step's is a phrase, an operator's begins with a stage's name."""
    return race[:1].upper() + race[1:] if race.startswith("training step") else race


def race_title(race: Race) -> str:
    """A race with its mode, as a heading."""
    return f"{capitalised(race.name)}, {race.mode}"


def run_heading(run: Run, *, alone: bool) -> str:
    """What a run timed, as a heading; as :func:`race_heading` with its clips unless it is ``alone`` on the page."""
    return subject(run) if alone else f"{subject(run)}, {clips(run)}"


def race_heading(run: Run, race: Race, *, alone: bool) -> str:
    """The heading of a race, with its clips unless its run is ``alone`` on the page: they may tell runs apart."""
    return race_title(race) if alone else f"{race_title(race)}, {clips(run)}"


def title(manifest: BenchmarkManifest) -> str:
    """What was measured, in one line."""
    kinds = {named.run.bench for named in manifest.runs}
    if kinds == {"op"}:
        return "How fast is the operator, against the plain convolution?"
    if kinds == {"step"}:
        return "How fast is a training step, against the plain network\u2019s?"
    return "How fast are the operator and a training step, against the plain network\u2019s?"


def findings(run: Run) -> list[str]:
    """A sentence a mode and contestant: its ratio to the plain network, or from where to where over the races."""
    said, modes = [], _modes(run)
    for mode in modes:
        races = [race for race in run.races if race.mode == mode]
        names = dict.fromkeys(entry.name for race in races for entry in race.entries[1:])
        where = f", {mode}" if len(modes) > 1 else ""
        what = "layer" if run.bench == "op" else "network"
        said += [f"{name}{where}: {_finding(name, races, what)}" for name in names]
    return said


def _finding(name: str, races: Sequence[Race], what: str) -> str:
    ratios = [(race, entry.ratio["both"]) for race in races for entry in race.entries[1:] if entry.name == name]
    plain = listed(list(dict.fromkeys(race.plain.name for race, _ in ratios)), "or")
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
    return f"{span} times as long as {plain}, over {plural(len(ratios), what)} ({known})."


def race_note(race: Race) -> str:
    """What stands below a race's table: rounds, what the device reached, and naive over ours."""
    gigabytes, gigamacs = (each.per_second.median / 1e9 for each in (race.copy_limit, race.matrix_limit))
    rounds = len(race.plain.seconds["both"])
    note = (
        f"{plural(rounds, 'round')} of {race.repeats} {'pass' if race.repeats == 1 else 'passes'} a contestant. A copy "
        f"reached {three_digits(gigabytes)} GB/s, a matrix product {three_digits(gigamacs)} billion multiply-adds a "
        "second."
    )
    for name, spread in race.naive_over_ours.items():
        ends = interval(spread)
        known = f" (95 % interval {ends.replace(', ', ' to ')})" if ends else ""
        note += f" With a kernel for every frame it takes {three_digits(spread.median)} times as long as {name}{known}."
    return note


def warnings(manifest: BenchmarkManifest) -> list[str]:
    """What must not be compared, and what to be careful with; empty where there is nothing."""
    said = []
    runs = manifest.runs
    apart = [what for key, what in _SAME.items() if len({named.run.environment.get(key, "") for named in runs}) > 1]
    if apart:
        said.append(
            f"The runs differ in {listed(apart)}. Compare within a run alone: each ratio is to the plain network of "
            "its own run."
        )
    elif len(runs) > 1:
        said.append(
            "Compare within a run alone: what else the machine had to do is shared by the contestants of a round, "
            "and by no two runs."
        )
    dirty = [named.file for named in runs if named.run.environment.get("dirty")]
    if dirty:
        said.append(f"Code with changes that had not been committed: {listed(dirty)}.")
    few = [named.file for named in runs if _rounds(named) < FEWEST_WITH_INTERVAL]
    if few:
        said.append(f"Fewer than {FEWEST_WITH_INTERVAL} rounds give no 95 % interval: {listed(few)}.")
    return said


def _rounds(named: NamedRun) -> int:
    return min(len(race.plain.seconds["both"]) for race in named.run.races)
