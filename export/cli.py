"""`ferrosight export`, `ferrosight quantise`, `ferrosight build` and `ferrosight parity`."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export.progress import bars
from export.quantise_command import quantise
from runtime.errors import ConfigError
from runtime.spec import Arithmetic

if TYPE_CHECKING:
    from export.on_device import Proof
    from export.to_tensorrt import Plan
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


class TensorRt(str, Enum):
    """Which TensorRT builds."""

    tensorrt_rtx = "tensorrt_rtx"
    tensorrt = "tensorrt"


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

app.command()(quantise)


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


@app.command()
def build(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")],
    backend: Annotated[TensorRt, typer.Option(help="Which TensorRT builds.")] = TensorRt.tensorrt_rtx,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Compute capability, such as 8.9; may be given again (tensorrt_rtx).", show_default="8.6, 8.9, 12.0"
        ),
    ] = None,
    batch: Annotated[
        str, typer.Option(metavar="MIN,OPT,MAX", help="Smallest, most frequent and largest batch.")
    ] = "1,8,32",
    height: Annotated[
        str | None, typer.Option(metavar="MIN,OPT,MAX", help="Rows, where the graphs leave them free.")
    ] = None,
    width: Annotated[
        str | None, typer.Option(metavar="MIN,OPT,MAX", help="Columns, where the graphs leave them free.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build again what is there.")] = False,
    prove: Annotated[
        bool | None,
        typer.Option(
            "--parity/--no-parity",
            help="Measure the plans' parity on this machine's GPU at once.",
            show_default="yes for tensorrt, which builds on the GPU that runs the plan",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build TensorRT plans of a bundle's graphs, into the bundle: INT8 where it has such a file, else half.

    tensorrt_rtx builds for compute capabilities and needs no GPU; tensorrt builds for the GPU of this machine, and
    measures parity there at once. Exit code 0, or 1 when a parity does not hold: that plan never serves.
    """
    from export.on_device import prove_plans
    from export.to_tensorrt import TARGETS, Sizes, build_plans
    from runtime.plans.flavours import FLAVOURS

    sizes = Sizes(
        batch=_three("--batch", batch),
        height_px=None if height is None else _three("--height", height),
        width_px=None if width is None else _three("--width", width),
    )
    with bars() as report:
        plans = build_plans(
            bundle,
            sizes,
            flavour=backend.value,
            targets=target or TARGETS,
            rebuild=rebuild,
            progress=lambda role, phase, done, total: report(f"{role}: {phase}", done, total),
        )
        on_device = not FLAVOURS[backend.value].ahead_of_time if prove is None else prove
        proofs = prove_plans(bundle, backend.value, report=report) if on_device else ()
    if as_json:
        found = {proof.plan_file: _proof_facts(proof) for proof in proofs}
        plan_facts = [{**_plan_facts(plan), "parity": found.get(plan.manifest.plan_file)} for plan in plans]
        typer.echo(json.dumps(plan_facts, indent=2))
    else:
        typer.echo(_plans_text(plans))
        said = f"Before a plan serves, on each GPU: ferrosight parity {bundle} --backend {backend.value}"
        typer.echo(_proofs_text(proofs) if on_device else said)
    sys.exit(0 if all(proof.holds for proof in proofs) else 1)


@app.command()
def parity(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")],
    backend: Annotated[TensorRt, typer.Option(help="Which TensorRT runs.")] = TensorRt.tensorrt_rtx,
    as_json: Json = False,
) -> None:
    """Compare a bundle's plans, on this machine's GPU, with the networks that were trained; keep the figures.

    A plan serves only on a GPU on which its golden frames were run and its figures hold. Exit code 0 when all do, 1
    when one does not, 2 when nothing could be measured.
    """
    from export.on_device import prove_plans

    with bars() as report:
        proofs = prove_plans(bundle, backend.value, report=report)
    typer.echo(json.dumps([_proof_facts(proof) for proof in proofs], indent=2) if as_json else _proofs_text(proofs))
    sys.exit(0 if all(proof.holds for proof in proofs) else 1)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise ConfigError(f"--size is {text!r}, expected HEIGHTxWIDTH in px, such as 256x1600.")
    return int(height), int(width)


def _three(option: str, text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() for part in parts):
        raise ConfigError(f"{option} is {text!r}, expected three whole numbers, such as 1,8,32.")
    smallest, usual, largest = map(int, parts)
    if not 1 <= smallest <= usual <= largest:
        raise ConfigError(f"{option} is {text!r}, expected numbers that rise from 1, such as 1,8,32.")
    return smallest, usual, largest


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


def _plan_facts(plan: Plan) -> dict[str, Any]:
    return {
        "plan": str(plan.path),
        "size_bytes": plan.size_bytes,
        "built": plan.built,
        "manifest": plan.manifest.model_dump(mode="json"),
    }


def _plans_text(plans: tuple[Plan, ...]) -> str:
    return "\n".join(
        f"{plan.path}: {plan.size_bytes / 1e6:.1f} MB, {'built' if plan.built else 'was there and fits'}"
        for plan in plans
    )


def _proof_facts(proof: Proof) -> dict[str, Any]:
    return {"plan": proof.plan_file, "holds": proof.holds, **proof.record.model_dump(mode="json")}


def _proofs_text(proofs: tuple[Proof, ...]) -> str:
    lines: list[str] = []
    for proof in proofs:
        verdict = "may serve" if proof.holds else "must not serve"
        lines.append(f"{proof.plan_file} on {proof.record.gpu.name}: {verdict}")
        for each in proof.record.results:
            beyond = "" if each.holds else "  beyond its limit"
            lines.append(f"  {each.figure:24}{each.value:10.3g}{each.limit:10.3g}{beyond}")
    return "\n".join(lines)
