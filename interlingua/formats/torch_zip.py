"""PyTorch's zip files (torch 1.6 and later): ``<root>/data.pkl`` and one member ``<root>/data/<key>`` a storage.

Source: pytorch/pytorch: torch/serialization.py (``_save``, ``_load``), caffe2/serialize/inline_container.cc
(``PyTorchStreamWriter``, ``PyTorchStreamReader``).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from interlingua.errors import FormatError
from interlingua.formats import pickles
from interlingua.formats.base import SourceFile, TensorSpec
from interlingua.formats.strided import FileRegion, MemoryRegion, Source
from interlingua.formats.torch_pickles import ALLOWED, Storage, TorchReader, storage_of, stored_tuple
from interlingua.formats.torch_zip_writer import TorchZipWriter
from interlingua.formats.zip_directory import (
    STORED,
    MemberStream,
    ZipEntry,
    looks_like_zip,
    member_names,
    read_directory,
)

if TYPE_CHECKING:
    from interlingua.formats.registry import Probe

MAX_UNPACKED = 16 << 20
"""Bytes of a packed member that are held in memory."""

_PICKLE = "data.pkl"
_HINT = "Unpack it and zip it again without compression (zip -0)."
_KEPT_STREAMS = 8
# A packed member is unpacked from its start for each tensor in it, which must not take for ever.
_MAX_UNPACKING = 64
_FREE_UNPACKING = 4 << 30


def sniff(probe: Probe) -> bool:
    """Say whether the file is a zip with a ``data.pkl`` in it."""
    if probe.is_dir or not looks_like_zip(probe.head):
        return False
    names = member_names(probe.path)
    if names is None:
        # The directory is gone, but PyTorch writes data.pkl first: say that the file is broken, not unknown.
        length = int.from_bytes(probe.head[26:28], "little")
        names = (probe.head[30 : 30 + length].decode("utf-8", "replace"),)
    return any(_is_pickle(name) for name in names)


def open_reader(path: Path) -> TorchZipReader:
    """Open a PyTorch zip file.

    Raises:
        FormatError: it is damaged, or holds what a checkpoint does not.
    """
    return TorchZipReader(path)


def open_writer(
    path: Path,
    tensors: Sequence[TensorSpec],
    *,
    metadata: Mapping[str, str] | None = None,
    ties: Mapping[str, str] | None = None,
) -> TorchZipWriter:
    """Create a PyTorch zip file of one dict of tensors; PyTorch has no place for metadata.

    Raises:
        MappingError: PyTorch has no such element type.
        OutputError: the file cannot be created.
    """
    return TorchZipWriter(path, tensors, metadata=metadata, ties=ties)


def _is_pickle(name: str) -> bool:
    return name == _PICKLE or name.endswith("/" + _PICKLE)


class TorchZipReader(TorchReader):
    """Tensors of a PyTorch zip file, each where its storage lies in the file."""

    container = "torch-zip"

    def _open(self) -> None:
        self._members = read_directory(self._file)
        self._unpacker = _Unpacker(self._file)
        packed = sum(member.size for member in self._members.values() if member.method != STORED)
        self._unpacking = _MAX_UNPACKING * packed + _FREE_UNPACKING
        found = [name for name in self._members if _is_pickle(name)]
        if len(found) != 1:
            raise FormatError(f"is a zip with {len(found)} members called {_PICKLE}, and not one", path=self.path)
        self._root = found[0].removesuffix(_PICKLE)
        if f"{self._root}constants.pkl" in self._members:
            raise FormatError(
                "is a TorchScript program, not a checkpoint",
                path=self.path,
                hint="Load it with torch.jit.load and save its state_dict().",
            )
        self._big_endian = self._byte_order() == b"big"
        self._read_pickle(self._members[found[0]])

    def _byte_order(self) -> bytes:
        member = self._members.get(f"{self._root}byteorder")
        if member is None:
            return b"little"
        order = _unpacked(self._file, member) if member.size <= len(b"little") else b""
        if order not in (b"little", b"big"):
            raise FormatError("names an unknown byte order", path=self.path, offset=member.offset)
        return order

    def _read_pickle(self, member: ZipEntry) -> None:
        start = member.offset
        if member.method != STORED:
            self._pickle_file, start = _UnpackedFile(self.path, _unpacked(self._file, member)), 0
        root, _ = pickles.load(self._pickle_file, start, start + member.size, ALLOWED, _persistent)
        self._take(root)

    def _place(self, storage: Storage) -> Source:
        name = f"{self._root}data/{storage.key}"
        member = self._members.get(name)
        if member is None:
            raise FormatError(f"lacks the member {name[:200]!r}, which a tensor needs", path=self.path)
        if member.size != storage.total_nbytes:
            raise FormatError(
                f"has {member.size} bytes in {name[:200]!r}, where its pickle counts on {storage.total_nbytes}",
                path=self.path,
                offset=member.offset,
            )
        if member.method == STORED:
            return FileRegion(self._file, member.offset)
        self._unpacking -= member.size
        if self._unpacking < 0:
            raise FormatError("has packed members that would have to be unpacked too often", path=self.path, hint=_HINT)
        return _Packed(self._unpacker, member)

    def _seekable(self, source: Source) -> Source:
        return MemoryRegion(_unpacked(self._file, source.member)) if isinstance(source, _Packed) else source


def _persistent(identity: object) -> object:
    """Return the storage that a persistent id means: (``storage``, class, key, location, elements)."""
    kind, key, location, numel = stored_tuple(identity, 4)
    return storage_of(kind, key, location, numel)


def _unpacked(file: SourceFile, member: ZipEntry) -> bytes:
    """Return all of a small member."""
    if member.size > MAX_UNPACKED:
        raise FormatError(
            f"has {member.name[:200]!r} packed, of which parts are needed in another order", path=file.path, hint=_HINT
        )
    return b"".join(MemberStream(file, member).chunks())


class _Unpacker:
    """Reads packed members at any place: forwards on from where it is, backwards from the member's start."""

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self.streams: OrderedDict[str, MemberStream] = OrderedDict()
        self.lock = threading.Lock()

    def read_into(self, member: ZipEntry, offset: int, view: memoryview) -> None:
        with self.lock:
            stream = self.streams.pop(member.name, None) or MemberStream(self.file, member)
            self.streams[member.name] = stream
            if len(self.streams) > _KEPT_STREAMS:
                self.streams.popitem(last=False)
            stream.read_into(offset, view)


@dataclass(frozen=True, slots=True)
class _Packed:
    """A packed member as a source."""

    unpacker: _Unpacker
    member: ZipEntry

    def read_into(self, offset: int, view: memoryview) -> None:
        self.unpacker.read_into(self.member, offset, view)


class _UnpackedFile(SourceFile):
    """A member that was unpacked into memory, where a file is expected."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self.fd = -1
        self.size = len(data)
        self.data = data

    def read_at(self, offset: int, nbytes: int, what: str) -> bytes:
        self.check(offset, nbytes, what)
        return self.data[offset : offset + nbytes]

    def read_into(self, offset: int, view: memoryview) -> None:
        self.check(offset, len(view), "a tensor")
        view[:] = self.data[offset : offset + len(view)]
