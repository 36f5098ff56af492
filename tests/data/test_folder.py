import os
import shutil
import sys

import numpy as np
import pytest
import torch

from tadaconv.data import examination, folder, mirroring
from tadaconv.data.folder import FolderClips, resolve
from tadaconv.data.sampling import evaluation_frames, training_frames
from tadaconv.dry_run import dry_run
from tadaconv.errors import RunError, UserError
from tadaconv.experiment import run
from tadaconv.regime import load_regime
from tadaconv.spec import Backbone, Experiment, Folder, Sampling, Schedule, TAda

av = pytest.importorskip("av", reason="videos are read by PyAV, the extra 'video'")

CPU = torch.device("cpu")
SPEC = Folder(num_frames=4, size=16, short_side=24, num_temporal_views=2, num_spatial_crops=3)


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch):
    monkeypatch.setattr(folder, "_known", {})
    monkeypatch.setattr(folder, "_kept", {})
    monkeypatch.setattr(mirroring, "_warned", set())


@pytest.fixture
def resolved(clips, tmp_path):
    return resolve(SPEC, clips, tmp_path / "cache")


def forbid_decoding(monkeypatch):
    def refuse(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(examination, "inspect", refuse)
    monkeypatch.setattr("tadaconv.data.clips.decode", refuse)


def test_resolving_completes_the_spec(resolved, clips):
    assert resolved == SPEC.but(root=str(clips), fingerprint=resolved.fingerprint, num_classes=2)
    assert len(resolved.fingerprint) == 16


def test_a_second_run_decodes_nothing_to_check(resolved, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_known", {})  # as in a new process
    forbid_decoding(monkeypatch)
    assert resolve(SPEC, clips, tmp_path / "cache") == resolved


def test_only_what_changed_is_decoded_again(resolved, clips, tmp_path, monkeypatch, write_video):
    monkeypatch.setattr(folder, "_known", {})
    write_video(clips / "rise" / "r1.mp4", num_frames=20)
    seen = []
    inspect = examination.inspect
    monkeypatch.setattr(examination, "inspect", lambda path: seen.append(path.name) or inspect(path))
    assert resolve(SPEC, clips, tmp_path / "cache").fingerprint != resolved.fingerprint
    assert seen == ["r1.mp4"]


def test_another_decoder_counts_the_frames_again(resolved, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_known", {})
    monkeypatch.setitem(av.library_versions, "libavcodec", (999, 0, 0))
    seen = []
    inspect = examination.inspect
    monkeypatch.setattr(examination, "inspect", lambda path: seen.append(path.name) or inspect(path))
    assert resolve(SPEC, clips, tmp_path / "cache") == resolved
    assert len(seen) == len([path for path in clips.rglob("*") if path.is_file()])


def test_a_folder_may_have_the_longest_of_names(clips, tmp_path, monkeypatch):
    longest = clips.rename(clips.parent / ("n" * 255))
    resolved = resolve(SPEC, longest, tmp_path / "cache")
    monkeypatch.setattr(folder, "_known", {})
    forbid_decoding(monkeypatch)
    assert resolve(SPEC, longest, tmp_path / "cache") == resolved


def test_a_folder_and_clips_whose_names_are_not_utf8_are_trained_on(clips, tmp_path, monkeypatch):
    root = clips.rename(clips.parent / "r\udce9sum\u00e9")
    (root / "rise").rename(root / "caf\udce9")
    (root / "wait" / "w0.mkv").rename(root / "wait" / "\udcff.mkv")
    resolved = resolve(SPEC, root, tmp_path / "cache")
    assert resolved.path == root
    stored = Folder.model_validate_json(resolved.model_dump_json().encode())  # as another process has it
    monkeypatch.setattr(folder, "_known", {})
    source = FolderClips(stored, CPU)
    assert source.class_names == ("caf\\udce9", "wait")
    source.train_batch(torch.arange(source.num_train), 0, 0)
    (root / "wait" / "w1.mkv").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot train on .*r.udce9sum"):
        resolve(SPEC, root, tmp_path / "cache")


def test_a_spoilt_cache_is_made_anew(resolved, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_known", {})
    (file,) = (tmp_path / "cache").rglob("*.bin")
    file.write_bytes(file.read_bytes()[:50])
    assert resolve(SPEC, clips, tmp_path / "cache") == resolved


def test_a_cache_that_cannot_be_written_is_a_wrong_call(clips, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        resolve(SPEC, clips, tmp_path / "file")


def test_the_fingerprint_is_of_content_names_and_split_not_of_place_and_time(resolved, clips, tmp_path):
    cache = tmp_path / "cache"
    moved = shutil.copytree(clips, tmp_path / "elsewhere" / "clips", copy_function=shutil.copyfile)
    for path in moved.rglob("*.*"):
        os.utime(path, (1, 1))
    (moved / "notes.txt").touch()
    assert resolve(SPEC, moved, cache).fingerprint == resolved.fingerprint

    (moved / "rise" / "r1.mp4").rename(moved / "rise" / "other.mp4")
    renamed = resolve(SPEC, moved, cache).fingerprint
    (moved / "rise" / "r2.mp4").unlink()
    fewer = resolve(SPEC, moved, cache).fingerprint
    split = resolve(SPEC.but(val_share=0.7), moved, cache).fingerprint
    assert len({resolved.fingerprint, renamed, fewer, split}) == 4


def test_large_files_are_told_apart_by_size_and_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(examination, "WHOLE_BYTES", 8)
    contents = [b"abcdefgh", b"abcd-efgh", b"abcd+efgh", b"abcd--efgh", b"Abcd-efgh", b"abcd-efgH"]
    digests = []
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
        digests.append(examination.content_digest(tmp_path / str(number)))
    assert digests[1] == digests[2]  # the middle of a large file is not read
    assert len(set(digests)) == len(contents) - 1


def test_broken_clips_stop_a_run_before_it_starts(clips, tmp_path):
    for number in range(4):
        (clips / "rise" / f"r{number}.mp4").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        resolve(SPEC, clips, tmp_path / "cache")
    message = str(caught.value)
    assert "rise/r0.mp4: zero-length file" in message
    assert "and 1 more" in message
    assert f"tada data check {clips}" in message
    assert "\n" not in message


def test_a_clip_with_fewer_frames_than_asked_stops_a_run(clips, tmp_path):
    with pytest.raises(UserError, match=r"2 clips \(.*r0\.mp4.*\) with fewer frames than a clip takes, 10"):
        resolve(SPEC.but(num_frames=10), clips, tmp_path / "cache")


def test_a_row_that_takes_more_frames_than_clips_have_is_refused(clips, tmp_path):
    """What a row or a recipe changes is held against the clips, too, before the cell is queued and in the cell."""
    data = resolve(SPEC, clips, tmp_path / "cache")
    longer = Experiment(
        backbone=Backbone(name="tiny"), data=data.but(num_frames=500), schedule=Schedule(epochs=1, batch_size=4, lr=0.1)
    )
    for refused in (lambda: dry_run(longer), lambda: FolderClips(longer.data, CPU)):
        with pytest.raises(UserError, match=r"8 clips \(.*\) with fewer frames than a clip takes, 500"):
            refused()
    dry_run(longer.but(data__num_frames=SPEC.num_frames))
    dry_run(longer.but(data__short_clips="repeat"))


def test_without_pyav_one_line_says_how_to_get_it(clips, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install 'av>="):
        resolve(SPEC, clips, tmp_path / "cache")


def test_batches_have_the_shapes_and_labels_of_a_source(resolved):
    source = FolderClips(resolved, CPU)
    assert source.class_names == ("rise", "wait")
    assert source.num_train + source.num_val == 8
    assert source.num_views == 6
    x, labels = source.train_batch(torch.arange(source.num_train), epoch=0, seed=0)
    assert (x.shape, x.dtype) == ((source.num_train, 3, 4, 16, 16), torch.float32)
    assert (labels.dtype, sorted(set(labels.tolist()))) == (torch.int64, [0, 1])
    x, labels = source.val_batch(torch.arange(source.num_val))
    assert x.shape == (source.num_val, 6, 3, 4, 16, 16)
    assert sorted(set(labels.tolist())) == [0, 1]


def brightness_order(x):
    """Whether the mean brightness (.., C, T, H, W) rises from frame to frame."""
    return bool((x.mean(dim=(-4, -2, -1)).diff(dim=-1) > 0).all())


def test_frames_come_in_the_order_of_time(resolved):
    source = FolderClips(resolved, CPU)
    for epoch in range(3):
        assert brightness_order(source.train_batch(torch.arange(source.num_train), epoch, seed=1)[0])
    assert brightness_order(source.val_batch(torch.arange(source.num_val))[0])


def test_a_batch_depends_on_its_arguments_alone(resolved):
    source, again = FolderClips(resolved, CPU), FolderClips(resolved, CPU)
    x = source.train_batch(torch.tensor([0, 3, 1]), epoch=2, seed=5)[0]
    torch.manual_seed(99)
    again.train_batch(torch.arange(4), epoch=0, seed=0)
    assert torch.equal(x, again.train_batch(torch.tensor([0, 3, 1]), epoch=2, seed=5)[0])
    assert torch.equal(x[1:2], again.train_batch(torch.tensor([3]), epoch=2, seed=5)[0])
    for epoch, seed in ((3, 5), (2, 6)):
        assert not torch.equal(x, source.train_batch(torch.tensor([0, 3, 1]), epoch, seed)[0])


def test_clips_decoded_on_demand_are_those_kept_in_memory(resolved, monkeypatch):
    kept = FolderClips(resolved, CPU)
    monkeypatch.setattr(folder, "MEMORY_SHARE", 0)
    monkeypatch.setattr(folder, "_kept", {})
    demanded = FolderClips(resolved, CPU)
    assert not folder._kept
    train, val = torch.arange(kept.num_train), torch.arange(kept.num_val)
    assert torch.equal(kept.train_batch(train, 1, 2)[0], demanded.train_batch(train, 1, 2)[0])
    assert torch.equal(kept.val_batch(val)[0], demanded.val_batch(val)[0])


def test_the_next_cell_decodes_nothing_and_another_size_displaces_it(resolved, monkeypatch):
    first = FolderClips(resolved, CPU)
    FolderClips(resolved.but(short_side=32), CPU)
    assert list(folder._kept) == [(resolved.fingerprint, 32)]
    forbid_decoding(monkeypatch)
    FolderClips(resolved.but(short_side=32, size=24), CPU)
    first.train_batch(torch.arange(2), 0, 0)  # what holds its videos goes on


def test_another_process_inspects_the_clips_again(resolved, monkeypatch):
    monkeypatch.setattr(folder, "_known", {})
    assert FolderClips(resolved, CPU).num_views == 6


def test_clips_that_changed_since_the_plan_are_refused(resolved, clips):
    (clips / "rise" / "r0.mp4").unlink()
    with pytest.raises(UserError, match="have changed"):
        FolderClips(resolved, CPU)


def test_a_folder_that_was_never_named_is_a_wrong_call():
    with pytest.raises(UserError, match="--data DIR"):
        FolderClips(SPEC, CPU)


def test_a_clip_that_breaks_while_training_fails_the_cell(resolved, clips, monkeypatch):
    monkeypatch.setattr(folder, "MEMORY_SHARE", 0)
    source = FolderClips(resolved, CPU)
    for path in (clips / "rise").iterdir():
        path.write_bytes(b"")
    with pytest.raises(RunError, match=r"rise/r\d\.mp4 was intact when checked"):
        source.train_batch(torch.arange(source.num_train), 0, 0)


def test_the_regime_is_for_folders():
    assert isinstance(load_regime("folder").data, Folder)


PAPER = SPEC.but(sampling__rule="paper", short_side=0, eval_size=24, mirror="no")
WINDOWS = SPEC.but(sampling=Sampling(kind="intervals", interval=2, fps=25.0), mirror="no")
WINDOWS_OF_THE_PAPER = PAPER.but(sampling__kind="intervals", sampling__interval=2, sampling__fps=25.0)
EVALUATED_LARGER = SPEC.but(eval_size=24)
MORE_FRAMES = PAPER.but(num_frames=24, short_clips="repeat")


def indices_in(clips_CTHW):
    """Which frames of the flat grey videos a normalised clip shows."""
    brightness = (clips_CTHW.mean(dim=(0, 2, 3)) * 0.225 + 0.45) * 255
    return [round((value - 20) / 5) for value in brightness.tolist()]


@pytest.mark.parametrize("spec", [SPEC, EVALUATED_LARGER, PAPER, WINDOWS, WINDOWS_OF_THE_PAPER, MORE_FRAMES])
def test_clips_show_the_frames_of_their_sampling_at_their_size(spec, clips, tmp_path):
    data = resolve(spec, clips, tmp_path / "cache")
    source = FolderClips(data, CPU)
    x, _ = source.train_batch(torch.arange(source.num_train), 2, 3)
    assert x.shape[1:] == (3, spec.num_frames, 16, 16)
    for index, place in enumerate(source._clips.train):
        rng = np.random.default_rng((3, 2, index))
        count = int(source._clips.num_frames[place])
        assert indices_in(x[index]) == training_frames(spec.sampling, rng, count, spec.num_frames, 25.0).tolist()
    x, _ = source.val_batch(torch.arange(source.num_val))
    assert x.shape[1:] == (6, 3, spec.num_frames, spec.eval_side, spec.eval_side)
    for index, place in enumerate(source._clips.val):
        count = int(source._clips.num_frames[place])
        for view in range(6):
            expected = evaluation_frames(spec.sampling, count, spec.num_frames, 25.0, view // 3, 2).tolist()
            assert indices_in(x[index, view]) == expected


def test_pixels_by_the_rule_even_are_what_they_were(resolved):
    """The arithmetic that stored results were made by, written out."""
    source = FolderClips(resolved, CPU)
    x, _ = source.train_batch(torch.arange(source.num_train), 1, 2)
    for index, place in enumerate(source._clips.train):
        rng = np.random.default_rng((2, 1, index))
        edges = np.arange(5) * int(source._clips.num_frames[place]) // 4
        frames = source._read([(place, rng.integers(edges[:-1], edges[1:]))])[0]
        height, width = frames.shape[1:3]
        side = max(1, round(min(height, width) * 16 / rng.uniform(16, 340 / 224 * 16)))
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        pixels = torch.from_numpy(frames[:, top : top + side, left : left + side]).permute(0, 3, 1, 2).float()
        pixels = torch.nn.functional.interpolate(pixels, size=(16, 16), mode="bilinear", antialias=True)
        pixels = pixels.flip(-1) if rng.random() < 0.5 else pixels
        assert torch.equal(x[index], ((pixels / 255 - 0.45) / 0.225).transpose(0, 1))


SIDES = ("left", "right")
SIX = [f"{verb} {side}" for verb in ("pull", "push", "turn") for side in SIDES]


@pytest.fixture
def left_and_right(tmp_path, write_video):
    """Six classes of a video each to train on, in which the side that is white is the one that the class names."""
    root = tmp_path / "sides"
    for number, name in enumerate(SIX):
        for side in ("train", "val"):
            path = root / side / name / "0.mp4"
            write_video(path, num_frames=4 + number, size=(48, 48), marked=name.split()[1])
    return root


def seen_sides(clips_BCTHW):
    top = clips_BCTHW[..., : clips_BCTHW.shape[-2] // 2, :].mean(dim=(1, 2, 3))
    half = top.shape[-1] // 2
    return ["left" if left else "right" for left in (top[:, :half].mean(1) > top[:, half:].mean(1)).tolist()]


@pytest.mark.parametrize("rule", ["even", "paper"])
@pytest.mark.parametrize("mirror", ["no", "yes", "swap"])
def test_the_label_goes_with_the_side_that_is_seen(mirror, rule, left_and_right, tmp_path):
    spec = Folder(num_frames=2, size=24, short_side=48, jitter=(1.0, 1.0), mirror=mirror, sampling=Sampling(rule=rule))
    source = FolderClips(resolve(spec, left_and_right, tmp_path / "cache"), CPU)
    named, mirrored = set(), set()
    for epoch in range(12):
        x, labels = source.train_batch(torch.arange(6), epoch, 0)
        for index, (side, label) in enumerate(zip(seen_sides(x), labels.tolist(), strict=True)):
            assert source.class_names[label].split()[0] == SIX[index].split()[0]
            named.add((source.class_names[label].split()[1], side))
            # A jitter of (1, 1) shows the whole of a square frame, of which a quarter is white.
            assert (x[index, 0, 0] > 1).float().mean() == pytest.approx(0.25, abs=0.03)
            mirrored.add((index, side != SIX[index].split()[1]))
    both = {(index, toss) for index in range(6) for toss in (False, True)}
    assert mirrored == ({(index, False) for index in range(6)} if mirror == "no" else both)
    alike = {(side, side) for side in SIDES}
    assert named == ({(one, other) for one in SIDES for other in SIDES} if mirror == "yes" else alike)
    x, labels = source.val_batch(torch.arange(6))
    assert [source.class_names[label] for label in labels.tolist()] == SIX
    assert seen_sides(x[:, 0]) == [name.split()[1] for name in SIX]


def test_a_plain_mirror_of_left_and_right_is_warned_of_and_runs(left_and_right, tmp_path, caplog):
    assert resolve(SPEC, left_and_right, tmp_path / "cache").num_classes == 6
    (line,) = [record.message for record in caplog.records if record.name == "tadaconv"]
    assert "'pull left' and 'pull right'" in line
    caplog.clear()
    resolve(SPEC.but(mirror="swap"), left_and_right, tmp_path / "cache")
    assert not caplog.records


@pytest.mark.parametrize("kind", ["segments", "intervals"])
def test_a_network_is_trained_by_the_sampling_of_the_paper_at_two_sizes(kind, clips, tmp_path):
    spec = PAPER.but(size=24, eval_size=32, sampling__kind=kind, sampling__interval=2, mirror="swap")
    experiment = Experiment(
        backbone=Backbone(name="tiny"),
        temporal=TAda(),
        data=resolve(spec, clips, tmp_path / "cache"),
        schedule=Schedule(epochs=1, batch_size=4, lr=0.01),
    )
    result = run(experiment, device="cpu")
    assert result.num_val == FolderClips(experiment.data, CPU).num_val
    smaller = run(experiment.but(data__eval_size=24), device="cpu")
    assert smaller.macs < result.macs
    assert experiment.but(data__sampling__rule="even").key != experiment.key
