"""Archives (``.zip``, ``.tar``, ``.tar.gz``, ``.tar.bz2``, ``.tar.xz``) as places that a checkpoint is taken out of.

An archive is read, never trusted: a member is a regular file at a relative path inside the archive, or the archive
is refused by that member's name. Absolute paths, ``..``, drive letters, backslashes, device files, sparse
files, links that lead outside, two members at one place and members below a file are all refused. Links that stay
inside are named in ``links``, and neither followed nor made: nothing but folders and regular files is ever written.

Sizes are promises: unpacking stops where a member has used up what it declared, or the caller's budget, and a
compressed archive may not unpack to more than ``MAX_RATIO`` times its own size (small ones: to ``RATIO_FLOOR``).
Members that are stored as they are can be read in place, without any unpacking.

Layouts: zip as in ``zip_directory``; tar of POSIX.1-1988 (ustar), POSIX.1-2001 (pax) and GNU tar (``src/tar.h``).
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from interlingua.errors import FormatError
from interlingua.formats.base import BLOCK, SourceFile, output_error
from interlingua.formats.registry import Probe
from interlingua.formats.zip_directory import STORED, MemberStream, ZipEntry, looks_like_zip, read_directory

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_MEMBERS = 100_000
"""Files, folders (those that a path implies, too) and links of one archive."""

MAX_NAMES = 32 << 20
"""Characters of their paths, all together."""

MAX_RATIO = 100
"""Bytes that a whole archive may unpack to for each of its own; weights rarely compress to a half."""

RATIO_FLOOR = 1 << 30
"""Bytes that any archive may unpack to, however small: a checkpoint full of zeros compresses a thousandfold."""

BUDGET = 1 << 40
"""Bytes that are unpacked at most where the caller sets no budget."""

MAX_DEPTH = 64
MAX_PATH = 4000
MAX_PART = 255
"""Folders below each other, bytes of a path, and bytes of one name in it: what file systems can hold."""

_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DRIVE = re.compile("[A-Za-z]:")

_BLOCK = 512
_MAX_LONG_NAME = 1 << 16
_MAX_PAX = 1 << 20

_PACKED_BLOCK = 1 << 16
_XZ_MEMORY = 96 << 20
"""Bytes that an xz stream's dictionary may take; that of ``xz -9`` takes 65 MB."""


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in an archive.

    Attributes:
        name: its path in the archive, with ``/``, without ``./`` and empty parts.
        size: its bytes once unpacked, as the archive declares them.
    """

    name: str
    size: int


def name_flaw(name: str) -> str | None:
    """Say why a name is no safe path below a folder; None where it is one."""
    if not name:
        return "is empty"
    if _CONTROL.search(name):
        return "has characters that are no text"
    if "\\" in name:
        return "has a backslash"
    if name.startswith("/"):
        return "is an absolute path"
    if _DRIVE.match(name):
        return "begins with a drive letter"
    parts = name.split("/")
    if ".." in parts:
        return "leads out of its folder"
    if len(parts) > MAX_DEPTH or len(name.encode()) > MAX_PATH or any(len(part.encode()) > MAX_PART for part in parts):
        return "is too long"
    return None


def plain_name(name: str) -> str:
    """Return a path without ``.`` and empty parts; an empty one where it is the folder itself."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def sniff_archive(probe: Probe) -> bool:
    """Say whether the file is a zip or a tar (a compressed one, too) from its content.

    Containers that are zips or tars themselves must have been asked before.
    """
    if looks_like_zip(probe.head) or _is_tar_header(probe.head[:_BLOCK]):
        return True
    if _compression(probe.head) is None:
        return False
    try:
        with SourceFile(probe.path) as file:
            return _is_tar_header(_Unpacked(file).read(_BLOCK))
    except FormatError:
        return False


def open_archive(path: str | os.PathLike[str]) -> Archive:
    """Open an archive. A zip's and a plain tar's members are all checked; a compressed tar's when it is unpacked.

    Raises:
        FormatError: it is damaged, hostile, or no archive.
    """
    file = SourceFile(path)
    try:
        head = file.read_at(0, min(_BLOCK, file.size), "the start of the file")
        if looks_like_zip(head):
            return _Zip(file)
        if _is_tar_header(head):
            return _PlainTar(file)
        if _compression(head) is not None:
            return _CompressedTar(file)
        raise FormatError("is no archive that is read here", path=path, hint="Unpack it, and name what is inside.")
    except BaseException:
        file.close()
        raise


class Archive(ABC):
    """The regular files in an archive; also a context manager that closes it.

    Attributes:
        path: the archive.
        links: symbolic and hard links inside the archive, which are left out, and what they point at. A compressed
            tar's are known once it was unpacked.
    """

    def __init__(self, file: SourceFile) -> None:
        self.path = file.path
        self.links: dict[str, str] = {}
        self._file = file
        self._members: dict[str, Member] | None = None

    @property
    def members(self) -> dict[str, Member]:
        """The files by name, in the archive's order. For a compressed tar all of it must be read through.

        Raises:
            FormatError: the archive is damaged or hostile.
        """
        if self._members is None:
            self._members = {member.name: member for member, _ in self._files()}
        return self._members

    @abstractmethod
    def in_place(self, name: str) -> tuple[int, int] | None:
        """Return where in the archive's file a member's bytes lie as they are (offset, length); None where packed."""

    @abstractmethod
    def _files(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Yield each file with its bytes, which can be taken until the next one is asked for."""

    def unpack_needed(
        self,
        folder: str | os.PathLike[str],
        wanted: Callable[[str, int], bool],
        budget: int = BUDGET,
    ) -> dict[str, Path]:
        """Unpack the files for which ``wanted(name, size)`` holds, in one pass over the archive.

        Args:
            folder: an existing folder of the caller's own; what is in it after an error is for the caller to remove.
            wanted: called once for each file, in the archive's order.
            budget: bytes that may be written.

        Returns:
            The files that were unpacked, by their names in the archive.

        Raises:
            FormatError: the archive is damaged or hostile, or the files need more than ``budget``.
            OutputError: they cannot be written.
        """
        done: dict[str, Path] = {}
        members: dict[str, Member] = {}
        left = budget
        for member, chunks in self._files():
            members[member.name] = member
            if not wanted(member.name, member.size):
                continue
            left -= member.size
            if left < 0:
                raise FormatError(
                    f"unpacks to more than {budget} bytes with {member.name!r}",
                    path=self.path,
                    hint="Unpack it yourself, and name the folder.",
                )
            target = Path(folder, member.name)
            _write_file(target, chunks)
            done[member.name] = target
        self._members = members
        return done

    def extract(
        self, members: Collection[str], folder: str | os.PathLike[str], budget: int = BUDGET
    ) -> dict[str, Path]:
        """Unpack the files of these names; as ``unpack_needed``.

        Raises:
            FormatError: also where the archive has no file of one of these names.
        """
        done = self.unpack_needed(folder, lambda name, _: name in members, budget)
        for name in members:
            if name not in done:
                raise FormatError(f"has no file {name!r} in it", path=self.path)
        return done

    def close(self) -> None:
        """Close the archive."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _write_file(path: Path, chunks: Iterator[bytes]) -> None:
    """Write a new file, and the folders above it, for nobody else to read."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb", buffering=0) as file:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
    except OSError as error:
        raise output_error(error, path) from error


class _Catalogue:
    """The places that an archive's members take, each of them only once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.links: dict[str, str] = {}
        self._kinds: dict[str, str] = {}
        self._characters = 0

    def file(self, name: str, size: int) -> Member:
        """Enter a regular file."""
        place = self._checked(name, "a file")
        if not place or name.endswith(("/", "/.")):
            raise self._refused(name, "is no name of a file")
        return Member(place, size)

    def folder(self, name: str) -> None:
        """Enter a folder."""
        self._checked(name, "a folder")

    def symbolic(self, name: str, target: str) -> None:
        """Enter a symbolic link, whose target is relative to its folder."""
        place = self._checked(name, "a link")
        parts = target.split("/")
        flaw = name_flaw(target.replace("..", "_") if ".." in parts else target)
        depth = place.count("/")
        for part in parts:
            depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
            if depth < 0:
                flaw = "leads out of the archive"
        self._enter_link(name, place, target, flaw)

    def hard(self, name: str, target: str) -> None:
        """Enter a hard link, whose target is another member."""
        self._enter_link(name, self._checked(name, "a link"), target, name_flaw(target))

    def _enter_link(self, name: str, place: str, target: str, flaw: str | None) -> None:
        if flaw:
            raise self._refused(name, f"is a link to {target[:200]!r}, which {flaw}")
        self.links[place] = target

    def _checked(self, name: str, kind: str) -> str:
        """Return the place that a member of that name takes, when it is one that it may take."""
        flaw = name_flaw(name)
        if flaw:
            raise self._refused(name, flaw)
        place = plain_name(name)
        if not place:
            return place
        there = self._kinds.get(place)
        if there and (there, kind) != ("a folder", "a folder"):
            raise self._refused(name, f"is in it twice, as {there} and as {kind}")
        self._enter(place, kind)
        above = place.rpartition("/")[0]
        while above and above not in self._kinds:
            self._enter(above, "a folder")
            above = above.rpartition("/")[0]
        if above and self._kinds[above] != "a folder":
            raise self._refused(name, f"lies below {above!r}, which is {self._kinds[above]}")
        return place

    def _enter(self, place: str, kind: str) -> None:
        self._kinds[place] = kind
        self._characters += len(place)
        if len(self._kinds) > MAX_MEMBERS or self._characters > MAX_NAMES:
            raise FormatError(f"has more than {MAX_MEMBERS} members, or too long names", path=self.path)

    def _refused(self, name: str, why: str) -> FormatError:
        return FormatError(
            f"member {name[:200]!r} {why}",
            path=self.path,
            hint="An archive like this is not unpacked; ask whoever made it for another.",
        )


class _Zip(Archive):
    """A zip file."""

    def __init__(self, file: SourceFile) -> None:
        super().__init__(file)
        self._entries: dict[str, ZipEntry] = {}
        self._members = {}
        catalogue = _Catalogue(file.path)
        for entry in read_directory(file).values():
            self._enter(catalogue, entry)
        self.links = catalogue.links
        total = sum(member.size for member in self._members.values())
        if total > _most(file):
            raise _bomb(file, total)

    def _enter(self, catalogue: _Catalogue, entry: ZipEntry) -> None:
        """Enter one member as what its name and its Unix mode say that it is."""
        kind = stat.S_IFMT(entry.mode)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            raise FormatError(f"member {entry.name[:200]!r} is no file, folder or link", path=self.path)
        if kind == stat.S_IFDIR or entry.is_folder:
            if entry.size:
                raise FormatError(f"member {entry.name[:200]!r} is a folder with data", path=self.path)
            catalogue.folder(entry.name)
        elif kind == stat.S_IFLNK:
            catalogue.symbolic(entry.name, self._target(entry))
        else:
            member = catalogue.file(entry.name, entry.size)
            self.members[member.name] = member
            self._entries[member.name] = entry

    def _target(self, entry: ZipEntry) -> str:
        """Return what a symbolic link points at, which is its data."""
        if entry.size > MAX_PATH:
            raise FormatError(f"member {entry.name[:200]!r} is a link of {entry.size} bytes", path=self.path)
        return _text(b"".join(MemberStream(self._file, entry).chunks()))

    def in_place(self, name: str) -> tuple[int, int] | None:
        entry = self._entries[name]
        return (entry.offset, entry.size) if entry.method == STORED else None

    def _files(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        for name, entry in self._entries.items():
            yield self.members[name], self._chunks(entry)

    def _chunks(self, entry: ZipEntry) -> Iterator[bytes]:
        # The stream is made when its bytes are asked for: one member packed in an odd way does the others no harm.
        yield from MemberStream(self._file, entry).chunks()


class _PlainTar(Archive):
    """A tar that is not compressed."""

    def __init__(self, file: SourceFile) -> None:
        super().__init__(file)
        self._offsets: dict[str, int] = {}
        self._members = {}
        catalogue = _Catalogue(file.path)
        for member, start in _tar_members(_Plain(file), catalogue):
            self._members[member.name] = member
            self._offsets[member.name] = start
        self.links = catalogue.links

    def in_place(self, name: str) -> tuple[int, int] | None:
        return self._offsets[name], self.members[name].size

    def _files(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        for name, member in self.members.items():
            stream = _Plain(self._file)
            stream.skip(self._offsets[name])
            yield member, _chunks(stream, member.size)


class _CompressedTar(Archive):
    """A tar in a gzip, bzip2 or xz stream; each look at it is one pass over the stream."""

    def in_place(self, name: str) -> tuple[int, int] | None:
        return None

    def _files(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        stream = _Unpacked(self._file)
        catalogue = _Catalogue(self.path)
        for member, start in _tar_members(stream, catalogue):
            if start + member.size > _most(self._file):
                raise _bomb(self._file, start + member.size)
            yield member, _chunks(stream, member.size)
        # The rest of the stream is read for its checksum.
        while stream.read(BLOCK):
            pass
        self.links = catalogue.links


class _Stream(Protocol):
    """Bytes that are read forwards."""

    file: SourceFile
    position: int

    def read(self, nbytes: int) -> bytes:
        """Return the next bytes: as many as asked for, or fewer at the end."""

    def skip(self, nbytes: int) -> None:
        """Pass over the next bytes; raise FormatError where there are fewer."""


class _Plain:
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


def _compression(head: bytes) -> str | None:
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


class _Unpacked:
    """A compressed file, unpacked forwards in bounded steps; several streams one after another are one."""

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self.position = 0
        self._kind = _compression(file.read_at(0, min(8, file.size), "the start of the file"))
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
                raise _cut_short(self)
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
                    raise _cut_short(self)
            data = self._decompress(packed, limit)
            if data:
                if self.position + len(data) > _most(self.file):
                    raise _bomb(self.file, self.position + len(data))
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
        if self._streams > 1024 + self._taken // _BLOCK:
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


def _most(file: SourceFile) -> int:
    """Return how many bytes an archive may unpack to."""
    return max(RATIO_FLOOR, MAX_RATIO * file.size)


def _bomb(file: SourceFile, total: int) -> FormatError:
    return FormatError(
        f"unpacks to {total} bytes or more, although it has only {file.size}",
        path=file.path,
        hint="If that is what it should be, unpack it yourself, and name the folder.",
    )


def _cut_short(stream: _Stream) -> FormatError:
    return FormatError(
        "the archive is cut short", path=stream.file.path, offset=stream.file.size, hint="Fetch it again."
    )


def _chunks(stream: _Stream, size: int) -> Iterator[bytes]:
    """Yield the next ``size`` bytes."""
    while size:
        data = stream.read(min(BLOCK, size))
        if not data:
            raise _cut_short(stream)
        size -= len(data)
        yield data


def _text(data: bytes) -> str:
    """Return a name: UTF-8, or what an old archive with an unknown code page has, byte by byte."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


@dataclass(slots=True)
class _Override:
    """What the next member's header is told by extended headers in front of it."""

    name: str | None = None
    target: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class _TarHeader:
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


def _tar_members(stream: _Stream, catalogue: _Catalogue) -> Iterator[tuple[Member, int]]:
    """Yield the regular files of a tar and where in the stream each begins; its bytes may be taken meanwhile."""
    override = _Override()
    for _ in range(4 * MAX_MEMBERS):
        header = _read_header(stream)
        if header is None:
            return
        if header.kind in (_LONG_NAME, _LONG_TARGET, _PAX_GLOBAL, *_PAX):
            _extend(override, header, stream)
            continue
        name = header.name if override.name is None else override.name
        target = header.target if override.target is None else override.target
        size = header.size if override.size is None else override.size
        override = _Override()
        start = stream.position
        if header.kind in _REGULAR and not (header.kind == b"\0" and name.endswith("/")):
            yield catalogue.file(name, size), start
        else:
            _enter_other(catalogue, header, name, target, size)
        stream.skip(start + size + -size % _BLOCK - stream.position)
    raise FormatError("has too many headers", path=stream.file.path)


def _enter_other(catalogue: _Catalogue, header: _TarHeader, name: str, target: str, size: int) -> None:
    """Enter what is no regular file, and has no data."""
    path, at = catalogue.path, header.at
    if header.kind in _REFUSED:
        raise FormatError(f"member {name[:200]!r} is {_REFUSED[header.kind]}", path=path, offset=at)
    if size:
        raise FormatError(f"member {name[:200]!r} is no file, but has data", path=path, offset=at)
    if header.kind == _HARD_LINK:
        catalogue.hard(name, target)
    elif header.kind == _SYMBOLIC_LINK:
        catalogue.symbolic(name, target)
    elif header.kind in (_FOLDER, b"\0"):
        catalogue.folder(name)
    elif header.kind != _VOLUME_LABEL:
        raise FormatError(f"member {name[:200]!r} is of the unknown kind {header.kind!r}", path=path, offset=at)


def _extend(override: _Override, header: _TarHeader, stream: _Stream) -> None:
    """Take what an extended header says of the next member."""
    limit = _MAX_LONG_NAME if header.kind in (_LONG_NAME, _LONG_TARGET) else _MAX_PAX
    if header.size > limit:
        raise FormatError(f"a header has {header.size} bytes", path=stream.file.path, offset=header.at)
    data = b"".join(_chunks(stream, header.size))
    stream.skip(-header.size % _BLOCK)
    if header.kind == _LONG_NAME:
        override.name = _text(data.rstrip(b"\0"))
    elif header.kind == _LONG_TARGET:
        override.target = _text(data.rstrip(b"\0"))
    else:
        _extend_pax(override, header, data, stream)


def _extend_pax(override: _Override, header: _TarHeader, data: bytes, stream: _Stream) -> None:
    for key, value in _pax_records(data, header, stream):
        if key.startswith(b"GNU.sparse."):
            raise FormatError("holds a sparse file", path=stream.file.path, offset=header.at)
        if key not in (b"path", b"linkpath", b"size"):
            continue
        if header.kind == _PAX_GLOBAL:
            raise FormatError("gives all its members one name or size", path=stream.file.path, offset=header.at)
        if key == b"path":
            override.name = _text(value)
        elif key == b"linkpath":
            override.target = _text(value)
        elif value.isdigit() and len(value) < 20:
            override.size = int(value)
        else:
            raise FormatError(f"gives a member the size {value[:40]!r}", path=stream.file.path, offset=header.at)


def _pax_records(data: bytes, header: _TarHeader, stream: _Stream) -> Iterator[tuple[bytes, bytes]]:
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


def _read_header(stream: _Stream) -> _TarHeader | None:
    """Return the next header; None at the block of zeros that ends the archive."""
    at = stream.position
    block = stream.read(_BLOCK)
    if len(block) < _BLOCK:
        raise _cut_short(stream)
    if not block.strip(b"\0"):
        return None
    if not _is_tar_header(block):
        raise FormatError(
            "the archive's next header is damaged", path=stream.file.path, offset=at, hint="Fetch it again."
        )
    name = _text(block[:100].partition(b"\0")[0])
    prefix = block[345:500].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and prefix:
        name = f"{_text(prefix)}/{name}"
    size = _tar_number(block[124:136])
    if size is None:
        raise FormatError(f"member {name!r} has no size that a file can have", path=stream.file.path, offset=at)
    return _TarHeader(name, size, block[156:157], _text(block[157:257].partition(b"\0")[0]), at)


def _is_tar_header(block: bytes) -> bool:
    """Say whether a block's checksum, which old writers took over signed bytes, is the one in it."""
    if len(block) < _BLOCK or not block.strip(b"\0"):
        return False
    rest = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(rest)
    signed = unsigned - 256 * sum(byte > 127 for byte in rest)
    return _tar_number(block[148:156]) in (unsigned, signed)


def _tar_number(field: bytes) -> int | None:
    """Return a number: octal digits, or big-endian behind the byte 80 (hex); None where it is neither, or negative."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.lstrip(b" ").partition(b"\0")[0].rstrip(b" ")
    return int(digits or b"0", 8) if all(byte in b"01234567" for byte in digits) else None
