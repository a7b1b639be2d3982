"""`ferrosight train`: one command a task."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from json import dumps as dump_json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.errors import ConfigError

if TYPE_CHECKING:
    from train.ablation import Outcome
    from train.recipe import Recipe

app = typer.Typer(help="Train the models of a task by a recipe.", no_args_is_help=True, pretty_exceptions_enable=False)

Variant = Annotated[str, typer.Option(help="paper: the paper's network; compact: the one for CPUs.")]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="A recipe of your own.", show_default="the variant's own")
]
Data = Annotated[
    str | None,
    typer.Option(help="synthetic, severstal=FOLDER or tiles=FOLDER.", show_default="the recipe's"),
]
Out = Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="runs/TASK-VARIANT-TIME")]
Resume = Annotated[Path | None, typer.Option(help="Go on with the run in this folder, from its last whole epoch.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE, changes the recipe, such as phases.0.epochs=3; may be given again."),
]
EncoderWeights = Annotated[str | None, typer.Option(help="FILE, imagenet or none.", show_default="the recipe's")]
Weights = Annotated[Path | None, typer.Option(help="Fine-tune from a run's safetensors.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto for whatever is there.")]
Devices = Annotated[int, typer.Option(min=1, help="How many of them; each is a process.")]
Precision = Annotated[str, typer.Option(help="32-true, bf16-mixed or 16-mixed.")]
Cache = Annotated[Path, typer.Option(help="Where rendered strips are kept for the next run.")]
Json = Annotated[bool, typer.Option("--json", help="Print the run's record as JSON at the end.")]


def _add(task: str, summary: str) -> None:
    """One command a task; all have the same options."""

    def command(
        variant: Variant = "paper",
        recipe: RecipeFile = None,
        data: Data = None,
        out: Out = None,
        resume: Resume = None,
        overrides: Overrides = None,
        encoder_weights: EncoderWeights = None,
        weights: Weights = None,
        device: Device = "auto",
        devices: Devices = 1,
        precision: Precision = "32-true",
        cache: Cache = Path("runs/cache"),
        json: Json = False,
    ) -> None:
        chosen = lambda: choose_recipe(task, variant, recipe, data, overrides or [], encoder_weights)  # noqa: E731
        _train(chosen, out, resume, weights, device, devices, precision, cache, as_json=json)

    command.__doc__ = summary
    app.command(task)(command)


_add("strip-gate", "Train the strip's gate: is there any defect in the frame?")
_add("boundary", "Train the grain boundaries of a micrograph: where do two grains meet?")
_add("crack", "Train the crack U-Net: where is a crack, and where does it end?")
_add("fracture", "Train VR-net: how much of a fracture surface is brittle?")
_add("grain", "Train the grain size of a micrograph: ASTM G, by regression.")
_add("grain-classes", "Train the grain size of a micrograph: one of the grades, by classification.")
_add("phase", "Train the phases of a micrograph: ferrite or pearlite, at each pixel.")
_add("strip-segmenter", "Train the strip's segmenter: which class, at each pixel?")


def choose_recipe(
    task: str,
    variant: str,
    path: Path | None,
    data: str | None,
    overrides: list[str],
    encoder_weights: str | None,
) -> Recipe:
    """The recipe with all that the command line changes in it."""
    from json import dumps as quote  # a JSON string is a TOML string

    from train.recipe import RECIPES, load_recipe

    names = {"paper": f"{task}.toml", "compact": f"{task}-compact.toml"}
    if variant not in names:
        raise ConfigError(f"--variant is {variant!r}, expected paper or compact.")
    file = path or RECIPES / names[variant]
    if path is None and not file.is_file():
        known = [name for name, recipe in names.items() if (RECIPES / recipe).is_file()]
        raise ConfigError(
            f"--variant is {variant!r}: found no paper's network for {task}, expected {' or '.join(known)}. "
            "Say so, or give a --recipe."
        )
    changes: list[str] = []
    if data is not None:
        kind, _, folder = data.partition("=")
        if load_recipe(file).data["kind"] != kind:  # what the recipe says of other data does not hold for this
            changes.append(f"data={{ kind = {quote(kind)} }}")
        if folder:
            changes.append(f"data.path={quote(folder)}")
    changes += overrides
    if encoder_weights is not None:
        changes.append(f"model.encoder_weights={quote(encoder_weights)}")
    recipe = load_recipe(file, changes)
    if recipe.task != task:
        raise ConfigError(f"recipe {path}: task is {recipe.task!r}, expected {task!r}. Use 'train {recipe.task}'.")
    return recipe


def _train(
    choose: Callable[[], Recipe],
    out: Path | None,
    resume: Path | None,
    weights: Path | None,
    device: str,
    devices: int,
    precision: str,
    cache: Path,
    *,
    as_json: bool,
) -> None:
    """Train, and say where the result lies."""
    from train.run_folder import RunFolder, read_recipe, to_json
    from train.session import Machine, train_run

    recipe = read_recipe(resume) if resume is not None else choose()
    now = datetime.now(timezone.utc)
    folder = RunFolder(resume or out or Path("runs") / f"{recipe.task}-{recipe.variant}-{now:%Y%m%d-%H%M%S}")
    trained = train_run(
        recipe,
        folder,
        Machine(device, devices, precision),
        cache=cache,
        command=command_line(sys.argv),
        resume=resume is not None,
        weights=weights,
    )
    if trained.first:
        record = trained.record
        best = "  ".join(f"{key} {value:.4g}" for key, value in record.best.items())
        typer.echo(f"run {folder.path}: best epoch {record.best_epoch}: {best}", err=True)
        if as_json:
            typer.echo(to_json(record, folder.path, trained.history))


@app.command()
def ablation(
    name: Annotated[str | None, typer.Argument(help="Which one; without a name, all are listed.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of its runs and its table.", show_default="runs/ablations/NAME")
    ] = None,
    cases: Annotated[list[str] | None, typer.Option("--case", help="Only this case; may be given again.")] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="This seed instead of the file's; may be given again.")
    ] = None,
    overrides: Overrides = None,
    device: Device = "auto",
    precision: Precision = "32-true",
    cache: Cache = Path("runs/cache"),
    json: Json = False,
) -> None:
    """Repeat a paper's comparison at a small scale: train each case once a seed, and write a table and a plot.

    What is there already is not trained again, and a training that was stopped goes on.
    """
    from train.ablation import ABLATIONS, load_ablation, plan, run_ablation, to_table, write_table
    from train.ablation_report import draw, to_markdown
    from train.session import Machine

    if name is None:
        for file in sorted(ABLATIONS.glob("*.toml")):
            typer.echo(f"{file.stem:20} {load_ablation(file.stem).title}")
        return
    chosen = load_ablation(name)
    if seeds:
        chosen = chosen.model_copy(update={"seeds": tuple(seeds)})
    folder = out or Path("runs") / "ablations" / name

    def measured(outcome: Outcome) -> None:
        write_table(outcome, folder / "results.json")
        (folder / "results.md").write_text(to_markdown(outcome), encoding="utf-8")
        draw(outcome, folder / "results.png")

    outcome = run_ablation(
        name,
        chosen,
        plan(chosen, folder, overrides or [], cases or []),
        Machine(device, 1, precision),
        cache=cache,
        command=command_line(sys.argv),
        measured=measured,
    )
    typer.echo(to_markdown(outcome), err=json)
    if json:
        typer.echo(dump_json(to_table(outcome), indent=2))


@app.command()
def features(
    run: Annotated[Path, typer.Argument(help="Folder of a grain run.")],
    out: Annotated[Path | None, typer.Option(help="The picture.", show_default="RUN/features.png")] = None,
    cache: Cache = Path("runs/cache"),
) -> None:
    """Draw what a grain network sees: its features on two axes, trained grades beside those it never saw."""
    from train.features import features_of_run

    path = out or run / "features.png"
    correlation = features_of_run(run, path, cache)
    typer.echo(f"{path}: rank correlation of the first axis with G {correlation:.3f}")


@app.command()
def refit(
    run: Annotated[Path, typer.Argument(help="Folder of a grain run, a regression.")],
    out: Annotated[Path, typer.Option(help="Folder of the new run.")],
    cache: Cache = Path("runs/cache"),
) -> None:
    """Solve the last layer of a grain regression on whole training pictures; seconds, and no learning rate."""
    from train.refit import refit_run

    figures = refit_run(run, out, cache, command_line(sys.argv))
    typer.echo(f"run {out}: " + "  ".join(f"{name} {value:.4g}" for name, value in figures.items()))


def command_line(arguments: Sequence[str]) -> str:
    """What was typed, whether it came through the front door or by this module alone.

    >>> command_line(["ferrosight.py", "train", "grain", "--variant", "compact"])
    'ferrosight train grain --variant compact'
    >>> command_line(["train/cli.py", "grain"])
    'ferrosight train grain'
    """
    typed = list(arguments[1:])
    return shlex.join(["ferrosight", "train", *(typed[1:] if typed[:1] == ["train"] else typed)])


if __name__ == "__main__":
    app()
