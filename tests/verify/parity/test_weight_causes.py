"""Each mishap is told from the numbers alone, whatever they are, and never from numbers that it did not make."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.verify.parity.outcome import Cause, WeightsGate
from interlingua.verify.parity.side import Opened
from interlingua.verify.parity.weight_causes import weight_causes

SQUARE = "encoder.layer.0.attention.output.dense.weight"
WORDS = "embeddings.word_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"
GAMMA = "encoder.layer.0.output.LayerNorm.weight"

SEEDS = st.integers(0, 2**32)


def side(tensors: dict[str, np.ndarray]) -> Opened:
    return cast("Opened", SimpleNamespace(stored=lambda name: tensors[name].astype(np.float64)))


def causes(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> tuple[Cause, ...]:
    changed = [(name, "values", "") for name in a if name in b and not np.array_equal(a[name], b[name], equal_nan=True)]
    lone = [(name, "only in A", "") for name in a if name not in b] + [(n, "only in B", "") for n in b if n not in a]
    return weight_causes(WeightsGate(len(a), differences=(*changed, *lone)), side(a), side(b))


def named(a: Any, b: Any, name: str = SQUARE) -> list[str]:
    return [cause.name for cause in causes({name: a}, {name: b})]


def matrix(seed: int, rows: int = 6, columns: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


@given(SEEDS)
def test_a_matrix_left_turned_is_untransposed(seed: int) -> None:
    assert named(matrix(seed), matrix(seed).T) == ["untransposed"]


@given(SEEDS, st.sampled_from([1, 2, 3, -1, -2]))
def test_rows_moved_are_a_shift_of_that_table(seed: int, by: int) -> None:
    table = matrix(seed, 9, 4)
    assert named(table, np.roll(table, by, axis=0), WORDS) == ["vocabulary rows shifted"]
    assert named(table[:2], np.roll(table, 1, axis=0)[:2], TYPES) == ["segment rows shifted"]


@given(SEEDS, st.sampled_from(["float16", "bfloat16"]))
def test_values_rounded_on_the_way_are_narrowed(seed: int, dtype: str) -> None:
    import ml_dtypes

    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    found = causes({SQUARE: matrix(seed)}, {SQUARE: matrix(seed).astype(kind).astype(np.float32)})
    assert [cause.name for cause in found] == ["narrowed dtype"]
    assert dtype in found[0].evidence


@given(SEEDS, st.integers(0, 5), st.integers(0, 5))
def test_one_element_is_told_with_its_place_and_its_distance(seed: int, row: int, column: int) -> None:
    changed = matrix(seed)
    changed[row, column] = np.nextafter(changed[row, column], np.float32(np.inf), dtype=np.float32)
    (cause,) = causes({SQUARE: matrix(seed)}, {SQUARE: changed})
    assert cause.name == "one element"
    assert f"[{row}, {column}]" in cause.evidence
    assert "1 units in the last place" in cause.evidence


@given(SEEDS)
def test_tensors_that_changed_places_name_each_other(seed: int) -> None:
    names = [f"encoder.layer.0.attention.self.{part}.weight" for part in ("query", "key")]
    a = {name: matrix(seed + number) for number, name in enumerate(names)}
    found = causes(a, dict(zip(names, reversed(a.values()), strict=True)))
    assert {cause.name for cause in found} == {"swapped tensors"}
    assert [name in cause.evidence for cause, name in zip(found, reversed(names), strict=True)] == [True, True]


@given(SEEDS)
def test_the_same_place_in_another_layer_is_an_exchange_of_layers(seed: int) -> None:
    names = [f"encoder.layer.{number}.output.dense.weight" for number in (0, 1)]
    a = {name: matrix(seed + number) for number, name in enumerate(names)}
    found = causes(a, dict(zip(names, reversed(a.values()), strict=True)))
    assert {cause.name for cause in found} == {"exchanged layers"}


@given(SEEDS)
def test_a_gamma_times_the_factor_of_the_other_formula_is_folded(seed: int) -> None:
    gamma = 1 + 0.1 * matrix(seed, 1, 24)[0]
    factor = np.float32((24 / 23) ** 0.5)
    assert named(gamma, gamma * factor, GAMMA) == ["folded LayerNorm"]
    assert named(gamma, gamma * np.float32(1.5), GAMMA) == ["scaled"]


@given(SEEDS)
def test_a_permutation_and_a_row_and_a_bias_forgotten_are_told_apart(seed: int) -> None:
    table = matrix(seed, 8, 4)
    assert named(table[0], table[0][::-1]) == ["another order"]
    row = table.copy()
    row[3] += 1
    assert named(table, row) == ["one row"]
    assert named(table[0], 0 * table[0]) == ["zeroed"]
    tail = table.copy()
    tail[5:] = 0
    assert named(table, tail) == ["rows beyond"]


@given(SEEDS)
def test_unrelated_numbers_are_other_values(seed: int) -> None:
    assert named(matrix(seed), matrix(seed + 1)) == ["other values"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_comes_first(value: float) -> None:
    broken = matrix(1)
    broken[2, 2] = value
    assert named(matrix(1), broken) == ["not finite"]


def test_tensors_of_one_side_alone_are_named_by_what_they_are() -> None:
    a = {"pooler.dense.weight": matrix(1), SQUARE: matrix(2)}
    b = {"masked_lm.decoder.weight": matrix(3), SQUARE: matrix(2)}
    assert [cause.name for cause in causes(a, b)] == ["missing pooler", "untied decoder"]
