"""Does a pack hold what was packed? What ``tada data check PACK`` prints."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tadaconv.data.annotations import SIDES
from tadaconv.data.index import Index
from tadaconv.data.pack import Pack, open_pack, shard_name
from tadaconv.data.threads import over_cores
from tadaconv.text import encodable


class PackReport(BaseModel):
    """What a pack holds, and the clips of it that are no longer what was packed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str
    layout: str
    split: str
    clips: dict[str, int] = Field(description="Clips by side.")
    num_frames: int
    num_bytes: int = Field(description="Of all shards.")
    fingerprint: str
    altered: tuple[tuple[str, str], ...] = Field(description="Id and reason of clips that are not what was packed.")

    @property
    def ok(self) -> bool:
        """Whether a run can be made on it."""
        return not self.altered


def summary(folder: Path) -> str:
    """What is in a pack, in a line; raises as :func:`open_pack` does."""
    return _summary(_report(folder, open_pack(folder), Pack(folder)))


def check_pack(folder: Path) -> PackReport:
    """Read every JPEG of a pack and compare it with what was packed; raises as :func:`open_pack` does."""
    index, pack = open_pack(folder), Pack(folder)
    reasons: Iterable[str] = over_cores(pack.altered, range(len(pack.clips)), "checking the pack")
    places = pack.clips["place"].tolist()
    altered = [(index.ids[place], reason) for place, reason in zip(places, reasons, strict=True) if reason]
    return _report(folder, index, pack, altered)


def _report(folder: Path, index: Index, pack: Pack, altered: Sequence[tuple[str, str]] = ()) -> PackReport:
    shards = np.unique(pack.clips["shard"]).tolist()
    return PackReport(
        root=encodable(str(folder)),
        layout=index.layout,
        split=index.split,
        clips={side: len(index.places(side)) for side in SIDES[:2]},
        num_frames=pack.num_frames,
        num_bytes=sum((folder / shard_name(number)).stat().st_size for number in shards),
        fingerprint=index.fingerprint,
        altered=tuple((encodable(one), encodable(reason)) for one, reason in altered),
    )


def _summary(report: PackReport) -> str:
    split = f", split {report.split}" if report.split else ""
    frame = report.num_bytes / max(1, report.num_frames) / 1000
    return (
        f"{report.root}: a pack of {report.layout}{split}, {report.clips['train']:,} training clips and "
        f"{report.clips['val']:,} validation clips, {report.num_frames:,} frames of {frame:.1f} KB, "
        f"{report.num_bytes / 1e9:,.2f} GB"
    )


def render(report: PackReport) -> str:
    """The report as text for a terminal."""
    lines = [_summary(report), *(f"  {one}: {reason}" for one, reason in report.altered[:10])]
    if len(report.altered) > 10:
        lines.append(f"  and {len(report.altered) - 10:,} more; --json has all of them")
    if report.altered:
        lines.append(f"{len(report.altered):,} clips are not what was packed; copy the pack again, or pack them again")
    else:
        lines.append("every frame is what was packed")
    return "\n".join(lines)
