"""The data of a study's report: its trials as frames, its space, and one manifest, in memory or in a folder.

The folder holds all that the notebook needs to be executed again, without the storage.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from tadaconv.command import called_with
from tadaconv.discovery import plain_name
from tadaconv.errors import UserError
from tadaconv.execution.cells import metric_of
from tadaconv.metrics import TOP1, Metric, metric_named
from tadaconv.reporting.core.export import (
    OWN_COLUMNS,
    TEXT,
    CellOrigin,
    Columns,
    ScoredManifest,
    as_csv,
    cell_columns,
    cells_data,
    checked,
    data_frame,
    origin,
    read_csv,
    shared_conditions,
)
from tadaconv.reporting.study.parameters import confirm_command, in_words, value_in_words
from tadaconv.statistics import on_front

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from tadaconv.study import InfeasibleDraw, LoadedStudy, Study, TrialRecord

STATUSES = ("finished", "pruned", "over budget", "failed", "running", "waiting")
"""Statuses of trials, in the order in which they are counted."""

INFEASIBLE_COLUMNS: Columns = {"trial": "int64", "name": TEXT, "why": TEXT}
"""A line an infeasible draw, before the columns of the parameters, which are called ``params_<name>``."""


def trial_columns(metric: Metric) -> Columns:
    """The columns of a line a trial, before those of the parameters, ``params_<name>``; see :func:`trials_data`."""
    return {
        "trial": "int64", "name": TEXT, "status": TEXT, metric.name: "float64", "num_seeds": "int64", "macs": "Int64",
        "reached": "float64", "epochs": "Int64", "best": "bool", "front": "bool", "first": "bool", "base": "bool",
        "what": TEXT, "why": TEXT,
    }  # fmt: skip


def curve_columns(metric: Metric) -> Columns:
    """The columns of a line a trial and epoch: the validation score, mean where seeds have several."""
    return {"trial": "int64", "epoch": "int64", metric.curve_column: "float64"}


def csv_columns(metric: Metric) -> dict[str, Columns]:
    """The frames of a :class:`StudyExport`; each is a CSV file of this name."""
    cells = {"trial": "int64", **cell_columns(metric), **OWN_COLUMNS}
    return {
        "trials": trial_columns(metric),
        "curves": curve_columns(metric),
        "cells": cells,
        "confirmation": cells,
        "infeasible": INFEASIBLE_COLUMNS,
    }


class Parameter(BaseModel):
    """A parameter of the space: its distribution, and its value in every trial."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    distribution: dict[str, Any] | None = Field(
        description="Optuna's JSON of the distribution, joined over the trials where the space has grown; None where "
        "trials drew it from distributions of different kinds."
    )
    drawn: dict[int, Any] = Field(description="By number of the trial. A conditional parameter lacks some.")


class Space(BaseModel):
    """``parameters.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: list[Parameter]


class StudyManifest(ScoredManifest):
    """``report.json``: all data of a study's report that are not in its other files."""

    study: str = Field(description="Name of the study's file.")
    question: str = Field(description="The study's docstring; its first paragraph is the question.")
    regime: str
    search: dict[str, str] = Field(description="How the space is searched: sampler, pruner and budget, in words.")
    max_macs: int | None = Field(description="Most multiply-adds per clip that a trial may cost, where it is known.")
    confirmation: str | None = Field(
        None, description="The folder, next to this one, of the report on the best trials from new seeds, if they ran."
    )
    num_infeasible: int | None = Field(
        None,
        description="Infeasible draws of the regime, which were replaced and do not count as trials. None where an "
        "earlier version, which counted them as failed trials, wrote this.",
    )
    confirm_with: str = Field("", description="The command that runs the best trials from new seeds.")
    seeds: list[int] = Field(description="Every seed a trial was planned with.")
    conditions: dict[str, Any] = Field(description="Backbone, data and schedule, as far as all cells share them.")
    cells: list[CellOrigin]
    confirmed: list[CellOrigin] = Field(
        default_factory=list,
        description="The cells from new seeds of the trials that were confirmed, in the order of confirmation.csv.",
    )


@dataclass(frozen=True, repr=False)  # a notebook would print all frames
class StudyExport:
    """One study's results: one line per trial, epoch of a trial and cell, and their manifest.

    ``confirmation`` has a line a cell from a new seed of a trial that was confirmed; no other frame holds these.
    ``infeasible`` has a line a draw that the regime cannot take.
    """

    manifest: StudyManifest
    trials: pd.DataFrame
    curves: pd.DataFrame
    cells: pd.DataFrame
    confirmation: pd.DataFrame
    infeasible: pd.DataFrame
    space: Space

    @property
    def metric(self) -> Metric:
        """The metric that the trials are evaluated by."""
        return metric_named(self.manifest.metric)


def collect(
    loaded: "LoadedStudy",
    regime_name: str,
    records: Sequence["TrialRecord"],
    max_macs: int | None = None,
    confirmed: bool = False,
    infeasible: Sequence["InfeasibleDraw"] = (),
) -> StudyExport:
    """Arrange the records of a study; trials that did not finish stay in, without a score."""
    cells = [checked(cell) for record in records for cell in record.cells]
    metric = metric_of(cell for record in records for cell in record.cells)
    new = [checked(cell) for record in records for cell in record.confirmed]
    with called_with({}):  # a report is the same wherever it is written
        confirm_with = confirm_command(loaded.reference, regime_name)
    manifest = StudyManifest(
        metric=metric.name,
        study=loaded.name,
        question=loaded.question,
        regime=plain_name(regime_name),
        search=_search(loaded.study),
        max_macs=max_macs,
        confirmation=f"{loaded.name}_confirm-{plain_name(regime_name)}" if confirmed else None,
        num_infeasible=len(infeasible),
        confirm_with=confirm_with,
        seeds=sorted({cell.cell.experiment.seed for cell in cells}),
        conditions=shared_conditions([cell.cell.experiment for cell in cells]),
        cells=[origin(cell) for cell in cells],
        confirmed=[origin(cell) for cell in new],
    )
    df, confirmation = cells_data(cells, metric), cells_data(new, metric)
    df.insert(0, "trial", [record.number for record in records for _ in record.cells])
    confirmation.insert(0, "trial", [record.number for record in records for _ in record.confirmed])
    trials, curves = trials_data(records, loaded.study, metric), curves_data(records, metric)
    return StudyExport(manifest, trials, curves, df, confirmation, infeasible_data(infeasible), space(records))


def trials_data(records: Sequence["TrialRecord"], study: "Study", metric: Metric = TOP1) -> pd.DataFrame:
    """One line per trial, by number: :func:`trial_columns`, then a column ``params_<name>`` a parameter, in words.

    The score, ``top1`` say, is the mean over ``num_seeds`` seeds, of finished trials alone: what a pruned trial had
    ``reached`` after its last epoch compares with no final score. ``macs`` are multiply-adds per clip. ``best`` marks
    the trial of the best score, of equal ones the cheapest; ``front`` the trials on the Pareto front of score and cost;
    ``first`` the configurations that the study names and tries first, such as the paper's; ``base`` its base. ``what``
    is how the trial differs from the base, in words, ``why`` the reason that it did not finish. One that finished with
    a non-finite score counts as failed.
    """
    ordered = sorted(records, key=lambda record: record.number)
    df = data_frame([_trial_line(record, study, metric) for record in ordered], trial_columns(metric))
    finished = df[df["status"] == "finished"]
    if len(finished):
        best = finished.sort_values(
            [metric.name, "macs", "trial"], ascending=[not metric.higher_is_better, True, True]
        ).index[0]
        df.loc[best, "best"] = True
        known = finished.dropna(subset=["macs"])
        df.loc[known.index, "front"] = on_front(known["macs"].astype(float), known[metric.name], metric.sign)
    return df.assign(**_parameters(ordered))


def infeasible_data(draws: Sequence["InfeasibleDraw"]) -> pd.DataFrame:
    """One line an infeasible draw: ``INFEASIBLE_COLUMNS``, then a column ``params_<name>`` a parameter, in words.

    ``trial`` is the number of the trial in whose place it was drawn, ``name`` that of a configuration which the study
    tries first; the sampler's own draws have none.
    """
    lines = [(draw.number, draw.name, draw.why) for draw in draws]
    return data_frame(lines, INFEASIBLE_COLUMNS).assign(**_parameters(draws))


def _parameters(drawn: Sequence["TrialRecord | InfeasibleDraw"]) -> dict[str, list[str]]:
    """The column of each parameter, in words; empty where it was not drawn."""
    names = dict.fromkeys(name for draw in drawn for name in draw.params)
    return {
        f"params_{name}": [value_in_words(draw.params[name]) if name in draw.params else "" for draw in drawn]
        for name in names
    }


def with_operator(export: StudyExport) -> set[int]:
    """The numbers of the trials with an operator plugged in: the parameters of others have no effect."""
    pairs = zip(export.cells["trial"], export.manifest.cells, strict=True)
    return {int(number) for number, cell in pairs if cell.experiment["temporal"] is not None}


def curves_data(records: Iterable["TrialRecord"], metric: Metric = TOP1) -> pd.DataFrame:
    """One line per trial and epoch: :func:`curve_columns`."""
    lines = [(record.number, point.epoch, point.score) for record in records for point in record.curve]
    return data_frame(lines, curve_columns(metric)).groupby(["trial", "epoch"], as_index=False).mean()


def space(records: Sequence["TrialRecord"]) -> Space:
    """The parameters of all trials, in the order they first occur."""
    from optuna.distributions import distribution_to_json

    parameters = []
    for name in dict.fromkeys(name for record in records for name in record.params):
        having = [record for record in records if name in record.params]
        whole = joined(record.distributions[name] for record in having if name in record.distributions)
        parameters.append(
            Parameter(
                name=name,
                distribution=None if whole is None else json.loads(distribution_to_json(whole)),
                drawn={record.number: record.params[name] for record in having},
            )
        )
    return Space(parameters=parameters)


def joined(distributions: Iterable["BaseDistribution"]) -> "BaseDistribution | None":
    """One distribution that holds every value of ``distributions``; None without any, or where their kinds differ.

    A study's space may grow: choices are added at the end, and bounds move outwards.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    parts = list(distributions)
    if not parts or len({type(part) for part in parts}) > 1:
        return None
    if all(part == parts[0] for part in parts):
        return parts[0]
    if isinstance(parts[0], CategoricalDistribution):
        # Not by equality: 1, 1.0 and True are three choices.
        choices = {repr(choice): choice for part in parts for choice in part.choices}  # type: ignore[attr-defined]
        return CategoricalDistribution(list(choices.values()))
    low, high = min(part.low for part in parts), max(part.high for part in parts)  # type: ignore[attr-defined]
    on_log = all(part.log for part in parts)  # type: ignore[attr-defined]
    if isinstance(parts[0], FloatDistribution):
        return FloatDistribution(low, high, log=on_log)
    steps = [part.step for part in parts] + [part.low - low for part in parts]  # type: ignore[attr-defined]
    return IntDistribution(low, high, log=on_log, step=1 if on_log else gcd(*steps))


def counts(trials: pd.DataFrame) -> dict[str, int]:
    """The number of trials by status, in the order of ``STATUSES``; statuses of no trial are left out."""
    numbers = trials["status"].value_counts()
    return {status: int(numbers[status]) for status in STATUSES if status in numbers}


def files_of(export: StudyExport) -> dict[str, str]:
    """Every frame of an export as CSV, to the last digit, and ``parameters.json``, by the name of the file."""
    texts = {f"{name}.csv": as_csv(getattr(export, name)) for name in csv_columns(export.metric)}
    return {**texts, "parameters.json": export.space.model_dump_json(indent=1) + "\n"}


def read_study(folder: Path | str = ".") -> StudyExport:
    """Read the folder of a study's report; raises :class:`UserError` where it is not one."""
    folder = Path(folder)
    try:
        manifest = StudyManifest.model_validate_json((folder / "report.json").read_text(encoding="utf-8"))
        parameters = Space.model_validate_json((folder / "parameters.json").read_text(encoding="utf-8"))
        kept = csv_columns(metric_named(manifest.metric))
        if manifest.num_infeasible is None:  # an earlier version wrote it, which had no such file
            del kept["infeasible"]
        frames = {name: read_csv(folder / f"{name}.csv", columns) for name, columns in kept.items()}
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no exported report of a study: {error.filename} is missing") from error
    return StudyExport(manifest, **{"infeasible": infeasible_data([]), **frames}, space=parameters)


def _search(study: "Study") -> dict[str, str]:
    sampler, pruner, budget = study.sampler, study.pruner, study.budget
    search = {
        "sampler": _with_options(f"{sampler.name}, seed {sampler.seed}", sampler.options),
        "pruner": _with_options(pruner.name, pruner.options),
    }
    if budget is not None:
        times = budget.relative_macs
        most = (
            f"{budget.gmacs:g} G multiply-adds" if times is None else f"{times:g} times the bare backbone\u2019s cost"
        )
        search["budget"] = f"at most {most} a clip, checked before training"
    return search


def _with_options(name: str, options: Mapping[str, Any]) -> str:
    kind = name.partition(",")[0]
    words = (
        _OPTIONS[kind, option].format(value_in_words(value))
        if (kind, option) in _OPTIONS
        else f"{option.replace('_', ' ')} {value_in_words(value)}"
        for option, value in options.items()
    )
    return ", ".join([name, *words])


_OPTIONS = {
    ("tpe", "n_startup_trials"): "the first {} draws at random",
    ("median", "n_startup_trials"): "prunes none before {} trials have finished",
    ("median", "n_warmup_steps"): "prunes none before epoch {}",
}
"""What Optuna's options do, by the name of the sampler or the pruner; others are called by their own name."""


def _trial_line(record: "TrialRecord", study: "Study", metric: Metric) -> tuple[Any, ...]:
    status, score, why = record.status, record.score, record.why or ""
    if status == "finished" and (score is None or not isfinite(score)):
        status, why = "failed", f"the {metric.noun} is not a number"
    last = max((point.epoch for point in record.curve), default=None)
    ends = [point.score for point in record.curve if point.epoch == last]
    num_seeds = sum(cell.status == "finished" for cell in record.cells)
    return (
        record.number, record.name, status, score if status == "finished" else nan, num_seeds, record.macs,
        sum(ends) / len(ends) if ends else nan, last, False, False, record.name in study.start,
        record.name == study.base, in_words(record.temporal, study.base_temporal), why,
    )  # fmt: skip
