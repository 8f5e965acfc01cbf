"""What the oracle is told of a model, and the parts that all of its layers and heads are put together of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from interlingua.verify.oracle.arithmetic import Arithmetic, layer_norm, linear

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Get = Callable[[str], "Array"]
"""Returns a canonical tensor by its name, tied ones as well; ``KeyError``: the model does not have it. It is called
each time that a tensor is needed, and nothing keeps what it returned."""


@dataclass(frozen=True, slots=True)
class Model:
    """How a system computes a model: everything that is needed besides its tensors and the batch.

    Attributes:
        family: the family's name (``schema.FAMILIES``).
        heads: the heads to compute, in the family's order.
        hidden_size: width of the encoder.
        num_hidden_layers: number of layers.
        num_attention_heads: attention heads a layer.
        num_hidden_groups: groups of layers that share their weights; None: each has its own.
        hidden_act: one of ``config.ACTIVATIONS``.
        layer_norm: ``conventions.CANONICAL`` or ``conventions.UNBIASED``.
        layer_norm_eps: epsilon of every LayerNorm but those below.
        positions: ``conventions.FROM_ZERO`` or ``conventions.BEHIND_PADDING``.
        pad_token_id: the padding token.
        max_relative_position: distance from which NEZHA's relative positions are no longer told apart.
        embeddings_eps: epsilon of the embeddings' LayerNorm, where a system takes another; None: the layers'.
        head_eps: head -> epsilon of its LayerNorm, where a system takes another.
        head_act: head -> its activation, where a system takes another than the family (``HEAD_ACTIVATIONS``).
    """

    family: str
    heads: tuple[str, ...]
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_hidden_groups: int | None
    hidden_act: str
    layer_norm: str
    layer_norm_eps: float
    positions: str
    pad_token_id: int
    max_relative_position: int | None
    embeddings_eps: float | None = None
    head_eps: Mapping[str, float] = field(default_factory=dict)
    head_act: Mapping[str, str] = field(default_factory=dict)


def has(get: Get, name: str) -> bool:
    """Say whether a model has a tensor that not every one of its family has."""
    try:
        get(name)
    except KeyError:
        return False
    return True


def rows(get: Get, table: str, ids: Array, arithmetic: Arithmetic) -> Array:
    """Return rows of an embedding, [tokens, width]."""
    return arithmetic.round(get(f"{table}.weight")[ids])


def dense(get: Get, name: str, x: Array, arithmetic: Arithmetic) -> Array:
    """Apply a linear layer of the model."""
    return linear(x, get(f"{name}.weight"), get(f"{name}.bias"), arithmetic)


def norm(get: Get, model: Model, name: str, x: Array, epsilon: float, arithmetic: Arithmetic) -> Array:
    """Apply a LayerNorm of the model."""
    return layer_norm(x, get(f"{name}.weight"), get(f"{name}.bias"), epsilon, model.layer_norm, arithmetic)
