"""Frames with their truth, to judge a bundle by: what `--data NAME=PATH` names."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ValidationError

from benchmarks.frames import STRIP_SIZE_PX
from camera.base import CameraError
from camera.steel import strip
from runtime.errors import ConfigError
from runtime.facts import Facts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.spec import ModelSpec

Part = Literal["test", "validation", "train", "all"]

SYNTHETIC_FRAMES = 500
"""Frames of a synthetic strip where `synthetic=SEED` names no number."""

DEFECTS_PER_FRAME, LOOK_ALIKES_PER_FRAME = 0.7, 1.0
"""Mean numbers of defects and of harmless marks that start in a synthetic frame; about half of the frames are clean."""

USUAL_FIRST_SEED = 1000
USUAL_STRIPS = {"train": 60, "validation": 8}
"""What a recipe that does not say otherwise renders: the defaults of `train.datasets.synthetic`, restated
because an installed line has no `train`."""

_CACHE = Path("runs/cache")


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame with its truth.

    Attributes:
        name: Unique in its set.
        pixels: (H, W) uint8.
        truth: (C, H, W) bool.
        figures: What is true of the whole picture, such as `brittle_ratio`.
        points: (k, 2) float32, row and column in px, of places that matter.
        facts: What the head is told beside the pixels.
    """

    name: str
    pixels: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    figures: Mapping[str, float] = field(default_factory=dict)
    points: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 2), np.float32))
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """A set of frames, in a fixed order.

    Attributes:
        kind: Which loader gave it.
        source: The path, or the seed and the number of frames.
        part: Which part of the set.
        digest: SHA-256 of all that decides frames and truth.
        class_names: In the order of the truth's planes.
        count: Frames.
        pictures: Gives them, one after the other.
        training: Whether the bundle was trained on these frames, in words.
        strip: Where the frames are consecutive ones of a synthetic strip: the strip.
    """

    kind: str
    source: str
    part: str
    digest: str
    class_names: tuple[str, ...]
    count: int
    pictures: Callable[[], Iterator[Picture]]
    training: str
    strip: strip.SyntheticStrip | None = None


def open_data(text: str, spec: ModelSpec, part: Part, size: tuple[int, int] | None) -> EvaluationSet:
    """Open what `NAME=PATH` names, split as the bundle's recipes split data of that kind.

    Args:
        text: `synthetic=SEED[:FRAMES]`, `severstal=FOLDER` or `tiles=FOLDER`.
        spec: The bundle's; its recipes say what it was trained on.
        part: Which part of a dataset; a synthetic strip is always taken whole.
        size: Rows and columns of a synthetic frame, where the bundle's graphs are made for one size.

    Raises:
        ConfigError: The text is not of that form, names no known data, or the part is empty.
        DataError: The data is missing or unreadable; reading the pictures may raise it too.
    """
    kind, equals, source = text.partition("=")
    if not equals or not kind or not source:
        raise ConfigError(
            f"--data {text!r}: expected NAME=PATH, such as tiles=data/mt_defect, or synthetic=SEED[:FRAMES]."
        )
    if kind == "synthetic":
        return _open_synthetic(source, spec, size or STRIP_SIZE_PX)
    return open_dataset(kind, Path(source), spec, part)


def _open_synthetic(source: str, spec: ModelSpec, size: tuple[int, int]) -> EvaluationSet:
    seed_text, colon, count_text = source.partition(":")
    if not seed_text.isdecimal() or (colon and not count_text.isdecimal()):
        raise ConfigError(
            f"--data synthetic={source}: expected synthetic=SEED or synthetic=SEED:FRAMES, whole numbers."
        )
    seed, count = int(seed_text), int(count_text or SYNTHETIC_FRAMES)
    if count < 1:
        raise ConfigError(f"--data synthetic={source}: found no frames, expected at least 1.")
    try:
        steel = strip.SyntheticStrip(
            seed,
            height_px=size[0],
            width_px=size[1],
            defects_per_frame=DEFECTS_PER_FRAME,
            look_alikes_per_frame=LOOK_ALIKES_PER_FRAME,
        )
    except CameraError as error:
        raise ConfigError(f"--data synthetic={source}: {error}") from error

    def pictures() -> Iterator[Picture]:
        for index in range(count):
            frame = steel.frame(index)
            yield Picture(f"seed{seed}-frame{index}", frame.pixels, frame.truth)

    settings = [strip.GENERATOR, seed, count, size, DEFECTS_PER_FRAME, LOOK_ALIKES_PER_FRAME]
    return EvaluationSet(
        kind="synthetic",
        source=f"seed {seed}, frames 0 to {count - 1} of {size[0]}x{size[1]}, {DEFECTS_PER_FRAME:g} defects a frame",
        part="all",
        digest=hashlib.sha256(f"strip {json.dumps(settings)}".encode()).hexdigest(),
        class_names=("pitting", "inclusion", "scratch", "corrosion"),
        count=count,
        pictures=pictures,
        training=_seed_in_training(seed, spec),
        strip=steel,
    )


def _seed_in_training(seed: int, spec: ModelSpec) -> str:
    """Whether a strip of this seed was rendered for training."""
    for role, table in _recipe_data(spec, "synthetic").items():
        first = int(table.get("first_seed", USUAL_FIRST_SEED))
        strips = sum(int(table.get(f"{name}_strips", usual)) for name, usual in USUAL_STRIPS.items())
        if first <= seed < first + strips:
            return f"yes: seed {seed} is one of the {role}'s training or validation strips"
    return "no: another seed than any in the recipes"


def open_dataset(kind: str, path: Path, spec: ModelSpec, part: Part) -> EvaluationSet:
    """A part of a dataset in a folder; see `open_data`."""
    if importlib.util.find_spec("train") is None:
        raise ConfigError(
            f"--data {kind}: this installation has no 'train' folder, whose loaders read datasets; it is the "
            "line's alone. Work from a source checkout, or judge by synthetic=SEED[:FRAMES]."
        )
    datasets = importlib.import_module("train.datasets")
    if kind not in datasets.DATASETS:
        known = ", ".join(sorted({*datasets.DATASETS, "synthetic"}))
        raise ConfigError(f"--data {kind}: found no such data, expected one of {known}.")
    entry = datasets.DATASETS[kind]
    tables = _recipe_data(spec, kind)
    table = next(iter(tables.values()), {})
    try:
        settings = entry.settings.model_validate({**table, "path": path})
    except ValidationError as error:
        raise ConfigError(
            f"--data {kind}={path}: the bundle's recipe has data settings that these loaders do not take: "
            f"{error.errors(include_url=False)[0]['msg']}. Use the version of ferrosight that trained it."
        ) from error
    dataset = entry.open(settings, _CACHE)
    numbers = range(len(dataset)) if part == "all" else dataset.split[part]
    if not numbers:
        raise ConfigError(
            f"--data {kind}={path}: found no frames in part {part!r}, expected some. Give another --part."
        )

    def pictures() -> Iterator[Picture]:
        for number in numbers:
            sample = dataset.sample(number)
            yield Picture(sample.name, sample.pixels, sample.masks, sample.figures, sample.points)

    return EvaluationSet(
        kind=kind,
        source=str(path),
        part=part,
        digest=dataset.digest,
        class_names=dataset.class_names,
        count=len(numbers),
        pictures=pictures,
        training=_part_in_training(spec, kind, tables, dataset.digest, part),
    )


def _part_in_training(spec: ModelSpec, kind: str, tables: dict[str, dict[str, Any]], digest: str, part: Part) -> str:
    """Whether a part of a dataset was trained on, as far as the bundle's provenance tells."""
    if not tables:
        return f"no: the recipes name no data of kind {kind!r}"
    splits = {json.dumps({k: v for k, v in t.items() if k != "path"}, sort_keys=True) for t in tables.values()}
    if len(splits) > 1:
        return "perhaps: the gate's and the segmenter's recipes split it differently"
    if any(spec.provenance.data.get(role) != digest for role in tables):
        return "perhaps: the recipes name data of this kind with another digest"
    if part == "test":
        return "no: the part that the recipes held out"
    return f"yes: part {part!r} of the data that it was trained with"


def _recipe_data(spec: ModelSpec, kind: str) -> dict[str, dict[str, Any]]:
    """The data tables of a kind, without `kind`, by the role of the part that was trained on them."""
    found: dict[str, dict[str, Any]] = {}
    for role, recipe in spec.provenance.recipe.items():
        data = recipe.get("data") if isinstance(recipe, dict) else None
        if isinstance(data, dict) and data.get("kind") == kind:
            found[role] = {key: value for key, value in data.items() if key != "kind"}
    return found
