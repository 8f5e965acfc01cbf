"""Archives (``.zip``, ``.tar``, ``.tar.gz``, ``.tar.bz2``, ``.tar.xz``) as places that a checkpoint is taken out of.

An archive is read, never trusted: a member is a regular file at a relative path inside the archive, or the archive
is refused by that member's name. Absolute paths, ``..``, drive letters, backslashes, device files, sparse
files, links that lead outside, two members at one place and members below a file are all refused. Links that stay
inside are named in ``links``, and neither followed nor made: nothing but folders and regular files is ever written.

Sizes are promises: unpacking stops where a member has used up what it declared, or the caller's budget, and a
compressed archive may not unpack to more than ``archive_streams`` allows.
Members that are stored as they are can be read in place, without any unpacking.

Layouts: ``zip_directory`` and ``tar_directory``.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from interlingua.errors import FormatError
from interlingua.formats.archive_names import MAX_PATH, Catalogue, Member, name_text
from interlingua.formats.archive_streams import PlainStream, UnpackedStream, bomb, chunks, compression, most_unpacked
from interlingua.formats.base import BLOCK, SourceFile, output_error
from interlingua.formats.registry import Probe
from interlingua.formats.tar_directory import BLOCK_SIZE, TarEntry, is_tar_header, read_entries
from interlingua.formats.zip_directory import STORED, MemberStream, ZipEntry, looks_like_zip, read_directory

if TYPE_CHECKING:
    from typing_extensions import Self

BUDGET = 1 << 40
"""Bytes that are unpacked at most where the caller sets no budget."""


def sniff_archive(probe: Probe) -> bool:
    """Say whether the file is a zip or a tar (a compressed one, too) from its content.

    Containers that are zips or tars themselves must have been asked before.
    """
    if looks_like_zip(probe.head) or is_tar_header(probe.head[:BLOCK_SIZE]):
        return True
    if compression(probe.head) is None:
        return False
    try:
        with SourceFile(probe.path) as file:
            return is_tar_header(UnpackedStream(file).read(BLOCK_SIZE))
    except FormatError:
        return False


def open_archive(path: str | os.PathLike[str]) -> Archive:
    """Open an archive. A zip's and a plain tar's members are all checked; a compressed tar's when it is unpacked.

    Raises:
        FormatError: it is damaged, hostile, or no archive.
    """
    file = SourceFile(path)
    try:
        head = file.read_at(0, min(BLOCK_SIZE, file.size), "the start of the file")
        if looks_like_zip(head):
            return _Zip(file)
        if is_tar_header(head):
            return _PlainTar(file)
        if compression(head) is not None:
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
        for member, data in self._files():
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
            _write_file(target, data)
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


class _Zip(Archive):
    """A zip file."""

    def __init__(self, file: SourceFile) -> None:
        super().__init__(file)
        self._entries: dict[str, ZipEntry] = {}
        self._members = {}
        catalogue = Catalogue(file.path)
        for entry in read_directory(file).values():
            self._enter(catalogue, entry)
        self.links = catalogue.links
        total = sum(member.size for member in self._members.values())
        if total > most_unpacked(file):
            raise bomb(file, total)

    def _enter(self, catalogue: Catalogue, entry: ZipEntry) -> None:
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
        return name_text(b"".join(MemberStream(self._file, entry).chunks()))

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
        catalogue = Catalogue(file.path)
        for entry in read_entries(PlainStream(file)):
            member = _enter(catalogue, entry)
            if member is not None:
                self._members[member.name] = member
                self._offsets[member.name] = entry.start
        self.links = catalogue.links

    def in_place(self, name: str) -> tuple[int, int] | None:
        return self._offsets[name], self.members[name].size

    def _files(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        for name, member in self.members.items():
            stream = PlainStream(self._file)
            stream.skip(self._offsets[name])
            yield member, chunks(stream, member.size)


class _CompressedTar(Archive):
    """A tar in a gzip, bzip2 or xz stream; each look at it is one pass over the stream."""

    def in_place(self, name: str) -> tuple[int, int] | None:
        return None

    def _files(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        stream = UnpackedStream(self._file)
        catalogue = Catalogue(self.path)
        for entry in read_entries(stream):
            member = _enter(catalogue, entry)
            if member is None:
                continue
            if entry.start + member.size > most_unpacked(self._file):
                raise bomb(self._file, entry.start + member.size)
            yield member, chunks(stream, member.size)
        # The rest of the stream is read for its checksum.
        while stream.read(BLOCK):
            pass
        self.links = catalogue.links


def _enter(catalogue: Catalogue, entry: TarEntry) -> Member | None:
    """Enter what a tar holds; return it where it is a file."""
    if entry.kind == "file":
        return catalogue.file(entry.name, entry.size)
    if entry.kind == "hard link":
        catalogue.hard(entry.name, entry.target)
    elif entry.kind == "symbolic link":
        catalogue.symbolic(entry.name, entry.target)
    else:
        catalogue.folder(entry.name)
    return None
