"""What importing a module brings along: torch where it must, and nothing else that is slow to load."""

import subprocess
import sys

import pytest

HEAVY = {
    "optuna", "pandas", "seaborn", "matplotlib", "sklearn", "scipy", "fvcore",
    "jupyter", "jupyter_client", "nbconvert", "nbclient", "nbformat", "jupytext", "IPython", "ipykernel",
}  # fmt: skip


def imported_by(statement: str) -> set[str]:
    """The top-level names of the modules that a fresh interpreter holds after ``statement``."""
    program = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "module",
    ["tadaconv", "tadaconv.spec", "tadaconv.result", "tadaconv.regime", "tadaconv.discovery", "tadaconv.table"],
)
def test_descriptions_need_no_torch_and_nothing_heavy(module: str) -> None:
    names = imported_by(f"import {module}")

    assert "tadaconv" in names
    assert not names & (HEAVY | {"torch"})


def test_the_command_line_starts_without_torch_and_anything_heavy() -> None:
    assert not imported_by("import tadaconv.cli") & (HEAVY | {"torch"})


def test_the_operator_needs_torch_and_nothing_heavy() -> None:
    names = imported_by("from tadaconv import TAdaConv2d; import tadaconv.nn")

    assert "torch" in names
    assert not names & HEAVY


def test_backbones_and_the_plug_in_need_torch_and_nothing_heavy() -> None:
    names = imported_by("from tadaconv import plug_in; import tadaconv.models")

    assert "torch" in names
    assert not names & HEAVY
