from dataclasses import replace
from itertools import combinations
from unittest.mock import patch

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.reporting.study import figures
from tadaconv.reporting.study.data import Parameter, collect
from tadaconv.reporting.study.importance import IMPORTANCE_COLUMNS, Importance
from tadaconv.spec import Placement, TAda

FIGURES = [figures.pareto, figures.placement_map, figures.best_so_far, figures.slices, figures.learning_curves]
MAX_MACS = 10_310_000


@pytest.fixture
def export(make_study):
    loaded, records = make_study(30)
    return collect(loaded, "quick", records, MAX_MACS)


@pytest.fixture
def found() -> Importance:
    lines = [("stage5", 0.5, 0.4, 0.6, 0.1), ("$a_b$ kernels", 0.2, 0.1, 0.3, 0.25), ("x", 0.0, 0.0, 0.0, 0.0)]
    return Importance(pd.DataFrame(lines, columns=IMPORTANCE_COLUMNS), 20, 0, {})


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_named_and_said_in_words(figure, export) -> None:
    drawing = figure(export)
    assert drawing.name == figure.__name__
    assert drawing.caption.endswith(".")
    assert drawing.alt.endswith(".")
    assert drawing.png.startswith(b"\x89PNG")


@pytest.mark.parametrize("figure", FIGURES)
def test_the_same_drawing_gives_the_same_bytes(figure, export) -> None:
    assert figure(export).svg == figure(export).svg


@pytest.mark.parametrize("figure", FIGURES)
def test_nothing_is_drawn_without_a_result(figure, make_study) -> None:
    loaded, records = make_study(30)
    failed = [replace(record, curve=()) for record in records if record.status in ("failed", "over budget")]
    assert len(failed) > 2
    assert figure(collect(loaded, "quick", failed)) is None


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("long", [False, True])
def test_no_text_lies_on_another_or_leaves_the_figure(figure, long: bool, make_study) -> None:
    loaded, records = make_study(30)
    if long:
        records = [replace(r, name=f"{r.name}, which says $more$ than it has to and then some") for r in records]
    assert_legible(figure(collect(loaded, "quick", records, MAX_MACS)).figure)


@pytest.mark.parametrize("num_trials", [1, 2, 3])
@pytest.mark.parametrize("figure", FIGURES)
def test_figures_of_a_study_that_has_only_begun(figure, num_trials: int, make_study) -> None:
    loaded, records = make_study(num_trials)
    drawing = figure(collect(loaded, "quick", records))
    assert (drawing is None) == (figure in (figures.slices, figures.placement_map) and num_trials == 1)
    if drawing is not None:
        assert_legible(drawing.figure)


def test_importance_is_drawn_in_percent(found) -> None:
    drawing = figures.importance(found)
    assert drawing is not None
    axes = drawing.figure.axes[0]
    (means,) = [line.get_xdata() for line in axes.lines]
    assert list(means) == pytest.approx([50, 20, 0])
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([10, 25, 0])
    assert "stage5: 50 % (40 to 60), noise 10" in drawing.alt
    assert_legible(drawing.figure)
    assert figures.importance(replace(found, data=found.data.head(0), why_not="too few")) is None


def test_the_front_is_drawn_through_its_trials(export) -> None:
    data = figures.pareto_data(export)
    axes = figures.pareto(export).figure.axes[0]
    (front,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    drawn = list(zip(front.get_xdata().tolist(), front.get_ydata().tolist(), strict=True))
    finished = data[data["status"] == "finished"]
    points = sorted(zip(finished["macs"] / 1e6, finished["mean"], strict=True))
    best = [(x, y) for x, y in points if not any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)]
    assert [x for x, _ in drawn[:-1]] == pytest.approx([x for x, _ in best])
    assert [y for _, y in drawn[:-1]] == [y for _, y in best]
    squares = [line for line in axes.lines if line.get_marker() == "s"]
    assert [len(line.get_xdata()) for line in squares] == [int((data["status"] == "over budget").sum())]
    names = {text.get_text().strip() for text in axes.texts}
    assert set(export.trials.loc[export.trials["front"], "name"]) <= {n.removesuffix(" (best)") for n in names}


def test_the_budget_is_named_where_no_line_to_a_name_runs(export, make_study) -> None:
    figure = figures.pareto(export).figure
    (dashed,) = [line for line in figure.axes[0].lines if set(line.get_xdata()) == {MAX_MACS / 1e6}]
    assert dashed.is_dashed()
    assert "budget" not in {text.get_text().strip() for text in figure.axes[0].texts}
    assert "budget" in {text.get_text() for text in figure.legends[0].texts}
    without = figures.pareto(collect(make_study(30)[0], "quick", make_study(30)[1])).figure
    assert "budget" not in {text.get_text() for text in without.legends[0].texts}


def placed_trials(make_study, statuses: list[str], seeds: int = 1):
    """Trials that differ in their stages alone, with these statuses; every cell has a result."""
    loaded, records = make_study(len(statuses), seeds=seeds)
    any_result = next(c.result for r in records for c in r.cells if c.result)
    made = []
    for number, status in enumerate(statuses):
        stages = [s for s in (2, 3, 4, 5) if (number + 1) >> (s - 2) & 1]
        temporal = TAda(placement=Placement(stages=tuple(stages)))
        cells = tuple(
            CellRecord(
                Cell(f"trial {number}", records[0].cells[0].cell.experiment.but(temporal=temporal, seed=s)), "finished",
                any_result.model_copy(update={"score": 50.0 + number}),
            )
            for s in range(seeds)
        )  # fmt: skip
        made.append(
            replace(
                records[0], number=number, name=f"trial {number}", temporal=temporal, status=status, cells=cells,
                score=50.0 + number if status == "finished" else None,
            )
        )  # fmt: skip
    return collect(loaded, "quick", made)


def test_the_map_says_what_became_of_trials_without_a_result(make_study) -> None:
    statuses = ["finished", "finished", "pruned", "pruned", "over budget", "failed", "running", "waiting"]
    drawing = figures.placement_map(placed_trials(make_study, statuses))
    assert drawing is not None
    for number, status in enumerate(statuses):
        said = f"{50 + number:.1f} %" if status == "finished" else f"{status}, no result"
        assert said in drawing.alt
        # What a trial's cells had come to when it was pruned is no result of it.
        assert (f"{50 + number:.1f} %" in drawing.alt) == (status == "finished")
    written = [text.get_text() for text in drawing.figure.axes[0].texts]
    assert "no result" not in written
    for status in set(statuses) - {"finished"}:
        assert written.count(status) == statuses.count(status)


def test_trials_that_are_not_on_the_map_are_counted(make_study) -> None:
    loaded, records = make_study(30)
    export = collect(loaded, "quick", records)
    data = figures.placement_data(export)
    drawing = figures.placement_map(export)
    assert drawing is not None
    assert f"Not shown: {(~data['on_map']).sum()} trials with other differences." in drawing.caption
    all_shown = figures.placement_map(placed_trials(make_study, ["finished"] * 3))
    assert all_shown is not None
    assert "Not shown" not in all_shown.caption


def test_the_best_so_far_never_falls_and_pruned_trials_never_raise_it(export) -> None:
    data = figures.best_so_far_data(export)
    assert data["best"].is_monotonic_increasing
    finished = data[data["status"] == "finished"]
    for _, line in data.iterrows():
        assert line["best"] == finished.loc[finished["trial"] <= line["trial"], "top1"].max()
    pruned = data[data["status"] == "pruned"]
    assert len(pruned)
    assert pruned["top1"].notna().all()


def test_waiting_trials_are_not_in_the_history(make_study) -> None:
    loaded, records = make_study(4)
    moving = [*records[:3], replace(records[3], status="waiting", score=None)]
    assert figures.best_so_far_data(collect(loaded, "quick", moving))["trial"].tolist() == [0, 1, 2]


def test_a_slice_has_every_finished_trial_that_has_the_parameter(make_study) -> None:
    loaded, records = make_study(30)
    data = figures.slices_data(collect(loaded, "quick", records))
    for name, part in data.groupby("parameter"):
        having = {
            r.number: r.params[name] for r in records if r.status == "finished" and r.temporal and name in r.params
        }
        assert dict(zip(part["trial"], part["value"], strict=True)) == having
    drawing = figures.slices(collect(loaded, "quick", records))
    assert drawing is not None
    stage5 = [r.score for r in records if r.status == "finished" and r.temporal and r.params["stage5"]]
    assert f"stage5: yes {sum(stage5) / len(stage5):.1f} %" in drawing.alt


def test_the_mean_of_a_choice_is_drawn_where_it_is() -> None:
    data = pd.DataFrame(
        [("c", 0, True, 50.0, False), ("c", 1, 1, 60.0, False), ("c", 2, 1, 64.0, True)],
        columns=["parameter", "trial", "value", "top1", "first"],
    )
    choices = {"name": "CategoricalDistribution", "attributes": {"choices": [True, 1, None]}}
    axes = Figure().subplots()
    figures.draw_slice(axes, data, Parameter(name="c", distribution=choices, drawn={}), "top1")
    bars = [segment[0][1] for drawn in axes.collections for segment in drawn.get_segments()]
    assert bars == [50.0, 62.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["yes", "1", "none"]


def test_curves_end_where_trials_were_pruned(export) -> None:
    data = figures.learning_curves_data(export)
    axes = figures.learning_curves(export).figure.axes[0]
    crosses = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "x"]
    last = data[data["status"] == "pruned"].groupby("trial").last()
    assert crosses == list(zip(last["epoch"], last["val_top1"], strict=True))
    assert len(axes.lines) == data["trial"].nunique() + len(crosses)
    (widest,) = [line for line in axes.lines if line.get_linewidth() > 2]
    best = data[data["best"]]
    assert list(widest.get_ydata()) == best["val_top1"].tolist()


def assert_legible(figure: Figure) -> None:
    """Every text lies inside the figure, and none on another."""
    canvas = FigureCanvasAgg(figure)
    with patch.object(Text, "draw", autospec=True, side_effect=Text.draw) as drawn:  # ticks out of sight are not drawn
        canvas.draw()
    texts = [call.args[0] for call in drawn.call_args_list if call.args[0].get_text().strip()]
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in texts if text.get_visible()]
    whole = figure.bbox.padded(1)
    assert len(boxes) > 5
    for text, box in boxes:
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1, text
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1, text
    for (text, box), (other, beside) in combinations(boxes, 2):
        shared = Bbox.intersection(box, beside)
        assert shared is None or min(shared.width, shared.height) <= 1, (text, other)
