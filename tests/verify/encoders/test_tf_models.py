"""The TF Model Garden's own models, run as a reference: restored by ``tf.train.Checkpoint``, with every head."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import interlingua
from tests import tensorflow_names
from tests.mappings.test_google_tf import CONFIGS
from tests.models import bare
from tests.tensorflow_names import garden, garden_array, random_arrays, write_bundle
from tests.verify.encoders.hf_models import make_models
from tests.verify.encoders.tensorflow_checkpoints import NOISE, convert_models, run_references

MODELS = {
    "BertModel": "BertEncoderV2",
    "BertForPreTraining": "BertPretrainerV2(BertEncoderV2)",
    "BertForMaskedLM": "BertPretrainerV2(BertEncoderV2)",
    "BertForNextSentencePrediction": "BertPretrainerV2(BertEncoderV2)",
    "BertForSequenceClassification": "BertClassifier(BertEncoderV2)",
    "BertForTokenClassification": "BertTokenClassifier(BertEncoderV2)",
    "BertForQuestionAnswering": "BertSpanLabeler(BertEncoderV2)",
}
"""Class of transformers -> the Model Garden's."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("tf2")
    paths = convert_models(make_models(folder / "hf", MODELS), folder, ["tf2"])
    paths["tf2", "functional"] = functional_encoder(folder / "functional")
    paths["tf2", "ALBERT"] = albert_pretrainer(folder / "albert")
    return run_references("official", "tensorflow", paths, ["tf-models", "own"], folder)


def mild(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays, small enough for attention to be spread over many tokens."""
    return {name: array * np.float32(0.3) for name, array in arrays.items()}


def functional_encoder(folder: Path) -> Path:
    """A checkpoint of the functional BertEncoder, whose layers are numbered, as ``tf.train.Checkpoint(model=...)``."""
    arrays = mild(bare(("pooler",)))
    keys = {f"model/{key}": garden_array(key, arrays[name]) for key, name in garden(functional=True).items()}
    write_bundle(folder / "bert_model.ckpt", keys)
    (folder / "bert_config.json").write_text(json.dumps(CONFIGS["bert"]))
    return folder


def albert_pretrainer(folder: Path) -> Path:
    """Google's ALBERT with its heads, of one group of layers, in the Model Garden's form."""
    named = tensorflow_names.albert(("pooler", "masked_lm", "sentence_order"))
    arrays = mild(random_arrays({key: shape for key, (_, shape) in named.items()}))
    write_bundle(folder / "google" / "model.ckpt-best", arrays)
    (folder / "google" / "albert_config.json").write_text(json.dumps(CONFIGS["albert"]))
    interlingua.convert(folder / "google", folder / "garden", to="tf2")
    return folder / "garden"


ALL = {**MODELS, "functional": "BertEncoder", "ALBERT": "BertPretrainerV2(AlbertEncoder)"}


@pytest.mark.parametrize("name", ALL)
def test_every_activation_of_a_model_is_the_oracles_within_float32(found: dict, name: str) -> None:
    answered = found["tf2", name]
    assert "ran" in answered.answer, answered.answer
    ran = answered.answer["ran"]
    assert (ran["reference"], ran["third_party"]) == (f"tf-models-official {ALL[name]}", True)
    assert (ran["missing"], ran["unexpected"]) == ([], [])
    assert answered.worst < NOISE, answered.gaps
