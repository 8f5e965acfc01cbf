"""Reading the data of a tensor bundle: runs of bytes with a checksum each, joined to tensors, turned round."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from interlingua.errors import FormatError
from interlingua.formats.base import BLOCK, Extent, blocks, crc32c
from interlingua.formats.tensor_bundle_slices import Placement, gather
from interlingua.formats.tensor_bundle_strings import StringPayload


class Piece:
    """A run of bytes in a shard that has a checksum of its own: a tensor, or one slice of it.

    Bytes read front to back are checked on the way; at the first read in any other order the whole run is checked.
    """

    __slots__ = ("_name", "_progress", "_verified", "crc", "extent")

    def __init__(self, extent: Extent, crc: int, name: str) -> None:
        self.extent = extent
        self.crc = crc
        self._name = name
        # One tuple, replaced at once: two threads may read different parts of one tensor.
        self._progress = (0, 0)
        self._verified = False

    def read_into(self, start: int, view: memoryview) -> None:
        """Fill ``view`` with the bytes from ``start``."""
        done, crc = self._progress
        is_next = start == done and not self._verified
        if not is_next and not self._verified:
            self._check_all()
        self.extent.file.read_into(self.extent.offset + start, view)
        if is_next:
            crc = crc32c(view, crc)
            self._progress = (start + len(view), crc)
            if start + len(view) == self.extent.nbytes:
                self._judge(crc)

    def _check_all(self) -> None:
        buffer = memoryview(bytearray(min(BLOCK, self.extent.nbytes)))
        crc = 0
        for start, length in blocks(self.extent.nbytes):
            self.extent.file.read_into(self.extent.offset + start, buffer[:length])
            crc = crc32c(buffer[:length], crc)
        self._judge(crc)

    def _judge(self, crc: int) -> None:
        if crc != self.crc:
            raise FormatError(
                f"the data of {self._name!r} does not match its checksum",
                path=self.extent.file.path,
                offset=self.extent.offset,
                hint="The file is damaged; fetch it again.",
            )
        self._verified = True


@dataclass(frozen=True, slots=True)
class Source:
    """Where a tensor's bytes come from.

    Attributes:
        pieces: its runs; in the order of the tensor where they follow on one another.
        starts: where in the tensor each piece begins, where they do.
        placements: where each piece's bytes go, where they interleave; else empty.
        payload: for strings what the head of their payload says.
    """

    pieces: tuple[Piece, ...]
    starts: tuple[int, ...] = (0,)
    placements: tuple[Placement, ...] = ()
    payload: StringPayload | None = None

    def read_into(self, start: int, view: memoryview) -> None:
        """Fill ``view`` from ``start`` with the bytes as they are stored."""
        if self.placements:
            gather(
                [(put, piece.read_into) for put, piece in zip(self.placements, self.pieces, strict=True)], start, view
            )
            return
        done = 0
        at = bisect_right(self.starts, start) - 1
        while done < len(view):
            skipped = start + done - self.starts[at]
            count = min(len(view) - done, self.pieces[at].extent.nbytes - skipped)
            self.pieces[at].read_into(skipped, view[done : done + count])
            done += count
            at += 1


def read_swapped(source: Source, word: int, start: int, view: memoryview) -> None:
    """Fill ``view`` from ``start``, every ``word`` bytes turned round; it may begin and end inside a word."""
    import numpy as np

    if not view:
        return
    before = start % word
    after = -(start + len(view)) % word
    block = memoryview(bytearray(before + len(view) + after)) if before or after else view
    source.read_into(start - before, block)
    np.frombuffer(block, np.dtype(f"u{word}")).byteswap(inplace=True)
    if block is not view:
        view[:] = block[before : before + len(view)]
