"""What is shown while cells run."""

import io
import logging
import time
from dataclasses import replace

import pytest
from fake_cells import ROWS, result
from rich.console import Console

from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.execution.live import LineView, LiveView, view
from tadaconv.execution.worker import Event
from tadaconv.result import Progress


def progress(step: int, num_steps: int = 4) -> Progress:
    return Progress(step=step, num_steps=num_steps, train_loss=1.0, curve=[])


def live_view(num_to_run: int = 3) -> LiveView:
    console = Console(file=io.StringIO(), width=120)
    return LiveView(console, [CellRecord(cell, "waiting") for cell in ROWS], num_to_run)


def drawn(live: LiveView) -> list[str]:
    """What is on the screen, line by line, without the space around it."""
    console = Console(file=io.StringIO(), width=120, color_system=None)
    with console.capture() as capture:
        console.print(live._render())
    return [" ".join(line.split()) for line in capture.get().splitlines()]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_rate_and_time_left_follow_from_what_is_done(clock: list[float]) -> None:
    live = live_view()
    assert drawn(live)[-1] == "0 of 3 cells in 0 s"
    live.event(Event("finished", ROWS[0], result=result(50.0)))
    live.event(Event("progress", ROWS[1], progress=progress(2)))
    clock[0] = 30.0
    assert drawn(live)[-1] == "1 of 3 cells in 30 s, 180 an hour, about 30 s left"
    live.event(Event("progress", ROWS[2], progress=progress(2)))
    assert drawn(live)[-1] == "1 of 3 cells in 30 s, 240 an hour, about 15 s left"
    clock[0] = 3000.0
    assert drawn(live)[-1] == "1 of 3 cells in 50 min 00 s, 2.4 an hour, about 25 min 00 s left"
    live.event(Event("requeued", ROWS[1]))
    live.event(Event("failed", ROWS[2], error="no"))
    live.event(Event("finished", ROWS[1], result=result(50.0)))
    assert drawn(live)[-1] == "3 of 3 cells in 50 min 00 s"


@pytest.mark.usefixtures("clock")
def test_every_worker_has_a_line_with_its_cell_while_it_runs_one() -> None:
    live = live_view()
    assert len(drawn(live)) == 1 + len(ROWS) + 1, "no worker yet"
    live.event(Event("started", ROWS[1], worker="w1", device="cuda:1"))
    live.event(Event("progress", ROWS[0], worker="w0", device="cuda:0", progress=progress(4)))
    live.event(Event("progress", ROWS[2], worker="w2 on far", device="cpu", progress=progress(0)))
    lines = drawn(live)
    assert [line.rstrip("━╸╺ ") for line in lines[1 + len(ROWS) : -1]] == [
        "w0 cuda:0 TSN, seed 0", "w1 cuda:1 linear 1, seed 0", "w2 on far cpu (1,1), seed 0"
    ]  # fmt: skip
    assert [line.split()[-1] for line in lines if line.startswith(("TSN", "linear", "(1,1)"))] == ["running"] * 3
    live.event(Event("finished", ROWS[0], worker="w0", result=result(61.25)))
    live.event(Event("requeued", ROWS[1], worker="w1"))
    lines = drawn(live)
    assert not any(line.startswith(("w0", "w1")) for line in lines)
    assert any(line.startswith("w2 on far") for line in lines)
    assert "TSN 1/1 finished 61.25" in lines
    assert "linear 1 0/1 waiting" in lines


@pytest.mark.usefixtures("clock")
def test_hundreds_of_workers_leave_room_for_the_table() -> None:
    cells = [Cell("TSN", ROWS[0].experiment.but(seed=seed)) for seed in range(200)]
    live = LiveView(Console(file=io.StringIO()), [CellRecord(cell, "waiting") for cell in cells], len(cells))
    for seed, cell in enumerate(cells):
        live.event(Event("started", cell, worker=f"w{seed}", device="cpu"))
    lines = drawn(live)
    assert len(lines) < 30
    assert "and 184 more" in lines


def test_further_cells_raise_the_total_up_to_the_most_there_can_be(clock: list[float]) -> None:
    further = [Cell("TSN", ROWS[0].experiment.but(seed=seed)) for seed in (1, 2)]
    records = [CellRecord(cell, "waiting") for cell in ROWS]
    live = view(Console(file=io.StringIO(), force_terminal=True), records, len(ROWS), 5)
    assert isinstance(live, LiveView)
    assert drawn(live)[-1] == "0 of 3 cells (up to 5) in 0 s"
    live.event(Event("finished", ROWS[0], result=result(50.0)))
    live.queued(further[:1])
    assert drawn(live)[1] == "TSN 1/2 waiting 50.00"
    clock[0] = 30.0
    assert drawn(live)[-1] == "1 of 4 cells (up to 5) in 30 s, 120 an hour, about 1 min 30 s left"
    live.queued(further[1:])
    live.event(Event("finished", further[0], result=result(60.0)))
    assert drawn(live)[1] == "TSN 2/3 waiting 55.00"
    assert drawn(live)[-1].startswith("2 of 5 cells in 30 s")


def test_lines_count_further_cells() -> None:
    console = Console(file=io.StringIO(), width=120)
    lines = view(console, [], 1, 2)
    for cell in (ROWS[0], Cell("TSN", ROWS[0].experiment.but(seed=1))):
        lines.event(Event("finished", cell, result=result(50.0)))
        lines.queued([cell])
    told = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.partition("]")[0] for line in told] == ["[1/1", "[2/2"]


def test_a_line_is_printed_as_it_is() -> None:
    console = Console(file=io.StringIO(), width=40)
    line = "worker [bold]w0[/bold] died (killed by signal 9); started again, and this line is longer than the screen"
    for shown in (LineView(console, 3), LiveView(console, [], 3)):
        shown.line(line)
        assert console.file.getvalue() == f"{line}\n"  # type: ignore[attr-defined]
        console.file = io.StringIO()


def test_names_that_steer_a_terminal_are_made_visible() -> None:
    cell = replace(ROWS[0], label="a\x1b[2Jb")
    console = Console(file=io.StringIO(), width=120)
    LineView(console, 3).event(Event("failed", cell, error="no\x07"))
    assert r"a\x1b[2Jb, seed 0: failed: no\x07" in console.file.getvalue()  # type: ignore[attr-defined]
    live = LiveView(console, [CellRecord(cell, "waiting")], 3)
    live.event(Event("progress", cell, progress=progress(2)))
    assert sum(r"a\x1b[2Jb" in line for line in drawn(live)) == 2  # the row, and the worker's cell


def test_pipes_and_finished_tables_get_lines() -> None:
    assert isinstance(view(Console(file=io.StringIO()), [], 3), LineView)
    terminal = Console(file=io.StringIO(), force_terminal=True)
    assert isinstance(view(terminal, [], 0), LineView)
    assert isinstance(view(terminal, [], 3), LiveView)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_log_messages_are_shown_as_lines(is_terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=120)
    log = logging.getLogger("tadaconv")
    before = list(log.handlers)
    with view(console, [CellRecord(cell, "waiting") for cell in ROWS], 3):
        log.warning("%s: tried again\x07", "TSN, seed 0")
    assert log.handlers == before
    assert "TSN, seed 0: tried again\\x07\n" in console.file.getvalue()  # type: ignore[attr-defined]
