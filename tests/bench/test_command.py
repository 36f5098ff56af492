"""``tada bench`` as it is typed."""

import json
from pathlib import Path

import pytest

from tadaconv import cli
from tadaconv.bench import op, record, step
from tadaconv.bench.options import Options
from tadaconv.bench.record import Benchmark, Case, Phase, Work
from tadaconv.bench.run import OnProgress, no_progress
from tadaconv.bench.statistics import limit, timing


def typed(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(["bench", *arguments])
    return int(left.value.code or 0)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[object, ...]]:
    """What the command asked for; nothing is run, and the current folder is a new one."""
    asked: list[tuple[object, ...]] = []
    once = Work(bytes=8, multiply_adds=8)
    work: dict[Phase, Work] = {"forward": once, "backward": once, "both": once}
    seconds: dict[Phase, list[float]] = {phase: [1.0, 2.0, 3.0] for phase in work}
    copy, matrix = (limit(w, [1.0] * 3) for w in (once, Work(bytes=0, multiply_adds=8)))
    case = Case(
        name="case", mode="eager", repeats=1, work=work, copy_limit=copy, matrix_limit=matrix, naive_over_ours={},
        timings=[timing(name, seconds, seconds, work, copy, matrix, None) for name in ("plain", "TAda")],
    )  # fmt: skip
    facts = {"device": "CPU", "processor": "p"}
    found = record.Settings(dtype="fp32", modes=["eager"], num_clips=1, num_frames=8, size_px=64, rounds=3)

    def ops(options: Options, calibrations: object, shapes: object, progress: OnProgress = no_progress) -> Benchmark:
        progress("half", 0.5)
        asked.append((options, calibrations, shapes))
        return Benchmark(bench="op", settings=found, environment=facts, cases=[case])

    def steps(options: Options, backbone: str, progress: OnProgress = no_progress, calibration: str = "") -> Benchmark:
        progress("half", 0.5)
        asked.append((options, backbone, calibration))
        return Benchmark(bench="step", settings=found.but(backbone=backbone), environment=facts, cases=[case])

    monkeypatch.setattr(op, "bench", ops)
    monkeypatch.setattr(step, "bench", steps)
    monkeypatch.chdir(tmp_path)
    return asked


def test_what_is_typed_is_what_is_run(calls: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--device",
        "cpu",
        "--dtype",
        "bf16",
        "--mode",
        "eager,compiled",
        "--clips",
        "3",
        "--frames",
        "4",
        "--size",
        "64",
        "--rounds",
        "5",
    ]
    assert typed("op", "--calibration", "cin, k2", "--methods", "tada,tsm", "--shapes", "res2", *options) == 0
    assert (
        typed(
            "step", "--backbone", "convnext_tiny_clip", "--calibration", "cin_k2", *options, "--contestants", "tada,tsm"
        )
        == 0
    )

    expected = Options("cpu", "bf16", ("eager", "compiled"), ("tada", "tsm"), 3, 4, 64, 5)
    assert calls == [(expected, ("cin", "k2"), ("res2",)), (expected, "convnext_tiny_clip", "cin_k2")]
    written = Path("benchmarks/results")
    stems = ("op-cpu-fp32-eager-1x8x64", "step-convnext_tiny_clip-cpu-fp32-eager-1x8x64")
    assert {path.name for path in written.iterdir()} == {f"{stem}.{end}" for stem in stems for end in ("json", "png")}
    assert "written: benchmarks/results/op-cpu-fp32-eager-1x8x64.json" in capsys.readouterr().out


def test_json_is_all_that_is_printed(calls: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("step", "--json", "--out", "here") == 0

    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(Path("here/step-resnet50-cpu-fp32-eager-1x8x64.json").read_text())
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("op --rounds 2", "--rounds 2 is too few for quartiles; use at least 3"),
        ("op --methods tada,tsn", "unknown method 'tsn'; one of: tsm"),
        ("step --methods none", "unknown method 'none'; one of:"),
        ("step --backbone resnt50", "unknown backbone 'resnt50'; one of: resnet50"),
        ("op --device mps", "unknown device 'mps'; one of: auto, cpu, cuda, cuda:N"),
        ("op --dtype fp16", "unknown dtype 'fp16'; one of: bf16, fp32"),
        ("op --mode fast", "unknown mode 'fast'; one of: eager, compiled"),
        ("op --mode ,", "no mode is named; use --mode eager, compiled or eager,compiled"),
        ("op --calibration cinn", "unknown calibration 'cinn'; one of: cin"),
        ("op --calibration ,", "no calibration is named; use --calibration cin"),
        ("op --shapes res7", "unknown shape 'res7'; one of: res2"),
        ("op --size 100", "--size 100 is not a multiple of 32 from 64 on; use 64, 96, 128, ..."),
        ("op --size 32", "--size 32 is not a multiple of 32 from 64 on"),
        ("step --size 32 --clips 1 --frames 1", "--clips 1 --frames 1 --size 32 leave the last batch norm one value"),
        ("step --size 16", "--size 16 leaves no pixel in the last stage; use 32 or more"),
        ("study", "unknown command 'study'; one of:"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line(
    command: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert typed(*command.split()) == 2

    complaint = capsys.readouterr().err.strip().splitlines()
    assert complaint[-1].startswith(f"tada: {message}")
    assert len([line for line in complaint if line.strip()]) == 1
