"""ERNIE built of Paddle's own static layers, as fluid's code builds it: saved, converted, computed by transformers.

The program is written after PaddlePaddle/ERNIE ``ernie/model/ernie_v1.py``: variables by the same names, activations
and epsilons left to Paddle where that code leaves them to it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import interlingua
from tests.frameworks import run_in
from tests.mappings.test_ernie_fluid import config
from tests.models import Sizes

SIZES = Sizes(hidden=12, heads=6, intermediate=48, types=4)

BUILD = """
import json, sys
import numpy as np
import paddle
from paddle import static
from paddle.nn import functional as F

folder, said = sys.argv[1], json.loads(sys.argv[2])
paddle.enable_static()
paddle.seed(0)
rng = np.random.default_rng(0)
hidden, heads = said["hidden_size"], said["num_attention_heads"]
size = hidden // heads
random = lambda: paddle.nn.initializer.Normal(0.0, 0.3)
named = lambda name: paddle.ParamAttr(name=name, initializer=random())

def fc(x, rows, name, act=None, axes=2):
    return static.nn.fc(
        x, rows, num_flatten_dims=axes, weight_attr=named(name + ".w_0"), bias_attr=named(name + ".b_0"), activation=act
    )

def norm(x, name):
    scale = static.create_parameter([hidden], "float32", attr=named(name + "_layer_norm_scale"))
    bias = static.create_parameter([hidden], "float32", attr=named(name + "_layer_norm_bias"))
    return F.layer_norm(x, [hidden], scale, bias)

def table(rows, name):
    return static.create_parameter([rows, hidden], "float32", attr=named(name))

main, start = static.Program(), static.Program()
with static.program_guard(main, start):
    ids, places, types, tasks = (static.data(name, [2, 9], "int64") for name in ("ids", "places", "types", "tasks"))
    mask = static.data("mask", [2, 9, 1], "float32")
    word = table(said["vocab_size"], "word_embedding")
    x = F.embedding(ids, word) + F.embedding(places, table(said["max_position_embeddings"], "pos_embedding"))
    x = x + F.embedding(types, table(said["sent_type_vocab_size"], "sent_embedding"))
    x = norm(x + F.embedding(tasks, table(said["task_type_vocab_size"], "task_embedding")), "pre_encoder")
    bias = (paddle.matmul(mask, mask, transpose_y=True) - 1.0) * 10000.0
    bias = paddle.stack([bias] * heads, axis=1)
    for layer in range(said["num_hidden_layers"]):
        name = f"encoder_layer_{layer}"
        split = lambda y: paddle.transpose(paddle.reshape(y, [2, 9, heads, size]), [0, 2, 1, 3])
        q, k, v = (split(fc(x, hidden, f"{name}_multi_head_att_{part}_fc")) for part in ("query", "key", "value"))
        weights = F.softmax(paddle.matmul(q * size ** -0.5, k, transpose_y=True) + bias)
        y = paddle.reshape(paddle.transpose(paddle.matmul(weights, v), [0, 2, 1, 3]), [2, 9, hidden])
        x = norm(x + fc(y, hidden, f"{name}_multi_head_att_output_fc"), f"{name}_post_att")
        y = fc(x, hidden * 4, f"{name}_ffn_fc_0", said["hidden_act"])
        x = norm(x + fc(y, hidden, f"{name}_ffn_fc_1"), f"{name}_post_ffn")
    pooled = fc(x[:, 0], hidden, "pooled_fc", "tanh", 1)
    y = norm(fc(x, hidden, "mask_lm_trans_fc", said["hidden_act"]), "mask_lm_trans")
    extra = static.create_parameter([said["vocab_size"]], "float32", attr=named("mask_lm_out_fc.b_0"))
    tokens = paddle.matmul(y, word, transpose_y=True) + extra
    pair = fc(pooled, 2, "next_sent_fc", axes=1)
exe = static.Executor(paddle.CPUPlace())
exe.run(start)
given = {
    "ids": rng.integers(1, said["vocab_size"], (2, 9)), "places": np.tile(np.arange(9), (2, 1)),
    "types": rng.integers(0, 4, (2, 9)), "tasks": rng.integers(0, 3, (2, 9)), "mask": np.ones((2, 9, 1), "float32"),
}
given["mask"][1, 6:] = 0
answers = exe.run(main, feed=given, fetch_list=[x, pooled, tokens, pair])
np.savez(folder + "/../answers.npz", x=answers[0], pooled=answers[1], tokens=answers[2], pair=answers[3], **given)
static.io.save_vars(exe, folder + "/params", main_program=main, predicate=lambda v: v.persistable)
"""

COMPUTE = """
import os, sys
os.environ["USE_TF"] = "0"
import numpy as np, torch
from transformers import ErnieForPreTraining

model, info = ErnieForPreTraining.from_pretrained(sys.argv[1], output_loading_info=True)
assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
given = dict(np.load(sys.argv[2]))
inputs = dict(
    input_ids=given["ids"], token_type_ids=given["types"], task_type_ids=given["tasks"],
    attention_mask=given["mask"][..., 0].astype("int64"),
)
inputs = {name: torch.from_numpy(value) for name, value in inputs.items()}
with torch.no_grad():
    base, whole = model.eval().ernie(**inputs), model(**inputs)
kept = given["mask"][..., 0] == 1
worst = lambda name, tensor, rows=...: float(np.abs(given[name] - tensor.numpy())[rows].max())
print(max(
    worst("x", base.last_hidden_state, kept), worst("pooled", base.pooler_output),
    worst("tokens", whole.prediction_logits, kept), worst("pair", whole.seq_relationship_logits),
))
"""

LOAD = """
import os, sys
os.environ["FLAGS_enable_pir_api"] = "0"
import numpy as np, paddle
paddle.enable_static()
np.savez(sys.argv[2], **paddle.static.load_program_state(sys.argv[1]))
"""

SAID = config(
    SIZES, hidden_act="relu", sent_type_vocab_size=4, task_type_vocab_size=3, use_task_id=True, vocab_size=SIZES.vocab
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as fluid's code leaves it, and the answers of its program."""
    folder = tmp_path_factory.mktemp("fluid") / "model"
    (folder / "params").mkdir(parents=True)
    run_in("paddle", BUILD, folder, json.dumps(SAID))
    (folder / "ernie_config.json").write_text(json.dumps(SAID, indent=2))
    return folder


def test_transformers_computes_what_fluids_program_does(built: Path, tmp_path: Path) -> None:
    interlingua.convert(built, tmp_path / "hf", to="hf")
    assert float(run_in("transformers", COMPUTE, tmp_path / "hf", built.parent / "answers.npz")) < 2e-6


def test_paddle_loads_the_variables_that_come_back(built: Path, tmp_path: Path) -> None:
    interlingua.convert(built, tmp_path / "hf", to="hf")
    (tmp_path / "hf/interlingua.residue.safetensors").unlink()
    interlingua.convert(tmp_path / "hf", tmp_path / "again", to="ernie-fluid")
    run_in("paddle", LOAD, tmp_path / "again/params", tmp_path / "again.npz")
    run_in("paddle", LOAD, built / "params", tmp_path / "first.npz")
    again, first = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("again", "first"))
    assert sorted(again) == sorted(first)
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value)
    files = {file.name: file.read_bytes() for file in (built / "params").iterdir()}
    assert {file.name: file.read_bytes() for file in (tmp_path / "again/params").iterdir()} == files
