"""From the files of a data set to the clips that a run trains on: check, index, acceptance, source."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from annotated import clips_of

from tadaconv.cli import main
from tadaconv.command import called_with, shared_options
from tadaconv.data import check, examination, num_training_clips, require_usable_clips
from tadaconv.data.check import check_layout, render
from tadaconv.data.folder import FolderClips, resolve
from tadaconv.data.index import open_index
from tadaconv.data.layouts import read
from tadaconv.data.sample import SECONDS, DigitMedia, class_names, sample_clips, write_layout
from tadaconv.data.sampling import training_frames
from tadaconv.data.source import classes_of_heads
from tadaconv.errors import RunError, UserError
from tadaconv.execution.store import Store
from tadaconv.locations import at_home, why_missing
from tadaconv.spec import Backbone, Experiment, Folder, Sampling, Schedule

pytest.importorskip("av", reason="videos are read by PyAV, the extra 'video'")

CPU = torch.device("cpu")
SPEC = Folder(layout="ssv2", num_frames=4, size=16, short_side=16, mirror="swap")
CLIPS = sample_clips(2, 1)


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """A function that writes a layout in a form once a session, and copies it where it is wanted."""
    kept = {}

    def write(layout, form, root):
        if (layout, form) not in kept:
            kept[layout, form] = tmp_path_factory.mktemp(f"{layout}-{form}")
            write_layout(layout, form, kept[layout, form], CLIPS, DigitMedia())
        return shutil.copytree(kept[layout, form], root, copy_function=shutil.copy2)

    return write


@pytest.fixture
def ssv2(written, tmp_path):
    return written("ssv2", "videos", tmp_path / "ssv2")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "runs" / "cache"


def video(root, clip_id):
    return root / "20bn-something-something-v2" / f"{clip_id}.webm"


def test_a_whole_data_set_is_trained_on_after_its_check(ssv2, cache):
    report = check_layout(ssv2, "ssv2", "", cache)
    assert report.ok
    assert {side: (counts.listed, counts.there, counts.broken) for side, counts in report.sides.items()} == {
        "train": (12, 12, 0), "val": (6, 6, 0)
    }  # fmt: skip
    assert (report.frames.least, report.frames.most, report.shorter[32], report.rates) == (24, 24, 18, {"12": 18})
    assert report.sizes == {"80 x 64": 18}
    assert len(report.mirror_pairs) == 1
    assert report.clips_per_second > 0

    data = resolve(SPEC, ssv2, cache)
    assert (data.num_classes, data.num_listed, data.num_missing) == (6, (12, 6), (0, 0))
    assert num_training_clips(data) == 12
    source = FolderClips(Folder.model_validate_json(data.model_dump_json()), CPU)
    annotated = [clip for clip in clips_of(read("ssv2", ssv2)) if clip.side == "val"]
    x, labels = source.val_batch(torch.arange(source.num_val))
    assert x.shape == (6, 1, 3, 4, 16, 16)
    assert labels.tolist() == [clip.labels[0] for clip in annotated]
    assert source.class_names == tuple(class_names("ssv2")[i].replace("[", "").replace("]", "") for i in range(6))
    train, _ = source.train_batch(torch.arange(12), 0, 0)
    assert train.shape == (12, 3, 4, 16, 16)


def test_clips_are_looked_into_once(ssv2, cache, monkeypatch):
    looks = []
    look = examination._inspect
    broken = video(ssv2, clips_of(read("ssv2", ssv2))[0].id)
    broken.write_bytes(b"no video")

    def stop(path, *rest):
        if len(looks) == 10:
            raise KeyboardInterrupt
        looks.append(path)
        return look(path, *rest)

    monkeypatch.setattr(examination, "_inspect", stop)
    with pytest.raises(KeyboardInterrupt):
        check_layout(ssv2, "ssv2", "", cache)
    monkeypatch.setattr(examination, "_inspect", lambda path, *rest: looks.append(path) or look(path, *rest))
    first = check_layout(ssv2, "ssv2", "", cache)
    assert len(looks) < 18 + 10  # what was seen before the stop is known, but for the few in work then
    looks.clear()
    again = check_layout(ssv2, "ssv2", "", cache)
    assert [path.name for path in looks] == [broken.name]  # what was broken may have been mended
    assert again.model_copy(update={"clips_per_second": None}) == first.model_copy(update={"clips_per_second": None})


def test_a_run_refuses_missing_and_broken_clips_until_they_are_accepted(ssv2, cache, tmp_path, monkeypatch):
    check_layout(ssv2, "ssv2", "", cache)
    whole = resolve(SPEC, ssv2, cache)
    missing, *_, broken = clips_of(read("ssv2", ssv2))
    assert (missing.side, broken.side) == ("train", "val")
    video(ssv2, missing.id).unlink()
    video(ssv2, broken.id).write_bytes(video(ssv2, broken.id).read_bytes()[:300])
    report = check_layout(ssv2, "ssv2", "", cache)
    assert not report.ok
    assert report.sides["train"].missing == report.sides["val"].broken == 1
    assert [finding.path for finding in report.broken] == [broken.id]
    listing = cache.glob("index-*/unusable.txt").__next__()
    assert listing.read_text().splitlines() == [missing.id, broken.id]
    with called_with(shared_options(["data", "check", "ssv2", "--out", "my runs"])):
        assert f"--out 'my runs' --layout ssv2 --accept {listing}" in render(report)
    with pytest.raises(UserError, match=r"2 clips that the annotations list are missing or broken \(.*--layout ssv2"):
        resolve(SPEC, ssv2, cache)

    report = check_layout(ssv2, "ssv2", "", cache, accept=listing)
    assert report.ok
    assert (report.sides["train"].left_out, report.sides["val"].left_out, report.num_unusable) == (1, 1, 0)
    assert not listing.exists()
    data = resolve(SPEC, ssv2, cache)
    assert (data.num_listed, data.num_missing) == ((12, 6), (1, 1))
    assert data.fingerprint != whole.fingerprint
    source = FolderClips(data, CPU)
    assert (source.num_train, source.num_val) == (11, 5)
    # What was accepted stays so, until another list is given.
    assert check_layout(ssv2, "ssv2", "", cache).ok
    assert resolve(SPEC, ssv2, cache) == data
    nobody = tmp_path / "nobody.txt"
    nobody.touch()
    assert not check_layout(ssv2, "ssv2", "", cache, accept=nobody).ok
    nobody.write_text("4711\n")
    with monkeypatch.context() as patched:  # said before hours are spent on looking
        patched.setattr(check, "examine", None)
        with pytest.raises(UserError, match="accepted, but not listed by ssv2: 4711; leave them out of"):
            check_layout(ssv2, "ssv2", "", cache, accept=nobody)
    with pytest.raises(UserError, match="cannot read the list of ids"):
        check_layout(ssv2, "ssv2", "", cache, accept=tmp_path / "gone.txt")


def test_what_was_accepted_and_is_used_or_no_longer_listed_is_forgotten(ssv2, cache, tmp_path):
    mended, unlisted = (clip.id for clip in clips_of(read("ssv2", ssv2))[:2])
    for clip_id in (mended, unlisted):
        video(ssv2, clip_id).rename(tmp_path / clip_id)
    accepted = tmp_path / "accepted.txt"
    accepted.write_text(f"{mended}\n{unlisted}\n")
    assert check_layout(ssv2, "ssv2", "", cache, accept=accepted).sides["train"].left_out == 2
    (tmp_path / mended).rename(video(ssv2, mended))
    train = ssv2 / "something-something-v2-train.json"
    train.write_text(json.dumps([entry for entry in json.loads(train.read_text()) if entry["id"] != unlisted]))
    report = check_layout(ssv2, "ssv2", "", cache)
    assert report.ok
    assert report.sides["train"].left_out == 0
    assert len(FolderClips(resolve(SPEC, ssv2, cache), CPU)._clips.train) == 11


def test_headers_alone_make_no_index(ssv2, cache):
    empty = clips_of(read("ssv2", ssv2))[1].id
    video(ssv2, empty).write_bytes(b"")
    report = check_layout(ssv2, "ssv2", "", cache, quick=True)
    assert [finding.path for finding in report.broken] == [empty]
    assert (report.whole, report.index, report.frames.median) == (False, "", 24)
    assert "missing or broken" in render(report)
    with pytest.raises(UserError, match="have not been checked yet; check them once with: tada data check"):
        resolve(SPEC, ssv2, cache)
    # What headers told is not taken for a whole look.
    whole = check_layout(ssv2, "ssv2", "", cache)
    index = open_index(next(cache.glob("index-*")))
    assert index.measured["whole"][index.measured["frames"] > 0].all()
    assert whole.index


def test_an_index_that_is_no_longer_true_is_not_used(ssv2, cache):
    with pytest.raises(UserError, match=r"looks like ssv2 .*, and the regime is on jester"):
        resolve(SPEC.but(layout="jester"), ssv2, cache)
    with pytest.raises(UserError, match="unknown layout 'sv2'"):
        resolve(SPEC.but(layout="sv2"), ssv2, cache)
    with pytest.raises(UserError, match="no folder at"):
        resolve(SPEC, ssv2 / "nowhere", cache)
    check_layout(ssv2, "ssv2", "", cache)
    data = resolve(SPEC, ssv2, cache)
    clip = video(ssv2, clips_of(read("ssv2", ssv2))[0].id)
    os.utime(clip, ns=(1, 1))
    with pytest.raises(UserError, match=rf"{clip.name} has changed since the clips were checked"):
        resolve(SPEC, ssv2, cache)
    check_layout(ssv2, "ssv2", "", cache)
    assert resolve(SPEC, ssv2, cache) == data
    train = ssv2 / "something-something-v2-train.json"
    train.write_text(json.dumps(json.loads(train.read_text())[1:]))
    with pytest.raises(UserError, match=r"train\.json has changed since the clips were checked"):
        resolve(SPEC, ssv2, cache)
    check_layout(ssv2, "ssv2", "", cache)
    assert resolve(SPEC, ssv2, cache).num_listed == (11, 6)
    with pytest.raises(UserError, match="have changed since the run was planned"):
        FolderClips(data, CPU)
    shutil.rmtree(cache)
    with pytest.raises(UserError, match=r"the index of the clips, .*, is not on this machine"):
        FolderClips(data, CPU)


def test_what_a_row_changes_is_held_against_the_index(ssv2, cache):
    check_layout(ssv2, "ssv2", "", cache)
    data = resolve(SPEC, ssv2, cache)
    require_usable_clips(data)
    with pytest.raises(UserError, match=r"18 clips \(.*, \.\.\.\) with fewer frames than a clip takes, 32"):
        require_usable_clips(data.but(num_frames=32))
    require_usable_clips(data.but(num_frames=32, short_clips="repeat"))
    with pytest.raises(UserError, match="mirror images of one another"):
        require_usable_clips(data.but(mirror="yes"))


def test_a_clip_that_breaks_while_training_is_named(ssv2, cache, monkeypatch):
    monkeypatch.setattr("tadaconv.data.folder.MEMORY_SHARE", 0)
    check_layout(ssv2, "ssv2", "", cache)
    source = FolderClips(resolve(SPEC, ssv2, cache), CPU)
    first = next(clip for clip in clips_of(read("ssv2", ssv2)) if clip.side == "val")
    video(ssv2, first.id).write_bytes(b"")
    with pytest.raises(RunError, match=rf"{first.id}\.webm was intact when checked and no longer is: zero-length"):
        source.val_batch(torch.tensor([0]))


def test_copies_across_the_split_and_classes_without_clips_are_warned_of(ssv2, cache):
    annotations = clips_of(read("ssv2", ssv2))
    train, val = annotations[0], annotations[-1]
    shutil.copy(video(ssv2, train.id), video(ssv2, val.id))
    text = render(check_layout(ssv2, "ssv2", "", cache))
    assert f"1 validation clip is a copy of a training clip ({val.id} of {train.id})" in text
    path = ssv2 / "something-something-v2-train.json"
    kept = [entry for entry in json.loads(path.read_text()) if "up" not in entry["template"]]
    path.write_text(json.dumps(kept))
    assert "1 class without a usable clip of train (Moving something up)" in render(
        check_layout(ssv2, "ssv2", "", cache)
    )


def test_folders_are_copies_only_where_last_pictures_are_too(written, tmp_path, cache):
    root = written("jester", "frames", tmp_path / "jester")
    annotations = clips_of(read("jester", root))
    train, val = (root / clip.medium for clip in (annotations[0], annotations[-1]))
    shutil.rmtree(val)
    shutil.copytree(train, val)
    copies = "1 validation clip is a copy of a training clip"
    assert copies in render(check_layout(root, "jester", "", cache))
    first, *_, last = sorted(val.iterdir())
    last.unlink()
    shutil.copy(first, last)
    assert copies not in render(check_layout(root, "jester", "", cache))


def test_intervals_need_frame_rates(written, tmp_path, cache):
    root = written("kinetics400", "frames", tmp_path / "kinetics")  # nothing tells at which rate they were made
    assert check_layout(root, "kinetics400", "", cache).rates == {"unknown": 18}
    spec = SPEC.but(layout="kinetics400")
    assert resolve(spec, root, cache).num_classes == 6
    with pytest.raises(UserError, match=r"18 clips \(.*\) without a frame rate, by which intervals are measured"):
        resolve(spec.but(sampling__kind="intervals"), root, cache)


def test_problems_of_the_annotations_leave_no_index(ssv2, cache):
    (ssv2 / "something-something-v2-validation.json").write_text('[{"id": "1')
    report = check_layout(ssv2, "ssv2", "", cache)
    assert not report.ok
    assert report.index == ""
    assert "no JSON from line 1 on, perhaps truncated" in render(report)
    assert "not usable for training" in render(report)


def test_nothing_is_trained_without_a_clip_to_validate_on(written, ssv2, cache, tmp_path):
    kinetics = written("kinetics400", "videos", tmp_path / "kinetics")
    (kinetics / "val.csv").unlink()
    report = check_layout(kinetics, "kinetics400", "", cache)
    assert [finding.reason for finding in report.problems] == [
        "the annotations list no clip of val; put the list of val next to them"
    ]
    ids = [clip.id for clip in clips_of(read("ssv2", ssv2)) if clip.side == "val"]
    for clip_id in ids:
        video(ssv2, clip_id).unlink()
    accepted = tmp_path / "accepted.txt"
    accepted.write_text("\n".join(ids))
    report = check_layout(ssv2, "ssv2", "", cache, accept=accepted)
    assert not report.ok
    assert "every clip of val is left out" in render(report)
    for layout, root in (("kinetics400", kinetics), ("ssv2", ssv2)):
        with pytest.raises(UserError, match="have not been checked yet"):
            resolve(SPEC.but(layout=layout), root, cache)


class NumberedMedia(DigitMedia):
    """Writes frames that show their own number in binary, in blocks of black and white."""

    def shown(self, clips, rate):
        for number in range(round(len(clips) * SECONDS * rate)):
            picture = np.zeros((64, 80, 3), dtype=np.uint8)
            for bit in range(12):
                row, column = divmod(bit, 4)
                picture[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 255 * (number >> bit & 1)
            yield picture


def numbers(frames):
    """The numbers that frames (T, H, W, 3) show."""
    blocks = frames[:, :48, :64].reshape(-1, 3, 16, 4, 16, 3).mean((2, 4, 5)).reshape(-1, 12) > 128
    return blocks @ (1 << np.arange(12))


def test_segments_by_frame_numbers_and_by_time_are_the_same_clips(tmp_path, cache):
    spec = SPEC.but(layout="epic100", sampling=Sampling(kind="intervals", rule="paper", interval=2, fps=60))
    sources = {}
    clips = sample_clips(3, 1)
    for form in ("frames", "videos"):
        write_layout("epic100", form, tmp_path / form, clips, NumberedMedia())
        assert check_layout(tmp_path / form, "epic100", "", cache).ok
        data = resolve(spec, tmp_path / form, cache)
        assert data.num_classes == 9
        sources[form] = FolderClips(data, CPU)
    frames, videos = sources["frames"], sources["videos"]
    assert [head.name for head in frames.heads] == ["verb", "noun"]
    assert frames.class_names == classes_of_heads(frames.heads)
    for known in ("num_frames", "fps", "labels", "train", "val"):
        np.testing.assert_array_equal(getattr(frames._clips, known), getattr(videos._clips, known))
    _, labels = frames.val_batch(torch.arange(frames.num_val))
    _, same_labels = videos.val_batch(torch.arange(videos.num_val))
    assert labels.shape == (6, 2)
    assert labels.tolist() == same_labels.tolist()

    annotations = read("epic100", tmp_path / "frames")
    assert {float(rate) for rate in frames._clips.fps} == {50.0, 60.0}
    for place in (*frames._clips.train, *frames._clips.val):
        rate = float(annotations.rates[place])
        of_video = 60000 / 1001 if rate == 60 else 50
        length = int(frames._clips.num_frames[place])
        indices = training_frames(spec.sampling, np.random.default_rng(int(place)), length, 8, rate).tolist()
        by_number = numbers(frames._clips.read(int(place), indices, 0))
        np.testing.assert_array_equal(by_number, annotations.spans[place, 0] + indices)
        by_time = numbers(videos._clips.read(int(place), indices, 0))
        assert np.abs(by_time / of_video - by_number / rate).max() <= 0.5 / of_video + 1e-6
    annotated = [clip for clip in clips_of(annotations) if clip.side == "val"]
    expected = {
        "unseen participants": [clip.id.startswith("P02") for clip in annotated],
        "tail verbs": [clip.labels[0] == 5 for clip in annotated],
        "tail nouns": [clip.labels[1] == 2 for clip in annotated],
        "tail actions": [clip.labels[0] == 5 or clip.labels[1] == 2 for clip in annotated],
    }
    found = {name: torch.isin(torch.arange(6), members).tolist() for name, members in frames.subsets.items()}
    assert found == {name: members for name, members in expected.items() if any(members)}


def test_segments_that_their_media_do_not_hold_are_broken_or_end_with_them(written, tmp_path, cache):
    root = written("epic100", "videos", tmp_path / "data")
    annotations = read("epic100", root)
    shown = annotations.media[0]
    in_it = [place for place in range(len(annotations)) if annotations.media[place] == shown]
    length = float(annotations.spans[in_it].max())
    records = examination.examine(annotations, cache, whole=True)
    assert not records.broken
    assert not records.cut
    spans = annotations.spans.copy()
    spans[in_it[0]] = (length + 1, length + 2)
    spans[in_it[1]] = (length - 1, length + 0.5)
    moved = examination.examine(replace(annotations, spans=spans), cache, whole=True)
    assert moved.broken.keys() == {in_it[0]}
    assert "of another version than the annotations, or truncated" in moved.broken[in_it[0]]
    assert moved.cut == (in_it[1],)
    assert moved.cut_by == pytest.approx(0.5, abs=0.02)
    assert moved.clips["frames"][in_it[0]] == 0
    rate = float(records.clips["fps"][in_it[1]])
    assert moved.clips["frames"][in_it[1]] == pytest.approx(rate, abs=1)


def test_a_data_set_that_is_checked_as_class_folders_is_recognised(ssv2, written, tmp_path, cache):
    report = check_layout(ssv2, "classes", "", cache)
    assert "add --layout ssv2" in "; ".join(finding.reason for finding in report.problems)
    root = written("ucf101", "videos", tmp_path / "ucf")
    report = check_layout(root, "classes", "", cache)
    assert any("add --layout ucf101" in finding.reason for finding in (*report.problems, *report.warnings))


def test_frames_are_called_as_most_folders_call_them(written, tmp_path, cache):
    root = written("jester", "frames", tmp_path / "jester")
    odd = root / clips_of(read("jester", root))[0].medium
    for picture in sorted(odd.iterdir()):
        picture.rename(picture.with_name(f"{int(picture.stem) - 1:05d}.jpg"))
    report = check_layout(root, "jester", "", cache)
    assert [finding.reason.partition(": ")[2] for finding in report.broken] == [
        "frames numbered from 0 where 1 was expected"
    ]
    assert "frames have names of several forms" in report.problems[0].reason


def test_broken_clips_of_one_medium_are_one_line(written, tmp_path, cache):
    root = written("epic100", "frames", tmp_path / "data")
    folder = root / clips_of(read("epic100", root))[0].medium
    (folder / "frame_0000000200.jpg").unlink()
    report = check_layout(root, "epic100", "", cache)
    assert len(report.broken) > 3
    (line,) = [line for line in render(report).splitlines() if "frame_0000000200.jpg is missing" in line]
    assert line.strip().startswith(", ".join(finding.path for finding in report.broken[:3]) + ", ...: ")


def test_cut_clips_of_epic_are_called_by_their_segments(written, tmp_path, cache):
    root = written("epic100", "clips", tmp_path / "data")
    report = check_layout(root, "epic100", "", cache)
    assert report.ok
    assert not any("other times" in finding.reason for finding in report.warnings)
    assert report.mirror_pairs == (("move-left", "move-right"),)


def test_a_swap_is_of_the_head_that_has_pairs(written, tmp_path, cache, caplog):
    root = written("epic100", "clips", tmp_path / "data")
    check_layout(root, "epic100", "", cache)
    resolve(SPEC.but(layout="epic100", mirror="swap"), root, cache)
    assert not [record for record in caplog.records if "mirror" in record.message]


def test_the_first_split_is_meant_where_none_is_named(written, tmp_path, cache):
    root = written("ucf101", "videos", tmp_path / "ucf")
    assert check_layout(root, "ucf101", "", cache).split == "1"
    spec = SPEC.but(layout="ucf101", mirror="no")
    assert resolve(spec, root, cache) == resolve(spec.but(split="1"), root, cache).but(split="")


def test_the_file_of_ids_is_part_of_where_clips_lie(written, tmp_path, cache):
    root = written("kinetics400", "videos", tmp_path / "kinetics")
    ids = [clip.id for clip in clips_of(read("kinetics400", root))]
    (root / "mini.txt").write_text("\n".join(ids[:2] + ids[-2:]) + "\n")
    spec = SPEC.but(layout="kinetics400", split="mini.txt", mirror="yes")
    report = check_layout(root, "kinetics400", "mini.txt", cache)
    assert report.ok, render(report)
    data = resolve(spec, root, cache)
    assert sum(data.num_listed) == 4
    assert check_layout(root, "kinetics400", "", cache).ok
    assert resolve(spec.but(split=""), root, cache).fingerprint != data.fingerprint


def test_a_list_of_test_clips_moves_no_clip(written, tmp_path, cache):
    root = written("kinetics400", "videos", tmp_path / "kinetics")
    spec = SPEC.but(layout="kinetics400", mirror="no")
    seen = []
    for test_list in ("", "youtube_id,time_start,time_end,split\nabcdefghijk,0,10,test\n"):
        if test_list:
            (root / "test.csv").write_text(test_list)  # read before train.csv
        check_layout(root, "kinetics400", "", cache)
        data = resolve(spec, root, cache)
        source = FolderClips(data, CPU)
        seen.append((data.fingerprint, source.val_names, source.val_batch(torch.arange(6))))
    (one, names, batch), (other, same_names, same_batch) = seen
    assert (one, names) == (other, same_names)
    assert all(torch.equal(*pair) for pair in zip(batch, same_batch, strict=True))


MY_SSV2 = """from tadaconv.regime import Regime
from tadaconv.spec import Backbone, Folder, Schedule

REGIME = Regime(
    summary="a sample", backbone=Backbone(name="tiny"), stand_ins={"resnet50": "tiny"},
    data=Folder(layout="ssv2", num_frames=4, size=24, short_side=24, mirror="swap", num_temporal_views=2),
    schedule=Schedule(optimizer="adamw", epochs=1, batch_size=6, lr=1e-3),
)
"""


def tada(*words):
    """The exit status of a call of the command line."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return stopped.value.code


def test_a_table_is_run_on_a_data_set_that_was_checked(ssv2, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_ssv2.py").write_text(MY_SSV2)
    ablate = ("ablate", "context", "--regime", "my_ssv2.py", "--data", str(ssv2), "--rows", "linear 1", "--seeds", "1")
    assert tada(*ablate) == 2
    assert "have not been checked yet; check them once with: tada data check" in capsys.readouterr().err
    assert tada("data", "check", str(ssv2), "--layout", "ssv2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["sides"]["val"]["there"] == 6
    assert tada("plan", *ablate[1:]) == 0
    assert tada(*ablate) == 0
    capsys.readouterr()
    assert tada(*ablate) == 0  # nothing is run twice
    store = Store.open("runs/journal.log")
    (record,) = [record for record in store.records("context-my_ssv2") if record.status == "finished"]
    assert record.result.num_val == 6
    assert record.cell.experiment.data.num_listed == (12, 6)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--accept", "ids.txt"], "--accept is only for the layouts of data sets; name one with --layout"),
        (["--layout", "ssv3"], "unknown layout 'ssv3'"),
        (["--layout", "ucf101", "--split", "4"], "split"),
        (["--layout", "ssv2", "--accept", "nowhere"], "cannot read the list of ids 'nowhere'"),
    ],
)
def test_a_wrong_call_is_one_line(ssv2, tmp_path, monkeypatch, capsys, words, line):
    monkeypatch.chdir(tmp_path)
    assert tada("data", "check", str(ssv2), *words) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1


def test_problems_are_all_listed_and_the_status_is_one(ssv2, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = ssv2 / "something-something-v2-train.json"
    entries = json.loads(path.read_text())
    entries[0]["template"] = "Unheard of [something]"
    entries[1]["id"] = entries[2]["id"]
    path.write_text(json.dumps(entries))
    video(ssv2, entries[3]["id"]).unlink()
    video(ssv2, entries[4]["id"]).write_bytes(b"")
    shutil.copy(video(ssv2, entries[5]["id"]), video(ssv2, "stranger"))
    assert tada("data", "check", str(ssv2), "--layout", "ssv2") == 1
    said = capsys.readouterr().out
    for part in (
        "'Unheard of something' is not a class of",
        f"ids listed twice: 1 ({entries[2]['id']})",
        f"1 of 10 clips of train have no medium ({entries[3]['id']})",
        "zero-length file",
        "media that the annotations do not list",
        "not usable for training",
    ):
        assert part in said


def test_a_worker_opens_the_index_where_it_was_made_or_in_its_own_cache(ssv2, cache, tmp_path):
    check_layout(ssv2, "ssv2", "", cache)
    data = resolve(SPEC, ssv2, cache)
    experiment = Experiment(backbone=Backbone(name="tiny"), data=data, schedule=Schedule(epochs=1, batch_size=2, lr=1))
    own_cache = tmp_path / "other" / "cache"
    assert at_home(experiment, {}, own_cache) == experiment
    assert why_missing(experiment, {}, own_cache) is None
    cache.rename(tmp_path / "elsewhere")
    assert f"share {data.index}, or copy it to {own_cache}" in why_missing(experiment, {}, own_cache)
    own_cache.parent.mkdir()
    (tmp_path / "elsewhere").rename(own_cache)
    assert why_missing(experiment, {}, own_cache) is None
    here = at_home(experiment, {}, own_cache)
    assert here.data.index == str(own_cache / Path(data.index).name)
    assert here.key == experiment.key
    assert FolderClips(here.data, CPU).num_val == 6
    ssv2.rename(tmp_path / "unmounted")
    assert why_missing(experiment, {}, own_cache) == f"its clips, {ssv2}, are not on this machine"


def test_memory_does_not_grow_with_what_is_read(ssv2, cache, monkeypatch):
    monkeypatch.setattr("tadaconv.data.folder.MEMORY_SHARE", 0)
    check_layout(ssv2, "ssv2", "", cache)
    source = FolderClips(resolve(SPEC, ssv2, cache), CPU)

    def held():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    for batch in range(600):
        source.train_batch(torch.arange(batch % 12, batch % 12 + 1), batch, 0)
        if batch == 100:
            before = held()
    assert held() - before < 20
