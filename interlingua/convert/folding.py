"""``--preserve outputs``: gammas that take up how a system computes LayerNorm, and their way back."""

from __future__ import annotations

from dataclasses import dataclass, replace

from interlingua.convert.plan import RESIDUE, SOURCE, Piece, Step
from interlingua.convert.residue import FOLDED_KIND, Entry
from interlingua.convert.source import Checkpoint
from interlingua.convert.steps import whole
from interlingua.convert.stream import same_bytes
from interlingua.mappings.conventions import Conventions, gamma_factor

GAMMA = "LayerNorm.weight"
"""Ending of the canonical names of LayerNorms' gammas."""


@dataclass(frozen=True, slots=True)
class Folding:
    """How one gamma is to be written.

    Attributes:
        step: the step that writes it.
        changed: whether it is multiplied, so that what it was must be kept.
        came_back: whether it is what an earlier conversion kept.
    """

    step: Step
    changed: bool = False
    came_back: bool = False


def fold(step: Step, source: Checkpoint, ours: Conventions, theirs: Conventions, *, outputs: bool) -> Folding:
    """Return how a gamma goes from a system that computes ``ours`` to one that computes ``theirs``.

    Args:
        step: the step that copies it.
        source: the checkpoint that it comes from.
        ours: its system's conventions.
        theirs: the target's.
        outputs: whether outputs are to be preserved; otherwise a gamma is changed only back to what it was.
    """
    factor = gamma_factor(ours, theirs, step.target.shape[0])
    if factor == 1:
        return Folding(step)
    entry = kept_gamma(source, step.canonical or "")
    if entry is None:
        return Folding(replace(step, scale=factor), changed=True) if outputs else Folding(step)
    if source.residue is None:
        raise ValueError("an entry of no residue")
    kept = source.residue.reader.tensors[entry.key]
    spec = source.tensors[step.pieces[0].name]
    readers = {SOURCE: source.reader, RESIDUE: source.residue.reader}
    again = Step(spec, (whole(RESIDUE, kept),), scale=gamma_factor(theirs, ours, step.target.shape[0]))
    if (kept.dtype, kept.shape) == (spec.dtype, spec.shape) and same_bytes(
        again, readers, Step(spec, (whole(SOURCE, spec),)), readers
    ):
        return Folding(replace(step, pieces=(Piece(RESIDUE, kept.name, 0, kept.nbytes),)), came_back=True)
    # Trained on since: it is a gamma of its system's formula all the same.
    return Folding(replace(step, scale=factor), came_back=True)


def kept_gamma(source: Checkpoint, canonical: str) -> Entry | None:
    """Return what an earlier conversion kept of a gamma that it changed."""
    entries = source.residue.entries if source.residue else ()
    return next((entry for entry in entries if (entry.kind, entry.canonical) == (FOLDED_KIND, canonical)), None)
