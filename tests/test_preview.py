"""Costs and checks of tables, compared with networks counted by hand."""

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from rich.console import Console, RenderableType

from tadaconv import preview
from tadaconv.errors import UserError
from tadaconv.measure import KINDS, Cost, count
from tadaconv.models import BACKBONES
from tadaconv.nn import context as context_module
from tadaconv.preview import cost_table
from tadaconv.preview.scale import scale_of
from tadaconv.regime import load_regime
from tadaconv.sequential import SeedDesign
from tadaconv.spec import Aggregation, TAda
from tadaconv.study.cost import MacsCounter
from tadaconv.table import LoadedTable, Row, Table, load_table
from tadaconv.table_run import dry_run_cells


def printed(what: RenderableType) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def test_costs_of_a_regime_are_those_of_its_networks():
    found = preview.costs("initialization", load_regime("quick"))
    host = BACKBONES["tiny"](12, 0.0)
    params = sum(p.numel() for p in host.parameters())
    by_row = {row.row: row.cost for row in found.rows}
    assert by_row["no calibration (TSN)"].params == params
    assert by_row["no calibration (TSN)"].macs_by_kind["calibration"] == 0
    assert by_row["identity"].params > params
    assert by_row["identity"].macs_by_kind["calibration"] > 0
    assert all(row.paper_gmacs is None for row in found.rows)


NOTHING = Cost(
    params=0,
    macs=0,
    macs_by_kind=dict.fromkeys(KINDS, 0),
    activations=0,
    peak_memory_bytes=0,
    input_shape=(1, 3, 8, 8, 8),
)


UNCOUNTED = [(cost_table, "build_host", None), (preview.scale.Scale, "network", None), (cost_table, "count", NOTHING)]
"""What builds and counts networks, and what it gives where none is to be built."""


def row_cost(params: float = 1, macs: float = 1, **paper: float | Decimal) -> preview.RowCost:
    cost = NOTHING.model_copy(update={"params": int(params), "macs": int(macs)})
    return preview.RowCost(row="", scale=preview.PAPER, cost=cost, **paper)


@pytest.mark.parametrize(
    ("ours", "paper", "differs"),
    [
        (43.12, 43.0, False),
        (43.6, 43.0, True),  # whole numbers are rounded
        (42.6, 43.0, False),  # rounded
        (42.4, 43.0, True),
        (44.0, 43.0, True),
        (36.1, 36.1, False),
        (36.16, 36.1, False),
        (36.21, 36.1, True),
        (36.14, Decimal("36.10"), True),
        (36.104, Decimal("36.10"), False),
        (36.094, Decimal("36.10"), True),
    ],
)
def test_a_figure_differs_where_ours_is_neither_rounded_nor_cut_to_it(
    ours: float, paper: float | Decimal, differs: bool
) -> None:
    assert row_cost(macs=ours * 1e9, paper_gmacs=paper).macs_differ is differs
    assert row_cost(params=ours * 1e6, paper_params_m=paper).params_differ is differs


def test_the_papers_digits_and_marks_are_shown() -> None:
    rows = [
        row_cost(34.57e6, 36.104e9, paper_params_m=34.5, paper_gmacs=Decimal("36.10")),
        row_cost(34.57e6, 44e9, paper_gmacs=43),
    ]
    found = preview.Costs(name="t", scale=preview.PAPER, rows=rows)
    shown = printed(preview.render_costs(found))
    assert re.search(r"34\.57 +34\.5 +36\.10 +36\.10 ", shown)
    assert re.search(r"44\.00 +43 \*", shown)
    assert json.loads(found.model_dump_json())["rows"][1]["macs_differ"] is True


def test_costs_fit_80_columns_and_name_only_kinds_that_occur() -> None:
    found = preview.costs("rivals", load_regime("quick"))
    lines = printed(preview.render_costs(found)).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert not any("\u2026" in line for line in lines)
    assert any("kernels" in line for line in lines)
    assert not any("atten-" in line for line in lines)


def test_rows_are_counted_on_their_own_backbone_and_frames_and_no_network_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "from tadaconv.table import Row, Table\n"
        "TABLE = Table(base=Row('a', None), rows=[Row('b', None, backbone='tiny', num_frames=8),\n"
        "    Row('c', None, num_frames=16), Row('d', None, backbone='r3d')])"
    )
    counted = []
    monkeypatch.setattr(
        cost_table, "count", lambda model, clip: counted.append((type(model), clip)) or count(model, clip)
    )
    rows = {row.row: row for row in preview.costs(str(tmp_path / "mine.py"), load_regime("quick")).rows}
    assert len(counted) == 3
    assert rows["a"].cost == rows["b"].cost
    assert (rows["c"].scale.backbone, rows["c"].cost.input_shape[2]) == ("tiny", 16)
    assert rows["d"].scale.backbone == "tiny_r3d"
    assert rows["d"].cost == count(BACKBONES["tiny_r3d"](12, 0.0), (3, 8, 16, 16))


def test_an_ensemble_costs_its_rows_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from tadaconv.table import PaperResult, Row, Table\n"
        "from tadaconv.spec import TAda\n"
        "PAPER = PaperResult(1.0, 'here', 'these', 12, 'one', gmacs=129)\n"
        "TABLE = Table(base=Row('a', TAda(), num_frames=8), rows=[\n"
        "    Row('both', None, PAPER, ensemble=('a', 'b')), Row('b', None, num_frames=4)])"
    )
    mine, quick = str(tmp_path / "mine.py"), load_regime("quick")
    found = preview.costs(mine, quick)
    both, b, a = found.rows
    assert (both.row, both.scale, both.ensemble, both.paper_gmacs) == ("both", None, ("a", "b"), None)
    assert both.cost.params == a.cost.params + b.cost.params
    assert both.cost.macs == a.cost.macs + b.cost.macs == sum(both.cost.macs_by_kind[k] for k in KINDS[:2])
    assert both.cost.macs_by_kind["calibration"] == a.cost.macs_by_kind["calibration"] > 0
    assert both.cost.activations == a.cost.activations + b.cost.activations
    assert both.cost.peak_memory_bytes == max(a.cost.peak_memory_bytes, b.cost.peak_memory_bytes)
    assert "4/8 frames" in printed(preview.render_costs(found))
    checked = preview.check(load_table(mine), quick)
    assert [row.row for row in checked.rows] == ["b", "a"]
    assert "both averages a and b" in printed(preview.render_check(checked))
    for place, name, result in UNCOUNTED:
        monkeypatch.setattr(place, name, lambda *_, result=result: result)
    assert preview.costs(mine).rows[0].paper_gmacs == 129  # of 8 and 4 frames, which the paper has together


def test_paper_figures_are_next_to_the_frames_they_are_of(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name, result in UNCOUNTED:
        monkeypatch.setattr(place, name, lambda *_, result=result: result)
    assert [row.paper_gmacs for row in preview.costs("aggregation").rows][-1] == 43
    assert all(row.paper_gmacs is None for row in preview.costs("aggregation", num_frames=16).rows)
    assert all(row.paper_gmacs is None for row in preview.costs("aggregation", load_regime("quick")).rows)


@pytest.mark.parametrize("table", ["plug_in", "ssv2", "k400"])
def test_every_figure_of_the_paper_has_its_digits(table: str) -> None:
    assert all(row.paper is not None and row.paper.gmacs for row in load_table(table).table.all_rows)
    if table == "plug_in":
        exponents = {row.paper.gmacs.as_tuple().exponent for row in load_table(table).table.all_rows}
        assert exponents == {-2}


@pytest.mark.parametrize("name", ["slowfast_8x8", "convnext_tiny_clip"])
def test_frames_that_do_not_divide(name: str) -> None:
    with pytest.raises(UserError, match="frames"):
        preview.costs(name, load_regime("quick"), num_frames=7)


def test_a_row_that_picks_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from tadaconv.table import Row, Table\nfrom tadaconv.spec import Placement, TAda\n"
        "TABLE = Table(base=Row('time', TAda(placement=Placement(convs='temporal'))), rows=[])"
    )
    with pytest.raises(UserError, match=r"^row 'time': placement .* selects no convolution"):
        preview.costs(str(tmp_path / "mine.py"), load_regime("quick"))


def test_previews_refuse_what_running_refuses(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from tadaconv.table import Row, Table\n"
        "TABLE = Table(base=Row('base', None), rows=[Row('short', None, num_frames=3)])"
    )
    loaded, regime = load_table(str(path)), load_regime("quick")
    told = []
    for act in (
        lambda: loaded.table.cells(regime, [0]),
        lambda: preview.check(loaded, regime),
        lambda: preview.costs(str(path), regime),
    ):
        with pytest.raises(UserError, match=r"^row 'short': .*num_frames") as raised:
            act()
        told.append(str(raised.value))
    assert len(set(told)) == 1


SMALL = """from tadaconv.table import Row, Table
TABLE = Table(base=Row("base", None), rows=[Row("big", None, backbone="convnext_small_clip")])
"""


def test_clips_that_are_too_small_for_a_backbone_have_one_error_everywhere(tmp_path: Path) -> None:
    one_seed = SeedDesign(first=1, last=1, smallest=1.0)
    path = tmp_path / "mine.py"
    path.write_text(SMALL)
    loaded, regime = load_table(str(path)), load_regime("quick")
    cells = loaded.table.cells(regime, [0])
    base = loaded.table.row("big")
    said = []
    for act in (
        lambda: dry_run_cells(cells),
        lambda: preview.check(loaded, regime),
        lambda: preview.costs(str(path), regime),
        lambda: preview.plan_table(loaded, "quick", regime, preview.Measure("cpu"), design=one_seed),
        lambda: preview.plan_trials(
            "where", "quick", regime, preview.Measure("cpu"), base, num_trials=2, num_ended=0, seeds=1
        ),
    ):
        with pytest.raises(UserError) as raised:
            act()
        said.append(str(raised.value))
    assert len(set(said)) == 1
    assert said[0].startswith("row 'big': backbone 'convnext_small_clip' cannot take clips of 8 frames at 16 px: ")

    with pytest.raises(UserError, match=r"^backbone 'convnext_tiny' cannot take clips of 8 frames at 16 px: "):
        preview.costs("convnext_tiny", regime)
    with pytest.raises(UserError, match=r"^backbone 'convnext_tiny' cannot take clips of 8 frames at 16 px: "):
        MacsCounter(regime.but(backbone__name="convnext_tiny"))  # of a study with a budget


def test_costs_of_a_backbone():
    (row,) = preview.costs("tiny", load_regime("quick")).rows
    assert row.cost.params == sum(p.numel() for p in BACKBONES["tiny"](12, 0.0).parameters())


def test_neither_table_nor_backbone():
    with pytest.raises(UserError, match="unknown table or backbone 'resnt18'; one of: resnet18"):
        preview.costs("resnt18")


def test_every_row_of_every_kind_starts_as_it_should():
    checks = [preview.check(load_table(n), load_regime("quick")) for n in ("initialization", "calibration_dimension")]
    starts = {row.row: row.start for found in checks for row in found.rows}
    assert starts["identity"] == starts["cin"] == starts["cout"] == starts["no calibration (TSN)"] == "exact"
    assert starts["k2"] in ("exact", "rounding")
    assert starts["random last layer"] == starts["without the one"] == "by design"


def test_a_row_that_does_not_start_at_identity_is_marked(monkeypatch):
    monkeypatch.setattr(context_module.nn.init, "zeros_", lambda tensor: tensor)
    table = Table(base=Row("broken", TAda(aggregation=Aggregation(kind="none"))), rows=[])
    found = preview.check(LoadedTable("t", "", table), load_regime("quick"))
    assert [row.start for row in found.rows] == ["differs"]
    assert not found.ok


def test_random_state_is_left_alone():
    before = torch.get_rng_state()
    preview.check(load_table("initialization"), load_regime("quick"))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("table", ["plug_in", "ssv2", "k400"])
def test_tables_across_backbones_start_as_they_should(table):
    found = preview.check(load_table(table), load_regime("quick"))
    assert found.ok
    assert len({row.scale for row in found.rows}) > 2
    assert max(map(len, printed(preview.render_check(found)).splitlines())) <= 80


def test_a_batch_of_one_clip_is_refused_as_running_refuses_it() -> None:
    table = LoadedTable(
        "t", "", Table(base=Row("a", TAda()), rows=[Row("b", TAda().but(context__variation="time_invariant"))])
    )
    odd = load_regime("quick").but(data__num_train=3, schedule__batch_size=2)
    with pytest.raises(
        UserError, match=r"^row 'b': an epoch of 3 training clips, cut into batches of at most 2, has one"
    ):
        preview.check(table, odd)
    assert preview.check(table, odd.but(data__num_train=4)).ok


def test_costs_are_those_of_the_crops_of_evaluation() -> None:
    regime = load_regime("folder")
    assert scale_of(regime).clip == (3, 8, 112, 112)
    assert scale_of(regime.but(data__eval_size=128)).clip == (3, 8, 128, 128)
