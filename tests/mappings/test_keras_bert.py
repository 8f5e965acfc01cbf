"""keras-bert: a real model of its own, by names written out by hand, and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import interlingua
from interlingua.mappings.keras_bert import tidy
from tests.models import assert_same, weights_of

REAL = "CyberZHG__keras-bert/tests/test_bert_fit.h5"
HEADS = 5
"""What tests/test_bert.py of keras-bert builds that model with (``head_num``); nothing in the file's weights tells."""

LAYER = {
    "MultiHeadSelfAttention/Wq": ("attention.self.query.weight", True),
    "MultiHeadSelfAttention/bq": ("attention.self.query.bias", False),
    "MultiHeadSelfAttention/Wk": ("attention.self.key.weight", True),
    "MultiHeadSelfAttention/bk": ("attention.self.key.bias", False),
    "MultiHeadSelfAttention/Wv": ("attention.self.value.weight", True),
    "MultiHeadSelfAttention/bv": ("attention.self.value.bias", False),
    "MultiHeadSelfAttention/Wo": ("attention.output.dense.weight", True),
    "MultiHeadSelfAttention/bo": ("attention.output.dense.bias", False),
    "MultiHeadSelfAttention-Norm/gamma": ("attention.output.LayerNorm.weight", False),
    "MultiHeadSelfAttention-Norm/beta": ("attention.output.LayerNorm.bias", False),
    "FeedForward/W1": ("intermediate.dense.weight", True),
    "FeedForward/b1": ("intermediate.dense.bias", False),
    "FeedForward/W2": ("output.dense.weight", True),
    "FeedForward/b2": ("output.dense.bias", False),
    "FeedForward-Norm/gamma": ("output.LayerNorm.weight", False),
    "FeedForward-Norm/beta": ("output.LayerNorm.bias", False),
}
REST = {
    "Embedding-Token/embeddings": ("bert.embeddings.word_embeddings.weight", False),
    "Embedding-Segment/embeddings": ("bert.embeddings.token_type_embeddings.weight", False),
    "Embedding-Position/embeddings": ("bert.embeddings.position_embeddings.weight", False),
    "Embedding-Norm/gamma": ("bert.embeddings.LayerNorm.weight", False),
    "Embedding-Norm/beta": ("bert.embeddings.LayerNorm.bias", False),
    "NSP-Dense/kernel": ("bert.pooler.dense.weight", True),
    "NSP-Dense/bias": ("bert.pooler.dense.bias", False),
    "MLM-Dense/kernel": ("cls.predictions.transform.dense.weight", True),
    "MLM-Dense/bias": ("cls.predictions.transform.dense.bias", False),
    "MLM-Norm/gamma": ("cls.predictions.transform.LayerNorm.weight", False),
    "MLM-Norm/beta": ("cls.predictions.transform.LayerNorm.bias", False),
    "MLM-Sim/bias": ("cls.predictions.bias", False),
    "NSP/kernel": ("cls.seq_relationship.weight", True),
    "NSP/bias": ("cls.seq_relationship.bias", False),
}


@pytest.fixture
def real(fixtures_dir: Path, tmp_path: Path) -> Path:
    """The real file in a folder with the configuration that keras-bert would have built it from."""
    folder = tmp_path / "real"
    folder.mkdir()
    (folder / "bert_model.h5").write_bytes((fixtures_dir / REAL).read_bytes())
    sizes = {
        "vocab_size": 28,
        "hidden_size": 25,
        "intermediate_size": 100,
        "num_hidden_layers": 12,
        "type_vocab_size": 2,
    }
    more = {
        "max_position_embeddings": 20,
        "num_attention_heads": HEADS,
        "hidden_act": "gelu",
        "initializer_range": 0.02,
    }
    dropouts = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    (folder / "bert_config.json").write_text(json.dumps({**sizes, **more, **dropouts}))
    return folder


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """What the layers hold, by h5py, without the optimizer's."""
    h5py = pytest.importorskip("h5py")
    found = {}
    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        for layer in root:
            for name in root[layer].attrs["weight_names"]:
                name = name.decode() if isinstance(name, bytes) else name
                found[f"{layer}/{name}"] = root[layer][name][()]
    return found


def test_every_weight_is_where_transformers_has_it(real: Path, tmp_path: Path) -> None:
    interlingua.convert(real, tmp_path / "hf", to="hf")
    theirs = {tidy(name): array for name, array in arrays_of(real / "bert_model.h5").items()}
    expected = {}
    for name, (ours, turned) in REST.items():
        expected[ours] = theirs.pop(name)
        expected[ours] = expected[ours].T if turned else expected[ours]
    for layer in range(12):
        for name, (ours, turned) in LAYER.items():
            array = theirs.pop(f"Encoder-{layer + 1}-{name}")
            expected[f"bert.encoder.layer.{layer}.{ours}"] = array.T if turned else array
    assert theirs == {}
    assert_same(weights_of(tmp_path / "hf"), expected)
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (config["hidden_act"], config["num_attention_heads"]) == ("gelu_new", HEADS)


def test_weights_and_optimizer_come_back(real: Path, tmp_path: Path) -> None:
    interlingua.convert(real, tmp_path / "hf", to="hf")
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="keras-bert")
    with interlingua.open(real) as a, interlingua.open(tmp_path / "back") as b:
        assert (a.dialect, b.dialect) == ("keras-bert", "keras-bert")
        assert set(a.tensors) == set(b.tensors)
        assert all(a.reader.read(name).tobytes() == b.reader.read(name).tobytes() for name in a.tensors)
    assert (tmp_path / "back" / "bert_config.json").read_bytes() == (real / "bert_config.json").read_bytes()


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("Encoder-1-FeedForward/Encoder-1-FeedForward/Encoder-1-FeedForward_W1:0", "Encoder-1-FeedForward/W1"),
        ("MLM-Sim/MLM-Sim/bias:0", "MLM-Sim/bias"),
        ("Embedding-Norm/Embedding-Norm_1/gamma:0", "Embedding-Norm/1/gamma"),
        ("x", "x/"),
    ],
)
def test_repeated_names_are_told_once(name: str, form: str) -> None:
    assert tidy(name) == form
