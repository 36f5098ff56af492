"""Clips that cost nothing and a network that learns them, for tests of the loop around both."""

import torch
from torch import Tensor, nn

from tadaconv.data.source import Source


class TinyClips(Source):
    """Gaussian clips of 3 x 4 x 2 x 2, each from its index alone; ``num_views`` views of a validation clip."""

    def __init__(self, num_train: int = 10, num_val: int = 7, num_views: int = 1, num_classes: int = 6) -> None:
        self.class_names = tuple(f"class {i}" for i in range(num_classes))
        self.families: dict[str, tuple[int, ...]] = {"low": (0, 1), "rest": tuple(range(2, num_classes))}
        self.num_train, self.num_val, self.num_views = num_train, num_val, num_views
        self.served: list[tuple[int, list[int]]] = []
        """Epoch and indices of every training batch."""

    def _clips(self, indices: Tensor, shape: tuple[int, ...], stream: int) -> tuple[Tensor, Tensor]:
        labels = indices * 7 % len(self.class_names)
        clips = [
            torch.randn(shape, generator=torch.Generator().manual_seed(stream * 1000 + int(i))) + labels[n] / 3
            for n, i in enumerate(indices)
        ]
        return torch.stack(clips), labels

    def train_batch(self, indices: Tensor, epoch: int, seed: int) -> tuple[Tensor, Tensor]:
        self.served.append((epoch, indices.tolist()))
        return self._clips(indices, (3, 4, 2, 2), stream=1 + epoch + 100 * seed)

    def val_batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self._clips(indices, (self.num_views, 3, 4, 2, 2), stream=0)


class TinyNet(nn.Module):
    """Convolution, batch norm, dropout and a classifier: weights, buffers and random numbers to restore."""

    def __init__(self, num_classes: int = 6, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 5, 1, bias=False)
        self.norm = nn.BatchNorm3d(5)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(5, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.conv(x))).mean((2, 3, 4))
        scores: Tensor = self.fc(self.dropout(y))
        return scores
