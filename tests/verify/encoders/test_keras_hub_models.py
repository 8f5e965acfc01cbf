"""KerasHub's backbones, run as a reference: each is filled by Keras' own loader and computes what the oracle does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.verify.encoders.hf_models import make_models
from tests.verify.encoders.tensorflow_checkpoints import NOISE, convert_models, run_references

BACKBONES = {
    "BertModel": "BertBackbone",
    "AlbertModel": "AlbertBackbone",
    "DistilBertModel": "DistilBertBackbone",
    "RobertaModel": "RobertaBackbone",
    "XLMRobertaModel": "XLMRobertaBackbone",
    "ElectraModel": "ElectraBackbone",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("hub")
    paths = convert_models(make_models(folder / "hf", BACKBONES), folder, ["keras-hub"])
    paths["keras-hub", "renamed"] = renamed(paths["keras-hub", "BertModel"], folder / "renamed")
    return run_references("keras_hub", "tensorflow", paths, ["keras-hub", "own"], folder)


def renamed(preset: Path, folder: Path) -> Path:
    """The preset, its weights called as Keras would not load them."""
    shutil.copytree(preset, folder)
    return (folder / "model.weights.h5").rename(folder / "weights.hdf5")


@pytest.mark.parametrize("name", BACKBONES)
def test_every_activation_of_a_backbone_is_the_oracles_within_float32(found: dict, name: str) -> None:
    """Two groups of ALBERT's, each called twice, among them."""
    answered = found["keras-hub", name]
    ran = answered.answer["ran"]
    assert (ran["reference"], ran["third_party"]) == (f"keras_hub {BACKBONES[name]}", True)
    assert (ran["missing"], ran["unexpected"]) == ([], [])
    assert answered.worst < NOISE, answered.gaps


def test_every_layer_is_told_apart(found: dict) -> None:
    layers = [name for name in found["keras-hub", "AlbertModel"].gaps if "layer." in name]
    assert layers == [f"hard/layer.{number}" for number in range(4)]


def test_weights_of_any_name_are_loaded(found: dict) -> None:
    answered = found["keras-hub", "renamed"]
    assert answered.answer["ran"]["reference"] == "keras_hub BertBackbone"
    assert answered.worst < NOISE
