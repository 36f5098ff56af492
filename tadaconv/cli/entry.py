"""From the process to a command, and from what it raises to an exit status and one line."""

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import typer
from pydantic import ValidationError

from tadaconv.cli.app import app
from tadaconv.cli.output import lasting_output
from tadaconv.command import called_with, shared_options
from tadaconv.errors import RunError, UserError
from tadaconv.spec import describe

# Typer brings its own click or uses the installed one, by version; its public exception leads to the right base.
_WrongCall: type[Exception] = typer.BadParameter.__mro__[1]

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``tada`` on ``arguments``, by default those of the process, and exit with its status."""
    with lasting_output() as output:
        if arguments is None:
            _hide_password()
        status = _status(list(sys.argv[1:] if arguments is None else arguments))
        if arguments is None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is said: one more Ctrl-C ends what is left of the end
        if why := output.lost():
            status = complain(f"standard output could not be written: {why}; results and reports are kept", status or 1)
    sys.exit(status)


def _hide_password() -> None:
    """Start over without the password that a URL among the arguments holds: who lists processes would read it."""
    if not any("://" in argument for argument in sys.argv[1:]):
        return
    from tadaconv.execution.location import hide_password

    try:
        hidden, environment = hide_password(sys.argv[1:])
    except UserError as error:
        sys.exit(complain(str(error), 2))
    if environment:
        interpreter = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv[1:])]
        os.execve(sys.executable, [*interpreter, *hidden], {**os.environ, **environment})


def _status(arguments: list[str]) -> int:
    shown = _without_password(arguments)
    with called_with(shared_options(shown)):
        return _run(arguments, shown)


def _without_password(arguments: list[str]) -> list[str]:
    """What can be shown of the arguments of a call."""
    if not any("://" in argument for argument in arguments):
        return arguments
    from tadaconv.execution.location import hide_password

    try:
        return hide_password(arguments)[0]
    except UserError:  # two passwords, which the command itself refuses
        return [argument for argument in arguments if "://" not in argument]


def _run(arguments: list[str], shown: list[str]) -> int:
    try:
        _require_folder()
        command = typer.main.get_command(app)
        status = command.main(arguments or ["--help"], prog_name="tada", standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    except _WrongCall as error:
        message: str = error.format_message()  # type: ignore[attr-defined]
        context = getattr(error, "ctx", None)
        return complain(f"{message.rstrip('.')}; see: {context.command_path if context else 'tada'} --help", 2)
    except ValidationError as error:
        return complain(describe(error), 2)
    except UserError as error:
        return complain(str(error), 2)
    except RunError as error:
        return complain(str(error), 1)
    if status == _INTERRUPTED:  # typer turns Ctrl-C into this status or into Abort, by version
        again = shlex.join(["tada", *shown])
        goes_on = arguments[:1] in (["ablate"], ["study"], ["worker"]) or arguments[:2] in (
            ["data", "check"], ["data", "pack"],
        )  # fmt: skip
        kept = "what has finished is kept, go on with" if goes_on else "start again with"
        return complain(f"stopped; {kept}: {again}", status)
    return int(status)


def _require_folder() -> None:
    """Raise :class:`UserError` if the current folder is gone."""
    try:
        Path.cwd()
    except OSError as error:
        raise UserError(f"the current folder cannot be used: {error.strerror}; change to another one") from error


def complain(message: str, status: int) -> int:
    """Say in one line of stderr what is wrong; returns ``status``."""
    from tadaconv.text import visible

    print("tada:", visible(" ".join(message.splitlines())), file=sys.stderr)
    return status
