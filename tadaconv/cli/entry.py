"""From the process to a command, and from what it raises to an exit status and one line."""

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
        status = _status(list(sys.argv[1:] if arguments is None else arguments))
        if arguments is None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is said: one more Ctrl-C ends what is left of the end
        if why := output.lost():
            status = complain(f"standard output could not be written: {why}; results and reports are kept", status or 1)
    sys.exit(status)


def _status(arguments: list[str]) -> int:
    with called_with(shared_options(arguments)):
        return _run(arguments)


def _refuse_passwords(arguments: Sequence[str]) -> None:
    """Raise :class:`UserError` if the URL of a storage holds a password, before anything repeats the arguments."""
    for argument in arguments:
        if "://" in argument:
            from tadaconv.execution.location import refuse_password

            refuse_password(argument.partition("=")[2] if argument.startswith("--") else argument)


def _run(arguments: list[str]) -> int:
    try:
        _refuse_passwords(arguments)
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
        again = shlex.join(["tada", *arguments])
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
