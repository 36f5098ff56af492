"""Packs: the frames of a data set as JPEGs in tar files, against the media that they were made of."""

import errno
import fcntl
import io
import os
import random
import shutil
import tarfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tadaconv.cli import main
from tadaconv.data import num_training_clips, packing, prefetch
from tadaconv.data.check import check_layout
from tadaconv.data.clips import Clips
from tadaconv.data.decode import BrokenVideoError, decode
from tadaconv.data.folder import FolderClips, checked_index, resolve
from tadaconv.data.index import index_folder, open_index
from tadaconv.data.pack import Pack, open_pack
from tadaconv.data.pack_check import check_pack, render
from tadaconv.data.packing import JpegEncoder, member_folder, pack_clips
from tadaconv.data.pictures import decode_pictures
from tadaconv.data.sample import DigitMedia, sample_clips, write_layout
from tadaconv.errors import RunError, UserError
from tadaconv.experiment import run
from tadaconv.spec import Backbone, Experiment, Folder, Schedule

pytest.importorskip("av", reason="videos are read by PyAV, the extra 'video'")

CPU = torch.device("cpu")
SPEC = Folder(layout="ssv2", num_frames=4, size=32, short_side=0, mirror="swap")
MOST_LEVELS = 2.5
"""What pixels of a frame may differ by from those of the media, on average over the frame."""


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """A function that gives the checked index of a layout in a form, and the folder it is of and that of the cache."""
    kept = {}

    def check(layout, form):
        if (layout, form) not in kept:
            folder = tmp_path_factory.mktemp(f"{layout}-{form}")
            root, cache = folder / "data", folder / "runs" / "cache"
            write_layout(layout, form, root, sample_clips(1, 1), DigitMedia())
            assert check_layout(root, layout, "", cache).ok
            kept[layout, form] = checked_index(layout, "", root, cache), root, cache
        return kept[layout, form]

    return check


@pytest.fixture
def index(checked):
    return checked("ssv2", "videos")[0]


@pytest.fixture(name="short_shards")
def _short_shards(monkeypatch):
    monkeypatch.setattr(packing, "SHARD_BYTES", 150_000)


def places_of(index):
    return np.concatenate([index.places("train"), index.places("val")]).tolist()


def levels(one, other):
    """By how many of 255 levels pixels differ, on average."""
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other).mean()


def contents(folder):
    """The bytes of all files of a pack by name, whatever the folder of the columns is called."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "about.json"]
    named = {path.name: path.read_bytes() for path in files}
    assert len(named) == len(files)
    return named


@pytest.mark.parametrize(
    ("layout", "form"), [("ssv2", "videos"), ("ssv2", "frames"), ("epic100", "videos"), ("epic100", "frames")]
)
def test_a_pack_has_the_frames_of_every_clip(layout, form, checked, tmp_path):
    index, _, _ = checked(layout, form)
    pack_clips(index, tmp_path / "pack")
    packed = open_pack(tmp_path / "pack")
    media, pack = Clips(index), Clips(packed)
    for name in ("ids", "sides", "labels", "spans", "subsets"):
        np.testing.assert_array_equal(getattr(packed, name), getattr(index, name))
    for name in ("labels", "train", "val", "num_frames", "heights", "widths", "fps"):
        np.testing.assert_array_equal(getattr(pack, name), getattr(media, name))
    assert (packed.heads, packed.listed) == (index.heads, index.listed)
    for place in places_of(index):
        count = int(media.num_frames[place])
        frames = pack.read(place, None, 0)
        expected = media.read(place, range(count), 0)
        assert max(levels(one, other) for one, other in zip(frames, expected, strict=True)) < MOST_LEVELS
        wanted = [count - 1, 0, count // 2, 0]
        assert (pack.read(place, wanted, 0) == frames[wanted]).all()
        assert levels(pack.read(place, wanted, 32), media.read(place, wanted, 32)) < MOST_LEVELS


def test_long_spans_are_decoded_in_parts(checked, tmp_path, monkeypatch):
    index, _, _ = checked("epic100", "videos")
    pack_clips(index, tmp_path / "pack")
    monkeypatch.setattr(packing, "_CHUNK", 7)
    pack_clips(index, tmp_path / "parts")
    assert contents(tmp_path / "parts") == contents(tmp_path / "pack")


def test_the_short_side_is_256_at_most_and_nothing_is_enlarged(tmp_path, write_video):
    root = tmp_path / "data"
    videos = {
        "wide.mp4": {"size": (300, 402)},
        "turned.mp4": {"size": (290, 400), "rotation": 90, "marked": True},
        "small.mp4": {"size": (50, 66)},
    }
    for name, how in videos.items():
        write_video(root / name, 5, **how)
    (root / "train.txt").write_text("wide.mp4 0\nturned.mp4 1\n")
    (root / "val.txt").write_text("small.mp4 1\n")
    (root / "classes.txt").write_text("one\nother\n")
    assert check_layout(root, "list", "", tmp_path / "cache").ok
    pack_clips(checked_index("list", "", root, tmp_path / "cache"), tmp_path / "pack")
    index = open_pack(tmp_path / "pack")
    clips = Clips(index)
    sizes = {}
    for place in places_of(index):
        name = index.ids[place].partition(".")[0] + ".mp4"
        frames = clips.read(place, None, 0)
        sizes[name] = frames.shape[1:3]
        assert (clips.heights[place], clips.widths[place]) == frames.shape[1:3]
        assert levels(frames, decode(root / name, min(256, *videos[name]["size"]))) < MOST_LEVELS
    assert sizes == {"wide.mp4": (256, 343), "turned.mp4": (353, 256), "small.mp4": (50, 66)}


@pytest.mark.usefixtures("short_shards")
def test_any_reader_of_tar_files_reads_a_pack(index, tmp_path):
    pack_clips(index, tmp_path / "pack")
    pack = Pack(tmp_path / "pack")
    frames = np.load(tmp_path / "pack" / "frames.npy")
    shards = sorted((tmp_path / "pack").glob("shard-*.tar"))
    assert len(shards) > 2
    members = []
    for number, path in enumerate(shards):
        assert path.stat().st_size <= packing.SHARD_BYTES
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                members.append((number, member.name, member.offset_data, shard.extractfile(member).read()))
    expected = []
    for clip, end in zip(pack.clips, [*pack.clips["first"][1:], len(frames)], strict=True):
        for number, frame in enumerate(frames[clip["first"] : end], 1):
            with shards[clip["shard"]].open("rb") as file:
                file.seek(frame["offset"])
                jpeg = file.read(frame["bytes"])
            name = f"{member_folder(index.ids[int(clip['place'])])}/{number:06d}.jpg"
            expected.append((int(clip["shard"]), name, int(frame["offset"]), jpeg))
    assert members == expected
    with Image.open(io.BytesIO(members[0][3])) as picture:
        decoded = Clips(index).read(int(pack.clips["place"][0]), [0], 0)[0]
        assert levels(np.asarray(picture.convert("RGB")), decoded) < 2 * MOST_LEVELS  # Pillow blurs colours


class Stopped(BaseException):
    """The end of a process at some byte that it writes."""


def stop_after(num_bytes, monkeypatch, error=Stopped):
    """Have ``num_bytes`` be written to packs, and then ``error`` be raised."""
    write, left = packing._write, num_bytes

    def stopping(file, data):
        nonlocal left
        write(file, data[: max(left, 0)])
        left -= len(data)
        if left < 0:
            raise error

    monkeypatch.setattr(packing, "_write", stopping)


@pytest.mark.usefixtures("short_shards")
@pytest.mark.parametrize("seed", range(4))
def test_a_pack_that_is_stopped_at_any_byte_ends_with_the_same_bytes(seed, index, tmp_path, monkeypatch):
    pack_clips(index, tmp_path / "whole")
    total = sum(map(len, contents(tmp_path / "whole").values()))
    rng, stops = random.Random(seed), 0
    for _ in range(60):
        try:
            with monkeypatch.context() as patch:
                stop_after(rng.randrange(total // (2 + seed)), patch)
                pack_clips(index, tmp_path / "stopped")
        except Stopped:
            stops += 1
            if not (tmp_path / "stopped" / "about.json").exists() and (tmp_path / "stopped" / "pack.json").exists():
                with pytest.raises(UserError, match="is not finished; give tada data pack again"):
                    open_pack(tmp_path / "stopped")
        else:
            break
    else:
        pack_clips(index, tmp_path / "stopped")
    assert stops
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")
    assert open_pack(tmp_path / "stopped").fingerprint == open_pack(tmp_path / "whole").fingerprint
    assert pack_clips(index, tmp_path / "stopped") == len(index)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_a_stop_keeps_the_clips_that_were_packed(index, tmp_path, monkeypatch):
    pack_clips(index, tmp_path / "whole")
    ends = Pack(tmp_path / "whole").clips["end"]
    with monkeypatch.context() as patch:
        stop_after(int(ends[7]) + 5000, patch)
        with pytest.raises(Stopped):
            pack_clips(index, tmp_path / "stopped")
    assert 5 <= pack_clips(index, tmp_path / "stopped") <= 8
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


@pytest.mark.usefixtures("short_shards")
def test_zeros_that_a_power_cut_leaves_are_no_clips(index, tmp_path):
    folder = tmp_path / "pack"
    pack_clips(index, folder)
    whole, clips = contents(folder), Pack(folder).clips
    for name, count in (("clips.npy", 3 * clips.itemsize), ("frames.npy", 1000), ("shard-00003.tar", 50_000)):
        (folder / "about.json").unlink()
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-count] + bytes(count))
        assert 0 < pack_clips(index, folder) < len(index)
        assert contents(folder) == whole
    (folder / "about.json").unlink()
    (folder / "clips.npy").write_bytes(whole["clips.npy"][: -clips.nbytes] + bytes(clips.nbytes))
    assert pack_clips(index, folder) == 0
    assert contents(folder) == whole


@pytest.mark.usefixtures("short_shards")
def test_a_last_shard_that_is_cut_off_is_cut_back_to_whole_clips(index, tmp_path):
    folder = tmp_path / "pack"
    pack_clips(index, folder)
    whole, shards = contents(folder), sorted(folder.glob("shard-*.tar"))
    for size in (0, 700, shards[-1].stat().st_size - 1):
        os.truncate(shards[-1], size)
        with pytest.raises(UserError, match=rf"{shards[-1].name} of the pack has {size:,} bytes instead of"):
            open_pack(folder)
        assert len(index) - 5 < pack_clips(index, folder) <= len(index)
        assert contents(folder) == whole
    shards[-1].unlink()
    with pytest.raises(UserError, match=rf"{shards[-1].name} of the pack cannot be read"):
        open_pack(folder)
    pack_clips(index, folder)
    assert contents(folder) == whole
    os.truncate(shards[0], 700)
    with pytest.raises(UserError, match=rf"{shards[0].name} of the pack has 700 bytes instead of"):
        pack_clips(index, folder)


def test_an_altered_frame_is_named(checked, tmp_path, monkeypatch):
    index, _, cache = checked("ssv2", "videos")
    folder = tmp_path / "pack"
    pack_clips(index, folder)
    data = resolve(SPEC, folder, cache)
    assert check_pack(folder).ok
    clip, shard = Pack(folder).clips[0], folder / "shard-00000.tar"
    frame = np.load(folder / "frames.npy")[3]
    content = bytearray(shard.read_bytes())
    content[frame["offset"] + frame["bytes"] // 2] ^= 1
    shard.write_bytes(content)
    line = rf"000004\.jpg, at byte {frame['offset']:,} of its shard, is not the JPEG that was packed"
    report = check_pack(folder)
    assert [one for one, _ in report.altered] == [index.ids[int(clip["place"])]]
    assert f"{index.ids[int(clip['place'])]}: 000004.jpg" in render(report)
    clips = Clips(open_pack(folder))
    with pytest.raises(BrokenVideoError, match=line):
        clips.read(int(clip["place"]), [3], 0)
    clips.read(int(clip["place"]), [2, 4], 0)
    monkeypatch.setattr("tadaconv.data.folder.MEMORY_SHARE", 0)
    source = FolderClips(data.but(num_frames=24), CPU)
    named = rf"shard-00000\.tar/\d+ was intact when checked and no longer is: {line}"
    with pytest.raises(RunError, match=named):  # of the first clip in the shard, which is one of training
        source.train_batch(torch.arange(source.num_train), 0, 0)
    assert main_status("data", "check", str(folder)) == 1


@pytest.mark.parametrize("mixed", ["columns-*", "clips.npy", "frames.npy", "*.npy"])
def test_files_of_two_packs_are_refused(mixed, checked, tmp_path):
    """As after a copy that was stopped. Frames of other clips would be under the labels of these."""
    whole, other = tmp_path / "whole", tmp_path / "other"
    pack_clips(checked("ssv2", "videos")[0], whole)
    pack_clips(checked("epic100", "frames")[0], other)
    shard = "shard-00000.tar"
    for path in other.glob(mixed):
        if path.is_dir():
            (old,) = whole.glob(mixed)
            shutil.rmtree(old)
            path.rename(old)
        else:
            path.replace(whole / path.name)
    longer = max((folder / shard for folder in (whole, other)), key=lambda path: path.stat().st_size)
    expected = int(np.load(whole / "clips.npy")["end"][-1]) + 1024
    (whole / shard).write_bytes(longer.read_bytes()[:expected].ljust(expected, b"\0"))
    with pytest.raises(UserError, match=r"is of other clips than clips\.npy and frames\.npy next to it; copy"):
        open_pack(whole)


def test_ctrl_c_while_packing_says_how_to_go_on(checked, tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    _, root, cache = checked("ssv2", "videos")
    monkeypatch.setattr(packing, "_packed", stop)
    call = ("data", "pack", str(root), "--layout", "ssv2", "--out", str(tmp_path / "pack"), "--runs", str(cache.parent))
    assert main_status(*call) == 130
    assert capsys.readouterr().err.startswith("tada: stopped; finished work is kept, resume with: tada data pack")


def test_an_index_of_a_pack_that_is_cut_off_is_named(index, tmp_path):
    pack_clips(index, tmp_path / "pack")
    (labels,) = (tmp_path / "pack").glob("columns-*/labels.npy")
    os.truncate(labels, 20)
    with pytest.raises(UserError, match=r"^the index in the pack '.*' is truncated, or of another version"):
        open_pack(tmp_path / "pack")


def main_status(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def test_a_frame_is_read_without_its_neighbours(index, tmp_path, monkeypatch):
    pack_clips(index, tmp_path / "pack")
    pack, clips, read = Pack(tmp_path / "pack"), Clips(open_pack(tmp_path / "pack")), []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, at: read.append((size, at)) or pread(file, size, at))
    clips.read(int(pack.clips["place"][1]), [5, 2, 5], 0)
    frames = np.load(tmp_path / "pack" / "frames.npy")[pack.clips["first"][1] :]
    assert read[1:] == [(frames["bytes"][position], frames["offset"][position]) for position in (2, 5)]


def test_a_run_takes_a_pack_where_it_takes_a_folder(checked, tmp_path):
    index, root, cache = checked("ssv2", "videos")
    pack_clips(index, tmp_path / "first")
    folder = (tmp_path / "first").rename(tmp_path / "moved")
    of_videos, of_pack = resolve(SPEC, root, cache), resolve(SPEC, folder, tmp_path / "no cache")
    same = {"root": "", "index": "", "fingerprint": ""}
    assert of_videos.fingerprint != of_pack.fingerprint
    assert of_videos.but(**same) == of_pack.but(**same)
    assert num_training_clips(of_pack) == num_training_clips(of_videos)
    videos, pack = FolderClips(of_videos, CPU), FolderClips(of_pack, CPU)
    assert (videos.form, pack.form) == ("video", "pack")
    assert videos.val_names == pack.val_names
    for one, other in (
        (videos.train_batch(torch.arange(6), 1, 2), pack.train_batch(torch.arange(6), 1, 2)),
        (videos.val_batch(torch.arange(6)), pack.val_batch(torch.arange(6))),
    ):
        assert one[1].tolist() == other[1].tolist()
        assert 0 < (one[0] - other[0]).abs().mean() < MOST_LEVELS / 255 / 0.224


def test_readers_open_a_pack_by_themselves_and_refuse_one_that_was_replaced(index, checked, tmp_path, monkeypatch):
    monkeypatch.setattr("tadaconv.data.folder.MEMORY_SHARE", 0)
    monkeypatch.setattr(prefetch, "_num_readers", 2)
    pack_clips(index, tmp_path / "pack")
    data = resolve(SPEC, tmp_path / "pack", tmp_path / "no cache")
    plain, ahead = FolderClips(data, CPU), FolderClips(data, CPU)
    batches = [(indices, 1, 2) for indices in torch.arange(6).split(2)]
    ahead.expect_train(batches)
    for batch in batches:
        for one, other in zip(ahead.train_batch(*batch), plain.train_batch(*batch), strict=True):
            assert torch.equal(one, other)
    assert ahead._threads is None
    ahead.close()
    (tmp_path / "pack").rename(tmp_path / "before")
    pack_clips(checked("epic100", "frames")[0], tmp_path / "pack")
    ahead.expect_train(batches)
    with pytest.raises(UserError, match=r"the index in '.*pack' has changed since it was opened"):
        ahead.train_batch(*batches[0])
    ahead.close()


def test_the_result_says_what_clips_were_read_from(checked, tmp_path):
    index, root, cache = checked("ssv2", "videos")
    pack_clips(index, tmp_path / "pack")
    schedule = Schedule(epochs=1, batch_size=6, lr=0.01)
    keys = set()
    for folder, form in ((root, "video"), (tmp_path / "pack", "pack")):
        data = resolve(SPEC.but(size=16, short_side=16), folder, cache)
        experiment = Experiment(backbone=Backbone(name="tiny"), data=data, schedule=schedule)
        assert run(experiment, "cpu").environment["clips"] == form
        keys.add(experiment.key)
    assert len(keys) == 2


def test_the_fingerprint_of_a_pack_is_of_what_it_holds(checked, tmp_path):
    index, root, cache = checked("ssv2", "videos")
    pack_clips(index, tmp_path / "pack")
    assert open_index(index_folder(cache, root, "ssv2", "")).fingerprint == index.fingerprint
    pack_clips(checked("epic100", "frames")[0], tmp_path / "other")
    assert open_pack(tmp_path / "other").fingerprint != open_pack(tmp_path / "pack").fingerprint


def test_a_process_that_was_killed_as_it_began_a_pack_leaves_its_folder_usable(index, tmp_path):
    pack_clips(index, tmp_path / "pack")
    (tmp_path / "begun").mkdir()
    for name in ("frames.npy", "clips.npy", "pack.json.a1b2c3d4.partial"):
        (tmp_path / "begun" / name).write_bytes(b"{")
    pack_clips(index, tmp_path / "begun")
    assert open_pack(tmp_path / "begun").fingerprint == open_pack(tmp_path / "pack").fingerprint


def test_what_is_no_pack_of_these_clips_is_refused(checked, index, tmp_path, capsys):
    other = checked("epic100", "frames")[0]
    pack_clips(index, tmp_path / "pack")
    before = contents(tmp_path / "pack")
    with pytest.raises(UserError, match="is a pack of other clips"):
        pack_clips(other, tmp_path / "pack")
    assert contents(tmp_path / "pack") == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.pdf").touch()
    with pytest.raises(UserError, match=r"holds 'thesis.pdf' and no pack; name a new folder"):
        pack_clips(index, tmp_path / "full")
    with pytest.raises(UserError, match="is a pack of ssv2, and the regime is on epic100; name another --data"):
        resolve(SPEC.but(layout="epic100"), tmp_path / "pack", tmp_path)
    with pytest.raises(UserError, match="is a pack of ssv2, and the regime is on classes"):
        resolve(Folder(), tmp_path / "pack", tmp_path)
    assert main_status("data", "check", str(tmp_path / "pack"), "--layout", "jester") == 2
    assert "is a pack of ssv2, not of jester" in capsys.readouterr().err
    (tmp_path / "pack" / "pack.json").write_text("{}")
    with pytest.raises(UserError, match="no pack in"):
        open_pack(tmp_path / "pack")


def test_one_process_at_a_time_writes_a_pack(index, tmp_path):
    pack_clips(index, tmp_path / "pack")
    places = np.array(sorted(places_of(index)))
    about = packing.About.read(tmp_path / "pack")
    with (
        closing(packing._Writer(tmp_path / "pack", about, places, index.measured["frames"][places])),
        pytest.raises(UserError, match="another process is writing the pack"),
    ):
        pack_clips(index, tmp_path / "pack")


def test_a_full_disk_is_one_line_and_nothing_is_lost(index, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(60_000, patch, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(UserError, match="No space left on device; make room or name another --out, and give"):
            pack_clips(index, tmp_path / "pack")
    assert pack_clips(index, tmp_path / "pack") > 0
    assert check_pack(tmp_path / "pack").ok


def test_a_disk_that_cannot_allocate_holds_packs(index, tmp_path, monkeypatch):
    def by_the_c_library(number, *_):
        """It writes where the disk cannot, and refuses files that are opened to be appended to."""
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_APPEND:
            raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(os, "posix_fallocate", by_the_c_library)
    pack_clips(index, tmp_path / "pack")
    assert check_pack(tmp_path / "pack").ok


def test_a_clip_that_is_not_as_it_was_checked_is_named(tmp_path):
    root, cache = tmp_path / "data", tmp_path / "cache"
    write_layout("ssv2", "videos", root, sample_clips(1, 1), DigitMedia())
    check_layout(root, "ssv2", "", cache)
    index = checked_index("ssv2", "", root, cache)
    clip = Path(index.root) / index.media[3]
    DigitMedia().video(clip, sample_clips(1, 1)[3:4], 6)
    with pytest.raises(UserError, match=rf"{clip.name} was intact when checked.*: it has 12 frames instead of 24"):
        pack_clips(index, tmp_path / "pack")
    with pytest.raises(UserError, match=rf"{clip.name} has changed since the clips were checked"):
        checked_index("ssv2", "", root, cache)


@pytest.mark.parametrize(("height", "most"), [(60, MOST_LEVELS), (61, 1.5)])
def test_jpegs_are_what_they_are_of(height, most):
    across, down = np.meshgrid(np.linspace(0, 255, 80), np.linspace(0, 255, height))
    picture = np.stack([across, down, (across + down) / 2], -1).round().astype(np.uint8)
    encoder = JpegEncoder(height, 80)
    jpeg = encoder.encode(picture)
    assert levels(decode_pictures(lambda _: ("one", jpeg), [0], 0)[0], picture) < most
    encoder.encode(255 - picture)
    assert encoder.encode(picture) == JpegEncoder(height, 80).encode(picture) == jpeg


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=150), unique=True, max_size=5))
def test_ids_are_folders_of_a_tar_file(ids):
    names = [member_folder(one) for one in [*ids, ".", "..", "a/b", "a%2Fb", "\udce9", "é" * 90]]
    assert len(set(names)) == len({*ids, ".", "..", "a/b", "a%2Fb", "\udce9", "é" * 90})
    for name in names:
        assert name.isascii()
        assert "/" not in name
        assert name.strip(".")
        assert len(name) <= 100
        tarfile.TarInfo(f"{name}/1000000.jpg").tobuf(tarfile.USTAR_FORMAT)


def test_a_data_set_is_packed_from_the_command_line(checked, tmp_path, monkeypatch, capsys):
    _, root, cache = checked("ssv2", "videos")
    monkeypatch.chdir(tmp_path)
    words = ["data", "pack", str(root), "--layout", "ssv2", "--out", "pack"]
    assert main_status(*words) == 2
    assert f"check them once with: tada data check {root} --out runs --layout ssv2" in capsys.readouterr().err
    assert main_status(*words, "--runs", str(cache.parent)) == 0
    assert "pack: a pack of ssv2, 6 training clips and 6 validation clips, 288 frames" in capsys.readouterr().out
    assert main_status(*words, "--runs", str(cache.parent)) == 0
    assert "12 clips were packed before" in capsys.readouterr().out
    assert main_status("data", "check", "pack") == 0
    assert capsys.readouterr().out.endswith("every frame is what was packed\n")
    assert main_status("data", "pack", "pack", "--layout", "ssv2", "--out", "again") == 2
    assert "is a pack already" in capsys.readouterr().err
    assert main_status("data", "pack", str(root), "--layout", "classes", "--out", "again") == 2
    assert "folders of classes are not packed" in capsys.readouterr().err
