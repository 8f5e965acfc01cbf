"""The operations that the own encoder is written in; each framework's module carries them out with its own kernels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interlingua.verify.encoders.request import Array, Request

Tensor = Any
"""A framework's own tensor."""


class Ops(ABC):
    """One framework's operations; a module's ``open_ops(request)`` makes one for a device and an element type."""

    framework: str
    """The framework's name and version."""

    device: str
    """The device's name."""

    settings: Mapping[str, str]
    """What else decides numbers."""

    @abstractmethod
    def load(self, request: Request) -> dict[str, Array]:
        """Load ``request.weights`` with the framework's own loader: native name -> NumPy array.

        bfloat16 comes as float32, so that NumPy can hold it; every other type as it is.

        Raises:
            UnavailableError: the framework has no loader of this container.
        """

    @abstractmethod
    def weight(self, array: Array) -> Tensor:
        """Put a weight on the device, in the element type of the run."""

    @abstractmethod
    def ids(self, array: Array) -> Tensor:
        """Put integers on the device."""

    @abstractmethod
    def numpy(self, x: Tensor) -> Array:
        """Return a tensor as a float32 array."""

    @abstractmethod
    def embedding(self, table: Tensor, ids: Tensor) -> Tensor:
        """Return the table's rows: [rows, size], [...] -> [..., size]."""

    @abstractmethod
    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return x weight^T + bias: [..., in], [out, in], [out] -> [..., out]."""

    @abstractmethod
    def layer_norm(self, x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
        """Normalise the last axis by the framework's own LayerNorm: divisor N, epsilon inside the root."""

    @abstractmethod
    def unbiased_layer_norm(self, x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
        """Return gamma (x - mean) / (deviation + epsilon) + beta, the deviation with divisor N - 1."""

    @abstractmethod
    def activation(self, name: str, x: Tensor) -> Tensor:
        """Apply a canonical activation: ``gelu``, ``gelu_tanh``, ``relu``, ``silu``, ``tanh`` or ``linear``."""

    @abstractmethod
    def softmax(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""

    @abstractmethod
    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Multiply matrices in the last two axes; the others agree or are broadcast."""

    @abstractmethod
    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the tensor in another shape."""

    @abstractmethod
    def permute(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        """Return the tensor with its axes in another order."""

    def close(self) -> None:
        """Give back what the run took; most frameworks need not be told."""
        return
