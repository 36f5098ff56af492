import re
from collections import Counter
from dataclasses import replace
from statistics import fmean

import pytest
from matplotlib.collections import PolyCollection
from scipy import stats

from tadaconv.reporting.ablation import figures
from tadaconv.reporting.ablation.data import collect
from tadaconv.reporting.ablation.figures.classes import contrast
from tadaconv.spec import Rival
from tadaconv.table import LoadedTable, Table


def with_classes(records, names: list[str], families: dict[str, list[str]], top1):
    """The records on other classes; ``top1(row, seed, number of the class)`` in percent, of ten clips a class."""
    made = []
    for record in records:
        score = [top1(record.cell.label, record.cell.experiment.seed, i) for i in range(len(names))]
        pairs = [(i, i, round(value / 10)) for i, value in enumerate(score)]
        pairs += [(i, (i + 1) % len(names), 10 - hits) for i, _, hits in pairs]
        changes = {
            "classes": names, "family_classes": families, "per_class": dict(zip(names, score, strict=True)),
            "confusion": [pair for pair in pairs if pair[2]], "per_family": dict.fromkeys(families, 50.0),
        }  # fmt: skip
        made.append(replace(record, result=record.result.model_copy(update=changes)))
    return made


def test_families_are_means_over_seeds(made_up) -> None:
    loaded, records = made_up({"a": [50.0, 60.0], "base": [70.0, None]})
    data = figures.accuracy_by_family_data(collect(loaded, "quick", records))
    assert data.columns.tolist() == ["frame", "set", "order"]
    assert data.loc["a"].tolist() == [75.0, 55.0, 35.0]
    assert data.loc["base"].tolist() == [90.0, 70.0, 50.0]


def test_the_base_is_held_against_the_row_without_an_operator(context, hosts) -> None:
    loaded, records = context
    assert contrast(collect(loaded, "quick", records).manifest) == ("(3,3) + global", "no calibration (TSN)")
    # A base without an operator has nothing to be held against, nor has one whose bare backbone is another.
    assert contrast(collect(hosts[0], "quick", hosts[1]).manifest).without is None
    rows = hosts[0].table.rows
    other = LoadedTable(
        "other", "?", Table(base=rows[0], rows=[row for row in hosts[0].table.all_rows if row is not rows[0]])
    )
    assert contrast(collect(other, "quick", hosts[1]).manifest) == ("slow_only_8x8 + cin", "slow_only_8x8")
    kept = [record for record in hosts[1] if record.cell.label != "slow_only_8x8"]
    assert contrast(collect(other, "quick", kept).manifest) == ("slow_only_8x8 + cin", None)
    assert isinstance(rows[1].temporal, Rival)


def test_confusion_adds_up_seeds(context) -> None:
    loaded, records = context
    export = collect(loaded, "quick", records)
    data = figures.confusion_data(export)
    rows = ["no calibration (TSN)", "(3,3) + global"]
    counted: Counter[tuple[str, str, str]] = Counter()
    for record in records:
        for true, predicted, clips in record.result.confusion:
            names = record.result.classes
            counted[record.cell.label, names[true], names[predicted]] += clips
    found = {(r["row"], r["class"], r["predicted"]): r["clips"] for r in data.to_dict("records")}
    assert found == {key: clips for key, clips in counted.items() if key[0] in rows}
    assert data.groupby(["row", "class"])["percent"].sum().tolist() == pytest.approx([100.0] * 24)
    panels = figures.confusion(export).figure.axes
    assert [ax.get_title(loc="left") for ax in panels] == rows
    for ax in panels:
        part = data[data["row"] == ax.get_title(loc="left")]
        classes = list(export.manifest.class_families)
        written = {
            (text.get_position()[0] - 0.5, text.get_position()[1] - 0.5): text.get_text()
            for text in ax.texts
            if text.get_text().isdigit()
        }
        assert written == {
            (classes.index(r["predicted"]), classes.index(r["class"])): f"{r['percent']:.0f}"
            for r in part.to_dict("records")
        }


def test_families_stand_together_and_apart_from_others(context) -> None:
    loaded, records = context
    names, families = ["a", "b", "c", "d"], {"one": ["a", "c"], "two": ["b", "d"]}
    export = collect(loaded, "quick", with_classes(records, names, families, lambda *_: 70.0))
    first, ax = figures.confusion(export).figure.axes
    assert [label.get_text() for label in first.get_yticklabels()] == ["a", "c", "b", "d"]
    assert [line.get_ydata()[0] for line in ax.lines if line.get_xdata() == [0, 1]] == [2]
    assert {text.get_text() for text in ax.texts} >= {"one", "two"}


def test_without_a_bare_row_the_base_stands_alone(made_up) -> None:
    loaded, records = made_up({"a": [50.0], "base": [60.0]})
    export = collect(loaded, "quick", records)
    assert [ax.get_title(loc="left") for ax in figures.confusion(export).figure.axes] == ["base"]
    assert figures.gain_by_class(export) is None


@pytest.mark.parametrize(
    ("num_classes", "drawn", "numbers"), [(12, True, True), (13, True, False), (40, True, False), (41, False, False)]
)
def test_many_classes(num_classes: int, drawn: bool, numbers: bool, context) -> None:
    loaded, records = context
    names = [f"pushing object {i} from the left to the right $" for i in range(num_classes)]
    some = [record for record in records if record.cell.label in ("no calibration (TSN)", "(3,3) + global")]
    export = collect(loaded, "quick", with_classes(some, names, {}, lambda *_: 70.0))
    drawing = figures.confusion(export)
    assert (drawing is not None) == drawn
    if drawing is not None:
        ax = drawing.figure.axes[0]
        assert any(text.get_text() == "70" for text in ax.texts) == numbers
        assert len({label.get_text() for label in ax.get_yticklabels()}) == num_classes
        (squares,) = [each for each in ax.collections if isinstance(each, PolyCollection)]
        assert len(squares.get_paths()) == 2 * num_classes
        assert drawing.figure.get_figheight() < 12


def test_gains_are_paired_by_seed(context) -> None:
    loaded, records = context
    names, families = ["a", "b", "c"], {"one": ["a", "c"], "two": ["b"]}
    gains = {"a": [1.0, 2.0, 6.0], "b": [-3.0, -3.0, -3.0], "c": [30.0, 10.0, 20.0]}

    def top1(row: str, seed: int, number: int) -> float:
        return 40.0 + seed + (gains[names[number]][seed] if row == "(3,3) + global" else 0)

    data = figures.gain_by_class_data(collect(loaded, "quick", with_classes(records, names, families, top1)))
    assert data["class"].tolist() == ["c", "a", "b"]  # by family, and in it from the largest gain down
    assert data["family"].tolist() == ["one", "one", "two"]
    for line in data.to_dict("records")[:2]:
        low, high = stats.ttest_1samp(gains[line["class"]], 0).confidence_interval()
        assert [line["mean"], line["low"], line["high"]] == pytest.approx([fmean(gains[line["class"]]), low, high])
    assert data["low"].isna().tolist() == [False, False, True]  # equal gains do not tell their error


def test_gains_stand_below_their_family(context) -> None:
    export = collect(context[0], "quick", context[1])
    data, ax = figures.gain_by_class_data(export), figures.gain_by_class(export).figure.axes[0]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    expected: list[str] = []
    for family, part in data.groupby("family", sort=False):
        expected += [family, *part["class"]]
    assert labels == expected
    assert ax.lines[0].get_xdata().tolist() == data["mean"].tolist()
    heights = dict(zip(labels, ax.get_yticks(), strict=True))
    assert ax.lines[0].get_ydata().tolist() == [heights[name] for name in data["class"]]


def test_of_many_classes_the_extremes_are_shown(context) -> None:
    loaded, records = context
    names = [f"class {i}" for i in range(60)]
    some = [record for record in records if record.cell.label in ("no calibration (TSN)", "(3,3) + global")]

    def top1(row: str, seed: int, number: int) -> float:
        return 40.0 + seed + ((number - 9.5) / 2 if row == "(3,3) + global" else 0)

    drawing = figures.gain_by_class(collect(loaded, "quick", with_classes(some, names, {}, top1)))
    shown = [label.get_text() for label in drawing.figure.axes[0].get_yticklabels()]
    assert shown == [f"class {i}" for i in [*range(59, 44, -1), *range(9, -1, -1)]]  # only ten of them lose
    assert "Of 60 classes the 15 with the largest gains and the 10 with the largest losses are shown" in drawing.caption
    assert re.search(r"class 59: \+24\.8", drawing.alt)


def test_an_interval_ends_where_accuracies_do(context) -> None:
    loaded, records = context
    two = [record for record in records if record.cell.experiment.seed < 2]

    def top1(row: str, seed: int, _: int) -> float:
        return 50.0 + 40.0 * seed if row == "(3,3) + global" else 50.0

    data = figures.gain_by_class_data(collect(loaded, "quick", with_classes(two, ["a", "b"], {}, top1)))
    assert data["low"].tolist() == [-100.0, -100.0]
    assert data["high"].tolist() == [100.0, 100.0]
