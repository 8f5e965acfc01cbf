"""The operations that encoders are made of, in NumPy, with every result rounded to an element type.

In float64 they are the oracle's, exact for all practical purposes. In a narrower type they show how far rounding
alone takes a result: frameworks order and fuse operations each in their own way, but none computes more exactly than
its element type lets it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interlingua.mappings.conventions import UNBIASED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What results of operations are rounded to.

    Attributes:
        name: ``float64`` or ``float32``: NumPy computes in that type. ``float16`` or ``bfloat16``: operands and each
            result have values of that type, and what is inside an operation (a sum of products, a mean, an
            exponential) is float32, as in the frameworks' kernels.
    """

    name: str

    @property
    def is_half(self) -> bool:
        """Whether values are narrower than the float32 arrays that hold them."""
        return self.name in ("float16", "bfloat16")

    @property
    def working(self) -> str:
        """The element type of arrays."""
        return "float64" if self.name == "float64" else "float32"

    def round(self, x: Array) -> Array:
        """Return the nearest values of the type, in an array of the working type; what is too large is infinite."""
        import numpy as np

        if not self.is_half:
            return x.astype(self.working, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            return x.astype(_half(self.name)).astype(np.float32)


FLOAT64 = Arithmetic("float64")
FLOAT32 = Arithmetic("float32")
FLOAT16 = Arithmetic("float16")
BFLOAT16 = Arithmetic("bfloat16")


def _half(name: str) -> Any:
    import numpy as np

    if name == "float16":
        return np.float16
    import ml_dtypes

    return ml_dtypes.bfloat16


def matmul(a: Array, b: Array, arithmetic: Arithmetic) -> Array:
    """Return the product of (stacks of) matrices, each sum rounded once."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        return arithmetic.round(np.matmul(a, b))


def linear(x: Array, weight: Array, bias: Array, arithmetic: Arithmetic) -> Array:
    """Return x W^T + b of [tokens, in] with ``weight`` [out, in] and ``bias`` [out], both of any element type."""
    product = matmul(x, arithmetic.round(weight).T, arithmetic)
    return arithmetic.round(product + arithmetic.round(bias))


def softmax(scores: Array, arithmetic: Arithmetic) -> Array:
    """Return exp(s_j) / sum_k exp(s_k) along the last axis.

    The greatest score is taken from all first, which changes nothing but keeps the exponentials finite.
    """
    import numpy as np

    with np.errstate(invalid="ignore"):
        shifted = scores - scores.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    return arithmetic.round(exponentials / exponentials.sum(axis=-1, keepdims=True))


def layer_norm(x: Array, gamma: Array, beta: Array, epsilon: float, formula: str, arithmetic: Arithmetic) -> Array:
    """Normalise the last axis.

    Source: Ba et al. 2016 (arXiv:1607.06450), section 3. ``formula`` is one of ``conventions``' two:
    ``CANONICAL`` is gamma (x - mean) / sqrt(mean((x - mean)^2) + epsilon) + beta (``torch.nn.LayerNorm``), one
    operation of the frameworks. ``UNBIASED`` is gamma (x - mean) / (deviation + epsilon) + beta with the divisor
    N - 1 (dbiir/UER-py ``uer/layers/layer_norm.py``), which is written as several, each rounded.
    """
    import numpy as np

    gamma, beta = arithmetic.round(gamma), arithmetic.round(beta)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        if formula == UNBIASED:
            rounded = arithmetic.round
            mean = rounded(x.mean(axis=-1, keepdims=True))
            deviation = rounded(x.std(axis=-1, ddof=1, keepdims=True))
            scaled = rounded(gamma * rounded(x - mean))
            return rounded(rounded(scaled / rounded(deviation + epsilon)) + beta)
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return arithmetic.round(gamma * (centred / np.sqrt(variance + epsilon)) + beta)


def activate(x: Array, name: str, arithmetic: Arithmetic) -> Array:
    """Apply an activation, one of ``config.ACTIVATIONS``.

    Raises:
        KeyError: there is no such activation.
    """
    import numpy as np

    with np.errstate(invalid="ignore", over="ignore"):
        return arithmetic.round(_ACTIVATIONS[name](x))


def _gelu(x: Array) -> Array:
    """Return x/2 (1 + erf(x / sqrt 2)): Hendrycks and Gimpel 2016 (arXiv:1606.08415), section 2."""
    from scipy.special import erf

    found: Array = 0.5 * x * (1.0 + erf(x * math.sqrt(0.5)))
    return found


def _gelu_tanh(x: Array) -> Array:
    """Return x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): its approximation, in the same section."""
    import numpy as np

    found: Array = 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))))
    return found


def _relu(x: Array) -> Array:
    import numpy as np

    found: Array = np.maximum(x, 0.0)
    return found


def _silu(x: Array) -> Array:
    """Return x / (1 + exp(-x)): ``silu`` of section 2 as well."""
    import numpy as np

    found: Array = x / (1.0 + np.exp(-x))
    return found


def _tanh(x: Array) -> Array:
    import numpy as np

    found: Array = np.tanh(x)
    return found


def _linear(x: Array) -> Array:
    return x


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": _relu,
    "silu": _silu,
    "tanh": _tanh,
    "linear": _linear,
}
