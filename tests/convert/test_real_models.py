"""Real models that others wrote, through every dialect that holds them and back to their own bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import interlingua
from interlingua.mappings.registry import DIALECTS

KERAS_BERT = {
    "vocab_size": 28,
    "hidden_size": 25,
    "intermediate_size": 100,
    "num_hidden_layers": 12,
    "num_attention_heads": 5,
    "max_position_embeddings": 20,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
}
"""What the model of keras-bert's own tests was built with; the file beside it has no configuration."""

MODELS = {
    "camphr bert": ("PKSHATechnology-Research__camphr/tests/fixtures/bert", "hf", None),
    "camphr bert-test": ("PKSHATechnology-Research__camphr/tests/fixtures/bert-test", "hf", None),
    "keras-bert checkpoint": ("CyberZHG__keras-bert/tests/test_checkpoint", "tf1", None),
    "keras-bert HDF5": ("CyberZHG__keras-bert/tests/test_bert_fit.h5", "keras-bert", KERAS_BERT),
}


def contents(checkpoint: interlingua.Checkpoint) -> dict[str, bytes]:
    """Bytes of every tensor that is no string, by its native name."""
    found = {}
    for name, spec in checkpoint.tensors.items():
        data = bytearray(spec.nbytes)
        checkpoint.reader.read_into(name, 0, memoryview(data))
        found[name] = bytes(data)
    return found


WAYS = [(model, target) for model, (_, dialect, _) in MODELS.items() for target in DIALECTS if target != dialect]


@pytest.mark.parametrize(("model", "target"), WAYS)
def test_a_real_model_goes_everywhere_and_comes_back(
    fixtures_dir: Path, tmp_path: Path, model: str, target: str
) -> None:
    place, dialect, config = MODELS[model]
    source = fixtures_dir / place
    asked = {}
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        asked["config"] = tmp_path / "config.json"
    interlingua.convert(source, tmp_path / "there", to=target, sync=False, **asked)
    interlingua.convert(tmp_path / "there", tmp_path / "back", to=dialect, dialect=target, sync=False)
    with (
        interlingua.open(source, **asked) as a,
        interlingua.open(tmp_path / "there", dialect=target) as b,
        interlingua.open(tmp_path / "back", dialect=dialect) as c,
    ):
        assert (a.dialect, b.dialect, c.dialect) == (dialect, target, dialect)
        ours, theirs, again = (interlingua.fingerprint(checkpoint) for checkpoint in (a, b, c))
        assert ours == again
        assert ours.encoder == theirs.encoder
        assert {modern(name): data for name, data in contents(a).items()} == contents(c)


def modern(name: str) -> str:
    """A name of the first version of transformers, as it is written today."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
