"""MindSpore's operations and loader (2.10): kernels of ``mindspore.ops``, one at a time (PyNative mode), on the CPU.

``mindspore.mint`` is left alone: on a CPU most of it has no kernels. Three things about the CPU's own kernels
decide what stands here (measured with MindSpore 2.10 against float64):

- ``ops.tanh`` of float32 is a rational function with the value 1 from 5 on: it is wrong by 1.1e-6 up to 3, by 1.0e-4
  at 5. The kernel for float64 is right; tanh goes through that, and the settings say so.
- ``ops.layer_norm`` and ``ops.embedding`` have no kernel; the primitive ``ops.LayerNorm`` and ``ops.gather`` have.
- Nothing multiplies matrices of bfloat16.
"""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

import numpy as np

from interlingua.verify.encoders.ops import Ops, Tensor
from interlingua.verify.encoders.request import Array, Request, UnavailableError

TANH = "float64 kernel (the float32 kernel is off by 1e-4 at 5)"
"""What the settings say of tanh."""

_SCRATCH = tempfile.TemporaryDirectory(prefix="interlingua-mindspore-")
"""Where MindSpore puts the folder ``rank_0`` of a failed compilation, which else lands in the working directory."""


def open_ops(request: Request) -> Ops:
    """Return the operations on the CPU.

    Raises:
        UnavailableError: see ``settle``.
    """
    return MindSporeOps(request)


def settle(request: Request) -> dict[str, str]:
    """Import MindSpore, choose its mode and device, and say how things stand.

    Raises:
        UnavailableError: NumPy is too new for MindSpore, or another device or element type is asked for than
            MindSpore has kernels of.
    """
    if int(np.__version__.partition(".")[0]) >= 2:
        raise UnavailableError(
            f"MindSpore's compiled part is built for NumPy 1, and here is NumPy {np.__version__}: its first reshape "
            "fails. Install numpy<2 in the interpreter that runs MindSpore."
        )
    if request.device != "cpu":
        raise UnavailableError("MindSpore's package runs on the CPU (and on Ascend): it has no CUDA kernels")
    if request.dtype == "bfloat16":
        raise UnavailableError("MindSpore's CPU has no matrix product of bfloat16")
    os.environ.setdefault("MS_OM_PATH", _SCRATCH.name)
    os.environ.setdefault("GLOG_v", "3")
    import mindspore

    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
    mindspore.set_device("CPU")
    if request.threads:
        _limit_threads(request.threads)
    return {"mode": "PyNative", "tanh": TANH, "threads": str(request.threads or "MindSpore's choice")}


@functools.cache
def _limit_threads(count: int) -> None:
    """Limit MindSpore's threads, which it allows once in a process."""
    import mindspore

    mindspore.runtime.dispatch_threads_num(count)


def load_parameters(request: Request) -> dict[str, Tensor]:
    """Load a file, or the shards of an index, by MindSpore's own loader: native name -> Parameter.

    Raises:
        UnavailableError: MindSpore does not read it.
    """
    import json

    path = Path(request.weights)
    if path.name.endswith(".index.json"):
        shards = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        return {name: value for shard in shards for name, value in _load_file(path.parent / shard).items()}
    return _load_file(path)


def _load_file(path: Path) -> dict[str, Tensor]:
    import mindspore

    with path.open("rb") as file:
        form = "safetensors" if file.read(9)[8:] == b"{" else "ckpt"
    if path.suffix != f".{form}":
        raise UnavailableError(f"mindspore.load_checkpoint reads files named *.{form}, and this is {path.name}")
    try:
        loaded: dict[str, Tensor] = mindspore.load_checkpoint(str(path), format=form)
    except (ValueError, RuntimeError, TypeError) as error:
        raise UnavailableError(f"mindspore.load_checkpoint does not read {path.name}: {error}"[:300]) from error
    return loaded


def to_array(x: Tensor) -> Array:
    """Return a tensor as a NumPy array; bfloat16 as float32."""
    import mindspore

    array: Array = (x.astype(mindspore.float32) if x.dtype == mindspore.bfloat16 else x).asnumpy()
    return array


class MindSporeOps(Ops):
    """MindSpore's kernels; attention is written out."""

    def __init__(self, request: Request) -> None:
        settings = settle(request)
        import mindspore

        self.dtype = getattr(mindspore, request.dtype)
        self.framework = f"mindspore {mindspore.__version__}"
        self.device = "cpu"
        self.settings = {**settings, "attention": "written out"}

    def load(self, request: Request) -> dict[str, Array]:
        # Scalars that training appends (an epoch's number, a text) are no tensors of the model.
        loaded = load_parameters(request)
        return {name: to_array(value) for name, value in loaded.items() if hasattr(value, "asnumpy")}

    def weight(self, array: Array) -> Tensor:
        import mindspore

        return mindspore.Tensor(np.ascontiguousarray(array)).astype(self.dtype)

    def ids(self, array: Array) -> Tensor:
        import mindspore

        return mindspore.Tensor(np.ascontiguousarray(array), mindspore.int32)

    def numpy(self, x: Tensor) -> Array:
        import mindspore

        return to_array(x.astype(mindspore.float32))

    def embedding(self, table: Tensor, ids: Tensor) -> Tensor:
        from mindspore import ops

        return ops.gather(table, ids, 0)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        from mindspore import ops

        return ops.dense(x, weight, bias)

    def layer_norm(self, x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
        from mindspore import ops

        return ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=epsilon)(x, gamma, beta)[0]

    def unbiased_layer_norm(self, x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
        deviation = x.std(axis=-1, ddof=1, keepdims=True)
        return gamma * (x - x.mean(axis=-1, keep_dims=True)) / (deviation + epsilon) + beta

    def activation(self, name: str, x: Tensor) -> Tensor:
        from mindspore import ops

        if name == "linear":
            return x
        if name == "tanh":
            return exact_tanh(x)
        if name in ("gelu", "gelu_tanh"):
            return ops.gelu(x, "tanh" if name == "gelu_tanh" else "none")
        return {"relu": ops.relu, "silu": ops.silu}[name](x)

    def softmax(self, x: Tensor) -> Tensor:
        from mindspore import ops

        return ops.softmax(x, -1)

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        from mindspore import ops

        return ops.matmul(a, b)

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        return x.reshape(shape)

    def permute(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        return x.transpose(*axes)


def exact_tanh(x: Tensor) -> Tensor:
    """Return tanh, rounded once to the input's type."""
    import mindspore
    from mindspore import ops

    return ops.tanh(x.astype(mindspore.float64)).astype(x.dtype)
