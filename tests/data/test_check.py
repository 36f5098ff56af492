import json
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tadaconv.data import inspection
from tadaconv.data.check import check, problems, render
from tadaconv.data.decode import VideoInfo
from tadaconv.data.inspection import Inspection
from tadaconv.data.layout import Layout
from tadaconv.spec import Folder, Sampling

pytest.importorskip("av", reason="videos are read by PyAV, the extra 'video'")


def test_a_sound_folder_passes(clips):
    report = check(clips)
    assert report.ok
    assert (report.num_train + report.num_val, report.num_frames) == (8, 2 * (9 + 10 + 11 + 12))
    assert report.class_names == ("rise", "wait")
    assert render(report).endswith("every clip decodes")


def test_every_broken_clip_is_named_with_its_reason(clips, write_video):
    (clips / "rise" / "r0.mp4").write_bytes(b"")
    (clips / "wait" / "text.mp4").write_text("not a video")
    (clips / "wait" / "x.gif").write_bytes(b"GIF89a")
    (clips / "wait" / "gone.mp4").symlink_to(clips / "nowhere.mp4")
    write_video(clips / "loose.mp4").write_bytes(b"\0" * 100)
    report = check(clips)
    assert not report.ok
    assert {problem.path: problem.reason.split()[0] for problem in report.problems} == {
        ".": "1",
        "loose.mp4": "unreadable",
        "rise/r0.mp4": "zero-length",
        "wait/gone.mp4": "unreadable",
        "wait/text.mp4": "unreadable",
        "wait/x.gif": "wrong",
    }
    text = render(report)
    assert "6 problems:" in text
    assert "  rise/r0.mp4: zero-length file\n" in text


def test_stills_and_copies_across_the_split_are_warned_of(clips, write_video):
    write_video(clips / "rise" / "still.mp4", num_frames=1)
    report = check(clips)
    assert report.ok
    assert [warning.path for warning in report.warnings] == ["rise/still.mp4"]
    assert "1 frame" in report.warnings[0].reason

    given = clips.parent / "given"
    for side in ("train", "val"):
        for name in ("rise", "wait"):
            write_video(given / side / name / "1.mp4", num_frames=10 if name == "rise" else 9 + (side == "val"))
    assert {warning.path for warning in check(given).warnings} == {"val/rise/1.mp4", "val/wait/1.mp4"}


def test_the_report_is_json(clips):
    document = json.loads(check(clips).model_dump_json())
    assert document["problems"] == []
    assert document["class_names"] == ["rise", "wait"]


def test_what_is_no_file_is_named_and_not_waited_for(clips, monkeypatch):
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
    reasons = {problem.path: problem.reason for problem in report.problems}
    assert set(reasons) == {"rise/fifo.mp4", "rise/socket.mp4", "wait/link.mp4", "wait/device.mp4"}
    assert set(reasons.values()) == {"not a regular file but a FIFO, a socket or a device; remove it"}


def test_names_that_are_not_utf8_are_checked_shown_and_written_as_json(clips):
    root = clips.rename(clips.parent / "r\udce9sum\u00e9")
    (root / "rise").rename(root / "caf\udce9")
    (root / "caf\udce9" / "r0.mp4").rename(root / "caf\udce9" / "\udcff.mp4")
    (root / "caf\udce9" / "r1.mp4").write_bytes(b"")
    report = check(root)
    assert report.num_train + report.num_val == 8
    document = json.loads(report.model_dump_json().encode())
    assert document["root"].endswith("/r\\udce9sum\u00e9")
    assert document["class_names"] == ["caf\\udce9", "wait"]
    assert document["problems"] == [{"path": "caf\\udce9/r1.mp4", "reason": "zero-length file"}]
    assert "  caf\\udce9/r1.mp4: zero-length file" in render(report).encode().decode()


def test_classes_that_are_mirror_images_are_warned_of(clips):
    for name, new in (("rise", "swipe_left"), ("wait", "swipe_right")):
        (clips / name).rename(clips / new)
    report = check(clips)
    assert report.ok
    (warning,) = report.warnings
    assert warning.path == "."
    assert "'swipe_left' and 'swipe_right'" in warning.reason
    assert "mirror='swap'" in warning.reason


@pytest.mark.parametrize(
    ("data", "reasons"),
    [
        (Folder(num_frames=8), ["no.mp4 7"]),
        (Folder(num_frames=8, short_clips="repeat"), []),
        (Folder(num_frames=4, sampling=Sampling(kind="intervals", interval=4)), ["late.mp4 rate", "no.mp4 7 of 13"]),
        (
            Folder(num_frames=4, sampling=Sampling(kind="intervals", rule="paper", interval=4)),
            ["late.mp4 rate", "long.mp4 15 of 16", "no.mp4 7 of 16"],
        ),
        (
            Folder(num_frames=4, short_clips="repeat", sampling=Sampling(kind="intervals", interval=4)),
            ["late.mp4 rate"],
        ),
    ],
)
def test_short_videos_and_such_without_a_frame_rate_stop_the_runs_that_need_more(data, reasons):
    counts = {"no.mp4": (7, 30.0), "long.mp4": (15, 30.0), "late.mp4": (90, 0.0)}
    found = {path: Inspection("", VideoInfo(count, 48, 64, fps)) for path, (count, fps) in counts.items()}
    layout = Layout(Path(), (), (), (), (), ())
    said = []
    for problem in problems(layout, found, data):
        assert "\n" not in problem.reason
        if "frame rate" in problem.reason:
            said.append(f"{problem.path} rate")
        else:
            count = problem.reason.split()[0]
            needed = problem.reason.partition("fewer than a clip takes: ")[2].split(";")
            said.append(f"{problem.path} {count}" + (f" of {needed[0]}" if needed[0] else ""))
    assert said == reasons


def test_a_video_without_a_frame_rate_is_warned_of(clips, monkeypatch):
    monkeypatch.setattr(inspection, "_known", {})
    look = inspection.inspect
    monkeypatch.setattr(inspection, "inspect", lambda path: replace(look(path), fps=0.0 if path.stem == "r2" else 25.0))
    report = check(clips)
    assert report.ok
    assert [warning.path for warning in report.warnings] == ["rise/r2.mp4"]
    assert report.warnings[0].reason == "no frame rate in its container; a run on intervals refuses it"
