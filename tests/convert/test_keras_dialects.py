"""Keras' dialects without Keras: names, shapes and values by hand, both ways, and files that contradict themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import interlingua
from benchmarks.families import write_model
from interlingua.errors import FormatError, MappingError
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import DTYPES
from interlingua.formats.registry import CONTAINERS, open_container
from interlingua.mappings.registry import find
from interlingua.mappings.schema import FAMILIES
from interlingua.verify.parity.side import open_side
from interlingua.verify.parity.weights import compare_weights
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


TABLE = "layers/token_and_position_embedding/position_embedding/vars/0"
TYPES, POSITIONS = (f"roberta.embeddings.{kind}_embeddings.weight" for kind in ("token_type", "position"))


def roberta(folder: Path, change: dict[str, float] | None = None, **config: object) -> tuple[Path, Arrays]:
    """A random RoBERTa of transformers; ``change`` fills tensors with a number, ``config`` replaces what it states."""
    model = write_model(folder, FAMILIES["roberta"], ("sequence_classification",), 3)
    arrays = read(model / "model.safetensors")
    arrays |= {name: np.full_like(arrays[name], value) for name, value in (change or {}).items()}
    (model / "model.safetensors").unlink()
    write(model / "model.safetensors", arrays, "safetensors")
    native = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**native, **config}))
    return model, arrays


def test_a_roberta_in_keras_hub_has_no_padding_rows_and_gets_them_back(tmp_path: Path) -> None:
    folder, arrays = roberta(tmp_path / "hf")
    interlingua.convert(folder, tmp_path / "hub", to="keras-hub")
    found = read(tmp_path / "hub" / "model.weights.h5")
    assert np.array_equal(found[TABLE], arrays[POSITIONS][2:])
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config["class_name"] == "RobertaBackbone"
    assert config["config"]["max_sequence_length"] == 15
    assert not {"num_segments", "pad_token_id"} & set(config["config"])
    interlingua.convert(tmp_path / "hub", tmp_path / "again", to="hf")
    assert_same(weights_of(tmp_path / "again"), arrays)


def test_a_roberta_of_keras_hub_alone_gets_zeros_for_what_it_has_no_place_for(tmp_path: Path) -> None:
    folder, arrays = roberta(tmp_path / "hf")
    interlingua.convert(folder, tmp_path / "hub", to="keras-hub", residue="drop")
    result = interlingua.convert(tmp_path / "hub", tmp_path / "again", to="hf")
    found = weights_of(tmp_path / "again")
    types, positions = (name.removeprefix("roberta.") for name in (TYPES, POSITIONS))
    assert found[types].shape == (1, 12)
    assert not found[types].any()
    assert not found[positions][:2].any()
    assert np.array_equal(found[positions][2:], arrays[POSITIONS][2:])
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    stated = [config[key] for key in ("max_position_embeddings", "type_vocab_size", "pad_token_id", "layer_norm_eps")]
    assert stated == [17, 1, 1, 1e-5]
    notes = " ".join(result.plan.notes)
    assert "embeddings.token_type_embeddings.weight is zeros: KerasHub has none" in notes
    assert "The first 2 rows of embeddings.position_embeddings.weight are zeros" in notes


@pytest.mark.parametrize(
    ("value", "much"), [(0.0, "which is nothing, since it is zeros"), (0.25, "up to 0.25 an element")]
)
def test_the_plan_says_how_much_token_types_add_that_a_backbone_has_no_place_for(
    tmp_path: Path, value: float, much: str
) -> None:
    folder, _ = roberta(tmp_path / "hf", {TYPES: value})
    notes = " ".join(interlingua.convert(folder, tmp_path / "hub", to="keras-hub").plan.notes)
    assert "embeddings.token_type_embeddings.weight is left out: KerasHub has none" in notes
    assert much in notes


def test_a_roberta_that_pads_with_another_token_is_refused(tmp_path: Path) -> None:
    folder, _ = roberta(tmp_path / "hf", pad_token_id=3)
    with pytest.raises(MappingError, match="its first position is row 4") as caught:
        interlingua.convert(folder, tmp_path / "hub", to="keras-hub")
    assert caught.value.names == ("embeddings.position_embeddings.weight",)
    assert not (tmp_path / "hub").exists()


def test_a_roberta_of_transformers_without_token_types_is_incomplete(tmp_path: Path) -> None:
    folder, arrays = roberta(tmp_path / "hf")
    (folder / "model.safetensors").unlink()
    write(folder / "model.safetensors", {name: array for name, array in arrays.items() if name != TYPES}, "safetensors")
    with pytest.raises(MappingError, match="lacks 1 tensor of a roberta"):
        interlingua.convert(folder, tmp_path / "hub", to="keras-hub")


def test_electras_pooler_in_keras_hub_is_zeros_and_comes_back_as_it_was_trained(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "hf", FAMILIES["electra"], (), 4)
    result = interlingua.convert(folder, tmp_path / "hub", to="keras-hub", residue="drop")
    found = read(tmp_path / "hub" / "model.weights.h5")
    assert (found["layers/dense/vars/0"].shape, found["layers/dense_1/vars/0"].shape) == ((7, 12), (12, 12))
    assert not found["layers/dense_1/vars/0"].any()
    assert not found["layers/dense_1/vars/1"].any()
    assert any("layers/dense_1/vars/0, layers/dense_1/vars/1, which the source has not" in n for n in result.plan.notes)
    trained = {**found, "layers/dense_1/vars/0": found["layers/dense_1/vars/0"] + 3}
    (tmp_path / "hub" / "model.weights.h5").unlink()
    write(tmp_path / "hub" / "model.weights.h5", trained, "keras-weights-hdf5")
    interlingua.convert(tmp_path / "hub", tmp_path / "again", to="hf")
    interlingua.convert(tmp_path / "again", tmp_path / "back", to="keras-hub")
    assert_same(read(tmp_path / "back" / "model.weights.h5"), trained)


def test_parity_holds_no_row_against_a_system_that_has_none(tmp_path: Path) -> None:
    folder, _ = roberta(tmp_path / "hf", {TYPES: 0.0})
    interlingua.convert(folder, tmp_path / "hub", to="keras-hub")
    with interlingua.open(folder) as a, interlingua.open(tmp_path / "hub") as b:
        gate, notes = compare_weights(open_side(a), open_side(b))
    assert gate.differences == ()
    assert any("no place for the first rows of embeddings.position_embeddings.weight" in note for note in notes)
    table = read(tmp_path / "hub" / "model.weights.h5")
    (tmp_path / "hub" / "model.weights.h5").unlink()
    write(tmp_path / "hub" / "model.weights.h5", {**table, TABLE: table[TABLE] + 1}, "keras-weights-hdf5")
    with interlingua.open(folder) as a, interlingua.open(tmp_path / "hub") as b:
        gate, _ = compare_weights(open_side(b), open_side(a))
    assert [name for name, *_ in gate.differences] == ["embeddings.position_embeddings.weight"]


def test_a_byte_level_vocabulary_goes_to_its_place_and_comes_back(tmp_path: Path) -> None:
    folder, _ = roberta(tmp_path / "hf")
    (folder / "vocab.txt").unlink()
    (folder / "vocab.json").write_text('{"<s>": 0, "<pad>": 1, "a": 2}')
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    interlingua.convert(folder, tmp_path / "hub", to="keras-hub")
    assets = tmp_path / "hub" / "assets" / "tokenizer"
    assert sorted(file.name for file in assets.iterdir()) == ["merges.txt", "vocabulary.json"]
    cut = json.loads((tmp_path / "hub" / "tokenizer.json").read_text())
    assert (cut["class_name"], cut["config"]["add_prefix_space"]) == ("RobertaTokenizer", True)
    interlingua.convert(tmp_path / "hub", tmp_path / "again", to="hf", residue="drop")
    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())["add_prefix_space"] is True


def test_a_model_of_pieces_has_the_name_that_its_familys_tokenizer_wants(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "first", FAMILIES["xlm-roberta"], ("masked_lm",), 5)
    (folder / "vocab.txt").unlink()
    (folder / "sentencepiece.bpe.model").write_bytes(b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    interlingua.convert(folder, tmp_path / "hub", to="keras-hub")
    pieces = tmp_path / "hub" / "assets" / "tokenizer" / "vocabulary.spm"
    assert pieces.read_bytes() == (folder / "sentencepiece.bpe.model").read_bytes()
    assert json.loads((tmp_path / "hub" / "tokenizer.json").read_text())["class_name"] == "XLMRobertaTokenizer"
    for dialect in ("hf", "mindnlp", "hf-tf", "sentence-transformers"):
        interlingua.convert(tmp_path / "hub", tmp_path / dialect, to=dialect, residue="drop")
        assert (tmp_path / dialect / "sentencepiece.bpe.model").read_bytes() == pieces.read_bytes()


def test_an_electra_of_one_width_has_its_pooler_where_others_have_their_projection(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "hf", FAMILIES["electra"], (), 6)
    arrays = read(folder / "model.safetensors")
    wide = {
        name: np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, 5)], mode="reflect") for name, array in arrays.items()
    }
    arrays |= {name: wide[name] for name in arrays if name.startswith("embeddings.")}
    arrays = {name: array for name, array in arrays.items() if not name.startswith("embeddings_project.")}
    (folder / "model.safetensors").unlink()
    write(folder / "model.safetensors", arrays, "safetensors")
    native = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**native, "embedding_size": 12}))
    interlingua.convert(folder, tmp_path / "hub", to="keras-hub", residue="drop")
    found = read(tmp_path / "hub" / "model.weights.h5")
    assert not found["layers/dense/vars/0"].any()
    assert not any(name.startswith("layers/dense_1/") for name in found)
    interlingua.convert(tmp_path / "hub", tmp_path / "again", to="hf")
    assert_same(weights_of(tmp_path / "again"), arrays)
