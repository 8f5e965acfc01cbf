"""What the outcome of a parity check means, in words and short figures: terminal and page say the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from interlingua.verify.parity.outcome import BY_CONVENTION, DIFFERENT, Gap, Outcome, Side, Thresholds, Worst

YES, NO, CONVENTION, UNASKED = "ok", "FAIL", "convention", "not compared"
"""How a question is answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A question that a check asks, and what it found.

    Attributes:
        question: the question.
        word: ``YES``, ``NO``, ``CONVENTION`` or ``UNASKED``.
        figures: what the answer rests on.
    """

    question: str
    word: str
    figures: str


@dataclass(frozen=True, slots=True)
class Line:
    """One activation in all three comparisons; None where there is no such comparison.

    Attributes:
        batch: the batch; where lines of several are merged, all of them.
        name: the activation.
        a: A against the oracle under A's conventions.
        b: B against the oracle under B's conventions.
        both: A against B.
    """

    batch: str
    name: str
    a: Gap | None
    b: Gap | None
    both: Gap | None


def comparisons(outcome: Outcome) -> dict[str, tuple[Gap, ...]]:
    """Return every list of gaps by what it compares."""
    found = {
        "A against its oracle": outcome.a.gaps,
        "B against its oracle": outcome.b.gaps,
        "A against B": outcome.agreement,
    }
    return {**found, **{f"{label} on two devices": gaps for label, gaps in outcome.devices.items()}}


def answers(outcome: Outcome) -> list[Answer]:
    """Return what was asked, and the answers."""
    found = [_weights(outcome)]
    found += [_promise(side, outcome.thresholds) for side in (outcome.a, outcome.b)]
    found.append(_agreement(outcome))
    for label, gaps in outcome.devices.items():
        found.append(Answer(f"Does {label} agree with itself on another device?", *_judged(gaps, outcome.thresholds)))
    return [*found, _tokens(outcome)]


def _weights(outcome: Outcome) -> Answer:
    question, gate = "Are the weights the same, bit by bit?", outcome.weights
    if gate is None:
        return Answer(question, UNASKED, "a file of activations has no weights")
    if gate.differences:
        number = len(gate.differences)
        figures = f"{number} {'difference' if number == 1 else 'differences'} in {gate.compared} compared tensors"
    elif not gate.compared:
        figures = "no tensor was compared"
    else:
        figures = f"{gate.compared} tensors, nothing differs"
    narrowed = f"; one side is narrowed to {gate.narrowed}" if gate.narrowed else ""
    folded = f"; {gate.folded} gammas multiplied to preserve outputs" if gate.folded else ""
    return Answer(question, YES if gate.ok else NO, figures + narrowed + folded)


def _promise(side: Side, thresholds: Thresholds) -> Answer:
    question = f"Does {side.label} compute what its system promises?"
    if side.failure is not None:
        return Answer(question, NO, side.failure)
    return Answer(question, *_judged(side.gaps, thresholds))


def _agreement(outcome: Outcome) -> Answer:
    word, figures = _judged(outcome.agreement, outcome.thresholds)
    if word == NO and outcome.verdict == BY_CONVENTION:
        word = CONVENTION
    return Answer("Do A and B agree?", word, figures)


def _judged(gaps: tuple[Gap, ...], thresholds: Thresholds) -> tuple[str, str]:
    if not gaps:
        return NO, "nothing was compared"
    bad = sum(not thresholds.allows(gap) for gap in gaps)
    worst = worst_of(gaps, thresholds)
    count = f"{bad} of {len(gaps)} activations beyond noise" if bad else f"{len(gaps)} activations, all within noise"
    if worst.non_finite:
        figures = f"{count}; {worst.non_finite} NaN or infinite numbers in {called(worst)}"
    else:
        figures = f"{count}; worst {called(worst)}: {units(worst.units)} noise, {error(worst.max_abs)} at most"
    return NO if bad else YES, figures


def _tokens(outcome: Outcome) -> Answer:
    question, tokens = "Do both tokenise alike?", outcome.tokens
    if tokens.problem is not None:
        return Answer(question, UNASKED, tokens.problem)
    if tokens.differences:
        return Answer(question, NO, f"other ids in {len(tokens.differences)} of {tokens.compared} sentences")
    if not tokens.compared:
        return Answer(question, UNASKED, "no sentence was tokenised")
    return Answer(question, YES, f"{tokens.compared} sentences, the same ids")


# -- lines


def lines(outcome: Outcome) -> list[Line]:
    """Return a line for each activation of each batch, in the order of the forward pass."""
    by_key = [{(gap.batch, gap.name): gap for gap in gaps} for gaps in (outcome.a.gaps, outcome.b.gaps)]
    by_key.append({(gap.batch, gap.name): gap for gap in outcome.agreement})
    longest = max(by_key, key=len)
    keys = dict.fromkeys([*longest, *(key for found in by_key for key in found)])
    return [Line(*key, *(found.get(key) for found in by_key)) for key in keys]


def merged(found: Iterable[Line], thresholds: Thresholds) -> list[Line]:
    """Return a line for each activation, with the worst of its batches in each comparison."""
    groups: dict[str, list[Line]] = {}
    for line in found:
        groups.setdefault(line.name, []).append(line)
    return [_merge(name, group, thresholds) for name, group in groups.items()]


def _merge(name: str, group: list[Line], thresholds: Thresholds) -> Line:
    def worst(gaps: Iterable[Gap | None]) -> Gap | None:
        there = tuple(gap for gap in gaps if gap is not None)
        return worst_of(there, thresholds) if there else None

    batches = ", ".join(dict.fromkeys(line.batch for line in group))
    columns = ([line.a for line in group], [line.b for line in group], [line.both for line in group])
    return Line(batches, name, *map(worst, columns))


def failing(line: Line, outcome: Outcome) -> list[str]:
    """Return the comparisons of a line that noise does not explain: of ``A``, ``B`` and ``A-B``."""
    pairs = (("A", line.a), ("B", line.b), ("A-B", line.both))
    return [name for name, gap in pairs if gap is not None and not outcome.thresholds.allows(gap)]


def worst_of(gaps: tuple[Gap, ...], thresholds: Thresholds) -> Gap:
    """Return the gap that is farthest beyond what noise explains; ``gaps`` holds one at least."""
    return max(gaps, key=lambda gap: (not thresholds.allows(gap), bool(gap.non_finite), _ordered(gap.units)))


def first_beyond(gaps: Iterable[Gap], thresholds: Thresholds) -> Gap | None:
    """Return the first gap, in the order of the forward pass, that noise does not explain."""
    return next((gap for gap in gaps if not thresholds.allows(gap)), None)


def worst_elements(gaps: Iterable[Gap], most: int) -> list[tuple[Gap, Worst]]:
    """Return the elements that are farthest off in units of their activation's noise, the farthest first."""
    found = [(gap, element) for gap in gaps for element in gap.worst]
    return sorted(found, key=lambda pair: -_ordered(distance(*pair)))[:most]


def distance(gap: Gap, element: Worst) -> float:
    """Return how far an element is off, in units of its activation's greatest noise."""
    off = abs(element.value - element.expected)
    return off / gap.noise_max if gap.noise_max else (0.0 if off == 0 else math.inf)


def _ordered(number: float) -> float:
    return math.inf if math.isnan(number) else number


# -- sentences


def about(side: Side) -> Iterator[str]:
    """Yield what a side is, what ran it, and how it was set up, in three phrases."""
    heads = ", ".join(side.heads).replace("_", " ") or "no heads"
    yield f"{side.family} in {side.dialect} ({side.container}), {heads}" if side.family else side.container
    if side.failure is not None:
        yield "did not run to its end"
    elif side.reference:
        who = "" if side.third_party else " (written here)"
        ran = " ".join(filter(None, (side.reference, side.version)))
        yield f"{ran}{who} on {side.framework}, {side.device}, {side.dtype}"
    if side.settings:
        yield ", ".join(f"{key} {value}" for key, value in side.settings.items())


def next_steps(outcome: Outcome) -> list[str]:
    """Return what to do about an outcome, the first thing first."""
    found = []
    for side in (outcome.a, outcome.b):
        if side.failure is not None:
            found.append(f"Make {side.label} run: see why it did not above; --python names another interpreter for it.")
    if outcome.weights is not None and not outcome.weights.ok:
        found.append("Compare the weights: `interlingua diff` lists every tensor that differs.")
    if any(gap.non_finite for gaps in comparisons(outcome).values() for gap in gaps):
        found.append(
            "Look for NaN and infinities in the weights (`interlingua inspect --stats`), or take a wider type."
        )
    if outcome.tokens.differences:
        found.append("Compare the vocabularies and the tokenizers' settings of both folders.")
    if outcome.causes and outcome.verdict == DIFFERENT:
        found.append("Put right the first cause named here, and run the check again.")
    if outcome.verdict == BY_CONVENTION:
        found.append("Nothing, if the systems may compute differently; --strict makes it a failure.")
    if outcome.verdict == DIFFERENT and not found:
        found.append("Run it again with --verbose, and look at the first activation that is beyond noise.")
    return found


def called(gap: Gap) -> str:
    """Return what an activation is called where its batch matters."""
    return f"{gap.name} ({gap.batch})"


# -- figures


def units(number: float) -> str:
    """Return an error in units of noise: ``1.3x``."""
    if not math.isfinite(number):
        return "nan" if math.isnan(number) else "inf"
    if abs(number) >= 1e6:
        return f"{number:.0e}x"
    return f"{number:.1f}x" if abs(number) < 100 else f"{number:,.0f}x"


def error(number: float) -> str:
    """Return an absolute error: ``3.1e-07``, ``0``."""
    return "0" if number == 0 else f"{number:.1e}"


def percent(share: float) -> str:
    """Return a share of 1 as per cent."""
    return f"{share:.1%}" if math.isfinite(share) else "nan"


def differing(a: Mapping[str, object], b: Mapping[str, object]) -> list[tuple[str, object, object, bool]]:
    """Return (key, A's value, B's value, whether they differ) of all keys; None where a side has none."""
    return [(key, a.get(key), b.get(key), a.get(key) != b.get(key)) for key in dict.fromkeys([*a, *b])]
