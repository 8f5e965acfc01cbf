"""TF Model Garden: checkpoints of TensorFlow 2 objects, named by the attributes that lead to each variable.

Sources: tf-models-official 2.20 ``official/nlp/modeling/networks/{bert_encoder,albert_encoder}.py``,
``models/{bert_pretrainer,bert_classifier,bert_token_classifier,bert_span_labeler}.py`` (``checkpoint_items``),
``layers/{transformer_encoder_block,masked_lm,cls_head}.py``, ``official/legacy/{bert,albert}/configs.py``,
``official/modeling/tf_utils.py`` (get_activation), ``tools/tf2_{bert,albert}_encoder_checkpoint_converter.py``; the
names are those that ``tf.train.Checkpoint`` gives these objects.

One model has several sets of names, all of which are read:

- ``BertEncoderV2`` as ``tf.train.Checkpoint(encoder=...)``, with what ``checkpoint_items`` and ``model=`` add for
  heads: these are written;
- the functional ``BertEncoder``, whose layers with weights are numbered: embeddings 0 to 2, LayerNorm 3, layers from
  4 on, the pooler last; ``AlbertEncoder`` has no other names (the projection is 4, the shared layer 5, the pooler 6);
- either of them inside of a classifier (``model/layer_with_weights-0``) or a pretrainer (``model/encoder_network``),
  where the word embedding may belong to the masked-LM head alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from interlingua.mappings.config import Json, no_extras
from interlingua.mappings.conventions import CANONICAL, Conventions
from interlingua.mappings.dialect import Dialect, FolderForm, Table, TaskFinder
from interlingua.mappings.google_tf import ALBERT_CONFIG, BERT_CONFIG
from interlingua.mappings.rules import GAMMA_BETA, KERNEL_BIAS, Operation, Rule, Shape, SplitHeads, Transpose, pairs
from interlingua.mappings.schema import ALBERT, BERT

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
"""What a key has behind the path of attributes."""

INSIDE = re.compile(
    r"(?:model/)?(?:encoder_network|encoder)/|model/(?:layer_with_weights-0/(?=_|layer_with_weights-))?"
)
"""What stands before an encoder's own names in the objects that the library makes; elsewhere it is any prefix."""

NUMBERED = re.compile(r"(^|/)layer_with_weights-([0-9]{1,4})/([^/]+)")
"""A layer of a functional model, and the first thing in it."""

EMBEDDINGS = ("_embedding_layer", "_position_embedding_layer", "_type_embedding_layer")
NORM, MASKED_LM, FIRST_LAYER = 3, 2, 4
"""Numbers of layers with weights: LayerNorm and the first layer of an encoder, the masked LM of a BertPretrainer."""


CLASSIFIER = "model/layer_with_weights-1"
"""The head of a BertClassifier, BertTokenClassifier or BertSpanLabeler, a functional model of an encoder and it."""

PAIR_POOLER = "next_sentence..pooler_dense"
"""The pooler that belongs to the head for pairs of sentences (the stop in the item's name is doubled in keys)."""


def tidy_key(name: str) -> str:
    """Return a key without its ending and its encoder's place."""
    name = name.removesuffix(VALUE).replace("classification_heads/0/dense/", f"{PAIR_POOLER}/")
    place = INSIDE.match(name)
    return name[place.end() :] if place else name


def tidy(name: str) -> str:
    """Return a key as BertEncoderV2 has it."""
    return NUMBERED.sub(_attribute, tidy_key(name))


def _attribute(found: re.Match[str]) -> str:
    """Return BertEncoderV2's attribute for a numbered layer of BertEncoder, or the layer as it is."""
    before, number, part = found[1], int(found[2]), found[3]
    if part == "embeddings" and number < len(EMBEDDINGS):
        return f"{before}{EMBEDDINGS[number]}/{part}"
    if part in ("gamma", "beta") and number == NORM:
        return f"{before}_embedding_norm_layer/{part}"
    if part.startswith("_") and number >= FIRST_LAYER:
        return f"{before}_transformer_layers/{number - FIRST_LAYER}/{part}"
    if part in ("kernel", "bias") and number >= FIRST_LAYER:
        # Embeddings narrower than the encoder come with a projection, which no BERT has.
        return f"{before}{'_pooler_layer' if number > FIRST_LAYER else '_embedding_projection'}/{part}"
    if part in ("dense", "layer_norm", "embedding_table", "output_bias.Sbias") and number == MASKED_LM:
        return f"{before}masked_lm/{part}"
    return found[0]


def keyed(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return the rules with whole keys for paths of attributes."""
    return tuple(
        replace(
            rule,
            native=rule.native + VALUE,
            aliases=tuple(name + VALUE for name in rule.aliases),
            copies=tuple(name + VALUE for name in rule.copies),
        )
        for rule in rules
    )


KERNEL = Transpose()


def dense(
    canonical: str,
    native: str,
    weight: Operation = KERNEL,
    bias: Operation | None = None,
    *,
    aliases: tuple[str, ...] = (),
    head: str | None = None,
) -> tuple[Rule, ...]:
    """Return the rules of a Keras ``Dense`` or ``EinsumDense``."""
    return pairs(canonical, native, KERNEL_BIAS, weight=weight, bias=bias, aliases=aliases, head=head, join="/")


def norm(canonical: str, native: str) -> tuple[Rule, ...]:
    """Return the rules of a Keras ``LayerNormalization``."""
    return pairs(canonical, native, GAMMA_BETA, join="/")


def layer(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Return the rules of a ``TransformerEncoderBlock``, whose attention keeps heads apart."""
    attention = f"{theirs}/_attention_layer"
    # Until 2020 the attention's output was a layer beside it.
    older = (f"{theirs}/_attention_output_dense",)
    return (
        *dense(f"{ours}.attention.self.query", f"{attention}/_query_dense", Transpose(heads=1), SplitHeads()),
        *dense(f"{ours}.attention.self.key", f"{attention}/_key_dense", Transpose(heads=1), SplitHeads()),
        *dense(f"{ours}.attention.self.value", f"{attention}/_value_dense", Transpose(heads=1), SplitHeads()),
        *dense(f"{ours}.attention.output.dense", f"{attention}/_output_dense", Transpose(heads=0), aliases=older),
        *norm(f"{ours}.attention.output.LayerNorm", f"{theirs}/_attention_layer_norm"),
        *dense(f"{ours}.intermediate.dense", f"{theirs}/_intermediate_dense"),
        *dense(f"{ours}.output.dense", f"{theirs}/_output_dense"),
        *norm(f"{ours}.output.LayerNorm", f"{theirs}/_output_layer_norm"),
    )


def poolers(native: str, pair: str) -> tuple[Rule, ...]:
    """Return the rules of the pooler; a head for pairs of sentences (``pair``) has, and computes with, its own."""
    own = dense("pooler.dense", native, aliases=(f"{CLASSIFIER}/dense",))
    second = [replace(rule, aliases=(), head=pair, always=True) for rule in own]
    pooler = ("kernel", "bias")
    return (*(replace(r, copies=(f"{PAIR_POOLER}/{part}",)) for r, part in zip(second, pooler, strict=True)), *own)


def heads(pair: str) -> tuple[Rule, ...]:
    """Return the rules of all heads but the pooler; ``pair`` is the one for pairs of sentences."""
    # The deprecated BertPretrainer has it where a BertSpanLabeler has the span's.
    second = f"{CLASSIFIER}/layer_with_weights-0"
    return (
        *dense("masked_lm.transform.dense", "masked_lm/dense"),
        *norm("masked_lm.transform.LayerNorm", "masked_lm/layer_norm"),
        # The decoder is the word embedding itself.
        Rule("masked_lm.decoder.bias", "masked_lm/output_bias.Sbias"),
        *dense(pair, "model/classification_heads/0/out_proj", aliases=(second,), head=pair),
        *dense("sequence_classification", f"{CLASSIFIER}/out_proj"),
        *dense("token_classification", CLASSIFIER),
        *dense("span_qa", second, head="span_qa"),
    )


def find_pair(pair: str) -> TaskFinder:
    """Return what decides between the head of a BertSpanLabeler and that of the deprecated BertPretrainer."""

    def find_task(names: Mapping[str, Shape], _config: Mapping[str, Json]) -> tuple[str, str]:
        if any("/embedding_table/" in name for name in names):
            return pair, "there is a masked LM beside it"
        return "span_qa", "there is no masked LM beside it"

    return find_task


SLOTS = (
    "*/.OPTIMIZER_SLOT/*",
    "optimizer/*",
    "save_counter",
    "global_step",
    "step",
)
"""What training adds: an optimizer's moments and rates, and counters."""

CONVENTIONS = Conventions(
    layer_norm=CANONICAL,
    layer_norm_eps=1e-12,
    source="tf-models-official official/nlp/modeling/networks/bert_encoder.py, layers/transformer_encoder_block.py",
    mask="-1e9",
)

# official/legacy/bert/configs.py has the keys of google-research's; Keras knows more activations.
ACTIVATIONS = {**BERT_CONFIG.activations, "swish": "silu"}
CONFIG = replace(BERT_CONFIG, activations=ACTIVATIONS)

BERT_TABLE = Table(
    family=BERT,
    config=CONFIG,
    conventions=CONVENTIONS,
    scopes=(*(f"{name}/" for name in EMBEDDINGS), "_embedding_norm_layer/", "_embedding_projection/", "_transformer_"),
    tidy=tidy,
    slots=SLOTS,
    rules=keyed(
        (
            Rule(
                "embeddings.word_embeddings.weight",
                "encoder/_embedding_layer/embeddings",
                aliases=("masked_lm/embedding_table",),
            ),
            Rule("embeddings.position_embeddings.weight", "encoder/_position_embedding_layer/embeddings"),
            Rule("embeddings.token_type_embeddings.weight", "encoder/_type_embedding_layer/embeddings"),
            *norm("embeddings.LayerNorm", "encoder/_embedding_norm_layer"),
            *layer("encoder.layer.{layer}", "encoder/_transformer_layers/{layer}"),
            *poolers("encoder/_pooler_layer", "next_sentence"),
            *heads("next_sentence"),
        )
    ),
    find_task=find_pair("next_sentence"),
)

ALBERT_TABLE = Table(
    family=ALBERT,
    config=replace(
        ALBERT_CONFIG,
        activations=ACTIVATIONS,
        only={**ALBERT_CONFIG.only, "num_hidden_groups": (1,)},
        extras=no_extras,
    ),
    conventions=replace(CONVENTIONS, source="tf-models-official official/nlp/modeling/networks/albert_encoder.py"),
    scopes=("layer_with_weights-",),
    tidy=tidy_key,
    slots=SLOTS,
    rules=keyed(
        (
            Rule(
                "embeddings.word_embeddings.weight",
                "encoder/layer_with_weights-0/embeddings",
                aliases=("masked_lm/embedding_table",),
            ),
            Rule("embeddings.position_embeddings.weight", "encoder/layer_with_weights-1/embeddings"),
            Rule("embeddings.token_type_embeddings.weight", "encoder/layer_with_weights-2/embeddings"),
            *norm("embeddings.LayerNorm", "encoder/layer_with_weights-3"),
            *dense("encoder.embedding_hidden_mapping_in", "encoder/layer_with_weights-4"),
            *layer("encoder.group.{layer}", "encoder/layer_with_weights-5"),
            *poolers("encoder/layer_with_weights-6", "sentence_order"),
            *heads("sentence_order"),
        )
    ),
    find_task=find_pair("sentence_order"),
)

TF2 = Dialect(
    name="tf2",
    title="TF Model Garden",
    containers=("tensor-bundle",),
    tables={"bert": BERT_TABLE, "albert": ALBERT_TABLE},
    folder=FolderForm(
        weights={"tensor-bundle": "bert_model.ckpt"},
        config="bert_config.json",
        vocabulary="vocab.txt",
    ),
    family_folders={
        "albert": FolderForm(
            weights={"tensor-bundle": "albert_model.ckpt"},
            config="albert_config.json",
            vocabulary="vocab.txt",
            sentencepiece="30k-clean.model",
        )
    },
)
