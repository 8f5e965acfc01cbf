"""HDF5 files that are written, by what both writers have in common: h5py reads them back bit for bit."""

from __future__ import annotations

import os
import threading
import tracemalloc

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import MappingError, OutputError
from interlingua.formats import keras_hdf5, keras_weights_hdf5
from interlingua.formats.base import TensorSpec, write_at
from interlingua.formats.dtypes import DTYPES, FLOAT32, from_numpy_dtype
from tests.formats.strategies import ALL, Case, arrays, equal_bits

WRITERS = pytest.mark.parametrize("module", [keras_hdf5, keras_weights_hdf5], ids=["keras-hdf5", "keras-weights-hdf5"])
PARTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=9
)
NAMES = st.lists(PARTS.filter(lambda part: part != "."), min_size=2, max_size=4).map("/".join)


@st.composite
def written(draw: st.DrawFn) -> Case:
    names = draw(st.lists(NAMES, max_size=8, unique=True))
    kept = [name for name in names if not any(name.startswith(f"{other}/") for other in names)]
    dtypes = [name for name in ALL if name != "bfloat16"]
    return Case({name: draw(arrays(dtypes)) for name in kept})


def save(module, path, case, **kwargs):
    with module.open_writer(path, case.specs, **kwargs) as writer:
        for name, array in reversed(case.arrays.items()):
            writer.write(name, array.tobytes())
        writer.finish()
    return path


@WRITERS
@settings(max_examples=50)
@given(case=written())
def test_h5py_and_we_read_what_was_written(tmp_path_factory, module, case):
    folder = tmp_path_factory.mktemp("h5")
    path = save(module, folder / "x.h5", case)
    with h5py.File(path) as file, module.open_reader(path) as reader:
        assert set(reader.tensors) == set(case.arrays)
        for name, array in case.arrays.items():
            found = np.asarray(file[name][()], file[name].dtype)
            assert equal_bits(found, array)
            assert equal_bits(reader.read(name), array)
            assert sum(extent.nbytes for extent in reader.extents(name)) == array.nbytes
    assert save(module, folder / "again.h5", case).read_bytes() == path.read_bytes()


@WRITERS
def test_tensors_lie_in_their_order_where_they_can_be_mapped(tmp_path, module):
    specs = [TensorSpec(f"layer/{name}", FLOAT32, shape) for name, shape in (("z", (3,)), ("a", ()), ("b", (5, 7)))]
    with module.open_writer(tmp_path / "x.h5", specs) as writer:
        assert list(writer.offsets.values()) == [128, 192, 256]
        writer.finish()
    with h5py.File(tmp_path / "x.h5") as file:
        assert {spec.name: file[spec.name].id.get_offset() for spec in specs} == writer.offsets


@WRITERS
def test_data_may_come_in_pieces_from_several_threads(tmp_path, module):
    data = np.arange(1 << 16, dtype="f4")
    specs = [TensorSpec(f"layer/{n}", FLOAT32, data.shape) for n in range(4)]

    def work(writer, n):
        with writer.slot(f"layer/{n}") as slot:
            raw = (data + n).tobytes()
            for start in reversed(range(0, len(raw), 50_000)):
                write_at(slot.fd, slot.offset + start, raw[start : start + 50_000])
        writer.seal(f"layer/{n}", None)

    with module.open_writer(tmp_path / "x.h5", specs) as writer:
        threads = [threading.Thread(target=work, args=(writer, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.finish()
    with h5py.File(tmp_path / "x.h5") as file:
        assert all(np.array_equal(file[f"layer/{n}"], data + n) for n in range(4))


@WRITERS
def test_large_tensors_take_no_memory(tmp_path, module):
    specs = [TensorSpec("layer/large", FLOAT32, (3 << 28,)), TensorSpec("layer/larger", FLOAT32, (5, 1 << 28))]
    tracemalloc.start()
    try:
        with module.open_writer(tmp_path / "x.h5", specs) as writer:
            for spec in specs:
                with writer.slot(spec.name) as slot:
                    write_at(slot.fd, slot.offset + spec.nbytes - 4, np.float32(spec.elements).tobytes())
            writer.finish()
        with module.open_reader(tmp_path / "x.h5") as reader:
            assert reader.tensors == {spec.name: spec for spec in specs}
            for spec in specs:
                end = memoryview(bytearray(1 << 20))
                reader.read_into(spec.name, spec.nbytes - len(end), end)
                assert np.frombuffer(end, "f4")[-1] == spec.elements
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["layer/larger"][4, -1] == specs[1].elements
    assert (tmp_path / "x.h5").stat().st_blocks * 512 < 1 << 20


@WRITERS
def test_a_file_that_exists_is_left_alone(tmp_path, module):
    (tmp_path / "x.h5").write_bytes(b"mine")
    with pytest.raises(OutputError, match="cannot be created"):
        module.open_writer(tmp_path / "x.h5", [])
    assert (tmp_path / "x.h5").read_bytes() == b"mine"


@WRITERS
def test_a_disk_that_refuses_is_reported(tmp_path, module, monkeypatch):
    opened = []

    def refuse(fd, *_args):
        opened.append(fd)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(OutputError, match="No space left on device"):
        module.open_writer(tmp_path / "x.h5", [])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


@WRITERS
@pytest.mark.parametrize(
    "name", ["a//b", "/a", "a/", "a/./b", "a/\0", "a/\ud800", "", f"a/{'b' * 70_000}", "a/" * 64 + "a"]
)
def test_names_that_hdf5_cannot_have_are_refused(tmp_path, module, name):
    with pytest.raises(MappingError, match="cannot be the path") as caught:
        module.open_writer(tmp_path / "x.h5", [TensorSpec(name, FLOAT32, ())])
    assert caught.value.names == (name,)
    assert not (tmp_path / "x.h5").exists()


@WRITERS
def test_a_tensor_inside_a_tensor_is_refused(tmp_path, module):
    specs = [TensorSpec("a/b/c/d", FLOAT32, ()), TensorSpec("a/b", FLOAT32, ())]
    with pytest.raises(MappingError, match="'a/b/c' cannot be the path"):
        module.open_writer(tmp_path / "x.h5", specs)


@WRITERS
def test_element_types_that_could_not_be_told_again_are_refused(tmp_path, module):
    known = {from_numpy_dtype(np.dtype(name)).name for name in ALL if name != "bfloat16"} | {"bfloat16"}
    for dtype in set(DTYPES.values()) - {DTYPES[name] for name in known}:
        with pytest.raises(MappingError, match="has no element type"):
            module.open_writer(tmp_path / "x.h5", [TensorSpec("a/b", dtype, (), encoded=0)])


@WRITERS
def test_nothing_is_shared_under_two_names(tmp_path, module):
    with pytest.raises(ValueError, match="cannot share"):
        module.open_writer(tmp_path / "x.h5", [TensorSpec("a/b", FLOAT32, ())], ties={"a/c": "a/b"})
