"""MindNLP's checkpoints, loaded and saved by MindSpore for mindone's models, which have the same names.

MindNLP itself replaces PyTorch while it is imported, or does not work with today's MindSpore; mindone's classes
are transformers' in MindSpore. Some of the operations that they use run on Ascend alone: they are stated anew.
"""

from __future__ import annotations

import importlib.util
import json

import pytest

from tests.frameworks import run_in

CASES = {
    "BertModel": ["pooler"],
    "BertForTokenClassification": ["token_classification"],
    "BertForSequenceClassification": ["pooler", "sequence_classification"],
}

RUN = """
import json, os, sys
from pathlib import Path
os.environ["USE_TF"] = "0"
import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, mint, nn, ops

class Embedding(nn.Cell):
    def __init__(self, rows, width, padding_idx=None, **more):
        super().__init__()
        self.weight = Parameter(Tensor(np.zeros((rows, width), "f4")))

    def construct(self, ids):
        return self.weight[ids]

class LayerNorm(nn.Cell):
    def __init__(self, size, eps=1e-5, **more):
        super().__init__()
        self.eps = eps
        self.weight = Parameter(Tensor(np.ones(size, "f4")))
        self.bias = Parameter(Tensor(np.zeros(size, "f4")))

    def construct(self, x):
        mean = x.mean(-1, keep_dims=True)
        variance = ((x - mean) ** 2).mean(-1, keep_dims=True)
        return (x - mean) / ops.sqrt(variance + self.eps) * self.weight + self.bias

mint.arange = lambda *ends, dtype=None: Tensor(np.arange(*map(int, ends)), dtype or ms.int64)
mint.nn.Embedding, mint.nn.LayerNorm = Embedding, LayerNorm
mint.nn.functional.gelu = lambda x, approximate="none": ops.gelu(x, approximate)
Tensor.normal_ = lambda self, *_, **__: self
import torch, transformers
import mindone.transformers
import mindone.transformers.modeling_utils
import interlingua
mindone.transformers.modeling_utils._init_weights = False
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

config = transformers.BertConfig(
    vocab_size=37, hidden_size=12, num_hidden_layers=3, num_attention_heads=6, intermediate_size=20,
    max_position_embeddings=17, type_vocab_size=3, num_labels=5, attn_implementation="eager",
)
rng = np.random.default_rng(0)
ids, seg, mask = rng.integers(0, 37, (2, 9)), rng.integers(0, 3, (2, 9)), np.ones((2, 9), int)

def apart(theirs, net):
    with torch.no_grad():
        one = theirs.eval()(torch.tensor(ids), torch.tensor(mask), torch.tensor(seg)).to_tuple()
    whole = lambda array: Tensor(array, ms.int32)
    two = net.set_train(False)(whole(ids), attention_mask=whole(mask), token_type_ids=whole(seg), return_dict=False)
    return max(float(np.abs(a.numpy() - b.asnumpy()).max()) for a, b in zip(one, two))

def check(folder, name):
    theirs, net = getattr(transformers, name)(config), getattr(mindone.transformers, name)(config)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.3)
    theirs.save_pretrained(folder / "hf")
    interlingua.convert(folder / "hf", folder / "mindnlp", to="mindnlp")
    lacks = ms.load_param_into_net(
        net, ms.load_checkpoint(str(folder / "mindnlp" / "mindspore_model.ckpt")), strict_load=True
    )
    written = apart(theirs, net)

    for parameter in net.get_parameters():
        parameter.set_data(Tensor((rng.standard_normal(parameter.shape) * 0.3).astype("f4")))
    (folder / "own").mkdir()
    ms.save_checkpoint(net, str(folder / "own" / "mindspore.ckpt"))
    config.save_pretrained(folder / "own")
    with interlingua.open(folder / "own") as seen:
        what = [seen.dialect, seen.family, list(seen.heads), sorted(seen.match.leftovers)]
    interlingua.convert(folder / "own", folder / "back", to="hf")
    again, info = type(theirs).from_pretrained(folder / "back", output_loading_info=True, attn_implementation="eager")
    faults = [str(key) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in info[kind]]
    return what, lacks, written, faults, apart(again, net)

print("FOUND", json.dumps({name: check(Path(sys.argv[1]) / name, name) for name in json.loads(sys.argv[2])}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    if importlib.util.find_spec("mindone") is None:
        pytest.skip("mindone is not installed")
    out = run_in("mindspore", RUN, tmp_path_factory.mktemp("mindnlp"), json.dumps(list(CASES)))
    return json.loads(out.partition("FOUND ")[2])


@pytest.mark.parametrize("name", CASES)
def test_mindspores_own_loader_takes_what_comes_from_transformers(found: dict, name: str) -> None:
    _, lacks, written, *_ = found[name]
    assert lacks == [[], []]
    assert written < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_what_mindspore_saves_goes_to_transformers(found: dict, name: str) -> None:
    what, _, _, faults, apart = found[name]
    assert what == ["mindnlp", "bert", CASES[name], []]
    assert faults == []
    assert apart < 1e-5
