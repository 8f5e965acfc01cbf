"""A checkpoint's tensors in canonical form, as steps that stream them."""

from __future__ import annotations

from collections.abc import Iterator

from interlingua.convert.plan import RESIDUE, SOURCE, Step
from interlingua.convert.source import Checkpoint
from interlingua.convert.steps import step_between
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


def canonical_blocks(step: Step, checkpoint: Checkpoint) -> Iterator[memoryview]:
    """Yield a canonical tensor's bytes, row-major and little-endian, in blocks of 1 MiB."""
    return step_blocks(step, readers_of(checkpoint))


def readers_of(checkpoint: Checkpoint) -> Readers:
    """Return what a checkpoint's steps may read: its own tensors, and what an earlier conversion kept for it."""
    residue = {RESIDUE: checkpoint.residue.reader} if checkpoint.residue else {}
    return {SOURCE: checkpoint.reader, **residue}
