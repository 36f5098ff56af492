import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from support import Page

from tadaconv.data import open_source
from tadaconv.data.source import Head, classes_of_heads
from tadaconv.data.synthetic import SyntheticClips
from tadaconv.errors import UserError
from tadaconv.execution.cells import CellRecord, weights_file
from tadaconv.experiment import build_model
from tadaconv.measure import by_stage as stages_of
from tadaconv.measure import calibrations
from tadaconv.regime import Regime
from tadaconv.reporting.ablation import figures as table_figures
from tadaconv.reporting.ablation.data import collect as collect_table
from tadaconv.reporting.calibration import calibration_report, figures
from tadaconv.reporting.calibration import data as frame
from tadaconv.reporting.calibration import page as blocks
from tadaconv.reporting.calibration.data import CalibrationExport, by_stage, collect, read_calibration, shares
from tadaconv.reporting.calibration.inspection import inspect_cell, inspect_network
from tadaconv.reporting.calibration.latex import latex_table
from tadaconv.reporting.calibration.text import layer_names
from tadaconv.reporting.core.export import write_files
from tadaconv.reporting.core.format import number
from tadaconv.spec import Aggregation, Backbone, Rival, Schedule, Synthetic, TAda
from tadaconv.table import LoadedTable, Row, Table

SCRIPT = "<script>alert(1)</script> $x_1$"
RANDOM = TAda(init="random", aggregation=Aggregation(kind="none"))
ROWS = [
    Row(SCRIPT, RANDOM),
    Row("starts", TAda()),
    Row("outer", RANDOM.but(calibration="cin+k2")),
    Row("still", RANDOM.but(context__variation="static")),
    Row("a clip", RANDOM.but(context__variation="time_invariant", context__kernels=(1,))),
    Row("some", RANDOM.but(placement__stages=(3,), placement__share=0.5, init="without_one")),
    Row("two rates", RANDOM, backbone="tiny_slowfast_4x16", num_frames=32),
    Row("none", None),
    Row("a rival", Rival(name="tsm")),
]
LOADED = LoadedTable("inside", "What is inside?", Table(base=ROWS[0], rows=ROWS[1:]))
REGIME = Regime(
    summary="made up",
    backbone=Backbone(name="tiny"),
    data=Synthetic(num_frames=4, size=16, num_train=8, num_val=40),
    schedule=Schedule(epochs=1, batch_size=4, lr=0.1),
)

Trained = Callable[[str, Path], CellRecord]


@pytest.fixture(scope="module")
def trained(make_up) -> Trained:
    """``trained("outer", out)``: the record of a row's cell, whose weights are put where training keeps them."""
    result = make_up({"base": [50.0]})[1][0].result

    def train(name: str, out: Path) -> CellRecord:
        cell = LOADED.table.row(name).cell(REGIME, 0)
        path = weights_file(out, cell.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"identity": cell.key, "model": build_model(cell.experiment, [10]).state_dict()}, path)
        return CellRecord(cell, "finished", result)

    return train


@pytest.fixture(scope="module")
def seen(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], CalibrationExport]:
    out = tmp_path_factory.mktemp("seen")

    @cache
    def see(name: str, num_clips: int = 20) -> CalibrationExport:
        record = trained(name, out)
        return collect(LOADED, "quick", record, inspect_cell(LOADED, "quick", record, out, num_clips))

    return see


@pytest.fixture(scope="module")
def reported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[CellRecord, Path, Path]:
    """The report of a cell whose row has a hostile name, in a folder with a space and a quote."""
    out = tmp_path_factory.mktemp("it's a folder")
    record = trained(SCRIPT, out)
    return record, out, calibration_report(LOADED, "labs/my_lab.py", record, out)


def test_all_files_are_there(reported: tuple[CellRecord, Path, Path]) -> None:
    record, out, folder = reported
    assert folder.relative_to(out).as_posix() == f"reports/inside-my_lab-{record.cell.key[:8]}"
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    drawn = {name for name in names if name.startswith("figures/")}
    assert {Path(name).stem for name in drawn} == {"alpha_over_time", "alpha_spread", "alpha_over_training"}
    assert names - drawn == {
        "report.json", "report.html", "report.ipynb", "table.tex", "layers.csv", "clips.csv", "training.csv",
        "alphas.npz", *(f"clips/clip_{i}.png" for i in range(3)),
    }  # fmt: skip


def test_the_page_asks_for_nothing_and_shows_names_as_text(reported: tuple[CellRecord, Path, Path]) -> None:
    folder = reported[2]
    html = (folder / "report.html").read_text()
    page = Page(html)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    addresses = [v for _, attrs in page.tags for k, v in attrs.items() if k in ("src", "href", "srcset", "action")]
    assert len(addresses) == 6  # three clips, three figures
    assert all(address and address.startswith("data:image/") for address in addresses)
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")
    assert page.words.count(SCRIPT) >= 2
    assert "cell " + reported[0].cell.key in page.words
    notebook = nbformat.read(folder / "report.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [o for o in outputs if o.output_type in ("stream", "error")]
    assert not any("<script" in o["data"].get("text/html", "") for o in outputs)


def test_no_file_names_a_place_of_this_machine(reported: tuple[CellRecord, Path, Path]) -> None:
    _, out, folder = reported
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(out).encode() not in content
            assert b"my_lab.py" not in content
            assert str(Path.home()).encode() + b"/" not in content


def test_a_report_made_again_has_the_same_bytes(
    reported: tuple[CellRecord, Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record, out, folder = reported
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    with caplog.at_level(logging.INFO, "tadaconv.reporting"):
        assert calibration_report(LOADED, "labs/my_lab.py", record, out) == folder
    assert "up to date" in caplog.text
    assert {p: p.stat().st_mtime_ns for p in before} == before
    shutil.copytree(out / "weights", tmp_path / "weights")
    again = calibration_report(LOADED, "labs/my_lab.py", record, tmp_path)
    for path in before:
        assert (again / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


def test_the_exported_data_hold_everything(seen, tmp_path: Path) -> None:
    export = seen("outer")
    write_files(frame.files_of(export), tmp_path)
    (tmp_path / "report.json").write_text(export.manifest.model_dump_json())
    back = read_calibration(tmp_path)
    assert back.manifest == export.manifest
    for name in ("layers", "clips", "training"):
        pd.testing.assert_frame_equal(getattr(back, name), getattr(export, name), check_dtype=name != "training")
    assert back.alphas.keys() == export.alphas.keys()
    assert all(np.array_equal(back.alphas[name], export.alphas[name]) for name in back.alphas)
    assert all(np.array_equal(one, other) for one, other in zip(back.frames, export.frames, strict=True))
    pd.testing.assert_frame_equal(figures.alpha_over_time_data(back), figures.alpha_over_time_data(export))
    assert blocks.headline(export).html == blocks.headline(back).html


def test_what_is_exported_is_what_the_network_does(seen) -> None:
    export = seen("outer", 40)
    cell = LOADED.table.row("outer").cell(REGIME, 0)
    source = open_source(cell.experiment.data, torch.device("cpu"))
    model = build_model(cell.experiment, [10]).eval()
    views, labels = source.val_batch(torch.arange(40))
    layers = calibrations(model, views[:, 0])
    # Over all validation clips the order in which they are drawn does not matter.
    for stage, expected in stages_of(layers).items():
        found = by_stage(export.layers).loc[int(stage[3:])]
        assert found["distance"] == pytest.approx(expected.distance, rel=1e-4)
        assert found["over_time"] == pytest.approx(expected.over_time, rel=1e-4)
        assert found["over_clips"] == pytest.approx(expected.over_clips, rel=1e-4)
        assert found["constant"] ** 2 + found["over_clips"] ** 2 + found["over_time"] ** 2 == pytest.approx(
            found["distance"] ** 2
        )
    scores = model(views[:, 0]).softmax(1)
    every = torch.cat([layer.alpha.flatten() for layer in layers]).numpy()
    assert np.quantile(every, 0.025) == pytest.approx(export.manifest.alpha_low, abs=1e-4)
    assert np.quantile(every, 0.975) == pytest.approx(export.manifest.alpha_high, abs=1e-4)
    for clip in export.clips.to_dict("records"):
        index = clip["index"]
        assert source.class_names[labels[index]] == clip["class"]
        assert labels[index] in source.families[clip["family"]]
        assert source.class_names[scores[index].argmax()] == clip["predicted"]
        assert scores[index].max().item() == pytest.approx(clip["probability"], abs=1e-4)
        pixels = (views[index, 0] * 0.225 + 0.45).clamp(0, 1).permute(1, 2, 3, 0).numpy() * 255
        assert np.abs(export.frames[clip["clip"]] - pixels).max() <= 0.51
        for layer in layers:
            for name, alpha in layer.factors().items():
                kept = export.alphas[f"{layer.site.conv}.{name}"][clip["clip"]]
                np.testing.assert_allclose(kept, alpha[index], rtol=1e-4, atol=1e-4)
    assert list(export.clips["family"]) == ["frame", "set", "order"]


def test_of_clips_with_several_labels_the_first_is_shown() -> None:
    class TwoLabels(SyntheticClips):
        heads = (Head("half", ("first", "second")), Head("place", ("0", "1", "2", "3", "4", "5")))

        def __init__(self, data: Synthetic, device: torch.device) -> None:
            super().__init__(data, device)
            self.class_names, self.families = classes_of_heads(self.heads), {}

        def val_batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            clips, labels = super().val_batch(indices)
            return clips, torch.stack([labels % 2, labels % 6], 1)

    clips = Synthetic(num_frames=4, size=16, num_train=4, num_val=12)
    source = TwoLabels(clips, torch.device("cpu"))
    experiment = Row("a", TAda()).cell(
        Regime(summary="", backbone=Backbone(name="tiny"), data=clips, schedule=Schedule(epochs=1, batch_size=2, lr=1)),
        seed=0,
    )
    found = inspect_network(build_model(experiment.experiment, [8]).eval(), source, 12, 0, torch.device("cpu"))
    assert {clip[2] for clip in found.clips} <= {"half: first", "half: second"}
    assert {clip[4] for clip in found.clips} <= {"half: first", "half: second"}
    assert all(0.5 <= clip[5] <= 1 for clip in found.clips)  # the likelier of two


def test_maps_hold_the_alphas_in_one_order_for_all_clips(seen) -> None:
    export = seen("outer")
    data = figures.alpha_over_time_data(export)
    assert set(zip(data["layer"], data["factor"], strict=True)) == set(
        zip(export.layers["layer"], export.layers["factor"], strict=True)
    )
    for (layer, factor), group in data.groupby(["layer", "factor"]):
        kept = export.alphas[f"{layer}.{factor}"]
        for line in group.sample(20, random_state=0).to_dict("records"):
            assert line["alpha"] == kept[line["clip"], line["channel"], line["frame"]]
        order = group.drop_duplicates(["order", "channel"]).sort_values("order")
        assert len(order) == group["order"].nunique() == kept.shape[1]
        expected = np.arange(9) if factor == "k2" else np.argsort(kept.mean((0, 2), dtype=float), kind="stable")
        assert order["channel"].tolist() == expected.tolist()


def test_a_layer_of_many_channels_shows_some_spread_over_the_order(seen) -> None:
    export = seen("starts", 4)
    layer = export.layers["layer"].iloc[-1]
    draw = np.random.default_rng(0).normal(1, 0.1, (len(export.clips), 500, 4)).astype("float32")
    lines = export.layers.assign(num=500)
    many = replace(export, layers=lines, alphas={**export.alphas, f"{layer}.cin": draw})
    data = figures.alpha_over_time_data(many, [layer])
    shown = data.drop_duplicates("order").sort_values("order")
    assert len(shown) == figures.MOST_CHANNELS
    ranks = np.argsort(np.argsort(draw.mean((0, 2))))[shown["channel"]]
    assert (ranks[0], ranks[-1]) == (0, 499)
    assert set(np.diff(ranks)) <= {7, 8}
    assert "spread evenly" in figures.alpha_over_time(many, [layer]).caption
    with pytest.raises(UserError, match=rf"unknown layer 'layer4.0.conv'; one of: {layer}"):
        figures.alpha_over_time(many, ["layer4.0.conv"])


def test_taps_are_drawn_as_they_lie_in_the_kernel() -> None:
    alpha = np.arange(18.0).reshape(9, 2)  # tap (row, column) of frame t holds 2 * (3 * row + column) + t
    picture = figures._taps(alpha, "3 x 3")[::-1]  # the first line is drawn lowest
    assert picture.shape == (3, 8)
    for t in range(2):
        for row in range(3):
            for column in range(3):
                assert picture[row, 4 * t + column] == 2 * (3 * row + column) + t
    assert np.isnan(picture[:, [3, 7]]).all()


def test_layers_of_two_rates_have_names_of_their_own(seen) -> None:
    export = seen("two rates", 4)
    names = layer_names(export.layers)
    assert len(set(names)) == len(names)
    assert {"res2, block 1, slow", "res2, block 1, fast"} <= set(names)
    data = figures.alpha_over_time_data(export)
    assert data.groupby("layer")["frame"].max().nunique() == 2
    assert len(export.frames[0]) == 32


def test_ends_of_a_clip_are_told_from_its_middle(seen) -> None:
    export = seen("two rates", 8)
    cell = LOADED.table.row("two rates").cell(REGIME, 0)
    indices = torch.from_numpy(np.random.default_rng(0).permutation(40)[:8])
    views, _ = open_source(cell.experiment.data, torch.device("cpu")).val_batch(indices)
    for layer in calibrations(build_model(cell.experiment, [10]), views[:, 0]):
        line = export.layers[export.layers["layer"] == layer.site.conv].iloc[0]
        num_frames = layer.alpha.shape[2]
        if num_frames < 6:  # kernels of 3 and 3 frames see two frames to either side
            assert np.isnan(line["over_inner_time"])
            continue
        inner = layer.alpha.numpy()[:, :, 2 : num_frames - 2]
        assert line["over_inner_time"] == pytest.approx(np.sqrt(inner.var(2).mean()), rel=1e-3)
    whole = export.layers.dropna()
    text = said(replace(export, layers=whole))
    assert number(np.sqrt((whole["num"] * whole["over_inner_time"] ** 2).sum() / whole["num"].sum())) in text
    assert "over the frames whose context is within the clip" in text
    assert "context is within the clip" not in said(export)  # not known in every layer
    assert seen("still").layers["over_inner_time"].isna().all()


def said(export: CalibrationExport) -> str:
    return Page(blocks.headline(export).html).words


def test_words_say_what_a_row_can_do_and_no_more(seen) -> None:
    assert "alpha is one throughout" in said(seen("starts", 4))
    still = said(seen("still"))
    assert "is constant: the same for every clip and frame" in still
    assert "one calibration for all clips and frames" in still
    assert "varies most" not in still
    a_clip = said(seen("a clip"))
    assert "one calibration a clip, the same for all its frames" in a_clip
    assert "none between the frames" in a_clip
    some = said(seen("some"))
    assert "calibrates 50 % of the channels" in some
    assert "at random around zero" in some
    assert "farthest" not in some  # one stage is neither far nor near
    outer = said(seen("outer"))
    assert "input channels and taps (cin+k2): the factors multiply" in outer
    assert "the 5 frames around it, and from the average of the whole clip" in outer
    assert "not whether it helps" in outer


def test_a_column_that_no_layer_has_is_left_out(seen) -> None:
    assert "Away from the ends" in blocks.layers(seen("two rates", 8)).html
    still = Page(blocks.layers(seen("still")).html)
    assert "Away from the ends" not in still.words
    heads, cells = (sum(tag == name for tag, _ in still.tags) for name in ("th", "td"))
    assert (heads - len(seen("still").layers)) * len(seen("still").layers) == cells + len(seen("still").layers)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_latex_table_fits_the_text_of_an_article(seen, tmp_path: Path) -> None:
    tables = [latex_table(seen("two rates", 4)), latex_table(seen("outer"))]
    (tmp_path / "tables.tex").write_text("\n\n\\noindent\n".join(tables), encoding="utf-8")
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\noindent\n\\input{tables}\\end{document}"
    )
    call = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said[-2000:]
    assert [float(pt) for pt in re.findall(r"Overfull \\hbox \(([\d.]+)pt", said) if float(pt) > 1] == []


def test_parts_of_the_distance_are_weighed_by_channels(seen) -> None:
    layers = pd.DataFrame(
        {"stage": [2, 2], "num": [1, 3], "distance": [0.5, 0.2], "constant": [0.3, 0.0], "over_clips": [0.4, 0.0],
         "over_time": [0.0, 0.2]}
    )  # fmt: skip
    total = 0.25 + 3 * 0.04
    expected = {"constant": 0.09 / total, "over_clips": 0.16 / total, "over_time": 0.12 / total}
    assert shares(layers) == pytest.approx(expected)
    assert by_stage(layers)["distance"].tolist() == pytest.approx([(total / 4) ** 0.5])
    assert shares(seen("starts", 4).layers) is None
    spread = figures.alpha_spread_data(seen("outer"))
    assert np.allclose(spread[["constant", "over_clips", "over_time"]].sum(axis=1), 100)
    assert figures.alpha_spread_data(seen("starts", 4))["constant"].isna().all()


def test_numbers_have_two_digits_of_what_they_vary_by() -> None:
    assert number(0.98, 0.2) == "0.98"
    assert number(1.00123, 0.002) == "1.0012"
    assert number(-0.5) == "\u22120.50"
    assert number(0.00042) == "0.00042"
    assert number(0.0) == "0.00"


def test_names_of_the_synthetic_classes_are_explained(seen) -> None:
    export = seen("outer")
    said = "How classes of each family can be recognised: frame, from a single frame;"
    assert set(export.clips["family"]) == {"frame", "set", "order"}
    assert said in blocks.clips(export).html
    others = replace(export, clips=export.clips.assign(family="sports"))
    assert said not in blocks.clips(others).html


def test_hostile_class_names_come_out_as_text(seen) -> None:
    export = seen(SCRIPT, 4)
    clips = export.clips.assign(**{"class": SCRIPT, "predicted": "$\\frac{\x01", "family": "<b>"})
    hostile = replace(export, clips=clips)
    block = blocks.clips(hostile)
    assert "<script" not in block.html
    assert Page(block.html).words.count(SCRIPT) == len(clips)
    assert b"<script" not in figures.alpha_over_time(hostile).svg


def test_training_adds_up_and_starts_where_the_row_does(seen) -> None:
    training = pd.DataFrame(
        {"epoch": [1, 2], "stage": "res3", "distance": [0.5, 1.3], "over_time": [0.3, 0.5], "over_clips": [0.0, 0.0]}
    )
    export = replace(seen("starts", 4), training=training)
    data = figures.alpha_over_training_data(export)
    assert data["epoch"].tolist() == [0, 1, 2]
    assert data["constant"].tolist() == pytest.approx([0, 0.4, 1.2])
    drawing = figures.alpha_over_training(export)
    assert drawing is not None
    assert "res3 ends at 1.30" in drawing.alt
    assert figures.alpha_over_training_data(replace(seen("some", 4), training=training))["epoch"].tolist() == [1, 2]
    assert figures.alpha_over_training(replace(export, training=training[:0])) is None


def test_the_figure_of_a_table_has_every_row_that_calibrates(context) -> None:
    loaded, records = context
    export = collect_table(loaded, "quick", records)
    data = table_figures.calibration_over_training_data(export)
    assert list(dict.fromkeys(data["row"])) == [row.name for row in loaded.table.all_rows if row.temporal is not None]
    for line in data[data["epoch"] > 0].to_dict("records"):
        mine = export.calibration.query("row == @line['row'] and epoch == @line['epoch'] and stage == @line['stage']")
        assert len(mine) == 3
        assert line["distance"] == pytest.approx(mine["distance"].mean())
        assert (line["low"], line["high"]) == (mine["distance"].min(), mine["distance"].max())
    assert (data.loc[data["epoch"] == 0, ["distance", "low", "high"]] == 0).all(axis=None)
    drawing = table_figures.calibration_over_training(export)
    assert drawing is not None
    assert len([ax for ax in drawing.figure.axes if ax.get_visible()]) == 9
    bare = replace(records[0], result=records[0].result.model_copy(update={"curve": []}))
    assert table_figures.calibration_over_training(collect_table(loaded, "quick", [bare])) is None


@pytest.mark.parametrize("name", ["none", "a rival"])
def test_a_row_without_a_calibration_is_refused_and_others_are_named(
    trained: Trained, tmp_path: Path, name: str
) -> None:
    record = trained(name, tmp_path)
    with pytest.raises(UserError, match=f"row '{name}' has no calibration to inspect.*'starts', 'outer'") as error:
        calibration_report(LOADED, "quick", record, tmp_path)
    assert "\n" not in str(error.value)
    bare = LoadedTable("bare", "", Table(base=ROWS[-1], rows=[ROWS[-2]]))
    with pytest.raises(UserError, match="no row of bare has one"):
        calibration_report(bare, "quick", record, tmp_path)


def test_wrong_calls(trained: Trained, tmp_path: Path) -> None:
    record = trained(SCRIPT, tmp_path)
    path = weights_file(tmp_path, record.cell.key)
    here = re.escape(f"tada ablate inside --regime quick --rows '{SCRIPT}' --seeds 1")
    again = rf"{here}\ --out\ OTHER"

    def fails(match: str, cell: CellRecord = record, **choices: Any) -> None:
        with pytest.raises(UserError, match=match) as error:
            calibration_report(LOADED, "quick", cell, tmp_path, **choices)
        assert "\n" not in str(error.value)

    fails("unknown report format 'htm'", formats=["htm"])
    fails("num_clips must be at least 1, not 0", num_clips=0)
    fails(f"has no result yet .waiting.; train it with: {here}$", replace(record, result=None, status="waiting"))
    other = trained("starts", tmp_path)
    good = path.read_bytes()
    shutil.copy(weights_file(tmp_path, other.cell.key), path)
    who = f"{re.escape(repr(SCRIPT))}, seed 0: "
    fails(f"{who}.* belong to another cell, {other.cell.key}, not to {record.cell.key}; .*{again}")
    for damaged in (good[: len(good) // 2], b"", b"no weights"):
        path.write_bytes(damaged)
        fails(f"{who}the weights {re.escape(str(path))} cannot be read .*{again}")
    torch.save([record.cell.key], path)
    fails("cannot be read")
    torch.save({"identity": record.cell.key, "model": 3}, path)
    fails("cannot be read")
    torch.save({"identity": record.cell.key, "model": {"weight": torch.zeros(1)}}, path)
    fails(f"do not fit the network.*{again}")
    path.unlink()
    fails(f"{who}there are no weights at {re.escape(str(path))}; name the run folder .* with --out.*{again}")
    assert not (tmp_path / "reports").exists()


def test_weights_that_are_not_finite_are_refused(trained: Trained, tmp_path: Path) -> None:
    record = trained(SCRIPT, tmp_path)
    path = weights_file(tmp_path, record.cell.key)
    kept = torch.load(path)
    name = next(name for name in kept["model"] if name.endswith("context.last.weight"))
    kept["model"][name].fill_(torch.nan)
    torch.save(kept, path)
    with pytest.raises(UserError, match=r"are non-finite \(NaN or inf\)"):
        calibration_report(LOADED, "quick", record, tmp_path, ["csv"])


def test_a_folder_of_another_kind_is_refused(reported: tuple[CellRecord, Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no exported report of a trained cell: .*report.json is missing"):
        read_calibration(tmp_path)
    copied = shutil.copytree(reported[2], tmp_path / "copy")
    (copied / "alphas.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"the report of a trained cell in .* is damaged") as error:
        read_calibration(copied)
    assert "\n" not in str(error.value)


def test_executing_the_notebook_needs_no_torch(reported: tuple[CellRecord, Path, Path]) -> None:
    program = (
        "import sys\n"
        "from tadaconv.reporting.calibration import blocks, figures\n"
        "from tadaconv.reporting.calibration.frame import read_calibration\n"
        "export = read_calibration(sys.argv[1])\n"
        "figures.alpha_spread(export), figures.alpha_over_time_data(export), blocks.headline(export)\n"
        "assert not {'torch', 'optuna'} & set(sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(reported[2])], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_the_manifest_leads_to_the_cell(reported: tuple[CellRecord, Path, Path]) -> None:
    record, _, folder = reported
    manifest = json.loads((folder / "report.json").read_text())
    (cell,) = manifest["cells"]
    assert cell["cell"] == record.cell.key
    assert cell["experiment"] == json.loads(record.cell.experiment.canonical_json())
    assert manifest["opened_with"].keys() == {"device", "tadaconv", "torch"}
    assert set(manifest["digests"]) == {"html", "ipynb", "tex", "csv"}
