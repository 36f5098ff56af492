"""From the process to a command, and from what it raises to an exit status and one line."""

import shlex
import signal
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

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
        words = list(sys.argv[1:] if arguments is None else arguments)
        with called_with(shared_options(words)):
            status = _run(words)
        if arguments is None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is printed: one more Ctrl-C ends the process at once
        if why := output.lost():
            status = complain(f"standard output could not be written: {why}; results and reports are kept", status or 1)
    sys.exit(status)


def _refuse_empty_folder(arguments: Sequence[str]) -> None:
    """Raise :class:`UserError` for ``--out ""``, as from a variable that is not set: it would be the current folder."""
    if "--out=" in arguments or ("--out", "") in pairwise(arguments):
        raise UserError("--out is empty; name a folder")


def _refuse_passwords(arguments: Sequence[str]) -> None:
    """Raise :class:`UserError` if the URL of a storage holds a password, before anything repeats the arguments."""
    for argument in arguments:
        if "://" in argument:
            from tadaconv.execution.location import refuse_password

            refuse_password(argument.partition("=")[2] if argument.startswith("--") else argument)


def _run(arguments: list[str]) -> int:
    try:
        _refuse_passwords(arguments)
        _refuse_empty_folder(arguments)
        _require_folder()
        command = typer.main.get_command(app)
        status = command.main(arguments or ["--help"], prog_name="tada", standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    except _WrongCall as error:
        message: str = error.format_message()  # type: ignore[attr-defined]
        return complain(f"{message.rstrip('.')}; see: {_command_path(arguments)} --help", 2)
    except ValidationError as error:
        return complain(describe(error), 2)
    except UserError as error:
        return complain(str(error), 2)
    except RunError as error:
        return complain(str(error), 1)
    except PermissionError as error:  # of a path that the call names, under a folder that may not be entered
        if error.filename is None:
            raise
        return complain(f"{error.filename}: {error.strerror}; change its permissions, or name another path", 2)
    if status == _INTERRUPTED:  # typer turns Ctrl-C into this status or into Abort, by version
        again = shlex.join(["tada", *arguments])
        resumes = arguments[:1] in (["ablate"], ["study"], ["worker"], ["features"]) or arguments[:2] in (
            ["data", "check"], ["data", "pack"],
        )  # fmt: skip
        kept = "finished work is kept, resume with" if resumes else "start again with"
        return complain(f"stopped; {kept}: {again}", status)
    return int(status)


def _command_path(arguments: Sequence[str]) -> str:
    """The command that is called, such as ``tada data check``."""
    path: list[str] = ["tada"]
    command: Any = typer.main.get_command(app)
    for word in arguments:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            break
        path.append(word)
    return " ".join(path)


def _require_folder() -> None:
    """Raise :class:`UserError` if the current folder is gone."""
    try:
        Path.cwd()
    except OSError as error:
        raise UserError(f"the current folder cannot be used: {error.strerror}; change to another one") from error


def complain(message: str, status: int) -> int:
    """Print one line to stderr that says what is wrong; returns ``status``."""
    from tadaconv.text import visible

    print("tada:", visible(" ".join(message.splitlines())), file=sys.stderr)
    return status
