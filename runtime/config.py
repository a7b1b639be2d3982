"""The configuration of a line: one TOML file, checked whole before anything starts."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from camera.config import CameraSettings, GrabberSettings, RingSettings
from runtime.cuda import DEFAULT_API, CudaApi
from runtime.errors import ConfigError
from runtime.facts import Facts
from runtime.spec import Arithmetic, Precision
from runtime.triggered.settings import TriggerSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports] - Python 3.10 alone has it


class Settings(BaseModel):
    """Frozen, and a key that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CurveSettings(Settings):
    """CURVE encryption of a station's sockets: files as `zmq.auth.create_certificates` writes them."""

    server_secret_key: Path = Field(description="the station's own secret key file")
    client_public_keys: Path | None = Field(
        default=None,
        description="folder of the public keys of those who may subscribe; unset: all who know the station's",
    )


class WireSettings(Settings):
    """Where a station publishes."""

    publish: str = Field(default="tcp://127.0.0.1:5556", description="PUB endpoint to bind; every result, live")
    replay: str = Field(default="tcp://127.0.0.1:5557", description="ROUTER endpoint to bind; any range, again")
    heartbeat_s: float = Field(default=1.0, gt=0, description="silence after which a heartbeat is sent")
    send_queue: int = Field(
        default=10_000, ge=1, description="messages held for each slow subscriber; more are left to the replay"
    )
    linger_s: float = Field(
        default=2.0, ge=0, description="how long the replay stays open after the run's end, for those who lag behind"
    )
    curve: CurveSettings | None = None


class SwapSettings(Settings):
    """Changing the bundle while a station runs; without this table a station keeps the bundle that it started with.

    SIGHUP then asks for the station's own `bundle` again, whose folder may hold another one by now.
    """

    endpoint: str = Field(default="tcp://127.0.0.1:5559", description="ROUTER endpoint to bind; 'ferrosight swap' asks")
    bundles: Path | None = Field(
        default=None,
        description="folder in which bundles that are asked for must lie; unset: the one that holds the station's own",
    )


class StationConfig(Settings):
    """One camera or trigger, one bundle, one loop, in a process of its own.

    Paths are relative to the configuration file.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="part of every topic: 'name/kind'")
    run: str = Field(default="run", min_length=1, description="what is on the line: a coil or a specimen")
    bundle: Path
    backend: str = "openvino"
    precision: Precision | None = Field(
        default=None, description="unset: the bundle's own, int8 before fp16 before fp32 before fp8"
    )
    arithmetic: Arithmetic | None = Field(
        default=None,
        description="in what a CPU computes a half file: fp32, or the backend's choice, bfloat16 where the CPU "
        "has it; unset: what the bundle says",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="CPU threads of each engine, which take turns unless these fit the cores side by side; unset: all",
    )
    cuda_api: CudaApi = Field(
        default=DEFAULT_API, description="by which library a GPU is driven; with pycuda there are no CUDA graphs"
    )
    batch: int = Field(default=8, ge=1, le=256, description="most frames in a batch")
    deadline_ms: float = Field(
        default=0.0, ge=0, description="longest wait for a batch to fill; 0 takes what is there at once"
    )
    engine_failures: int = Field(default=3, ge=1, description="batches failed in a row after which the run ends")
    facts: Facts = Field(default=Facts(), description="scale and specimen, as far as they hold for every picture")
    journal: Path = Field(default=Path("journal.sqlite"), description="every message, before it is published")
    journal_patience_s: float = Field(
        default=10.0, ge=0, description="how long a journal that refuses is tried again before the station gives up"
    )
    journal_keep_days: float | None = Field(default=None, gt=0, description="older messages go; unset: keeps all")
    camera: CameraSettings | None = Field(default=None, description="frames as they come; this or trigger")
    trigger: TriggerSettings | None = Field(default=None, description="single pictures when they come; this or camera")
    ring: RingSettings = Field(default=RingSettings(), description="between the camera and the inspection")
    grabber: GrabberSettings = Field(default=GrabberSettings(), description="the camera's process")
    wire: WireSettings = WireSettings()
    swap: SwapSettings | None = Field(
        default=None, description="whether the bundle may be changed while the station runs"
    )
    rules: dict[str, Any] = Field(default_factory=dict, description="the task's rules for a verdict; see its head")

    @model_validator(mode="after")
    def _a_camera_or_a_trigger(self) -> StationConfig:
        given = [name for name in ("camera", "trigger") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"found {' and '.join(given) or 'neither camera nor trigger'}, expected exactly one of them"
            )
        unused = self.model_fields_set & {"ring", "grabber", "batch", "deadline_ms"}
        if self.trigger is not None and unused:
            raise ValueError(f"{', '.join(sorted(unused))} is for cameras, and this station has a trigger")
        return self

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where the station binds."""
        request = () if self.trigger is None else (self.trigger.request.endpoint,)
        swap = () if self.swap is None else (self.swap.endpoint,)
        return self.wire.publish, self.wire.replay, *request, *swap


class LineConfig(Settings):
    """A line: its name and its stations."""

    line: str = Field(min_length=1)
    stations: tuple[StationConfig, ...] = Field(min_length=1)

    @field_validator("stations")
    @classmethod
    def _stations_do_not_share(cls, stations: tuple[StationConfig, ...]) -> tuple[StationConfig, ...]:
        for what, values in (
            ("name", [station.name for station in stations]),
            ("journal", [str(station.journal) for station in stations]),
            ("endpoint", [point for s in stations for point in s.endpoints]),
        ):
            twice = {value for value in values if values.count(value) > 1 and not value.endswith(":*")}
            if twice:
                raise ValueError(f"{what} {sorted(twice)[0]!r} stands twice; each station needs its own")
        return stations


def read_config(path: Path) -> LineConfig:
    """Read and check a line's TOML file; its relative paths become relative to the file.

    Raises:
        ConfigError: No such file, not TOML, an unknown key, or a value out of range. The text names the
            file, the key, what was found and what to do.
    """
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}), expected a line configuration. See examples/strip_line.toml."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}. Mend that line.") from error
    try:
        config = LineConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error)}") from error
    folder = path.resolve().parent
    return config.model_copy(update={"stations": tuple(_anchor(s, folder) for s in config.stations)})


def _anchor(station: StationConfig, folder: Path) -> StationConfig:
    """The station with its own paths made absolute; a camera's path is anchored by the same rule."""
    camera = station.camera
    path = getattr(camera, "path", None)
    if camera is not None and isinstance(path, Path):
        camera = camera.model_copy(update={"path": folder / path})
    wire = station.wire
    if wire.curve is not None:
        curve = wire.curve
        keys = {"server_secret_key": folder / curve.server_secret_key}
        if curve.client_public_keys is not None:
            keys["client_public_keys"] = folder / curve.client_public_keys
        wire = wire.model_copy(update={"curve": curve.model_copy(update=keys)})
    swap = station.swap
    if swap is not None:
        bundles = (folder / station.bundle).parent if swap.bundles is None else folder / swap.bundles
        swap = swap.model_copy(update={"bundles": bundles})
    return station.model_copy(
        update={
            "bundle": folder / station.bundle,
            "swap": swap,
            "journal": folder / station.journal,
            "camera": camera,
            "trigger": None if station.trigger is None else _anchor_trigger(station.trigger, folder),
            "wire": wire,
        }
    )


def _anchor_trigger(trigger: TriggerSettings, folder: Path) -> TriggerSettings:
    hot = trigger.hot_folder
    return trigger.model_copy(
        update={
            "hot_folder": None if hot is None else hot.model_copy(update={"path": folder / hot.path}),
            "album": None if trigger.album is None else folder / trigger.album,
            "request": trigger.request.model_copy(
                update={"keep": None if trigger.request.keep is None else folder / trigger.request.keep}
            ),
        }
    )


def explain(error: ValidationError) -> str:
    """The first fault of a validation in one sentence: the key, what was found, what was expected."""
    # A key misspelt is both an unknown one and a missing one; the unknown one tells more.
    first = min(error.errors(include_url=False), key=lambda fault: fault["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        near = difflib.get_close_matches(name, sorted(_known_keys(LineConfig)), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"key {key!r} does not exist.{hint} Remove or rename it."
    if first["type"] == "missing":
        return f"key {key!r} is missing. Add it."
    if first["type"] == "value_error":
        return f"key {key!r}: {first['msg'].removeprefix('Value error, ')}. Change it."
    return f"key {key!r}: found {first['input']!r}, but {first['msg'].lower()}. Change the value."


def _known_keys(model: type[BaseModel]) -> set[str]:
    """Every key of a settings model and of those inside it."""
    known: set[str] = set()
    for name, field in model.model_fields.items():
        known.add(name)
        for part in _models_in(field.annotation):
            known |= _known_keys(part)
    return known


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
