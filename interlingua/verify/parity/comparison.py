"""Activations held against the oracle, and against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from interlingua.verify import oracle
from interlingua.verify.oracle import Arithmetic, Get, Model
from interlingua.verify.parity.batch import Batch
from interlingua.verify.parity.measure import Noise, measure, noise_of
from interlingua.verify.parity.outcome import Gap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Places = NDArray[np.int64]

POOLER = "pooler"

DRAWS = 16
"""Times that an error's signs are drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What a side computed, and what it should have.

    Attributes:
        label: ``A`` or ``B``.
        activations: ``batch/name`` -> array, as the framework gave it.
        get: returns its canonical tensors in float64.
        model: how its system computes.
    """

    label: str
    activations: Mapping[str, Array]
    get: Get
    model: Model


def against_oracle(
    subjects: Sequence[Subject], batches: Sequence[Batch], arithmetic: Arithmetic
) -> dict[str, tuple[Gap, ...]]:
    """Hold each side against the oracle under its own conventions: label -> its gaps, in the oracle's order.

    Sides of one model that compute alike share one run of the oracle. What a side did not compute is a gap
    without elements, which no threshold allows.
    """
    found: dict[str, list[Gap]] = {subject.label: [] for subject in subjects}
    for batch in batches:
        for group in _alike(subjects):
            for name, exact, noise in promised(group[0], batch, arithmetic):
                for subject in group:
                    found[subject.label].append(_gap(subject, batch, name, exact, noise))
    return {label: tuple(gaps) for label, gaps in found.items()}


def _alike(subjects: Sequence[Subject]) -> list[list[Subject]]:
    """Return the sides in groups for which the oracle computes the same."""
    groups: list[list[Subject]] = []
    for subject in subjects:
        for group in groups:
            if group[0].get is subject.get and group[0].model == subject.model:
                group.append(subject)
                break
        else:
            groups.append([subject])
    return groups


def promised(subject: Subject, batch: Batch, arithmetic: Arithmetic) -> Iterator[tuple[str, Array, Noise]]:
    """Yield (name, exact activation, noise of the element type) of everything that a model computes."""
    exact = oracle.forward(subject.get, subject.model, batch)
    noisy = oracle.forward(subject.get, subject.model, batch, arithmetic)
    last = f"layer.{subject.model.num_hidden_layers - 1}"
    spread: dict[str, Noise] = {}
    for (name, wanted), (_, rounded) in zip(exact, noisy, strict=True):
        noise = noise_of(rounded, wanted)
        yield name, wanted, noise | spread.get(name, Noise())
        if name == last:
            spread = propagated(subject, batch, wanted, rounded - wanted)


def propagated(subject: Subject, batch: Batch, x: Array, error: Array) -> dict[str, Noise]:
    """Return how much an error of the last hidden state moves what is computed of a row's first token.

    Such an activation has a few numbers, of which one run's error may be small by chance. The error of the run,
    its signs drawn anew ``DRAWS`` times, shows what it may as well have been.

    Args:
        subject: the side.
        batch: the batch.
        x: the exact last hidden state, [tokens, hidden].
        error: the element type's error of it, likewise.
    """
    import numpy as np

    heads = tuple(head for head in subject.model.heads if head in PER_ROW)
    if not heads:
        return {}
    model = replace(subject.model, heads=heads)
    exact = oracle.head_outputs(subject.get, model, x, batch)
    rng = np.random.default_rng(0)
    found: dict[str, list[Noise]] = {head: [] for head in heads}
    for _ in range(DRAWS):
        moved = oracle.head_outputs(subject.get, model, x + error * rng.choice((-1.0, 1.0), error.shape), batch)
        for head in heads:
            found[head].append(noise_of(moved[head], exact[head]))
    return {head: Noise.mean(sizes) for head, sizes in found.items()}


def _gap(subject: Subject, batch: Batch, name: str, exact: Array, noise: Noise) -> Gap:
    value = _value(subject, batch, name)
    if value is None or value.shape != exact.shape:
        return nothing(batch.name, name)
    return measure(name, value, exact, noise, batch.name, places(name, batch), logits=is_logits(name))


def _value(subject: Subject, batch: Batch, name: str) -> Array | None:
    """Return an activation in the oracle's shape; None where it is not there, or not of as many tokens."""
    given = subject.activations.get(f"{batch.name}/{name}")
    try:
        return None if given is None else oracle.real_tokens(given, name, batch)
    except ValueError:
        return None


def nothing(batch: str, name: str) -> Gap:
    """Return the gap of an activation that is not there, or not of the shape that it should have."""
    return Gap(batch, name, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, None, 0.0, 0.0)


def agreement(a: Subject, b: Subject, batches: Sequence[Batch], gaps: Mapping[str, Sequence[Gap]]) -> tuple[Gap, ...]:
    """Hold A's activations against B's, the noise of both taken from their gaps to the oracle.

    What one side's system has no place for is not among its gaps, and is not compared.
    """
    sizes = {
        label: {(gap.batch, gap.name): Noise(gap.noise_rms, gap.noise_max) for gap in found}
        for label, found in gaps.items()
    }
    found = []
    for batch in batches:
        both = [pair for pair in sizes[a.label] if pair in sizes[b.label]]
        for key, name in [pair for pair in both if pair[0] == batch.name]:
            one, other = (_value(subject, batch, name) for subject in (a, b))
            if one is None or other is None or one.shape != other.shape:
                found.append(nothing(key, name))
                continue
            noise = sizes[a.label][key, name] + sizes[b.label][key, name]
            found.append(measure(name, one, other, noise, key, places(name, batch), logits=is_logits(name)))
    return tuple(found)


def is_logits(name: str) -> bool:
    """Whether an activation is a head's output."""
    return name != POOLER and name != "embeddings" and not name.startswith("layer.")


def places(name: str, batch: Batch) -> Places:
    """Return [n, 2]: row and position of each of the n vectors that ``oracle.real_tokens`` gives of an activation."""
    import numpy as np

    if name == "masked_lm":
        rows = np.repeat(np.arange(len(batch.predict)), batch.predict.shape[1])
        return np.stack([rows, batch.predict.reshape(-1)], axis=1)
    if name in PER_ROW:
        return np.stack([np.arange(len(batch.input_ids)), np.zeros(len(batch.input_ids), np.int64)], axis=1)
    return np.argwhere(batch.attention_mask == 1)


PER_ROW = frozenset({POOLER, "next_sentence", "sentence_order", "sequence_classification", "multiple_choice"})
"""Activations of which a row has one."""
