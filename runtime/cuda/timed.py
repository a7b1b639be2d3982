"""A device that takes the time of its copies and of what lies between them: for benchmarks, never for a line.

It stands in front of another and puts timed events around the copies, so that whoever drives it is measured as it is
and knows nothing of it.

```
upload | compute | download
^      ^         ^         ^   begun, uploaded, computed, downloaded
```
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from runtime.cuda.calls import Cuda, DeviceMemory, Event, GpuFacts, Graph, PinnedMemory, Stream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StageTimes:
    """One batch on the device, in its own milliseconds.

    Attributes:
        upload_ms: The frames' copy.
        compute_ms: From its end to the first copy of outputs, the wait for another batch's compute included.
        download_ms: The outputs' copies.
    """

    upload_ms: float
    compute_ms: float
    download_ms: float


@dataclass(slots=True)
class _Marks:
    begun: Event
    uploaded: Event
    computed: Event
    downloaded: Event
    downloading: bool = False


class TimedCuda:
    """See `runtime.cuda.calls.Cuda`, and `stages` for the times.

    Args:
        cuda: The device; closed with this one.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._marks: dict[Stream, _Marks] = {}
        self._last: _Marks | None = None

    def stages(self) -> StageTimes | None:
        """The times of the batch whose outputs were asked for last; None before there was one.

        Raises:
            EngineError: Its outputs are not there yet.
        """
        marks, cuda = self._last, self._cuda
        if marks is None:
            return None
        return StageTimes(
            upload_ms=cuda.elapsed_ms(marks.begun, marks.uploaded),
            compute_ms=cuda.elapsed_ms(marks.uploaded, marks.computed),
            download_ms=cuda.elapsed_ms(marks.computed, marks.downloaded),
        )

    def make_stream(self) -> Stream:
        """See `Cuda.make_stream`; its events are made with it, so that no batch pays for them."""
        stream = self._cuda.make_stream()
        begun, uploaded, computed, downloaded = (self._cuda.make_event(timed=True) for _ in range(4))
        self._marks[stream] = _Marks(begun, uploaded, computed, downloaded)
        return stream

    def upload(self, source: PinnedMemory, target: DeviceMemory, stream: Stream) -> None:
        """See `Cuda.upload`."""
        marks, cuda = self._marks[stream], self._cuda
        marks.downloading = False
        cuda.record(marks.begun, stream)
        cuda.upload(source, target, stream)
        cuda.record(marks.uploaded, stream)

    def download(self, source: DeviceMemory, target: PinnedMemory, stream: Stream) -> None:
        """See `Cuda.download`."""
        marks, cuda = self._marks[stream], self._cuda
        if not marks.downloading:
            marks.downloading = True
            cuda.record(marks.computed, stream)
        cuda.download(source, target, stream)
        cuda.record(marks.downloaded, stream)
        self._last = marks

    @property
    def gpu(self) -> GpuFacts:
        """See `Cuda.gpu`."""
        return self._cuda.gpu

    @property
    def can_capture(self) -> bool:
        """See `Cuda.can_capture`."""
        return self._cuda.can_capture

    @property
    def used_bytes(self) -> int:
        """See `Cuda.used_bytes`."""
        return self._cuda.used_bytes

    def make_event(self, *, timed: bool = False) -> Event:
        """See `Cuda.make_event`."""
        return self._cuda.make_event(timed=timed)

    def allocate(self, size_bytes: int) -> DeviceMemory:
        """See `Cuda.allocate`."""
        return self._cuda.allocate(size_bytes)

    def allocate_pinned(self, size_bytes: int) -> PinnedMemory:
        """See `Cuda.allocate_pinned`."""
        return self._cuda.allocate_pinned(size_bytes)

    def register(self, memory: NDArray[np.uint8]) -> None:
        """See `Cuda.register`."""
        self._cuda.register(memory)

    def pinned(self, memory: NDArray[np.uint8]) -> PinnedMemory | None:
        """See `Cuda.pinned`."""
        return self._cuda.pinned(memory)

    def record(self, event: Event, stream: Stream) -> None:
        """See `Cuda.record`."""
        self._cuda.record(event, stream)

    def wait(self, stream: Stream, event: Event) -> None:
        """See `Cuda.wait`."""
        self._cuda.wait(stream, event)

    def synchronize(self, event: Event) -> None:
        """See `Cuda.synchronize`."""
        self._cuda.synchronize(event)

    def elapsed_ms(self, first: Event, second: Event) -> float:
        """See `Cuda.elapsed_ms`."""
        return self._cuda.elapsed_ms(first, second)

    def synchronize_stream(self, stream: Stream) -> None:
        """See `Cuda.synchronize_stream`."""
        self._cuda.synchronize_stream(stream)

    def begin_capture(self, stream: Stream) -> None:
        """See `Cuda.begin_capture`."""
        self._cuda.begin_capture(stream)

    def end_capture(self, stream: Stream) -> Graph:
        """See `Cuda.end_capture`."""
        return self._cuda.end_capture(stream)

    def launch(self, graph: Graph, stream: Stream) -> None:
        """See `Cuda.launch`."""
        self._cuda.launch(graph, stream)

    def hand_over(self) -> None:
        """See `Cuda.hand_over`."""
        self._cuda.hand_over()

    def take_over(self) -> None:
        """See `Cuda.take_over`."""
        self._cuda.take_over()

    def close(self) -> None:
        """See `Cuda.close`."""
        self._cuda.close()

    def __enter__(self) -> TimedCuda:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
