"""``tada features``: features of a trained cell are written, read again and are what its network computes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support import Call, Done

from tadaconv.data.decode import decode_at
from tadaconv.data.feature_check import resolve
from tadaconv.data.feature_files import read_manifest
from tadaconv.data.features import FeatureVideos
from tadaconv.data.sample import DigitMedia, sample_clips
from tadaconv.data.transforms import Box, to_clip
from tadaconv.models import BACKBONES, Host, build
from tadaconv.spec import Backbone, Context, Features, TAda
from tadaconv.weights import fingerprint

pytest.importorskip("av", reason="videos are read by PyAV, the extra 'video'")

TABLE = '''"""Does the mini table run?"""
from tadaconv.spec import Context, TAda
from tadaconv.table import Row, Table

TABLE = Table(base=Row("(1,1)", TAda(context=Context(kernels=(1, 1)), init="random")), rows=[Row("TSN", None)])
'''
REGIME = """from tadaconv.regime import Regime
from tadaconv.spec import Backbone, Schedule, Synthetic

REGIME = Regime(
    summary="small", backbone=Backbone(name="tiny"), schedule=Schedule(epochs=1, batch_size=2, lr=0.01),
    data=Synthetic(num_frames=4, size=32, num_train=4, num_val=4),
)
"""
LOCALIZING = """from tadaconv.regime import Regime
from tadaconv.spec import Backbone, Localization, Point, Schedule, Untrimmed

REGIME = Regime(
    summary="small", backbone=Backbone(name="tiny"), schedule=Schedule(epochs=1, batch_size=2, lr=0.01),
    data=Untrimmed(num_frames=32, size=16, window=8, num_train=4, num_val=4),
    localization=Localization(localizer=Point(width=16, levels=2)),
)
"""
ON_FEATURES = LOCALIZING.replace("Untrimmed(num_frames=32, size=16, window=8, num_train=4, num_val=4)",
                                 "Features(num_steps=32)").replace("Untrimmed", "Features")  # fmt: skip
FEATURE_TABLE = '''"""Does a row on features run?"""
from tadaconv.table import Row, Table

TABLE = Table(base=Row("point", None, features="tada2d"), rows=[Row("noise", None, features="tsn")])
'''
TEMPORAL = TAda(context=Context(kernels=(1, 1)), init="random")
CELL = ("features", "./mini.py:(1,1)", "--regime", "./small.py", "--data", "videos")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a table, a regime and three videos of 4 to 8 seconds."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini.py").write_text(TABLE)
    (tmp_path / "small.py").write_text(REGIME)
    clips = sample_clips(1, 1)
    for number in range(3):
        DigitMedia().video(tmp_path / "videos" / f"v{number}.mp4", clips[number : 2 * number + 2], 12)
    return tmp_path


def annotate(place: Path) -> None:
    videos = {}
    for number in range(3):
        length = 2.0 * (number + 2)
        segments = [{"segment": [1.0, 2.5], "label": "rises"}, {"segment": [2.5, length], "label": "falls"}]
        subset = "training" if number else "validation"
        videos[f"v{number}"] = {"subset": subset, "duration": length, "annotations": segments}
    (place / "truth.json").write_text(json.dumps({"database": videos}))


def computed(network: Host, video: Path, seconds: float) -> np.ndarray:
    """Features at 6 frames a second in windows of 4 every 2, padded, window by window."""
    num_frames, features = round(seconds * 6), []
    for number in range(num_frames // 2):
        frames = [min(max(frame, 0), num_frames - 1) for frame in range(2 * number - 1, 2 * number + 3)]
        shown = decode_at(video, 32, [frame / 6 for frame in frames])
        clip_CTHW = to_clip(torch.from_numpy(shown), Box(0, (shown.shape[2] - 32) // 2, 32), 32)
        with torch.no_grad():
            features.append(network.features(clip_CTHW[None]).mean(2)[0].numpy())
    return np.stack(features)


def test_features_of_a_trained_cell_are_written_and_read_again(place: Path, tada: Call) -> None:
    assert tada("ablate", "./mini.py", "--regime", "./small.py").status == 0
    done = tada(*CELL, "--out", "features", "--fps", "6", "--stride", "2", "--device", "cpu")
    assert (done.status, done.out) == (0, "features: features of 3 videos; fps 6, stride 2, offset 1\n")
    manifest = read_manifest(place / "features")
    assert manifest is not None
    assert (manifest.temporal, manifest.backbone, manifest.window, manifest.size) == (TEMPORAL, "tiny", 4, 32)

    trained = torch.load(place / "runs" / "weights" / f"{manifest.cell}.pt", weights_only=True)
    network = build(Backbone(name="tiny"), TEMPORAL, 10).eval()
    network.load_state_dict(trained["model"])
    annotate(place)
    described = Features(folder="features", num_steps=40)  # times are the manifest's
    videos = FeatureVideos(resolve(described, place, place / "cache"), torch.device("cpu"))
    assert videos.lengths == {"v0": 12, "v1": 18, "v2": 24}
    (features, lengths), truth = videos.train_batch(torch.arange(2), 0, 0)
    for number, window in enumerate(videos.train_windows):
        path = place / "videos" / f"{window.video}.mp4"
        expected = computed(network, path, 4.0 + 2 * int(window.video[1:]))
        assert lengths[number] == len(expected)
        np.testing.assert_allclose(features[number, :, : len(expected)].T, expected, rtol=1e-4, atol=1e-5)
        seconds = videos.seconds(window.video, truth[number].spans)
        np.testing.assert_allclose(seconds, [[1.0, 2.5], [2.5, lengths[number] / 3]], rtol=1e-5)
    assert features.shape == (2, 64, 40)

    again = tada(*CELL, "--out", "features", "--fps", "6", "--stride", "3", "--device", "cpu")
    assert (again.status, "features of another origin" in again.err) == (2, True)


def test_a_backbone_has_its_weights_from_a_file(place: Path, tada: Call) -> None:
    torch.manual_seed(0)
    network = BACKBONES["tiny"](7, 0.0).eval()
    torch.save(network.state_dict(), "weights.pth")
    call = ("features", "tiny", "--data", "videos", "--out", "f", "--fps", "6", "--stride", "2", "--size", "32")
    done = tada(*call, "--weights", "weights.pth", "--window", "4", "--float16")
    assert done.status == 0
    written = np.load(place / "f" / "v0.npy")
    assert written.dtype == np.float16
    np.testing.assert_allclose(written, computed(network, place / "videos" / "v0.mp4", 4.0), rtol=2e-3, atol=1e-3)

    (place / "videos" / "broken.mp4").write_bytes(b"nothing")
    done = tada(*call, "--weights", "weights.pth", "--window", "4", "--float16")
    assert done.status == 1
    assert "features of 3 videos" in done.out
    assert "1 of 4 videos have no features: videos/broken.mp4: unreadable as a video" in done.err


TINY = ("features", "tiny", "--data", "videos", "--out", "f", "--fps", "6", "--stride", "2")
WRONG = {
    "no weights": ([*TINY, "--window", "4"], "'tiny' has no weights yet"),
    "no window": ([*TINY, "--weights", "w.pth"], "give --window"),
    "no such backbone": (["features", "tine", *TINY[2:], "--window", "4", "--weights", "timm:x"], "unknown backbone"),
    "a seed of a backbone": ([*TINY, "--seed", "1"], "--seed is for trained cells"),
    "weights of a cell": ([*CELL, *TINY[4:], "--weights", "w.pth"], "--weights is for backbones"),
    "no such row": (["features", "./mini.py:none", *TINY[2:]], "unknown row 'none'"),
    "no results": ([*CELL, *TINY[4:]], "no results at runs/journal.log"),
    "no videos": (["features", "tiny", "--data", ".", *TINY[4:], "--window", "4"], "have one name"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_refused_in_a_line(name: str, place: Path, tada: Call) -> None:
    arguments, complaint = WRONG[name]
    if name == "no videos":
        DigitMedia().video(place / "more" / "v0.mp4", sample_clips(1, 1)[:1], 4)
    done: Done = tada(*arguments)
    assert done.status == 2
    assert complaint in done.err
    assert done.err.count("\n") == 1
    assert not (place / "f").exists()


def test_a_network_without_features_by_frame_is_refused(place: Path, tada: Call) -> None:
    torch.save(BACKBONES["tiny_slow_only_8x8"](7, 0.0).state_dict(), "weights.pth")
    done = tada(
        "features", "tiny_slowfast_8x8", "--weights", "weights.pth", *TINY[2:], "--window", "32", "--size", "32"
    )
    assert (done.status, "gives no features by frame" in done.err) == (2, True)
    assert not (place / "f").exists()


def test_a_checkpoint_of_the_authors_is_known_by_its_file(
    place: Path, tada: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "k400.pyth").write_bytes(b"a checkpoint")
    torch.manual_seed(0)
    network = BACKBONES["tiny"](7, 0.0)
    opened: list[Path] = []
    monkeypatch.setattr("tadaconv.models.load_official", lambda path: opened.append(path) or network)
    call = ("features", "k400.pyth", *TINY[2:], "--window", "4", "--size", "32")
    assert tada(*call).status == 0
    manifest = read_manifest(place / "f")
    assert manifest is not None
    assert opened == [Path("k400.pyth")]
    assert (manifest.model, manifest.weights_fingerprint) == ("k400.pyth", fingerprint(place / "k400.pyth"))
    written = np.load(place / "f" / "v1.npy")
    np.testing.assert_allclose(written, computed(network, place / "videos" / "v1.mp4", 6.0), rtol=1e-4, atol=1e-5)
    assert "--weights is for backbones" in tada(*call, "--weights", "w.pth").err


def test_features_of_a_cell_that_localizes_are_those_of_its_backbone(place: Path, tada: Call) -> None:
    (place / "small.py").write_text(LOCALIZING)
    assert tada("ablate", "./mini.py", "--regime", "./small.py", "--rows", "TSN").status == 0
    call = ("features", "./mini.py:TSN", *CELL[2:], "--out", "f", "--fps", "6", "--stride", "2", "--size", "32")
    assert tada(*call, "--window", "4").status == 0
    manifest = read_manifest(place / "f")
    assert manifest is not None
    trained = torch.load(place / "runs" / "weights" / f"{manifest.cell}.pt", weights_only=True)["model"]
    network = BACKBONES["tiny"](3, 0.0).eval()
    of_backbone = {name.removeprefix("backbone.host."): value for name, value in trained.items()}
    network.load_state_dict(of_backbone, strict=False)
    expected = computed(network, place / "videos" / "v0.mp4", 4.0)
    np.testing.assert_allclose(np.load(place / "f" / "v0.npy"), expected, rtol=1e-4, atol=1e-5)
    assert tada(*call).status == 2  # a window of other frames is another origin
    assert read_manifest(place / "f") == manifest
    assert tada(*call, "--out", "steps").status == 0
    assert read_manifest(place / "steps") == manifest.model_copy(update={"window": 8})  # frames of a step


def test_a_row_on_features_has_no_network_on_clips(place: Path, tada: Call) -> None:
    assert tada("data", "sample", "hacs_features", "set").status == 0
    (place / "small.py").write_text(ON_FEATURES)
    (place / "mini.py").write_text(FEATURE_TABLE)
    assert tada("ablate", "./mini.py", "--regime", "./small.py", "--data", "set").status == 0
    done = tada("features", "./mini.py:point", *CELL[2:], "--out", "f", "--fps", "6", "--stride", "2")
    assert (done.status, "is trained on features and has no network on clips" in done.err) == (2, True)


def test_features_of_trained_cells_are_localized_on(place: Path, tada: Call) -> None:
    """From videos to the table: cells are trained, their features are written, and a localizer is trained on these."""
    assert tada("ablate", "./mini.py", "--regime", "./small.py").status == 0
    for row, folder in (("(1,1)", "tada2d"), ("TSN", "tsn")):
        call = ("features", f"./mini.py:{row}", *CELL[2:], "--out", f"set/{folder}", "--fps", "6", "--stride", "2")
        assert tada(*call, "--device", "cpu").status == 0
    annotate(place)
    (place / "truth.json").rename(place / "set" / "truth.json")
    (place / "on_features.py").write_text(FEATURE_TABLE)
    (place / "set.py").write_text(ON_FEATURES)  # times are the manifests'
    call = ("ablate", "./on_features.py", "--regime", "./set.py", "--data", "set", "--device", "cpu")
    done = tada(*call)
    assert (done.status, "2 cells: 0 finished before, 2 to run" in done.out) == (0, True)
    assert tada(*call).out.startswith("2 cells: 2 finished before")
    report = json.loads((place / "runs" / "reports" / "on_features-set" / "report.json").read_text())
    assert report["metric"] == "map"
    described = {cell["row"]: cell["experiment"]["data"] for cell in report["cells"]}
    assert (described["point"]["fps"], described["point"]["stride"], described["point"]["offset"]) == (6, 2, 1)
    assert described["point"]["fingerprint"] != described["noise"]["fingerprint"]
    assert [cell["detection"]["num_segments"] for cell in report["cells"]] == [2, 2]
    np.save(place / "set" / "tsn" / "v0.npy", np.full((12, 64), np.nan, np.float32))
    refused = tada(*call)
    assert (refused.status, "NaN" in refused.err, refused.err.count("\n")) == (2, True, 1)


def test_rows_on_other_features_need_not_be_there(place: Path, tada: Call) -> None:
    """Those that are run are reported; those whose features are missing are refused before anything trains."""
    assert tada("data", "sample", "hacs_features", "set").status == 0
    (place / "small.py").write_text(ON_FEATURES)
    (place / "mini.py").write_text(FEATURE_TABLE)
    call = ("ablate", "./mini.py", "--regime", "./small.py", "--data", "set")
    assert tada(*call, "--rows", "noise").status == 0
    assert (place / "runs" / "reports" / "mini-small" / "report.html").exists()
    assert tada("report", "./mini.py", "--regime", "./small.py").status == 0
    shutil.rmtree(place / "set" / "tada2d")
    assert tada(*call, "--rows", "noise").status == 0
    refused = tada(*call)
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "row 'point'" in refused.err
    assert "there are no features in" in refused.err
    assert "tada2d" in refused.err
    shutil.rmtree(place / "set" / "tsn")
    refused = tada(*call)
    assert (refused.status, "there are no features in" in refused.err, "such as tsn" in refused.err) == (2, True, True)
