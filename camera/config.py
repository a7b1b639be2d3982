"""Settings of cameras, of the ring and of the process that fills it; everything that a TOML file may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from camera.base import CameraError
from camera.images import DEFAULT_PIXELS, PixelSettings
from camera.ring_memory import MAX_SLOTS, Policy
from camera.synthetic import SyntheticSettings


class Settings(BaseModel):
    """Frozen, and a key that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NamedSettings(Settings):
    """What every camera has."""

    name: str = Field(default="camera", min_length=1, description="the camera's name in every message")


class SyntheticCameraSettings(SyntheticSettings, NamedSettings):
    """A synthetic steel strip, endless and seeded, with defects whose truth is known."""


class FolderSettings(NamedSettings):
    """Pictures from a folder, at any depth, in natural order; one picture is one frame."""

    kind: Literal["folder"] = "folder"
    path: Path = Field(description="the folder")
    watch: bool = Field(default=False, description="wait for new pictures instead of ending after the last one")
    settle_s: float = Field(default=0.3, gt=0, description="a new picture is taken once it has not grown for so long")
    poll_s: float = Field(default=0.1, gt=0, description="how often a watched folder is looked through")
    height_px: int | None = Field(default=None, ge=1, description="rows; unset: those of the first picture")
    width_px: int | None = Field(default=None, ge=1, description="columns; unset: those of the first picture")
    pixels: PixelSettings = DEFAULT_PIXELS

    @model_validator(mode="after")
    def _both_or_none(self) -> FolderSettings:
        if (self.height_px is None) != (self.width_px is None):
            raise ValueError("give both height_px and width_px, or none of them")
        return self


class OpenCvSettings(NamedSettings):
    """A video device, a video file or a network stream, through OpenCV.

    OpenCV has no counter of a camera's own frames: a frame that the device or the network loses is not seen
    to be missing. Where that matters, use a driver that has one.
    """

    kind: Literal["opencv"] = "opencv"
    device: str | None = Field(default=None, description="Video4Linux device, such as /dev/video0")
    path: Path | None = Field(default=None, description="video file")
    url: str | None = Field(default=None, description="stream: rtsp://, http://, tcp://, udp://")
    height_px: int | None = Field(default=None, ge=1, description="expected rows; a device is asked for them")
    width_px: int | None = Field(default=None, ge=1, description="expected columns; a device is asked for them")
    rate_hz: float | None = Field(default=None, gt=0, description="frames a second to ask a device for")
    fourcc: str | None = Field(
        default=None, pattern=r"^.{4}$", description="pixel format to ask a device for, such as GREY or MJPG"
    )
    open_timeout_s: float = Field(default=10.0, gt=0, description="longest wait for a stream to open")
    read_timeout_s: float = Field(default=3.0, gt=0, description="silence after which a stream is lost")
    pixels: PixelSettings = DEFAULT_PIXELS

    @model_validator(mode="after")
    def _one_source(self) -> OpenCvSettings:
        if sum(source is not None for source in (self.device, self.path, self.url)) != 1:
            raise ValueError("give exactly one of device, path and url")
        if (self.height_px is None) != (self.width_px is None):
            raise ValueError("give both height_px and width_px, or none of them")
        return self


CameraSettings = Annotated[SyntheticCameraSettings | FolderSettings | OpenCvSettings, Field(discriminator="kind")]
"""The settings of any camera; `kind` says which."""


class RingSettings(Settings):
    """The shared memory between the camera's process and the inspection."""

    slots: int = Field(default=64, ge=2, le=MAX_SLOTS, description="frames that the ring holds")
    policy: Policy | None = Field(
        default=None,
        description="what gives way when the ring is full: 'wait' holds the camera back; 'drop_oldest' and "
        "'drop_newest' lose frames, each of which is told; unset: 'wait' where the source does not go on without us "
        "(folders, video files), else 'drop_newest'",
    )


class GrabberSettings(Settings):
    """How a camera that hangs or dies is brought back."""

    hang_timeout_s: float = Field(default=5.0, gt=0, description="silence after which the driver is killed")
    open_timeout_s: float = Field(default=20.0, gt=0, description="longest wait for the driver to open")
    stop_timeout_s: float = Field(default=3.0, gt=0, description="longest wait for the driver to stop")
    restart_first_s: float = Field(default=0.5, gt=0, description="first wait before a restart; doubles")
    restart_most_s: float = Field(default=30.0, gt=0, description="longest wait before a restart")
    restarts: int | None = Field(
        default=None, ge=0, description="restarts in a row before giving up; unset: never gives up"
    )
    nominal_hz: float | None = Field(
        default=None, gt=0, description="frames a second of a healthy camera; sizes an outage in frames"
    )


_CAMERA: TypeAdapter[Any] = TypeAdapter(CameraSettings)


def camera_settings(values: dict[str, Any]) -> CameraSettings:
    """Check the settings of one camera, as a TOML table or JSON object gives them.

    >>> camera_settings({"kind": "folder", "path": "pictures"}).name
    'camera'

    Raises:
        CameraError: An unknown kind or key, or a value out of range; the text names it.
    """
    try:
        return _CAMERA.validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole table"
        raise CameraError(
            f"camera settings: {key}: found {first['input']!r}, expected otherwise: {first['msg']}. "
            "'ferrosight camera list' shows the kinds and their keys."
        ) from error
