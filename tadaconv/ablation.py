"""An ablation table: the rows to compare, what the paper reports for them, and what it claims.

One file in ``ablations/`` holds one table under the name ``TABLE``; its docstring is the question. :func:`run_table`
runs what of it has not run yet.
"""

import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from inspect import cleandoc
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tadaconv import discovery
from tadaconv.command import given
from tadaconv.errors import UserError, unknown
from tadaconv.execution import attrs as attr
from tadaconv.execution.cells import Cell, CellRecord
from tadaconv.regime import Recipe, Regime, run_command
from tadaconv.spec import Backbone, Experiment, Folder, Rival, TAda, Temporal, describe
from tadaconv.weights import resolve_weights

if TYPE_CHECKING:
    from tadaconv.execution import Crew, Planned, Store
    from tadaconv.execution.live import Show


@dataclass(frozen=True)
class PaperResult:
    """A published number, with where it stands and what it was measured on.

    ``top1`` is the number itself: in percent, or in the unit of whatever metric the table is judged by.

    Costs are compared at the digits they are printed with; a Decimal keeps a zero that the last of them is.
    ``num_frames`` of an ensemble are those of all its networks together.
    """

    top1: float
    source: str
    data: str
    num_frames: int
    views: str
    gmacs: float | Decimal | None = None
    params_m: float | Decimal | None = None

    @property
    def score(self) -> float:
        """The number, of whatever metric."""
        return self.top1


@dataclass(frozen=True)
class Row:
    """One design choice: a name for readers, and what it plugs into which backbone.

    Attributes:
        name: for readers, unique in its table.
        temporal: what is plugged in; None for the bare backbone.
        paper: what the paper reports for it.
        backbone: the backbone in a table that compares backbones; None for the regime's. A regime of a smaller scale
            names what stands in for it.
        num_frames: frames of a clip in a table that compares them; None for the regime's.
        versus: name of the row that differences are taken to; None for the table's base, its own name for no row.
        ensemble: names of two rows or more. The row trains nothing then, and plugs nothing in: for each seed it is the
            accuracy of the mean of their class probabilities, clip by clip; see :mod:`tadaconv.scores`.
    """

    name: str
    temporal: Temporal
    paper: PaperResult | None = None
    backbone: str | None = None
    num_frames: int | None = None
    versus: str | None = None
    ensemble: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or "\n" in self.name:
            raise UserError(f"a row's name is one line of text, not {self.name!r}")
        if any(unicodedata.category(character) == "Cs" for character in self.name):
            raise UserError(f"row {self.name!r}: half a surrogate pair cannot be written to any file")
        if not (self.temporal is None or isinstance(self.temporal, TAda | Rival)):
            raise UserError(f"row {self.name!r}: what is plugged in is a TAda, a Rival or None, not {self.temporal!r}")
        if not (self.paper is None or isinstance(self.paper, PaperResult)):
            raise UserError(f"row {self.name!r}: paper is a PaperResult(...) or None, not {self.paper!r}")
        if not (self.backbone is None or (isinstance(self.backbone, str) and self.backbone.strip())):
            raise UserError(
                f"row {self.name!r}: backbone is the name of one, or None for the regime's, not {self.backbone!r}"
            )
        if not (self.num_frames is None or (type(self.num_frames) is int and self.num_frames >= 1)):
            raise UserError(
                f"row {self.name!r}: num_frames is a whole number from 1 on, or None for the regime's, "
                f"not {self.num_frames!r}"
            )
        if not (self.versus is None or isinstance(self.versus, str)):
            raise UserError(
                f"row {self.name!r}: versus is the name of a row, or None for the base, not {self.versus!r}"
            )
        if self.ensemble != ():
            self._require_ensemble()

    def _require_ensemble(self) -> None:
        parts = self.ensemble
        if not (isinstance(parts, tuple) and all(isinstance(part, str) for part in parts) and len(set(parts)) > 1):
            raise UserError(f"row {self.name!r}: ensemble is a tuple of the names of two rows or more, not {parts!r}")
        if len(set(parts)) < len(parts):
            raise UserError(f"row {self.name!r}: its ensemble names a row twice: {', '.join(parts)}")
        if not (self.temporal is None and self.backbone is None and self.num_frames is None):
            raise UserError(
                f"row {self.name!r}: an ensemble trains nothing; leave operator, backbone and num_frames to its rows"
            )

    def cell(self, regime: Regime, seed: int) -> Cell:
        """The cell of this row in a regime, from ``seed``.

        Raises :class:`UserError`, with the row's name, where the regime cannot take what the row asks for, and for an
        ensemble, which has no cell.
        """
        if self.ensemble:
            raise UserError(f"row {self.name!r} is an ensemble, which trains nothing; run its rows")
        try:
            experiment = regime.experiment(self.temporal, seed, self.backbone, self.num_frames)
        except ValidationError as error:
            raise UserError(f"row {self.name!r}: {describe(error)}") from error
        except UserError as error:
            raise UserError(f"row {self.name!r}: {error}") from error
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
    """An ablation table. ``base`` is the row the others are compared with; shown last unless it stands in ``rows``.

    ``regime`` is the name of the regime that the published table is of: the command line takes it where none is named
    and its clips are there. None: the table is of no data set.
    """

    base: Row
    rows: list[Row]
    claims: list[Claim] = field(default_factory=list)
    regime: str | None = None

    def __post_init__(self) -> None:
        if not (self.regime is None or (isinstance(self.regime, str) and self.regime.strip())):
            raise UserError(f"a table's regime is the name of one, or None, not {self.regime!r}")
        for row in [self.base, *self.rows]:
            if not isinstance(row, Row):
                raise UserError(f"a table's base and rows are Row(...), not {row!r}")
        names = [row.name for row in self.all_rows]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise UserError(f"row {twice[0]!r} stands twice in the table; row names are unique")
        for row in self.all_rows:
            if row.versus is not None:
                self.row(row.versus)
            for part in row.ensemble:
                if self.row(part).ensemble:
                    raise UserError(f"row {row.name!r}: its part {part!r} is an ensemble itself; name the rows of that")
        if self.base.ensemble:
            raise UserError(f"row {self.base.name!r} is an ensemble, which cannot be the base; name one of its rows")
        for claim in self.claims:
            for name in (claim.better, claim.worse):
                self.row(name)

    def mistaken_recipes(self, regime: Regime, backbones: Collection[str]) -> list[Recipe]:
        """The recipes of a regime that train no row of the table by what looks like a slip.

        They name a backbone that is none of ``backbones`` nor of a package, or a recipe before them takes their rows. A
        regime serves several tables: that a recipe is for backbones and frames of other tables is no slip.
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
        """The rows that average others and train nothing, in the order they are shown."""
        return [row for row in self.all_rows if row.ensemble]

    def trained(self, rows: Iterable[str] | None = None) -> list[Row]:
        """The rows behind those called ``rows``, all if None, that train: in the place of an ensemble its parts.

        Each once, in the order asked for. Raises :class:`UserError` as :meth:`row` does.
        """
        if rows is None:
            return [row for row in self.all_rows if not row.ensemble]
        names = dict.fromkeys(part for name in rows for part in self.row(name).ensemble or (name,))
        return [self.row(name) for name in names]

    def cells(self, regime: Regime, seeds: Iterable[int], rows: Iterable[str] | None = None) -> list[Cell]:
        """One cell a row that trains and seed, seed by seed, so that a first full table stands early.

        In the place of an ensemble that ``rows`` names stand its parts.
        """
        chosen = self.trained(rows)
        return [row.cell(regime, seed) for seed in seeds for row in chosen]


@dataclass(frozen=True)
class LoadedTable:
    """A table with the name of its file, the question its docstring asks, and the file; None for one made in memory.

    ``search`` is what finds the study whose best a table compares.
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
        what = self.name if self.path is None else discovery.reference("ablation table", self.path)
        return run_command("ablate", what, regime_name, ran, **options)


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


def resolve_data(regime: Regime, root: Path | None, cache: Path) -> Regime:
    """The regime on the clips it will train on: for a regime of folder data, those under ``root``.

    What is known of the clips lies in ``cache``; those of class folders are decoded once, of other layouts their check
    has done so. A file of pretrained weights gets its fingerprint. Raises :class:`UserError` for a folder regime
    without a root, a root where the regime makes its own clips, and clips or weights that cannot be used.
    """
    regime = regime.with_weights(resolve_weights)
    if not isinstance(regime.data, Folder):
        if root is not None:
            raise UserError("--data is for regimes on a folder of clips, such as 'folder'; this regime makes its own")
        return regime
    if root is None:
        is_classes = regime.data.layout == "classes"
        holds = "with train/<class>/* and val/<class>/*" if is_classes else f"of layout {regime.data.layout}"
        raise UserError(f"this regime needs clips: add --data DIR, a folder {holds}")
    from tadaconv.data.folder import resolve

    return regime.with_clips(resolve(regime.data, root, cache))


def require_writable(folder: Path) -> None:
    """Create ``folder`` if need be; raises :class:`UserError` where no file can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; name another folder with --out") from error


def current_records(loaded: LoadedTable, regime: Regime, study: str, store: "Store") -> list[CellRecord]:
    """The cells of a table as its file and its regime stand now, for every seed its study was planned with.

    A cell counts by its key: one of a row or a regime that has changed since it ran is left out, not shown under a name
    that means something else by now. The clips of a folder regime are those of its layout and split that the study was
    last planned on. Raises :class:`UserError` if the study was never planned.
    """
    if study not in store.studies():
        run = loaded.command(given("regime") or study.removeprefix(f"{loaded.name}-"))
        raise UserError(f"{store.shown} holds no {study}; run it with: {run}, or name another storage with --storage")
    planned = [cell.experiment for cell in store.planned(study)]
    data = regime.data
    if isinstance(data, Folder):
        data = data.as_found(e.data for e in reversed(planned) if isinstance(e.data, Folder))
    hosts = [experiment.backbone for experiment in planned]
    regime = regime.with_clips(data).with_weights(lambda host: as_planned(host, hosts))
    seeds = sorted({experiment.seed for experiment in planned})
    cells = [row.cell(regime, seed) for row in loaded.table.trained() for seed in seeds]
    return [record for record in store.records_of(cells) if record.status != "missing"]


def as_planned(backbone: Backbone, planned: Iterable[Backbone]) -> Backbone:
    """The backbone with the fingerprint that its file of weights had when cells were last planned with it.

    Raises :class:`UserError` where none were, and the file cannot be read.
    """
    if backbone.weights_file is None:
        return backbone
    hosts = [host for host in planned if host.weights == backbone.weights]
    host = hosts[-1] if hosts else resolve_weights(backbone)
    return backbone.but(weights_fingerprint=host.weights_fingerprint)


def rehearse_cells(cells: Iterable[Cell]) -> None:
    """Raise :class:`UserError`, with the row's name, for a cell that could never have a result; seeds do not matter."""
    rehearsed: list[Experiment] = []
    for cell in cells:
        alike = cell.experiment.but(seed=0)
        if alike in rehearsed:
            continue
        from tadaconv.experiment import rehearse  # torch is waited for only where there is something to run

        rehearsed.append(alike)
        try:
            rehearse(alike)
        except UserError as error:
            raise UserError(f"row {cell.label!r}: {error}") from error


def claim_name(loaded: LoadedTable, study: str, store: "Store", regime_file: Path | None = None) -> None:
    """Write down whose results ``study`` holds.

    Raises :class:`UserError` if they are another's of the same name, or the name is too long for a folder's.
    """
    discovery.require_short(study)
    if loaded.path is not None and attr.SEARCH_PROTOCOL in store.study_attrs(study):
        raise UserError(
            f"{study} in {store.shown} holds the trials of a design study; rename {loaded.path}, or name another --out "
            "or --storage"
        )
    from tadaconv.execution.origins import claim  # a storage is waited for only where there is one

    claim(study, {"table": loaded.path, "regime": regime_file}, store)


def _places(regime: Regime) -> dict[str, str]:
    """Where the clips and weights of a regime lie, by fingerprint: another machine may have queued the same cells."""
    places = {}
    if isinstance(regime.data, Folder):
        places[regime.data.fingerprint] = regime.data.index or regime.data.root
    places |= {host.weights_fingerprint: host.weights for host in regime.backbones if host.weights_file is not None}
    return places


def run_table(
    loaded: LoadedTable,
    regime: Regime,
    study: str,
    store: "Store",
    *,
    seeds: Sequence[int],
    rows: Sequence[str] | None,
    crew: "Crew",
    show: Callable[["Planned"], AbstractContextManager["Show"]],
    regime_file: Path | None = None,
) -> list[CellRecord]:
    """Run every cell of ``rows`` x ``seeds`` that has no result yet; return a record of each cell that ended meanwhile.

    Any number of calls may run one table or several on one storage: they share the work.

    Args:
        loaded: The table.
        regime: What it is run on, with its data resolved.
        study: The name of its study; see :func:`study_name`.
        store: Where results are kept.
        seeds: Seeds of the weights, the data order and the augmentation.
        rows: Names of the rows to run; None means all, and an ensemble its parts. Raises :class:`UserError` for one the
            table does not have.
        crew: The workers.
        show: Given what is to be done, a context that lasts while it is done and whose value is told of it.
        regime_file: The file that holds the regime, in which reports look for it; None for one made in memory.
    """
    from tadaconv.execution import plan, run_cells

    chosen = None if rows is None else [row.name for row in loaded.table.trained(rows)]
    claim_name(loaded, study, store, regime_file)
    records = store.records_of(loaded.table.cells(regime, seeds, chosen))
    to_run = [record.cell for record in records if record.status != "finished"]
    for cell in to_run:
        crew.require(cell)
    rehearse_cells(to_run)
    planned = plan(store, study, loaded.table.cells(regime, [0]), seeds, chosen)
    with show(planned) as shown:
        if not planned.to_run:  # nothing to wait for, torch's import included
            return []
        at_home = replace(crew, call=crew.call.but(places=_places(regime)))
        return run_cells(store, study, planned.to_run, at_home, shown.event, shown.line)
