"""The pages that describe the layout of the code name files that exist, and the layers that import-linter checks."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KINDS = ("ablation", "study", "calibration", "benchmark")


def section(page: str, heading: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("page", ["docs/design.md", "CONTRIBUTING.md"])
def test_every_path_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:tadaconv|tests|docs|reports|ablations|studies|benchmarks)/[^`\s]*)`", text)
    assert len(paths) > 20
    for path in paths:
        for kind in KINDS if "<kind>" in path else ("",):
            pattern = re.sub("<.*?>", "*", path.replace("<kind>", kind))
            figures_of_tables = pattern == "tadaconv/reporting/ablation/figures.py"  # a folder, as there are many
            assert figures_of_tables or list(ROOT.glob(pattern)), f"{page}: {path}"


def test_the_table_of_layers_is_that_of_the_import_contract() -> None:
    rows = re.findall(r"^\| (`.*?) \|", section("docs/design.md", "Packages"), re.MULTILINE)
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (layers,) = (contract["layers"] for contract in linter["contracts"] if contract.get("containers") == ["tadaconv"])
    modules = [module for layer in layers for module in layer.split(" | ")]
    assert [module for row in rows for module in re.findall(r"`(\w+)`", row)] == modules
    assert set(modules) == {
        path.stem
        for path in (ROOT / "tadaconv").iterdir()
        if path.stem != "__init__" and (path.suffix == ".py" or (path / "__init__.py").exists())
    }


def test_every_package_is_in_the_map() -> None:
    text = section("docs/design.md", "To change this, open that")
    packages = {path.parent.name for path in (ROOT / "tadaconv").glob("*/__init__.py")}
    assert packages == {name for name in packages if f"`tadaconv/{name}/" in text}
