"""Synthetic untrimmed clips: actions of a few windows in a long clip, told only by the order of frames in a window.

A handwritten digit, 1 to 9, is shown throughout a clip, and its size walks through P sizes over and over, P being the
frames of a window; it is faintest in the middle one. In the background the order of the sizes is one random
permutation, repeated. There are one to four actions of two to six windows' length, which start at any frame and are a
window or more apart:

- ``grows``: the sizes ascend, from any of them, over and over.
- ``shrinks``: they descend.
- ``shows a 0``: the digit is a 0, in the sizes of the background.

Any P frames in a row within the background or within an action have every size once, so features that are averaged over
a window do not tell the first two from each other, nor from the background, if they are computed frame by frame. At
an action's ends, where its phase does not continue the background's, they tell that it starts or ends, but not which
of the two it is: to every clip there is a twin that shows the other in its place, and has the same frames in every
window. (A digit drifts from window to window, not within one: its position and size together would show the order.)
Played backwards, what grows shrinks. Validation clips come in twins, so that to a network that is blind to the order
within windows both are the same: see :func:`order_blind_ceiling`.

Every clip is a function of (seed, index) alone, as in :mod:`tadaconv.data.synthetic`.
"""

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from tadaconv.data.digits import DigitClips, uniforms
from tadaconv.data.segments import Segments
from tadaconv.data.source import SegmentSource, Spread
from tadaconv.spec import Untrimmed

CLASSES = ("grows", "shrinks", "shows a 0")
GROWS, SHRINKS, ZERO = range(3)
_MOST_ACTIONS = 4
_LENGTHS = range(2, 7)
_LEAST_FREE = 2
"""Windows of the background that are left over besides those between actions, so that starts are any frames."""
_EDGES = (4, 6)
_TWINS = (SHRINKS, GROWS, ZERO)


class Actions(NamedTuple):
    """The actions of clips, (B, 4) each, in frames; those beyond a clip's number have length 0.

    Attributes:
        starts: the first frame.
        lengths: number of frames.
        labels: the class.
        phases: which size what grows or shrinks starts at, of P.
    """

    starts: Tensor
    lengths: Tensor
    labels: Tensor
    phases: Tensor

    def twins(self, window: int) -> "Actions":
        """What grows shrinks and what shrinks grows, with the same sizes in every window."""
        swapped = torch.tensor(_TWINS, device=self.labels.device)[self.labels]
        last = window - 1 - self.starts % window  # frames after the first in the window that the action starts in
        sign = (self.labels == GROWS).long() - (self.labels == SHRINKS).long()
        return self._replace(labels=swapped, phases=(self.phases + sign * last) % window)


class UntrimmedClips(DigitClips, SegmentSource):
    """The clips as a source, whose targets are segments; ``device`` is where they are made."""

    class_names = CLASSES

    def __init__(self, data: Untrimmed, device: torch.device) -> None:
        super().__init__(data, device)
        self.data = data
        self.families = {"order": (GROWS, SHRINKS), "frame": (ZERO,)}
        self.unit, self.duration_edges = "frames", tuple(data.window * (edge - 0.5) for edge in _EDGES)
        self.num_videos, self.window_videos = data.num_val, torch.arange(data.num_val)
        self.window_starts, self.window_lengths = torch.zeros(data.num_val), torch.full((data.num_val,), data.num_steps)
        self.video_lengths = self.window_lengths
        self.step_lengths = torch.full((data.num_val,), float(data.window), dtype=torch.float64)
        # By number of actions, all lengths in windows that fit with a window between two, 0 in place of missing ones.
        fitting = [
            [(*lengths, *(0,) * (_MOST_ACTIONS - number)) for lengths in product(_LENGTHS, repeat=number)
             if sum(lengths) + number - 1 <= data.num_steps - _LEAST_FREE]
            for number in range(1, _MOST_ACTIONS + 1)
        ]  # fmt: skip
        fitting = [lengths for lengths in fitting if lengths]
        self._lengths = (
            torch.tensor([numbers for lengths in fitting for numbers in lengths], device=device) * data.window
        )
        self._counts = torch.tensor([len(lengths) for lengths in fitting], device=device)

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, list[Segments]]:
        """New clips every epoch, and their segments in steps; the seed of the run does not change the clips.

        Args:
            indices: which clips, int64 (B,).
            epoch: from 0.
            seed: of the run.

        Returns:
            Normalised clips (B, 3, T, S, S), and the segments of each on the same device.
        """
        del seed
        keys = self._keys(indices.to(self.device) + epoch * self.num_train, val=False)
        actions = self._actions(keys)
        clips, _ = self._clips(keys, actions, val=False)
        return clips, self._segments(actions)

    def val_batch(self, indices: Tensor) -> tuple[Tensor, list[Segments]]:
        """The validation clips, (B, 1, 3, T, S, S), and their segments; clips 2i and 2i + 1 are twins."""
        indices = indices.to(self.device)
        keys = self._keys(indices // 2, val=True)
        actions = self._actions(keys)
        clips, sizes_BT = self._clips(keys, actions, val=True)
        # A twin has the frames of the other, noise included, in the order of its own sizes.
        twins = actions.twins(self.data.window)
        places = [self._places(actions, sizes_BT), self._places(twins, self._size_numbers(keys, twins))]
        order = torch.empty_like(sizes_BT).scatter_(1, places[1].argsort(1), places[0].argsort(1))
        is_twin_B1 = (indices % 2 == 1).unsqueeze(1)
        order = torch.where(is_twin_B1, order, torch.arange(order.shape[1], device=self.device))
        clips = clips.gather(2, order[:, None, :, None, None].expand_as(clips))
        return clips.unsqueeze(1), self._segments(self._twin_of_odd(indices, actions))

    def _twin_of_odd(self, indices: Tensor, actions: Actions) -> Actions:
        """The actions of validation clips: of the odd ones those of the twin."""
        is_twin_B1 = (indices % 2 == 1).unsqueeze(1)
        twins = actions.twins(self.data.window)
        return Actions(*(torch.where(is_twin_B1, twin, own) for own, twin in zip(actions, twins, strict=True)))

    @property
    def order_blind(self) -> tuple[tuple[str, ...], Spread]:
        """See :func:`order_blind_ceiling`."""
        return CLASSES[:2], order_blind_ceiling(self.data)

    def val_truth(self) -> list[Segments]:
        """The segments of the validation clips."""
        indices = torch.arange(self.num_val, device=self.device)
        actions = self._actions(self._keys(indices // 2, val=True))
        return self._segments(self._twin_of_odd(indices, actions))

    def _actions(self, keys: Tensor) -> Actions:
        u = uniforms(keys, 1 + 1 + 3 * _MOST_ACTIONS, stream=3)
        number = (u[:, 0] * len(self._counts)).long()
        firsts = self._counts.cumsum(0) - self._counts
        lengths = self._lengths[firsts[number] + (u[:, 1] * self._counts[number]).long()]
        offsets, labels, phases = u[:, 2:].chunk(3, 1)
        # Frames that remain are before, between and after the actions: sorted, the offsets are those before each.
        is_action = lengths > 0
        free = self.data.num_frames - lengths.sum(1, keepdim=True) - number.unsqueeze(1) * self.data.window
        before = (offsets * (free + 1)).long().masked_fill(~is_action, self.data.num_frames).sort(1).values
        starts = before + (lengths + self.data.window).cumsum(1) - lengths - self.data.window
        return Actions(starts, lengths, (labels * len(CLASSES)).long(), (phases * self.data.window).long())

    def _segments(self, actions: Actions) -> list[Segments]:
        spans = torch.stack([actions.starts, actions.starts + actions.lengths], 2) / self.data.window
        return [
            Segments(span[length > 0], label[length > 0].unsqueeze(1))
            for span, label, length in zip(spans, actions.labels, actions.lengths, strict=True)
        ]

    def _covering(self, actions: Actions) -> Tensor:
        """Which action each frame is of, from 1, (B, T); 0 in the background."""
        time = torch.arange(self.data.num_frames, device=self.device).view(1, -1, 1)
        is_inside = (time >= actions.starts.unsqueeze(1)) & (time < (actions.starts + actions.lengths).unsqueeze(1))
        return (is_inside * torch.arange(1, _MOST_ACTIONS + 1, device=self.device)).sum(2)

    def _size_numbers(self, keys: Tensor, actions: Actions) -> Tensor:
        """Which of the P sizes each frame's digit has, the smallest being 0, (B, T)."""
        window = self.data.window
        time = torch.arange(self.data.num_frames, device=self.device)
        ground = uniforms(keys, window, stream=1).argsort(1)[:, time % window]
        covering = self._covering(actions)
        start, label, phase = (
            values.gather(1, (covering - 1).clamp(min=0)) for values in (actions.starts, actions.labels, actions.phases)
        )
        sign = torch.where(label == GROWS, 1, -1)
        is_background = (covering == 0) | (label == ZERO)
        return torch.where(is_background, ground, (phase + sign * (time - start)) % window)

    def _places(self, actions: Actions, sizes_BT: Tensor) -> Tensor:
        """A number for each frame, (B, T), by which frames are in the order of windows, then actions, then sizes."""
        window = self.data.window
        steps = torch.arange(self.data.num_frames, device=self.device) // window
        return (steps * (_MOST_ACTIONS + 1) + self._covering(actions)) * window + sizes_BT

    def _phases(self, num_frames: int) -> Tensor:
        """As in :class:`DigitClips`, but the same within a window."""
        return super()._phases(num_frames // self.data.window).repeat_interleave(self.data.window)

    def _clips(self, keys: Tensor, actions: Actions, val: bool) -> tuple[Tensor, Tensor]:
        """The clips (B, 3, T, S, S) and which size each frame has, (B, T)."""
        u = uniforms(keys, 22, stream=0)
        numbers_BT = self._size_numbers(keys, actions)
        small, large = 0.25 + 0.1 * u[:, 2:3], 0.85 + 0.15 * u[:, 3:4]
        sizes_BT = small + (large - small) * numbers_BT / (self.data.window - 1)
        covering = self._covering(actions)
        shows_0 = (covering > 0) & (actions.labels.gather(1, (covering - 1).clamp(min=0)) == ZERO)
        digits_BT = torch.where(shows_0, 0, 1 + (u[:, :1] * 9).long())
        # Size and strength together turn around a loop, one way or the other, which neither does alone.
        strengths_BT = 0.65 + 0.35 * torch.cos(2 * torch.pi * numbers_BT / self.data.window)
        glyphs = self._pick_glyphs(digits_BT, u, val) * strengths_BT[..., None, None]
        return self._draw(keys, u, glyphs, sizes_BT, self._tilts(u).expand_as(sizes_BT)), numbers_BT


def order_blind_ceiling(data: Untrimmed, num_draws: int = 1000) -> Spread:
    """What a network that is blind to the order within windows reaches on ``grows`` and ``shrinks``, their mean.

    It says the same of both twins, so for every detection of ``grows`` that is right in one there is another that is
    wrong in the other, with the same score. It reaches most if it detects every segment exactly, as both classes: then
    one half of all detections is right, at any tIoU threshold. A coin tossed for the class finds half as many segments
    at the same precision. Interpolated precision takes the luckier end of every run of ties, which is why the mean is
    above 50. It is the luckier the more is tied; here all scores are equal, and ties are broken by chance.
    """
    clips = UntrimmedClips(data, torch.device("cpu"))
    actions = clips._actions(clips._keys(torch.arange(data.num_val // 2), val=True))
    num_segments = int(((actions.lengths > 0) & (actions.labels != ZERO)).sum())  # of either class, in all clips
    is_hit = uniforms(torch.arange(2 * num_draws), 2 * num_segments, stream=0).argsort(1) < num_segments
    precision = is_hit.double().cumsum(1) / torch.arange(1, 2 * num_segments + 1)
    envelope = precision.flip(1).cummax(1).values.flip(1)
    averages = 100 * (envelope * is_hit).sum(1).view(-1, 2).mean(1) / num_segments
    low, high = averages.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Spread(float(averages.mean()), low, high)
