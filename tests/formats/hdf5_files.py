"""HDF5 files for the tests: written by h5py, then changed byte by byte where h5py would not write such a thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from interlingua.formats.hdf5_image import Fields, Image, lookup3

LIBVERS: dict[str, Any] = {"earliest": "earliest", "v108": ("v108", "v108"), "latest": "latest"}
"""Versions of structures that h5py may use: the oldest are what Keras gets, the others keep links in heaps."""


def write(path: Path, fill: Callable[[h5py.File], object], libver: str = "earliest", **kwargs: Any) -> Path:
    """Write an HDF5 file that ``fill`` puts something into."""
    with h5py.File(path, "w", libver=LIBVERS[libver], **kwargs) as file:
        fill(file)
    return path


def patch(path: Path, at: int, data: bytes) -> Path:
    """Overwrite bytes of a file."""
    whole = bytearray(path.read_bytes())
    whole[at : at + len(data)] = data
    path.write_bytes(whole)
    return path


def replace(path: Path, old: bytes, new: bytes) -> Path:
    """Replace the only place where ``old`` occurs."""
    data = path.read_bytes()
    assert data.count(old) == 1, data.count(old)
    path.write_bytes(data.replace(old, new))
    return path


def address(number: int) -> bytes:
    """An address as files have it."""
    return number.to_bytes(8, "little")


def contents(path: Path) -> dict[str, np.ndarray]:
    """Every dataset as h5py reads it, by path, in little-endian order; every name of each, unlike ``visititems``."""
    found: dict[str, np.ndarray] = {}

    def visit(group: h5py.Group, prefix: str) -> None:
        for name, item in group.items():
            if isinstance(item, h5py.Group):
                visit(item, f"{prefix}{name}/")
            else:
                array = item[()]
                found[prefix + name] = np.asarray(array, array.dtype.newbyteorder("<"))

    with h5py.File(path) as file:
        visit(file, "")
    return found


@contextmanager
def blind_to_checksums(monkeypatch: Any) -> Iterator[None]:
    """Let damage in newer structures get past their checksums, to see what is behind them."""

    def unchecked(self: Image, address: int, nbytes: int, what: str, signature: bytes = b"") -> Fields:
        fields = self.fields(address, nbytes, what, signature)
        fields.data = fields.data[:-4]
        return fields

    with monkeypatch.context() as patched:
        patched.setattr(Image, "checked", unchecked)
        yield


def resealed(data: bytes, start: int, nbytes: int) -> bytes:
    """Return ``data`` with the checksum mended of the structure of ``nbytes`` bytes at ``start``."""
    body = data[start : start + nbytes - 4]
    return data[:start] + body + lookup3(body).to_bytes(4, "little") + data[start + nbytes :]
