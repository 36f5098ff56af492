"""A benchmark as a picture: bars of time over the plain network's, with their spread."""

from collections.abc import Sequence
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tadaconv.bench.record import Benchmark, Entry, Race
from tadaconv.bench.render import settings_words
from tadaconv.reporting.style import FAINT, INK, ROW, SOFT, styled
from tadaconv.text import three_digits

OTHERS = "#b4bcc5"
"""Of every contestant but ours; light beside ours also in grey."""

LOG_FROM = 3.0
"""The largest ratio that is still drawn on a linear axis."""

COLUMNS = 4


def _ours(entry: Entry) -> bool:
    return entry.name.startswith("TAda")


def _ends(entry: Entry) -> tuple[float, float]:
    """The lowest and the highest that is drawn of a contestant."""
    ratio = entry.ratio["both"]
    ends = [ratio.quartile_low, ratio.quartile_high, ratio.interval_low, ratio.interval_high]
    known = [end for end in ends if end is not None]
    return min(known), max(known)


def _draw_ratios(axes: Axes, race: Race, limits: tuple[float, float], log: bool) -> None:
    axes.axvline(1, color=INK, linewidth=1)
    for y, entry in enumerate(race.entries):
        ratio, (_, high) = entry.ratio["both"], _ends(entry)
        axes.barh(y, ratio.median - 1, left=1, height=0.62, color=ROW if _ours(entry) else OTHERS)
        if y:
            if ratio.interval_low is not None and ratio.interval_high is not None:
                axes.plot([ratio.interval_low, ratio.interval_high], [y, y], color=INK, linewidth=0.8)
            for color, width in (("white", 4.0), (INK, 2.4)):  # a rim, to be told from a dark bar
                axes.plot([ratio.quartile_low, ratio.quartile_high], [y, y], color=color, linewidth=width)
        label = three_digits(ratio.median) if y else f"{three_digits(1e3 * entry.time['both'].median)} ms"
        place = (max(1, high), y)
        axes.annotate(label, place, xytext=(4, 0), textcoords="offset points", va="center", fontsize=7.5)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator([2.0**power for power in range(-4, 12)]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(*limits)
    _finish(axes, race.entries)
    name, _, what = race.name.partition(": ")
    axes.set_title(f"{name}, {race.mode}\n{what}".strip(), loc="left")


def _draw_memory(axes: Axes, race: Race) -> None:
    memory = [(entry.peak_memory_bytes or 0) / 2**20 for entry in race.entries]
    colours = [ROW if _ours(entry) else OTHERS for entry in race.entries]
    bars = axes.barh(range(len(memory)), memory, height=0.62, color=colours)
    axes.bar_label(bars, [f"{value:.0f}" if value else "not measured" for value in memory], padding=4, fontsize=7.5)
    axes.set_xlim(0, 1.25 * max(*memory, 1))
    _finish(axes, race.entries)
    axes.set_title("peak memory in MiB", loc="left")


def _finish(axes: Axes, entries: Sequence[Entry]) -> None:
    axes.set_yticks(range(len(entries)), [entry.name for entry in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.grid(axis="x", color=FAINT)
    axes.tick_params(axis="y", length=0)


def _limits(races: Sequence[Race]) -> tuple[tuple[float, float], bool]:
    """Ends of the axis that all panels share, and whether it is logarithmic."""
    ends = [_ends(entry) for race in races for entry in race.entries]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    if high > LOG_FROM:
        return (min(0.9, 0.9 * low), 2 * high), True
    return (max(0.0, min(0.9, low - 0.1)), high + 0.3 * (high - min(low, 0.9))), False


@styled
def draw(found: Benchmark) -> Figure:
    """A panel a race; a step has its memory beside it."""
    modes = dict.fromkeys(race.mode for race in found.races)
    by_mode = [[race for race in found.races if race.mode == mode] for mode in modes]
    rows = [races[i : i + COLUMNS] for races in by_mode for i in range(0, len(races), COLUMNS)]
    single = len(rows[0]) == 1
    limits, log = _limits(found.races)
    columns = 2 if single else len(rows[0])
    height = 1.2 + len(rows) * (0.7 + 0.2 * max(len(race.entries) for race in found.races))
    width = 1.6 + 2.3 * max(columns, 3)
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(len(rows), columns, sharey="row", squeeze=False)
    for line, races in zip(grid, rows, strict=True):
        for axes, race in zip(line, races, strict=False):
            _draw_ratios(axes, race, limits, log)
        for axes in line[len(races) :]:
            axes.set_visible(single)
        if single:
            _draw_memory(line[1], races[0])
    what = "Training step" if found.bench == "step" else "Operator"
    figure.suptitle(fill(f"{what}: {settings_words(found)}", int(14 * width)), x=0.01, ha="left", fontsize=9)
    words = "time over the plain one's, forward and backward: median, quartiles (thick line)"
    if found.races[0].entries[0].ratio["both"].interval_low is not None:
        words += ", 95 % interval of the median (thin)"
    figure.supxlabel(words, fontsize=8, color=SOFT, x=0.01, ha="left")
    return figure
