"""One plan: parse the typed ONNX, set the shapes and targets, build, and say what went wrong.

Written against what TensorRT 10.3 to 11 and TensorRT-RTX share; the library comes in as an argument.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from runtime.errors import EngineError
from runtime.plans.manifest import EngineManifest
from runtime.plans.user_cache import UserCache
from runtime.spec import GraphSpec

Progress = Callable[[str, str, int, int], None]
"""Told the graph's role, the phase, the steps done and the steps of the phase."""


def build_plan(
    trt: Any,
    model: Path,
    graph: GraphSpec,
    manifest: EngineManifest,
    progress: Progress,
    timings: UserCache | None = None,
) -> memoryview:
    """The plan that a manifest describes, in the library's own memory.

    Args:
        trt: The module of the manifest's flavour.
        model: The ONNX file.
        graph: What it takes and gives.
        manifest: What to build.
        progress: Told of each step; an error in it stops the build and comes out.
        timings: What was timed on this machine before, and where to keep what is timed now; None where the flavour
            times nothing.

    Raises:
        EngineError: The graph cannot be parsed or built, or a target does not exist.
    """
    owner = f"build {manifest.role} ({manifest.flavour} {manifest.version})"
    log = _log(trt)
    builder = trt.Builder(log)
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # the only kind, in time
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(model)):
        said = "; ".join(_parser_error(parser.get_error(number)) for number in range(parser.num_errors))
        _fail(f"{owner}: found {model.name}, which its parser refuses", said, log)
    _check_tensors(owner, trt, network, graph)
    config = builder.create_builder_config()
    # What stays FP32 in a half graph stays so because it overflows or loses too much: TensorFloat has half's ten bits.
    tensor_float = getattr(trt.BuilderFlag, "TF32", None)
    if tensor_float is not None:
        config.clear_flag(tensor_float)
    for shapes in manifest.profiles:
        profile = builder.create_optimization_profile()
        for name, each in shapes.items():
            profile.set_shape(name, each.smallest, each.usual, each.largest)
        if config.add_optimization_profile(profile) < 0:
            _fail(f"{owner}: found a profile that it does not take", str(dict(shapes)), log)
    _set_targets(owner, trt, config, manifest.targets)
    if timings is not None:
        _use_timings(owner, config, timings)
    monitor = _monitor(trt, manifest.role, progress)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.error is not None:
        raise monitor.error
    if plan is None:
        _fail(f"{owner}: found no plan", "the builder gave none", log)
    if timings is not None:
        timings.write(bytes(config.get_timing_cache().serialize()))
    return memoryview(plan)


def _use_timings(owner: str, config: Any, timings: UserCache) -> None:
    """Give the builder what was timed here before; a file that it does not take costs this build its time, no more."""
    kept = config.create_timing_cache(timings.read() or b"")
    if kept is None or not config.set_timing_cache(kept, False):
        logging.getLogger(__name__).warning("%s: the timings in %s do not fit; timing again", owner, timings.path)
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _set_targets(owner: str, trt: Any, config: Any, targets: Sequence[str]) -> None:
    if not targets:
        return
    config.num_compute_capabilities = len(targets)
    for number, target in enumerate(targets):
        name = f"SM{target.replace('.', '')}"
        capability = getattr(trt.ComputeCapability, name, None)
        if capability is None or not config.set_compute_capability(capability, number):
            known = sorted(
                (each for each in vars(trt.ComputeCapability) if re.fullmatch(r"SM\d+", each)),
                key=lambda sm: int(sm[2:]),
            )
            raise EngineError(
                f"{owner}: found the target {target}, expected one of "
                f"{', '.join(f'{each[2:-1]}.{each[-1]}' for each in known)}. Give other --target values."
            )


def _check_tensors(owner: str, trt: Any, network: Any, graph: GraphSpec) -> None:
    """The parsed network takes and gives what the contract says."""
    for kind, number, get, wanted in (
        ("inputs", network.num_inputs, network.get_input, (graph.input,)),
        ("outputs", network.num_outputs, network.get_output, graph.outputs),
    ):
        found = {get(index).name: trt.nptype(get(index).dtype).__name__ for index in range(number)}
        expected = {tensor.name: str(tensor.dtype) for tensor in wanted}
        if found != expected:
            raise EngineError(f"{owner}: found {kind} {found}, expected {expected}. Export the bundle again.")


def _parser_error(error: Any) -> str:
    return f"node {error.node_name() or error.node()} ({error.node_operator()}): {error.desc()}"


def _fail(found: str, reason: str, log: Any) -> NoReturn:
    said = "; ".join(dict.fromkeys([reason, *log.errors]))
    raise EngineError(f"{found}: {said}. Export the bundle again, or report the graph.")


def _log(trt: Any) -> Any:
    """A logger that keeps what went wrong; warnings are the builder's own business."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message.strip())

    return Log()


def _monitor(trt: Any, role: str, progress: Progress) -> Any:
    """A progress monitor; an error (or Ctrl-C) in `progress` stops the build and comes out of it."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            super().__init__()
            self.error: BaseException | None = None
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, _parent: str | None, steps: int) -> None:
            self._steps[phase] = steps
            self._tell(phase, 0)

        def step_complete(self, phase: str, step: int) -> bool:
            self._tell(phase, step + 1)
            return self.error is None

        def phase_finish(self, phase: str) -> None:
            self._tell(phase, self._steps.get(phase, 0))

        def _tell(self, phase: str, done: int) -> None:
            if self.error is None:
                try:
                    progress(role, phase, done, self._steps.get(phase, 0))
                except BaseException as error:  # noqa: BLE001  it must not cross the library's C++ frames
                    self.error = error

    return Monitor()
