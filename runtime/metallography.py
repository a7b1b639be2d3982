"""`ferrosight grain-size`: ASTM E112 on a mask of grain boundaries, as one would count by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command("grain-size")
def grain_size(
    mask: Annotated[Path, typer.Argument(help="Picture of the boundaries: white (above 127) on black.")],
    mm_per_px: Annotated[float, typer.Option(help="Scale of the picture.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the measures as JSON.")] = False,
) -> None:
    """Count grains and intercepts on a mask of grain boundaries: ASTM G by three procedures of E112.

    Planimetric (Jeffries), a grid of test lines (Heyn) and three concentric circles (Abrams), each with its 95 %
    interval from the spread between fields or lines.
    """
    from camera.base import CameraError
    from camera.images import read_grey
    from runtime.errors import DataError
    from runtime.grain_size import measure_all

    try:
        pixels = read_grey(mask)
    except CameraError as error:
        raise DataError(str(error)) from error
    measures = measure_all(pixels > 127, mm_per_px)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in measures], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("procedure", "ASTM G", "+-", "counted", "fields or lines", "mean intercept in um")
    for each in measures:
        table.add_row(
            each.procedure,
            f"{each.grain_number:.2f}",
            f"{each.interval:.2f}",
            f"{each.counted:.0f}",
            f"{each.fields}",
            f"{1000 * each.mean_intercept_mm:.1f}",
        )
    Console().print(table)
