"""Clips of handwritten digits over textured backgrounds, drawn on the device that trains from (seed, index) alone.

What both kinds of synthetic clips share: random numbers, handwriting, paths, tints, textures and noise. Which digit
each frame shows, and at which size, is theirs.
"""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tadaconv.spec import Synthetic, Untrimmed

MEAN, STD = 0.45, 0.225
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


def _by_digit(images: np.ndarray, digits: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The chosen images in the order of their digits, and by digit how many there are, and the index of the first."""
    order = np.flatnonzero(chosen)[np.argsort(digits[chosen], kind="stable")]
    counts = np.bincount(digits[chosen], minlength=10)
    return images[order], counts, np.cumsum(counts) - counts


class DigitClips:
    """Draws clips of digits; ``device`` is where they are made.

    Columns 5 to 21 of the uniform draws (B, 22 or more) set how a clip looks: the hands, the path, the tilt, the
    background and the tints.
    """

    num_views = 1

    def __init__(self, data: Synthetic | Untrimmed, device: torch.device) -> None:
        self._look, self.device = data, device
        self.num_train, self.num_val = data.num_train, data.num_val
        images, digits = _handwriting()
        held_out = (np.arange(len(images)) % 10) < round(10 * _VAL_SHARE)
        self._glyphs = {
            val: tuple(torch.from_numpy(array).to(device) for array in _by_digit(images, digits, held_out == val))
            for val in (False, True)
        }

    def _keys(self, indices_B: Tensor, val: bool) -> Tensor:
        """From which a clip's random numbers follow, (B,)."""
        seed = torch.tensor(self._look.seed, device=self.device)
        return _mix(indices_B + (0x51ED270B if val else 0)) + _mix(seed) * 31

    def _draw(self, keys: Tensor, u: Tensor, glyphs: Tensor, sizes_BT: Tensor, angles_BT: Tensor) -> Tensor:
        """The normalised clips, (B, 3, T, S, S), of these glyphs (B, T, 8, 8)."""
        frames = self._paint(self._place(glyphs, sizes_BT, angles_BT, u), u)
        if self._look.noise > 0:
            count = frames[0, 0].numel()
            noise = uniforms(keys, count, stream=2).sub_(0.5).mul_(self._look.noise * math.sqrt(12))
            frames = frames + noise.view(frames[:, :1].shape)
        return (frames - MEAN) / STD

    def _tilts(self, u: Tensor) -> Tensor:
        """How far the digits of a clip are tilted, a little, in radians, (B, 1)."""
        return ((u[:, 11] - 0.5) * 0.4).unsqueeze(1)

    def _phases(self, num_frames: int) -> Tensor:
        """How far along its path the digit is in each frame, from 0 to 1, (T,)."""
        return torch.linspace(0, 1, num_frames, device=self.device)

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
        phase = self._phases(frames)
        room = 1 - sizes_BT
        x, y = (
            room * (2 * (u[:, a, None] + (u[:, b, None] - u[:, a, None]) * phase) - 1) for a, b in ((7, 8), (9, 10))
        )
        cos, sin = torch.cos(angles_BT) / sizes_BT, torch.sin(angles_BT) / sizes_BT
        theta = torch.stack([cos, sin, -(cos * x + sin * y), -sin, cos, sin * x - cos * y], -1).view(-1, 2, 3)
        size = self._look.size
        grid = F.affine_grid(theta, [batch * frames, 1, size, size], align_corners=False)
        ink = F.grid_sample(glyphs.view(-1, 1, 8, 8), grid, align_corners=False)
        return ink.view(batch, frames, 1, size, size).transpose(1, 2)

    def _paint(self, ink: Tensor, u: Tensor) -> Tensor:
        """Lay tinted ink over a tinted grating that does not move, (B, 3, T, S, S) in 0 to 1."""
        size = self._look.size
        axis = torch.linspace(-1, 1, size, device=self.device)
        angle, waves, shift = u[:, 12] * math.pi, 1 + 3 * u[:, 13], u[:, 14] * 2 * math.pi
        along = torch.cos(angle)[:, None, None] * axis + torch.sin(angle)[:, None, None] * axis[:, None]
        grating = torch.sin(along * (math.pi * waves)[:, None, None] + shift[:, None, None])
        ground = 0.1 + 0.15 * u[:, 15:18, None, None] + 0.08 * u[:, 18, None, None, None] * grating[:, None]
        colour = 0.65 + 0.35 * u[:, 19:22, None, None, None]
        return ground.unsqueeze(2) * (1 - ink) + colour * ink
