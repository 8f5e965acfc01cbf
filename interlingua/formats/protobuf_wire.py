"""The protobuf wire format, one flat level at a time: fields of a message in memory or in a file, and their encoding.

No message is ever descended into by itself: a nested message is a range of bytes, which the caller walks in turn
where its schema says so. So nothing in a file can drive recursion, and unknown fields cost only their length.

Source: protocolbuffers/protobuf: docs "Encoding" (tags, varints, wire types 0, 1, 2, 5); src/google/protobuf/
wire_format_lite.h (limits: 64-bit varints, 29-bit field numbers).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from interlingua.errors import FormatError

if TYPE_CHECKING:
    from interlingua.formats.base import SourceFile

VARINT = 0
FIXED64 = 1
LEN = 2
FIXED32 = 5

MAX_VARINT = 10
"""Bytes of the longest varint: 64 bits, seven to a byte."""

_MAX_HEADER = 2 * MAX_VARINT
"""Bytes that hold a tag and the length or number behind it."""

_WINDOW = 1 << 16
"""Bytes of a file held at a time while its fields are walked."""

_FIXED_WIDTHS = {FIXED64: 8, FIXED32: 4}

AnyPath = str | os.PathLike[str]
Buffer = bytes | bytearray | memoryview


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        number: field number of the schema.
        wire: ``VARINT``, ``FIXED64``, ``LEN`` or ``FIXED32``.
        value: the unsigned number; for ``LEN`` the length of the payload in bytes.
        start: where the payload begins, in the coordinates that the walk was given.
        stop: where it ends.
    """

    number: int
    wire: int
    value: int
    start: int
    stop: int


def fields(data: Buffer, start: int = 0, stop: int | None = None, *, path: AnyPath, base: int = 0) -> Iterator[Field]:
    """Yield the fields of the message that is ``data[start:stop]``, in their order.

    Args:
        data: bytes in memory.
        start: where in ``data`` the message begins.
        stop: where it ends; the end of ``data`` where None.
        path: the file the bytes are from, to be named in errors.
        base: where in that file ``data[0]`` is, to be named in errors.

    Raises:
        FormatError: a tag, number or payload is malformed or ends outside the message.
    """
    end = len(data) if stop is None else stop
    if not 0 <= start <= end <= len(data):
        raise FormatError(f"a message claims bytes {start} to {end} of {len(data)}", path=path, offset=base)

    def whole(_: int) -> tuple[Buffer, int]:
        return data, 0

    return _walk(whole, start, end, path, base)


def file_fields(file: SourceFile, start: int, stop: int) -> Iterator[Field]:
    """Yield the fields of the message that is bytes ``start`` to ``stop`` of a file, reading no payload.

    Raises:
        FormatError: as ``fields``, or the file does not hold that range.
    """
    file.check(start, stop - start, "a message")

    def next_window(at: int) -> tuple[Buffer, int]:
        return file.read_at(at, min(_WINDOW, stop - at), "a message"), at

    return _walk(next_window, start, stop, file.path, 0)


def _walk(load: Callable[[int], tuple[Buffer, int]], at: int, end: int, path: AnyPath, base: int) -> Iterator[Field]:
    """Walk from ``at`` to ``end``; ``load(at)`` gives some bytes from ``at`` on, and where the first of them is."""
    data: Buffer = b""
    origin, limit = at, 0
    while at < end:
        if at + _MAX_HEADER > origin + limit < end:
            data, origin = load(at)
            limit = min(len(data), end - origin)
        tag, after = read_varint(data, at - origin, limit, path=path, base=base + origin)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise FormatError(f"no message has a field of number {number}", path=path, offset=base + at)
        start = after + origin
        if wire == VARINT:
            value, after = read_varint(data, after, limit, path=path, base=base + origin)
            stop = after + origin
        elif wire == LEN:
            value, after = read_varint(data, after, limit, path=path, base=base + origin)
            start = after + origin
            stop = start + value
        elif wire in _FIXED_WIDTHS:
            stop = start + _FIXED_WIDTHS[wire]
            value = int.from_bytes(data[after : after + stop - start], "little")
        else:
            raise FormatError(f"field {number} has the unknown wire type {wire}", path=path, offset=base + at)
        if stop > end:
            raise FormatError(
                f"field {number} claims {stop - start} bytes, but its message ends after {end - start}",
                path=path,
                offset=base + at,
                hint="The file is truncated or damaged; fetch it again.",
            )
        yield Field(number, wire, value, start, stop)
        at = stop


def read_varint(data: Buffer, at: int, stop: int, *, path: AnyPath, base: int = 0) -> tuple[int, int]:
    """Return the unsigned varint at ``data[at]``, and where it ends.

    Raises:
        FormatError: it runs past ``stop`` or beyond 64 bits.
    """
    if at < stop and data[at] < 0x80:
        return data[at], at + 1
    value = 0
    for index in range(MAX_VARINT):
        if at + index >= stop:
            raise FormatError("a number is cut off", path=path, offset=base + at)
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value >> 64:
                break
            return value, at + index + 1
    raise FormatError("a number is longer than 64 bits", path=path, offset=base + at)


def packed_varints(data: Buffer, start: int, stop: int, *, path: AnyPath, base: int = 0) -> Iterator[int]:
    """Yield the unsigned varints that fill ``data[start:stop]`` (a packed repeated field).

    Raises:
        FormatError: one is cut off or longer than 64 bits.
    """
    at = start
    while at < stop:
        value, at = read_varint(data, at, stop, path=path, base=base)
        yield value


def signed64(value: int) -> int:
    """Return the int64 (or sign-extended int32) that an unsigned varint stands for."""
    return value - (1 << 64) if value >> 63 else value


def encode_varint(value: int) -> bytes:
    """Encode a number from -2**63 to 2**64 - 1; negative ones take ten bytes, as int32 and int64 fields do."""
    if 0 <= value < 0x80:
        return bytes((value,))
    if not -(1 << 63) <= value < 1 << 64:
        raise ValueError(f"{value} does not fit into 64 bits")
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_tag(number: int, wire: int) -> bytes:
    """Encode what precedes a field's payload."""
    return encode_varint(number << 3 | wire)


def encode_number(number: int, value: int) -> bytes:
    """Encode a varint field, zero too (proto3 leaves zeros out: the caller's business)."""
    return encode_tag(number, VARINT) + encode_varint(value)


def encode_bytes(number: int, payload: Buffer | str) -> bytes:
    """Encode a length-delimited field: bytes, a nested message, or text in UTF-8."""
    data = payload.encode() if isinstance(payload, str) else bytes(payload)
    return encode_tag(number, LEN) + encode_varint(len(data)) + data


def encode_fixed32(number: int, value: int) -> bytes:
    """Encode a fixed32 field."""
    return encode_tag(number, FIXED32) + value.to_bytes(4, "little")
