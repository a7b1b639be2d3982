"""The manifest of a TensorRT plan: what it was built from, by what, and for what.

A plan runs only on what it was built for, and says nothing readable about itself. So its manifest lies beside it, its
file name tells a person the same, and a plan is opened only where the manifest fits (`preflight.py`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
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

    def holds(self, shape: Sequence[int]) -> bool:
        """Whether a shape lies within."""
        return len(shape) == len(self.smallest) and all(
            low <= size <= high for low, size, high in zip(self.smallest, shape, self.largest, strict=True)
        )


Profile = Mapping[str, ShapeRange]
"""The shapes of each input for which one set of kernels is chosen."""


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
        profiles: One for each batch that the plan is tuned for, all of the same inputs; every shape that is run must
            lie in one of them.
        flags: Builder flags beyond strong typing, in alphabetical order.
    """

    schema_version: Literal["ferrosight.plan/2"] = "ferrosight.plan/2"
    role: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    onnx_sha256: Digest
    flavour: Literal["tensorrt", "tensorrt_rtx"]
    version: str
    cuda: str | None
    targets: tuple[Capability, ...] = ()
    gpu: Gpu | None = None
    precision: Precision
    profiles: tuple[Profile, ...] = Field(min_length=1)
    flags: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _made_for_something(self) -> EngineManifest:
        if bool(self.targets) == (self.gpu is not None):
            raise ValueError("expected either targets or a gpu")
        if not self.profiles[0] or any(profile.keys() != self.profiles[0].keys() for profile in self.profiles):
            raise ValueError("expected profiles of the same inputs, one or more")
        return self

    def ranges(self, name: str) -> tuple[ShapeRange, ...]:
        """The shapes of an input in each profile; empty where the plan has no such input."""
        return tuple(profile[name] for profile in self.profiles if name in profile)

    @property
    def file_stem(self) -> str:
        """A file name that tells a person what the plan is, and ends in a digest of the whole manifest.

        >>> one = ShapeRange(smallest=(1, 1, 8, 8), usual=(1, 1, 8, 8), largest=(1, 1, 8, 8))
        >>> more = ShapeRange(smallest=(2, 1, 8, 8), usual=(8, 1, 8, 8), largest=(8, 1, 8, 8))
        >>> EngineManifest(
        ...     role="gate", onnx_sha256="0" * 64, flavour="tensorrt_rtx", version="1.7.1.116", cuda="13",
        ...     targets=("8.6", "12.0"), precision="fp16", profiles=({"frames": one}, {"frames": more}),
        ... ).file_stem
        'gate-tensorrt_rtx-1.7.1.116-sm86-sm120-fp16-b1-8-73056994'
        """
        made_for = self.targets if self.gpu is None else (self.gpu.capability,)
        card = [] if self.gpu is None else [re.sub(r"[^A-Za-z0-9]+", "_", self.gpu.name).strip("_")]
        batches = "-".join(str(next(iter(profile.values())).usual[0]) for profile in self.profiles)
        parts = [
            self.role,
            self.flavour,
            self.version,
            *card,
            *(f"sm{each.replace('.', '')}" for each in made_for),
            self.precision,
            f"b{batches}",
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


def profile_of(ranges: Sequence[ShapeRange], shape: Sequence[int]) -> int | None:
    """The number of the first profile that holds a shape; None where none does.

    Args:
        ranges: Of one input, by profile.
        shape: Of that input.
    """
    return next((number for number, each in enumerate(ranges) if each.holds(shape)), None)
