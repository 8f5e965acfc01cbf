"""What a side's process is asked, and what it answers: plain JSON and NumPy files, as interpreters may differ.

Only the standard library and NumPy are imported here: the interpreter that a framework is installed in need not have
anything else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""A NumPy array of any element type."""

HIDDEN = ("embeddings", "layer.{layer}")
"""Names of hidden states: the first layer's input, and each layer's output; [rows, length, hidden]."""


class UnavailableError(Exception):
    """A reference cannot run here: a package is missing, or does not have the model. The text says which."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a canonical tensor is made of native ones: pieces of their bytes joined, then turned.

    Attributes:
        pieces: (native name, first element, number of elements) of runs of row-major native tensors; the name
            is ``""`` for zeros.
        shape: its canonical shape.
        transpose: (rows, columns) of the joined matrix that is to be transposed; None: it stays as it is.
    """

    pieces: tuple[tuple[str, int, int], ...]
    shape: tuple[int, ...]
    transpose: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a side's process is to run.

    Attributes:
        framework: ``torch``, ``tensorflow``, ``paddle`` or ``mindspore``.
        references: names of the reference encoders to try, the preferred one first; the last is ``own``.
        dialect: the checkpoint's dialect.
        family: the model's family.
        heads: its heads.
        weights: the file (or folder, or prefix) that holds the weights, as the framework's own loader wants it.
        container: its container.
        config: the canonical configuration, as the side's own system computes it (epsilon and activation included).
        native_config: the configuration in the dialect's own keys, written by us from ``config``: nothing else that
            a checkpoint says reaches a model class.
        conventions: the dialect's forward conventions, by field.
        recipes: canonical name -> how it is made of the native tensors.
        ties: canonical name -> the canonical tensor whose data it shares.
        batches: an ``.npz`` of the batches' arrays by ``batch/name``.
        output: the ``.npz`` to write, activations by ``batch/name``.
        device: ``cpu`` or ``cuda``.
        dtype: ``float32``, ``float16`` or ``bfloat16``: what weights and activations are computed in.
        threads: threads that the framework may use; 0: its own choice.
    """

    framework: str
    references: tuple[str, ...]
    dialect: str
    family: str
    heads: tuple[str, ...]
    weights: str
    container: str
    config: Mapping[str, Any]
    native_config: Mapping[str, Any]
    conventions: Mapping[str, Any]
    recipes: Mapping[str, Recipe]
    ties: Mapping[str, str]
    batches: str
    output: str
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 0

    def dump(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def load_request(path: Path) -> Request:
    """Read a request that ``Request.dump`` wrote."""
    values = json.loads(path.read_text(encoding="utf-8"))
    recipes = {
        name: Recipe(
            tuple((piece[0], piece[1], piece[2]) for piece in entry["pieces"]),
            tuple(entry["shape"]),
            (entry["transpose"][0], entry["transpose"][1]) if entry["transpose"] else None,
        )
        for name, entry in values.pop("recipes").items()
    }
    for key in ("references", "heads"):
        values[key] = tuple(values[key])
    return Request(recipes=recipes, **values)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a reference encoder says of its run.

    Attributes:
        reference: what ran: package and class, or ``own encoder``.
        version: the reference's version.
        third_party: whether somebody else wrote it.
        framework: the framework's name and version.
        device: the device's name.
        settings: what else decides numbers: attention kernel, TF32, accumulation.
        missing: native names that the model class wanted and did not find.
        unexpected: native names that it did not know.
    """

    reference: str
    version: str
    third_party: bool
    framework: str
    device: str
    settings: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[str] = ()
    unexpected: Sequence[str] = ()


Activations = dict[str, Array]
"""``batch/name`` -> float32 or float64: hidden states [rows, length, hidden], ``pooler`` [rows, hidden], heads."""


def load_batches(path: str) -> dict[str, dict[str, Array]]:
    """Return batch name -> its arrays by name, as ``interlingua.verify.parity.batch.Batch`` has them."""
    found: dict[str, dict[str, Array]] = {}
    with np.load(path, allow_pickle=False) as file:
        for key in file.files:
            batch, _, name = key.partition("/")
            found.setdefault(batch, {})[name] = file[key]
    return found


def make_tensors(request: Request, native: Mapping[str, Array]) -> dict[str, Array]:
    """Return the canonical tensors, tied ones included, made of native arrays as the framework's loader gave them.

    Raises:
        KeyError: the loader did not give a tensor that the recipes need.
    """
    made: dict[str, Array] = {}
    for name, recipe in request.recipes.items():
        source = next(native[piece[0]] for piece in recipe.pieces if piece[0])
        flat = [
            np.ascontiguousarray(native[piece]).reshape(-1)[start : start + count]
            if piece
            else np.zeros(count, source.dtype)
            for piece, start, count in recipe.pieces
        ]
        joined = flat[0] if len(flat) == 1 else np.concatenate(flat)
        if recipe.transpose is not None:
            joined = joined.reshape(recipe.transpose).T
        made[name] = joined.reshape(recipe.shape)
    for name, owner in request.ties.items():
        made[name] = made[owner]
    return made
