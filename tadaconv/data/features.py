"""Windows of features of untrimmed videos, for training and evaluation; what is on the disk is checked before."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tadaconv.data.feature_check import refuse_problems, survey, training_windows
from tadaconv.data.feature_files import Array, read_features
from tadaconv.data.memory import total_bytes
from tadaconv.data.segments import Segments
from tadaconv.data.source import Head, SegmentSource, classes_of_heads
from tadaconv.data.steps import Window, grid_of, num_steps_of, on_grid, windows_of
from tadaconv.errors import UserError
from tadaconv.spec import Features
from tadaconv.text import encodable

MEMORY_SHARE = 1 / 8
"""Fraction of the memory that features may fill; several workers of one machine each keep their own."""


class FeatureVideos(SegmentSource):
    """Windows of features of untrimmed videos on a device, split into training and validation.

    A training window holds a whole segment at least; segments that are not whole in it are left out. Validation has all
    windows of all videos.

    Attributes:
        heads: what is labelled, and the classes of each.
        class_names: the classes of all heads.
        num_channels: C.
        train_windows: in their order.
        val_windows: in their order, those of a video in a row: what is detected in one is counted from step ``start``
            of its ``video``.
        videos: the validation videos, with their segments in seconds.
        lengths: steps of every video.
    """

    unit, num_views = "seconds", 1

    def __init__(self, data: Features, device: torch.device) -> None:
        """Open what :func:`tadaconv.data.feature_check.resolve` has checked; raises as that, and if it changed."""
        feature_set = survey(data)
        refuse_problems(feature_set)
        if feature_set.data.fingerprint != data.fingerprint:
            raise UserError(
                f"the features in {str(feature_set.folder)!r}, or their annotations, have changed since they were "
                "checked; give the same command again"
            )
        self._feature_set, self._data, self._device = feature_set, data, device
        self.heads = tuple(Head(name, tuple(map(encodable, names))) for name, names in feature_set.annotations.heads)
        self.class_names, self.families = classes_of_heads(self.heads), {}
        self.num_channels = data.num_channels
        self.lengths = {name: num_steps_of(data, file.num_features) for name, file in feature_set.files.items()}
        training = list(training_windows(feature_set))
        self.train_windows, self._held = [window for window, _ in training], [held for _, held in training]
        self.videos = feature_set.videos(1)
        self.val_windows = [w for name in self.videos for w in windows_of(data, name, self.lengths[name])]
        self.num_train, self.num_val, self.num_videos = len(training), len(self.val_windows), len(self.videos)
        numbers = {name: number for number, name in enumerate(self.videos)}
        self.window_videos = torch.tensor([numbers[window.video] for window in self.val_windows])
        self.window_starts = torch.tensor([float(window.start) for window in self.val_windows])
        self.window_lengths = torch.tensor([window.length for window in self.val_windows])
        self.video_lengths = torch.tensor([self.lengths[name] for name in self.videos])
        steps = [grid_of(data, video.duration).step for video in self.videos.values()]
        self.step_lengths = torch.tensor(steps, dtype=torch.float64)
        trained_on = np.concatenate([video.spans[:, 1] - video.spans[:, 0] for video in feature_set.videos(0).values()])
        self.duration_edges = tuple(float(f"{edge:.2g}") for edge in np.quantile(trained_on, (1 / 3, 2 / 3)))
        self._videos = {**feature_set.videos(0), **self.videos}
        num_numbers = sum(file.num_features * file.num_channels for file in feature_set.files.values())
        self._is_kept = 4 * num_numbers <= MEMORY_SHARE * total_bytes()
        self._kept: dict[str, Array] = {}

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[tuple[Tensor, Tensor], list[Segments]]:
        """Training windows, the same in every epoch and for every seed.

        Args:
            indices: which, int64 (B,).
            epoch: from 0.
            seed: of the run.

        Returns:
            Features (B, C, T), float32, with zeros after a window's last step, and the steps of each window, int64
            (B,); and the segments that are whole in it, in steps of the window.
        """
        del epoch, seed
        return self._batch([(self.train_windows[i], self._held[i]) for i in indices.tolist()])

    def val_batch(self, indices: Tensor) -> tuple[tuple[Tensor, Tensor], list[Segments]]:
        """Validation windows ``indices``, int64 (B,), as :meth:`train_batch` returns them."""
        windows = [self.val_windows[i] for i in indices.tolist()]
        return self._batch([(window, window.holds(self._spans(window.video))) for window in windows])

    def val_truth(self) -> list[Segments]:
        """The segments of the validation videos, in steps of the video, also where they begin or end beyond its steps.

        They are as annotated, not cut, since overlaps in steps are then those in seconds.
        """
        return [
            Segments(
                torch.from_numpy(grid_of(self._data, video.duration).steps(video.spans)).float(),
                torch.from_numpy(video.labels),
            )
            for video in self.videos.values()
        ]

    def seconds(self, video: str, steps: Tensor) -> Tensor:
        """Times in seconds of places in steps of a whole video, cut to its duration where that is known."""
        duration = self._videos[video].duration
        return grid_of(self._data, duration).seconds(steps).clamp(0, math.inf if duration is None else duration)

    def _spans(self, name: str) -> NDArray[np.float64]:
        return on_grid(self._data, self._videos[name], self.lengths[name])

    def _batch(
        self, chosen: Sequence[tuple[Window, NDArray[np.int64]]]
    ) -> tuple[tuple[Tensor, Tensor], list[Segments]]:
        features = torch.zeros(len(chosen), self.num_channels, self._data.num_steps)
        truth = []
        for number, (window, held) in enumerate(chosen):
            features[number, :, : window.length] = self._steps(window)
            spans = torch.from_numpy(self._spans(window.video)[held] - window.start).float().clamp(0, window.length)
            truth.append(Segments(spans, torch.from_numpy(self._labels(window.video)[held])).to(self._device))
        lengths = torch.tensor([window.length for window, _ in chosen], dtype=torch.int64)
        return (features.to(self._device), lengths.to(self._device)), truth

    def _labels(self, name: str) -> NDArray[np.int64]:
        return self._videos[name].labels

    def _steps(self, window: Window) -> Tensor:
        """The steps of a window, (C, length)."""
        data, of_video = self._data, self._features(window.video)
        if data.resize:
            whole_CT = torch.from_numpy(np.array(of_video, np.float32)).t()
            return F.interpolate(whole_CT[None], data.num_steps, mode="linear", align_corners=False)[0]
        k = data.features_per_step
        part = of_video[window.start * k : (window.start + window.length) * k]
        part_CT = torch.from_numpy(np.array(part, np.float32)).t()
        return part_CT if k == 1 else F.avg_pool1d(part_CT[None], k, ceil_mode=True)[0]

    def _features(self, video: str) -> Array:
        if video in self._kept:
            return self._kept[video]
        try:
            features = read_features(self._feature_set.folder / self._feature_set.files[video].path)
        except UserError as error:
            raise UserError(f"the features of {video!r}: {error}") from error
        if self._is_kept:
            features = self._kept[video] = np.array(features, np.float32)
        return features
