"""Why a side does not compute what its system promises: where it first goes another way, and which way that is.

Each block is given what the framework itself put into it, so that only the block's own error is seen; then the usual
causes are switched, one at a time, in the oracle, and the one that brings the block back into noise is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from interlingua.mappings.conventions import BEHIND_PADDING, CANONICAL, FROM_ZERO, UNBIASED
from interlingua.verify import oracle
from interlingua.verify.oracle import Arithmetic, Get, Model
from interlingua.verify.parity.batch import Batch
from interlingua.verify.parity.comparison import Subject
from interlingua.verify.parity.measure import Noise, noise_of
from interlingua.verify.parity.outcome import Cause, Thresholds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

EPSILONS = (1e-12, 1e-7, 1e-6, 1e-5, 1e-3)
"""Epsilons that some system takes."""

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu")


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A part of a model between two activations that a framework gives.

    Attributes:
        name: the activation that comes out.
        index: the layer's number; None: the embeddings.
        given: what came in, [tokens, hidden]; None: the batch.
        came: what came out, [tokens, hidden].
    """

    name: str
    index: int | None
    given: Array | None
    came: Array

    def compute(self, get: Get, model: Model, batch: Batch, arithmetic: Arithmetic = oracle.FLOAT64) -> Array:
        """Return what should have come out."""
        if self.index is None or self.given is None:
            return oracle.embeddings(get, model, batch, arithmetic)
        return oracle.layer(get, model, self.index, self.given, batch, arithmetic)


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """Something that a framework might have done instead: another model, or another tensor in a name's place."""

    cause: str
    words: str
    model: Model
    tensors: Mapping[str, str]
    transposed: frozenset[str] = frozenset()

    def get(self, get: Get) -> Get:
        """Return how tensors are got if the guess is right."""

        def found(name: str) -> Array:
            array = get(self.tensors.get(name, name))
            return array.T if name in self.transposed else array

        return found


def forward_causes(subject: Subject, batch: Batch, arithmetic: Arithmetic, thresholds: Thresholds) -> tuple[Cause, ...]:
    """Return where a side first leaves what its system promises, and why; nothing where no block does."""
    for block in _blocks(subject, batch):
        exact = block.compute(subject.get, subject.model, batch)
        noise = noise_of(block.compute(subject.get, subject.model, batch, arithmetic), exact)
        error = noise_of(block.came, exact)
        if _is_noise(error, noise, thresholds):
            continue
        where = f"side {subject.label}, {block.name}"
        return (_explain(subject, block, batch, error, noise, thresholds, where),)
    return ()


def _blocks(subject: Subject, batch: Batch) -> Iterator[Block]:
    before = None
    for name in ("embeddings", *(f"layer.{index}" for index in range(subject.model.num_hidden_layers))):
        given = subject.activations.get(f"{batch.name}/{name}")
        if given is None:
            return
        came = oracle.real_tokens(given, name, batch).astype("float64")
        yield Block(name, None if before is None else int(name.removeprefix("layer.")), before, came)
        before = came


def _is_noise(error: Noise, noise: Noise, thresholds: Thresholds) -> bool:
    return error.rms <= thresholds.rms * noise.rms and error.peak <= thresholds.peak * noise.peak


def _explain(
    subject: Subject, block: Block, batch: Batch, error: Noise, noise: Noise, thresholds: Thresholds, where: str
) -> Cause:
    """Return the guess that leaves the least, where that is noise or a tenth of what was there."""
    tried = []
    for guess in guesses(subject.model, block):
        try:
            left = noise_of(block.came, block.compute(guess.get(subject.get), guess.model, batch))
        except IndexError:
            continue  # A row of the batch has no position left for such an offset.
        tried.append((left.rms, guess))
    left_rms, best = min(tried, key=lambda pair: pair[0])
    before = (
        f"rms error {error.rms:.3g}, {error.rms / noise.rms:.3g} times the noise" if noise.rms else f"{error.rms:.3g}"
    )
    if left_rms <= max(thresholds.rms * noise.rms, error.rms / 10):
        return Cause(best.cause, where, f"{before}; {left_rms:.3g} if {best.words}.")
    names = ", ".join(dict.fromkeys(guess.cause for _, guess in tried))
    return Cause("unexplained", where, f"{before}; none of {names} explains it.")


def guesses(model: Model, block: Block) -> Iterator[Guess]:
    """Yield what a framework might have done in a block instead of what it should."""
    own = model.embeddings_eps if block.index is None else None
    for epsilon in EPSILONS:
        if epsilon != (model.layer_norm_eps if own is None else own):
            changed = replace(model, layer_norm_eps=epsilon, embeddings_eps=None)
            yield Guess("epsilon", f"epsilon is {epsilon:g}", changed, {})
    other = UNBIASED if model.layer_norm == CANONICAL else CANONICAL
    yield Guess("LayerNorm formula", f"LayerNorm is computed {other}", replace(model, layer_norm=other), {})
    if block.index is None:
        yield from _embedding_guesses(model)
        return
    for activation in ACTIVATIONS:
        if activation != model.hidden_act:
            changed = replace(model, hidden_act=activation)
            yield Guess("activation", f"the activation is {activation}", changed, {})
    yield from _layer_guesses(model, oracle.layer_prefix(model, block.index))


def _embedding_guesses(model: Model) -> Iterator[Guess]:
    other = BEHIND_PADDING if model.positions == FROM_ZERO else FROM_ZERO
    yield Guess("position offset", f"positions are counted {other}", replace(model, positions=other), {})


def _layer_guesses(model: Model, prefix: str) -> Iterator[Guess]:
    parts = [f"{prefix}attention.self.{part}" for part in ("query", "key", "value")]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        swapped = {}
        for kind in ("weight", "bias"):
            swapped[f"{parts[one]}.{kind}"] = f"{parts[other]}.{kind}"
            swapped[f"{parts[other]}.{kind}"] = f"{parts[one]}.{kind}"
        short = [parts[at].rsplit(".", 1)[1] for at in (one, other)]
        yield Guess("swapped tensors", f"{short[0]} and {short[1]} change places", model, swapped)
    for part in (*parts, f"{prefix}attention.output.dense"):
        name = f"{part}.weight"
        yield Guess("untransposed", f"{name} is transposed", model, {}, frozenset({name}))


def head_causes(
    subject: Subject, names: Sequence[str], batch: Batch, arithmetic: Arithmetic, thresholds: Thresholds
) -> tuple[Cause, ...]:
    """Return a cause for each head that is beyond noise, given the framework's own last hidden state."""
    last = f"layer.{subject.model.num_hidden_layers - 1}"
    x = oracle.real_tokens(subject.activations[f"{batch.name}/{last}"], last, batch).astype("float64")
    found = []
    for name in names:
        came = oracle.real_tokens(subject.activations[f"{batch.name}/{name}"], name, batch).astype("float64")
        exact = _head(subject, subject.model, name, x, batch)
        noise = noise_of(_head(subject, subject.model, name, x, batch, arithmetic), exact)
        error = noise_of(came, exact)
        if _is_noise(error, noise, thresholds):
            continue
        tried = [
            (noise_of(came, _head(subject, guess.model, name, x, batch)).rms, guess)
            for guess in _head_guesses(subject.model, name)
        ]
        left, best = min(tried, key=lambda pair: pair[0])
        before = f"rms error {error.rms:.3g}, {error.rms / noise.rms:.3g} times the noise, with its own last layer"
        where = f"side {subject.label}, {name}"
        if left <= max(thresholds.rms * noise.rms, error.rms / 10):
            found.append(Cause(best.cause, where, f"{before}; {left:.3g} if {best.words}."))
        else:
            found.append(Cause("unexplained", where, f"{before}; no epsilon and no activation explains it."))
    return tuple(found)


def _head(
    subject: Subject, model: Model, name: str, x: Array, batch: Batch, arithmetic: Arithmetic = oracle.FLOAT64
) -> Array:
    return oracle.head_outputs(subject.get, replace(model, heads=_with_pooler(model, name)), x, batch, arithmetic)[name]


def _with_pooler(model: Model, name: str) -> tuple[str, ...]:
    """Return a head, and the pooler that it may be computed from, in the model's order."""
    return tuple(head for head in model.heads if head in ("pooler", name))


def _head_guesses(model: Model, name: str) -> Iterator[Guess]:
    for epsilon in EPSILONS:
        yield Guess("epsilon", f"its epsilon is {epsilon:g}", replace(model, head_eps={name: epsilon}), {})
    for activation in (*ACTIVATIONS, "tanh"):
        changed = replace(model, head_act={name: activation})
        yield Guess("activation", f"its activation is {activation}", changed, {})
