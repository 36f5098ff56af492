"""Reports of an ablation table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tadaconv.execution.cells import CellRecord


@dataclass(frozen=True)
class Surroundings:
    """What the storage holds beside a table's cells.

    Attributes:
        elsewhere: by the name of another regime, the cells of the same table there.
        left_out: finished cells of the same study that are not shown, by reason; see
            :class:`tadaconv.reporting.ablation.data.Manifest`.
    """

    elsewhere: Mapping[str, Sequence[CellRecord]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
