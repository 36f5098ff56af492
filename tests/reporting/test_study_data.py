import re
from dataclasses import replace
from math import nan
from pathlib import Path

import pandas as pd
import pytest

from tadaconv.command import called_with
from tadaconv.errors import UserError
from tadaconv.reporting.core.export import write_files
from tadaconv.reporting.study.data import (
    STATUSES,
    _with_options,
    collect,
    counts,
    curves_data,
    files_of,
    read_study,
    trials_data,
)
from tadaconv.reporting.study.parameters import confirm_command, in_words, parameters_in_words
from tadaconv.reporting.study.text import best_sentences, warning, what_became
from tadaconv.result import CurvePoint
from tadaconv.spec import Context, Placement, Rival, TAda
from tadaconv.study import InfeasibleDraw


@pytest.fixture
def study(make_study):
    return make_study(24)


@pytest.fixture
def frame(study) -> pd.DataFrame:
    return trials_data(study[1], study[0].study)


def with_top1(records, *scores: float | None):
    """The first trials as finished with these accuracies; None leaves one out."""
    return [replace(r, status="finished", score=s) for r, s in zip(records, scores, strict=False) if s is not None]


def test_every_trial_has_a_line_with_its_end(study, frame) -> None:
    assert frame["trial"].tolist() == [record.number for record in study[1]]
    assert frame["status"].tolist() == [record.status for record in study[1]]
    for record, line in zip(study[1], frame.to_dict("records"), strict=True):
        assert line["why"] == (record.why or "")
        assert (line["top1"] == record.score) == (record.status == "finished")
    assert set(frame["status"]) == {"finished", "pruned", "over budget", "failed"}


def test_the_best_is_of_those_that_finished(study, frame) -> None:
    scores = {r.number: r.score for r in study[1] if r.status == "finished"}
    assert frame.loc[frame["best"], "trial"].tolist() == [max(scores, key=lambda number: scores[number])]
    reached = [replace(r, score=99.0) if r.status == "pruned" else r for r in study[1]]
    pd.testing.assert_frame_equal(trials_data(reached, study[0].study), frame)


def test_of_equal_trials_the_cheapest_is_the_best(study) -> None:
    records = [
        replace(r, macs=m) for r, m in zip(with_top1(study[1], 60.0, 70.0, 70.0, 70.0), (5, 9, 7, 7), strict=True)
    ]
    frame = trials_data(list(reversed(records)), study[0].study)
    assert frame["best"].tolist() == [False, False, True, False]
    assert frame["front"].tolist() == [True, False, True, True]
    said = best_sentences(collect(study[0], "quick", records))
    assert "Equally good: paper: stage 5 and trial 3." in said


def test_an_accuracy_that_is_no_number_failed(study) -> None:
    frame = trials_data(with_top1(study[1], 60.0, nan), study[0].study)
    assert frame["status"].tolist() == ["finished", "failed"]
    assert frame["why"].tolist() == ["", "the accuracy is not a number"]


def test_counts_are_in_one_line(study, frame) -> None:
    assert sum(counts(frame).values()) == len(study[1])
    assert [status for status in STATUSES if status in counts(frame)] == list(counts(frame))
    said = what_became(frame)
    for status, number in counts(frame).items():
        assert f"{number} {status}" in said
    assert what_became(frame[frame["status"] == "failed"].head(1)) == "1 trial: 1 failed."


def test_a_curve_over_several_seeds_is_their_mean(study) -> None:
    points = [CurvePoint(epoch=e, step=e, train_loss=1.0, score=v) for e, v in ((1, 10.0), (2, 20.0), (2, 30.0))]
    record = replace(study[1][0], curve=tuple(points))
    assert curves_data([record])["val_top1"].tolist() == [10.0, 25.0]
    assert trials_data([record], study[0].study)["reached"].tolist() == [25.0]


@pytest.mark.parametrize("num_trials", [1, 3, 24])
def test_an_export_is_read_back_as_it_was(num_trials: int, make_study, tmp_path: Path) -> None:
    loaded, records = make_study(num_trials)
    export = collect(loaded, "quick", records, max_macs=10_310_000)
    write_files(files_of(export), tmp_path)
    (tmp_path / "report.json").write_text(export.manifest.model_dump_json())
    found = read_study(tmp_path)
    assert found.manifest == export.manifest
    assert found.space == export.space
    for name in ("trials", "curves", "cells"):
        ours, theirs = getattr(export, name), getattr(found, name)
        pd.testing.assert_frame_equal(theirs, ours, check_dtype=False)


def test_infeasible_draws_are_read_back_and_an_earlier_report_knows_of_none(make_study, tmp_path: Path) -> None:
    loaded, records = make_study(3)
    start = InfeasibleDraw(0, "paper: stage 5", records[1].params, records[1].distributions, 'no "stage" of it,\nfive')
    partly = InfeasibleDraw(2, "", {"stage2": True}, {}, "NA")
    export = collect(loaded, "quick", records, infeasible=[start, partly])
    assert export.manifest.num_infeasible == 2
    assert export.infeasible["trial"].tolist() == [0, 2]
    assert export.infeasible["name"].tolist() == ["paper: stage 5", ""]
    assert export.infeasible["params_stage2"].tolist() == ["no", "yes"]
    assert export.infeasible["params_kernels"].tolist() == [records[1].params["kernels"], ""]
    assert what_became(export.trials, 2) == (
        f"{what_became(export.trials)} Not counted: 2 draws infeasible in this regime."
    )
    assert what_became(export.trials, 1).endswith(" Not counted: 1 draw infeasible in this regime.")
    write_files(files_of(export), tmp_path)
    (tmp_path / "report.json").write_text(export.manifest.model_dump_json())
    pd.testing.assert_frame_equal(read_study(tmp_path).infeasible, export.infeasible)
    (tmp_path / "infeasible.csv").unlink()
    with pytest.raises(UserError, match=r"infeasible\.csv is missing"):
        read_study(tmp_path)
    (tmp_path / "report.json").write_text(export.manifest.model_dump_json(exclude={"num_infeasible"}))
    earlier = read_study(tmp_path)
    assert earlier.manifest.num_infeasible is None
    assert earlier.infeasible.empty
    assert what_became(earlier.trials, None) == what_became(export.trials)


def test_an_empty_folder_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no exported report of a study: .*report\.json"):
        read_study(tmp_path)


BASE = TAda()


@pytest.mark.parametrize(
    ("temporal", "base", "said"),
    [
        (BASE, BASE, "as the base"),
        (None, BASE, "nothing plugged in (TSN)"),
        (None, None, "as the base"),
        (BASE.but(context__reduction=8), BASE, "context reduction 8 instead of 4"),
        (BASE.but(context__global_descriptor=False), BASE, "without context global descriptor"),
        (
            BASE.but(calibration="cout", context__kernels=(1, 1), placement__stages=(4, 5)),
            BASE,
            "calibration cout instead of cin, context kernels (1, 1) instead of (3, 3) and in res4 and res5 "
            "instead of res2 to res5",
        ),
        (BASE.but(placement__share=0.25), BASE, "on 25 % of the channels instead of all channels"),
        (BASE.but(aggregation__kind="none"), BASE, "aggregation none instead of average"),
        (Rival(name="tsm"), BASE, "tsm"),
        (
            Rival(name="tsm", placement=Placement(stages=(5,))),
            BASE,
            "tsm: in res5 instead of res2 to res5",
        ),
        (TAda(context=Context(reduction=8)), None, "TAda: context reduction 8 instead of 4"),
    ],
)  # fmt: skip
def test_operators_in_words(temporal, base, said: str) -> None:
    assert in_words(temporal, base) == said


def test_parameters_in_words(frame) -> None:
    said = parameters_in_words(frame.to_dict("records")[0])
    assert said == "stage2 yes, stage3 yes, stage4 yes, stage5 yes, kernels 3,3, reduction 4, global yes"
    linear = frame[frame["params_kernels"] == "3"].to_dict("records")[0]
    assert "global" not in parameters_in_words(linear)


def test_the_best_against_the_base(study) -> None:
    records = with_top1(study[1], 60.0, 62.5)
    said = " ".join(best_sentences(collect(study[0], "quick", records)))
    assert "\u201cpaper: stage 5\u201d is the best of 2 finished trials: 62.5 %" in said
    assert "in res5 instead of res2 to res5." in said
    fewer = 100 * (1 - records[1].macs / records[0].macs)
    its = "\u201cpaper: all stages\u201d (60.0 %, from one seed)"
    assert f"Difference to {its}: +2.5 points, \u2212{fewer:.2g} % multiply-adds." in said


def test_a_base_that_did_not_finish_is_said(study) -> None:
    said = best_sentences(collect(study[0], "quick", with_top1(study[1], None, 62.5)))
    assert said[-1] == "The base itself has not finished."
    assert "It is the base" in " ".join(best_sentences(collect(study[0], "quick", with_top1(study[1], 62.5, 60.0))))
    assert best_sentences(collect(study[0], "quick", [r for r in study[1] if r.status == "failed"])) == []


def test_the_warning_estimates_the_bias_by_selection(make_study) -> None:
    loaded, records = make_study(12)
    number = sum(record.status == "finished" for record in records)
    alone = warning(collect(loaded, "quick", records))
    assert "optimistically biased by selection" in alone
    assert f"between seeds of an assumed 1 point, the best of {number} equally good trials" in alone
    loaded, records = make_study(12, seeds=3)
    seeds = warning(collect(loaded, "quick", records))
    assert re.search(r"between seeds of [01]\.\d points here", seeds)


def test_the_command_that_confirms() -> None:
    assert confirm_command("placed", "quick") == "tada study placed --confirm 3 --seeds 3"
    assert confirm_command("placed", "proxy") == "tada study placed --regime proxy --confirm 3 --seeds 3"


def test_a_report_is_the_same_wherever_it_is_written(study) -> None:
    alone = collect(study[0], "quick", study[1]).manifest
    with called_with({"out": "elsewhere", "storage": "other.log", "data": "my clips"}):
        assert collect(study[0], "quick", study[1]).manifest == alone
    assert alone.confirm_with == confirm_command(study[0].reference, "quick")


def test_options_of_the_search_are_said_in_words() -> None:
    found = _with_options("median", {"n_startup_trials": 4, "n_warmup_steps": 2, "interval_steps": 3})
    assert found == "median, prunes none before 4 trials have finished, prunes none before epoch 2, interval steps 3"
    assert _with_options("tpe, seed 0", {"n_startup_trials": 5}) == "tpe, seed 0, the first 5 draws at random"
    assert _with_options("none", {"n_startup_trials": 5}) == "none, n startup trials 5"
