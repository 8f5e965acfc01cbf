"""What one system's model has and another's lacks though both compute it: zeros are made, what goes is measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from interlingua.convert.plan import ZEROS, Piece, Step
from interlingua.convert.source import Checkpoint
from interlingua.errors import MappingError
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import DType
from interlingua.mappings.config import Config
from interlingua.mappings.conventions import BEHIND_PADDING
from interlingua.mappings.dialect import Table
from interlingua.mappings.match import Match
from interlingua.mappings.rules import Operation, PadRows, Shape


def zeros_of(name: str, dtype: DType, shape: Shape, canonical: str | None = None) -> Step:
    """Return the step of a tensor that is zeros."""
    spec = TensorSpec(name, dtype, shape)
    return Step(spec, (Piece(ZEROS, name, 0, spec.nbytes),), canonical=canonical)


def has_to_be_made(table: Table, canonical: str, there: Collection[str]) -> bool:
    """Say whether a table's system always has a tensor that a model is without, and zeros of it add nothing."""
    return canonical in table.needs & table.family.neutral and canonical not in there


def shape_of(table: Table, symbols: tuple[str, ...], config: Config) -> Shape:
    """Return the shape that symbols of a family's sizes are in a model."""
    values = config.as_dict()
    return tuple(int(symbol) if symbol.isdigit() else values[table.family.sizes[symbol]] for symbol in symbols)


def fillings(table: Table, canonical: Collection[str], config: Config) -> Mapping[str, Shape]:
    """Return what a table's system always has beyond the canonical model, with shapes."""
    return {name: shape_of(table, symbols, config) for name, symbols in table.fillings(canonical).items()}


def begins_behind(operation: Operation | None) -> int:
    """Return how many rows of a canonical table an operation leaves out in front."""
    return max(0, -operation.before) if isinstance(operation, PadRows) else 0


def refuse_other_padding(table: Table, match: Match, config: Config, title: str) -> None:
    """Refuse a model whose first position is another row than the target's table begins with.

    Raises:
        MappingError: it is; each token would get another position's embedding.
    """
    if table.conventions.positions != BEHIND_PADDING:
        return
    for rule in table.rules:
        left = begins_behind(rule.operation)
        if left and match.tensors[rule.canonical].rule.operation != rule.operation and left != config.pad_token_id + 1:
            raise MappingError(
                f"{title} has no rows for the padding token 1 and what is before it ({rule.canonical}); the source "
                f"pads with token {config.pad_token_id}, so that its first position is row {config.pad_token_id + 1}.",
                names=(rule.canonical,),
                hint="Each token would get another position's embedding: that system cannot run this model.",
            )


def measured(source: Checkpoint, native: str) -> str:
    """Say in half a sentence how much a tensor adds, from its own values."""
    import numpy as np

    try:
        values = source.reader.read(native).astype(np.float64)
    except TypeError:
        return "its values cannot be read here"
    if not values.any():
        return "which is nothing, since it is zeros"
    root = float(np.sqrt(np.mean(values**2)))
    return f"which is up to {float(np.abs(values).max()):.2g} an element (root mean square {root:.2g})"
