"""What is done to elements on their way: transposing in cache-sized blocks, and casting with an account of losses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interlingua.formats.dtypes import DType, numpy_dtype

if TYPE_CHECKING:
    from typing import Any

    import numpy as np

    Array = np.ndarray[Any, Any]

SIDE = 256
"""Rows and columns that are transposed at a time: two such blocks fit into a core's own cache."""

CACHE_LINE = 64
"""Bytes by which a block's rows are longer: at strides of a power of two, rows evict each other from the cache."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What a narrowing cast lost of one tensor.

    Attributes:
        overflow: finite elements that became infinite.
        underflow: elements other than zero that became zero.
    """

    overflow: int = 0
    underflow: int = 0

    def __add__(self, other: Losses) -> Losses:
        return Losses(self.overflow + other.overflow, self.underflow + other.underflow)

    def __bool__(self) -> bool:
        return bool(self.overflow or self.underflow)


def transpose(matrix: Array, turned: Array) -> None:
    """Put the transpose of a row-major ``[rows, columns]`` matrix into ``turned``, ``[columns, rows]`` of one dtype."""
    near = _Near(matrix)
    for down, across in _squares(matrix):
        turned[across, down] = near.copy(matrix[down, across]).T


def is_transpose(matrix: Array, turned: Array) -> bool:
    """Say whether a ``[columns, rows]`` array has the bits of the transpose of a ``[rows, columns]`` one."""
    import numpy as np

    near = _Near(turned)
    return all(
        np.array_equal(near.copy(turned[across, down]).T, matrix[down, across]) for down, across in _squares(matrix)
    )


class _Near:
    """Room for one block of a matrix, in a core's own cache."""

    def __init__(self, matrix: Array) -> None:
        import numpy as np

        rows, columns = (min(side, SIDE) for side in matrix.shape)
        self._block = np.empty((rows, columns + CACHE_LINE // matrix.itemsize), matrix.dtype)

    def copy(self, part: Array) -> Array:
        """Return a copy of a block, valid until the next."""
        copied = self._block[: part.shape[0], : part.shape[1]]
        copied[...] = part
        return copied


def _squares(matrix: Array) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and the columns of each block of a matrix."""
    rows, columns = matrix.shape
    for top in range(0, rows, SIDE):
        for left in range(0, columns, SIDE):
            yield slice(top, top + SIDE), slice(left, left + SIDE)


def words(dtype: DType) -> str:
    """Return the NumPy code of an opaque word as wide as an element, for moving without interpreting."""
    return f"V{dtype.itemsize}" if dtype.itemsize > 8 else f"<u{dtype.itemsize}"


def cast(elements: Array, target: DType) -> tuple[Array, Losses]:
    """Return the elements in another floating-point type (rounded to nearest even), and what that lost."""
    import numpy as np

    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        result = elements.astype(numpy_dtype(target))
        wide, narrow = elements.astype(np.float64), result.astype(np.float64)
        overflow = np.count_nonzero(np.isfinite(wide) & np.isinf(narrow))
        underflow = np.count_nonzero((wide != 0) & (narrow == 0))
    return result, Losses(int(overflow), int(underflow))
