"""What both sides are run on: seeded rows of tokens that leave nothing of an encoder unvisited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from interlingua.mappings.config import Config
from interlingua.mappings.conventions import BEHIND_PADDING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids = NDArray[np.int64]

SEED = 20181011
"""The day on which BERT's paper appeared."""

ROWS = 4
LONGEST = 512
"""Rows of the hard batch, and tokens of its longest row where a model has as many positions."""

PREDICTED = 8
"""Positions of each row whose masked-LM logits are compared: all of a vocabulary for each token would be gigabytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows of tokens, padded behind.

    Attributes:
        name: ``hard`` or ``text``; what its activations are called by.
        input_ids: [rows, length] int64; the padding token stands where ``attention_mask`` is 0 and nowhere else.
        token_type_ids: [rows, length] int64.
        task_type_ids: [rows, length] int64; zeros for a family without task types.
        attention_mask: [rows, length] int64, 1 at tokens and 0 at padding.
        predict: [rows, predicted] int64, positions of tokens whose masked-LM logits are computed.
    """

    name: str
    input_ids: Ids
    token_type_ids: Ids
    task_type_ids: Ids
    attention_mask: Ids
    predict: Ids

    ARRAYS = ("input_ids", "token_type_ids", "task_type_ids", "attention_mask", "predict")

    def arrays(self) -> dict[str, Ids]:
        """Return the arrays by ``batch/name``, as they lie in a file."""
        return {f"{self.name}/{key}": getattr(self, key) for key in self.ARRAYS}

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [int(count) for count in self.attention_mask.sum(axis=1)]


def longest_row(config: Config, positions: str) -> int:
    """Return the tokens that a model can take at once; some positions stand for padding where ``positions`` says so."""
    rows = config.max_position_embeddings
    return rows - config.pad_token_id - 1 if positions == BEHIND_PADDING else rows


def hard_batch(config: Config, longest: int, *, rows: int = ROWS, length: int | None = None, seed: int = SEED) -> Batch:
    """Return the batch that both sides are run on by default.

    The first row is as long as the model can take (``LONGEST`` at most), the others ever shorter, the last of
    two tokens. Between them they hold the first and the last rows of the vocabulary, every token type
    and every task type, each changing within a row; no two positions hold the same run of tokens.

    Args:
        config: the model's configuration.
        longest: tokens that the model can take.
        rows: number of rows.
        length: tokens of the longest row; None: ``LONGEST``, or what the model can take.
        seed: where the random tokens come from.
    """
    import numpy as np

    length = max(2, min(length or LONGEST, longest))
    rng = np.random.default_rng(seed)
    counts = [max(2, length >> row) if row < rows - 1 else 2 for row in range(rows)]
    counts[0] = length
    shape = (rows, length)
    ids = np.full(shape, config.pad_token_id, np.int64)
    types, tasks, mask = (np.zeros(shape, np.int64) for _ in range(3))
    allowed = np.delete(np.arange(config.vocab_size), config.pad_token_id)
    rare = np.concatenate([allowed[-4:], allowed[:4]])
    for row, count in enumerate(counts):
        drawn = rng.choice(allowed, count)
        edge = min(len(rare), count // 2)
        drawn[rng.permutation(count)[:edge]] = rare[:edge]
        ids[row, :count] = drawn
        mask[row, :count] = 1
        types[row, :count] = _segments(count, config.type_vocab_size or 1, row)
        tasks[row, :count] = _segments(count, config.task_type_vocab_size or 1, row + 1)
    predict = np.stack([_spread(count) for count in counts])
    return Batch("hard", ids, types, tasks, mask, predict)


def _segments(count: int, kinds: int, turn: int) -> Ids:
    """Return ``count`` numbers below ``kinds`` in as many runs, beginning with another one each turn."""
    import numpy as np

    return (np.arange(count) * kinds // count + turn) % kinds


def _spread(count: int) -> Ids:
    """Return ``PREDICTED`` positions from the first to the last of a row, repeated where it is shorter."""
    import numpy as np

    return np.linspace(0, count - 1, PREDICTED).round().astype(np.int64)


def padded_batch(name: str, sequences: list[tuple[list[int], list[int]]], pad: int) -> Batch:
    """Return (token ids, token types) of several rows as a batch.

    Args:
        name: what its activations are called by.
        sequences: the rows, each of two tokens or more.
        pad: the padding token.
    """
    import numpy as np

    length = max(len(ids) for ids, _ in sequences)
    shape = (len(sequences), length)
    ids = np.full(shape, pad, np.int64)
    types, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, (tokens, segments) in enumerate(sequences):
        ids[row, : len(tokens)] = tokens
        types[row, : len(tokens)] = segments
        mask[row, : len(tokens)] = 1
    predict = np.stack([_spread(len(tokens)) for tokens, _ in sequences])
    return Batch(name, ids, types, np.zeros(shape, np.int64), mask, predict)
