"""A checkpoint is written at once or not at all, and read only if it is one."""

import errno
import os
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from tadaconv.errors import RunError
from tadaconv.training import checkpoint

CPU = torch.device("cpu")
STATE: dict[str, Any] = {"weights": torch.arange(1000.0), "step": 3, "nested": {"list": [1, 2.5, "x"]}}


def no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullDisk:
    """A file on a disk that has room for 100 bytes more."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def write(self, data: memoryview) -> int:
        self.file.write(data[:100])
        self.file.flush()
        return no_space()

    def __enter__(self) -> "FullDisk":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def test_round_trip_into_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "cell.pt"
    checkpoint.save(path, STATE)
    loaded = checkpoint.load(path, CPU)
    assert torch.equal(loaded["weights"], STATE["weights"])
    assert (loaded["step"], loaded["nested"]) == (3, STATE["nested"])
    checkpoint.save(path, {**STATE, "step": 4})
    assert checkpoint.load(path, CPU)["step"] == 4
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("fails", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_checkpoint(fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cell.pt"
    checkpoint.save(path, STATE)
    before = path.read_bytes()
    real_open = Path.open
    with monkeypatch.context() as patch:
        if fails == "write":
            patch.setattr(Path, "open", lambda self, mode="r": FullDisk(real_open(self, mode)))
        elif fails == "fsync":
            patch.setattr(os, "fsync", no_space)
        else:
            patch.setattr(Path, "replace", no_space)
        with pytest.raises(RunError) as error:
            checkpoint.save(path, {**STATE, "step": 4})
    assert str(error.value) == f"checkpoint {path} cannot be written: No space left on device; an earlier one is kept"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cell.pt"
    checkpoint.save(path, STATE)
    before = path.read_bytes()

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(path, {**STATE, "step": 4})
    assert path.read_bytes() == before
    checkpoint.save(path, {**STATE, "step": 5})  # what the kill left behind is in nobody's way
    assert checkpoint.load(path, CPU)["step"] == 5
    assert list(tmp_path.iterdir()) == [path]


def test_the_bytes_are_safe_on_disk_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real_fsync, real_replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), real_fsync(fd)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (calls.append("replace"), real_replace(self, to))[1])
    checkpoint.save(tmp_path / "cell.pt", STATE)
    assert calls == ["fsync", "replace"]


def test_a_folder_that_is_a_file_is_a_plain_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"checkpoint .*file/cell.pt cannot be written: "):
        checkpoint.save(tmp_path / "file" / "cell.pt", STATE)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_a_file_that_is_no_checkpoint_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cell.pt"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"cell.pt cannot be read \(\w+\); delete it to start over$"):
        checkpoint.load(path, CPU)


def test_a_file_of_other_tensors_is_named(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "cell.pt")
    with pytest.raises(RunError, match="cannot be read"):
        checkpoint.load(tmp_path / "cell.pt", CPU)


def test_a_torn_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cell.pt"
    checkpoint.save(path, STATE)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(RunError, match="cannot be read"):
        checkpoint.load(path, CPU)


class Malicious:
    """An object whose reading would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("pwned"),))


def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"identity": Malicious()}, tmp_path / "cell.pt")
    with pytest.raises(RunError, match="cannot be read"):
        checkpoint.load(tmp_path / "cell.pt", CPU)
    assert not Path("pwned").exists()
