"""Decoder of raw Snappy blocks (no framing), for the one place where checkpoints use them: tables of metadata.

Source: google/snappy: format_description.txt.
"""

from __future__ import annotations

from interlingua.errors import FormatError
from interlingua.formats.protobuf_wire import AnyPath, read_varint

_LITERAL = 0
_COPY_1, _COPY_2 = 1, 2


def decompress(data: bytes, limit: int, *, path: AnyPath, base: int = 0) -> bytes:
    """Return what a Snappy block holds, at most ``limit`` bytes.

    Args:
        data: the compressed block.
        limit: bytes beyond which the block is refused, before memory is taken.
        path: the file it is from, to be named in errors.
        base: where in that file it begins, to be named in errors.

    Raises:
        FormatError: it is malformed, or claims more than ``limit`` bytes.
    """
    size, at = read_varint(data, 0, len(data), path=path, base=base)
    if size > limit:
        raise FormatError(f"a compressed block claims {size} bytes, more than {limit}", path=path, offset=base)
    out = bytearray()
    while at < len(data):
        tag = data[at]
        length, back, at = _element(data, at)
        if at > len(data) or len(out) + length > size:
            break
        if tag & 3 == _LITERAL:
            out += data[at - length : at]
        elif 0 < back <= len(out):
            _repeat(out, back, length)
        else:
            break
    else:
        if len(out) == size:
            return bytes(out)
    raise FormatError("a block is no valid Snappy data", path=path, offset=base + at)


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Return an element's output length, how far back it copies from (0 for a literal), and where it ends.

    An element that is cut off is given an end beyond ``data``.
    """
    tag = data[at]
    kind, high = tag & 3, tag >> 2
    at += 1
    if kind == _LITERAL:
        extra = max(0, high - 59)
        length = 1 + (int.from_bytes(data[at : at + extra], "little") if extra else high)
        return length, 0, at + extra + length
    if kind == _COPY_1:
        back = tag >> 5 << 8 | int.from_bytes(data[at : at + 1], "little")
        return 4 + (high & 7), back, at + 1
    width = 2 if kind == _COPY_2 else 4
    return 1 + high, int.from_bytes(data[at : at + width], "little"), at + width


def _repeat(out: bytearray, back: int, length: int) -> None:
    """Append ``length`` bytes that begin ``back`` bytes before the end; they may run into what is appended."""
    pattern = bytes(out[-back:][:length])
    out += (pattern * (length // len(pattern) + 1))[:length]
