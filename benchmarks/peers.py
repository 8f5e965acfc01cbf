"""What people convert checkpoints with today: the steps of each, repeated with its framework's public calls.

None of the peers' code is here. Where a script renames tensors one by one, a stand-in renames them all at once: that
is a dictionary's work, and takes no time beside reading and writing.
"""

from __future__ import annotations

from dataclasses import dataclass

START = """
import os, sys
os.environ.update(
    HF_HUB_OFFLINE="1", TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0", USE_FLAX="0", USE_TF="{tensorflow}"
)
source, target = sys.argv[1:]
os.makedirs(target)
os.chdir(target)  # Some frameworks leave folders of their own where they are started.
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """One way of converting.

    Attributes:
        name: what the table calls it.
        packages: distributions that it needs; the first is the one whose version is shown.
        origin: dialect of the source.
        held: the source's container.
        to: dialect of what it makes.
        made: container of that.
        steps: Python that does it, with the folders ``source`` and ``target``; the second is there and empty.
        owners: whether it runs in the owners' environment, not in this one.
    """

    name: str
    packages: tuple[str, ...]
    origin: str
    held: str
    to: str
    made: str
    steps: str
    owners: bool = False

    @property
    def program(self) -> str:
        """The whole program, with the two folders as its arguments."""
        return START.format(tensorflow="AUTO" if "tensorflow" in self.packages else "0") + self.steps


PEERS = (
    Peer(
        "UER-py's script to Hugging Face: torch.load, rename, torch.save",
        ("torch",),
        *("uer", "torch-zip", "hf", "torch-zip"),
        """
import torch
state = torch.load(f"{source}/pytorch_model.bin", map_location="cpu", weights_only=True)
state = {name.replace("encoder.transformer.", "encoder.layer."): tensor for name, tensor in state.items()}
torch.save(state, "pytorch_model.bin")
""",
    ),
    Peer(
        "UER-py's script from TensorFlow 1: load_checkpoint, rename, transpose, torch.save",
        ("tensorflow", "torch"),
        *("tf1", "tensor-bundle", "uer", "torch-zip"),
        """
import tensorflow as tf
import torch
reader = tf.train.load_checkpoint(f"{source}/bert_model.ckpt")
state = {}
for name in reader.get_variable_to_shape_map():
    array = reader.get_tensor(name)
    state[name.replace("/", ".")] = torch.tensor(array.T if name.endswith("kernel") else array)
torch.save(state, "pytorch_model.bin")
""",
        owners=True,
    ),
    Peer(
        "ERNIE-Pytorch's way: paddle.load, rename, transpose, torch.save",
        ("paddlepaddle", "torch"),
        *("paddle", "paddle-pickle", "hf", "torch-zip"),
        """
import paddle
import torch
state = {}
for name, tensor in paddle.load(f"{source}/model_state.pdparams").items():
    array = tensor.numpy()
    state[name] = torch.tensor(array.T if array.ndim == 2 and "embeddings" not in name else array)
torch.save(state, "pytorch_model.bin")
""",
    ),
    Peer(
        "transformers 5: from_pretrained of a .bin, save_pretrained",
        ("transformers", "torch"),
        *("hf", "torch-zip", "hf", "safetensors"),
        """
from transformers import BertModel
BertModel.from_pretrained(source).save_pretrained(target)
""",
    ),
    Peer(
        "transformers 4.57: load_tf_weights_in_bert (the core of from_tf=True), save_pretrained",
        ("transformers", "torch", "tensorflow"),
        *("tf1", "tensor-bundle", "hf", "safetensors"),
        """
# from_pretrained(..., from_tf=True) itself fails in 4.57.1: it makes the model without memory, and fills it in place.
from transformers import BertConfig, BertModel, load_tf_weights_in_bert
config = BertConfig.from_json_file(f"{source}/bert_config.json")
model = load_tf_weights_in_bert(BertModel(config), config, f"{source}/bert_model.ckpt")
model.save_pretrained(target)
""",
        owners=True,
    ),
    Peer(
        "transformers 4.57: TFBertModel.from_pretrained(from_pt=True), save_pretrained",
        ("transformers", "torch", "tensorflow"),
        *("hf", "torch-zip", "hf-tf", "keras-hdf5"),
        """
from transformers import TFBertModel
TFBertModel.from_pretrained(source, from_pt=True).save_pretrained(target)
""",
        owners=True,
    ),
    Peer(
        "PaddleNLP: from_pretrained(convert_from_torch=True), save_pretrained",
        ("paddlenlp", "paddlepaddle", "torch"),
        *("hf", "torch-zip", "paddle", "paddle-pickle"),
        """
# It leaves the converted weights beside the source, and would find them there the next time: so it is given links.
import tempfile
from paddlenlp.transformers import BertModel
with tempfile.TemporaryDirectory(dir=os.path.dirname(target)) as links:
    for name in os.listdir(source):
        os.symlink(os.path.join(source, name), os.path.join(links, name))
    BertModel.from_pretrained(links, convert_from_torch=True).save_pretrained(target)
""",
        owners=True,
    ),
    Peer(
        "MindSpore: load_checkpoint, save_checkpoint",
        ("mindspore",),
        *("mindspore", "mindspore-ckpt", "mindspore", "mindspore-ckpt"),
        """
import mindspore as ms
state = ms.load_checkpoint(f"{source}/bert.ckpt")
ms.save_checkpoint([{"name": name, "data": value} for name, value in state.items()], "bert.ckpt")
""",
    ),
    Peer(
        "safetensors' convert: torch.load, save_file",
        ("safetensors", "torch"),
        *("hf", "torch-zip", "hf", "safetensors"),
        """
import torch
from safetensors.torch import save_file
state = torch.load(f"{source}/pytorch_model.bin", map_location="cpu", weights_only=True)
state = {name: tensor.contiguous() for name, tensor in state.items()}
save_file(state, "model.safetensors", metadata={"format": "pt"})
""",
    ),
)
