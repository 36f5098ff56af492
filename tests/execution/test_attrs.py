"""The names of attributes in storages: those of every storage that was ever written."""

from pathlib import Path

from fake_cells import FakeRun, ablate

from tadaconv.execution import attrs
from tadaconv.execution.store import Store

STORED = {
    "cell", "label", "spec", "lease", "after", "result", "error", "traceback", "device", "step", "again", "interrupted",
    "withdrawn", "duplicate_of", "died_at", "tries", "deaths", "best_step", "trial", "pruned", "curve", "copied",
    "macs", "over_budget", "infeasible", "drawn_for", "format", "plan", "protocol", "space", "table", "study", "regime",
    "places",
}  # fmt: skip
"""Whoever takes one from this list, or writes it otherwise, loses what storages hold under it."""


def test_every_stored_name_is_unique_and_kept() -> None:
    names = [value for name, value in vars(attrs).items() if name.isupper()]
    assert sorted(names) == sorted(set(names))
    assert set(names) >= STORED


def test_nothing_else_is_written(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "journal.log"))
    ablate(store, "t-quick", FakeRun(tmp_path / "log"))
    written = {name for found in store.attempts().values() for attempt in found for name in attempt.attrs}
    written |= store.study_attrs("t-quick").keys()
    assert {"cell", "label", "spec", "lease", "result", "format", "plan"} <= written
    assert written <= {value for name, value in vars(attrs).items() if name.isupper()}
