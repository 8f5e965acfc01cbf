"""PaddleNLP: ``config.json`` beside ``model_state.pdparams`` or ``model.safetensors``.

Linear weights are ``[in, out]``, embeddings and the decoders that share theirs ``[rows, size]``. A bare base model
has no prefix. A model with a head keeps its pooler, whether the head needs it or not (RoBERTa's does where it is
needed only; ELECTRA and DistilBERT have none).

Sources: PaddlePaddle/PaddleNLP 2.8.1 ``paddlenlp/transformers/{bert,ernie,albert,roberta,nezha,electra,
distilbert}/{modeling,configuration}.py``, ``transformers/{model_utils,configuration_utils,activations}.py``;
2.4.9 for the older names and ``model_config.json``. What the code does and the names do not tell:

* ``_init_weights`` sets the LayerNorm epsilon, also on loading: ERNIE, NEZHA and DistilBERT always 1e-12, the others
  what the configuration says. ALBERT's masked-LM head keeps Paddle's default 1e-5, ELECTRA's generator 1e-12.
* ``Embedding(padding_idx=...)`` gives zeros for the padding token, whatever is stored (ERNIE, ALBERT, RoBERTa).
* ``paddle.nn.TransformerEncoderLayer`` looks the activation up in ``paddle.nn.functional``, which has no function
  called after the approximation of gelu; NEZHA and ALBERT look it up in ``ACT2FN``, which does.
* ``NeZhaConfig`` has no default for ``use_relative_position``, and the model is not built without it; nor have most
  others for ``num_choices``, without which a multiple choice computes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from interlingua.mappings.config import Config, ConfigTable, Json
from interlingua.mappings.conventions import BEHIND_PADDING, CANONICAL, MODEL_ACT, ZERO, Conventions
from interlingua.mappings.dialect import Dialect, Facts, FolderForm, Table, TaskFinder
from interlingua.mappings.huggingface import stated_config, tokenizer_config
from interlingua.mappings.rules import Rule, Shape, Transpose, pairs
from interlingua.mappings.schema import (
    ALBERT,
    BERT,
    DISTILBERT,
    ELECTRA,
    ERNIE,
    ERNIE_GRAM,
    NEZHA,
    ROBERTA,
    SEGMENT_TYPES,
    Family,
)
from interlingua.mappings.tokenizer_settings import of_transformers

T = Transpose()

TASKS = (
    ("TokenClassification", "token_classification"),
    ("MultipleChoice", "multiple_choice"),
    ("QuestionAnswering", "span_qa"),
    ("SequenceClassification", "sequence_classification"),
)
"""Words in the names of PaddleNLP's classes, and the heads that all call their linear layer ``classifier``."""


def task_finder(without: str, evidence: str | None = None, having: str = "") -> TaskFinder:
    """Return what says which head ``classifier`` is.

    Args:
        without: the head where nothing tells.
        evidence: ending of the name of a tensor that tells; None: no tensor does.
        having: the head in a model that has that tensor.
    """

    def find_task(names: Mapping[str, Shape], config: Mapping[str, Json]) -> tuple[str, str] | None:
        """Say which head ``classifier`` is: up to four tasks share the name, and the class tells."""
        listed = config.get("architectures") or []
        stated = " ".join(map(str, listed if isinstance(listed, list) else [listed]))
        for word, head in TASKS:
            if word in stated:
                return head, f"the configuration's class is {stated}"
        if evidence and any(name.endswith(evidence) for name in names):
            return having, f"there is a {evidence}"
        return without, "no configuration names the class"

    return find_task


# -- the configuration


def unnest(native: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return ``model_config.json`` with the base model's arguments at its top, where the class with the head stands.

    As ``flatten_model_config`` and ``PretrainedConfig`` do it: what stands at the top goes before what stands in
    ``init_args``, ``init_class`` is the architecture, and so many classes are so many labels.
    """
    values = {key: value for key, value in native.items() if key != "init_args"}
    for argument in arguments_of(native):
        values = {**argument, **values}
    if "init_class" in values:
        values.setdefault("architectures", [values["init_class"]])
    count = values.get("num_classes", values.get("num_labels"))
    if type(count) is int and 0 < count <= MOST_LABELS:
        values.setdefault("id2label", {str(index): f"LABEL_{index}" for index in range(count)})
    return values


MOST_LABELS = 1 << 16
"""A configuration that counts more classes is not believed."""


def arguments_of(native: Mapping[str, Json]) -> list[dict[str, Json]]:
    """Return the arguments of the models in a nested configuration, that of the base model first."""
    listed = native.get("init_args")
    return [argument for argument in listed if isinstance(argument, dict)] if isinstance(listed, list) else []


def nest(values: Mapping[str, Json], original: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the values nested as the file that they came from had them; at the top where it had them there.

    What ``unnest`` made of other keys is left out again, unless it was changed.
    """
    made = unnest(original)
    said = {key for part in (original, *arguments_of(original)) for key in part}
    kept = {key: value for key, value in values.items() if key in said or key not in made or made[key] != value}
    if not arguments_of(original):
        return kept
    base = arguments_of(original)[0]
    inner = {**base, **{k: v for k, v in kept.items() if k not in original and k != "init_class"}}
    listed = [inner if argument is base else argument for argument in original["init_args"]]
    return {key: listed if key == "init_args" else kept[key] for key in original}


def config_extras(config: Config, heads: Collection[str]) -> dict[str, Json]:
    """Return the labels both ways, where there are any, and the number of choices, which has no default."""
    choices = {"num_choices": 2} if "multiple_choice" in heads else {}
    if not config.labels:
        return choices
    return {
        "id2label": {str(index): label for index, label in enumerate(config.labels)},
        "label2id": {label: index for index, label in enumerate(config.labels)},
        **choices,
    }


def ernie_extras(config: Config, heads: Collection[str]) -> dict[str, Json]:
    """Return what BERT's configuration has, and what is said of task types, whose default is to have none."""
    tasks = {} if config.task_type_vocab_size is None else {"task_type_vocab_size": config.task_type_vocab_size}
    return {**config_extras(config, heads), "use_task_id": bool(config.use_task_id), "task_id": 0, **tasks}


def albert_extras(config: Config, heads: Collection[str]) -> dict[str, Json]:
    """Return what BERT's configuration has, and whether there is a pooler: every class of ALBERT can do without."""
    return {**config_extras(config, heads), "add_pooling_layer": "pooler" in heads}


KEYS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "hidden_act",
    "layer_norm_eps",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
    "pad_token_id",
    "tie_word_embeddings",
)

FUNCTIONAL = {"gelu": "gelu", "relu": "relu", "silu": "silu", "swish": "silu", "tanh": "tanh"}
"""Activations of ``paddle.nn.functional``."""

ACT2FN = {
    **FUNCTIONAL,
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "linear": "linear",
}
"""Activations of ``paddlenlp.transformers.activations``."""


def config_of(
    model_type: str,
    classes: Collection[str],
    more: Collection[str] = (),
    defaults: Mapping[str, Json] | None = None,
    only: Mapping[str, tuple[Json, ...]] | None = None,
    less: Collection[str] = (),
) -> ConfigTable:
    """Return a family's configuration.

    Args:
        model_type: as the configuration calls the family.
        classes: the family's classes.
        more: values that it has besides the common ones.
        defaults: what its code takes where nothing is said, besides the common defaults.
        only: key -> the values that the tables hold for, the one that is written first.
        less: common values that it does not have.
    """
    return ConfigTable(
        keys={key: (key,) for key in (*KEYS, *more) if key not in less},
        activations=FUNCTIONAL,
        defaults={
            "num_attention_heads": 12,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "initializer_range": 0.02,
            "pad_token_id": 0,
            "tie_word_embeddings": True,
            "labels": ("LABEL_0", "LABEL_1"),
            **(defaults or {}),
        },
        constants={
            "model_type": model_type,
            "paddlenlp_version": None,
            **{key: values[0] for key, values in (only or {}).items()},
        },
        # transformers' configurations have most of the keys; these they do not.
        marks=frozenset({"paddlenlp_version", "init_args", "init_class"}),
        only={"model_type": (model_type,), "init_class": tuple(classes), **(only or {})},
        labels="id2label",
        dtype_keys=("dtype",),
        architectures=True,
        extras=config_extras,
        unwrap=unnest,
        wrap=nest,
    )


def _with_key(table: ConfigTable, value: str, key: str) -> ConfigTable:
    """Return the table with a further key for a value."""
    return replace(table, keys={**table.keys, value: (*table.keys[value], key)})


# -- names


def embeddings(family: Family) -> tuple[Rule, ...]:
    """Return the rules of a family's embeddings."""
    tables = [tensor.name for tensor in family.tensors if tensor.name.endswith("_embeddings.weight")]
    return (
        *(Rule(name, f"{{base}}{name}") for name in tables),
        *pairs("embeddings.LayerNorm", "{base}embeddings.layer_norm"),
    )


OURS, THEIRS = "encoder.layer.{layer}", "{base}encoder.layers.{layer}"

LAYERS = (
    *pairs(f"{OURS}.attention.self.query", f"{THEIRS}.self_attn.q_proj", weight=T),
    *pairs(f"{OURS}.attention.self.key", f"{THEIRS}.self_attn.k_proj", weight=T),
    *pairs(f"{OURS}.attention.self.value", f"{THEIRS}.self_attn.v_proj", weight=T),
    *pairs(f"{OURS}.attention.output.dense", f"{THEIRS}.self_attn.out_proj", weight=T),
    *pairs(f"{OURS}.attention.output.LayerNorm", f"{THEIRS}.norm1"),
    *pairs(f"{OURS}.intermediate.dense", f"{THEIRS}.linear1", weight=T),
    *pairs(f"{OURS}.output.dense", f"{THEIRS}.linear2", weight=T),
    *pairs(f"{OURS}.output.LayerNorm", f"{THEIRS}.norm2"),
)
"""``paddle.nn.TransformerEncoder``'s own names."""


def own_layers(ours: str, theirs: str, output_norm: str) -> tuple[Rule, ...]:
    """Return the rules of a layer that PaddleNLP wrote itself: NEZHA's and ALBERT's."""
    return (
        *pairs(f"{ours}.attention.self.query", f"{theirs}.attention.query", weight=T),
        *pairs(f"{ours}.attention.self.key", f"{theirs}.attention.key", weight=T),
        *pairs(f"{ours}.attention.self.value", f"{theirs}.attention.value", weight=T),
        *pairs(f"{ours}.attention.output.dense", f"{theirs}.attention.dense", weight=T),
        *pairs(f"{ours}.attention.output.LayerNorm", f"{theirs}.attention.layer_norm"),
        *pairs(f"{ours}.intermediate.dense", f"{theirs}.ffn", weight=T),
        *pairs(f"{ours}.output.dense", f"{theirs}.ffn_output", weight=T),
        *pairs(f"{ours}.output.LayerNorm", f"{theirs}.{output_norm}"),
    )


POOLER = pairs("pooler.dense", "{base}pooler.dense", weight=T)


def classifiers(*heads: str, canonical: str = "") -> tuple[Rule, ...]:
    """Return the rules of heads that share the name ``classifier``."""
    return tuple(rule for head in heads for rule in pairs(f"{head}{canonical}", "classifier", weight=T, head=head))


def decoder(weight: str, bias: str, *, older: str | None = None, copy: str | None = None) -> tuple[Rule, ...]:
    """Return the rules of a masked-LM decoder as tall as the vocabulary, which is in the file also where it is tied."""
    return (
        Rule("masked_lm.decoder.weight", weight, aliases=(older,) if older else (), always=True),
        Rule("masked_lm.decoder.bias", bias, copies=(copy,) if copy else (), always=True),
    )


# Before 2.6 there were decoder_weight and decoder_bias alone.
LM_HEAD = (
    *pairs("masked_lm.transform.dense", "cls.predictions.transform", weight=T),
    *pairs("masked_lm.transform.LayerNorm", "cls.predictions.layer_norm"),
    *decoder(
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder_bias",
        older="cls.predictions.decoder_weight",
        copy="cls.predictions.decoder.bias",
    ),
)
"""The masked-LM head of BERT and ERNIE."""

TASK_HEADS = (
    *pairs("next_sentence", "cls.seq_relationship", weight=T),
    *classifiers("sequence_classification", "token_classification", "multiple_choice", "span_qa"),
)
"""The other heads of BERT, ERNIE and NEZHA."""

SLOTS = ("*_moment1_0", "*_moment2_0", "*_beta1_pow_acc_0", "*_beta2_pow_acc_0", "LR_Scheduler*", "master_weights*")
"""Names of a ``.pdopt`` (python/paddle/optimizer/adam.py)."""


def classes_of(prefix: str, *heads: tuple[str, tuple[str, ...]]) -> tuple[tuple[str, frozenset[str]], ...]:
    """Return (class, heads) of a family's classes: those with heads, and the base model at the end."""
    return (*((f"{prefix}{name}", frozenset(parts)) for name, parts in heads), (f"{prefix}Model", frozenset()))


LABELLED = (
    ("ForSequenceClassification", ("sequence_classification",)),
    ("ForTokenClassification", ("token_classification",)),
    ("ForQuestionAnswering", ("span_qa",)),
    ("ForMultipleChoice", ("multiple_choice",)),
)
PRETRAINING = ("ForPretraining", ("masked_lm", "next_sentence"))
MASKED_LM = ("ForMaskedLM", ("masked_lm",))


def names_of(classes: tuple[tuple[str, frozenset[str]], ...], *more: str) -> tuple[str, ...]:
    """Return the names of classes, the base model's first, and those of classes that no head tells."""
    return (*(name for name, _ in reversed(classes)), *more)


BERT_CLASSES = classes_of("Bert", PRETRAINING, MASKED_LM, *LABELLED)

BERT_TABLE = Table(
    family=BERT,
    config=config_of("bert", names_of(BERT_CLASSES), only={"pool_act": ("tanh",), "fuse": (False,)}),
    conventions=Conventions(
        layer_norm=CANONICAL,
        layer_norm_eps=None,
        source="PaddleNLP transformers/bert/modeling.py (BertPretrainedModel._init_weights)",
        mask="-10000",
    ),
    base="bert.",
    bases=("bert.",),
    scopes=("embeddings.", "encoder."),
    slots=SLOTS,
    rules=(*embeddings(BERT), *LAYERS, *POOLER, *LM_HEAD, *TASK_HEADS),
    architectures=BERT_CLASSES,
    find_task=task_finder("sequence_classification"),
)

ERNIE_CLASSES = classes_of("Ernie", PRETRAINING, MASKED_LM, *LABELLED)

ERNIE_TABLE = replace(
    BERT_TABLE,
    family=ERNIE,
    config=replace(
        config_of(
            "ernie",
            names_of(ERNIE_CLASSES, "UIE", "UTC"),
            more=("task_type_vocab_size", "use_task_id"),
            defaults={"task_type_vocab_size": 3, "use_task_id": False},
            # Every token's task where no task ids are given; other systems take task 0.
            only={"task_id": (0,), "fuse": (False,)},
        ),
        extras=ernie_extras,
    ),
    conventions=replace(
        BERT_TABLE.conventions,
        layer_norm_eps=1e-12,
        source="PaddleNLP transformers/ernie/modeling.py (ErniePretrainedModel._init_weights, ErnieEmbeddings)",
        pad_row=ZERO,
    ),
    base="ernie.",
    bases=("ernie.",),
    rules=(*embeddings(ERNIE), *LAYERS, *POOLER, *LM_HEAD, *TASK_HEADS),
    architectures=ERNIE_CLASSES,
)

ROBERTA_CLASSES = classes_of("Roberta", MASKED_LM, *LABELLED)

ERNIE_GRAM_CLASSES = classes_of("ErnieGram", *LABELLED[:3])

ERNIE_GRAM_TABLE = replace(
    BERT_TABLE,
    family=ERNIE_GRAM,
    # The class adds the tables up before anything widens them: its embedding_size is the hidden size.
    config=_with_key(
        config_of(
            "ernie_gram", names_of(ERNIE_GRAM_CLASSES), defaults={"layer_norm_eps": 1e-5}, less=("layer_norm_eps",)
        ),
        "hidden_size",
        "embedding_size",
    ),
    conventions=replace(
        BERT_TABLE.conventions,
        layer_norm_eps=1e-5,
        source="PaddleNLP transformers/ernie_gram/modeling.py (ErnieGramPretrainedModel._init_weights)",
        pad_row=ZERO,
    ),
    base="ernie_gram.",
    bases=("ernie_gram.",),
    rules=(
        *embeddings(ERNIE_GRAM),
        *LAYERS,
        *POOLER,
        *classifiers("sequence_classification", "token_classification", "span_qa"),
    ),
    architectures=ERNIE_GRAM_CLASSES,
)

ROBERTA_TABLE = replace(
    BERT_TABLE,
    family=ROBERTA,
    config=config_of("roberta", names_of(ROBERTA_CLASSES, "RobertaForCausalLM")),
    conventions=replace(
        BERT_TABLE.conventions,
        source="PaddleNLP transformers/roberta/modeling.py (RobertaEmbeddings)",
        positions=BEHIND_PADDING,
        pad_row=ZERO,
    ),
    base="roberta.",
    bases=("roberta.",),
    rules=(
        *embeddings(ROBERTA),
        *LAYERS,
        *POOLER,
        *pairs("masked_lm.transform.dense", "lm_head.dense", weight=T),
        *pairs("masked_lm.transform.LayerNorm", "lm_head.layer_norm"),
        *decoder("lm_head.decoder.weight", "lm_head.bias", copy="lm_head.decoder.bias"),
        *pairs("sequence_classification.dense", "classifier.dense", weight=T),
        *pairs("sequence_classification.output", "classifier.out_proj", weight=T),
        *classifiers("token_classification", "multiple_choice", "span_qa"),
    ),
    architectures=ROBERTA_CLASSES,
    find_task=task_finder("token_classification", "pooler.dense.weight", "multiple_choice"),
    needs=frozenset({SEGMENT_TYPES}),
)

NEZHA_CLASSES = classes_of("NeZha", PRETRAINING, *LABELLED)

NEZHA_TABLE = replace(
    BERT_TABLE,
    family=NEZHA,
    config=replace(
        config_of(
            "nezha",
            names_of(NEZHA_CLASSES),
            more=("max_relative_position",),
            defaults={"max_relative_position": 64},
            only={"use_relative_position": (True,)},
        ),
        activations=ACT2FN,
    ),
    conventions=replace(
        BERT_TABLE.conventions,
        layer_norm_eps=1e-12,
        source="PaddleNLP transformers/nezha/modeling.py (NeZhaPretrainedModel._init_weights)",
    ),
    base="nezha.",
    bases=("nezha.",),
    rules=(
        # Relative positions are sinusoids that the code computes; there are no rows for absolute ones.
        *(rule for rule in embeddings(NEZHA) if "position" not in rule.canonical),
        *own_layers(OURS, "{base}encoder.layer.{layer}", "layer_norm"),
        *POOLER,
        *pairs("masked_lm.transform.dense", "cls.predictions.dense", weight=T),
        *pairs("masked_lm.transform.LayerNorm", "cls.predictions.layer_norm"),
        *decoder("cls.predictions.decoder_weight", "cls.predictions.decoder_bias"),
        *TASK_HEADS,
    ),
    architectures=NEZHA_CLASSES,
)

ALBERT_CLASSES = classes_of("Albert", ("ForPretraining", ("masked_lm", "sentence_order")), MASKED_LM, *LABELLED)

ALBERT_TABLE = replace(
    BERT_TABLE,
    family=ALBERT,
    config=replace(
        config_of(
            "albert",
            names_of(ALBERT_CLASSES),
            more=("embedding_size", "num_hidden_groups"),
            defaults={"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0},
            only={"inner_group_num": (1,)},
        ),
        activations=ACT2FN,
        extras=albert_extras,
    ),
    conventions=replace(
        BERT_TABLE.conventions,
        source="PaddleNLP transformers/albert/modeling.py (AlbertEmbeddings, AlbertLayer, AlbertMLMHead)",
        pad_row=ZERO,
        # nn.LayerNorm's default: _init_weights leaves ALBERT's epsilons alone.
        head_eps={"masked_lm": 1e-5},
    ),
    base="transformer.",
    bases=("transformer.",),
    buffers=frozenset({"embeddings.position_ids"}),
    rules=(
        *embeddings(ALBERT),
        *pairs("encoder.embedding_hidden_mapping_in", "{base}encoder.embedding_hidden_mapping_in", weight=T),
        *own_layers(
            "encoder.group.{layer}",
            "{base}encoder.albert_layer_groups.{layer}.albert_layers.0",
            "full_layer_layer_norm",
        ),
        *pairs("pooler.dense", "{base}pooler", weight=T),
        *pairs("masked_lm.transform.dense", "predictions.dense", weight=T),
        *pairs("masked_lm.transform.LayerNorm", "predictions.layer_norm"),
        *decoder("predictions.decoder.weight", "predictions.bias", copy="predictions.decoder.bias"),
        *pairs("sentence_order", "sop_classifier.classifier", weight=T),
        *classifiers("sequence_classification", "token_classification", "multiple_choice"),
        *pairs("span_qa", "qa_outputs", weight=T),
    ),
    architectures=ALBERT_CLASSES,
)

ELECTRA_CLASSES = classes_of(
    "Electra", ("Discriminator", ("replaced_token_detection",)), ("Generator", ("masked_lm",)), *LABELLED
)

ELECTRA_TABLE = replace(
    BERT_TABLE,
    family=ELECTRA,
    config=config_of(
        "electra",
        names_of(
            ELECTRA_CLASSES,
            "ElectraForTotalPretraining",
            "ErnieHealthDiscriminator",
            "ErnieHealthForTotalPretraining",
        ),
        more=("embedding_size",),
    ),
    conventions=replace(
        BERT_TABLE.conventions,
        source="PaddleNLP transformers/electra/modeling.py (ElectraPretrainedModel._init_weights, "
        "ElectraGeneratorPredictions, ElectraClassificationHead, ElectraPooler)",
        # The class with the head has no layer_norm_eps of its own, which _init_weights looks for.
        head_eps={"masked_lm": 1e-12},
        head_act=dict.fromkeys(("masked_lm", "sequence_classification", "multiple_choice"), MODEL_ACT),
    ),
    base="electra.",
    bases=("electra.",),
    scopes=("embeddings", "encoder."),
    rules=(
        *embeddings(ELECTRA),
        *pairs("embeddings_project", "{base}embeddings_project", weight=T),
        *LAYERS,
        *pairs("masked_lm.transform.dense", "generator_predictions.dense", weight=T),
        *pairs("masked_lm.transform.LayerNorm", "generator_predictions.layer_norm"),
        # The decoder is the word embedding unless the class says tie_word_embeddings = False, when it is a Linear.
        Rule("masked_lm.decoder.weight", "generator_lm_head.weight", T),
        Rule("masked_lm.decoder.bias", "generator_lm_head_bias", aliases=("generator_lm_head.bias",)),
        *pairs("replaced_token_detection.dense", "discriminator_predictions.dense", weight=T),
        *pairs("replaced_token_detection.output", "discriminator_predictions.dense_prediction", weight=T),
        *pairs("sequence_classification.dense", "classifier.dense", weight=T),
        *pairs("sequence_classification.output", "classifier.out_proj", weight=T),
        *pairs("multiple_choice.dense", "sequence_summary.dense", weight=T),
        *classifiers("multiple_choice", canonical=".output"),
        *classifiers("token_classification", "span_qa"),
    ),
    architectures=ELECTRA_CLASSES,
    find_task=task_finder("token_classification", "sequence_summary.dense.weight", "multiple_choice"),
)

DISTILBERT_CLASSES = classes_of("DistilBert", MASKED_LM, *LABELLED[:3])

DISTILBERT_TABLE = replace(
    BERT_TABLE,
    family=DISTILBERT,
    config=config_of("distilbert", names_of(DISTILBERT_CLASSES), less=("type_vocab_size", "tie_word_embeddings")),
    conventions=replace(
        BERT_TABLE.conventions,
        layer_norm_eps=1e-12,
        source="PaddleNLP transformers/distilbert/modeling.py (DistilBertPretrainedModel._init_weights, "
        "DistilBertForMaskedLM)",
        head_act={"masked_lm": "gelu"},
    ),
    base="distilbert.",
    bases=("distilbert.",),
    rules=(
        *embeddings(DISTILBERT),
        *LAYERS,
        *pairs("masked_lm.transform.dense", "vocab_transform", weight=T),
        *pairs("masked_lm.transform.LayerNorm", "vocab_layer_norm"),
        # A Linear of its own, [hidden, vocab], which the class never ties.
        Rule("masked_lm.decoder.weight", "vocab_projector.weight", T, always=True),
        Rule("masked_lm.decoder.bias", "vocab_projector.bias"),
        *pairs("sequence_classification.dense", "pre_classifier", weight=T),
        *classifiers("sequence_classification", canonical=".output"),
        *classifiers("token_classification", "span_qa"),
    ),
    architectures=DISTILBERT_CLASSES,
    find_task=task_finder("token_classification", "pre_classifier.weight", "sequence_classification"),
)

# -- the folder

TOKENIZERS = {
    "bert": "BertTokenizer",
    "ernie": "ErnieTokenizer",
    "albert": "AlbertTokenizer",
    "roberta": "RobertaChineseTokenizer",
    "nezha": "NeZhaTokenizer",
    "electra": "ElectraTokenizer",
    "distilbert": "DistilBertTokenizer",
}
"""Classes of tokenizers that read a ``vocab.txt``."""

BYTE_LEVEL = "RobertaBPETokenizer"
SENTENCE_PIECES = {"albert": "AlbertTokenizer"}
"""Classes of tokenizers for byte-level BPE, and by family for SentencePiece models."""

CASE_ALONE = ("ErnieTokenizer", "NeZhaTokenizer")
"""Those among them that know of no setting but ``do_lower_case``; ``BertTokenizer`` cuts alike, and knows them all."""


def tokenizer_files(facts: Facts) -> dict[str, Json]:
    """Return the tokenizer's configuration, without which it lower-cases whatever the vocabulary is."""
    if facts.tokens is None:
        return stated_config(facts, BYTE_LEVEL if facts.byte_level else SENTENCE_PIECES.get(facts.family))
    stated, kind = facts.tokenizer, TOKENIZERS.get(facts.family)
    usual = stated.strips_accents(facts.lower_case) == facts.lower_case and stated.split_cjk is not False
    return tokenizer_config(facts, kind if usual or kind not in CASE_ALONE else "BertTokenizer")


PADDLE = Dialect(
    name="paddle",
    title="PaddleNLP",
    containers=("paddle-pickle", "safetensors"),
    tables={
        "bert": BERT_TABLE,
        "ernie": ERNIE_TABLE,
        "ernie-gram": ERNIE_GRAM_TABLE,
        "albert": ALBERT_TABLE,
        "roberta": ROBERTA_TABLE,
        "nezha": NEZHA_TABLE,
        "electra": ELECTRA_TABLE,
        "distilbert": DISTILBERT_TABLE,
    },
    folder=FolderForm(
        weights={"paddle-pickle": "model_state.pdparams", "safetensors": "model.safetensors"},
        shards={
            "paddle-pickle": ("model_state-{shard}.pdparams", "model_state.pdparams.index.json"),
            "safetensors": ("model-{shard}.safetensors", "model.safetensors.index.json"),
        },
        config="config.json",
        configs=("model_config.json",),
        vocabulary="vocab.txt",
        sidecars=(
            "tokenizer_config.json",
            "special_tokens_map.json",
            "added_tokens.json",
            "generation_config.json",
            "README.md",
            "LICENSE*",
        ),
        metadata={"safetensors": {"format": "np"}},
        files=tokenizer_files,
        settings=of_transformers,
    ),
    bfloat16_as_uint16=True,
)
