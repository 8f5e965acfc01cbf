"""Acme's BERT, a system made up for this example: kernels in a safetensors file, ``acme.json`` beside it.

Sources: a real dialect says here which files of which repository its facts were read in.
"""

from interlingua.mappings.config import ConfigTable
from interlingua.mappings.conventions import CANONICAL, Conventions
from interlingua.mappings.dialect import Dialect, FolderForm, Table
from interlingua.mappings.rules import KERNEL_BIAS, Rule, Transpose, pairs
from interlingua.mappings.schema import BERT

OURS, THEIRS = "encoder.layer.{layer}", "net/block{layer}"


def kernel(canonical: str, native: str) -> tuple[Rule, ...]:
    """A linear layer, whose weight Acme keeps as [in, out]."""
    return pairs(canonical, native, KERNEL_BIAS, weight=Transpose(), join="/")


def norm(canonical: str, native: str) -> tuple[Rule, ...]:
    """A LayerNorm, whose parts Acme calls scale and shift."""
    return pairs(canonical, native, (("weight", "scale"), ("bias", "shift")), join="/")


BERT_TABLE = Table(
    family=BERT,
    rules=(
        Rule("embeddings.word_embeddings.weight", "net/tokens"),
        Rule("embeddings.position_embeddings.weight", "net/positions"),
        Rule("embeddings.token_type_embeddings.weight", "net/segments"),
        *norm("embeddings.LayerNorm", "net/norm"),
        *kernel(f"{OURS}.attention.self.query", f"{THEIRS}/q"),
        *kernel(f"{OURS}.attention.self.key", f"{THEIRS}/k"),
        *kernel(f"{OURS}.attention.self.value", f"{THEIRS}/v"),
        *kernel(f"{OURS}.attention.output.dense", f"{THEIRS}/o"),
        *norm(f"{OURS}.attention.output.LayerNorm", f"{THEIRS}/norm1"),
        *kernel(f"{OURS}.intermediate.dense", f"{THEIRS}/up"),
        *kernel(f"{OURS}.output.dense", f"{THEIRS}/down"),
        *norm(f"{OURS}.output.LayerNorm", f"{THEIRS}/norm2"),
        *kernel("pooler.dense", "net/pool"),
        # No rules for other heads: Acme has none, so they become residue, with that as the reason.
    ),
    config=ConfigTable(
        keys={
            "hidden_size": ("width",),
            "num_hidden_layers": ("depth",),
            "num_attention_heads": ("heads",),
            "hidden_act": ("activation",),
            "hidden_dropout_prob": ("dropout",),
        },
        activations={"gelu": "gelu", "gelu_tanh": "gelu_tanh", "relu": "relu"},
        # What Acme's code takes where its configuration says nothing.
        defaults={
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-5,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "initializer_range": 0.02,
            "pad_token_id": 0,
        },
        constants={"kind": "acme-bert"},
        marks=frozenset({"depth"}),
        only={"kind": ("acme-bert",)},
    ),
    # Acme's code never reads an epsilon: it is always 1e-5. Plans then say so, and by how much it tells.
    conventions=Conventions(layer_norm=CANONICAL, layer_norm_eps=1e-5, source="made up"),
    scopes=("net/",),
)

ACME = Dialect(
    name="acme",
    title="Acme's BERT",
    containers=("safetensors",),
    tables={"bert": BERT_TABLE},
    folder=FolderForm(weights={"safetensors": "acme.safetensors"}, config="acme.json", vocabulary="tokens.txt"),
)
