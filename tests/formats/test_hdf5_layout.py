"""Where the structures of HDF5 files go: h5py finds all of them, and can add to them."""

from __future__ import annotations

import re
import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.formats import hdf5
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import FLOAT32, INT16
from interlingua.formats.hdf5 import MAX_DEPTH
from interlingua.formats.hdf5_encoding import UNDEFINED
from interlingua.formats.hdf5_layout import SUPERBLOCK, lay_out

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50)
PARTS = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=5)
PATHS = st.lists(PARTS.filter(lambda part: part != "."), min_size=1, max_size=4).map("/".join)


def save(path, names, attributes=None):
    """Write datasets of one int16 each, which is their number."""
    offsets = {name: SUPERBLOCK + 2 * number for number, name in enumerate(names)}
    specs = {name: TensorSpec(name, INT16, ()) for name in names}
    data = np.arange(len(names), dtype="<i2").tobytes()
    data += bytes(-len(data) % 8)
    superblock, structures = lay_out(specs, offsets, attributes or {}, SUPERBLOCK + len(data))
    assert len(superblock) == SUPERBLOCK
    path.write_bytes(superblock + data + structures)
    return path


def shuffled(names):
    return [str(name) for name in np.random.default_rng(0).permutation(names)]


# A table holds 8 links, a node leads to 32: the numbers around which a tree has one more of either, or one more level.
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 16, 17, 33, 255, 256, 257, 1000, 8192, 8193, 20000])
def test_every_one_of_many_links_is_found(tmp_path, count):
    names = shuffled([f"{number % 7}.{number}" for number in range(count)])
    path = save(tmp_path / "x.h5", names)
    with h5py.File(path) as file:
        assert list(file) == sorted(names)
        assert all(name in file for name in names)
        assert not any(name + "0.5" in file for name in names[:100])
        for number in range(0, count, 1 + count // 300):
            assert file[names[number]][()] == number
        assert file.id.get_filesize() == path.stat().st_size
    with hdf5.open_reader(path) as reader:
        assert list(reader.tensors) == sorted(names)
        for number in range(0, count, 1 + count // 300):
            assert reader.read(names[number]) == number


@pytest.mark.parametrize("count", [0, 1, 257, 8193])
def test_nodes_of_a_tree_know_their_neighbours(tmp_path, count):
    """Which libhdf5 goes by when it takes links out, and other readers when they list them."""
    data = save(tmp_path / "x.h5", [f"{number}" for number in range(count)]).read_bytes()
    nodes = {}
    for found in re.finditer(b"TREE", data):
        level, children, left, right = struct.unpack_from("<BHQQ", data, found.end() + 1)
        nodes.setdefault(level, []).append((found.start(), children, left, right))
    assert len(nodes[max(nodes)]) == 1
    for level, row in nodes.items():
        addresses = [UNDEFINED, *(address for address, *_ in row), UNDEFINED]
        assert [left for _, _, left, _ in row] == addresses[:-2]
        assert [right for *_, right in row] == addresses[2:]
        assert sum(children for _, children, *_ in row) == (len(nodes[level - 1]) if level else -(-count // 8))


@pytest.mark.parametrize("count", [0, 1, 8, 256, 257, 8192])
def test_h5py_can_add_to_what_was_written(tmp_path, count):
    names = shuffled([f"old {number}" for number in range(count)])
    path = save(tmp_path / "x.h5", names, {"": {"text": "here"}, "group/inner": {"list": [b"a", b"bc"]}})
    with h5py.File(path, "a") as file:
        for number in range(300):
            file.create_dataset(f"new {number}", data=np.full(9, number))
            file.create_dataset(f"group/new {number}", data=number, chunks=None)
        file.create_group("added/ü/deep")
        file["group"].attrs["text"] = "x" * 5000
        file["group/inner"].attrs["list"] = [1, 2, 3]
        file["group/inner"].attrs["texts"] = ["a", "b" * 100]
        for name in names[:1]:
            file[name].attrs["more"] = "é"
            file[name][()] = -1
        for name in names[1:50]:
            del file[name]
    with h5py.File(path) as file:
        assert set(file) == {"added", "group", *(f"new {n}" for n in range(300)), *names[:1], *names[50:]}
        assert all(np.array_equal(file[f"new {n}"], np.full(9, n)) for n in range(300))
        assert all(file[f"group/new {n}"][()] == n for n in range(300))
        assert [file[name][()] for name in names[50:350]] == list(range(50, min(max(count, 50), 350)))
        assert [(file[name][()], file[name].attrs["more"]) for name in names[:1]] == [(-1, "é")] * (count > 0)
        assert file.attrs["text"] == "here"
        assert file["group"].attrs["text"] == "x" * 5000
        assert file["group/inner"].attrs["list"].tolist() == [1, 2, 3]
        assert file["group/inner"].attrs["texts"].tolist() == ["a", "b" * 100]
        assert list(file["added/ü"]) == ["deep"]
    with hdf5.open_reader(path) as reader:
        assert len(reader.tensors) == 600 + len(names[:1]) + len(names[50:])


@settings(max_examples=60)
@given(
    names=st.lists(PATHS, max_size=12, unique=True),
    attributes=st.dictionaries(PATHS, st.dictionaries(st.text("abc", min_size=1), TEXTS, max_size=4), max_size=8),
)
def test_paths_and_texts_of_all_kinds_are_found(tmp_path_factory, names, attributes):
    paths = {*names, *attributes}
    names = [name for name in names if not any(path.startswith(f"{name}/") for path in paths)]
    path = save(tmp_path_factory.mktemp("h5") / "x.h5", names, {"": {"root": "x"}, **attributes})
    with h5py.File(path) as file:
        assert all(file[name][()] == number for number, name in enumerate(names))
        assert dict(file.attrs) == {"root": "x"}
        for name, expected in attributes.items():
            assert dict(file[name].attrs) == expected
            assert isinstance(file[name], h5py.Dataset if name in names else h5py.Group)
    with hdf5.open_reader(path) as reader:
        assert {name: int(reader.read(name)) for name in reader.tensors} == {name: n for n, name in enumerate(names)}
        for group in set(attributes) - set(names):
            for key, value in attributes[group].items():
                assert reader.objects[f"{group}@{key}"] == value


# A collection of texts has 4096 bytes, of which each text takes 16 and the collection's head as many.
@pytest.mark.parametrize(
    "lengths", [[4064], [4065], [5, 4040, 1], [5, 4041, 4064, 1], [100_000, 1], [1] * 5000, [4056]]
)
def test_texts_fill_one_collection_after_the_other(tmp_path, lengths):
    texts = {f"{number}": {"t": chr(97 + number % 26) * length} for number, length in enumerate(lengths)}
    path = save(tmp_path / "x.h5", [], texts)
    data = path.read_bytes()
    assert {data[found.end() + 12 : found.end() + 16] for found in re.finditer(b"GCOL", data)} == {b"\1\0\1\0"}
    with h5py.File(path) as file:
        assert {name: dict(group.attrs) for name, group in file.items()} == texts
    with h5py.File(path, "a") as file:
        file.attrs["more"] = "y"
        file["0"].attrs["t"] = "z" * 4064
    with h5py.File(path) as file:
        assert file.attrs["more"] == "y"
        assert {name: dict(group.attrs) for name, group in file.items()} == {**texts, "0": {"t": "z" * 4064}}


def test_datasets_have_one_name_and_are_never_filled(tmp_path):
    with h5py.File(save(tmp_path / "x.h5", ["group/x"])) as file:
        assert [h5py.h5o.get_info(file[name].id).rc for name in ("/", "group", "group/x")] == [1, 1, 1]
        properties = file["group/x"].id.get_create_plist()
        assert properties.get_fill_time() == h5py.h5d.FILL_TIME_NEVER
        assert properties.get_alloc_time() == h5py.h5d.ALLOC_TIME_EARLY


def test_an_empty_text_is_kept_nowhere(tmp_path):
    path = save(tmp_path / "x.h5", [], {"": {"text": ""}})
    assert b"GCOL" not in path.read_bytes()
    with h5py.File(path) as file:
        assert file.attrs["text"] == ""


def test_as_deep_as_is_read_is_written(tmp_path):
    name = "/".join("g" * MAX_DEPTH)
    with h5py.File(save(tmp_path / "x.h5", [name])) as file, hdf5.open_reader(tmp_path / "x.h5") as reader:
        assert file[name][()] == 0
        assert list(reader.tensors) == [name]


def test_structures_take_linear_space():
    def size(count):
        specs = {f"{n:06}": TensorSpec(f"{n:06}", FLOAT32, (1, 2)) for n in range(count)}
        return len(lay_out(specs, dict.fromkeys(specs, 96), {}, 96)[1])

    assert size(20_000) < 10.1 * size(2_000) < 5_000_000


def test_neither_numpy_nor_libhdf5_is_loaded(tmp_path):
    code = """
import sys
from interlingua.formats import keras_hdf5, keras_weights_hdf5
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import FLOAT32
for module in (keras_hdf5, keras_weights_hdf5):
    with module.open_writer(f"{sys.argv[1]}/{module.__name__}", [TensorSpec("a/b", FLOAT32, (2,))]) as writer:
        writer.write("a/b", bytes(8))
        writer.finish()
print(sorted({"numpy", "h5py"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
