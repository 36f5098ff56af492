"""Is a folder of labelled clips fit to train on? What ``tada data check`` says, and what stops a run."""

from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from tadaconv.data.inspection import Inspection, inspect_clips
from tadaconv.data.layout import Layout, Problem, scan
from tadaconv.data.layouts import advice
from tadaconv.data.mirroring import why_not_mirrored
from tadaconv.data.sampling import frames_needed
from tadaconv.spec import Folder
from tadaconv.text import encodable, plural

_NO_RATE = "no frame rate in its container"


class CheckReport(BaseModel):
    r"""What a folder holds and what is wrong with it; paths are relative to ``root``.

    A byte of a name that is not UTF-8 appears as ``\udce9``, E9 being the byte.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str
    class_names: tuple[str, ...]
    num_train: int = Field(description="Training clips, broken ones included.")
    num_val: int = Field(description="Validation clips, broken ones included.")
    num_frames: int = Field(description="Frames of all clips that decode.")
    problems: tuple[Problem, ...] = Field(description="What must be mended before anything trains.")
    warnings: tuple[Problem, ...] = Field(description="What may be meant.")

    @property
    def ok(self) -> bool:
        """Whether a run can train on the folder."""
        return not self.problems


def check(root: Path, cache: Path | None = None) -> CheckReport:
    """Decode every clip under ``root`` that is not known in the folder ``cache``; say which are broken and why.

    Clips shorter than the default of ``Folder.num_frames`` are warned of: whether that is too short is a run's matter.
    Raises :class:`UserError` if ``root`` is not a folder, PyAV is missing or ``cache`` cannot be written.
    """
    asked = Folder()
    layout = scan(root, asked.val_share)
    inspected = inspect_clips(root, layout.paths, cache)
    recognised = advice(root)
    short = [
        Problem(
            path,
            f"only {count} frame(s); a run that takes more (num_frames, by default {asked.num_frames}) refuses it, "
            "unless its regime says short_clips='repeat'",
        )
        for path, (count, _) in _short(inspected, asked).items()
    ]
    timeless = [
        Problem(path, f"{_NO_RATE}; a run on intervals refuses it")
        for path, seen in inspected.items()
        if _timeless(seen)
    ]
    mirrored = why_not_mirrored(asked.mirror, layout.class_names)
    return CheckReport(
        root=encodable(str(root)),
        class_names=tuple(map(encodable, layout.class_names)),
        num_train=len(layout.train),
        num_val=len(layout.val),
        num_frames=sum(seen.info.num_frames for seen in inspected.values() if seen.info),
        problems=encodable_problems(
            _in_order(layout.problems, _broken(inspected), [recognised] if recognised and layout.problems else [])
        ),
        warnings=encodable_problems(
            _in_order(
                layout.warnings,
                _shared(layout, inspected),
                short,
                timeless,
                [Problem(".", mirrored)] if mirrored else [],
                [recognised] if recognised and not layout.problems else [],
            )
        ),
    )


def problems(layout: Layout, inspected: Mapping[str, Inspection], data: Folder) -> tuple[Problem, ...]:
    """What keeps a run on ``data`` from training on ``layout``.

    Unless ``data`` says so, too short a video is refused rather than stretched: repeated frames would pass for a still
    scene.

    Args:
        layout: what the folder holds.
        inspected: what is known of its clips, by path.
        data: what the run asks for.
    """
    needs_rate = data.sampling.kind == "intervals"
    timeless = [path for path, seen in inspected.items() if needs_rate and _timeless(seen)]
    short = {} if data.short_clips == "repeat" else _short(inspected, data)
    return _in_order(
        layout.problems,
        _broken(inspected),
        [Problem(path, f"{_NO_RATE}; write one into it, or have the regime sample segments") for path in timeless],
        [Problem(path, _too_short(*counts, data.num_frames)) for path, counts in short.items()],
    )


def render(report: CheckReport) -> str:
    """The report as text for a terminal: a line of counts, then a line for each problem and warning."""
    lines = [
        f"{report.root}: {len(report.class_names)} classes, {report.num_train} training clips, "
        f"{report.num_val} validation clips, {report.num_frames} frames"
    ]
    for title, findings in (("problem", report.problems), ("warning", report.warnings)):
        if findings:
            lines.append(f"{plural(len(findings), title)}:")
            lines += [f"  {finding.path}: {finding.reason}" for finding in findings]
    if report.ok:
        lines.append("every clip decodes")
    return "\n".join(lines)


def encodable_problems(findings: Iterable[Problem]) -> tuple[Problem, ...]:
    """``findings`` with paths and reasons that can be printed and written as JSON."""
    return tuple(Problem(encodable(finding.path), encodable(finding.reason)) for finding in findings)


def _in_order(*findings: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(chain(*findings), key=lambda finding: finding.path))


def _broken(inspected: Mapping[str, Inspection]) -> list[Problem]:
    return [Problem(path, seen.reason) for path, seen in inspected.items() if seen.info is None]


def _shared(layout: Layout, inspected: Mapping[str, Inspection]) -> list[Problem]:
    trained = {inspected[clip.path].digest: clip.path for clip in layout.train if inspected[clip.path].info}
    copies = [(clip.path, trained.get(inspected[clip.path].digest)) for clip in layout.val]
    return [Problem(path, f"validates on a copy of the training clip {copy}") for path, copy in copies if copy]


def _timeless(seen: Inspection) -> bool:
    """Whether an intact video has no frame rate, by which intervals are measured."""
    return seen.info is not None and seen.info.fps == 0


def _too_short(count: int, needed: int, num_frames: int) -> str:
    takes = f"num_frames={num_frames}" if needed == num_frames else f"a clip takes: {needed}"
    return (
        f"{count} frame(s), fewer than {takes}; remove the clip or lower num_frames, or have the regime say "
        "short_clips='repeat'"
    )


def _short(inspected: Mapping[str, Inspection], data: Folder) -> dict[str, tuple[int, int]]:
    """By path, the frames of a video and the more that a clip needs."""
    counts = {
        path: (seen.info.num_frames, frames_needed(data.sampling, data.num_frames, seen.info.fps))
        for path, seen in inspected.items()
        if seen.info
    }
    return {path: (count, needed) for path, (count, needed) in counts.items() if count < needed}
