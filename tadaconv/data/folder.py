"""A folder of labelled videos as a source of clips: checked before anything trains, then sampled.

Which frames make a clip says :mod:`tadaconv.data.sampling`, which pixels :mod:`tadaconv.data.transforms`. Videos are
decoded once, to uint8 at ``short_side``, and kept while all of them fit into a share of the memory; otherwise the
frames of a clip are decoded when it is asked for. Both ways give the same pixels.
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
from tadaconv.data.inspection import Inspection, inspect_clips, known_clips, over_cores
from tadaconv.data.layout import Layout, scan
from tadaconv.data.mirroring import mirrored_labels, require_mirror
from tadaconv.data.sampling import Indices, evaluation_frames, training_frames
from tadaconv.data.transforms import (
    random_box,
    random_scaled_box,
    scaled_to_clip,
    to_clip,
    view_boxes,
    view_scaled_boxes,
)
from tadaconv.errors import RunError, UserError
from tadaconv.spec import Folder
from tadaconv.text import encodable, path_to_text

MEMORY_SHARE = 1 / 8
"""Share of the memory that decoded videos may fill; several workers of one machine each keep their own."""

Wanted = tuple[str, Indices]
"""A clip's path and the indices of its frames."""


def resolve(data: Folder, root: Path, cache: Path) -> Folder:
    """``data`` completed by what lies under ``root``: where, how many classes, and a fingerprint of the clips.

    Decodes every clip not yet known in the folder ``cache``. A plain mirror of classes that are mirror images of one
    another is warned of, once. Raises :class:`UserError` that names what is broken.
    """
    layout = scan(root, data.val_share)
    found = inspect_clips(root, layout.paths, cache)
    _require_usable(layout, found, data, root)
    return data.but(
        root=path_to_text(root.absolute()), fingerprint=fingerprint(layout, found), num_classes=len(layout.class_names)
    )


def require_usable_clips(data: Folder) -> None:
    """Raise :class:`UserError` if the clips of a resolved ``data`` cannot be trained on as it says, too short ones say.

    For what a row or a recipe changes of the folder that was resolved. Opens no clip: where this process has not
    inspected them, :class:`FolderClips` raises the same.
    """
    if not data.path.is_dir():
        return  # on another machine
    layout = scan(data.path, data.val_share)
    if inspected := known_clips(data.path, layout.paths):
        _require_usable(layout, inspected, data, data.path)


def _require_usable(layout: Layout, found: Mapping[str, Inspection], data: Folder, root: Path) -> None:
    wrong = problems(layout, found, data)
    if wrong:
        named = "; ".join(f"{problem.path}: {problem.reason}" for problem in wrong[:3])
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"cannot train on {str(root)!r}: {named}{more}; list every broken clip with: {command('data check', root)}"
        )
    require_mirror(data.mirror, layout.class_names)


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
        _require_usable(layout, found, data, root)
        self._data = data
        self._device = device
        self._train, self._val = layout.train, layout.val
        self._info = {path: seen.info for path, seen in found.items() if seen.info}
        self._read = _reader(data, self._info)
        self._labels = {name: label for label, name in enumerate(layout.class_names)}
        self._mirrored = mirrored_labels(layout.class_names)
        self.class_names = tuple(map(encodable, layout.class_names))
        self.families: dict[str, tuple[int, ...]] = {}
        self.num_train = len(layout.train)
        self.num_val = len(layout.val)
        self.num_views = data.num_temporal_views * data.num_spatial_crops

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
        """Random frames, a random box and, unless ``mirror`` is no, a mirror image of every second clip.

        All drawn from (seed, epoch, index) alone. Returns normalised clips (B, 3, T, H, W) and int64 labels (B,), of
        mirror images the label that the mirror image has.
        """
        data = self._data
        clips = [self._train[index] for index in indices.tolist()]
        rngs = [np.random.default_rng((seed, epoch, index)) for index in indices.tolist()]
        wanted: list[Wanted] = []
        for clip, rng in zip(clips, rngs, strict=True):
            info = self._info[clip.path]
            drawn = training_frames(data.sampling, rng, info.num_frames, data.num_frames, info.fps)
            wanted.append((clip.path, drawn))
        x: list[Tensor] = []
        labels: list[int] = []
        for clip, frames, rng in zip(clips, self._read(wanted), rngs, strict=True):
            pixels, height, width = self._on_device(frames), frames.shape[1], frames.shape[2]
            if data.sampling.rule == "paper":
                scaled = random_scaled_box(rng, height, width, data.size, data.jitter)
                mirror = self._tosses_mirror(rng)
                x.append(scaled_to_clip(pixels, scaled, mirror))
            else:
                box = random_box(rng, height, width, data.size, data.jitter)
                mirror = self._tosses_mirror(rng)
                x.append(to_clip(pixels, box, data.size, mirror))
            label = self._labels[clip.class_name]
            labels.append(self._mirrored[label] if mirror and data.mirror == "swap" else label)
        return torch.stack(x), torch.tensor(labels, dtype=torch.int64, device=self._device)

    def val_batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The middle in time and the centre of each frame, or several of both as ``data`` says.

        Returns normalised clips (B, V, 3, T, H, W), temporal views before crops, and int64 labels (B,).
        """
        data = self._data
        clips = [self._val[index] for index in indices.tolist()]
        views = range(data.num_temporal_views)
        wanted = []
        for clip in clips:
            info = self._info[clip.path]
            chosen = [
                evaluation_frames(data.sampling, info.num_frames, data.num_frames, info.fps, view, len(views))
                for view in views
            ]
            wanted.append((clip.path, np.concatenate(chosen)))
        x = []
        for frames in self._read(wanted):
            by_view = torch.chunk(self._on_device(frames), len(views))
            x.append(torch.stack([crop for view in by_view for crop in self._crops(view)]))
        labels = [self._labels[clip.class_name] for clip in clips]
        return torch.stack(x), torch.tensor(labels, dtype=torch.int64, device=self._device)

    def _crops(self, frames_THWC: Tensor) -> list[Tensor]:
        """The spatial crops of a view, (3, T, side, side) each."""
        data, height, width = self._data, frames_THWC.shape[1], frames_THWC.shape[2]
        if data.sampling.rule == "paper":
            boxes = view_scaled_boxes(height, width, data.eval_side, data.num_spatial_crops)
            return [scaled_to_clip(frames_THWC, box) for box in boxes]
        return [to_clip(frames_THWC, box, data.eval_side) for box in view_boxes(height, width, data.num_spatial_crops)]

    def _tosses_mirror(self, rng: np.random.Generator) -> bool:
        """Whether a clip is mirrored; draws nothing where none is."""
        return self._data.mirror != "no" and rng.random() < 0.5

    def _on_device(self, frames: Frames) -> Tensor:
        return torch.from_numpy(frames).to(self._device)


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
