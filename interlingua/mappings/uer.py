"""UER-py: a bare state dict in a ``.bin``, its JSON configuration and vocabulary beside it.

Sources: dbiir/UER-py ``uer/embeddings/*.py``, ``uer/encoders/transformer_encoder.py``,
``uer/layers/{transformer,multi_headed_attn,position_ffn,layer_norm}.py``, ``uer/targets/{mlm,sp,cls}_target.py``,
``finetune/run_{classifier,ner,cmrc,c3,regression}.py``, ``uer/opts.py``, ``uer/utils/act_fun.py``,
``models/{bert,albert}/*_config.json``. Older names and configurations: the git history of the same files, and of
``uer/targets/{bert,albert}_target.py``, ``uer/layers/embeddings.py``, ``models/{bert,albert}_base_config.json``;
by when they were written:

- 2019-04 to 2022-02: ``embedding.word_embedding``, ``target.mlm_linear_1``, ``target.layer_norm``, and
  ``target.nsp_linear_1`` in the target ``bert``, ``target.sop_linear_1`` in ``albert``, ``target.linear_1`` in ``cls``;
- to 2023-07: ``target.sp_linear_1`` for both, which became the target ``sp``;
- since: ``embedding.word.embedding``, ``target.mlm.linear_1``, ``target.sp.linear_1``, ``target.cls.linear_1``.

The encoder's names never changed. A configuration was sizes alone until 2021-08; then ``embedding`` is
``word_pos_seg`` and ``target`` one word; lists since 2022-02 and 2023-07.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import permutations

from interlingua.mappings.config import Config, ConfigTable, Json
from interlingua.mappings.conventions import UNBIASED, Conventions
from interlingua.mappings.dialect import Dialect, FolderForm, Table
from interlingua.mappings.rules import GAMMA_BETA, PadRows, Rule, Shape, pairs
from interlingua.mappings.schema import ALBERT, BERT, LAYER


def find_task(names: Mapping[str, Shape], config: Mapping[str, Json]) -> tuple[str, str] | None:
    """Say which head ``output_layer`` is: fine-tuned models of several tasks share the name."""
    if LABELS in config:
        return "token_classification", f"the configuration has {LABELS}, and a span has no labels"
    heads = [shape for name, shape in names.items() if name.endswith("output_layer.weight") and "target." not in name]
    rows = next((shape[0] for shape in heads if shape), 0)
    if rows == 2:
        return "span_qa", "output_layer has two rows: start and end"
    return "token_classification", f"output_layer has {rows} rows, and a span has two"


TARGETS = (("mlm", {"masked_lm"}), ("sp", {"pooler", "next_sentence", "sentence_order"}))
"""UER's training targets, and the heads of which any one makes it that target."""


LABELS = "labels_num"
"""The number of labels, as finetune/run_ner.py and run_classifier.py call it (they count it in their data)."""


def config_extras(config: Config, heads: Collection[str]) -> dict[str, Json]:
    """Return the training targets, without which UER builds no model, and the number of a classifier's labels."""
    labels = {LABELS: len(config.labels)} if {"sequence_classification", "token_classification"} & set(heads) else {}
    return {"target": [name for name, parts in TARGETS if parts & set(heads)] or ["mlm"], **labels}


CONFIG = ConfigTable(
    keys={
        "hidden_size": ("hidden_size", "emb_size"),
        "num_hidden_layers": ("layers_num",),
        "num_attention_heads": ("heads_num",),
        "intermediate_size": ("feedforward_size",),
        "max_position_embeddings": ("max_seq_length",),
        "hidden_act": ("hidden_act",),
        "hidden_dropout_prob": ("dropout",),
        "tie_word_embeddings": ("tie_weights",),
    },
    activations={"gelu": "gelu", "gelu_fast": "gelu_tanh", "relu": "relu", "silu": "silu", "linear": "linear"},
    defaults={
        "max_position_embeddings": 512,
        # UER's LayerNorm adds 1e-6 to the deviation; squared, that is what is added to a variance.
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "pad_token_id": 0,
    },
    constants={
        "data_processor": "bert",
        "embedding": ["word", "pos", "seg"],
        "encoder": "transformer",
        "mask": "fully_visible",
    },
    marks=frozenset({"emb_size", "layers_num", "heads_num", "feedforward_size"}),
    only={
        "encoder": ("transformer", "bert"),
        "embedding": (*map(list, permutations(("word", "pos", "seg"))), "word_pos_seg", "bert"),
        "mask": ("fully_visible",),
        "layernorm_positioning": ("post",),
        "layernorm": ("normal",),
        "feed_forward": ("dense",),
        "factorized_embedding_parameterization": (False,),
        "parameter_sharing": (False,),
        "relative_position_embedding": (False,),
        "remove_embedding_layernorm": (False,),
        "remove_transformer_bias": (False,),
        "remove_attention_scale": (False,),
        "has_residual_attention": (False,),
    },
    unstated=frozenset({"tie_word_embeddings"}),
    extras=config_extras,
)

ALBERT_CONFIG = replace(
    CONFIG,
    keys={**CONFIG.keys, "hidden_size": ("hidden_size",), "embedding_size": ("emb_size",)},
    defaults={**CONFIG.defaults, "num_hidden_groups": 1},
    constants={
        **CONFIG.constants,
        "data_processor": "albert",
        "factorized_embedding_parameterization": True,
        "parameter_sharing": True,
    },
    only={**CONFIG.only, "factorized_embedding_parameterization": (True,), "parameter_sharing": (True,)},
)

CONVENTIONS = Conventions(
    layer_norm=UNBIASED, layer_norm_eps=1e-6, source="dbiir/UER-py uer/layers/layer_norm.py", mask="-10000"
)


def embedding_rules() -> tuple[Rule, ...]:
    """Return the rules of the embeddings."""
    return (
        Rule(
            "embeddings.word_embeddings.weight",
            "embedding.word.embedding.weight",
            aliases=("embedding.word_embedding.weight",),
        ),
        Rule(
            "embeddings.position_embeddings.weight",
            "embedding.pos.embedding.weight",
            aliases=("embedding.position_embedding.weight",),
        ),
        # Segment 0 is padding; sentences A and B are 1 and 2 (uer/embeddings/seg_embedding.py).
        Rule(
            "embeddings.token_type_embeddings.weight",
            "embedding.seg.embedding.weight",
            PadRows(before=1),
            aliases=("embedding.segment_embedding.weight",),
        ),
        *pairs("embeddings.LayerNorm", "embedding.layer_norm", GAMMA_BETA),
    )


def layer_rules(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Return the rules of a layer, whose canonical and native names begin so."""
    return (
        *pairs(f"{ours}.attention.self.query", f"{theirs}.self_attn.linear_layers.0"),
        *pairs(f"{ours}.attention.self.key", f"{theirs}.self_attn.linear_layers.1"),
        *pairs(f"{ours}.attention.self.value", f"{theirs}.self_attn.linear_layers.2"),
        *pairs(f"{ours}.attention.output.dense", f"{theirs}.self_attn.final_linear"),
        *pairs(f"{ours}.attention.output.LayerNorm", f"{theirs}.layer_norm_1", GAMMA_BETA),
        *pairs(f"{ours}.intermediate.dense", f"{theirs}.feed_forward.linear_1"),
        *pairs(f"{ours}.output.dense", f"{theirs}.feed_forward.linear_2"),
        *pairs(f"{ours}.output.LayerNorm", f"{theirs}.layer_norm_2", GAMMA_BETA),
    )


def head_rules(sentences: str, former: str) -> tuple[Rule, ...]:
    """Return the rules of the heads; the target ``sp`` is the head ``sentences``, of which ``former`` was the name.

    The first of its two layers is the pooler, as the first of a classifier's is. A multiple choice
    (finetune/run_c3.py) has none: it is another head than those that are computed from a pooler.
    """
    return (
        *pairs("pooler.dense", "target.sp.linear_1", aliases=("target.sp_linear_1", f"target.{former}_linear_1")),
        *pairs(
            "pooler.dense",
            "output_layer_1",
            aliases=("target.cls.linear_1", "target.linear_1"),
            head="sequence_classification",
            remembered=True,
        ),
        *pairs("masked_lm.transform.dense", "target.mlm.linear_1", aliases=("target.mlm_linear_1",)),
        *pairs("masked_lm.transform.LayerNorm", "target.mlm.layer_norm", GAMMA_BETA, aliases=("target.layer_norm",)),
        Rule(
            "masked_lm.decoder.weight",
            "target.mlm.linear_2.weight",
            aliases=("target.mlm_linear_2.weight",),
            always=True,
        ),
        Rule("masked_lm.decoder.bias", "target.mlm.linear_2.bias", aliases=("target.mlm_linear_2.bias",)),
        *pairs(sentences, "target.sp.linear_2", aliases=("target.sp_linear_2", f"target.{former}_linear_2")),
        *pairs(
            "sequence_classification",
            "output_layer_2",
            aliases=("target.cls.linear_2", "target.linear_2"),
            head="sequence_classification",
            remembered=True,
        ),
        *pairs("token_classification", "output_layer", head="token_classification"),
        *pairs("span_qa", "output_layer", head="span_qa"),
    )


BERT_TABLE = Table(
    family=BERT,
    config=CONFIG,
    conventions=CONVENTIONS,
    scopes=("embedding.", "encoder."),
    buffers=frozenset({"embedding.pe", "embedding.sinusoidalpos.pe"}),
    rows={"embeddings.token_type_embeddings.weight": 3},
    rules=(
        *embedding_rules(),
        *layer_rules(f"encoder.layer.{LAYER}", f"encoder.transformer.{LAYER}"),
        *head_rules("next_sentence", "nsp"),
    ),
    find_task=find_task,
    # models/bert/{tiny,mini,small,medium,base,large,xlarge}_config.json
    head_counts={128: 2, 256: 4, 512: 8, 768: 12, 1024: 16, 1536: 24},
)

ALBERT_TABLE = replace(
    BERT_TABLE,
    family=ALBERT,
    config=ALBERT_CONFIG,
    rules=(
        *embedding_rules(),
        *pairs("encoder.embedding_hidden_mapping_in", "encoder.linear"),
        # One set of weights for all layers, under names without a number.
        *layer_rules(f"encoder.group.{LAYER}", "encoder.transformer"),
        *head_rules("sentence_order", "sop"),
    ),
    # models/albert/{base,large,xlarge}_config.json; xxlarge has 16 there and 64 in Google's, so nothing is assumed.
    head_counts={768: 12, 1024: 16, 2048: 16},
)

UER = Dialect(
    name="uer",
    title="UER-py",
    containers=("torch-zip",),
    tables={"bert": BERT_TABLE, "albert": ALBERT_TABLE},
    folder=FolderForm(
        weights={"torch-zip": "pytorch_model.bin"},
        config="config.json",
        vocabulary="vocab.txt",
    ),
)
