"""What full data sets take: the table of the docs is what the script prints, and its figures are the arithmetic."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
READING = {
    medium: {"tadaconv": {"clips_per_core_second": 40.0}, "pack": {"clips_per_core_second": 200.0}}
    for medium in ("ssv2 webm", "k400 mp4")
}


@pytest.fixture(scope="module")
def full_runs():
    path = ROOT / "benchmarks" / "full_runs.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]


def test_the_docs_have_what_the_script_prints(full_runs):
    reading = json.loads((ROOT / "benchmarks" / "results" / "reading.json").read_text())
    assert f"\n\n{full_runs.table(reading)}\n\n" in (ROOT / "docs" / "data_sets.md").read_text()


@pytest.mark.parametrize(
    ("regime", "clips", "epochs", "evaluations", "views", "frames"),
    [
        # 64 epochs: after 5, ..., 50, and after each of 55 to 64
        ("ssv2_8f", (168_913, 24_777), 64, 10 + 10, 6, 8),
        ("ssv2_16f", (168_913, 24_777), 64, 10 + 10, 6, 16),
        # 100 epochs: after 5, ..., 90, and after each of 91 to 100
        ("k400_8x8", (234_643, 19_761), 100, 18 + 10, 30, 8),
        ("k400_16x5", (234_643, 19_761), 100, 18 + 10, 30, 16),
    ],
)
def test_hours_are_the_arithmetic(full_runs, regime, clips, epochs, evaluations, views, frames):
    need = full_runs.need(regime, full_runs.RUNS[regime], READING)
    # ResNet-50 is 4.1 GMACs an image of 224 px
    assert need.train_macs == pytest.approx(frames * 4.13e9, rel=2e-3)
    assert need.view_macs == pytest.approx(need.train_macs * (256 / 224) ** 2, rel=1e-3)
    trained, evaluated = clips[0] * epochs, clips[1] * (evaluations + views)
    seconds = (3 * need.train_macs * trained + need.view_macs * evaluated) / 30e12
    assert need.gpu_hours == pytest.approx(seconds / 3600, rel=1e-9)
    assert need.num_read == trained + clips[1] * (evaluations + 1)
    assert (need.video_rate, need.pack_rate) == (40.0, 200.0 * 8 / frames)
