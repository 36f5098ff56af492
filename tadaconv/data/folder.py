"""A folder of labelled videos as a source of clips: checked before anything trains, then sampled.

:mod:`tadaconv.data.sampling` chooses the frames of a clip, :mod:`tadaconv.data.transforms` its pixels. Clips of class
folders are inspected by decoding them, once; those of other layouts by ``tada data check``, which has written an index.
Videos are decoded once, to uint8 at ``short_side``, and kept if all of them fit into a fraction of the memory.
Otherwise the frames of a clip are read ahead by processes (:mod:`tadaconv.data.prefetch`) where it is known which clips
come next, and else when they are asked for. All ways give the same pixels.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tadaconv.command import command
from tadaconv.data.annotations import Annotations, some
from tadaconv.data.clips import Clips, read_of_folder, read_of_index
from tadaconv.data.decode import BrokenVideoError, Frames
from tadaconv.data.examination import examine, sizes_and_changes
from tadaconv.data.finishing import Finisher
from tadaconv.data.index import Index, index_folder, index_of, is_index, journal_folder, open_index
from tadaconv.data.layouts import LAYOUTS, guess, split_of
from tadaconv.data.layouts.classes import read_class_folders
from tadaconv.data.media import Problem
from tadaconv.data.memory import total_bytes
from tadaconv.data.mirroring import mirror_pairs, mirrored_labels, require_mirror
from tadaconv.data.pack import is_pack, open_pack
from tadaconv.data.prefetch import (
    Readers,
    Wanted,
    clips_ahead,
    no_longer_intact,
    num_readers,
)
from tadaconv.data.sampling import evaluation_frames, frames_needed, training_frames
from tadaconv.data.source import Source, classes_of_heads
from tadaconv.data.threads import Threads, over_cores, read_all
from tadaconv.data.transforms import (
    random_box,
    random_scaled_box,
    scaled_to_clip,
    to_clip,
    view_boxes,
    view_scaled_boxes,
)
from tadaconv.errors import UserError
from tadaconv.spec import Folder
from tadaconv.text import path_to_text, text_to_path

MEMORY_SHARE = 1 / 8
"""Fraction of the memory that decoded videos may fill; several workers of one machine each keep their own."""

NUM_SPOT_CHECKED = 100
"""Media of an index that are compared with the disk when a run is planned, by size and time of change."""

TRAIN, VAL = range(2)
"""Lanes of what is read ahead."""


def resolve(data: Folder, root: Path, cache: Path) -> Folder:
    """``data`` completed by what is under ``root``: where, how many classes, and a fingerprint of the clips.

    Decodes every clip of class folders that is not yet known in the folder ``cache``; of other layouts opens the index
    that ``tada data check`` has left there. A plain mirror of classes that are mirror images of one another is warned
    of, once, or refused. Raises :class:`UserError` that names what is broken, and the check that is to be made first.

    Args:
        data: as the regime has it.
        root: the folder of the clips.
        cache: the folder of what is known of them.
    """
    index = _index(data, root, cache)
    _require_usable_index(index, data)
    _require_same_media(index)
    resolved = data.but(
        root=path_to_text(root.absolute()),
        fingerprint=index.fingerprint,
        num_classes=sum(len(names) for _, names in index.heads),
    )
    if data.layout == "classes":
        return resolved
    folder = root if index.form == "pack" else index_folder(cache, root, index.layout, index.split)
    return resolved.but(
        index=path_to_text(folder.absolute()),
        num_listed=(index.listed.get("train", 0), index.listed.get("val", 0)),
        num_missing=(index.num_left_out("train"), index.num_left_out("val")),
    )


def require_usable_clips(data: Folder) -> None:
    """Raise :class:`UserError` if the clips of a resolved ``data`` cannot be trained on, such as too short ones.

    For what a row or a recipe changes of the folder that was resolved. Opens no clip: where this process has not
    inspected them, :class:`FolderClips` raises the same.
    """
    if data.layout != "classes":
        if is_index(text_to_path(data.index)):  # else on another machine
            _require_usable_index(open_index(text_to_path(data.index)), data)
    elif data.path.is_dir() and (index := _known.get(_state_of(read_class_folders(data.path, data.val_share)))):
        _require_usable_index(index, data)


_State = tuple[Path, bytes, tuple[str, ...], bytes, bytes]

_known: dict[_State, Index] = {}
"""Indices of class folders that this process has inspected, by the state of their files."""


def _state_of(annotations: Annotations) -> _State:
    """The paths, sides, sizes and times of change of the clips of class folders."""
    paths = tuple(annotations.media)
    sizes, changed = sizes_and_changes(annotations.root, paths)
    return annotations.root, annotations.sides.tobytes(), paths, sizes.tobytes(), changed.tobytes()


def _index_of_class_folders(root: Path, val_share: float, cache: Path | None = None) -> Index:
    """The index of class folders, in memory; clips that this process and ``cache`` do not know are decoded.

    Raises :class:`UserError` for folders that cannot be trained on, and for broken clips.
    """
    annotations = read_class_folders(root.absolute(), val_share)
    state = _state_of(annotations)
    if state not in _known:
        with TemporaryDirectory() if cache is None else nullcontext(journal_folder(cache, root)) as folder:
            examination = examine(annotations, Path(folder), whole=True)
        broken = [Problem(annotations.ids[place], reason) for place, reason in examination.broken.items()]
        if wrong := [*annotations.problems, *broken]:
            named = "; ".join(f"{problem.path}: {problem.reason}" for problem in wrong[:3])
            more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            check = command("data check", root)
            raise UserError(f"cannot train on {str(root)!r}: {named}{more}; list every broken clip with: {check}")
        _known[state] = index_of(annotations, examination.clips)
    return _known[state]


def checked_index(layout: str, split: str, root: Path, cache: Path) -> Index:
    """The index of ``root`` that ``tada data check`` wrote into ``cache``, if the files are unchanged; or a pack's.

    Raises :class:`UserError` where there is none, for annotations and media that have changed since, and for clips that
    are missing or broken and were not accepted.

    Args:
        layout: of the data set.
        split: of the layout; empty for the usual.
        root: the folder of the clips, or a pack of them.
        cache: the folder of what is known of them.
    """
    index = _index(Folder(layout=layout, split=split), root, cache)
    _require_usable_clips(index)
    _require_same_media(index)
    return index


def _index(data: Folder, root: Path, cache: Path) -> Index:
    layout, split = data.layout, split_of(data.layout, data.split)
    if not root.is_dir():
        raise UserError(f"no folder at {str(root)!r}; give the one that holds annotations and media")
    if is_pack(root):
        index = open_pack(root.absolute())
        if (index.layout, index.split) != (layout, split):
            raise UserError(
                f"{str(root)!r} is a pack of {_with_split(index.layout, index.split)}, and the regime is on "
                f"{_with_split(layout, split)}; name another --data or another --regime"
            )
        return index
    if layout == "classes":
        return _index_of_class_folders(root, data.val_share, cache)
    folder = index_folder(cache, root, layout, split)
    if not is_index(folder):
        named = guess(root)
        if named and named[0] != layout:
            raise UserError(
                f"{str(root)!r} looks like {named[0]} ({named[1]}), and the regime is on {layout}; name another "
                "--data or another --regime"
            )
        check = command("data check", root, layout=layout, split=split or None)
        raise UserError(f"the clips in {str(root)!r} have not been checked yet; check them once with: {check}")
    index = open_index(folder)
    if changed := index.changed_sources():
        raise UserError(f"{changed[0]} has changed since the clips were checked; check them again with: {index.check}")
    return index


def _with_split(layout: str, split: str) -> str:
    return f"{layout}, split {split!r}" if split else layout


def _require_same_media(index: Index) -> None:
    """Raise :class:`UserError` if one of some media, evenly chosen, has changed since it was inspected."""
    if index.form == "pack":
        return
    used = np.concatenate([index.places("train"), index.places("val")])
    places = used[:: max(1, len(used) // NUM_SPOT_CHECKED)]
    media, measured = [index.media[int(place)] for place in places], index.measured[places]
    sizes, changed = sizes_and_changes(Path(index.root), media)
    different = np.flatnonzero((sizes != measured["bytes"]) | (changed != measured["changed"]))
    if different.size:
        medium = Path(index.root) / media[int(different[0])]
        raise UserError(f"{medium} has changed since the clips were checked; check them again with: {index.check}")


def _require_usable_clips(index: Index) -> None:
    if unusable := index.unusable():
        raise UserError(
            f"{len(unusable):,} clips that the annotations list are missing or broken "
            f"({some(unusable, len(unusable))}); missing clips are never replaced: "
            f"list them, and see how to accept that they are left out, with: {index.check}"
        )


def _require_usable_index(index: Index, data: Folder) -> None:
    _require_usable_clips(index)
    used = np.concatenate([index.places("train"), index.places("val")])
    counts = index.measured["frames"][used]
    fps = np.nan_to_num(index.measured["fps"][used], nan=0.0)
    if data.sampling.kind == "intervals" and (timeless := used[fps == 0]).size:
        raise UserError(
            f"{_some_ids(index, timeless)} without a frame rate, by which intervals are measured; set sampling to "
            "segments in the regime"
        )
    if data.short_clips == "refuse":
        rates, which = np.unique(fps, return_inverse=True)
        needed = np.array([frames_needed(data.sampling, data.num_frames, float(rate)) for rate in rates])[which]
        if (short := used[counts < needed]).size:
            raise UserError(
                f"{_some_ids(index, short)} with fewer frames than a clip takes, {int(needed.max())}; set "
                "short_clips='repeat' in the regime, or lower num_frames"
            )
    reader = LAYOUTS.get(index.layout)
    with_pairs = [names for _, names in index.heads if mirror_pairs(names)]
    for names in with_pairs or [index.heads[0][1]]:
        require_mirror(data.mirror, names, refuse=reader is not None and reader.has_mirror_classes)


def _some_ids(index: Index, places: NDArray[np.int64]) -> str:
    clips = "clip" if len(places) == 1 else "clips"
    return f"{len(places):,} {clips} ({some((index.ids[int(place)] for place in places), len(places))})"


def _opened(data: Folder) -> Index:
    """The index of the clips of a resolved ``data``; raises :class:`UserError` unless it has its fingerprint."""
    if not data.fingerprint:
        raise UserError("this regime trains on a folder of clips; name it: --data DIR")
    folder = text_to_path(data.index)
    if data.layout == "classes":
        index = _index_of_class_folders(data.path, data.val_share)
    elif is_index(folder):
        index = open_pack(folder) if is_pack(folder) else open_index(folder)
    else:
        raise UserError(
            f"the index of the clips, {str(folder)!r}, is not on this machine; share that folder (or pack) between "
            "the machines, or make the index with tada data check in the --out of this one"
        )
    if index.fingerprint != data.fingerprint:
        raise UserError(
            f"the clips in {data.root!r} have changed since the run was planned; give the same command again"
        )
    if not Path(index.root).is_dir():
        raise UserError(f"the clips, {index.root!r}, are not on this machine; mount them there")
    _require_usable_index(index, data)
    return index


class FolderClips(Source):
    """The clips of a resolved :class:`~tadaconv.spec.Folder` on a device.

    Args:
        data: resolved, by :func:`resolve`.
        device: where batches are made.
        sharing_with: a source of the same clips, with which the readers are shared; None for none.

    Raises:
        UserError: ``data`` is not resolved, or the clips are no longer those of its fingerprint.
    """

    def __init__(self, data: Folder, device: torch.device, sharing_with: "FolderClips | None" = None) -> None:
        self._data = data
        self._device = device
        self._index = _opened(data)
        self._clips = Clips(self._index)
        self._frame_bytes = self._clips.frame_bytes(data.short_side)
        self._videos = _kept_videos(data, self._clips, self._frame_bytes)
        self.is_in_memory = self._videos is not None
        self._readers: Readers | None = sharing_with._readers if sharing_with is not None else self._make_readers()
        self._sharing: WeakSet[FolderClips] = WeakSet() if sharing_with is None else sharing_with._sharing
        self._sharing.add(self)
        self._train_ahead: Finisher[tuple[Tensor, bool]] | None = None
        self._val_ahead: Finisher[Tensor] | None = None
        if self._readers is not None:
            self._train_ahead = Finisher(self._readers, TRAIN) if sharing_with is None else sharing_with._train_ahead
            self._val_ahead = Finisher(self._readers, VAL) if sharing_with is None else sharing_with._val_ahead
        self._threads: Threads[Wanted, Frames] | None = None
        self._mirrored = [mirrored_labels(head.class_names) for head in self._clips.heads]
        self.heads = self._clips.heads
        self.form = self._index.form
        self.class_names = classes_of_heads(self.heads)
        self.families: dict[str, tuple[int, ...]] = {}
        self.subsets = {name: torch.from_numpy(places) for name, places in self._clips.subsets.items()}
        self.val_names = tuple(self._clips.name(int(place)) for place in self._clips.val)
        self.num_train = len(self._clips.train)
        self.num_val = len(self._clips.val)
        self.num_views = data.num_temporal_views * data.num_spatial_crops

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
        """Random frames, a random box and, unless ``mirror`` is no, a mirror image of every second clip.

        All drawn from (seed, epoch, index) alone. Returns normalised clips (B, 3, T, H, W) and int64 labels (B,), or
        (B, heads); of mirror images the labels that the mirror image has.
        """
        clips, rngs = self._clips, _generators(indices, epoch, seed)
        wanted = self._train_wanted(indices, rngs)
        made = None if self._train_ahead is None else self._train_ahead.take(self, wanted)
        if made is None:
            made = [self._train_clip(frames, rng) for frames, rng in zip(self._read(wanted), rngs, strict=True)]
        labels: list[list[int]] = []
        for (place, _), (_, mirror) in zip(wanted, made, strict=True):
            own = clips.labels[place].tolist()
            swapped = mirror and self._data.mirror == "swap"
            labels.append([other[label] for label, other in zip(own, self._mirrored, strict=True)] if swapped else own)
        return torch.stack([clip for clip, _ in made]), self._label_tensor(labels)

    def val_batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The middle in time and the centre of each frame, or several of both as ``data`` has it.

        Returns normalised clips (B, V, 3, T, H, W), temporal views before crops, and int64 labels (B,) or (B, heads).
        """
        wanted = self._val_wanted(indices)
        made = None if self._val_ahead is None else self._val_ahead.take(self, wanted)
        if made is None:
            made = [self._val_views(frames) for frames in self._read(wanted)]
        return torch.stack(made), self._label_tensor([self._clips.labels[place].tolist() for place, _ in wanted])

    def expect_train(
        self, batches: Iterable[tuple[Tensor, int, int]], batch_size: int = 1, views: int | None = None
    ) -> None:
        """Read ahead for the calls of :meth:`train_batch` that have these arguments, if they come in this order.

        Takes the memory for this, and for an evaluation by this source or one next to it. Raises :class:`UserError`
        where it is not free, and :class:`RunError` where it cannot be had all the same.
        """
        if self._train_ahead is None or num_readers() == 0:
            return

        def clips() -> Iterator[list[tuple[Wanted, partial[tuple[Tensor, bool]]]]]:
            for indices, epoch, seed in batches:
                rngs = _generators(indices, epoch, seed)
                wanted = self._train_wanted(indices, rngs)
                yield [(one, partial(self._train_clip, rng=rng)) for one, rng in zip(wanted, rngs, strict=True)]

        at_once = batch_size if views is None else views
        in_val = max(one._ahead_bytes(VAL, clips_ahead(one._val_clips(at_once))) for one in self._sharing)
        self._train_ahead.begin(self, clips(), lambda ahead: (self._ahead_bytes(TRAIN, ahead), in_val), batch_size)

    def expect_val(self, batches: Iterable[Tensor]) -> None:
        """Read ahead for the calls of :meth:`val_batch` that have these arguments, if they come in this order."""
        if self._val_ahead is not None and num_readers() > 0:
            clips = ([(one, self._val_views) for one in self._val_wanted(indices)] for indices in batches)
            self._val_ahead.begin(self, clips, lambda ahead: (0, self._ahead_bytes(VAL, ahead)))

    def close(self) -> None:
        """End what reads ahead, of a source next to this one too; clips are read when asked for from now on."""
        for ahead in (self._train_ahead, self._val_ahead):
            if ahead is not None:
                ahead.stop()
        if self._readers is not None:
            self._readers.close()
        if self._threads is not None:
            self._threads.close()
            self._threads = None

    def _train_wanted(self, indices: Tensor, rngs: Iterable[np.random.Generator]) -> list[Wanted]:
        """What is read of training clips; the first draw of each generator chooses the frames."""
        data, clips = self._data, self._clips
        wanted: list[Wanted] = []
        for index, rng in zip(indices.tolist(), rngs, strict=True):
            place = int(clips.train[index])
            num_frames, fps = int(clips.num_frames[place]), float(clips.fps[place])
            wanted.append((place, training_frames(data.sampling, rng, num_frames, data.num_frames, fps)))
        return wanted

    def _val_wanted(self, indices: Tensor) -> list[Wanted]:
        """What is read of validation clips: the frames of all views at once."""
        data, clips = self._data, self._clips
        views = range(data.num_temporal_views)
        wanted: list[Wanted] = []
        for index in indices.tolist():
            place = int(clips.val[index])
            num_frames, fps = int(clips.num_frames[place]), float(clips.fps[place])
            chosen = [
                evaluation_frames(data.sampling, num_frames, data.num_frames, fps, view, len(views)) for view in views
            ]
            wanted.append((place, np.concatenate(chosen)))
        return wanted

    def _train_clip(self, frames: Frames, rng: np.random.Generator) -> tuple[Tensor, bool]:
        """A random box of frames (T, H, W, 3) as a clip (3, T, side, side), and whether it is mirrored."""
        data, height, width = self._data, frames.shape[1], frames.shape[2]
        pixels = self._on_device(frames)
        if data.sampling.rule == "paper":
            scaled = random_scaled_box(rng, height, width, data.size, data.jitter)
            mirror = self._tosses_mirror(rng)
            return scaled_to_clip(pixels, scaled, mirror), mirror
        box = random_box(rng, height, width, data.size, data.jitter)
        mirror = self._tosses_mirror(rng)
        return to_clip(pixels, box, data.size, mirror), mirror

    def _val_views(self, frames: Frames) -> Tensor:
        """All views of a clip, (V, 3, T, side, side), of the frames of all of them."""
        by_view = torch.chunk(self._on_device(frames), self._data.num_temporal_views)
        return torch.stack([crop for view in by_view for crop in self._crops(view)])

    def _read(self, wanted: Sequence[Wanted]) -> list[Frames]:
        """(T, H, W, 3) for each clip, from memory or read now."""
        if self._videos is not None:
            return [self._videos[place][indices] for place, indices in wanted]
        clips, short_side = self._clips, self._data.short_side
        if self._threads is None:
            self._threads = Threads(lambda one: _decode(clips, one[0], one[1].tolist(), short_side))
        return read_all(self._threads, wanted, lambda one: clips.path(one[0]))

    def _make_readers(self) -> Readers | None:
        """What reads clips ahead; None where they are kept in memory."""
        if self._videos is not None:
            return None
        data, clips, frame_bytes = self._data, self._clips, self._frame_bytes
        opening = (
            partial(read_of_index, self._index)
            if data.layout == "classes"
            else partial(read_of_folder, text_to_path(data.index), data.fingerprint)
        )

        def num_bytes(wanted: Wanted) -> int:
            place, indices = wanted
            return len(indices) * int(frame_bytes[place])

        return Readers(opening, data.short_side, num_bytes, clips.path)

    def _ahead_bytes(self, lane: int, num_clips: int) -> int:
        """Memory for ``num_clips`` clips that are read ahead: of usual size, and for one of the largest."""
        clips, data = self._clips, self._data
        used = (clips.train, clips.val)[lane]
        num_frames = data.num_frames * (data.num_temporal_views if lane == VAL else 1)
        frame_bytes = self._frame_bytes[used]
        return int(num_frames * (num_clips * frame_bytes.mean() + frame_bytes.max())) + 64 * (num_clips + 1)

    def _val_clips(self, views: int) -> int:
        """Clips of an evaluation of so many ``views`` at once."""
        return min(self.num_val, max(1, views // self.num_views))

    def _label_tensor(self, labels: Sequence[Sequence[int]]) -> Tensor:
        """(B,) of clips that have one label, (B, heads) of others."""
        by_head = torch.tensor(labels, dtype=torch.int64, device=self._device)
        return by_head[:, 0] if by_head.shape[1] == 1 else by_head

    def _crops(self, frames_THWC: Tensor) -> list[Tensor]:
        """The spatial crops of a view, (3, T, side, side) each."""
        data, height, width = self._data, frames_THWC.shape[1], frames_THWC.shape[2]
        if data.sampling.rule == "paper":
            boxes = view_scaled_boxes(height, width, data.eval_side, data.num_spatial_crops)
            return [scaled_to_clip(frames_THWC, box) for box in boxes]
        return [to_clip(frames_THWC, box, data.eval_side) for box in view_boxes(height, width, data.num_spatial_crops)]

    def _tosses_mirror(self, rng: np.random.Generator) -> bool:
        """Whether a clip is mirrored; makes no draw where mirrors are off."""
        return self._data.mirror != "no" and rng.random() < 0.5

    def _on_device(self, frames: Frames) -> Tensor:
        return torch.from_numpy(frames).to(self._device)


def _generators(indices: Tensor, epoch: int, seed: int) -> list[np.random.Generator]:
    """A random generator for each of the training clips ``indices``."""
    return [np.random.default_rng((seed, epoch, index)) for index in indices.tolist()]


_kept: dict[tuple[str, int], list[Frames]] = {}
"""The decoded videos of the last (fingerprint, short side), training before validation, so that the next cell of a
table starts at once."""


def _kept_videos(data: Folder, clips: Clips, frame_bytes: NDArray[np.int64]) -> dict[int, Frames] | None:
    """All videos decoded, by the places of their clips; None where they do not fit into memory."""
    used = np.concatenate([clips.train, clips.val])
    decoded_bytes = int((clips.num_frames * frame_bytes)[used].sum())
    if not clips.can_be_kept or decoded_bytes > MEMORY_SHARE * total_bytes():
        return None
    key = (data.fingerprint, data.short_side)
    if key not in _kept:
        _kept.clear()  # before decoding: two sets at once may not fit
        whole = over_cores(lambda place: _decode(clips, place, None, data.short_side), used.tolist(), "decoding clips")
        _kept[key] = list(whole)
    return dict(zip(used.tolist(), _kept[key], strict=True))


def _decode(clips: Clips, place: int, indices: Sequence[int] | None, short_side: int) -> Frames:
    try:
        return clips.read(place, indices, short_side)
    except (BrokenVideoError, OSError) as error:
        raise no_longer_intact(clips.path(place), error) from error
