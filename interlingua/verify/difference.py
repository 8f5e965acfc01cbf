"""Two checkpoints compared tensor by tensor in canonical form, across dialects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from interlingua.convert.plan import SOURCE, Plan, Step
from interlingua.convert.planning import whole
from interlingua.convert.source import Asked, Checkpoint, open_checkpoint
from interlingua.errors import CheckError
from interlingua.formats.base import BLOCK
from interlingua.formats.dtypes import DType, numpy_dtype
from interlingua.mappings.match import listing
from interlingua.mappings.schema import ENCODER
from interlingua.verify.canonical import canonical_blocks, canonical_steps

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
    return _compare_steps(canonical_steps(a), a, canonical_steps(b), b, atol, progress)


def _compare_steps(
    ours: Mapping[str, Step],
    a: Checkpoint,
    theirs: Mapping[str, Step],
    b: Checkpoint,
    atol: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    both = [name for name in ours if name in theirs]

    def look(name: str) -> TensorDifference | None:
        return _compare_tensor(ours[name], a, theirs[name], b, atol, progress)

    with ThreadPoolExecutor(THREADS) as pool:
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
    floats = one.dtype.kind == other.dtype.kind == "f"
    if one.dtype is not other.dtype and not (floats and atol is not None):
        return TensorDifference(name, "dtype", f"{one.dtype} and {other.dtype}")
    tally = _Tally(one.dtype, other.dtype)
    count = BLOCK // max(one.dtype.itemsize, other.dtype.itemsize)
    left_blocks = _chunks(canonical_blocks(ours, a), count * one.dtype.itemsize)
    right_blocks = _chunks(canonical_blocks(theirs, b), count * other.dtype.itemsize)
    for left, right in zip(left_blocks, right_blocks, strict=True):
        # Equal bytes need no look at what they mean, whatever the type.
        if one.dtype is not other.dtype or left != right:
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
        if gap.size:
            self.greatest = float(np.max([self.greatest, np.max(gap)]))

    def verdict(self, name: str, atol: float | None) -> TensorDifference | None:
        """Return the difference, or None where the tensors count as the same."""
        if not self.differing or (atol is not None and self.greatest <= atol):
            return None
        detail = f"{self.differing} elements differ, by {self.greatest:g} at most"
        return TensorDifference(name, "values", detail, self.greatest, self.differing)


def check_weights(source: Checkpoint, written: Path, plan: Plan) -> None:
    """Hold what a conversion has written, opened afresh, against the source.

    The output is recognised by its own names and mapped back by its own dialect's table, so that a wrong plan
    does not vouch for itself. Every canonical tensor must be there with every bit as it was; where the
    conversion cast, with the bits that casting the source gives.

    Raises:
        CheckError: something is missing or different.
        FormatError: what was written cannot be read.
    """
    with open_checkpoint(
        written, Asked(dialect=plan.target, family=plan.family), strict=plan.target is not None
    ) as result:
        if plan.target is None:
            ours, theirs = _native_steps(source), _native_steps(result)
        else:
            ours, theirs = canonical_steps(source), canonical_steps(result)
            ours = {name: step for name, step in ours.items() if _is_held(source, name, plan)}
        casts = {
            name: _cast(step, theirs[name].target.dtype) if name in theirs and plan.casts else step
            for name, step in ours.items()
        }
        outcome = _compare_steps(casts, source, theirs, result)
    if not outcome.same:
        names = [f"{entry.name} ({entry.what})" for entry in outcome.differences]
        raise CheckError(
            f"{written}: what was written is not what was read: {listing(names) or 'nothing could be compared'}.",
            hint="Do not use it: the disk, the memory or this program is at fault.",
        )


def _is_held(source: Checkpoint, name: str, plan: Plan) -> bool:
    part = source.match.table.family.find(name).part if source.match else ENCODER
    return part == ENCODER or part in plan.heads


def _native_steps(checkpoint: Checkpoint) -> dict[str, Step]:
    return {name: Step(spec, (whole(SOURCE, spec),)) for name, spec in checkpoint.tensors.items()}


def _cast(step: Step, dtype: DType) -> Step:
    """Return the step with the cast that a conversion to ``dtype`` makes of it, if it makes one."""
    spec = step.target
    if dtype is spec.dtype:
        return step
    return replace(step, target=replace(spec, dtype=dtype), cast_from=spec.dtype)
