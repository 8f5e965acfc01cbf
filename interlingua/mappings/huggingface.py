"""Hugging Face transformers: ``config.json`` beside ``model.safetensors`` or ``pytorch_model.bin``.

Sources: huggingface/transformers ``src/transformers/models/{bert,ernie,albert,roberta,xlm_roberta,electra,
distilbert}/{modeling,configuration}_*.py`` (4.57.1, 5.x) and ``models/deprecated/nezha/*.py`` (4.57.1);
safetensors' ``format`` key: ``src/transformers/modeling_utils.py``; sentence-transformers' folder:
UKPLab/sentence-transformers ``sentence_transformers/SentenceTransformer.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from interlingua.mappings.config import Config, ConfigTable, Json
from interlingua.mappings.conventions import BEHIND_PADDING, CANONICAL, Conventions
from interlingua.mappings.dialect import Dialect, Facts, FolderForm, Table, TaskFinder
from interlingua.mappings.rules import Rule, Shape, pairs
from interlingua.mappings.schema import (
    ALBERT,
    BERT,
    DISTILBERT,
    ELECTRA,
    ENCODER,
    ERNIE,
    NEZHA,
    ROBERTA,
    SEGMENT_TYPES,
    XLM_ROBERTA,
    Family,
)
from interlingua.mappings.tokenizer_settings import CONFIG as CONFIG_OF_TOKENIZER
from interlingua.mappings.tokenizer_settings import ROLES, of_transformers, to_transformers

TASKS = (
    ("TokenClassification", "token_classification"),
    ("MultipleChoice", "multiple_choice"),
    ("Sequence", "sequence_classification"),
)
"""Words in the names of transformers' classes, and the heads that they have."""


def task_finder(evidence: str, having: str, without: str = "token_classification") -> TaskFinder:
    """Return what says which head ``classifier`` is where no class is stated: a tensor tells, there or not.

    Args:
        evidence: ending of that tensor's name.
        having: the head in a model that has it.
        without: the head in one that lacks it.
    """

    def find_task(names: Mapping[str, Shape], config: Mapping[str, Json]) -> tuple[str, str] | None:
        """Say which head ``classifier`` is: several tasks share the name, and classes or other tensors tell."""
        stated = config.get("architectures")
        architectures = " ".join(map(str, stated if isinstance(stated, list) else [stated or ""]))
        for word, head in TASKS:
            if word in architectures:
                return head, f"the configuration's architectures say {architectures}"
        part = evidence.split(".")[0]
        if any(name.endswith(evidence) for name in names):
            return having, f"there is a {part}, which {without.replace('_', ' ')} does not have"
        return without, f"there is no {part}, which {having.replace('_', ' ')} needs"

    return find_task


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


def config_of(
    model_type: str,
    keys: Mapping[str, tuple[str, ...]] | None = None,
    defaults: Mapping[str, Json] | None = None,
    constants: Mapping[str, Json] | None = None,
) -> ConfigTable:
    """Return BERT's configuration as another model has it: with further keys, defaults and constants."""
    return replace(
        CONFIG,
        keys={**CONFIG.keys, **(keys or {})},
        defaults={**CONFIG.defaults, **(defaults or {})},
        constants={"model_type": model_type, "position_embedding_type": "absolute", **(constants or {})},
        only={
            **CONFIG.only,
            "model_type": (model_type,),
            **{key: (value,) for key, value in (constants or {}).items()},
        },
    )


def kept(family: Family) -> tuple[Rule, ...]:
    """Return the rules of encoder and pooler where the system has the canonical names behind its prefix."""
    return tuple(Rule(tensor.name, f"{{base}}{tensor.name}") for tensor in family.tensors if tensor.part in BODY)


BODY = (ENCODER, "pooler")
"""Parts of the base model, which the prefix stands before."""


def labelled(*heads: str, canonical: str = "", native: str = "classifier") -> tuple[Rule, ...]:
    """Return the rules of heads that share the native name of one linear layer."""
    return tuple(rule for head in heads for rule in pairs(f"{head}{canonical}", native, head=head))


LM_HEAD = (
    *pairs("masked_lm.transform.dense", "cls.predictions.transform.dense"),
    *pairs("masked_lm.transform.LayerNorm", "cls.predictions.transform.LayerNorm"),
    Rule("masked_lm.decoder.weight", "cls.predictions.decoder.weight"),
    Rule("masked_lm.decoder.bias", "cls.predictions.bias", copies=("cls.predictions.decoder.bias",)),
)
"""The masked-LM head of BERT, ERNIE and NEZHA."""

TASK_HEADS = (
    *pairs("next_sentence", "cls.seq_relationship"),
    *labelled("sequence_classification", "token_classification", "multiple_choice"),
    *pairs("span_qa", "qa_outputs"),
)
"""The other heads of BERT, ERNIE and NEZHA."""

GAMMA_BETA_NAMES = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
"""Names of 2018 and 2019, which the loader still renames."""

BUFFERS = frozenset({"embeddings.position_ids", "embeddings.token_type_ids"})


def classes(prefix: str, heads: Iterable[tuple[str, Collection[str]]]) -> tuple[tuple[str, frozenset[str]], ...]:
    """Return (class, heads) of a family's classes: those with heads, and the base model at the end."""
    return (*((f"{prefix}For{name}", frozenset(parts)) for name, parts in heads), (f"{prefix}Model", frozenset()))


CLASSES = (
    ("PreTraining", ("pooler", "masked_lm", "next_sentence")),
    ("MaskedLM", ("masked_lm",)),
    ("NextSentencePrediction", ("pooler", "next_sentence")),
    ("SequenceClassification", ("pooler", "sequence_classification")),
    ("MultipleChoice", ("pooler", "multiple_choice")),
    ("TokenClassification", ("token_classification",)),
    ("QuestionAnswering", ("span_qa",)),
)

BERT_TABLE = Table(
    family=BERT,
    config=CONFIG,
    conventions=CONVENTIONS,
    base="bert.",
    bases=("bert.", "roberta."),
    scopes=("embeddings.", "encoder."),
    renames=GAMMA_BETA_NAMES,
    buffers=BUFFERS,
    rules=(*kept(BERT), *LM_HEAD, *TASK_HEADS),
    architectures=classes("Bert", CLASSES),
    find_task=task_finder("pooler.dense.weight", "sequence_classification"),
)


def ernie_extras(config: Config, heads: Collection[str]) -> dict[str, Json]:
    """Return what BERT's configuration has, and how many task types there are, where there are any."""
    tasks = {} if config.task_type_vocab_size is None else {"task_type_vocab_size": config.task_type_vocab_size}
    return {**config_extras(config, heads), "use_task_id": bool(config.use_task_id), **tasks}


ERNIE_TABLE = replace(
    BERT_TABLE,
    family=ERNIE,
    config=replace(
        config_of(
            "ernie",
            {"task_type_vocab_size": ("task_type_vocab_size",), "use_task_id": ("use_task_id",)},
            {"task_type_vocab_size": 3, "use_task_id": False},
        ),
        extras=ernie_extras,
    ),
    base="ernie.",
    bases=("ernie.", "bert."),
    rules=(*kept(ERNIE), *LM_HEAD, *TASK_HEADS),
    architectures=classes("Ernie", CLASSES),
)

NEZHA_TABLE = replace(
    BERT_TABLE,
    family=NEZHA,
    config=replace(
        config_of("nezha", {"max_relative_position": ("max_relative_position",)}, {"max_relative_position": 64}),
        constants={"model_type": "nezha"},
    ),
    base="nezha.",
    bases=("nezha.", "bert."),
    rules=(
        # Relative positions are sinusoids that the code computes; it has no rows for absolute ones.
        *(rule for rule in kept(NEZHA) if "position" not in rule.canonical),
        *LM_HEAD,
        *TASK_HEADS,
    ),
    buffers=BUFFERS,
    slots=("encoder.layer.*.attention.self.relative_positions_encoding.positions_encoding",),
    architectures=classes("Nezha", CLASSES),
)

ROBERTA_CLASSES = (
    ("MaskedLM", ("masked_lm",)),
    ("SequenceClassification", ("sequence_classification",)),
    ("MultipleChoice", ("pooler", "multiple_choice")),
    ("TokenClassification", ("token_classification",)),
    ("QuestionAnswering", ("span_qa",)),
)

ROBERTA_TABLE = replace(
    BERT_TABLE,
    family=ROBERTA,
    config=config_of("roberta", defaults={"pad_token_id": 1}),
    conventions=replace(
        CONVENTIONS, source="transformers models/roberta/modeling_roberta.py", positions=BEHIND_PADDING
    ),
    base="roberta.",
    bases=("roberta.",),
    rules=(
        *kept(ROBERTA),
        *pairs("masked_lm.transform.dense", "lm_head.dense"),
        *pairs("masked_lm.transform.LayerNorm", "lm_head.layer_norm"),
        Rule("masked_lm.decoder.weight", "lm_head.decoder.weight"),
        Rule("masked_lm.decoder.bias", "lm_head.bias", copies=("lm_head.decoder.bias",)),
        *pairs("sequence_classification.dense", "classifier.dense"),
        *pairs("sequence_classification.output", "classifier.out_proj"),
        *labelled("token_classification", "multiple_choice"),
        *pairs("span_qa", "qa_outputs"),
    ),
    architectures=classes("Roberta", ROBERTA_CLASSES),
    find_task=task_finder("pooler.dense.weight", "multiple_choice"),
    needs=frozenset({SEGMENT_TYPES}),
)

XLM_ROBERTA_TABLE = replace(
    ROBERTA_TABLE,
    family=XLM_ROBERTA,
    config=config_of("xlm-roberta", defaults={"pad_token_id": 1}),
    architectures=classes("XLMRoberta", ROBERTA_CLASSES),
)

OURS = "encoder.group.{layer}"
THEIRS = "{base}encoder.albert_layer_groups.{layer}.albert_layers.0"

ALBERT_TABLE = replace(
    BERT_TABLE,
    family=ALBERT,
    config=config_of(
        "albert",
        {"embedding_size": ("embedding_size",), "num_hidden_groups": ("num_hidden_groups",)},
        {
            "num_attention_heads": 64,
            "num_hidden_layers": 12,
            "hidden_act": "gelu_tanh",
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        {"inner_group_num": 1},
    ),
    conventions=replace(CONVENTIONS, source="transformers models/albert/modeling_albert.py"),
    base="albert.",
    bases=("albert.", "bert."),
    renames=(),
    rules=(
        *(rule for rule in kept(ALBERT) if rule.canonical.startswith(("embeddings.", "encoder.embedding"))),
        *pairs(f"{OURS}.attention.self.query", f"{THEIRS}.attention.query"),
        *pairs(f"{OURS}.attention.self.key", f"{THEIRS}.attention.key"),
        *pairs(f"{OURS}.attention.self.value", f"{THEIRS}.attention.value"),
        *pairs(f"{OURS}.attention.output.dense", f"{THEIRS}.attention.dense"),
        *pairs(f"{OURS}.attention.output.LayerNorm", f"{THEIRS}.attention.LayerNorm"),
        *pairs(f"{OURS}.intermediate.dense", f"{THEIRS}.ffn"),
        *pairs(f"{OURS}.output.dense", f"{THEIRS}.ffn_output"),
        *pairs(f"{OURS}.output.LayerNorm", f"{THEIRS}.full_layer_layer_norm"),
        *pairs("pooler.dense", "{base}pooler"),
        *pairs("masked_lm.transform.dense", "predictions.dense"),
        *pairs("masked_lm.transform.LayerNorm", "predictions.LayerNorm"),
        Rule("masked_lm.decoder.weight", "predictions.decoder.weight"),
        Rule("masked_lm.decoder.bias", "predictions.bias", copies=("predictions.decoder.bias",)),
        *pairs("sentence_order", "sop_classifier.classifier"),
        *labelled("sequence_classification", "token_classification", "multiple_choice"),
        *pairs("span_qa", "qa_outputs"),
    ),
    architectures=classes(
        "Albert",
        (
            ("PreTraining", ("pooler", "masked_lm", "sentence_order")),
            *(entry for entry in CLASSES if entry[0] not in ("PreTraining", "NextSentencePrediction")),
        ),
    ),
    find_task=task_finder("pooler.weight", "sequence_classification"),
)

ELECTRA_TABLE = replace(
    BERT_TABLE,
    family=ELECTRA,
    config=config_of(
        "electra",
        {"embedding_size": ("embedding_size",)},
        {"num_attention_heads": 4},
    ),
    conventions=replace(CONVENTIONS, source="transformers models/electra/modeling_electra.py"),
    base="electra.",
    bases=("electra.", "bert."),
    scopes=("embeddings", "encoder."),
    rules=(
        *kept(ELECTRA),
        *pairs("masked_lm.transform.dense", "generator_predictions.dense"),
        *pairs("masked_lm.transform.LayerNorm", "generator_predictions.LayerNorm"),
        *pairs("masked_lm.decoder", "generator_lm_head"),
        *pairs("replaced_token_detection.dense", "discriminator_predictions.dense"),
        *pairs("replaced_token_detection.output", "discriminator_predictions.dense_prediction"),
        *pairs("sequence_classification.dense", "classifier.dense"),
        *pairs("sequence_classification.output", "classifier.out_proj"),
        *pairs("multiple_choice.dense", "sequence_summary.summary"),
        *labelled("token_classification"),
        *labelled("multiple_choice", canonical=".output"),
        *pairs("span_qa", "qa_outputs"),
    ),
    architectures=classes(
        "Electra",
        (
            ("PreTraining", ("replaced_token_detection",)),
            ("MaskedLM", ("masked_lm",)),
            ("SequenceClassification", ("sequence_classification",)),
            ("MultipleChoice", ("multiple_choice",)),
            ("TokenClassification", ("token_classification",)),
            ("QuestionAnswering", ("span_qa",)),
        ),
    ),
    find_task=task_finder("sequence_summary.summary.weight", "multiple_choice"),
)

LAYER_OF_BERT, LAYER_OF_DISTILBERT = "encoder.layer.{layer}", "{base}transformer.layer.{layer}"

DISTILBERT_TABLE = replace(
    BERT_TABLE,
    family=DISTILBERT,
    config=replace(
        CONFIG,
        keys={
            "vocab_size": ("vocab_size",),
            "hidden_size": ("dim",),
            "num_hidden_layers": ("n_layers",),
            "num_attention_heads": ("n_heads",),
            "intermediate_size": ("hidden_dim",),
            "max_position_embeddings": ("max_position_embeddings",),
            "hidden_act": ("activation",),
            "hidden_dropout_prob": ("dropout",),
            "attention_probs_dropout_prob": ("attention_dropout",),
            "initializer_range": ("initializer_range",),
            "pad_token_id": ("pad_token_id",),
            "tie_word_embeddings": ("tie_word_embeddings",),
        },
        constants={"model_type": "distilbert"},
        marks=frozenset({"n_layers", "n_heads", "hidden_dim"}),
        only={"model_type": ("distilbert",)},
    ),
    conventions=replace(
        CONVENTIONS, source="transformers models/distilbert/modeling_distilbert.py", layer_norm_eps=1e-12
    ),
    base="distilbert.",
    bases=("distilbert.",),
    scopes=("embeddings.", "transformer."),
    rules=(
        *(rule for rule in kept(DISTILBERT) if rule.canonical.startswith("embeddings.")),
        *pairs(f"{LAYER_OF_BERT}.attention.self.query", f"{LAYER_OF_DISTILBERT}.attention.q_lin"),
        *pairs(f"{LAYER_OF_BERT}.attention.self.key", f"{LAYER_OF_DISTILBERT}.attention.k_lin"),
        *pairs(f"{LAYER_OF_BERT}.attention.self.value", f"{LAYER_OF_DISTILBERT}.attention.v_lin"),
        *pairs(f"{LAYER_OF_BERT}.attention.output.dense", f"{LAYER_OF_DISTILBERT}.attention.out_lin"),
        *pairs(f"{LAYER_OF_BERT}.attention.output.LayerNorm", f"{LAYER_OF_DISTILBERT}.sa_layer_norm"),
        *pairs(f"{LAYER_OF_BERT}.intermediate.dense", f"{LAYER_OF_DISTILBERT}.ffn.lin1"),
        *pairs(f"{LAYER_OF_BERT}.output.dense", f"{LAYER_OF_DISTILBERT}.ffn.lin2"),
        *pairs(f"{LAYER_OF_BERT}.output.LayerNorm", f"{LAYER_OF_DISTILBERT}.output_layer_norm"),
        *pairs("masked_lm.transform.dense", "vocab_transform"),
        *pairs("masked_lm.transform.LayerNorm", "vocab_layer_norm"),
        *pairs("masked_lm.decoder", "vocab_projector"),
        *labelled("sequence_classification", "multiple_choice", canonical=".dense", native="pre_classifier"),
        *labelled("sequence_classification", "multiple_choice", canonical=".output"),
        *labelled("token_classification"),
        *pairs("span_qa", "qa_outputs"),
    ),
    architectures=classes(
        "DistilBert",
        (
            ("MaskedLM", ("masked_lm",)),
            ("SequenceClassification", ("sequence_classification",)),
            ("MultipleChoice", ("multiple_choice",)),
            ("TokenClassification", ("token_classification",)),
            ("QuestionAnswering", ("span_qa",)),
        ),
    ),
    find_task=task_finder("pre_classifier.weight", "sequence_classification"),
)


TOKENIZERS = {"distilbert": "DistilBertTokenizer", "electra": "ElectraTokenizer"}
"""Classes that cut text as BERT's does; DistilBERT's gives no token types, which its model refuses."""


BYTE_LEVEL = "RobertaTokenizer"
SENTENCE_PIECES = {"albert": "AlbertTokenizer", "xlm-roberta": "XLMRobertaTokenizer"}
"""Classes of tokenizers for byte-level BPE, and by family for SentencePiece models."""


def tokenizer_files(facts: Facts) -> dict[str, Json]:
    """Return the tokenizer's configuration, without which transformers lower-cases whatever the vocabulary is."""
    if facts.tokens is not None:
        return tokenizer_config(facts, TOKENIZERS.get(facts.family, "BertTokenizer"))
    return stated_config(facts, BYTE_LEVEL if facts.byte_level else SENTENCE_PIECES.get(facts.family))


def tokenizer_config(facts: Facts, kind: str | None) -> dict[str, Json]:
    """Return a configuration for a tokenizer of that class and a vocabulary of BERT's kind; none without either."""
    if facts.tokens is None or kind is None:
        return {}
    special = {f"{role}_token": f"[{role.upper()}]" for role in ROLES}
    return {
        CONFIG_OF_TOKENIZER: {
            "do_lower_case": facts.lower_case,
            "model_max_length": facts.config.max_position_embeddings,
            "tokenizer_class": kind,
            **{key: token for key, token in special.items() if token in facts.tokens},
            **to_transformers(facts.tokenizer, facts.tokens),
        }
    }


def stated_config(facts: Facts, kind: str | None) -> dict[str, Json]:
    """Return a configuration for a tokenizer of that class and any other vocabulary, where anything is stated."""
    stated = to_transformers(facts.tokenizer, None)
    if not stated or kind is None or not (facts.byte_level or facts.pieces):
        return {}
    return {CONFIG_OF_TOKENIZER: {**stated, "tokenizer_class": kind}}


TRANSFORMERS_FOLDERS = ("hf", "sentence-transformers", "hf-tf", "mindnlp")
"""Dialects whose folders hold the same files of a tokenizer, and the same configuration."""


def kin_of(name: str) -> tuple[str, ...]:
    """Return the other dialects whose folders hold the same."""
    return tuple(other for other in TRANSFORMERS_FOLDERS if other != name)


XLM_PIECES = "sentencepiece.bpe.model"
"""What XLM-RoBERTa's tokenizer calls its SentencePiece model (``models/xlm_roberta/tokenization_xlm_roberta.py``)."""


def by_family(form: FolderForm) -> dict[str, FolderForm]:
    """Return the forms of the families whose folders are not as others': XLM-RoBERTa's vocabulary has its own name."""
    return {"xlm-roberta": replace(form, sentencepiece=XLM_PIECES, vocabularies=(form.sentencepiece,))}


FOLDER = FolderForm(
    weights={"safetensors": "model.safetensors", "torch-zip": "pytorch_model.bin"},
    shards={
        "safetensors": ("model-{shard}.safetensors", "model.safetensors.index.json"),
        "torch-zip": ("pytorch_model-{shard}.bin", "pytorch_model.bin.index.json"),
    },
    config="config.json",
    vocabulary="vocab.txt",
    vocabularies=(XLM_PIECES,),
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
    settings=of_transformers,
    kin=kin_of("hf"),
)

HF = Dialect(
    name="hf",
    title="Hugging Face transformers",
    containers=("safetensors", "torch-zip"),
    tables={
        "bert": BERT_TABLE,
        "ernie": ERNIE_TABLE,
        "albert": ALBERT_TABLE,
        "roberta": ROBERTA_TABLE,
        "xlm-roberta": XLM_ROBERTA_TABLE,
        "nezha": NEZHA_TABLE,
        "electra": ELECTRA_TABLE,
        "distilbert": DISTILBERT_TABLE,
    },
    folder=FOLDER,
    family_folders=by_family(FOLDER),
)
