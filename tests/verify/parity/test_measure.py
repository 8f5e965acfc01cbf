"""Figures of a gap are what their names say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from interlingua.verify.parity.measure import Noise, measure, noise_of
from interlingua.verify.parity.outcome import Gap, Thresholds

PLACES = np.array([[0, 0], [0, 1], [1, 0]])


def gap(value: object, reference: object, noise: Noise | None = None, *, logits: bool = False) -> Gap:
    one, other = np.array(value, np.float64), np.array(reference, np.float64)
    return measure("layer.0", one, other, noise or Noise(), "hard", PLACES[: len(one)], logits=logits)


def test_the_figures_of_a_small_case_are_those_of_a_pencil() -> None:
    found = gap([[1.0, 2.0], [3.0, 4.0], [5.0, 6.5]], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], Noise(0.1, 0.2))
    assert found.elements == 6
    assert found.max_abs == 0.5
    assert found.rms == pytest.approx(math.sqrt(0.25 / 6))
    assert found.scale == pytest.approx(math.sqrt(91 / 6))
    assert found.max_rel == pytest.approx(0.5 / math.sqrt(91 / 6))
    assert found.nmse == pytest.approx(0.25 / 91)
    assert found.units == pytest.approx(math.sqrt(0.25 / 6) / 0.1)
    assert found.by_position == ((0.0, 0.0), (0.5,))
    worst = found.worst[0]
    assert (worst.row, worst.position, worst.feature, worst.value, worst.expected) == (1, 0, 1, 6.5, 6.0)
    assert found.vectors == 3


@given(arrays.arrays(np.float32, (3, 4), elements=st.floats(-100, 100, width=32)))
def test_what_is_equal_has_no_gap(x: np.ndarray) -> None:
    found = gap(x, x)
    assert found.max_abs == found.rms == found.nmse == 0
    assert found.cosine == pytest.approx(1.0)
    assert Thresholds().allows(found)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_what_is_not_finite_on_either_side_is_counted_and_never_allowed(value: float, side: int) -> None:
    pair = [np.ones((3, 2)), np.ones((3, 2))]
    pair[side][1, 1] = value
    found = gap(*pair, Noise(1e9, 1e9))
    assert found.non_finite == 1
    assert not Thresholds(atol=1e9).allows(found)


def test_nothing_compared_is_never_allowed() -> None:
    assert not Thresholds(atol=1.0).allows(Gap("hard", "pooler", 0, 0, 0, 0, 0, 0, 0, None, 1.0, 1.0))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        gap(np.ones((3, 2)), np.ones((3, 3)))


def test_the_largest_logits_are_compared_as_sets() -> None:
    found = gap([[9, 8, 7, 6, 5, 1, 0]] * 2, [[5, 6, 7, 8, 9, 1, 0], [9, 8, 7, 6, 1, 5, 0]], logits=True)
    assert found.top_k == 0.5
    assert gap([[1.0]], [[1.0]], logits=True).top_k == 1.0


def test_an_error_within_noise_is_allowed_and_one_beyond_is_not() -> None:
    rng = np.random.default_rng(3)
    exact = rng.standard_normal((64, 32))
    noise = 1e-6 * rng.standard_normal(exact.shape)
    places = np.argwhere(np.ones((8, 8)))
    size = noise_of(exact + noise, exact)

    def found(error: np.ndarray) -> Gap:
        return measure("layer.0", exact + error, exact, size, "hard", places, logits=False)

    assert Thresholds().allows(found(1e-6 * rng.standard_normal(exact.shape)))
    assert not Thresholds().allows(found(4e-6 * rng.standard_normal(exact.shape)))
    spike = noise.copy()
    spike[5, 7] = 5e-5
    assert not Thresholds().allows(found(spike)), "one element"


def test_noise_of_a_difference_is_that_of_both() -> None:
    assert Noise(3.0, 6.0) + Noise(4.0, 8.0) == Noise(5.0, 10.0)
    assert Noise(3.0, 1.0) | Noise(2.0, 5.0) == Noise(3.0, 5.0)
    assert Noise.mean([Noise(3.0, 1.0), Noise(4.0, 2.0)]) == Noise(math.sqrt(12.5), 2.0)
