"""No result that a cell can have keeps a figure from being drawn; what cannot be shown is left out and named."""

from collections.abc import Callable
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.regime import Regime
from tadaconv.reporting.ablation import figures
from tadaconv.reporting.ablation.data import Export, collect
from tadaconv.reporting.ablation.figures import calibration_over_training, calibration_over_training_data
from tadaconv.result import CurvePoint, Result, StageCalibration
from tadaconv.spec import Backbone, Placement, Schedule, Synthetic, TAda
from tadaconv.table import LoadedTable, Row, Table

FIGURES = [
    figures.accuracy_by_row,
    figures.differences,
    figures.accuracy_by_family,
    figures.accuracy_by_macs,
    figures.accuracy_by_latency,
    figures.placement_map,
    figures.gain_by_class,
    figures.confusion,
    figures.learning_curves,
    calibration_over_training,
]
ROWS = {"base": TAda(), "none": None, "res5": TAda(placement=Placement(stages=(5,))), "half": TAda(init="identity")}
TABLE = LoadedTable(
    "any", "Does it hold?", Table(Row("base", ROWS["base"]), [Row(n, t) for n, t in ROWS.items() if n != "base"])
)
REGIME = Regime(
    summary="made up",
    backbone=Backbone(name="resnet_tiny"),
    data=Synthetic(num_train=64, num_val=32),
    schedule=Schedule(epochs=2, batch_size=32, lr=0.1),
)
CLASSES, FAMILIES = ["x", "y", "z"], {"frame": ["x"], "order": ["y", "z"]}

ODD = hs.sampled_from([nan, inf, -inf, 0.0, -1.0, 5e-324, 1e-300, 1e-12, 1e300, 1.7e308])
ACCURACY = hs.floats(0, 100) | ODD
ANY = hs.floats(0, 1000) | ODD
CALIBRATION = hs.dictionaries(
    hs.sampled_from(["res2", "res3", "res5", "stem"]),
    hs.builds(StageCalibration, distance=ANY, over_time=ANY, over_clips=ANY),
    max_size=3,
)
CURVE = hs.lists(
    hs.builds(
        CurvePoint, epoch=hs.integers(0, 5), step=hs.integers(0, 9), train_loss=ANY, score=ACCURACY,
        calibration=CALIBRATION,
    ),
    max_size=3, unique_by=lambda point: point.epoch,
)  # fmt: skip
RESULTS = hs.builds(
    Result,
    score=hs.floats(0, 100) | hs.sampled_from([nan, inf, -inf]),
    top5=ACCURACY,
    loss=ANY,
    per_class=hs.dictionaries(hs.sampled_from([*CLASSES, "other"]), ACCURACY),
    per_family=hs.dictionaries(hs.sampled_from([*FAMILIES, ""]), ACCURACY),
    classes=hs.sampled_from([CLASSES, CLASSES[::-1], ["x", "y", "x"], ["a", "b", "c"]]),
    family_classes=hs.sampled_from([FAMILIES, {}]),
    confusion=hs.lists(hs.tuples(hs.integers(0, 2), hs.integers(0, 2), hs.integers(-1, 5)), max_size=4),
    num_val=hs.integers(0, 99),
    curve=CURVE,
    params=hs.integers(0, 10**12),
    macs=hs.sampled_from([0, -5, 1, 10**18]) | hs.integers(0, 10**9),
    cost=hs.just({}),
    train_clips_per_second=ANY,
    eval_clips_per_second=ANY,
    peak_memory_bytes=hs.just(0),
    seconds=hs.floats(0, 1e9),
    environment=hs.sampled_from([{}, {"device": "cpu"}]),
)


def export_of(results: dict[tuple[str, int], Result | None]) -> Export:
    """The table with these results by row and seed; None is a failed cell."""
    records = []
    for (name, seed), result in results.items():
        cell = Cell(name, REGIME.experiment(ROWS[name], seed))
        records.append(CellRecord(cell, "failed" if result is None else "finished", result))
    return collect(TABLE, "quick", records)


RESULTS_BY_CELL = hs.fixed_dictionaries({(name, seed): hs.none() | RESULTS for name in ROWS for seed in (0, 1)})


@pytest.mark.parametrize("figure", FIGURES)
@settings(max_examples=6)
@given(results=RESULTS_BY_CELL, kind=hs.sampled_from(["svg", "png", "pdf"]))
def test_no_result_keeps_a_figure_from_being_drawn(
    figure: Callable[[Export], figures.Drawing | None], results: dict[tuple[str, int], Result | None], kind: str
) -> None:
    drawing = figure(export_of(results))
    if drawing is not None:
        assert len(getattr(drawing, kind)) > 1000
        assert "inf" not in drawing.alt
        assert "nan" not in drawing.alt


@pytest.fixture
def whole(make_result: Callable[[float], Result]) -> dict[tuple[str, int], Result | None]:
    """Every cell with a result that all figures show."""
    results: dict[tuple[str, int], Result | None] = {}
    for i, name in enumerate(ROWS):
        for seed in (0, 1):
            made = make_result(50.0 + 5 * i + seed)
            if ROWS[name] is not None:
                away = StageCalibration(distance=0.1, over_time=0.1, over_clips=0.1)
                curve = [point.model_copy(update={"calibration": {"res5": away}}) for point in made.curve]
                made = made.model_copy(update={"curve": curve})
            results[name, seed] = made
    return results


def test_all_figures_show_what_is_whole(whole) -> None:
    drawn = [figure(export_of(whole)) for figure in FIGURES]
    assert all(drawing is not None and "left out" not in drawing.caption for drawing in drawn)


def changed(whole, **changes: object):
    return {**whole, ("base", 1): whole["base", 1].model_copy(update=changes)}


@pytest.mark.parametrize("value", [nan, inf, -inf, -0.5, 100.5])
def test_accuracies_that_are_none_are_left_out_and_named(value: float, whole) -> None:
    cell = whole["base", 1]
    odd = changed(
        whole,
        per_family={**cell.per_family, "order": value},
        per_class={**cell.per_class, "class 3": value},
        curve=[cell.curve[0].model_copy(update={"score": value}), *cell.curve[1:]],
    )
    export = export_of(odd)
    families = figures.accuracy_by_family(export)
    assert families.caption.endswith("1 value not between 0 and 100 % is left out (base, seed 1, order).")
    assert figures.accuracy_by_family_data(export).loc["base", "order"] == whole["base", 0].per_family["order"]
    gains = figures.gain_by_class_data(export).set_index("class")["n"]
    assert gains.to_dict() == {name: 1 if name == "class 3" else 2 for name in cell.per_class}
    assert figures.gain_by_class(export).caption.endswith("is left out (base, seed 1, class 3).")
    data = figures.learning_curves_data(export)
    assert set(zip(data["row"], data["seed"], strict=True)) == set(whole) - {("base", 1)}
    said = "1 cell with a value not between 0 and 100 % is left out (base, seed 1)."
    assert figures.learning_curves(export).caption.endswith(said)


@pytest.mark.parametrize("distance", [nan, inf, -0.1, 1e39])
def test_a_diverged_calibration_is_left_out_and_named(distance: float, whole) -> None:
    *before, last = whole["base", 1].curve
    gone = StageCalibration(distance=distance, over_time=0.0, over_clips=0.0)
    export = export_of(changed(whole, curve=[*before, last.model_copy(update={"calibration": {"res5": gone}})]))
    data = calibration_over_training_data(export)
    assert (data["high"] < 1).all()
    assert "base" in set(data["row"])
    said = "1 cell with a distance that cannot be drawn is left out (base, seed 1)."
    assert calibration_over_training(export).caption.endswith(said)


def test_clips_that_are_none_are_left_out_and_named(whole) -> None:
    cell = whole["base", 1]
    export = export_of(changed(whole, confusion=[*cell.confusion, (0, 5, 0), (1, 5, -3)]))
    assert figures.confusion_data(export).equals(figures.confusion_data(export_of(whole)))
    said = "2 counts of no clips or of an unknown class are left out (base, seed 1, class 0, class 5; base, seed 1, "
    assert said in figures.confusion(export).caption


def test_of_many_that_are_left_out_some_are_named(whole) -> None:
    flat = {key: replace_curve(result, nan) for key, result in whole.items()}
    for key in list(whole)[:2]:
        flat[key] = whole[key]
    caption = figures.learning_curves(export_of(flat)).caption
    assert "6 cells with a value" in caption
    assert figures.learning_curves(export_of({key: replace_curve(r, nan) for key, r in whole.items()})) is None


def replace_curve(result: Result, value: float) -> Result:
    return result.model_copy(update={"curve": [p.model_copy(update={"score": value}) for p in result.curve]})


def test_rows_without_a_seed_in_common_gain_nothing(whole) -> None:
    export = export_of({**whole, ("base", 0): None, ("none", 1): None})
    assert figures.gain_by_class_data(export).empty
    assert figures.gain_by_class(export) is None
