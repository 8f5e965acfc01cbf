"""The wire reader and writer, held against protobuf's own."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats.base import SourceFile
from interlingua.formats.protobuf_wire import (
    FIXED32,
    FIXED64,
    LEN,
    VARINT,
    Field,
    encode_bytes,
    encode_fixed32,
    encode_number,
    encode_tag,
    encode_varint,
    fields,
    file_fields,
    packed_varints,
    read_varint,
    signed64,
)

HERE = Path("some.file")
U64 = st.integers(0, 2**64 - 1)
NUMBERS = st.integers(1, 2**29 - 1)


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int, int | bytes]]]:
    """A message, and its fields as (number, wire type, value or payload)."""
    out, expected = b"", []
    for number in draw(st.lists(NUMBERS, max_size=6)):
        wire = draw(st.sampled_from((VARINT, FIXED64, LEN, FIXED32)))
        if wire == VARINT:
            value = draw(U64)
            out += encode_number(number, value)
        elif wire == LEN:
            value = draw(st.binary(max_size=300))
            out += encode_bytes(number, value)
        elif wire == FIXED32:
            value = draw(st.integers(0, 2**32 - 1))
            out += encode_fixed32(number, value)
        else:
            value = draw(U64)
            out += encode_tag(number, wire) + value.to_bytes(8, "little")
        expected.append((number, wire, value))
    return out, expected


def seen(data: bytes, found: list[Field]) -> list[tuple[int, int, int | bytes]]:
    return [(f.number, f.wire, bytes(data[f.start : f.stop]) if f.wire == LEN else f.value) for f in found]


@given(messages())
def test_fields_are_what_was_encoded(message: tuple[bytes, list[tuple[int, int, int | bytes]]]) -> None:
    data, expected = message
    assert seen(data, list(fields(data, path=HERE))) == expected
    assert seen(data, list(fields(memoryview(data), path=HERE))) == expected
    assert all(f.value == f.stop - f.start for f in fields(data, path=HERE) if f.wire == LEN)


@given(messages())
def test_protobuf_reads_the_same_fields(message: tuple[bytes, list[tuple[int, int, int | bytes]]]) -> None:
    empty_pb2 = pytest.importorskip("google.protobuf.empty_pb2")
    unknown_fields = pytest.importorskip("google.protobuf.unknown_fields")
    data, expected = message
    parsed = empty_pb2.Empty()
    parsed.ParseFromString(data)
    theirs = [(f.field_number, f.wire_type, f.data) for f in unknown_fields.UnknownFieldSet(parsed)]
    assert theirs == expected


@given(st.binary(max_size=40))
def test_arbitrary_bytes_are_refused_wherever_protobuf_refuses_them(data: bytes) -> None:
    empty_pb2 = pytest.importorskip("google.protobuf.empty_pb2")
    unknown_fields = pytest.importorskip("google.protobuf.unknown_fields")
    message = pytest.importorskip("google.protobuf.message")
    try:
        ours = seen(data, list(fields(data, path=HERE)))
    except FormatError:
        return
    parsed = empty_pb2.Empty()
    try:
        parsed.ParseFromString(data)
    except message.DecodeError:
        pytest.fail("protobuf refuses it")
    assert ours == [(f.field_number, f.wire_type, f.data) for f in unknown_fields.UnknownFieldSet(parsed)]


@given(st.integers(-(2**63), 2**63 - 1))
def test_negative_numbers_are_spelt_as_protobuf_spells_them(value: int) -> None:
    wrappers = pytest.importorskip("google.protobuf.wrappers_pb2")
    expected = wrappers.Int64Value(value=value).SerializeToString() or encode_number(1, 0)
    assert encode_number(1, value) == expected
    (found,) = fields(expected, path=HERE)
    assert signed64(found.value) == value


@given(st.lists(U64, max_size=20))
def test_packed_numbers_come_back_in_order(values: list[int]) -> None:
    data = b"<" + b"".join(map(encode_varint, values)) + b">"
    assert list(packed_varints(data, 1, len(data) - 1, path=HERE)) == values


def test_text_is_encoded_as_utf8() -> None:
    wrappers = pytest.importorskip("google.protobuf.wrappers_pb2")
    assert encode_bytes(1, "größe") == wrappers.StringValue(value="größe").SerializeToString()
    assert encode_bytes(1, memoryview(b"ab")) == wrappers.BytesValue(value=b"ab").SerializeToString()


def test_numbers_beyond_64_bits_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        encode_varint(1 << 64)
    with pytest.raises(ValueError, match="64 bits"):
        encode_varint(-(1 << 63) - 1)


def test_a_file_is_walked_without_its_payloads(tmp_path: Path) -> None:
    rng = random.Random(3)
    data = b"".join(encode_bytes(n % 7 + 1, rng.randbytes(rng.choice((0, 3, 9, 70_000)))) for n in range(400))
    data += b"".join(encode_number(n % 5 + 1, rng.getrandbits(64)) for n in range(9_000))
    path = tmp_path / "message"
    path.write_bytes(b"junk" + data + b"junk")
    with SourceFile(path) as file:
        found = list(file_fields(file, 4, 4 + len(data)))
    assert found == [f._replace(start=f.start + 4, stop=f.stop + 4) for f in fields(data, path=HERE)]


def test_walking_a_huge_sparse_payload_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "message"
    head = encode_tag(1, LEN) + encode_varint(5 << 30)
    with path.open("wb") as out:
        out.write(head)
        out.seek(5 << 30, 1)
        out.write(encode_number(2, 7))
    tracemalloc.start()
    with SourceFile(path) as file:
        one, two = file_fields(file, 0, file.size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (one.start, one.stop) == (len(head), len(head) + (5 << 30))
    assert (two.number, two.value) == (2, 7)
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\x80", "cut off"),
        (b"\x08", "cut off"),
        (b"\x08\xff", "cut off"),
        (b"\x0a", "cut off"),
        (b"\x08" + b"\xff" * 10, "longer than 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "longer than 64 bits"),
        (b"\xff" * 11, "longer than 64 bits"),
        (b"\x0a\x05abcd", "claims 5 bytes"),
        (b"\x0a" + b"\xff" * 9 + b"\x01abcd", "claims 18446744073709551615 bytes"),
        (b"\x0d\x01\x02\x03", "claims 4 bytes"),
        (b"\x09\x01\x02\x03\x04\x05\x06\x07", "claims 8 bytes"),
        (b"\x00\x01", "number 0"),
        (b"\x80\x80\x80\x80\x10\x01", "number 536870912"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x0c", "wire type 4"),
        (b"\x0e", "wire type 6"),
        (b"\x0f", "wire type 7"),
    ],
)
def test_a_lying_message_is_refused_by_memory_and_file_walks(data: bytes, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=sentence) as memory:
        list(fields(encode_number(1, 1) + data, path=HERE, base=100))
    assert str(memory.value).startswith("some.file: ")
    assert memory.value.offset in range(102, 103 + len(data))
    path = tmp_path / "message"
    path.write_bytes(encode_number(1, 1) + data)
    with SourceFile(path) as file, pytest.raises(FormatError, match=sentence) as walked:
        list(file_fields(file, 0, file.size))
    assert walked.value.path == path
    assert walked.value.offset in range(2, 3 + len(data))


def test_a_message_may_not_reach_beyond_what_it_is_in() -> None:
    data = encode_bytes(1, b"abc") + encode_number(2, 5)
    assert next(fields(data, path=HERE)).stop == 5
    with pytest.raises(FormatError, match="claims 3 bytes"):
        list(fields(data, 0, 4, path=HERE))
    with pytest.raises(FormatError, match="claims bytes"):
        list(fields(data, 0, len(data) + 1, path=HERE))
    with pytest.raises(FormatError, match="claims bytes"):
        list(fields(data, 5, 4, path=HERE))


def test_a_file_range_beyond_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "message"
    path.write_bytes(b"\x08\x01")
    with SourceFile(path) as file, pytest.raises(FormatError, match="ends at 2"):
        list(file_fields(file, 0, 3))


def test_a_number_ends_where_its_range_ends() -> None:
    assert read_varint(b"\x96\x01", 0, 2, path=HERE) == (150, 2)
    assert read_varint(b"\x80\x00", 0, 2, path=HERE) == (0, 2)
    with pytest.raises(FormatError, match="cut off"):
        read_varint(b"\x96\x01", 0, 1, path=HERE)
    with pytest.raises(FormatError, match="cut off"):
        read_varint(b"\x01", 1, 1, path=HERE)
