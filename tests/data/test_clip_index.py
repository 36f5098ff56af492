from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tadaconv.data.annotations import SIDES, Strings
from tadaconv.data.index import RECORD, Journal, Measured, index_of, open_index, write_index
from tadaconv.data.layouts import read
from tadaconv.data.sample import sample_clips, write_layout
from tadaconv.errors import UserError


class EmptyMedia:
    def video(self, path, clips, rate):
        del clips, rate
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def frames(self, folder, template, clips, rate):
        self.video(folder / template.format(number=1), clips, rate)


@pytest.fixture
def annotations(tmp_path):
    write_layout("epic100", "frames", tmp_path / "data", sample_clips(2, 1), EmptyMedia())
    return read("epic100", tmp_path / "data")


def records(count, **fields):
    measured = np.zeros(count, dtype=RECORD)
    measured["frames"], measured["height"], measured["width"] = 50, 64, 80
    for name, values in fields.items():
        measured[name] = values
    return measured


def test_an_index_holds_what_was_annotated_and_measured(tmp_path, annotations):
    measured = records(len(annotations), fps=np.arange(len(annotations)))
    written = write_index(tmp_path / "index", index_of(annotations, measured))
    opened = open_index(tmp_path / "index")
    for name in ("ids", "media"):
        assert list(getattr(opened, name)) == list(getattr(annotations, name))
    for name in ("sides", "labels", "spans"):
        np.testing.assert_array_equal(getattr(opened, name), getattr(annotations, name))
    assert (opened.measured == measured).all()
    assert (opened.heads, opened.frames, opened.listed) == (annotations.heads, annotations.frames, annotations.listed)
    assert opened.subset_names == tuple(annotations.subsets)
    assert (opened.subsets == np.stack(list(annotations.subsets.values()), 1)).all()
    assert opened.fingerprint == written.fingerprint
    assert opened.unusable() == []
    assert len(opened.places("train")) + len(opened.places("val")) == len(annotations)


def test_the_fingerprint_is_of_what_a_network_can_tell(annotations):
    count = len(annotations)

    def fingerprint(annotations=annotations, left_out=None, **fields):
        return index_of(annotations, records(count, **fields), left_out).fingerprint

    plain = fingerprint()
    copied = replace(annotations, media=Strings(f"{path}.mkv" for path in annotations.media))
    assert fingerprint(copied, bytes=7, changed=9, digest=b"other") == plain
    others = [
        fingerprint(frames=51),
        fingerprint(height=65),
        fingerprint(width=81),
        fingerprint(fps=25),
        fingerprint(replace(annotations, sides=1 - annotations.sides)),
        fingerprint(replace(annotations, labels=annotations.labels[::-1])),
        fingerprint(replace(annotations, spans=annotations.spans + 1)),
        fingerprint(replace(annotations, ids=Strings(f"{clip_id}x" for clip_id in annotations.ids))),
        fingerprint(frames=[0] + [50] * (count - 1)),
        fingerprint(left_out=np.arange(count) == 0, frames=[0] + [50] * (count - 1)),
        fingerprint(replace(annotations, heads=annotations.heads[::-1])),
        fingerprint(replace(annotations, subsets={name[::-1]: one for name, one in annotations.subsets.items()})),
    ]
    assert len({plain, *others}) == len(others) + 1


def test_a_list_of_test_clips_makes_no_other_data(annotations):
    def fingerprint(number_of_test):
        sides = np.append(annotations.sides, np.int8(SIDES.index("test")))
        with_test = replace(
            annotations, ids=Strings([*annotations.ids, f"P99_{number_of_test}"]), sides=sides,
            media=Strings([*annotations.media, ""]), labels=np.append(annotations.labels, [[-1, -1]], 0),
            spans=np.append(annotations.spans, [[np.nan, np.nan]], 0),
            subsets={name: np.append(members, False) for name, members in annotations.subsets.items()},
        )  # fmt: skip
        measured = np.append(records(len(annotations)), np.zeros(1, RECORD))
        return index_of(with_test, measured).fingerprint

    plain = index_of(annotations, records(len(annotations))).fingerprint
    assert fingerprint(1) == fingerprint(2) == plain


def test_missing_clips_are_named_until_they_are_accepted(annotations):
    frames = [50] * len(annotations)
    frames[3] = frames[-1] = 0
    gone = [annotations.ids[3], annotations.ids[len(annotations) - 1]]
    assert index_of(annotations, records(len(frames), frames=frames)).unusable() == gone
    index = index_of(annotations, records(len(frames), frames=frames), np.arange(len(frames)) == 3)
    assert index.unusable() == gone[1:]
    assert 3 not in index.places("train")


def test_a_journal_goes_on_where_it_was_stopped(tmp_path):
    paths = [f"videos/{number}.mp4" for number in range(20)]
    sizes, changed = np.arange(20), np.arange(20) + 100
    with closing(Journal(tmp_path)) as journal:
        assert not journal.known(paths, sizes, changed)["frames"].any()
        for number in range(10):
            journal.add(paths[number], number, number + 100, Measured(number + 1, 64, 80, fps=12.0))
        journal.add(paths[10], 10, 110, Measured(0, 0, 0, reason="no frames"))
    with (tmp_path / "journal.bin").open("ab") as file:
        file.write(b"\1\2\3")  # stopped in the middle
    with closing(Journal(tmp_path)) as journal:
        journal.add(paths[11], 11, 111, Measured(7, 64, 80))
        journal.add(paths[0], 0, 100, Measured(99, 64, 80))
        journal.add(paths[12], 12, 112, Measured(0, 0, 0, reason="unreadable"))
        found = journal.known(paths, sizes, changed)
        assert list(found["frames"]) == [99, *range(2, 11), 0, 7, *[0] * 8]
        assert list(found["path"] != 0) == [True] * 13 + [False] * 7
        # Of another size or time of change, a medium is not known.
        assert not journal.known(paths, sizes + 1, changed)["frames"].any()
        assert not journal.known(paths, sizes, changed + 1)["frames"].any()


def test_an_index_that_is_not_there_says_how_to_make_one(tmp_path):
    with pytest.raises(UserError, match=r"no index in .*; make one with: tada data check"):
        open_index(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the index in"):
        Journal(tmp_path / "file" / "x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_is_one_line(tmp_path):
    (tmp_path / "journal.bin").symlink_to("/dev/full")
    with (
        closing(Journal(tmp_path)) as journal,
        pytest.raises(UserError, match=r"cannot write the index in .*: No space left"),
    ):
        journal.add("a.mp4", 1, 2, Measured(8, 64, 80))
