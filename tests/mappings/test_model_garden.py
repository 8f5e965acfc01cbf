"""The TF Model Garden: object paths of its encoders and heads, attention kernels with three axes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import interlingua
from interlingua.errors import MappingError
from tests.mappings.test_google_tf import CONFIGS, write_model
from tests.models import Arrays, assert_same, bare, read_safetensors, write_hf
from tests.tensorflow_names import VALUE, H, garden, garden_array, read_bundle, write_bundle

HOMES = {
    "encoder": "encoder/",
    "model": "model/",
    "a model's network": "model/encoder_network/",
    "a classifier's first layer": "model/layer_with_weights-0/",
    "a name of somebody's own": "my_bert/",
}
"""What ``tf.train.Checkpoint`` puts before an encoder."""


def model() -> Arrays:
    return bare(("pooler",))


def garden_model(arrays: Arrays, prefix: str = "encoder/", functional: bool = False) -> Arrays:
    return {prefix + key: garden_array(key, arrays[name]) for key, name in garden(functional).items()}


def write_garden(folder: Path, arrays: Arrays) -> Path:
    write_bundle(folder / "bert_model.ckpt", arrays)
    (folder / "bert_config.json").write_text(json.dumps(CONFIGS["bert"]))
    return folder


def test_an_encoder_is_written_as_bert_encoder_v2_has_it(tmp_path: Path) -> None:
    arrays = model()
    write_hf(tmp_path / "hf", arrays, {**CONFIGS["bert"], "model_type": "bert"})
    interlingua.convert(tmp_path / "hf", tmp_path / "garden", to="tf2")
    assert_same(read_bundle(tmp_path / "garden" / "bert_model.ckpt"), garden_model(arrays))


@pytest.mark.parametrize("functional", [False, True], ids=["BertEncoderV2", "BertEncoder"])
@pytest.mark.parametrize("home", HOMES)
def test_an_encoder_is_found_wherever_it_is(tmp_path: Path, home: str, functional: bool) -> None:
    arrays = model()
    source = write_garden(tmp_path / "garden", garden_model(arrays, HOMES[home], functional))
    interlingua.convert(source, tmp_path / "hf", to="hf")
    assert_same(read_safetensors(tmp_path / "hf" / "model.safetensors"), arrays)


def test_an_attention_output_beside_the_attention_is_read(tmp_path: Path) -> None:
    """So it was until the autumn of 2020."""
    arrays = model()
    older = {
        key.replace("_attention_layer/_output_dense", "_attention_output_dense"): array
        for key, array in garden_model(arrays, "model/", functional=True).items()
    }
    interlingua.convert(write_garden(tmp_path / "garden", older), tmp_path / "hf", to="hf")
    assert_same(read_safetensors(tmp_path / "hf" / "model.safetensors"), arrays)


HEADS = {
    "token_classification": ("model/layer_with_weights-1", "classifier"),
    "sequence_classification": ("model/layer_with_weights-1/out_proj", "classifier"),
    "span_qa": ("model/layer_with_weights-1/layer_with_weights-0", "qa_outputs"),
    "next_sentence": ("model/classification_heads/0/out_proj", "cls.seq_relationship"),
}


@pytest.mark.parametrize("head", HEADS)
def test_a_head_comes_and_goes(tmp_path: Path, head: str) -> None:
    arrays = bare(("pooler", head))
    scope, theirs = HEADS[head]
    kernel, bias = arrays[f"{theirs}.weight"].T.copy(), arrays[f"{theirs}.bias"]
    native = {
        **garden_model(arrays),
        f"{scope}/kernel{VALUE}": kernel,
        f"{scope}/bias{VALUE}": bias,
    }
    if head == "next_sentence":
        for part in ("kernel", "bias"):
            native[f"next_sentence..pooler_dense/{part}{VALUE}"] = native[f"encoder/_pooler_layer/{part}{VALUE}"]
    interlingua.convert(write_garden(tmp_path / "garden", native), tmp_path / "hf", to="hf")
    with interlingua.open(tmp_path / "garden") as found:
        assert found.heads == ("pooler", head)
    ours = read_safetensors(tmp_path / "hf" / "model.safetensors")
    assert_same({name.removeprefix("bert."): array for name, array in ours.items()}, arrays)
    # Without what an earlier conversion kept: all of it is the model.
    (tmp_path / "hf" / "interlingua.residue.safetensors").unlink(missing_ok=True)
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="tf2")
    assert_same(read_bundle(tmp_path / "back" / "bert_model.ckpt"), native)


def test_a_pretrainer_computes_with_the_pooler_of_its_own_head(tmp_path: Path) -> None:
    """The encoder's is there as well, as it was made at random."""
    arrays = bare(("pooler", "masked_lm", "next_sentence"))
    native = garden_model(arrays)
    scope, theirs = HEADS["next_sentence"]
    pooler = {f"encoder/_pooler_layer/{part}{VALUE}" for part in ("kernel", "bias")}
    native |= {name.replace("encoder/_pooler_layer", "next_sentence..pooler_dense"): native[name] for name in pooler}
    native |= {name: native[name] + 1 for name in pooler}
    native |= {
        f"{scope}/kernel{VALUE}": arrays[f"{theirs}.weight"].T.copy(),
        f"{scope}/bias{VALUE}": arrays[f"{theirs}.bias"],
        f"masked_lm/dense/kernel{VALUE}": arrays["cls.predictions.transform.dense.weight"].T.copy(),
        f"masked_lm/dense/bias{VALUE}": arrays["cls.predictions.transform.dense.bias"],
        f"masked_lm/layer_norm/gamma{VALUE}": arrays["cls.predictions.transform.LayerNorm.weight"],
        f"masked_lm/layer_norm/beta{VALUE}": arrays["cls.predictions.transform.LayerNorm.bias"],
        f"masked_lm/output_bias.Sbias{VALUE}": arrays["cls.predictions.bias"],
    }
    words = native.pop(f"encoder/_embedding_layer/embeddings{VALUE}")
    owners = {**native, f"masked_lm/embedding_table{VALUE}": words}
    interlingua.convert(write_garden(tmp_path / "garden", owners), tmp_path / "hf", to="hf")
    ours = read_safetensors(tmp_path / "hf" / "model.safetensors")
    assert_same({name.removeprefix("bert."): array for name, array in ours.items()}, arrays)
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="tf2")
    there = {**native, f"encoder/_embedding_layer/embeddings{VALUE}": words}
    assert_same(read_bundle(tmp_path / "back" / "bert_model.ckpt"), there)


def test_optimizers_and_counters_are_kept_apart_and_come_back(tmp_path: Path) -> None:
    arrays = model()
    native = garden_model(arrays)
    training = {
        name.replace(VALUE, f"/.OPTIMIZER_SLOT/optimizer/m{VALUE}"): array + 1 for name, array in native.items()
    }
    training |= {f"save_counter{VALUE}": np.array(7, np.int64), f"optimizer/iter{VALUE}": np.array(99, np.int64)}
    source = write_garden(tmp_path / "garden", {**native, **training})
    interlingua.convert(source, tmp_path / "hf", to="hf")
    assert_same(read_safetensors(tmp_path / "hf" / "model.safetensors"), arrays)
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="tf2")
    for name in ("bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001", "bert_config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes(), name


def test_the_graph_of_objects_follows_the_names(tmp_path: Path) -> None:
    """A graph that names other keys than those that are written would leave TensorFlow with nothing to restore."""
    arrays = model()
    source = write_garden(tmp_path / "garden", garden_model(arrays, "model/", functional=True))
    interlingua.convert(source, tmp_path / "hf", to="hf")
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="tf2")
    interlingua.convert(source, tmp_path / "copy", to="tf2")
    for folder in ("back", "copy"):
        data = (tmp_path / folder / "bert_model.ckpt.data-00000-of-00001").read_bytes()
        assert b"encoder/_transformer_layers/0/_intermediate_dense/kernel" in data
        assert b"layer_with_weights" not in data


def test_an_embedding_that_is_projected_is_no_bert(tmp_path: Path) -> None:
    native = garden_model(model())
    native[f"encoder/_embedding_projection/kernel{VALUE}"] = np.zeros((H, H), np.float32)
    with pytest.raises(MappingError, match="_embedding_projection"):
        interlingua.convert(write_garden(tmp_path / "garden", native), tmp_path / "hf", to="hf")


def test_a_key_of_tensorflow_1_is_not_taken_for_one(tmp_path: Path) -> None:
    write_model(tmp_path / "google", "bert", ("pooler",))
    with interlingua.open(tmp_path / "google") as found:
        assert found.dialect == "tf1"
    with interlingua.open(tmp_path / "google", dialect="tf2") as found:
        assert found.dialect is None
