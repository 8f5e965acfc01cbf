"""safetensors, held against the implementation in Rust, and against files that lie."""

from __future__ import annotations

import ctypes
import json
import os
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError, MappingError
from interlingua.formats import registry, safetensors
from interlingua.formats.base import TensorSpec, write_at
from interlingua.formats.dtypes import DTYPES
from interlingua.formats.safetensors import CODES, SafetensorsReader, SafetensorsWriter
from tests.formats.hostile import check_reader, damaged
from tests.formats.strategies import WILD_NAMES, shapes

rust = pytest.importorskip("safetensors")

KNOWN_TO_RUST = {name: "float4_e2m1fn_x2" if name == "float4_e2m1fn" else name for name in CODES.values()}
KNOWN_TO_RUST = {name: theirs for name, theirs in KNOWN_TO_RUST.items() if not name.startswith("float6")}
METADATA = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=9), st.text(st.characters(codec="utf-8"), max_size=9), max_size=4
)

Tensors = dict[str, tuple[TensorSpec, bytes]]


@st.composite
def checkpoints(draw: st.DrawFn, types: tuple[str, ...] = tuple(CODES.values())) -> Tensors:
    """Tensors of arbitrary bytes, of every type that the format has."""
    found: Tensors = {}
    for name in draw(st.lists(WILD_NAMES.filter(lambda name: name != "__metadata__"), max_size=6, unique=True)):
        dtype = DTYPES[draw(st.sampled_from(types))]
        shape = draw(shapes(4))
        if dtype.bits < 8 and shape:
            shape = (*shape[:-1], shape[-1] * 4)
        elif dtype.bits < 8:
            dtype = DTYPES["uint8"]
        spec = TensorSpec(name, dtype, shape)
        found[name] = spec, random.Random(draw(st.integers(0, 1 << 30))).randbytes(spec.nbytes)
    return found


def rust_bytes(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> bytes:
    """The file as the implementation in Rust writes it."""
    buffers = {name: ctypes.create_string_buffer(data, max(1, len(data))) for name, (_, data) in tensors.items()}
    specs = {}
    for name, (spec, data) in tensors.items():
        shape = list(spec.shape)
        if spec.dtype.name == "float4_e2m1fn":
            shape[-1] //= 2  # It takes the shape of the bytes, of two elements each.
        specs[name] = rust.TensorSpec(
            dtype=KNOWN_TO_RUST[spec.dtype.name],
            shape=shape,
            data_ptr=ctypes.addressof(buffers[name]),
            data_len=len(data),
        )
    return rust.serialize(specs, dict(metadata) if metadata else None)


def write(path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> bytes:
    """The file as this project writes it, its tensors given in one order and filled in another."""
    with safetensors.open_writer(path, [spec for spec, _ in tensors.values()], metadata=metadata) as writer:
        for name, (_, data) in reversed(tensors.items()):
            with writer.slot(name) as slot:
                write_at(slot.fd, slot.offset, data)
            writer.seal(name, None)
        writer.finish()
    return path.read_bytes()


def read(path: Path) -> tuple[Tensors, dict[str, str]]:
    with safetensors.open_reader(path) as reader:
        found = {}
        for name, spec in reader.tensors.items():
            data = bytearray(spec.nbytes)
            reader.read_into(name, 0, memoryview(data))
            (extent,) = reader.extents(name)
            assert extent.file.read_at(extent.offset, extent.nbytes, name) == data
            found[name] = spec, bytes(data)
        return found, reader.metadata


def a_file(folder: Path, header: bytes | object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "a.safetensors"
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


@given(checkpoints(tuple(KNOWN_TO_RUST)), METADATA)
def test_what_rust_writes_is_read(tmp_path_factory, tensors: Tensors, metadata: dict[str, str]) -> None:
    path = tmp_path_factory.mktemp("rust") / "a"
    path.write_bytes(rust_bytes(tensors, metadata))
    assert read(path) == (tensors, metadata)


@given(checkpoints(), METADATA)
def test_what_is_written_is_read_by_rust(tmp_path_factory, tensors: Tensors, metadata: dict[str, str]) -> None:
    path = tmp_path_factory.mktemp("ours") / "a"
    data = write(path, tensors, metadata)
    found = {name: (entry["dtype"], entry["shape"], bytes(entry["data"])) for name, entry in rust.deserialize(data)}
    codes = {name: code for code, name in CODES.items()}
    assert found == {
        name: (codes[spec.dtype.name], list(spec.shape), content) for name, (spec, content) in tensors.items()
    }
    with rust.safe_open(path, framework="numpy") as file:
        assert (file.metadata() or {}) == metadata
    assert read(path) == (tensors, metadata)


@given(checkpoints(tuple(KNOWN_TO_RUST)), st.dictionaries(st.just("format"), st.just("pt")))
def test_the_bytes_are_those_of_rust(tmp_path_factory, tensors: Tensors, metadata: dict[str, str]) -> None:
    # (Where there is one entry of metadata at most: Rust keeps no order among several.)
    assert write(tmp_path_factory.mktemp("same") / "a", tensors, metadata) == rust_bytes(tensors, metadata)


@given(checkpoints(), METADATA, st.randoms(use_true_random=False))
def test_no_order_makes_another_file(tmp_path_factory, tensors: Tensors, metadata: dict[str, str], rng) -> None:
    folder = tmp_path_factory.mktemp("order")
    names, keys = list(tensors), list(metadata)
    first = write(folder / "a", tensors, metadata)
    rng.shuffle(names)
    rng.shuffle(keys)
    second = write(folder / "b", {n: tensors[n] for n in names}, {key: metadata[key] for key in keys})
    assert first == second


@pytest.mark.parametrize("code", CODES)
def test_every_type_of_the_format_has_the_width_that_rust_gives_it(tmp_path: Path, code: str) -> None:
    dtype = DTYPES[CODES[code]]
    nbytes = 24 * dtype.bits // 8
    path = a_file(
        tmp_path,
        {"a": {"dtype": code, "shape": [24], "data_offsets": [0, nbytes]}},
        bytes(range(nbytes)) if nbytes < 256 else bytes(nbytes),
    )
    ((_, theirs),) = rust.deserialize(path.read_bytes())
    tensors, _ = read(path)
    assert tensors == {"a": (TensorSpec("a", dtype, (24,)), bytes(theirs["data"]))}


def test_bytes_lie_where_the_layout_says(tmp_path: Path) -> None:
    tensors = {
        "b": (TensorSpec("b", DTYPES["uint8"], (3,)), b"\x01\x02\x03"),
        "c": (TensorSpec("c", DTYPES["float32"], (1,)), b"\x00\x00\x80\x3f"),
        "a": (TensorSpec("a", DTYPES["float32"], ()), b"\x00\x00\x00\x40"),
    }
    header = (
        b'{"__metadata__":{"a":"1","z":"\xc3\xa9"},'
        b'"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},'
        b'"c":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},'
        b'"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}'
    )
    header += b" " * (-len(header) % 8)
    expected = len(header).to_bytes(8, "little") + header + b"\x00\x00\x00\x40\x00\x00\x80\x3f\x01\x02\x03"
    assert write(tmp_path / "x", tensors, {"z": "é", "a": "1"}) == expected


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_the_mode_of_the_file_is_that_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write(tmp_path / "a", {})
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_the_order_of_the_file_is_kept(tmp_path: Path) -> None:
    entry = {"dtype": "U8", "shape": [1]}
    header = {"z": {**entry, "data_offsets": [1, 2]}, "a": {**entry, "data_offsets": [0, 1]}}
    with safetensors.open_reader(a_file(tmp_path, header, b"xy")) as reader:
        assert list(reader.tensors) == ["a", "z"]  # the order of the data


def test_a_name_that_the_format_takes_for_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MappingError) as caught:
        write(tmp_path / "a", {"__metadata__": (TensorSpec("__metadata__", DTYPES["uint8"], (1,)), b"x")})
    assert caught.value.names == ("__metadata__",)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["complex128", "string", "int4"])
def test_a_type_that_the_format_lacks_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(MappingError, match=f"no element type {name}, which 'the.one' has") as caught:
        SafetensorsWriter(tmp_path / "a", [TensorSpec("the.one", DTYPES[name], (1,))])
    assert caught.value.names == ("the.one",)
    assert not (tmp_path / "a").exists()


def test_two_tensors_of_one_name_and_ties_are_programming_errors(tmp_path: Path) -> None:
    spec = TensorSpec("a", DTYPES["uint8"], (1,))
    with pytest.raises(ValueError, match="two tensors"):
        SafetensorsWriter(tmp_path / "a", [spec, spec])
    with pytest.raises(ValueError, match="cannot share"):
        SafetensorsWriter(tmp_path / "a", [spec], ties={"b": "a"})


@pytest.mark.parametrize(
    "header",
    [
        b'{"__metadata__":null}',
        b"{}  \n\t ",
        b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"from a later version":{"x":[1]}}}',
        b'{"a":{"data_offsets":[0,0],"shape":[2,0],"dtype":"F64"}}',
        b'{"\\u00e9\\n\\"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
    ],
)
def test_headers_that_rust_takes_are_taken(tmp_path: Path, header: bytes) -> None:
    path = a_file(tmp_path, header)
    names = [name for name, _ in rust.deserialize(path.read_bytes())]
    assert list(read(path)[0]) == names


def entry(code: object = "U8", shape: object = (2,), offsets: object = (0, 2), **more: object) -> dict[str, object]:
    return {"dtype": code, "shape": shape, "data_offsets": offsets, **more}


TWO_BYTES = b'{"dtype":"U8","shape":[2],"data_offsets":[0,2]}'

HEADERS = {
    "not json": b'{"a"',
    "no object": b"[]",
    "a number": b"12345678",
    "leading space": b' {"a":1}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "not utf-8": b'{"\xff":1}',
    "utf-16": '{"a":1}'.encode("utf-16-le"),
    "nothing": b"",
    "nested too deeply": b'{"a":' * 50_000,
    "lists nested too deeply": b'{"a":' + b"[" * 50_000,
    "nested as deeply as it goes": b'{"a":{"dtype":"U8","data_offsets":[0,2],"shape":'
    + b"[" * 700
    + b"]" * 700
    + b"}}",
    "a name twice": b'{"a":' + TWO_BYTES + b',"a":' + TWO_BYTES + b"}",
    "a key of an entry twice": b'{"a":{"dtype":"U8","dtype":"I8","shape":[2],"data_offsets":[0,2]}}',
    "an entry that is a list": {"a": ["U8", [2], [0, 2]]},
    "an entry that is a string": {"a": "U8"},
    "no dtype": {"a": {"shape": [2], "data_offsets": [0, 2]}},
    "no shape": {"a": {"dtype": "U8", "data_offsets": [0, 2]}},
    "no offsets": {"a": {"dtype": "U8", "shape": [2]}},
    "an unknown dtype": {"a": entry("F7")},
    "a dtype in small letters": {"a": entry("u8")},
    "a dtype that is a list": {"a": entry(["U8"])},
    "a dtype that is null": {"a": entry(None)},
    "a shape that is a number": {"a": entry(shape=2)},
    "a shape that is an object": {"a": entry(shape={"0": 2})},
    "a fraction in the shape": {"a": entry(shape=[2.0])},
    "a text in the shape": {"a": entry(shape=["2"])},
    "a truth value in the shape": {"a": entry(shape=[2, True])},
    "a negative size": {"a": entry(shape=[-2])},
    "two negative sizes": {"a": entry(shape=[-1, -2])},
    "an infinite size": b'{"a":{"dtype":"U8","shape":[Infinity],"data_offsets":[0,2]}}',
    "a product that overflows 64 bits to the right value": {"a": entry(shape=[(1 << 63) + 1, 2])},
    "a product that overflows to zero": {"a": entry(shape=[1 << 32, 1 << 32], offsets=[0, 0])},
    "a size of thousands of digits": b'{"a":{"dtype":"U8","shape":[' + b"9" * 4000 + b'],"data_offsets":[0,2]}}',
    "a size of too many digits": b'{"a":{"dtype":"U8","shape":[' + b"9" * 9000 + b'],"data_offsets":[0,2]}}',
    "a product of thousands of digits": b'{"a":{"dtype":"U8","shape":['
    + b",".join([b"9" * 4000] * 30)
    + b'],"data_offsets":[0,2]}}',
    "an empty tensor of impossible sizes": {"a": entry(shape=[0, 1 << 63], offsets=[0, 0])},
    "too many axes": {"a": entry(shape=[1] * 1000)},
    "one offset": {"a": entry(offsets=[0])},
    "three offsets": {"a": entry(offsets=[0, 1, 2])},
    "offsets that are texts": {"a": entry(offsets=["0", "2"])},
    "a fraction in the offsets": {"a": entry(offsets=[0, 2.0])},
    "a truth value in the offsets": {
        "a": entry(shape=[1], offsets=[False, True]),
        "b": entry(shape=[1], offsets=[1, 2]),
    },
    "offsets in the wrong order": {"a": entry(offsets=[2, 0])},
    "a negative offset": {"a": entry(offsets=[-2, 0])},
    "offsets beyond the file": {"a": entry(shape=[3], offsets=[0, 3])},
    "offsets far beyond the file": {"a": entry(shape=[1 << 40], offsets=[0, 1 << 40])},
    "offsets that overflow": {"a": entry(offsets=[(1 << 64) - 2, 1 << 64])},
    "a size that is not the offsets'": {"a": entry("F32", [2])},
    "half a byte": {"a": entry("F4", [3])},
    "bits that fill no byte": {"a": entry("F6_E2M3", [2])},
    "two tensors in one place": {"a": entry(), "b": entry()},
    "an overlap": {"a": entry(), "b": entry(shape=[1], offsets=[1, 2])},
    "a hole in front": {"a": entry(shape=[1], offsets=[1, 2])},
    "a hole in the middle": {"a": entry(shape=[0], offsets=[0, 0]), "b": entry(shape=[1], offsets=[1, 2])},
    "an empty tensor inside another": {"a": entry(), "b": entry(shape=[0], offsets=[1, 1])},
    "bytes behind the last tensor": {"a": entry(shape=[1], offsets=[0, 1])},
    "no tensors, yet bytes": {},
    "metadata that is a list": {"__metadata__": [], "a": entry()},
    "metadata that is a text": {"__metadata__": "pt", "a": entry()},
    "a number in the metadata": {"__metadata__": {"format": 1}, "a": entry()},
    "an object in the metadata": {"__metadata__": {"format": {}}, "a": entry()},
    "half a surrogate pair in a name": b'{"\\ud800":' + TWO_BYTES + b"}",
    "half a surrogate pair in the metadata": b'{"__metadata__":{"a":"\\udfff"},"a":' + TWO_BYTES + b"}",
    "half a surrogate pair in a key of the metadata": b'{"__metadata__":{"\\udfff":""},"a":' + TWO_BYTES + b"}",
    "something behind the object": b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}{}',
    "zeros behind the object": b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}\0\0',
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_a_header_that_lies_is_refused(tmp_path: Path, header: object) -> None:
    path = a_file(tmp_path, header, b"xy")
    with pytest.raises(FormatError) as caught:
        SafetensorsReader(path)
    assert caught.value.path == path
    assert caught.value.offset is not None
    assert str(caught.value).startswith(f"{path}: ")
    assert not check_reader(SafetensorsReader, path)


@pytest.mark.parametrize(
    "length", [0, 1, 3, 59, 61, 1 << 20, safetensors.MAX_HEADER, safetensors.MAX_HEADER + 1, 1 << 63, (1 << 64) - 1]
)
def test_a_length_of_the_header_that_lies_is_refused(tmp_path: Path, length: int) -> None:
    path = a_file(tmp_path, {"a": entry()}, b"xy", length)
    with pytest.raises(FormatError):
        SafetensorsReader(path)
    assert not check_reader(SafetensorsReader, path, limit_mb=2)


@pytest.mark.parametrize("cut", range(0, 70, 3))
def test_a_file_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    path = a_file(tmp_path, {"a": entry()}, b"xy")
    path.write_bytes(path.read_bytes()[:cut])
    if path.stat().st_size == cut:
        with pytest.raises(FormatError):
            SafetensorsReader(path)


HEAVY = {
    "objects": b'{"a":[' + b"{}," * (5 << 20) + b"{}]}",
    "lists": b'{"a":[' + b"[]," * (5 << 20) + b"[]]}",
    "numbers": b'{"a":[' + b"10000," * (2 << 20) + b"1]}",
    "a name": b'{"' + b"a" * (15 << 20) + b'":0}',
    "a wide name": '{"\N{GRINNING FACE}'.encode() + b"a" * (15 << 20) + b'":0}',
}


@pytest.mark.parametrize("header", HEAVY.values(), ids=HEAVY.keys())
def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path, header: bytes) -> None:
    assert len(header) <= safetensors.MAX_HEADER
    assert not check_reader(SafetensorsReader, a_file(tmp_path, header))


@settings(max_examples=300)
@given(checkpoints(tuple(KNOWN_TO_RUST)), METADATA, st.randoms(use_true_random=False))
def test_damage_is_refused_or_does_not_matter(tmp_path_factory, tensors: Tensors, metadata, rng) -> None:
    path = tmp_path_factory.mktemp("damage") / "a"
    path.write_bytes(damaged(rust_bytes(tensors, metadata), rng))
    if check_reader(SafetensorsReader, path):
        # What is accepted here is what Rust makes of it.
        theirs = {name: (entry["shape"], bytes(entry["data"])) for name, entry in rust.deserialize(path.read_bytes())}
        assert {name: (list(spec.shape), data) for name, (spec, data) in read(path)[0].items()} == theirs


def test_it_is_recognised_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    write(path, {"a": (TensorSpec("a", DTYPES["uint8"], (1,)), b"x")})
    assert registry.sniff(path).name == "safetensors"
    assert registry.sniff(a_file(tmp_path, {})).name == "safetensors"
    for content in (b"", b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0", b"\xff" * 8 + b"{}", b"\x01\0\0\0\0\0\0\0{"):
        path.write_bytes(content)
        assert not safetensors.sniff(registry.probe(path))


@pytest.mark.usefixtures("holes")
def test_more_than_four_gigabytes_are_a_matter_of_offsets(tmp_path: Path) -> None:
    large = (1 << 32) + 8
    specs = [TensorSpec("big", DTYPES["float64"], (large // 8,)), TensorSpec("small", DTYPES["uint8"], (3,))]
    with SafetensorsWriter(tmp_path / "a", specs) as writer:
        writer.write("small", b"end")
        with writer.slot("big") as slot:
            write_at(slot.fd, slot.offset + large - 4, b"tail")
        writer.finish()
    with SafetensorsReader(tmp_path / "a") as reader:
        view = bytearray(7)
        reader.read_into("big", large - 4, memoryview(view)[:4])
        reader.read_into("small", 0, memoryview(view)[4:])
        assert view == b"tailend"
    with rust.safe_open(tmp_path / "a", framework="numpy") as file:
        assert file.get_tensor("small").tobytes() == b"end"
        assert file.get_slice("big").get_shape() == [large // 8]


def test_arrays_come_out_as_numpy_saves_them(tmp_path: Path) -> None:
    numpy_io = pytest.importorskip("safetensors.numpy")
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(7, np.int64)}
    numpy_io.save_file(arrays, tmp_path / "a")
    with SafetensorsReader(tmp_path / "a") as reader:
        for name, array in arrays.items():
            np.testing.assert_array_equal(reader.read(name), array, strict=True)
