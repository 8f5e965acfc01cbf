"""Checkpoints as TensorFlow and Keras load them: native name -> array.

Names are those of the files, as ``interlingua.formats`` shows them: a bundle's keys; a weight's path below
``model_weights`` (or the root) in Keras' older HDF5; a variable's whole path in Keras 3's.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from interlingua.verify.encoders.request import Array, Request, UnavailableError
from interlingua.verify.encoders.tensorflow_device import tf

MODEL = "model_weights"
ARCHIVED = "model.weights.h5"


def load_native(request: Request) -> dict[str, Array]:
    """Load ``request.weights``, or the shards that it is an index of; bfloat16 comes as float32.

    Raises:
        UnavailableError: TensorFlow and Keras have no loader of the container.
    """
    return {
        name: array for path in files(request.weights) for name, array in _loader(request.container, path)(path).items()
    }


def files(weights: str) -> list[Path]:
    """Return the file (or prefix) of the weights, or the shards of an index."""
    path = Path(weights)
    if not path.name.endswith(".index.json"):
        return [path]
    shards = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
    return [path.parent / shard for shard in sorted(set(shards))]


def _loader(container: str, path: Path) -> Callable[[Path], dict[str, Array]]:
    loaders: dict[str, Callable[[Path], dict[str, Array]]] = {
        "tensor-bundle": _load_bundle,
        "keras-hdf5": _load_hdf5,
        "keras-weights-hdf5": _load_hdf5,
        "keras-archive": _load_archive,
        "safetensors": _load_safetensors,
    }
    # The containers of an index's shards are joined by plus signs.
    kinds = set(container.split("+"))
    if len(kinds) != 1 or container.split("+")[0] not in loaders:
        raise UnavailableError(f"TensorFlow and Keras have no loader of {container} ({path.name})")
    return loaders[kinds.pop()]


def bundle_prefix(weights: str) -> str:
    """Return the prefix of the bundle that a path leads to, as TensorFlow wants it: a folder's newest."""
    path = Path(weights)
    if path.is_dir():
        found = tf.train.latest_checkpoint(weights) or next(map(str, sorted(path.glob("*.index"))), weights)
        return str(found).removesuffix(".index")
    prefix = weights.rpartition(".data-")[0] if path.is_file() and ".data-" in path.name else weights
    return prefix.removesuffix(".index")


def _load_bundle(path: Path) -> dict[str, Array]:
    """Load every tensor that is no string; a partitioned variable is joined by TensorFlow."""
    reader = tf.train.load_checkpoint(bundle_prefix(str(path)))
    types = reader.get_variable_to_dtype_map()
    return {name: _widened(reader.get_tensor(name)) for name, kind in types.items() if kind != tf.string}


def _load_hdf5(path: Path) -> dict[str, Array]:
    """Load every dataset of numbers, by h5py as Keras itself does."""
    import h5py

    with h5py.File(path, "r") as file:
        return _datasets(file, h5py.Dataset)


def _load_archive(path: Path) -> dict[str, Array]:
    import h5py

    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read(ARCHIVED)), "r") as file:
        return _datasets(file, h5py.Dataset)


def _datasets(file: Any, kind: type) -> dict[str, Array]:
    """Return a file's arrays by their paths, those below ``model_weights`` without it."""
    found: dict[str, Array] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, kind):
            found[name.removeprefix(f"{MODEL}/")] = _widened(np.asarray(item))

    file.visititems(visit)
    return found


def _load_safetensors(path: Path) -> dict[str, Array]:
    from safetensors.tensorflow import load_file

    return {name: _widened(tensor.numpy()) for name, tensor in load_file(path).items()}


def _widened(array: Array) -> Array:
    """Return bfloat16, which HDF5 knows as two bytes only, as float32; anything else as it is."""
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        array = array.view(tf.bfloat16.as_numpy_dtype)
    return array.astype(np.float32) if array.dtype == tf.bfloat16.as_numpy_dtype else array
