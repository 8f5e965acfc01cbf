"""Hugging Face transformers: ``config.json`` beside ``model.safetensors`` or ``pytorch_model.bin``.

Sources: huggingface/transformers ``src/transformers/models/bert/modeling_bert.py`` and
``configuration_bert.py`` (4.57.1, 5.x); safetensors' ``format`` key: ``src/transformers/modeling_utils.py``;
sentence-transformers' folder: UKPLab/sentence-transformers ``sentence_transformers/SentenceTransformer.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from interlingua.mappings.config import Config, ConfigTable, Json
from interlingua.mappings.conventions import CANONICAL, Conventions
from interlingua.mappings.dialect import Dialect, Facts, FolderForm, Table
from interlingua.mappings.rules import Rule, Shape, pairs
from interlingua.mappings.schema import BERT

TASKS = (
    ("TokenClassification", "token_classification"),
    ("MultipleChoice", "multiple_choice"),
    ("Sequence", "sequence_classification"),
)
"""Words in the names of transformers' classes, and the heads that they have."""


def find_task(names: Mapping[str, Shape], config: Mapping[str, Json]) -> tuple[str, str] | None:
    """Say which head ``classifier`` is: sequence and token classification and multiple choice share the name."""
    stated = config.get("architectures")
    architectures = " ".join(map(str, stated if isinstance(stated, list) else [stated or ""]))
    for word, head in TASKS:
        if word in architectures:
            return head, f"the configuration's architectures say {architectures}"
    if any(name.endswith("pooler.dense.weight") for name in names):
        return "sequence_classification", "there is a pooler, which token classification does not have"
    return "token_classification", "there is no pooler, which sequence classification needs"


def _encoder_rules() -> tuple[Rule, ...]:
    """The encoder keeps the canonical names behind the model's prefix."""
    names = [tensor.name for tensor in BERT.tensors if tensor.part in ("encoder", "pooler")]
    return tuple(Rule(name, f"{{base}}{name}") for name in names)


def config_extras(config: Config, _heads: Collection[str]) -> dict[str, Json]:
    """Return the labels both ways, where there are any."""
    if not config.labels:
        return {}
    return {
        "id2label": {str(index): label for index, label in enumerate(config.labels)},
        "label2id": {label: index for index, label in enumerate(config.labels)},
    }


CONFIG = ConfigTable(
    keys={
        "vocab_size": ("vocab_size",),
        "hidden_size": ("hidden_size",),
        "num_hidden_layers": ("num_hidden_layers",),
        "num_attention_heads": ("num_attention_heads",),
        "intermediate_size": ("intermediate_size",),
        "max_position_embeddings": ("max_position_embeddings",),
        "type_vocab_size": ("type_vocab_size",),
        "hidden_act": ("hidden_act",),
        "layer_norm_eps": ("layer_norm_eps",),
        "hidden_dropout_prob": ("hidden_dropout_prob",),
        "attention_probs_dropout_prob": ("attention_probs_dropout_prob",),
        "initializer_range": ("initializer_range",),
        "pad_token_id": ("pad_token_id",),
        "tie_word_embeddings": ("tie_word_embeddings",),
    },
    activations={
        "gelu": "gelu",
        "gelu_python": "gelu",
        "gelu_new": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
        "gelu_fast": "gelu_tanh",
        "relu": "relu",
        "silu": "silu",
        "swish": "silu",
        "tanh": "tanh",
        "linear": "linear",
    },
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
    },
    constants={"model_type": "bert", "position_embedding_type": "absolute"},
    marks=frozenset({"num_hidden_layers", "num_attention_heads", "model_type", "architectures"}),
    only={
        "model_type": ("bert",),
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
    },
    labels="id2label",
    dtype_keys=("dtype", "torch_dtype"),
    architectures=True,
    extras=config_extras,
)

CONVENTIONS = Conventions(
    layer_norm=CANONICAL, layer_norm_eps=None, source="transformers models/bert/modeling_bert.py (nn.LayerNorm)"
)

BERT_TABLE = Table(
    family=BERT,
    config=CONFIG,
    conventions=CONVENTIONS,
    base="bert.",
    bases=("bert.", "roberta."),
    scopes=("embeddings.", "encoder."),
    renames=(("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")),
    buffers=frozenset({"embeddings.position_ids", "embeddings.token_type_ids"}),
    rules=(
        *_encoder_rules(),
        *pairs("masked_lm.transform.dense", "cls.predictions.transform.dense"),
        *pairs("masked_lm.transform.LayerNorm", "cls.predictions.transform.LayerNorm"),
        Rule("masked_lm.decoder.weight", "cls.predictions.decoder.weight"),
        Rule("masked_lm.decoder.bias", "cls.predictions.bias", copies=("cls.predictions.decoder.bias",)),
        *pairs("next_sentence", "cls.seq_relationship"),
        *pairs("sequence_classification", "classifier", head="sequence_classification"),
        *pairs("token_classification", "classifier", head="token_classification"),
        *pairs("multiple_choice", "classifier", head="multiple_choice"),
        *pairs("span_qa", "qa_outputs"),
    ),
    architectures=(
        ("BertForPreTraining", frozenset({"pooler", "masked_lm", "next_sentence"})),
        ("BertForMaskedLM", frozenset({"masked_lm"})),
        ("BertForNextSentencePrediction", frozenset({"pooler", "next_sentence"})),
        ("BertForSequenceClassification", frozenset({"pooler", "sequence_classification"})),
        ("BertForMultipleChoice", frozenset({"pooler", "multiple_choice"})),
        ("BertForTokenClassification", frozenset({"token_classification"})),
        ("BertForQuestionAnswering", frozenset({"span_qa"})),
        ("BertModel", frozenset()),
    ),
    find_task=find_task,
)


def tokenizer_files(facts: Facts) -> dict[str, Json]:
    """Return the tokenizer's configuration, without which transformers lower-cases whatever the vocabulary is."""
    if facts.tokens is None:
        return {}
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
    return {
        "tokenizer_config.json": {
            "do_lower_case": facts.lower_case,
            "model_max_length": facts.config.max_position_embeddings,
            "tokenizer_class": "BertTokenizer",
            **{name: token for name, token in special.items() if token in facts.tokens},
        }
    }


HF = Dialect(
    name="hf",
    title="Hugging Face transformers",
    containers=("safetensors", "torch-zip"),
    tables={"bert": BERT_TABLE},
    folder=FolderForm(
        weights={"safetensors": "model.safetensors", "torch-zip": "pytorch_model.bin"},
        shards={
            "safetensors": ("model-{shard}.safetensors", "model.safetensors.index.json"),
            "torch-zip": ("pytorch_model-{shard}.bin", "pytorch_model.bin.index.json"),
        },
        config="config.json",
        vocabulary="vocab.txt",
        sidecars=(
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "added_tokens.json",
            "generation_config.json",
            "modules.json",
            "sentence_bert_config.json",
            "config_sentence_transformers.json",
            "README.md",
            "LICENSE*",
            "[0-9]*_*/*.json",
            "[0-9]*_*/model.safetensors",
            "[0-9]*_*/pytorch_model.bin",
        ),
        metadata={"safetensors": {"format": "pt"}},
        files=tokenizer_files,
    ),
)
