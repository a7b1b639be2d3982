"""`ferrosight quantise`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from export.progress import bars
from runtime.errors import ConfigError

if TYPE_CHECKING:
    from runtime.bundle import Bundle


def quantise(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The half bundle's folder.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new bundle.")],
    precision: Annotated[
        Literal["int8", "fp8"],
        typer.Option(help="int8 for CPUs with VNNI and GPUs; fp8 for GPUs of compute capability 8.9 and up."),
    ] = "int8",
    name: Annotated[str | None, typer.Option(help="Name of the new bundle.", show_default="its folder's")] = None,
    data: Annotated[
        str,
        typer.Option(metavar="SOURCE", help="Frames to calibrate with: synthetic=SEED, or a folder of your own."),
    ] = "synthetic=80001",
    calibrate_frames: Annotated[int, typer.Option(min=1, help="At most so many of them.")] = 100,
    graph: Annotated[
        list[str] | None, typer.Option(help="Quantise only this graph; unset: all. More than once.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="LAYER", help="Never quantise this layer. More than once.")
    ] = None,
    parity_frames: Annotated[int, typer.Option(min=1, help="Frames, beside the golden ones, that are compared.")] = 16,
    least_gain: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="A graph that is not so many times as fast on this CPU stays as it was; 0 asks not. Not for fp8.",
            show_default="1.1 for int8",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of an engine; unset: the backend's choice.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write over a bundle that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Quantise a bundle: explicit INT8 for CPUs with VNNI and for TensorRT, where it is faster and decides alike.

    Ranges come from calibration frames. All convolutions are quantised; where parity then fails, those that do most
    harm stay half, until it holds. A graph that does not win stays as it was. If none wins, nothing is written.

    FP8 is for GPUs alone. Its parity is measured by ONNX Runtime, which emulates it; its gain only the device can tell,
    and only the convolutions whose channels are multiples of 16 are tried.
    """
    from export.calibration import frame_size_px, open_calibration
    from export.on_device import task_of
    from export.quantise import QuantiseChoices, quantise_bundle
    from runtime.bundle import open_bundle

    if precision == "fp8" and least_gain is not None:
        raise ConfigError("quantise: found --least-gain with fp8, in which no CPU computes. Leave it away.")
    source = open_bundle(bundle)
    task = task_of(source.spec)
    size_px = frame_size_px(list(source.spec.graphs.values()), task.golden_size_px)
    calibration = open_calibration(data, calibrate_frames, size_px, task.draw, free_size=task.free_size)
    choices = QuantiseChoices(
        precision=precision,
        name=name,
        graphs=tuple(graph or ()),
        keep=tuple(keep or ()),
        parity_frames=parity_frames,
        least_gain=1.1 if least_gain is None else least_gain,
        threads=threads,
        replace=replace,
    )
    with bars() as report:
        written = quantise_bundle(source, task, calibration, out, choices, report)
    typer.echo(json.dumps(_facts(written), indent=2) if as_json else _text(written))


def _facts(bundle: Bundle) -> dict[str, Any]:
    return {
        "bundle": str(bundle.path),
        "digest": bundle.digest,
        "files_bytes": {name: (bundle.path / name).stat().st_size for name in bundle.spec.files},
        **bundle.spec.provenance.recipe["quantise"],
        "parity": [result.model_dump() for result in bundle.parity.results],
    }


def _text(bundle: Bundle) -> str:
    facts = _facts(bundle)
    lines = [f"bundle {bundle.path}: {sum(facts['files_bytes'].values()) / 1e6:.1f} MB", ""]
    for role, graph in facts["graphs"].items():
        if graph["why_not"]:
            lines.append(f"  {role} stays as it was: {graph['why_not']}")
            continue
        gain = f"{graph['gain']:.2f} times as fast" if "gain" in graph else f"no gain: {graph['gain_not_measured']}"
        lines.append(f"  {role}: {len(graph['quantised'])} layers in {facts['precision'].upper()}; {gain}")
        if graph["left_half"]:
            lines.append(f"    left in half: {', '.join(graph['left_half'])}")
    lines += ["", f"  {'parity':12}{'file':7}{'backend':16}{'figure':22}{'value':>10}{'limit':>10}"]
    lines += [
        f"  {each.graph:12}{each.precision:7}{each.backend:16}{each.figure:22}{each.value:10.3g}{each.limit:10.3g}"
        for each in bundle.parity.results
    ]
    return "\n".join(lines)
