"""Settings of a triggered station; everything that its `trigger` table may say."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from camera.config import Settings
from camera.images import DEFAULT_PIXELS, PixelSettings
from runtime.sized_engines import SIZES_KEPT

FactName = Literal["specimen", "mm_per_px", "thickness_mm", "notch_side"]
"""A fact that a station may insist on; see `runtime.facts.Facts`."""


class HotFolderSettings(Settings):
    """A folder into which something else puts pictures, at any depth."""

    path: Path = Field(description="the folder")
    pattern: str = Field(
        default="*", min_length=1, description="names of the pictures that count, such as 'dwtt_*.png'"
    )
    settle_s: float = Field(
        default=0.5, gt=0, description="a file is taken once it, and the facts beside it, stood still for so long"
    )
    poll_s: float = Field(default=0.2, gt=0, description="how often the folder is looked through")
    patience_s: float = Field(
        default=30.0,
        gt=0,
        description="a file that is still changing, or is no whole picture, so long after it came is named as missed; "
        "it is scored all the same once it is whole",
    )


class RequestSettings(Settings):
    """The socket that takes pictures and an operator's overrides."""

    endpoint: str = Field(default="tcp://127.0.0.1:5558", description="ROUTER endpoint to bind")
    pictures: bool = Field(default=True, description="whether pictures are taken; overrides always are")
    keep: Path | None = Field(
        default=None, description="folder that keeps the pictures that come this way, which then are their 'source'"
    )


class TriggerSettings(Settings):
    """What makes a station score a picture: a hot folder, requests, or both."""

    hot_folder: HotFolderSettings | None = None
    request: RequestSettings = RequestSettings()
    needs: tuple[FactName, ...] = Field(
        default=(), description="facts without which a picture is not scored, but missed with the reason 'no_facts'"
    )
    facts_wait_s: float = Field(
        default=0.0, ge=0, description="how long a settled picture waits for the facts beside it; 0 takes what is there"
    )
    pixels: PixelSettings = DEFAULT_PIXELS
    max_bytes: int = Field(default=64 << 20, ge=1024, le=1 << 30, description="size of the largest picture file")
    max_pixels: int = Field(default=16_000_000, ge=1, description="pixels of the largest picture; memory is the limit")
    min_side_px: int = Field(default=32, ge=1, description="rows and columns of the smallest picture")
    sizes_px: tuple[tuple[PositiveInt, PositiveInt], ...] = Field(
        default=(),
        max_length=SIZES_KEPT,
        description="rows and columns of the pictures to expect: their engines are opened at start, where the bundle "
        "takes any size. The first picture of another size waits until its engine is open",
    )
    album: Path | None = Field(default=None, description="folder for the pictures for people; unset: none are drawn")

    @model_validator(mode="after")
    def _something_triggers(self) -> TriggerSettings:
        if self.hot_folder is None and not self.request.pictures:
            raise ValueError("nothing would ever be scored: give a hot_folder, or set request.pictures to true")
        return self
