"""UER-py: a bare state dict in a ``.bin``, its JSON configuration and vocabulary beside it.

Sources: dbiir/UER-py ``uer/embeddings/*.py``, ``uer/encoders/transformer_encoder.py``,
``uer/layers/{transformer,multi_headed_attn,position_ffn,layer_norm}.py``, ``uer/targets/{mlm,sp}_target.py``,
``finetune/run_{classifier,ner,cmrc}.py``, ``uer/opts.py``, ``models/bert/*_config.json``. The older names are
those of the versions from 2019 to 2023 (git history of the same files).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from interlingua.mappings.config import Config, ConfigTable, Json
from interlingua.mappings.conventions import UNBIASED, Conventions
from interlingua.mappings.dialect import Dialect, FolderForm, Table
from interlingua.mappings.rules import GAMMA_BETA, PadRows, Rule, Shape, pairs
from interlingua.mappings.schema import BERT

OURS = "encoder.layer.{layer}"
THEIRS = "encoder.transformer.{layer}"


def find_task(names: Mapping[str, Shape], config: Mapping[str, Json]) -> tuple[str, str] | None:
    """Say which head ``output_layer`` is: named-entity recognition and reading comprehension share the name."""
    if LABELS in config:
        return "token_classification", f"the configuration has {LABELS}, and a span has no labels"
    heads = [shape for name, shape in names.items() if name.endswith("output_layer.weight") and "target." not in name]
    rows = next((shape[0] for shape in heads if shape), 0)
    if rows == 2:
        return "span_qa", "output_layer has two rows: start and end"
    return "token_classification", f"output_layer has {rows} rows, and a span has two"


TARGETS = (("mlm", {"masked_lm"}), ("sp", {"pooler", "next_sentence"}))
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
        "embedding": (["word", "pos", "seg"], "word_pos_seg", "bert"),
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
    extras=config_extras,
)

CONVENTIONS = Conventions(
    layer_norm=UNBIASED, layer_norm_eps=1e-6, source="dbiir/UER-py uer/layers/layer_norm.py", mask="-10000"
)

BERT_TABLE = Table(
    family=BERT,
    config=CONFIG,
    conventions=CONVENTIONS,
    scopes=("embedding.", "encoder."),
    buffers=frozenset({"embedding.pe", "embedding.sinusoidalpos.pe"}),
    rows={"embeddings.token_type_embeddings.weight": 3},
    rules=(
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
        *pairs(f"{OURS}.attention.self.query", f"{THEIRS}.self_attn.linear_layers.0"),
        *pairs(f"{OURS}.attention.self.key", f"{THEIRS}.self_attn.linear_layers.1"),
        *pairs(f"{OURS}.attention.self.value", f"{THEIRS}.self_attn.linear_layers.2"),
        *pairs(f"{OURS}.attention.output.dense", f"{THEIRS}.self_attn.final_linear"),
        *pairs(f"{OURS}.attention.output.LayerNorm", f"{THEIRS}.layer_norm_1", GAMMA_BETA),
        *pairs(f"{OURS}.intermediate.dense", f"{THEIRS}.feed_forward.linear_1"),
        *pairs(f"{OURS}.output.dense", f"{THEIRS}.feed_forward.linear_2"),
        *pairs(f"{OURS}.output.LayerNorm", f"{THEIRS}.layer_norm_2", GAMMA_BETA),
        *pairs(
            "pooler.dense",
            "target.sp.linear_1",
            aliases=("target.sp_linear_1", "target.nsp_linear_1"),
        ),
        *pairs("pooler.dense", "output_layer_1", head="sequence_classification"),
        *pairs("masked_lm.transform.dense", "target.mlm.linear_1", aliases=("target.mlm_linear_1",)),
        *pairs("masked_lm.transform.LayerNorm", "target.mlm.layer_norm", GAMMA_BETA, aliases=("target.layer_norm",)),
        Rule(
            "masked_lm.decoder.weight",
            "target.mlm.linear_2.weight",
            aliases=("target.mlm_linear_2.weight",),
            always=True,
        ),
        Rule("masked_lm.decoder.bias", "target.mlm.linear_2.bias", aliases=("target.mlm_linear_2.bias",)),
        *pairs(
            "next_sentence",
            "target.sp.linear_2",
            aliases=("target.sp_linear_2", "target.nsp_linear_2"),
        ),
        *pairs("sequence_classification", "output_layer_2", head="sequence_classification"),
        *pairs("token_classification", "output_layer", head="token_classification"),
        *pairs("span_qa", "output_layer", head="span_qa"),
    ),
    find_task=find_task,
    # models/bert/{tiny,mini,small,medium,base,large,xlarge}_config.json
    head_counts={128: 2, 256: 4, 512: 8, 768: 12, 1024: 16, 1536: 24},
)

UER = Dialect(
    name="uer",
    title="UER-py",
    containers=("torch-zip",),
    tables={"bert": BERT_TABLE},
    folder=FolderForm(
        weights={"torch-zip": "pytorch_model.bin"},
        config="config.json",
        vocabulary="vocab.txt",
    ),
)
