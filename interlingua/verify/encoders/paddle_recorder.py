"""What goes from module to module of a Paddle model in one forward pass, kept by hooks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle

from interlingua.verify.encoders.request import Array


def find(model: Any, path: str) -> Any:
    """Return the module at a path of attributes; the model itself for an empty one."""
    return functools.reduce(getattr, path.split("."), model) if path else model


@contextmanager
def recorded(layers: Sequence[Any], heads: Mapping[str, Any], predict: Array) -> Iterator[dict[str, Array]]:
    """Keep what a model computes while it runs once.

    Args:
        layers: its layers; those that share their weights are one module, called many times.
        heads: activation -> the module whose output it is.
        predict: [rows, predicted], positions whose masked-LM logits are kept.

    Returns:
        Activations by name, float32: filled by then.
    """
    outputs: dict[str, Array] = {}

    def enter(_layer: Any, inputs: Any) -> None:
        outputs.setdefault("embeddings", _array(inputs[0]))

    def leave(_layer: Any, _inputs: Any, output: Any) -> None:
        number = sum(name.startswith("layer.") for name in outputs)
        outputs[f"layer.{number}"] = _array(_first(output))

    handles = []
    for layer in layers:
        handles += [layer.register_forward_pre_hook(enter), layer.register_forward_post_hook(leave)]
    handles += [module.register_forward_post_hook(_keeper(name, outputs, predict)) for name, module in heads.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _keeper(name: str, outputs: dict[str, Array], predict: Array) -> Callable[[Any, Any, Any], None]:
    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        value = _first(output)
        outputs[name] = _array(_at(value, predict) if name == "masked_lm" else value)

    return keep


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple | list) else output


def _at(logits: Any, positions: Array) -> Any:
    """Return [rows, predicted, vocab] of [rows, length, vocab]."""
    rows = np.arange(len(positions))[:, None].repeat(positions.shape[1], axis=1)
    return paddle.gather_nd(logits, paddle.to_tensor(np.stack([rows, positions], axis=-1)))


def _array(tensor: Any) -> Array:
    array: Array = tensor.astype("float32").numpy()
    return array
