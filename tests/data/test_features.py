"""Features on a disk: their times, the checks before anything trains, and windows, against loops over frames."""

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadaconv.data import feature_check
from tadaconv.data.feature_check import resolve, survey, timing_fault
from tadaconv.data.feature_files import (
    MANIFEST,
    SUFFIXES,
    FeatureManifest,
    read_features,
    write_features,
    write_manifest,
)
from tadaconv.data.feature_sample import FEATURE_SAMPLES, write_feature_sample
from tadaconv.data.features import FeatureVideos
from tadaconv.data.steps import Window, grid_of, num_steps_of, windows_of
from tadaconv.data.timed_annotations import TimedVideo
from tadaconv.errors import UserError
from tadaconv.spec import Features, without_places

CPU = torch.device("cpu")
HACS = Features(folder="tada2d", fps=15, stride=8, offset=16, num_steps=48)
EPIC = Features(folder="tada2d", fps=30, stride=16, offset=16, num_steps=48, subsets=("train", "validation"))
SAMPLES = {"hacs_features": HACS, "epic_features": EPIC}


@pytest.fixture(autouse=True)
def _few_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tadaconv.data.feature_sample.NUM_TRAIN", 6)
    monkeypatch.setattr("tadaconv.data.feature_sample.NUM_VAL", 3)


@pytest.fixture
def hacs(tmp_path: Path) -> Path:
    """A made set whose times no manifest gives."""
    write_feature_sample("hacs_features", tmp_path / "hacs")
    (tmp_path / "hacs" / "tada2d" / MANIFEST).unlink()
    return tmp_path / "hacs"


def problems(root: Path, data: Features = HACS, cache: Path | None = None) -> list[str]:
    return [problem.reason for problem in survey(data.but(root=str(root)), cache).problems]


def some_feature(root: Path) -> Path:
    return sorted((root / "tada2d").glob("*.npy"))[0]


# --- times

times = st.builds(
    dict,
    fps=st.sampled_from([3.75, 15.0, 29.97, 60.0]),
    stride=st.integers(1, 40),
    offset=st.integers(0, 128).map(lambda halves: halves / 2),
    features_per_step=st.integers(1, 5),
)


@given(times, st.integers(0, 4000))
def test_a_frame_is_within_half_a_step_of_the_step_that_it_is_nearest_to(
    given_times: dict[str, Any], frame: int
) -> None:
    data = Features(num_steps=8, **given_times)
    grid = grid_of(data, None)
    seconds = frame / data.fps  # type: ignore[operator]
    step = round(grid.steps(seconds) - 0.5)  # the step whose middle is nearest
    assert abs(grid.seconds(step + 0.5) - seconds) <= grid.step / 2 + 1e-9
    assert grid.seconds(grid.steps(seconds)) == pytest.approx(seconds, abs=1e-9)
    # by definition: the mean of the centres of the features of a step
    centres = [(data.offset + i * data.stride) / data.fps for i in range(200)]  # type: ignore[operator]
    k = data.features_per_step
    for number in range(200 // k):
        assert grid.seconds(number + 0.5) == pytest.approx(np.mean(centres[number * k : number * k + k]))


@given(st.integers(1, 300), st.floats(1.0, 500.0))
def test_resized_steps_divide_the_duration(num_steps: int, duration: float) -> None:
    grid = grid_of(Features(num_steps=num_steps, resize=True), duration)
    assert (grid.seconds(0.0), grid.seconds(float(num_steps))) == (pytest.approx(0, abs=1e-6), pytest.approx(duration))


# --- what durations say of offsets

KNOWN = {  # fps, window, stride
    "HACS, SlowFast": (15, 32, 8), "EPIC, SlowFast": (30, 32, 16), "THUMOS, I3D": (30, 16, 4), "long": (25, 64, 8),
}  # fmt: skip


def counted(frames: list[int], window: int, stride: int, padded: bool) -> np.ndarray:
    """Features of each video, by trying every one: windows within it, or one for every stride that it begins."""
    return np.array(
        [
            sum(1 for i in range(n) if (i * stride < n if padded else i * stride + window <= n))
            for n in frames
        ],
        dtype=np.float64,
    )  # fmt: skip


many_frames = st.lists(st.integers(200, 3000), min_size=12, max_size=30)


@settings(max_examples=30, deadline=None)
@given(many_frames, st.sampled_from(sorted(KNOWN)))
def test_an_offset_off_by_half_a_window_is_noticed_and_named(frames: list[int], name: str) -> None:
    fps, window, stride = KNOWN[name]
    seconds = np.array(frames) / fps
    inside, padded = (counted(frames, window, stride, way) for way in (False, True))
    assert timing_fault(inside, seconds, fps, stride, window / 2) == ""
    wrong = timing_fault(inside, seconds, fps, stride, 0)
    assert "offset 0 is half a window off" in wrong
    tried = float(wrong.rpartition("try offset ")[2])
    assert abs(tried - window / 2) <= stride / 2
    assert timing_fault(inside, seconds, fps, stride, tried) == ""
    assert timing_fault(padded, seconds, fps, stride, 0) == ""
    assert timing_fault(padded, seconds, fps, stride, stride / 2) == ""
    wrong = timing_fault(padded, seconds, fps, stride, window / 2)
    assert f"offset {window / 2:g} is half a window off: try offset 0, or {stride / 2:g}" in wrong


def test_the_offset_that_is_tried_is_the_right_one_for_the_known_sets() -> None:
    frames = [200 + 37 * number for number in range(64)]
    for fps, window, stride in KNOWN.values():
        counts = counted(frames, window, stride, padded=False)
        assert timing_fault(counts, np.array(frames) / fps, fps, stride, 0).endswith(f"try offset {window / 2:g}")
        assert timing_fault(counts, np.array(frames) / fps, fps, stride, window).endswith(f"try offset {window / 2:g}")


@pytest.mark.parametrize("wrong", [{"fps": 30.0}, {"stride": 16.0}, {"stride": 4.0}])
def test_a_wrong_rate_is_told_from_a_wrong_offset(wrong: dict[str, float]) -> None:
    frames = [400 + 61 * number for number in range(30)]
    counts = counted(frames, 32, 8, padded=False)
    given_times = {"fps": 15.0, "stride": 8.0, **wrong}
    fault = timing_fault(counts, np.array(frames) / 15, offset=16, **given_times)
    assert "features a second" in fault
    assert "try offset" not in fault
    fitting = float(fault.rpartition("stride ")[2].partition(" ")[0])
    assert fitting == pytest.approx(8 * given_times["fps"] / 15, rel=0.05)


# --- windows


@given(st.integers(1, 300), st.integers(1, 60), st.integers(0, 60))
def test_windows_cover_a_video_to_its_end(length: int, size: int, stride: int) -> None:
    data = Features(num_steps=size, window_stride=min(stride, size), resize=True)
    windows = windows_of(data, "v", length)
    assert {step for w in windows for step in range(w.start, w.start + w.length)} == set(range(length))
    starts = [w.start for w in windows]
    assert starts == sorted(set(starts))
    assert all(w.length == min(size, length) for w in windows)
    if stride and len(starts) > 2:
        assert set(np.diff(starts[:-1])) == {min(stride, size)}


@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)).map(sorted), max_size=8),
    st.integers(0, 30),
    st.integers(1, 30),
)
def test_a_window_holds_the_segments_that_are_whole_in_it(spans: list[list[float]], start: int, length: int) -> None:
    held = Window("v", start, length).holds(np.array(spans, dtype=np.float64).reshape(-1, 2))
    whole = [
        i for i, (a, b) in enumerate(spans) if start <= a and b <= start + length and np.float32(a) < np.float32(b)
    ]
    assert set(whole) <= set(held.tolist())
    for i in held:
        a, b = spans[i]
        assert min(b, start + length) - max(a, start) >= 0.998 * (b - a)


# --- trees in every format


@pytest.mark.parametrize("name", SAMPLES)
def test_features_are_the_same_in_every_format(name: str, tmp_path: Path) -> None:
    found = {}
    for suffix in SUFFIXES:
        write_feature_sample(name, tmp_path / suffix, suffix[1:])
        data = resolve(SAMPLES[name], tmp_path / suffix, tmp_path / "cache")
        videos = FeatureVideos(data, CPU)
        found[suffix] = (data.fingerprint, videos.train_batch(torch.arange(4), 0, 0), videos)
    assert len({fingerprint for fingerprint, _, _ in found.values()}) == 1
    (features, lengths), truth = found[".npy"][1]
    for (other_features, other_lengths), other_truth in (batch for _, batch, _ in found.values()):
        assert torch.equal(features, other_features)
        assert torch.equal(lengths, other_lengths)
        assert all(torch.equal(a.spans, b.spans) for a, b in zip(truth, other_truth, strict=True))


@pytest.mark.parametrize("name", SAMPLES)
def test_what_a_window_says_is_what_the_files_say(name: str, tmp_path: Path) -> None:
    """Against a loop over features by their centres in seconds, and over all segments."""
    write_feature_sample(name, tmp_path)
    sample = FEATURE_SAMPLES[name]
    videos = FeatureVideos(resolve(SAMPLES[name], tmp_path, tmp_path / "cache"), CPU)
    (features, lengths), truth = videos.val_batch(torch.arange(videos.num_val))
    assert features.shape == (videos.num_val, 16, 48)
    labelled = 0
    for number, window in enumerate(videos.val_windows):
        stored = read_features(tmp_path / "tada2d" / f"{window.video}.npy")
        of_window = features[number].T.numpy()
        assert lengths[number] == window.length
        assert not of_window[window.length :].any()
        np.testing.assert_array_equal(of_window[: window.length], stored[window.start : window.start + window.length])
        spans = truth[number].spans
        back = videos.seconds(window.video, spans + window.start)
        of_video = videos.videos[window.video]
        for seconds, labels in zip(back.tolist(), truth[number].labels.tolist(), strict=True):
            nearest = int(np.abs(of_video.spans - seconds).sum(1).argmin())
            assert of_video.labels[nearest].tolist() == labels
            assert np.abs(of_video.spans[nearest] - seconds).max() < 0.01
            labelled += 1
        centres = (sample.window / 2 + sample.stride * (window.start + np.arange(window.length))) / sample.fps
        for (begin, end), _ in zip(spans.tolist(), range(99), strict=False):
            middle = (begin + end) / 2  # the feature in the middle of a segment lies in the segment
            at = centres[min(int(middle), window.length - 1)]
            assert (of_video.spans[:, 0] <= at).any()
    assert labelled > 8
    assert videos.num_train > 0
    assert len(videos.class_names) == 3 * sample.num_heads


def test_truth_is_not_cut_where_features_end(hacs: Path, tmp_path: Path) -> None:
    """So that overlaps, and the scores that follow from them, are those in seconds."""
    _annotate(lambda videos: [v["annotations"].append({"segment": [0, float(v["duration"])], "label": "Ballet"})
                              for v in videos.values()])(hacs)  # fmt: skip
    videos = FeatureVideos(resolve(HACS.but(num_steps=200), hacs, tmp_path), CPU)
    for (name, video), truth in zip(videos.videos.items(), videos.val_truth(), strict=True):
        assert truth.spans[-1, 0] < 0
        assert truth.spans[-1, 1] > videos.lengths[name]
        seconds = 16 / 15 + (truth.spans.double() - 0.5) * 8 / 15
        np.testing.assert_allclose(seconds, video.spans, atol=1e-4)
        assert truth.labels.tolist() == video.labels.tolist()


def test_every_segment_is_trained_on_in_the_windows_that_hold_it(hacs: Path, tmp_path: Path) -> None:
    videos = FeatureVideos(resolve(HACS, hacs, tmp_path), CPU)
    _, truth = videos.train_batch(torch.arange(videos.num_train), 0, 0)
    assert all(len(segments) for segments in truth)
    expected = 0
    database = json.loads((hacs / "HACS_segments.json").read_text())["database"]
    for name, video in database.items():
        if video["subset"] != "training":
            continue
        length = len(np.load(hacs / "tada2d" / f"{name}.npy"))
        for window in windows_of(HACS, name, length):
            for annotation in video["annotations"]:
                begin, end = ((second * 15 - 16) / 8 + 0.5 for second in annotation["segment"])
                begin, end = max(begin, 0), min(end, length)
                expected += window.start <= begin and end <= window.start + window.length
    assert sum(map(len, truth)) == expected


def test_steps_of_several_features_are_their_means(hacs: Path, tmp_path: Path) -> None:
    videos = FeatureVideos(resolve(HACS.but(features_per_step=3, num_steps=64), hacs, tmp_path), CPU)
    (features, lengths), _ = videos.val_batch(torch.arange(videos.num_val))
    partial = 0
    for number, window in enumerate(videos.val_windows):
        stored = np.load(hacs / "tada2d" / f"{window.video}.npy")
        means = np.stack([stored[i : i + 3].mean(0) for i in range(0, len(stored), 3)])
        partial += len(stored) % 3 > 0
        assert lengths[number] == len(means) == num_steps_of(videos._data, len(stored))
        np.testing.assert_allclose(features[number, :, : len(means)].T, means, rtol=1e-5, atol=1e-6)
    assert partial > 0


def test_resized_features_are_interpolated_between_their_centres(hacs: Path, tmp_path: Path) -> None:
    data = Features(folder="tada2d", resize=True, num_steps=20)
    videos = FeatureVideos(resolve(data, hacs, tmp_path), CPU)
    (features, lengths), truth = videos.val_batch(torch.arange(videos.num_val))
    assert lengths.tolist() == [20] * videos.num_val == [20] * len(videos.videos)
    for number, window in enumerate(videos.val_windows):
        stored = np.load(hacs / "tada2d" / f"{window.video}.npy")
        at = (np.arange(20) + 0.5) / 20 * len(stored) - 0.5
        expected = [np.interp(at, np.arange(len(stored)), channel) for channel in stored.T]
        np.testing.assert_allclose(features[number], expected, rtol=1e-4, atol=1e-5)
        video = videos.videos[window.video]
        assert video.duration is not None
        np.testing.assert_allclose(truth[number].spans, video.spans / video.duration * 20, rtol=1e-4)


def test_features_that_do_not_fit_into_memory_are_read_as_they_are_used(
    hacs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = resolve(HACS, hacs, tmp_path)
    kept = FeatureVideos(data, CPU)
    monkeypatch.setattr("tadaconv.data.features.total_bytes", lambda: 100)
    read = FeatureVideos(data, CPU)
    assert (kept._is_kept, read._is_kept) == (True, False)
    indices = torch.tensor([3, 0])
    assert torch.equal(kept.train_batch(indices, 0, 0)[0][0], read.train_batch(indices, 4, 2)[0][0])


# --- what is known of a set


def test_files_are_read_once(hacs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = resolve(HACS, hacs, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(feature_check, "read_features", lambda path: pytest.fail(f"{path} is read again"))
        assert survey(data).data == data
        assert resolve(HACS, hacs, tmp_path) == data
    np.save(some_feature(hacs), 2 * np.load(some_feature(hacs)))
    assert resolve(HACS, hacs, tmp_path).fingerprint != data.fingerprint
    with pytest.raises(UserError, match="have changed since they were checked"):
        FeatureVideos(data, CPU)


def test_a_key_has_no_paths_and_follows_features_and_annotations(hacs: Path, tmp_path: Path) -> None:
    data = resolve(HACS, hacs, tmp_path)
    hacs.rename(tmp_path / "moved")
    moved = resolve(HACS, tmp_path / "moved", tmp_path / "elsewhere")
    described = without_places(data.model_dump(mode="json"))
    assert described == without_places(moved.model_dump(mode="json"))
    assert not any(str(tmp_path) in str(value) for value in described.values())
    file = tmp_path / "moved" / "HACS_segments.json"
    content = json.loads(file.read_text())
    next(iter(content["database"].values()))["annotations"][0]["segment"][0] += 0.5
    file.write_text(json.dumps(content))
    assert resolve(HACS, tmp_path / "moved", tmp_path).fingerprint != data.fingerprint
    assert HACS.as_found([data]) == data
    assert HACS.but(offset=15.0).as_found([data]).offset == 15


def manifest(**changes: Any) -> FeatureManifest:
    values = {
        "model": "tiny", "cell": "", "weights_fingerprint": "", "backbone": "tiny", "temporal": None,
        "num_channels": 16, "fps": 15, "window": 32, "stride": 8, "offset": 16, "padded": False, "size": 32,
        "tadaconv": "0",
    }  # fmt: skip
    return FeatureManifest.model_validate({**values, **changes})


def test_times_come_from_the_manifest_and_are_compared_with_it(hacs: Path, tmp_path: Path) -> None:
    untimed = HACS.but(fps=None, stride=None, offset=None)
    with pytest.raises(UserError, match=r"give fps, stride and offset, the centre of the first feature"):
        survey(untimed.but(root=str(hacs)))
    write_manifest(hacs / "tada2d", manifest())
    assert resolve(untimed, hacs, tmp_path) == resolve(HACS, hacs, tmp_path)
    assert "offset 16, not 12" in problems(hacs, HACS.but(offset=12))[0]
    write_manifest(hacs / "tada2d", manifest(num_channels=4))
    assert "4 channels, and they have 16" in problems(hacs)[0]
    (hacs / "tada2d" / MANIFEST).write_text('{"fps": 15}')
    with pytest.raises(UserError, match="is no manifest of features"):
        problems(hacs)


# --- bad input: a line each, which says how to mend it


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"offset": None}, "offset is the centre of the first feature"),
        ({"fps": None, "stride": None}, "without fps, stride: give all three"),
        ({"resize": True}, "leave out fps, stride, offset"),
        ({"window_stride": 49}, "leaves gaps between windows"),
    ],
)
def test_descriptions_that_leave_times_open_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        HACS.but(**changes)


Spoil = Callable[[Path], object]


def _write(shape: tuple[int, ...], value: float = 1.0, dtype: str = "float32") -> Spoil:
    return lambda root: np.save(some_feature(root), np.full(shape, value, dtype))


def _pickle(root: Path) -> None:
    file = some_feature(root)
    file.with_suffix(".pkl").write_bytes(pickle.dumps(np.load(file)))
    file.unlink()


def _annotate(change: Callable[[dict[str, Any]], object]) -> Spoil:
    def spoil(root: Path) -> None:
        content = json.loads((root / "HACS_segments.json").read_text())
        change(content["database"])
        (root / "HACS_segments.json").write_text(json.dumps(content))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda root: some_feature(root).unlink(), "1 of 6 videos of training have no features .*; extract them"),
        (_pickle, "pickles, which are not opened as that can run code.*python -c"),
        (lambda root: np.savez(some_feature(root).with_suffix(".npz"), feats=np.ones((2, 2))), "with several files"),
        (_write((80, 16), math.nan), "not finite"),
        (_write((80, 16), 1e300, "float64"), "not finite"),
        (_write((80,)), r"has shape \(80,\), where \(T, C\) is expected"),
        (_write((80, 16), 1, "complex64"), "holds complex64, not real numbers"),
        (_write((80, 8)), r"another number of channels than 16: 1 \(.* \(8\)\)"),
        (_write((9, 16)), r"other length than duration, fps and stride say: 1 \(.* \(9 for about \d+\)\)"),
        (lambda root: some_feature(root).write_bytes(b"\x93NUMPY broken"), "is damaged or no .npy file"),
        (lambda root: np.save(some_feature(root), np.array([{}], object), allow_pickle=True), "holds Python objects"),
        (_annotate(lambda videos: [video["annotations"].clear() for video in videos.values()]), "no annotated segment"),
    ],
)  # fmt: skip
def test_a_spoiled_set_is_refused_in_a_line(spoil: Spoil, complaint: str, hacs: Path, tmp_path: Path) -> None:
    resolve(HACS, hacs, tmp_path)
    spoil(hacs)
    with pytest.raises(UserError, match=complaint) as refusal:
        resolve(HACS, hacs, tmp_path)
    assert "\n" not in str(refusal.value)


def test_an_offset_off_by_half_a_window_is_a_problem_of_a_set(hacs: Path) -> None:
    assert problems(hacs) == []
    (line,) = problems(hacs, HACS.but(offset=0))
    assert "offset 0 is half a window off: try offset 16" in line


def test_other_names_other_subsets_and_other_folders_are_named(hacs: Path) -> None:
    with pytest.raises(UserError, match="unknown subset 'train'; one of: training, validation"):
        problems(hacs, HACS.but(subsets=("train", "validation")))
    with pytest.raises(UserError, match="no folder at"):
        problems(hacs, HACS.but(folder="i3d"))
    for file in (hacs / "tada2d").glob("*.npy"):
        file.rename(file.with_name(f"video-{file.name}"))
    assert all("looked for" in line and "among video-" in line for line in problems(hacs))
    (hacs / "HACS_segments.json").rename(hacs / "HACS.txt")
    with pytest.raises(UserError, match="there are none; name them with annotations"):
        problems(hacs)


def test_files_may_be_called_with_the_v_of_activitynet(hacs: Path, tmp_path: Path) -> None:
    before = resolve(HACS, hacs, tmp_path / "cache").fingerprint
    for file in (hacs / "tada2d").glob("*.npy"):
        file.rename(file.with_name(f"v_{file.name}"))
    assert resolve(HACS, hacs, tmp_path / "cache").fingerprint == before


def test_missing_videos_are_left_out_where_that_is_asked_for(hacs: Path, tmp_path: Path) -> None:
    whole = resolve(HACS, hacs, tmp_path)
    some_feature(hacs).unlink()
    data = resolve(HACS.but(missing="leave_out"), hacs, tmp_path)
    assert (data.num_listed, data.num_missing) == ((6, 3), (1, 0))
    assert data.fingerprint != whole.fingerprint
    assert FeatureVideos(data, CPU).num_train < FeatureVideos(resolve_whole(hacs, whole), CPU).num_train


def resolve_whole(hacs: Path, whole: Features) -> Features:
    """The set with the file that was taken away, made again."""
    name = next(iter(json.loads((hacs / "HACS_segments.json").read_text())["database"]))
    assert not (hacs / "tada2d" / f"{name}.npy").exists()
    write_feature_sample("hacs_features", hacs / "again")
    (hacs / "again" / "tada2d" / f"{name}.npy").rename(hacs / "tada2d" / f"{name}.npy")
    return resolve(HACS, hacs, Path(whole.index).parent)


def test_warnings_are_no_problems(hacs: Path) -> None:
    np.save(hacs / "tada2d" / "stranger.npy", np.ones((10, 16), np.float32))
    _annotate(lambda videos: next(iter(videos.values())).pop("duration"))(hacs)
    found = survey(HACS.but(root=str(hacs), num_steps=12))
    assert not found.problems
    said = " ".join(warning.reason for warning in found.warnings)
    for part in ("neither subset has: 1 (stranger)", "without a duration: 1", "are whole in no window of 12 steps"):
        assert part in said
    (line,) = problems(hacs, Features(folder="tada2d", resize=True, num_steps=8))
    assert "which resize needs" in line


def test_warnings_are_logged_once_in_a_line(hacs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    resolve(HACS, hacs, tmp_path)
    assert not caplog.messages
    FeatureVideos(resolve(HACS.but(num_steps=12), hacs, tmp_path), CPU)
    (line,) = caplog.messages
    assert line.startswith(f"features in {hacs / 'tada2d'}: ")
    assert "whole in no window of 12 steps" in line


def test_a_class_that_training_lacks_is_said(tmp_path: Path) -> None:
    write_feature_sample("epic_features", tmp_path)
    file = tmp_path / "EPIC_100_train.csv"
    rows = [line.split(",") for line in file.read_text().splitlines()]
    file.write_text("\n".join(",".join([*row[:5], "0" if row[5] == "2" else row[5]]) for row in rows) + "\n")
    (warning,) = survey(EPIC.but(root=str(tmp_path))).warnings
    assert "classes of noun that validation has and train lacks: 1 (onion)" in warning.reason


def test_arrays_with_time_last_are_recognised(hacs: Path) -> None:
    for file in (hacs / "tada2d").glob("*.npy"):
        np.save(file, np.load(file).T)
    assert any("save (T, C) instead" in line for line in problems(hacs))


@pytest.mark.parametrize("name", ["feats", "anything"])
def test_npz_files_have_one_array_or_one_of_the_name(name: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", **{name: np.ones((3, 2))})
    assert read_features(tmp_path / "one.npz").shape == (3, 2)
    np.savez(tmp_path / "two.npz", a=np.ones(1), b=np.ones(1))
    with pytest.raises(UserError, match="has the arrays a, b"):
        read_features(tmp_path / "two.npz")


def test_tables_may_have_a_line_of_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("f0,f1\n1,2\n3,4\n")
    (tmp_path / "b.csv").write_text("1,2\n3,4\n")
    (tmp_path / "c.csv").write_text("1,2\n3\n")
    (tmp_path / "d.csv").write_text("")
    assert read_features(tmp_path / "a.csv").tolist() == read_features(tmp_path / "b.csv").tolist() == [[1, 2], [3, 4]]
    for name in ("c.csv", "d.csv"):
        with pytest.raises(UserError):
            read_features(tmp_path / name)


def test_a_file_of_torch_is_not_a_way_to_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save(Evil(), tmp_path / "evil.pt")
    with pytest.raises(UserError, match="holds more than a tensor"):
        read_features(tmp_path / "evil.pt")
    torch.save({"a": torch.ones(2)}, tmp_path / "dict.pt")
    with pytest.raises(UserError, match="holds a dict, not a tensor"):
        read_features(tmp_path / "dict.pt")
    assert not (tmp_path / "ran").exists()


def test_the_line_about_a_pickle_converts_it(tmp_path: Path) -> None:
    import subprocess
    import sys

    from tadaconv.data.feature_files import convert_pickle

    features = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    (tmp_path / "a b.pkl").write_bytes(pickle.dumps(features))
    code = convert_pickle(tmp_path / "a b.pkl").partition('-c "')[2].rstrip('"')
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(read_features(tmp_path / "a b.npy"), features)


def test_float16_is_read(tmp_path: Path) -> None:
    write_features(tmp_path / "half.npy", np.ones((3, 2), np.float16))
    assert read_features(tmp_path / "half.npy").dtype == np.float16


def test_a_video_without_segments_is_no_training_window() -> None:
    empty = TimedVideo(10.0, np.zeros((0, 2)), np.zeros((0, 1), np.int64))
    assert not len(empty)
    assert Window("v", 0, 5).holds(empty.spans).size == 0


def test_samples_refuse_other_formats_and_full_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown format of features 'pkl'"):
        write_feature_sample("hacs_features", tmp_path / "new", "pkl")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is not an empty folder"):
        write_feature_sample("hacs_features", tmp_path)
