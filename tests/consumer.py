"""What a typed program that uses the package looks like: ``mypy --strict`` of it needs the package's own types."""

from __future__ import annotations

import interlingua
from interlingua.errors import InterlinguaError


def digest(source: str) -> str | None:
    """Return the fingerprint of a checkpoint; None where it is no known model."""
    with interlingua.open(source) as checkpoint:
        heads: tuple[str, ...] = checkpoint.heads
        return interlingua.fingerprint(checkpoint).model if heads else None


def convert(source: str, target: str) -> int:
    """Convert a checkpoint and return the bytes of its tensors, or an exit code below zero."""
    try:
        return interlingua.convert(source, target, to="uer").plan.nbytes
    except InterlinguaError as error:
        return -error.exit_code
