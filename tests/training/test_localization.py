"""Localization in the training loop: windows, suppression, scores, and cells that are run again and resumed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tadaconv.data import open_source
from tadaconv.data.segments import Detections, Segments
from tadaconv.data.source import SegmentSource
from tadaconv.data.untrimmed import UntrimmedClips
from tadaconv.errors import RunError
from tadaconv.experiment import build_model, run
from tadaconv.measure.detection import Instances, Predictions, in_columns, soft_nms
from tadaconv.models.localizing import LocalizingNetwork
from tadaconv.result import Progress, Result
from tadaconv.spec import (
    BMN,
    Aggregation,
    Backbone,
    Experiment,
    Localization,
    Point,
    Rival,
    Schedule,
    Suppression,
    TAda,
    Untrimmed,
)
from tadaconv.training.localization import by_video, evaluate_localization, summarise, suppress

CPU = torch.device("cpu")
TINY = Experiment(
    backbone=Backbone(name="tiny"),
    temporal=TAda(aggregation=Aggregation(kind="none")),
    data=Untrimmed(num_frames=32, size=16, window=8, num_train=6, num_val=4),
    schedule=Schedule(optimizer="adamw", epochs=2, batch_size=3, lr=1e-3),
    localization=Localization(localizer=Point(width=8, levels=2)),
)
BY_BMN = TINY.but(localization__localizer=BMN(widths=(8, 8, 8), num_samples=4))


class Windows(SegmentSource):
    """Two videos: the first in three windows, the second in one. A step is half a second, and two seconds."""

    num_views, num_train = 1, 0
    unit, duration_edges = "seconds", (2.0,)

    def __init__(self) -> None:
        self.class_names, self.families = ("a", "b"), {}
        self.num_val, self.num_videos = 4, 2
        self.window_videos, self.window_starts = torch.tensor([0, 0, 0, 1]), torch.tensor([0.0, 4.0, 8.0, 0.0])
        self.window_lengths, self.video_lengths = torch.tensor([8, 8, 8, 5]), torch.tensor([16, 5])
        self.step_lengths = torch.tensor([0.5, 2.0], dtype=torch.float64)
        self.truth = [
            Segments(torch.tensor([[1.0, 3.0], [5.0, 7.0], [9.0, 16.0]]), torch.tensor([[0], [1], [0]])),
            Segments(torch.tensor([[0.0, 2.0]]), torch.tensor([[1]])),
        ]

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def val_batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def val_truth(self) -> list[Segments]:
        return self.truth


def detections(*rows: tuple[float, float, float, int]) -> Detections:
    table = torch.tensor(rows, dtype=torch.float32).view(-1, 4)
    return Detections(table[:, :2], table[:, 2], table[:, 3:].long())


def test_windows_of_a_video_are_pooled_where_they_lie() -> None:
    windows = [
        detections((1, 3, 0.9, 0), (5, 7, 0.5, 1)),
        detections((1, 3, 0.8, 1)),  # the same segment as the second above, seen from step 4
        detections((1, 8, 0.7, 0)),
        detections((0, 2, 0.6, 1)),
    ]
    found = by_video(torch.arange(4), windows, Windows(), Suppression(sigma=1e-9))
    rows = zip(found.videos.tolist(), *found.spans.T.tolist(), found.labels[:, 0].tolist(), strict=True)
    assert sorted(rows) == [(0, 1, 3, 0), (0, 5, 7, 1), (0, 5, 7, 1), (0, 9, 16, 0), (1, 0, 2, 1)]
    assert sorted(found.scores.round(6).tolist()) == [0.0, 0.6, 0.7, 0.8, 0.9]  # the worse of two is suppressed


def test_the_truth_as_detections_scores_100_and_durations_are_in_units() -> None:
    source = Windows()
    spans, labels = [one.spans for one in source.truth], [one.labels for one in source.truth]
    columns = in_columns(spans, labels)
    evaluation = summarise(
        Instances(*columns), Predictions(*columns, scores=np.ones(4)), source, Localization(tious=(0.5, 0.9)), 1.0
    )
    scores = evaluation.detection
    assert evaluation.score == 100
    assert scores.by_class == {"a": [100, 100], "b": [100, 100]}
    assert scores.interval == (100, 100)
    assert scores.num_segments == 4
    assert (evaluation.num_val, scores.unit) == (2, "seconds")
    # of 1, 1, 3.5 and 4 seconds
    assert [(bin_.shortest, bin_.longest, bin_.num_segments) for bin_ in scores.by_duration] == [
        (0.0, 2.0, 2),
        (2.0, None, 2),
    ]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_segments_suppress_each_other_whatever_their_classes(seed: int, num_spans: int, most: int) -> None:
    """As soft-NMS of the segments alone, by the best class of each; the other classes keep their share of it."""
    rng = np.random.default_rng(seed)
    starts = rng.uniform(0, 10, num_spans).round(2)
    spans = np.stack([starts, starts + rng.uniform(0.1, 5, num_spans).round(2)], 1)
    assume(len(np.unique(spans, axis=0)) == num_spans)  # the same segment twice is one
    of_class = rng.uniform(0.01, 1, (num_spans, 3))
    rows, labels = np.repeat(spans, 3, 0), np.tile(np.arange(3), num_spans)[:, None]
    order = rng.permutation(3 * num_spans)
    settings_ = Suppression(sigma=0.4, exponent=2.5, low=0.1, high=0.6, by_class=False, most=most)
    kept = suppress(rows[order], of_class.reshape(-1)[order], labels[order], settings_, 20.0)
    plain = soft_nms(spans, of_class.max(1), 0.4, exponent=2.5, low=0.1, high=0.6, duration=20.0)
    factor = dict(zip(plain.indices.tolist(), (plain.scores / of_class.max(1)[plain.indices]).tolist(), strict=True))
    expected = sorted((of_class[i, c] * factor[i] for i in range(num_spans) for c in range(3)), reverse=True)[:most]
    assert kept.scores.tolist() == pytest.approx(expected, rel=1e-12)
    chosen = order[kept.indices]
    again = [of_class[k // 3, k % 3] * factor[k // 3] for k in chosen]
    assert kept.scores.tolist() == pytest.approx(again, rel=1e-12)


def test_a_step_is_the_mean_of_the_features_of_its_frames() -> None:
    model = build_model(TINY, 3).eval()
    assert isinstance(model, LocalizingNetwork)
    assert model.backbone is not None
    clips = torch.randn(2, 3, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    features = model.backbone(clips)
    by_frame = model.backbone.host.features(clips)
    for window in range(4):
        expected = by_frame[:, :, 8 * window : 8 * window + 8].mean(2)
        torch.testing.assert_close(features[:, :, window], expected)
    for site in model.sites():
        for name in (site.conv, site.norm, site.entry):
            model.get_submodule(name)


def test_rows_of_a_seed_share_backbone_and_localizer() -> None:
    plain = build_model(TINY.but(temporal=None), 3).state_dict()
    for temporal in (TAda(), Rival(name="tam")):
        state = build_model(TINY.but(temporal=temporal), 3).state_dict()
        shared = plain.keys() & state.keys()
        assert {name for name in plain if name.startswith("localizer.")} <= shared
        assert all(torch.equal(plain[name], state[name]) for name in shared)
    other = build_model(TINY.but(temporal=None, seed=1), 3).state_dict()
    assert not torch.equal(plain["localizer.layers.0.conv.weight"], other["localizer.layers.0.conv.weight"])


MEASURED = {"seconds", "train_clips_per_second", "eval_clips_per_second", "peak_memory_bytes"}


@pytest.mark.parametrize("experiment", [TINY, BY_BMN], ids=["point", "bmn"])
def test_a_cell_gives_the_same_numbers_again_and_resumed(experiment: Experiment, tmp_path: Path) -> None:
    whole = run(experiment, "cpu")
    assert whole.metric == "map"
    assert whole.detection is not None
    assert whole.score == pytest.approx(np.mean(whole.detection.by_tiou))
    assert whole.num_val == 4
    assert Result.model_validate_json(whole.model_dump_json()) == whole
    assert {point.metric for point in whole.curve} == {"map"}
    assert [point.calibration.keys() for point in whole.curve] == [{"res2", "res3", "res4", "res5"}] * 2

    class StoppedError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.step == 3:  # of the second epoch
            raise StoppedError

    checkpoint = tmp_path / "cell.pt"
    with pytest.raises(StoppedError):
        run(experiment, "cpu", stop, checkpoint)
    assert checkpoint.exists()  # of the end of the first
    resumed = run(experiment, "cpu", None, checkpoint)
    assert resumed.model_dump(exclude=MEASURED) == whole.model_dump(exclude=MEASURED)
    assert (tmp_path / "cell.weights").exists() or any(tmp_path.glob("*.weights"))
    assert not list(tmp_path.glob("*.scores.npz"))


def test_evaluation_changes_nothing_and_needs_a_finite_loss() -> None:
    source = open_source(TINY.data, CPU)
    assert isinstance(source, UntrimmedClips)
    model = build_model(BY_BMN, 3).train()
    assert isinstance(model, LocalizingNetwork)
    localization = BY_BMN.localization
    assert localization is not None
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    first = evaluate_localization(model, model.localizer, localization, source, 3, CPU)
    again = evaluate_localization(model, model.localizer, localization, source, 3, CPU)
    assert (first.score, first.loss) == (again.score, again.loss)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    part = evaluate_localization(model, model.localizer, localization, source, 3, CPU, clips=torch.tensor([2, 3]))
    assert part.detection.num_segments == sum(len(one) for one in source.val_truth()[2:])
    with torch.no_grad():
        next(model.localizer.parameters()).fill_(float("nan"))
    with pytest.raises(RunError, match="validation loss is nan"):
        evaluate_localization(model, model.localizer, localization, source, 3, CPU)
