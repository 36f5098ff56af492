"""Parameters and operators in words."""

from typing import Any

from tadaconv.reporting.words import listed
from tadaconv.spec import Rival, TAda, Temporal


def value_in_words(value: Any) -> str:
    """A value of a parameter: *yes*, *no*, *none*, a number to four digits, or the text it is."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case list() | tuple():
            return f"({', '.join(map(value_in_words, value))})"
        case _:
            return str(value)


def parameters_in_words(trial: dict[Any, Any]) -> str:
    """The parameters of a line of ``trials.csv``: ``stage2=yes, reduction=4``."""
    prefix = "params_"
    return ", ".join(
        f"{str(name).removeprefix(prefix)}={value}"
        for name, value in trial.items()
        if str(name).startswith(prefix) and value != ""
    )


def in_words(temporal: Temporal, base: Temporal) -> str:
    """What is plugged in, as it differs from the base of the study."""
    if temporal == base:
        return "as the base"
    if temporal is None:
        return "nothing plugged in (TSN)"
    if type(base) is type(temporal):
        return listed(_differences(_flat(temporal.model_dump()), _flat(base.model_dump())))
    neutral = TAda() if isinstance(temporal, TAda) else Rival(name=temporal.name)
    name = "TAda" if isinstance(temporal, TAda) else temporal.name
    changes = _differences(_flat(temporal.model_dump()), _flat(neutral.model_dump()))
    return f"{name} with {listed(changes)}" if changes else name


def _differences(values: dict[str, Any], others: dict[str, Any]) -> list[str]:
    found = []
    for name in dict.fromkeys([*values, *others]):
        value, other = values.get(name), others.get(name)
        if value == other:
            continue
        if isinstance(value, bool):
            found.append(f"{'with' if value else 'without'} {name}")
        else:
            found.append(f"{name} {value_in_words(value)} instead of {value_in_words(other)}")
    return found


def _flat(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Leaves by the words that lead to them: ``context kernels``."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        words = f"{above} {name}".strip().replace("_", " ").removesuffix(" kind")
        leaves |= _flat(value, words) if isinstance(value, dict) else {words: value}
    return leaves
