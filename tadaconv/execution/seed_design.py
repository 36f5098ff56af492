"""The seed design of a table's study: what a storage holds of it, and with which designs the table can be continued.

The number of looks at a comparison decides how wide its intervals are, so an adaptive design cannot be exchanged for
another once there may be results. A fixed one looks once: seeds can be added, and an adaptive design can follow whose
first look includes all of them.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from tadaconv.errors import UserError
from tadaconv.execution import attrs as attr
from tadaconv.execution.cells import Cell
from tadaconv.execution.planner import seeded
from tadaconv.execution.store import Store
from tadaconv.metrics import Metric
from tadaconv.sequential import MOST_SEEDS, SeedDesign


@dataclass(frozen=True)
class TableStudy:
    """The study of a table, and what of it counts: the cells of the table and its regime as they are now.

    Attributes:
        name: of the study.
        rows: one cell a row that trains; its seed does not matter.
        former: the name of the study from before its regime was renamed; empty where it was not.
        is_done: whether a design leaves nothing to run of what a storage has of the table.
    """

    name: str
    rows: Sequence[Cell]
    former: str = ""
    is_done: Callable[[SeedDesign, Store], bool] = lambda *_: False


def stored_design(study: str, store: Store) -> SeedDesign | None:
    """The seed design that a table's study was last run with; None where an earlier version ran it, or none has.

    Raises :class:`UserError` for one that a newer version stored.
    """
    tree = store.study_attrs(study).get(attr.SEEDS)
    try:
        return None if tree is None else SeedDesign.model_validate(tree)
    except ValidationError as error:
        raise UserError(
            f"the seeds of {study} in {store.shown} were written by another version of tadaconv; install that version, "
            "or name another --out or --storage"
        ) from error


def asked_design(
    study: TableStudy,
    store: Store | None,
    metric: Metric,
    seeds: int | str | None = None,
    smallest: float | None = None,
) -> SeedDesign:
    """The design that a call runs a table with; what it does not give is as stored.

    Args:
        study: the table's.
        store: where its results are; None where there are none yet.
        metric: of its cells.
        seeds: a number, or ``FIRST:LAST``; None for what is stored, else 1.
        smallest: the smallest difference of interest; None for what is stored, else the metric's.

    Raises:
        UserError: an invalid value, or a design with which the study cannot be continued; see :func:`kept_design`.
    """
    stored = None if store is None else stored_design(study.name, store) or _own_stored(study, store)
    default = stored or SeedDesign(first=1, last=1, smallest=metric.difference)
    first, last = (default.first, default.last) if seeds is None else read_seeds(seeds)
    size = default.smallest if smallest is None else read_smallest(smallest)
    design = SeedDesign(first=first, last=last, smallest=size)
    if store is not None:
        kept_design(study, store, design)
    return design


def read_seeds(seeds: int | str) -> tuple[int, int]:
    """The first and the last number of seeds of ``3`` or ``3:12``; raises :class:`UserError` for what is neither."""
    parts = str(seeds).split(":")
    are_numbers = all(re.fullmatch("[0-9]{1,9}", part) for part in parts)
    if type(seeds) not in (int, str) or len(parts) > 2 or not are_numbers:
        raise UserError(
            f"--seeds {seeds} is no number of seeds; give one, such as 3, or FIRST:LAST, such as 3:12, for more seeds "
            "where a comparison is undecided"
        )
    first, last = int(parts[0]), int(parts[-1])
    if first < 1:
        raise UserError(f"--seeds {seeds} would run no cells; give a number from 1 on")
    if len(parts) == 1:
        return first, last
    if first >= MOST_SEEDS:
        raise UserError(
            f"--seeds {seeds}: an adaptive number of seeds is at most {MOST_SEEDS}; give one number, {first}"
        )
    reasons = {
        "one seed has no standard deviation to judge by": first < 2,
        "the last number is to be above the first": last <= first,
        f"each look widens the intervals of all, and they are computed up to {MOST_SEEDS} seeds": last > MOST_SEEDS,
    }
    why = [reason for reason, is_so in reasons.items() if is_so]
    if not why:
        return first, last
    least = max(first, 2)
    advised = last if least < last <= MOST_SEEDS else min(max(12, 4 * least), MOST_SEEDS)
    raise UserError(f"--seeds {seeds}: {'; '.join(why)}; give {least}:{advised}")


def read_smallest(smallest: float) -> float:
    """The smallest difference of interest; raises :class:`UserError` unless it is a positive number."""
    if type(smallest) not in (int, float) or not 0 < smallest < float("inf"):
        raise UserError(f"--smallest {smallest} is no size of a difference; give a number above 0, such as 1")
    return float(smallest)


def kept_design(study: TableStudy, store: Store, design: SeedDesign) -> SeedDesign:
    """What a storage is to hold of a study that is run with ``design``.

    A fixed design of fewer seeds than there are runs these alone, and the others stay. Results of rows that have
    changed since, and of an earlier recipe of the regime, are other cells, and do not matter.

    Args:
        study: the table's.
        store: where its results are.
        design: what is asked for.

    Raises:
        UserError: the study cannot be continued with ``design``.
    """
    before = _own_so_far(study, store)
    if before is None or before == design:
        return design
    where = f"{study.name} in {store.shown}"
    if before.is_adaptive:
        asked = f"--seeds {before} --smallest {before.smallest:g}"
        if study.is_done(before, store):
            raise UserError(
                f"{where} has run all seeds of {asked}, and looks at further ones or another --smallest would change "
                "the error rates of its verdicts; begin a new run with more seeds in another folder, with --out, or "
                "another --storage"
            )
        raise UserError(
            f"{where} is run with {asked}, and another number of looks or another --smallest would change the error "
            "rates of its verdicts; continue it without --seeds and --smallest, or name another --out or --storage"
        )
    if not design.is_adaptive:
        return design if design.first >= before.first else before.model_copy(update={"smallest": design.smallest})
    if design.first < before.first:
        advice = f"give --seeds {before}:{max(design.last, before.first + 1)}, or " if before.first < MOST_SEEDS else ""
        raise UserError(
            f"{where} has {before} seeds already, and with --seeds {design} the first look would "
            f"leave some of them out; {advice}name another --out or --storage"
        )
    return design


def merged_design(study: str, into: Store, source: Store) -> SeedDesign | None:
    """What a storage is to hold of a study when that of another is added; None where neither has a design stored.

    Args:
        study: the name of a table's study, which both may have.
        into: the storage that is added to.
        source: the other.

    Raises:
        UserError: their looks were at different numbers of seeds.
    """
    stored = [stored_design(study, store) for store in (into, source)]
    if stored == [None, None]:
        return None
    ours, theirs = (_design_so_far(study, store) for store in (into, source))
    if ours is None or theirs is None or ours == theirs:
        return ours or theirs
    if not ours.is_adaptive and not theirs.is_adaptive:
        most, known = max(ours.first, theirs.first), stored[0] or stored[1]
        return ours.model_copy(update={"first": most, "last": most, "smallest": known.smallest if known else 1.0})
    adaptive, fixed = (ours, theirs) if ours.is_adaptive else (theirs, ours)
    if fixed.is_adaptive or fixed.first > adaptive.first:
        raise UserError(
            f"{study} was run with --seeds {theirs} --smallest {theirs.smallest:g} in {source.shown} and with --seeds "
            f"{ours} --smallest {ours.smallest:g} in {into.shown}: together their verdicts would have other error "
            "rates; report each by itself, with --storage"
        )
    return adaptive


def _own_so_far(study: TableStudy, store: Store) -> SeedDesign | None:
    """As :func:`_design_so_far`, of the cells of a table as it is now, under both names of its study."""
    stored = _own_stored(study, store)
    if stored is not None and stored.is_adaptive:
        return stored
    return _with_seeds(stored, len(_seeds_seen(study, store)))


def _own_stored(study: TableStudy, store: Store) -> SeedDesign | None:
    """The stored design of the table as it is now; None where the study was last run with other rows or recipes."""
    for name in _names(study, store):
        plan = store.read_plan(name)
        planned = {(seed, key) for row in plan.values() for seed, key in row.seeds.items()}
        is_own = not plan or any(seeded(row, seed).key == key for row in study.rows for seed, key in planned)
        if is_own and (stored := stored_design(name, store)) is not None:
            return stored
    return None


def _seeds_seen(study: TableStudy, store: Store) -> set[int]:
    """The seeds with a cell of the table as it is now that was planned or begun for it."""
    names = _names(study, store)
    rows = [row for name in names for row in store.read_plan(name).values()]
    seed_of = {seeded(row, seed).key: seed for row in study.rows for of_row in rows for seed in of_row.seeds}
    planned = {key for of_row in rows for key in of_row.seeds.values()}
    return {
        seed_of[key]
        for key, attempts in store.attempts(seed_of).items()
        if any(
            attempt.status != "dropped" and (key in planned or store.name_of(attempt.study_id) in names)
            for attempt in attempts
        )
    }


def _names(study: TableStudy, store: Store) -> list[str]:
    return [name for name in (study.name, study.former) if name in store.studies()]


def _with_seeds(stored: SeedDesign | None, num_seeds: int) -> SeedDesign | None:
    """A fixed design of at least so many seeds; None without any."""
    if stored is None:
        return SeedDesign(first=num_seeds, last=num_seeds, smallest=1.0) if num_seeds else None
    most = max(stored.first, num_seeds)
    return stored.model_copy(update={"first": most, "last": most})


def _design_so_far(study: str, store: Store) -> SeedDesign | None:
    """The design that a study was run with, of an earlier version as many seeds as it planned; None for a new study."""
    stored = stored_design(study, store)
    if stored is not None and stored.is_adaptive:
        return stored
    return _with_seeds(stored, len({seed for row in store.read_plan(study).values() for seed in row.seeds}))
