"""The front door: one command, a subcommand for each job.

Each folder brings its own commands; what is heavy (torch, an inference backend, OpenCV) is imported inside the
command that needs it, so that the line never loads the lab.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from camera.base import CameraError
from runtime.errors import (
    BundleError,
    ConfigError,
    DataError,
    EngineError,
    JournalError,
    TrainingError,
    WireError,
)

FOLDERS: dict[str, str | None] = {
    "runtime": None,
    "camera": "camera",
    "train": "train",
    "export": None,
    "benchmarks": None,
}
"""Whose `cli` module brings commands, and the name they stand under; None puts them at the front."""

KNOWN_ERRORS = (
    BundleError,
    CameraError,
    ConfigError,
    DataError,
    EngineError,
    JournalError,
    TrainingError,
    WireError,
)
"""What can be wrong with a bundle, a camera, a file: one sentence for the user, no traceback."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        typer.echo(version("ferrosight"))
    except PackageNotFoundError:
        typer.echo("ferrosight, from a checkout that is not installed")
    raise typer.Exit


@app.callback()
def front_door(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Inspect steel while it is being made and tested.

    A newcomer starts with 'ferrosight demo'.
    """


def load_commands() -> None:
    """Add every folder's commands; an installed wheel carries the line without 'train'."""
    for folder, name in FOLDERS.items():
        if importlib.util.find_spec(folder) and importlib.util.find_spec(f"{folder}.cli"):
            app.add_typer(importlib.import_module(f"{folder}.cli").app, name=name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a known error becomes one sentence and exit code 2."""
    load_commands()
    try:
        app(args=arguments, prog_name="ferrosight")
    except KNOWN_ERRORS as error:
        typer.secho(f"ferrosight: {error}", err=True, fg="red")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
