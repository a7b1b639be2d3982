"""Commands for cameras: which there are, and what one delivers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel

from camera.base import CameraError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports] - Python 3.10 alone has it

if TYPE_CHECKING:
    from camera.config import CameraSettings
    from camera.survey import Survey

app = typer.Typer(no_args_is_help=True, help="Look at cameras: which there are, and what one delivers.")

_VIDEO_DEVICES = Path("/sys/class/video4linux")


@app.command("list")
def list_cameras(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """The kinds of cameras with their settings, and the video devices of this machine."""
    from camera.open import DRIVERS, settings_class

    kinds = {kind: _keys(settings_class(driver)) for kind, driver in DRIVERS.items()}
    devices = {f"/dev/{path.name}": (path / "name").read_text().strip() for path in _video_devices()}
    if as_json:
        typer.echo(json.dumps({"kinds": kinds, "devices": devices}, indent=2))
    else:
        _print_list(kinds, devices)


@app.command()
def show(
    camera: Annotated[
        str,
        typer.Argument(metavar="CONFIG|KIND", help="A TOML file with a camera or a whole line, or a kind of camera."),
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; the value as in TOML. May be repeated."),
    ] = None,
    station: Annotated[str | None, typer.Option(help="Which station's camera, if there are several.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="How many frames to grab.")] = 10,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, help="Longest wait for a frame, in s.")] = 10.0,
    out: Annotated[Path | None, typer.Option(help="Folder for the frames as PNG; none are written without it.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Grab frames as the line does, and print rate, size, grey levels and losses.

    Examples: 'ferrosight camera show synthetic --out out/frames', 'ferrosight camera show line.toml',
    'ferrosight camera show opencv --set device=/dev/video0 --frames 100'.

    Exit code 0 when every frame came, 1 when some were lost, 2 when the camera could not be opened.
    """
    from camera.survey import survey

    figures = survey(_settings(camera, changes or [], station), frames, timeout_s, out)
    if as_json:
        typer.echo(json.dumps(figures.to_dict(), indent=2))
    else:
        _print_survey(figures)
    raise typer.Exit(1 if figures.frames_lost else 0)


def _settings(camera: str, changes: list[str], station: str | None) -> CameraSettings:
    """The settings that the user means."""
    from camera.config import camera_settings
    from camera.open import DRIVERS

    values: dict[str, Any] = {"kind": camera} if camera in DRIVERS else _table(Path(camera), station)
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise CameraError(f"--set: found {change!r}, expected KEY=VALUE. Write --set {change}=...")
        *tables, last = key.strip().split(".")
        place = values
        for table in tables:
            place = place.setdefault(table, {})
        place[last] = _toml_value(value)
    return camera_settings(values)


def _table(path: Path, station: str | None) -> dict[str, Any]:
    """The one camera's table in a TOML file: under [camera], in a station, or the file itself."""
    try:
        file = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CameraError(
            f"{path}: found neither a kind of camera nor a readable file ({error.strerror}), expected one of them. "
            "'ferrosight camera list' shows the kinds."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CameraError(f"{path}: found no valid TOML ({error}), expected some. Mend that line.") from error
    if "stations" not in file:
        return dict(file.get("camera", file))
    found = {each.get("name", "?"): each for each in file["stations"]}
    chosen = found if station is None else {name: found[name] for name in found if name == station}
    if len(chosen) != 1:
        raise CameraError(
            f"{path}: found the stations {', '.join(found)}, expected to be told one of them. Use --station."
        )
    return dict(next(iter(chosen.values())).get("camera", {}))


def _keys(settings: type[BaseModel], table: str = "") -> dict[str, dict[str, Any]]:
    """Every key that a kind of camera knows, those of an inner table as `table.key`."""
    keys: dict[str, dict[str, Any]] = {}
    for name, field in settings.model_fields.items():
        default = None if field.is_required() else field.default
        if isinstance(default, BaseModel):
            keys |= _keys(type(default), f"{table}{name}.")
        elif name != "kind":
            keys[table + name] = {
                "default": default,
                "required": field.is_required(),
                "meaning": field.description or "",
            }
    return keys


def _toml_value(text: str) -> Any:
    """A value as TOML writes it; what is no TOML is a string, so that paths need no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _video_devices() -> list[Path]:
    return sorted(_VIDEO_DEVICES.iterdir()) if _VIDEO_DEVICES.is_dir() else []


def _print_list(kinds: dict[str, dict[str, Any]], devices: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for kind, keys in kinds.items():
        table = Table(title=f'kind = "{kind}"', title_justify="left", title_style="bold", expand=True)
        table.add_column("key", no_wrap=True)
        table.add_column("default", no_wrap=True)
        table.add_column("meaning", ratio=1)
        for key, field in keys.items():
            default = "needed" if field["required"] else json.dumps(field["default"])
            table.add_row(key, "" if default == "null" else default, field["meaning"])
        console.print(table)
    for device, name in devices.items():
        console.print(f"{device}  {name}")
    if not devices:
        console.print("No video device on this machine (/dev/video*).")


def _print_survey(figures: Survey) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(show_header=False, title=f"camera {figures.camera}", title_justify="left", title_style="bold")
    rate = "" if figures.rate_hz is None else f"{figures.rate_hz:.1f} frames/s"
    table.add_row("frames", f"{figures.frames_grabbed} grabbed, {figures.frames_lost} lost")
    table.add_row("rate", rate)
    table.add_row("size", f"{figures.height_px} x {figures.width_px} px")
    table.add_row("delay", f"{figures.delay_ms:.2f} ms from end of exposure, median")
    table.add_row(
        "grey",
        f"mean {figures.grey_mean:.1f}, deviation {figures.grey_deviation:.1f}, "
        f"{figures.grey_min} to {figures.grey_max}",
    )
    table.add_row("clipped", f"{figures.dark_ratio:.2%} at or below 2, {figures.bright_ratio:.2%} at or above 253")
    for lost in figures.lost:
        table.add_row("lost", f"[{lost.first_index}, {lost.stop_index}) {lost.reason}: {lost.detail}")
    if figures.pictures:
        table.add_row("pictures", figures.pictures)
    console.print(table)
