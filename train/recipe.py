"""A recipe: everything that decides a training, read from TOML and overridable from the command line."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from runtime.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports] - Python 3.10 alone has it

RECIPES = Path(__file__).parent / "recipes"


class Strict(BaseModel):
    """Frozen, and a key that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelChoice(Strict):
    """Which network is trained; its role is the task's."""

    architecture: str
    encoder_weights: str = Field(default="none", description="none, imagenet, or a file")


class Optimiser(Strict):
    """How weights move."""

    kind: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=None, gt=0, description="largest norm of all gradients together")


class Plateau(Strict):
    """The learning rate falls when the validation figure has not improved for `patience` epochs."""

    kind: Literal["plateau"] = "plateau"
    factor: float = Field(default=0.5, gt=0, lt=1)
    patience: int = Field(default=3, ge=1)


class OneCycle(Strict):
    """The learning rate rises over the first `warm_up` of all steps, then falls along a cosine to nearly nothing."""

    kind: Literal["one_cycle"] = "one_cycle"
    warm_up: float = Field(default=0.15, gt=0, lt=1)


class Decay(Strict):
    """The learning rate is multiplied by `factor` after every so many batches."""

    kind: Literal["decay"] = "decay"
    factor: float = Field(default=0.96, gt=0, lt=1)
    every_steps: int = Field(default=10_000, ge=1)


class Steps(Strict):
    """The learning rate is multiplied by `factor` after each of some shares of all batches."""

    kind: Literal["steps"] = "steps"
    factor: float = Field(default=0.1, gt=0, lt=1)
    at_ratios: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.5, 0.75), min_length=1, description="of all batches of the training, rising"
    )

    @model_validator(mode="after")
    def _ratios_rise(self) -> Steps:
        if list(self.at_ratios) != sorted(set(self.at_ratios)):
            raise ValueError(f"at_ratios must rise, found {self.at_ratios}")
        return self


class Augmentation(Strict):
    """How far a crop is changed; 0 leaves out."""

    flip_horizontal: bool = True
    flip_vertical: bool = True
    move_probability: float = Field(default=0.3, ge=0, le=1, description="share of crops that are rotated and shifted")
    rotate_deg: float = Field(default=5.0, ge=0, le=180)
    shift_ratio: float = Field(default=0.05, ge=0, le=1, description="of the crop's size")
    brightness: float = Field(default=0.2, ge=0, lt=1)
    contrast: float = Field(default=0.2, ge=0, lt=1)


class Phase(Strict):
    """Some epochs with one loss and one way to cut batches.

    Attributes:
        crops: (height, width) in px, one size an epoch, in turn; none takes whole pictures.
        steps: Batches an epoch; None walks once through all pictures (whole) or as many crops as pictures.
    """

    epochs: int = Field(ge=1)
    loss: str
    batch: int = Field(ge=1)
    crops: tuple[tuple[int, int], ...] = ()
    steps: int | None = Field(default=None, ge=1)


class Recipe(Strict):
    """One training.

    Attributes:
        task: A key of `train.tasks.TASKS`.
        data: `kind`, a key of `train.datasets.DATASETS`, and that dataset's own settings.
        settings: The task's own settings.
        validate_every: Epochs from one validation to the next; the last epoch is always validated.
    """

    task: str
    variant: Literal["paper", "compact"]
    seed: int = Field(default=1, ge=0)
    model: ModelChoice
    data: dict[str, Any]
    optimiser: Optimiser = Optimiser()
    schedule: Plateau | OneCycle | Decay | Steps = Field(default=Plateau(), discriminator="kind")
    augmentation: Augmentation = Augmentation()
    settings: dict[str, Any] = Field(default_factory=dict)
    phases: tuple[Phase, ...] = Field(min_length=1)
    validate_every: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _data_has_a_kind(self) -> Recipe:
        if str(self.data.get("kind", "")) == "":
            raise ValueError("data.kind is missing, expected the name of a dataset")
        return self

    @property
    def epochs(self) -> int:
        """Of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def phase_of(self, epoch: int) -> tuple[int, Phase]:
        """Number and phase of an epoch, both counted from 0."""
        for number, phase in enumerate(self.phases):
            if epoch < phase.epochs:
                return number, phase
            epoch -= phase.epochs
        raise IndexError(epoch)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `key=value` overrides, such as `phases.0.epochs=3` or `optimiser.learning_rate=1e-4`.

    Raises:
        ConfigError: The file is unreadable, a key does not exist (near names are given) or a value is out of range.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path}: {error}, expected a TOML file. Check --recipe.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"recipe {path}: {error}, expected TOML. Correct the line.") from error
    for override in overrides:
        apply_override(table, override)
    return check(Recipe, table, f"recipe {path}")


def check(model: type[Any], table: Mapping[str, Any], who: str) -> Any:
    """Validate a table, with an error a person can act on.

    Raises:
        ConfigError: Names the key, what was found and, for an unknown key, the nearest known ones.
    """
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] != "extra_forbidden":
            raise ConfigError(
                f"{who}: {key or 'the whole table'}: {first['msg']}, found {str(first['input'])[:80]!r}. "
                "Correct the value."
            ) from error
        known = _keys_at(model, first["loc"][:-1])
        raise ConfigError(f"{who}: unknown key {key!r}, {near(str(first['loc'][-1]), known)}") from error


def near(name: str, known: Sequence[str]) -> str:
    """The end of an error about an unknown name.

    >>> near("learning_rat", ["learning_rate", "kind"])
    "did you mean 'learning_rate'? Known: kind, learning_rate."
    """
    close = difflib.get_close_matches(name, known, n=2)
    guess = f"did you mean {' or '.join(repr(each) for each in close)}? " if close else ""
    return f"{guess}Known: {', '.join(sorted(known))}."


def apply_override(table: dict[str, Any], override: str) -> None:
    """Set one dotted key of a table, in place; values are TOML, anything else is a string.

    Args:
        table: Changed.
        override: `key=value`, such as `phases.0.epochs=3`.

    Raises:
        ConfigError: It has no such form, or its key leads through something that is no table.
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override!r}: expected key=value, such as phases.0.epochs=3.")
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    place: Any = table
    *path, last = key.split(".")
    for part in path:
        place = place.setdefault(part, {}) if isinstance(place, dict) else _item(place, part, override)
    if isinstance(place, dict):
        place[last] = value
    elif isinstance(place, list):
        _item(place, last, override)
        place[int(last)] = value
    else:
        raise ConfigError(f"--set {override!r}: {'.'.join(path)} is a value, expected a table. Correct the key.")


def _item(place: Any, part: str, override: str) -> Any:
    if not isinstance(place, list):
        raise ConfigError(f"--set {override!r}: {part!r} lies in no table. Correct the key.")
    if not part.isdigit() or int(part) >= len(place):
        raise ConfigError(f"--set {override!r}: {part!r} is no entry of a list of {len(place)}, counted from 0.")
    return place[int(part)]


def _keys_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys of the table at a place of a recipe; a tagged union's tag is part of the place."""
    models = [model]
    for part in location:
        if isinstance(part, int):
            continue
        inner = [_models_in(each.model_fields[part].annotation) for each in models if part in each.model_fields]
        tagged = [each for each in models if "kind" in each.model_fields and each.model_fields["kind"].default == part]
        models = [found for group in inner for found in group] or tagged or models
    return sorted({key for each in models for key in each.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]
