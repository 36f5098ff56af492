"""Published numbers: compared with ours only where the same was measured; else only their order, and why."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from tadaconv.execution.cells import CellRecord
from tadaconv.metrics import TOP1
from tadaconv.regime import Published, Recipe, Regime
from tadaconv.reporting import report
from tadaconv.reporting.ablation import figures
from tadaconv.reporting.ablation import page as blocks
from tadaconv.reporting.ablation.data import Export, Manifest, collect
from tadaconv.reporting.ablation.paper import MOST_MISSING, clips_of, unlike_paper, views
from tadaconv.reporting.ablation.summary import differing, groups, summarise, table_columns, verdicts
from tadaconv.reporting.ablation.terminal import terminal_table
from tadaconv.reporting.ablation.text import latex_notes, legend, order_notes, paper_notes, tau_note
from tadaconv.reporting.core.text import listed_clips, missing_notes
from tadaconv.reporting.study.data import collect as study_collect
from tadaconv.reporting.study.latex import latex_table as study_latex
from tadaconv.reporting.study.page import conditions as study_conditions
from tadaconv.reporting.study.terminal import StudyTable
from tadaconv.run_options import RunOptions
from tadaconv.spec import Backbone, Folder, Rival, Schedule, Synthetic, TAda
from tadaconv.table import Claim, LoadedTable, PaperResult, Row, Table

SSV2, VIEWS = "Something-Something-V2", "2 clips x 3 crops of 256 px"
T_975_2 = 4.302653
"""The 97.5 % quantile of Student's t with two degrees of freedom."""

CLIPS = Folder(
    layout="ssv2", fingerprint="ab" * 8, num_classes=12, num_frames=8, size=224, eval_size=256, num_temporal_views=2,
    num_spatial_crops=3, num_listed=(168_913, 24_777), num_missing=(913, 77),
)  # fmt: skip
REGIME = Regime(
    summary="made up",
    backbone=Backbone(name="resnet50", weights="torchvision:ResNet50_Weights.IMAGENET1K_V1"),
    data=CLIPS,
    schedule=Schedule(epochs=6, batch_size=128, lr=0.48),
    recipes=(
        Recipe(
            backbones=("convnext_tiny_clip",),
            origin="ours",
            changes={"schedule__optimizer": "adamw", "backbone__weights": ""},
        ),
        Recipe(num_frames=16, origin="paper", changes={"schedule__batch_size": 64, "schedule__lr": 0.24}),
    ),
    published=tuple(Published(data=SSV2, num_frames=frames, views=VIEWS) for frames in (8, 16)),
)


def published(top1: float, num_frames: int, **changes: Any) -> PaperResult:
    return replace(PaperResult(top1, "paper, table 8", SSV2, num_frames, VIEWS), **changes)


TSM = Row("TSM, 8 frames", Rival(name="tsm"), published(59.1, 8), "resnet50", 8)
LOADED = LoadedTable(
    "made_up",
    "How does it compare?",
    Table(
        base=Row("TAda2D, 8 frames", TAda(), published(64.0, 8), "resnet50", 8),
        rows=[
            TSM,
            Row("TAda2D, 16 frames", TAda(), published(65.6, 16), "resnet50", 16),
            Row("TAdaConvNeXt-T, 16 frames", TAda(), published(64.8, 16), "convnext_tiny_clip", 16),
        ],
        claims=[
            Claim("It beats TSM.", "TAda2D, 8 frames", "TSM, 8 frames", "paper"),
            Claim("It gains from frames.", "TAda2D, 16 frames", "TAda2D, 8 frames", "paper"),
        ],
    ),
)
SCORES = {
    "TAda2D, 8 frames": [63.0, 64.0, 63.5],
    "TSM, 8 frames": [59.0, 60.0, 59.8],
    "TAda2D, 16 frames": [66.0, 66.4, 66.5],
    "TAdaConvNeXt-T, 16 frames": [60.0, 61.0, 60.2],
}


def records(
    make_result: Any,
    regime: Regime = REGIME,
    loaded: LoadedTable = LOADED,
    scores: Mapping[str, Sequence[float]] = SCORES,
) -> list[CellRecord]:
    return [
        CellRecord(loaded.table.row(name).cell(regime, seed), "finished", make_result(top1))
        for name, values in scores.items()
        for seed, top1 in enumerate(values)
    ]


@pytest.fixture
def export_in(make_result: Any) -> Any:
    """``export_in(regime)``: the export of the table above, run in it."""

    def made(regime: Regime = REGIME, loaded: LoadedTable = LOADED, **options: Any) -> Export:
        return collect(loaded, "mine", records(make_result, regime, loaded, **options), regime=regime)

    return made


def unlike(export: Export) -> dict[str, tuple[str, ...]]:
    return unlike_paper(export.manifest)


def with_rows(*rows: Row) -> LoadedTable:
    return replace(LOADED, table=Table(base=rows[0], rows=list(rows)))


def test_only_what_was_measured_alike_is_compared(export_in: Any) -> None:
    export = export_in()
    assert unlike(export) == {
        "TSM, 8 frames": (),
        "TAda2D, 16 frames": (),
        "TAdaConvNeXt-T, 16 frames": ("recipe",),
        "TAda2D, 8 frames": (),
    }
    summary = summarise(export).set_index("row")
    for name, top1 in (("TSM, 8 frames", 59.1), ("TAda2D, 16 frames", 65.6), ("TAda2D, 8 frames", 64.0)):
        line, values = summary.loc[name], SCORES[name]
        half = T_975_2 * stdev(values) / sqrt(3)
        assert line["paper_delta_mean"] == pytest.approx(fmean(values) - top1)
        assert line["paper_delta_low"] == pytest.approx(fmean(values) - top1 - half, abs=1e-5)
        assert line["paper_delta_high"] == pytest.approx(fmean(values) - top1 + half, abs=1e-5)
    order_only = summary.loc["TAdaConvNeXt-T, 16 frames"]
    assert order_only[["paper_delta_mean", "paper_delta_low", "paper_delta_high"]].isna().all()


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({"data": "Kinetics-400"}, ("data",)),
        ({"views": "10 clips x 3 crops of 256 px"}, ("views",)),
        ({"num_frames": 16}, ("frames",)),
        ({"data": "Kinetics-400", "num_frames": 4, "views": "views not stated"}, ("data", "frames", "views")),
        ({}, ()),
    ],
)
def test_each_condition_of_a_published_number_counts(export_in: Any, change: dict[str, Any], reasons: Any) -> None:
    loaded = with_rows(replace(TSM, paper=published(59.1, **{"num_frames": 8, **change})))
    assert unlike(export_in(loaded=loaded, scores={TSM.name: [59.0]})) == {TSM.name: reasons}


@pytest.mark.parametrize(
    ("regime", "reasons"),
    [
        (REGIME.but(published=REGIME.published[1:]), ("unsaid",)),  # that of other frames says nothing of these
        (REGIME.but(schedule__epochs=5), ("unsaid",)),
        (REGIME.but(data__num_temporal_views=1), ("views", "unsaid")),
        (REGIME.but(data__num_temporal_views=1, published=REGIME.published), ("views",)),  # said, but not so
        (
            REGIME.but(recipes=[Recipe(num_frames=8, origin="ours", changes={})], published=REGIME.published),
            ("recipe",),
        ),
        (REGIME.but(recipes=[Recipe(num_frames=8, origin="paper", changes={})], published=REGIME.published), ()),
        (REGIME.but(recipes=[Recipe(num_frames=8, origin="paper", changes={})]), ("unsaid",)),
        (REGIME.but(stand_ins={"resnet50": "tiny"}), ("backbone", "unsaid")),
        (REGIME.but(data=Synthetic(num_train=8, num_val=8), published=REGIME.published), ("data", "views")),
        (REGIME.but(data=Synthetic(num_train=8, num_val=8)), ("data", "views")),
        (REGIME.with_clips(CLIPS.but(num_listed=(0, 0), num_missing=(0, 0))), ("unlisted",)),
    ],
)
def test_it_is_the_regime_that_says_what_it_measures(export_in: Any, regime: Regime, reasons: Any) -> None:
    export = export_in(regime, with_rows(TSM), scores={TSM.name: [59.0]})
    assert unlike(export) == {TSM.name: reasons}
    assert summarise(export)["paper_delta_mean"].notna().tolist() == [not reasons]
    assert unlike(collect(LOADED, "mine", [], regime=regime)) == {}


@pytest.mark.parametrize(
    ("change", "parts", "reasons"),
    [
        ({}, ("TAda2D, 8 frames", "TAda2D, 16 frames"), ()),
        ({"num_frames": 16}, ("TAda2D, 8 frames", "TAda2D, 16 frames"), ("frames",)),
        ({"data": "Kinetics-400"}, ("TAda2D, 8 frames", "TAda2D, 16 frames"), ("data",)),
        ({}, ("TAda2D, 8 frames", "TAdaConvNeXt-T, 16 frames"), ("recipe",)),
    ],
)
def test_an_average_of_rows_is_compared_where_all_of_them_are(
    export_in: Any, change: dict[str, Any], parts: tuple[str, ...], reasons: Any
) -> None:
    average = Row("both", None, published(67.2, **{"num_frames": 24, **change}), ensemble=parts)
    rows = [row for row in LOADED.table.all_rows if row is not LOADED.table.base]
    table = Table(base=LOADED.table.base, rows=[*rows, average])
    export = export_in(loaded=replace(LOADED, table=table))
    assert unlike(export)["both"] == reasons
    without = export_in(loaded=replace(LOADED, table=table), scores={parts[0]: SCORES[parts[0]]})
    assert "both" not in unlike(without)


def test_without_a_regime_only_orders_are_compared(make_result: Any) -> None:
    export = collect(LOADED, "mine", records(make_result))
    assert set(unlike(export).values()) == {("unsaid",)}
    assert order_notes(export.manifest) == [
        "Not compared with the paper's number, only in order: all rows. Why: the regime does not state that it "
        "measures what the paper did."
    ]


@given(listed=st.integers(1, 3000), missing=st.integers(0, 40))
@example(listed=200, missing=1)
@example(listed=600, missing=3)
@example(listed=599, missing=3)
def test_at_most_a_two_hundredth_of_the_validation_clips_may_be_missing(listed: int, missing: int) -> None:
    missing = min(missing, listed)
    manifest = _manifest(CLIPS.but(num_listed=(10, listed), num_missing=(9, missing)))
    expected = ("missing",) if Fraction(missing, listed) > Fraction(1, 200) else ()
    assert unlike_paper(manifest) == {TSM.name: expected}


def _manifest(data: Folder) -> Manifest:
    regime = REGIME.with_clips(data)
    return collect(with_rows(TSM), "mine", [CellRecord(TSM.cell(regime, 0), "running")], regime=regime).manifest


def test_the_bound_is_what_the_words_say() -> None:
    assert MOST_MISSING == 0.005
    within = _manifest(CLIPS.but(num_listed=(0, 19_881), num_missing=(0, 99)))
    assert unlike_paper(within) == {TSM.name: ()}
    beyond = _manifest(CLIPS.but(num_listed=(0, 19_881), num_missing=(0, 100)))
    assert order_notes(beyond) == [
        "Not compared with the paper's number, only in order: all rows. Why: more than 0.5 % of the listed validation "
        "clips are missing."
    ]


def test_what_is_compared_is_said_with_what_is_to_be_known_of_it(export_in: Any, make_result: Any) -> None:
    export = export_in()
    measured, compared, covered, why_not, order = paper_notes(export, summarise(export))
    assert measured.endswith(f"ours on {SSV2}, 8 or 16 frames, {VIEWS}.")
    half = T_975_2 * 0.5 / sqrt(3)
    assert (
        f"\u201cTAda2D, 8 frames\u201d is 0.5 points below 64.0 % (95 % interval \u2212{0.5 + half:.1f} to "
        f"+{half - 0.5:.1f}, 3 seeds)" in compared
    )
    assert "ConvNeXt" not in compared
    assert covered.endswith("as a published number comes without its standard deviation.")
    assert tau_note(export) != []
    assert why_not == (
        "Not compared with the paper's number, only in order: \u201cTAdaConvNeXt-T, 16 frames\u201d. "
        "Why: a recipe of ours."
    )
    assert order == "Order of the rows in the paper: Kendall\u2019s tau 0.67 over 4 rows."
    one = collect(
        with_rows(TSM), "mine", [CellRecord(TSM.cell(REGIME, 0), "finished", make_result(59.1))], regime=REGIME
    )
    note = paper_notes(one, summarise(one))[1]
    assert note == "Measured as in the paper: \u201cTSM, 8 frames\u201d is level with 59.1 % (no interval, 1 seed)."


def test_other_precision_is_said_where_it_was_another(make_result: Any) -> None:
    def notes(*environments: dict[str, str]) -> str:
        records = [
            CellRecord(
                TSM.cell(REGIME, seed),
                "finished",
                make_result(59.0 + seed).model_copy(update={"environment": {"device": "x", **environment}}),
            )
            for seed, environment in enumerate(environments)
        ]
        export = collect(with_rows(TSM), "mine", records, regime=REGIME)
        return " ".join(paper_notes(export, summarise(export)))

    unsaid, in_float32 = {"cuda": "12.8"}, {"cuda": "12.8", **RunOptions(precision="float32").entries(on_gpu=True)}
    said = "Cells of ours on GPUs were computed in bfloat16, the authors\u2019 in float32."
    assert said in notes(unsaid)
    assert said in notes({"cuda": "12.8", **RunOptions().entries(on_gpu=True)})
    assert said in notes(unsaid, in_float32)
    assert "bfloat16" not in notes(in_float32)
    assert "bfloat16" not in notes({"cuda": ""})


def test_missing_clips_are_said_everywhere_with_or_without_a_published_number(
    make_result: Any, tmp_path: Path, export_in: Any
) -> None:
    loaded = with_rows(replace(TSM, paper=None))
    made = records(make_result, REGIME, loaded, {TSM.name: [59.0]})
    said = "168,000 of 168,913 training clips (913 missing or broken, 0.54 %)"
    other = "24,700 of 24,777 validation clips (77 missing or broken, 0.31 %)"
    export = collect(loaded, "mine", made, regime=REGIME)
    assert said in missing_notes(clips_of(export.manifest))[0]
    assert other in missing_notes(clips_of(export.manifest))[0]
    html = blocks.results(export).html
    assert said.replace(" %", "&nbsp;%") in html
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(terminal_table(loaded, "mine", made, regime=REGIME))
    assert other in " ".join(console.export_text().split())
    folder = report(loaded, "mine", made, tmp_path, ["tex"], regime=REGIME)
    (comment,) = [line for line in (folder / "table.tex").read_text().splitlines() if "missing or broken" in line]
    assert comment.startswith("% ")
    assert said in comment
    assert other in comment
    assert "913 training and 77 validation clips" in blocks.conditions(export).text
    whole = REGIME.with_clips(CLIPS.but(num_missing=(0, 0)))
    assert missing_notes(clips_of(export_in(whole).manifest)) == []


def test_the_report_of_a_study_says_what_is_missing(make_study: Any) -> None:
    loaded, trials = make_study(6)

    def on_clips(record: CellRecord) -> CellRecord:
        experiment = record.cell.experiment.but(data=CLIPS)
        return replace(record, cell=replace(record.cell, experiment=experiment))

    trials = [replace(trial, cells=tuple(map(on_clips, trial.cells))) for trial in trials]
    export = study_collect(loaded, "mine", trials)
    (said,) = missing_notes(listed_clips(CLIPS.model_dump(mode="json")))
    assert said.replace(" %", "&nbsp;%") in study_conditions(export).html
    assert f"% {said}" in study_latex(export).splitlines()
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(StudyTable(loaded, "mine", trials))
    assert said in " ".join(console.export_text().split())


def test_a_page_shows_differences_beside_the_numbers_and_what_has_none(export_in: Any) -> None:
    export = export_in()
    html = blocks.results(export).html
    assert html.count(">ours ") == 3
    assert html.count("order only") == 1
    none = blocks.results(export_in(REGIME.but(schedule__epochs=6))).html
    assert "order only" not in none
    assert ">ours " not in none


def test_the_terminal_and_the_note_of_the_latex_table_say_the_same(make_result: Any, tmp_path: Path) -> None:
    made = records(make_result)
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(terminal_table(LOADED, "mine", made, regime=REGIME))
    text = " ".join(console.export_text().split())
    assert "only in order: “TAdaConvNeXt-T, 16 frames”. Why: a recipe of ours." in text
    assert "ours \u22120.5" in text
    folder = report(LOADED, "mine", made, tmp_path, ["tex", "csv"], regime=REGIME)
    tex = (folder / "table.tex").read_text()
    assert "is 0.5 points below 64.0 % (95 % interval" in tex
    assert "Trained with our own recipe, not the paper" in tex
    head = (folder / "table.csv").read_text().splitlines()[0].split(",")
    assert {"paper_delta_mean", "paper_delta_low", "paper_delta_high", "recipe", "recipe_of"} <= set(head)
    export = collect(LOADED, "mine", made, regime=REGIME)
    assert not any("64.0" in note for note in latex_notes(export, paper=False))


def test_it_is_said_whose_a_recipe_is(export_in: Any, make_result: Any) -> None:
    export = export_in()
    ours = "Trained with our own recipe, not the paper\u2019s: \u201cTAdaConvNeXt-T, 16 frames\u201d."
    assert ours in legend(summarise(export), TOP1)
    text = blocks.conditions(export).text
    assert "(the paper\u2019s)': ['TAda2D, 16 frames']" in text
    assert "(ours, not the paper\u2019s)': ['TAdaConvNeXt-T, 16 frames']" in text
    summary = summarise(export)
    assert dict(zip(summary["row"], summary["recipe_of"], strict=True)) == {
        "TSM, 8 frames": "", "TAda2D, 16 frames": "paper", "TAdaConvNeXt-T, 16 frames": "ours", "TAda2D, 8 frames": "",
    }  # fmt: skip
    plain = collect(LOADED, "mine", records(make_result))
    assert not any("recipe of ours" in note for note in legend(summarise(plain), TOP1))
    assert "recipe_of" not in table_columns(summarise(plain), plain.manifest.base)


def test_recipes_that_differ_in_their_weights_alone_are_different(export_in: Any) -> None:
    other = Recipe(
        backbones=("convnext_tiny_clip",), origin="ours", changes={"backbone__weights": "timm:convnext_tiny.fb_in22k"}
    )
    export = export_in(REGIME.but(recipes=[other]))
    recipe = differing(export.manifest)["recipe"]
    assert recipe["TAdaConvNeXt-T, 16 frames"] == "weights timm:convnext_tiny.fb_in22k"
    assert recipe["TAda2D, 16 frames"] == "weights torchvision:ResNet50_Weights.IMAGENET1K_V1"
    weights = [Backbone(name="resnet50", weights=f"{name}.pth", weights_fingerprint=name * 16) for name in "ab"]
    files = REGIME.but(recipes=[Recipe(num_frames=16, origin="ours", changes={"backbone": weights[1]})])
    made = differing(export_in(files.but(backbone=weights[0])).manifest)["recipe"]
    assert (made["TSM, 8 frames"], made["TAda2D, 16 frames"]) == (
        "weights of file aaaaaaaa",
        "weights of file bbbbbbbb",
    )


def test_rows_are_ranked_within_a_recipe(make_result: Any) -> None:
    rows = [
        Row(name, TAda(), None, backbone, 8) for name, backbone in (("a", "slow_one"), ("b", "slow_two"), ("c", None))
    ]
    regime = Regime(
        summary="", backbone=Backbone(name="tiny"), data=Synthetic(num_train=8, num_val=8),
        schedule=Schedule(epochs=2, batch_size=8, lr=0.1), stand_ins={"slow_one": "tiny", "slow_two": "tiny"},
        recipes=(Recipe(backbones=("slow_one",), origin="ours", changes={"schedule__lr": 0.2}),),
    )  # fmt: skip
    loaded = replace(LOADED, table=Table(base=rows[2], rows=rows[:2]))
    scores = {"a": [90.0, 91.0, 90.5], "b": [60.0, 61.0, 60.4], "c": [50.0, 51.2, 50.1]}
    export = collect(loaded, "mine", records(make_result, regime, loaded, scores), regime=regime)
    assert groups(export.manifest) == [["a"], ["b", "c"]]
    summary = summarise(export)
    assert dict(zip(summary["row"], summary["standing"], strict=True)) == {"a": "", "b": "best", "c": "below"}
    html = blocks.results(export).html
    assert "Bold: significantly above all other rows of the same recipe" in html


def test_claims_across_recipes_say_so(export_in: Any) -> None:
    export = export_in()
    assert verdicts(export)["across_recipes"].tolist() == [False, True]
    said = "The two were trained with different recipes"
    found = blocks.claims(export).text.splitlines()[1:]
    assert [said in line for line in found] == [False, True]
    one = REGIME.but(recipes=())
    assert said not in blocks.claims(export_in(one)).text


@pytest.mark.parametrize("figure", [figures.accuracy_by_row, figures.differences, figures.accuracy_by_macs])
def test_captions_name_the_mix_of_recipes(export_in: Any, figure: Any) -> None:
    said = "Rows were trained with different recipes"
    assert said in figure(export_in()).caption
    assert said not in figure(export_in(REGIME.but(recipes=()))).caption


def test_an_older_export_knows_no_regime(export_in: Any) -> None:
    tree = export_in().manifest.model_dump(mode="json")
    for row in tree["rows"]:
        del row["measured_as"], row["recipe"]
    assert {row.recipe for row in Manifest.model_validate(tree).rows} == {None}


def test_views_are_worded_as_published_ones_are() -> None:
    assert views(CLIPS.model_dump()) == VIEWS
    assert views(Synthetic(num_train=1, num_val=1).model_dump()) == "1 clip x 1 crop of 32 px"
    assert listed_clips(Folder().model_dump(mode="json")) == []
    assert [side.in_words for side in listed_clips(CLIPS.model_dump(mode="json"))] == [
        "168,000 of 168,913 training clips",
        "24,700 of 24,777 validation clips",
    ]
