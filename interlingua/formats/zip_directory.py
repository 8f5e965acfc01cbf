"""The directory of a zip file, checked against the file before anything in it is believed.

``read_directory`` returns the members of a zip by name. Whatever comes back lies inside the file, has one
name and one place: the local header in front of each member agrees with the central directory, no two members
share a byte, and none is encrypted. Where two readers of zip could see two different archives in one file
(two ends of directory, names that differ, bytes after the end), the file is refused.

A member that is stored lies in the file as it stands: ``entry.offset`` and ``entry.size`` are its bytes. A deflated
one is read through ``MemberStream``, which never yields more than the directory declares and checks the CRC.

Layout: PKWARE APPNOTE.TXT 6.3, sections 4.3 to 4.5.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from interlingua.errors import FormatError
from interlingua.formats.base import BLOCK, SourceFile, crc32

STORED = 0
DEFLATED = 8

MAX_ENTRIES = 100_000
"""Members in one zip: a thousand times what a checkpoint has, and few enough to hold in memory."""

MAX_DIRECTORY = 32 << 20
"""Bytes of a central directory."""

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")

_LOCAL_MAGIC = b"PK\x03\x04"
_CENTRAL_MAGIC = b"PK\x01\x02"
_END_MAGIC = b"PK\x05\x06"
_LOCATOR_MAGIC = b"PK\x06\x07"
_END64_MAGIC = b"PK\x06\x06"

_MAX_COMMENT = 0xFFFF
_MAX_RATIO = 1032
"""Bytes that deflate can make of one: a match of 258 bytes in two bits."""

_PACKED_BLOCK = 1 << 16
_FULL16 = 0xFFFF
_FULL32 = 0xFFFFFFFF
_ZIP64_EXTRA = 0x0001

_ENCRYPTED = 1 << 0
_SIZES_FOLLOW = 1 << 3
_STRONGLY_ENCRYPTED = 1 << 6
_UTF8 = 1 << 11
_HIDDEN_HEADERS = 1 << 13
_TELLING = _ENCRYPTED | _SIZES_FOLLOW | _UTF8
"""The flags that a member's two headers must agree on; the others are hints of its writer's."""

_UNIX = 3


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """One member of a zip file.

    Attributes:
        name: as the directory spells it, with forward slashes as it may have them; checked for nothing but NUL.
        method: 0 stored, 8 deflated; others are listed but cannot be read.
        offset: byte of the file at which its data begins.
        stored: bytes that it takes in the file.
        size: bytes that it has once unpacked; equal to ``stored`` where ``method`` is 0.
        crc: CRC-32 of the unpacked bytes.
        mode: Unix mode (type and permissions) where its writer recorded one, else 0.
    """

    name: str
    method: int
    offset: int
    stored: int
    size: int
    crc: int
    mode: int

    @property
    def is_folder(self) -> bool:
        """Whether it stands for a folder and has no data."""
        return self.name.endswith("/")


@dataclass(frozen=True, slots=True)
class _Listed:
    """A row of the central directory."""

    name: bytes
    flags: int
    method: int
    crc: int
    stored: int
    size: int
    header: int
    mode: int


@dataclass(frozen=True, slots=True)
class _End:
    """What the end of the file says of the central directory: its place, and how many rows it has."""

    offset: int
    nbytes: int
    count: int


def looks_like_zip(head: bytes) -> bool:
    """Say whether a file's first bytes are those of a zip (of one that holds nothing, too)."""
    return head.startswith((_LOCAL_MAGIC, _END_MAGIC))


def member_names(path: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """Return the names in a zip's central directory, for telling kinds of zip apart; None where it has none to read."""
    try:
        with SourceFile(path) as file:
            return tuple(_text(row, file) for row in _central_rows(file, _find_end(file)))
    except FormatError:
        return None


def read_directory(file: SourceFile) -> dict[str, ZipEntry]:
    """Return the members of a zip by name, in the directory's order, folders included.

    Raises:
        FormatError: it is damaged, ambiguous, encrypted, split over several files, or its members overlap, share
            a name, or do not lie inside the file.
    """
    end = _find_end(file)
    entries: dict[str, ZipEntry] = {}
    headers: dict[str, int] = {}
    for row in _central_rows(file, end):
        entry = _located(file, row, end.offset)
        if entry.name in entries:
            raise FormatError(f"the zip holds {entry.name!r} twice", path=file.path, offset=row.header)
        entries[entry.name] = entry
        headers[entry.name] = row.header
    _refuse_overlaps(file, entries, headers)
    return entries


def _find_end(file: SourceFile) -> _End:
    """Find the end-of-directory record and what it, or its 64-bit form, says."""
    at, record = _end_record(file)
    _, disk, first_disk, here, count, nbytes, offset, _ = record
    if at >= _LOCATOR.size:
        locator = _LOCATOR.unpack(file.read_at(at - _LOCATOR.size, _LOCATOR.size, "the zip's 64-bit locator"))
        if locator[0] == _LOCATOR_MAGIC:
            return _end64(file, at, record, locator)
    if disk or first_disk or here != count:
        raise FormatError("is one part of a zip that is split over several files", path=file.path, offset=at)
    return _checked_end(file, _End(offset, nbytes, count), at)


def _end_record(file: SourceFile) -> tuple[int, tuple[bytes, int, int, int, int, int, int, int]]:
    """Return the place and the fields of the only end record whose comment ends with the file."""
    length = min(file.size, _END.size + _MAX_COMMENT)
    base = file.size - length
    tail = file.read_at(base, length, "the end of the zip")
    places = []
    at = tail.rfind(_END_MAGIC)
    while at >= 0:
        if at + _END.size <= length and _END.unpack_from(tail, at)[7] == length - at - _END.size:
            places.append(at)
        at = tail.rfind(_END_MAGIC, 0, at)
    if not places:
        raise FormatError(
            "the zip's directory is missing",
            path=file.path,
            offset=file.size,
            hint="The file is truncated or damaged; fetch it again.",
        )
    if len(places) > 1:
        raise FormatError("the zip has two ends, and so two contents", path=file.path, offset=base + places[-1])
    return base + places[0], _END.unpack_from(tail, places[0])


def _end64(
    file: SourceFile,
    at: int,
    record: tuple[bytes, int, int, int, int, int, int, int],
    locator: tuple[bytes, int, int, int],
) -> _End:
    """Return what the 64-bit end record says, which the record at ``at`` may not contradict."""
    _, disk, first_disk, here, count, nbytes, offset, _ = record
    _, disk64, place, disks = locator
    values = _END64.unpack(file.read_at(place, _END64.size, "the zip's 64-bit end record"))
    magic, length, _, _, own_disk, own_first_disk, here64, count64, nbytes64, offset64 = values
    if magic != _END64_MAGIC or place + 12 + length != at - _LOCATOR.size:
        raise FormatError("the zip's 64-bit end record is not where it should be", path=file.path, offset=place)
    if disk64 or disks > 1 or own_disk or own_first_disk or disk not in (0, _FULL16) or first_disk not in (0, _FULL16):
        raise FormatError("is one part of a zip that is split over several files", path=file.path, offset=place)
    pairs = (
        (here, here64, _FULL16),
        (count, count64, _FULL16),
        (nbytes, nbytes64, _FULL32),
        (offset, offset64, _FULL32),
        (min(here64, _FULL16), count64, _FULL16),
    )
    if any(short not in (wide, full) for short, wide, full in pairs):
        raise FormatError("the zip's two end records contradict each other", path=file.path, offset=place)
    return _checked_end(file, _End(offset64, nbytes64, count64), place)


def _checked_end(file: SourceFile, end: _End, at: int) -> _End:
    """Return ``end`` where the directory it speaks of ends at ``at`` and can hold as many rows as it says."""
    if end.offset + end.nbytes != at:
        raise FormatError("the zip's directory is not where its end says", path=file.path, offset=at)
    if end.count > MAX_ENTRIES or end.nbytes > MAX_DIRECTORY:
        raise FormatError(f"the zip lists {end.count} members in {end.nbytes} bytes: too many", path=file.path)
    if end.count * _CENTRAL.size > end.nbytes:
        raise FormatError(f"the zip's directory is too small for {end.count} members", path=file.path, offset=at)
    return end


def _central_rows(file: SourceFile, end: _End) -> Iterator[_Listed]:
    """Yield the rows of the central directory."""
    data = file.read_at(end.offset, end.nbytes, "the zip's directory")
    at = 0
    for _ in range(end.count):
        if at + _CENTRAL.size > len(data):
            raise FormatError("the zip's directory is cut short", path=file.path, offset=end.offset + at)
        fields = _CENTRAL.unpack_from(data, at)
        magic, made_by, _, flags, method, _, _, crc, stored, size, name_len, extra_len, comment_len = fields[:13]
        disk, _, external, header = fields[13:]
        name_at = at + _CENTRAL.size
        extra_at = name_at + name_len
        following = extra_at + extra_len + comment_len
        if magic != _CENTRAL_MAGIC or following > len(data):
            raise FormatError("a row of the zip's directory is damaged", path=file.path, offset=end.offset + at)
        short = [size, stored, header]
        if _FULL32 in short:
            extra = data[extra_at : extra_at + extra_len]
            size, stored, header = _widened(short, extra, file, end.offset + extra_at)
        if disk not in (0, _FULL16):
            raise FormatError("is one part of a zip that is split over several files", path=file.path)
        mode = external >> 16 if made_by >> 8 == _UNIX else 0
        yield _Listed(data[name_at:extra_at], flags, method, crc, stored, size, header, mode)
        at = following
    if at != len(data):
        raise FormatError("the zip's directory is longer than its rows", path=file.path, offset=end.offset + at)


def _widened(short: list[int], extra: bytes, file: SourceFile, offset: int) -> list[int]:
    """Return ``short`` with the fields that 32 bits could not hold taken from the 64-bit extra field, in its order."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == _ZIP64_EXTRA:
            needed = 8 * short.count(_FULL32)
            if length < needed or at + 4 + length > len(extra):
                break
            wide = iter(struct.unpack_from(f"<{needed // 8}Q", extra, at + 4))
            return [next(wide) if value == _FULL32 else value for value in short]
        at += 4 + length
    raise FormatError("a member of the zip has no 64-bit sizes, but says so", path=file.path, offset=offset)


def _text(row: _Listed, file: SourceFile) -> str:
    """Return a member's name: UTF-8 where its flag says so, else code page 437."""
    try:
        name = row.name.decode("utf-8" if row.flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise FormatError("a member's name is no UTF-8", path=file.path, offset=row.header) from error
    if "\0" in name or not name:
        raise FormatError(f"a member has the impossible name {name!r}", path=file.path, offset=row.header)
    return name


def _located(file: SourceFile, row: _Listed, directory: int) -> ZipEntry:
    """Return the member a row stands for, once its local header has confirmed the row."""
    name = _text(row, file)
    if row.flags & (_ENCRYPTED | _STRONGLY_ENCRYPTED | _HIDDEN_HEADERS):
        raise FormatError(f"{name!r} is encrypted", path=file.path, hint="Decrypt the zip first.")
    if row.method == STORED and row.stored != row.size:
        raise FormatError(f"{name!r} is stored, but has two sizes", path=file.path, offset=row.header)
    if row.method == DEFLATED and row.size > _MAX_RATIO * (row.stored + 1):
        raise FormatError(
            f"{name!r} claims {row.size} bytes, more than deflate can make of {row.stored}",
            path=file.path,
            offset=row.header,
        )
    if row.header + _LOCAL.size + len(row.name) + row.stored > directory:
        raise FormatError(f"{name!r} reaches beyond the zip's members", path=file.path, offset=row.header)
    header = file.read_at(row.header, _LOCAL.size, "a member's header")
    magic, _, flags, method, _, _, crc, stored, size, name_len, extra_len = _LOCAL.unpack(header)
    if magic != _LOCAL_MAGIC:
        raise FormatError(f"{name!r} is not where the zip's directory says", path=file.path, offset=row.header)
    rest = file.read_at(row.header + _LOCAL.size, name_len + extra_len, "a member's header")
    if _FULL32 in (size, stored):
        size, stored = _widened([size, stored], rest[name_len:], file, row.header)
    same = (rest[:name_len], flags & _TELLING, method) == (row.name, row.flags & _TELLING, row.method)
    if not same or not _agree((crc, stored, size), row):
        raise FormatError(
            f"{name!r} is one thing in the zip's directory and another in its own header",
            path=file.path,
            offset=row.header,
        )
    offset = row.header + _LOCAL.size + name_len + extra_len
    if offset + row.stored > directory:
        raise FormatError(f"{name!r} reaches into the zip's directory", path=file.path, offset=offset)
    return ZipEntry(name, row.method, offset, row.stored, row.size, row.crc, row.mode)


def _agree(told: tuple[int, int, int], row: _Listed) -> bool:
    """Say whether a local header's CRC and sizes are its row's, or zero where they follow the data."""
    late = row.flags & _SIZES_FOLLOW
    return all(n == m or (late and n == 0) for n, m in zip(told, (row.crc, row.stored, row.size), strict=True))


def _refuse_overlaps(file: SourceFile, entries: dict[str, ZipEntry], headers: dict[str, int]) -> None:
    """Raise FormatError where one member's bytes, header included, reach into the next one's."""
    end, before = 0, ""
    for name in sorted(entries, key=headers.__getitem__):
        if headers[name] < end:
            raise FormatError(f"{name!r} and {before!r} overlap in the zip", path=file.path, offset=headers[name])
        end, before = entries[name].offset + entries[name].stored, name


class _Inflate(Protocol):
    """What is used of zlib's decompressor."""

    @property
    def eof(self) -> bool: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class MemberStream:
    """The unpacked bytes of one member, read forwards in bounded steps (backwards by starting over).

    Holds 64 KB of packed bytes and the 32 KB window of deflate. It never yields more than the directory
    declares, and refuses a member whose data ends early, goes on, or has another CRC-32, when its end is reached.

    Args:
        file: the zip.
        entry: a member of it, from ``read_directory``.

    Raises:
        FormatError: the member is packed by a method other than stored and deflated.
    """

    def __init__(self, file: SourceFile, entry: ZipEntry) -> None:
        if entry.method not in (STORED, DEFLATED):
            raise FormatError(
                f"{entry.name!r} is packed by method {entry.method}, which is not read here",
                path=file.path,
                hint="Unpack the zip first.",
            )
        self.file = file
        self.entry = entry
        self._restart()

    def _restart(self) -> None:
        self.position = 0
        self._taken = 0
        self._crc = 0
        self._inflate: _Inflate | None = zlib.decompressobj(-15) if self.entry.method == DEFLATED else None

    def read_into(self, start: int, view: memoryview) -> None:
        """Fill ``view`` with the unpacked bytes from ``start``.

        Raises:
            FormatError: the member is damaged.
            ValueError: more is asked for than the member has.
        """
        if start + len(view) > self.entry.size:
            raise ValueError(f"{self.entry.name!r} has {self.entry.size} bytes")
        if start < self.position:
            self._restart()
        while self.position < start:
            self._step(min(BLOCK, start - self.position))
        done = 0
        while done < len(view):
            data = self._step(min(BLOCK, len(view) - done))
            view[done : done + len(data)] = data
            done += len(data)

    def chunks(self) -> Iterator[bytes]:
        """Yield the unpacked bytes from the first to the last, which are checked when the last is reached.

        Raises:
            FormatError: the member is damaged.
        """
        self._restart()
        while self.position < self.entry.size:
            yield self._step(BLOCK)
        if self.entry.size == 0:
            self._check_end()

    def _step(self, limit: int) -> bytes:
        """Return the next bytes: at least one, at most ``limit``."""
        limit = min(limit, self.entry.size - self.position)
        data = self._stored(limit) if self._inflate is None else self._inflated(self._inflate, limit)
        if not data:
            raise self._damaged("ends early")
        self.position += len(data)
        self._crc = crc32(data, self._crc)
        if self.position == self.entry.size:
            self._check_end()
        return data

    def _stored(self, limit: int) -> bytes:
        return self.file.read_at(self.entry.offset + self.position, limit, f"member {self.entry.name!r}")

    def _inflated(self, inflate: _Inflate, limit: int) -> bytes:
        """Return what the next packed bytes unpack to: nothing only where they are at their end."""
        try:
            while not inflate.eof:
                packed = inflate.unconsumed_tail or self._more()
                data = inflate.decompress(packed, limit)
                if data or not packed:
                    return data
        except zlib.error as error:
            raise self._damaged("is no deflate data") from error
        return b""

    def _more(self) -> bytes:
        """Return the next packed bytes, none at the end."""
        count = min(_PACKED_BLOCK, self.entry.stored - self._taken)
        data = self.file.read_at(self.entry.offset + self._taken, count, f"member {self.entry.name!r}")
        self._taken += count
        return data

    def _check_end(self) -> None:
        """Raise FormatError unless the data ends here and has the CRC that the directory gives."""
        inflate = self._inflate
        if inflate is not None:
            more = self._inflated(inflate, 1)
            if more or not inflate.eof or inflate.unused_data or self._taken != self.entry.stored:
                raise self._damaged("does not end where the directory says")
        if self._crc != self.entry.crc:
            raise self._damaged("does not have the CRC-32 that the directory gives")

    def _damaged(self, what: str) -> FormatError:
        return FormatError(
            f"member {self.entry.name!r} {what}",
            path=self.file.path,
            offset=self.entry.offset,
            hint="The file is damaged; fetch it again.",
        )


def check_crc(file: SourceFile, entry: ZipEntry) -> None:
    """Read a member through and check its CRC-32.

    Raises:
        FormatError: the member is damaged.
    """
    for _ in MemberStream(file, entry).chunks():
        pass


def open_zip(path: str | os.PathLike[str]) -> tuple[SourceFile, dict[str, ZipEntry]]:
    """Open a zip file and read its directory; the file is the caller's to close.

    Raises:
        FormatError: as ``read_directory``.
    """
    file = SourceFile(Path(path))
    try:
        return file, read_directory(file)
    except BaseException:
        file.close()
        raise
