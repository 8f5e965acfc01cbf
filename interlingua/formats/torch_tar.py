"""PyTorch's files before 0.1.10: a tar of ``sys_info``, ``storages``, ``tensors`` and ``pickle``.

``storages`` is a pickled count, then for each storage a pickled (key, location, class), its number of elements
(int64) and the elements, and at last a pickled list of (key, key of the whole, first element, elements) of
storages that are parts of others. ``tensors`` is a pickled count, then for each tensor a pickled (key, storage's key,
class), its number of axes (int32, then four bytes that mean nothing), sizes, strides and first element (int64
each). ``pickle`` is the object, in which tensors and storages are persistent ids. All numbers are little-endian.

Source: pytorch/pytorch: torch/serialization.py (``legacy_load``).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from interlingua.errors import FormatError
from interlingua.formats import pickles
from interlingua.formats.archive_names import plain_name
from interlingua.formats.archive_streams import PlainStream
from interlingua.formats.base import MAX_DIMENSIONS, SourceFile
from interlingua.formats.strided import FileRegion, Source
from interlingua.formats.tar_directory import BLOCK_SIZE, header_name, is_tar_header, read_entries
from interlingua.formats.torch_pickles import ALLOWED, Storage, TorchReader, storage_of, tensor_of

if TYPE_CHECKING:
    from interlingua.formats.registry import Probe

_MEMBERS = frozenset({"sys_info", "storages", "tensors", "pickle"})

_MAX_HEADERS = 1000


@dataclass(frozen=True, slots=True)
class TarMember:
    """A regular file in a tar: its bytes are ``nbytes`` bytes at ``offset``."""

    offset: int
    nbytes: int


def sniff(probe: Probe) -> bool:
    """Say whether the file is a tar that begins with one of PyTorch's members, or holds all of them."""
    if probe.is_dir or not is_tar_header(probe.head[:BLOCK_SIZE]):
        return False
    if plain_name(header_name(probe.head)) in _MEMBERS:
        return True
    try:
        with SourceFile(probe.path) as file:
            return tar_members(file).keys() >= _MEMBERS
    except FormatError:
        return False


def open_reader(path: Path) -> TorchTarReader:
    """Open a PyTorch tar file.

    Raises:
        FormatError: it is damaged, or holds what a checkpoint does not.
    """
    return TorchTarReader(path)


class TorchTarReader(TorchReader):
    """Tensors of a PyTorch tar file, each where its storage lies in the file."""

    container = "torch-tar"

    def _open(self) -> None:
        members = tar_members(self._file)
        missing = _MEMBERS - {"sys_info"} - members.keys()
        if missing:
            raise FormatError(f"is a tar without {' and '.join(sorted(missing))}", path=self.path)
        # Storages and tensors under the addresses that they once had, which is how the pickle refers to them.
        self._objects: dict[int, object] = {}
        self._regions: dict[str, FileRegion] = {}
        self._read_storages(members["storages"])
        self._read_tensors(members["tensors"])
        self._enter(members["pickle"])
        self._take(self._next())

    def _place(self, storage: Storage) -> Source:
        return self._regions[storage.key]

    def _enter(self, member: TarMember) -> None:
        self._at, self._stop = member.offset, member.offset + member.nbytes

    def _next(self) -> object:
        """Return the object of the next pickle of the member."""
        value, self._at = pickles.load(self._file, self._at, self._stop, ALLOWED, self._persistent)
        return value

    def _raw(self, nbytes: int, what: str) -> bytes:
        """Return the next bytes of the member."""
        if nbytes > self._stop - self._at:
            raise self._broken(f"ends in the middle of {what}")
        self._at += nbytes
        return self._file.read_at(self._at - nbytes, nbytes, what)

    def _broken(self, message: str) -> FormatError:
        return FormatError(message, path=self.path, offset=self._at)

    def _persistent(self, identity: object) -> object:
        if isinstance(identity, tuple):
            raise ValueError("it is a module, with its code; save its state_dict() instead")
        if isinstance(identity, str) and re.fullmatch(r"-?[0-9]{1,20}", identity):
            identity = int(identity)
        found = self._objects.get(identity) if isinstance(identity, int) else None
        if found is None:
            raise ValueError(f"there is no tensor or storage {pickles.describe(identity)}")
        return found

    def _count(self) -> int:
        count = self._next()
        if not isinstance(count, int) or count < 0:
            raise self._broken("has a damaged count")
        return count

    def _fields(self, value: object, count: int) -> tuple[object, ...]:
        if not isinstance(value, tuple) or len(value) != count:
            raise self._broken(f"describes a storage or tensor by {pickles.describe(value)}")
        return value

    def _enter_object(self, key: object, value: object) -> None:
        if not isinstance(key, int) or key in self._objects:
            raise self._broken(f"has two things called {pickles.describe(key)}")
        self._objects[key] = value

    def _read_storages(self, member: TarMember) -> None:
        self._enter(member)
        for _ in range(self._count()):
            key, location, kind = self._fields(self._next(), 3)
            count = int.from_bytes(self._raw(8, "a storage's size"), "little")
            self._enter_object(key, self._storage(kind, str(key), location, count))
        parts = self._next()
        for part in parts if isinstance(parts, list) else [parts]:
            key, whole, start, length = self._fields(part, 4)
            self._enter_object(key, self._part(whole, start, length))

    def _storage(self, kind: object, key: str, location: object, count: int) -> object:
        """Return the storage whose elements follow, and pass over them."""
        try:
            storage = storage_of(kind, key, location, count)
        except ValueError as error:
            raise self._broken(f"has a storage that is refused: {error}") from error
        if not isinstance(storage, Storage):
            raise self._broken(f"has a storage of {pickles.describe(kind)}")
        if storage.total_nbytes > self._stop - self._at:
            raise self._broken(f"claims a storage of {storage.total_nbytes} bytes, which are not there")
        self._regions[key] = FileRegion(self._file, self._at)
        self._at += storage.total_nbytes
        return storage

    def _part(self, whole: object, start: object, count: object) -> Storage:
        """Return the storage that is a part of another."""
        storage = self._objects.get(whole) if isinstance(whole, int) else None
        if not isinstance(storage, Storage) or not isinstance(start, int) or not isinstance(count, int):
            raise self._broken("has a damaged part of a storage")
        if start < 0 or count < 0 or start + count > storage.numel:
            raise self._broken(f"has a part of a storage that ends at element {start + count} of {storage.numel}")
        return replace(storage, start=storage.start + start, numel=count)

    def _read_tensors(self, member: TarMember) -> None:
        self._enter(member)
        for _ in range(self._count()):
            key, storage, _ = self._fields(self._next(), 3)
            axes = int.from_bytes(self._raw(8, "a tensor's axes")[:4], "little")
            if axes > MAX_DIMENSIONS:
                raise self._broken(f"has a tensor of {axes} axes")
            numbers = struct.unpack(f"<{2 * axes + 1}q", self._raw(8 * (2 * axes + 1), "a tensor's shape"))
            found = self._objects.get(storage) if isinstance(storage, int) else None
            try:
                tensor = tensor_of(found, numbers[-1], numbers[:axes], numbers[axes:-1])
            except ValueError as error:
                raise self._broken(f"has a tensor that is refused: {error}") from error
            self._enter_object(key, tensor)


def tar_members(file: SourceFile) -> dict[str, TarMember]:
    """Return the regular files of a tar by name; the headers alone are read.

    Raises:
        FormatError: a header is damaged, a name comes twice, or a file reaches beyond the end.
    """
    found: dict[str, TarMember] = {}
    for entry in read_entries(PlainStream(file), _MAX_HEADERS):
        if entry.kind != "file":
            continue
        name = plain_name(entry.name)
        if name in found:
            raise FormatError(f"is a tar that holds {name!r} twice", path=file.path, offset=entry.at)
        found[name] = TarMember(entry.start, entry.size)
    return found
