"""Reading tensor bundles: real ones, and ones made by hand to lie."""

from __future__ import annotations

import os
import random
from itertools import pairwise
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats.base import SourceFile
from interlingua.formats.dtypes import DTYPES
from interlingua.formats.tensor_bundle import TensorBundleReader, open_reader
from interlingua.formats.tensor_bundle_index import read_index
from interlingua.formats.tensor_bundle_slices import MAX_SCATTERED, Slice
from interlingua.formats.trackable_graph import GRAPH_KEY, MAX_GRAPH, build_graph
from tests.formats.bundles import (
    big_endian_bundle,
    entry,
    header,
    slice_key,
    string_payload,
    write_bundle,
)
from tests.formats.hostile import check_reader, damaged


def words(count: int, start: int = 0) -> bytes:
    return np.arange(start, start + count, dtype="<f4").tobytes()


def refused(prefix: Path, sentence: str) -> None:
    with pytest.raises(FormatError, match=sentence) as caught:
        read_all(prefix)
    assert str(prefix.parent) in str(caught.value)


def read_all(prefix: Path) -> None:
    with open_reader(prefix) as reader:
        for name in reader.tensors:
            reader.read(name)


REAL = {
    "CyberZHG__keras-bert/tests/test_checkpoint": 139,
    "google-deepmind__sonnet/sonnet/src/conformance/checkpoints/mean_2x2": 4,
    "keras-team__tf-keras/tf_keras/mixed_precision/testdata/lso_ckpt_tf2.2": 11,
}


@pytest.mark.parametrize(("name", "count"), REAL.items())
def test_real_checkpoints_are_read(fixtures_dir: Path, name: str, count: int) -> None:
    with open_reader(fixtures_dir / name) as reader:
        assert len(reader.tensors) == count
        for name, spec in reader.tensors.items():
            if spec.dtype is not DTYPES["string"]:
                assert reader.read(name).shape == spec.shape
        if "keras-bert" in str(reader.path):
            assert reader.full_names == {}
            assert reader.tensors["bert/embeddings/word_embeddings"].shape[1] == 4
            assert reader.read("global_step").dtype == np.int64
        if "lso" in str(reader.path):
            assert reader.full_names["layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE"] == (
                "sequential/dense/kernel"
            )


def test_the_index_of_the_chinese_bert_is_read_without_its_data(fixtures_dir: Path) -> None:
    prefix = fixtures_dir / "google-research__bert" / "bert_model.ckpt"
    with SourceFile(prefix.with_name("bert_model.ckpt.index")) as file:
        index = read_index(file)
    assert len(index.entries) == 206
    assert index.entries["bert/embeddings/word_embeddings"].shape == (21128, 768)
    runs = sorted((entry.offset, entry.nbytes) for entry in index.entries.values())
    assert all(one + size == two for (one, size), (two, _) in pairwise(runs))
    name = "bert/embeddings/word_embeddings"
    with open_reader(prefix) as reader:
        assert reader.tensors[name].nbytes == 21128 * 768 * 4
        assert "missing" in str(reader.objects["bert_model.ckpt.data-00000-of-00001"])
        with pytest.raises(FormatError, match=r"data-00000-of-00001: is not there.*beside its \.index"):
            reader.read_into(name, 0, memoryview(bytearray(8)))


def test_offsets_beyond_four_gigabytes_are_read(tmp_path: Path) -> None:
    """A file of 6 GB, all but its end a hole: only what is asked for is read."""
    far, near = (5 << 30) + 3, words(3)
    prefix = write_bundle(
        tmp_path / "m",
        {b"a": entry("int8", (5 << 30,), size=5 << 30), b"b": entry(shape=(3,), offset=far, size=12, crc=crc32c(near))},
        b"",
    )
    with (tmp_path / "m.data-00000-of-00001").open("r+b") as out:
        out.seek(far)
        out.write(near)
        out.truncate(6 << 30)
    with open_reader(prefix) as reader:
        assert reader.tensors["a"].nbytes == 5 << 30
        assert reader.read("b").tolist() == [0, 1, 2]
        (extent,) = reader.extents("b") or ()
        assert (extent.offset, extent.nbytes) == (far, 12)


def test_a_shard_that_no_tensor_is_in_may_be_missing(tmp_path: Path) -> None:
    data = words(1)
    prefix = write_bundle(tmp_path / "m", {b"a": entry(shard=1, crc=crc32c(data))}, b"", data, head=header(2))
    (tmp_path / "m.data-00000-of-00002").unlink()
    with open_reader(prefix) as reader:
        assert reader.read("a") == 0


@pytest.mark.parametrize("dtype", ["float16", "int32", "float64", "complex64", "complex128", "bool", "bfloat16"])
def test_big_endian_numbers_are_turned_round_wherever_the_blocks_fall(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(1)
    array = rng.integers(0, 2, (5, 16)).astype("u1").view(np.dtype(getattr(ml_dtypes, dtype, dtype)))
    prefix = big_endian_bundle(tmp_path / "m", {"a": array, "none": array[:0]})
    for size in (1, 3, 7, 16, 1000):
        with open_reader(prefix) as reader:
            assert (reader.extents("a") is None) is (array.dtype.itemsize > 1)
            out = memoryview(bytearray(array.nbytes))
            for start in range(0, array.nbytes, size):
                reader.read_into("a", start, out[start : start + size])
            assert bytes(out) == array.tobytes()
            assert reader.read("none").shape == (0, *array.shape[1:])


def sliced(prefix: Path, boxes: list[list[tuple[int, int]]], shape: tuple[int, ...], big_endian: bool = False) -> Path:
    """A float32 variable of ascending numbers, cut into boxes, some of which may be nonsense."""
    whole = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    data = b""
    entries = {}
    for box in boxes:
        part = whole[tuple(slice(start, start + length) for start, length in box[: whole.ndim])]
        piece = part.astype(">f4" if big_endian else "<f4").tobytes()
        lengths = [length for _, length in box]
        entries[slice_key("v", box)] = entry("float32", lengths, 0, len(data), len(piece), crc32c(piece))
        data += piece
    entries[b"v"] = entry("float32", shape, size=0, slices=boxes)
    return write_bundle(prefix, entries, data, head=header(big_endian=big_endian))


GRID = [[(0, 2), (0, 1)], [(0, 2), (1, 3)], [(2, 1), (0, 1)], [(2, 1), (1, 3)]]


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("boxes", [GRID, GRID[::-1], [[(0, 1), (0, 4)], [(1, 2), (0, 4)]]])
def test_slices_are_joined(tmp_path: Path, boxes: list[list[tuple[int, int]]], big_endian: bool) -> None:
    prefix = sliced(tmp_path / "m", boxes, (3, 4), big_endian)
    with open_reader(prefix) as reader:
        assert list(reader.tensors) == ["v"]
        assert reader.read("v").tolist() == np.arange(12).reshape(3, 4).tolist()
        out = memoryview(bytearray(48))
        for start in reversed(range(48)):
            reader.read_into("v", start, out[start : start + 1])
        assert np.frombuffer(out, "<f4").tolist() == list(range(12))


@pytest.mark.parametrize(
    ("boxes", "sentence"),
    [
        (GRID[:-1], "overlap, or leave"),
        ([*GRID[:-1], GRID[0]], "overlap"),
        ([[(0, 2), (0, 4)], [(1, 2), (0, 4)]], "overlap, or leave"),
        ([[(0, 1), (0, 4)], [(2, 1), (0, 4)]], "overlap, or leave"),
        ([[(1, 2), (0, 4)]], "overlap, or leave"),
        ([[(0, 3), (0, 2)], [(0, 3), (1, 2)]], "overlap, or leave"),
        ([[(0, 4), (0, 4)]], "outside its shape"),
        ([[(0, 0), (0, 4)], [(0, 3), (0, 4)]], "outside its shape"),
        ([[(0, 3)]], "outside its shape"),
        ([[(0, 3), (0, 4), (0, 1)]], "outside its shape"),
        ([[(63, 1), (0, 4)]], "outside its shape"),
    ],
)
def test_slices_that_do_not_make_up_the_whole_are_refused(
    tmp_path: Path, boxes: list[list[tuple[int, int]]], sentence: str
) -> None:
    refused(sliced(tmp_path / "m", boxes, (3, 4)), sentence)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({slice_key("v", [(1, 2)]): None}, "missing, or another's"),
        ({slice_key("v", [(1, 2)]): entry("int32", (2,), offset=4, size=8)}, "missing, or another's"),
        ({slice_key("v", [(1, 2)]): entry(shape=(2, 1), offset=4, size=8)}, "missing, or another's"),
        ({slice_key("v", [(1, 2)]): entry(shape=(2,), size=0, slices=[[(0, 2)]])}, "is not UTF-8"),
        ({slice_key("v", [(1, 2)]): entry(shape=(2,), offset=4, size=8)}, "does not match its checksum"),
        ({slice_key("v", [(1, 2)]): entry(shape=(2,), offset=0, size=8)}, "overlap"),
        ({b"v": entry("string", (3,), size=0, slices=[[(0, 1)], [(1, 2)]])}, "strings, which nobody can read"),
    ],
)
def test_a_slice_that_is_not_what_its_variable_says_is_refused(
    tmp_path: Path, change: dict[bytes, bytes | None], sentence: str
) -> None:
    data = words(3)
    entries = {
        b"v": entry(shape=(3,), size=0, slices=[[(0, 1)], [(1, 2)]]),
        slice_key("v", [(0, 1)]): entry(shape=(1,), size=4, crc=crc32c(data[:4])),
        slice_key("v", [(1, 2)]): entry(shape=(2,), offset=4, size=8, crc=crc32c(data[4:])),
        **change,
    }
    kept = {key: value for key, value in entries.items() if value is not None}
    refused(write_bundle(tmp_path / "m", kept, data), sentence)


def test_more_interleaving_slices_than_anybody_makes_are_refused(tmp_path: Path) -> None:
    count = MAX_SCATTERED + 1
    entries = {
        Slice((0, n), (2, 1)).key("v"): entry("int8", (2, 1), offset=2 * n, size=2, crc=crc32c(bytes(2)))
        for n in range(count)
    }
    boxes = [[(0, 2), (n, 1)] for n in range(count)]
    entries[b"v"] = entry("int8", (2, count), size=0, slices=boxes)
    refused(write_bundle(tmp_path / "m", entries, bytes(2 * count)), "4097 slices that interleave")


def test_many_slices_of_rows_are_joined(tmp_path: Path) -> None:
    count = 6_000
    data = np.random.default_rng(0).bytes(3 * count)
    entries = {
        Slice((n, 0), (1, -1)).key("v"): entry(
            "int8", (1, 3), offset=3 * n, size=3, crc=crc32c(data[3 * n : 3 * n + 3])
        )
        for n in range(count)
    }
    entries[b"v"] = entry("int8", (count, 3), size=0, slices=[[(n, 1), None] for n in range(count)])
    with open_reader(write_bundle(tmp_path / "m", entries, data)) as reader:
        assert len(reader.extents("v") or ()) == count
        assert reader.read("v").tobytes() == data
        assert reader.expected_checksum("v") == ("crc32c", crc32c(data))


def test_a_key_like_a_slices_that_no_variable_claims_is_a_tensor(tmp_path: Path) -> None:
    """TensorFlow writes and lists names that begin with a zero byte; so they are names."""
    data = words(1)
    with open_reader(write_bundle(tmp_path / "m", {b"\0x": entry(crc=crc32c(data))}, data)) as reader:
        assert list(reader.tensors) == ["\0x"]


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({b"a": entry(size=8)}, "cannot be 8 bytes"),
        ({b"a": entry(size=0)}, "cannot be 0 bytes"),
        ({b"a": entry(shape=(2**40, 2**40, 2**40), size=12)}, "cannot be 12 bytes"),
        ({b"a": entry(shape=(3,), offset=8, size=12)}, "the file ends at 12"),
        ({b"a": entry(shape=(0,), offset=13, size=0)}, "the file ends at 12"),
        ({b"a": entry("int8", (2**62,), size=2**62)}, "the file ends at 12"),
        ({b"a": entry(offset=2**62)}, "the file ends at 12"),
        ({b"a": entry(shard=1)}, "in shard 1 of 1"),
        ({b"a": entry(shard=2**31 - 1)}, "in shard 2147483647 of 1"),
        ({b"a": entry(shape=(2,), size=8), b"b": entry(offset=4)}, "'a' and 'b' overlap"),
        ({b"a": entry(), b"b": entry()}, "'a' and 'b' overlap"),
        ({b"a": entry(shape=(3,), size=12), b"b": entry(offset=4)}, "'a' and 'b' overlap"),
        ({b"a": entry(shape=(3,), size=12, crc=5)}, "'a' does not match its checksum"),
        ({b"a": entry(shape=(0,), size=0, crc=5)}, "'a' is empty, but its checksum"),
        ({b"a": entry("string", (5,), size=4)}, "cannot be 4 bytes"),
    ],
)
def test_an_entry_that_lies_about_its_data_is_refused(
    tmp_path: Path, entries: dict[bytes, bytes], sentence: str
) -> None:
    refused(write_bundle(tmp_path / "m", entries, words(3)), sentence)


def test_numbers_of_shards_that_lie_are_refused(tmp_path: Path) -> None:
    data = words(1)
    for count in (2, 2**31 - 1):
        write_bundle(tmp_path / "m", {b"a": entry(crc=crc32c(data))}, data, head=header(count))
        refused(tmp_path / "m", "is not there")


def test_a_data_file_that_is_a_folder_or_a_pipe_is_refused(tmp_path: Path) -> None:
    data = words(1)
    prefix = write_bundle(tmp_path / "m", {b"a": entry(crc=crc32c(data))})
    path = tmp_path / "m.data-00000-of-00001"
    path.mkdir()
    refused(prefix, "not a regular file")
    path.rmdir()
    os.mkfifo(path)
    refused(prefix, "not a regular file")


def test_a_flipped_bit_in_the_data_is_noticed_in_whatever_order_it_is_read(tmp_path: Path) -> None:
    data = bytearray(words(1000))
    prefix = write_bundle(tmp_path / "m", {b"a": entry(shape=(1000,), size=4000, crc=crc32c(data))}, bytes(data))
    data[3999] ^= 1
    (tmp_path / "m.data-00000-of-00001").write_bytes(data)
    with open_reader(prefix) as reader:
        block = memoryview(bytearray(1000))
        for start in (0, 1000, 2000):
            reader.read_into("a", start, block)
        with pytest.raises(FormatError, match="'a' does not match"):
            reader.read_into("a", 3000, block)
    for start in (100, 3000):
        with open_reader(prefix) as reader, pytest.raises(FormatError, match="'a' does not match"):
            reader.read_into("a", start, block)
    with open_reader(prefix) as reader:
        reader.read_into("a", 0, block)
        with pytest.raises(FormatError, match="'a' does not match"):
            reader.read_into("a", 0, block)


def test_asking_beyond_a_tensor_is_the_callers_error(tmp_path: Path) -> None:
    data = words(2)
    with open_reader(write_bundle(tmp_path / "m", {b"a": entry(crc=crc32c(data[:4]))}, data)) as reader:
        for start, count in ((0, 5), (4, 1), (-1, 2), (9, 0)):
            with pytest.raises(ValueError, match="more bytes"):
                reader.read_into("a", start, memoryview(bytearray(count)))
        reader.read_into("a", 4, memoryview(b""))


def test_files_are_closed_when_opening_fails(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    data = words(1)
    prefix = write_bundle(tmp_path / "m", {b"a": entry(), b"b": entry()}, data)
    before = set(os.listdir("/proc/self/fd"))
    refused(prefix, "overlap")
    assert set(os.listdir("/proc/self/fd")) == before
    write_bundle(prefix, {b"a": entry(crc=crc32c(data))}, data)
    with open_reader(prefix):
        assert set(os.listdir("/proc/self/fd")) != before
    assert set(os.listdir("/proc/self/fd")) == before


def with_graph(prefix: Path, graph: bytes, shape: tuple[int, ...] = (), dtype: str = "string") -> TensorBundleReader:
    payload, crc = string_payload([graph])
    data = words(1)
    entries = {
        GRAPH_KEY.encode(): entry(dtype, shape, 0, 4, len(payload), crc),
        b"a/.ATTRIBUTES/V": entry(crc=crc32c(data)),
    }
    return open_reader(write_bundle(prefix, entries, data + payload))


def test_full_names_are_those_of_tensors_that_are_there(tmp_path: Path) -> None:
    keys = {"a/.ATTRIBUTES/V": "alpha", "b/.ATTRIBUTES/V": "beta"}
    with with_graph(tmp_path / "m", build_graph(keys, keys)) as reader:
        assert reader.full_names == {"a/.ATTRIBUTES/V": "alpha"}


def test_a_broken_graph_is_refused_when_it_is_asked_for_and_not_before(tmp_path: Path) -> None:
    with with_graph(tmp_path / "m", b"\xff") as reader:
        assert reader.read("a/.ATTRIBUTES/V") == 0
        with pytest.raises(FormatError, match="cut off"):
            _ = reader.full_names
    with with_graph(tmp_path / "n", bytes(8), (13,), "int8") as reader:
        assert reader.full_names == {}


def test_a_graph_too_large_for_memory_is_refused(tmp_path: Path) -> None:
    with with_graph(tmp_path / "m", bytes(MAX_GRAPH + 1)) as reader, pytest.raises(FormatError, match="object graph"):
        _ = reader.full_names


def valid_bundle(prefix: Path, rng: random.Random) -> tuple[dict[bytes, bytes], bytes]:
    """Entries of every kind, and their data."""
    numbers, cut = rng.randbytes(40), rng.randbytes(24)
    payload, crc = string_payload([b"abc", rng.randbytes(200)])
    graph, graph_crc = string_payload([build_graph(["a/.ATTRIBUTES/V"], {"a/.ATTRIBUTES/V": "name"})])
    data = numbers + cut + payload + graph
    entries = {
        b"a/.ATTRIBUTES/V": entry("float16", (4, 5), size=40, crc=crc32c(numbers)),
        b"s": entry("string", (2,), offset=64, size=len(payload), crc=crc),
        GRAPH_KEY.encode(): entry("string", (), offset=64 + len(payload), size=len(graph), crc=graph_crc),
        b"v": entry("int8", (4, 6), size=0, slices=[[(0, 4), (0, 3)], [(0, 4), (3, 3)]]),
        slice_key("v", [(0, 4), (0, 3)]): entry("int8", (4, 3), offset=40, size=12, crc=crc32c(cut[:12])),
        slice_key("v", [(0, 4), (3, 3)]): entry("int8", (4, 3), offset=52, size=12, crc=crc32c(cut[12:])),
        b"z": entry("float32", (0, 7), offset=64, size=0),
    }
    return entries, data


def open_fully(path: Path) -> TensorBundleReader:
    reader = open_reader(path)
    try:
        _ = reader.full_names
    except FormatError:
        reader.close()
        raise
    return reader


def test_the_bundle_that_is_damaged_below_is_a_good_one(tmp_path: Path) -> None:
    entries, data = valid_bundle(tmp_path / "m", random.Random(1))
    assert check_reader(open_fully, write_bundle(tmp_path / "m", entries, data))


@given(st.integers(0, 2**32))
def test_damaged_files_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    prefix = write_bundle(tmp_path / "m", *valid_bundle(tmp_path / "m", rng))
    path = tmp_path / rng.choice(("m.index", "m.data-00000-of-00001"))
    path.write_bytes(damaged(path.read_bytes(), rng))
    check_reader(open_fully, prefix)


@given(st.integers(0, 2**32))
def test_damaged_entries_under_right_checksums_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    entries, data = valid_bundle(tmp_path / "m", rng)
    key = rng.choice([*entries, b""])
    if rng.random() < 0.2:
        value = entries.pop(key, b"")
        entries[damaged(key, rng)] = value
    elif key:
        entries[key] = damaged(entries[key], rng)
    head = damaged(header(), rng) if not key else header()
    check_reader(open_fully, write_bundle(tmp_path / "m", entries, data, head=head))


@given(st.integers(0, 2**32))
def test_damaged_strings_and_graphs_under_right_checksums_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    graph = damaged(build_graph(["a/.ATTRIBUTES/V"], {"a/.ATTRIBUTES/V": "name"}), rng)
    with_graph(tmp_path / "m", graph).close()
    check_reader(open_fully, tmp_path / "m")
    payload = damaged(string_payload([b"abc", rng.randbytes(200)])[0], rng)
    entries = {b"s": entry("string", (2,), size=len(payload), crc=rng.getrandbits(32))}
    check_reader(open_fully, write_bundle(tmp_path / "n", entries, payload))


@given(st.binary(max_size=200))
def test_arbitrary_entries_are_read_or_refused(tmp_path: Path, value: bytes) -> None:
    check_reader(open_fully, write_bundle(tmp_path / "m", {b"a": value}, words(10)))
