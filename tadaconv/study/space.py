"""The search space of a study: calls ``suggest`` with sampled, given or enumerated parameters."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import ValidationError

from tadaconv.errors import UserError
from tadaconv.spec import Rival, TAda, Temporal, describe
from tadaconv.text import one_line

Suggest = Callable[[optuna.Trial], Temporal]
"""Makes the operator from a trial's parameters; never trains."""

MAX_LEAVES = 20_000
"""How many configurations of a space are enumerated to find a new one."""


@dataclass(frozen=True)
class Suggestion:
    """The operator that ``suggest`` made from a trial's parameters.

    ``contradiction`` is the reason if they describe no configuration at all, in any regime; ``temporal`` is None then.
    """

    temporal: Temporal
    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    contradiction: str | None = None


class OutsideSpaceError(UserError):
    """A parameter has a value that the space does not have."""


class _Scripted:
    """Stands in for a trial: its parameters are chosen by ``draw``, and nothing is sampled."""

    def __init__(self, draw: Callable[[str, BaseDistribution], Any]) -> None:
        self._draw = draw
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if name not in self.params:
            self.params[name] = self._draw(name, distribution)
            self.distributions[name] = distribution
        return self.params[name]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._suggest(name, FloatDistribution(low, high, log=log, step=step)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._suggest(name, IntDistribution(low, high, log=log, step=step)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._suggest(name, CategoricalDistribution(choices))


def suggested(suggest: Suggest, trial: Any) -> Suggestion:
    """Call ``suggest`` with ``trial``; its errors become a :class:`UserError` of one line.

    If the operator or the rival refuses its arguments, that is no error, but a contradiction.
    """
    try:
        temporal = suggest(cast(optuna.Trial, trial))
    except OutsideSpaceError:
        raise
    except (UserError, ValidationError) as error:
        why = describe(error) if isinstance(error, ValidationError) else str(error)
        return Suggestion(None, dict(trial.params), dict(trial.distributions), contradiction=why)
    except Exception as error:
        reason = one_line(error)
        raise UserError(f"suggest failed with {trial.params}: {type(error).__name__}: {reason}") from error
    if not (temporal is None or isinstance(temporal, TAda | Rival)):
        raise UserError(f"suggest returns a TAda, a Rival or None, not {temporal!r}")
    return Suggestion(temporal, dict(trial.params), dict(trial.distributions))


def walk(suggest: Suggest, fixed: Mapping[str, Any] | None = None, limit: int = MAX_LEAVES) -> Iterator[Suggestion]:
    """Every configuration of a space, at most ``limit``; of a continuous parameter the two ends alone.

    Args:
        suggest: of a study.
        fixed: parameters that keep one value. Raises :class:`UserError` for a value the space does not have.
        limit: how many parameter combinations to go through; those that contradict themselves are left out.
    """
    path: list[int] = []
    for _ in range(limit):
        draw = _Path(path, fixed or {})
        suggestion = suggested(suggest, _Scripted(draw))
        if suggestion.contradiction is None:
            yield suggestion
        path = [*path, *[0] * len(draw.sizes)][: len(draw.sizes)]
        while path and path[-1] + 1 >= draw.sizes[len(path) - 1]:
            path.pop()
        if not path:
            return
        path[-1] += 1


class _Path:
    """Draws the values at ``path``, a choice a parameter that is not fixed, and the first ones beyond its end."""

    def __init__(self, path: Sequence[int], fixed: Mapping[str, Any]) -> None:
        self._path, self._fixed = path, fixed
        self.sizes: list[int] = []

    def __call__(self, name: str, distribution: BaseDistribution) -> Any:
        if name in self._fixed:
            return fitting(name, self._fixed[name], distribution)
        choices, depth = _choices(distribution), len(self.sizes)
        self.sizes.append(len(choices))
        return choices[self._path[depth] if depth < len(self._path) else 0]


def _choices(distribution: BaseDistribution) -> Sequence[Any]:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return choices
        case IntDistribution(low=low, high=high, step=step):
            return range(low, high + 1, step)
        case FloatDistribution(low=low, high=high, step=float(step)):
            return [low + index * step for index in range(round((high - low) / step) + 1)]
        case FloatDistribution(low=low, high=high):
            return [low, high]
    raise AssertionError(distribution)


def replay(suggest: Suggest, params: Mapping[str, Any]) -> Suggestion:
    """Call ``suggest`` with ``params``, and with the first value of every parameter that they lack.

    Raises :class:`UserError` for a value the space does not have.
    """
    return suggested(suggest, _Scripted(_Path([], params)))


def fitting(name: str, value: Any, distribution: BaseDistribution) -> Any:
    """``value`` if the distribution has it, else :class:`OutsideSpaceError`. Unlike in Python, True is not 1."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            fits = any(type(choice) is type(value) and choice == value for choice in choices)
            wanted = f"one of {list(choices)!r}"
        case IntDistribution(low=low, high=high, step=step):
            fits = type(value) is int and value in range(low, high + 1, step)
            wanted = f"a whole number from {low} to {high}" + (f" in steps of {step}" if step > 1 else "")
        case FloatDistribution(low=low, high=high):
            fits = is_number(value) and low <= value <= high
            wanted = f"a number from {low} to {high}"
        case _:
            raise AssertionError(distribution)
    if not fits:
        raise OutsideSpaceError(f"parameter {name!r} is {wanted}, not {value!r}")
    return value


def spec_json(temporal: Temporal) -> str:
    """An operator as text: equal text, equal configuration."""
    return "" if temporal is None else temporal.model_dump_json()


def params_text(params: Mapping[str, Any]) -> str:
    """Parameters as text: equal text, equal parameters. Unlike in Python, True is not 1."""
    return json.dumps(params, sort_keys=True, default=repr)


def is_number(value: object) -> bool:
    """Whether ``value`` is an int or a float; True is neither."""
    return isinstance(value, int | float) and not isinstance(value, bool)
