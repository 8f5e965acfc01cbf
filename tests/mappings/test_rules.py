"""Operations of rules and their inverses."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from interlingua.mappings.rules import PadRows, Rule, Transpose, pairs

OPERATIONS = st.one_of(st.just(Transpose()), st.builds(PadRows, before=st.integers(1, 9)))
MATRICES = st.tuples(st.integers(0, 50), st.integers(0, 50))


@given(OPERATIONS, MATRICES)
def test_an_operation_is_undone_by_its_inverse(operation, shape: tuple[int, int]) -> None:
    assert operation.canonical_shape(operation.native_shape(shape)) == shape


@given(OPERATIONS, MATRICES)
def test_an_inverse_is_undone_by_its_operation(operation, shape: tuple[int, int]) -> None:
    assume(not isinstance(operation, PadRows) or shape[0] >= operation.before)
    assert operation.native_shape(operation.canonical_shape(shape)) == shape


def test_a_transpose_swaps_and_padding_adds_rows_in_front() -> None:
    assert Transpose().native_shape((3, 5)) == (5, 3)
    assert PadRows(before=1).native_shape((2, 7)) == (3, 7)
    assert PadRows(before=2).canonical_shape((5, 7)) == (3, 7)


def test_fewer_rows_than_the_padding_leave_none() -> None:
    assert PadRows(before=2).canonical_shape((1, 7)) == (0, 7)


def test_pairs_are_one_rule_a_part_and_the_first_has_the_operation() -> None:
    weight, bias = pairs("a", "b", (("weight", "kernel"), ("bias", "beta")), weight=Transpose(), aliases=("c",))
    assert weight == Rule("a.weight", "b.kernel", Transpose(), aliases=("c.kernel",))
    assert bias == Rule("a.bias", "b.beta", aliases=("c.beta",))
    assert weight.spellings == ("b.kernel", "c.kernel")


def test_equal_operations_are_equal_values() -> None:
    assert Transpose() == Transpose()
    assert PadRows(1) == PadRows(1) != PadRows(2)
    assert Transpose() != PadRows(1)
