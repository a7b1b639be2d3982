"""The changes of a station's bundle, one at a time: a thread that makes them ready, and what the loop takes of them.

```
thread   wait for a request -> make ready (seconds) -> offer ........................ close the old one -> answer
loop     batch   batch   batch   batch   batch   batch      land, take, publish   batch   batch   batch
```

The thread opens the new bundle's engines, warms them and runs its golden frames while the old one serves. Engines then
change hands: the loop takes over what the thread opened, and the thread closes what the loop gives up. Nothing of the
loop waits for a file, a compiler or a device's allocator.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic

from runtime.bundle import digest_of
from runtime.errors import BundleError, ConfigError, EngineError
from runtime.messages import Message, ModelIdentity, Swapped, SwapRefused
from runtime.serving import E, Serving
from runtime.spec import SPEC_FILE
from runtime.swap.requests import SwapRequest, parse_swap, place_of
from runtime.triggered.requests import RefusedError

if TYPE_CHECKING:
    from runtime.swap.preparation import Successor
    from runtime.triggered.request_socket import Request, RequestSocket

log = logging.getLogger(__name__)

POLL_S = 0.1
"""How often the thread looks whether it is to stop, and the loop's answer has come."""

SIGNALLED = "SIGHUP"
"""Who asks where nobody gives a name: the service manager's reload."""


@dataclass(slots=True)
class Offer(Generic[E]):
    """One change on its way to the loop; see `runtime.serving.Change`.

    Attributes:
        asked: The request.
        path: The bundle's folder.
        before: What serves.
        successor: What is to take over; None where it could not be made ready.
        detail: Why it could not; empty as long as nothing is wrong.
        taken: Called in the loop's thread with the engines that have just become its own.
    """

    asked: SwapRequest
    path: Path
    before: ModelIdentity
    successor: Successor[E] | None
    detail: str
    taken: Callable[[E], None]
    retired: Serving[E] | None = None
    published: Message | None = None
    settled: threading.Event = field(default_factory=threading.Event)

    @property
    def ready(self) -> Serving[E] | None:
        """What is to take over, if there is something."""
        return None if self.successor is None else self.successor.serving

    def take(self, old: Serving[E]) -> Serving[E]:
        """Let the new bundle take over in the loop's own thread; the old one serves on where it cannot."""
        new = self.ready
        if new is None:
            return old
        old.engines.hand_over()
        try:
            new.engines.take_over()
        except EngineError as error:
            self.detail = f"its engines could not be handed over: {error}"
            old.engines.take_over()
            self.taken(old.engines)
            return old
        self.taken(new.engines)
        new.answerer.follow(old.answerer)
        self.retired = old
        return new

    def message(self, envelope: dict[str, Any], next_index: int | None) -> Message:
        """What is published of it."""
        if self.retired is None or self.successor is None:
            return SwapRefused(
                **envelope,
                model=self.before,
                bundle=str(self.path),
                name=self.asked.name,
                reason=self.asked.reason,
                detail=self.detail,
            )
        return Swapped(
            **envelope,
            before=self.before,
            model=self.successor.model,
            next_index=next_index,
            name=self.asked.name,
            reason=self.asked.reason,
        )

    def done(self, message: Message) -> None:
        """Let the thread go on."""
        self.published = message
        self.settled.set()


class Changes(Generic[E]):
    """Makes changes ready from the moment it is made until it is closed.

    Args:
        station: The station's name.
        serving: What serves now.
        make_ready: Opens a bundle's folder and gives what could take over.
        taken: Called in the loop's thread with engines that have just become its own, to tell them where frames are.
        bundle: The folder that a reload opens again.
        folder: Where bundles that are asked for must lie.
        requests: The socket that takes requests, which is the thread's from here on.
        reload: Set by whoever wants `bundle` opened again, such as a signal's handler.
    """

    def __init__(
        self,
        station: str,
        serving: ModelIdentity,
        make_ready: Callable[[Path], Successor[E]],
        taken: Callable[[E], None],
        *,
        bundle: Path,
        folder: Path,
        requests: RequestSocket,
        reload: threading.Event,
    ) -> None:
        self._station = station
        self._serving = serving
        self._make_ready = make_ready
        self._taken = taken
        self._bundle = bundle
        self._folder = folder
        self._requests = requests
        self.endpoint = requests.endpoint
        self._offer: Offer[E] | None = None
        self._last: Swapped | None = None
        self._reload = reload
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="swap", daemon=True)
        self._thread.start()

    def due(self) -> Offer[E] | None:
        """What the loop is to take; each offer comes once."""
        offer, self._offer = self._offer, None
        return offer

    def close(self) -> None:
        """Stop, after the preparation that is under way; what was not taken is closed. Again does nothing."""
        self._closed.set()
        self._thread.join()

    def __enter__(self) -> Changes[E]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        try:
            while not self._closed.is_set():
                if self._reload.is_set():
                    self._reload.clear()
                    self._serve_reload()
                elif self._requests.wait(POLL_S) and (request := self._requests.receive()) is not None:
                    self._serve(request)
        finally:
            while (request := self._requests.receive()) is not None:
                self._requests.refuse(request, _stopping())
            self._requests.close()

    def _serve_reload(self) -> None:
        """Change to what lies in the station's own bundle folder now; the message tells everyone."""
        try:
            self._change(SwapRequest(station=self._station, bundle=str(self._bundle), name=SIGNALLED), self._bundle)
        except RefusedError as error:
            log.warning("station %s: reload: %s", self._station, error)

    def _serve(self, request: Request) -> None:
        """Answer one request, once the bundle serves or it is known why it does not."""
        try:
            asked = parse_swap(request.parts, self._station)
            message, known = self._change(asked, place_of(asked.bundle, self._folder))
        except RefusedError as error:
            log.info("refused a request: %s", error)
            self._requests.refuse(request, error)
        else:
            self._requests.tell(request, message, known=known)

    def _change(self, asked: SwapRequest, path: Path) -> tuple[Message, bool]:
        """Make a bundle ready, have the loop take it, and close what served before.

        Returns:
            What was published, and whether that was before this request.

        Raises:
            RefusedError: It serves already, or the station is stopping.
        """
        log.info("station %s: %s asks for %s", self._station, asked.name, path)
        if _digest(path) == self._serving.digest:
            if self._last is not None:
                return self._last, True
            raise RefusedError(
                "bad_request",
                f"found the bundle {path}, which serves already, expected another one. There is nothing to do.",
            )
        offer = self._prepare(asked, path)
        self._offer = offer
        while not offer.settled.wait(POLL_S):
            if self._closed.is_set():  # the loop has ended, and takes it no more
                self._offer = None
                _retire(offer.retired or offer.ready)
                raise _stopping()
        return self._settle(offer), False

    def _prepare(self, asked: SwapRequest, path: Path) -> Offer[E]:
        successor, detail = None, ""
        try:
            successor = self._make_ready(path)
            successor.serving.engines.hand_over()
        except (BundleError, ConfigError, EngineError, OSError) as error:
            detail = str(error)
        except MemoryError as error:
            detail = f"bundle {path}: there is no memory for it beside the one that serves ({error}). Free some."
        except Exception as error:
            # One odd bundle must not stop the line, nor leave it deaf for the next one.
            log.exception("station %s: bundle %s", self._station, path)
            detail = f"bundle {path}: {type(error).__name__}: {error}. Report it."
        if detail and successor is not None:
            _retire(successor.serving)
            successor = None
        return Offer(asked, path, self._serving, successor, detail, self._taken)

    def _settle(self, offer: Offer[E]) -> Message:
        """After the loop is done with an offer: close the bundle that does not serve."""
        message = offer.published
        if message is None:
            raise RuntimeError("changes: found an offer settled without a message, expected one.")
        _retire(offer.retired or offer.ready)
        if isinstance(message, Swapped):
            self._serving, self._last = message.model, message
            log.info("station %s: %s serves from frame %s on", self._station, message.model.digest, message.next_index)
        else:
            log.warning("station %s: %s serves on: %s", self._station, self._serving.digest, offer.detail)
        return message


def _retire(serving: Serving[E] | None) -> None:
    """Close a bundle's engines in this thread, whether they are its own or were handed over."""
    if serving is None:
        return
    # A device that fails here fails the bundle that serves too, and that is where it counts.
    with suppress(EngineError):
        serving.engines.take_over()
    with suppress(EngineError):
        serving.engines.close()


def _digest(path: Path) -> str:
    """What a bundle's messages would name; empty where there is none, of which its opening says more."""
    try:
        return digest_of(path / SPEC_FILE)
    except OSError:
        return ""


def _stopping() -> RefusedError:
    return RefusedError("unavailable", "found a station that is stopping. Ask again when it runs.")
