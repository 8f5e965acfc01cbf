"""The canonical schema: what tensors and what configuration a model of each family has, in neutral names.

Names and orientation follow the original PyTorch port of BERT (linear weights are ``[out, in]``), without a
model prefix; heads have names of their own, so that no two tasks share one. A dialect's table maps to these
and to nothing else.

Sources: Devlin et al. 2018 (arXiv:1810.04805); google-research/bert ``modeling.py``; huggingface/transformers
``src/transformers/models/{bert,ernie,albert,roberta,electra,distilbert}/modeling_*.py`` and
``models/deprecated/nezha/modeling_nezha.py`` (4.57.1). Learned relative positions of NEZHA: mindspore-ai/models
``official/nlp/Bert/src/bert_model.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

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
        optional: whether a model may be without it; one that has it computes with it.
    """

    name: str
    shape: tuple[str, ...]
    part: str
    tied_to: str | None = None
    optional: bool = False

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
        counts: the configuration value that the number of ``{layer}`` is; a family whose layers share their
            weights has groups of them.
        values: configuration values that only some families have, and this one does.
        severable: optional tensors that a system may be without: it computes the model without what they add.
        neutral: those of them that add nothing where they are zeros, so that zeros are made for a system that has to
            have them (``Table.needs``) from one that is without.
        kin: families that hold the same model but for what stands in one of the two alone.
    """

    name: str
    tensors: tuple[CanonicalTensor, ...]
    sizes: Mapping[str, str]
    counts: str = "num_hidden_layers"
    values: tuple[str, ...] = ()
    severable: frozenset[str] = frozenset()
    neutral: frozenset[str] = frozenset()
    kin: tuple[str, ...] = ()

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
    """Return a canonical name with the layer's number replaced by ``{layer}``: the first between separators."""
    return _NUMBER.sub(LAYER, name, count=1)


def layer_of(name: str) -> int | None:
    """Return the layer's number in a canonical name, the first between separators; or None."""
    found = _NUMBER.search(name)
    return int(found.group()) if found else None


_INDEX: dict[str, dict[str, CanonicalTensor]] = {}


def _by_name(family: Family) -> dict[str, CanonicalTensor]:
    if family.name not in _INDEX:
        _INDEX[family.name] = {tensor.name: tensor for tensor in family.tensors}
    return _INDEX[family.name]


def tensors(part: str, table: str, layer: str = "") -> tuple[CanonicalTensor, ...]:
    """Read a table of ``name: shape`` lines, ``layer`` before each name.

    ``= other`` after the shape says which tensor it is tied to; ``?`` that a model may be without it.
    """
    rows = []
    for line in table.strip().splitlines():
        name, _, rest = line.strip().partition(":")
        shape, _, tied = rest.partition("=")
        sizes, optional = shape.replace("?", "").split(), "?" in shape
        rows.append(CanonicalTensor(layer + name, tuple(sizes), part, tied.strip() or None, optional))
    return tuple(rows)


_SIZES = {
    "vocab": "vocab_size",
    "positions": "max_position_embeddings",
    "types": "type_vocab_size",
    "hidden": "hidden_size",
    "intermediate": "intermediate_size",
}

_LAYER = """
    attention.self.query.weight: hidden hidden
    attention.self.query.bias: hidden
    attention.self.key.weight: hidden hidden
    attention.self.key.bias: hidden
    attention.self.value.weight: hidden hidden
    attention.self.value.bias: hidden
    attention.output.dense.weight: hidden hidden
    attention.output.dense.bias: hidden
    attention.output.LayerNorm.weight: hidden
    attention.output.LayerNorm.bias: hidden
    intermediate.dense.weight: intermediate hidden
    intermediate.dense.bias: intermediate
    output.dense.weight: hidden intermediate
    output.dense.bias: hidden
    output.LayerNorm.weight: hidden
    output.LayerNorm.bias: hidden
"""
"""The layer that all families share."""

_LAYERS = tensors(ENCODER, _LAYER, f"encoder.layer.{LAYER}.")

_POOLER = tensors(
    "pooler",
    """
    pooler.dense.weight: hidden hidden
    pooler.dense.bias: hidden
    """,
)
_MASKED_LM = tensors(
    "masked_lm",
    """
    masked_lm.transform.dense.weight: hidden hidden
    masked_lm.transform.dense.bias: hidden
    masked_lm.transform.LayerNorm.weight: hidden
    masked_lm.transform.LayerNorm.bias: hidden
    masked_lm.decoder.weight: vocab hidden = embeddings.word_embeddings.weight
    masked_lm.decoder.bias: vocab
    """,
)
_NARROW_MASKED_LM = tensors(
    "masked_lm",
    """
    masked_lm.transform.dense.weight: embedding hidden
    masked_lm.transform.dense.bias: embedding
    masked_lm.transform.LayerNorm.weight: embedding
    masked_lm.transform.LayerNorm.bias: embedding
    masked_lm.decoder.weight: vocab embedding = embeddings.word_embeddings.weight
    masked_lm.decoder.bias: vocab
    """,
)
"""The masked-LM head of a family whose embedding is narrower than its layers."""


def _linear(head: str, rows: str) -> tuple[CanonicalTensor, ...]:
    """A head that is one linear layer."""
    return tensors(head, f"{head}.weight: {rows} hidden\n{head}.bias: {rows}")


def _dense_linear(head: str, rows: str) -> tuple[CanonicalTensor, ...]:
    """A head that is a dense layer as wide as the encoder, and a linear one."""
    return tensors(
        head,
        f"""
        {head}.dense.weight: hidden hidden
        {head}.dense.bias: hidden
        {head}.output.weight: {rows} hidden
        {head}.output.bias: {rows}
        """,
    )


_LABELLED = (
    *_linear("sequence_classification", "labels"),
    *_linear("token_classification", "labels"),
    *_linear("span_qa", "2"),
    *_linear("multiple_choice", "1"),
)

_EMBEDDINGS = tensors(
    ENCODER,
    """
    embeddings.word_embeddings.weight: vocab hidden
    embeddings.position_embeddings.weight: positions hidden
    embeddings.token_type_embeddings.weight: types hidden
    """,
)
_NARROW_EMBEDDINGS = tensors(
    ENCODER,
    """
    embeddings.word_embeddings.weight: vocab embedding
    embeddings.position_embeddings.weight: positions embedding
    embeddings.token_type_embeddings.weight: types embedding
    embeddings.LayerNorm.weight: embedding
    embeddings.LayerNorm.bias: embedding
    """,
)
_EMBEDDING_NORM = tensors(ENCODER, "embeddings.LayerNorm.weight: hidden\nembeddings.LayerNorm.bias: hidden")

BERT = Family(
    name="bert",
    sizes=_SIZES,
    kin=("ernie", "ernie-gram"),
    tensors=(
        *_EMBEDDINGS,
        *_EMBEDDING_NORM,
        *_LAYERS,
        *_POOLER,
        *_MASKED_LM,
        *_linear("next_sentence", "2"),
        *_LABELLED,
    ),
)

TASK_TYPES = "embeddings.task_type_embeddings.weight"

ERNIE = Family(
    name="ernie",
    sizes={**_SIZES, "tasks": "task_type_vocab_size"},
    values=("task_type_vocab_size", "use_task_id"),
    severable=frozenset({TASK_TYPES}),
    kin=("bert",),
    tensors=(
        *_EMBEDDINGS,
        *tensors(ENCODER, "embeddings.task_type_embeddings.weight: tasks hidden ?"),
        *_EMBEDDING_NORM,
        *_LAYERS,
        *_POOLER,
        *_MASKED_LM,
        *_linear("next_sentence", "2"),
        *_LABELLED,
    ),
)

RELATIVE_POSITIONS = "embeddings.rel_pos_embeddings.weight"

ERNIE_GRAM = Family(
    name="ernie-gram",
    sizes=_SIZES,
    severable=frozenset({RELATIVE_POSITIONS}),
    kin=("bert",),
    tensors=(
        *_EMBEDDINGS,
        *tensors(ENCODER, f"{RELATIVE_POSITIONS}: relative attention_heads ?"),
        *_EMBEDDING_NORM,
        *_LAYERS,
        *_POOLER,
        *_linear("sequence_classification", "labels"),
        *_linear("token_classification", "labels"),
        *_linear("span_qa", "2"),
    ),
)
"""What is published of it computes as a BERT: its n-grams are of its pretraining, and the relative positions that
some have are stored and not used (PaddleNLP ``transformers/ernie_gram/modeling.py``)."""

SEGMENT_TYPES = "embeddings.token_type_embeddings.weight"

_ROBERTA_TENSORS = (
    *tensors(
        ENCODER,
        f"""
        embeddings.word_embeddings.weight: vocab hidden
        embeddings.position_embeddings.weight: positions hidden
        {SEGMENT_TYPES}: types hidden ?
        """,
    ),
    *_EMBEDDING_NORM,
    *_LAYERS,
    *_POOLER,
    *_MASKED_LM,
    *_dense_linear("sequence_classification", "labels"),
    *_linear("token_classification", "labels"),
    *_linear("span_qa", "2"),
    *_linear("multiple_choice", "1"),
)

ROBERTA = Family(
    name="roberta",
    sizes=_SIZES,
    tensors=_ROBERTA_TENSORS,
    severable=frozenset({SEGMENT_TYPES}),
    neutral=frozenset({SEGMENT_TYPES}),
    kin=("xlm-roberta",),
)
"""Positions begin behind the padding row (``pad_token_id`` + 1), and the rows up to it are part of the table.

The original has no token types (fairseq); transformers' port has a table of one row, zeros as it was converted
(``models/roberta/convert_roberta_original_pytorch_checkpoint_to_pytorch.py``), which training there changes.
"""

XLM_ROBERTA = replace(ROBERTA, name="xlm-roberta", kin=("roberta",))

NEZHA = Family(
    name="nezha",
    sizes=_SIZES,
    values=("max_relative_position",),
    tensors=(
        *tensors(
            ENCODER,
            """
            embeddings.word_embeddings.weight: vocab hidden
            embeddings.position_embeddings.weight: positions hidden ?
            embeddings.token_type_embeddings.weight: types hidden
            """,
        ),
        *_EMBEDDING_NORM,
        *_LAYERS,
        *tensors(ENCODER, f"encoder.layer.{LAYER}.attention.self.relative_positions.weight: relative head_size ?"),
        *_POOLER,
        *_MASKED_LM,
        *_linear("next_sentence", "2"),
        *_LABELLED,
    ),
)
"""Relative positions are computed (sinusoids), and nothing is stored of them; MindSpore's are learned."""

ALBERT = Family(
    name="albert",
    sizes={**_SIZES, "embedding": "embedding_size"},
    counts="num_hidden_groups",
    values=("embedding_size", "num_hidden_groups"),
    tensors=(
        *_NARROW_EMBEDDINGS,
        *tensors(
            ENCODER,
            """
            encoder.embedding_hidden_mapping_in.weight: hidden embedding
            encoder.embedding_hidden_mapping_in.bias: hidden
            """,
        ),
        *tensors(ENCODER, _LAYER, f"encoder.group.{LAYER}."),
        *_POOLER,
        *_NARROW_MASKED_LM,
        *_linear("sentence_order", "2"),
        *_LABELLED,
    ),
)
"""All layers of a group share their weights; every released model has one group."""

ELECTRA = Family(
    name="electra",
    sizes={**_SIZES, "embedding": "embedding_size"},
    values=("embedding_size",),
    tensors=(
        *_NARROW_EMBEDDINGS,
        *tensors(ENCODER, "embeddings_project.weight: hidden embedding ?\nembeddings_project.bias: hidden ?"),
        *_LAYERS,
        *_NARROW_MASKED_LM,
        *_dense_linear("replaced_token_detection", "1"),
        *_dense_linear("sequence_classification", "labels"),
        *_linear("token_classification", "labels"),
        *_linear("span_qa", "2"),
        *_dense_linear("multiple_choice", "1"),
    ),
)

DISTILBERT = Family(
    name="distilbert",
    sizes={symbol: value for symbol, value in _SIZES.items() if symbol != "types"},
    tensors=(
        *tensors(
            ENCODER,
            """
            embeddings.word_embeddings.weight: vocab hidden
            embeddings.position_embeddings.weight: positions hidden
            """,
        ),
        *_EMBEDDING_NORM,
        *_LAYERS,
        *_MASKED_LM,
        *_dense_linear("sequence_classification", "labels"),
        *_linear("token_classification", "labels"),
        *_linear("span_qa", "2"),
        *_dense_linear("multiple_choice", "1"),
    ),
)

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (BERT, ERNIE, ERNIE_GRAM, ALBERT, ROBERTA, XLM_ROBERTA, NEZHA, ELECTRA, DISTILBERT)
}
"""Every family there is, by name."""

ZOO_PARTS = frozenset({ENCODER, "pooler"})
"""What model zoos count when they print a parameter count: the encoder and its pooler, no other head."""
