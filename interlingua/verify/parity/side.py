"""One side of a parity check: an open checkpoint, how its own system computes it, and what its process is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlingua.convert.configs import parse, spell
from interlingua.convert.plan import SOURCE, Step
from interlingua.convert.source import Checkpoint
from interlingua.convert.stream import step_blocks
from interlingua.formats.dtypes import BFLOAT16, numpy_dtype
from interlingua.mappings.config import SOME, Config, Json
from interlingua.mappings.conventions import MODEL_ACT, computed_eps
from interlingua.mappings.dialect import Table
from interlingua.mappings.match import Match
from interlingua.mappings.schema import TASK_TYPES
from interlingua.verify.canonical import canonical_steps, readers_of
from interlingua.verify.encoders.request import Recipe, Request
from interlingua.verify.oracle import Model
from interlingua.verify.oracle.heads import needs_pooler
from interlingua.verify.parity.references import system_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

COMPUTED_BY = ("hidden_act", "layer_norm_eps")
"""Values that a system may compute otherwise than the model wants: what its own configuration says is the last word."""

DECISIVE = (
    *COMPUTED_BY,
    "num_attention_heads",
    "num_hidden_layers",
    "num_hidden_groups",
    "pad_token_id",
    "use_task_id",
    "max_relative_position",
)
"""Values of a configuration that change what is computed."""


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A checkpoint that can be run.

    Attributes:
        checkpoint: the open checkpoint.
        match: what it is.
        config: its configuration as its own system computes it.
        steps: canonical name -> how it is read.
    """

    checkpoint: Checkpoint
    match: Match
    config: Config
    steps: Mapping[str, Step]

    @property
    def table(self) -> Table:
        """The table it was recognised by."""
        return self.match.table

    @property
    def model(self) -> Model:
        """How the oracle is to compute it."""
        return model_of(self.config, self.table, self.heads)

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that can be computed: some need a pooler, and a checkpoint may be without."""
        heads = self.match.heads
        return tuple(head for head in heads if "pooler" in heads or not needs_pooler(self.table.family.name, head))

    @property
    def unused(self) -> frozenset[str]:
        """Tensors that are stored, and that its system computes without, as its configuration says."""
        return frozenset({TASK_TYPES} if self.config.use_task_id is False else ())

    def tensor(self, name: str) -> Array:
        """Return a canonical tensor that is computed with, in float64; a tied one as its owner has it.

        Raises:
            KeyError: it computes with none of this name.
        """
        if name in self.unused:
            raise KeyError(name)
        return self.stored(name)

    def stored(self, name: str) -> Array:
        """Return a canonical tensor, computed with or not.

        Raises:
            KeyError: it has none of this name.
        """
        import numpy as np

        step = self.steps[self.checkpoint.ties.get(name, name)]
        data = bytearray()
        for block in step_blocks(step, readers_of(self.checkpoint)):
            data += block  # Copied here: a block is valid until the next one is asked for.
        return np.frombuffer(data, numpy_dtype(step.target.dtype)).astype(np.float64).reshape(step.target.shape)


def open_side(checkpoint: Checkpoint) -> Opened:
    """Take an open checkpoint apart.

    Raises:
        InterlinguaError: no dialect knows it, or its configuration does not tell what it computes.
    """
    steps = canonical_steps(checkpoint)
    match = checkpoint.match
    if match is None:
        raise LookupError("canonical_steps refuses what no dialect knows")
    config = as_computed(checkpoint.completed.config, checkpoint.stated, match.table)
    return Opened(checkpoint, match, config, steps)


def as_computed(config: Config, stated: Mapping[str, Json], table: Table) -> Config:
    """Return a configuration with the epsilon and the activation that a system's own code takes.

    Args:
        config: what the model wants, as far as anything tells.
        stated: what the system's own configuration file says of it.
        table: the system's table.
    """
    form = table.config
    values: dict[str, Any] = {}
    for key in COMPUTED_BY:
        if key in form.keys and key in stated:
            values[key] = stated[key]
        elif key in form.defaults:
            values[key] = form.defaults[key]
    said = stated.get("layer_norm_eps") if "layer_norm_eps" in form.keys else None
    default = values.get("layer_norm_eps", config.layer_norm_eps)
    values["layer_norm_eps"] = computed_eps(table.conventions, said, default)
    return replace(config, **values)


def expected(source: Opened, target: Opened) -> dict[str, Json]:
    """Return the decisive values that the target's system would compute, were it a conversion of the source."""
    table, dialect = target.table, target.match.dialect
    wanted = source.checkpoint.completed.config
    native, _ = spell(wanted, dialect, table, target.match.heads, "float32", {})
    stated = parse(native, table.config, "the configuration that a conversion writes")
    computed = as_computed(wanted, stated, table)
    values = computed.as_dict()
    if table.rule(TASK_TYPES, target.match.heads) is None and "use_task_id" in values:
        values["use_task_id"] = False
    return {key: values.get(key) for key in DECISIVE if key not in SOME or key in table.family.values}


def model_of(config: Config, table: Table, heads: tuple[str, ...]) -> Model:
    """Return how the oracle computes a model as a system does."""
    conventions = table.conventions
    return Model(
        family=table.family.name,
        heads=heads,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_hidden_groups=config.num_hidden_groups,
        hidden_act=config.hidden_act,
        layer_norm=conventions.layer_norm,
        layer_norm_eps=config.layer_norm_eps,
        positions=conventions.positions,
        pad_token_id=config.pad_token_id,
        max_relative_position=config.max_relative_position,
        embeddings_eps=conventions.embeddings_eps,
        head_eps=conventions.head_eps,
        head_act={head: config.hidden_act if act == MODEL_ACT else act for head, act in conventions.head_act.items()},
    )


def make_request(side: Opened, batches: Path, output: Path, *, references: tuple[str, ...] | None = None) -> Request:
    """Return what a side's process is asked, on the CPU in float32.

    Args:
        side: the side.
        batches: the batches' ``.npz``.
        output: the ``.npz`` that the process is to write.
        references: the reference encoders to try; None: those of its dialect.
    """
    side.checkpoint.complete()
    dialect, table, heads = side.match.dialect, side.table, side.heads
    native, _ = spell(side.config, dialect, table, heads, "float32", {})
    if table.conventions.silent_eps is not None:
        native |= dict.fromkeys(table.config.keys.get("layer_norm_eps", ()), side.config.layer_norm_eps)
    system = system_of(dialect.name)
    return Request(
        framework=system.framework,
        references=system.references if references is None else references,
        dialect=dialect.name,
        family=table.family.name,
        heads=heads,
        weights=os.path.abspath(side.checkpoint.weights),
        container=side.checkpoint.container,
        config=side.config.as_dict(),
        native_config=native,
        conventions=asdict(table.conventions),
        recipes={name: recipe_of(step) for name, step in side.steps.items() if name not in side.unused},
        ties=dict(side.checkpoint.ties),
        batches=str(batches),
        output=str(output),
    )


def recipe_of(step: Step) -> Recipe:
    """Return a step with its bytes counted in elements."""
    size = step.target.dtype.itemsize
    pieces = tuple(
        (piece.name if piece.origin == SOURCE else "", piece.start // size, piece.nbytes // size)
        for piece in step.pieces
    )
    return Recipe(pieces, step.target.shape, step.transpose)


def stored_types(side: Opened) -> set[str]:
    """Return the element types of a side's tensors, by name."""
    return {BFLOAT16.name if step.target.dtype is BFLOAT16 else step.target.dtype.name for step in side.steps.values()}
