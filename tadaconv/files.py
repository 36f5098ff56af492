"""Files that are written whole or not at all: a reader, a killed process or a full disk never leaves half of one."""

import errno
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from tadaconv.errors import RunError, UserError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Generator[BinaryIO]:
    """Open a file that takes the place of ``path`` when the block ends; where it raises, ``path`` stays as it is.

    With ``durable`` the bytes are safe on the disk before the name changes, which a power cut then cannot part. Raises
    :class:`OSError` where nothing can be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")  # other machines have the same process ids
    try:
        with partial.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):  # where nothing can be written, often nothing can be removed either
            partial.unlink()
        raise


def write_file(path: Path, content: str | bytes | memoryview, *, durable: bool = False) -> None:
    """Write a file whole or not at all; see :func:`replacing`, which raises the same.

    Args:
        path: the file; its folder is made if need be.
        content: text is written as UTF-8.
        durable: whether the bytes are to be safe on the disk before the name changes.
    """
    with replacing(path, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_atomically(path: Path, content: str | bytes) -> None:
    """As :func:`write_file`, for a folder of results.

    Raises :class:`UserError` where the folder cannot be written, and :class:`RunError` where the disk is full.
    """
    try:
        write_file(path, content)
    except OSError as error:
        message = f"cannot write {path}: {error.strerror}"
        if error.errno in _NO_ROOM:
            raise RunError(f"{message}; the results are kept, report them again") from error
        raise UserError(f"{message}; choose another folder with --out") from error


def require_writable(folder: Path) -> None:
    """Create ``folder`` if need be; raises :class:`UserError` where no file can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; name another folder with --out") from error
