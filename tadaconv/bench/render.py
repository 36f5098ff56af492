"""A benchmark as text: a table a race, for a terminal of 80 columns."""

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from tadaconv.bench.contest import Spread
from tadaconv.bench.record import Benchmark, Entry, Race
from tadaconv.text import three_digits


def span(low: float | None, high: float | None) -> str:
    """From where to where; empty if not known."""
    return "" if low is None or high is None else f"{three_digits(low)} {three_digits(high)}"


def ratio_words(ratio: Spread) -> str:
    """A ratio with its spread, in words."""
    words = f"{three_digits(ratio.median)} (quartiles {span(ratio.quartile_low, ratio.quartile_high)}"
    interval = span(ratio.interval_low, ratio.interval_high)
    return f"{words}{f'; 95 % interval {interval}' if interval else ''})"


def settings_words(found: Benchmark) -> str:
    """Clips, dtype and device."""
    asked, where = found.settings, found.environment
    clips = f"{asked['num_clips']} clip(s) of {asked['num_frames']} frames at {asked['size_px']} px, {asked['dtype']}"
    return f"{clips}; {where['device']}, {where['processor']}"


def _row(entry: Entry) -> list[str]:
    ratio, memory = entry.ratio["both"], entry.peak_memory_bytes
    return [
        escape(entry.name),
        three_digits(1e3 * entry.time["both"].median),
        three_digits(ratio.median),
        span(ratio.quartile_low, ratio.quartile_high),
        span(ratio.interval_low, ratio.interval_high),
        three_digits(entry.ratio["forward"].median),
        three_digits(entry.ratio["backward"].median),
        f"{100 * entry.copy_share['both']:.0f}",
        f"{100 * entry.matrix_share['both']:.0f}",
        "" if memory is None else f"{memory / 2**20:.0f}",
    ]


def _table(race: Race, rounds: int) -> Table:
    gigabytes, gigamacs = (limit.per_second.median / 1e9 for limit in (race.copy_limit, race.matrix_limit))
    caption = f"{rounds} rounds of {race.repeats} passes; a copy reached {three_digits(gigabytes)} GB/s, "
    caption += f"a matrix product {three_digits(gigamacs)} billion multiply-adds a second."
    for ours, ratio in race.naive_over_ours.items():
        caption += f"\nA kernel for every frame takes {ratio_words(ratio)} times as long as {escape(ours)}."
    table = Table(title=f"{escape(race.name)}, {race.mode}", caption=caption, box=SIMPLE_HEAD, padding=0)
    table.pad_edge = False
    table.title_justify = table.caption_justify = "left"
    table.add_column("", min_width=12)
    for heading in ("ms", "time\nratio", "quar-\ntiles", "95 %\ninterval", "for-\nward", "back-\nward", "copy\n%"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("matr.\n%", justify="right", no_wrap=True)
    table.add_column("MiB", justify="right", no_wrap=True)
    for entry in race.entries:
        table.add_row(*_row(entry))
    return table


def render(found: Benchmark) -> Group:
    """Every race as a table, and below what the columns mean."""
    rounds = found.settings["rounds"]
    assert isinstance(rounds, int)
    legend = (
        "ms: median time, forward and backward. time ratio: median of each round's ratio to the first row, with its "
        "quartiles and the 95 % interval of the median; then of forward and of backward alone. copy, matr.: the plain "
        "network's least bytes and multiply-adds, over what a copy and a matrix product reach in that time. MiB: peak "
        "memory of a process of its own."
    )
    if rounds < 6:
        legend += " Fewer than 6 rounds have no 95 % interval."
    tables = [part for race in found.races for part in (_table(race, rounds), "")]
    return Group(escape(settings_words(found)), "", *tables, legend)
