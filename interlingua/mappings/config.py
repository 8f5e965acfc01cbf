"""The canonical configuration, and the tables by which a dialect's own configuration maps to it and back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

Json = Any
"""Whatever a JSON text can hold."""

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu", "tanh", "linear")
"""Canonical activations: ``gelu`` is x/2 (1 + erf(x/sqrt 2)); ``gelu_tanh`` its approximation by tanh."""


@dataclass(frozen=True, slots=True)
class Config:
    """What has to be known of a model besides its weights.

    Attributes:
        vocab_size: rows of the word embedding.
        hidden_size: width of the encoder.
        num_hidden_layers: number of layers.
        num_attention_heads: attention heads a layer; divides ``hidden_size``.
        intermediate_size: width of the feed-forward layer.
        max_position_embeddings: rows of the position embedding.
        type_vocab_size: rows of the token-type embedding, padding rows of a dialect left out.
        hidden_act: one of ``ACTIVATIONS``.
        layer_norm_eps: added to the variance inside the root.
        hidden_dropout_prob: dropout of hidden states while training.
        attention_probs_dropout_prob: dropout of attention weights while training.
        initializer_range: standard deviation of the weights at initialisation.
        pad_token_id: row of the word embedding that pads.
        tie_word_embeddings: whether the masked-LM decoder is the word embedding.
        labels: names of the labels of a classification head, in order; empty where none are known.
        embedding_size: width of the embeddings, where a family has them narrower than the encoder.
        num_hidden_groups: groups of layers that share their weights.
        task_type_vocab_size: rows of the task-type embedding; stated by some models that have none.
        use_task_id: whether the model has a task-type embedding and computes with it.
        max_relative_position: distance from which relative positions are no longer told apart.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    hidden_act: str
    layer_norm_eps: float
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float
    initializer_range: float
    pad_token_id: int
    tie_word_embeddings: bool = True
    labels: tuple[str, ...] = ()
    embedding_size: int | None = None
    num_hidden_groups: int | None = None
    task_type_vocab_size: int | None = None
    use_task_id: bool | None = None
    max_relative_position: int | None = None

    def as_dict(self) -> dict[str, Json]:
        """Return the values by name, ready for JSON; what the family does not have is left out."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in {**values, "labels": list(self.labels)}.items() if value is not None}


INTEGERS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "pad_token_id",
    "embedding_size",
    "num_hidden_groups",
    "task_type_vocab_size",
    "max_relative_position",
)
FLAGS = ("tie_word_embeddings", "use_task_id")
NUMBERS = ("layer_norm_eps", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")


SOME = frozenset(item.name for item in fields(Config) if item.default is None)
"""Values that only some families have (``Family.values``)."""

REQUIRED = tuple(name for name in (*INTEGERS, *NUMBERS, "hidden_act") if name not in SOME)
"""Values that have to be known of every model."""

NEAREST = {"gelu": "gelu_tanh", "gelu_tanh": "gelu"}
"""What is written of an activation that a system does not have, where another comes near."""


def no_extras(_config: Config, _heads: Collection[str]) -> dict[str, Json]:
    """Add nothing to a configuration."""
    return {}


def flat(native: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return a configuration whose keys stand at its top."""
    return native


def unnested(values: Mapping[str, Json], _original: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the values of a configuration whose keys stand at its top."""
    return values


@dataclass(frozen=True, slots=True)
class ConfigTable:
    """How one dialect spells the canonical configuration of one family.

    Attributes:
        keys: canonical value -> the keys that hold it, the one that is written first.
        activations: the dialect's spelling -> canonical activation; the first spelling of each is written.
        defaults: canonical value -> what the system's own code takes where its configuration is silent.
        unstated: values that a configuration may leave open whatever they are, since the weights tell them.
        constants: keys that every written configuration has, with their value.
        marks: keys of which any one tells that a JSON text is this dialect's configuration.
        unmarks: keys of which any one tells that it is another system's.
        own: keys of which any one tells this system from those that spell everything else the same.
        only: key -> the values under which the family's tables hold; any other makes it another architecture.
        labels: the key that maps numbers to the labels' names, where the system has one.
        extras: returns the written keys that depend on the configuration and the heads together.
        dtype_keys: the keys that state the weights' element type, the one that is written first.
        unwrap: returns the flat values of a configuration that nests them.
        architectures: whether a written configuration names the system's class under ``architectures``.
        wrap: nests flat values as the system's file has them; its second argument is the file's content that
            they came from, empty where there is none.
    """

    keys: Mapping[str, tuple[str, ...]]
    activations: Mapping[str, str]
    defaults: Mapping[str, Json] = field(default_factory=dict)
    unstated: frozenset[str] = frozenset()
    constants: Mapping[str, Json] = field(default_factory=dict)
    marks: frozenset[str] = frozenset()
    unmarks: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    only: Mapping[str, tuple[Json, ...]] = field(default_factory=dict)
    labels: str | None = None
    extras: Callable[[Config, Collection[str]], dict[str, Json]] = no_extras
    dtype_keys: tuple[str, ...] = ()
    architectures: bool = False
    unwrap: Callable[[Mapping[str, Json]], Mapping[str, Json]] = flat
    wrap: Callable[[Mapping[str, Json], Mapping[str, Json]], Mapping[str, Json]] = unnested

    def recognises(self, native: Mapping[str, Json]) -> bool:
        """Say whether a JSON object looks like this dialect's configuration."""
        values = self.unwrap(native)
        return any(mark in values for mark in self.marks) and not any(mark in values for mark in self.unmarks)

    def claims(self, native: Mapping[str, Json]) -> bool | None:
        """Say whether a configuration states this family (or system); None where it says nothing of them."""
        values = self.unwrap(native)
        stated = [values[key] in self.only[key] for key in FAMILY_KEYS if key in values and key in self.only]
        return all(stated) if stated else (True if any(key in native for key in self.own) else None)

    def spell_activation(self, canonical: str) -> str | None:
        """Return the dialect's spelling of a canonical activation, or None where it has none."""
        return next((native for native, name in self.activations.items() if name == canonical), None)

    def nearest_activation(self, canonical: str) -> str | None:
        """Return the dialect's spelling of an activation, or of the one that comes nearest; None: neither."""
        return self.spell_activation(canonical) or self.spell_activation(NEAREST.get(canonical, canonical))


FAMILY_KEYS = ("model_type", "init_class", "class_name")
"""Keys under which configurations name the architecture."""
