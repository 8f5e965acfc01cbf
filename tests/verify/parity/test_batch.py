"""The hard batch visits what an encoder has, and is the same each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.families import config_of
from interlingua.mappings.conventions import BEHIND_PADDING, FROM_ZERO
from interlingua.mappings.schema import BERT, ERNIE
from interlingua.verify.parity.batch import LONGEST, PREDICTED, hard_batch, longest_row, padded_batch

CONFIG = replace(config_of(ERNIE), vocab_size=1000, type_vocab_size=4, task_type_vocab_size=3)


@given(st.integers(2, 64), st.integers(1, 6), st.integers(0, 2**32), st.integers(0, 5))
def test_padding_stands_where_the_mask_is_zero_and_nowhere_else(length: int, rows: int, seed: int, pad: int) -> None:
    batch = hard_batch(replace(CONFIG, pad_token_id=pad), 64, rows=rows, length=length, seed=seed)
    assert batch.input_ids.shape == (rows, length)
    assert np.array_equal(batch.input_ids == pad, batch.attention_mask == 0)
    assert batch.input_ids.min() >= 0
    assert batch.input_ids.max() < CONFIG.vocab_size
    assert all(np.all(np.diff(row) <= 0) for row in batch.attention_mask), "padding comes behind"
    assert batch.lengths[0] == length
    assert min(batch.lengths) >= 2


def test_the_edges_of_the_vocabulary_every_type_and_every_task_are_visited() -> None:
    batch = hard_batch(CONFIG, LONGEST)
    real = batch.attention_mask == 1
    assert {1, 2, 997, 998, 999} <= set(batch.input_ids[real].tolist())
    assert set(batch.token_type_ids[real].tolist()) == {0, 1, 2, 3}
    assert set(batch.task_type_ids[real].tolist()) == {0, 1, 2}
    assert not batch.token_type_ids[~real].any()
    assert batch.input_ids.shape[1] == LONGEST


def test_predicted_positions_are_tokens() -> None:
    batch = hard_batch(CONFIG, LONGEST)
    assert batch.predict.shape == (4, PREDICTED)
    assert all(
        row.max() == count - 1 and row.min() == 0 for row, count in zip(batch.predict, batch.lengths, strict=True)
    )


def test_a_seed_repeats_the_batch_and_another_changes_it() -> None:
    one, same, other = (hard_batch(CONFIG, 64, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.input_ids, same.input_ids)
    assert not np.array_equal(one.input_ids, other.input_ids)


def test_a_model_of_one_type_and_no_task_has_zeros_there() -> None:
    batch = hard_batch(replace(config_of(BERT), type_vocab_size=0, vocab_size=50), 16)
    assert not batch.token_type_ids.any()
    assert not batch.task_type_ids.any()


@pytest.mark.parametrize(("positions", "longest"), [(FROM_ZERO, 17), (BEHIND_PADDING, 15)])
def test_positions_behind_padding_leave_room_for_fewer_tokens(positions: str, longest: int) -> None:
    assert longest_row(replace(CONFIG, max_position_embeddings=17, pad_token_id=1), positions) == longest


def test_rows_of_text_are_padded_behind() -> None:
    batch = padded_batch("text", [([5, 6, 7], [0, 0, 1]), ([8, 9], [0, 0])], pad=3)
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 9, 3]]
    assert batch.token_type_ids.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert set(batch.arrays()) == {f"text/{name}" for name in batch.ARRAYS}
