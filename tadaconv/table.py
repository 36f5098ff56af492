"""An ablation table: the rows to compare, what the paper reports for them, and what it claims.

One file in ``ablations/`` holds one table under the name ``TABLE``; its docstring is the question.
:func:`tadaconv.table_run.run_table` runs what of it has not run yet.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from inspect import cleandoc
from pathlib import Path
from typing import Literal

from tadaconv import discovery
from tadaconv.errors import UserError, unknown
from tadaconv.execution.cells import Cell
from tadaconv.metrics import TOP1
from tadaconv.regime import Recipe, Regime, run_command
from tadaconv.spec import Experiment, Rival, TAda, Temporal, errors_of
from tadaconv.text import encodable


@dataclass(frozen=True)
class PaperResult:
    """A published number, with its source and what it was measured on.

    ``top1`` is the number itself: in percent, or in the unit of whatever metric the table is evaluated by.

    Costs are compared at the digits they are printed with; a Decimal keeps a zero that the last of them is.
    ``num_frames`` of an ensemble are those of all its networks together; of localization on features they are the steps
    of a window. ``metric`` is what the number is of, see :mod:`tadaconv.metrics`.
    """

    top1: float
    source: str
    data: str
    num_frames: int
    views: str
    gmacs: float | Decimal | None = None
    params_m: float | Decimal | None = None
    metric: str = TOP1.name

    @property
    def score(self) -> float:
        """The number, of whatever metric."""
        return self.top1


def _is_name(value: object) -> bool:
    return value is None or (isinstance(value, str) and bool(value.strip()))


@dataclass(frozen=True)
class Row:
    """One design choice: a name for readers, and what it plugs into which backbone.

    Attributes:
        name: for readers, unique in its table.
        temporal: what is plugged in; None for the bare backbone.
        paper: what the paper reports for it.
        backbone: the backbone in a table that compares backbones; None for the regime's. A regime of a smaller scale
            names the stand-in for it.
        num_frames: frames of a clip in a table that compares them; None for the regime's.
        versus: name of the row that differences are taken to; None for the table's base, its own name for no row.
        features: the folder of features that the row is on, in a table that compares features; None for the regime's.
        localizer: the kind of localizer, in a table that compares them; None for the regime's.
        ensemble: names of two rows or more. Such a row is not trained and plugs nothing in: for each seed it is the
            accuracy of the mean of their class probabilities, clip by clip; see :mod:`tadaconv.scores`.
    """

    name: str
    temporal: Temporal
    paper: PaperResult | None = None
    backbone: str | None = None
    num_frames: int | None = None
    versus: str | None = None
    ensemble: tuple[str, ...] = ()
    features: str | None = None
    localizer: Literal["point", "bmn"] | None = None

    def __post_init__(self) -> None:
        is_line = isinstance(self.name, str) and self.name.strip() and "\n" not in self.name
        if not is_line or encodable(self.name) != self.name:
            raise UserError(f"a row's name must be one line of text, not {self.name!r}")
        wanted = {
            "temporal": (self.temporal is None or isinstance(self.temporal, TAda | Rival), "a TAda, a Rival or None"),
            "paper": (self.paper is None or isinstance(self.paper, PaperResult), "a PaperResult(...) or None"),
            "backbone": (_is_name(self.backbone), "the name of a backbone, or None for the regime's"),
            "num_frames": (
                self.num_frames is None or (type(self.num_frames) is int and self.num_frames >= 1),
                "a whole number from 1 on, or None for the regime's",
            ),
            "versus": (_is_name(self.versus), "the name of a row, or None for the base"),
            "features": (_is_name(self.features), "the name of a folder of features, or None for the regime's"),
            "localizer": (self.localizer in (None, "point", "bmn"), "point, bmn, or None for the regime's"),
            "ensemble": (self._is_ensemble_of_names, "a tuple of the names of two rows or more"),
        }
        for field_name, (is_valid, words) in wanted.items():
            if not is_valid:
                raise UserError(f"row {self.name!r}: {field_name} is {words}, not {getattr(self, field_name)!r}")
        if self.ensemble and not (self.temporal is None and self.backbone is None and self.num_frames is None):
            raise UserError(
                f"row {self.name!r}: an ensemble is not trained; leave operator, backbone and num_frames to its rows"
            )

    @property
    def _is_ensemble_of_names(self) -> bool:
        """Whether ``ensemble`` is empty, or holds two names or more, none twice."""
        names = self.ensemble
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            return False
        return len(names) != 1 and len(set(names)) == len(names)

    def cell(self, regime: Regime, seed: int) -> Cell:
        """The cell of this row in a regime, from ``seed``.

        Raises :class:`UserError`, with the row's name, where the regime cannot take what the row asks for, and for an
        ensemble, which has no cell.
        """
        if self.ensemble:
            raise UserError(f"row {self.name!r} is an ensemble, which is not trained; run its rows")
        with errors_of(f"row {self.name!r}"):
            experiment = regime.experiment(
                self.temporal, seed, self.backbone, self.num_frames, self.features, self.localizer
            )
            return Cell(self.name, experiment)


@dataclass(frozen=True)
class Claim:
    """What the paper says about two rows: ``better`` has a better score than ``worse``."""

    text: str
    better: str
    worse: str
    source: str


@dataclass(frozen=True)
class Table:
    """An ablation table. ``base`` is the row the others are compared with; shown last unless it is in ``rows``.

    ``regime`` is the name of the regime that the published table is of: the command line takes it where none is named
    and its clips are there. None: the table is of no data set.
    """

    base: Row
    rows: list[Row]
    claims: list[Claim] = field(default_factory=list)
    regime: str | None = None

    def __post_init__(self) -> None:
        if not _is_name(self.regime):
            raise UserError(f"a table's regime is the name of one, or None, not {self.regime!r}")
        for row in [self.base, *self.rows]:
            if not isinstance(row, Row):
                raise UserError(f"a table's base and rows must be Row(...), not {row!r}")
        names = [row.name for row in self.all_rows]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise UserError(f"row {twice[0]!r} is in the table twice; row names are unique")
        for row in self.all_rows:
            if row.versus is not None:
                self.row(row.versus)
            for part in row.ensemble:
                if self.row(part).ensemble:
                    raise UserError(f"row {row.name!r}: its part {part!r} is an ensemble itself; name its rows")
        if self.base.ensemble:
            raise UserError(f"row {self.base.name!r} is an ensemble, which cannot be the base; name one of its rows")
        for claim in self.claims:
            for name in (claim.better, claim.worse):
                self.row(name)

    def mistaken_recipes(self, regime: Regime, backbones: Collection[str]) -> list[Recipe]:
        """The recipes of a regime that train no row of the table by what looks like a mistake.

        They name a backbone that is neither in ``backbones`` nor of a package, or an earlier recipe takes their rows. A
        regime serves several tables, so a recipe for backbones and frames of other tables is no mistake.
        """
        asked = [
            (row.backbone or regime.backbone.name, row.num_frames or regime.data.num_frames) for row in self.all_rows
        ]
        used = [regime.recipe(*row) for row in asked]
        return [
            recipe
            for recipe in regime.recipes
            if not any(recipe is one for one in used)
            and (
                any(name not in backbones and ":" not in name for name in recipe.backbones)
                or any(recipe.takes(*row) for row in asked)
            )
        ]

    @property
    def all_rows(self) -> list[Row]:
        """The rows in the order they are shown: as listed, the base last unless it is among them."""
        return self.rows if self.base in self.rows else [*self.rows, self.base]

    def row(self, name: str) -> Row:
        """The row called ``name``; raises :class:`UserError` that lists the right names, nearest first."""
        for row in self.all_rows:
            if row.name == name:
                return row
        raise unknown("row", name, [row.name for row in self.all_rows])

    @property
    def ensembles(self) -> list[Row]:
        """The rows that average others and are not trained, in the order they are shown."""
        return [row for row in self.all_rows if row.ensemble]

    def trained(self, rows: Iterable[str] | None = None) -> list[Row]:
        """The rows behind those called ``rows``, all if None, that train: in the place of an ensemble its parts.

        Each once, in the order asked for. Raises :class:`UserError` as :meth:`row` does.
        """
        if rows is None:
            return [row for row in self.all_rows if not row.ensemble]
        names = dict.fromkeys(part for name in rows for part in self.row(name).ensemble or (name,))
        return [self.row(name) for name in names]

    def comparisons(self, rows: Iterable[str] | None = None) -> list[tuple[str, str]]:
        """The pairs of rows that are compared: those of claims, and each row with the one it is ``versus``.

        Each pair once. Pairs with an ensemble are left out: an ensemble has no cells, and gets its value from those of
        its parts.

        Args:
            rows: names of the rows that are run, in the place of an ensemble its parts; None for all.
        """
        trained = {row.name for row in self.trained(rows)}
        pairs = [(claim.better, claim.worse) for claim in self.claims]
        pairs += [(row.name, row.versus or self.base.name) for row in self.all_rows]
        return list({frozenset(pair): pair for pair in reversed(pairs) if len({*pair} & trained) == 2}.values())[::-1]

    def cells(self, regime: Regime, seeds: Iterable[int], rows: Iterable[str] | None = None) -> list[Cell]:
        """One cell a row that trains and seed, seed by seed, so that a first full table is complete early.

        Args:
            regime: what the rows are run in.
            seeds: of the weights, the data order and the augmentation.
            rows: names of rows, in the place of an ensemble its parts; None for all.

        Raises:
            UserError: a row is unknown, or the regime cannot take what it asks for.
        """
        chosen = self.trained(rows)
        return [row.cell(regime, seed) for seed in seeds for row in chosen]


@dataclass(frozen=True)
class LoadedTable:
    """A table with the name of its file, the question its docstring asks, and the file; None for one made in memory.

    ``search`` is the name or path of the study that a table compares the best trials of.
    """

    name: str
    question: str
    table: Table
    path: Path | None = None
    search: str | None = None

    def command(self, regime_name: str, ran: Iterable[Experiment] = (), **options: object) -> str:
        """The call of ``tada`` that runs the table in a regime; see :func:`tadaconv.regime.run_command`."""
        if self.search is not None:
            num_best = len(self.table.all_rows) - 1
            return run_command("study", self.search, regime_name, ran, confirm=num_best, **options)
        reference = self.name if self.path is None else discovery.reference("ablation table", self.path)
        return run_command("ablate", reference, regime_name, ran, **options)


def load_table(name: str) -> LoadedTable:
    """The table behind a name or a path; raises :class:`UserError`, listing the right names, nearest first."""
    module = discovery.load("ablation table", name)
    table = getattr(module, "TABLE", None)
    if not isinstance(table, Table):
        raise UserError(f"ablation table {name!r} defines no TABLE = Table(...)")
    question = cleandoc(module.__doc__ or "").partition("Run: ")[0].rstrip()
    path = discovery.find("ablation table", name)
    return LoadedTable(path.stem, question, table, path)


def study_name(loaded: LoadedTable, regime_name: str) -> str:
    """The Optuna study that holds the results of a table in a regime: ``<table>-<regime>``."""
    return f"{loaded.name}-{discovery.plain_name(regime_name)}"
