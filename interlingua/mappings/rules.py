"""Rules: one line each of a dialect's table, canonical name <-> native name, with an invertible operation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Transpose:
    """Swap the two axes of a matrix: ``[out, in]`` <-> ``[in, out]``. Its own inverse."""

    def native_shape(self, canonical: Shape) -> Shape:
        """Return the native shape of a canonical one."""
        return canonical[::-1]

    def canonical_shape(self, native: Shape) -> Shape:
        """Return the canonical shape of a native one."""
        return native[::-1]


@dataclass(frozen=True, slots=True)
class PadRows:
    """The native table has ``before`` more rows in front, which the canonical one lacks.

    Going native, they are zeros, or what the residue kept of them; going canonical, they are residue.
    """

    before: int

    def native_shape(self, canonical: Shape) -> Shape:
        """Return the native shape of a canonical one."""
        return (canonical[0] + self.before, *canonical[1:])

    def canonical_shape(self, native: Shape) -> Shape:
        """Return the canonical shape of a native one; a table of fewer rows than the padding has none left."""
        return (max(0, native[0] - self.before), *native[1:])


Operation = Transpose | PadRows


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a dialect's table.

    Attributes:
        canonical: canonical name, with ``{layer}`` where it repeats.
        native: native name, with ``{layer}`` at the same place.
        operation: what makes the native tensor of the canonical one; None where they are the same bytes.
        aliases: other spellings, of older versions, that are read and never written.
        copies: further names under which the system stores the same data; read when there, written where
            the container can share one tensor under two names, and in a model whose weights are not tied.
            Where such a model has different data there, it computes with the copy's; what stands under
            ``native`` is then left over.
        head: the rule holds only in a model with this head (for names whose place depends on the task).
        always: whether the system expects the tensor even where it is tied to another.
    """

    canonical: str
    native: str
    operation: Operation | None = None
    aliases: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    head: str | None = None
    always: bool = False

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every native name that is read as this tensor, the written one first."""
        return (self.native, *self.aliases)


def pairs(
    canonical: str,
    native: str,
    parts: Iterable[tuple[str, str]] = (("weight", "weight"), ("bias", "bias")),
    *,
    weight: Operation | None = None,
    aliases: tuple[str, ...] = (),
    head: str | None = None,
) -> tuple[Rule, ...]:
    """Return the rules of a layer's weight and bias: one for each (canonical, native) pair of ``parts``.

    ``weight`` is the operation of the first pair; a bias has none. Aliases get the same native parts.
    """
    return tuple(
        Rule(
            f"{canonical}.{ours}",
            f"{native}.{theirs}",
            weight if place == 0 else None,
            aliases=tuple(f"{alias}.{theirs}" for alias in aliases),
            head=head,
        )
        for place, (ours, theirs) in enumerate(parts)
    )


GAMMA_BETA = (("weight", "gamma"), ("bias", "beta"))
"""LayerNorm's parts where a system calls them gamma and beta."""
