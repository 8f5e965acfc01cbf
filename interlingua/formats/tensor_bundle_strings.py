"""String tensors of a tensor bundle: their payload, and its checksum, which is not that of its bytes.

Payload: the length of each string (varint64), the masked CRC-32C of the lengths (u32), then the strings. Every
checksum counts a length as a fixed number (u32, u64 from 2**32 on) in the byte order of the machine that wrote it.

Source: tensorflow/tensorflow: tensorflow/core/util/tensor_bundle/tensor_bundle.cc (WriteStringTensor,
ReadStringTensor).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from interlingua.errors import FormatError
from interlingua.formats.base import crc32c
from interlingua.formats.castagnoli import mask, shift
from interlingua.formats.protobuf_wire import MAX_VARINT, AnyPath, read_varint

MAX_STRINGS = 1 << 22
"""Strings in one tensor beyond which it is refused: each costs a step."""

_WINDOW = 1 << 16
_CHECKSUM = 4


@dataclass(frozen=True, slots=True)
class StringPayload:
    """What the head of a payload says.

    Attributes:
        head: bytes before the first string.
        body: bytes of all strings.
        swapped: the four bytes of the lengths' checksum as a little-endian machine writes them; they end the head.
        difference: CRC-32C of the head as bytes, exclusive-or that of the head as TensorFlow counts it.
    """

    head: int
    body: int
    swapped: bytes
    difference: int

    def convert(self, crc: int) -> int:
        """Turn the payload's CRC-32C as TensorFlow counts it into that of its bytes, or back."""
        return crc ^ shift(self.difference, self.body)


def parse_payload(
    read: Callable[[int, int], bytes], nbytes: int, elements: int, *, big_endian: bool, what: str, path: AnyPath
) -> StringPayload:
    """Read the head of a payload of ``elements`` strings and ``nbytes`` bytes; ``read`` takes an offset and a count.

    Raises:
        FormatError: the lengths are cut off, damaged, or do not add up to the payload.
    """
    if not nbytes and not elements:
        return StringPayload(0, 0, b"", 0)
    if elements > MAX_STRINGS:
        raise FormatError(f"{what} holds {elements} strings, more than {MAX_STRINGS}", path=path)
    native: Literal["big", "little"] = "big" if big_endian else "little"
    stored = fixed = little = at = body = 0
    window, begin = b"", 0
    for done in range(0, elements, _WINDOW):
        lengths: list[int] = []
        for _ in range(min(_WINDOW, elements - done)):
            if at + MAX_VARINT > len(window) and begin + len(window) < nbytes:
                stored = crc32c(window[:at], stored)
                begin, at = begin + at, 0
                window = read(begin, min(_WINDOW, nbytes - begin))
            length, at = read_varint(window, at, len(window), path=path)
            lengths.append(length)
        body += sum(lengths)
        fixed = crc32c(_fixed(lengths, native), fixed)
        little = crc32c(_fixed(lengths, "little"), little) if big_endian else fixed
    head = begin + at + _CHECKSUM
    if head + body != nbytes:
        raise FormatError(f"{what}: {elements} strings of {body} bytes do not fill its {nbytes} bytes", path=path)
    checksum = read(begin + at, _CHECKSUM)
    if checksum != mask(fixed).to_bytes(_CHECKSUM, native):
        raise FormatError(f"{what}: the lengths of its strings do not match their checksum", path=path)
    difference = crc32c(checksum, crc32c(window[:at], stored)) ^ crc32c(checksum, fixed)
    return StringPayload(head, body, mask(little).to_bytes(_CHECKSUM, "little"), difference)


def _fixed(lengths: list[int], order: Literal["big", "little"]) -> bytes:
    return b"".join(length.to_bytes(4 if length < 1 << 32 else 8, order) for length in lengths)


def encode_payload(strings: list[bytes]) -> bytes:
    """Return the payload of a tensor of these strings."""
    from interlingua.formats.protobuf_wire import encode_varint

    lengths = [len(string) for string in strings]
    checksum = mask(crc32c(_fixed(lengths, "little"))).to_bytes(_CHECKSUM, "little")
    return b"".join((*map(encode_varint, lengths), checksum, *strings))
