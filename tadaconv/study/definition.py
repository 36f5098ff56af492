"""The definition of a study: its space, where the search starts, and the protocol it follows."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any

import pydantic
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

from tadaconv import discovery
from tadaconv.errors import UserError, lookup
from tadaconv.regime import run_command
from tadaconv.spec import Experiment, Temporal
from tadaconv.study.pruning import EPOCH_PRUNERS, SEED_PRUNERS, make_pruner
from tadaconv.study.space import Suggest, Suggestion, replay, spec_json

Positive = Annotated[float, pydantic.Field(gt=0, strict=True, allow_inf_nan=False)]

_STRICT = pydantic.ConfigDict(extra="forbid")
"""Pydantic's own dataclasses would drop a misspelt argument without a word."""

SAMPLERS: dict[str, Callable[..., BaseSampler]] = {"tpe": TPESampler, "random": RandomSampler, "gp": GPSampler}
"""Samplers by name."""

LOOSER: dict[str, dict[str, Any]] = {"tpe": {"n_ei_candidates": 1}}
"""By sampler, options that let it vary its suggestion when the study has had the one it likes best."""


@pydantic.dataclasses.dataclass(frozen=True, config=_STRICT)
class Budget:
    """The most multiply-adds per clip that a configuration may cost, counted before anything is trained.

    Attributes:
        relative_macs: times those of the bare backbone in the regime, such as 1.02.
        gmacs: in units of 10^9. Exactly one of the two is given.
    """

    relative_macs: Positive | None = None
    gmacs: Positive | None = None

    def __post_init__(self) -> None:
        if (self.relative_macs is None) == (self.gmacs is None):
            raise UserError("give either Budget(relative_macs=1.02) or Budget(gmacs=33.5)")


@pydantic.dataclasses.dataclass(frozen=True, config=_STRICT)
class Sampler:
    """Suggests configurations: a name in :data:`SAMPLERS`, a seed, and Optuna's options of that sampler."""

    name: str = "tpe"
    seed: Annotated[int, pydantic.Field(ge=0, strict=True)] = 0
    options: Mapping[str, pydantic.JsonValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.make(0)

    def make(self, seed: int, *, looser: bool = False) -> BaseSampler:
        """Optuna's sampler, from ``seed``; a looser one draws among good suggestions instead of taking the best."""
        sampler = lookup("sampler", self.name, SAMPLERS)
        options = {**self.options, **(LOOSER.get(self.name, {}) if looser else {})}
        try:
            return sampler(**options, seed=seed)
        except (TypeError, ValueError) as error:
            raise UserError(f"sampler {self.name!r} does not take options {dict(self.options)!r}: {error}") from error


@pydantic.dataclasses.dataclass(frozen=True, config=_STRICT)
class Pruner:
    """Ends a configuration early: a name in ``PRUNERS``, and Optuna's options of that pruner.

    ``median`` and ``hyperband`` compare validation scores over epochs, ``wilcoxon`` results over seeds; ``none``
    prunes no trial. A step of Optuna's options is an epoch, counted from 1, or a seed.
    """

    name: str = "median"
    options: Mapping[str, pydantic.JsonValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        make_pruner(self.name, self.options)


@pydantic.dataclasses.dataclass(frozen=True, config=_STRICT)
class Study:
    """A search space and how it is searched.

    Attributes:
        suggest: makes the operator from a trial's parameters; it never trains.
        start: by name, the parameters of configurations that are tried first, such as the paper's.
        base: the name in ``start`` of the configuration that confirmed ones are compared with.
        sampler: suggests the others.
        pruner: ends a configuration early.
        budget: its maximal cost; None sets no limit.
        seeds: how many seeds a configuration is given; its value is the mean of their scores.
    """

    suggest: Suggest
    start: Mapping[str, Mapping[str, Any]]
    base: str
    sampler: Sampler = Sampler()
    pruner: Pruner = Pruner()
    budget: Budget | None = None
    seeds: Annotated[int, pydantic.Field(ge=1, strict=True)] = 1

    def __post_init__(self) -> None:
        name = self.pruner.name
        if name in EPOCH_PRUNERS and self.seeds > 1:
            raise UserError(
                f"pruner {name!r} compares single runs, but the study has seeds={self.seeds}; "
                "use seeds=1, or the pruner 'wilcoxon' or 'none'"
            )
        if name in SEED_PRUNERS and self.seeds < 3:
            raise UserError(f"pruner {name!r} compares seeds, but the study has seeds={self.seeds}; use 3 or more")
        if self.base not in self.start:
            lookup("base, a name in start", self.base, dict(self.start))
        names: dict[str, str] = {}
        for name, params in self.start.items():
            temporal = self.started[name].temporal
            twin = names.setdefault(spec_json(temporal), name)
            if twin != name:
                raise UserError(
                    f"start {name!r} is the same configuration as {twin!r}; leave one out ({dict(params)!r})"
                )

    @cached_property
    def started(self) -> dict[str, Suggestion]:
        """The configurations of ``start``; raises :class:`UserError` for parameters that are not in the space."""
        return {name: self._started(name, params) for name, params in self.start.items()}

    def _started(self, name: str, params: Mapping[str, Any]) -> Suggestion:
        try:
            suggestion = replay(self.suggest, params)
        except UserError as error:
            raise UserError(f"start {name!r}: {error}") from error
        lacking, needless = suggestion.params.keys() - params.keys(), params.keys() - suggestion.params.keys()
        if lacking:
            raise UserError(f"start {name!r} lacks the parameter {min(lacking)!r}")
        if suggestion.contradiction is not None:
            raise UserError(f"start {name!r}: {suggestion.contradiction}")
        if needless:
            lookup(f"parameter of start {name!r}", min(needless), suggestion.params)
        return suggestion

    @property
    def base_temporal(self) -> Temporal:
        """The operator of the base."""
        return self.started[self.base].temporal


@dataclass(frozen=True)
class LoadedStudy:
    """A study with the name of its file, the question its docstring asks, and the file; None for one made in memory."""

    name: str
    question: str
    study: Study
    path: Path | None = None

    @property
    def reference(self) -> str:
        """The name of the study or the path of its file, by which it can be loaded again."""
        return self.name if self.path is None else discovery.reference("study", self.path)

    def command(self, regime_name: str, ran: Iterable[Experiment] = (), **options: object) -> str:
        """The call of ``tada`` that searches the study in a regime; see :func:`tadaconv.regime.run_command`."""
        return run_command("study", self.reference, regime_name, ran, **options)


def load_study(name: str) -> LoadedStudy:
    """The study behind a name or a path; raises :class:`UserError`, listing the right names, nearest first."""
    module = discovery.load("study", name)
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        raise UserError(f"study {name!r} defines no STUDY = Study(...)")
    question = cleandoc(module.__doc__ or "").partition("Run: ")[0].rstrip()
    path = discovery.find("study", name)
    return LoadedStudy(path.stem, question, study, path)


def study_name(loaded: LoadedStudy, regime_name: str) -> str:
    """The name under which a storage holds a study in a regime: ``<study>-<regime>``."""
    return f"{loaded.name}-{discovery.plain_name(regime_name)}"
