"""What reads clips in a reader, and never comes back from one of them. Imports no more than a reader does."""

import time
from collections.abc import Sequence
from pathlib import Path

from tadaconv.data.decode import Frames, Read, decode


def sound(paths: Sequence[Path]) -> Read:
    return lambda place, indices, short_side: decode(paths[place], short_side, indices)


def opening(paths: Sequence[Path], hangs: Path) -> Read:
    read = sound(paths)

    def reading(place: int, indices: Sequence[int] | None, short_side: int) -> Frames:
        while paths[place] == hangs:
            time.sleep(0.1)
        return read(place, indices, short_side)

    return reading
