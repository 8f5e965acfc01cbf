"""What a model's outputs are: a forward pass of every family in float64 NumPy, from canonical tensors.

It is written from the papers and the systems' sources, and shares no line with the encoders that a parity check
runs. It computes under the conventions that it is given, so that it says of each system what that system promises.

Only real tokens are computed, those of all rows one after the other as ``[tokens, ...]``: within a row every token
attends to every other, rows do not see each other, and padding is seen by none, which is all that a mask does.

Sources: Vaswani et al. 2017 (arXiv:1706.03762); Devlin et al. 2018 (arXiv:1810.04805) and google-research/bert
``modeling.py``; Lan et al. 2019 (arXiv:1909.11942) and google-research/albert ``modeling.py``; Liu et al. 2019
(arXiv:1907.11692); Clark et al. 2020 (arXiv:2003.10555); Sanh et al. 2019 (arXiv:1910.01108); Sun et al. 2019
(arXiv:1907.12412); Wei et al. 2019 (arXiv:1909.00204); the ``modeling_*.py`` of huggingface/transformers; and what
is named at each formula.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from interlingua.mappings.conventions import BEHIND_PADDING
from interlingua.verify.oracle.arithmetic import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    Arithmetic,
    activate,
    matmul,
    softmax,
)
from interlingua.verify.oracle.heads import HEAD_ACTIVATIONS, PER_TOKEN, head_outputs
from interlingua.verify.oracle.model import Get, Model, dense, has, norm, rows
from interlingua.verify.parity.batch import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = [
    "BFLOAT16",
    "FLOAT16",
    "FLOAT32",
    "FLOAT64",
    "HEAD_ACTIVATIONS",
    "PER_TOKEN",
    "Arithmetic",
    "Get",
    "Model",
    "attention_block",
    "attention_context",
    "embeddings",
    "feed_forward_block",
    "forward",
    "head_outputs",
    "layer",
    "layer_prefix",
    "position_ids",
    "real_tokens",
    "relative_table",
]

WORDS = "embeddings.word_embeddings"
POSITIONS = "embeddings.position_embeddings"
TYPES = "embeddings.token_type_embeddings"
TASKS = "embeddings.task_type_embeddings"


def embeddings(get: Get, model: Model, batch: Batch, arithmetic: Arithmetic = FLOAT64) -> Array:
    """Return the first layer's input, [tokens, hidden].

    LayerNorm(word + type + position): figure 2 of BERT's paper. ERNIE 2.0 adds a task's embedding, where a model has
    them; DistilBERT has no types; NEZHA adds no absolute positions, though MindSpore's code keeps a table of them
    (``official/nlp/Bert/src/bert_model.py``, EmbeddingPostprocessor). ALBERT and ELECTRA embed in fewer dimensions,
    and project what LayerNorm gives (google-research/albert ``modeling.py``, transformer_model; transformers
    ``models/electra/modeling_electra.py``, ElectraModel).
    """
    real = batch.attention_mask == 1
    total = rows(get, WORDS, batch.input_ids[real], arithmetic)
    if has(get, f"{TYPES}.weight"):
        total = arithmetic.round(total + rows(get, TYPES, batch.token_type_ids[real], arithmetic))
    if model.family != "nezha":
        total = arithmetic.round(total + rows(get, POSITIONS, position_ids(model, batch)[real], arithmetic))
    if model.family == "ernie" and has(get, f"{TASKS}.weight"):
        total = arithmetic.round(total + rows(get, TASKS, batch.task_type_ids[real], arithmetic))
    epsilon = model.layer_norm_eps if model.embeddings_eps is None else model.embeddings_eps
    normed = norm(get, model, "embeddings.LayerNorm", total, epsilon, arithmetic)
    if model.family == "albert":
        return dense(get, "encoder.embedding_hidden_mapping_in", normed, arithmetic)
    if model.family == "electra" and has(get, "embeddings_project.weight"):
        return dense(get, "embeddings_project", normed, arithmetic)
    return normed


def position_ids(model: Model, batch: Batch) -> Array:
    """Return the row of the position embedding that each token takes, [rows, length] int64.

    They count from 0 (google-research/bert ``modeling.py``, embedding_postprocessor), or from the row behind the
    padding token's (fairseq ``fairseq/utils.py``, make_positions; transformers ``models/roberta/modeling_roberta.py``).
    """
    import numpy as np

    first = model.pad_token_id + 1 if model.positions == BEHIND_PADDING else 0
    return np.broadcast_to(first + np.arange(batch.input_ids.shape[1]), batch.input_ids.shape)


def layer(get: Get, model: Model, index: int, x: Array, batch: Batch, arithmetic: Arithmetic = FLOAT64) -> Array:
    """Return a layer's output of its input, both [tokens, hidden]: attention, then the feed-forward network."""
    attended = attention_block(get, model, index, x, batch, arithmetic)
    return feed_forward_block(get, model, index, attended, arithmetic)


def attention_block(
    get: Get, model: Model, index: int, x: Array, batch: Batch, arithmetic: Arithmetic = FLOAT64
) -> Array:
    """Return LayerNorm(x + attention(x) W_O), [tokens, hidden]: the first half of a layer."""
    prefix = layer_prefix(model, index)
    context = attention_context(get, model, index, x, batch, arithmetic)
    projected = dense(get, f"{prefix}attention.output.dense", context, arithmetic)
    summed = arithmetic.round(projected + x)
    return norm(get, model, f"{prefix}attention.output.LayerNorm", summed, model.layer_norm_eps, arithmetic)


def feed_forward_block(get: Get, model: Model, index: int, x: Array, arithmetic: Arithmetic = FLOAT64) -> Array:
    """Return LayerNorm(x + act(x W_1 + b_1) W_2 + b_2), [tokens, hidden]: the second half of a layer.

    Vaswani et al., section 3.3, with BERT's activation.
    """
    prefix = layer_prefix(model, index)
    inner = activate(dense(get, f"{prefix}intermediate.dense", x, arithmetic), model.hidden_act, arithmetic)
    summed = arithmetic.round(dense(get, f"{prefix}output.dense", inner, arithmetic) + x)
    return norm(get, model, f"{prefix}output.LayerNorm", summed, model.layer_norm_eps, arithmetic)


def attention_context(
    get: Get, model: Model, index: int, x: Array, batch: Batch, arithmetic: Arithmetic = FLOAT64
) -> Array:
    """Return what attention gathers, before its output projection, [tokens, hidden].

    softmax(Q K^T / sqrt(d)) V for each head of each row (Vaswani et al., section 3.2), heads side by side.
    """
    import numpy as np

    prefix = f"{layer_prefix(model, index)}attention.self."
    query, key, value = (dense(get, prefix + part, x, arithmetic) for part in ("query", "key", "value"))
    table = relative_table(get, model, index, arithmetic) if model.family == "nezha" else None
    context = np.empty_like(query)
    start = 0
    for length in batch.lengths:
        row = slice(start, start + length)
        q, k, v = (_split_heads(part[row], model.num_attention_heads) for part in (query, key, value))
        relations = None if table is None else table[_distances(length, len(table))]
        context[row] = _attend(q, k, v, relations, arithmetic).transpose(1, 0, 2).reshape(length, -1)
        start += length
    return context


def _attend(q: Array, k: Array, v: Array, relations: Array | None, arithmetic: Arithmetic) -> Array:
    """Return one row's attention, [heads, length, size], of queries, keys and values of that shape.

    ``relations`` [length, length, size] are NEZHA's: a_ij is added to the key and to the value that token i sees of
    token j (Shaw et al. 2018, arXiv:1803.02155, equations 3 and 4, with one table for both).
    """
    scores = matmul(q, k.transpose(0, 2, 1), arithmetic)
    if relations is not None:
        moved = matmul(q.transpose(1, 0, 2), relations.transpose(0, 2, 1), arithmetic)
        scores = arithmetic.round(scores + moved.transpose(1, 0, 2))
    weights = softmax(arithmetic.round(scores * (1.0 / math.sqrt(q.shape[-1]))), arithmetic)
    found = matmul(weights, v, arithmetic)
    if relations is not None:
        moved = matmul(weights.transpose(1, 0, 2), relations, arithmetic)
        found = arithmetic.round(found + moved.transpose(1, 0, 2))
    return found


def relative_table(get: Get, model: Model, index: int, arithmetic: Arithmetic = FLOAT64) -> Array:
    """Return NEZHA's table of relative positions, [2 max_relative_position + 1, size].

    A layer's own where it learned one (mindspore-ai/models ``official/nlp/Bert/src/bert_model.py``,
    RelaPosEmbeddingsGenerator: one table for keys and values). Else
    sin(p / 10000^(2i/d)) and cos(p / 10000^(2i/d)) in turns (arXiv:1909.00204, section 2), where transformers and
    PaddleNLP, as NEZHA's own code, count p from 0 at the farthest distance to the left. transformers computes these
    angles in float32, PaddleNLP in float64: the run in float32 does as transformers, and is off by some 1e-5.

    Raises:
        ValueError: no table is stored, and the model does not say ``max_relative_position``.
    """
    import numpy as np

    name = f"{layer_prefix(model, index)}attention.self.relative_positions.weight"
    if has(get, name):
        return arithmetic.round(get(name))
    if model.max_relative_position is None:
        raise ValueError("A model of the family nezha needs max_relative_position.")
    size = model.hidden_size // model.num_attention_heads
    places = np.arange(2 * model.max_relative_position + 1, dtype=arithmetic.working)[:, None]
    rates = np.exp(np.arange(0, size, 2, dtype=arithmetic.working) * (-math.log(10000.0) / size))
    table = np.empty((len(places), size), dtype=arithmetic.working)
    table[:, 0::2], table[:, 1::2] = np.sin(places * rates), np.cos(places * rates[: size // 2])
    return arithmetic.round(table)


def _distances(length: int, places: int) -> Array:
    """Return each pair of tokens' row of a table of so many, [length, length]: j - i, clipped, the lowest at row 0."""
    import numpy as np

    farthest = (places - 1) // 2
    tokens = np.arange(length)
    return np.clip(tokens[None, :] - tokens[:, None], -farthest, farthest) + farthest


def layer_prefix(model: Model, index: int) -> str:
    """Return what the names of a layer's tensors begin with.

    Layers that share weights come in groups of equal size, one after the other (google-research/albert
    ``modeling.py``, transformer_model; transformers ``models/albert/modeling_albert.py``, AlbertTransformer).
    """
    if model.num_hidden_groups is None:
        return f"encoder.layer.{index}."
    return f"encoder.group.{index * model.num_hidden_groups // model.num_hidden_layers}."


def _split_heads(x: Array, heads: int) -> Array:
    """Return [length, hidden] as [heads, length, size]."""
    import numpy as np

    return np.ascontiguousarray(x.reshape(len(x), heads, -1).transpose(1, 0, 2))


def forward(get: Get, model: Model, batch: Batch, arithmetic: Arithmetic = FLOAT64) -> Iterator[tuple[str, Array]]:
    """Yield (name, activation) of ``embeddings``, ``layer.0`` and so on, and the model's heads."""
    x = embeddings(get, model, batch, arithmetic)
    yield "embeddings", x
    for index in range(model.num_hidden_layers):
        x = layer(get, model, index, x, batch, arithmetic)
        yield f"layer.{index}", x
    yield from head_outputs(get, model, x, batch, arithmetic).items()


def real_tokens(array: Array, name: str, batch: Batch) -> Array:
    """Return a framework's activation in the oracle's shape, padding left out.

    Args:
        array: [rows, length, n] of hidden states and of heads of ``PER_TOKEN``, [rows, predicted, vocab] of
            ``masked_lm``, [rows, n] of others.
        name: the activation's name.
        batch: what it was computed of.

    Raises:
        ValueError: the array does not have as many rows or tokens as the batch.
    """
    by_token = name in PER_TOKEN or name == "embeddings" or name.startswith("layer.")
    wanted = (
        batch.input_ids.shape if by_token else batch.predict.shape if name == "masked_lm" else (len(batch.lengths),)
    )
    if array.ndim != len(wanted) + 1 or array.shape[:-1] != wanted:
        raise ValueError(f"{name} has shape {array.shape}, and the batch {batch.name} makes it {(*wanted, '...')}.")
    if by_token:
        array = array[batch.attention_mask == 1]
    return array.reshape(-1, array.shape[-1])
