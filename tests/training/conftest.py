import pytest

from tadaconv.training import fit


@pytest.fixture(autouse=True)
def _every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports after every step, and checkpoints as often as they are asked for, however long writing one takes."""
    monkeypatch.setattr(fit, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(fit, "TIMES_A_SAVE", 0.0)
