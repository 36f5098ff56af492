"""The report of a trained cell of localization: alpha, its changes, segments and detections."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadaconv import preview
from tadaconv.data import open_source
from tadaconv.errors import UserError
from tadaconv.execution.cells import CellRecord, weights_file
from tadaconv.experiment import build_model
from tadaconv.measure import calibrations, count
from tadaconv.models import build
from tadaconv.models.localizing import LocalizingNetwork
from tadaconv.nn.boundary_matching import BoundaryMatching
from tadaconv.preview import start_check
from tadaconv.regime import Regime, load_regime
from tadaconv.reporting.calibration import figures, page, text
from tadaconv.reporting.calibration.data import CalibrationExport, collect, files_of, read_calibration
from tadaconv.reporting.calibration.inspection import inspect_cell, places_of_pairs
from tadaconv.reporting.core.export import write_files
from tadaconv.spec import Aggregation, Backbone, Features, Localization, Point, Rival, Schedule, TAda, Untrimmed
from tadaconv.table import LoadedTable, Row, Table

RANDOM = TAda(init="random", aggregation=Aggregation(kind="none"))
LOADED = LoadedTable("found", "What is found?", Table(base=Row("base", RANDOM), rows=[Row("none", None)]))
REGIME = Regime(
    summary="made up",
    backbone=Backbone(name="tiny"),
    data=Untrimmed(num_frames=32, size=16, window=8, num_train=4, num_val=6),
    schedule=Schedule(epochs=1, batch_size=2, lr=0.1),
    localization=Localization(localizer=Point(width=8, levels=2)),
)


@pytest.fixture(scope="module")
def export(make_up, tmp_path_factory: pytest.TempPathFactory) -> CalibrationExport:
    out, cell = tmp_path_factory.mktemp("found"), LOADED.table.base.cell(REGIME, 0)
    path = weights_file(out, cell.key)
    path.parent.mkdir(parents=True)
    torch.save({"identity": cell.key, "model": build_model(cell.experiment, [3]).state_dict()}, path)
    result = make_up({"base": [50.0]})[1][0].result.model_copy(update={"metric": "map"})
    record = CellRecord(cell, "finished", result)
    return collect(LOADED, "quick", record, inspect_cell(LOADED, "quick", record, out, 6))


@settings(max_examples=40, deadline=None)
@given(ends=st.lists(st.integers(0, 12), min_size=4, max_size=4, unique=True).map(sorted))
def test_pairs_of_frames_are_where_a_loop_over_frames_puts_them(ends: list[int]) -> None:
    spans = np.array(ends, dtype=float).reshape(2, 2)
    segment_of = [next((i for i, (start, end) in enumerate(spans) if start <= t < end), None) for t in range(12)]
    for t, place in enumerate(places_of_pairs(spans, 12)):
        if segment_of[t] != segment_of[t + 1]:
            assert place == 0
        else:
            assert place == (2 if segment_of[t] is None else 1)


def test_alpha_is_that_of_the_backbone_for_the_whole_clip() -> None:
    model = build_model(LOADED.table.base.cell(REGIME, 0).experiment, [3])
    assert isinstance(model, LocalizingNetwork)
    assert model.backbone is not None
    views, _ = open_source(REGIME.data, torch.device("cpu")).val_batch(torch.arange(2))
    alone = build(REGIME.backbone, RANDOM, 3)
    alone.load_state_dict(model.backbone.host.state_dict(), strict=False)
    for layer, expected in zip(calibrations(model, views[:, 0]), calibrations(alone, views[:, 0]), strict=True):
        assert layer.alpha.shape == (2, sum(layer.sizes.values()), 32)
        torch.testing.assert_close(layer.alpha, expected.alpha)


def test_changes_are_means_over_pairs_of_neighbouring_frames(export: CalibrationExport) -> None:
    model = build_model(LOADED.table.base.cell(REGIME, 0).experiment, [3])
    views, truth = open_source(REGIME.data, torch.device("cpu")).val_batch(torch.arange(6))
    layer = calibrations(model, views[:, 0])[-1]
    found: dict[str, list[float]] = {"boundary": [], "inside": [], "background": []}
    for alpha_DT, segments in zip(layer.alpha.double().numpy(), truth, strict=True):
        spans = 8 * segments.spans.numpy()
        of = [next((i for i, (start, end) in enumerate(spans) if start <= t < end), None) for t in range(32)]
        for t in range(31):
            place = "boundary" if of[t] != of[t + 1] else "background" if of[t] is None else "inside"
            found[place].append(float(np.abs(alpha_DT[:, t + 1] - alpha_DT[:, t]).mean()))
    assert export.changes is not None
    for line in export.changes[export.changes["layer"] == layer.site.conv].to_dict("records"):
        assert line["num_pairs"] == len(found[line["place"]])
        if found[line["place"]]:
            assert line["change"] == pytest.approx(np.mean(found[line["place"]]), rel=1e-3)
            assert line["low"] <= line["change"] <= line["high"]


def test_segments_are_those_of_the_clips_in_frames(export: CalibrationExport, tmp_path: Path) -> None:
    assert export.segments is not None
    truth = open_source(REGIME.data, torch.device("cpu")).val_truth()
    for clip in export.clips.to_dict("records"):
        lines = export.segments[export.segments["clip"] == clip["clip"]]
        true, detected = lines[lines["kind"] == "true"], lines[lines["kind"] == "detected"]
        assert np.allclose(true[["start", "end"]], 8 * truth[clip["index"]].spans)
        assert len(detected) <= 2 * len(true)
        assert detected["score"].is_monotonic_decreasing
    write_files(files_of(export), tmp_path)
    (tmp_path / "report.json").write_text(export.manifest.model_dump_json())
    back = read_calibration(tmp_path)
    assert back.manifest == export.manifest
    assert page.segments(back).html == page.segments(export).html
    drawing, changes = figures.alpha_and_segments(back), figures.alpha_changes(back)
    assert drawing is not None
    assert changes is not None
    assert all(name in drawing.alt for name in export.segments["class"])
    assert "From a frame to the next it changes by" in " ".join(text.findings(back))
    assert "validation mAP 50.0 %" in text.about(back.manifest)


def test_features_on_a_disk_have_no_calibration(tmp_path: Path) -> None:
    regime = REGIME.but(data=Features(num_steps=4, resize=True, num_channels=2))
    record = CellRecord(LOADED.table.row("none").cell(regime, 0), "missing")
    with pytest.raises(UserError, match="no calibration to inspect") as raised:
        inspect_cell(LOADED, "quick", record, tmp_path, 2)
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="features on a disk are made already"):
        preview.scale_of(regime)


def test_a_check_scores_the_truth_and_compares_features(monkeypatch: pytest.MonkeyPatch) -> None:
    found = preview.check(LOADED, REGIME)
    assert found.truth_score == pytest.approx(100, abs=1e-9)
    assert [row.start for row in found.rows] == ["exact", "by design"]
    assert found.ok
    monkeypatch.setattr(start_check, "_truth_score", lambda _: 99.0)
    assert not preview.check(LOADED, REGIME).ok
    assert preview.check(LOADED, load_regime("quick")).truth_score is None


@pytest.mark.parametrize("temporal", [RANDOM, Rival(name="tam")])
def test_a_network_that_localizes_costs_what_it_is_made_of(temporal: TAda | Rival) -> None:
    network = build_model(REGIME.experiment(temporal, seed=0), [3])
    assert preview.NetworkCosts().of(preview.scale_of(REGIME), temporal) == count(network, (3, 32, 16, 16))


def test_the_sampling_of_boundary_matching_is_counted() -> None:
    layer = BoundaryMatching(3, 5, num_steps=6, max_duration=4, num_samples=2)
    entries = layer.get_buffer("matrix_columns").numel()
    assert count(layer, (3, 6)).macs_by_kind["linear"] == 6 * 3 * 2 * 5 + entries * 5
