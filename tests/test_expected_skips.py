"""A run of CI fails where a test is skipped for a reason that nobody expects, and not for one that is listed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXPECTED = """
import pytest

def test_one():
    pytest.skip("no CUDA device")

@pytest.mark.skipif(True, reason="no Slurm: there is no slurmctld")
def test_two():
    pass

@pytest.mark.xfail(reason="fails, and is known to")
def test_three():
    assert False
"""
OF_A_TEST = "import pytest\n\ndef test_four():\n    pytest.skip('the extra parquet is not installed')\n"
OF_A_FILE = "import pytest\n\npytest.importorskip('a_package_that_is_not_there', reason='the extra video is lacking')\n"


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    tests = Path(__file__).parent
    paths = [str(tests), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "expected_skips", "-p", "no:cacheprovider", *options, "."],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("processes", [["-p", "no:xdist"], ["-n", "1"]])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OF_A_TEST, "test_more.py::test_four: the extra parquet is not installed"),
        (OF_A_FILE, "test_more.py: the extra video is lacking"),
    ],
)
def test_an_unexpected_skip_fails_the_run_if_asked_to(
    processes: list[str], text: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "test_expected.py").write_text(EXPECTED)
    watched = run(tmp_path, "--only-expected-skips", *processes)
    assert watched.returncode == 0, watched.stdout
    (tmp_path / "test_more.py").write_text(text)
    watched = run(tmp_path, "--only-expected-skips", *processes)
    assert watched.returncode == 1
    assert reason in watched.stdout
    assert run(tmp_path, *processes).returncode == 0
