"""Which of two systems' conventions explains how much of the difference of their outputs, by switching each alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from interlingua.convert.folding import kept_gamma
from interlingua.verify import oracle
from interlingua.verify.oracle import Get, Model
from interlingua.verify.oracle.heads import head_activation
from interlingua.verify.parity.batch import Batch, hard_batch, longest_row
from interlingua.verify.parity.outcome import Share
from interlingua.verify.parity.side import Opened
from interlingua.verify.parity.weights import severed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

LENGTH = 64
"""Tokens of the longest row that conventions are weighed on: enough for a mean, and quickly done."""

CONVENTIONS = {
    "LayerNorm formula": "layer_norm",
    "epsilon": "layer_norm_eps",
    "epsilon of the embeddings": "embeddings_eps",
    "activation": "hidden_act",
    "positions": "positions",
}
"""Convention -> the field of ``oracle.Model`` that switches it."""


Step = tuple[str, str, str, Get, Model]
"""(convention, what A does, what B does, where tensors come from, model) of one step from A to B."""


def switches(a: Model, b: Model) -> Iterator[tuple[str, str, str, Model]]:
    """Yield (convention, what A does, what B does, model so far) where two models differ, A becoming B step by step."""
    model = a
    for name, key in CONVENTIONS.items():
        one, other = getattr(a, key), getattr(b, key)
        if one != other:
            model = replace(model, **{key: other})
            yield name, _said(one), _said(other), model


def _said(value: object) -> str:
    return "that of the layers" if value is None else str(value)


def shares(a: Opened, other: Model, b: Opened | None = None) -> tuple[Share, ...]:
    """Weigh the conventions in which another system differs from A's, in float64.

    A is made B in steps, one convention at a time. A step's share is the projection of its change of the last hidden
    state on the change that all make together, so that the shares sum to 1. Conventions of heads come after
    those, each weighed on its head's output.

    Args:
        a: the side whose weights are taken first.
        other: how the other system computes.
        b: the other side, where its numbers are not A's: tensors that it has no place for, weights rounded, or
            gammas folded for the other formula.
    """
    ours = a.model
    theirs = replace(ours, **{key: getattr(other, key) for key in CONVENTIONS.values()})
    steps = _steps(a, ours, theirs, b)
    heads = [head for head in ours.heads if head in other.heads and _differ(head, ours, other)]
    if not steps and not heads:
        return ()
    longest = longest_row(a.config, a.table.conventions.positions)
    kinds = replace(a.config, type_vocab_size=a.config.type_vocab_size or 1)
    batch = hard_batch(kinds, longest, rows=2, length=min(LENGTH, longest))
    states = [last_hidden(a.tensor, ours, batch), *(last_hidden(get, model, batch) for *_, get, model in steps)]
    weighed = [
        _share(name, one, way, after - before, states[-1] - states[0])
        for (name, one, way, _, _), before, after in zip(steps, states, states[1:], strict=False)
    ]
    found = (_head_share(head, a, other, states[0], states[-1], batch) for head in heads)
    return (*weighed, *found)


def _share(name: str, one: str, other: str, change: Array, together: Array) -> Share:
    energy = float((together * together).sum())
    share = float((change * together).sum()) / energy if energy else 0.0
    return Share(name, one, other, float((change * change).mean() ** 0.5), share)


def _steps(a: Opened, ours: Model, theirs: Model, b: Opened | None) -> list[Step]:
    """Return the steps from A to B in the encoder."""
    if b is None:
        return [(name, one, way, a.tensor, model) for name, one, way, model in switches(ours, theirs)]
    lost = severed(a, b)
    get = without(a.tensor, lost)
    found: list[Step] = [(name, "added", "no place for it", get, ours) for name in lost]
    rest: list[Step] = [(name, one, way, get, model) for name, one, way, model in switches(ours, theirs)]
    if not _numbers_differ(a, b):
        return [*found, *rest]
    rest = [(name, one, way, b.tensor, model) for name, one, way, _, model in rest]
    if rest and rest[0][0] == FOLDABLE:
        _, one, way, last, model = rest[0]
        return [*found, (f"{FOLDABLE}, folded into gammas", one, way, last, model), *rest[1:]]
    return [*found, ("weights", "as they are", "rounded", b.tensor, ours), *rest]


FOLDABLE = "LayerNorm formula"
"""The convention that can be folded into weights."""


def _numbers_differ(a: Opened, b: Opened) -> bool:
    """Whether B holds A's numbers rounded, or folded."""
    types = [{side.steps[name].target.dtype.name for name in a.steps if name in b.steps} for side in (a, b)]
    return types[0] != types[1] or any(kept_gamma(b.checkpoint, name) is not None for name in b.steps)


def without(get: Get, names: Collection[str]) -> Get:
    """Return how tensors are got of a model that lacks some."""

    def found(name: str) -> Array:
        if name in names:
            raise KeyError(name)
        return get(name)

    return found


def _differ(head: str, a: Model, b: Model) -> bool:
    """Whether two systems have a head of their own way: an epsilon or an activation that is not that of the layers."""
    ways = [(model.head_eps.get(head, model.layer_norm_eps), head_activation(model, head)) for model in (a, b)]
    return _own(head, a) != _own(head, b) and ways[0] != ways[1]


def _own(head: str, model: Model) -> tuple[float | None, str | None]:
    epsilon = model.head_eps.get(head)
    activation = head_activation(model, head)
    return (
        None if epsilon == model.layer_norm_eps else epsilon,
        None if activation == model.hidden_act else activation,
    )


def _head_share(head: str, a: Opened, other: Model, first: Array, last: Array, batch: Batch) -> Share:
    """Weigh a head's convention on its output: ``first`` and ``last`` are the hidden states of A and of B."""
    heads = tuple(name for name in a.model.heads if name in ("pooler", head))
    before = replace(a.model, heads=heads)
    layers = {key: getattr(other, key) for key in CONVENTIONS.values()}
    middle = replace(before, **layers)
    after = replace(middle, head_eps=other.head_eps, head_act=other.head_act)
    outputs = [
        oracle.head_outputs(a.tensor, model, x, batch)[head]
        for model, x in ((before, first), (middle, last), (after, last))
    ]
    change, together = outputs[2] - outputs[1], outputs[2] - outputs[0]
    return _share(f"{head}, its own way", _words(head, a.model), _words(head, other), change, together)


def _words(head: str, model: Model) -> str:
    return ", ".join(str(part) for part in _own(head, model) if part is not None) or "as the layers"


def last_hidden(get: Get, model: Model, batch: Batch) -> Array:
    """Return the oracle's last hidden state, [tokens, hidden]."""
    x = oracle.embeddings(get, model, batch)
    for index in range(model.num_hidden_layers):
        x = oracle.layer(get, model, index, x, batch)
    return x
