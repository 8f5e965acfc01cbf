"""Keras' dialects without Keras: names, shapes and values by hand, both ways, and files that contradict themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import interlingua
from interlingua.errors import FormatError
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import DTYPES
from interlingua.formats.registry import CONTAINERS, open_container
from interlingua.mappings.registry import find
from tests.models import SMALL, assert_same, hf, hf_config, weights_of, write_hf

HEADS = ("pooler", "masked_lm", "next_sentence")
Arrays = dict[str, np.ndarray]


def read(path: Path) -> Arrays:
    found = {}
    with open_container(path) as reader:
        for name, spec in reader.tensors.items():
            raw = bytearray(spec.nbytes)
            reader.read_into(name, 0, memoryview(raw))
            found[name] = np.frombuffer(bytes(raw), spec.dtype.name).reshape(spec.shape)
    return found


def write(path: Path, arrays: Arrays, container: str) -> None:
    specs = [TensorSpec(name, DTYPES[array.dtype.name], array.shape) for name, array in arrays.items()]
    with CONTAINERS[container].load().open_writer(path, specs) as writer:
        for name, array in arrays.items():
            writer.write(name, memoryview(array.tobytes()))
        writer.finish()


@pytest.fixture
def source(tmp_path: Path) -> tuple[Path, Arrays]:
    arrays = hf(HEADS)
    return write_hf(tmp_path / "hf", arrays, hf_config(SMALL, HEADS), SMALL.vocab), arrays


def test_a_bert_in_one_file_of_keras(source: tuple[Path, Arrays], tmp_path: Path) -> None:
    folder, arrays = source
    interlingua.convert(folder, tmp_path / "tf", to="hf-tf")
    found = read(tmp_path / "tf" / "tf_model.h5")
    model = "tf_bert_for_pre_training"
    query = f"bert/{model}/bert/encoder/layer_._1/attention/self/query/kernel:0"
    assert np.array_equal(found[query], arrays["bert.encoder.layer.1.attention.self.query.weight"].T)
    words = arrays["bert.embeddings.word_embeddings.weight"]
    for layer in ("bert", "mlm___cls"):
        assert np.array_equal(found[f"{layer}/{model}/bert/embeddings/word_embeddings/weight:0"], words)
    assert len(found) == len(arrays) + 5
    interlingua.convert(tmp_path / "tf", tmp_path / "again", to="hf")
    assert_same(weights_of(tmp_path / "again"), arrays)


@pytest.mark.parametrize(("how", "index"), [({"max_shard_size": 4000}, True), ({"container": "safetensors"}, False)])
def test_shards_and_safetensors_have_paths_alone(
    source: tuple[Path, Arrays], tmp_path: Path, how: dict, index: bool
) -> None:
    folder, arrays = source
    interlingua.convert(folder, tmp_path / "tf", to="hf-tf", **how)
    if index:
        listed = json.loads((tmp_path / "tf" / "tf_model.h5.index.json").read_text())["weight_map"]
        assert len(set(listed.values())) > 1
        found = {}
        for shard in sorted(set(listed.values())):
            found |= read(tmp_path / "tf" / shard)
        assert sorted(listed) == sorted(found)
    else:
        found = read(tmp_path / "tf" / "model.safetensors")
    assert len(found) == len(arrays)
    assert "bert/embeddings/word_embeddings/weight:0" in found
    assert "mlm___cls/predictions/transform/dense/kernel:0" in found
    interlingua.convert(tmp_path / "tf", tmp_path / "again", to="hf")
    assert_same(weights_of(tmp_path / "again"), arrays)


def test_an_albert_of_keras_has_both_its_biases_and_computes_with_the_decoders(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with_head = {
        "predictions.bias": (37,),
        "predictions.dense.weight": (7, 12),
        "predictions.dense.bias": (7,),
        "predictions.LayerNorm.weight": (7,),
        "predictions.LayerNorm.bias": (7,),
    }
    table = find("hf").tables["albert"]
    sizes = {"vocab": 37, "positions": 17, "types": 2, "embedding": 7, "hidden": 12, "intermediate": 20}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in with_head.items()}
    for canonical, tensor in table.family.instances(1):
        if tensor.part == "encoder":
            rule = table.rule(canonical, ("masked_lm",))
            assert rule is not None
            shape = tuple(sizes[symbol] for symbol in tensor.shape)
            name = table.spell(rule.native, canonical, ("masked_lm",))
            arrays[name] = rng.standard_normal(shape).astype(np.float32)
    config = {"architectures": ["AlbertForMaskedLM"], "model_type": "albert", "num_hidden_layers": 2}
    folder = write_hf(tmp_path / "hf", arrays, {**config, "num_attention_heads": 3})
    interlingua.convert(folder, tmp_path / "tf", to="hf-tf")
    found = read(tmp_path / "tf" / "tf_model.h5")
    bias = "predictions/tf_albert_for_masked_lm/predictions/bias:0"
    decoder = "predictions/tf_albert_for_masked_lm/predictions/decoder/bias:0"
    assert np.array_equal(found[bias], arrays["predictions.bias"])
    assert np.array_equal(found[decoder], arrays["predictions.bias"])
    # A model that Keras trained has changed the one that it computes with alone.
    (tmp_path / "tf" / "tf_model.h5").unlink()
    trained = {**found, decoder: found[decoder] + 1}
    write(tmp_path / "tf" / "tf_model.h5", trained, "keras-hdf5")
    interlingua.convert(tmp_path / "tf", tmp_path / "again", to="hf")
    assert_same(weights_of(tmp_path / "again"), {**arrays, "predictions.bias": arrays["predictions.bias"] + 1})
    interlingua.convert(tmp_path / "again", tmp_path / "back", to="hf-tf")
    assert_same(read(tmp_path / "back" / "tf_model.h5"), trained)


def test_two_listings_of_an_embedding_that_differ_are_refused(source: tuple[Path, Arrays], tmp_path: Path) -> None:
    folder, _ = source
    interlingua.convert(folder, tmp_path / "tf", to="hf-tf")
    found = read(tmp_path / "tf" / "tf_model.h5")
    name = next(name for name in found if name.startswith("mlm___cls/") and "bert/embeddings/LayerNorm/beta" in name)
    (tmp_path / "tf" / "tf_model.h5").unlink()
    write(tmp_path / "tf" / "tf_model.h5", {**found, name: found[name] + 1}, "keras-hdf5")
    with pytest.raises(FormatError, match="one tensor by their names"):
        interlingua.convert(tmp_path / "tf", tmp_path / "again", to="hf")


def test_an_untied_decoder_is_left_out_and_said(tmp_path: Path) -> None:
    arrays = hf(("masked_lm",))
    arrays["cls.predictions.decoder.weight"] = arrays["bert.embeddings.word_embeddings.weight"] + 1
    config = hf_config(SMALL, ("masked_lm",), tie_word_embeddings=False)
    folder = write_hf(tmp_path / "hf", arrays, config)
    interlingua.convert(folder, tmp_path / "tf", to="hf-tf")
    assert not any(name.startswith("mlm___cls") for name in read(tmp_path / "tf" / "tf_model.h5"))
    interlingua.convert(tmp_path / "tf", tmp_path / "again", to="hf")
    assert_same(weights_of(tmp_path / "again"), arrays)


def test_a_preset_of_keras_hub(source: tuple[Path, Arrays], tmp_path: Path) -> None:
    folder, arrays = source
    result = tmp_path / "hub"
    interlingua.convert(folder, result, to="keras-hub")
    found = read(result / "model.weights.h5")
    prefix, size = "layers/transformer_encoder_1/_self_attention_layer", SMALL.hidden // SMALL.heads
    query = arrays["bert.encoder.layer.1.attention.self.query.weight"].T.reshape(SMALL.hidden, SMALL.heads, size)
    out = arrays["bert.encoder.layer.1.attention.output.dense.weight"].T.reshape(SMALL.heads, size, SMALL.hidden)
    bias = arrays["bert.encoder.layer.1.attention.self.key.bias"].reshape(SMALL.heads, size)
    assert np.array_equal(found[f"{prefix}/query_dense/vars/0"], query)
    assert np.array_equal(found[f"{prefix}/output_dense/vars/0"], out)
    assert np.array_equal(found[f"{prefix}/key_dense/vars/1"], bias)
    config = json.loads((result / "config.json").read_text())
    assert (config["class_name"], config["registered_name"]) == ("BertBackbone", "keras_hub>BertBackbone")
    assert config["config"]["vocabulary_size"] == SMALL.vocab
    assert config["config"]["num_heads"] == SMALL.heads
    vocabulary = (result / "assets" / "tokenizer" / "vocabulary.txt").read_bytes()
    assert vocabulary == (folder / "vocab.txt").read_bytes()
    assert json.loads((result / "tokenizer.json").read_text())["class_name"] == "BertTokenizer"
    interlingua.convert(result, tmp_path / "again", to="hf")
    assert_same(weights_of(tmp_path / "again"), arrays)
    assert (tmp_path / "again" / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    assert (tmp_path / "again" / "vocab.txt").read_bytes() == vocabulary


def test_what_a_backbone_cannot_say_is_in_the_plan(source: tuple[Path, Arrays], tmp_path: Path) -> None:
    folder, _ = source
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}))
    notes = " ".join(interlingua.convert(folder, tmp_path / "hub", to="keras-hub").plan.notes)
    assert "activation is gelu, and the target's system computes gelu_tanh" in notes
    assert "epsilon is 3e-06 in the source's system and 1e-12 in the target's" in notes
    assert "one dropout" in notes
