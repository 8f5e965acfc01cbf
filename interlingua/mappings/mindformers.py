"""MindFormers 1.x: BERT on its own transformer layers, as ``mindspore_model.ckpt`` and ``mindspore_model.yaml``.

Sources: MindSpore MindFormers 1.0.0 ``mindformers/models/bert/{bert,bert_config,convert_weight}.py``,
``mindformers/models/base_model.py``, ``mindformers/modules/{layers,transformer/transformer}.py``,
``configs/bert/run_bert_base_uncased.yaml``. Version 2 has no BERT any more.

Attention's output and the feed-forward layers are ``[in, out]``, all other weights ``[out, in]``. The
normalisation behind attention is ``layernorm2``, the one behind the feed-forward layer ``layernorm1``: they are
numbered as where they stand before a layer. The masked-LM decoder is the word embedding. The conversion script
writes that head as ``bert.mlmloss.*``, without a bias and with a decoder, which the model's class has no place for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from interlingua.mappings.config import Config, ConfigTable, Json
from interlingua.mappings.conventions import CANONICAL, Conventions
from interlingua.mappings.dialect import Dialect, FolderForm, Table
from interlingua.mappings.mindspore import SLOTS
from interlingua.mappings.rules import GAMMA_BETA, Rule, Shape, Transpose, pairs
from interlingua.mappings.schema import BERT

OURS = "encoder.layer.{layer}"
THEIRS = "bert.bert_encoder.encoder.blocks.{layer}"
TABLES = "bert.embedding_postprocessor"

CLASSES: tuple[tuple[str, frozenset[str]], ...] = (
    ("BertForPreTraining", frozenset({"pooler", "masked_lm", "next_sentence"})),
    ("BertForMultipleChoice", frozenset({"pooler", "sequence_classification"})),
    ("BertForTokenClassification", frozenset({"token_classification"})),
    ("BertForQuestionAnswering", frozenset({"span_qa"})),
    ("BertModel", frozenset()),
)
"""The classes; the one named for multiple choice has as many rows as there are labels, and classifies texts."""


def find_task(_names: Mapping[str, Shape], config: Mapping[str, Json]) -> tuple[str, str] | None:
    """Say which head ``classifier`` is: texts' or tokens', which the model's class tells."""
    stated = config.get(ARCHITECTURE)
    if stated == "BertForTokenClassification":
        return "token_classification", f"the configuration says {stated}"
    return "sequence_classification", "no configuration says BertForTokenClassification"


ARCHITECTURE = "arch"
"""Where the class's name stands among the flat values; the file has it beside them."""


def unwrap(native: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the model's values out of a YAML configuration."""
    model = native.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("model_config"), dict):
        return {}
    values, kind = model["model_config"], model.get("arch")
    return {**values, **({ARCHITECTURE: kind["type"]} if isinstance(kind, dict) and "type" in kind else {})}


def wrap(values: Mapping[str, Json], original: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return a YAML configuration with the model's values in it."""
    model: dict[str, Json] = dict(original.get("model", {}))
    model["model_config"] = {key: value for key, value in values.items() if key != ARCHITECTURE}
    if ARCHITECTURE in values:
        model["arch"] = {**model.get("arch", {}), "type": values[ARCHITECTURE]}
    return {**original, "model": model}


def config_extras(config: Config, heads: Collection[str]) -> dict[str, Json]:
    """Return the class, the number of labels, and the length of texts that the model is built for."""
    return {
        ARCHITECTURE: next(name for name, needed in CLASSES if needed <= set(heads)),
        "num_labels": len(config.labels) or 1,
        "seq_length": config.max_position_embeddings,
    }


CONFIG = ConfigTable(
    keys={
        "vocab_size": ("vocab_size",),
        "hidden_size": ("hidden_size",),
        "num_hidden_layers": ("num_hidden_layers",),
        "num_attention_heads": ("num_attention_heads",),
        "intermediate_size": ("intermediate_size",),
        "hidden_act": ("hidden_act",),
        "hidden_dropout_prob": ("hidden_dropout_prob",),
        "attention_probs_dropout_prob": ("attention_probs_dropout_prob",),
        "max_position_embeddings": ("max_position_embeddings",),
        "type_vocab_size": ("type_vocab_size",),
        "initializer_range": ("initializer_range",),
    },
    # The layers always have gelu, whatever the configuration says (bert.py passes no hidden_act on).
    activations={"gelu": "gelu_tanh"},
    defaults={
        "num_attention_heads": 12,
        "hidden_act": "gelu_tanh",
        "layer_norm_eps": 1e-5,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "pad_token_id": 0,
    },
    constants={"type": "BertConfig", "post_layernorm_residual": True, "use_relative_positions": False},
    marks=frozenset({"post_layernorm_residual", "num_attention_heads"}),
    only={
        "type": ("BertConfig",),
        "post_layernorm_residual": (True,),
        "use_relative_positions": (False,),
    },
    extras=config_extras,
    unwrap=unwrap,
    wrap=wrap,
)

BERT_TABLE = Table(
    family=BERT,
    config=CONFIG,
    conventions=Conventions(
        layer_norm=CANONICAL,
        layer_norm_eps=1e-5,
        source="MindFormers 1.0.0 mindformers/modules/layers.py (LayerNorm)",
        mask="-10000",
    ),
    bases=("bert.",),
    scopes=("word_embedding.", "embedding_postprocessor.", "bert_encoder."),
    slots=SLOTS,
    rules=(
        Rule("embeddings.word_embeddings.weight", "bert.word_embedding.embedding_table"),
        Rule("embeddings.position_embeddings.weight", f"{TABLES}.full_position_embedding.embedding_table"),
        Rule("embeddings.token_type_embeddings.weight", f"{TABLES}.token_type_embedding.embedding_table"),
        *pairs("embeddings.LayerNorm", f"{TABLES}.layernorm", GAMMA_BETA),
        *pairs(f"{OURS}.attention.self.query", f"{THEIRS}.attention.dense1"),
        *pairs(f"{OURS}.attention.self.key", f"{THEIRS}.attention.dense2"),
        *pairs(f"{OURS}.attention.self.value", f"{THEIRS}.attention.dense3"),
        *pairs(f"{OURS}.attention.output.dense", f"{THEIRS}.attention.projection", weight=Transpose()),
        *pairs(f"{OURS}.attention.output.LayerNorm", f"{THEIRS}.layernorm2", GAMMA_BETA),
        *pairs(f"{OURS}.intermediate.dense", f"{THEIRS}.output.mapping", weight=Transpose()),
        *pairs(f"{OURS}.output.dense", f"{THEIRS}.output.projection", weight=Transpose()),
        *pairs(f"{OURS}.output.LayerNorm", f"{THEIRS}.layernorm1", GAMMA_BETA),
        *pairs("pooler.dense", "bert.dense"),
        *pairs("masked_lm.transform.dense", "mlmloss.dense"),
        *pairs("masked_lm.transform.LayerNorm", "mlmloss.layernorm", GAMMA_BETA),
        Rule("masked_lm.decoder.bias", "mlmloss.output_bias"),
        *pairs("next_sentence", "nsploss.dense"),
        *pairs("sequence_classification", "classifier", head="sequence_classification"),
        *pairs("token_classification", "classifier", head="token_classification"),
        *pairs("span_qa", "qa_outputs"),
    ),
    architectures=CLASSES,
    find_task=find_task,
)

MINDFORMERS = Dialect(
    name="mindformers",
    title="MindFormers",
    containers=("mindspore-ckpt",),
    tables={"bert": BERT_TABLE},
    folder=FolderForm(
        weights={"mindspore-ckpt": "mindspore_model.ckpt"},
        config="mindspore_model.yaml",
        vocabulary="vocab.txt",
    ),
)
