"""The Snappy decoder."""

from __future__ import annotations

import contextlib
import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats.protobuf_wire import encode_varint
from interlingua.formats.snappy_block import decompress

HERE = Path("some.index")
LIMIT = 1 << 20


def literal(data: bytes) -> bytes:
    """One literal element, with its length spelt in as few bytes as it takes."""
    n = len(data) - 1
    if n < 60:
        return bytes([n << 2]) + data
    width = (n.bit_length() + 7) // 8
    return bytes([(59 + width) << 2]) + n.to_bytes(width, "little") + data


def copy(back: int, length: int, kind: int) -> bytes:
    """One copy element: ``kind`` 1, 2 or 4 bytes of offset."""
    if kind == 1:
        return bytes([1 | (length - 4) << 2 | back >> 8 << 5, back & 0xFF])
    return bytes([(2 if kind == 2 else 3) | (length - 1) << 2]) + back.to_bytes(kind, "little")


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """What a block holds, and the block."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    plain, out = bytearray(), b""
    for _ in range(draw(st.integers(0, 12))):
        if not plain or rng.random() < 0.4:
            data = rng.randbytes(rng.choice((1, 2, 59, 60, 61, 255, 256, 257, 70_000)))
            plain += data
            out += literal(data)
            continue
        kind = rng.choice((1, 2, 4))
        length = rng.randint(4, 11) if kind == 1 else rng.randint(1, 64)
        back = min(len(plain), rng.choice((1, 2, 3, 7, 64, 2047, rng.randint(1, len(plain)))))
        back = min(back, {1: 2047, 2: 65535, 4: 1 << 31}[kind])
        for _ in range(length):
            plain.append(plain[-back])
        out += copy(back, length, kind)
    return bytes(plain), encode_varint(len(plain)) + out


@given(streams())
def test_every_kind_of_element_is_decoded(stream: tuple[bytes, bytes]) -> None:
    plain, block = stream
    assert decompress(block, LIMIT, path=HERE) == plain


@given(streams(), st.data())
def test_a_block_that_is_cut_off_or_lies_about_its_size_is_refused(
    stream: tuple[bytes, bytes], data: st.DataObject
) -> None:
    plain, block = stream
    body = block[len(encode_varint(len(plain))) :]
    for size in (len(plain) + 1, len(plain) + 1000, max(0, len(plain) - 1)):
        if size != len(plain):
            with pytest.raises(FormatError, match="no valid Snappy"):
                decompress(encode_varint(size) + body, LIMIT, path=HERE)
    end = data.draw(st.integers(0, len(block) - 1))
    if end:
        with pytest.raises(FormatError):
            decompress(block[:end], LIMIT, path=HERE)


@pytest.mark.parametrize(
    "element",
    [
        copy(1, 4, 1),
        copy(9, 4, 1),
        copy(9, 4, 2),
        copy(0x80000000, 4, 4),
        copy(0, 4, 1),
        copy(0, 4, 2),
        bytes([63 << 2]) + b"\xff" * 4,
        bytes([60 << 2]),
        b"\x01",
        b"\x02\x01",
        b"\x03\x01\x00\x00",
    ],
)
def test_an_element_that_reaches_outside_is_refused(element: bytes) -> None:
    start = b"" if element == copy(1, 4, 1) else literal(b"abcdefgh")
    with pytest.raises(FormatError, match="no valid Snappy") as caught:
        decompress(encode_varint(12) + start + element, LIMIT, path=HERE, base=500)
    assert caught.value.offset is not None
    assert caught.value.offset > 500


def test_a_bomb_is_refused_before_memory_is_taken() -> None:
    tracemalloc.start()
    with pytest.raises(FormatError, match="claims 4294967295 bytes"):
        decompress(encode_varint(2**32 - 1) + literal(b"a") + copy(1, 64, 2) * 100_000, LIMIT, path=HERE)
    with pytest.raises(FormatError, match="no valid Snappy"):
        decompress(encode_varint(LIMIT) + literal(b"a") + copy(1, 64, 2) * 100_000, LIMIT, path=HERE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * LIMIT


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_decoded_or_refused(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        decompress(data, LIMIT, path=HERE)
