"""ERNIE of Paddle fluid 1.x: a ``params`` folder with a file for each variable, ``ernie_config.json``, ``vocab.txt``.

Linear weights are ``[in, out]``, embeddings ``[rows, size]``. Fluid's BERT (LARK) has the same names and no task
embedding; where nothing says which of the two it is, it is read as ERNIE.

Sources: PaddlePaddle/ERNIE, branch ``repro``: ``ernie/model/{ernie,ernie_v1,transformer_encoder}.py``,
``ernie/finetune/{classifier,sequence_label,mrc}.py``, ``ernie/utils/{init,fp16}.py``, ``config/ernie_config.json``,
``script/en_glue/*/ernie_config.json``; branch ``release/r2.0``: ``BERT/model/{bert,classifier}.py``,
``BERT/run_squad.py``; branch ``develop`` (dygraph, ``saved_weights.pdparams``): ``ernie/modeling_ernie.py``.
What the code does and the names do not tell:

* ``layer_norm`` is called without an epsilon, so that it is fluid's default, 1e-5.
* The attention mask is the product of the input mask with itself: tokens do not see padding, and padding, all of
  whose scores are lowered alike, sees everything. Compare what stands at tokens only.
* Fluid's code has the feed-forward layer four times as wide as the encoder, whatever a configuration says; the
  dygraph code reads ``intermediate_size``.
* ``ernie.py`` takes ``sent_type_vocab_size`` and else ``type_vocab_size``, ``ernie_v1.py`` and ``bert.py`` know the
  second one alone: both are written.
* ERNIE 1.0's vocabulary has 17964 lines, its embedding 18000 rows; the others are spare.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from interlingua.mappings.config import Config, ConfigTable, Json
from interlingua.mappings.conventions import CANONICAL, Conventions
from interlingua.mappings.dialect import NUMBERED, Dialect, FolderForm, Table
from interlingua.mappings.rules import Rule, Transpose, pairs
from interlingua.mappings.schema import BERT, ERNIE

OURS = "encoder.layer.{layer}"
THEIRS = "encoder_layer_{layer}"
DYGRAPH = "encoder_stack.block.{layer}"

FC = (("weight", "w_0"), ("bias", "b_0"))
"""A layer ``fc`` and its variables."""

OUT = (("weight", "w"), ("bias", "b"))
"""A fine-tuned head and its variables."""

SCALE_BIAS = (("weight", "layer_norm_scale"), ("bias", "layer_norm_bias"))
"""A layer norm and its variables."""


def fc(canonical: str, native: str, dygraph: str, *, further: tuple[str, ...] = ()) -> tuple[Rule, ...]:
    """Return the rules of a linear layer.

    Args:
        canonical: canonical name of the layer.
        native: what stands before ``.w_0`` in fluid.
        dygraph: what stands before ``.weight`` in the dygraph code.
        further: other names before ``.w_0``.
    """
    return tuple(
        Rule(
            f"{canonical}.{part}",
            f"{native}.{variable}",
            Transpose() if part == "weight" else None,
            aliases=(f"{dygraph}.{part}", *(f"{name}.{variable}" for name in further)),
        )
        for part, variable in FC
    )


def norm(canonical: str, native: str, dygraph: str) -> tuple[Rule, ...]:
    """Return the rules of a layer norm."""
    return tuple(
        Rule(f"{canonical}.{part}", f"{native}_{variable}", aliases=(f"{dygraph}.{part}",))
        for part, variable in SCALE_BIAS
    )


def embedding(name: str, native: str, dygraph: str) -> Rule:
    """Return the rule of an embedding."""
    return Rule(f"embeddings.{name}_embeddings.weight", native, aliases=(f"{dygraph}.weight",))


def fine_tuned(canonical: str, native: str, *, further: tuple[str, ...] = ()) -> tuple[Rule, ...]:
    """Return the rules of a fine-tuned head; ``further`` are other names before ``_w`` and ``_b``."""
    return pairs(canonical, native, OUT, weight=Transpose(), aliases=further, join="_", remembered=True)


RULES = (
    embedding("word", "word_embedding", "word_emb"),
    embedding("position", "pos_embedding", "pos_emb"),
    embedding("token_type", "sent_embedding", "sent_emb"),
    *norm("embeddings.LayerNorm", "pre_encoder", "ln"),
    *fc(f"{OURS}.attention.self.query", f"{THEIRS}_multi_head_att_query_fc", f"{DYGRAPH}.attn.q"),
    *fc(f"{OURS}.attention.self.key", f"{THEIRS}_multi_head_att_key_fc", f"{DYGRAPH}.attn.k"),
    *fc(f"{OURS}.attention.self.value", f"{THEIRS}_multi_head_att_value_fc", f"{DYGRAPH}.attn.v"),
    *fc(f"{OURS}.attention.output.dense", f"{THEIRS}_multi_head_att_output_fc", f"{DYGRAPH}.attn.o"),
    *norm(f"{OURS}.attention.output.LayerNorm", f"{THEIRS}_post_att", f"{DYGRAPH}.ln1"),
    *fc(f"{OURS}.intermediate.dense", f"{THEIRS}_ffn_fc_0", f"{DYGRAPH}.ffn.i"),
    *fc(f"{OURS}.output.dense", f"{THEIRS}_ffn_fc_1", f"{DYGRAPH}.ffn.o"),
    *norm(f"{OURS}.output.LayerNorm", f"{THEIRS}_post_ffn", f"{DYGRAPH}.ln2"),
    *fc("pooler.dense", "pooled_fc", "pooler"),
    *fc("masked_lm.transform.dense", "mask_lm_trans_fc", "mlm"),
    *norm("masked_lm.transform.LayerNorm", "mask_lm_trans", "mlm_ln"),
    # A variable of its own where the program was built with weight_sharing=False; else the word embedding.
    Rule("masked_lm.decoder.weight", "mask_lm_out_fc.w_0", Transpose()),
    Rule("masked_lm.decoder.bias", "mask_lm_out_fc.b_0", aliases=("mlm_bias",)),
    *fc("next_sentence", "next_sent_fc", "pooler_heads.0.nsp", further=("nsp_fc",)),
    *fine_tuned("token_classification", "cls_seq_label_out"),
)
"""What ERNIE and BERT have alike: fluid's names, and after them the dygraph code's."""

TASK = re.compile(r"^[^/.]*_(?=cls_out_[wb]$)")
"""The name of a task before its classifier: ``finetune/classifier.py`` puts it there, empty as it mostly is."""


def tidy(name: str) -> str:
    """Return a native name without the task of which it is the classifier."""
    return TASK.sub("", name)


SLOTS = (
    "*_moment1_0",
    "*_moment2_0",
    "*_beta1_pow_acc_0",
    "*_beta2_pow_acc_0",
    "learning_rate_*",
    "@LR_DECAY_COUNTER@",
    "num_good_steps*",
    "num_bad_steps*",
    "loss_scaling*",
    "*.master",
)
"""Adam's state, counters, the loss scaling of float16 training, and its float32 copies of the weights."""


def config_extras(config: Config, _heads: Collection[str]) -> dict[str, Json]:
    """Return the width of the feed-forward layer where it is not what fluid's code takes; the dygraph code reads it."""
    usual = config.intermediate_size == 4 * config.hidden_size
    return {} if usual else {"intermediate_size": config.intermediate_size}


ERNIE_CONFIG = ConfigTable(
    keys={
        **{
            key: (key,)
            for key in (
                "vocab_size",
                "hidden_size",
                "num_hidden_layers",
                "num_attention_heads",
                "max_position_embeddings",
                "hidden_act",
                "hidden_dropout_prob",
                "attention_probs_dropout_prob",
                "initializer_range",
                "task_type_vocab_size",
                "use_task_id",
            )
        },
        "type_vocab_size": ("sent_type_vocab_size", "type_vocab_size"),
    },
    # Names of operators: fluid.layers.fc(act=...). ERNIE 1.0 says relu, 2.0 gelu, and neither has a default.
    activations={"gelu": "gelu", "relu": "relu", "tanh": "tanh", "swish": "silu"},
    defaults={"layer_norm_eps": 1e-5, "pad_token_id": 0, "use_task_id": False},
    marks=frozenset({"num_hidden_layers", "num_attention_heads", "sent_type_vocab_size"}),
    unmarks=frozenset({"architectures", "transformers_version", "paddlenlp_version", "init_class"}),
    only={"model_type": ("ernie",)},
    extras=config_extras,
)

ERNIE_TABLE = Table(
    family=ERNIE,
    config=ERNIE_CONFIG,
    conventions=Conventions(
        layer_norm=CANONICAL,
        layer_norm_eps=1e-5,
        source="PaddlePaddle/ERNIE ernie/model/transformer_encoder.py (fluid.layers.layer_norm, its default)",
        mask="-10000, also everywhere in padding's own rows",
    ),
    scopes=("word_emb", "pos_emb", "sent_emb", "task_emb", "rel_pos", "pre_encoder", "encoder_", "ln."),
    tidy=tidy,
    slots=SLOTS,
    rules=(
        *RULES,
        embedding("task_type", "task_embedding", "task_emb"),
        *fine_tuned("sequence_classification", "_cls_out", further=("cls_out",)),
        *fine_tuned("span_qa", "cls_mrc_out", further=("cls_squad_out",)),
    ),
    # script/en_glue/ernie_{base,large}/ernie_config.json
    head_counts={768: 12, 1024: 16},
)

BERT_TABLE = replace(
    ERNIE_TABLE,
    family=BERT,
    config=replace(
        ERNIE_CONFIG,
        keys={
            **{key: names for key, names in ERNIE_CONFIG.keys.items() if "task" not in key},
            "type_vocab_size": ("type_vocab_size",),
        },
        # Nobody reads it but this package, which could not tell BERT from ERNIE otherwise.
        constants={"model_type": "bert"},
        only={"model_type": ("bert",)},
    ),
    rules=(
        *RULES,
        *fine_tuned("sequence_classification", "cls_out", further=("_cls_out",)),
        *fine_tuned("span_qa", "cls_squad_out", further=("cls_mrc_out",)),
    ),
)

ERNIE_FLUID = Dialect(
    name="ernie-fluid",
    title="ERNIE of Paddle fluid",
    containers=("lod-tensor", "paddle-pickle"),
    tables={"ernie": ERNIE_TABLE, "bert": BERT_TABLE},
    folder=FolderForm(
        weights={"lod-tensor": "params", "paddle-pickle": "params.pdparams"},
        config="ernie_config.json",
        configs=("bert_config.json",),
        vocabulary="vocab.txt",
        vocabulary_form=NUMBERED,
        sidecars=("README.md", "LICENSE*"),
    ),
)
