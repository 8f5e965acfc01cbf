"""Fingerprints: one digest of a model's canonical tensors, equal for the same model in any dialect.

How to compute one without this project: for each canonical tensor in canonical order, tied tensors counted
once, write the line ::

    NAME DTYPE SHAPE SHA256\\n

with the canonical name, the element type (``float32``), the sizes joined by ``x`` (``30522x384``; ``-`` for
a scalar), and the SHA-256 (lower-case hexadecimal) of the tensor's row-major little-endian bytes in canonical
orientation. The fingerprint is the SHA-256 of all lines in UTF-8. The encoder's fingerprint takes the lines
of the encoder alone (no pooler, no head).

Hashing each tensor by itself lets several be hashed at a time, and lets two checkpoints be compared tensor
by tensor from their lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from interlingua.convert.plan import Step
from interlingua.convert.source import Checkpoint
from interlingua.convert.stream import fetched_ahead
from interlingua.formats.base import TensorSpec
from interlingua.mappings.schema import ENCODER
from interlingua.verify.canonical import canonical_blocks, canonical_steps, readers_of

THREADS = 2


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A checkpoint's digests, as lower-case hexadecimal SHA-256.

    Attributes:
        model: of every canonical tensor.
        encoder: of the encoder's alone.
        lines: the lines that they are made of.
    """

    model: str
    encoder: str
    lines: tuple[str, ...]


def fingerprint(checkpoint: Checkpoint, progress: Callable[[int], None] | None = None) -> Fingerprint:
    """Return the fingerprint of an open checkpoint.

    Raises:
        FormatError: it is damaged, or of no dialect that is known.
    """
    steps = canonical_steps(checkpoint)

    def line(step: Step) -> str:
        digest = hashlib.sha256()
        for block in canonical_blocks(step, checkpoint):
            digest.update(block)
            if progress is not None:
                progress(len(block))
        return line_of(step.target, digest.hexdigest())

    with fetched_ahead(steps.values(), readers_of(checkpoint)), ThreadPoolExecutor(THREADS) as pool:
        lines = tuple(pool.map(line, steps.values()))
    family = checkpoint.match.table.family if checkpoint.match else None
    encoder = [text for name, text in zip(steps, lines, strict=True) if family and family.find(name).part == ENCODER]
    return Fingerprint(_digest(lines), _digest(encoder), lines)


def line_of(spec: TensorSpec, digest: str) -> str:
    """Return a tensor's line, its line end included."""
    shape = "x".join(map(str, spec.shape)) or "-"
    return f"{spec.name} {spec.dtype} {shape} {digest}\n"


def _digest(lines: list[str] | tuple[str, ...]) -> str:
    return hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()
