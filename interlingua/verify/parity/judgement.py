"""The verdict: what was measured, judged by what counts as noise; stored results can be judged again."""

from __future__ import annotations

from dataclasses import replace

from interlingua.mappings.match import listing
from interlingua.verify.parity.outcome import BY_CONVENTION, DIFFERENT, SAME, Gap, Outcome, Side, Thresholds


def judge(outcome: Outcome, thresholds: Thresholds | None = None) -> Outcome:
    """Return an outcome with its verdict, and the reasons where that is ``different``.

    Two questions are asked. Does each side compute what its system promises from these weights: is its distance
    to the oracle, under its own conventions, within noise? And do the two agree: if not, do conventions
    explain it? Cosine decides nothing.
    """
    limits = thresholds or outcome.thresholds
    reasons = [*_weights(outcome), *(f"{fault.where}: {fault.evidence}" for fault in outcome.faults)]
    for side in (outcome.a, outcome.b):
        reasons += _side(side, limits)
    reasons += _agreement(outcome)
    for label, gaps in outcome.devices.items():
        reasons += _beyond(f"{label}, on one device and on the other", gaps, limits)
    if outcome.tokens.differences:
        count = len(outcome.tokens.differences)
        reasons.append(f"{count} of {outcome.tokens.compared} sentences become other token ids on the other side.")
    agree = all(limits.allows(gap) for gap in outcome.agreement)
    if not reasons and not agree and not outcome.shares:
        reasons.append("The outputs differ beyond noise, and no convention explains it.")
    verdict = DIFFERENT if reasons else (SAME if agree else BY_CONVENTION)
    return replace(outcome, verdict=verdict, reasons=tuple(reasons), thresholds=limits)


def _weights(outcome: Outcome) -> list[str]:
    gate = outcome.weights
    if gate is None or gate.ok:
        return []
    if not gate.compared:
        return ["No tensor is on both sides: nothing was compared."]
    names = listing([f"{name} ({what})" for name, what, _ in gate.differences])
    return [f"Weights differ in {len(gate.differences)} of {gate.compared} tensors: {names}."]


def _side(side: Side, limits: Thresholds) -> list[str]:
    if side.failure is not None:
        return [f"{side.label} did not run: {side.failure}."]
    return _beyond(f"{side.label}, against what its system promises", side.gaps, limits)


def _beyond(what: str, gaps: tuple[Gap, ...], limits: Thresholds) -> list[str]:
    """Say where gaps are more than noise."""
    if not any(gap.elements for gap in gaps):
        return [f"{what}: nothing was compared."]
    absent = [gap.name for gap in gaps if not gap.elements]
    broken = [gap for gap in gaps if gap.non_finite]
    far = [gap for gap in gaps if gap.elements and not gap.non_finite and not limits.allows(gap)]
    found = [f"{what}: {listing(absent)} was not computed."] if absent else []
    if broken:
        found.append(f"{what}: {broken[0].non_finite} numbers of {broken[0].name} are not finite.")
    if far:
        first, most = far[0], max(far, key=lambda gap: gap.units)
        found.append(
            f"{what}: {len(far)} of {len(gaps)} activations are beyond noise, first {first.name} ({first.batch}); "
            f"at most {most.units:.3g} times the noise, in {most.name} (max abs {most.max_abs:.3g})."
        )
    return found


def _agreement(outcome: Outcome) -> list[str]:
    if outcome.a.failure is not None or outcome.b.failure is not None:
        return []
    if not any(gap.elements for gap in outcome.agreement):
        return ["A and B: no activation was compared."]
    absent = [gap.name for gap in outcome.agreement if not gap.elements]
    return [f"A and B: {listing(absent)} could not be compared."] if absent else []
