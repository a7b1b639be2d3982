"""`ferrosight export`, `ferrosight quantise`, `ferrosight build` and `ferrosight parity`."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export.build_command import build, parity
from export.progress import bars
from export.quantise_command import quantise
from runtime.errors import ConfigError
from runtime.spec import Arithmetic

if TYPE_CHECKING:
    from runtime.bundle import Bundle

app = typer.Typer(
    help="Turn trained runs into bundles, and bundles into TensorRT plans.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Weights(str, Enum):
    """Which weights of a run are exported."""

    best = "best"
    last = "last"


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

app.command()(quantise)
app.command()(build)
app.command()(parity)


@app.command()
def export(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, one for each graph of the task.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new bundle.")],
    name: Annotated[str | None, typer.Option(help="Name of the bundle.", show_default="its folder's")] = None,
    own: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="KEY=VALUE, a choice of the task, such as recall=0.995 for the strip; an unknown key lists those that "
            "there are; may be given again.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW", help="Size of the frames.", show_default="free, or that of the data where the task fixes it"
        ),
    ] = None,
    validation_frames: Annotated[int, typer.Option(min=2, help="At most so many of each run.")] = 320,
    golden_frames: Annotated[int, typer.Option(min=1, help="Frames on which parity is measured.")] = 16,
    golden_kept: Annotated[int, typer.Option(min=1, help="How many of them the bundle keeps.")] = 3,
    golden_from_data: Annotated[
        bool, typer.Option("--golden-from-data", help="Take them from the validation data, not from synthetic steel.")
    ] = False,
    arithmetic: Annotated[
        Arithmetic | None,
        typer.Option(
            help="In what a CPU computes the half files: 'backend' lets it choose bfloat16, 'fp32' does not.",
            show_default="the task's own",
        ),
    ] = None,
    weights: Annotated[
        Weights, typer.Option(help="The best weights by the validation figure, or those of the last epoch.")
    ] = Weights.best,
    ship: Annotated[bool, typer.Option("--ship", help="Leave out the FP32 files.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Write over a bundle that is there.")] = False,
    cache: Annotated[Path, typer.Option(help="Where rendered pictures are kept.")] = Path("runs/cache"),
    as_json: Json = False,
) -> None:
    """Export trained runs as one bundle: a gate and a segmenter for the strip, one run for every other task.

    Writes FP32 and typed FP16 ONNX, chooses the head's settings on the runs' validation frames, and compares every file
    with torch on OpenVINO, ONNX Runtime and emulated half arithmetic. If a figure is beyond its limit, nothing is
    written.
    """
    from export.assemble import assemble, open_runs
    from export.tasks.base import Choices
    from train.recipe import apply_override

    choices = Choices(
        name=name,
        size_px=None if size is None else _size(size),
        validation_frames=validation_frames,
        golden_frames=golden_frames,
        golden_kept=golden_kept,
        golden_from_data=golden_from_data,
        arithmetic=arithmetic,
        weights=weights.value,
        ship=ship,
        replace=replace,
        cache=cache,
    )
    chosen: dict[str, Any] = {}
    for override in own or []:
        apply_override(chosen, override)
    task, trained = open_runs(runs, choices)
    with bars() as report:
        bundle = assemble(task, trained, out, choices, chosen, report)
    typer.echo(json.dumps(_bundle_facts(bundle), indent=2) if as_json else _bundle_text(bundle))


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise ConfigError(f"--size is {text!r}, expected HEIGHTxWIDTH in px, such as 256x1600.")
    return int(height), int(width)


def _bundle_facts(bundle: Bundle) -> dict[str, Any]:
    return {
        "bundle": str(bundle.path),
        "digest": bundle.digest,
        "settings": bundle.spec.settings,
        "files_bytes": {name: (bundle.path / name).stat().st_size for name in bundle.spec.files},
        "parity": [result.model_dump() for result in bundle.parity.results],
        "fp32_nodes": bundle.spec.provenance.recipe.get("export", {}).get("fp32_nodes", {}),
    }


def _bundle_text(bundle: Bundle) -> str:
    facts = _bundle_facts(bundle)
    total_mb = sum(facts["files_bytes"].values()) / 1e6
    lines = [f"bundle {bundle.path}: {len(bundle.spec.files)} files, {total_mb:.1f} MB", ""]
    lines += [f"  {name:20} {value}" for name, value in bundle.spec.settings.items()]
    lines += ["", f"  {'parity':12}{'file':7}{'backend':16}{'figure':22}{'value':>10}{'limit':>10}"]
    lines += [
        f"  {each.graph:12}{each.precision:7}{each.backend:16}{each.figure:22}{each.value:10.3g}{each.limit:10.3g}"
        for each in bundle.parity.results
    ]
    lines += [
        f"  {role}: {len(nodes)} nodes stay FP32, because they overflow in half: {', '.join(nodes)}"
        for role, nodes in facts["fp32_nodes"].items()
        if nodes
    ]
    return "\n".join(lines)
