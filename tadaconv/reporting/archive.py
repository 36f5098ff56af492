"""A whole storage as four flat files: its studies, attempts, cells and curves, for whatever reads CSV or Parquet."""

import hashlib
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from tadaconv.command import install
from tadaconv.errors import UserError, unknown
from tadaconv.execution import attrs
from tadaconv.execution.cells import scores_file
from tadaconv.execution.merged_weights import run_folder
from tadaconv.execution.store import Store
from tadaconv.files import write_atomically
from tadaconv.locations import together
from tadaconv.metrics import metric_named
from tadaconv.reporting.core.export import as_csv
from tadaconv.result import Result, stored_metric
from tadaconv.text import encodable

FORMATS = ("csv", "parquet")
MANIFEST = "tada-export.json"
"""Next to the files, the hashes of all that was ever written: only that is overwritten."""

STUDY_COLUMNS = ["study", "direction", "num_attempts", "num_results", "attributes", "system_attributes"]
ATTEMPT_COLUMNS = [
    "study", "trial", "cell", "label", "seed", "state", "started", "ended", "worker", "host", "device", "step",
    "error", "reason", "traceback", "value", "configuration", "parameters", "distributions", "intermediate_values",
    "experiment", "attributes", "system_attributes",
]  # fmt: skip
_TREES = (
    "per_class", "per_family", "classes", "family_classes", "confusion", "cost", "environment", "per_head",
    "per_subset",
)  # fmt: skip
_SCORED = ("metric", "score")
_SCALARS = ["top1", *(name for name in Result.model_fields if name not in (*_SCORED, *_TREES, "curve", "detection"))]
CELL_COLUMNS = ["cell", "study", "trial", "label", "seed", *_SCALARS, *_TREES, "experiment", "scores"]
"""Followed by a column for each metric other than top-1 and for each entry of the environment and each leaf of the
experiment, and by ``detection``, as JSON, where cells localize; in alphabetical order."""
CURVE_COLUMNS = ["cell", "epoch", "step", "train_loss", "val_top1", "calibration"]
"""Followed by a column for each metric other than top-1."""

_REASONS = (attrs.INTERRUPTED, attrs.WITHDRAWN, attrs.PRUNED, attrs.OVER_BUDGET, attrs.INFEASIBLE)
_TAKEN = (
    attrs.CELL, attrs.LABEL, attrs.SPEC, attrs.PLACES, attrs.ERROR, attrs.TRACEBACK, attrs.TRIAL, *_REASONS
)  # fmt: skip
"""Attributes that have a column."""
_TIMES = ("started", "ended")
_DTYPES = {
    **dict.fromkeys([*_SCALARS, "value", "train_loss", "val_top1"], "float64"),
    **dict.fromkeys(["num_attempts", "num_results", "trial", "configuration", "step", "epoch"], "Int64"),
    **dict.fromkeys(["num_val", "params", "macs", "peak_memory_bytes"], "Int64"),
    **dict.fromkeys(_TIMES, "datetime64[us, UTC]"),
}
"""Of the columns that are not text."""


@dataclass(frozen=True)
class Archive:
    """All there is in a storage. Accuracies are in percent, losses in nats, times in UTC, durations in seconds.

    Attributes:
        studies: one line a study; what is written about it, its plan above all, as JSON.
        attempts: one line per trial, in whatever state. ``trial`` is its number, ``configuration`` that of a search's
            configuration; attributes without a column are in ``attributes``, as JSON.
        cells: one line per cell that has a result. ``scores`` is the path of its class probabilities, see
            :mod:`tadaconv.scores`, from the folder of the journal; empty where it is not there, or on a server.
        curves: one line per cell and epoch.
    """

    studies: pd.DataFrame
    attempts: pd.DataFrame
    cells: pd.DataFrame
    curves: pd.DataFrame


def read_storage(store: Store) -> Archive:
    """Everything in ``store``, ordered by study and trial, cell, and epoch."""
    storage = store.backend.storage
    studies = sorted(storage.get_all_studies(), key=lambda study: study.study_name)
    trials = {s.study_name: storage.get_all_trials(s._study_id, deepcopy=False) for s in studies}
    ours = [(name, trial) for name, of_study in trials.items() for trial in of_study]
    results = _results(ours)
    return Archive(
        studies=_frame(
            [
                {
                    "study": study.study_name,
                    "direction": ", ".join(objective.name.lower() for objective in study.directions),
                    "num_attempts": len(trials[study.study_name]),
                    "num_results": sum(trial.state == TrialState.COMPLETE for trial in trials[study.study_name]),
                    "attributes": _json(study.user_attrs),
                    "system_attributes": _json(study.system_attrs),
                }
                for study in studies
            ],
            STUDY_COLUMNS,
        ),
        attempts=_frame([_attempt_line(name, trial, results) for name, trial in ours], ATTEMPT_COLUMNS),
        cells=_cells_frame(results, run_folder(store)),
        curves=_curves_frame(results),
    )


def write_archive(archive: Archive, folder: Path, form: str) -> list[Path]:
    """Write ``studies``, ``attempts``, ``cells`` and ``curves`` into ``folder``, and return their paths.

    The same storage gives the same bytes.

    Args:
        archive: what is written.
        folder: where to.
        form: of ``FORMATS``.

    Raises:
        UserError: for an unknown format, where a file of that name exists that :func:`write_archive` has not written
            or that has been changed, and where Parquet needs pyarrow.
    """
    require_format(form)
    frames = {f"{field.name}.{form}": getattr(archive, field.name) for field in fields(archive)}
    contents = {name: _content(frame, form) for name, frame in frames.items()}
    known = _read_manifest(folder / MANIFEST)
    for name, content in contents.items():
        _require_ours(folder / name, [*known.get(name, []), _digest(content)])
    ours = {name: sorted({*known.get(name, []), _digest(content)}) for name, content in contents.items()}
    tree = {"written_by": "tada export", "files": dict(sorted({**known, **ours}.items()))}
    write_atomically(folder / MANIFEST, json.dumps(tree, indent=2) + "\n")
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents]


def require_format(form: str) -> None:
    """Raise :class:`UserError` unless ``form`` is a format and can be written here."""
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    if form == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise UserError(f"Parquet needs pyarrow; {install('parquet')}, or take --format csv") from error


def _results(trials: Iterable[tuple[str, FrozenTrial]]) -> dict[str, tuple[str, FrozenTrial]]:
    """By cell key, in order, the attempt that gave the result."""
    results: dict[str, tuple[str, FrozenTrial]] = {}
    for name, trial in sorted(trials, key=lambda pair: pair[1]._trial_id):
        given = trial.user_attrs
        is_own = {attrs.CELL, attrs.RESULT} <= given.keys() and attrs.COPIED not in given
        if trial.state == TrialState.COMPLETE and is_own:
            results.setdefault(str(given[attrs.CELL]), (name, trial))
    return dict(sorted(results.items()))


def _attempt_line(study: str, trial: FrozenTrial, results: Mapping[str, tuple[str, FrozenTrial]]) -> dict[str, Any]:
    given = trial.user_attrs
    of_cell = results.get(given.get(attrs.CELL, ""))
    # A result is its cell's: searches copy those that there are.
    is_in_cells = of_cell is not None and of_cell[1].user_attrs[attrs.RESULT] == given.get(attrs.RESULT)
    taken = (*_TAKEN, attrs.RESULT) if is_in_cells else _TAKEN
    lease = given.get(attrs.LEASE) or {}
    return {
        "study": study,
        "trial": trial.number,
        "cell": given.get(attrs.CELL),
        "label": given.get(attrs.LABEL),
        "seed": given.get(attrs.SPEC, {}).get("seed"),
        "state": trial.state.name.lower(),
        "started": _utc(trial.datetime_start),
        "ended": _utc(trial.datetime_complete),
        "worker": lease.get("worker"),
        "host": lease.get("host"),
        "device": given.get(attrs.DEVICE, lease.get("device")),
        "step": given.get(attrs.STEP, lease.get("step")),
        "error": given.get(attrs.ERROR),
        "reason": next((str(given[name]) for name in _REASONS if name in given), None),
        "traceback": given.get(attrs.TRACEBACK),
        "value": (trial.values or [None])[0],  # noqa: PD011 - a trial is no frame
        "configuration": given.get(attrs.TRIAL),
        "parameters": _json(trial.params),
        "distributions": _json({name: space._asdict() for name, space in trial.distributions.items()}),
        "intermediate_values": _json(trial.intermediate_values),
        "experiment": _json(_described(given)),
        "attributes": _json({name: value for name, value in given.items() if name not in taken}),
        "system_attributes": _json(trial.system_attrs),
    }


def _described(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """The description of a trial's experiment, with the paths that it was queued with; None without one."""
    return together(given[attrs.SPEC], given.get(attrs.PLACES, {})) if attrs.SPEC in given else None


def _cells_frame(results: Mapping[str, tuple[str, FrozenTrial]], out: Path | None) -> pd.DataFrame:
    lines = []
    for key, (study, trial) in results.items():
        given, result = trial.user_attrs, trial.user_attrs[attrs.RESULT]
        line = {"cell": key, "study": study, "trial": trial.number, "label": given[attrs.LABEL]}
        line |= {name: result.get(name) for name in _SCALARS}
        line |= {name: _json(result.get(name)) for name in _TREES}
        line |= {"seed": given[attrs.SPEC].get("seed"), "experiment": _json(_described(given))}
        if "score" in result:
            line[stored_metric(result)] = result["score"]
        if "detection" in result:
            line["detection"] = _json(result["detection"])
        line["scores"] = _scores(out, key)
        line |= _leaves("environment", result.get("environment") or {}) | _leaves("experiment", _described(given) or {})
        lines.append(line)
    return _frame(lines, CELL_COLUMNS)


def _curves_frame(results: Mapping[str, tuple[str, FrozenTrial]]) -> pd.DataFrame:
    lines = [
        {"cell": key, **_point_line(point)}
        for key, (_, trial) in results.items()
        for point in trial.user_attrs[attrs.RESULT]["curve"]
    ]
    return _frame(lines, CURVE_COLUMNS)


def _point_line(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point of a curve with its score in the column of its metric."""
    line = {name: value for name, value in point.items() if name not in _SCORED}
    if "score" in point:
        line[metric_named(stored_metric(point)).curve_column] = point["score"]
    return {**line, "calibration": _json(point.get("calibration"))}


def _scores(out: Path | None, key: str) -> str | None:
    """The path of a cell's class probabilities from the run folder ``out``; None where they are not in it."""
    if out is None or not key.isalnum():  # whoever wrote the storage wrote its keys, and a key becomes a path here
        return None
    file = scores_file(out, key)
    return file.relative_to(out).as_posix() if file.is_file() else None


def _leaves(name: str, value: Any) -> dict[str, Any]:
    """A tree as ``name.inner.leaf`` by leaf; lists are leaves, as JSON."""
    if isinstance(value, Mapping):
        return {key: leaf for inner, part in value.items() for key, leaf in _leaves(f"{name}.{inner}", part).items()}
    return {name: _json(value) if isinstance(value, list) else value}


def _frame(lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """One type a column, however many lines there are; ``columns`` and what else lines have, in alphabetical order.

    Seeds and columns that are not of ``columns`` have the type of their values, and JSON where these are of several.
    """
    own = sorted({name for line in lines for name in line} - set(columns))
    series = {}
    for column in (*columns, *own):
        values, is_guessed = [line.get(column) for line in lines], column in (*own, "seed")
        dtype = _guess(values) if is_guessed else _DTYPES.get(column, "string")
        if dtype == "string":
            is_mixed = is_guessed and not all(isinstance(value, str | None) for value in values)
            values = [_text(_json(value) if is_mixed else value) for value in values]
        series[column] = pd.Series(values, dtype=dtype)
    return pd.DataFrame(series)


def _guess(values: Sequence[Any]) -> str:
    """The type of a column that holds ``values``: text where they are of several kinds, or too large."""
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind == "integer" and not all(value is None or -(2**63) <= value < 2**63 for value in values):
        return "string"
    return {"boolean": "boolean", "integer": "Int64", "empty": "Int64", "floating": "float64"}.get(kind, "string")


def _text(value: Any) -> str | None:
    """As text that any file can hold: half a surrogate pair, from a file name say, is written as its escape."""
    return None if value is None else encodable(str(value))


def _utc(local: datetime | None) -> datetime | None:
    return None if local is None else local.astimezone(UTC)


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, default=str)


def _content(frame: pd.DataFrame, form: str) -> bytes:
    if form == "parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, engine="pyarrow", index=False)
        return buffer.getvalue()
    texts = {name: frame[name].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for name in _TIMES if name in frame}
    return as_csv(frame.assign(**texts)).encode("utf-8")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _require_ours(path: Path, digests: Collection[str]) -> None:
    try:
        ours = not path.exists() or _digest(path.read_bytes()) in digests
    except OSError:
        ours = False
    if not ours:
        raise UserError(f"{path} is not as 'tada export' wrote it; move it away, or name another folder with --out")


def _read_manifest(path: Path) -> dict[str, list[str]]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): [str(digest) for digest in digests] for name, digests in tree["files"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is not as 'tada export' wrote it; name another folder with --out") from error
