"""A checkpoint's tensors in canonical form, as steps that stream them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from interlingua.convert.plan import RESIDUE, SOURCE, ZEROS, Piece, Step
from interlingua.convert.source import Checkpoint
from interlingua.convert.steps import row_bytes, step_between
from interlingua.convert.stream import Readers, step_blocks
from interlingua.errors import MappingError


def canonical_steps(checkpoint: Checkpoint) -> dict[str, Step]:
    """Return canonical name -> step, in canonical order; a tensor that is tied to another is left out.

    Raises:
        InterlinguaError: no dialect knows the checkpoint.
    """
    match = checkpoint.match
    if match is None:
        raise checkpoint.problem or MappingError("No dialect knows this checkpoint.")
    steps = {}
    for name, found in match.tensors.items():
        if name not in checkpoint.ties:
            steps[name] = step_between(checkpoint.tensors[found.native], found.rule.operation, None, name, name)
    return steps


def without_rows(step: Step, other: Step) -> Step:
    """Return a canonical step with zeros for the rows in front that the other side's system does not have.

    Both are as the checkpoints have them: neither is cast.
    """
    rows = _rows_made(other)
    if rows <= _rows_made(step):
        return step
    name, cut = step.target.name, rows * row_bytes(step.target)
    behind = resolve(step.pieces, Piece(SOURCE, name, cut, step.target.nbytes - cut))
    return replace(step, pieces=(Piece(ZEROS, name, 0, cut), *behind))


def _rows_made(step: Step) -> int:
    """Return the rows of zeros in front of a table, which its system does not store."""
    first = step.pieces[0]
    return first.nbytes // row_bytes(step.target) if first.origin == ZEROS else 0


def resolve(pieces: tuple[Piece, ...], wanted: Piece) -> tuple[Piece, ...]:
    """Return what a run of a tensor is made of, given what the whole tensor is made of."""
    found, start, left = [], wanted.start, wanted.nbytes
    for piece in pieces:
        if start >= piece.nbytes:
            start -= piece.nbytes
            continue
        count = min(piece.nbytes - start, left)
        if count:
            found.append(Piece(piece.origin, piece.name, piece.start + start, count))
        left -= count
        start = 0
    return tuple(found)


def canonical_blocks(step: Step, checkpoint: Checkpoint) -> Iterator[memoryview]:
    """Yield a canonical tensor's bytes, row-major and little-endian, in blocks of 1 MiB."""
    return step_blocks(step, readers_of(checkpoint))


def readers_of(checkpoint: Checkpoint) -> Readers:
    """Return what a checkpoint's steps may read: its own tensors, and what an earlier conversion kept for it."""
    residue = {RESIDUE: checkpoint.residue.reader} if checkpoint.residue else {}
    return {SOURCE: checkpoint.reader, **residue}
