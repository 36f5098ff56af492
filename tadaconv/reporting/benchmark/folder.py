"""The folder of a benchmark's report."""

from collections.abc import Sequence
from pathlib import Path

from tadaconv.reporting.benchmark import words
from tadaconv.reporting.benchmark.frame import files_of
from tadaconv.reporting.benchmark.latex import latex_table
from tadaconv.reporting.benchmark.record import BenchmarkManifest, collect
from tadaconv.reporting.core import folder
from tadaconv.reporting.core.export import Listing
from tadaconv.reporting.core.format import plural
from tadaconv.reporting.core.options import ReportOptions

_MOST_FINDINGS = 4


def write_report(paths: Sequence[Path], out: Path, formats: Sequence[str], options: ReportOptions) -> Path:
    """Write what does not stand yet; see :func:`~tadaconv.reporting.benchmark.benchmark_report`."""
    manifest = collect(paths)
    made = folder.Report(
        name=f"benchmark-{manifest.benchmark}",
        template="benchmark",
        listing=listing(manifest),
        manifest=manifest,
        data=files_of(manifest),
        latex=lambda: latex_table(manifest),
    )
    return folder.write_report(made, out, formats, options)


def listing(manifest: BenchmarkManifest) -> Listing:
    """What the page of all reports says of this one."""
    findings = [f"{words.subject(n.run)}, {finding}" for n in manifest.runs for finding in words.findings(n.run)]
    more = len(findings) - _MOST_FINDINGS
    devices = dict.fromkeys(each.run.environment.get("device", "an unknown device") for each in manifest.runs)
    return Listing(
        kind="benchmark",
        name=manifest.benchmark,
        title=words.title(manifest),
        ran=f"{plural(len(manifest.runs), 'run')} on {', '.join(devices)}.",
        findings=[
            *findings[:_MOST_FINDINGS],
            *([f"{plural(more, 'more finding')} on its page."] if more > 0 else []),
        ],
    )
