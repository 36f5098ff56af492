"""Clips that are read when asked for: in order, and no disk that does not answer is waited for without end."""

import gc
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

from tadaconv.data.threads import Threads, over_cores, read_all
from tadaconv.errors import RunError


@pytest.fixture
def reading():
    """Gives what reads all of some numbers by a function, and is closed at the end."""
    made = []

    def make(read):
        threads = Threads(read)
        made.append(threads)
        return lambda numbers: read_all(threads, numbers, lambda number: Path(f"{number}.mp4"))

    yield make
    for threads in made:
        threads.close()


def test_what_is_read_comes_in_order(reading):
    def read(number):
        time.sleep(0.001 * (number % 3))
        return number * number

    threads = reading(read)
    for _ in range(2):
        assert threads(range(40)) == [number * number for number in range(40)]
    assert threads([]) == []


def test_what_a_read_raises_is_raised_and_no_more_is_begun(reading):
    begun = []

    def read(number):
        begun.append(number)
        if number == 3:
            raise RunError("broken")
        time.sleep(0.02)

    with pytest.raises(RunError, match="broken"):
        reading(read)(range(100))
    time.sleep(0.05)
    assert len(begun) < 100


def test_a_read_that_does_not_end_is_reported_and_given_up(reading, monkeypatch, caplog):
    monkeypatch.setattr("tadaconv.data.threads.SILENT_SECONDS", 0.1)
    monkeypatch.setattr("tadaconv.data.threads.PATIENCE_SECONDS", 0.4)
    goes_on = threading.Event()
    threads = reading(lambda number: number != 1 or goes_on.wait(60))  # which would count as read
    with pytest.raises(RunError, match=r"^1\.mp4 has not been read after 0 s; is its disk mounted\?$"):
        threads(range(3))
    assert [record.message for record in caplog.records] == ["1.mp4 has not been read after 0 s; waiting for up to 0 s"]
    goes_on.set()


def test_a_disk_that_comes_back_is_reported_and_read(reading, monkeypatch, caplog):
    monkeypatch.setattr("tadaconv.data.threads.SILENT_SECONDS", 0.1)
    goes_on = threading.Event()
    threading.Timer(0.4, goes_on.set).start()
    assert reading(lambda number: number if number != 1 or goes_on.wait(60) else None)(range(3)) == [0, 1, 2]
    assert len(caplog.records) == 1


def test_a_process_ends_though_a_read_does_not():
    code = """
import threading
from pathlib import Path
from tadaconv.data import threads
threads.SILENT_SECONDS, threads.PATIENCE_SECONDS = 0.0, 0.1
reading = threads.Threads(lambda _: threading.Event().wait())
try:
    threads.read_all(reading, ["a.mp4"], Path)
finally:
    reading.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr.endswith("RunError: a.mp4 has not been read after 0 s; is its disk mounted?\n")


def test_work_over_all_cores_is_left_without_waiting_for_a_disk(monkeypatch):
    monkeypatch.setattr("tadaconv.data.threads.CLOSING_SECONDS", 0.1)
    goes_on = threading.Event()
    ended = []

    def read(number):
        ended.append(number == 0 or goes_on.wait(60))
        return True

    outcomes = over_cores(read, range(100), "checking clips")
    assert next(outcomes)
    outcomes.close()
    assert ended == [True]  # the others go on waiting for their disk
    goes_on.set()


@pytest.mark.parametrize("closed", [True, False])
def test_threads_that_are_closed_or_let_go_end_and_hold_nothing(closed):
    class Read:
        def __call__(self, name):
            return bytearray(len(name))

    read = Read()
    threads = Threads(read)
    assert threads.submit("a").result() == b"\0"
    running, known = list(threads._threads), weakref.ref(read)
    if closed:
        threads.close()
    del threads, read
    for thread in running:
        thread.join(5)
        assert not thread.is_alive()
    gc.collect()
    assert known() is None
