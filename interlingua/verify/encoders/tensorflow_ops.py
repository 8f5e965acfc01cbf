"""TensorFlow's operations (2.15 and newer), as google-research/bert ``modeling.py`` calls them, run eagerly."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from interlingua.verify.encoders.ops import Ops, Tensor
from interlingua.verify.encoders.request import Array, Request
from interlingua.verify.encoders.tensorflow_device import compute_dtype, device_name, framework, settle, tf, to_numpy
from interlingua.verify.encoders.tensorflow_files import load_native

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": lambda x: tf.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: tf.nn.gelu(x, approximate=True),
    "relu": tf.nn.relu,
    "silu": tf.nn.silu,
    "tanh": tf.math.tanh,
    "linear": tf.identity,
}


def open_ops(request: Request) -> Ops:
    """Return the operations on the device that is asked for.

    Raises:
        UnavailableError: there is no such device.
    """
    return TensorFlowOps(request)


class TensorFlowOps(Ops):
    """TensorFlow's kernels, one call each: attention is written out."""

    def __init__(self, request: Request) -> None:
        self.settings = {**settle(request), "attention": "written out"}
        self.dtype = compute_dtype(request)
        self.framework = framework()
        self.device = device_name(request)

    def load(self, request: Request) -> dict[str, Array]:
        return load_native(request)

    def weight(self, array: Array) -> Tensor:
        return tf.cast(tf.convert_to_tensor(array), self.dtype)

    def ids(self, array: Array) -> Tensor:
        return tf.convert_to_tensor(np.ascontiguousarray(array))

    def numpy(self, x: Tensor) -> Array:
        array: Array = to_numpy(x)
        return array

    def embedding(self, table: Tensor, ids: Tensor) -> Tensor:
        return tf.gather(table, ids)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        product = tf.linalg.matmul(tf.reshape(x, (-1, x.shape[-1])), weight, transpose_b=True)
        product = product if bias is None else tf.nn.bias_add(product, bias)
        return tf.reshape(product, (*x.shape[:-1], weight.shape[0]))

    def layer_norm(self, x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
        """Normalise as ``tf.contrib.layers.layer_norm`` did and Keras does; halves in float32, as Keras has it."""
        wide, scale, offset = (tf.cast(value, tf.float32) for value in (x, gamma, beta))
        mean, variance = tf.nn.moments(wide, axes=[-1], keepdims=True)
        return tf.cast(tf.nn.batch_normalization(wide, mean, variance, offset, scale, epsilon), x.dtype)

    def unbiased_layer_norm(self, x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
        count = x.shape[-1]
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
        deviation = tf.math.sqrt(variance * (count / (count - 1)))
        return gamma * (x - mean) / (deviation + epsilon) + beta

    def activation(self, name: str, x: Tensor) -> Tensor:
        return ACTIVATIONS[name](x)

    def softmax(self, x: Tensor) -> Tensor:
        return tf.nn.softmax(x, axis=-1)

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        return tf.linalg.matmul(a, b)

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        return tf.reshape(x, shape)

    def permute(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        return tf.transpose(x, axes)
