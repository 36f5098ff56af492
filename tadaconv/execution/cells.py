"""A cell: one experiment of a table, with the name of the row it stands in."""

from dataclasses import dataclass

from tadaconv.spec import Experiment


@dataclass(frozen=True)
class Cell:
    """``label`` names the row for readers; the experiment alone decides the result."""

    label: str
    experiment: Experiment

    @property
    def key(self) -> str:
        """The cell key: same key, same result."""
        return self.experiment.key
