from pathlib import Path

import pytest
from annotated import clips_of
from hypothesis import given
from hypothesis import strategies as st

from tadaconv.data.annotations import Annotations
from tadaconv.data.layouts.classes import Clip, held_out, read_class_folders
from tadaconv.errors import UserError

stems = st.sets(st.text("abcdefgh0123456789_", min_size=1, max_size=8), min_size=1, max_size=30)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def complaints(root: Path) -> dict[str, str]:
    return {problem.path: problem.reason for problem in read_class_folders(root, 0.25).problems}


def names_of(annotations: Annotations) -> tuple[str, ...]:
    return annotations.heads[0][1]


@given(stems, st.floats(0.01, 0.99))
def test_every_class_of_two_or_more_has_both_sides(names, share):
    clips = [Clip(f"a/{name}.mp4", "a") for name in names]
    chosen = held_out(clips, share)
    assert chosen <= set(clips)
    assert (0 < len(chosen) < len(clips)) == (len(clips) > 1)
    assert held_out(clips[::-1], share) == chosen


@given(stems, st.text("xyz", min_size=1, max_size=5))
def test_a_new_clip_moves_at_most_the_one_that_filled_a_side(names, new):
    clips = [Clip(f"a/{name}.mp4", "a") for name in names]
    before, after = (
        held_out(clips, 0.25),
        held_out([*clips, Clip(f"a/{new}.mp4", "a")], 0.25) - {Clip(f"a/{new}.mp4", "a")},
    )
    moved = before ^ after
    assert len(moved) <= 1
    if 1 < len(before) < len(clips) - 1:
        assert not moved


def test_the_split_goes_by_name_alone_and_near_the_share_asked_for():
    clips = [Clip(f"{name}/{i}{ext}", name) for name, ext in (("a", ".mp4"), ("b", ".avi")) for i in range(1000)]
    chosen = held_out(clips, 0.25)
    sides = [{Path(clip.path).stem for clip in chosen if clip.class_name == name} for name in "ab"]
    assert sides[0] == sides[1]
    assert 200 < len(sides[0]) < 300


def test_a_given_split_is_taken_as_it_is(tmp_path):
    root = touch(
        tmp_path, "train/b/1.MP4", "train/a/1.mkv", "train/a/2.webm", "val/a/3.avi", "val/b/2.mov", "labels.csv"
    )
    annotations = read_class_folders(root, 0.25)
    assert names_of(annotations) == ("a", "b")
    clips = [(clip.id, clip.side, clip.labels) for clip in clips_of(annotations)]
    assert clips == [
        ("train/a/1.mkv", "train", (0,)), ("train/a/2.webm", "train", (0,)), ("train/b/1.MP4", "train", (1,)),
        ("val/a/3.avi", "val", (0,)), ("val/b/2.mov", "val", (1,)),
    ]  # fmt: skip
    assert list(annotations.media) == list(annotations.ids)
    assert annotations.problems == annotations.warnings == ()


def test_a_class_that_only_val_has_is_a_problem(tmp_path):
    root = touch(
        tmp_path, "train/a/1.mp4", "train/b/1.mp4", "val/a/2.mp4", "val/c/1.mp4", "val/c/2.mp4", "test/a/9.mp4"
    )
    annotations = read_class_folders(root, 0.25)
    assert complaints(root) == {"val/c": "a class of val/ without clips in train/"}
    assert {warning.path for warning in annotations.warnings} == {"test", "train/b", "."}


def test_files_of_other_kinds_are_reported_unless_they_are_notes(tmp_path):
    root = touch(tmp_path, "a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.mp4", "a/.hidden", "a/notes.TXT", "b/3.mpg", "b/4")
    found = complaints(root)
    assert set(found) == {"b/3.mpg", "b/4"}
    assert found["b/3.mpg"].startswith("wrong extension '.mpg'; clips are mp4")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], "no clips"),
        (["a/notes.txt"], "no clips"),
        (["a/1.mp4", "a/2.mp4"], "only one class, 'a'"),
        (["a/1.mp4", "b/1.mp4"], "no clips to validate on"),
        (["train/a/1.mp4", "train/b/1.mp4", "val/x.txt"], "no clips to validate on"),
        (["a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.mp4", "stray.mp4"], "videos outside class folders: 1 (stray.mp4)"),
    ],
)
def test_a_folder_nothing_can_be_learned_from_is_a_problem(tmp_path, names, expected):
    assert complaints(touch(tmp_path, *names))["."].startswith(expected)


def test_half_a_split_is_not_taken_for_a_class(tmp_path):
    root = touch(tmp_path, "train/a/1.mp4", "train/b/1.mp4")
    assert "val/ is not next to it" in complaints(root)["train"]


def test_a_class_may_be_called_train(tmp_path):
    root = touch(tmp_path, "train/1.mp4", "train/2.mp4", "bus/1.mp4", "bus/2.mp4")
    assert names_of(read_class_folders(root, 0.25)) == ("bus", "train")
    assert not complaints(root)


def test_empty_single_and_nested_are_warned_of(tmp_path):
    root = touch(tmp_path, "a/1.mp4", "a/2.mp4", "b/1.mp4", "c/notes.txt", "a/more/3.mp4")
    annotations = read_class_folders(root, 0.25)
    assert annotations.problems == ()
    assert {warning.path for warning in annotations.warnings} == {".", "c", "a/more"}
    assert names_of(annotations) == ("a", "b")


def test_what_is_no_folder_is_a_wrong_call(tmp_path):
    with pytest.raises(UserError, match="no folder at"):
        read_class_folders(tmp_path / "nowhere", 0.25)
