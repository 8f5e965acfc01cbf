"""Partitioned variables of a tensor bundle: where each slice lies in the whole tensor, and gathering them into it.

Source: tensorflow/tensorflow: tensorflow/core/framework/tensor_slice.proto (a slice is one extent an axis),
tensorflow/core/util/saved_tensor_slice_util.cc and tensorflow/core/lib/strings/ordered_code.cc (its key).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from interlingua.formats.base import BLOCK, blocks

MAX_SCATTERED = 4096
"""Slices of one tensor, where they interleave, beyond which it is refused: each costs a read a block."""

MAX_CUT_AXES = 6
"""Axes along which one tensor may be cut at once: each doubles the corners that are checked."""

FULL = -1
"""Length that stands for all of an axis."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A box of a tensor: along each axis the first index and the number of them (``FULL`` for the whole axis)."""

    starts: tuple[int, ...]
    lengths: tuple[int, ...]

    def key(self, name: str) -> bytes:
        """Return the key of this slice's own entry in the index, for the variable ``name``."""
        # OrderedCode escapes 0xff too, but UTF-8 has no such byte.
        out = bytearray(b"\0" + name.encode().replace(b"\0", b"\0\xff") + b"\0\x01" + _ordered_count(len(self.starts)))
        for start, length in zip(self.starts, self.lengths, strict=True):
            out += _ordered_signed(start) + _ordered_signed(length)
        return bytes(out)

    def within(self, shape: Sequence[int]) -> Slice | None:
        """Return the box with every length spelt out; None where it does not lie inside ``shape``."""
        if len(shape) != len(self.starts):
            return None
        lengths = tuple(n if length == FULL else length for n, length in zip(shape, self.lengths, strict=True))
        inside = all(
            start >= 0 and length > 0 and start + length <= n
            for start, length, n in zip(self.starts, lengths, shape, strict=True)
        )
        return Slice(self.starts, lengths) if inside else None


def _ordered_count(value: int) -> bytes:
    """Encode a number of 0 or more so that encodings sort as the numbers do: its length in bytes, then it."""
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "big")


def _ordered_signed(value: int) -> bytes:
    """Encode a signed number so that encodings sort as the numbers do: n bytes hold those of 7 n bits."""
    size = (value if value >= 0 else ~value).bit_length() // 7 + 1
    code = value & ((1 << 8 * size) - 1) ^ ((1 << size) - 1) << 7 * size
    return code.to_bytes(size, "big")


def tiles(boxes: Sequence[Slice], shape: Sequence[int]) -> bool:
    """Say whether boxes inside ``shape`` cover it wholly and never twice; no, where more than ``MAX_CUT_AXES`` are cut.

    Each box adds alternating signs at its corners. Summed over all boxes these equal the signs of the whole, taken as
    one box, exactly where the boxes tile it: a box is what its corners' signs add up to, summed along every axis.
    """
    cut = [axis for axis, n in enumerate(shape) if any(box.lengths[axis] != n for box in boxes)]
    if len(cut) > MAX_CUT_AXES:
        return False
    signs: dict[tuple[int, ...], int] = {}
    whole = Slice((0,) * len(shape), tuple(shape))
    for box, weight in (*((box, 1) for box in boxes), (whole, -1)):
        ends = [((box.starts[axis], 1), (box.starts[axis] + box.lengths[axis], -1)) for axis in cut]
        for corner in product(*ends):
            point = tuple(at for at, _ in corner)
            signs[point] = signs.get(point, 0) + weight * math.prod(sign for _, sign in corner)
    return not any(signs.values())


class Placement:
    """Where the bytes of one slice lie among the bytes of the whole tensor: runs of equal length, evenly nested.

    Attributes:
        nbytes: bytes of the slice.
        run: bytes that lie together in both.
        first: offset in the whole of the slice's first byte.
    """

    __slots__ = ("_axes", "first", "nbytes", "run")

    def __init__(self, box: Slice, shape: Sequence[int], itemsize: int) -> None:
        cut = [axis for axis, n in enumerate(shape) if box.lengths[axis] != n]
        last = cut[-1] if cut else -1
        strides = [itemsize * math.prod(shape[axis + 1 :]) for axis in range(last + 1)]
        self._axes = tuple(zip(box.starts, box.lengths, strides, strict=False))
        self.nbytes = itemsize * math.prod(box.lengths)
        self.run = self.nbytes // math.prod(box.lengths[:last]) if cut else self.nbytes
        self.first = sum(start * stride for start, _, stride in self._axes)

    def before(self, offset: int) -> int:
        """Return how many bytes of the slice lie before ``offset`` in the whole."""
        count, below = 0, self.nbytes
        for start, length, stride in self._axes:
            index, offset = divmod(offset, stride)
            below //= length
            if index < start:
                return count
            if index >= start + length:
                return count + length * below
            count += (index - start) * below
        return count + min(offset, below)

    def scatter(self, data: bytearray, begin: int, view: memoryview, start: int) -> None:
        """Put ``data``, the slice's bytes from ``begin``, into ``view``, the whole's bytes from ``start``."""
        import numpy as np

        outer = self._axes[:-1]
        unit = math.gcd(8, self.run, begin, len(data), self.first, start, len(view), *(stride for *_, stride in outer))
        word = np.dtype(f"u{unit}")
        at = np.arange(begin // unit, (begin + len(data)) // unit, dtype=np.int64)
        run, target = np.divmod(at, self.run // unit)
        target += (self.first - start) // unit
        for _, length, stride in reversed(outer):
            run, index = np.divmod(run, length)
            target += index * (stride // unit)
        np.frombuffer(view, word)[target] = np.frombuffer(data, word)


Part = tuple[Placement, Callable[[int, memoryview], None]]
"""A slice's placement, and what reads its bytes from an offset of its own."""


def gather(parts: Sequence[Part], start: int, view: memoryview) -> None:
    """Fill ``view`` with the whole tensor's bytes from ``start``, each slice being read front to back."""
    for done, length in blocks(len(view), BLOCK):
        block = view[done : done + length]
        for placement, read in parts:
            begin, end = placement.before(start + done), placement.before(start + done + length)
            if begin < end:
                data = bytearray(end - begin)
                read(begin, memoryview(data))
                placement.scatter(data, begin, block, start + done)
