"""Are features of untrimmed videos, and their annotations, fit to train on? Every finding is a line.

A file of features is read once: the index, a file of the cache, keeps its shape and a hash of its values.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tadaconv.data.annotations import Notes, some
from tadaconv.data.feature_files import (
    MANIFEST,
    PICKLES,
    SUFFIXES,
    FeatureManifest,
    convert_pickle,
    read_features,
    read_manifest,
)
from tadaconv.data.media import Problem
from tadaconv.data.steps import Window, num_steps_of, on_grid, times_of, windows_of
from tadaconv.data.threads import over_cores
from tadaconv.data.timed_annotations import TimedAnnotations, TimedVideo, read_timed_annotations
from tadaconv.errors import UserError
from tadaconv.files import write_file
from tadaconv.spec import Features
from tadaconv.text import encodable, path_to_text, text_to_path


class FeatureFile(NamedTuple):
    """What is known of a file of features: as it was on the disk, and the shape and the hash of its values."""

    path: str
    num_bytes: int
    changed: int
    num_features: int
    num_channels: int
    digest: str


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features and their annotations, as they were found.

    Attributes:
        data: the description, completed.
        annotations: of the two subsets.
        files: the features of each of their videos that has some.
        problems: must be fixed before anything trains.
        warnings: may be intended.
    """

    data: Features
    annotations: TimedAnnotations
    files: Mapping[str, FeatureFile] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the features are."""
        return self.data.path / self.data.folder

    def videos(self, side: int) -> dict[str, TimedVideo]:
        """The videos with features that are trained on (0) or evaluated on (1), in the order of the annotations."""
        listed = self.annotations.subsets[self.data.subsets[side]]
        return {name: video for name, video in listed.items() if name in self.files}


def resolve(data: Features, root: Path, cache: Path) -> Features:
    """``data`` completed by what is under ``root``: where, how many classes and channels, a fingerprint.

    Warns of what may be intended. Raises :class:`UserError` that names what is wrong, for what no run could train on.

    Args:
        data: as the regime has it.
        root: the folder of features and annotations.
        cache: the folder of what is known of files.
    """
    feature_set = survey(data.but(root=path_to_text(root.absolute())), cache)
    refuse_problems(feature_set)
    if feature_set.warnings:
        logging.getLogger("tadaconv").warning(
            "features in %s: %s", feature_set.folder, _in_a_line(feature_set.warnings)
        )
    return feature_set.data


def resolve_all(data: Features, root: Path, cache: Path) -> list[Features]:
    """As :func:`resolve`, of every folder in ``root`` that has files of features; of ``root`` itself where none has.

    Args:
        data: as the regime has it; with a folder, of that alone.
        root: the folder of features and annotations.
        cache: the folder of what is known of files.
    """
    folders = [] if data.folder else sorted(path.name for path in root.glob("*/") if _has_features(path))
    if not folders and not data.folder and not _has_features(root):
        raise UserError(
            f"there are no features in {str(root)!r} or in a folder of it; rows name their folder, such as tsn, which "
            "has a file a video: .npy, .npz, .csv or .pt"
        )
    folders = folders or [""]
    return [resolve(data.but(folder=folder) if folder else data, root, cache) for folder in folders]


def _has_features(folder: Path) -> bool:
    names = (path.name for path in folder.iterdir() if path.suffix.lower() in (*SUFFIXES, *PICKLES))
    return any(not name.startswith("EPIC_100_") for name in names)


def refuse_problems(feature_set: FeatureSet) -> None:
    """Raise :class:`UserError` that names what is wrong with features, if anything is."""
    if feature_set.problems:
        raise UserError(
            f"cannot train on the features in {str(feature_set.folder)!r}: {_in_a_line(feature_set.problems)}"
        )


def _in_a_line(findings: Iterable[Problem]) -> str:
    """All of them, of which there are few, since those of one kind are counted."""
    return "; ".join(one.reason if one.path == "." else f"{one.path}: {one.reason}" for one in findings)


def survey(data: Features, cache: Path | None = None) -> FeatureSet:
    """Read the annotations, and every file of features that is not known yet, and find all that is wrong with them.

    Raises :class:`UserError` for annotations that cannot be read, a folder that is not there, and features whose times
    neither ``data`` nor a manifest gives.

    Args:
        data: where they are; other fields that a disk gives need not be there.
        cache: the folder of what is known of files; None for the index that ``data`` names, if it does.
    """
    folder = data.path / data.folder
    if not folder.is_dir():
        raise UserError(f"no folder at {str(folder)!r}; give the one that holds features, a file a video")
    if not data.annotations:
        data = data.but(annotations=_find_annotations(data.path))
    subsets = list(dict.fromkeys(data.subsets))
    annotations = read_timed_annotations(data.path / data.annotations, subsets, train=data.subsets[0])
    notes, warnings = Notes(), Notes()
    manifest = read_manifest(folder)
    if cache is not None:
        name = hashlib.sha256(path_to_text(folder.absolute()).encode()).hexdigest()[:16]
        data = data.but(index=path_to_text((cache / f"features-{name}.json").absolute()))
    feature_set = FeatureSet(_with_times(data, folder, manifest, notes), annotations)
    paths = _matched(feature_set, notes, warnings)
    files = _examined(folder, paths, text_to_path(data.index) if data.index else None, notes)
    listed = [annotations.subsets[subset] for subset in data.subsets]
    data = feature_set.data.but(
        num_channels=next((file.num_channels for file in files.values()), 0),
        num_classes=sum(len(names) for _, names in annotations.heads),
        num_listed=tuple(map(len, listed)),
        num_missing=tuple(len(videos.keys() - paths.keys()) for videos in listed),
        fingerprint=_fingerprint(annotations, data.subsets, files),
    )
    feature_set = FeatureSet(data, annotations, files)
    _check_channels(files, manifest, notes)
    _check_times(feature_set, notes, warnings)
    _check_training(feature_set, notes, warnings)
    return replace(feature_set, problems=tuple(notes.lines()), warnings=tuple(warnings.lines()))


def _find_annotations(root: Path) -> str:
    """The one JSON file in ``root``, or the one folder of EPIC-KITCHENS-100's tables, relative to it."""
    names = sorted(path for path in root.glob("*.json") if path.name != MANIFEST)
    names += sorted({path.parent for path in (*root.glob("EPIC_100_*.csv"), *root.glob("*/EPIC_100_*.csv"))})
    if len(names) == 1:
        return str(names[0].relative_to(root))
    seen = f"there are {some((path.name for path in names), len(names))}" if names else "there are none"
    raise UserError(f"annotations in {str(root)!r}: {seen}; name them with annotations, a path under that folder")


def _with_times(data: Features, folder: Path, manifest: FeatureManifest | None, notes: Notes) -> Features:
    """``data`` with the times of features, of the manifest where it has none."""
    if data.resize:
        return data
    if data.fps is None:
        if manifest is None:
            raise UserError(
                f"the times of the features in {str(folder)!r} are not known: give fps, stride and offset, the "
                "centre of the first feature in frames (half a window without padding); or resize, if they were scaled"
            )
        return data.but(fps=manifest.fps, stride=manifest.stride, offset=manifest.offset)
    if manifest is not None:
        for name in ("fps", "stride", "offset"):
            if (given := getattr(data, name)) != (written := getattr(manifest, name)):
                advice = "leave fps, stride and offset out, or name other features"
                notes.add(MANIFEST, f"features were written with {name} {written:g}, not {given:g}; {advice}")
    return data


def _matched(feature_set: FeatureSet, notes: Notes, warnings: Notes) -> dict[str, Path]:
    """The file of features of every video that has one."""
    data, folder = feature_set.data, feature_set.folder
    by_name: dict[str, list[Path]] = {}
    pickles = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            by_name.setdefault(path.stem, []).append(path)
        elif path.suffix.lower() in PICKLES:
            pickles.append(path)
    paths: dict[str, Path] = {}
    for subset in dict.fromkeys(data.subsets):
        lacking = []
        for video in feature_set.annotations.subsets[subset]:
            candidates = by_name.pop(video, None) or by_name.pop(f"v_{video}", [])
            if not candidates:
                lacking.append(video)
                continue
            paths[video] = candidates[0]
            if len(candidates) > 1:
                named = " and ".join(str(path.relative_to(folder)) for path in candidates)
                notes.add(".", "videos with several files of features: {}; keep one of each", named)
        if not lacking:
            continue
        num_listed = len(feature_set.annotations.subsets[subset])
        reason = (
            f"{len(lacking):,} of {num_listed:,} videos of {subset} have no features ({some(lacking, len(lacking))})"
        )
        if data.missing == "leave_out" and len(lacking) < num_listed:
            warnings.add(".", f"{reason}; they are left out")
        elif pickles:
            notes.add(
                ".",
                f"{reason}; there are pickles, which are not opened as that can run code: {convert_pickle(pickles[0])}",
            )
        else:
            there = f"among {some(by_name, len(by_name))}" if by_name else "and there are no others"
            notes.add(
                ".",
                f"{reason}: looked for {lacking[0]}.npy, .npz, .csv or .pt {there}; extract them, name their folder, "
                "or set missing to leave_out",
            )
    used = {path.suffix for path in paths.values()}
    for name, strays in by_name.items():
        if used.intersection(path.suffix for path in strays):
            warnings.add(".", "features of videos that neither subset has: {}; they are not used", name)
    return paths


def _examined(folder: Path, paths: Mapping[str, Path], index: Path | None, notes: Notes) -> dict[str, FeatureFile]:
    """What is known of each file that can be used; ``index`` keeps what has been read."""
    known: dict[str, FeatureFile] = {}
    if index is not None and index.is_file():
        known = {one[0]: FeatureFile(*one) for one in json.loads(index.read_bytes())}
    files: dict[str, FeatureFile] = {}
    todo: dict[str, FeatureFile] = {}
    for video, path in paths.items():
        status = path.stat()
        state = FeatureFile(str(path.relative_to(folder)), status.st_size, status.st_mtime_ns, 0, 0, "")
        before = known.get(state.path)
        if before is not None and before[:3] == state[:3]:
            files[video] = before
        else:
            todo[video] = state
    examining = over_cores(lambda video: _examine(paths[video], todo[video]), todo, "reading features")
    try:
        for (video, state), examined in zip(todo.items(), examining, strict=True):
            if isinstance(examined, FeatureFile):
                files[video] = known[state.path] = examined
            else:
                notes.add(".", f"files of features: {{}}; each {examined}", encodable(state.path))
    finally:
        if index is not None and todo:
            _keep(index, known)
    return {video: files[video] for video in paths if video in files}


def _keep(index: Path, known: Mapping[str, FeatureFile]) -> None:
    try:
        write_file(index, json.dumps(list(known.values())))
    except OSError as error:
        raise UserError(f"cannot write {str(index)!r}: {error.strerror}; name another --out") from error


def _examine(path: Path, state: FeatureFile) -> FeatureFile | str:
    """``state`` completed, or why the file cannot be used."""
    try:
        with np.errstate(over="ignore"):  # what is too large is not finite, and refused
            features = np.ascontiguousarray(read_features(path), np.float32)
    except UserError as error:
        return str(error)
    if not np.isfinite(features).all():
        return "has values that are not finite (NaN or infinity); extract it again"
    digest = hashlib.sha256(features.astype("<f4", copy=False).tobytes()).hexdigest()[:32]
    return state._replace(num_features=len(features), num_channels=features.shape[1], digest=digest)


def _fingerprint(annotations: TimedAnnotations, subsets: Sequence[str], files: Mapping[str, FeatureFile]) -> str:
    """16 hex digits over the names, shapes and values of features, and over the annotations of their videos."""
    digest = hashlib.sha256(repr(annotations.heads).encode())
    for subset in subsets:
        for name, video in sorted(annotations.subsets[subset].items()):
            if name in files:
                digest.update(repr((name, *files[name][3:], video.duration, video.labels.shape)).encode())
                digest.update(video.spans.astype("<f8").tobytes() + video.labels.astype("<i8").tobytes())
        digest.update(b"\n")
    return digest.hexdigest()[:16]


def _check_channels(files: Mapping[str, FeatureFile], manifest: FeatureManifest | None, notes: Notes) -> None:
    counts = Counter(file.num_channels for file in files.values())
    if manifest is not None and counts and manifest.num_channels not in counts:
        notes.add(
            MANIFEST,
            f"says that features have {manifest.num_channels} channels, and they have {next(iter(counts))}; put it "
            "next to the features that it was written with",
        )
    if len(counts) < 2:
        return
    if len({file.num_features for file in files.values()}) == 1:
        notes.add(
            ".", "all files have as many rows, and numbers of columns that differ, as (C, T); save (T, C) instead"
        )
        return
    usual, _ = counts.most_common(1)[0]
    for name, file in files.items():
        if file.num_channels != usual:
            reason = f"features of another number of channels than {usual}: {{}}; extract all by one network"
            notes.add(".", reason, f"{name} ({file.num_channels})")


def _check_times(feature_set: FeatureSet, notes: Notes, warnings: Notes) -> None:
    """Compare the numbers of features with the durations of their videos."""
    data = feature_set.data
    videos = {**feature_set.videos(0), **feature_set.videos(1)}
    timed = {name: video.duration for name, video in videos.items() if video.duration is not None}
    for name in videos.keys() - timed.keys():
        if data.resize:
            notes.add(".", "videos without a duration, which resize needs: {}; add it to the annotations", name)
        else:
            warnings.add(".", "videos without a duration: {}; their offset and length are not checked", name)
    if not timed or data.resize:
        return
    fps, stride, offset = times_of(data)
    seconds = np.array(list(timed.values()))
    counts = np.array([feature_set.files[name].num_features for name in timed], np.float64)
    if fault := timing_fault(counts, seconds, fps, stride, offset):
        notes.add(".", fault)
        return
    expected = np.maximum(1, (seconds * fps - 2 * offset) / stride + 1)
    slack = 1 + fps / stride  # a second, since durations are rounded
    for name, count, number in zip(timed, counts, expected, strict=True):
        if abs(count - number) > slack:
            notes.add(
                ".",
                "features of other length than duration, fps and stride say: {}; extract them again, or correct the "
                "duration",
                f"{name} ({count:.0f} for about {number:.0f})",
            )


def timing_fault(
    counts: NDArray[np.float64], seconds: NDArray[np.float64], fps: float, stride: float, offset: float
) -> str:
    """What is wrong with the times of features for most videos, and how to correct it; empty if nothing is.

    A video of F frames with n features has ``F - (n - 1) * stride`` frames before the first centre and after the last:
    ``2 * offset``, up to a stride that the last window may leave or exceed, since windows lie alike at both ends. Where
    that is off by about the same for short and long videos, the offset is wrong; where it grows with the duration, the
    rate is.

    Args:
        counts: features of each video.
        seconds: their durations.
        fps: frames a second.
        stride: frames from one feature to the next.
        offset: centre of the first, in frames.
    """
    spare = seconds * fps - (counts - 1) * stride
    excess = float(np.median(spare)) - 2 * offset
    if abs(excess) <= stride + 1:  # a frame, since durations are rounded
        return ""
    order = np.argsort(seconds, kind="stable")
    half = len(order) // 2
    longer, shorter = order[len(order) - half :], order[:half]
    apart = (seconds[longer] - seconds[shorter]) * fps >= 20 * stride  # so that half a feature is little
    rates = ((counts[longer] - counts[shorter]) / np.maximum(seconds[longer] - seconds[shorter], 1e-9))[apart]
    rate, tolerance = (float(np.median(rates)), 0.1) if rates.size else (float(np.median(counts / seconds)), 0.25)
    if abs(rate * stride / fps - 1) > tolerance:
        return (
            f"there are about {rate:.3g} features a second, and fps {fps:g} with stride {stride:g} makes "
            f"{fps / stride:.3g}; correct one of them: stride {fps / max(rate, 1e-9):.3g} fits this fps"
        )
    # To half a stride; a quarter of one is what the last window leaves over on average, on either side.
    fitting = max(0.0, round((float(np.median(spare)) - stride / 4) / stride) * stride / 2)
    if excess < 0 and fitting <= stride / 2:
        return (
            f"durations say that features reach from end to end, as with padding; offset {offset:g} is half a window "
            f"off: try offset 0, or {stride / 2:g} where feature i is of the {stride:g} frames from {stride:g} i on"
        )
    off = "half a window" if offset <= stride / 2 else f"{abs(fitting - offset):g} frames"
    return (
        f"durations say that the first feature is centred {fitting:g} frames in, as in the middle of a window without "
        f"padding; offset {offset:g} is {off} off: try offset {fitting:g}"
    )


def _check_training(feature_set: FeatureSet, notes: Notes, warnings: Notes) -> None:
    """Check what training and evaluation get to see."""
    data, train, val = feature_set.data, feature_set.videos(0).values(), feature_set.videos(1).values()
    for column, (head, names) in enumerate(feature_set.annotations.heads):
        trained, evaluated = ({int(n) for video in of for n in video.labels[:, column]} for of in (train, val))
        for label in sorted(evaluated - trained):
            reason = f"classes of {head} that {data.subsets[1]} has and {data.subsets[0]} lacks: {{}}; they score 0"
            warnings.add(".", reason, names[label])
    if not train or (data.resize and any(video.duration is None for video in train)):
        return  # said already
    num_segments = sum(map(len, train))
    num_held = len({(window.video, int(place)) for window, held in training_windows(feature_set) for place in held})
    if not num_held:
        notes.add(".", "no training window holds a whole segment; raise num_steps, or correct fps, stride and subsets")
    elif num_held < num_segments:
        lost = f"{num_segments - num_held:,} of {num_segments:,} training segments"
        warnings.add(".", f"{lost} are whole in no window of {data.num_steps} steps, and are not trained on")


def training_windows(feature_set: FeatureSet) -> Iterator[tuple[Window, NDArray[np.int64]]]:
    """Windows of training videos that hold a whole segment, and the places of those segments."""
    for name, video in feature_set.videos(0).items():
        length = num_steps_of(feature_set.data, feature_set.files[name].num_features)
        spans = on_grid(feature_set.data, video, length)
        for window in windows_of(feature_set.data, name, length):
            if (held := window.holds(spans)).size:
                yield window, held
