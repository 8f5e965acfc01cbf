"""From one native tensor to another, or to the canonical one: which bytes to join, and whether to turn them."""

from __future__ import annotations

from dataclasses import replace

from interlingua.convert.plan import SOURCE, ZEROS, Piece, Step
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import DTYPES, DType
from interlingua.mappings.rules import Operation, PadRows, Shape, Transpose


def step_between(
    spec: TensorSpec, undo: Operation | None, do: Operation | None, name: str, canonical: str, heads: int = 1
) -> Step:
    """Return the step that undoes one operation and does another; what cancels is left out.

    Args:
        spec: the source's tensor.
        undo: the operation that made it of the canonical one.
        do: the operation that makes the target's tensor of the canonical one; None for the canonical one itself.
        name: the target's name.
        canonical: the canonical name.
        heads: the model's attention heads, into which an operation may split an axis.

    Rows that the target has more of come first, as one piece of zeros; those that it lacks are skipped.
    """
    if undo == do:
        return Step(TensorSpec(name, spec.dtype, spec.shape), (whole(SOURCE, spec),), canonical=canonical)
    neutral = undo.canonical_shape(spec.shape) if undo else spec.shape
    target = TensorSpec(name, spec.dtype, do.native_shape(neutral, heads) if do else neutral)
    more = _rows_before(do) - _rows_before(undo)
    dropped = max(0, -more) * row_bytes(spec)
    pieces = [Piece(SOURCE, spec.name, dropped, spec.nbytes - dropped)]
    if more > 0:
        pieces.insert(0, Piece(ZEROS, name, 0, more * row_bytes(target)))
    turned = isinstance(undo, Transpose) != isinstance(do, Transpose)
    return Step(target, tuple(pieces), transpose=_matrix(neutral, undo) if turned else None, canonical=canonical)


def whole(origin: str, spec: TensorSpec) -> Piece:
    """Return the piece that is all of a tensor."""
    return Piece(origin, spec.name, 0, spec.nbytes)


def row_bytes(spec: TensorSpec) -> int:
    """Return the bytes of one row of a tensor."""
    return TensorSpec(spec.name, spec.dtype, spec.shape[1:]).nbytes


def _rows_before(operation: Operation | None) -> int:
    return operation.before if isinstance(operation, PadRows) else 0


def _matrix(canonical: Shape, undo: Operation | None) -> tuple[int, int]:
    """Return (rows, columns) of the source's tensor as a matrix, however many axes it has there."""
    rows, columns = canonical
    return (columns, rows) if isinstance(undo, Transpose) else (rows, columns)


def cast_step(step: Step, dtype: DType | None) -> Step:
    """Return the step with a cast of a floating-point tensor of 16 bits or more to ``dtype`` (None: none)."""
    spec = step.target
    if dtype is None or spec.dtype is dtype or spec.dtype.kind != "f" or spec.dtype.bits < 16:
        return step
    return replace(step, target=replace(spec, dtype=dtype), cast_from=spec.dtype)


def find_dtype(name: str) -> DType | None:
    """Return the element type that ``--dtype`` names; None for ``keep``."""
    return None if name == "keep" else DTYPES[name]
