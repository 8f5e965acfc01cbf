"""Archives as streams of bytes that are read forwards: as they are, or unpacked from gzip, bzip2 or xz.

A stream unpacks to no more than ``MAX_RATIO`` times its file's size (small ones: to ``RATIO_FLOOR``), in steps that
fit in memory, with checksums verified.

Formats: RFC 1952 (gzip), bzip2 and the .xz file format 1.2.1, as Python's own modules read them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

from interlingua.errors import FormatError
from interlingua.formats.base import BLOCK, SourceFile

MAX_RATIO = 100
"""Bytes that a whole archive may unpack to for each of its own; weights rarely compress to a half."""

RATIO_FLOOR = 1 << 30
"""Bytes that any archive may unpack to, however small: a checkpoint full of zeros compresses a thousandfold."""

_PACKED_BLOCK = 1 << 16
_XZ_MEMORY = 96 << 20
"""Bytes that an xz stream's dictionary may take; that of ``xz -9`` takes 65 MB."""


class Stream(Protocol):
    """Bytes that are read forwards."""

    file: SourceFile
    position: int

    def read(self, nbytes: int) -> bytes:
        """Return the next bytes: as many as asked for, or fewer at the end."""

    def skip(self, nbytes: int) -> None:
        """Pass over the next bytes; raise FormatError where there are fewer."""


class PlainStream:
    """A file, read forwards."""

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self.position = 0

    def read(self, nbytes: int) -> bytes:
        data = self.file.read_at(self.position, min(nbytes, self.file.size - self.position), "the archive")
        self.position += len(data)
        return data

    def skip(self, nbytes: int) -> None:
        self.file.check(self.position, nbytes, "a member")
        self.position += nbytes


class _Decompressor(Protocol):
    """What bz2's and lzma's decompressors offer."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the face of the others."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail or data, max_length)


def compression(head: bytes) -> str | None:
    """Return the kind of compressed stream that begins so."""
    for magic, kind in ((b"\x1f\x8b\x08", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz")):
        if head.startswith(magic):
            return kind
    return None


def _decompressor(kind: str | None) -> _Decompressor:
    if kind == "xz":
        import lzma

        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    if kind == "bzip2":
        import bz2

        return bz2.BZ2Decompressor()
    return _Gzip()


def _damage(kind: str | None) -> tuple[type[Exception], ...]:
    """Return what a decompressor raises where its input is damaged."""
    if kind == "xz":
        import lzma

        return (lzma.LZMAError, EOFError, ValueError)
    return (zlib.error, OSError, EOFError, ValueError)


class UnpackedStream:
    """A compressed file, unpacked forwards in bounded steps; several streams one after another are one."""

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self.position = 0
        self._kind = compression(file.read_at(0, min(8, file.size), "the start of the file"))
        self._taken = 0
        self._streams = 1
        self._next = b""
        self._decompressor = _decompressor(self._kind)

    def read(self, nbytes: int) -> bytes:
        parts = []
        left = nbytes
        while left:
            data = self._some(left)
            if not data:
                break
            parts.append(data)
            left -= len(data)
        self.position += nbytes - left
        return b"".join(parts)

    def skip(self, nbytes: int) -> None:
        while nbytes:
            count = len(self.read(min(nbytes, BLOCK)))
            if not count:
                raise cut_short(self)
            nbytes -= count

    def _some(self, limit: int) -> bytes:
        """Return some of the next bytes; none at the end of the last stream."""
        while True:
            if self._decompressor.eof and not self._another():
                return b""
            packed = b""
            if self._decompressor.needs_input:
                packed = self._next or self._more()
                self._next = b""
                if not packed:
                    raise cut_short(self)
            data = self._decompress(packed, limit)
            if data:
                if self.position + len(data) > most_unpacked(self.file):
                    raise bomb(self.file, self.position + len(data))
                return data

    def _decompress(self, packed: bytes, limit: int) -> bytes:
        try:
            return self._decompressor.decompress(packed, limit)
        except _damage(self._kind) as error:
            raise FormatError(
                f"is no {self._kind} stream: {error}", path=self.file.path, offset=self._taken, hint="Fetch it again."
            ) from error

    def _another(self) -> bool:
        """Begin the next stream of the file; say whether there is one."""
        rest = self._decompressor.unused_data.lstrip(b"\0")
        while not rest:
            rest = self._more()
            if not rest:
                return False
            rest = rest.lstrip(b"\0")
        self._streams += 1
        if self._streams > 1024 + self._taken // 512:
            raise FormatError(f"is cut into {self._streams} {self._kind} streams", path=self.file.path)
        self._next = rest
        self._decompressor = _decompressor(self._kind)
        return True

    def _more(self) -> bytes:
        """Return the next packed bytes, none at the end of the file."""
        count = min(_PACKED_BLOCK, self.file.size - self._taken)
        data = self.file.read_at(self._taken, count, "the archive")
        self._taken += count
        return data


def most_unpacked(file: SourceFile) -> int:
    """Return how many bytes an archive may unpack to."""
    return max(RATIO_FLOOR, MAX_RATIO * file.size)


def bomb(file: SourceFile, total: int) -> FormatError:
    """Return the error of a file that unpacks to that many bytes or more."""
    return FormatError(
        f"unpacks to {total} bytes or more, although it has only {file.size}",
        path=file.path,
        hint="If that is what it should be, unpack it yourself, and name the folder.",
    )


def cut_short(stream: Stream) -> FormatError:
    """Return the error of a stream that ends too early."""
    return FormatError(
        "the archive is cut short", path=stream.file.path, offset=stream.file.size, hint="Fetch it again."
    )


def chunks(stream: Stream, size: int) -> Iterator[bytes]:
    """Yield the next ``size`` bytes."""
    while size:
        data = stream.read(min(BLOCK, size))
        if not data:
            raise cut_short(stream)
        size -= len(data)
        yield data
