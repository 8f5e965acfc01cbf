"""PyTorch's operations and loaders (2.10 and newer)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional

from interlingua.verify.encoders.ops import Ops, Tensor
from interlingua.verify.encoders.request import Array, Request, UnavailableError

ACTIVATIONS = {
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    "linear": lambda x: x,
}


def open_ops(request: Request) -> Ops:
    """Return the operations on the device that is asked for.

    Raises:
        UnavailableError: there is no such device.
    """
    return TorchOps(request)


def settle(request: Request) -> tuple[torch.device, dict[str, str]]:
    """Choose the device, switch off what computes in less precision than asked, and say how things stand.

    Raises:
        UnavailableError: there is no such device.
    """
    if request.device == "cuda" and not torch.cuda.is_available():
        raise UnavailableError("PyTorch sees no CUDA device")
    if request.threads:
        torch.set_num_threads(request.threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    settings = {"threads": str(torch.get_num_threads())}
    if request.device == "cuda":
        settings |= {"TF32": "off", "reduced-precision accumulation": "off"}
    return torch.device(request.device), settings


def device_name(device: torch.device) -> str:
    """Return what the device calls itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def load_state(request: Request) -> dict[str, torch.Tensor]:
    """Load a file, or the shards of an index, by PyTorch's (or safetensors') own loader: native name -> tensor.

    Raises:
        UnavailableError: neither reads the container.
    """
    import json

    path = Path(request.weights)
    if path.name.endswith(".index.json"):
        shards = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        return {name: value for shard in shards for name, value in _load_file(path.parent / shard).items()}
    return _load_file(path)


def _load_file(path: Path) -> dict[str, torch.Tensor]:
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Of damage and of what it does not allow, torch raises what it meets.
        raise UnavailableError(f"torch.load(weights_only=True) does not read {path.name}: {error}"[:300]) from error
    return _flatten(loaded)


def _flatten(value: object, prefix: str = "") -> dict[str, torch.Tensor]:
    """Return the tensors of nested dictionaries, by their names joined with dots."""
    if isinstance(value, torch.Tensor):
        return {prefix.removesuffix("."): value}
    if not isinstance(value, dict):
        return {}
    return {name: tensor for key, item in value.items() for name, tensor in _flatten(item, f"{prefix}{key}.").items()}


class TorchOps(Ops):
    """PyTorch's kernels; attention is written out, none of the fused ones."""

    def __init__(self, request: Request) -> None:
        self.where, settings = settle(request)
        self.dtype = getattr(torch, request.dtype)
        self.framework = f"torch {torch.__version__}"
        self.device = device_name(self.where)
        self.settings = {**settings, "attention": "written out"}
        torch.set_grad_enabled(False)

    def load(self, request: Request) -> dict[str, Array]:
        state = load_state(request)
        return {name: (x.float() if x.dtype is torch.bfloat16 else x).numpy() for name, x in state.items()}

    def weight(self, array: Array) -> Tensor:
        return torch.tensor(array).to(self.where, self.dtype)

    def ids(self, array: Array) -> Tensor:
        return torch.tensor(array).to(self.where)

    def numpy(self, x: Tensor) -> Array:
        array: Array = x.float().cpu().numpy()
        return array

    def embedding(self, table: Tensor, ids: Tensor) -> Tensor:
        return functional.embedding(ids, table)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x, weight, bias)

    def layer_norm(self, x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
        return functional.layer_norm(x, gamma.shape, gamma, beta, epsilon)

    def unbiased_layer_norm(self, x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
        mean, deviation = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
        return gamma * (x - mean) / (deviation + epsilon) + beta

    def activation(self, name: str, x: Tensor) -> Tensor:
        return ACTIVATIONS[name](x)

    def softmax(self, x: Tensor) -> Tensor:
        return functional.softmax(x, -1)

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.matmul(a, b)

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        return x.reshape(shape)

    def permute(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        return x.permute(axes)
