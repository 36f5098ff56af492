import json
import os
import socket
import threading
from dataclasses import replace

import numpy as np
import pytest

from tadaconv.data import examination, folder
from tadaconv.data.check import check_layout, render
from tadaconv.data.index import CONTENT_RECORD, index_of
from tadaconv.data.layouts.classes import read_class_folders
from tadaconv.errors import UserError
from tadaconv.spec import Folder, Sampling

pytest.importorskip("av", reason="videos are read by PyAV, the extra 'video'")


@pytest.fixture
def check(tmp_path):
    return lambda root, **options: check_layout(root, "classes", "", tmp_path / "cache", **options)


def test_a_sound_folder_passes(clips, check):
    report = check(clips)
    assert report.ok
    sides = {side: (counts.listed, counts.there, counts.broken) for side, counts in report.sides.items()}
    assert sides == {"train": (6, 6, 0), "val": (2, 2, 0)}
    assert (report.heads, report.frames.least, report.frames.most, report.index) == ({"class": 2}, 9, 12, "")
    assert render(report).endswith("every clip can be used")
    assert check(clips, quick=True).frames == report.frames
    with pytest.raises(UserError, match="split '1' of classes, which has only one"):
        check_layout(clips, "classes", "1", clips.parent / "cache")


def test_every_broken_clip_is_named_with_its_reason(clips, write_video, check):
    (clips / "rise" / "r0.mp4").write_bytes(b"")
    (clips / "wait" / "text.mp4").write_text("not a video")
    (clips / "wait" / "x.gif").write_bytes(b"GIF89a")
    (clips / "wait" / "gone.mp4").symlink_to(clips / "nowhere.mp4")
    write_video(clips / "loose.mp4").write_bytes(b"\0" * 100)
    report = check(clips)
    assert not report.ok
    assert {problem.path: problem.reason.split()[0] for problem in report.problems} == {
        ".": "videos", "wait/x.gif": "wrong"
    }  # fmt: skip
    assert {finding.path: finding.reason.split()[1] for finding in report.broken} == {
        "rise/r0.mp4": "zero-length", "wait/gone.mp4": "unreadable", "wait/text.mp4": "unreadable"
    }  # fmt: skip
    text = render(report)
    assert "2 problems:" in text
    assert "  rise/r0.mp4: zero-length file\n" in text
    assert "not usable for training" in text
    (clips / "loose.mp4").unlink()
    (clips / "wait" / "x.gif").unlink()
    assert render(check(clips)).endswith("repair or remove the broken clips and check again")


def test_stills_and_copies_across_the_split_are_warned_of(clips, write_video, check):
    write_video(clips / "rise" / "still.mp4", num_frames=1)
    report = check(clips)
    assert report.ok
    assert "1 have fewer than 8" in render(report)

    given = clips.parent / "given"
    for side in ("train", "val"):
        for name in ("rise", "wait"):
            write_video(given / side / name / "1.mp4", num_frames=10 if name == "rise" else 9 + (side == "val"))
    (warning,) = check(given).warnings
    assert warning.reason.startswith("2 validation clips are copies of training clips (val/rise/1.mp4 of train/")


def test_the_report_is_json(clips, check):
    (clips / "wait" / "x.gif").touch()
    document = json.loads(check(clips).model_dump_json())
    assert document["problems"][0].keys() == {"path", "reason"}
    assert document["heads"] == {"class": 2}


def test_what_is_no_file_is_named_and_not_waited_for(clips, monkeypatch, check):
    os.mkfifo(clips / "rise" / "fifo.mp4")
    (clips / "wait" / "link.mp4").symlink_to(clips / "rise" / "fifo.mp4")
    (clips / "wait" / "device.mp4").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(clips / "rise")  # an absolute path may be too long for a socket
        server.bind("socket.mp4")
    writer = os.open(clips / "rise" / "fifo.mp4", os.O_RDWR)  # ends the wait of whoever reads
    closing = threading.Timer(5, os.close, [writer])
    closing.start()
    report = check(clips)
    waiting = closing.is_alive()
    closing.cancel()
    assert waiting
    os.close(writer)
    names = {"rise/fifo.mp4", "rise/socket.mp4", "wait/link.mp4", "wait/device.mp4"}
    reason = "not a regular file but a FIFO, a socket or a device; remove it"
    assert {finding.path: finding.reason for finding in report.broken} == {name: f"{name}: {reason}" for name in names}


def test_names_that_are_not_utf8_are_checked_shown_and_written_as_json(clips, check):
    root = clips.rename(clips.parent / "r\udce9sum\u00e9")
    (root / "rise").rename(root / "caf\udce9")
    (root / "caf\udce9" / "r0.mp4").rename(root / "caf\udce9" / "\udcff.mp4")
    (root / "caf\udce9" / "r1.mp4").write_bytes(b"")
    report = check(root)
    document = json.loads(report.model_dump_json().encode())
    assert document["root"].endswith("/r\\udce9sum\u00e9")
    name = "caf\\udce9/r1.mp4"
    assert document["broken"] == [{"path": name, "reason": f"{name}: zero-length file"}]
    assert "  caf\\udce9/r1.mp4: zero-length file" in render(report).encode().decode()


def test_classes_that_are_mirror_images_are_warned_of(clips, check):
    for name, new in (("rise", "swipe_left"), ("wait", "swipe_right")):
        (clips / name).rename(clips / new)
    report = check(clips)
    assert report.ok
    assert (
        "classes that are mirror images of one another, exchanged by mirror='swap': swipe_left / swipe_right"
        in render(report)
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (Folder(num_frames=8), "rise/r0.mp4) with fewer frames than a clip takes, 8;"),
        (Folder(num_frames=8, short_clips="repeat"), ""),
        (Folder(num_frames=4, sampling=Sampling(kind="intervals", interval=4)), "rise/r2.mp4) without a frame rate"),
        (
            Folder(num_frames=4, short_clips="repeat", sampling=Sampling(kind="intervals", interval=4)),
            "rise/r2.mp4) without a frame rate",
        ),
    ],
)
def test_short_videos_and_such_without_a_frame_rate_stop_the_runs_that_need_more(data, reason, clips):
    annotations = read_class_folders(clips, 0.25)
    records = np.zeros(8, CONTENT_RECORD)
    records["frames"], records["fps"] = 90, 30
    names = list(annotations.ids)
    records["frames"][names.index("rise/r0.mp4")] = 7
    records["fps"][names.index("rise/r2.mp4")] = np.nan
    refused = ""
    try:
        folder._require_usable_index(index_of(annotations, records), data)
    except UserError as error:
        refused = str(error)
    assert "\n" not in refused
    assert (reason in refused) if reason else not refused


def test_a_video_without_a_frame_rate_is_counted(clips, check, monkeypatch):
    inspect = examination.inspect
    monkeypatch.setattr(
        examination, "inspect", lambda path: replace(inspect(path), fps=0.0 if path.stem == "r2" else 25.0)
    )
    report = check(clips)
    assert report.ok
    assert report.rates == {"25": 7, "unknown": 1}
