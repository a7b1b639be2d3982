"""The books of a camera's counter: every frame is delivered or named as lost, exactly once and in order."""

from __future__ import annotations

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


def joined(losses: list[Lost]) -> list[Lost]:
    """The same losses, with neighbours of one reason and one detail made into one."""
    result: list[Lost] = []
    for lost in losses:
        before = result[-1] if result else None
        if before is not None and lost == replace(
            before, first_index=before.stop_index, stop_index=lost.stop_index
        ):
            result[-1] = replace(before, stop_index=lost.stop_index)
        else:
            result.append(lost)
    return result
