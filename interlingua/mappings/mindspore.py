"""MindSpore's model zoo: a ``.ckpt`` of BERT, NEZHA, ALBERT or ERNIE, and the YAML that its code reads.

Sources: mindspore-ai/models ``official/nlp/Bert/src/{bert_model,bert_for_pre_training,bert_for_finetune,
finetune_eval_model,CRF,adam}.py``, ``official/nlp/Bert/src/model_utils/config.py`` and
``official/nlp/Bert/*_config.yaml``; ``research/nlp/albert/src/{albert_model,albert_for_pre_training,
finetune_eval_model}.py`` and ``research/nlp/albert/convert_tf_ckpt/trans_dict.py``;
``research/nlp/ernie/src/{ernie_model,ernie_for_pretraining,finetune_eval_model,convert}.py``; MindSpore's own
``nn.LayerNorm``, ``nn.GELU`` and ``nn.optim`` (2.10).

Names have the fields of the classes around the model in front: ``bert.`` for the head's class, and one more for
what trains it (``BertCLS``, ``BertNetworkWithLoss``). With none to three of them a model is read; the two that
training writes are written, since the scripts load by these names. Dense weights are ``[out, in]``. The
masked-LM decoder is the word embedding, and never stored. NEZHA's code has a table of absolute positions and
leaves it unused. Asked for a one-hot product (``use_one_hot_embeddings``, which no script does), ALBERT's code
mixes 0.1 of the other token types into each; nothing in a file tells of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from interlingua.mappings.config import Config, ConfigTable, Json
from interlingua.mappings.conventions import CANONICAL, Conventions
from interlingua.mappings.dialect import MODEL, Dialect, FolderForm, Table
from interlingua.mappings.rules import GAMMA_BETA, Rule, Shape, pairs
from interlingua.mappings.schema import ALBERT, BERT, ERNIE, NEZHA

OURS = "encoder.layer.{layer}"


def embeddings(base: str) -> tuple[Rule, ...]:
    """Return the rules of the embeddings; ``base`` ends in the name of the model (``bert.bert.bert``).

    Until 2021 tables were parameters of the postprocessor itself, as ALBERT's still are.
    """
    tables = f"{base}_embedding_postprocessor"
    return (
        Rule("embeddings.word_embeddings.weight", f"{base}_embedding_lookup.embedding_table"),
        Rule(
            "embeddings.position_embeddings.weight",
            f"{tables}.full_position_embedding.embedding_table",
            aliases=(f"{tables}.full_position_embeddings",),
        ),
        Rule(
            "embeddings.token_type_embeddings.weight",
            f"{tables}.token_type_embedding.embedding_table",
            aliases=(f"{tables}.embedding_table",),
        ),
        *pairs("embeddings.LayerNorm", f"{tables}.layernorm", GAMMA_BETA),
    )


def layer(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Return the rules of a layer; ``ours`` and ``theirs`` are its names."""
    return (
        *pairs(f"{ours}.attention.self.query", f"{theirs}.attention.attention.query_layer"),
        *pairs(f"{ours}.attention.self.key", f"{theirs}.attention.attention.key_layer"),
        *pairs(f"{ours}.attention.self.value", f"{theirs}.attention.attention.value_layer"),
        *pairs(f"{ours}.attention.output.dense", f"{theirs}.attention.output.dense"),
        *pairs(f"{ours}.attention.output.LayerNorm", f"{theirs}.attention.output.layernorm", GAMMA_BETA),
        *pairs(f"{ours}.intermediate.dense", f"{theirs}.intermediate"),
        *pairs(f"{ours}.output.dense", f"{theirs}.output.dense"),
        *pairs(f"{ours}.output.LayerNorm", f"{theirs}.output.layernorm", GAMMA_BETA),
    )


def heads(outer: str, sentence: str) -> tuple[Rule, ...]:
    """Return the rules of the heads in the class whose name ends in ``outer``; ``sentence`` is what cls2 is."""
    return (
        *pairs("masked_lm.transform.dense", f"{outer}cls1.dense"),
        *pairs("masked_lm.transform.LayerNorm", f"{outer}cls1.layernorm", GAMMA_BETA),
        Rule("masked_lm.decoder.bias", f"{outer}cls1.output_bias"),
        *pairs(sentence, f"{outer}cls2.dense"),
        *pairs("sequence_classification", f"{outer}dense_1", head="sequence_classification"),
        *pairs("span_qa", f"{outer}dense1"),
    )


def tagger(outer: str) -> tuple[Rule, ...]:
    """Return the rules of named-entity recognition, which shares the classifier's name."""
    return pairs("token_classification", f"{outer}dense_1", head="token_classification")


TASKS = {"run_ner": "token_classification", "run_classifier": "sequence_classification"}
"""What a configuration calls its script under ``description`` -> the head that ``dense_1`` is there."""


def find_task(names: Mapping[str, Shape], config: Mapping[str, Json]) -> tuple[str, str] | None:
    """Say which head ``dense_1`` is: a classifier's, or a tagger's, which may stand behind an LSTM."""
    if any(".lstm." in f".{name}" for name in names):
        return "tagging behind an LSTM", "there is an LSTM before it, which no canonical head has"
    script = config.get("description")
    if script in TASKS:
        return TASKS[script], f"the configuration says {script}"
    if any(name.endswith("transitions") for name in names):
        return "token_classification", "there are transitions of a CRF"
    return "sequence_classification", "no configuration says run_ner, and there are no transitions of a CRF"


SLOTS = (
    "adam_[mv].*",
    "lamb_[mv].*",
    "moment[12].*",
    "vhat.*",
    "moments.*",
    "accum.*",
    "stat.*",
    "mean_*.*",
    "accu_*",
    "global_step",
    "learning_rate",
    "momentum",
    "beta[12]_power",
    "loss_scale",
    "scale_sense",
    "current_iterator_step",
    "last_overflow_iterator_step",
    "local_step",
    "epoch*",
    "step*",
    "total_num",
    "start_num",
    "end_num",
)
"""Optimizer moments (before the weight's name), counters and rates, and what BertSquad counts."""

OUTER = ("description", "num_class", "optimizer_cfg")
"""Keys that stand beside a model's own."""

SCRIPTS = {"token_classification": "run_ner", "span_qa": "run_squad"}
"""Head -> the script that is for it; ``run_classifier`` is for all others, and tunes a bare or pretrained model."""


def block_of(native: Mapping[str, Json], system: str) -> str | None:
    """Return the key under which a YAML configuration has the model's values, or None.

    Fine-tuning has one model (``bert_net_cfg``); pretraining has several, and names one (``bert_network: base``).
    """
    for name in (f"{system}_net_cfg", f"{native.get(f'{system}_network')}_net_cfg"):
        if isinstance(native.get(name), dict):
            return name
    return None


def unwrapping(system: str) -> Callable[[Mapping[str, Json]], Mapping[str, Json]]:
    """Return what takes the model's values out of a YAML configuration."""

    def unwrap(native: Mapping[str, Json]) -> Mapping[str, Json]:
        block = block_of(native, system)
        return {} if block is None else {**native[block], **{key: native[key] for key in OUTER if key in native}}

    return unwrap


def wrapping(system: str) -> Callable[[Mapping[str, Json], Mapping[str, Json]], Mapping[str, Json]]:
    """Return what puts the model's values back into one."""

    def wrap(values: Mapping[str, Json], original: Mapping[str, Json]) -> Mapping[str, Json]:
        block = block_of(original, system) or f"{system}_net_cfg"
        outer = {key: values[key] for key in OUTER if key in values}
        return {**original, **outer, block: {key: value for key, value in values.items() if key not in OUTER}}

    return wrap


def config_extras(config: Config, heads: Collection[str]) -> dict[str, Json]:
    """Return what the scripts read beside the model: which of them it is for, and what config.py looks into.

    A run's own settings (the optimizer's rates) are no part of a checkpoint.
    """
    script = next((script for head, script in SCRIPTS.items() if head in heads), "run_classifier")
    classes = {"num_class": len(config.labels)} if "sequence_classification" in heads else {}
    no_decay = {"decay_filter": ["layernorm", "bias"]}
    return {
        "description": script,
        **classes,
        "optimizer_cfg": {"AdamWeightDecay": no_decay, "Lamb": dict(no_decay)},
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
    # nn.Dense takes these words; its gelu is nn.GELU(), which approximates. fast_gelu is another function.
    activations={"gelu": "gelu_tanh", "relu": "relu", "tanh": "tanh", "silu": "silu"},
    defaults={
        "num_attention_heads": 12,
        "hidden_act": "gelu_tanh",
        # nn.LayerNorm's own, which the code never changes.
        "layer_norm_eps": 1e-7,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "pad_token_id": 0,
    },
    constants={"use_relative_positions": False, "dtype": "mstype.float32", "compute_type": "mstype.float32"},
    marks=frozenset({"seq_length", "use_relative_positions", "num_attention_heads"}),
    only={"use_relative_positions": (False,)},
    extras=config_extras,
    unwrap=unwrapping("bert"),
    wrap=wrapping("bert"),
)

CONVENTIONS = Conventions(
    layer_norm=CANONICAL,
    layer_norm_eps=1e-7,
    source="mindspore-ai/models official/nlp/Bert/src/bert_model.py; mindspore nn.LayerNorm",
    mask="-10000",
)

BERT_TABLE = Table(
    family=BERT,
    config=CONFIG,
    conventions=CONVENTIONS,
    bases=("bert.bert.bert.", "bert.bert.", "bert."),
    scopes=("bert_embedding_lookup.", "bert_embedding_postprocessor.", "bert_encoder."),
    slots=SLOTS,
    rules=(
        *embeddings("bert.bert.bert"),
        *layer(OURS, "bert.bert.bert_encoder.layers.{layer}"),
        *pairs("pooler.dense", "bert.bert.dense"),
        *heads("bert.", "next_sentence"),
        *tagger("bert."),
    ),
    architectures=(
        ("BertNetworkWithLoss", frozenset({"pooler", "masked_lm", "next_sentence"})),
        ("BertCLS", frozenset({"pooler", "sequence_classification"})),
        ("BertNER", frozenset({"token_classification"})),
        ("BertSquad", frozenset({"span_qa"})),
        ("BertModel", frozenset()),
    ),
    find_task=find_task,
)

RELATIVE = "attention.attention._generate_relative_positions_embeddings"

NEZHA_TABLE = replace(
    BERT_TABLE,
    family=NEZHA,
    config=replace(
        CONFIG,
        # bert_model.py: max_relative_position=16, which makes 33 rows.
        defaults={**CONFIG.defaults, "max_relative_position": 16},
        constants={**CONFIG.constants, "use_relative_positions": True},
        only={"use_relative_positions": (True,)},
    ),
    rules=(
        *BERT_TABLE.rules,
        Rule(
            f"{OURS}.attention.self.relative_positions.weight",
            f"bert.bert.bert_encoder.layers.{{layer}}.{RELATIVE}.embeddings_table",
            aliases=(f"bert.bert.bert_encoder.layers.{{layer}}.{RELATIVE}.embeddings_for_position",),
        ),
    ),
    needs=frozenset({f"{OURS}.attention.self.relative_positions.weight"}),
)

ALBERT_TABLE = Table(
    family=ALBERT,
    config=replace(
        CONFIG,
        keys={**CONFIG.keys, "embedding_size": ("embedding_size",), "num_hidden_groups": ("num_hidden_groups",)},
        constants={**CONFIG.constants, "inner_group_num": 1},
        only={**CONFIG.only, "inner_group_num": (1,)},
        unwrap=unwrapping("albert"),
        wrap=wrapping("albert"),
    ),
    conventions=replace(CONVENTIONS, source="mindspore-ai/models research/nlp/albert/src/albert_model.py"),
    bases=("albert.albert.albert.", "albert.albert.", "albert."),
    scopes=("albert_embedding_lookup.", "albert_embedding_postprocessor.", "albert_encoder."),
    slots=SLOTS,
    rules=(
        Rule("embeddings.word_embeddings.weight", "albert.albert.albert_embedding_lookup.embedding_table"),
        Rule(
            "embeddings.position_embeddings.weight",
            "albert.albert.albert_embedding_postprocessor.full_position_embeddings",
        ),
        Rule(
            "embeddings.token_type_embeddings.weight",
            "albert.albert.albert_embedding_postprocessor.embedding_table",
        ),
        *pairs("embeddings.LayerNorm", "albert.albert.albert_embedding_postprocessor.layernorm", GAMMA_BETA),
        *pairs(
            "encoder.embedding_hidden_mapping_in",
            "albert.albert.albert_encoder.embedding_hidden_mapping_in",
        ),
        *layer("encoder.group.{layer}", "albert.albert.albert_encoder.group.{layer}.inner_group.0"),
        *pairs("pooler.dense", "albert.albert.dense"),
        *heads("albert.", "sentence_order"),
    ),
    architectures=(
        ("AlbertNetworkWithLoss", frozenset({"pooler", "masked_lm", "sentence_order"})),
        ("AlbertCLS", frozenset({"pooler", "sequence_classification"})),
        ("AlbertSquad", frozenset({"span_qa"})),
        ("AlbertModel", frozenset()),
    ),
    find_task=find_task,
)


def without_model(name: str) -> str:
    """Return a name without the class's field in front, which is ``bert.`` in pretraining, else ``ernie.``."""
    return name.replace(MODEL, "")


ERNIE_TABLE = Table(
    family=ERNIE,
    config=replace(
        CONFIG,
        # ErnieConfig's own default is gelu; both of the zoo's configurations say relu, as ERNIE 1.0 was trained.
        defaults={**CONFIG.defaults, "use_task_id": False, "hidden_act": "relu"},
        unwrap=unwrapping("ernie"),
        wrap=wrapping("ernie"),
    ),
    conventions=replace(CONVENTIONS, source="mindspore-ai/models research/nlp/ernie/src/ernie_model.py"),
    bases=("ernie.ernie.ernie.", "bert.ernie.", "ernie.ernie.", "ernie.", "bert."),
    scopes=("ernie_embedding_lookup.", "ernie_embedding_postprocessor.", "ernie_encoder."),
    tidy=without_model,
    slots=SLOTS,
    rules=(
        *embeddings("{model}ernie.ernie"),
        *layer(OURS, "{model}ernie.ernie_encoder.layers.{layer}"),
        *pairs("pooler.dense", "{model}ernie.dense"),
        *heads("{model}", "next_sentence"),
        *tagger("{model}"),
    ),
    architectures=(
        ("ErnieNetworkWithLoss", frozenset({"masked_lm"})),
        ("ErnieNetworkWithLoss", frozenset({"next_sentence"})),
        ("ErnieCLS", frozenset({"pooler", "sequence_classification"})),
        ("ErnieNER", frozenset({"token_classification"})),
        ("ErnieMRC", frozenset({"span_qa"})),
        ("ErnieModel", frozenset()),
    ),
    models={
        "ErnieNetworkWithLoss": "bert.",
        "ErnieCLS": "ernie.",
        "ErnieNER": "ernie.",
        "ErnieMRC": "ernie.",
        "ErnieModel": "ernie.",
    },
    find_task=find_task,
)


def folder(system: str) -> FolderForm:
    """Return what a folder with that system's model holds; the zoo publishes checkpoints alone."""
    return FolderForm(
        weights={"mindspore-ckpt": f"{system}.ckpt", "safetensors": f"{system}.safetensors"},
        config=f"{system}_config.yaml",
        configs=(
            "task_classifier_config.yaml",
            "task_ner_config.yaml",
            "task_squad_config.yaml",
            "pretrain_config.yaml",
        ),
        vocabulary="vocab.txt",
        sentencepiece="30k-clean.model",
        metadata={"safetensors": {"format": "ms"}},
    )


MINDSPORE = Dialect(
    name="mindspore",
    title="MindSpore's model zoo",
    containers=("mindspore-ckpt", "safetensors"),
    tables={"bert": BERT_TABLE, "nezha": NEZHA_TABLE, "albert": ALBERT_TABLE, "ernie": ERNIE_TABLE},
    folder=folder("bert"),
    family_folders={"albert": folder("albert"), "ernie": folder("ernie")},
)
