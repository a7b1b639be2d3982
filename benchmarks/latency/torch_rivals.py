"""The same network in torch, eager and compiled, on the same device, from the same frames to outputs on the host.

The networks are built anew with random weights: shipped bundles do not carry torch's, and speed does not ask for them.
Weights lie in the type that is measured, and autocast lets everything else follow, so torch is not held up by casts of
weights that an export would have done once.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from runtime.errors import BundleError, ConfigError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from benchmarks.latency.networks import Network
    from benchmarks.latency.report import Beside
    from export.tasks.base import GraphEnd

TorchDevice = Literal["cpu", "cuda"]
DTYPES: Mapping[TorchDevice, tuple[str, ...]] = MappingProxyType(
    {"cpu": ("bfloat16", "float32"), "cuda": ("float16", "bfloat16")}
)
"""In which types torch is measured on a device, the likeliest first."""
SHORT: Mapping[str, str] = MappingProxyType({"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"})
COMPILE_MODES: Mapping[TorchDevice, str] = MappingProxyType({"cpu": "default", "cuda": "reduce-overhead"})
"""Of `torch.compile`: on a GPU the one that uses CUDA graphs, which is its best for small batches."""
_CHANNELS = ("class_probability", "grade_probability")
"""Outputs whose second axis is how many the network has."""


@dataclass(frozen=True, slots=True)
class TorchRival:
    """One way in which torch does a batch.

    Attributes:
        name: As the report calls it.
        run: Does one batch.
    """

    name: str
    run: Callable[[], None]


def why_not() -> str | None:
    """Why torch cannot be compared with here; None where it can."""
    for library in ("torch", "train"):
        if importlib.util.find_spec(library) is None:
            return f"{library} is not installed: nothing was compared with torch"
    return None


def torch_threads(threads: int | None) -> None:
    """Give torch as many CPU threads as the engines have; None leaves it alone."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def torch_rivals(
    network: Network,
    frames: NDArray[np.uint8],
    device: TorchDevice,
    beside: Sequence[Beside],
    may_compile: Callable[[], bool] = lambda: True,
) -> Iterator[TorchRival | str]:
    """Every way that was asked for; each has done a batch before it is given.

    Args:
        network: What is measured.
        frames: (n, 1, H, W) uint8, on the host.
        device: Where torch runs.
        beside: `eager`, `compile`, or both.
        may_compile: Asked before each compilation, which takes up to minutes.

    Yields:
        A way, or in words why one was left out.
    """
    if (reason := why_not()) is not None:
        yield reason
        return
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        yield f"torch {torch.__version__} finds no GPU: nothing was compared with it there"
        return
    try:
        module, end = torch_network(network)
    except (BundleError, ConfigError) as error:
        yield f"{network}: not compared with torch: {error}"
        return
    for name in DTYPES[device]:
        dtype: torch.dtype = getattr(torch, name)
        batch = _batch(module, end, frames, device, dtype)
        for way in ("eager", "compile"):
            if way not in beside:
                continue
            label = f"torch {'eager' if way == 'eager' else 'compiled'}, {SHORT[name]}"
            if way == "compile" and not may_compile():
                yield f"{label}: its time was used up; rows without a figure of it come after that"
                continue
            run = batch(compile_as=COMPILE_MODES[device] if way == "compile" else None)
            try:
                run()
            except Exception as error:  # noqa: BLE001  a compiler may fail with anything
                yield f"{network}, batch {len(frames)}: {label} failed: {type(error).__name__}: {str(error)[:200]}"
                continue
            yield TorchRival(label, run)


def torch_network(network: Network) -> tuple[nn.Module, GraphEnd]:
    """The network of a graph in torch, and what follows it in the graph.

    Raises:
        BundleError: No task's graph gives these outputs, or the network that is built has other parameters.
        ConfigError: This version knows no such architecture.
    """
    from export.tasks import TASKS, export_task
    from train.models import build, count_parameters, job_of

    graph = network.graph
    outputs = [output.name for output in graph.outputs]
    for trained_task in TASKS:
        task = export_task(trained_task)
        end = task.graphs.get(network.role)
        same_part = network.role == "model" or trained_task.endswith(network.role)
        if task.name == network.task and same_part and end and [each.name for each in end.outputs] == outputs:
            break
    else:
        raise BundleError(f"no task gives {', '.join(outputs)} of a {network.role}")
    module = build(job_of(trained_task), graph.architecture, classes=_outputs(network)).eval()
    if count_parameters(module) != graph.parameters:
        raise BundleError(
            f"found {count_parameters(module):,} parameters in torch's {graph.architecture}, expected the graph's "
            f"{graph.parameters:,}"
        )
    return module, end


def _outputs(network: Network) -> int:
    if network.task == "phase":
        return 2
    channels = [each.shape[1] for each in network.graph.outputs if each.name in _CHANNELS]
    return next((each for each in channels if isinstance(each, int)), 1)


def _batch(
    module: nn.Module, end: GraphEnd, frames: NDArray[np.uint8], device: TorchDevice, dtype: torch.dtype
) -> Callable[..., Callable[[], None]]:
    """Makes a call that takes the frames up, through the graph's own end, and down again."""
    import copy

    import torch

    from export.to_onnx import GraphModule

    whole = GraphModule(copy.deepcopy(module).to(device=device, dtype=dtype), end)
    host = torch.from_numpy(frames)
    if device == "cuda":
        host = host.pin_memory()

    def make(compile_as: str | None) -> Callable[[], None]:
        call: Any = whole
        if compile_as is not None:
            call = torch.compile(whole, mode=compile_as, dynamic=False)

        def run() -> None:
            with (
                torch.inference_mode(),
                torch.autocast(device, dtype=dtype, enabled=dtype is not torch.float32, cache_enabled=False),
            ):
                # `cpu` waits for the device.
                for output in call(host.to(device, non_blocking=True)):
                    output.cpu()

        return run

    return make
