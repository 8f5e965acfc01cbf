"""Rules: one line each of a dialect's table, canonical name <-> native name, with an invertible operation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Transpose:
    """Swap the two axes of a matrix: ``[out, in]`` <-> ``[in, out]``.

    Attributes:
        heads: the axis of ``[in, out]`` that the system keeps as two, attention heads and the size of one:
            0 is ``[heads, size, out]``, 1 is ``[in, heads, size]``. None: neither.
    """

    heads: int | None = None

    def native_shape(self, canonical: Shape, heads: int = 1) -> Shape:
        """Return the native shape of a canonical one, in a model with that many attention heads."""
        return _split(canonical[::-1], self.heads, heads)

    def canonical_shape(self, native: Shape) -> Shape:
        """Return the canonical shape of a native one."""
        return _join(native, self.heads)[::-1]


@dataclass(frozen=True, slots=True)
class SplitHeads:
    """The system keeps the first axis as two: ``[hidden]`` <-> ``[heads, size]``. The bytes stay as they are."""

    def native_shape(self, canonical: Shape, heads: int = 1) -> Shape:
        """Return the native shape of a canonical one, in a model with that many attention heads."""
        return _split(canonical, 0, heads)

    def canonical_shape(self, native: Shape) -> Shape:
        """Return the canonical shape of a native one."""
        return _join(native, 0)


@dataclass(frozen=True, slots=True)
class PadRows:
    """The native table has ``before`` more rows in front, which the canonical one lacks; fewer where negative.

    Fewer are those up to the padding token's in a table of positions that begin behind it (RoBERTa's). Rows that one
    side lacks are residue on the way there, and zeros (or what the residue kept) on the way back.
    """

    before: int

    def native_shape(self, canonical: Shape, _heads: int = 1) -> Shape:
        """Return the native shape of a canonical one."""
        return (max(0, canonical[0] + self.before), *canonical[1:])

    def canonical_shape(self, native: Shape) -> Shape:
        """Return the canonical shape of a native one; a table of fewer rows than the padding has none left."""
        return (max(0, native[0] - self.before), *native[1:])


Operation = Transpose | SplitHeads | PadRows


def splits(operation: Operation | None) -> bool:
    """Say whether an operation needs the number of attention heads."""
    return isinstance(operation, SplitHeads) or (isinstance(operation, Transpose) and operation.heads is not None)


def _split(shape: Shape, axis: int | None, heads: int) -> Shape:
    if axis is None:
        return shape
    return (*shape[:axis], heads, shape[axis] // max(1, heads), *shape[axis + 1 :])


def _join(shape: Shape, axis: int | None) -> Shape:
    if axis is None or len(shape) < axis + 2:
        return shape
    return (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a dialect's table.

    Attributes:
        canonical: canonical name, with ``{layer}`` where it repeats.
        native: native name, with ``{layer}`` where the system numbers its layers; without it, the system has
            one set of weights for all of them.
        operation: what makes the native tensor of the canonical one; None where they are the same bytes.
        aliases: other spellings, of older versions, that are read and never written.
        copies: further names under which the system stores the same data; read when there, written where
            the container can share one tensor under two names, and in a model whose weights are not tied.
            Where such a model has different data there, it computes with the copy's; what stands under
            ``native`` is then left over.
        head: the rule holds only in a model with this head (for names whose place depends on the task).
        remembered: whether the name that a source has comes back when the model does, for the system's users give
            it one of several (another training target, or the name of their task in front).
        always: whether the system expects the tensor even where it is tied to another, and its copies even
            where the weights are tied.
    """

    canonical: str
    native: str
    operation: Operation | None = None
    aliases: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    head: str | None = None
    always: bool = False
    remembered: bool = False

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every native name that is read as this tensor, the written one first."""
        return (self.native, *self.aliases)


WEIGHT_BIAS = (("weight", "weight"), ("bias", "bias"))
"""The parts of a layer that the system calls as the canonical schema does."""

GAMMA_BETA = (("weight", "gamma"), ("bias", "beta"))
"""LayerNorm's parts where a system calls them gamma and beta."""

KERNEL_BIAS = (("weight", "kernel"), ("bias", "bias"))
"""A linear layer's parts in Keras and TensorFlow."""


def pairs(
    canonical: str,
    native: str,
    parts: Iterable[tuple[str, str]] = WEIGHT_BIAS,
    *,
    weight: Operation | None = None,
    bias: Operation | None = None,
    aliases: tuple[str, ...] = (),
    head: str | None = None,
    join: str = ".",
    remembered: bool = False,
) -> tuple[Rule, ...]:
    """Return the rules of a layer's weight and bias: one for each (canonical, native) pair of ``parts``.

    ``weight`` is the operation of the first pair, ``bias`` of the others; ``join`` stands between the native
    layer and its part. Aliases get the same native parts.
    """
    return tuple(
        Rule(
            f"{canonical}.{ours}",
            f"{native}{join}{theirs}",
            weight if place == 0 else bias,
            aliases=tuple(f"{alias}{join}{theirs}" for alias in aliases),
            head=head,
            remembered=remembered,
        )
        for place, (ours, theirs) in enumerate(parts)
    )
