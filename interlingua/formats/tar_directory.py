"""The entries of a tar, header after header, each checked before what it says is believed.

``read_entries`` yields what a tar holds: files, folders and links. Devices, pipes, sparse files and parts of other
archives are refused by name, as is an entry with data that is no file. What extended headers say of the next entry
(a longer name, a size beyond octal digits) counts; what lies behind the block of zeros at the end is not looked at.

Layouts: POSIX.1-1988 (ustar), POSIX.1-2001 (pax) and GNU tar (``src/tar.h``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from interlingua.errors import FormatError
from interlingua.formats.archive_names import MAX_MEMBERS, name_text
from interlingua.formats.archive_streams import Stream, chunks, cut_short

BLOCK_SIZE = 512
"""Bytes of a header, and of the blocks that data is filled up to."""

MAX_HEADERS = 4 * MAX_MEMBERS
"""Headers of one tar: each member may have some of its own for a long name."""

_MAX_LONG_NAME = 1 << 16
_MAX_PAX = 1 << 20


@dataclass(frozen=True, slots=True)
class TarEntry:
    """What a header says, those that extend it taken into account.

    Attributes:
        name: its path, as it is written.
        kind: what it is.
        target: what a link points at.
        size: bytes of a file.
        at: where its header is, in bytes from the tar's start.
        start: where its data begins.
    """

    name: str
    kind: Literal["file", "folder", "hard link", "symbolic link"]
    target: str
    size: int
    at: int
    start: int


def read_entries(stream: Stream, most: int | None = None) -> Iterator[TarEntry]:
    """Yield the entries of a tar; a file's bytes, which come next in the stream, may be taken meanwhile.

    Args:
        stream: the tar, from its start.
        most: headers that it may have, where that is not as many as any tar may.

    Raises:
        FormatError: it is damaged or cut short, has more headers, or holds what is refused.
    """
    override = _Override()
    for _ in range(most or MAX_HEADERS):
        header = _read_header(stream)
        if header is None:
            return
        if header.kind in (_LONG_NAME, _LONG_TARGET, _PAX_GLOBAL, *_PAX):
            _extend(override, header, stream)
            continue
        entry = _entry(header, override, stream)
        override = _Override()
        if entry is not None:
            yield entry
            stream.skip(entry.start + entry.size + -entry.size % BLOCK_SIZE - stream.position)
    raise FormatError("has too many headers", path=stream.file.path)


def is_tar_header(block: bytes) -> bool:
    """Say whether a block's checksum, which old writers took over signed bytes, is the one in it."""
    if len(block) < BLOCK_SIZE or not block.strip(b"\0"):
        return False
    rest = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(rest)
    signed = unsigned - 256 * sum(byte > 127 for byte in rest)
    return _number(block[148:156]) in (unsigned, signed)


def header_name(block: bytes) -> str:
    """Return the name in a header, without what extended headers may say."""
    name = name_text(block[:100].partition(b"\0")[0])
    prefix = block[345:500].partition(b"\0")[0]
    return f"{name_text(prefix)}/{name}" if block[257:263] == b"ustar\0" and prefix else name


@dataclass(slots=True)
class _Override:
    """What the next member's header is told by extended headers in front of it."""

    name: str | None = None
    target: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class _Header:
    """One header block of a tar."""

    name: str
    size: int
    kind: bytes
    target: str
    at: int


_REGULAR = (b"0", b"\0", b"7")
_FOLDER = b"5"
_HARD_LINK = b"1"
_SYMBOLIC_LINK = b"2"
_LONG_NAME = b"L"
_LONG_TARGET = b"K"
_PAX = (b"x", b"X")
_PAX_GLOBAL = b"g"
_VOLUME_LABEL = b"V"
_REFUSED = {
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
    b"M": "the rest of a file in another archive",
    b"D": "a folder of an incremental backup",
}


def _entry(header: _Header, override: _Override, stream: Stream) -> TarEntry | None:
    """Return the entry that a header begins; None for a volume's label."""
    name = header.name if override.name is None else override.name
    target = header.target if override.target is None else override.target
    size = header.size if override.size is None else override.size
    path, at = stream.file.path, header.at
    if header.kind in _REGULAR and not (header.kind == b"\0" and name.endswith("/")):
        return TarEntry(name, "file", "", size, at, stream.position)
    if header.kind in _REFUSED:
        raise FormatError(f"member {name[:200]!r} is {_REFUSED[header.kind]}", path=path, offset=at)
    if size:
        raise FormatError(f"member {name[:200]!r} is no file, but has data", path=path, offset=at)
    if header.kind == _HARD_LINK:
        return TarEntry(name, "hard link", target, 0, at, stream.position)
    if header.kind == _SYMBOLIC_LINK:
        return TarEntry(name, "symbolic link", target, 0, at, stream.position)
    if header.kind in (_FOLDER, b"\0"):
        return TarEntry(name, "folder", "", 0, at, stream.position)
    if header.kind != _VOLUME_LABEL:
        raise FormatError(f"member {name[:200]!r} is of the unknown kind {header.kind!r}", path=path, offset=at)
    return None


def _extend(override: _Override, header: _Header, stream: Stream) -> None:
    """Take what an extended header says of the next member."""
    limit = _MAX_LONG_NAME if header.kind in (_LONG_NAME, _LONG_TARGET) else _MAX_PAX
    if header.size > limit:
        raise FormatError(f"a header has {header.size} bytes", path=stream.file.path, offset=header.at)
    data = b"".join(chunks(stream, header.size))
    stream.skip(-header.size % BLOCK_SIZE)
    if header.kind == _LONG_NAME:
        override.name = name_text(data.rstrip(b"\0"))
    elif header.kind == _LONG_TARGET:
        override.target = name_text(data.rstrip(b"\0"))
    else:
        _extend_pax(override, header, data, stream)


def _extend_pax(override: _Override, header: _Header, data: bytes, stream: Stream) -> None:
    for key, value in _pax_records(data, header, stream):
        if key.startswith(b"GNU.sparse."):
            raise FormatError("holds a sparse file", path=stream.file.path, offset=header.at)
        if key not in (b"path", b"linkpath", b"size"):
            continue
        if header.kind == _PAX_GLOBAL:
            raise FormatError("gives all its members one name or size", path=stream.file.path, offset=header.at)
        if key == b"path":
            override.name = name_text(value)
        elif key == b"linkpath":
            override.target = name_text(value)
        elif value.isdigit() and len(value) < 20:
            override.size = int(value)
        else:
            raise FormatError(f"gives a member the size {value[:40]!r}", path=stream.file.path, offset=header.at)


def _pax_records(data: bytes, header: _Header, stream: Stream) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a pax header: ``length key=value`` a line, the length being the whole line's."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 9)
        digits = data[at:space] if space >= 0 else b""
        end = at + int(digits) if digits.isdigit() else -1
        key, equals, value = data[space + 1 : max(end - 1, 0)].partition(b"=")
        if not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise FormatError("has a damaged pax header", path=stream.file.path, offset=header.at)
        yield key, value
        at = end


def _read_header(stream: Stream) -> _Header | None:
    """Return the next header; None at the block of zeros that ends the archive."""
    at = stream.position
    block = stream.read(BLOCK_SIZE)
    if len(block) < BLOCK_SIZE:
        raise cut_short(stream)
    if not block.strip(b"\0"):
        return None
    if not is_tar_header(block):
        raise FormatError(
            "the archive's next header is damaged", path=stream.file.path, offset=at, hint="Fetch it again."
        )
    name = header_name(block)
    size = _number(block[124:136])
    if size is None:
        raise FormatError(f"member {name!r} has no size that a file can have", path=stream.file.path, offset=at)
    return _Header(name, size, block[156:157], name_text(block[157:257].partition(b"\0")[0]), at)


def _number(field: bytes) -> int | None:
    """Return a number: octal digits, or big-endian behind the byte 80 (hex); None where it is neither, or negative."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.lstrip(b" ").partition(b"\0")[0].rstrip(b" ")
    return int(digits or b"0", 8) if all(byte in b"01234567" for byte in digits) else None
