"""The index of a tensor bundle."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from interlingua.errors import FormatError
from interlingua.formats import tensor_bundle_index
from interlingua.formats.base import SourceFile
from interlingua.formats.castagnoli import mask
from interlingua.formats.dtypes import DTYPES
from interlingua.formats.leveldb_table import encode_table
from interlingua.formats.protobuf_wire import encode_bytes, encode_fixed32, encode_number, encode_tag, encode_varint
from interlingua.formats.tensor_bundle_index import Entry, Index, encode_index, read_index
from interlingua.formats.tensor_bundle_slices import FULL, Slice
from tests.formats.bundles import HEADER, entry, header


def read(tmp_path: Path, entries: dict[bytes, bytes], head: bytes | None = HEADER) -> Index:
    path = tmp_path / "m.index"
    everything = entries if head is None else {b"": head, **entries}
    path.write_bytes(b"".join(encode_table(sorted(everything.items()))))
    with SourceFile(path) as file:
        return read_index(file)


def refused(tmp_path: Path, entries: dict[bytes, bytes], sentence: str, head: bytes | None = HEADER) -> None:
    with pytest.raises(FormatError, match=sentence) as caught:
        read(tmp_path, entries, head)
    assert caught.value.path == tmp_path / "m.index"


def test_what_is_encoded_is_read(tmp_path: Path) -> None:
    entries = {
        b"a": Entry(DTYPES["float32"], (2, 0, 3), 0, 0, 0, mask(0)),
        b"b": Entry(DTYPES["string"], (), 0, 5, 7, 9),
        "größe".encode(): Entry(DTYPES["bfloat16"], (1,) * 32, 0, 2**62, 2**62, 0),
    }
    path = tmp_path / "m.index"
    path.write_bytes(b"".join(encode_index(entries.items())))
    with SourceFile(path) as file:
        found = read_index(file)
    assert found == Index(1, False, {key.decode(): value for key, value in entries.items()}, {})


def test_fields_that_are_not_known_are_passed_over(tmp_path: Path) -> None:
    odd = encode_number(9, 5) + encode_bytes(10, b"\xff") + encode_fixed32(11, 5) + encode_number(6, 5)
    odd += encode_bytes(4, b"x") + encode_tag(12, 1) + bytes(8)
    shape = encode_bytes(2, encode_number(1, 3) + encode_bytes(2, "batch")) + encode_number(9, 9)
    shape += encode_bytes(9, encode_number(1, 7)) + encode_number(2, 7)
    value = encode_number(1, 1) + encode_bytes(2, shape) + odd + encode_number(5, 12)
    (found,) = read(tmp_path, {b"a": value}, header() + odd).entries.values()
    assert found == Entry(DTYPES["float32"], (3,), 0, 0, 12, 0)


def test_fields_of_slices_that_are_not_known_are_passed_over(tmp_path: Path) -> None:
    row = Slice((0,), (2,))
    box = encode_bytes(1, encode_number(2, 2)) + encode_bytes(9, encode_number(2, 7)) + encode_number(1, 7)
    entries = {b"v": entry(shape=(2,), size=0) + encode_bytes(7, box), row.key("v"): entry(shape=(2,), size=8)}
    assert read(tmp_path, entries).entries["v"].slices == (row,)


def test_the_last_of_a_repeated_field_counts(tmp_path: Path) -> None:
    (found,) = read(tmp_path, {b"a": entry(offset=1) + encode_number(4, 2)}).entries.values()
    assert found.offset == 2


def test_partitioned_variables_have_their_parts(tmp_path: Path) -> None:
    rows = [Slice((0, 0), (1, FULL)), Slice((1, 0), (2, FULL))]
    entries = {
        b"v": entry(shape=(3, 70), size=0, slices=[[(0, 1), None], [(1, 2), None]]),
        rows[0].key("v"): entry(shape=(1, 70), size=280),
        rows[1].key("v"): entry(shape=(2, 70), offset=280, size=560),
    }
    found = read(tmp_path, entries)
    assert list(found.entries) == ["v"]
    assert found.entries["v"].slices == tuple(rows)
    assert [box for box, _ in found.parts["v"]] == [Slice((0, 0), (1, 70)), Slice((1, 0), (2, 70))]
    assert [part.offset for _, part in found.parts["v"]] == [0, 280]


def test_both_byte_orders_are_known(tmp_path: Path) -> None:
    assert not read(tmp_path, {}, header()).big_endian
    assert read(tmp_path, {}, header(big_endian=True)).big_endian


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        (None, "no index of a TensorFlow checkpoint"),
        (b"", "claims 0 shards"),
        (encode_number(1, 0), "claims 0 shards"),
        (encode_number(1, -1), "claims -1 shards"),
        (encode_number(1, 2**31), "claims 2147483648 shards"),
        (encode_number(1, 1) + encode_number(2, 2), "byte order 2"),
        (encode_bytes(1, b"\x0a\x00"), r"version 1.*tf\.compat\.v1\.train\.Saver"),
        (header(version=encode_number(1, 9) + encode_number(2, 2)), "another version"),
        (header(version=encode_number(2, 2**31 - 1)), "another version"),
        (header(version=encode_number(3, 1)), "another version"),
        (header(version=encode_bytes(3, b"\x05\x01")), "another version"),
        (header(version=encode_bytes(3, b"\x80")), "cut off"),
        (b"\xff", "cut off"),
        (encode_bytes(3, b"\x08"), "cut off"),
    ],
)
def test_a_header_that_is_not_for_us_is_refused(tmp_path: Path, head: bytes | None, sentence: str) -> None:
    refused(tmp_path, {b"a": entry()}, sentence, head)


def test_versions_that_are_for_us_are_read(tmp_path: Path) -> None:
    for version in (b"", encode_number(1, 9), encode_number(2, 1), encode_number(2, -1), encode_bytes(3, b"\x02\x03")):
        assert read(tmp_path, {}, header(version=version)).num_shards == 1


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (b"", "element type 0"),
        (entry(34), "element type 34"),
        (entry(101), "element type 101"),
        (entry(2**63), "element type -9223372036854775808"),
        (entry(shape=(-1,)), "negative size or place"),
        (entry(offset=-1), "negative size or place"),
        (entry(size=-4), "negative size or place"),
        (entry(shard=-1), "negative size or place"),
        (entry(shape=(1,) * 33), "more than 32 dimensions"),
        (entry(shape=(0,) * 200_000), "more than 32 dimensions"),
        (entry(slices=[[(0, 1)] * 33]), "more than 32 dimensions"),
        (encode_number(1, 1) + encode_bytes(2, encode_number(3, 1)), "has no shape"),
        (encode_number(1, 1) + encode_bytes(2, b"\x12\x05\x08"), "claims 5 bytes"),
        (encode_number(1, 1) + encode_bytes(7, b"\x0a"), "cut off"),
        (entry(shape=(4,), slices=[[(0, 2)], [(2, 2)]]), "slice of 'a' from .0. is missing"),
        (entry(shape=(4,), slices=[[(0, 5)]]), "outside its shape"),
        (entry(shape=(4,), slices=[[(-1, 2)]]), "outside its shape"),
        (entry(shape=(4,), slices=[[(0, -1)]]), "outside its shape"),
        (entry(shape=(4,), slices=[[]]), "outside its shape"),
        (entry(shape=(), slices=[[(0, 1)]]), "outside its shape"),
        (entry(shape=(4,), slices=[[(2**62, 2**62)]]), "outside its shape"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(tmp_path: Path, value: bytes, sentence: str) -> None:
    refused(tmp_path, {b"a": value}, sentence)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    for key in (b"\xff\xfe", b"a\x80", b"\xed\xa0\x80"):
        refused(tmp_path, {key: entry()}, "is not UTF-8")
        refused(tmp_path, {key: entry(shape=(2,), slices=[[(0, 1)]])}, "is not UTF-8")


def test_slices_of_slices_lead_nowhere(tmp_path: Path) -> None:
    one = Slice((0,), (1,)).key("v")
    refused(
        tmp_path,
        {b"v": entry(shape=(1,), slices=[[(0, 1)]]), one: entry(shape=(1,), slices=[[(0, 1)]])},
        "missing|not UTF-8",
    )


KINDS = {
    "small": {b"%d" % n: b"\x08\x01" for n in range(20_000)},
    "many axes": {b"%d" % n: entry(shape=(300,) * 32) for n in range(3_000)},
    "empty axes": {b"%d" % n: entry(shape=(0,) * 32) for n in range(3_000)},
    "long names": {b"%06d" % n + "ä\U0001f600".encode() * 3_000: entry() for n in range(200)},
    "slices": {b"a": entry(slices=[[(2**40, 2**40)] * 32] * 1_000)},
    "slices without axes": {b"a": b"\x3a\x00" * 60_000},
    "many lists of slices": {b"%d" % n: entry(slices=[[(0, 1)]]) for n in range(8_000)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_takes_no_more_memory_than_is_allowed(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is lowered a hundredfold here, which is to say that such files are refused in that much less time."""
    allowed = tensor_bundle_index.MAX_MEMORY // 100
    monkeypatch.setattr(tensor_bundle_index, "MAX_MEMORY", allowed)
    path = tmp_path / "m.index"
    path.write_bytes(b"".join(encode_table(sorted({b"": HEADER, **KINDS[kind]}.items()))))
    tracemalloc.start()
    with SourceFile(path) as file, pytest.raises(FormatError, match="lists more tensors, or slices"):
        read_index(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    blocks = 4 * min(path.stat().st_size, 512 << 10)
    assert peak < 2 * allowed + blocks


def test_an_index_of_ten_thousand_tensors_is_read(tmp_path: Path) -> None:
    names = [f"bert/encoder/layer_{n}/attention/self/query/kernel/adam_m" for n in range(10_000)]
    assert len(read(tmp_path, {name.encode(): entry(shape=(1, 1)) for name in names}).entries) == 10_000


def test_numbers_longer_than_they_need_be_are_read(tmp_path: Path) -> None:
    value = encode_tag(1, 0) + b"\x81\x80\x80\x00" + encode_tag(5, 0) + encode_varint(4)
    (found,) = read(tmp_path, {b"a": value}).entries.values()
    assert (found.dtype.name, found.nbytes) == ("float32", 4)
