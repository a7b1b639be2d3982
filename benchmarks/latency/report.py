"""What `ferrosight bench latency` is asked, and what it writes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from benchmarks.device import DeviceState
from benchmarks.machine import Machine
from benchmarks.report import BundleName, Percentiles, Report, TailPercentiles
from runtime.spec import Precision

Asked = tuple[Precision, ...] | Literal["all"] | None
"""In which precisions graphs are measured: those named, all that there are, or the one that their bundle prefers."""
Beside = Literal["bare", "eager", "compile"]
"""What a row may be held against: the backend's own API, torch as it comes, torch.compile."""
LEAST_RUNS = 3
"""Batches of a cell that no time limit cuts off."""
TAIL_RUNS = 1000
"""Batches from which a p99.9 is more than the largest seen."""


class LatencyPlan(Report):
    """What is measured, and how long."""

    backends: tuple[str, ...] = Field(default=("openvino",), min_length=1)
    batches: tuple[int, ...] = Field(default=(1, 2, 4, 8), min_length=1)
    graphs: tuple[str, ...] | None = Field(default=None, description="roles; unset: every graph")
    precision: Asked = Field(
        default=None, description="unset: the bundle's preference, int8 before fp16; all: each file of the bundle"
    )
    runs: int = Field(default=100, ge=1, description="batches timed in a cell, each way")
    warm_up: int = Field(default=5, ge=0, description="batches before, not timed")
    most_s: float = Field(
        default=30.0, gt=0, description=f"seconds after which a way is timed no more, not before {LEAST_RUNS} batches"
    )
    slots: int = Field(default=2, ge=1, description="batches in flight for the throughput")
    threads: int | None = Field(default=None, ge=1, description="CPU threads; unset: the library's choice")
    size_px: tuple[int, int] | None = Field(
        default=None, description="rows and columns, for graphs that leave them open"
    )
    seed: int = Field(default=0, ge=0, description="synthetic strip that the frames show")
    beside: tuple[Beside, ...] = Field(default=(), description="what each row is held against, in the same minutes")
    compile_most_s: float = Field(default=120.0, ge=0, description="seconds of compiling after which no more is begun")
    idle_s: float | None = Field(
        default=None, gt=0, description="stand still so long, then time one batch: for each backend and task once"
    )
    most_total_s: float | None = Field(default=None, gt=0, description="seconds after which no cell is begun")

    @field_validator("precision", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        """As reports of version 2 have it."""
        return (value,) if isinstance(value, str) and value != "all" else value


class StageTimes(Report):
    """Where a batch's time goes, medians in milliseconds; null where there is no such stage, or it was not measured."""

    submit: float = Field(description="host: checks, the slot, and the start; a GPU's copies are asked for within it")
    upload: float | None = Field(description="frames to the device, by its own clock")
    compute: float = Field(description="a GPU's own clock; on a CPU from the end of submit to the end of collect")
    download: float | None = Field(description="outputs to the host, by the device's own clock")
    post: float | None = Field(description="the task's head over all frames of the batch; null for random weights")


class Rival(Report):
    """Something else that did the same work, in turns with the row."""

    name: str = Field(description="such as 'openvino, bare' or 'torch eager, bf16'")
    p50_ms: float
    runs: int
    times_faster: float = Field(description="its p50 divided by the row's: above 1 the row is the faster one")


class AfterIdle(Report):
    """The first batch after the device stood still."""

    idle_s: float
    left_alone_ms: float
    kept_awake_ms: float = Field(description="with what a line does while it stands still")


class Published(Report):
    """What a paper says of its own speed."""

    latency_ms: float
    device: str
    place: str = Field(description="in the paper")


class LatencyRow(Report):
    """One cell: a graph at a size, a backend, a precision, a batch."""

    task: str
    graph: str
    architecture: str
    variant: str
    trained: bool = Field(description="false: random weights, which are as fast")
    parameters: int
    backend: str
    precision: str = Field(description="of the file")
    arithmetic: str = Field(description="in what it is computed, as far as the backend says")
    height_px: int
    width_px: int
    batch: int
    runs: int = Field(description="batches timed with nothing else in flight")
    batch_ms: TailPercentiles = Field(description="submit to the end of collect, one batch at a time")
    frame_ms: Percentiles = Field(description="batch_ms divided by the batch")
    throughput_fps: float = Field(description="frames a second with all slots in flight")
    stages_ms: StageTimes
    memory_mib: float | None = Field(description="device memory of the engine; on a CPU the growth of the peak RSS")
    after_idle: AfterIdle | None
    rivals: tuple[Rival, ...]
    published: Published | None = Field(description="the paper's figure for this network; null where it gives none")

    @property
    def title(self) -> str:
        """The row's network in a few words."""
        graph = "" if self.graph == "model" else f" {self.graph}"
        return f"{self.task}{graph}: {self.architecture}"


class LatencyReport(Report):
    """What `ferrosight bench latency` writes."""

    schema_version: Literal["ferrosight.bench_latency/3"] = Field(default="ferrosight.bench_latency/3", alias="schema")
    subject: str = Field(description="what was measured, in a few words")
    machine: Machine
    before: DeviceState
    after: DeviceState
    bundles: tuple[BundleName, ...]
    plan: LatencyPlan
    rows: tuple[LatencyRow, ...]
    left_out: tuple[str, ...] = Field(description="what was asked for and not measured, and why")
