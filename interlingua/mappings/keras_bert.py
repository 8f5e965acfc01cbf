"""keras-bert: models and weights that Keras saved as HDF5, beside the ``bert_config.json`` that they were built from.

Sources: CyberZHG/keras-bert ``keras_bert/bert.py`` (get_model) and ``keras_bert/loader.py`` (0.89.0), and the layers it
is made of: CyberZHG/keras-transformer ``keras_transformer/{transformer,gelu}.py`` (0.40.0), keras-multi-head
``multi_head_attention.py`` (0.29.0), keras-position-wise-feed-forward ``feed_forward.py`` (0.8.0),
keras-layer-normalization ``layer_normalization.py`` (0.16.0).

The position table has as many rows as the texts that the model was built for (``seq_len``).
"""

from __future__ import annotations

from interlingua.mappings.conventions import CANONICAL, Conventions
from interlingua.mappings.dialect import Dialect, FolderForm, Numbering, Table
from interlingua.mappings.google_tf import BERT_CONFIG
from interlingua.mappings.rules import GAMMA_BETA, KERNEL_BIAS, Rule, Transpose, pairs
from interlingua.mappings.schema import BERT


def tidy(name: str) -> str:
    """Return ``layer/part`` for a weight, whose name Keras repeats: ``layer/layer/layer_part:0``."""
    layer, _, rest = name.removesuffix(":0").partition("/")
    return f"{layer}/{rest.removeprefix(f'{layer}/').removeprefix(f'{layer}_')}"


def named(layer: str, part: str) -> str:
    """Return the name of a weight that its layer names after itself and the part."""
    return f"{layer}/{layer}/{layer}_{part}:0"


def linear(canonical: str, layer: str, number: str) -> tuple[Rule, ...]:
    """Return the rules of one of the linear layers inside a layer: ``W`` and ``b`` with what tells them apart."""
    return (
        Rule(f"{canonical}.weight", named(layer, f"W{number}"), Transpose()),
        Rule(f"{canonical}.bias", named(layer, f"b{number}")),
    )


def dense(canonical: str, layer: str) -> tuple[Rule, ...]:
    """Return the rules of a layer that is Keras' own Dense."""
    parts = [(ours, f"{theirs}:0") for ours, theirs in KERNEL_BIAS]
    return pairs(canonical, f"{layer}/{layer}", parts, weight=Transpose(), join="/")


def norm(canonical: str, layer: str) -> tuple[Rule, ...]:
    """Return the rules of a LayerNormalization."""
    return pairs(canonical, f"{layer}/{layer}", [(ours, f"{theirs}:0") for ours, theirs in GAMMA_BETA], join="/")


def embedding(canonical: str, layer: str) -> Rule:
    """Return the rule of an embedding layer's table."""
    return Rule(canonical, f"{layer}/{layer}/embeddings:0")


OURS = "encoder.layer.{layer}"
ATTENTION, FEED_FORWARD = "Encoder-{layer}-MultiHeadSelfAttention", "Encoder-{layer}-FeedForward"

BERT_TABLE = Table(
    family=BERT,
    config=BERT_CONFIG,
    conventions=Conventions(
        layer_norm=CANONICAL,
        # The square of Keras' own 1e-7.
        layer_norm_eps=1e-14,
        source="keras-layer-normalization layer_normalization.py; gelu: keras-transformer gelu.py (by tanh)",
        mask="-10000",
    ),
    numbering=Numbering(first=1),
    tidy=tidy,
    scopes=("Embedding-", "Encoder-"),
    slots=("optimizer_weights/*",),
    rules=(
        embedding("embeddings.word_embeddings.weight", "Embedding-Token"),
        embedding("embeddings.position_embeddings.weight", "Embedding-Position"),
        embedding("embeddings.token_type_embeddings.weight", "Embedding-Segment"),
        *norm("embeddings.LayerNorm", "Embedding-Norm"),
        *linear(f"{OURS}.attention.self.query", ATTENTION, "q"),
        *linear(f"{OURS}.attention.self.key", ATTENTION, "k"),
        *linear(f"{OURS}.attention.self.value", ATTENTION, "v"),
        *linear(f"{OURS}.attention.output.dense", ATTENTION, "o"),
        *norm(f"{OURS}.attention.output.LayerNorm", f"{ATTENTION}-Norm"),
        *linear(f"{OURS}.intermediate.dense", FEED_FORWARD, "1"),
        *linear(f"{OURS}.output.dense", FEED_FORWARD, "2"),
        *norm(f"{OURS}.output.LayerNorm", f"{FEED_FORWARD}-Norm"),
        *dense("pooler.dense", "NSP-Dense"),
        *dense("masked_lm.transform.dense", "MLM-Dense"),
        *norm("masked_lm.transform.LayerNorm", "MLM-Norm"),
        # The decoder is the word embedding itself; the layer that multiplies with it has a bias alone.
        Rule("masked_lm.decoder.bias", "MLM-Sim/MLM-Sim/bias:0"),
        *dense("next_sentence", "NSP"),
    ),
)

KERAS_BERT = Dialect(
    name="keras-bert",
    title="keras-bert",
    containers=("keras-hdf5",),
    tables={"bert": BERT_TABLE},
    folder=FolderForm(weights={"keras-hdf5": "bert_model.h5"}, config="bert_config.json", vocabulary="vocab.txt"),
)
