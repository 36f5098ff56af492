"""Curves of running cells for TensorBoard: one folder per cell, written by the worker that runs it.

Events are written in the worker's thread and are in the file before a report returns: at most once a second, a few
hundred bytes. PyTorch's own ``SummaryWriter`` keeps them for two minutes in a thread: a killed worker would lose them,
and a full disk would end that thread with a traceback.
"""

import logging
import os
import re
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from tadaconv.command import install
from tadaconv.errors import UserError
from tadaconv.execution.cells import Cell
from tadaconv.result import CurvePoint, Progress

_log = logging.getLogger("tadaconv")


def require_tensorboard() -> None:
    """Raise :class:`UserError` unless the extra ``tensorboard`` is installed."""
    if find_spec("tensorboard") is None:
        raise UserError(f"--tensorboard needs tensorboard; {install('tensorboard')}")


def curves_folder(out: Path, study: str, cell: Cell) -> Path:
    """The folder in the run folder ``out`` for the curves of a cell.

    Its path has the study that first ran the cell, its row, seed and key; for a cell that several tables share, or of a
    renamed row, it stays the same.
    """
    root, key = out / "tensorboard", cell.key
    begun = sorted(root.glob(f"*/*{key}"))
    return begun[0] if begun else root / _plain(study) / f"{_plain(cell.label)} seed {cell.experiment.seed} {key}"


def _plain(name: str) -> str:
    """A name as part of a path: special characters as ``_``, and at most 50 characters."""
    return re.sub(r"[^\w .,+()=-]", "_", name)[:50].strip(" .") or "_"


class Curves:
    """Writes the curves of one attempt at a cell; a context manager.

    The curves of an attempt that resumes from a checkpoint replace those that earlier ones wrote for later steps, and
    those of one that starts from the beginning replace all. Errors do not affect the cell: a warning is logged, and no
    more curves are written.

    Args:
        folder: of the cell's curves; made with the first report.
        about: a description of the cell in Markdown.
    """

    def __init__(self, folder: Path, about: str) -> None:
        self._folder, self._about = folder, about
        self._events: _EventFile | None = None
        self._has_failed = False
        self._next_point = 0
        """The first step with an evaluation that has not been written."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._events is not None:
            self._events.close()

    def add(self, progress: Progress) -> None:
        """Add a report of training."""
        values = {
            "train/loss": progress.train_loss,
            "train/learning_rate": progress.learning_rate,
            "train/clips_per_second": progress.clips_per_second,
        }
        self._write(progress.step, {tag: value for tag, value in values.items() if value is not None}, progress.curve)

    def finish(self, curve: Sequence[CurvePoint]) -> None:
        """Add the end of a cell's ``curve``; if its worker died, the last point may not have been reported."""
        if curve and curve[-1].step >= self._next_point:
            self._write(curve[-1].step + 1, {}, curve)

    def _write(self, step: int, values: dict[str, float], curve: Sequence[CurvePoint]) -> None:
        if self._has_failed:
            return
        try:
            if self._events is None:
                # An evaluation right before the first step is in the checkpoint, but perhaps not in the curves yet.
                self._next_point = step - 1 if any(point.step == step - 1 for point in curve) else step
                self._events = _EventFile(self._folder, self._next_point)
                self._events.add_text("cell", self._about, step)
            for tag, value in values.items():
                self._events.add_scalar(tag, value, step)
            for point in curve:
                if point.step >= self._next_point:
                    self._events.add_scalar("train/loss_of_epoch", point.train_loss, point.step)
                    self._events.add_scalar(f"validation/{point.metric}", point.score, point.step)
                    self._next_point = point.step + 1
            self._events.flush()
        except (OSError, ImportError) as error:
            self._has_failed = True
            why = error.strerror if isinstance(error, OSError) else str(error)
            _log.warning("%s: no more curves are written, the cell continues without them: %s", self._folder, why)


class _EventFile:
    """A file of TensorBoard's events that comes after the existing ones and replaces their events from a step on."""

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads them in the order of their names, and clocks of machines differ.
        begun = [int(name[3]) for file in folder.glob("events.*") if (name := file.name.split("."))[3:]]
        seconds = max([int(time.time()), *(other + 1 for other in begun)])
        path = folder / f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}.{os.getpid()}"
        self._event: Any = Event
        self._file = path.open("xb")
        self._records = RecordWriter(self._file)
        self._add(step=first_step, file_version="brain.Event:2")
        self._add(step=first_step, session_log=SessionLog(status=SessionLog.START))

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Add a number."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]))

    def add_text(self, tag: str, markdown: str, step: int) -> None:
        """Add a text."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add(step=step, summary=text_pb(tag, markdown))

    def flush(self) -> None:
        """Hand all of it to the system."""
        self._records.flush()

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # the disk may be full
            self._file.close()

    def _add(self, **fields: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())
