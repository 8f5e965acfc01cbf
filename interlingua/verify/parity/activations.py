"""Activations in a file: what one side computed, kept for a comparison where its framework is not installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlingua.errors import FormatError
from interlingua.formats.base import TensorSpec, write_at
from interlingua.formats.dtypes import DTYPES, numpy_dtype
from interlingua.formats.safetensors import open_reader, open_writer
from interlingua.verify.oracle.model import Model
from interlingua.verify.parity.batch import Batch
from interlingua.verify.parity.outcome import Side
from interlingua.verify.parity.typed_json import from_json, to_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

KEY = "interlingua.activations"
"""Metadata entry that makes a safetensors file one of activations: JSON with ``version`` and a description."""

VERSION = 1


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """What a file of activations holds.

    Attributes:
        side: what ran.
        model: how its system computes, as the oracle is told.
        batches: the batches it ran on.
        activations: ``batch/name`` -> array.
    """

    side: Side
    model: Model
    batches: tuple[Batch, ...]
    activations: Mapping[str, Array]


def save_activations(path: Path, saved: Saved) -> None:
    """Write a file of activations, a safetensors file that others can read too.

    Raises:
        OutputError: it cannot be written.
    """
    arrays = {f"activations/{name}": value for name, value in saved.activations.items()}
    for batch in saved.batches:
        arrays |= {f"batches/{name}": value for name, value in batch.arrays().items()}
    specs = [TensorSpec(name, DTYPES[value.dtype.name], value.shape) for name, value in arrays.items()]
    about = {"version": VERSION, "side": to_json(asdict(saved.side)), "model": to_json(asdict(saved.model))}
    metadata = {KEY: json.dumps(about, sort_keys=True)}
    staged = path.with_name(f".{path.name}.part")
    staged.unlink(missing_ok=True)
    try:
        with open_writer(staged, specs, metadata=metadata) as writer:
            for name, value in arrays.items():
                with writer.slot(name) as slot:
                    write_at(slot.fd, slot.offset, memoryview(value.tobytes()))
            writer.finish()
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def read_activations(path: Path) -> Saved:
    """Read a file of activations.

    Raises:
        FormatError: it is none, or of another version.
    """
    import numpy as np

    with open_reader(path) as reader:
        about = _about(reader.metadata.get(KEY), path)
        arrays: dict[str, Array] = {}
        for name, spec in reader.tensors.items():
            buffer = bytearray(spec.nbytes)
            reader.read_into(name, 0, memoryview(buffer))
            arrays[name] = np.frombuffer(buffer, numpy_dtype(spec.dtype)).reshape(spec.shape)
    names = dict.fromkeys(name.split("/")[1] for name in arrays if name.startswith("batches/"))
    try:
        batches = tuple(Batch(name, *(arrays[f"batches/{name}/{key}"] for key in Batch.ARRAYS)) for name in names)
    except KeyError as error:
        raise FormatError(f"lacks {error.args[0]!r}", path=path) from error
    activations = {
        name.removeprefix("activations/"): x for name, x in arrays.items() if name.startswith("activations/")
    }
    side: Side = from_json(Side, about.get("side"), "side")
    model: Model = from_json(Model, about.get("model"), "model")
    return Saved(side, model, batches, activations)


def _about(text: str | None, path: Path) -> dict[str, Any]:
    try:
        about = json.loads(text or "")
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict):
        raise FormatError(
            "is no file of activations", path=path, hint="`interlingua parity --save-activations FILE` writes one."
        )
    if about.get("version") != VERSION:
        raise FormatError(f"is of version {about.get('version')!r}; {VERSION} is known", path=path)
    return about
