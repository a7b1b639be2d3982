"""`ferrosight build` and `ferrosight parity`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export.progress import bars, building
from runtime.bundle import PREFERRED
from runtime.cuda import CUDA_APIS, DEFAULT_API, CudaApi
from runtime.errors import ConfigError
from runtime.spec import Precision, TensorSpec, read_spec

if TYPE_CHECKING:
    from export.on_device import Proof
    from export.to_tensorrt import Plan


class TensorRt(str, Enum):
    """Which TensorRT builds."""

    tensorrt_rtx = "tensorrt_rtx"
    tensorrt = "tensorrt"


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Driven = Annotated[str, typer.Option("--cuda-api", help=f"By what a GPU is driven: {', '.join(CUDA_APIS)}.")]


def build(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")],
    backend: Annotated[TensorRt, typer.Option(help="Which TensorRT builds.")] = TensorRt.tensorrt_rtx,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X.Y,...",
            help="Compute capabilities, such as 8.6,8.9,12.0; may be given again (tensorrt_rtx).",
            show_default="8.6,8.9,12.0",
        ),
    ] = None,
    batch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N,...",
            help="Batches for which the plan is tuned, each with a profile of its own; every batch from 1 up to the "
            "largest is run. May be given again.",
            show_default="1,8,32",
        ),
    ] = None,
    height: Annotated[
        str | None, typer.Option(metavar="MIN,OPT,MAX", help="Rows, where the graphs leave them free.")
    ] = None,
    width: Annotated[
        str | None, typer.Option(metavar="MIN,OPT,MAX", help="Columns, where the graphs leave them free.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Which file of each graph.", show_default="the bundle's own preference")
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
    cuda_api: Driven = DEFAULT_API,
    as_json: Json = False,
) -> None:
    """Build TensorRT plans of a bundle's graphs, into the bundle: INT8 where it has such a file, else half.

    tensorrt_rtx builds for compute capabilities and needs no GPU; tensorrt builds for the GPU of this machine, and
    measures parity there at once. Exit code 0, or 1 when a parity does not hold: that plan never serves.
    """
    from functools import partial

    from export.to_tensorrt import BATCHES, TARGETS, Sizes, build_plans, present_gpu
    from runtime.plans.flavours import FLAVOURS

    ahead = FLAVOURS[backend.value].ahead_of_time
    if target and not ahead:
        raise ConfigError(
            f"--target is {','.join(target)}, expected none with {backend.value}, which builds for the GPU of this "
            "machine. Leave it out, or build with tensorrt_rtx."
        )
    api = _api(cuda_api)
    inputs = [graph.input for graph in read_spec(bundle).graphs.values()]
    sizes = Sizes(
        batches=_batches(batch) if batch else BATCHES,
        height_px=_free("--height", height, "H", inputs),
        width_px=_free("--width", width, "W", inputs),
    )
    with building() as tell:
        plans = build_plans(
            bundle,
            sizes,
            flavour=backend.value,
            targets=_listed("--target", target) if target else TARGETS,
            precision=_precision(precision),
            rebuild=rebuild,
            progress=tell,
            gpu=partial(present_gpu, api),
        )
    on_device = not ahead if prove is None else prove
    proofs = _proofs(bundle, backend, api) if on_device else ()
    if as_json:
        found = {proof.plan_file: _proof_facts(proof) for proof in proofs}
        plan_facts = [{**_plan_facts(plan), "parity": found.get(plan.manifest.plan_file)} for plan in plans]
        typer.echo(json.dumps(plan_facts, indent=2))
    else:
        typer.echo(_plans_text(plans))
        said = f"Before a plan serves, on each GPU: ferrosight parity {bundle} --backend {backend.value}"
        typer.echo(_proofs_text(proofs) if on_device else said)
    sys.exit(0 if all(proof.holds for proof in proofs) else 1)


def parity(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")],
    backend: Annotated[TensorRt, typer.Option(help="Which TensorRT runs.")] = TensorRt.tensorrt_rtx,
    cuda_api: Driven = DEFAULT_API,
    as_json: Json = False,
) -> None:
    """Compare a bundle's plans, on this machine's GPU, with the networks that were trained; keep the figures.

    A plan serves only on a GPU on which its golden frames were run, in each batch that it is tuned for, and its figures
    hold. Exit code 0 when all do, 1 when one does not, 2 when nothing could be measured.
    """
    proofs = _proofs(bundle, backend, _api(cuda_api))
    typer.echo(json.dumps([_proof_facts(proof) for proof in proofs], indent=2) if as_json else _proofs_text(proofs))
    sys.exit(0 if all(proof.holds for proof in proofs) else 1)


def _proofs(bundle: Path, backend: TensorRt, api: CudaApi) -> tuple[Proof, ...]:
    from export.on_device import prove_plans

    with bars() as report:
        return prove_plans(bundle, backend.value, cuda_api=api, report=report)


def _listed(option: str, given: Sequence[str]) -> tuple[str, ...]:
    """What was given, in one list or in several."""
    parts = tuple(part.strip() for text in given for part in text.split(","))
    if not all(parts):
        raise ConfigError(f"{option} is {','.join(given)!r}, expected a list without gaps, such as a,b,c.")
    return parts


def _batches(given: Sequence[str]) -> tuple[int, ...]:
    parts = _listed("--batch", given)
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ConfigError(f"--batch is {','.join(given)!r}, expected whole numbers from 1 up, such as 1,8,32.")
    return tuple(map(int, parts))


def _free(option: str, text: str | None, axis: str, inputs: Sequence[TensorSpec]) -> tuple[int, int, int] | None:
    if text is None:
        return None
    if not any(axis in each.shape for each in inputs):
        raise ConfigError(
            f"{option} is {text!r}, expected none: the graphs take {' and '.join(str(each.shape) for each in inputs)}. "
            "Leave it out."
        )
    return _three(option, text)


def _three(option: str, text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(f"{option} is {text!r}, expected three whole numbers, such as 256,512,1024.")
    smallest, usual, largest = map(int, parts)
    if not 1 <= smallest <= usual <= largest:
        raise ConfigError(f"{option} is {text!r}, expected numbers that rise from 1, such as 256,512,1024.")
    return smallest, usual, largest


def _api(text: str) -> CudaApi:
    for known in CUDA_APIS:
        if text == known:
            return known
    raise ConfigError(f"--cuda-api is {text!r}, expected one of {', '.join(CUDA_APIS)}.")


def _precision(text: str | None) -> Precision | None:
    if text is None:
        return None
    for known in PREFERRED:
        if text == known:
            return known
    raise ConfigError(f"--precision is {text!r}, expected one of {', '.join(PREFERRED)}.")


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
