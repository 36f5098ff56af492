import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from tadaconv.reporting.study.terminal import StudyTable
from tadaconv.study import InfeasibleDraw

LIGHT = """
import sys
import tadaconv.reporting.study.terminal
heavy = {"torch", "matplotlib", "seaborn", "nbclient", "nbconvert", "IPython", "optuna", "sklearn", "scipy.stats"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def drawn(loaded, records, width: int, infeasible=()) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(StudyTable(loaded, "quick", records, infeasible))
    return console.export_text()


def test_imports_nothing_heavy() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], check=True)


@pytest.mark.parametrize("width", [50, 80, 120])
def test_every_trial_fits_with_status_and_reason(make_study, width: int) -> None:
    loaded, records = make_study(24)
    text = drawn(loaded, records, width)
    assert max(map(len, text.splitlines())) <= width
    assert "\u2026" not in text
    lines = text.splitlines()
    squeezed = " ".join(text.split())
    best = max((r for r in records if r.status == "finished"), key=lambda r: r.score)
    for record in records:
        (line,) = [line for line in lines if f" {line.strip()} ".startswith(f" {record.name} ")]
        assert ("best" if record is best else record.status) in line
        if record.status == "finished":
            assert f" {record.score:.1f} " in line
        if width >= 80:
            assert (record.why or "") in squeezed
    assert squeezed.count("below the median") == sum(record.status == "pruned" for record in records)


def test_the_counts_and_the_warning_stand_below(make_study) -> None:
    loaded, records = make_study(24)
    text = " ".join(drawn(loaded, records, 80).split())
    numbers = {s: sum(r.status == s for r in records) for s in ("finished", "pruned", "over budget", "failed")}
    said = "24 trials: {finished} finished, {pruned} pruned, {over budget} over budget and {failed} failed."
    assert said.format(**numbers) in text
    command = "tada study placed --confirm 3 --seeds 3"
    assert f"optimistically biased by selection (winner\u2019s curse); confirm it: {command}" in text
    assert "biased" not in drawn(loaded, records[:1], 80)


def test_infeasible_draws_are_counted_and_a_start_among_them_is_named(make_study) -> None:
    loaded, records = make_study(3)
    draws = [InfeasibleDraw(1, "paper: stage 5", {}, {}, "no stage 5 \x1b[31m"), InfeasibleDraw(2, "", {}, {}, "none")]
    text = " ".join(drawn(loaded, records, 80, draws).split())
    assert "Not counted: 2 draws infeasible in this regime. paper: stage 5 is infeasible: no stage 5" in text
    assert "\x1b" not in text
    assert "is infeasible: none" not in text
    assert "infeasible" not in drawn(loaded, records, 80)


def test_trials_on_their_way_and_names_as_text(make_study) -> None:
    loaded, records = make_study(2)
    moving = [
        replace(records[0], status="running", score=None, macs=None, name="[red]x[/red]"),
        replace(records[1], status="waiting", score=None, macs=None),
    ]
    text = drawn(loaded, moving, 80)
    assert "[red]x[/red]" in text
    assert "running" in text
    assert "waiting" in text
    assert "2 trials: 1 running and 1 waiting." in text
    assert "()" not in text
    assert "No trials yet." in drawn(loaded, [], 80)
