"""The commands for a triggered station: score, override."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from runtime.triggered.client import Answer, RequestClient

app = typer.Typer(no_args_is_help=True)

ENDPOINT = "tcp://127.0.0.1:5558"

SHOWN = 40
"""Characters of a word that no request takes."""

Request = Annotated[str, typer.Option(help="The station's request endpoint.")]
Station = Annotated[str | None, typer.Option(help="Its name, which it then checks.", show_default="whoever is there")]
TimeoutS = Annotated[
    float, typer.Option(min=0.1, help="Longest wait for an answer, in seconds; then it is asked again.")
]
ServerKey = Annotated[Path | None, typer.Option(help="The station's public key file, where it encrypts.")]
OwnKey = Annotated[Path | None, typer.Option(help="Your own secret key file, where the station lists its clients.")]
AsJson = Annotated[bool, typer.Option("--json", help="Messages as JSON lines, as they are on the wire.")]


@app.command()
def score(
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="Picture files.")],
    request: Request = ENDPOINT,
    station: Station = None,
    timeout_s: TimeoutS = 30.0,
    server_key: ServerKey = None,
    own_key: OwnKey = None,
    as_json: AsJson = False,
) -> None:
    """Send pictures to a triggered station and show what it says; the facts of PICTURE.toml go with each.

    A picture that was scored before is not scored again: the same message comes back.

    Exit code 0 when every picture was scored, 1 when some were missed, 2 when the station refused.
    """
    from runtime.errors import DataError
    from runtime.facts import Facts, read_facts

    missed = False
    with open_client(request, station, timeout_s, server_key, own_key) as client:
        for picture in pictures:
            try:
                data = picture.read_bytes()
            except OSError as error:
                raise DataError(f"picture {picture}: {error.strerror}, expected a file. Check the path.") from error
            facts = read_facts(picture, Facts()).model_dump(exclude_defaults=True)
            answer = client.score(data, str(picture), facts)
            missed |= answer.message.kind != "scored"
            show_answer(answer, as_json)
    sys.exit(1 if missed else 0)


@app.command()
def override(
    sequence: Annotated[int, typer.Argument(min=0, help="Number of the scored message; 'ferrosight watch' shows it.")],
    verdict: Annotated[str, typer.Argument(help="accepted or rejected.")],
    name: Annotated[str, typer.Option(help="Who says so.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    request: Request = ENDPOINT,
    station: Station = None,
    timeout_s: TimeoutS = 30.0,
    server_key: ServerKey = None,
    own_key: OwnKey = None,
    as_json: AsJson = False,
) -> None:
    """Put an operator's word over a station's verdict; both stay in the journal, and the last word holds."""
    allowed: Any = verdict
    if verdict not in ("accepted", "rejected"):
        raise typer.BadParameter(f"found {verdict!r}, expected accepted or rejected", param_hint="VERDICT")
    for option, text in (("--name", name), ("--reason", reason)):
        if not text.strip():
            raise typer.BadParameter("found nothing, expected some words", param_hint=option)
    with open_client(request, station, timeout_s, server_key, own_key) as client:
        show_answer(client.override(sequence, allowed, name.strip(), reason.strip()), as_json)


@contextlib.contextmanager
def open_client(
    endpoint: str, station: str | None, timeout_s: float, server_key: Path | None, own_key: Path | None
) -> Iterator[RequestClient]:
    """What asks a station; see `RequestClient`. Words that no request takes are an error of the command line."""
    from pydantic import ValidationError

    from runtime.delivery.sockets import CurveClient
    from runtime.triggered.client import RequestClient

    curve = None if server_key is None else CurveClient(server_key, own_key)
    with RequestClient(endpoint, station, timeout_s=timeout_s, curve=curve) as client:
        try:
            yield client
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            found, fault = str(first["input"])[:SHOWN], f"{first['msg'][:1].lower()}{first['msg'][1:]}"
            what = " ".join(map(str, first["loc"][:1])) or "the request"
            raise typer.BadParameter(f"found {found!r}, but {fault}", param_hint=what) from error


def show_answer(answer: Answer, as_json: bool) -> None:
    """One message, as `watch` shows it, and whether it was there before."""
    from rich.console import Console

    from runtime.delivery.client import Received
    from runtime.messages import json_of
    from runtime.watch.screen import line_of

    if as_json:
        typer.echo(json.dumps({"known": answer.known, "message": json.loads(json_of(answer.message))}))
        return
    line = line_of(Received(answer.message, (), recovered=False))
    if answer.known:
        line.append("  known before", style="yellow")
    Console().print(line, highlight=False, soft_wrap=True)
