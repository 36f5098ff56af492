"""Synthetic clips: real handwritten digits that move over textured backgrounds, in families of classes.

- ``frame``: one digit, 0 to 3, in every frame. Any single frame shows the class.
- ``set``: digits 4 to 7; either one of them throughout, or two of them mixed in random order over the frames. Every
  digit is equally frequent in both classes: neither a frame nor a linear classifier of an average over
  frames can tell the class, but the set of frames can.
- ``order``: an 8 becomes a 9 or a 9 becomes an 8; an 8 grows or shrinks. Each class is another one played
  backwards, so only the order of the frames distinguishes them.
- ``gap``: a 5 and later a 6, or the reverse, each for a quarter of the clip; all other frames are empty. Between the
  two is a quarter of the clip or more, so neighbouring frames do not show their order.
- ``turn``: a 7 turns clockwise, by 60 to 100 degrees, or counterclockwise. Each class is the other one played
  backwards; what moves is the shape within the frame.

The default is ``frame``, ``set`` and ``order``. Paths, sizes, tints, textures and noise have the same distribution
played forwards and backwards, in every class. Every clip is a function of (seed, index) alone, computed on the device
that trains, so no file is loaded or downloaded. Validation clips show handwritten digits that training never sees.
"""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tadaconv.data.source import Source
from tadaconv.spec import Synthetic

MEAN, STD = 0.45, 0.225
CLASSES: dict[str, tuple[str, ...]] = {
    "frame": ("shows a 0", "shows a 1", "shows a 2", "shows a 3"),
    "set": ("one of 4 to 7", "two of 4 to 7"),
    "order": ("8 becomes 9", "9 becomes 8", "8 grows", "8 shrinks"),
    "gap": ("5, later 6", "6, later 5"),
    "turn": ("7 turns clockwise", "7 turns counterclockwise"),
}
"""By family, its classes."""
REVERSES = {
    "9 becomes 8": "8 becomes 9", "8 shrinks": "8 grows", "6, later 5": "5, later 6",
    "7 turns counterclockwise": "7 turns clockwise",
}  # fmt: skip
"""By class, the one whose clips it has played backwards."""
_NUM_DRAWS = 27
_SMALL_PASS = 400_000
"""Numbers in the clips of a forward pass, below which calling the layers takes longer than what they compute."""
_VAL_SHARE = 0.3
_MASK = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    """The 32-bit finaliser of MurmurHash3 on int64 tensors: every input bit changes every output bit."""
    x = x & _MASK
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x ^= x >> shift
        x *= factor
        x &= _MASK
    x ^= x >> 16
    return x


def uniforms(keys_B: Tensor, count: int, stream: int) -> Tensor:
    """Uniform numbers in [0, 1), (B, count), from int64 keys (B,) and a stream, the same on every device.

    Args:
        keys_B: int64, (B,).
        count: numbers for each key.
        stream: which numbers; those of other streams are independent.
    """
    counters = torch.arange(count, device=keys_B.device) * 0x9E3779B1 + stream * 0x632BE5AB
    numbers = _mix(_mix(keys_B).unsqueeze(1) + _mix(counters)).double().div_(2**32).float()
    return numbers.clamp_(max=1 - 2**-24)  # the largest few round up to 1


@lru_cache(maxsize=1)
def _handwriting() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits: images (1797, 8, 8) in 0 to 1, and what they show (1797,)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images.astype(np.float32) / 16, digits.target


def class_names(data: Synthetic) -> tuple[str, ...]:
    """The classes of these clips, in the order of labels."""
    return tuple(name for family in data.families for name in CLASSES[family])


def _by_digit(images: np.ndarray, digits: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The chosen images in the order of their digits, and by digit how many there are, and the index of the first."""
    order = np.flatnonzero(chosen)[np.argsort(digits[chosen], kind="stable")]
    counts = np.bincount(digits[chosen], minlength=10)
    return images[order], counts, np.cumsum(counts) - counts


class SyntheticClips(Source):
    """The clips as a source; ``device`` is where they are made."""

    num_views = 1

    def __init__(self, data: Synthetic, device: torch.device) -> None:
        self.data, self.device = data, device
        self.num_train, self.num_val = data.num_train, data.num_val
        self.class_names = class_names(data)
        self.families = {
            family: tuple(self.class_names.index(name) for name in CLASSES[family]) for family in data.families
        }
        twins = [self.class_names.index(REVERSES.get(name, name)) for name in self.class_names]
        self._twins = torch.tensor(twins, device=device)
        images, digits = _handwriting()
        held_out = (np.arange(len(images)) % 10) < round(10 * _VAL_SHARE)
        self._glyphs = {
            val: tuple(torch.from_numpy(array).to(device) for array in _by_digit(images, digits, held_out == val))
            for val in (False, True)
        }

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
        """New clips every epoch, (B, 3, T, S, S), and labels (B,); the seed of the run does not change the clips."""
        del seed
        return self._clips(indices.to(self.device) + epoch * self.num_train, val=False)

    def eval_batch(self, batch_size: int) -> int:
        """More than ``batch_size`` where clips are small: without gradients they take less memory than in training."""
        return max(batch_size, _SMALL_PASS // (3 * self.data.num_frames * self.data.size**2))

    def val_batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The validation clips, (B, 1, 3, T, S, S), and labels (B,)."""
        indices = indices.to(self.device)
        if not self.data.val_twins:
            clips, labels = self._clips(indices, val=True)
            return clips.unsqueeze(1), labels
        labels = indices % len(self.class_names)
        twin_of = self._twins[labels]
        clips, _ = self._clips(indices - labels + twin_of, val=True)
        is_reverse = (twin_of != labels).view(-1, 1, 1, 1, 1)
        return torch.where(is_reverse, clips.flip(2), clips).unsqueeze(1), labels

    def _clips(self, indices_B: Tensor, val: bool) -> tuple[Tensor, Tensor]:
        labels = indices_B % len(self.class_names)
        keys = (
            _mix(indices_B + (0x51ED270B if val else 0)) + _mix(torch.tensor(self.data.seed, device=self.device)) * 31
        )
        u = uniforms(keys, _NUM_DRAWS, stream=0)
        digits_BT = self._digits(labels, u, keys)
        sizes_BT = self._sizes(labels, u)
        glyphs = self._pick_glyphs(digits_BT, u, val)
        ink = self._place(glyphs, sizes_BT, self._angles(labels, u), u)
        frames = self._paint(ink, u)
        if self.data.noise > 0:
            count = frames[0, 0].numel()
            noise = uniforms(keys, count, stream=2).sub_(0.5).mul_(self.data.noise * math.sqrt(12))
            frames = frames + noise.view(frames[:, :1].shape)
        return ((frames - MEAN) / STD), labels

    def _is(self, labels: Tensor, *names: str) -> Tensor:
        """Of which clips the class is one of these, (B, 1)."""
        own = [self.class_names.index(name) for name in names if name in self.class_names]
        return torch.isin(labels, torch.tensor(own, dtype=labels.dtype, device=labels.device)).unsqueeze(1)

    def _digits(self, labels: Tensor, u: Tensor, keys: Tensor) -> Tensor:
        """Which digit each frame shows, (B, T); -1 where it is empty."""
        num_frames = self.data.num_frames
        time = torch.arange(num_frames, device=self.device)
        digits = torch.full((len(labels), num_frames), 8, device=self.device)
        for digit, name in enumerate(CLASSES["frame"]):
            digits = torch.where(self._is(labels, name), digit, digits)
        # set: one digit of four, and in the second class a different one in a random half of the frames
        one = (4 + (u[:, 0] * 4).long()).unsqueeze(1)
        other = 4 + (one - 3 + (u[:, 22:23] * 3).long()) % 4
        ranks = uniforms(keys, num_frames, stream=1).argsort(1).argsort(1)
        takes_other = (ranks < num_frames // 2) & self._is(labels, "two of 4 to 7")
        digits = torch.where(self._is(labels, *CLASSES["set"]), torch.where(takes_other, other, one), digits)
        # order: one digit becomes the other somewhere in the middle half
        switch = num_frames // 4 + 1 + (u[:, 1] * (num_frames - 2 * (num_frames // 4) - 1)).long()
        later = (time >= switch.unsqueeze(1)).long()
        digits = torch.where(self._is(labels, "8 becomes 9"), 8 + later, digits)
        digits = torch.where(self._is(labels, "9 becomes 8"), 9 - later, digits)
        # gap: two digits, each for a quarter of the clip; between them is half of the rest or more
        shown = num_frames // 4
        longest = num_frames - 2 * shown
        shortest = (longest + 1) // 2
        gap = shortest + (u[:, 24] * (longest - shortest + 1)).long()
        first = (u[:, 25] * (longest - gap + 1)).long().unsqueeze(1)
        second = first + shown + gap.unsqueeze(1)
        for name, (early, late) in {"5, later 6": (5, 6), "6, later 5": (6, 5)}.items():
            of_class = torch.where((time >= first) & (time < first + shown), early, -1)
            of_class = torch.where((time >= second) & (time < second + shown), late, of_class)
            digits = torch.where(self._is(labels, name), of_class, digits)
        return torch.where(self._is(labels, *CLASSES["turn"]), 7, digits)

    def _sizes(self, labels: Tensor, u: Tensor) -> Tensor:
        """The digit's side as a fraction of the frame's, (B, T); constant but for what grows or shrinks."""
        small, large = 0.4 + 0.1 * u[:, 2], 0.75 + 0.15 * u[:, 3]
        phase = torch.linspace(0, 1, self.data.num_frames, device=self.device)
        ramp = small.unsqueeze(1) + (large - small).unsqueeze(1) * phase
        ramp = torch.where(self._is(labels, "8 shrinks"), ramp.flip(1), ramp)
        constant = (0.55 + 0.25 * u[:, 4]).unsqueeze(1).expand_as(ramp)
        return torch.where(self._is(labels, "8 grows", "8 shrinks"), ramp, constant)

    def _angles(self, labels: Tensor, u: Tensor) -> Tensor:
        """How far a digit is tilted, in radians, (B, T): a little and constant, but for what turns."""
        tilt = ((u[:, 11] - 0.5) * 0.4).unsqueeze(1)
        phase = torch.linspace(-1, 1, self.data.num_frames, device=self.device)
        turn = (0.52 + 0.35 * u[:, 26]).unsqueeze(1) * phase
        turn = torch.where(self._is(labels, "7 turns counterclockwise"), -turn, turn)
        return tilt + torch.where(self._is(labels, *CLASSES["turn"]), turn, 0.0)

    def _pick_glyphs(self, digits_BT: Tensor, u: Tensor, val: bool) -> Tensor:
        """The handwriting each frame shows, (B, T, 8, 8): one hand a clip and digit."""
        glyphs, counts, starts = self._glyphs[val]
        digits = digits_BT.clamp(min=0)
        hands = torch.where(digits % 2 == 0, u[:, 5:6], u[:, 6:7])
        chosen = starts[digits] + (hands * counts[digits]).long()
        return torch.where((digits_BT >= 0)[..., None, None], glyphs[chosen], 0.0)

    def _place(self, glyphs: Tensor, sizes_BT: Tensor, angles_BT: Tensor, u: Tensor) -> Tensor:
        """Draw the glyphs, tilted, on a straight path: ink in 0 to 1, (B, 1, T, S, S)."""
        batch, frames = sizes_BT.shape
        phase = torch.linspace(0, 1, frames, device=self.device)
        room = 1 - sizes_BT
        x, y = (
            room * (2 * (u[:, a, None] + (u[:, b, None] - u[:, a, None]) * phase) - 1) for a, b in ((7, 8), (9, 10))
        )
        cos, sin = torch.cos(angles_BT) / sizes_BT, torch.sin(angles_BT) / sizes_BT
        theta = torch.stack([cos, sin, -(cos * x + sin * y), -sin, cos, sin * x - cos * y], -1).view(-1, 2, 3)
        size = self.data.size
        grid = F.affine_grid(theta, [batch * frames, 1, size, size], align_corners=False)
        ink = F.grid_sample(glyphs.view(-1, 1, 8, 8), grid, align_corners=False)
        return ink.view(batch, frames, 1, size, size).transpose(1, 2)

    def _paint(self, ink: Tensor, u: Tensor) -> Tensor:
        """Lay tinted ink over a tinted grating that does not move, (B, 3, T, S, S) in 0 to 1."""
        size = self.data.size
        axis = torch.linspace(-1, 1, size, device=self.device)
        angle, waves, shift = u[:, 12] * math.pi, 1 + 3 * u[:, 13], u[:, 14] * 2 * math.pi
        along = torch.cos(angle)[:, None, None] * axis + torch.sin(angle)[:, None, None] * axis[:, None]
        grating = torch.sin(along * (math.pi * waves)[:, None, None] + shift[:, None, None])
        ground = 0.1 + 0.15 * u[:, 15:18, None, None] + 0.08 * u[:, 18, None, None, None] * grating[:, None]
        colour = 0.65 + 0.35 * u[:, 19:22, None, None, None]
        return ground.unsqueeze(2) * (1 - ink) + colour * ink
