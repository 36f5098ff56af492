"""Annotations clip by clip, which the package has in columns."""

import math
from typing import NamedTuple

from tadaconv.data.annotations import SIDES, Annotations


class AnnotatedClip(NamedTuple):
    """One clip: a label for every head, None where the annotations give none; medium None where it is missing."""

    id: str
    side: str
    labels: tuple[int | None, ...]
    medium: str | None
    span: tuple[float, float] | None


def clips_of(annotations: Annotations) -> list[AnnotatedClip]:
    """Every clip, in the order of its columns."""
    clips = []
    for place in range(len(annotations)):
        labels = tuple(None if label < 0 else int(label) for label in annotations.labels[place])
        start, end = (float(limit) for limit in annotations.spans[place])
        span = None if math.isnan(start) else (start, end)
        side, medium = SIDES[annotations.sides[place]], annotations.media[place] or None
        clips.append(AnnotatedClip(annotations.ids[place], side, labels, medium, span))
    return clips
