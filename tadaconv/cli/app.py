"""The command ``tada`` itself, which its commands are added to."""

import re
from inspect import cleandoc
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tadaconv import __version__
from tadaconv.errors import unknown


class Group(TyperGroup):
    """Commands; a mistyped one is answered with the right ones, nearest first. Flags show no type in the help."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that ``args`` begin with."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise unknown("command", args[0], self.commands)
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            _hide_types_of_flags(command.get_params(ctx))
            # Typer keeps the line breaks of a docstring; only those between paragraphs are meant.
            command.help = re.sub(r"(?<!\n)\n(?!\n)", " ", cleandoc(command.help or ""))
        return name, command, rest

    def get_params(self, ctx: Any) -> Any:
        """The options of the group itself."""
        return _hide_types_of_flags(super().get_params(ctx))


def _hide_types_of_flags(params: Any) -> Any:
    """``params``, of which those that take no value name none in the help."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params


app = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode="rich",
    help="Run ablation tables of temporally-adaptive convolutions (TAdaConv), and report their results.\n\n"
    "Example: tada ablate context",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tadaconv {__version__}")
        raise typer.Exit


@app.callback()
def _tada(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None: ...
