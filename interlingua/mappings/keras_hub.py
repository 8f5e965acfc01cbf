"""KerasHub: preset folders of ``BertBackbone`` and its like, with ``model.weights.h5`` and a nested ``config.json``.

A weight is a numbered variable of a layer, and a layer's group in the file is its class with a counter: the first
``TransformerEncoder`` is ``transformer_encoder``, the second ``transformer_encoder_1``; its own name is an attribute.
Attention kernels keep heads apart: ``[in, heads, size]``, and ``[heads, size, out]`` of the output. Activation and
LayerNorm's epsilon stand in the code alone. A task's head is in a second file (``task.weights.h5``), which travels
along.

``RobertaBackbone`` and ``XLMRobertaBackbone`` have no rows for the padding token's position and the one before it, so
that the first token takes row 0 and padding is counted like any token: texts that are padded in front are computed
otherwise. They have no token types either. Their names are those of ``DistilBertBackbone``: only the configuration
tells them apart. ``ElectraBackbone`` has a pooler that no ELECTRA has and none of its hidden states goes through; zeros
are written where nothing is known of it.

Sources: keras-team/keras-hub 0.32 ``keras_hub/src/models/{bert,albert,distil_bert,roberta,xlm_roberta,electra}/
*_backbone.py`` and ``*_tokenizer.py``, ``keras_hub/src/tokenizers/{word_piece,byte_pair}_tokenizer.py``,
``keras_hub/src/utils/transformers/convert_{roberta,xlm_roberta}.py`` (``_POSITION_OFFSET``),
``keras_hub/src/layers/modeling/transformer_encoder.py``, ``keras_hub/src/utils/preset_utils.py``;
keras-team/keras 3.15 ``keras/src/saving/saving_lib.py``, ``keras/src/layers/attention/multi_head_attention.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from interlingua.mappings.config import ConfigTable, Json
from interlingua.mappings.conventions import BEHIND_PADDING, CANONICAL, FROM_ZERO, Conventions
from interlingua.mappings.dialect import KERAS, Dialect, Facts, FolderForm, Table
from interlingua.mappings.rules import PadRows, Rule, Shape, SplitHeads, Transpose, pairs
from interlingua.mappings.schema import ALBERT, BERT, DISTILBERT, ELECTRA, ROBERTA, XLM_ROBERTA
from interlingua.mappings.tokenizer_settings import SmallFiles, TokenizerSettings, of_flags, text

VARIABLES = (("weight", "0"), ("bias", "1"))
"""Variables of a layer in the order in which it makes them: kernel or gamma, then bias or beta."""

ENCODER = "layers/transformer_encoder{layer}"


def encoder(canonical: str) -> tuple[Rule, ...]:
    """Return the rules of one layer: a ``TransformerEncoder`` that normalises after each half."""
    attention = f"{ENCODER}/_self_attention_layer"
    split, join, turned = Transpose(heads=1), Transpose(heads=0), Transpose()
    layers = (
        ("attention.self.query", f"{attention}/query_dense", split, SplitHeads()),
        ("attention.self.key", f"{attention}/key_dense", split, SplitHeads()),
        ("attention.self.value", f"{attention}/value_dense", split, SplitHeads()),
        ("attention.output.dense", f"{attention}/output_dense", join, None),
        ("attention.output.LayerNorm", f"{ENCODER}/_self_attention_layer_norm", None, None),
        ("intermediate.dense", f"{ENCODER}/_feedforward_intermediate_dense", turned, None),
        ("output.dense", f"{ENCODER}/_feedforward_output_dense", turned, None),
        ("output.LayerNorm", f"{ENCODER}/_feedforward_layer_norm", None, None),
    )
    return tuple(
        rule
        for ours, theirs, weight, bias in layers
        for rule in pairs(f"{canonical}.{ours}", f"{theirs}/vars", VARIABLES, weight=weight, bias=bias, join="/")
    )


def dense(canonical: str, native: str) -> tuple[Rule, ...]:
    """Return the rules of a dense layer."""
    return pairs(canonical, f"layers/{native}/vars", VARIABLES, weight=Transpose(), join="/")


THREE_EMBEDDINGS = (
    Rule("embeddings.word_embeddings.weight", "layers/reversible_embedding/vars/0"),
    Rule("embeddings.position_embeddings.weight", "layers/position_embedding/vars/0"),
    Rule("embeddings.token_type_embeddings.weight", "layers/embedding/vars/0"),
)
EMBEDDING_NORM = pairs("embeddings.LayerNorm", "layers/layer_normalization/vars", VARIABLES, join="/")

LAYER_NAMES = {
    "reversible_embedding": "token_embedding",
    "position_embedding": "position_embedding",
    "embedding": "segment_embedding",
    "token_embedding": "token_embedding",
    "layer_normalization": "embeddings_layer_norm",
    "query_dense": "query",
    "key_dense": "key",
    "value_dense": "value",
    "output_dense": "attention_output",
    "_self_attention_layer_norm": "self_attention_layer_norm",
    "_feedforward_intermediate_dense": "feedforward_intermediate_dense",
    "_feedforward_output_dense": "feedforward_output_dense",
    "_feedforward_layer_norm": "feedforward_layer_norm",
}
"""A layer's group -> its name; those of dense layers and encoders depend on the model and the number."""


def layer_names(names: Sequence[str], projection: str = "embedding_projection") -> Mapping[str, str]:
    """Return the attribute that names the layer of each group of variables.

    Of two dense layers the first is the projection of ALBERT's or ELECTRA's embeddings, and the last is the pooler.
    """
    groups = dict.fromkeys(name.rpartition("/")[0] for name in names)
    found = {group: LAYER_NAMES[layer] for group in groups if (layer := group.split("/")[-2]) in LAYER_NAMES}
    poolers = [group for group in groups if re.fullmatch(r"layers/dense(_\d+)?/vars", group)]
    spelled = (projection, "pooled_dense") if len(poolers) > 1 else ("pooled_dense",)
    return {"names": json.dumps({**found, **dict(zip(poolers, spelled, strict=False))})}


def electra_names(names: Sequence[str]) -> Mapping[str, str]:
    """Return the names of ELECTRA's layers, which calls its projection otherwise than ALBERT."""
    return layer_names(names, "embeddings_projection")


BESIDE = ("module", "class_name", "registered_name")
"""What stands beside the nested values."""


def unwrap(native: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the nested values, and what stands beside them."""
    inner = native.get("config")
    beside = {key: native[key] for key in BESIDE if key in native}
    return {**inner, **beside} if isinstance(inner, dict) else native


def wrap(values: Mapping[str, Json], original: Mapping[str, Json]) -> Mapping[str, Json]:
    """Nest the values as Keras serialises an object."""
    inner = {key: value for key, value in values.items() if key not in BESIDE}
    made = {
        "module": values.get("module"),
        "class_name": values.get("class_name"),
        "config": inner,
        "registered_name": values.get("registered_name"),
    }
    return {**original, **made}


def serialised(folder: str, class_name: str, dtype: str, kind: str) -> dict[str, Json]:
    """Return what Keras says of an object of a model's folder in the package: class, name and element type."""
    return {
        "module": f"keras_hub.src.models.{folder}.{folder}_{kind}",
        "class_name": class_name,
        "registered_name": f"keras_hub>{class_name}",
        "name": f"{folder}_{kind}",
        "trainable": True,
        "dtype": {
            "module": "keras",
            "class_name": "DTypePolicy",
            "config": {"name": dtype},
            "registered_name": None,
        },
    }


KEYS = {
    "vocab_size": ("vocabulary_size",),
    "num_hidden_layers": ("num_layers",),
    "num_attention_heads": ("num_heads",),
    "hidden_size": ("hidden_dim",),
    "intermediate_size": ("intermediate_dim",),
    "hidden_dropout_prob": ("dropout",),
    "max_position_embeddings": ("max_sequence_length",),
}
SEGMENTS = {"type_vocab_size": ("num_segments",)}


def config_of(
    folder: str, class_name: str, keys: Mapping[str, tuple[str, ...]], activation: str, **more: Json
) -> ConfigTable:
    """Return the configuration of a backbone; ``more`` are keys with the one value that the tables hold under."""
    dropout = 0.0 if folder == "albert" else 0.1
    return ConfigTable(
        keys=keys,
        activations={},
        defaults={
            "hidden_act": activation,
            "layer_norm_eps": 1e-12,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
            "initializer_range": 0.02,
            "pad_token_id": 0,
            "tie_word_embeddings": True,
            "max_position_embeddings": 512,
            "type_vocab_size": 2,
        },
        constants={**serialised(folder, class_name, "float32", "backbone"), **more},
        marks=frozenset({"registered_name", "vocabulary_size"}),
        only={"class_name": (class_name,), **{key: (value,) for key, value in more.items()}},
        unwrap=unwrap,
        wrap=wrap,
    )


def conventions(folder: str, eps: float = 1e-12, positions: str = FROM_ZERO) -> Conventions:
    """Return how a backbone computes."""
    source = f"keras_hub/src/models/{folder}/{folder}_backbone.py"
    return Conventions(layer_norm=CANONICAL, layer_norm_eps=eps, source=source, mask="-1e9", positions=positions)


SCOPES = ("layers/transformer_encoder", "layers/reversible_embedding", "layers/token_and_position_embedding")
TRAINING = ("optimizer/*",)

BERT_TABLE = Table(
    family=BERT,
    config=config_of("bert", "BertBackbone", {**KEYS, **SEGMENTS}, "gelu_tanh"),
    conventions=conventions("bert"),
    scopes=SCOPES,
    numbering=KERAS,
    slots=TRAINING,
    rules=(
        *THREE_EMBEDDINGS,
        *EMBEDDING_NORM,
        *encoder("encoder.layer.{layer}"),
        *dense("pooler.dense", "dense"),
    ),
    architectures=(("BertBackbone", frozenset()),),
)

ALBERT_TABLE = Table(
    family=ALBERT,
    config=config_of(
        "albert",
        "AlbertBackbone",
        {**KEYS, **SEGMENTS, "embedding_size": ("embedding_dim",), "num_hidden_groups": ("num_groups",)},
        "gelu_tanh",
        num_inner_repetitions=1,
    ),
    conventions=conventions("albert"),
    scopes=SCOPES,
    numbering=KERAS,
    slots=TRAINING,
    rules=(
        *THREE_EMBEDDINGS,
        *EMBEDDING_NORM,
        *dense("encoder.embedding_hidden_mapping_in", "dense"),
        *encoder("encoder.group.{layer}"),
        *dense("pooler.dense", "dense_1"),
    ),
    architectures=(("AlbertBackbone", frozenset()),),
)

DISTILBERT_TABLE = Table(
    family=DISTILBERT,
    config=config_of("distil_bert", "DistilBertBackbone", KEYS, "gelu"),
    conventions=conventions("distil_bert"),
    scopes=SCOPES,
    numbering=KERAS,
    slots=TRAINING,
    rules=(
        Rule("embeddings.word_embeddings.weight", "layers/token_and_position_embedding/token_embedding/vars/0"),
        Rule("embeddings.position_embeddings.weight", "layers/token_and_position_embedding/position_embedding/vars/0"),
        *EMBEDDING_NORM,
        *encoder("encoder.layer.{layer}"),
    ),
    architectures=(("DistilBertBackbone", frozenset()),),
)

PADDING_TOKEN = 1
"""The padding token of every RoBERTa of the system: no configuration states it, and its tokenizers know no other."""

PADDING = PADDING_TOKEN + 1
"""Rows of RoBERTa's position embedding that are not here: up to that of the padding token."""

LONGEST = "max_sequence_length"
PAD = "pad_token_id"


def unwrap_behind_padding(native: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the nested values with the padding token, and the rows of the position embedding as others count them."""
    values = {**unwrap(native), PAD: PADDING_TOKEN}
    rows = values.get(LONGEST)
    return {**values, LONGEST: rows + PADDING} if type(rows) is int else values


def wrap_behind_padding(values: Mapping[str, Json], original: Mapping[str, Json]) -> Mapping[str, Json]:
    """Nest the values, with the rows of the position embedding as they are here, and without the padding token."""
    rows = values.get(LONGEST)
    here = {LONGEST: max(0, rows - PADDING)} if type(rows) is int else {}
    return wrap({**{key: value for key, value in values.items() if key != PAD}, **here}, original)


def roberta_config(folder: str, class_name: str) -> ConfigTable:
    """Return the configuration of a backbone without token types, whose positions begin behind the padding row."""
    form = config_of(folder, class_name, {**KEYS, PAD: (PAD,)}, "gelu")
    more = {"layer_norm_eps": 1e-5, PAD: PADDING_TOKEN, "max_position_embeddings": 514, "type_vocab_size": 1}
    return replace(form, defaults={**form.defaults, **more}, unwrap=unwrap_behind_padding, wrap=wrap_behind_padding)


TOKENS_AND_POSITIONS = "layers/token_and_position_embedding"

ROBERTA_TABLE = Table(
    family=ROBERTA,
    config=roberta_config("roberta", "RobertaBackbone"),
    conventions=conventions("roberta", 1e-5, BEHIND_PADDING),
    scopes=SCOPES,
    numbering=KERAS,
    slots=TRAINING,
    rules=(
        Rule("embeddings.word_embeddings.weight", f"{TOKENS_AND_POSITIONS}/token_embedding/vars/0"),
        Rule(
            "embeddings.position_embeddings.weight",
            f"{TOKENS_AND_POSITIONS}/position_embedding/vars/0",
            PadRows(before=-PADDING),
        ),
        *EMBEDDING_NORM,
        *encoder("encoder.layer.{layer}"),
    ),
    architectures=(("RobertaBackbone", frozenset()),),
)

XLM_ROBERTA_TABLE = replace(
    ROBERTA_TABLE,
    family=XLM_ROBERTA,
    config=roberta_config("xlm_roberta", "XLMRobertaBackbone"),
    architectures=(("XLMRobertaBackbone", frozenset()),),
)

POOLED = (("vars/0", ("hidden", "hidden")), ("vars/1", ("hidden",)))
"""Variables of ELECTRA's pooler and their shapes, as Keras has them."""

ONLY_DENSE, SECOND_DENSE = "layers/dense", "layers/dense_1"


def electra_poolers(names: Mapping[str, Shape]) -> frozenset[str]:
    """Return the variables of the only dense layer, which is the pooler; a projection stands before it."""
    second = any(name.startswith(f"{SECOND_DENSE}/") for name in names)
    return frozenset() if second else frozenset(f"{ONLY_DENSE}/{variable}" for variable, _ in POOLED)


def electra_fillings(canonical: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    """Return the pooler, which is the second dense layer where the embeddings are projected."""
    layer = SECOND_DENSE if "embeddings_project.weight" in canonical else ONLY_DENSE
    return {f"{layer}/{variable}": shape for variable, shape in POOLED}


ELECTRA_TABLE = Table(
    family=ELECTRA,
    config=config_of(
        "electra",
        "ElectraBackbone",
        {**KEYS, **SEGMENTS, "vocab_size": ("vocab_size",), "embedding_size": ("embedding_dim",)},
        "gelu_tanh",
    ),
    conventions=conventions("electra"),
    scopes=SCOPES,
    numbering=KERAS,
    slots=TRAINING,
    rules=(
        *THREE_EMBEDDINGS,
        *EMBEDDING_NORM,
        *dense("embeddings_project", "dense"),
        *encoder("encoder.layer.{layer}"),
    ),
    architectures=(("ElectraBackbone", frozenset()),),
    aside=frozenset(f"{layer}/{variable}" for layer in (ONLY_DENSE, SECOND_DENSE) for variable, _ in POOLED),
    strangers=electra_poolers,
    fillings=electra_fillings,
)

WORD_PIECES = {
    "bert": ("bert", "BertTokenizer"),
    "distilbert": ("distil_bert", "DistilBertTokenizer"),
    "electra": ("electra", "ElectraTokenizer"),
}
SENTENCE_PIECES = {"albert": ("albert", "AlbertTokenizer"), "xlm-roberta": ("xlm_roberta", "XLMRobertaTokenizer")}
BYTE_LEVEL = {"roberta": ("roberta", "RobertaTokenizer")}
"""Family -> folder and class of the tokenizer that its backbone goes with. ALBERT's takes no vocabulary of lines."""


TOKENIZER = "tokenizer.json"

OUT_OF_VOCABULARY = "[UNK]"
"""What the tokenizer's class calls the unknown token where nothing else is said."""


def tokenizer(facts: Facts) -> Mapping[str, Json] | None:
    """Return the tokenizer, whose vocabulary is among the assets; None where the system has none for it."""
    if facts.tokens is not None and facts.family in WORD_PIECES:
        folder, class_name = WORD_PIECES[facts.family]
        unknown = facts.tokenizer.special.get("unk", OUT_OF_VOCABULARY)
        own: dict[str, Json] = {
            "vocabulary": None,
            "lowercase": bool(facts.lower_case),
            "strip_accents": facts.tokenizer.strips_accents(facts.lower_case),
            "split": True,
            # What its class takes for granted, it does not write.
            **({"split_on_cjk": False} if facts.tokenizer.split_cjk is False else {}),
            "suffix_indicator": "##",
            "oov_token": unknown if unknown in facts.tokens else OUT_OF_VOCABULARY,
        }
    elif facts.pieces and facts.family in SENTENCE_PIECES:
        folder, class_name = SENTENCE_PIECES[facts.family]
        own = {"proto": None, "add_bos": False, "add_eos": False}
    elif facts.byte_level and facts.family in BYTE_LEVEL:
        folder, class_name = BYTE_LEVEL[facts.family]
        own = {"add_prefix_space": bool(facts.tokenizer.prefix_space)}
    else:
        return None
    return wrap({**serialised(folder, class_name, "int32", "tokenizer"), "sequence_length": None, **own}, {})


FLAGS = {
    "lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "split_cjk": "split_on_cjk",
    "prefix_space": "add_prefix_space",
}
"""Field of the settings -> key of the tokenizer."""


def tokenizer_settings(read: SmallFiles, _listed: bool) -> TokenizerSettings:
    """Return what a preset's tokenizer states; its other special tokens are fixed by its class."""
    stated = unwrap(read(TOKENIZER))
    unknown = text(stated.get("oov_token"))
    return replace(of_flags(stated, FLAGS), special={} if unknown is None else {"unk": unknown})


def preset_files(facts: Facts) -> dict[str, Json]:
    """Return what a preset says of itself, and its tokenizer."""
    metadata = {
        "keras_version": "3.15.1",
        "keras_hub_version": "0.32.0",
        "parameter_count": facts.parameters,
        "tasks": [],
    }
    cut = tokenizer(facts)
    return {"metadata.json": metadata} | ({} if cut is None else {TOKENIZER: cut})


FOLDER = FolderForm(
    weights={"keras-weights-hdf5": "model.weights.h5"},
    config="config.json",
    vocabulary="assets/tokenizer/vocabulary.txt",
    sentencepiece="assets/tokenizer/vocabulary.spm",
    sidecars=(
        "metadata.json",
        TOKENIZER,
        "preprocessor.json",
        "task.json",
        "task.weights.h5",
        "README.md",
        "LICENSE*",
    ),
    metadata={"keras-weights-hdf5": layer_names},
    files=preset_files,
    settings=tokenizer_settings,
    places={"vocab.json": "assets/tokenizer/vocabulary.json", "merges.txt": "assets/tokenizer/merges.txt"},
)

KERAS_HUB = Dialect(
    name="keras-hub",
    title="KerasHub",
    containers=("keras-weights-hdf5",),
    tables={
        "bert": BERT_TABLE,
        "albert": ALBERT_TABLE,
        "distilbert": DISTILBERT_TABLE,
        "roberta": ROBERTA_TABLE,
        "xlm-roberta": XLM_ROBERTA_TABLE,
        "electra": ELECTRA_TABLE,
    },
    folder=FOLDER,
    family_folders={"electra": replace(FOLDER, metadata={"keras-weights-hdf5": electra_names})},
)
