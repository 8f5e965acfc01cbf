"""The canonical schema: what tensors and what configuration a model of each family has, in neutral names.

Names and orientation follow the original PyTorch port of BERT (linear weights are ``[out, in]``), without a
model prefix; heads have names of their own, so that no two tasks share one. A dialect's table maps to these
and to nothing else.

Sources: Devlin et al. 2018 (arXiv:1810.04805); huggingface/transformers
``src/transformers/models/bert/modeling_bert.py``; google-research/bert ``modeling.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

ENCODER = "encoder"
"""The part of a model that is not a head: embeddings and layers."""

LAYER = "{layer}"
"""Stands for a layer's number in names."""


@dataclass(frozen=True, slots=True)
class CanonicalTensor:
    """One tensor of a family.

    Attributes:
        name: canonical name, ``{layer}`` standing for the layer's number.
        shape: one symbol (``hidden``) or number an axis.
        part: ``encoder``, or the head that it belongs to.
        tied_to: the tensor whose data it shares unless a checkpoint says otherwise.
    """

    name: str
    shape: tuple[str, ...]
    part: str
    tied_to: str | None = None

    @property
    def repeated(self) -> bool:
        """Whether every layer has one."""
        return LAYER in self.name


@dataclass(frozen=True, slots=True)
class Family:
    """One architecture: its tensors in canonical order, and what its shapes tell of its configuration.

    Attributes:
        name: ``bert``, ...
        tensors: in canonical order.
        sizes: shape symbol -> the configuration value that it is.
    """

    name: str
    tensors: tuple[CanonicalTensor, ...]
    sizes: Mapping[str, str]

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that the family knows, in canonical order."""
        return tuple(dict.fromkeys(tensor.part for tensor in self.tensors if tensor.part != ENCODER))

    def find(self, name: str) -> CanonicalTensor:
        """Return the definition of a tensor by its canonical name, with a number or ``{layer}`` in it."""
        return _by_name(self)[template(name)]

    def instances(self, layers: int) -> Iterator[tuple[str, CanonicalTensor]]:
        """Yield (name, definition) of every tensor of a model with ``layers`` layers, in canonical order."""
        first = next(i for i, tensor in enumerate(self.tensors) if tensor.repeated)
        last = max(i for i, tensor in enumerate(self.tensors) if tensor.repeated) + 1
        for tensor in self.tensors[:first]:
            yield tensor.name, tensor
        for layer in range(layers):
            for tensor in self.tensors[first:last]:
                yield tensor.name.replace(LAYER, str(layer)), tensor
        for tensor in self.tensors[last:]:
            yield tensor.name, tensor


# Nine digits at most: a longer number is no layer's, and Python refuses to read one of thousands.
_NUMBER = re.compile(r"(?<=[./])(0|[1-9][0-9]{0,8})(?=[./])")


def template(name: str) -> str:
    """Return the name with the first number that stands alone between separators replaced by ``{layer}``."""
    return _NUMBER.sub(LAYER, name, count=1)


def layer_of(name: str) -> int | None:
    """Return the first number that stands alone between separators in a name, or None."""
    found = _NUMBER.search(name)
    return int(found.group()) if found else None


_INDEX: dict[str, dict[str, CanonicalTensor]] = {}


def _by_name(family: Family) -> dict[str, CanonicalTensor]:
    if family.name not in _INDEX:
        _INDEX[family.name] = {tensor.name: tensor for tensor in family.tensors}
    return _INDEX[family.name]


def _tensors(part: str, table: str) -> tuple[CanonicalTensor, ...]:
    """Read a table of ``name: shape`` lines; ``= other`` after the shape says which tensor it is tied to."""
    rows = []
    for line in table.strip().splitlines():
        name, _, rest = line.strip().partition(":")
        shape, _, tied = rest.partition("=")
        rows.append(CanonicalTensor(name, tuple(shape.split()), part, tied.strip() or None))
    return tuple(rows)


BERT = Family(
    name="bert",
    sizes={
        "vocab": "vocab_size",
        "positions": "max_position_embeddings",
        "types": "type_vocab_size",
        "hidden": "hidden_size",
        "intermediate": "intermediate_size",
    },
    tensors=(
        *_tensors(
            ENCODER,
            """
            embeddings.word_embeddings.weight: vocab hidden
            embeddings.position_embeddings.weight: positions hidden
            embeddings.token_type_embeddings.weight: types hidden
            embeddings.LayerNorm.weight: hidden
            embeddings.LayerNorm.bias: hidden
            encoder.layer.{layer}.attention.self.query.weight: hidden hidden
            encoder.layer.{layer}.attention.self.query.bias: hidden
            encoder.layer.{layer}.attention.self.key.weight: hidden hidden
            encoder.layer.{layer}.attention.self.key.bias: hidden
            encoder.layer.{layer}.attention.self.value.weight: hidden hidden
            encoder.layer.{layer}.attention.self.value.bias: hidden
            encoder.layer.{layer}.attention.output.dense.weight: hidden hidden
            encoder.layer.{layer}.attention.output.dense.bias: hidden
            encoder.layer.{layer}.attention.output.LayerNorm.weight: hidden
            encoder.layer.{layer}.attention.output.LayerNorm.bias: hidden
            encoder.layer.{layer}.intermediate.dense.weight: intermediate hidden
            encoder.layer.{layer}.intermediate.dense.bias: intermediate
            encoder.layer.{layer}.output.dense.weight: hidden intermediate
            encoder.layer.{layer}.output.dense.bias: hidden
            encoder.layer.{layer}.output.LayerNorm.weight: hidden
            encoder.layer.{layer}.output.LayerNorm.bias: hidden
            """,
        ),
        *_tensors(
            "pooler",
            """
            pooler.dense.weight: hidden hidden
            pooler.dense.bias: hidden
            """,
        ),
        *_tensors(
            "masked_lm",
            """
            masked_lm.transform.dense.weight: hidden hidden
            masked_lm.transform.dense.bias: hidden
            masked_lm.transform.LayerNorm.weight: hidden
            masked_lm.transform.LayerNorm.bias: hidden
            masked_lm.decoder.weight: vocab hidden = embeddings.word_embeddings.weight
            masked_lm.decoder.bias: vocab
            """,
        ),
        *_tensors(
            "next_sentence",
            """
            next_sentence.weight: 2 hidden
            next_sentence.bias: 2
            """,
        ),
        *_tensors(
            "sequence_classification",
            """
            sequence_classification.weight: labels hidden
            sequence_classification.bias: labels
            """,
        ),
        *_tensors(
            "token_classification",
            """
            token_classification.weight: labels hidden
            token_classification.bias: labels
            """,
        ),
        *_tensors(
            "span_qa",
            """
            span_qa.weight: 2 hidden
            span_qa.bias: 2
            """,
        ),
    ),
)

FAMILIES: dict[str, Family] = {family.name: family for family in (BERT,)}
"""Every family there is, by name."""

ZOO_PARTS = frozenset({ENCODER, "pooler"})
"""What model zoos count when they print a parameter count: the encoder and its pooler, no other head."""
