"""Load and save each container with the framework that owns it: what a conversion costs there."""

from __future__ import annotations

OWNERS: dict[str, tuple[str, str]] = {
    "safetensors": (
        "safetensors",
        "from safetensors.numpy import load_file, save_file; save_file(load_file(source), target)",
    ),
    "torch-zip": ("torch", "import torch; torch.save(torch.load(source, weights_only=True), target)"),
    "tensor-bundle": (
        "tensorflow",
        """
import tensorflow as tf
reader = tf.train.load_checkpoint(source)
names = sorted(reader.get_variable_to_shape_map())
tf.raw_ops.SaveV2(prefix=target, tensor_names=names, shape_and_slices=[""] * len(names),
                  tensors=[tf.constant(reader.get_tensor(name)) for name in names])
""",
    ),
    "keras-weights-hdf5": (
        "h5py",
        """
import h5py
def copy(name, found):
    if isinstance(found, h5py.Dataset):
        b.create_dataset(name, data=found[()])
with h5py.File(source) as a, h5py.File(target, "w") as b:
    a.visititems(copy)
""",
    ),
    "npz": ("numpy", "import numpy as np; np.savez(target, **np.load(source))"),
    "paddle-pickle": ("paddle", "import paddle; paddle.save(paddle.load(source), target)"),
    "mindspore-ckpt": (
        "mindspore",
        """
import mindspore as ms
state = ms.load_checkpoint(source)
ms.save_checkpoint([{"name": name, "data": value} for name, value in state.items()], target)
""",
    ),
}
"""Container -> (module that must be there, code that copies ``source`` to ``target``)."""


def code(container: str) -> str:
    """Return the program that loads and saves, with the two paths as its arguments."""
    return f"import sys\nsource, target = sys.argv[1:]\n{OWNERS[container][1]}"
