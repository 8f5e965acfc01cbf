"""The first gate: both sides' canonical tensors, bit by bit; before any framework has run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from interlingua.convert.folding import kept_gamma
from interlingua.convert.plan import Step
from interlingua.convert.stream import step_blocks
from interlingua.mappings.conventions import gamma_factor
from interlingua.mappings.schema import ENCODER
from interlingua.mappings.sentence_transformers import SENTENCE_TRANSFORMERS
from interlingua.verify.canonical import readers_of, without_rows
from interlingua.verify.difference import compare_steps
from interlingua.verify.parity.outcome import WeightsGate

if TYPE_CHECKING:
    from interlingua.verify.parity.side import Opened

MODULES = "modules.json"
"""What tells a sentence-transformers folder from one of transformers."""

NARROWER = {("float32", "float16"), ("float32", "bfloat16"), ("float64", "float32")}
"""(wider, narrower) element types between which weights are rounded."""


def compare_weights(a: Opened, b: Opened) -> tuple[WeightsGate, tuple[str, ...]]:
    """Compare two sides' tensors; return the gate, and sentences on what needs no match.

    A tensor that one side stores in a narrower element type must be what rounding gives, in every bit. Heads
    that B's system has no place for are not missed, nor is a part that its family can be without where A's has
    zeros only.
    """
    ours, theirs, notes = _comparable(a, b)
    folded = {name: step for name in ours if (step := _folded(name, a, b)) is not None}
    if folded:
        ours |= folded
        notes.append(
            f"{len(folded)} gammas were multiplied to preserve outputs: they are held against A's, multiplied."
        )
    narrowed = None
    for name, step in ours.items():
        other = theirs.get(name)
        if other is None:
            continue
        types = (step.target.dtype.name, other.target.dtype.name)
        if types in NARROWER:
            ours[name] = _rounded(step, other)
            narrowed = types[1]
        elif types[::-1] in NARROWER:
            theirs[name] = _rounded(other, step)
            narrowed = types[0]
    found = compare_steps(ours, a.checkpoint, theirs, b.checkpoint)
    differences = tuple((entry.name, entry.what, entry.detail) for entry in found.differences)
    return WeightsGate(found.compared, narrowed, len(folded), differences), tuple(notes)


def _folded(name: str, a: Opened, b: Opened) -> Step | None:
    """Return how A's gamma becomes B's, where a conversion has multiplied it and kept what it was."""
    if name not in a.steps or name not in b.steps:
        return None
    step = a.steps[name]
    factor = gamma_factor(a.table.conventions, b.table.conventions, step.target.shape[0])
    if kept_gamma(b.checkpoint, name) is not None and factor != 1:
        return replace(step, scale=factor)
    return None


def _rounded(step: Step, other: Step) -> Step:
    return replace(step, target=replace(step.target, dtype=other.target.dtype), cast_from=step.target.dtype)


def _comparable(a: Opened, b: Opened) -> tuple[dict[str, Step], dict[str, Step], list[str]]:
    """Return both sides' tensors without those that the other cannot have or does not need."""
    ours, theirs, notes = dict(a.steps), dict(b.steps), []
    for steps, own, other in ((ours, a, b), (theirs, b, a)):
        for name, step in own.steps.items():
            steps[name] = without_rows(step, other.steps.get(name, step))
            if steps[name] is not step:
                title = other.match.dialect.title
                notes.append(
                    f"{title} has no place for the first rows of {name}, which padding alone reads: not compared."
                )
    for side, steps, other in ((a, ours, b), (b, theirs, a)):
        family = side.table.family
        beyond = [name for name in steps if name not in other.steps and not _can_hold(other, side, name)]
        for name in beyond:
            del steps[name]
        if beyond:
            parts = [family.find(name).part for name in beyond]
            words = dict.fromkeys(name if part == ENCODER else part for name, part in zip(beyond, parts, strict=True))
            notes.append(f"{other.match.dialect.title} has no place for {', '.join(words)}: not compared.")
        for name in [name for name in steps if name not in other.steps and name in family.severable]:
            if name in side.unused:
                del steps[name]
                notes.append(f"{name} is on one side only, which does not compute with it.")
            elif _is_zero(side, steps[name]):
                del steps[name]
                notes.append(f"{name} is on one side only, and all zeros: it adds nothing.")
    return ours, theirs, notes


def _can_hold(side: Opened, other: Opened, name: str) -> bool:
    """Whether a side's dialect has a place for another side's tensor; for what no model is without it must have."""
    part = other.table.family.find(name).part
    if part == ENCODER:
        return name not in other.table.family.severable or side.table.rule(name, side.match.heads) is not None
    return part in heads_known(side)


def severed(a: Opened, b: Opened) -> tuple[str, ...]:
    """Return tensors that A computes with, and that B's system has no place for and computes without."""
    severable = a.table.family.severable - a.unused
    return tuple(name for name in a.steps if name not in b.steps and name in severable)


def heads_known(side: Opened) -> frozenset[str]:
    """Return the heads that a side's system has a place for; a sentence-transformers folder, read as hf, has fewer."""
    family = side.table.family.name
    if MODULES in side.checkpoint.sidecars and family in SENTENCE_TRANSFORMERS.tables:
        return SENTENCE_TRANSFORMERS.tables[family].heads
    return side.table.heads


def _is_zero(side: Opened, step: Step) -> bool:
    return not any(any(block) for block in step_blocks(step, readers_of(side.checkpoint)))


def unmatched_heads(a: Opened, b: Opened) -> Mapping[str, str]:
    """Return the heads that one side alone has though the other's system could: head -> the side that lacks it."""
    missing = {head: "B" for head in a.match.heads if head not in b.match.heads and head in heads_known(b)}
    return missing | {head: "A" for head in b.match.heads if head not in a.match.heads and head in heads_known(a)}
