"""Keras' older layout of HDF5: what a file lists, what it only has, and what it should not."""

from __future__ import annotations

import json
import random

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError, MappingError
from interlingua.formats import registry
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import BFLOAT16, FLOAT32
from interlingua.formats.keras_hdf5 import ATTRIBUTE_LIMIT, KerasReader, open_reader, open_writer, sniff
from tests.formats.hdf5_files import contents, write
from tests.formats.hostile import check_reader, damaged

X = np.arange(6, dtype="f4").reshape(2, 3)


def listed(path):
    with open_reader(path) as reader:
        return list(reader.tensors)


def save(path, names, metadata=None):
    specs = [TensorSpec(name, FLOAT32, X.shape) for name in names]
    with open_writer(path, specs, metadata=metadata) as writer:
        for index, name in enumerate(names):
            writer.write(name, (X + index).tobytes())
        writer.finish()
    return path


def test_a_whole_model_of_keras_2_is_read(fixtures_dir):
    path = fixtures_dir / "CyberZHG__keras-bert/tests/test_bert_fit.h5"
    expected = contents(path)
    with open_reader(path) as reader:
        assert {name if name.startswith("opt") else f"model_weights/{name}" for name in reader.tensors} == set(expected)
        for name in reader.tensors:
            found = reader.read(name)
            assert np.array_equal(found, expected[name if name.startswith("opt") else f"model_weights/{name}"])
        names = list(reader.tensors)
        assert names[0] == "Embedding-Token/Embedding-Token/embeddings:0"
        assert names[3:5] == [f"Embedding-Norm/Embedding-Norm/{part}:0" for part in ("gamma", "beta")]
        assert sum(name.startswith("optimizer_weights/") for name in names) == 619
        assert reader.metadata["keras_version"] == "2.2.4"
        assert json.loads(reader.objects["@model_config"])["class_name"] == "Model"


def test_weights_of_keras_1_are_read(fixtures_dir):
    path = fixtures_dir / "deeplearning4j__dl4j-test-resources/src/main/resources/keras/simple/cnn_tf_weights.h5"
    expected = contents(path)
    with open_reader(path) as reader:
        assert set(reader.tensors) == set(expected)
        assert list(reader.tensors)[:2] == [
            "convolution2d_1/convolution2d_1_W:0",
            "convolution2d_1/convolution2d_1_b:0",
        ]
        assert all(np.array_equal(reader.read(name), array) for name, array in expected.items())
        assert json.loads(reader.metadata["layer_names"])[2:4] == ["activation_1", "maxpooling2d_1"]


def test_tensors_come_in_the_order_that_the_file_lists(tmp_path):
    def fill(file):
        file.attrs["layer_names"] = [b"z", b"empty", b"a"]
        for layer in ("a", "z"):
            group = file.create_group(layer)
            group.attrs["weight_names"] = np.array([b"k:0", b"sub/b:0"])
            group["sub/b:0"] = group["k:0"] = X
            group["left over"] = X
        file.create_group("empty").attrs["weight_names"] = []
        file.create_group("top_level_model_weights").attrs["weight_names"] = ["scale:0"]
        file["top_level_model_weights/scale:0"] = 1.0
        file.create_group("optimizer_weights").attrs["weight_names"] = ["m:0"]
        file["optimizer_weights/m:0"] = 1.0

    assert listed(write(tmp_path / "x.h5", fill)) == [
        "z/k:0",
        "z/sub/b:0",
        "a/k:0",
        "a/sub/b:0",
        "top_level_model_weights/scale:0",
        "optimizer_weights/m:0",
        "a/left over",
        "z/left over",
    ]


def test_lists_in_parts_are_joined(tmp_path):
    def fill(file):
        file.attrs["layer_names0"] = [b"b"]
        file.attrs["layer_names1"] = [b"a"]
        for layer in "ab":
            file.create_group(layer)
            for part in range(12):
                file[layer].attrs[f"weight_names{part}"] = [f"{part}".encode()]
                file[layer][f"{part}"] = X

    expected = [f"{layer}/{part}" for layer in "ba" for part in range(12)]
    assert listed(write(tmp_path / "x.h5", fill)) == expected


def test_a_layer_that_is_listed_a_hundred_thousand_times_is_read_once(tmp_path):
    def fill(file):
        file["a/k"] = X
        for part in range(5):
            file.attrs[f"layer_names{part}"] = np.full(20_000, b"a")
            file["a"].attrs[f"weight_names{part}"] = np.full(20_000, b"k")

    assert listed(write(tmp_path / "x.h5", fill)) == ["a/k"]


def test_a_layer_without_a_list_of_weights_has_those_below_it(tmp_path):
    def fill(file):
        file.attrs["layer_names"] = [b"a"]
        file["a/kernel"] = X

    assert listed(write(tmp_path / "x.h5", fill)) == ["a/kernel"]


def test_what_a_list_lacks_or_lists_in_vain_is_refused(tmp_path):
    cases = {
        "lists the layer 'b', which it lacks": lambda file: file.attrs.create("layer_names", [b"b"]),
        "lists the weight 'a/bias', which it lacks": lambda file: file["a"].attrs.create("weight_names", [b"bias"]),
        "lists the weight 'a/sub', which it lacks": lambda file: file["a"].attrs.create("weight_names", [b"sub"]),
        "weight 'a/text', whose elements are of a variable-length string type": lambda file: file["a"].attrs.create(
            "weight_names", [b"text"]
        ),
        "no list of names in its attribute weight_names": lambda file: file["a"].attrs.create("weight_names", "k"),
        "no list of names in its attribute layer_names": lambda file: file.attrs.create("layer_names", [1, 2]),
    }
    for index, (message, spoil) in enumerate(cases.items()):

        def fill(file, spoil=spoil):
            file.attrs["layer_names"] = [b"a"]
            file["a/kernel"] = X
            file["a/sub/x"] = X
            file["a/text"] = "some"
            spoil(file)

        with pytest.raises(FormatError, match=message):
            open_reader(write(tmp_path / f"{index}.h5", fill))


def test_two_weights_of_one_name_are_refused(tmp_path):
    def fill(file):
        file["model_weights/optimizer_weights/m"] = X
        file["optimizer_weights/m"] = X

    with pytest.raises(FormatError, match="two weights of the name 'optimizer_weights/m'"):
        open_reader(write(tmp_path / "x.h5", fill))


def test_weights_are_not_taken_for_a_model_because_of_a_layer_of_that_name(tmp_path):
    def fill(file):
        file.attrs["layer_names"] = [b"model_weights"]
        file["model_weights/k"] = X

    assert listed(write(tmp_path / "x.h5", fill)) == ["model_weights/k"]


def test_layers_and_models_are_recognised(tmp_path):
    def recognised(fill):
        path = tmp_path / "x.h5"
        return sniff(registry.probe(write(path, fill)))

    assert recognised(lambda file: file.attrs.create("layer_names", [b"a"]))
    assert recognised(lambda file: file.attrs.create("layer_names0", [b"a"]))
    assert recognised(lambda file: file.create_group("model_weights"))
    assert not recognised(lambda file: file.create_group("a").attrs.create("layer_names", [b"a"]))
    path = write(tmp_path / "x.h5", lambda file: file.create_group("model_weights"))
    path.write_bytes(path.read_bytes()[:150])
    assert not sniff(registry.probe(path))
    path.write_bytes(b"text")
    assert not sniff(registry.probe(path))


LAYERS = st.text("abcdefgh_.0123456789", min_size=1, max_size=6).filter(lambda name: name != ".")


@settings(max_examples=60)
@given(
    names=st.lists(st.tuples(LAYERS, LAYERS, LAYERS).map("/".join), max_size=12, unique=True),
    empty=st.lists(LAYERS, max_size=4, unique=True),
)
def test_what_is_written_is_listed_as_keras_lists_it(tmp_path_factory, names, empty):
    """Read with nothing but the two attributes, as Keras does: layers in order, in each its weights in order."""
    layers = list(dict.fromkeys([*empty, *(name.split("/")[0] for name in names)]))
    path = save(tmp_path_factory.mktemp("h5") / "x.h5", names, {"layer_names": json.dumps(empty)})
    found = {}
    with h5py.File(path) as file:
        assert [layer.decode() for layer in file.attrs["layer_names"]] == layers
        for layer in layers:
            for weight in file[layer].attrs["weight_names"]:
                found[f"{layer}/{weight.decode()}"] = file[layer][weight.decode()][()].tolist()
        assert file["top_level_model_weights"].attrs["weight_names"].tolist() == []
        assert file.attrs["backend"] == "tensorflow"
        assert file.attrs["keras_version"] == "2.15.0"
    ordered = sorted(range(len(names)), key=lambda index: layers.index(names[index].split("/")[0]))
    assert list(found.items()) == [(names[index], (X + index).tolist()) for index in ordered]


def test_layers_with_slashes_are_told_by_the_list(tmp_path):
    names = ["block/conv/block/conv/kernel:0", "block/block/kernel:0", "block/x/conv/k"]
    metadata = {"layer_names": '["block/conv", "block"]', "backend": "jax", "keras_version": "3.0.0"}
    path = save(tmp_path / "x.h5", names, metadata)
    with h5py.File(path) as file:
        assert file["block/conv"].attrs["weight_names"].tolist() == [b"block/conv/kernel:0"]
        assert file["block"].attrs["weight_names"].tolist() == [b"block/kernel:0", b"x/conv/k"]
    with open_reader(path) as reader:
        assert {**reader.metadata, "layer_names": json.loads(reader.metadata["layer_names"])} == {
            **metadata,
            "layer_names": ["block/conv", "block"],
        }
        assert list(reader.tensors) == names


def test_weights_outside_the_layers_are_not_listed_as_a_layer(tmp_path):
    path = save(tmp_path / "x.h5", ["a/k", "top_level_model_weights/scale", "optimizer_weights/m"])
    with h5py.File(path) as file:
        assert file.attrs["layer_names"].tolist() == [b"a"]
        assert file["top_level_model_weights"].attrs["weight_names"].tolist() == [b"scale"]
        assert file["optimizer_weights"].attrs["weight_names"].tolist() == [b"m"]


def test_weights_that_are_their_own_layers_are_a_shard_of_transformers(tmp_path):
    names = ["bert/pooler/dense/kernel:0", "bert/embeddings/x:0"]
    path = save(tmp_path / "x.h5", names, {"layer_names": json.dumps(names)})
    with h5py.File(path) as file:
        assert list(file.attrs) == ["layer_names"]
        assert list(file) == ["bert"]
        assert [name.decode() for name in file.attrs["layer_names"]] == names
    assert listed(path) == names


def test_long_lists_are_cut_as_keras_cuts_them(tmp_path):
    names = [f"layer/{'é' * 300}/{index}" for index in range(250)]
    path = save(tmp_path / "x.h5", names)
    with h5py.File(path) as file:
        attributes = file["layer"].attrs
        assert sorted(attributes) == ["weight_names0", "weight_names1", "weight_names2"]
        assert all(attributes[part].nbytes <= ATTRIBUTE_LIMIT for part in attributes)
    assert listed(path) == names


def test_lists_that_do_not_divide_evenly_are_cut_once_more(tmp_path):
    names = [f"layer/{'x' * 24_990}/{index}" for index in range(5)]
    path = save(tmp_path / "x.h5", names)
    with h5py.File(path) as file:
        assert [len(file["layer"].attrs[f"weight_names{part}"]) for part in range(3)] == [2, 2, 1]
    assert listed(path) == names


def test_a_name_too_long_for_any_attribute_is_refused(tmp_path):
    with pytest.raises(MappingError, match="cannot be the path"):
        save(tmp_path / "x.h5", ["/".join(["layer", *["x" * 40_000] * 2])])


def test_a_name_without_a_layer_is_its_own(tmp_path):
    save(tmp_path / "x.h5", ["embeddings.word.weight", "dense/kernel:0"])
    assert listed(tmp_path / "x.h5") == ["embeddings.word.weight", "dense/kernel:0"]


def test_a_tensor_and_a_layer_of_one_name_are_refused(tmp_path):
    with pytest.raises(MappingError, match="'dense' cannot be the path"):
        save(tmp_path / "x.h5", ["dense", "dense/kernel:0"])
    assert not (tmp_path / "x.h5").exists()


def test_bfloat16_that_keras_could_not_load_again_is_refused(tmp_path):
    with pytest.raises(MappingError, match="no element type bfloat16"):
        open_writer(tmp_path / "x.h5", [TensorSpec("a/b", BFLOAT16, ())])


@pytest.mark.parametrize("layers", ["[", "{}", '["a", 1]', "[" * 100_000, '"a"'])
def test_metadata_that_is_no_list_of_layers_is_refused(tmp_path, layers):
    with pytest.raises(MappingError, match="The metadata layer_names"):
        save(tmp_path / "x.h5", ["a/b"], {"layer_names": layers})


def test_a_layer_that_hdf5_cannot_name_is_refused(tmp_path):
    for layer in ("a//b", "", "\ud800", "a/b/c"):
        with pytest.raises(MappingError):
            save(tmp_path / "x.h5", ["a/b"], {"layer_names": json.dumps([layer])})
        assert not (tmp_path / "x.h5").exists()


def test_damaged_files_are_read_or_refused_and_nothing_else(tmp_path):
    names = [f"layer_{index % 5}/dense/{index}:0" for index in range(30)]
    path = save(tmp_path / "x.h5", names)
    data = path.read_bytes()
    rng = random.Random(1)
    assert check_reader(KerasReader, path)
    for _ in range(200):
        path.write_bytes(damaged(data, rng))
        check_reader(KerasReader, path)
