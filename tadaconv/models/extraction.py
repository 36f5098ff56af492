"""Features of whole videos: a network on clips sees a video window by window, and a window becomes a feature."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tadaconv.data.decode import BrokenVideoError, decode_at, inspect
from tadaconv.data.feature_files import FeatureManifest, read_manifest, write_features, write_manifest
from tadaconv.data.media import stem, survey
from tadaconv.data.transforms import to_clip, view_boxes
from tadaconv.errors import RunError, UserError
from tadaconv.models.host import Host, takes_clips

_FRAMES_AT_ONCE = 512
"""Decoded frames in memory, about."""
_CLIPS_AT_ONCE = 8


def first_frame(window: int, stride: int, padded: bool) -> int:
    """The first frame that the first feature sees; before the video's, where windows are centred on their stride.

    Args:
        window: frames of a feature.
        stride: frames from one to the next.
        padded: whether features reach the ends of the video.
    """
    return (stride - window) // 2 if padded else 0


def window_starts(num_frames: int, window: int, stride: int, padded: bool) -> range:
    """The first frames of all windows of a video.

    Padded, feature i is centred on the frames from ``i * stride`` to ``(i + 1) * stride``, and there is one for every
    stride that the video begins; else windows lie within the video.

    Args:
        num_frames: of the video.
        window: frames of a feature.
        stride: frames from one to the next.
        padded: whether features reach the ends of the video.
    """
    first = first_frame(window, stride, padded)
    count = math.ceil(num_frames / stride) if padded else max(0, (num_frames - window) // stride + 1)
    return range(first, first + count * stride, stride)


def videos_under(folder: Path) -> dict[str, Path]:
    """The videos under a folder by name; raises :class:`UserError` where there are none, and for two of one name."""
    if not folder.is_dir():
        raise UserError(f"no folder at {str(folder)!r}; give the one that holds videos")
    videos: dict[str, Path] = {}
    for medium in survey(folder).media["video"]:
        first = videos.setdefault(stem(medium.name), folder / medium.path)
        if first != folder / medium.path:
            raise UserError(f"{str(first)!r} and {medium.path!r} have one name, and features of one file; rename one")
    if not videos:
        raise UserError(f"no video in {str(folder)!r}; give the folder that holds them")
    return videos


def write_features_of(
    network: Host, videos: Mapping[str, Path], out: Path, seen: FeatureManifest, device: torch.device, *, half: bool
) -> Iterator[str]:
    """Write the features of videos into ``out``, with their manifest; yields for each why it has none, or "".

    Features that are there already are kept if they are of the same origin.

    Args:
        network: in evaluation mode, on ``device``.
        videos: by name.
        out: the folder of features.
        seen: what a feature sees; ``num_channels`` is not yet known.
        device: where the network is.
        half: whether float16 is written.

    Raises:
        UserError: ``out`` holds other features, or cannot be written; and as :func:`features_of_video`.
        RunError: features are not finite.
    """
    before = read_manifest(out)
    if before is not None and before != seen.model_copy(update={"num_channels": before.num_channels}):
        raise UserError(f"{str(out)!r} holds features of another origin, as its manifest says; name another folder")
    if before is None and any(out.glob("*.npy")):
        raise UserError(f"{str(out)!r} holds features without a manifest; name another folder")
    for name, path in videos.items():
        file = out / f"{name}.npy"
        if file.exists():
            yield ""
            continue
        try:
            features_TC = features_of_video(network, path, seen, device)
        except (BrokenVideoError, OSError) as error:
            yield str(error)
            continue
        with np.errstate(over="ignore"):
            written = features_TC.astype(np.float16 if half else np.float32)
        if not np.isfinite(written).all():
            raise RunError(f"features of {name!r} are not finite{' in float16' if half else ''}; check the weights")
        try:
            write_manifest(out, seen.model_copy(update={"num_channels": features_TC.shape[1]}))
            write_features(file, written)
        except OSError as error:
            raise UserError(f"cannot write into {str(out)!r}: {error.strerror}; name another folder") from error
        yield ""


@torch.no_grad()
def features_of_video(network: Host, path: Path, seen: FeatureManifest, device: torch.device) -> NDArray[np.float32]:
    """The features of a video, (T, C): of every window the mean of the network's features by frame.

    Frames are those nearest in time, their short side scaled to ``seen.size`` and the middle cut out; before the first
    and after the last they are repeated.

    Args:
        network: in evaluation mode, on ``device``.
        path: of the video.
        seen: what a feature sees.
        device: where the network is.

    Raises:
        UserError: the network gives no features by frame, or cannot take such clips.
        BrokenVideoError: the video is damaged, or shorter than a window without padding.
    """
    info = inspect(path)
    if not info.fps:
        raise BrokenVideoError("has no frame rate, so that a time in seconds has no frame; encode it again")
    num_frames = max(1, math.ceil(info.num_frames / info.fps * seen.fps - 1e-6))
    starts = window_starts(num_frames, seen.window, seen.stride, seen.padded)
    if not starts:
        shortage = f"has {num_frames} frames at {seen.fps:g} fps, fewer than a window of {seen.window}"
        raise BrokenVideoError(f"{shortage}; pad it, or shorten windows")
    features = []
    for clips in _clips(path, starts, num_frames, seen, device):
        with takes_clips(seen.model, (3, seen.window, seen.size, seen.size)):
            features.append(network.features(clips).float().mean(2).cpu())
    of_video: NDArray[np.float32] = torch.cat(features).numpy()
    return of_video


def _clips(
    path: Path, starts: range, num_frames: int, seen: FeatureManifest, device: torch.device
) -> Iterator[torch.Tensor]:
    """The clips of all windows, (N, 3, T, H, W), a few at a time."""
    at_once = max(1, (_FRAMES_AT_ONCE - seen.window) // seen.stride)
    for chunk in (starts[i : i + at_once] for i in range(0, len(starts), at_once)):
        frames_of = np.add.outer(chunk, np.arange(seen.window)).clip(0, num_frames - 1)
        wanted, place = np.unique(frames_of, return_inverse=True)
        frames_THWC = decode_at(path, seen.size, (wanted / seen.fps).tolist())
        height, width = frames_THWC.shape[1:3]
        (box,) = view_boxes(height, width, 1)
        shown_CTHW = to_clip(torch.from_numpy(frames_THWC).to(device), box, seen.size)
        for places in torch.from_numpy(place.reshape(frames_of.shape)).split(_CLIPS_AT_ONCE):
            yield shown_CTHW[:, places.to(device)].transpose(0, 1)
