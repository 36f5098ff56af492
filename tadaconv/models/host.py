"""The interface of backbones: a network on clips that lists the sites of its convolutions."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from tadaconv.errors import RunError, UserError


@dataclass(frozen=True)
class Site:
    """Where an operator can be plugged in, by the names of the modules.

    Attributes:
        stage: 2 to 5, the paper's res2 to res5.
        block: number of the block in its stage, from 0.
        conv: the convolution that an operator replaces.
        norm: the normalisation after it, which an aggregation extends.
        entry: the first convolution of the block, before which a shift is put.
        kind: whether the convolution is spatial, (1, k, k) or (k, k, k), or temporal, (k, 1, 1).
        temporal_stride: how many frames of the network's input make one frame here.
    """

    stage: int
    block: int
    conv: str
    norm: str
    entry: str
    kind: Literal["spatial", "temporal"] = "spatial"
    temporal_stride: int = 1


class Host(nn.Module, ABC):
    """A network on clips, (N, 3, T, H, W) to logits (N, num_classes), that knows its sites."""

    @abstractmethod
    def sites(self) -> Iterator[Site]:
        """Every place for an operator, from the first to the last."""

    @abstractmethod
    def forward(self, x_NCTHW: Tensor) -> Tensor:
        """Class scores of each clip, (N, num_classes)."""

    def features(self, x_NCTHW: Tensor) -> Tensor:
        """Features by frame, (N, C, T'): averaged over space, before dropout and classifier.

        ``T'`` is T over the temporal stride of the network. Raises :class:`UserError` where a network has none.
        """
        del x_NCTHW
        raise self._no_features()

    def drop_classifier(self) -> int:
        """Remove what :meth:`features` does not need; returns C. Raises as :meth:`features`."""
        raise self._no_features()

    def _no_features(self) -> UserError:
        return UserError(
            f"a {type(self).__name__} gives no features by frame; take a ResNet or a ConvNeXt of this package, such as "
            "resnet50 or convnext_tiny_clip (tada list has all backbones)"
        )


@contextmanager
def takes_clips(backbone: str, clip_CTHW: tuple[int, ...]) -> Iterator[None]:
    """Within it a network is run: :class:`UserError` where it cannot take clips of this shape."""
    try:
        yield
    except RunError:
        raise
    except RuntimeError as error:
        _, num_frames, height, _ = clip_CTHW
        raise UserError(
            f"backbone {backbone!r} cannot take clips of {num_frames} frames at {height} px: "
            f"{str(error).splitlines()[0]}; give larger or longer clips, or another backbone"
        ) from error
