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

import torch
from torch import Tensor

from tadaconv.data.digits import DigitClips, uniforms
from tadaconv.data.source import Source
from tadaconv.spec import Synthetic

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


def class_names(data: Synthetic) -> tuple[str, ...]:
    """The classes of these clips, in the order of labels."""
    return tuple(name for family in data.families for name in CLASSES[family])


class SyntheticClips(DigitClips, Source):
    """The clips as a source; ``device`` is where they are made."""

    def __init__(self, data: Synthetic, device: torch.device) -> None:
        super().__init__(data, device)
        self.data = data
        self.class_names = class_names(data)
        self.families = {
            family: tuple(self.class_names.index(name) for name in CLASSES[family]) for family in data.families
        }
        twins = [self.class_names.index(REVERSES.get(name, name)) for name in self.class_names]
        self._twins = torch.tensor(twins, device=device)

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
        keys = self._keys(indices_B, val)
        u = uniforms(keys, _NUM_DRAWS, stream=0)
        digits_BT = self._digits(labels, u, keys)
        glyphs = self._pick_glyphs(digits_BT, u, val)
        return self._draw(keys, u, glyphs, self._sizes(labels, u), self._angles(labels, u)), labels

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
        phase = torch.linspace(-1, 1, self.data.num_frames, device=self.device)
        turn = (0.52 + 0.35 * u[:, 26]).unsqueeze(1) * phase
        turn = torch.where(self._is(labels, "7 turns counterclockwise"), -turn, turn)
        return self._tilts(u) + torch.where(self._is(labels, *CLASSES["turn"]), turn, 0.0)
