"""The command that changes a station's bundle while it runs: swap."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from runtime.triggered.cli import AsJson, OwnKey, ServerKey, Station, open_client, show_answer

app = typer.Typer(no_args_is_help=True)


@app.command()
def swap(
    endpoint: Annotated[str, typer.Argument(help="The station's swap endpoint.")],
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="Its folder, from the station's folder of bundles on.")
    ],
    name: Annotated[str | None, typer.Option(help="Who asks.", show_default="your user name")] = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    station: Station = None,
    timeout_s: Annotated[
        float, typer.Option(min=0.1, help="Longest wait for an answer, in seconds; then it is asked again.")
    ] = 300.0,
    server_key: ServerKey = None,
    own_key: OwnKey = None,
    as_json: AsJson = False,
) -> None:
    """Have a station that runs go on with another bundle, without losing a frame or a picture.

    The station opens the bundle beside the one that serves, warms it and runs its golden frames; then it changes over
    between two batches, or two pictures. Where anything is wrong the old bundle serves on, and the message says what. A
    picture that was scored keeps its score.

    Exit code 0 when the new bundle serves, 1 when the old one serves on, 2 when the station does not answer.
    """
    who = (getpass.getuser() if name is None else name).strip()
    if not who:
        raise typer.BadParameter("found nothing, expected some words", param_hint="--name")
    with open_client(endpoint, station, timeout_s, server_key, own_key) as client:
        answer = client.swap(bundle, who, reason.strip())
    show_answer(answer, as_json)
    sys.exit(0 if answer.message.kind == "swapped" else 1)
