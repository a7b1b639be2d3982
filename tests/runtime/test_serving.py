from __future__ import annotations

import pytest

from runtime.cuda.calls import Owner
from runtime.errors import EngineError
from runtime.serving import take_over_all


def test_engines_that_belong_together_change_hands_together_or_not_at_all() -> None:
    first, second = Owner("test"), Owner("test")
    first.hand_over()
    with pytest.raises(EngineError, match="an owner that has not handed it over"):
        take_over_all((first, second))
    with pytest.raises(EngineError, match="expected the thread that owns"):
        first.check()
    second.hand_over()
    take_over_all((first, second))
    first.check()
    second.check()
