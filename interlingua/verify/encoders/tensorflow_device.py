"""TensorFlow, imported without a word on standard error, and the device that a run is settled on."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from interlingua.verify.encoders.request import Request, UnavailableError

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
"""Errors alone are logged; oneDNN's kernels, which sum in an order of their own and say so, stay off."""


def import_framework(name: str, **environment: str) -> Any:
    """Import a package that brings TensorFlow along, with ``environment`` set before it looks.

    Raises:
        ImportError: it is not installed.
    """
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    os.environ.update(environment)
    return importlib.import_module(name)


tf: Any = import_framework("tensorflow")


def settle(request: Request) -> dict[str, str]:
    """Show TensorFlow the device that is asked for, switch off what computes in less precision; say how things stand.

    Every operation then goes to that device, as it is the only one, or the first, that eager execution sees.

    Raises:
        UnavailableError: there is no such device.
    """
    if request.device == "cuda":
        _choose_gpu()
    else:
        tf.config.set_visible_devices([], "GPU")
    if request.threads:
        tf.config.threading.set_intra_op_parallelism_threads(request.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_tensor_float_32_execution(False)
    settings = {
        "execution": "eager, without XLA",
        "oneDNN": "on" if os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1" else "off",
        "threads": str(request.threads or os.cpu_count()),
    }
    if request.device == "cuda":
        settings |= {"TF32": "off", "reduced-precision accumulation": _accumulation(os.environ)}
    return settings


def _choose_gpu() -> None:
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        raise UnavailableError("TensorFlow sees no GPU")
    tf.config.set_visible_devices(gpus[:1], "GPU")
    # All of its memory otherwise, which another side may need.
    tf.config.experimental.set_memory_growth(gpus[0], True)


def _accumulation(environment: Mapping[str, str]) -> str:
    """Say whether products of halves are summed in halves: not, unless the environment asks for it.

    Source: tensorflow/tensorflow ``tensorflow/core/util/matmul_autotune.cc`` (MatmulDoFP32ComputationFP16Input).
    """
    return "on" if environment.get("TF_FP16_MATMUL_USE_FP32_COMPUTE", "1") in ("0", "false") else "off"


def device_name(request: Request) -> str:
    """Return what the device calls itself."""
    if request.device != "cuda":
        return "cpu"
    details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
    return str(details.get("device_name", "GPU"))


def framework() -> str:
    """Return TensorFlow's name and version."""
    return f"tensorflow {tf.__version__}"


def compute_dtype(request: Request) -> Any:
    """Return TensorFlow's element type of a run."""
    return {"float16": tf.float16, "bfloat16": tf.bfloat16}.get(request.dtype, tf.float32)


def to_numpy(x: Any) -> Any:
    """Return a tensor as a float32 array, or as float64 where it is that."""
    return (x if x.dtype in (tf.float32, tf.float64) else tf.cast(x, tf.float32)).numpy()
