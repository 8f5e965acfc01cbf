"""Keras 3's layout of HDF5."""

from __future__ import annotations

import json
import random

import h5py
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError, MappingError
from interlingua.formats import registry
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import BFLOAT16, FLOAT32
from interlingua.formats.keras_weights_hdf5 import KerasWeightsReader, open_reader, open_writer, sniff
from tests.formats.hdf5_files import write
from tests.formats.hostile import check_reader, damaged
from tests.formats.strategies import arrays, equal_bits

NAMES = {"layers/dense/vars": "my dense", "layers/dropout/vars": "rest", "vars": "model"}


def save(path, specs, names=None):
    with open_writer(path, specs, metadata={} if names is None else {"names": json.dumps(names)}) as writer:
        for spec in specs:
            writer.write(spec.name, bytes(spec.nbytes))
        writer.finish()
    return path


def test_names_of_layers_go_through(tmp_path):
    specs = [TensorSpec(f"layers/dense/vars/{index}", FLOAT32, (2,)) for index in range(2)]
    path = save(tmp_path / "x.h5", specs, NAMES)
    with h5py.File(path) as file:
        assert {path: file[path].attrs["name"] for path in NAMES} == NAMES
        assert all(isinstance(file[path].attrs["name"], str) for path in NAMES)
        assert list(file["layers/dropout/vars"]) == []
    with open_reader(path) as reader:
        assert reader.names == NAMES
        assert json.loads(reader.metadata["names"]) == NAMES
        assert list(reader.tensors.values()) == specs


@settings(max_examples=30)
@given(values=st.lists(arrays(["bfloat16", "float32", "bool"]), max_size=4))
def test_bfloat16_is_marked_as_keras_marks_it(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("h5") / "x.h5"
    specs = {
        f"layer/vars/{index}": TensorSpec(
            f"layer/vars/{index}", BFLOAT16 if array.dtype.kind == "V" else from_array(array), array.shape
        )
        for index, array in enumerate(values)
    }
    with open_writer(path, list(specs.values())) as writer:
        for name, array in zip(specs, values, strict=True):
            writer.write(name, array.tobytes())
        writer.finish()
    with h5py.File(path) as file, open_reader(path) as reader:
        for name, array in zip(specs, values, strict=True):
            assert equal_bits(reader.read(name), array)
            dataset = file[name]
            assert dataset.attrs.get("dtype") == ("bfloat16" if array.dtype == ml_dtypes.bfloat16 else None)
            found = np.array(dataset, dtype=ml_dtypes.bfloat16) if "dtype" in dataset.attrs else dataset[()]
            assert np.asarray(found).tobytes() == array.tobytes()


def from_array(array):
    from interlingua.formats.dtypes import from_numpy_dtype

    return from_numpy_dtype(array.dtype)


def test_two_bytes_that_nobody_marked_are_bfloat16(tmp_path):
    """As tf_keras writes them."""
    values = np.arange(5).astype(ml_dtypes.bfloat16)
    with open_reader(write(tmp_path / "x.h5", lambda file: file.create_dataset("a/vars/0", data=values))) as reader:
        assert equal_bits(reader.read("a/vars/0"), values)


def test_variables_that_are_no_tensors_are_refused(tmp_path):
    with pytest.raises(FormatError, match="variable 'a/vars/0', whose elements are of a variable-length string type"):
        open_reader(write(tmp_path / "x.h5", lambda file: file.create_dataset("a/vars/0", data="text")))


def test_what_lies_outside_of_variables_is_kept(tmp_path):
    def fill(file):
        file["a/vars/0"] = np.arange(3.0)
        file["a/more"] = np.arange(3.0)
        file["a/text"] = "text"

    with open_reader(write(tmp_path / "x.h5", fill)) as reader:
        assert list(reader.tensors) == ["a/more", "a/vars/0"]
        assert reader.objects == {"a/text": "<not a tensor: variable-length string>"}


def test_groups_of_variables_are_recognised(tmp_path):
    path = tmp_path / "x.h5"
    assert sniff(registry.probe(write(path, lambda file: file.create_group("vars"))))
    assert sniff(registry.probe(write(path, lambda file: file.create_group("a/b/c/vars"))))
    assert not sniff(registry.probe(write(path, lambda file: file.create_group("a/b/cvars"))))
    path.write_bytes(path.read_bytes()[:150])
    assert not sniff(registry.probe(path))
    path.write_bytes(b"text")
    assert not sniff(registry.probe(path))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("[", "is no JSON"),
        ("[]", "does not give names"),
        ('{"vars": 1}', "does not give names"),
        ('{"a//vars": "x"}', "cannot be the path"),
        ('{"\\ud800": "x"}', "is no JSON"),
        ('{"a/vars/0": "x"}', "cannot be the path"),
        ('{"a/vars/0/vars": "x"}', "cannot be the path"),
    ],
)
def test_metadata_that_does_not_name_groups_is_refused(tmp_path, names, message):
    with pytest.raises(MappingError, match=message):
        open_writer(tmp_path / "x.h5", [TensorSpec("a/vars/0", FLOAT32, ())], metadata={"names": names})


def test_damaged_files_are_read_or_refused_and_nothing_else(tmp_path):
    specs = [TensorSpec(f"layers/dense_{index}/vars/0", BFLOAT16 if index % 2 else FLOAT32, (3,)) for index in range(9)]
    path = save(tmp_path / "x.h5", specs, {f"layers/dense_{index}/vars": f"name {index}" for index in range(9)})
    data = path.read_bytes()
    rng = random.Random(2)
    assert check_reader(KerasWeightsReader, path)
    for _ in range(150):
        path.write_bytes(damaged(data, rng))
        check_reader(KerasWeightsReader, path)
