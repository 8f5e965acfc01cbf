"""PyTorch's files before 1.6: five pickles in a row, then the storages.

The pickles are a magic number, the protocol version, facts about the machine that wrote it, the object, and the
keys of its storages; for each key follows the number of its elements (int64) and the elements. Numbers
are little-endian on every machine: PyTorch turns them on writing and never looks at ``little_endian`` of the
third pickle.

Source: pytorch/pytorch: torch/serialization.py (``_legacy_save``, ``_legacy_load``),
torch/csrc/serialization.cpp (``THPStorage_writeFileRaw``).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from interlingua.errors import FormatError
from interlingua.formats import pickles
from interlingua.formats.strided import FileRegion, Source
from interlingua.formats.torch_pickles import ALLOWED, Storage, TorchReader, storage_of, stored_tuple

if TYPE_CHECKING:
    from interlingua.formats.registry import Probe

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001

_MAGIC_FORMS = (b"\x8a\x0a" + MAGIC.to_bytes(10, "little") + b".", b"L%dL\n." % MAGIC)


def sniff(probe: Probe) -> bool:
    """Say whether the file begins with a pickle of the magic number, in any of pickle's protocols."""
    return not probe.is_dir and any(0 <= probe.head.find(form) <= 16 for form in _MAGIC_FORMS)


def open_reader(path: Path) -> TorchLegacyReader:
    """Open a PyTorch file of the form before 1.6.

    Raises:
        FormatError: it is damaged, or holds what a checkpoint does not.
    """
    return TorchLegacyReader(path)


class TorchLegacyReader(TorchReader):
    """Tensors of a PyTorch file before 1.6, each where its storage lies in the file."""

    container = "torch-legacy"

    def _open(self) -> None:
        self._storages: dict[str, Storage] = {}
        self._regions: dict[str, FileRegion] = {}
        self._at = 0
        if self._next() != MAGIC:
            raise FormatError("does not begin with PyTorch's magic number", path=self.path, offset=0)
        version = self._next()
        if version != PROTOCOL:
            raise FormatError(
                f"is of version {pickles.describe(version)} of PyTorch's format; {PROTOCOL} is known",
                path=self.path,
            )
        self._next()
        root = self._next()
        self._find_storages(self._next())
        self._take(root)

    def _next(self) -> object:
        """Return the object of the next pickle."""
        value, self._at = pickles.load(self._file, self._at, self._file.size, ALLOWED, self._persistent)
        return value

    def _persistent(self, identity: object) -> object:
        """Return the storage that an id means: (``storage``, class, key, location, elements, part)."""
        kind, key, location, numel, part = stored_tuple(identity, 5)
        storage = storage_of(kind, key, location, numel, part)
        if isinstance(storage, Storage):
            first = self._storages.setdefault(storage.key, storage)
            if (first.total, first.dtype) != (storage.total, storage.dtype):
                raise ValueError(f"storage {pickles.describe(key)} has two types or sizes")
        return storage

    def _find_storages(self, keys: object) -> None:
        """Note where each storage's elements lie: in the keys' order, each after its number of elements."""
        if not isinstance(keys, list):
            raise FormatError("has no list of storages", path=self.path, offset=self._at)
        for key in keys:
            storage = self._storages.get(key) if isinstance(key, str) else None
            if storage is None or storage.key in self._regions:
                raise FormatError(
                    f"lists the storage {pickles.describe(key)}, which it does not use or lists twice",
                    path=self.path,
                    offset=self._at,
                )
            self._regions[storage.key] = self._region(storage)

    def _region(self, storage: Storage) -> FileRegion:
        count = int.from_bytes(self._file.read_at(self._at, 8, "a storage's size"), "little", signed=True)
        if count != storage.total:
            raise FormatError(
                f"has {count} elements in storage {storage.key!r}, where its pickle counts on {storage.total}",
                path=self.path,
                offset=self._at,
            )
        self._file.check(self._at + 8, storage.total_nbytes, f"storage {storage.key!r}")
        region = FileRegion(self._file, self._at + 8)
        self._at += 8 + storage.total_nbytes
        return region

    def _place(self, storage: Storage) -> Source:
        if storage.key not in self._regions:
            raise FormatError(f"lacks the storage {storage.key[:200]!r}, which a tensor needs", path=self.path)
        return self._regions[storage.key]
