"""The most that tensors hold at once, followed tensor by tensor rather than measured."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Follows every storage from the operator that makes it to the moment the last tensor on it is gone.

    Exact, and the same on every machine where layouts are: it reads sizes alone, so tensors without values will do.
    Workspaces inside a kernel, an allocator's rounding and its cache are no tensors and are not in it.

    Attributes:
        held: bytes held now.
        peak: the most that was held at once.
    """

    def __init__(self, excluded: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = self.peak = 0
        self._excluded = [tensor.untyped_storage() for tensor in excluded]
        self._known = {storage._cdata for storage in self._excluded}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._follow(leaf.untyped_storage())
        return out

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.held -= size


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors in float32, whole numbers in their own type."""
    return sum(t.numel() * (4 if t.is_floating_point() else t.element_size()) for t in tensors)
