"""The front door: `ferrosight COMMAND`, one command for each job, each loaded when it is asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import click
import typer
from typer.core import TyperGroup

COMMANDS: dict[str, tuple[str, str | None]] = {
    "demo": ("runtime.cli", "demo"),
    "inspect": ("runtime.cli", "inspect"),
    "run": ("runtime.cli", "run"),
    "watch": ("runtime.cli", "watch"),
    "camera": ("camera.cli", None),
    "train": ("train.cli", None),
    "export": ("export.cli", "export"),
    "build": ("export.cli", "build"),
    "evaluate": ("benchmarks.cli", "evaluate"),
    "bench": ("benchmarks.cli", "bench"),
}
"""Where each command lives: the module of its folder, and its name there; None is the whole group."""


class FrontDoor(TyperGroup):
    """A group whose commands are imported one by one, so that the line never loads the lab."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        try:
            group = typer.main.get_group(importlib.import_module(module).app)
        except ModuleNotFoundError as error:
            if error.name != module.partition(".")[0]:
                raise
            return _absent(cmd_name, module)
        group.name = cmd_name
        return group if name is None else group.commands[name]


def _absent(name: str, module: str) -> click.Command:
    """What stands for a command whose folder a wheel does not carry."""
    folder = module.partition(".")[0]

    def refuse() -> None:
        raise click.ClickException(
            f"{name}: this installation has no '{folder}' folder; it is the line's alone. "
            "Work from a source checkout with 'pip install -e .[lab]'."
        )

    return click.Command(name, callback=refuse, help=f"(needs a source checkout: '{folder}' is not installed)")


app = typer.Typer(
    cls=FrontDoor,
    help="Inspect steel while it is being made and tested.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def front_door(
    show_version: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True),
) -> None:
    """Inspect steel while it is being made and tested.

    A newcomer starts with 'ferrosight demo'.
    """
    if show_version:
        try:
            typer.echo(version("ferrosight"))
        except PackageNotFoundError:
            typer.echo("ferrosight, from a checkout that is not installed")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a known error becomes one sentence and exit code 2."""
    known = (
        "CameraError",
        "ConfigError",
        "BundleError",
        "EngineError",
        "JournalError",
        "DataError",
        "WireError",
    )
    try:
        app(args=arguments, standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if type(error).__name__ not in known:
            raise
        typer.secho(f"ferrosight: {error}", err=True, fg="red")
        sys.exit(2)


if __name__ == "__main__":
    main()
