"""The books of a camera's counter: every frame is delivered or named as lost, exactly once and in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from camera.base import CameraError, Lost


class Ledger:
    """What a camera's counter has accounted for so far.

    The one place where a jump of the counter becomes a loss. It knows nothing of pixels.

    >>> ledger = Ledger("top")
    >>> ledger.frame(7)
    >>> ledger.frame(10)
    Lost(camera='top', first_index=8, stop_index=10, reason='camera_lost', detail='the counter jumped')

    Args:
        camera: Named in losses and errors.
        next_index: The first frame to be answered for; None takes the camera's own first.
    """

    def __init__(self, camera: str, next_index: int | None = None) -> None:
        self._camera = camera
        self._next_index = next_index

    @property
    def next_index(self) -> int | None:
        """The first frame that is not yet answered for; None before the first."""
        return self._next_index

    def frame(self, index: int, count: int = 1) -> Lost | None:
        """Book frames [index, index + count) as delivered.

        Returns:
            The frames before them that never came, to be told before them; None if there are none.

        Raises:
            CameraError: The counter ran backwards.
        """
        return self._book(index, index + count)

    def lost(self, lost: Lost) -> Lost | None:
        """Book frames as lost.

        Returns:
            The frames before them that never came, to be told before them; None if there are none.

        Raises:
            CameraError: They were answered for already, or the range is empty.
        """
        if lost.stop_index <= lost.first_index:
            raise CameraError(
                f"camera {self._camera}: found a loss of frames {lost.first_index} to {lost.stop_index}, "
                "expected at least one frame. This is a fault of the driver: report it."
            )
        return self._book(lost.first_index, lost.stop_index)

    def _book(self, first: int, stop: int) -> Lost | None:
        expected = self._next_index
        if expected is not None and first < expected:
            raise CameraError(
                f"camera {self._camera}: its counter ran backwards to {first}, expected {expected} or more. "
                "It was reset, or two programs use it: open it again."
            )
        self._next_index = stop
        if expected is None or first == expected:
            return None
        return Lost(self._camera, expected, first, "camera_lost", "the counter jumped")


class LineCounter:
    """One rising count over a camera that may be restarted and then begins to count anew.

    The first time, the camera's own count is kept. After an outage it goes on where it stopped, behind as many
    lost frames as the outage has cost.

    Args:
        camera: Named in losses and errors.
        nominal_hz: Frames a second of the healthy camera, to size an outage; None counts one frame, and those
            that are known to be lost.
    """

    def __init__(self, camera: str, nominal_hz: float | None = None) -> None:
        self._camera = camera
        self._nominal_hz = nominal_hz
        self._ledger = Ledger(camera)
        self._offset: int | None = 0  # from the camera's count to ours; None while the camera is away
        self._away_frames = 0
        self._last_captured_ns: int | None = None

    @property
    def next_index(self) -> int:
        """The first frame that is not yet answered for."""
        return self._ledger.next_index or 0

    def outage(self, frames_lost: int, detail: str) -> Lost | None:
        """The camera is gone.

        Args:
            frames_lost: Frames that it had counted and that never arrived.
            detail: What happened.

        Returns:
            At least one lost frame; None if it had not come back since the last outage.
        """
        if self._offset is None and frames_lost == 0:
            return None
        first = self.next_index
        self._away_frames += max(1, frames_lost)
        self._offset = None
        lost = Lost(self._camera, first, first + max(1, frames_lost), "camera_outage", detail)
        self._ledger.lost(lost)
        return lost

    def frames(self, first_index: int, captured_ns: Sequence[int]) -> tuple[int, Lost | None]:
        """Frames came.

        Args:
            first_index: The first one's index in the camera's count.
            captured_ns: When they were taken, on a clock that went on through any outage.

        Returns:
            The first one's index in our count, and what was lost before it.

        Raises:
            CameraError: The counter ran backwards.
        """
        back = self._return(first_index, captured_ns[0])
        first = first_index + (self._offset or 0)
        gap = self._ledger.frame(first, len(captured_ns))
        self._last_captured_ns = captured_ns[-1]
        return first, back or gap

    def lost(self, lost: Lost) -> tuple[Lost, Lost | None]:
        """The camera named frames as lost.

        Returns:
            The same loss in our count, and what was lost before it.

        Raises:
            CameraError: The counter ran backwards.
        """
        self._return(lost.first_index, None)
        shift = self._offset or 0
        ours = replace(lost, first_index=lost.first_index + shift, stop_index=lost.stop_index + shift)
        return ours, self._ledger.lost(ours)

    def _return(self, first_index: int, captured_ns: int | None) -> Lost | None:
        """The camera is back from an outage: fix the offset, and add what the outage has cost beyond the known."""
        if self._offset is not None:
            return None
        lost = None
        if self._nominal_hz is not None and self._last_captured_ns is not None and captured_ns is not None:
            away_s = (captured_ns - self._last_captured_ns) / 1e9
            more = round(away_s * self._nominal_hz) - 1 - self._away_frames
            if more > 0:
                first = self.next_index
                lost = Lost(self._camera, first, first + more, "camera_outage", f"no frame for {away_s:.1f} s")
                self._ledger.lost(lost)
        self._away_frames = 0
        self._offset = self.next_index - first_index
        return lost


def joined(losses: list[Lost]) -> list[Lost]:
    """The same losses, with neighbours of one reason and one detail made into one."""
    result: list[Lost] = []
    for lost in losses:
        before = result[-1] if result else None
        if before is not None and lost == replace(before, first_index=before.stop_index, stop_index=lost.stop_index):
            result[-1] = replace(before, stop_index=lost.stop_index)
        else:
            result.append(lost)
    return result
