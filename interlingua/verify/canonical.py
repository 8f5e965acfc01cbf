"""A checkpoint's tensors in canonical form, as steps that stream them."""

from __future__ import annotations

from collections.abc import Iterator

from interlingua.convert.plan import SOURCE, Piece, Step
from interlingua.convert.source import Checkpoint
from interlingua.convert.stream import Readers, step_blocks
from interlingua.errors import MappingError
from interlingua.formats.base import TensorSpec
from interlingua.mappings.rules import PadRows, Transpose


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
        if name in checkpoint.ties:
            continue
        spec = checkpoint.tensors[found.native]
        operation = found.rule.operation
        shape = operation.canonical_shape(spec.shape) if operation else spec.shape
        target = TensorSpec(name, spec.dtype, shape)
        start = spec.nbytes - target.nbytes if isinstance(operation, PadRows) else 0
        turned = (spec.shape[0], spec.shape[1]) if isinstance(operation, Transpose) else None
        piece = Piece(SOURCE, spec.name, start, spec.nbytes - start)
        steps[name] = Step(target, (piece,), transpose=turned, canonical=name)
    return steps


def canonical_blocks(step: Step, checkpoint: Checkpoint) -> Iterator[memoryview]:
    """Yield a canonical tensor's bytes, row-major and little-endian, in blocks of 1 MiB."""
    readers: Readers = {SOURCE: checkpoint.reader}
    return step_blocks(step, readers)
