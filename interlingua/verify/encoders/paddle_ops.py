"""Paddle's operations, in dynamic graph mode (3.x)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import paddle
from paddle.nn import functional

from interlingua.verify.encoders.ops import Ops, Tensor
from interlingua.verify.encoders.paddle_files import load_state, to_array
from interlingua.verify.encoders.request import Array, Request, UnavailableError

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate=True),
    "relu": functional.relu,
    "silu": functional.silu,
    "tanh": functional.tanh,
    "linear": lambda x: x,
}

THREADS = "FLAGS_paddle_num_threads"

NO_KERNEL = re.compile(r"\(([A-Za-z]+), [^)]*\), (\w+)\) of kernel `(\w+)` is not registered")
"""What Paddle says of an operation that it cannot carry out: device, element type, kernel."""


def open_ops(request: Request) -> Ops:
    """Return the operations on the device that is asked for.

    Raises:
        UnavailableError: there is no such device, or it has no kernels for the element type.
    """
    return PaddleOps(request)


def settle(request: Request) -> dict[str, str]:
    """Choose device and element type, switch off what computes in less precision, and say how things stand.

    Raises:
        UnavailableError: Paddle was built without CUDA, sees no device, or has no kernels for the element type.
    """
    is_gpu = request.device == "cuda"
    if is_gpu and not paddle.device.is_compiled_with_cuda():
        raise UnavailableError("this Paddle is built without CUDA")
    if is_gpu and paddle.device.cuda.device_count() == 0:
        raise UnavailableError("Paddle sees no CUDA device")
    paddle.disable_static()
    paddle.set_device("gpu" if is_gpu else "cpu")
    paddle.set_default_dtype(request.dtype)
    if request.threads:
        paddle.base.core.set_num_threads(request.threads)
    threads = request.threads or paddle.get_flags(THREADS)[THREADS]
    settings = {"execution": "dynamic graph", "threads": str(threads)}
    if is_gpu:
        paddle.base.core.set_cublas_switch(False)
        paddle.base.core.set_cudnn_switch(False)
        # FLAGS_gemm_use_half_precision_compute_type is off unless somebody sets it.
        settings |= {"TF32": "off", "reduced-precision accumulation": "off by default"}
    _require_kernels(request.dtype)
    return settings


def _require_kernels(dtype: str) -> None:
    """Try the operations that an encoder is made of.

    Raises:
        UnavailableError: one has no kernel for the element type on this device; the text names it.
    """
    try:
        x = paddle.ones([2, 2], dtype)
        paddle.matmul(x, x)
        functional.layer_norm(x + x, [2], x[0], x[0])
        functional.gelu(functional.softmax(x)).numpy()
    except RuntimeError as error:
        missing = NO_KERNEL.search(str(error))
        if missing is None:
            raise
        device, _, kernel = missing.groups()
        raise UnavailableError(f"Paddle has no {dtype} kernel of `{kernel}` on {device}") from error


def framework_version() -> str:
    """Return the framework's name and version."""
    return f"paddle {paddle.__version__}"


def device_name(request: Request) -> str:
    """Return what the device calls itself."""
    return str(paddle.device.cuda.get_device_name()) if request.device == "cuda" else "cpu"


class PaddleOps(Ops):
    """Paddle's kernels; attention is written out, none of the fused ones."""

    def __init__(self, request: Request) -> None:
        """Settle the device.

        Raises:
            UnavailableError: it cannot run what is asked for.
        """
        settings = settle(request)
        self.dtype = request.dtype
        self.framework = framework_version()
        self.device = device_name(request)
        self.settings = {**settings, "attention": "written out"}
        self._grad = paddle.no_grad()
        self._grad.__enter__()

    def load(self, request: Request) -> dict[str, Array]:
        """Load the checkpoint by Paddle's own loaders."""
        return {name: to_array(tensor) for name, tensor in load_state(request).items()}

    def weight(self, array: Array) -> Tensor:
        """Put a weight on the device."""
        return paddle.to_tensor(array).astype(self.dtype)

    def ids(self, array: Array) -> Tensor:
        """Put integers on the device."""
        return paddle.to_tensor(array)

    def numpy(self, x: Tensor) -> Array:
        """Return a float32 array."""
        array: Array = x.astype("float32").numpy()
        return array

    def embedding(self, table: Tensor, ids: Tensor) -> Tensor:
        """Return the table's rows; none of them is taken for padding."""
        return functional.embedding(ids, table)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Multiply as ``functional.linear`` does, whose weight would lie the other way round."""
        product = paddle.matmul(x, weight, transpose_y=True)
        return product if bias is None else product + bias

    def layer_norm(self, x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
        """Normalise the last axis."""
        return functional.layer_norm(x, gamma.shape, gamma, beta, epsilon)

    def unbiased_layer_norm(self, x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
        """Normalise the last axis by the unbiased deviation."""
        mean, deviation = x.mean(-1, keepdim=True), x.std(-1, unbiased=True, keepdim=True)
        return gamma * (x - mean) / (deviation + epsilon) + beta

    def activation(self, name: str, x: Tensor) -> Tensor:
        """Apply a canonical activation."""
        return ACTIVATIONS[name](x)

    def softmax(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return functional.softmax(x, -1)

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Multiply matrices in the last two axes."""
        return paddle.matmul(a, b)

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the tensor in another shape."""
        return x.reshape(list(shape))

    def permute(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        """Return the tensor with its axes in another order."""
        return x.transpose(list(axes))

    def close(self) -> None:
        """Let gradients be recorded again, in Paddle's own element type."""
        self._grad.__exit__(None, None, None)
        paddle.set_default_dtype("float32")
