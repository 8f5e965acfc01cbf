"""transformers' Keras classes, run as a reference: every class loads our files by its own loader, with every head."""

from __future__ import annotations

from importlib.metadata import version

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.verify.encoders.hf_models import HEADS, make_models
from tests.verify.encoders.tensorflow_checkpoints import NOISE, convert_models, run_references

VERSION = version("transformers")

pytestmark = pytest.mark.skipif(
    int(VERSION.partition(".")[0]) > 4, reason=f"transformers {VERSION} has no Keras classes any more"
)

CLASSES = [name for name in HEADS if not name.startswith(("Ernie", "Nezha"))]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("hf-tf")
    models = make_models(folder / "hf", CLASSES)
    paths = convert_models(models, folder, ["hf-tf"])
    one = {"BertForPreTraining safetensors": models["BertForPreTraining"]}
    paths |= convert_models(one, folder, ["hf-tf"], container="safetensors")
    shards = {"BertForPreTraining shards": models["BertForPreTraining"]}
    paths |= convert_models(shards, folder, ["hf-tf"], max_shard_size=20000)
    return run_references("tf_keras", "tensorflow", paths, ["transformers-tf", "own"], folder)


@pytest.mark.parametrize("name", [*CLASSES, "BertForPreTraining safetensors", "BertForPreTraining shards"])
def test_every_activation_of_every_class_is_the_oracles_within_float32(found: dict, name: str) -> None:
    answered = found["hf-tf", name]
    ran = answered.answer["ran"]
    assert ran["reference"] == f"transformers TF{name.partition(' ')[0]}"
    assert (ran["version"], ran["third_party"]) == (VERSION, True)
    assert (ran["missing"], ran["unexpected"]) == ([], [])
    assert answered.worst < NOISE, answered.gaps


@pytest.mark.parametrize("name", CLASSES)
def test_every_head_of_the_checkpoint_is_computed(found: dict, name: str) -> None:
    computed = {key.partition("/")[2] for key in found["hf-tf", name].gaps}
    assert {key for key in computed if key != "embeddings" and not key.startswith("layer.")} == set(HEADS[name])
