"""Reading ahead: the same bytes by any number of readers, and no reader outlives what it reads for."""

import gc
import json
import mmap
import os
import platform
import signal
import subprocess
import sys
import threading
import time
import weakref
from functools import partial
from pathlib import Path

import allocating_reads
import hanging_reads
import numpy as np
import pytest
import torch

from tadaconv.data import folder, prefetch, threads
from tadaconv.data.check import check_layout
from tadaconv.data.folder import TRAIN, VAL, FolderClips, resolve
from tadaconv.data.sample import DigitMedia, sample_clips, write_layout
from tadaconv.errors import RunError, UserError
from tadaconv.experiment import run
from tadaconv.models import build
from tadaconv.preview import probe
from tadaconv.spec import Backbone, Experiment, Folder, Schedule
from tadaconv.training import Fit
from tadaconv.training.fit import epoch_order

pytest.importorskip("av", reason="videos are read by PyAV, the extra 'video'")

CPU = torch.device("cpu")
SPEC = Folder(num_frames=4, size=16, short_side=24, num_temporal_views=2, num_spatial_crops=3)


@pytest.fixture(autouse=True)
def _nothing_fits_into_memory(monkeypatch):
    monkeypatch.setattr(folder, "_known", {})
    monkeypatch.setattr(folder, "MEMORY_SHARE", 0)
    monkeypatch.setattr(prefetch, "_num_readers", 1)


@pytest.fixture
def many_clips(tmp_path, write_video):
    """Two classes of seven clips to train on and two to validate on, upright and lying, all different."""
    root = tmp_path / "clips"
    for number in range(7):
        write_video(root / "train" / "rise" / f"r{number}.mp4", num_frames=9 + number)
        write_video(root / "train" / "wait" / f"w{number}.mkv", num_frames=9 + number, size=(64, 48))
    for number in range(2):
        write_video(root / "val" / "rise" / f"r{number}.mp4", num_frames=20 + number)
        write_video(root / "val" / "wait" / f"w{number}.mkv", num_frames=20 + number, size=(48, 80))
    return root


@pytest.fixture
def resolved(many_clips, tmp_path):
    return resolve(SPEC, many_clips, tmp_path / "cache")


@pytest.fixture
def opened():
    """Opens sources that are closed at the end."""
    sources = []

    def open_one(data):
        sources.append(FolderClips(data, CPU))
        return sources[-1]

    yield open_one
    for source in sources:
        source.close()


def batches_of(num_clips, num_batches, epochs=(0,)):
    return [
        (batch, epoch, 7) for epoch in epochs for batch in epoch_order(num_clips, 7, epoch).tensor_split(num_batches)
    ]


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def pids_of(source):
    return source._readers.process_ids


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize(("readers", "depth"), [(0, 3), (1, 1), (1, 3), (3, 1), (3, 2), (3, 30)])
def test_batches_are_the_same_by_any_number_of_readers_and_any_depth(readers, depth, resolved, opened, monkeypatch):
    plain, ahead = opened(resolved), opened(resolved)
    monkeypatch.setattr(prefetch, "DEPTH", depth)
    monkeypatch.setattr(prefetch, "_num_readers", readers)
    train, val = batches_of(14, 4, epochs=(0, 1)), list(torch.arange(4).split(3))
    ahead.expect_train(iter(train))
    assert len(pids_of(ahead)) == readers
    for number, batch in enumerate(train):
        if number % 4 == 3:  # an evaluation in the midst of what is read ahead, as at the end of an epoch
            ahead.expect_val(val)
            for indices in val:
                assert equal(ahead.val_batch(indices), plain.val_batch(indices))
        assert equal(ahead.train_batch(*batch), plain.train_batch(*batch))
    assert readers == 0 or ahead._threads is None  # nothing was read but ahead


def test_a_source_says_whether_it_reads(resolved, opened, monkeypatch):
    assert not opened(resolved).is_in_memory
    monkeypatch.setattr(folder, "MEMORY_SHARE", 1 / 8)
    assert opened(resolved).is_in_memory


def test_a_plan_times_the_readers_that_a_cell_has_and_leaves_none(resolved, monkeypatch):
    started = []
    start = prefetch.Readers._start
    monkeypatch.setattr(prefetch.Readers, "_start", lambda self, number: (started.append(self), start(self, number)))
    schedule = Schedule(epochs=1, batch_size=4, lr=0.01, curve_views="one")
    experiment = Experiment(backbone=Backbone(name="tiny"), temporal=None, data=resolved, schedule=schedule)
    reading = probe(experiment, CPU, budget_seconds=0.05).reading
    assert (reading.form, reading.num_readers) == ("video", 1)
    assert reading.step.reading_seconds == pytest.approx(14 / 4 / reading.train_clips_per_second)
    assert reading.evaluation.reading_seconds == pytest.approx(4 / reading.val_clips_per_second)
    assert started
    assert not any(readers.process_ids for readers in started)


def test_what_was_not_told_is_read_when_asked_for_and_what_was_told_stays(resolved, opened):
    plain, ahead = opened(resolved), opened(resolved)
    train = batches_of(14, 4)
    ahead.expect_train(train)
    other = (torch.arange(5), 3, 1)
    assert equal(ahead.train_batch(*other), plain.train_batch(*other))
    assert equal(ahead.val_batch(torch.arange(4)), plain.val_batch(torch.arange(4)))
    by_itself = ahead._threads
    assert by_itself is not None
    ahead._threads = None
    for batch in train:
        assert equal(ahead.train_batch(*batch), plain.train_batch(*batch))
    assert ahead._threads is None
    ahead._threads = by_itself


def test_batches_may_be_asked_for_in_parts(resolved, opened):
    plain, ahead = opened(resolved), opened(resolved)
    train = batches_of(14, 3)
    ahead.expect_train(train)
    for indices, epoch, seed in train:
        for part in indices.tensor_split(4):
            assert equal(ahead.train_batch(part, epoch, seed), plain.train_batch(part, epoch, seed))
    assert ahead._threads is None


def test_a_batch_that_goes_beyond_what_was_told_is_read_when_asked_for(resolved, opened):
    plain, ahead = opened(resolved), opened(resolved)
    (first, epoch, seed), (second, _, _), *_ = batches_of(14, 4)
    ahead.expect_train([(first, epoch, seed)])
    both = torch.cat([first, second]), epoch, seed
    taken = []
    thread = threading.Thread(target=lambda: taken.append(ahead.train_batch(*both)), daemon=True)
    thread.start()
    thread.join(10.0)
    assert taken, "waits for clips that nobody reads"
    assert equal(taken[0], plain.train_batch(*both))


def test_telling_anew_takes_the_place_of_what_was_told(resolved, opened):
    plain, ahead = opened(resolved), opened(resolved)
    for start in (0, 2, 1):
        train = batches_of(14, 4)[start:]
        ahead.expect_train(train)
        assert equal(ahead.train_batch(*train[0]), plain.train_batch(*train[0]))
    assert ahead._threads is None


def test_two_sources_of_the_same_clips_share_their_readers(resolved, opened):
    full = opened(resolved)
    one_view = FolderClips(resolved.but(num_temporal_views=1, num_spatial_crops=1), CPU, sharing_with=full)
    alone = opened(one_view._data)
    for source, other in ((one_view, alone), (full, opened(resolved)), (one_view, alone)):
        val = torch.arange(4).split(2)
        source.expect_val(val)
        for indices in val:
            assert equal(source.val_batch(indices), other.val_batch(indices))
    assert one_view._readers is full._readers
    assert len(pids_of(full)) == 1


@pytest.mark.parametrize(("layout", "form"), [("epic100", "videos"), ("ssv2", "frames"), ("ucf101", "videos")])
def test_readers_open_the_index_of_a_data_set_by_themselves(layout, form, opened, tmp_path):
    root = tmp_path / "set"
    write_layout(layout, form, root, sample_clips(1, 1), DigitMedia())
    check_layout(root, layout, "1" if layout == "ucf101" else "", tmp_path / "cache", quick=False)
    spec = SPEC.but(layout=layout, mirror="no", short_clips="repeat", split="1" if layout == "ucf101" else "")
    data = resolve(spec, root, tmp_path / "cache")
    plain, ahead = opened(data), opened(data)
    train, val = batches_of(plain.num_train, 2), torch.arange(plain.num_val).split(2)
    ahead.expect_train(train)
    ahead.expect_val(val)
    for batch in train:
        assert equal(ahead.train_batch(*batch), plain.train_batch(*batch))
    for indices in val:
        assert equal(ahead.val_batch(indices), plain.val_batch(indices))
    assert ahead._threads is None


def test_an_index_that_was_replaced_meanwhile_is_not_read(opened, tmp_path):
    root = tmp_path / "set"
    write_layout("ssv2", "frames", root, sample_clips(1, 1), DigitMedia())
    check_layout(root, "ssv2", "", tmp_path / "cache", quick=False)
    data = resolve(SPEC.but(layout="ssv2", mirror="no", short_clips="repeat"), root, tmp_path / "cache")
    source = opened(data)
    entries = root / "something-something-v2-train.json"
    entries.write_text(json.dumps(json.loads(entries.read_text())[1:]))
    check_layout(root, "ssv2", "", tmp_path / "cache", quick=False)
    train = batches_of(source.num_train, 2)
    source.expect_train(train)
    with pytest.raises(UserError, match=r"the index in .* has changed since it was opened; give the same"):
        source.train_batch(*train[0])


def test_clips_kept_in_memory_need_no_readers(resolved, opened, monkeypatch):
    monkeypatch.setattr(folder, "MEMORY_SHARE", 1)
    source = opened(resolved)
    source.expect_train(batches_of(14, 4))
    assert source._readers is None


def test_who_trains_on_a_part_takes_the_memory_of_whole_evaluations_before(resolved, opened, monkeypatch):
    monkeypatch.setattr(prefetch, "_num_readers", 1)
    source = opened(resolved)
    source.expect_train(batches_of(source.num_train, 1), 1, views=24)
    taken = source._readers._lanes[VAL].capacity
    evaluated = torch.arange(source.num_val).split(24 // source.num_views)
    assert len(evaluated[0]) > 1
    source.expect_val(evaluated)
    assert source._readers._lanes[VAL].capacity == taken


def experiment_on(data):
    schedule = Schedule(epochs=2, batch_size=2, lr=0.05, warmup_epochs=1)
    return Experiment(backbone=Backbone(name="tiny"), data=data, schedule=schedule)


def fit(source, experiment, path=None):
    torch.manual_seed(0)
    model = build(experiment.backbone, None, 2, experiment.data.num_frames)
    return Fit(model, source, experiment.schedule, 5, CPU, "cell", path)


class _StopError(Exception):
    pass


def test_a_run_taken_up_at_any_step_of_an_epoch_ends_as_one_never_stopped(resolved, opened, tmp_path, monkeypatch):
    for name in ("CHECKPOINT_SECONDS", "TIMES_A_SAVE", "REPORT_SECONDS"):
        monkeypatch.setattr(f"tadaconv.training.fit.{name}", 0.0)
    experiment = experiment_on(resolved)
    source = opened(resolved)
    monkeypatch.setattr(prefetch, "_num_readers", 0)
    undisturbed = fit(source, experiment)
    assert undisturbed.steps_per_epoch == 7
    undisturbed.run(lambda: 0.0)
    monkeypatch.setattr(prefetch, "_num_readers", 1)
    for stop in range(1, 8):
        path = tmp_path / f"{stop}.pt"

        def report(progress, stop=stop):
            if progress.step == stop:
                raise _StopError

        with pytest.raises(_StopError):
            fit(source, experiment, path).run(lambda: 0.0, report)
        again = fit(source, experiment, path)
        again.run(lambda: 0.0)
        for name, value in again.model.state_dict().items():
            assert torch.equal(value, undisturbed.model.state_dict()[name]), (stop, name)
        assert again.state.loss_sum == undisturbed.state.loss_sum


def test_a_cell_has_the_same_numbers_by_readers_and_leaves_none(resolved, monkeypatch):
    experiment = experiment_on(resolved)
    monkeypatch.setattr(prefetch, "_num_readers", 0)
    plain = run(experiment, device="cpu")
    monkeypatch.setattr(prefetch, "_num_readers", 2)
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(prefetch.subprocess, "Popen", lambda *a, **b: started.append(popen(*a, **b)) or started[-1])
    ahead = run(experiment, device="cpu")
    assert len(started) == 2
    assert not any(is_alive(process.pid) for process in started)
    assert (ahead.confusion, ahead.loss) == (plain.confusion, plain.loss)
    assert [point.train_loss for point in ahead.curve] == [point.train_loss for point in plain.curve]


def test_micro_batches_read_ahead_and_taken_up_at_any_step_end_as_one_run(resolved, opened, tmp_path, monkeypatch):
    for name in ("CHECKPOINT_SECONDS", "TIMES_A_SAVE", "REPORT_SECONDS"):
        monkeypatch.setattr(f"tadaconv.training.fit.{name}", 0.0)
    experiment = experiment_on(resolved).but(
        schedule__batch_size=5, schedule__norm_batch=2, backbone__dropout=0.5, schedule__clip_norm=1.0
    )
    monkeypatch.setattr(prefetch, "_num_readers", 0)
    undisturbed = fit(opened(resolved), experiment)
    assert [len(part.indices) for part in undisturbed.micro_batches(1)] == [2, 2, 1]
    undisturbed.run(lambda: 0.0)
    monkeypatch.setattr(prefetch, "_num_readers", 2)
    ahead = opened(resolved)
    for stop in range(1, 6):
        path = tmp_path / f"{stop}.pt"

        def report(progress, stop=stop):
            if progress.step == stop:
                raise _StopError

        with pytest.raises(_StopError):
            fit(ahead, experiment, path).run(lambda: 0.0, report)
        torch.rand(stop)  # whatever is drawn in between
        again = fit(ahead, experiment, path)
        again.run(lambda: 0.0)
        for name, value in again.model.state_dict().items():
            assert torch.equal(value, undisturbed.model.state_dict()[name]), (stop, name)
        assert again.state.loss_sum == undisturbed.state.loss_sum
    assert ahead._threads is None  # all of it was read ahead
    assert ahead._readers._lanes[TRAIN].max_ahead == prefetch.DEPTH * 5


def first_path(source, batch):
    return source._clips.path(int(source._clips.train[batch[0][0]]))


def hanging_source(resolved, opened, batch):
    source = opened(resolved)
    path = first_path(source, batch)
    source._readers._opening = partial(hanging_reads.opening, [source._clips.path(place) for place in range(18)], path)
    return source, path


def test_a_reader_killed_while_it_reads_ends_the_attempt_with_its_clips(resolved, opened, monkeypatch):
    monkeypatch.setattr(prefetch, "_num_readers", 2)
    train = batches_of(14, 4)
    source, path = hanging_source(resolved, opened, train[0])
    source.expect_train(train)

    def those_at_it():
        return [one for one in source._readers._readers if one.jobs and source._readers._first_of(one) == path]

    assert wait_for(those_at_it)
    (reader,) = those_at_it()
    begin = time.monotonic()
    os.kill(reader.process.pid, signal.SIGKILL)
    with pytest.raises(RunError, match=rf"killed by signal 9 while it read {path}( and |$)"):
        source.train_batch(*train[0])
    assert time.monotonic() - begin < 10
    pids = pids_of(source)
    source.close()
    assert not any(map(is_alive, pids))


def test_a_silent_reader_is_reported_waited_for_and_given_up(resolved, opened, monkeypatch, caplog):
    monkeypatch.setattr(threads, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(threads, "PATIENCE_SECONDS", 1.5)
    train = batches_of(14, 4)
    source, path = hanging_source(resolved, opened, train[0])
    begin = time.monotonic()
    source.expect_train(train)
    with pytest.raises(RunError, match=rf"{path} has not been read after"):
        source.train_batch(*train[0])
    assert 1.5 <= time.monotonic() - begin < 6
    lines = [record.message for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith(f"{path} has not been read after")


def test_closing_and_telling_anew_wait_for_no_clip_that_hangs(resolved, opened, monkeypatch):
    monkeypatch.setattr(prefetch, "_num_readers", 2)
    train = batches_of(14, 4)
    source, _ = hanging_source(resolved, opened, train[0])
    source.expect_train(train)
    begin = time.monotonic()
    source.close()
    assert time.monotonic() - begin < 3
    source._readers._opening = partial(hanging_reads.sound, [source._clips.path(place) for place in range(18)])
    source.expect_train(train)
    assert equal(source.train_batch(*train[0]), opened(resolved).train_batch(*train[0]))


def test_what_goes_wrong_with_frames_that_were_read_is_raised_where_they_are_asked_for(resolved, opened, monkeypatch):
    def refuse(*_):
        raise torch.OutOfMemoryError("none left")

    train = batches_of(14, 4)
    source = opened(resolved)
    monkeypatch.setattr(folder, "to_clip", refuse)
    source.expect_train(train)
    with pytest.raises(torch.OutOfMemoryError, match="none left"):
        source.train_batch(*train[0])


def take_all(source, train):
    for batch in train:
        source.train_batch(*batch)


def test_a_clip_that_breaks_meanwhile_is_the_error_that_it_is_without_readers(resolved, opened, many_clips):
    train = batches_of(14, 4)
    source = opened(resolved)
    for path in (many_clips / "train" / "rise").iterdir():
        path.write_bytes(b"")
    source.expect_train(train)
    with pytest.raises(RunError, match=r"rise/r\d\.mp4 was intact when checked and no longer is: zero-length file"):
        take_all(source, train)


def test_a_clip_of_another_size_than_when_checked_is_refused(resolved, opened, many_clips, write_video):
    train = batches_of(14, 4)
    source = opened(resolved)
    for number in range(7):
        write_video(many_clips / "train" / "rise" / f"r{number}.mp4", num_frames=9 + number, size=(48, 96))
    source.expect_train(train)
    with pytest.raises(RunError, match=r"intact when checked and no longer is: its frames are 24 x 48 pixels now"):
        take_all(source, train)


def test_what_else_fails_in_a_reader_is_told_with_where(resolved, opened):
    train = batches_of(14, 4)
    source = opened(resolved)
    source._readers._opening = partial(eval, "1 / 0")
    source.expect_train(train)
    with pytest.raises(RunError, match=r"cannot be read: ZeroDivisionError: division by zero") as caught:
        source.train_batch(*train[0])
    assert "Traceback" in caught.value.__notes__[0]


def test_too_little_memory_is_said_before_anything_is_read(resolved, opened, monkeypatch):
    monkeypatch.setattr(prefetch, "free_bytes", lambda: 1000)
    source = opened(resolved)
    with pytest.raises(
        UserError, match=r"read ahead take 0\.\d GiB of memory, and 0\.0 GiB are free; give --readers 0"
    ):
        source.expect_train(batches_of(14, 4))


@pytest.mark.parametrize(("readers", "norm_batch"), [(1, 0), (1, 2), (9, 2)])
def test_all_memory_that_a_run_comes_to_take_is_asked_for_before_it_trains(readers, norm_batch, resolved, monkeypatch):
    """That of evaluations too, of one view per clip while training and of all at the end, however batches are cut."""
    experiment = experiment_on(resolved).but(
        schedule__curve_views="one", schedule__batch_size=6, schedule__norm_batch=norm_batch, schedule__epochs=1
    )
    monkeypatch.setattr(prefetch, "_num_readers", readers)
    asked, taken = [], {}
    monkeypatch.setattr(prefetch, "require_memory", lambda num_bytes, _: asked.append(num_bytes))
    grow = prefetch._Lane.grow

    def grown(lane, capacity):
        taken[lane.number] = capacity
        grow(lane, capacity)

    monkeypatch.setattr(prefetch._Lane, "grow", grown)
    run(experiment, device="cpu")
    assert len(asked) > 1
    assert asked == [sum(taken.values())] + [0] * (len(asked) - 1)
    assert sorted(taken) == [0, 1]


def clips_told_ahead(resolved, opened, monkeypatch, free):
    """How many clips are read ahead of micro-batches of 2 of batches of 5, and the bytes taken for each lane."""
    monkeypatch.setattr(prefetch, "free_bytes", lambda: free)
    source = opened(resolved)
    parts = [(part, epoch, seed) for batch, epoch, seed in batches_of(14, 3, range(9)) for part in batch.split(2)]
    source.expect_train(iter(parts), 5)
    train, val = source._readers._lanes
    assert len(train.ahead) == train.max_ahead
    source.close()
    return train.max_ahead, train.capacity + val.capacity


def test_as_many_clips_are_ahead_of_parts_of_a_batch_as_of_a_batch_where_there_is_memory(resolved, opened, monkeypatch):
    monkeypatch.setattr(prefetch.mmap, "PAGESIZE", 64)
    most, taken = clips_told_ahead(resolved, opened, monkeypatch, 2**40)
    assert most == prefetch.DEPTH * 5
    least, little = clips_told_ahead(resolved, opened, monkeypatch, taken)
    assert least == prefetch.DEPTH * 2
    bound = (taken + little) / 2 / prefetch.MEMORY_SHARE
    between, some = clips_told_ahead(resolved, opened, monkeypatch, bound)
    assert least < between < most
    assert bound - 3 * (taken - little) / (most - least) < some / prefetch.MEMORY_SHARE <= bound
    with pytest.raises(UserError, match="are free"):
        clips_told_ahead(resolved, opened, monkeypatch, little - 1)


def test_workers_that_start_at_once_do_not_take_the_same_memory(monkeypatch):
    """Each wants 4 MiB of 10: two have it, and the others are told that there are 2."""
    mib, held, told = 2**20, [], []
    grow = prefetch._Lane.grow

    def slowly(lane, capacity):
        time.sleep(0.05)
        grow(lane, capacity)
        held.append(capacity)

    monkeypatch.setattr(prefetch._Lane, "grow", slowly)
    monkeypatch.setattr(prefetch, "free_bytes", lambda: 10 * mib - sum(held))
    monkeypatch.setattr(prefetch, "_num_readers", 0)
    workers = [prefetch.Readers(len, 24, lambda _: mib, Path) for _ in range(4)]

    def begin(readers):
        try:
            readers.expect(0, [[(0, np.array([1]))]], lambda _: (3 * mib, mib))
        except UserError as error:
            told.append(str(error))

    starting = [threading.Thread(target=begin, args=(readers,)) for readers in workers]
    for thread in starting:
        thread.start()
    for thread in starting:
        thread.join()
    for readers in workers:
        readers.close()
    assert sum(held) == 8 * mib
    assert len(told) == 2


def test_memory_that_cannot_be_had_is_an_error_with_the_number(resolved, opened, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(RunError, match=r"no memory for the 0\.\d GiB of frames that are read ahead"):
        opened(resolved).expect_train(batches_of(14, 4))


PARENT = """
import sys
from functools import partial
from pathlib import Path
import numpy as np
sys.path.append(sys.argv[2])
import hanging_reads
from tadaconv.data import prefetch
prefetch.set_num_readers(2)
path = Path(sys.argv[1])
opening = partial(hanging_reads.opening, [path], path)
readers = prefetch.Readers(opening, 24, lambda wanted: 3 * 24 * 32, lambda place: path)
readers.expect(0, ([(0, np.array([1]))] for _ in range(10)), lambda num_clips: (64 * num_clips * 36, 0))
print(*readers.process_ids, flush=True)
for frames in readers.take(0, [(0, np.array([1]))]):
    pass
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's allocator")
def test_a_reader_keeps_the_memory_of_a_clip_for_the_next(monkeypatch):
    monkeypatch.setattr(prefetch, "_num_readers", 1)
    num_bytes = int(np.prod(allocating_reads.SHAPE))
    wanted = [[(place, np.arange(8))] for place in range(40)]
    readers = prefetch.Readers(allocating_reads.opening, 0, lambda _: num_bytes, lambda _: Path("clip"))
    readers.expect(TRAIN, wanted, lambda num_clips: (num_clips * num_bytes, 0))
    faults = []
    try:
        for clip in wanted:
            for frames in readers.take(TRAIN, clip):
                assert (frames == clip[0][0]).all()
            (pid,) = readers.process_ids
            faults.append(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7]))
    finally:
        readers.close()
    pages_of_a_clip = num_bytes / mmap.PAGESIZE
    assert (faults[-1] - faults[19]) / 20 < pages_of_a_clip / 10


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_no_reader_outlives_its_parent(ending, tmp_path, write_video):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(write_video(tmp_path / "a.mp4")), str(Path(__file__).parent)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, process_group=0,
    )  # fmt: skip
    with parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(is_alive, pids))
        time.sleep(0.3)  # a clip that never ends is being read
        assert parent.poll() is None
        os.killpg(parent.pid, ending)
        parent.wait()
    assert wait_for(lambda: not any(map(is_alive, pids)), 5.0)


def test_a_reader_imports_no_torch():
    code = "import sys, tadaconv.data.reader, tadaconv.data.clips; print(*({'torch', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_memory_of_a_reader_stays_level(resolved, opened):
    def mib(pid):
        (line,) = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("RssAnon")]
        return int(line.split()[1]) / 1024

    readers = opened(resolved)._readers
    wanted = [[(place % 14, np.arange(4))] for place in range(2000)]
    readers.expect(TRAIN, wanted, lambda num_clips: ((num_clips + 1) * 4 * 24 * 32 * 3, 0))
    (pid,) = readers.process_ids
    for number, batch in enumerate(wanted):
        for frames in readers.take(TRAIN, batch):
            assert frames.shape[0] == 4
        if number == 200:
            before = mib(pid)
    assert mib(pid) - before < 20


def test_a_source_that_was_closed_is_let_go_at_once(resolved):
    source = FolderClips(resolved, CPU)
    beside = FolderClips(resolved.but(num_temporal_views=1), CPU, sharing_with=source)
    source.expect_train(batches_of(14, 4))
    beside.expect_val([torch.arange(2)])
    source.close()
    both = [weakref.ref(source), weakref.ref(beside)]
    gc.disable()
    try:
        del source, beside
        assert [one() for one in both] == [None, None]
    finally:
        gc.enable()


def test_closing_leaves_nothing_open_and_the_source_goes_on(resolved, opened):
    source = opened(resolved)
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    train = batches_of(14, 4)
    source.expect_train(train)
    source.train_batch(*train[0])
    pids = pids_of(source)
    source.close()
    assert not any(map(is_alive, pids))
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before
    assert len(source.train_batch(*train[1])[1]) == len(train[1][0])
    source.expect_train(train[2:])
    assert len(source.train_batch(*train[2])[1]) == len(train[2][0])
    assert pids_of(source)
