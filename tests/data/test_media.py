import os

import pytest

from tadaconv.data.media import Finder, FrameFiles, comparable, frame_files, stem, survey


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(("name", "expected"), [
    ("a.mp4", "a"), ("-a_b.MP4", "-a_b"), ("a.mp4.webm", "a"), ("a.b.avi", "a.b"), ("a", "a"), (".mp4", ".mp4"),
    ("a.txt", "a.txt"),
])  # fmt: skip
def test_stems(name, expected):
    assert stem(name) == expected


@pytest.mark.parametrize(("names", "expected"), [
    (["img_00001.jpg", "img_00002.jpg"], FrameFiles("img_{number:05d}.jpg", 1)),
    (["000001.jpg", "000002.jpg"], FrameFiles("{number:06d}.jpg", 1)),
    (["00000.jpg", "00001.jpg"], FrameFiles("{number:05d}.jpg", 0)),
    (["77_000001.jpg"], FrameFiles("{id}_{number:06d}.jpg", 1)),
    (["frame_0000000001.jpg"], FrameFiles("frame_{number:010d}.jpg", 1)),
    (["9.png", "10.png", "11.png"], FrameFiles("{number:01d}.png", 9)),
    (["flow_x_00001.jpg", "flow_y_00001.jpg", "img_00001.JPG"], FrameFiles("img_{number:05d}.JPG", 1)),
    (["{x}_01.jpg"], FrameFiles("{{x}}_{number:02d}.jpg", 1)),
    (["notes.txt", "cover.jpg"], None),
])  # fmt: skip
def test_how_frames_are_called_is_seen(tmp_path, names, expected):
    folder = tmp_path / "77"
    touch(*(folder / name for name in names))
    files = frame_files(folder)
    assert files == expected
    if files is not None:
        assert (folder / files.template.format(id="77", number=files.first)).is_file()


def test_media_and_companions_are_told_apart_and_in_order(tmp_path):
    touch(tmp_path / "b.mp4", tmp_path / "a" / "z.WEBM", tmp_path / "a" / "y.mkv", tmp_path / "train.csv",
          tmp_path / "a" / "thumbnail_1.jpg",
          tmp_path / "frames" / "7" / "00001.jpg", tmp_path / ".hidden" / "x.mp4",
          tmp_path / "a" / "x.npy")  # fmt: skip
    tree = survey(tmp_path)
    assert [medium.path for medium in tree.media["video"]] == ["b.mp4", "a/y.mkv", "a/z.WEBM"]
    assert [medium.path for medium in tree.media["frames"]] == ["frames/7"]
    assert tree.companions == ("train.csv",)
    assert not tree.problems


def test_many_folders_of_frames_are_not_all_listed(tmp_path, monkeypatch):
    touch(*(tmp_path / "f" / f"{number:03d}" / "1.jpg" for number in range(100)))
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    assert len(survey(tmp_path).media["frames"]) == 100
    assert len(listed) < 40


def test_annotations_among_folders_of_frames_are_seen(tmp_path):
    touch(*(tmp_path / f"{number:03d}" / "1.jpg" for number in range(50)), tmp_path / "labels" / "train.json")
    tree = survey(tmp_path)
    assert tree.companions == ("labels/train.json",)
    assert len(tree.media["frames"]) == 50


def test_a_link_that_leads_round_ends(tmp_path):
    touch(tmp_path / "a" / "x.mp4")
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    tree = survey(tmp_path)
    assert [medium.path for medium in tree.media["video"]] == ["a/x.mp4"]


def test_of_several_media_the_exact_name_then_the_folder_decides(tmp_path):
    touch(tmp_path / "eat cake" / "k_1.mp4", tmp_path / "run" / "k_1.mp4", tmp_path / "run" / "k_2.mp4")
    media = survey(tmp_path).media["video"]
    finder = Finder(media, key_of=lambda name: name.split("_")[0])
    assert finder.find("k", exact="k_2") == (("run", "k_2.mp4"), False)
    assert finder.find("k", exact="k_1", folder="Eat_Cake") == (("eat cake", "k_1.mp4"), False)
    assert finder.find("k", exact="k_1") == (media[0], True)
    assert finder.find("K") == (None, False)
    strict = Finder(media, class_folders=frozenset(map(comparable, ("eat cake", "run"))))
    assert strict.find("k_2", folder="eat cake") == (None, False)
