import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.coverage import Books, CoverageError


@given(st.integers(0, 10**6), st.lists(st.tuples(st.booleans(), st.integers(1, 50)), max_size=40))
def test_the_books_balance_however_the_answers_fall(first: int, answers: list[tuple[bool, int]]) -> None:
    books, at = Books(), first
    for seen, count in answers:
        if seen:
            for index in range(at, at + count):
                books.inspected(index)
        else:
            books.missed(at, at + count)
        at += count
    coverage = books.coverage()
    assert coverage.frames_expected == at - first
    assert coverage.frames_inspected == sum(count for seen, count in answers if seen)
    assert coverage.complete


@pytest.mark.parametrize(("index", "what"), [(5, "answered twice"), (7, "passed over")])
def test_a_frame_answered_twice_or_passed_over_is_refused(index: int, what: str) -> None:
    books = Books()
    books.missed(3, 6)
    with pytest.raises(CoverageError, match=what):
        books.inspected(index)


def test_an_empty_range_is_no_answer() -> None:
    with pytest.raises(CoverageError, match="none at all"):
        Books().missed(4, 4)
