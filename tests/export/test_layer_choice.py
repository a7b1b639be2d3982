from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.layer_choice import choose_layers, damage
from runtime.bundle import ParityResult


def result(value: float, limit: float = 1.0) -> ParityResult:
    return ParityResult(
        graph="gate", precision="int8", backend="openvino", figure="f", value=value, limit=limit, passed=value <= limit
    )


HARMS = st.dictionaries(st.text("abcdef", min_size=1), st.floats(0, 2), max_size=6)


@given(HARMS)
def test_what_is_chosen_holds_and_nothing_more_is_left_out_than_the_worst(harms: dict[str, float]) -> None:
    def probe(layers: Collection[str]) -> list[ParityResult]:
        return [result(sum(harms[layer] for layer in layers))]

    chosen = choose_layers(list(harms), probe)
    assert not chosen or probe(chosen)[0].holds
    left = [layer for layer in harms if layer not in chosen]
    assert all(harms[out] >= harms[inside] for out in left for inside in chosen)
    if left and chosen:
        least = min(left, key=harms.__getitem__)
        assert not probe([*chosen, least])[0].holds


def test_layers_are_measured_alone_only_where_all_together_fail() -> None:
    asked: list[tuple[str, ...]] = []

    def probe(layers: Collection[str]) -> list[ParityResult]:
        asked.append(tuple(layers))
        return [result(0.0)]

    assert choose_layers(["a", "b"], probe) == ("a", "b")
    assert asked == [("a", "b")]


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([result(0.5), result(1.0, 4.0)], 0.5),
        ([result(1.0, 0.0)], float("inf")),
        ([result(0.0, 0.0)], 0.0),
        ([result(0.1), result(float("nan"))], float("inf")),
        ([], 0.0),
    ],
)
def test_damage_is_a_share_of_the_limit(results: list[ParityResult], expected: float) -> None:
    assert damage(results) == expected
