"""Activations against the oracle and against each other: each held to its own, and nothing left out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from benchmarks.families import realistic, write_model
from interlingua.convert.source import open_checkpoint
from interlingua.mappings.schema import BERT
from interlingua.verify import oracle
from interlingua.verify.oracle import Arithmetic
from interlingua.verify.parity.batch import Batch, hard_batch
from interlingua.verify.parity.comparison import (
    Subject,
    against_oracle,
    agreement,
    is_logits,
    places,
    promised,
    propagated,
)
from interlingua.verify.parity.measure import noise_of
from interlingua.verify.parity.outcome import Gap, Thresholds
from interlingua.verify.parity.side import open_side

pytest.importorskip("scipy")

HEADS = ("pooler", "masked_lm", "next_sentence")
FLOAT32 = Arithmetic("float32")
NAMES = ["embeddings", "layer.0", "layer.1", "layer.2", "pooler", "masked_lm", "next_sentence"]


def framed(name: str, array: np.ndarray, batch: Batch) -> np.ndarray:
    """Return an activation in a framework's shape, NaN in the padding."""
    if name == "embeddings" or name.startswith("layer."):
        full = np.full((*batch.input_ids.shape, array.shape[-1]), np.nan)
        full[batch.attention_mask == 1] = array
        return full
    return array.reshape(*batch.predict.shape, -1) if name == "masked_lm" else array.copy()


def exact(get: Any, model: Any, batches: tuple[Batch, ...]) -> dict[str, np.ndarray]:
    """Return what a framework without any error would compute."""
    return {
        f"{batch.name}/{name}": framed(name, array, batch)
        for batch in batches
        for name, array in oracle.forward(get, model, batch)
    }


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Subject, tuple[Batch, ...]]]:
    folder = write_model(tmp_path_factory.mktemp("comparison") / "model", BERT, HEADS, 3, draw=realistic)
    with open_checkpoint(folder) as checkpoint:
        opened = open_side(checkpoint)
        batches = (
            hard_batch(opened.config, 12, rows=3),
            replace(hard_batch(opened.config, 7, rows=2, seed=5), name="text"),
        )
        get = lru_cache(None)(opened.tensor)
        yield Subject("A", exact(get, opened.model, batches), get, opened.model), batches


def gaps_of(subject: Subject, batches: tuple[Batch, ...]) -> tuple[Gap, ...]:
    return against_oracle([subject], batches, FLOAT32)[subject.label]


def changed(subject: Subject, key: str, change: Any) -> Subject:
    """Return a side with one activation changed."""
    return replace(subject, activations={**subject.activations, key: change(subject.activations[key].copy())})


def keys(gaps: tuple[Gap, ...]) -> list[tuple[str, str]]:
    return [(gap.batch, gap.name) for gap in gaps]


BOTH = [(batch, name) for batch in ("hard", "text") for name in NAMES]


# -- against the oracle


def test_what_is_exact_is_at_no_distance_whatever_stands_in_the_padding(side) -> None:
    subject, batches = side
    found = gaps_of(subject, batches)
    assert keys(found) == BOTH
    for gap in found:
        assert (gap.rms, gap.max_abs, gap.non_finite) == (0.0, 0.0, 0)
        assert gap.elements > 0
        assert gap.noise_rms > 0
        assert (gap.top_k is None) == (gap.name not in ("masked_lm", "next_sentence"))
        assert Thresholds().allows(gap)


@pytest.mark.parametrize("key", [f"{batch}/{name}" for batch, name in BOTH])
def test_what_was_not_computed_is_a_gap_that_nothing_allows(side, key: str) -> None:
    subject, batches = side
    there = {name: array for name, array in subject.activations.items() if name != key}
    found = gaps_of(replace(subject, activations=there), batches)
    assert keys(found) == BOTH
    assert [f"{gap.batch}/{gap.name}" for gap in found if not gap.elements] == [key]
    assert [gap for gap in found if not Thresholds(1e9, 1e9, 1e9, 1e9).allows(gap)] == [
        gap for gap in found if not gap.elements
    ]


@pytest.mark.parametrize("key", ["hard/embeddings", "hard/pooler", "hard/masked_lm"])
@pytest.mark.parametrize(
    "change", [lambda x: x[:-1], lambda x: x[..., :-1], lambda x: x[None], lambda x: x.reshape(-1), lambda x: x[:0]]
)
def test_what_is_of_another_shape_is_a_gap_that_nothing_allows(side, key: str, change: Any) -> None:
    subject, batches = side
    found = gaps_of(changed(subject, key, change), batches)
    assert [f"{gap.batch}/{gap.name}" for gap in found if not gap.elements] == [key]
    other = replace(changed(subject, key, change), label="B")
    for pair in ((subject, other), (other, subject)):
        gaps = against_oracle(pair, batches, FLOAT32)
        both = agreement(pair[0], pair[1], batches, gaps)
        assert [f"{gap.batch}/{gap.name}" for gap in both if not gap.elements] == [key]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_one_number_that_is_none_is_counted(side, bad: float, name: str) -> None:
    subject, batches = side

    def spoil(array: np.ndarray) -> np.ndarray:
        array[(0,) * array.ndim] = bad
        return array

    broken = replace(changed(subject, f"hard/{name}", spoil), label="B")
    found = gaps_of(broken, batches)
    assert {(gap.batch, gap.name): gap.non_finite for gap in found if gap.non_finite} == {("hard", name): 1}
    for pair in ((subject, broken), (broken, subject)):
        both = agreement(pair[0], pair[1], batches, against_oracle(pair, batches, FLOAT32))
        assert {(gap.batch, gap.name): gap.non_finite for gap in both if gap.non_finite} == {("hard", name): 1}


@pytest.mark.parametrize("name", NAMES)
def test_an_element_that_is_off_is_found_at_its_place(side, name: str) -> None:
    subject, batches = side
    batch = batches[0]
    row = 1
    predicted = 1 if name == "masked_lm" else 0
    by_token = name not in ("pooler", "masked_lm", "next_sentence")
    index = (row, 3, 1) if by_token else (row, predicted, 1) if name == "masked_lm" else (row, 1)
    position = 3 if by_token else int(batch.predict[row, predicted]) if name == "masked_lm" else 0

    def push(array: np.ndarray) -> np.ndarray:
        array[index] += 0.5
        return array

    subject_off = changed(subject, f"hard/{name}", push)
    (gap,) = [gap for gap in gaps_of(subject_off, batches) if (gap.batch, gap.name) == ("hard", name)]
    (worst, *_) = gap.worst
    assert (worst.row, worst.position, worst.feature) == (row, position, 1)
    assert worst.value - worst.expected == pytest.approx(0.5)
    assert gap.max_abs == pytest.approx(0.5)
    assert max(map(max, gap.by_position[row : row + 1])) == pytest.approx(0.5)


def test_each_side_is_held_to_its_own_conventions(side) -> None:
    subject, batches = side
    other = replace(subject.model, layer_norm_eps=1e-2)
    mine = replace(subject, label="B", model=other, activations=exact(subject.get, other, batches))
    found = against_oracle([subject, mine], batches, FLOAT32)
    assert {label: max(gap.max_abs for gap in gaps) for label, gaps in found.items()} == {"A": 0.0, "B": 0.0}
    wrong = against_oracle([subject, replace(mine, activations=subject.activations)], batches, FLOAT32)
    assert max(gap.max_abs for gap in wrong["A"]) == 0.0
    assert min(gap.max_abs for gap in wrong["B"]) > 1e-4


def test_each_side_is_held_to_its_own_weights(side) -> None:
    subject, batches = side

    def get(name: str) -> np.ndarray:
        return subject.get(name) * (2.0 if name == "pooler.dense.weight" else 1.0)

    other = replace(subject, label="B", get=get, activations=exact(get, subject.model, batches))
    found = against_oracle([subject, other], batches, FLOAT32)
    assert {label: max(gap.max_abs for gap in gaps) for label, gaps in found.items()} == {"A": 0.0, "B": 0.0}
    wrong = against_oracle([subject, replace(other, activations=subject.activations)], batches, FLOAT32)
    assert {gap.name for gap in wrong["B"] if gap.max_abs} == {"pooler", "next_sentence"}


def test_sides_that_are_alike_share_one_oracle(side) -> None:
    subject, batches = side
    asked: list[str] = []

    def get(name: str) -> np.ndarray:
        asked.append(name)
        return subject.get(name)

    one = replace(subject, get=get)
    against_oracle([one], batches, FLOAT32)
    alone = len(asked)
    against_oracle([one, replace(one, label="B")], batches, FLOAT32)
    assert len(asked) == 2 * alone


# -- noise


def test_noise_is_what_the_element_type_explains(side) -> None:
    subject, batches = side
    sizes = {
        dtype: {gap.name: gap for gap in against_oracle([subject], batches, Arithmetic(dtype))["A"]}
        for dtype in ("float32", "bfloat16")
    }
    for name in NAMES:
        assert sizes["bfloat16"][name].noise_rms > 1000 * sizes["float32"][name].noise_rms


def test_noise_of_what_a_row_has_one_of_is_no_less_than_that_of_its_last_hidden_state(side) -> None:
    subject, batches = side
    for seed in range(6):
        batch = hard_batch_of(subject, batches[0], seed)
        wanted = dict(oracle.forward(subject.get, subject.model, batch))
        noisy = dict(oracle.forward(subject.get, subject.model, batch, FLOAT32))
        moved = propagated(subject, batch, wanted["layer.2"], noisy["layer.2"] - wanted["layer.2"])
        assert sorted(moved) == ["next_sentence", "pooler"]
        for name, _, noise in promised(subject, batch, FLOAT32):
            assert noise == noise_of(noisy[name], wanted[name]) | moved.get(name, noise_of(wanted[name], wanted[name]))


def hard_batch_of(subject: Subject, batch: Batch, seed: int) -> Batch:
    """Return a batch with its rows' tokens rolled, so that other errors come of it."""
    ids = np.where(batch.attention_mask == 1, np.roll(batch.input_ids, seed, axis=1), batch.input_ids)
    return replace(batch, input_ids=np.maximum(ids, 1))


def test_nothing_of_a_row_is_propagated_where_a_model_has_none(side) -> None:
    subject, batches = side
    bare = replace(subject, model=replace(subject.model, heads=("masked_lm",)))
    x = dict(oracle.forward(subject.get, bare.model, batches[0]))["layer.2"]
    assert propagated(bare, batches[0], x, np.zeros_like(x)) == {}


# -- against each other


def test_every_activation_of_both_is_compared_in_units_of_both_noises(side) -> None:
    subject, batches = side
    other = replace(subject, label="B")
    gaps = against_oracle([subject, other], batches, FLOAT32)
    twice = {
        **gaps,
        "B": tuple(replace(gap, noise_rms=2 * gap.noise_rms, noise_max=3 * gap.noise_max) for gap in gaps["B"]),
    }
    found = agreement(subject, other, batches, twice)
    assert keys(found) == BOTH
    for gap, one in zip(found, gaps["A"], strict=True):
        assert gap.noise_rms == pytest.approx(math.sqrt(5) * one.noise_rms)
        assert gap.noise_max == pytest.approx(math.sqrt(10) * one.noise_max)
        assert (gap.max_abs, gap.elements) == (0.0, one.elements)


def test_the_value_is_as_and_the_expected_one_bs(side) -> None:
    subject, batches = side
    other = replace(changed(subject, "text/pooler", lambda array: array * 0 + 9.0), label="B")
    gaps = against_oracle([subject, other], batches, FLOAT32)
    found = {(gap.batch, gap.name): gap for gap in agreement(subject, other, batches, gaps)}
    assert {key for key, gap in found.items() if gap.max_abs} == {("text", "pooler")}
    assert {worst.expected for worst in found["text", "pooler"].worst} == {9.0}
    back = {(gap.batch, gap.name): gap for gap in agreement(other, subject, batches, gaps)}
    assert {worst.value for worst in back["text", "pooler"].worst} == {9.0}


@pytest.mark.parametrize("lacking", ["A", "B"])
def test_what_one_side_did_not_compute_is_no_agreement(side, lacking: str) -> None:
    subject, batches = side
    less = {key: array for key, array in subject.activations.items() if key != "hard/layer.1"}
    a, b = (
        replace(subject, label=label, activations=less if label == lacking else subject.activations) for label in "AB"
    )
    found = agreement(a, b, batches, against_oracle([a, b], batches, FLOAT32))
    assert keys(found) == BOTH
    assert [(gap.batch, gap.name) for gap in found if not gap.elements] == [("hard", "layer.1")]


@pytest.mark.parametrize("lacking", ["A", "B"])
def test_a_head_that_one_system_has_no_place_for_is_not_compared(side, lacking: str) -> None:
    subject, batches = side
    bare = replace(subject.model, heads=("pooler", "masked_lm"))
    a, b = (replace(subject, label=label, model=bare if label == lacking else subject.model) for label in "AB")
    found = agreement(a, b, batches, against_oracle([a, b], batches, FLOAT32))
    assert keys(found) == [key for key in BOTH if key[1] != "next_sentence"]


# -- names and places


def test_hidden_states_and_the_pooler_are_no_logits() -> None:
    assert [name for name in (*NAMES, "span_qa", "layers") if is_logits(name)] == [
        "masked_lm",
        "next_sentence",
        "span_qa",
        "layers",
    ]


def test_each_vector_has_its_place_in_the_batch(side) -> None:
    _, (batch, _) = side
    tokens = [(row, at) for row, length in enumerate(batch.lengths) for at in range(length)]
    assert list(map(tuple, places("layer.0", batch))) == tokens
    assert list(map(tuple, places("token_classification", batch))) == tokens
    assert list(map(tuple, places("pooler", batch))) == [(row, 0) for row in range(len(batch.lengths))]
    predicted = [(row, at) for row, line in enumerate(batch.predict) for at in line]
    assert list(map(tuple, places("masked_lm", batch))) == predicted
