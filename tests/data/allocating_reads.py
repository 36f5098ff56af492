"""What reads clips in a reader, and allocates several times the memory of one. Imports no more than a reader does."""

from collections.abc import Sequence

import numpy as np

from tadaconv.data.decode import Frames, Read

SHAPE = (8, 240, 428, 3)


def opening() -> Read:
    def reading(place: int, _indices: Sequence[int] | None, _short_side: int) -> Frames:
        parts = [np.full(SHAPE, place + part, np.uint8) for part in range(4)]
        return parts[0]

    return reading
