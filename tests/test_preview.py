"""Costs and checks of tables, held against networks counted and compared by hand."""

import pytest
import torch

from tadaconv import preview
from tadaconv.ablation import LoadedTable, Row, Table, load_table
from tadaconv.errors import UserError
from tadaconv.models import BACKBONES
from tadaconv.nn import context as context_module
from tadaconv.regime import load_regime
from tadaconv.spec import Aggregation, TAda


def test_costs_of_a_regime_are_those_of_its_networks():
    found = preview.costs("initialization", load_regime("quick"))
    host = BACKBONES["tiny"](10, 0.0)
    params = sum(p.numel() for p in host.parameters())
    by_row = {row.row: row.cost for row in found.rows}
    assert by_row["no calibration (TSN)"].params == params
    assert by_row["no calibration (TSN)"].macs_by_kind["calibration"] == 0
    assert by_row["identity"].params > params
    assert by_row["identity"].macs_by_kind["calibration"] > 0
    assert all(row.paper_gmacs is None for row in found.rows)


@pytest.mark.parametrize(
    ("ours", "paper", "differs"),
    [(43.12e9, 43.0, False), (43.6e9, 43.0, True), (36.1e9, 36.1, False), (36.16e9, 36.1, True)],
)
def test_a_count_differs_where_the_printed_digits_do(ours, paper, differs):
    cost = preview.Cost(params=1, macs=int(ours), macs_by_kind={}, input_shape=(1, 3, 8, 256, 256))
    assert preview.RowCost(row="", cost=cost, paper_gmacs=paper).differs is differs


def test_costs_of_a_backbone():
    (row,) = preview.costs("tiny", load_regime("quick")).rows
    assert row.cost.params == sum(p.numel() for p in BACKBONES["tiny"](10, 0.0).parameters())


def test_neither_table_nor_backbone():
    with pytest.raises(UserError, match="unknown table or backbone 'resnt18'; one of: resnet18"):
        preview.costs("resnt18")


def test_every_row_of_every_kind_starts_as_it_should():
    checks = [preview.check(load_table(n), load_regime("quick")) for n in ("initialization", "calibration_dimension")]
    starts = {row.row: row.start for found in checks for row in found.rows}
    assert starts["identity"] == starts["cin"] == starts["cout"] == starts["no calibration (TSN)"] == "exact"
    assert starts["k2"] in ("exact", "rounding")
    assert starts["random last layer"] == starts["without the one"] == "by design"


def test_a_row_that_does_not_start_at_identity_is_told(monkeypatch):
    monkeypatch.setattr(context_module.nn.init, "zeros_", lambda tensor: tensor)
    table = Table(base=Row("broken", TAda(aggregation=Aggregation(kind="none"))), rows=[])
    found = preview.check(LoadedTable("t", "", table), load_regime("quick"))
    assert [row.start for row in found.rows] == ["differs"]
    assert not found.ok


def test_random_state_is_left_alone():
    before = torch.get_rng_state()
    preview.check(load_table("initialization"), load_regime("quick"))
    assert torch.equal(before, torch.get_rng_state())
