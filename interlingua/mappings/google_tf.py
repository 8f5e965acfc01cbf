"""Google's own BERT and ALBERT: checkpoints of TensorFlow 1, named by the scopes of the graph that wrote them.

Sources: google-research/bert ``modeling.py`` (the encoder; BertConfig, get_activation, layer_norm),
``run_pretraining.py`` (get_masked_lm_output, get_next_sentence_output), ``run_classifier.py`` and ``run_squad.py``
(create_model), ``optimization.py`` (AdamWeightDecayOptimizer), ``README.md`` (the files of a release).
google-research/albert ``modeling.py`` (AlbertConfig, attention_ffn_block, transformer_model), ``run_pretraining.py``,
``classifier_utils.py``, ``race_utils.py``, ``squad_utils.py``, ``lamb_optimizer.py``, ``export_checkpoints.py``,
``README.md``. LayerNorm: tensorflow 1.15 ``contrib/layers/python/layers/layers.py`` (layer_norm).

ALBERT keeps the scope ``bert``. SQuAD 2.0 models of ALBERT (``start_logits``, ``end_logits``, ``answer_class``)
have heads of their own kind, which no other system knows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from interlingua.mappings.config import Config, ConfigTable, Json
from interlingua.mappings.conventions import CANONICAL, Conventions
from interlingua.mappings.dialect import Dialect, FolderForm, Table
from interlingua.mappings.rules import GAMMA_BETA, KERNEL_BIAS, Rule, Shape, Transpose, pairs
from interlingua.mappings.schema import ALBERT, BERT

OUTPUT = (("weight", "output_weights"), ("bias", "output_bias"))
"""A linear layer made with get_variable and used with ``transpose_b``: it is ``[out, in]``, as kernels are not."""


def dense(canonical: str, native: str) -> tuple[Rule, ...]:
    """Return the rules of a ``tf.layers.dense``."""
    return pairs(canonical, native, KERNEL_BIAS, weight=Transpose(), join="/")


def norm(canonical: str, native: str) -> tuple[Rule, ...]:
    """Return the rules of a ``contrib.layers.layer_norm``."""
    return pairs(canonical, native, GAMMA_BETA, join="/")


def output(canonical: str, native: str, head: str | None = None) -> tuple[Rule, ...]:
    """Return the rules of a head's last layer; ``native`` is its scope with the stroke, empty at the top."""
    return pairs(canonical, native, OUTPUT, head=head, join="")


EMBEDDINGS = (
    Rule("embeddings.word_embeddings.weight", "bert/embeddings/word_embeddings"),
    Rule("embeddings.position_embeddings.weight", "bert/embeddings/position_embeddings"),
    Rule("embeddings.token_type_embeddings.weight", "bert/embeddings/token_type_embeddings"),
    *norm("embeddings.LayerNorm", "bert/embeddings/LayerNorm"),
)

MASKED_LM = (
    *dense("masked_lm.transform.dense", "cls/predictions/transform/dense"),
    *norm("masked_lm.transform.LayerNorm", "cls/predictions/transform/LayerNorm"),
    # The decoder is the word embedding itself and has no variable.
    Rule("masked_lm.decoder.bias", "cls/predictions/output_bias"),
)

SLOTS = (
    "global_step",
    "beta1_power",
    "beta2_power",
    "*/adam_m",
    "*/adam_v",
    "*/lamb_m",
    "*/lamb_v",
    "*/Adam",
    "*/Adam_[0-9]",
    "*/AdamWeightDecayOptimizer*",
    "*/LAMBOptimizer*",
    "*/Momentum",
    "*/ExponentialMovingAverage",
    "*/loss_scale*",
)
"""What training adds: Google's optimizers (``adam_m``, ``adam_v``; exported LAMB ones ``lamb_m``, ``lamb_v``), those
of TensorFlow 1 that forks use, averages and counters."""

SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
KEYS = (*SIZES, "max_position_embeddings", "type_vocab_size", "hidden_act")
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")

ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu", "tanh": "tanh", "linear": "linear"}
"""``gelu`` is the approximation by tanh (modeling.py since 2019-02; the first months' code had the exact one)."""

ELSEWHERE = frozenset({"model_type", "architectures", "transformers_version", "emb_size"})
"""Keys that other systems' configurations have beside the same names, and Google's never."""

BERT_CONFIG = ConfigTable(
    keys={name: (name,) for name in (*KEYS, *DROPOUTS, "initializer_range")},
    activations=ACTIVATIONS,
    defaults={
        "num_attention_heads": 12,
        "hidden_act": "gelu_tanh",
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    },
    marks=frozenset({"num_hidden_layers", "num_attention_heads"}),
    unmarks=ELSEWHERE | {"embedding_size"},
)

CONVENTIONS = Conventions(
    layer_norm=CANONICAL,
    layer_norm_eps=1e-12,
    source="google-research/bert modeling.py (layer_norm, of tf.contrib.layers)",
    mask="-10000",
)

OURS = "encoder.layer.{layer}"
THEIRS = "bert/encoder/layer_{layer}"

BERT_TABLE = Table(
    family=BERT,
    config=BERT_CONFIG,
    conventions=CONVENTIONS,
    scopes=("bert/embeddings/", "bert/encoder/"),
    slots=SLOTS,
    rules=(
        *EMBEDDINGS,
        *dense(f"{OURS}.attention.self.query", f"{THEIRS}/attention/self/query"),
        *dense(f"{OURS}.attention.self.key", f"{THEIRS}/attention/self/key"),
        *dense(f"{OURS}.attention.self.value", f"{THEIRS}/attention/self/value"),
        *dense(f"{OURS}.attention.output.dense", f"{THEIRS}/attention/output/dense"),
        *norm(f"{OURS}.attention.output.LayerNorm", f"{THEIRS}/attention/output/LayerNorm"),
        *dense(f"{OURS}.intermediate.dense", f"{THEIRS}/intermediate/dense"),
        *dense(f"{OURS}.output.dense", f"{THEIRS}/output/dense"),
        *norm(f"{OURS}.output.LayerNorm", f"{THEIRS}/output/LayerNorm"),
        *dense("pooler.dense", "bert/pooler/dense"),
        *MASKED_LM,
        *output("next_sentence", "cls/seq_relationship/"),
        *output("sequence_classification", ""),
        *output("span_qa", "cls/squad/"),
    ),
    # The released models: tiny to medium have 64 wide heads as all others do (README.md, the 24 smaller models).
    head_counts={128: 2, 256: 4, 512: 8, 768: 12, 1024: 16},
)

TASK = "task_name"
"""The flag of run_race.py and run_classifier.py that tells apart what their variables do not."""

RACE = "race"


def find_task(_names: Mapping[str, Shape], config: Mapping[str, Json]) -> tuple[str, str] | None:
    """Say which head ``output_weights`` is: ALBERT's multiple choice (RACE) and its classifiers share the name."""
    if config.get(TASK) == RACE:
        return "multiple_choice", f"the configuration says {TASK} {RACE}"
    return "sequence_classification", f"no {TASK} {RACE} in the configuration makes it a multiple choice"


def albert_extras(_config: Config, heads: Collection[str]) -> dict[str, Json]:
    """Return the mark of a multiple choice; Google's code takes any further key."""
    return {TASK: RACE} if "multiple_choice" in heads else {}


ALBERT_CONFIG = ConfigTable(
    keys={name: (name,) for name in (*KEYS, *DROPOUTS, "initializer_range", "embedding_size", "num_hidden_groups")},
    activations=ACTIVATIONS,
    defaults={
        "num_attention_heads": 64,
        "hidden_act": "gelu_tanh",
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.02,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    },
    constants={"inner_group_num": 1, "down_scale_factor": 1},
    marks=frozenset({"embedding_size", "num_hidden_groups", "inner_group_num"}),
    unmarks=ELSEWHERE,
    only={"inner_group_num": (1,)},
    extras=albert_extras,
)

GROUP_OURS = "encoder.group.{layer}"
GROUP = "bert/encoder/transformer/group_{layer}/inner_group_0"

ALBERT_TABLE = Table(
    family=ALBERT,
    config=ALBERT_CONFIG,
    conventions=Conventions(
        layer_norm=CANONICAL,
        layer_norm_eps=1e-12,
        source="google-research/albert modeling.py (layer_norm, of tensorflow.contrib.layers)",
        mask="-10000",
    ),
    scopes=("bert/embeddings/", "bert/encoder/"),
    slots=SLOTS,
    rules=(
        *EMBEDDINGS,
        *dense("encoder.embedding_hidden_mapping_in", "bert/encoder/embedding_hidden_mapping_in"),
        *dense(f"{GROUP_OURS}.attention.self.query", f"{GROUP}/attention_1/self/query"),
        *dense(f"{GROUP_OURS}.attention.self.key", f"{GROUP}/attention_1/self/key"),
        *dense(f"{GROUP_OURS}.attention.self.value", f"{GROUP}/attention_1/self/value"),
        *dense(f"{GROUP_OURS}.attention.output.dense", f"{GROUP}/attention_1/output/dense"),
        *norm(f"{GROUP_OURS}.attention.output.LayerNorm", f"{GROUP}/LayerNorm"),
        *dense(f"{GROUP_OURS}.intermediate.dense", f"{GROUP}/ffn_1/intermediate/dense"),
        *dense(f"{GROUP_OURS}.output.dense", f"{GROUP}/ffn_1/intermediate/output/dense"),
        *norm(f"{GROUP_OURS}.output.LayerNorm", f"{GROUP}/LayerNorm_1"),
        *dense("pooler.dense", "bert/pooler/dense"),
        *MASKED_LM,
        *output("sentence_order", "cls/seq_relationship/"),
        *output("sequence_classification", "", head="sequence_classification"),
        *output("multiple_choice", "", head="multiple_choice"),
        *output("span_qa", "cls/squad/"),
    ),
    find_task=find_task,
    # The released base, large, xlarge and xxlarge models.
    head_counts={768: 12, 1024: 16, 2048: 16, 4096: 64},
)

TF1 = Dialect(
    name="tf1",
    title="google-research BERT and ALBERT",
    containers=("tensor-bundle",),
    tables={"bert": BERT_TABLE, "albert": ALBERT_TABLE},
    folder=FolderForm(
        weights={"tensor-bundle": "bert_model.ckpt"},
        config="bert_config.json",
        vocabulary="vocab.txt",
    ),
    family_folders={
        "albert": FolderForm(
            weights={"tensor-bundle": "model.ckpt-best"},
            config="albert_config.json",
            vocabulary="vocab.txt",
            vocabularies=("vocab_chinese.txt",),
            sentencepiece="30k-clean.model",
            # The pieces of the SentencePiece model, in its own tools' form.
            sidecars=("30k-clean.vocab",),
        )
    },
)
