"""Why two sides are not the same: causes, each with its evidence, for an outcome that is ``different``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from interlingua.verify.oracle import Arithmetic
from interlingua.verify.parity.batch import Batch
from interlingua.verify.parity.comparison import Subject
from interlingua.verify.parity.forward_causes import forward_causes, head_causes
from interlingua.verify.parity.outcome import DIFFERENT, Cause, Outcome, Side, Thresholds
from interlingua.verify.parity.side import Opened
from interlingua.verify.parity.weight_causes import weight_causes


def diagnose(
    outcome: Outcome, sides: Mapping[str, Opened], subjects: Sequence[Subject], batches: Sequence[Batch]
) -> tuple[Cause, ...]:
    """Return the causes of a verdict: of weights that differ, then of sides that do not do what they promise."""
    if outcome.verdict != DIFFERENT:
        return ()
    found: list[Cause] = []
    if outcome.weights is not None and not outcome.weights.ok and len(sides) == 2:
        found += weight_causes(outcome.weights, sides["A"], sides["B"])
    for subject in subjects:
        side = outcome.a if subject.label == "A" else outcome.b
        found += _side_causes(subject, side, batches[0], outcome.thresholds)
    return tuple(found)


def _side_causes(subject: Subject, side: Side, batch: Batch, thresholds: Thresholds) -> tuple[Cause, ...]:
    far = [gap.name for gap in side.gaps if gap.batch == batch.name and gap.elements and not thresholds.allows(gap)]
    broken = [gap.name for gap in side.gaps if gap.non_finite]
    if broken:
        return (
            Cause("not finite", f"side {side.label}, {broken[0]}", "has NaNs or infinities, the first to have any."),
        )
    if not far:
        return ()
    arithmetic = Arithmetic(side.dtype)
    layers = forward_causes(subject, batch, arithmetic, thresholds)
    heads = [name for name in far if name in subject.model.heads]
    return layers or head_causes(subject, heads, batch, arithmetic, thresholds)
