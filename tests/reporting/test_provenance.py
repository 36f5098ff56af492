from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tadaconv.reporting.ablation.data import collect
from tadaconv.reporting.core.provenance import provenance, warnings
from tadaconv.run_options import RunOptions


def block_of(loaded, records, left_out=None, **options):
    export = collect(loaded, "quick", records)
    return provenance(export.manifest.cells, export.cells.to_dict("records"), left_out, **options)


def with_environment(record, **changes: str):
    environment = {**record.result.environment, **changes}
    return replace(record, result=record.result.model_copy(update={"environment": environment}))


def test_every_cell_stands_below_its_row_with_its_experiment(context) -> None:
    loaded, records = context
    html = block_of(loaded, records).html
    for record in records:
        assert f"<code>{record.cell.key}</code>" in html
    assert html.count("&#34;protocol&#34;: 1") == len(loaded.table.all_rows)
    assert html.count("w0 on lab") == len(records)
    assert "2026-03-01 11:59 to 12:00" in html
    assert "uncommitted" not in html
    assert "differ in" not in html


def test_versions_are_explained_where_there_are_any(made_up) -> None:
    said = "digits after its version are a hash of its sources"
    assert said in block_of(*made_up({"a": [50.0], "base": [60.0]})).html
    assert said not in block_of(*made_up({"a": [None], "base": [None]})).html


def test_code_that_no_commit_holds_is_marked_at_its_cells(context) -> None:
    loaded, records = context
    records = [*records[:-1], with_environment(records[-1], dirty="yes")]
    block = block_of(loaded, records)
    assert "1 cell ran on code with uncommitted changes" in block.text
    assert block.html.count(">uncommitted code<") == 1
    assert "The cells differ in uncommitted code," in block.text


def test_cells_of_different_origins_say_which_is_which(context) -> None:
    loaded, records = context
    records = [with_environment(each, torch="2.6.0") if i % 3 else each for i, each in enumerate(records)]
    html = block_of(loaded, records).html
    assert html.count("w0 on lab (1)") == 10
    assert html.count("w0 on lab (2)") == 20


def test_a_wheel_that_knows_no_commit_is_not_of_another_one(context) -> None:
    loaded, (first, second, *_) = context
    in_clone, in_wheel = with_environment(first, commit="0123456789ab"), second
    assert "differ in" not in block_of(loaded, [in_clone, in_wheel]).html
    elsewhere = with_environment(second, commit="ba9876543210")
    assert "The cells differ in commit," in block_of(loaded, [in_clone, elsewhere]).text


def test_cells_on_videos_and_on_a_pack_are_told_apart(context) -> None:
    loaded, (first, second, *_) = context
    on_videos, on_pack = with_environment(first, clips="video"), with_environment(second, clips="pack")
    assert "The cells differ in form of clips," in block_of(loaded, [on_videos, on_pack]).text
    assert "differ in" not in block_of(loaded, [on_videos, second]).text  # which did not say it yet


@pytest.mark.parametrize(
    ("name", "value", "said", "shown"),
    [
        ("compiled", "yes", "compiled", "compiled&nbsp;<b>yes</b>"),
        ("fused_kernels", "yes", "fused kernels", "fused kernels&nbsp;<b>yes</b>"),
        ("gpus_per_cell", "2", "processes a cell", "processes a cell&nbsp;<b>2"),
        ("deterministic", "yes", "deterministic", "deterministic&nbsp;<b>yes</b>"),
    ],
)
def test_cells_that_were_run_in_other_ways_are_told_apart(context, name: str, value: str, said: str, shown: str):
    loaded, (first, second, *_) = context
    block = block_of(loaded, [with_environment(first, **{name: value}), second])
    assert f"The cells differ in {said}," in block.text
    assert block.html.count(shown) == 1


def test_cells_of_a_gpu_that_do_not_say_their_precision_were_computed_in_bfloat16(context) -> None:
    loaded, (first, second, third, *_) = context
    unsaid = with_environment(first, cuda="12.8")
    said = with_environment(second, cuda="12.8", **RunOptions().entries(on_gpu=True))
    in_float32 = with_environment(third, cuda="12.8", **RunOptions(precision="float32").entries(on_gpu=True))
    assert "differ in" not in block_of(loaded, [unsaid, said]).text
    block = block_of(loaded, [unsaid, said, in_float32])
    assert "The cells differ in precision," in block.text
    assert "2 cells</dt>" in block.html
    assert block.html.count("precision&nbsp;<b>bfloat16</b>") == 1
    assert block.html.count("precision&nbsp;<b>float32 (IEEE, no TF32)</b>") == 1
    assert "precision" not in block_of(loaded, [first, second]).html  # the CPU has one alone


def test_a_failed_cell_shows_its_traceback_as_text(made_up) -> None:
    loaded, records = made_up({"a": [50.0, None], "base": [60.0, 61.0]})
    records = [replace(r, traceback="<b>Traceback</b>") if r.status == "failed" else r for r in records]
    html = block_of(loaded, records).html
    assert "<pre>&lt;b&gt;Traceback&lt;/b&gt;</pre>" in html
    # Printed, experiments take three columns; a traceback, whose lines are long, one.
    assert html.count("<pre>") == 1
    assert html.count('<pre class="experiment">') == 2


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        ({"changed": 1}, "Left out: 1 finished cell, of a row or regime that has changed since."),
        ({"changed": 3}, "Left out: 3 finished cells, of a row or regime that has changed since."),
        ({"protocol": 2}, "Left out: 2 finished cells, from a version of tadaconv with another protocol"),
    ],
)
def test_what_is_left_out_is_counted(left_out: dict[str, int], said: str) -> None:
    (line,) = warnings([], left_out)
    assert line.startswith(said)


def test_many_cells_are_left_to_the_files(context) -> None:
    html = block_of(*context, num_cells=29).html
    assert "<code>" not in html
    assert html.count("3 cells; report.json and cells.csv list them.") == 10


def test_times_of_an_attempt(context) -> None:
    loaded, records = context
    started, ended = datetime(2026, 3, 1, 23, 59, tzinfo=UTC), datetime(2026, 3, 2, 0, 1, tzinfo=UTC)
    html = block_of(loaded, [replace(records[0], started=started, ended=ended)]).html
    assert "2026-03-01 23:59 to 2026-03-02 00:01" in html
