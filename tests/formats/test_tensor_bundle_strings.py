"""The payload of string tensors."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats.protobuf_wire import encode_varint
from interlingua.formats.tensor_bundle_strings import MAX_STRINGS, StringPayload, encode_payload, parse_payload
from tests.formats.bundles import string_payload

STRINGS = st.lists(st.binary(max_size=300) | st.just(b"x" * 70_000), max_size=8)


def parse(payload: bytes, elements: int, big_endian: bool = False) -> StringPayload:
    def read(at: int, nbytes: int) -> bytes:
        assert 0 <= at <= at + nbytes <= len(payload)
        return payload[at : at + nbytes]

    return parse_payload(read, len(payload), elements, big_endian=big_endian, what="'x'", path=Path("a.data"))


@given(STRINGS)
def test_both_checksums_are_known_from_either(strings: list[bytes]) -> None:
    payload, counted = string_payload(strings)
    assert encode_payload(strings) == payload
    head = parse(payload, len(strings))
    assert payload[head.head :] == b"".join(strings)
    assert head.convert(counted) == crc32c(payload)
    assert head.convert(crc32c(payload)) == counted


@given(STRINGS)
def test_a_big_endian_payload_is_the_little_endian_one_but_for_four_bytes(strings: list[bytes]) -> None:
    payload, counted = string_payload(strings, big_endian=True)
    head = parse(payload, len(strings), big_endian=True)
    assert head.convert(counted) == crc32c(payload)
    swapped = payload[: head.head - 4] + head.swapped + payload[head.head :]
    assert swapped == encode_payload(strings)


def test_lengths_beyond_one_window_are_read() -> None:
    strings = [b"ab" * (n % 300) for n in range(140_000)]
    payload, counted = string_payload(strings)
    head = parse(payload, len(strings))
    assert head.body == sum(map(len, strings))
    assert head.convert(counted) == crc32c(payload)


def test_no_strings_are_no_bytes_or_a_checksum_of_nothing() -> None:
    assert parse(b"", 0).convert(0) == 0
    payload = encode_payload([])
    assert len(payload) == 4
    assert parse(payload, 0).convert(string_payload([])[1]) == crc32c(payload)


def test_lengths_of_four_gigabytes_are_counted_in_eight_bytes() -> None:
    length = 1 << 32
    fixed = length.to_bytes(8, "little")
    from interlingua.formats.castagnoli import mask

    start = encode_varint(length) + mask(crc32c(fixed)).to_bytes(4, "little")
    head = parse_payload(
        lambda at, n: start[at : at + n], len(start) + length, 1, big_endian=False, what="'x'", path=Path("a")
    )
    assert (head.head, head.body) == (len(start), length)


@pytest.mark.parametrize(
    ("payload", "elements", "sentence"),
    [
        (encode_payload([b"abc"])[:-1], 1, "do not fill"),
        (encode_payload([b"abc"]) + b"d", 1, "do not fill"),
        (encode_payload([b"abc"]), 2, "do not fill|cut off"),
        (encode_payload([b"abc", b""]), 1, "do not fill"),
        (b"\x03\x00\x00\x00\x00abc", 1, "do not match"),
        (b"", 1, "cut off"),
        (b"\x80", 1, "cut off"),
        (b"\xff" * 10 + b"1234", 1, "longer than 64 bits"),
        (b"\xff" * 9 + b"\x01" + b"1234", 1, "do not fill"),
        (b"\x00\x00", 1, "do not fill"),
        (b"abcd", 0, "do not match"),
        (b"\x00" * 8, 0, "do not fill"),
    ],
)
def test_a_payload_that_lies_is_refused(payload: bytes, elements: int, sentence: str) -> None:
    with pytest.raises(FormatError, match=sentence):
        parse(payload, elements)


def test_a_flipped_length_is_noticed() -> None:
    payload = bytearray(encode_payload([b"abc", b"de"]))
    payload[0], payload[1] = payload[1], payload[0]
    with pytest.raises(FormatError, match="do not match their checksum"):
        parse(bytes(payload), 2)


def test_more_strings_than_anybody_has_are_refused() -> None:
    with pytest.raises(FormatError, match="more than"):
        parse_payload(lambda at, n: b"", 1 << 40, MAX_STRINGS + 1, big_endian=False, what="'x'", path=Path("a"))


def test_millions_of_lengths_take_little_memory() -> None:
    count = 1 << 18
    tracemalloc.start()
    with pytest.raises(FormatError, match="do not match"):
        parse_payload(lambda at, n: bytes(n), count + 4, count, big_endian=False, what="'x'", path=Path("a"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
