"""What is shown while cells run."""

import io
import time

import pytest
from fake_cells import ROWS, result
from rich.console import Console

from tadaconv.execution import CellRecord, Event
from tadaconv.execution.live import LineView, LiveView, seconds_text, view
from tadaconv.result import Progress


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_seconds_are_readable(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_the_time_left_follows_from_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    live = LiveView(Console(file=io.StringIO()), [CellRecord(cell, "waiting") for cell in ROWS], num_to_run=3)
    assert live._time_line() == "0 of 3 cells in 0 s"
    live(Event("finished", ROWS[0], result=result(50.0)))
    live(Event("progress", ROWS[1], progress=Progress(step=1, num_steps=2, train_loss=1.0, curve=[])))
    now[0] = 30.0
    assert live._time_line() == "1 of 3 cells in 30 s, about 30 s left"
    live(Event("failed", ROWS[1], error="no"))
    live(Event("finished", ROWS[2], result=result(50.0)))
    assert live._time_line() == "3 of 3 cells in 30 s"


def test_pipes_and_finished_tables_get_lines() -> None:
    assert isinstance(view(Console(file=io.StringIO()), [], 3), LineView)
    terminal = Console(file=io.StringIO(), force_terminal=True)
    assert isinstance(view(terminal, [], 0), LineView)
    assert isinstance(view(terminal, [], 3), LiveView)
