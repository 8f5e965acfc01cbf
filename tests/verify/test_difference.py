"""Comparisons tensor by tensor: what differs, by how much, and what counts as the same."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.convert.source import open_checkpoint
from interlingua.formats.dtypes import DTYPES
from interlingua.verify import difference
from interlingua.verify.difference import Comparison, TensorDifference, _Tally, compare, compare_steps
from tests.models import bare, hf, hf_config, uer, write_hf, write_uer

NAME = "embeddings.word_embeddings.weight"
COUNT = 5 + 3 * 16 + 2


def compared(tmp_path: Path, left: dict, right: dict, atol: float | None = None) -> Comparison:
    a, b = write_hf(tmp_path / "a", left), write_hf(tmp_path / "b", right)
    with open_checkpoint(a) as one, open_checkpoint(b) as other:
        return compare(one, other, atol=atol)


def model(value: np.ndarray | None = None, name: str = NAME, dtype=np.float32) -> dict[str, np.ndarray]:
    arrays = bare(("pooler",), dtype=dtype)
    return arrays if value is None else arrays | {name: value}


def changed(*values: float, dtype=np.float32, base: float = 1.0) -> tuple[dict, dict]:
    """Two models whose word embeddings differ in the first elements."""
    left = np.full((37, 12), base, dtype)
    right = left.copy()
    for place, value in enumerate(values):
        right.reshape(-1)[place] = value
    return model(left, dtype=dtype), model(right, dtype=dtype)


def test_equal_models_are_the_same(tmp_path: Path) -> None:
    found = compared(tmp_path, model(), model())
    assert found == Comparison(COUNT, ())
    assert found.same


def test_equal_models_in_two_dialects_are_the_same(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    heads = ("pooler", "masked_lm", "next_sentence")
    a = write_hf(tmp_path / "a", hf(heads), hf_config(heads=heads))
    b = write_uer(tmp_path / "b", uer(heads, padding=True))
    with open_checkpoint(a) as one, open_checkpoint(b) as other:
        assert compare(one, other).same
        assert compare(other, one).same


def test_a_difference_tells_where_how_many_and_how_much(tmp_path: Path) -> None:
    left, right = changed(1.5, 0.0, 1.25)
    (found,) = compared(tmp_path, left, right).differences
    assert found == TensorDifference(NAME, "values", "3 elements differ, by 1 at most", 1.0, 3)


@pytest.mark.parametrize(("atol", "same"), [(None, False), (0.0, False), (0.49, False), (0.5, True), (1.0, True)])
def test_a_tolerance_is_the_greatest_difference_that_counts_as_none(tmp_path: Path, atol, same: bool) -> None:
    assert compared(tmp_path, *changed(1.5), atol=atol).same is same


@pytest.mark.parametrize("atol", [-1.0, float("nan")])
def test_a_tolerance_that_is_none_lets_nothing_pass(tmp_path: Path, atol: float) -> None:
    assert not compared(tmp_path, *changed(1.5), atol=atol).same
    assert compared(tmp_path, *changed(), atol=atol).same


def test_zeros_of_two_signs_differ_in_bits_and_not_in_value(tmp_path: Path) -> None:
    left, right = changed(-0.0, base=0.0)
    (found,) = compared(tmp_path, left, right).differences
    assert (found.greatest, found.differing) == (0.0, 1)
    assert compared(tmp_path, left, right, atol=0.0).same


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("base", "other", "greatest"),
    [(1.0, NAN, NAN), (NAN, 1.0, NAN), (INF, NAN, NAN), (INF, 1.0, INF), (1.0, -INF, INF), (INF, -INF, INF)],
)
def test_what_is_no_number_is_never_within_a_tolerance(tmp_path: Path, base, other, greatest) -> None:
    for atol in (None, 1e300, INF if greatest != INF else 1e308):
        (found,) = compared(tmp_path, *changed(other, base=base), atol=atol).differences
        assert found.differing == 1
        np.testing.assert_equal(found.greatest, greatest)


def test_one_nan_is_not_hidden_by_finite_differences(tmp_path: Path) -> None:
    (found,) = compared(tmp_path, *changed(3.0, NAN, 2.0), atol=10).differences
    assert np.isnan(found.greatest)


def test_the_same_nan_is_the_same_and_another_payload_differs_in_bits(tmp_path: Path) -> None:
    left, right = changed(NAN, base=NAN)
    assert compared(tmp_path, left, right).same
    right[NAME].view(np.uint32)[0, 0] ^= 1
    (found,) = compared(tmp_path, left, right).differences
    assert (found.greatest, found.differing) == (0.0, 1)
    assert compared(tmp_path, left, right, atol=0.0).same


@pytest.mark.parametrize("wide", [np.float64, np.float16, ml_dtypes.bfloat16], ids=["f64", "f16", "bf16"])
def test_two_floating_types_are_compared_by_value_and_only_with_a_tolerance(tmp_path: Path, wide) -> None:
    left, right = model(), model(dtype=wide)
    found = compared(tmp_path, left, right)
    assert len(found.differences) == COUNT
    assert {entry.what for entry in found.differences} == {"dtype"}
    assert found.differences[0].detail == f"float32 and {np.dtype(wide).name}"
    assert compared(tmp_path, left, right, atol=0.05).same
    # Against the very values: equal in value is within any tolerance, even none.
    exact = {name: array.astype(wide).astype(np.float32) for name, array in left.items()}
    assert compared(tmp_path, exact, {name: array.astype(wide) for name, array in exact.items()}, atol=0.0).same


def test_floating_point_and_whole_numbers_are_two_things_whatever_the_tolerance(tmp_path: Path) -> None:
    left, right = model(np.ones((37, 12), np.float32)), model(np.ones((37, 12), np.int32))
    assert [e.what for e in compared(tmp_path, left, right, atol=9).differences] == ["dtype"]


def test_shapes_are_told(tmp_path: Path) -> None:
    right = model(np.ones((38, 12), np.float32))
    (found,) = compared(tmp_path, model(), right, atol=1e9).differences
    assert (found.what, found.detail, found.greatest) == ("shape", "[37, 12] and [38, 12]", None)


def test_tensors_on_one_side_only_are_told(tmp_path: Path) -> None:
    found = compared(tmp_path, model(), bare())
    assert found.compared == COUNT - 2
    assert {(e.name, e.what) for e in found.differences} == {
        ("pooler.dense.weight", "only in A"),
        ("pooler.dense.bias", "only in A"),
    }
    other = compared(tmp_path, bare(), model())
    assert {e.what for e in other.differences} == {"only in B"}
    assert not found.same


def test_nothing_compared_is_not_the_same(tmp_path: Path) -> None:
    assert not Comparison(0, ()).same
    with open_checkpoint(write_hf(tmp_path, bare())) as checkpoint:
        assert not compare_steps({}, checkpoint, {}, checkpoint).same


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_whole_numbers_beyond_the_reach_of_float64_are_told_apart(tmp_path: Path, dtype) -> None:
    left = np.full((37, 12), 1 << 60, dtype)
    right = left.copy()
    right[3, 3] = (1 << 60) + 1
    (found,) = compared(tmp_path, model(left), model(right), atol=0.5).differences
    assert found.differing == 1
    assert found.greatest >= 1


def test_booleans_differ_by_one(tmp_path: Path) -> None:
    left, right = np.zeros((37, 12), bool), np.zeros((37, 12), bool)
    right[0, 0] = True
    (found,) = compared(tmp_path, model(left), model(right), atol=0.5).differences
    assert (found.greatest, found.differing) == (1.0, 1)


VALUES = st.lists(st.floats(width=32), min_size=1, max_size=30)


def reckoned(left: np.ndarray, right: np.ndarray) -> float:
    worst = 0.0
    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        if a == b or (a != a and b != b):
            continue
        gap = float("nan") if a != a or b != b else abs(a - b)
        worst = gap if gap != gap or worst != worst or gap > worst else worst
        if worst != worst:
            return worst
    return worst


@given(VALUES, VALUES)
def test_a_tally_is_what_python_reckons(one: list[float], other: list[float]) -> None:
    count = min(len(one), len(other))
    left, right = np.array(one[:count], np.float32), np.array(other[:count], np.float32)
    tally = _Tally(DTYPES["float32"], DTYPES["float32"])
    tally.add(left.tobytes(), right.tobytes())
    assert tally.differing == int(np.count_nonzero(left.view(np.uint32) != right.view(np.uint32)))
    expected = reckoned(left.astype(np.float64), right.astype(np.float64))
    np.testing.assert_equal(tally.greatest, expected)


def test_complex_numbers_differ_by_their_distance() -> None:
    tally = _Tally(DTYPES["complex64"], DTYPES["complex64"])
    tally.add(np.array([1 + 1j, 2], np.complex64).tobytes(), np.array([4 + 5j, 2], np.complex64).tobytes())
    assert (tally.greatest, tally.differing) == (5.0, 1)
    assert tally.verdict("a", 5.0) is None
    assert tally.verdict("a", 4.9) is not None


def test_a_type_that_numpy_lacks_is_within_no_tolerance() -> None:
    tally = _Tally(DTYPES["float4_e2m1fn"], DTYPES["float4_e2m1fn"])
    tally.add(b"\x01\x02", b"\x01\x02")
    assert tally.verdict("a", 1e9) is None
    tally.add(b"\x01\x02", b"\x01\x03")
    tally.add(b"\x01\x02", b"\x01\x02")
    assert tally.verdict("a", 1e9).differing == 1


def test_the_greatest_difference_of_all_blocks_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difference, "BLOCK", 64)
    left, right = changed(*([1.0] * 200), 9.0, *([1.0] * 100), 2.0)
    (found,) = compared(tmp_path, left, right).differences
    assert (found.greatest, found.differing) == (8.0, 2)
    wide = {name: array.astype(np.float64) for name, array in right.items()}
    assert [e.name for e in compared(tmp_path, left, wide, atol=7.9).differences] == [NAME]
    assert compared(tmp_path, left, wide, atol=8.0).same


def test_progress_adds_up_whether_or_not_something_differs(tmp_path: Path) -> None:
    for right in (model(), changed(2.0)[1]):
        a, b = write_hf(tmp_path / "a", model()), write_hf(tmp_path / "b", right)
        told: list[int] = []
        with open_checkpoint(a) as one, open_checkpoint(b) as other:
            compare(one, other, progress=told.append)
        assert sum(told) >= sum(array.nbytes for array in model().values())
