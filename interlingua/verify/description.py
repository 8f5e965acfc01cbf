"""What ``inspect`` says of a checkpoint, as a value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from interlingua.convert.json_forms import VERSION, DescriptionForm, StatsForm, TensorForm
from interlingua.convert.plan import SOURCE, Piece, Step
from interlingua.convert.source import Checkpoint
from interlingua.convert.stream import step_blocks
from interlingua.errors import FormatError, InterlinguaError, is_the_systems
from interlingua.formats.dtypes import DType, numpy_dtype
from interlingua.mappings.config import Json
from interlingua.mappings.schema import ZOO_PARTS
from interlingua.verify.canonical import canonical_steps, readers_of
from interlingua.verify.fingerprint import fingerprint

if TYPE_CHECKING:
    import numpy as np

AT_ONCE = 128 << 20
"""Bytes of tensors up to which ``inspect`` computes the fingerprint unasked: a larger one takes seconds."""


def describe(
    checkpoint: Checkpoint, *, digest: bool | None = None, canonical: bool = False, stats: bool = False
) -> DescriptionForm:
    """Return everything that is known of an open checkpoint, ready for JSON.

    Args:
        checkpoint: the checkpoint.
        digest: whether to compute the fingerprint; None: where that takes no time to speak of, and fetches nothing.
        canonical: list the canonical tensors instead of the native ones.
        stats: add each tensor's smallest, largest and mean value (None where their sum is beyond float64),
            and its number of NaNs and infinities.

    Raises:
        FormatError: it is damaged.
    """
    match = checkpoint.match
    total = sum(spec.nbytes for spec in checkpoint.tensors.values())
    config, problem = _config(checkpoint)
    if digest is None:
        digest = total <= AT_ONCE and checkpoint.place.mirror is None  # What is elsewhere would have to be fetched.
    found = None
    if digest and match is not None:
        try:
            found = fingerprint(checkpoint)
        except FormatError as error:
            if is_the_systems(error):
                raise
            problem = problem or str(error)
    return {
        "schema": VERSION,
        "path": checkpoint.name,
        "weights": checkpoint.shown(checkpoint.weights),
        "container": checkpoint.container,
        "dialect": checkpoint.dialect,
        "family": checkpoint.family,
        "heads": list(checkpoint.heads) if match else None,
        "submodels": [root.rstrip("./") for root in match.roots] if match and any(match.roots) else [],
        "config": config,
        "config_file": checkpoint.shown(checkpoint.config_path) if checkpoint.config_path else None,
        "vocabulary": checkpoint.shown(checkpoint.vocabulary) if checkpoint.vocabulary else None,
        "parameters": _parameters(checkpoint),
        "stored_parameters": sum(spec.elements for spec in checkpoint.tensors.values()),
        "bytes": total,
        "fingerprint": found.model if found else None,
        "encoder_fingerprint": found.encoder if found else None,
        "tied": dict(checkpoint.ties) if match else {},
        "tensors": _tensors(checkpoint, canonical and match is not None, stats),
        "leftovers": dict(match.leftovers) if match else {},
        "objects": {name: _jsonable(value) for name, value in checkpoint.reader.objects.items()},
        "metadata": dict(checkpoint.reader.metadata),
        "notes": list(match.notes) if match else [],
        "problem": problem,
    }


def _config(checkpoint: Checkpoint) -> tuple[dict[str, Json] | None, str | None]:
    """Return the canonical configuration, and what keeps the checkpoint from being converted."""
    if checkpoint.match is None:
        return None, str(checkpoint.problem) if checkpoint.problem else None
    try:
        problem = str(checkpoint.problem) if checkpoint.problem else None
        return checkpoint.completed.config.as_dict(), problem
    except InterlinguaError as error:
        if is_the_systems(error):
            raise
        return None, str(error)


def _parameters(checkpoint: Checkpoint) -> int:
    """Count as model zoos do: the encoder and its pooler, without heads, padding rows and buffers."""
    if checkpoint.match is None:
        return sum(spec.elements for spec in checkpoint.tensors.values())
    family = checkpoint.match.table.family
    steps = canonical_steps(checkpoint)
    return sum(step.target.elements for name, step in steps.items() if family.find(name).part in ZOO_PARTS)


def _tensors(checkpoint: Checkpoint, canonical: bool, stats: bool) -> list[TensorForm]:
    if canonical:
        steps = canonical_steps(checkpoint)
    else:
        pieces = {name: Piece(SOURCE, name, 0, spec.nbytes) for name, spec in checkpoint.tensors.items()}
        steps = {name: Step(spec, (pieces[name],)) for name, spec in checkpoint.tensors.items()}
    listed = []
    for name, step in steps.items():
        row: TensorForm = {"name": name, "shape": list(step.target.shape), "dtype": step.target.dtype.name}
        if canonical and checkpoint.match is not None:
            row["native"] = checkpoint.match.tensors[name].native
        if stats:
            row["stats"] = _stats(step, checkpoint)
        listed.append(row)
    return listed


def _stats(step: Step, checkpoint: Checkpoint) -> StatsForm | None:
    """Return a tensor's statistics, accumulated in float64; None for types that are no real numbers."""
    import numpy as np

    dtype = step.target.dtype
    if dtype.numpy is None or dtype.kind in "cs":
        return None
    low, high, total, finite, nans, infinities = np.inf, -np.inf, 0.0, 0, 0, 0
    for block in step_blocks(step, readers_of(checkpoint)):
        values = _as_float64(block, dtype)
        real = values[np.isfinite(values)]
        nans += int(np.count_nonzero(np.isnan(values)))
        infinities += int(np.count_nonzero(np.isinf(values)))
        if real.size:
            low, high = min(low, float(real.min())), max(high, float(real.max()))
            with np.errstate(over="ignore"):
                total += float(real.sum())
            finite += real.size
    mean = total / finite if finite else math.nan
    return {
        "min": low if finite else None,
        "max": high if finite else None,
        "mean": mean if math.isfinite(mean) else None,
        "nan": nans,
        "inf": infinities,
    }


def _as_float64(block: memoryview, dtype: DType) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    import numpy as np

    return np.frombuffer(block, numpy_dtype(dtype)).astype(np.float64)


def _jsonable(value: object) -> Json:
    """Return a value that JSON has; what it lacks (infinities, bytes) as a string."""
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= 64 else f"{value:#x}"
    if isinstance(value, float) and value == value and abs(value) != float("inf"):
        return value
    return str(value)
