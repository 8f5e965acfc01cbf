"""The filters that HDF5 chunks go through on their way into the file, undone.

Layout: HDFGroup/hdf5: src/H5Zdeflate.c, H5Zshuffle.c, H5Zfletcher32.c, H5checksum.c (fletcher32); h5py/h5py:
lzf/lzf/lzf_d.c (LZF, the filter that h5py brings along).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interlingua.errors import FormatError
from interlingua.formats.hdf5_image import DAMAGED, REWRITE

if TYPE_CHECKING:
    from pathlib import Path

DEFLATE, SHUFFLE, FLETCHER32, LZF = 1, 2, 3, 32000

_OTHER_NAMES = {4: "szip", 5: "n-bit", 6: "scale-offset", 32001: "Blosc", 32004: "LZ4", 32015: "Zstandard"}

_FLETCHER_BYTES = 4
_FLETCHER_MODULUS = 0xFFFF
_FLETCHER_WORDS = 1 << 16
"""16-bit words summed at once: the weighted sum of so many still fits into 64 bits."""

_LZF_LITERALS = 32


@dataclass(frozen=True, slots=True)
class Filter:
    """One step of a filter pipeline: its registered number, and the parameters it was used with."""

    number: int
    parameters: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What a dataset's chunks went through, in the order of writing.

    Attributes:
        filters: the steps.
        path: the file, for errors.
    """

    filters: tuple[Filter, ...]
    path: Path

    def check(self) -> None:
        """Raise FormatError where a filter is none that can be undone here."""
        for step in self.filters:
            if step.number not in (DEFLATE, SHUFFLE, FLETCHER32, LZF):
                name = _OTHER_NAMES.get(step.number, f"number {step.number}")
                raise FormatError(f"a dataset went through the filter {name}", path=self.path, hint=REWRITE)
            if step.number == SHUFFLE and not (step.parameters and step.parameters[0]):
                raise FormatError("a dataset was shuffled by an unknown width", path=self.path, hint=DAMAGED)

    def undo(self, data: bytes, skipped: int, nbytes: int, offset: int) -> bytes:
        """Return the ``nbytes`` bytes of a chunk.

        Args:
            data: the chunk as it is stored.
            skipped: bit i says that step i was left out for this chunk.
            nbytes: bytes that come out.
            offset: byte of the file at which it is stored, for errors.

        Raises:
            FormatError: a checksum is wrong, the packed data is damaged, or another number of bytes comes out.
        """
        most = nbytes + _FLETCHER_BYTES * len(self.filters)
        for index, step in reversed(list(enumerate(self.filters))):
            if skipped >> index & 1:
                continue
            undone = _undo(step, data, most)
            if undone is None:
                raise self._damaged(offset)
            data = undone
        if len(data) != nbytes:
            raise self._damaged(offset)
        return data

    def _damaged(self, offset: int) -> FormatError:
        return FormatError("a chunk of a dataset is damaged", path=self.path, offset=offset, hint=DAMAGED)


def _undo(step: Filter, data: bytes, most: int) -> bytes | None:
    """Undo one filter; None where the data cannot have come out of it, or would be more than ``most`` bytes."""
    if step.number == DEFLATE:
        return _inflate(data, most)
    if step.number == LZF:
        return _unpack_lzf(data, most)
    if step.number == SHUFFLE:
        return _unshuffle(data, step.parameters[0])
    body, stored = data[:-_FLETCHER_BYTES], data[-_FLETCHER_BYTES:]
    return body if len(stored) == _FLETCHER_BYTES and fletcher32(body).to_bytes(4, "little") == stored else None


def _inflate(data: bytes, most: int) -> bytes | None:
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(data, most + 1)
    except zlib.error:
        return None
    return out if stream.eof and len(out) <= most else None


def _unshuffle(data: bytes, width: int) -> bytes:
    """Put back together elements whose first bytes, second bytes ... were stored one group after the other."""
    import numpy as np

    count = len(data) // width
    if width == 1 or count <= 1:
        return data
    whole = np.frombuffer(data, np.uint8, count * width).reshape(width, count).T.tobytes()
    return whole + data[count * width :] if len(data) % width else whole


def fletcher32(data: bytes) -> int:
    """Return HDF5's Fletcher checksum: of big-endian 16-bit words, in ones' complement sums, an odd byte padded."""
    import numpy as np

    words = np.frombuffer(data + bytes(len(data) % 2), ">u2")
    low = high = 0
    for start in range(0, len(words), _FLETCHER_WORDS):
        block = words[start : start + _FLETCHER_WORDS].astype(np.uint64)
        weights = np.arange(len(block), 0, -1, dtype=np.uint64)
        high = high + len(block) * low + int((block * weights).sum())
        low += int(block.sum())
    return _folded(high) << 16 | _folded(low)


def _folded(total: int) -> int:
    """Fold a sum into 16 bits by adding the carries back: never 0 unless nothing was added."""
    return (total - 1) % _FLETCHER_MODULUS + 1 if total else 0


def _unpack_lzf(data: bytes, most: int) -> bytes | None:
    out = bytearray()
    at = 0
    while at < len(data):
        control = data[at]
        at += 1
        if control < _LZF_LITERALS:
            if at + control + 1 > len(data):
                return None
            out += data[at : at + control + 1]
            at += control + 1
        else:
            length = control >> 5
            if length == 7:
                length += data[at] if at < len(data) else 0
                at += 1
            if at >= len(data):
                return None
            back = (control & 0x1F) << 8 | data[at]
            at += 1
            start = len(out) - back - 1
            if start < 0:
                return None
            length += 2
            piece = bytes(out[start : start + length])
            out += (piece * (length // len(piece) + 1))[:length]
        if len(out) > most:
            return None
    return bytes(out)
