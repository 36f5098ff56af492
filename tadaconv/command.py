"""Command lines in messages: complete, quoted for a shell, and with the shared options of the current call."""

import shlex
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_RUNS = ("regime", "data", "storage", "out")
TAKES: dict[str, tuple[str, ...]] = {
    "ablate": _RUNS,
    "study": _RUNS,
    "plan": _RUNS,
    "report": ("regime", "storage", "out"),
    "features": ("regime", "storage"),
    "worker": ("storage", "out"),
    "merge": ("storage", "out"),
    "dashboard": ("storage", "out"),
    "export": ("storage",),
    "check": ("regime",),
    "data check": ("out",),
    "cost": ("regime",),
}
"""By command, the options that all of them share: regime and paths."""

_given: ContextVar[Mapping[str, str] | None] = ContextVar("given", default=None)


def shared_options(arguments: Sequence[str]) -> dict[str, str]:
    """The options of :data:`TAKES` in the arguments of a call of ``tada``, by name; the last of each counts."""
    options: dict[str, str] = {}
    named = " ".join(arguments[:2])  # of two words, as data check
    for name in TAKES.get(named) or TAKES.get(arguments[0], ()) if arguments else ():
        option = f"--{name}"
        for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
            if argument == option and following is not None:
                options[name] = following
            elif argument.startswith(f"{option}="):
                options[name] = argument.removeprefix(f"{option}=")
    return options


@contextmanager
def called_with(options: Mapping[str, str]) -> Generator[None]:
    """Add ``options``, such as those of :func:`shared_options`, to the commands that are advised meanwhile."""
    token = _given.set(dict(options))
    try:
        yield
    finally:
        _given.reset(token)


def given(option: str) -> str | None:
    """The value of an option of :data:`TAKES` in the present call; None where it has none."""
    return (_given.get() or {}).get(option)


def command(name: str, *arguments: object, **options: object) -> str:
    """A call of ``tada`` to be pasted into a shell, for example ``tada ablate 'my table.py' --regime proxy --seeds 3``.

    What the present call was given of :data:`TAKES` is added as far as the command takes it.

    Args:
        name: of the command, for example ``ablate`` or ``data check``.
        arguments: positional ones, names and paths.
        options: values by the option's name, ``executor_option`` for ``--executor-option``; a list repeats the option,
            and None leaves it out, even if the call has it.
    """
    shared = {option: value for option, value in (_given.get() or {}).items() if option in TAKES.get(name, ())}
    words = ["tada", *name.split()]
    for argument in map(str, arguments):
        words.append(f"./{argument}" if argument.startswith("-") else argument)
    for option, value in {**shared, **options}.items():
        for one in value if isinstance(value, list | tuple) else [] if value is None else [value]:
            words += [f"--{option.replace('_', '-')}", str(one)]
    return shlex.join(words)


REQUIREMENTS = {
    "video": "av>=14.1",
    "postgres": "psycopg[binary]>=3.2",
    "ray": "ray>=2.40",
    "slurm": "submitit>=1.5",
    "dashboard": "optuna-dashboard>=0.21",
    "parquet": "pyarrow>=18",
    "tensorboard": "tensorboard>=2.19",
    "timm": "timm",
    "torchvision": "torchvision",
}
"""By extra, the requirement it installs, which works in a checkout and with an installed package."""


def install(extra: str, *others: str) -> str:
    """The command that installs what ``extra`` needs, together with the requirements ``others``."""
    return shlex.join(["pip", "install", REQUIREMENTS[extra], *others])
