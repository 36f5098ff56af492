"""One thread a test process, so that sums do not depend on the machine; the same examples every time in CI."""

import os
import signal

import pytest
import torch
from hypothesis import settings
from support import Call, tada_with

pytest_plugins = ["expected_skips"]

torch.set_num_threads(1)
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would the processes that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables run in the process of the test unless it gives ``--workers``, so that what it replaces is used."""
    monkeypatch.setattr("tadaconv.execution.launcher.num_workers_for", lambda *_: (1, ""))


@pytest.fixture
def tada(capsys: pytest.CaptureFixture[str]) -> Call:
    """``tada("list", "--json")`` calls the command line in this process; what it exits with and prints."""
    return tada_with(capsys)
