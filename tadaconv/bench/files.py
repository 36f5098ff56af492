"""A benchmark as files: JSON and a chart, named by what was run and where."""

import re
from pathlib import Path

from tadaconv.bench.record import Benchmark


def stem(found: Benchmark) -> str:
    """The name of the files: ``step-resnet50-cpu-2-threads-fp32-eager-2x8x112`` (clips x frames x pixels)."""
    asked = found.settings
    what = [str(asked[name]) for name in ("backbone",) if name in asked]
    calibrations, modes = asked.get("calibrations", ["cin"]), asked["modes"]
    assert isinstance(calibrations, list)
    assert isinstance(modes, list)
    clips = f"{asked['num_clips']}x{asked['num_frames']}x{asked['size_px']}"
    what += [] if calibrations == ["cin"] else calibrations
    words = [found.bench, *what, found.environment["device"], str(asked["dtype"]), "-".join(modes), clips]
    return re.sub(r"[^a-z0-9_]+", "-", "-".join(words).lower())


def write(found: Benchmark, folder: Path) -> list[Path]:
    """Write JSON and chart into ``folder``; returns their paths."""
    from tadaconv.bench.chart import draw
    from tadaconv.reporting.core.style import as_png

    folder.mkdir(parents=True, exist_ok=True)
    data, chart = (folder / f"{stem(found)}.{suffix}" for suffix in ("json", "png"))
    data.write_text(found.model_dump_json(indent=1) + "\n")
    chart.write_bytes(as_png(draw(found)))
    return [data, chart]
