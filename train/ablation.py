"""A paper's comparisons, run again: a named list of recipes with overrides and seeds, judged on pictures of their own.

An ablation is a file of `train/ablations`. Each case is trained once a seed, in a run folder of its own, so that an
ablation that was stopped goes on where it was. What is compared is measured on the data's test part, which neither
training nor the choice of weights has seen.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, model_validator

from runtime.errors import ConfigError
from train.ablation_measures import Finished, measure_cascade, measure_each
from train.recipe import RECIPES, Recipe, Strict, check, load_recipe, near
from train.run_folder import CHECKPOINT_FILE, RECIPE_FILE, RunFolder, read_recipe, read_record
from train.session import Machine, train_run

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports] - Python 3.10 alone has it

ABLATIONS = Path(__file__).parent / "ablations"

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Measure:
    """How trainings become rows of figures.

    Attributes:
        rows: From trainings of one seed, the machine and the cache.
        together: Whether it needs all cases of a seed at once.
    """

    rows: Callable[[Sequence[Finished], Machine, Path], Mapping[str, Figures]]
    together: bool


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {"each": Measure(measure_each, together=False), "cascade": Measure(measure_cascade, together=True)}
)


class Figure(Strict):
    """A column.

    Attributes:
        name: As the task names it.
        title: As people read it.
        better: Which way is better; the plot says so.
        digits: Behind the point.
    """

    name: str
    title: str
    better: Literal["higher", "lower"]
    digits: int = Field(default=3, ge=0, le=6)


class Case(Strict):
    """One training a seed: a recipe with all that this case changes in it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    recipe: str | None = Field(default=None, description="a name in train/recipes; by default the ablation's own")
    set: tuple[str, ...] = Field(default=(), description="KEY=VALUE, behind those of the ablation")


class Ablation(Strict):
    """A file of `train/ablations`.

    Attributes:
        title: What is compared.
        paper: Which table or section of which paper this repeats.
        scaled_down: What is smaller here than there, for the reader of the figures.
        recipe: The recipe of cases that name none.
        set: Overrides of every case.
        measure: `each`: a row for every case, on the test part; `cascade`: the strip's gate and segmenter together.
        published: The paper's own figures, by row and column.
    """

    title: str
    paper: str
    scaled_down: str
    recipe: str
    set: tuple[str, ...] = ()
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    measure: Literal["each", "cascade"] = "each"
    figures: tuple[Figure, ...] = Field(min_length=1)
    cases: tuple[Case, ...] = Field(min_length=2)
    published: dict[str, dict[str, float]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_known(self) -> Ablation:
        names = [case.name for case in self.cases]
        if len(set(names)) != len(names):
            raise ValueError(f"found cases {', '.join(names)}, expected different names")
        columns = [figure.name for figure in self.figures]
        for row, figures in self.published.items():
            if unknown := set(figures) - set(columns):
                raise ValueError(f"published.{row} has {', '.join(sorted(unknown))}, expected {', '.join(columns)}")
        return self


@dataclass(frozen=True, slots=True)
class Planned:
    """One training to be.

    Attributes:
        case: Its name.
        seed: Of the recipe.
        recipe: With all overrides.
        folder: Of the run.
    """

    case: str
    seed: int
    recipe: Recipe
    folder: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an ablation has found so far.

    Attributes:
        name: Of the ablation's file.
        ablation: As it ran.
        rows: Figures by row and seed.
        parameters: Trainable parameters by case.
        train_s: Mean wall time of a case's trainings, in seconds.
    """

    name: str
    ablation: Ablation
    rows: Mapping[str, Mapping[int, Figures]]
    parameters: Mapping[str, int]
    train_s: Mapping[str, float]


def load_ablation(name: str, folder: Path | None = None) -> Ablation:
    """A named ablation of a folder, by default of `ABLATIONS`.

    Raises:
        ConfigError: There is none of this name, or its file is not valid.
    """
    folder = folder or ABLATIONS
    known = sorted(path.stem for path in folder.glob("*.toml"))
    if name not in known:
        raise ConfigError(f"ablation: no ablation {name!r}, {near(name, known)}")
    path = folder / f"{name}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"ablation {path}: {error}, expected a TOML file. Correct it.") from error
    return check(Ablation, table, f"ablation {path.name}")


def plan(ablation: Ablation, out: Path, overrides: Sequence[str] = (), only: Sequence[str] = ()) -> tuple[Planned, ...]:
    """Every training of an ablation, seed by seed, so that a whole comparison stands after the first.

    Args:
        ablation: What to run.
        out: Where its runs lie.
        overrides: KEY=VALUE of the person who runs it, behind all others.
        only: Cases to run; all where empty.

    Raises:
        ConfigError: No such case, or a recipe is missing or not valid.
    """
    names = [case.name for case in ablation.cases]
    for name in only:
        if name not in names:
            raise ConfigError(f"ablation: no case {name!r}, {near(name, names)}")
    return tuple(
        Planned(
            case.name,
            seed,
            load_recipe(
                RECIPES / f"{case.recipe or ablation.recipe}.toml",
                (*ablation.set, *case.set, *overrides, f"seed={seed}"),
            ),
            out / f"{case.name}-seed{seed}",
        )
        for seed in ablation.seeds
        for case in ablation.cases
        if not only or case.name in only
    )


def run_ablation(
    name: str,
    ablation: Ablation,
    planned: Sequence[Planned],
    machine: Machine,
    *,
    cache: Path,
    command: str,
    measured: Callable[[Outcome], None],
) -> Outcome:
    """Train what is not trained yet, measure, and tell of every row that is new.

    Args:
        name: Of the ablation.
        ablation: What is compared.
        planned: Its trainings.
        machine: What to run on.
        cache: Where rendered pictures are kept.
        command: As typed, for the records.
        measured: Told what is known so far.

    Raises:
        ConfigError: A run folder holds a training by another recipe.
    """
    rows: dict[str, dict[int, Figures]] = {}
    times: dict[str, list[float]] = {}
    parameters: dict[str, int] = {}
    outcome = Outcome(name, ablation, rows, parameters, {})
    measure = MEASURES[ablation.measure]
    for group in _groups(planned, measure):
        for each in group:
            title = f"{each.case} seed {each.seed} ({planned.index(each) + 1} of {len(planned)})"
            _train(each, machine, cache, command, title)
            record = read_record(each.folder)
            parameters[each.case] = record.parameters
            times.setdefault(each.case, []).append(record.train_s)
        finished = [Finished(each.case, each.recipe, each.folder) for each in group]
        for row, figures in measure.rows(finished, machine, cache).items():
            rows.setdefault(row, {})[group[0].seed] = figures
        mean_s = {case: sum(all_s) / len(all_s) for case, all_s in times.items()}
        outcome = Outcome(name, ablation, rows, parameters, mean_s)
        measured(outcome)
    return outcome


def _groups(planned: Sequence[Planned], measure: Measure) -> list[list[Planned]]:
    """The trainings that are measured at once."""
    if not measure.together:
        return [[each] for each in planned]
    return [[each for each in planned if each.seed == seed] for seed in dict.fromkeys(each.seed for each in planned)]


def _train(planned: Planned, machine: Machine, cache: Path, command: str, title: str) -> None:
    """Train, go on with a training, or leave a finished one as it is."""
    folder = RunFolder(planned.folder)
    resume = False
    if (planned.folder / RECIPE_FILE).exists():
        if read_recipe(planned.folder) != planned.recipe:
            raise ConfigError(
                f"ablation: {planned.folder} holds a training by another recipe, expected that of case {planned.case}. "
                "Give another --out, or remove the folder."
            )
        if read_record(planned.folder).finished:
            return
        resume = (planned.folder / CHECKPOINT_FILE).exists()
        if not resume:  # stopped before its first epoch was whole: nothing is lost
            shutil.rmtree(planned.folder)
    train_run(planned.recipe, folder, machine, cache=cache, command=command, resume=resume, title=title)


def to_table(outcome: Outcome) -> dict[str, Any]:
    """All figures with their means and the paper's, as plain values; `results.json`."""
    columns = [figure.name for figure in outcome.ablation.figures]
    return {
        "schema": "ferrosight.ablation/1",
        "name": outcome.name,
        **outcome.ablation.model_dump(mode="json", include={"title", "paper", "scaled_down"}),
        "rows": {
            row: {
                "parameters": outcome.parameters.get(row),
                "train_s": outcome.train_s.get(row),
                "seeds": {str(seed): dict(figures) for seed, figures in by_seed.items()},
                "mean": {name: mean_of(by_seed, name) for name in columns},
                "published": outcome.ablation.published.get(row, {}),
            }
            for row, by_seed in outcome.rows.items()
        },
    }


def mean_of(by_seed: Mapping[int, Figures], name: str) -> float:
    """A figure's mean over the seeds; NaN where no seed has it."""
    values = [figures[name] for figures in by_seed.values() if name in figures]
    return sum(values) / len(values) if values else float("nan")


def write_table(outcome: Outcome, path: Path) -> None:
    """Write `results.json`, whole or not at all."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(to_table(outcome), indent=2) + "\n", encoding="utf-8")
    draft.replace(path)
