"""The loop of a triggered station: a picture comes, is scored once, and is answered for.

```
request -----+                     known --------------------------------> what was said then
             +--> bytes, SHA-256 --+
hot folder --+                     new --> decode --> model --> decide --> journal --> publish --> answer
                                              |         |
                                              +---------+--> missed, with the reason
```

One thread does all of it, one picture at a time, requests first; between two pictures another bundle may take over. The
journal decides what is known, so that a crash between any two steps leaves each picture scored once: what is not in the
journal was never published and is scored again, what is in it never is.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from camera.base import CameraError
from runtime.errors import ConfigError, DataError, EngineError
from runtime.facts import SIDECAR_SUFFIX, Facts, read_facts, with_facts
from runtime.messages import Missed, RunEnded, RunStarted, Swapped
from runtime.triggered.hot_folder import Due, HotFolder, Look
from runtime.triggered.office import Office, Told, keep
from runtime.triggered.requests import OverrideRequest, RefusedError, ScoreRequest, parse_request
from runtime.triggered.scorer import MissedPictureError, Picture, keep_picture

if TYPE_CHECKING:
    from runtime.loop import Desk
    from runtime.pipeline import Album
    from runtime.serving import Change
    from runtime.sized_engines import SizedEngines
    from runtime.triggered.request_socket import Request, RequestSocket
    from runtime.triggered.settings import FactName

log = logging.getLogger(__name__)

LOOK_SHARE = 9
"""The hot folder is looked through for at most a tenth of the time."""

MOST_UNDRAWN = 8
"""Scores that wait with their pixels to be drawn when nothing else is to be done; of more, the oldest is drawn."""


@dataclass(frozen=True, slots=True)
class TriggerRules:
    """What holds for every picture of the station.

    Attributes:
        station: The station's name.
        facts: What is known of every picture.
        needs: Facts without which none is scored.
        takes_pictures: Whether a request may bring one.
        keep: Folder that keeps the pictures of requests; None keeps none.
        max_bytes: Of the largest picture file in the hot folder.
        poll_s: How often the hot folder is looked through, and the longest wait for a request.
    """

    station: str
    facts: Facts = field(default_factory=Facts)
    needs: tuple[FactName, ...] = ()
    takes_pictures: bool = True
    keep: Path | None = None
    max_bytes: int = 64 << 20
    poll_s: float = 0.2


class TriggeredLoop:
    """One run of a triggered station, from `run_started` to `run_ended`.

    Args:
        office: Answers for pictures.
        desk: Where messages go.
        requests: The socket that takes requests.
        folder: The hot folder, if there is one.
        rules: What holds for every picture.
        started: Fills `run_started` once the first envelope is known.
        open_album: Opens what keeps the pictures for people of a run; None draws none.
        clock_ns: Monotonic clock.
        due_change: Asked between pictures for a change of the bundle; None says that there is none.
    """

    def __init__(
        self,
        office: Office,
        desk: Desk,
        requests: RequestSocket,
        folder: HotFolder | None,
        rules: TriggerRules,
        started: Callable[[dict[str, Any]], RunStarted],
        *,
        open_album: Callable[[RunStarted], Album] | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        due_change: Callable[[], Change[SizedEngines] | None] = lambda: None,
    ) -> None:
        self._office = office
        self._desk = desk
        self._requests = requests
        self._folder = folder
        self._rules = rules
        self._started = started
        self._open_album = open_album
        self._album: Album | None = None
        self._clock_ns = clock_ns
        self._due_change = due_change
        self._undrawn: deque[Told] = deque()
        self._due: deque[Due] = deque()
        self._look_again_ns = 0
        self._folder_gone = False

    def run(self, stopped: Callable[[], bool]) -> RunEnded:
        """Score what comes until somebody asks to stop.

        Returns:
            The last message of the run, as published.

        Raises:
            EngineError: The model failed on too many pictures in a row; the run is published as failed.
            ConfigError: The album cannot be opened.
            JournalError: The journal refuses for too long; nothing is published that is not in it.
        """
        started = self._started(self._desk.envelope(self._clock_ns()))
        self._desk.publish([started])
        try:
            self._album = None if self._open_album is None else self._open_album(started)
            while not stopped():
                if (change := self._due_change()) is not None:
                    self._swap(change)
                worked = self._serve_request()
                worked |= self._serve_folder()
                self._office.check_model()
                books = self._office.coverage
                self._desk.idle("running", books.frames_inspected, books.frames_missed)
                if not worked and not self._draw():
                    self._office.keep_awake()
                    self._requests.wait(self._rules.poll_s)
        except (EngineError, ConfigError) as error:
            self._refuse_waiting()
            self._end("failed", str(error))
            raise
        else:
            self._refuse_waiting()
            return self._end("stopped", "")
        finally:
            while self._draw():
                pass
            if self._album is not None:
                self._album.close()

    def _swap(self, change: Change[SizedEngines]) -> None:
        """Let another bundle take over; what the old one could not score it may."""
        if isinstance(self._office.swap(change), Swapped) and self._folder is not None:
            self._folder.try_missed_again()

    def _serve_request(self) -> bool:
        """Answer the request that has waited longest; gives whether there was one."""
        request = self._requests.receive()
        if request is None:
            return False
        came_ns = self._clock_ns()
        try:
            self._requests.check_size(request)
            asked = parse_request(request.parts, self._rules.station)
            if isinstance(asked, OverrideRequest):
                self._tell(request, self._office.override(asked))
            else:
                self._score_request(request, *asked, came_ns)
        except RefusedError as error:
            log.info("refused a request: %s", error)
            self._requests.refuse(request, error)
        return True

    def _score_request(self, request: Request, asked: ScoreRequest, data: bytes, came_ns: int) -> None:
        """Score the picture of a request, and answer before anything is drawn."""
        picture = Picture.of(asked.source, data, came_ns, self._clock_ns)
        if not self._rules.takes_pictures:
            raise RefusedError(
                "no_pictures",
                "found a picture, expected none at this station. Put it into its hot folder, or set "
                "'pictures = true' in its request table.",
                picture.image_sha256,
            )
        who = f"picture {asked.source or picture.image_sha256[:12]}"
        if self._rules.keep is not None and self._office.known(picture.image_sha256) is None:
            picture = self._keep_file(picture, self._rules.keep)
        facts = _facts_or_fault(lambda: with_facts(self._rules.facts, asked.facts, who))
        self._tell(request, self._answer(picture, facts, who))

    def _keep_file(self, picture: Picture, folder: Path) -> Picture:
        try:
            return keep_picture(picture, folder)
        except ConfigError as error:
            raise RefusedError("unavailable", str(error), picture.image_sha256) from error

    def _tell(self, request: Request, told: Told) -> None:
        self._requests.tell(request, told.message, known=told.known)
        self._keep(told)

    def _refuse_waiting(self) -> None:
        """Whoever asked too late is to ask again, and not to wait in vain."""
        while (request := self._requests.receive()) is not None:
            error = RefusedError("unavailable", "found a station that is stopping. Ask again when it runs.")
            self._requests.refuse(request, error)

    def _serve_folder(self) -> bool:
        """Take the next picture of the hot folder; gives whether there was one."""
        if self._folder is None:
            return False
        if not self._due and self._clock_ns() >= self._look_again_ns:
            began_ns = self._clock_ns()
            self._due.extend(self._look(self._folder))
            now_ns = self._clock_ns()
            # A folder of many thousand files is looked through less often, so that requests find the station awake.
            self._look_again_ns = now_ns + max(round(self._rules.poll_s * 1e9), LOOK_SHARE * (now_ns - began_ns))
        if not self._due:
            return False
        self._take_file(self._folder, self._due.popleft())
        return True

    def _look(self, folder: HotFolder) -> list[Due]:
        try:
            due = folder.due(self._clock_ns())
        except CameraError as error:
            if not self._folder_gone:
                log.warning("%s", error)
            self._folder_gone = True
            return []
        self._folder_gone = False
        return due

    def _take_file(self, folder: HotFolder, due: Due) -> None:
        """Read a file of the hot folder and answer for it, or leave it until it is whole."""
        came_ns = self._clock_ns()
        source = str(due.path)
        if not due.settled:
            text = f"picture {source}: is still changing, expected it to be whole by now. It is scored once it is."
            self._office.miss(source, None, MissedPictureError("not_settled", text))
            folder.answered(due)
            return
        size_bytes = due.look.picture[0]
        if size_bytes > self._rules.max_bytes:
            text = f"picture {source}: found {size_bytes} bytes, expected at most {self._rules.max_bytes}. "
            self._office.miss(source, None, MissedPictureError("unreadable", text + "Compress it, or raise max_bytes."))
            folder.answered(due)
            return
        try:
            facts = _facts_or_fault(lambda: read_facts(due.path, self._rules.facts))
            data = due.path.read_bytes()
            if Look.of(due.path) != due.look:
                return  # somebody writes it again, or the facts beside it
        except FileNotFoundError:
            return
        except OSError as error:
            self._leave(folder, due, None, f"picture {source}: {error.strerror}, expected a file that can be read.")
            return
        picture = Picture.of(source, data, came_ns, self._clock_ns)
        missed = False
        try:
            told = self._answer(picture, facts, f"picture {source}", due)
        except RefusedError as error:
            log.info("%s: %s", source, error)
        except MissedPictureError as error:
            self._leave(folder, due, picture.image_sha256, str(error))
            return
        else:
            if told.known:
                log.info("%s holds the picture of message %d", source, told.message.sequence)
            self._keep(told)
            missed = isinstance(told.message, Missed)
        folder.answered(due, missed=missed)

    def _leave(self, folder: HotFolder, due: Due, image_sha256: str | None, fault: str) -> None:
        """A file that cannot be read as it is: it may still become whole, until its patience is out."""
        if not due.last:
            folder.not_whole(due)
            return
        self._office.miss(str(due.path), image_sha256, MissedPictureError("unreadable", fault))
        folder.answered(due)

    def _answer(self, picture: Picture, facts: Facts | DataError, who: str, due: Due | None = None) -> Told:
        """What is said of a picture: again if it is known, else a new score, else why there is none.

        Raises:
            RefusedError: What was said of it is gone.
            MissedPictureError: It is no whole picture; only where `due` says that it may still become one.
        """
        known = self._office.known(picture.image_sha256)
        if known is not None:
            return known
        try:
            # The picture first: half a file is not to be told for want of its facts.
            pixels = self._office.decode(picture)
            return self._office.score(picture, pixels, self._complete(facts, who))
        except MissedPictureError as error:
            if due is not None and error.reason == "unreadable":
                raise
            return self._office.miss(picture.source, picture.image_sha256, error)

    def _complete(self, facts: Facts | DataError, who: str) -> Facts:
        """The facts, if they are sound and all there."""
        if isinstance(facts, DataError):
            raise MissedPictureError("bad_facts", str(facts))
        absent = [name for name in self._rules.needs if not getattr(facts, name)]
        if absent:
            raise MissedPictureError(
                "no_facts",
                f"{who}: found no {', '.join(absent)}, expected each with the picture or in the "
                f"station's facts. Write them into a file of the same name that ends in '{SIDECAR_SUFFIX}'.",
            )
        return facts

    def _keep(self, told: Told) -> None:
        """Remember a score for the album: a report takes a second to draw, and nobody is to wait for it."""
        if self._album is not None and told.score is not None:
            self._undrawn.append(told)
            if len(self._undrawn) > MOST_UNDRAWN:
                self._draw()

    def _draw(self) -> bool:
        """Draw the oldest score that is not in the album yet; gives whether there was one."""
        if self._album is None or not self._undrawn:
            return False
        keep(self._album, self._undrawn.popleft())
        return True

    def _end(self, reason: str, detail: str) -> RunEnded:
        ended = RunEnded(
            **self._desk.envelope(self._clock_ns()),
            reason=reason,  # pyright: ignore[reportArgumentType]
            detail=detail,
            coverage=self._office.coverage,
            defects=dict(self._office.found),
        )
        self._desk.publish([ended])
        return ended


def _facts_or_fault(read: Callable[[], Facts]) -> Facts | DataError:
    """The facts, or what is wrong with them: that only matters for a picture that is not known."""
    try:
        return read()
    except DataError as error:
        return error
