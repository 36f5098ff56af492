"""A pytest plugin: ``--only-expected-skips`` fails a run in which a test skips for a reason that is not listed here.

A test that is skipped holds nothing. What the environment of ``.ci/run`` has to have, such as the optional packages of
the project, is therefore no reason to skip there; what it may lack is listed in :data:`EXPECTED`.
"""

from collections.abc import Generator
from fnmatch import fnmatchcase

import pytest

EXPECTED = (
    # A GPU, and what comes with PyTorch's builds for one. Without it the kernels run under Triton's interpreter.
    "no CUDA device",
    "needs a CUDA device*",
    "needs triton, which PyTorch's CUDA builds bring",
    "is what is being run",
    # Packages that do not go with the pinned PyTorch: .ci/run-extras runs these tests.
    "timm cannot be imported: *",
    "torchvision cannot be imported: *",
    "the extra torchvision is not installed",
    # Programs of the system.
    "PostgreSQL is not installed: *",
    "no Slurm: *",
    "pdflatex is not installed",
    "xelatex is not installed",
    "lualatex is not installed",
    "git is not installed",
    # Other systems than Linux with glibc.
    "about glibc's allocator",
    "there is no device that is always full",
    "Linux alone tells the peak a second way",
)
"""Reasons for which a test may be skipped, as patterns of shells; pytest's ``Skipped: `` before them is left out."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--only-expected-skips",
        action="store_true",
        help="fail where a test is skipped for a reason that tests/expected_skips.py does not list",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--only-expected-skips"):
        config.pluginmanager.register(_Watch())


class _Watch:
    """Collects unexpected skips, of tests and of whole files. Under xdist the reports of all processes pass by."""

    def __init__(self) -> None:
        self.unexpected: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        assert isinstance(report.longrepr, tuple)  # path, line and reason of a skip
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        if not any(fnmatchcase(reason, pattern) for pattern in EXPECTED):
            self.unexpected.append(f"{report.nodeid}: {reason}")

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        yield
        if self.unexpected and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.unexpected:
            terminalreporter.section("skipped for a reason that is not expected", red=True)
            for line in self.unexpected:
                terminalreporter.line(line)
