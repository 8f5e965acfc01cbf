"""A request survives its file, and canonical tensors are made of native ones as its recipes say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from interlingua.verify.encoders.request import Recipe, Request, load_batches, load_request, make_tensors

REQUEST = Request(
    framework="torch",
    references=("transformers", "own"),
    dialect="hf",
    family="bert",
    heads=("pooler", "masked_lm"),
    weights="model.safetensors",
    container="safetensors",
    config={"hidden_size": 4, "layer_norm_eps": 1e-12, "hidden_act": "gelu"},
    native_config={"hidden_size": 4},
    conventions={"layer_norm": "biased, inside", "head_act": {"masked_lm": "gelu"}},
    recipes={
        "whole": Recipe((("a", 0, 6),), (2, 3)),
        "turned": Recipe((("a", 0, 4), ("", 0, 2)), (2, 3), (3, 2)),
    },
    ties={"tied": "whole"},
    batches="batches.npz",
    output="activations.npz",
    device="cuda",
    dtype="bfloat16",
    threads=3,
)
NATIVE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": 10 + np.arange(4, dtype=np.float32)}


def made(recipe: Recipe, native: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """Return one tensor that is made by a recipe."""
    return make_tensors(replace(REQUEST, recipes={"x": recipe}, ties={}), NATIVE if native is None else native)["x"]


def test_a_request_comes_out_of_its_file_as_it_went_in(tmp_path: Path) -> None:
    REQUEST.dump(tmp_path / "request.json")
    assert load_request(tmp_path / "request.json") == REQUEST


def test_a_whole_tensor_is_taken_as_it_is() -> None:
    assert made(Recipe((("a", 0, 6),), (2, 3))).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert made(Recipe((("a", 0, 6),), (3, 2))).tolist() == [[0, 1], [2, 3], [4, 5]]


def test_pieces_are_joined_in_their_order_from_where_they_begin() -> None:
    recipe = Recipe((("b", 1, 2), ("a", 4, 2), ("b", 0, 1)), (5,))
    assert made(recipe).tolist() == [11, 12, 4, 5, 10]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_what_is_padded_is_zeros_of_the_same_type(dtype: type) -> None:
    found = made(Recipe((("b", 0, 2), ("", 0, 3)), (5,)), {"b": NATIVE["b"].astype(dtype)})
    assert found.tolist() == [10, 11, 0, 0, 0]
    assert found.dtype == dtype


def test_a_matrix_is_turned_after_it_is_joined() -> None:
    assert made(Recipe((("a", 0, 6),), (2, 3), (3, 2))).tolist() == [[0, 2, 4], [1, 3, 5]]
    assert made(Recipe((("b", 0, 4), ("a", 0, 2)), (3, 2), (2, 3))).tolist() == [[10, 13], [11, 0], [12, 1]]


def test_the_order_of_elements_is_that_of_rows_however_a_loader_keeps_them() -> None:
    native = {"a": np.asfortranarray(NATIVE["a"]), "b": NATIVE["b"]}
    assert made(Recipe((("a", 0, 6),), (2, 3), (2, 3)), native).tolist() == [[0, 3, 1], [4, 2, 5]]
    assert made(Recipe((("a", 1, 3),), (3,)), native).tolist() == [1, 2, 3]


def test_a_tied_tensor_is_its_owners() -> None:
    found = make_tensors(REQUEST, NATIVE)
    assert sorted(found) == ["tied", "turned", "whole"]
    assert found["tied"] is found["whole"]


def test_a_tensor_that_the_loader_did_not_give_is_missing() -> None:
    with pytest.raises(KeyError, match="absent"):
        made(Recipe((("absent", 0, 1),), (1,)))


def test_batches_come_out_by_batch_and_name(tmp_path: Path) -> None:
    arrays = {"hard/input_ids": np.arange(3), "text/input_ids": np.arange(2), "hard/predict": np.zeros(1)}
    np.savez(tmp_path / "batches.npz", **arrays)
    found = load_batches(str(tmp_path / "batches.npz"))
    assert {batch: sorted(entries) for batch, entries in found.items()} == {
        "hard": ["input_ids", "predict"],
        "text": ["input_ids"],
    }
    assert found["text"]["input_ids"].tolist() == [0, 1]


def test_no_pickle_is_read_for_a_batch(tmp_path: Path) -> None:
    np.savez(tmp_path / "batches.npz", **{"hard/input_ids": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_batches(str(tmp_path / "batches.npz"))
