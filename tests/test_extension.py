"""Adding a rival or a backbone is one file and one dict line: each is added here, then checked and run by a row."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tadaconv.errors import UserError
from tadaconv.experiment import build_model, run
from tadaconv.models import BACKBONES, RIVALS
from tadaconv.preview import check, costs
from tadaconv.regime import Regime
from tadaconv.spec import Backbone, Rival, Schedule, Synthetic
from tadaconv.table import load_table

RIVAL = '''"""Mixes each frame with the one before it."""

import torch
from torch import nn

from tadaconv.models.rivals.operator import Operator
from tadaconv.nn import FrameConv2d


class Memory(FrameConv2d):
    def forward(self, input):
        y = super().forward(input)
        return y + self.share * torch.cat([torch.zeros_like(y[:, :, :1]), y[:, :, :-1]], 2)


def remember(conv, num_frames, start=0.0):
    conv.__class__ = Memory
    conv.share = nn.Parameter(torch.full((), start))
    return conv


OPERATOR = Operator(remember, source="nowhere", identity="exact")
'''

BACKBONE = '''"""A residual network of one width."""

from tadaconv.models.resnet import BasicBlock, ResNet


def one_width(num_classes, dropout):
    return ResNet(BasicBlock, (1, 1, 1, 1), num_classes, widths=(16,) * 5, small_stem=True, dropout=dropout)
'''

TABLE = '''"""Does memory help?"""

from tadaconv.table import Row, Table
from tadaconv.spec import Rival

TABLE = Table(
    base=Row("memory", Rival(name="memory")),
    rows=[
        Row("none", None),
        Row("memory from the start", Rival(name="memory", options={"start": 0.5})),
        Row("memory in another backbone", Rival(name="memory"), backbone="one_width"),
    ],
)
'''


def new_file(path: Path, text: str) -> ModuleType:
    """The module in a file that was not there before."""
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def table(tmp_path: Path) -> str:
    (tmp_path / "memory_table.py").write_text(TABLE)
    return str(tmp_path / "memory_table.py")


def regime(backbone: str) -> Regime:
    return Regime(
        summary="one step",
        backbone=Backbone(name=backbone),
        data=Synthetic(num_frames=4, size=16, num_train=4, num_val=10),
        schedule=Schedule(epochs=1, batch_size=4, lr=0.01),
    )


def test_one_file_and_one_line_add_a_rival_and_a_backbone(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RIVALS, "memory", new_file(tmp_path / "memory.py", RIVAL).OPERATOR)
    monkeypatch.setitem(BACKBONES, "one_width", new_file(tmp_path / "one_width.py", BACKBONE).one_width)
    loaded, small = load_table(table), regime("one_width")

    found = {row.row: row for row in check(loaded, small).rows}
    assert found["memory"].start == "exact"
    assert found["memory from the start"].start == "differs"  # the file promises what it does not keep, and check sees
    assert found["memory"].params == found["none"].params + 4
    assert [row.cost.params for row in costs("one_width", small).rows] == [found["none"].params]

    cells = loaded.table.cells(small, [0])
    assert len(cells) == 4
    for cell in cells:
        result = run(cell.experiment, "cpu")
        assert [point.step for point in result.curve] == [1]
        assert result.params == found[cell.label].params
        if isinstance(cell.experiment.temporal, Rival):
            shares = [p for key, p in build_model(cell.experiment, 10).named_parameters() if key.endswith("share")]
            assert len(shares) == 4
            assert torch.stack(shares).unique().tolist() == [cell.experiment.temporal.options.get("start", 0.0)]


def test_without_the_line_nothing_is_found(table: str) -> None:
    with pytest.raises(UserError, match="unknown rival 'memory'; one of: "):
        check(load_table(table), regime("tiny"))
    with pytest.raises(UserError, match="unknown backbone 'one_width'; one of: "):
        costs(table, regime("one_width"))
