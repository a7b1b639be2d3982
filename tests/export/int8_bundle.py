"""A strip bundle of two small convolutional networks, with which quantising can be tried in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from export.bundle import Draft, write_bundle
from export.half import to_half
from export.tasks.strip_graphs import ENDS
from export.to_onnx import output_specs, to_onnx, torch_outputs
from runtime.bundle import Bundle, Parity, ParityResult
from runtime.golden.frames import Golden
from runtime.spec import GraphSpec, Provenance, TensorSpec
from tests.bundles import PLAIN_SETTINGS
from tests.export.graphs import TinyGate, TinySegmenter, noise, seeded

HEIGHT_PX, WIDTH_PX = 64, 64


def make_conv_bundle(folder: Path) -> Bundle:
    """Write a half bundle of `TinyGate` and `TinySegmenter` for frames of 64x64; each has a layer that suits FP8."""
    networks = {"gate": seeded(TinyGate(16, 16)), "segmenter": seeded(TinySegmenter(4, 16, 16))}
    frames = noise(3, HEIGHT_PX, WIDTH_PX)
    graphs: dict[str, GraphSpec] = {}
    onnx: dict[str, Path] = {}
    results: list[ParityResult] = []
    folder.mkdir(parents=True)
    for role, network in networks.items():
        single = to_onnx(network, role, ENDS[role], (HEIGHT_PX, WIDTH_PX))
        name = f"{role}.fp16.onnx"
        onnx[name] = folder / name
        ir.save(to_half(single), onnx[name])
        graphs[role] = GraphSpec(
            architecture=f"tiny-{role}",
            variant="compact",
            parameters=sum(each.numel() for each in network.parameters()),
            files={"fp16": name},
            input=TensorSpec(name="frames", dtype="uint8", shape=("N", 1, HEIGHT_PX, WIDTH_PX)),
            outputs=output_specs(single, ENDS[role]),
        )
        results += [
            ParityResult(
                graph=role, precision="fp16", backend="openvino", figure=name, value=0.0, limit=limit, passed=True
            )
            for name, limit in ENDS[role].comparison.limits.items()
        ]
    golden = {role: torch_outputs(network, ENDS[role], frames) for role, network in networks.items()}
    draft = Draft(
        name="conv",
        task="strip",
        graphs=graphs,
        onnx=onnx,
        settings=PLAIN_SETTINGS,
        provenance=Provenance(
            recipe={}, data={"gate": "0" * 64}, git_commit="0" * 40, created_at="2024-01-01T00:00:00Z", metrics={}
        ),
        golden=Golden(np.asarray(frames), golden),
        parity=Parity(limits={"gate_flips": 0.0}, results=tuple(results)),
    )
    return write_bundle(draft, folder / "bundle")
