import pytest

from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.reporting.ablation import figures
from tadaconv.reporting.ablation.data import collect
from tadaconv.reporting.core.placement import placed
from tadaconv.spec import Aggregation, Rival, TAda
from tadaconv.table import LoadedTable, Row, Table, load_table

BASE = TAda()


@pytest.fixture
def results(context):
    """``results(loaded, scores)``: an export of a table; ``scores(row, seed)`` is None for a failed cell."""
    first = context[1][0]

    def make(loaded: LoadedTable, scores, num_seeds: int = 2):
        records = []
        for seed in range(num_seeds):
            for i, row in enumerate(loaded.table.all_rows):
                cell = Cell(row.name, first.cell.experiment.but(temporal=row.temporal, seed=seed))
                top1 = scores(i, seed)
                done = None if top1 is None else first.result.model_copy(update={"score": top1})
                records.append(CellRecord(cell, "failed" if done is None else "finished", done))
        return collect(loaded, "quick", records)

    return make


def table(*rows: Row) -> LoadedTable:
    return LoadedTable("placed", "?", Table(base=rows[-1], rows=list(rows[:-1])))


def test_the_map_of_the_table_that_ships(results) -> None:
    loaded = load_table("placement")
    export = results(loaded, lambda i, seed: None if (i, seed) == (4, 0) else 50.0 + i + 2 * seed)
    data = figures.placement_map_data(figures.placed_rows(export)).set_index("row")
    for i, row in enumerate(loaded.table.all_rows):
        line = data.loc[row.name]
        assert line["on_map"] == (row.temporal is not None)
        assert (line["top1"], line["n"]) == ((56.0, 1) if i == 4 else (51.0 + i, 2))
        if isinstance(row.temporal, TAda):
            stages = row.temporal.placement.stages
            assert line["stages"].startswith(f"res{stages[0]}")
            assert line["stages"].endswith(f"res{stages[-1]}")
            assert line["share"] == row.temporal.placement.share
    drawing = figures.placement_map(export)
    ax = drawing.figure.axes[0]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["res2", "res5", "res2+res3", "res4+res5", "res2\u2013res4", "res3\u2013res5", "res2\u2013res5"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["25 %", "50 %", "100 %"]
    written = {
        (round(t.get_position()[0] - 0.5), round(t.get_position()[1] - 0.5)): t.get_text()
        for t in ax.texts
        if t.get_text()
    }
    places = {"1/4 of the channels": (0, 6), "1/2 of the channels": (1, 6)}
    expected = {
        places.get(row, (2, names.index(line["stages"]))): f"{line['top1']:.1f}" + ("\nn = 1" if line["n"] == 1 else "")
        for row, line in data[data["on_map"]].iterrows()
    }
    asked = {(x, y) for x in range(3) for y in range(7)}
    assert written == expected | dict.fromkeys(asked - expected.keys(), "\u2013")
    assert "Not on the map, since something else differs: no calibration (TSN) (51.0 %)." in drawing.caption
    assert "Below a mean is the number of its seeds" in drawing.caption


def test_only_rows_that_are_otherwise_alike_share_a_map(results) -> None:
    aggregated = BASE.but(aggregation=Aggregation(kind="none"))
    loaded = table(
        Row("bare", None),
        Row("rival", Rival(name="tsm")),
        Row("alone", aggregated.but(placement__stages=(5,))),
        Row("blocks", BASE.but(placement__blocks="first")),
        Row("early", BASE.but(placement__stages=(2, 4))),
        Row("base", BASE),
    )
    export = results(loaded, lambda i, seed: 50.0 + i + seed)
    data = figures.placement_map_data(figures.placed_rows(export))
    assert data.loc[data["on_map"], "row"].tolist() == ["early", "base"]
    assert data.set_index("row")["stages"].to_dict() | {"early": ""} == {
        "bare": "", "rival": "", "alone": "res5", "blocks": "res2\u2013res5", "early": "", "base": "res2\u2013res5"
    }  # fmt: skip
    caption = figures.placement_map(export).caption
    assert "bare (50.5 %), rival (51.5 %), alone (52.5 %) and blocks (53.5 %)." in caption


@pytest.mark.parametrize(
    "rows",
    [
        [Row("bare", None), Row("base", BASE)],
        [Row("rival", Rival(name="tsm")), Row("base", Rival(name="tam"))],
        [Row("other", BASE.but(context__reduction=2)), Row("base", BASE)],
        [Row("other", BASE.but(context__reduction=2, placement__stages=(5,))), Row("base", BASE)],
    ],
    ids=["one place", "rivals", "one place, two contexts", "two places, but two contexts"],
)
def test_no_map_where_nothing_but_the_placement_is_compared_nowhere(rows, results) -> None:
    assert figures.placement_map(results(table(*rows), lambda i, _: 50.0 + i)) is None


def test_a_place_without_a_result_says_so(results) -> None:
    rows = [
        Row("res5", BASE.but(placement__stages=(5,))),
        Row("half", BASE.but(placement__share=0.5)),
        Row("base", BASE),
    ]
    drawing = figures.placement_map(results(table(*rows), lambda i, _: None if i == 0 else 60.0 + i))
    assert "no result" in {text.get_text() for text in drawing.figure.axes[0].texts}
    assert "res5, 100 % of the channels: no result" in drawing.alt
    assert figures.placement_map(results(table(*rows), lambda *_: None)) is None


def test_trials_of_a_study_are_mapped_alike(make_study) -> None:
    from tadaconv.reporting.study.data import collect as collect_study
    from tadaconv.reporting.study.figures import placement_map as study_map

    loaded, records = make_study(60)
    export = collect_study(loaded, "quick", records)
    cells = placed(export.manifest.cells, export.cells)
    data = figures.placement_map_data(cells)
    finished = {record.name: record.score for record in records if record.status == "finished"}
    assert data.dropna(subset=["top1"]).set_index("row")["top1"].to_dict() == pytest.approx(finished)
    rest = {r.name: r.temporal.but(placement__stages=(2,)) for r in records if r.temporal is not None}
    on_map = data.loc[data["on_map"], "row"]
    assert len(on_map) > 1
    assert len({rest[name] for name in on_map}) == 1
    assert "The trials on the map differ in these two alone" in study_map(export).caption
