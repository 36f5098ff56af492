"""Parameters of trials and the operators that they make, in words."""

from collections.abc import Callable, Iterable
from typing import Any

from tadaconv.regime import run_command
from tadaconv.spec import Experiment, Rival, TAda, Temporal
from tadaconv.text import listed


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
    """The parameters of a line of ``trials.csv``: ``stage2 yes, reduction 4``."""
    prefix = "params_"
    return ", ".join(
        f"{str(name).removeprefix(prefix)} {value}"
        for name, value in trial.items()
        if str(name).startswith(prefix) and value != ""
    )


def in_words(temporal: Temporal, base: Temporal) -> str:
    """The operator that is plugged in, by its differences from the base of the study."""
    if temporal == base:
        return "as the base"
    if temporal is None:
        return "nothing plugged in (TSN)"
    if type(base) is type(temporal):
        return listed(_differences(_flat(temporal.model_dump()), _flat(base.model_dump())))
    neutral = TAda() if isinstance(temporal, TAda) else Rival(name=temporal.name)
    name = "TAda" if isinstance(temporal, TAda) else temporal.name
    changes = _differences(_flat(temporal.model_dump()), _flat(neutral.model_dump()))
    return f"{name}: {listed(changes)}" if changes else name


def _differences(values: dict[str, Any], others: dict[str, Any]) -> list[str]:
    differences = []
    for name in dict.fromkeys([*values, *others]):
        value, other = values.get(name), others.get(name)
        if value == other:
            continue
        if isinstance(value, bool):
            differences.append(f"{'with' if value else 'without'} {name}")
        else:
            label, words = _WORDS.get(name, (name, value_in_words))
            differences.append(f"{label} {words(value)} instead of {words(other)}".lstrip())
    return differences


def _stages(stages: Any) -> str:
    """``res4``, ``res2 and res4``, ``res2 to res5``."""
    stages = sorted(stages)
    if len(stages) > 2 and stages == list(range(stages[0], stages[-1] + 1)):
        return f"res{stages[0]} to res{stages[-1]}"
    return listed([f"res{stage}" for stage in stages])


def _share(share: Any) -> str:
    return "all channels" if share == 1 else f"{100 * share:.3g} % of the channels"


_WORDS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "placement stages": ("in", _stages),
    "placement share": ("on", _share),
    "placement blocks": ("in blocks:", value_in_words),
    "placement convs": ("in convolutions:", value_in_words),
}
"""The label of a difference and the words of its values, by its path in the operator's spec."""


def _flat(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Leaves by the words that lead to them: ``context kernels``."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        words = f"{above} {name}".strip().replace("_", " ").removesuffix(" kind")
        leaves |= _flat(value, words) if isinstance(value, dict) else {words: value}
    return leaves


def confirm_command(study: str, regime: str, ran: Iterable[Experiment] = ()) -> str:
    """The command that runs the best again, over several seeds; see :func:`tadaconv.regime.run_command`."""
    options: dict[str, object] = {"regime": None} if regime == "quick" else {}  # the default
    return run_command("study", study, regime, ran, **options, confirm=3, seeds=3)
