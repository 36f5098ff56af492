from dataclasses import replace

import pytest

from tadaconv.reporting.ablation import figures
from tadaconv.reporting.ablation.data import collect
from tadaconv.reporting.ablation.figures.curves import MOST_PANELS, draw_learning_curves
from tadaconv.spec import Folder


def test_each_panel_shows_the_row_it_is_compared_with(hosts) -> None:
    table, export = hosts[0].table, collect(hosts[0], "quick", hosts[1])
    data = figures.learning_curves_data(export)
    panels = [ax for ax in draw_learning_curves(data, None, export=export).figure.axes if ax.get_visible()]
    ends = data[data["epoch"] == 6].groupby("row")["val_top1"].mean()
    for ax, row in zip(panels, table.rows, strict=True):
        other = row.versus or table.base.name
        assert ax.get_title(loc="left").replace("\n", " ") == f"{row.name} \u0394 to {other}"
        drawn = [line.get_ydata()[-1] for line in ax.lines]
        assert drawn == pytest.approx([ends[other], ends[row.name]])


def test_bands_reach_from_the_lowest_seed_to_the_highest(made_up) -> None:
    loaded, records = made_up({"a": [50.0, 54.0, 70.0], "base": [60.0, 61.0, 62.0]})
    figure = figures.learning_curves(collect(loaded, "quick", records)).figure
    corners = figure.axes[0].collections[1].get_paths()[0].vertices.tolist()
    last = [y for x, y in corners if x == 6]
    assert (min(last), max(last)) == pytest.approx((50.0, 70.0))
    low, high = figure.axes[0].get_ylim()
    assert low < min(y for _, y in corners)
    assert high > 70


def test_captions_say_of_how_many_seeds_each_mean_is(made_up) -> None:
    loaded, records = made_up({"a": [50.0, 54.0, 70.0], "b": [None, 50.0, 51.0], "base": [60.0, 61.0, 62.0]})
    export, whole = collect(loaded, "quick", records), collect(loaded, "quick", [r for r in records if r.result])
    for mixed in (export, whole):
        assert "mean over 2 or 3 seeds, by row; bands" in figures.learning_curves(mixed).caption
        assert "mean over 2 or 3 seeds, by row; the stronger" in figures.accuracy_by_family(mixed).caption
    level = collect(loaded, "quick", [r for r in records if r.cell.label != "b"])
    assert "mean over 3 seeds; bands" in figures.learning_curves(level).caption
    assert "mean over 3 seeds; the stronger" in figures.accuracy_by_family(level).caption


def test_a_caption_says_when_curves_are_of_fewer_views_than_results(context) -> None:
    loaded, records = context
    assert "at the end of every epoch, mean" in figures.learning_curves(collect(loaded, "quick", records)).caption

    def caption(views: int, **schedule: object) -> str:
        clips = Folder(fingerprint="ab", num_classes=12, num_temporal_views=views)
        changes = {"data": clips, **{f"schedule__{name}": value for name, value in schedule.items()}}
        changed = [
            replace(each, cell=replace(each.cell, experiment=each.cell.experiment.but(**changes))) for each in records
        ]
        return figures.learning_curves(collect(loaded, "quick", changed)).caption

    said = "Curves are of the middle view of a clip"
    assert said in caption(2, curve_views="one")
    assert said not in caption(2)
    assert "Curves are of 40 of the validation clips; other" in caption(1, curve_clips=40)
    assert said not in caption(1, curve_views="one")
    assert "at the end of each epoch that was evaluated, mean" in caption(1, evaluate_every=5)


def test_a_single_epoch_is_no_curve(context) -> None:
    loaded, records = context
    short = [replace(r, result=r.result.model_copy(update={"curve": r.result.curve[:1]})) for r in records]
    assert figures.learning_curves(collect(loaded, "quick", short)) is None
    two = [replace(r, result=r.result.model_copy(update={"curve": r.result.curve[:2]})) for r in records]
    assert figures.learning_curves(collect(loaded, "quick", two)) is not None


def test_a_long_table_has_panels_for_its_ends(made_up) -> None:
    scores = {f"row {i}": [40.0 + i * 7 % 41] for i in range(41)}
    loaded, records = made_up({**scores, "base": [50.5]})
    drawing = figures.learning_curves(collect(loaded, "quick", records))
    titles = [ax.get_title(loc="left") for ax in drawing.figure.axes if ax.get_visible()]
    ranked = sorted(scores, key=lambda name: -scores[name][0])
    assert titles == [*ranked[:5], *ranked[-5:]]
    assert len(titles) == MOST_PANELS
    assert all(len(ax.lines) == 2 for ax in drawing.figure.axes if ax.get_visible())
    assert "Of 41 rows, 10 are shown" in drawing.caption
