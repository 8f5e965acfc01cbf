"""Two checkpoints compared tensor by tensor in canonical form, across dialects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from interlingua.convert.plan import Step
from interlingua.convert.source import Checkpoint
from interlingua.convert.stream import fetched_ahead, same_bytes
from interlingua.formats.base import BLOCK
from interlingua.formats.dtypes import DType, numpy_dtype
from interlingua.verify.canonical import canonical_blocks, canonical_steps, readers_of

THREADS = 2


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """How one canonical tensor differs.

    Attributes:
        name: canonical name.
        what: ``only in A``, ``only in B``, ``shape``, ``dtype`` or ``values``.
        detail: the two shapes or types, or where the values differ.
        greatest: greatest absolute difference of values; None where values were not compared, NaN where a
            NaN stands against a number.
        differing: number of elements that differ; None likewise.
    """

    name: str
    what: str
    detail: str
    greatest: float | None = None
    differing: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The outcome of comparing two checkpoints.

    Attributes:
        compared: tensors that are in both.
        differences: one entry for each tensor that is not the same in both.
    """

    compared: int
    differences: tuple[TensorDifference, ...]

    @property
    def same(self) -> bool:
        """Whether something was compared, and nothing differs."""
        return self.compared > 0 and not self.differences


def compare(
    a: Checkpoint, b: Checkpoint, *, atol: float | None = None, progress: Callable[[int], None] | None = None
) -> Comparison:
    """Compare two open checkpoints, canonical tensor by canonical tensor.

    Args:
        a: one side.
        b: the other.
        atol: greatest absolute difference of values that still counts as the same, whatever the floating
            types; None: every bit must be equal.
        progress: told of bytes done.

    Raises:
        FormatError: a side is damaged, or of no dialect that is known.
    """
    return compare_steps(canonical_steps(a), a, canonical_steps(b), b, atol, progress)


def compare_steps(
    ours: Mapping[str, Step],
    a: Checkpoint,
    theirs: Mapping[str, Step],
    b: Checkpoint,
    atol: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Compare two sets of steps by name, as ``compare`` does with the canonical ones of two checkpoints."""
    both = [name for name in ours if name in theirs]

    def look(name: str) -> TensorDifference | None:
        return _compare_tensor(ours[name], a, theirs[name], b, atol, progress)

    differences = []
    if both:
        from concurrent.futures import ThreadPoolExecutor  # Mostly there is nothing left to look at after a conversion.

        with (
            fetched_ahead(map(ours.__getitem__, both), readers_of(a)),
            fetched_ahead(map(theirs.__getitem__, both), readers_of(b)),
            ThreadPoolExecutor(THREADS) as pool,
        ):
            differences = [entry for entry in pool.map(look, both) if entry is not None]
    differences += [TensorDifference(name, "only in A", "") for name in ours if name not in theirs]
    differences += [TensorDifference(name, "only in B", "") for name in theirs if name not in ours]
    return Comparison(len(both), tuple(differences))


def _compare_tensor(
    ours: Step, a: Checkpoint, theirs: Step, b: Checkpoint, atol: float | None, progress: Callable[[int], None] | None
) -> TensorDifference | None:
    name, one, other = ours.target.name, ours.target, theirs.target
    if one.shape != other.shape:
        return TensorDifference(name, "shape", f"{list(one.shape)} and {list(other.shape)}")
    floats = all(dtype.kind == "f" and dtype.numpy for dtype in (one.dtype, other.dtype))
    if one.dtype is not other.dtype and not (floats and atol is not None):
        return TensorDifference(name, "dtype", f"{one.dtype} and {other.dtype}")
    if one.dtype is other.dtype and same_bytes(ours, readers_of(a), theirs, readers_of(b)):
        if progress is not None:
            progress(one.nbytes)
        return None
    tally = _Tally(one.dtype, other.dtype)
    count = BLOCK // max(one.dtype.itemsize, other.dtype.itemsize)
    left_blocks = _chunks(canonical_blocks(ours, a), count * one.dtype.itemsize)
    right_blocks = _chunks(canonical_blocks(theirs, b), count * other.dtype.itemsize)
    for left, right in zip(left_blocks, right_blocks, strict=True):
        tally.add(left, right)
        if progress is not None:
            progress(len(left))
    return tally.verdict(name, atol)


def _chunks(source: Iterator[memoryview], size: int) -> Iterator[bytes]:
    """Yield what the blocks hold in pieces of ``size`` bytes (the last one shorter)."""
    pending = bytearray()
    for block in source:
        if not pending and len(block) == size:
            yield block.tobytes()
            continue
        pending += block
        while len(pending) >= size:
            yield bytes(pending[:size])
            del pending[:size]
    if pending:
        yield bytes(pending)


class _Tally:
    """Counts what differs between blocks of two element types."""

    def __init__(self, left: DType, right: DType) -> None:
        self.left, self.right = left, right
        self.differing = 0
        self.greatest = 0.0

    def add(self, left: bytes, right: bytes) -> None:
        """Count the elements that differ in two blocks of as many elements."""
        import numpy as np

        if self.left.numpy is None or self.right.numpy is None:
            self.differing += sum(x != y for x, y in zip(left, right, strict=True))
            # How far they are apart cannot be said: no tolerance covers it.
            self.greatest = np.inf if self.differing else 0.0
            return
        a, b = np.frombuffer(left, numpy_dtype(self.left)), np.frombuffer(right, numpy_dtype(self.right))
        if self.left is self.right:
            words = f"V{self.left.itemsize}"
            changed = a.view(words) != b.view(words)
        else:
            changed = a.astype(np.float64) != b.astype(np.float64)
        self.differing += int(np.count_nonzero(changed))
        kind = np.complex128 if self.left.kind == "c" else np.float64
        with np.errstate(invalid="ignore", over="ignore"):
            one, other = a[changed].astype(kind), b[changed].astype(kind)
            gap = np.abs(one - other)
        gap[(one == other) | (np.isnan(one) & np.isnan(other))] = 0
        if self.left.kind in "iub":
            gap = np.maximum(gap, 1)  # Whole numbers beyond 2**53 may look equal as float64.
        if gap.size:
            self.greatest = float(np.max([self.greatest, np.max(gap)]))

    def verdict(self, name: str, atol: float | None) -> TensorDifference | None:
        """Return the difference, or None where the tensors count as the same."""
        if not self.differing or (atol is not None and self.greatest <= atol):
            return None
        detail = f"{self.differing} elements differ, by {self.greatest:g} at most"
        return TensorDifference(name, "values", detail, self.greatest, self.differing)
