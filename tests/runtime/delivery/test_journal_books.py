"""What a journal counts: the frames and pictures of a run, each once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.delivery.journal import Journal, Retention
from runtime.errors import JournalError
from runtime.messages import MESSAGE, Coverage
from tests.runtime.delivery.journals import rows
from tests.runtime.delivery.wire import (
    LINE,
    STATION,
    inspected,
    missed,
    missed_picture,
    overridden,
    run_ended,
    run_started,
    scored,
)


class TestRuns:
    def test_an_open_run_is_one_that_did_not_end(self, journal: Journal) -> None:
        assert journal.open_run(STATION) is None
        journal.append(rows(run_started(0)))
        assert journal.open_run(STATION) == run_started(0)
        journal.append(rows(inspected(1)))
        assert journal.open_run(STATION) == run_started(0)
        journal.append(rows(run_ended(2)))
        assert journal.open_run(STATION) is None

    def test_the_books_are_counted_from_the_rows(self, journal: Journal) -> None:
        journal.append(rows(run_started(0), inspected(1, 40), missed(2, 41, 48), inspected(3, 48)))
        assert journal.coverage(STATION, "coil-7") == Coverage(
            frames_expected=9, frames_inspected=2, frames_missed=7, complete=True
        )

    def test_the_order_of_the_messages_does_not_matter(self, journal: Journal) -> None:
        journal.append(rows(run_started(0), missed(1, 3, 6), inspected(2, 2)))
        assert journal.coverage(STATION, "coil-7").complete

    def test_a_hole_and_a_frame_told_twice_do_not_cancel_out(self, journal: Journal) -> None:
        journal.append(rows(run_started(0), inspected(1, 0), inspected(2, 1), inspected(3, 1), inspected(4, 3)))
        assert journal.coverage(STATION, "coil-7") == Coverage(
            frames_expected=4, frames_inspected=4, frames_missed=0, complete=False
        )

    def test_a_run_of_the_same_name_has_books_of_its_own(self, journal: Journal) -> None:
        journal.append(rows(run_started(0), inspected(1, 0), run_ended(2), run_started(3), inspected(4, 0)))
        assert journal.coverage(STATION, "coil-7").frames_inspected == 1

    def test_a_run_without_frames_is_complete_and_an_unknown_one_is_not(self, journal: Journal) -> None:
        journal.append(rows(run_started(0)))
        assert journal.coverage(STATION, "coil-7").complete
        assert not journal.coverage(STATION, "coil-8").complete

    @settings(max_examples=40, deadline=None)
    @given(frames=st.lists(st.integers(0, 12), max_size=14), gap=st.integers(1, 3))
    def test_complete_means_every_frame_exactly_once(
        self, tmp_path_factory: pytest.TempPathFactory, frames: list[int], gap: int
    ) -> None:
        path = tmp_path_factory.mktemp("books") / "journal.sqlite"
        messages = [
            inspected(s, frame) if frame % 3 else missed(s, frame, frame + gap) for s, frame in enumerate(frames, 1)
        ]
        told = [frame for m in messages for frame in range(*m.frame_range())]
        with Journal(path, LINE) as journal:
            journal.append(rows(run_started(0), *messages))
            books = journal.coverage(STATION, "coil-7")
        assert books.complete == (sorted(told) == list(range(min(told, default=0), max(told, default=-1) + 1)))
        assert books.frames_inspected + books.frames_missed == len(told)


class TestPictures:
    FIRST, SECOND = "a" * 64, "b" * 64

    def test_a_picture_is_scored_once_and_the_whole_batch_falls_with_a_second_time(self, journal: Journal) -> None:
        journal.append(rows(scored(0, image_sha256=self.FIRST)))
        with pytest.raises(JournalError, match="expected a picture that was not scored yet"):
            journal.append(rows(scored(1, image_sha256=self.SECOND), scored(2, image_sha256=self.FIRST)))
        assert journal.last_sequence(STATION) == 0
        assert journal.scored_as(STATION, self.FIRST) == 0
        assert journal.scored_as(STATION, self.SECOND) is None
        assert journal.scored_as("another", self.FIRST) is None

    def test_a_picture_given_up_may_be_scored_later(self, journal: Journal) -> None:
        journal.append(rows(missed_picture(0, self.FIRST), missed_picture(1, self.FIRST)))
        assert (journal.missed_as(STATION, self.FIRST), journal.scored_as(STATION, self.FIRST)) == (1, None)
        journal.append(rows(scored(2, image_sha256=self.FIRST)))
        assert journal.scored_as(STATION, self.FIRST) == 2
        assert [record.image_sha256 for record in journal.read(STATION, 0, 3)] == [self.FIRST] * 3

    def test_retention_takes_the_message_and_the_picture_stays_scored(self, path: Path) -> None:
        with Journal(path, LINE, retention=Retention(max_age_s=1)) as journal:
            journal.append(rows(scored(0, image_sha256=self.FIRST)))
            for sequence in range(1, 200):
                journal.append(rows(inspected(sequence)))
            assert journal.read(STATION, 0, 1) == []
            assert journal.scored_as(STATION, self.FIRST) == 0
            with pytest.raises(JournalError, match="not scored yet"):
                journal.append(rows(scored(200, image_sha256=self.FIRST)))

    def test_the_last_word_of_the_operator_holds(self, journal: Journal) -> None:
        journal.append(rows(scored(0, image_sha256=self.FIRST), scored(1, image_sha256=self.SECOND)))
        assert journal.override_of(STATION, 0) is None
        journal.append(rows(overridden(2, 0, "rejected"), overridden(3, 1, "rejected"), overridden(4, 0, "accepted")))
        record = journal.override_of(STATION, 0)
        assert record is not None
        assert MESSAGE.validate_json(record.json) == overridden(4, 0, "accepted")

    def test_pictures_are_in_the_books(self, journal: Journal) -> None:
        journal.append(
            rows(
                run_started(0),
                scored(1, 0, image_sha256=self.FIRST),
                missed(2, 1, 2),
                scored(3, 2, image_sha256=self.SECOND),
            )
        )
        assert journal.coverage(STATION, "coil-7") == Coverage(
            frames_expected=3, frames_inspected=2, frames_missed=1, complete=True
        )
