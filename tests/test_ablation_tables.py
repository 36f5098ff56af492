"""Every table and every regime that ships: loads, builds, runs forward, and claims only what it has rows for."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tadaconv import discovery
from tadaconv.errors import UserError
from tadaconv.models import BACKBONES, RIVALS, Host, plug_in, promised_start
from tadaconv.regime import Regime, load_regime
from tadaconv.spec import CALIBRATIONS, Features, Rival, Spec, Synthetic, TAda, Untrimmed
from tadaconv.table import Claim, Row, Table, load_table, study_name

TABLES = [file.stem for file in discovery.shipped_folder("ablation table").glob("*.py")]
REGIMES = [file.stem for file in discovery.shipped_folder("regime").glob("*.py") if file.stem != "__init__"]
ON_FEATURES = [name for name in REGIMES if isinstance(load_regime(name).data, Features)]
SYNTHETIC = [name for name in REGIMES if isinstance(load_regime(name).data, Synthetic)]


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # only what ships


@pytest.fixture(scope="module", params=SYNTHETIC)
def host(request: pytest.FixtureRequest) -> Host:
    """A regime's backbone, its norms not at their start: there, blocks add nothing and would hide what is in them.

    In float64, and with norms that go by the clips: fifty layers whose norms have seen nothing magnify any rounding.
    """
    backbone = load_regime(request.param).backbone
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BACKBONES[backbone.name](5, backbone.dropout)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias)
    return model.double().train()


def is_on_features(table: Table) -> bool:
    """Whether the rows are features on a disk, which only regimes on such features take."""
    return any(row.features is not None for row in table.all_rows)


@pytest.mark.parametrize("name", TABLES)
def test_features_and_operators_are_refused_where_they_cannot_be(name: str) -> None:
    table = load_table(name).table
    regime, words = ("quick_localize", "features on a disk") if is_on_features(table) else ("hacs", "features")
    with pytest.raises(UserError, match=words):
        table.cells(load_regime(regime), [0])


def test_there_is_something_to_test() -> None:
    assert "context" in TABLES
    assert "quick" in SYNTHETIC


@pytest.mark.parametrize("name", REGIMES)
def test_regime_loads_and_makes_experiments(name: str) -> None:
    regime = load_regime(name)
    assert regime.summary
    on_features = name in ON_FEATURES
    assert (regime.backbone.name in BACKBONES) != on_features
    operator = None if on_features else TAda()
    experiment = regime.experiment(operator, seed=7)
    parts: list[Spec | None] = [experiment.backbone, experiment.data, experiment.schedule, experiment.localization]
    assert parts == [regime.backbone, regime.data, regime.schedule, regime.localization]
    assert (experiment.temporal, experiment.seed) == (operator, 7)


@pytest.mark.parametrize("name", TABLES)
def test_table_asks_a_question_and_claims_with_a_source(name: str) -> None:
    loaded = load_table(name)
    assert loaded.name == name
    assert loaded.question.splitlines()[0].endswith("?")
    names = [row.name for row in loaded.table.all_rows]
    assert len(set(names)) == len(names)
    assert len(names) >= 2
    for claim in loaded.table.claims:
        assert claim.better in names
        assert claim.worse in names
        assert claim.better != claim.worse
        assert claim.text
        assert claim.source
    for row in loaded.table.all_rows:
        assert row.paper is None or (row.paper.source and row.paper.data and row.paper.views)


@pytest.mark.parametrize("regime", REGIMES)
def test_cells_have_one_key_exactly_where_they_have_one_description(regime: str) -> None:
    resolved = load_regime(regime)
    tables = [name for name in TABLES if is_on_features(load_table(name).table) == (regime in ON_FEATURES)]
    if isinstance(resolved.data, Features):  # rows on other features have the same key until these are known
        resolved = resolved.with_features(
            [resolved.data.but(folder=folder, fingerprint=folder) for folder in ("tsn", "tada2d")]
        )
    if isinstance(resolved.data, Untrimmed):  # whose clips are longer than any row's
        tables = [name for name in tables if not any(row.num_frames for row in load_table(name).table.all_rows)]
    assert tables
    cells = [cell for name in tables for cell in load_table(name).table.cells(resolved, [0, 1])]
    by_key = {cell.experiment.key: cell.experiment for cell in cells}
    assert all(by_key[cell.experiment.key] == cell.experiment for cell in cells)
    assert len(by_key) == len({cell.experiment.canonical_json() for cell in cells})
    for name in tables:  # no table asks the same thing twice
        keys = [cell.experiment.key for cell in load_table(name).table.cells(resolved, [0])]
        assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", TABLES)
def test_every_row_runs_forward_and_identity_rows_start_as_the_host(name: str, host: Host) -> None:
    clips = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        expected = host(clips)
        for row in load_table(name).table.trained():
            torch.manual_seed(2)
            scores = plug_in(host, row.temporal, num_frames=4).double()(clips)
            assert scores.shape == (2, 5), row.name
            assert scores.isfinite().all(), row.name
            promised = promised_start(row.temporal)
            if promised == "exact":
                assert torch.equal(scores, expected), row.name
            elif promised == "rounding":
                torch.testing.assert_close(scores, expected, msg=row.name)
            else:
                assert not torch.allclose(scores, expected), row.name


def test_the_tables_cover_the_single_calibrations() -> None:
    rows = load_table("calibration_dimension").table.all_rows
    tested = {row.temporal.calibration for row in rows if isinstance(row.temporal, TAda)}
    assert set(CALIBRATIONS[:4]) <= tested


def test_the_rivals_table_has_those_the_paper_compares() -> None:
    rows = load_table("rivals").table.all_rows
    tested = {row.temporal.name for row in rows if isinstance(row.temporal, Rival)}
    assert tested >= {"temporal_conv", "tsm", "tam", "squeeze_excitation", "condconv", "dynamic_conv"}
    assert tested <= set(RIVALS)


def small() -> Regime:
    return load_regime("quick")


def table() -> Table:
    return Table(
        base=Row("(3,3)", TAda()),
        rows=[Row("TSN", None), Row("(1,1)", TAda().but(context__kernels=(1, 1)))],
        claims=[Claim("more is more", "(3,3)", "(1,1)", "nowhere")],
    )


def test_cells_come_seed_by_seed_in_the_order_asked_for() -> None:
    cells = table().cells(small(), [3, 5])
    assert [(cell.label, cell.experiment.seed) for cell in cells] == [
        ("TSN", 3), ("(1,1)", 3), ("(3,3)", 3), ("TSN", 5), ("(1,1)", 5), ("(3,3)", 5),
    ]  # fmt: skip
    assert [cell.label for cell in table().cells(small(), [0], ["(3,3)", "TSN"])] == ["(3,3)", "TSN"]
    assert cells[0].experiment == small().experiment(None, 3)
    assert cells[2].experiment == small().experiment(TAda(), 3)


def test_an_unknown_row_lists_the_right_ones() -> None:
    with pytest.raises(UserError, match=r"^unknown row 'TNS'; one of: TSN, "):
        table().cells(small(), [0], ["TNS"])


def test_a_table_refuses_rows_of_one_name_and_claims_about_none() -> None:
    with pytest.raises(UserError, match="row 'a' is in the table twice"):
        Table(base=Row("b", None), rows=[Row("a", None), Row("a", TAda())])
    with pytest.raises(UserError, match="row 'b' is in the table twice"):
        Table(base=Row("b", None), rows=[Row("b", TAda())])
    with pytest.raises(UserError, match="unknown row 'c'; one of: "):
        Table(base=Row("b", None), rows=[Row("a", None)], claims=[Claim("", "a", "c", "")])


def with_ensemble() -> Table:
    plain = table()
    both = Row("both", None, ensemble=("TSN", "(3,3)"))
    return Table(base=plain.base, rows=[both, *plain.rows], claims=[Claim("two see more", "both", "(3,3)", "nowhere")])


def test_an_ensemble_has_no_cell_and_changes_no_other() -> None:
    found, plain = with_ensemble(), table()
    assert found.cells(small(), [0, 1]) == plain.cells(small(), [0, 1])
    assert [row.name for row in found.ensembles] == ["both"]
    assert [cell.label for cell in found.cells(small(), [0], ["(1,1)", "both", "TSN"])] == ["(1,1)", "TSN", "(3,3)"]
    with pytest.raises(UserError, match=r"^row 'both' is an ensemble, which is not trained; run its rows$"):
        found.row("both").cell(small(), 0)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"ensemble": ["a", "b"]}, "row 'e': ensemble is a tuple of the names of two rows or more, not ['a', 'b']"),
        ({"ensemble": ("a",)}, "row 'e': ensemble is a tuple of the names of two rows or more, not ('a',)"),
        ({"ensemble": ("a", 1)}, "row 'e': ensemble is a tuple of the names of two rows or more, not ('a', 1)"),
        ({"ensemble": ("a", "b", "a")}, "row 'e': ensemble is a tuple of the names of two rows or more, not ("),
        (
            {"ensemble": ("a", "b"), "num_frames": 8},
            "row 'e': an ensemble is not trained; leave operator, backbone and num_frames to its rows",
        ),
        ({"ensemble": ("a", "x")}, "unknown row 'x'; one of: b, e, f, a"),
        ({"ensemble": ("a", "f")}, "row 'e': its part 'f' is an ensemble itself; name its rows"),
    ],
)
def test_an_ensemble_that_cannot_be_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as raised:
        Table(
            base=Row("a", None),
            rows=[Row("b", TAda()), Row("e", None, **fields), Row("f", None, ensemble=("a", "b"))],
        )
    assert told in str(raised.value)


def test_an_ensemble_cannot_be_the_base() -> None:
    with pytest.raises(UserError, match=r"^row 'e' is an ensemble, which cannot be the base; name one of its rows$"):
        Table(base=Row("e", None, ensemble=("a", "b")), rows=[Row("a", None), Row("b", TAda())])


def test_the_tables_of_the_paper_that_have_an_ensemble_have_it_with_its_published_number() -> None:
    for name, top1 in (("ssv2", 67.2), ("k400", 78.2)):
        (row,) = load_table(name).table.ensembles
        assert row.paper is not None
        assert (row.paper.top1, row.paper.gmacs, row.paper.num_frames) == (top1, 129, 24)
        assert row.ensemble == ("TAda2D, 8 frames", "TAda2D, 16 frames")


def test_a_study_is_named_after_its_table_and_regime() -> None:
    assert study_name(load_table("context"), "quick") == "context-quick"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"backbone": ""}, "backbone is the name of a backbone, or None for the regime's, not ''"),
        ({"backbone": 18}, "backbone is the name of a backbone, or None for the regime's, not 18"),
        ({"num_frames": "8"}, "num_frames is a whole number from 1 on, or None for the regime's, not '8'"),
        ({"num_frames": 4.0}, "num_frames is a whole number from 1 on, or None for the regime's, not 4.0"),
        ({"num_frames": True}, "num_frames is a whole number from 1 on, or None for the regime's, not True"),
        ({"num_frames": 0}, "num_frames is a whole number from 1 on, or None for the regime's, not 0"),
        ({"versus": 3}, "versus is the name of a row, or None for the base, not 3"),
        ({"paper": "x"}, r"paper is a PaperResult(...) or None, not 'x'"),
    ],
)
def test_a_row_refuses_fields_of_the_wrong_type(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as raised:
        Row("a", None, **fields)
    assert str(raised.value) == f"row 'a': {told}"


def test_a_cell_that_the_regime_cannot_take_names_its_row() -> None:
    told = r"^row 'a': Synthetic: num_frames: .* greater than or equal to 4, got 3$"
    with pytest.raises(UserError, match=told):
        Table(base=Row("a", None, num_frames=3), rows=[]).cells(small(), [0])
    with pytest.raises(UserError, match=r"^row '\(3,3\)': .*seed"):
        table().row("(3,3)").cell(small(), seed=-1)
