"""An ablation table: the rows to compare, what the paper reports for them, and what it claims.

One file in ``ablations/`` holds one table under the name ``TABLE``; its docstring is the question.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from inspect import cleandoc

from tadaconv import discovery
from tadaconv.errors import UserError, unknown
from tadaconv.execution.cells import Cell
from tadaconv.regime import Regime
from tadaconv.spec import Temporal


@dataclass(frozen=True)
class PaperResult:
    """A published number, with where it stands and what it was measured on."""

    top1: float
    source: str
    data: str
    num_frames: int
    views: str
    gmacs: float | None = None


@dataclass(frozen=True)
class Row:
    """One design choice: a name for readers, and what it plugs into the regime's backbone."""

    name: str
    temporal: Temporal
    paper: PaperResult | None = None


@dataclass(frozen=True)
class Claim:
    """What the paper says about two rows: ``better`` is more accurate than ``worse``."""

    text: str
    better: str
    worse: str
    source: str


@dataclass(frozen=True)
class Table:
    """An ablation table. ``base`` is the row the others are compared with; it need not be repeated in ``rows``."""

    base: Row
    rows: list[Row]
    claims: list[Claim] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = [row.name for row in self.rows]
        twice = sorted({name for name in names if names.count(name) > 1} | ({self.base.name} & set(names)))
        if twice:
            raise UserError(f"row {twice[0]!r} stands twice in the table; row names are unique")
        for claim in self.claims:
            for name in (claim.better, claim.worse):
                self.row(name)

    @property
    def all_rows(self) -> list[Row]:
        """The rows in the order they are shown: as listed, the base last."""
        return [*self.rows, self.base]

    def row(self, name: str) -> Row:
        """The row called ``name``; raises :class:`UserError` that lists the right names, nearest first."""
        for row in self.all_rows:
            if row.name == name:
                return row
        raise unknown("row", name, [row.name for row in self.all_rows])

    def cells(self, regime: Regime, seeds: Iterable[int], rows: Iterable[str] | None = None) -> list[Cell]:
        """One cell a row and seed, seed by seed, so that a first full table stands early."""
        chosen = self.all_rows if rows is None else [self.row(name) for name in rows]
        return [Cell(row.name, regime.experiment(row.temporal, seed)) for seed in seeds for row in chosen]


@dataclass(frozen=True)
class LoadedTable:
    """A table with the name of its file and the question its docstring asks."""

    name: str
    question: str
    table: Table


def load_table(name: str) -> LoadedTable:
    """The table behind a name or a path; raises :class:`UserError`, listing the right names, nearest first."""
    module = discovery.load("ablation table", name)
    table = getattr(module, "TABLE", None)
    if not isinstance(table, Table):
        raise UserError(f"ablation table {name!r} defines no TABLE = Table(...)")
    return LoadedTable(discovery.find("ablation table", name).stem, cleandoc(module.__doc__ or ""), table)
