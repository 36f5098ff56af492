"""Devices by their names, and the commit of the code."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import tadaconv
from tadaconv.environment import devices_of_cell, resolve_device, source_commit
from tadaconv.errors import UserError


def test_the_gpus_of_a_cell_follow_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert devices_of_cell("auto", 2) == ["cuda:0", "cuda:1"]
    assert devices_of_cell("cuda:1", 3) == ["cuda:1", "cuda:2", "cuda:3"]
    assert devices_of_cell("cpu", 2) == ["cpu", "cpu"]
    with pytest.raises(UserError, match=r"needs more GPUs: this machine has 4$"):
        devices_of_cell("cuda", 5)
    with pytest.raises(UserError, match="this machine has 1 from cuda:3 on"):
        devices_of_cell("cuda:3", 2)


def git(folder: Path, *words: str) -> str:
    options = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(folder), *options, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_of_the_code_and_whether_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "tadaconv"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(tadaconv, "__file__", str(package / "__init__.py"))
    found = source_commit.__wrapped__
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")[:12]
    assert found() == {"commit": commit}
    (tmp_path / "notes.txt").write_text("not the package's")
    assert found() == {"commit": commit}
    (package / "new.py").write_text("")
    assert found() == {"commit": commit, "dirty": "yes"}


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("cpu") == resolve_device("auto") == torch.device("cpu")
    for name in ("cuda", "cuda:1"):
        with pytest.raises(UserError, match=r"^this machine has no usable CUDA device; use --device cpu"):
            resolve_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match=r"^there is no device 'cuda:2'; this machine has 2 CUDA device\(s\)$"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "tpu", "mps", "meta", "CPU"])
def test_an_unknown_device_lists_the_right_ones(name: str) -> None:
    with pytest.raises(UserError) as error:
        resolve_device(name)
    assert str(error.value) == f"unknown device {name!r}; one of: auto, cpu, cuda, cuda:N"
