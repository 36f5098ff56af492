"""What is listed is what there is, said without importing it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tadaconv import catalogue
from tadaconv.data.layouts import LAYOUTS
from tadaconv.models import BACKBONES, RIVALS


def test_backbones_and_rivals_are_listed_in_order_with_what_they_say_of_themselves() -> None:
    content = catalogue.content()
    assert [entry["name"] for entry in content["backbones"]] == list(BACKBONES)
    assert [entry["name"] for entry in content["rivals"]] == list(RIVALS)
    assert [entry["name"] for entry in content["layouts"]] == list(LAYOUTS)
    assert min(len(BACKBONES), len(RIVALS), len(LAYOUTS)) > 5
    for entry in content["backbones"]:
        said = BACKBONES[entry["name"]].__doc__
        assert said is not None
        assert entry["summary"] == said.splitlines()[0].replace("``", "")
    for entry in content["rivals"]:
        module = sys.modules[RIVALS[entry["name"]].build.__module__]
        assert module.__doc__ is not None
        assert entry["summary"] == module.__doc__.splitlines()[0]


def test_everything_has_a_summary_or_says_nothing_of_itself() -> None:
    content = catalogue.content()
    kinds = ("tables", "regimes", "backbones", "rivals", "datasets", "layouts")
    assert all(entry["summary"] for kind in kinds for entry in content[kind])


def test_listing_imports_no_torch() -> None:
    program = "import sys; from tadaconv import catalogue; catalogue.content(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_broken_file_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("ablations", "studies", "regimes"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "broken.py").write_text("1 +")
    monkeypatch.chdir(tmp_path)
    content = catalogue.content()
    for kind in ("tables", "studies", "regimes"):
        broken = {entry["name"]: entry["summary"] for entry in content[kind]}["broken"]
        assert "cannot be loaded" in broken
    assert {"context", "plug_in"} <= {entry["name"] for entry in content["tables"]}


def test_a_registry_is_a_literal_dict(tmp_path: Path) -> None:
    said = "Made of ``two`` parts.\n\n    More."
    (tmp_path / "new.py").write_text(f'"""The file."""\ndef made():\n    """{said}"""\nOBJECT = 1')
    registry = tmp_path / "__init__.py"
    registry.write_text('NEW: dict[str, int] = {"a": new.made, "b": new.OBJECT}')
    assert catalogue._registered(registry, "NEW") == [
        {"name": "a", "summary": "Made of two parts."},
        {"name": "b", "summary": "The file."},
    ]
    with pytest.raises(AssertionError, match="no literal dict OLD"):
        catalogue._registered(registry, "OLD")
