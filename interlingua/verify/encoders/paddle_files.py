"""Paddle's own loaders: native name -> tensor, from each container that Paddle writes (3.x)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from interlingua.verify.encoders.request import Array, Request, UnavailableError

INDEX_SUFFIX = ".index.json"
PROGRAMS = {"__params__": "__model__", "params": "model"}
"""Fluid's names of a combined file and of the program beside it; else the program has the file's stem, or is the
first's."""

State = dict[str, Any]
"""Native name -> ``paddle.Tensor``, on the current device."""


def load_state(request: Request) -> State:
    """Load the checkpoint: native name -> Paddle tensor.

    Raises:
        UnavailableError: Paddle has no loader of the container.
    """
    path = Path(request.weights)
    if path.name.endswith(INDEX_SUFFIX):
        shards = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        return {name: value for shard in shards for name, value in _loader(request)(path.parent / shard).items()}
    if request.container == "lod-tensor" and path.is_dir():
        return {name: paddle.load(str(path / name)) for name in _needed(request)}
    return _loader(request)(path)


def to_array(tensor: Any) -> Array:
    """Return a tensor as NumPy can hold it: bfloat16 as float32, every other type as it is."""
    array: Array = (tensor.astype("float32") if tensor.dtype == paddle.bfloat16 else tensor).numpy()
    return array


def _loader(request: Request) -> Callable[[Path], State]:
    loaders: Mapping[str, Callable[[Path], State]] = {
        "paddle-pickle": _load_pickle,
        "safetensors": _load_safetensors,
        "lod-tensor-combined": _load_combined,
    }
    if request.container not in loaders:
        raise UnavailableError(f"Paddle has no loader of the container {request.container}")
    return loaders[request.container]


def _needed(request: Request) -> set[str]:
    """Return the native tensors that the recipes are made of: each is a file below the folder."""
    return {piece[0] for recipe in request.recipes.values() for piece in recipe.pieces if piece[0]}


def _load_pickle(path: Path) -> State:
    """Load what ``paddle.save`` wrote. This unpickles: our own reader has passed the file before."""
    return dict(_leaves(paddle.load(str(path)), ""))


def _leaves(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the tensors of nested containers under the keys and indices that lead to them, joined with dots."""
    if isinstance(value, paddle.Tensor):
        yield prefix.removesuffix("."), value
        return
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in entries:
        yield from _leaves(item, f"{prefix}{key}.")


def _load_safetensors(path: Path) -> State:
    from safetensors.paddle import load_file

    state: State = load_file(str(path))
    return state


def _load_combined(path: Path) -> State:
    """Load a file of nameless streams, by the names in the program beside it; sorted, as ``save_combine`` has them."""
    core = paddle.base.core
    names = sorted(_names_in_program(path))
    streams = []
    for _ in names:
        # The loader asks each tensor for its place, which one without data does not have.
        stream = core.DenseTensor()
        stream.set(np.zeros(1, np.float32), paddle.CPUPlace())
        streams.append(stream)
    core.load_combine_func(str(path), names, streams, False, paddle.CPUPlace())
    return {name: paddle.to_tensor(np.array(stream)) for name, stream in zip(names, streams, strict=True)}


def _names_in_program(path: Path) -> list[str]:
    """Return the persistable tensors of the program beside a combined file.

    Raises:
        UnavailableError: there is none.
    """
    core = paddle.base.core
    names = [path.with_suffix(".pdmodel").name, PROGRAMS.get(path.name, "__model__"), "__model__"]
    for name in names:
        if (program := path.with_name(name)).is_file():
            # Its blocks and variables point into the description, which has to outlive them.
            description = core.ProgramDesc(program.read_bytes())
            variables, kind = description.block(0).all_vars(), core.VarDesc.VarType.DENSE_TENSOR
            return [found.name() for found in variables if found.persistable() and found.type() == kind]
    if (program := path.with_suffix(".json")).is_file():
        made = paddle.static.Program()
        core.deserialize_pir_program(str(program), made, 1)
        operations = made.global_block().ops
        return [each.str_attr("parameter_name") for each in operations if each.name() == "builtin.parameter"]
    raise UnavailableError(f"no program that names its tensors lies beside {path.name}")
