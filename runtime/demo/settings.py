"""What the demo runs: its strip, its speed, and the line's configuration that follows from them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from camera.steel.strip import SyntheticStrip

HEIGHT_PX, WIDTH_PX = 256, 1600
STATION = "demo"


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What the demo runs.

    Attributes:
        bundle: The strip bundle.
        out: Folder for everything that the demo writes; emptied first.
        seconds: Length of the run at line speed.
        backend: Inference backend.
        seed: Seed of the strip; another seed is another strip.
        speed_mps: Speed of the strip in metres a second.
        mm_per_px: Scale of the camera's picture.
        defects_per_frame: Mean number of defects that begin on a frame.
    """

    bundle: Path
    out: Path
    seconds: float = 20.0
    backend: str = "openvino"
    seed: int = 20_261_120
    speed_mps: float = 5.0
    mm_per_px: float = 1.0
    defects_per_frame: float = 0.12

    @property
    def frame_hz(self) -> float:
        """Frames a second at this speed."""
        return self.speed_mps * 1000.0 / (HEIGHT_PX * self.mm_per_px)

    @property
    def frames(self) -> int:
        """Frames of the whole run."""
        return max(1, round(self.seconds * self.frame_hz))

    def strip(self) -> SyntheticStrip:
        """The strip itself, truth included."""
        return SyntheticStrip(
            self.seed, height_px=HEIGHT_PX, width_px=WIDTH_PX, defects_per_frame=self.defects_per_frame
        )


def line_config(settings: DemoSettings) -> str:
    """The text of the demo's own line configuration: the same file a user would write."""
    return f"""\
line = "demo-line"

[[stations]]
name = "{STATION}"
run = "synthetic-strip-{settings.seed}"
bundle = {json.dumps(str(settings.bundle.resolve()))}
backend = "{settings.backend}"
facts.mm_per_px = {settings.mm_per_px}
journal = "journal.sqlite"

[stations.camera]
kind = "synthetic"
name = "line-camera"
seed = {settings.seed}
height_px = {HEIGHT_PX}
width_px = {WIDTH_PX}
speed_mps = {settings.speed_mps}
mm_per_px = {settings.mm_per_px}
defects_per_frame = {settings.defects_per_frame}
frames = {settings.frames}
paced = true

[stations.wire]
publish = "tcp://127.0.0.1:*"
replay = "tcp://127.0.0.1:*"
linger_s = 60.0
"""
