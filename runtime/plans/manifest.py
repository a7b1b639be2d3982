"""The manifest of a TensorRT plan: what it was built from, by what, and for what.

A plan runs only on what it was built for, and says nothing readable about itself. So its manifest lies beside it, its
file name tells a person the same, and a plan is opened only where the manifest equals the one that is wanted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from runtime.errors import BundleError
from runtime.spec import Digest, Precision, Strict

FOLDER = "engines"
PLAN_SUFFIX, SIDE_CAR_SUFFIX = ".plan", ".json"

CAPABILITY = r"^\d{1,2}\.\d$"
Capability = Annotated[str, Field(pattern=CAPABILITY, description="compute capability, such as 8.6")]
Shape = tuple[int, ...]


class ShapeRange(Strict):
    """Smallest, most frequent and largest shape of an input."""

    smallest: Shape
    usual: Shape
    largest: Shape

    @model_validator(mode="after")
    def _in_order(self) -> ShapeRange:
        if not len(self.smallest) == len(self.usual) == len(self.largest):
            raise ValueError("the three shapes have different numbers of dimensions")
        for low, middle, high in zip(self.smallest, self.usual, self.largest, strict=True):
            if not 1 <= low <= middle <= high:
                raise ValueError(f"sizes {low}, {middle}, {high} do not rise from 1")
        return self


class Gpu(Strict):
    """The one GPU model that a native plan runs on."""

    name: str
    capability: Capability


class EngineManifest(Strict):
    """All that decides whether a plan fits.

    Attributes:
        role: Of the graph in its bundle.
        onnx_sha256: Of the file that was parsed.
        flavour: Which TensorRT.
        version: Its full version; another one refuses the plan.
        cuda: Its CUDA, such as `13`; None where the installation does not say.
        targets: Compute capabilities that the plan was built for, without their GPUs (TensorRT-RTX).
        gpu: The GPU that the plan was built on (TensorRT).
        precision: Of the ONNX file; the network is strongly typed.
        profile: Shapes of each input.
        flags: Builder flags beyond strong typing, in alphabetical order.
    """

    schema_version: Literal["ferrosight.plan/1"] = "ferrosight.plan/1"
    role: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    onnx_sha256: Digest
    flavour: Literal["tensorrt", "tensorrt_rtx"]
    version: str
    cuda: str | None
    targets: tuple[Capability, ...] = ()
    gpu: Gpu | None = None
    precision: Precision
    profile: Mapping[str, ShapeRange]
    flags: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _made_for_something(self) -> EngineManifest:
        if bool(self.targets) == (self.gpu is not None):
            raise ValueError("expected either targets or a gpu")
        return self

    @property
    def file_stem(self) -> str:
        """A file name that tells a person what the plan is, and ends in a digest of the whole manifest.

        >>> shapes = ShapeRange(smallest=(1, 1, 8, 8), usual=(8, 1, 8, 8), largest=(32, 1, 8, 8))
        >>> EngineManifest(
        ...     role="gate", onnx_sha256="0" * 64, flavour="tensorrt_rtx", version="1.7.1.116", cuda="13",
        ...     targets=("8.6", "12.0"), precision="fp16", profile={"frames": shapes},
        ... ).file_stem
        'gate-tensorrt_rtx-1.7.1.116-sm86-sm120-fp16-b1-8-32-8d00a2b4'
        """
        made_for = self.targets if self.gpu is None else (self.gpu.capability,)
        card = [] if self.gpu is None else [re.sub(r"[^A-Za-z0-9]+", "_", self.gpu.name).strip("_")]
        batches = next(
            (f"b{each.smallest[0]}-{each.usual[0]}-{each.largest[0]}" for each in self.profile.values()), "b"
        )
        parts = [
            self.role,
            self.flavour,
            self.version,
            *card,
            *(f"sm{each.replace('.', '')}" for each in made_for),
            self.precision,
            batches,
            hashlib.sha256(self.to_json().encode()).hexdigest()[:8],
        ]
        return "-".join(parts)

    @property
    def plan_file(self) -> str:
        """The plan's path in its bundle."""
        return f"{FOLDER}/{self.file_stem}{PLAN_SUFFIX}"

    @property
    def side_car_file(self) -> str:
        """The path, in the bundle, of this manifest as JSON."""
        return f"{FOLDER}/{self.file_stem}{SIDE_CAR_SUFFIX}"

    def to_json(self) -> str:
        """The side-car's text."""
        return self.model_dump_json(indent=2) + "\n"


def read_manifest(side_car: Path) -> EngineManifest:
    """Read a plan's side-car.

    Raises:
        BundleError: It is missing or not valid.
    """
    try:
        return EngineManifest.model_validate_json(side_car.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(
            f"plan {side_car.stem}: found no readable {side_car.name} ({error.strerror}), expected the manifest beside "
            "the plan. Build the plan again with 'ferrosight build'."
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise BundleError(
            f"plan {side_car.stem}: its manifest is not valid at {place}: {first['msg']}. Build the plan again with "
            "'ferrosight build'."
        ) from error


def differences(manifest: EngineManifest, wanted: EngineManifest) -> list[str]:
    """What a person has to know about why a plan does not fit; empty where it does.

    Args:
        manifest: Of the plan that is there.
        wanted: Of the plan that this machine and bundle would build.
    """
    found: list[str] = []
    for name in EngineManifest.model_fields:
        ours, theirs = getattr(manifest, name), getattr(wanted, name)
        if ours != theirs:
            found.append(f"{name}: the plan has {_text(ours)}, expected {_text(theirs)}")
    return found


def _text(value: object) -> str:
    if isinstance(value, Gpu):
        return f"{value.name} ({value.capability})"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each.smallest} to {each.largest}" for name, each in value.items())
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    text = "none" if value is None else str(value)
    return f"{text[:12]}..." if len(text) == 64 else text
