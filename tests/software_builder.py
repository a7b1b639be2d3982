"""The builder of the software TensorRT: a plan is the ONNX file behind its profile, kernels are timed by counting."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.software_cuda import SoftwareCuda
from tests.software_plans import VERSION
from tests.software_tensorrt import SoftwareTensorRt, software_plan


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(enum.Enum):
    TF32 = 1


class IProgressMonitor:
    """The library's."""


class SoftwareTensor:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        self.name = value.name
        self.dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).type


class SoftwareNetwork:
    """`INetworkDefinition`, once the parser has filled it."""

    def __init__(self) -> None:
        self.model = onnx.ModelProto()

    @property
    def num_inputs(self) -> int:
        return len(self.model.graph.input)

    @property
    def num_outputs(self) -> int:
        return len(self.model.graph.output)

    def get_input(self, number: int) -> SoftwareTensor:
        return SoftwareTensor(self.model.graph.input[number])

    def get_output(self, number: int) -> SoftwareTensor:
        return SoftwareTensor(self.model.graph.output[number])


class OnnxParser:
    num_errors = 0

    def __init__(self, network: SoftwareNetwork, log: Any) -> None:
        self._network = network

    def parse_from_file(self, path: str) -> bool:
        self._network.model = onnx.load(Path(path))
        return True


class SoftwareProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[Sequence[int]]] = {}

    def set_shape(self, name: str, *shapes: Sequence[int]) -> None:
        self.shapes[name] = list(shapes)


class SoftwareTimingCache:
    """Holds the operators that were timed; a file of another machine's is not taken."""

    def __init__(self, timed: set[str]) -> None:
        self.timed = timed

    def serialize(self) -> bytes:
        return json.dumps(sorted(self.timed)).encode()


class SoftwareConfig:
    """`IBuilderConfig`."""

    def __init__(self) -> None:
        self.progress_monitor: Any = None
        self.profiles: list[SoftwareProfile] = []
        self.timings = SoftwareTimingCache(set())

    def clear_flag(self, flag: BuilderFlag) -> None:
        pass

    def add_optimization_profile(self, profile: SoftwareProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, blob: bytes) -> SoftwareTimingCache | None:
        try:
            return SoftwareTimingCache(set(json.loads(blob)) if blob else set())
        except ValueError:
            return None

    def set_timing_cache(self, cache: SoftwareTimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch  # timings of another GPU choose the wrong kernels
        self.timings = cache
        return True

    def get_timing_cache(self) -> SoftwareTimingCache:
        return self.timings


class SoftwareBuilder:
    def __init__(self, trt: BuildingTensorRt) -> None:
        self._trt = trt

    def create_network(self, flags: int) -> SoftwareNetwork:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return SoftwareNetwork()

    def create_builder_config(self) -> SoftwareConfig:
        return SoftwareConfig()

    def create_optimization_profile(self) -> SoftwareProfile:
        return SoftwareProfile()

    def build_serialized_network(self, network: SoftwareNetwork, config: SoftwareConfig) -> bytes | None:
        nodes = [node.op_type for node in network.model.graph.node]
        monitor = config.progress_monitor
        monitor.phase_start("timing", None, len(nodes))
        for number, kind in enumerate(nodes):
            if kind not in config.timings.timed:
                self._trt.timed.append(kind)
                config.timings.timed.add(kind)
            if not monitor.step_complete("timing", number):
                return None
        monitor.phase_finish("timing")
        return software_plan(network.model.SerializeToString(), [each.shapes for each in config.profiles])


class BuildingTensorRt(SoftwareTensorRt):
    """The software TensorRT with its builder.

    Args:
        cuda: The device.
    """

    NetworkDefinitionCreationFlag = NetworkDefinitionCreationFlag
    BuilderFlag = BuilderFlag
    IProgressMonitor = IProgressMonitor
    OnnxParser = OnnxParser

    def __init__(self, cuda: SoftwareCuda) -> None:
        super().__init__(cuda, VERSION)
        self.timed: list[str] = []

    def Builder(self, log: Any) -> SoftwareBuilder:  # noqa: N802  the library's name
        return SoftwareBuilder(self)

    def nptype(self, dtype: Any) -> type[np.generic]:
        return dtype
