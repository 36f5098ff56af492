"""A folder of labelled videos as a source of clips: checked before anything trains, then sampled by segments.

A video is cut into as many equal segments as a clip has frames. Training draws one frame from each, validation takes
the middle ones. Videos are decoded once, to uint8 at ``short_side``, and kept while all of them fit into a share of the
memory; otherwise the frames of a clip are decoded when it is asked for. Both ways give the same pixels.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tadaconv.command import command
from tadaconv.data.check import problems
from tadaconv.data.decode import BrokenVideoError, Frames, VideoInfo, decode, scaled_size
from tadaconv.data.inspection import Inspection, inspect_clips, over_cores
from tadaconv.data.layout import Clip, Layout, scan
from tadaconv.data.transforms import Indices, random_box, random_frames, to_clip, view_boxes, view_frames
from tadaconv.errors import RunError, UserError
from tadaconv.spec import Folder
from tadaconv.text import encodable, path_to_text

MEMORY_SHARE = 1 / 8
"""Share of the memory that decoded videos may fill; several workers of one machine each keep their own."""

Wanted = tuple[str, Indices]
"""A clip's path and the indices of its frames."""


def resolve(data: Folder, root: Path, cache: Path) -> Folder:
    """``data`` completed by what lies under ``root``: where, how many classes, and a fingerprint of the clips.

    Decodes every clip not yet known in the folder ``cache``. Raises :class:`UserError` that names what is broken.
    """
    layout = scan(root, data.val_share)
    found = inspect_clips(root, layout.paths, cache)
    wrong = problems(layout, found, data.num_frames)
    if wrong:
        named = "; ".join(f"{problem.path}: {problem.reason}" for problem in wrong[:3])
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"cannot train on {str(root)!r}: {named}{more}; list every broken clip with: {command('data check', root)}"
        )
    return data.but(
        root=path_to_text(root.absolute()), fingerprint=fingerprint(layout, found), num_classes=len(layout.class_names)
    )


def fingerprint(layout: Layout, found: Mapping[str, Inspection]) -> str:
    """16 hex digits over the clips' relative paths, contents (hence sizes) and split; not over places and dates."""
    sides = [[[clip.path, found[clip.path].digest] for clip in side] for side in (layout.train, layout.val)]
    return hashlib.sha256(json.dumps(sides).encode()).hexdigest()[:16]


class FolderClips:
    """The clips of a resolved :class:`~tadaconv.spec.Folder` on a device; see :class:`~tadaconv.data.source.Source`.

    ``cache`` is the folder given to :func:`resolve`; without it, a process other than the one that resolved decodes
    every clip once more to count its frames. Raises :class:`UserError` if ``data`` is not resolved, or the clips are no
    longer those of its fingerprint.
    """

    def __init__(self, data: Folder, device: torch.device, cache: Path | None = None) -> None:
        if not data.fingerprint:
            raise UserError("this regime trains on a folder of clips; say which: --data DIR")
        root = data.path
        layout = scan(root, data.val_share)
        found = inspect_clips(root, layout.paths, cache)
        if fingerprint(layout, found) != data.fingerprint:
            raise UserError(
                f"the clips in {data.root!r} have changed since the run was planned; give the same command again"
            )
        self._data = data
        self._device = device
        self._train, self._val = layout.train, layout.val
        self._info = {path: seen.info for path, seen in found.items() if seen.info}
        self._read = _reader(data, self._info)
        self._labels = {name: label for label, name in enumerate(layout.class_names)}
        self.class_names = tuple(map(encodable, layout.class_names))
        self.families: dict[str, tuple[int, ...]] = {}
        self.num_train = len(layout.train)
        self.num_val = len(layout.val)
        self.num_views = data.num_temporal_views * data.num_spatial_crops

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
        """A random frame of each segment, a random box and, with ``flip``, a mirror image for every second clip.

        All drawn from (seed, epoch, index) alone. Returns normalised clips (B, 3, T, H, W) and int64 labels (B,).
        """
        data = self._data
        clips = [self._train[index] for index in indices.tolist()]
        rngs = [np.random.default_rng((seed, epoch, index)) for index in indices.tolist()]
        wanted = [
            (clip.path, random_frames(rng, self._info[clip.path].num_frames, data.num_frames))
            for clip, rng in zip(clips, rngs, strict=True)
        ]
        x = []
        for frames, rng in zip(self._read(wanted), rngs, strict=True):
            box = random_box(rng, frames.shape[1], frames.shape[2], data.size)
            mirror = data.flip and rng.random() < 0.5
            x.append(to_clip(torch.from_numpy(frames).to(self._device), box, data.size, mirror))
        return torch.stack(x), self._labels_of(clips)

    def val_batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The middle of each segment and the centre of each frame, or several of both as ``data`` says.

        Returns normalised clips (B, V, 3, T, H, W), temporal views before crops, and int64 labels (B,).
        """
        data = self._data
        clips = [self._val[index] for index in indices.tolist()]
        views = range(data.num_temporal_views)
        wanted = []
        for clip in clips:
            count = self._info[clip.path].num_frames
            chosen = [view_frames(count, data.num_frames, view, len(views)) for view in views]
            wanted.append((clip.path, np.concatenate(chosen)))
        x = []
        for frames in self._read(wanted):
            boxes = view_boxes(frames.shape[1], frames.shape[2], data.num_spatial_crops)
            by_view = torch.chunk(torch.from_numpy(frames).to(self._device), len(views))
            x.append(torch.stack([to_clip(view, box, data.size) for view in by_view for box in boxes]))
        return torch.stack(x), self._labels_of(clips)

    def _labels_of(self, clips: Sequence[Clip]) -> Tensor:
        return torch.tensor([self._labels[clip.class_name] for clip in clips], dtype=torch.int64, device=self._device)


_kept: dict[tuple[str, int], dict[str, Frames]] = {}
"""The decoded videos of the last (fingerprint, short side), so that the next cell of a table starts at once."""


def _reader(data: Folder, info: Mapping[str, VideoInfo]) -> Callable[[Sequence[Wanted]], list[Frames]]:
    """How the frames of a batch are come by: (T, H, W, 3) for each clip, from memory if all videos fit."""
    root = data.path

    def read(wanted: Wanted) -> Frames:
        path, indices = wanted
        return _decode(root / path, data.short_side, indices.tolist())

    if _decoded_bytes(info, data.short_side) > MEMORY_SHARE * _memory_bytes():
        pool = ThreadPoolExecutor(os.cpu_count())
        return lambda batch: list(pool.map(read, batch))

    key = (data.fingerprint, data.short_side)
    if key not in _kept:
        _kept.clear()  # before decoding: two sets at once may not fit
        whole = over_cores(lambda path: _decode(root / path, data.short_side, None), info, "decoding clips")
        _kept[key] = dict(zip(info, whole, strict=True))
    videos = _kept[key]
    return lambda batch: [videos[path][indices] for path, indices in batch]


def _decode(path: Path, short_side: int, wanted: Sequence[int] | None) -> Frames:
    try:
        return decode(path, short_side, wanted)
    except (BrokenVideoError, OSError) as error:
        raise RunError(f"{path} was intact when checked and no longer is: {error}") from error


def _decoded_bytes(info: Mapping[str, VideoInfo], short_side: int) -> int:
    return sum(3 * v.num_frames * math.prod(scaled_size(v.height, v.width, short_side)) for v in info.values())


def _memory_bytes() -> int:
    """Memory of the machine, or of the container it is."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    granted = limit.read_text().strip() if limit.is_file() else "max"
    return memory if granted == "max" else min(memory, int(granted))
