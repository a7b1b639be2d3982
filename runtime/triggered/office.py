"""Who answers for pictures: what is known is said again, what is new is scored, and each is in the books once."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.coverage import Books
from runtime.errors import EngineError
from runtime.messages import MESSAGE, Missed, Overridden, Scored
from runtime.triggered.requests import OverrideRequest, RefusedError
from runtime.triggered.scorer import MissedPictureError, Picture, Score, Scorer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runtime.delivery.journal_reader import JournalReader, Record
    from runtime.facts import Facts
    from runtime.loop import Desk
    from runtime.messages import Coverage, Message
    from runtime.pipeline import Album
    from runtime.serving import Change
    from runtime.sized_engines import SizedEngines

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of a picture.

    Attributes:
        message: As published.
        known: It was in the journal before.
        score: What it was made from; None where it was known, or the picture was missed.
    """

    message: Message
    known: bool
    score: Score | None = None


class Office:
    """Scores each picture once, whatever comes twice, and keeps the books of a run.

    Args:
        station: The station's name.
        scorer: Scores pictures.
        desk: Where messages go.
        journal: Knows what was said before, in this process and in those before it.
        engine_failures: Pictures in a row on which the model failed, after which the run ends.
        clock_ns: Monotonic clock.
    """

    def __init__(
        self,
        station: str,
        scorer: Scorer,
        desk: Desk,
        journal: JournalReader,
        *,
        engine_failures: int = 3,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._station = station
        self._scorer = scorer
        self._desk = desk
        self._journal = journal
        self._engine_failures = engine_failures
        self._clock_ns = clock_ns
        self._books = Books()
        self._index = 0
        self._failures = 0
        self._last_failure = ""
        self._found: Counter[str] = Counter()

    @property
    def coverage(self) -> Coverage:
        """The books of the run so far."""
        return self._books.coverage()

    @property
    def found(self) -> Mapping[str, int]:
        """Defects of the run so far, by class name."""
        return dict(sorted(self._found.items()))

    def known(self, image_sha256: str) -> Told | None:
        """What was said of a picture that was scored before; None if none was.

        Raises:
            RefusedError: It was scored, and retention has deleted the message.
        """
        sequence = self._journal.scored_as(self._station, image_sha256)
        if sequence is None:
            return None
        record = self._record(sequence)
        if record is None:
            raise RefusedError(
                "deleted",
                f"found a picture that was scored as message {sequence}, which retention has deleted, expected a new "
                "one. Read the archive, or look at the picture with 'ferrosight inspect'.",
                image_sha256,
            )
        return Told(MESSAGE.validate_json(record.json), known=True)

    def decode(self, picture: Picture) -> NDArray[np.uint8]:
        """The picture as the model takes it, (H, W) uint8.

        Raises:
            MissedPictureError: The bytes are no whole picture, or of a size that the bundle does not take.
        """
        return self._scorer.decode(picture)

    def score(self, picture: Picture, pixels: NDArray[np.uint8], facts: Facts) -> Told:
        """Score a picture that is not known, journal and publish it.

        Args:
            picture: Where it came from.
            pixels: As `decode` gave it.
            facts: What is known of it.

        Raises:
            MissedPictureError: The model failed; nothing was published.
        """
        score = self._scorer.score(picture, pixels, self._index, facts)
        message = score.answer.message(self._desk.envelope(picture.came_ns), score.latency_ms)
        message = message.model_copy(update={"source": picture.source, "image_sha256": picture.image_sha256})
        self._desk.publish([message])
        self._books.inspected(self._index)
        self._index += 1
        self._failures = 0
        self._found.update(score.answer.new_defects)
        return Told(message, known=False, score=score)

    def miss(self, source: str, image_sha256: str | None, fault: MissedPictureError) -> Told:
        """Say that a picture could not be scored; what was said of the same bytes in the same words is not repeated."""
        before = None if image_sha256 is None else self._missed_before(image_sha256)
        if before is not None and (before.reason, before.detail) == (fault.reason, str(fault)):
            return Told(before, known=True)
        message = Missed(
            **self._desk.envelope(self._clock_ns()),
            first_index=self._index,
            stop_index=self._index + 1,
            reason=fault.reason,
            detail=str(fault),
            source=source,
            image_sha256=image_sha256,
        )
        self._desk.publish([message])
        self._books.missed(self._index, self._index + 1)
        self._index += 1
        if fault.reason == "engine_failed":
            self._failures += 1
            self._last_failure = str(fault)
        return Told(message, known=False)

    def swap(self, change: Change[SizedEngines]) -> Message:
        """Have another bundle score from now on, journal and publish it; gives what was published.

        Raises:
            EngineError: No bundle can score any more.
        """
        self._scorer.serving = change.take(self._scorer.serving)
        message = change.message(self._desk.envelope(self._clock_ns()), self._books.next_index)
        self._desk.publish([message])
        change.done(message)
        return message

    def keep_awake(self) -> None:
        """Nothing is to be scored: keep the model ready for the next picture, which may come in an hour."""
        self._scorer.keep_awake()

    def check_model(self) -> None:
        """Give up where the model does not work.

        Raises:
            EngineError: It has failed on too many pictures in a row; all of them were published as missed.
        """
        if self._failures >= self._engine_failures:
            raise EngineError(f"{self._failures} pictures failed in a row, the last so: {self._last_failure}")

    def override(self, request: OverrideRequest) -> Told:
        """Journal and publish an operator's word; the same word again is not repeated.

        Raises:
            RefusedError: There is no such scored message.
        """
        record = self._record(request.scored_sequence)
        scored = None if record is None else MESSAGE.validate_json(record.json)
        if not isinstance(scored, Scored):
            raise RefusedError(
                "unknown_sequence",
                f"found {'no message' if scored is None else scored.kind} with sequence {request.scored_sequence}, "
                "expected a scored one. 'ferrosight watch --since -1' shows their numbers.",
            )
        before = self._journal.override_of(self._station, scored.sequence)
        if before is not None:
            last = MESSAGE.validate_json(before.json)
            if isinstance(last, Overridden) and _word(last) == _word(request):
                return Told(last, known=True)
        message = Overridden(
            **self._desk.envelope(self._clock_ns()),
            scored_sequence=scored.sequence,
            image_sha256=scored.image_sha256,
            specimen=scored.facts.specimen,
            verdict_before=scored.verdict,
            verdict=request.verdict,
            name=request.name,
            reason=request.reason,
        )
        self._desk.publish([message])
        return Told(message, known=False)

    def _missed_before(self, image_sha256: str) -> Missed | None:
        sequence = self._journal.missed_as(self._station, image_sha256)
        record = None if sequence is None else self._record(sequence)
        message = None if record is None else MESSAGE.validate_json(record.json)
        return message if isinstance(message, Missed) else None

    def _record(self, sequence: int) -> Record | None:
        records = self._journal.read(self._station, sequence, sequence + 1)
        return records[0] if records else None


def keep(album: Album, told: Told) -> None:
    """Put a new score into the album of the run; an album that cannot be written is no reason to stop scoring."""
    if told.score is None:
        return
    source = getattr(told.message, "source", "")
    name = Path(f"{told.message.sequence:06d}_{Path(source).name or 'picture.png'}")
    try:
        album.add(told.score.pixels, name, told.message)
    except Exception:
        # A picture for people is not worth a rig that stands still; 'ferrosight report' draws it again.
        log.exception("%s is scored, but its picture for people is not there", source)


def _word(said: Any) -> tuple[str, str, str]:
    return said.verdict, said.name, said.reason
