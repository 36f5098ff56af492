"""What several files of tests share: made-up results, calls of the command line, pages of reports, and waiting."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import pytest

from tadaconv import cli
from tadaconv.result import Result
from tadaconv.spec import Backbone, Experiment, Schedule, Synthetic, TAda

TINY = Experiment(
    backbone=Backbone(name="smallest", dropout=0.3),
    temporal=TAda(),
    data=Synthetic(num_frames=4, size=16, num_train=12, num_val=20),
    schedule=Schedule(epochs=2, batch_size=5, lr=0.1, warmup_epochs=0.5),
)
"""An experiment that is run in a second, on the backbone :func:`smallest`."""


def smallest(num_classes: int, dropout: float) -> Any:
    """A small backbone, to be added to those that ship.

    Sixteen channels are the least: oneDNN spoils memory in the backward pass of a strided 1x1 convolution of fewer
    (uxlfoundation/oneDNN issue 6035).
    """
    from tadaconv.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, (1, 1, 1, 1), num_classes, widths=(16,) * 5, small_stem=True, dropout=dropout)


def made_result(top1: float = 50.0, **changes: Any) -> Result:
    """A result of this accuracy, as small as one can be, with ``changes`` of its fields."""
    values = {
        "top1": top1, "top5": 100.0, "loss": 1.0, "per_class": {}, "num_val": 8, "curve": [], "params": 1, "macs": 1,
        "cost": {}, "train_clips_per_second": 1.0, "eval_clips_per_second": 1.0, "peak_memory_bytes": 1, "seconds": 1.0,
        "environment": {},
    }  # fmt: skip
    return Result.model_validate({**values, **changes})


@dataclass(frozen=True)
class Done:
    """What came of a call of ``tada``: its exit status, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All that was printed."""
        return self.out + self.err


Call = Callable[..., Done]


def tada_with(capsys: pytest.CaptureFixture[str]) -> Call:
    """What calls ``tada`` in this process, with the words of its command line."""

    def call(*arguments: str) -> Done:
        with pytest.raises(SystemExit) as exited:
            cli.main(arguments)
        captured = capsys.readouterr()
        return Done(int(exited.value.code or 0), captured.out, captured.err)

    return call


class Page(HTMLParser):
    """A page's tags with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def words(self) -> str:
        """The text with single spaces between its words."""
        return re.sub(r"\s+", " ", self.text.replace("\xa0", " "))

    def values(self, *names: str) -> list[str]:
        """The values of the attributes of these names."""
        return [value for _, attrs in self.tags for name, value in attrs.items() if name in names and value is not None]


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Return as soon as ``condition`` holds; fails where it does not come to, and if it fails itself."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what is waited for does not happen"
        time.sleep(0.02)
