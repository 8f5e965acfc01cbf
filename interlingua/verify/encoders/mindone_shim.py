"""What mindone's classes need of ``mindspore.mint`` and a CPU has no kernel of, replaced by what it has kernels of.

``mint`` is written for Ascend. On a CPU (MindSpore 2.10) these raise ``The kernel X unregistered`` or ``Create
kernelmod failed``: ``arange``, ``cumsum``, ``nn.Embedding``, ``nn.LayerNorm``, ``nn.functional.gelu`` and
``nn.functional.pad``. In their stead stand the same functions of ``mindspore.ops`` and the same layers of
``mindspore.nn``, whose parameters have other names (see ``mindone_models.NATIVE``). tanh has a kernel that is none
(see ``mindspore_ops``).

``mindone.transformers`` imports each of its models, which is most of what a run costs. ``skip_other_models`` leaves
that out; the modules that are run are mindone's own.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from mindspore import mint, nn, ops

from interlingua.verify.encoders.mindspore_ops import exact_tanh
from interlingua.verify.encoders.ops import Tensor

REPLACED = "mint.{arange,cumsum,nn.Embedding,nn.LayerNorm,nn.functional.{gelu,pad}} by mindspore.{ops,nn}"
"""What the settings of a run say."""


def embedding(rows: int, width: int, padding_idx: int | None = None) -> Any:
    """Return a layer that looks up rows of a table."""
    return nn.Embedding(rows, width, padding_idx=padding_idx)


def layer_norm(normalized_shape: int | tuple[int, ...], eps: float = 1e-5) -> Any:
    """Return a layer that normalises the last axis."""
    return nn.LayerNorm((normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape, epsilon=eps)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """Return GELU by the error function, or its approximation by ``tanh``."""
    return ops.gelu(x, approximate)


def cumsum(x: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """Return running sums along an axis."""
    return ops.cumsum(x, dim, dtype)


def pad(x: Tensor, widths: tuple[int, int], _mode: str = "constant", _value: float = 0) -> Tensor:
    """Return a decoder's bias as it is: mindone pads it to the vocabulary's size, which it has.

    Raises:
        ValueError: there is something to pad.
    """
    if any(widths):
        raise ValueError(f"the decoder's bias has {x.shape[0]} elements, and the word embedding other rows")
    return x


PACKAGES = ("mindone.transformers", "mindone.transformers.models")
"""Packages whose own code imports every model."""


def skip_other_models(version: str) -> None:
    """Put packages in place that have mindone's modules and import none of them, before mindone is imported.

    Args:
        version: the version of transformers, which one of the modules asks the package for.

    Raises:
        ImportError: mindone is not installed.
    """
    modules: dict[str, Any] = sys.modules
    for name in PACKAGES:
        parent, _, last = name.rpartition(".")
        package, above = ModuleType(name), importlib.import_module(parent)
        package.__path__ = [f"{folder}/{last}" for folder in above.__path__]
        vars(package)["__version__"] = version
        modules[name] = package
        setattr(above, last, package)


def install_functions() -> None:
    """Put functions in place, before mindone is imported: some of its modules keep what they find then."""
    mint.arange, mint.cumsum, mint.tanh = ops.arange, cumsum, exact_tanh
    mint.nn.functional.gelu, mint.nn.functional.pad = gelu, pad


def install_layers() -> None:
    """Put layers in place, after mindone is imported: other models of it derive classes from the originals."""
    mint.nn.Embedding, mint.nn.LayerNorm = embedding, layer_norm
    for layer in (nn.Tanh, mint.nn.Tanh):
        layer.construct = lambda _self, x: exact_tanh(x)
