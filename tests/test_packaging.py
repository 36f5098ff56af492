"""What ships: the wheel and its content, the pinned versions, and what README promises."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tadaconv import cli, discovery
from tadaconv.environment import digest_of
from tadaconv.experiment import build_model
from tadaconv.regime import load_regime
from tadaconv.table import Table

ROOT = Path(__file__).resolve().parent.parent
LIST = """
import json, sys, tadaconv
from tadaconv import discovery
found = {kind: {name: str(path) for name, path in discovery.available(kind).items()} for kind in discovery.KINDS}
print(json.dumps({"package": tadaconv.__file__, **found}))
"""
OWN_TABLE = """from tadaconv.table import Row, Table
TABLE = Table(base=Row("TSN", None), rows=[])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def listed(cwd: Path, *path: Path) -> dict[str, dict[str, str]]:
    """What discovery finds in ``cwd`` where packages are imported from ``path`` before all else."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    run = subprocess.run(
        [sys.executable, "-B", "-c", LIST], cwd=cwd, env=environment, check=True, capture_output=True, text=True
    )
    found: dict[str, dict[str, str]] = json.loads(run.stdout)
    return found


def shipped(kind: str) -> set[str]:
    return {file.stem for file in discovery.shipped_folder(kind).glob("[!_]*.py")}


def test_a_wheel_carries_its_content(wheel: Path, tmp_path: Path) -> None:
    found = listed(tmp_path, wheel)

    assert Path(str(found["package"])).is_relative_to(wheel)
    for kind in discovery.KINDS:
        assert set(found[kind]) == shipped(kind)
        assert all(Path(path).is_relative_to(wheel / "tadaconv") for path in found[kind].values())
    assert "context" in found["ablation table"]
    assert "ablation" in found["report"]
    assert "quick" in found["regime"]


def test_a_wheel_carries_the_page_the_types_and_no_leftovers(wheel: Path) -> None:
    files = {file.relative_to(wheel).as_posix() for file in wheel.rglob("*") if file.is_file()}

    assert {
        "tadaconv/py.typed",
        "tadaconv/reporting/core/templates/index.html.j2",
        "tadaconv/studies/README.md",
    } <= files
    assert {file.partition("/")[0].partition("-")[0] for file in files} == {"tadaconv"}
    assert not [file for file in files if "__pycache__" in file or "/tests/" in file]


def test_a_clone_and_an_editable_install_find_the_content_next_to_the_package(tmp_path: Path) -> None:
    # An editable install leaves a copy of the content in site-packages, without the package: it must not be found.
    editable = tmp_path / "site-packages"
    (editable / "tadaconv" / "ablations").mkdir(parents=True)
    (editable / "tadaconv" / "ablations" / "context.py").write_text(OWN_TABLE)

    for path in ((ROOT,), (editable, ROOT)):
        found = listed(tmp_path, *path)
        assert Path(str(found["package"])).is_relative_to(ROOT)
        for kind in ("ablation table", "study", "report"):
            assert set(found[kind]) == shipped(kind)
            assert all(Path(file).parent == ROOT / discovery.KINDS[kind] for file in found[kind].values())


def test_a_wheel_and_a_clone_of_one_commit_have_one_digest_of_their_code(wheel: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone" / "tadaconv"
    shutil.copytree(ROOT / "tadaconv", clone, ignore=shutil.ignore_patterns("__pycache__"))
    digest = digest_of(ROOT / "tadaconv")
    assert digest_of(wheel / "tadaconv") == digest_of(clone) == digest

    for file in clone.rglob("*.py"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert digest_of(clone) == digest, "ends of lines are no code"
    (clone / "regimes" / "lab.py").write_text("REGIME = None\n")
    (clone / "nn" / "__pycache__").mkdir()
    (clone / "nn" / "__pycache__" / "conv.cpython-311.pyc").write_bytes(b"compiled")
    (clone / ".#conv.py").symlink_to("nobody@nowhere")  # as an editor leaves it
    assert digest_of(clone) == digest
    with (clone / "nn" / "conv.py").open("a") as code:
        code.write("# changed\n")
    assert digest_of(clone) != digest


def test_the_current_folder_hides_what_ships(wheel: Path, tmp_path: Path) -> None:
    mine = tmp_path / "ablations"
    mine.mkdir()
    for name in ("context", "of_my_own"):
        (mine / f"{name}.py").write_text(OWN_TABLE)

    for path in (wheel, ROOT):
        found = listed(tmp_path, path)["ablation table"]
        assert set(found) == shipped("ablation table") | {"of_my_own"}
        assert Path(found["context"]) == mine / "context.py"
        assert Path(found["placement"]).parent != mine


def test_constraints_pin_every_requirement() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    versions = {canonicalize_name(name): version for name, version in pins.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(text) for text in project["dependencies"] + extras["video"] + extras["test"] + extras["dev"]]

    assert not [version for version in versions.values() if "+" in version], "a local build is on no index"
    for requirement in wanted:
        if requirement.name != project["name"]:
            assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def readme_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_readme_shows_the_operator_in_ten_lines_that_run() -> None:
    _, operator, _ = readme_blocks()
    names: dict[str, object] = {}

    exec(operator, names)

    assert len(operator.splitlines()) == 10
    assert {"conv", "tada2d"} <= set(names)


def test_readme_shows_a_table_that_builds() -> None:
    *_, table = readme_blocks()
    names: dict[str, object] = {}

    exec(table, names)

    assert isinstance(names["TABLE"], Table)
    for cell in names["TABLE"].cells(load_regime("quick"), [0]):
        build_model(cell.experiment, num_classes=3)


def commands(group: Any) -> set[str]:
    """Every command below ``group``: ``list``, ``data check``."""
    names = set()
    for name, command in group.commands.items():
        names |= {f"{name} {inner}" for inner in commands(command)} if hasattr(command, "commands") else {name}
    return names


def test_readme_lists_every_command() -> None:
    section = (ROOT / "README.md").read_text().partition("## Commands")[2].partition("\n## ")[0]
    told = {" ".join(re.findall(r"[a-z]+", row)) for row in re.findall(r"^\| `tada (.*?)`", section, re.MULTILINE)}

    assert told == commands(typer.main.get_command(cli.app))


def test_readme_links_lead_to_files() -> None:
    num_links = 0
    for page in ("README.md", "CONTRIBUTING.md", *(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))):
        prose = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#]+)", prose):
            if "://" not in link and not link.endswith(".png"):
                assert (ROOT / page).parent.joinpath(link).exists(), f"{page}: {link}"
                num_links += 1
    assert num_links > 20
