"""The own encoder in MindSpore, held against the oracle and MindSpore's own layers; its kernels against NumPy."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import interlingua
from interlingua.verify.encoders import mindspore_ops
from interlingua.verify.encoders.request import Request, UnavailableError
from tests import models
from tests.frameworks import run_in
from tests.verify.encoders.hf_models import HEADS, make_models
from tests.verify.encoders.requests import activations, answers, error, make_request

NOISE = 2e-6
"""More than float32 explains at these sizes."""

ZOO = {"Bert": "mindspore", "Ernie": "mindspore", "Albert": "mindspore"}
FORMERS = ("BertModel", "BertForPreTraining", "BertForTokenClassification")
"""Classes that MindFormers has."""

UNSTORED = {
    "mindspore": ("ForMultipleChoice", "ErnieForPreTraining"),
    "mindformers": (),
    "mindnlp": (),
}


@dataclass(frozen=True)
class Run:
    """A checkpoint, the request to run it, and what the worker said."""

    path: Path
    request: Request
    said: dict[str, Any]


def targets(name: str) -> list[str]:
    """The dialects that MindSpore's systems have of a class of transformers."""
    family = name.partition("For")[0].removesuffix("Model")
    found = ["mindnlp", *(["mindformers"] if name in FORMERS else [])]
    stores = not any(word in name for word in UNSTORED["mindspore"])
    return [*found, "mindspore"] if family in ZOO and stores else found


CASES = [(name, dialect) for name in HEADS for dialect in targets(name)]

RELATIVE = """
import sys
import mindspore, numpy as np
folder, rows, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
state = mindspore.load_checkpoint(folder + "/bert.ckpt")
table = "bert.bert.bert_encoder.layers.{}.attention.attention._generate_relative_positions_embeddings.embeddings_table"
first = next(name for name in state if ".layers.0." in name).partition("bert_encoder")[0]
rng = np.random.default_rng(5)
saved = [{"name": name, "data": value} for name, value in state.items()]
for layer in range(3):
    name = first + table.format(layer).partition("bert.bert.")[2]
    saved.append({"name": name, "data": mindspore.Tensor(rng.normal(0, 0.3, (rows, size)).astype("f4"))})
mindspore.save_checkpoint(saved, folder + "/nezha.ckpt")
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Run]:
    """(class of transformers, dialect) -> a small random model in that dialect, run by the own encoder."""
    pytest.importorskip("mindspore")
    folder = tmp_path_factory.mktemp("mindspore")
    paths = {}
    for name, path in make_models(folder / "hf").items():
        for dialect in targets(name):
            paths[name, dialect] = folder / dialect / name
            interlingua.convert(path, paths[name, dialect], to=dialect, sync=False)
    paths["Nezha", "mindspore"] = with_relative_positions(paths["BertForPreTraining", "mindspore"])
    asked = {
        key: make_request(path, folder / "runs" / "-".join(key), "mindspore", ["own"]) for key, path in paths.items()
    }
    said = answers("mindspore", list(asked.values()), timeout=600)
    return {key: Run(paths[key], asked[key], answer) for key, answer in zip(paths, said, strict=True)}


def with_relative_positions(bert: Path) -> Path:
    """A NEZHA of MindSpore's model zoo, with tables of its own in each layer, made of a BERT of the zoo."""
    run_in("mindspore", RELATIVE, bert, "33", "6")
    folder = bert.with_name("Nezha")
    folder.mkdir()
    (bert / "nezha.ckpt").rename(folder / "bert.ckpt")
    config = (bert / "bert_config.yaml").read_text()
    (folder / "bert_config.yaml").write_text(
        config.replace("use_relative_positions: false", "use_relative_positions: true")
    )
    return folder


@pytest.mark.parametrize(("name", "dialect"), [*CASES, ("Nezha", "mindspore")])
def test_it_computes_what_the_oracle_promises(name: str, dialect: str, runs: dict[tuple[str, str], Run]) -> None:
    if (name, dialect) not in runs:
        pytest.skip(f"this version of transformers has no {name}")
    run = runs[name, dialect]
    assert "ran" in run.said, run.said
    gaps = error(run.path, run.request)
    assert max(gaps.values()) < NOISE, gaps


def test_a_table_of_relative_positions_is_used_and_absolute_positions_are_not(runs: dict[tuple[str, str], Run]) -> None:
    nezha, bert = runs["Nezha", "mindspore"], runs["BertForPreTraining", "mindspore"]
    assert nezha.request.family == "nezha"
    found, other = activations(nezha.request), activations(bert.request)
    assert np.abs(found["hard/embeddings"] - other["hard/embeddings"]).max() > 0.1
    assert "embeddings.position_embeddings.weight" in nezha.request.recipes


def test_it_says_what_ran(runs: dict[tuple[str, str], Run]) -> None:
    ran = runs["BertModel", "mindspore"].said["ran"]
    assert (ran["reference"], ran["third_party"], ran["device"]) == ("own encoder", False, "cpu")
    assert ran["framework"].startswith("mindspore 2.")
    assert ran["settings"]["mode"] == "PyNative"
    assert "float64 kernel" in ran["settings"]["tanh"]


# ------------------------------------------------------------------------------------------- MindSpore's own layers

LAYERS = """
import json, sys
import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
path, made, batches, output = sys.argv[1:5]
heads, wide, epsilon = json.loads(sys.argv[5])
state = ms.load_checkpoint(path)
prefix = next(name for name in state if name.endswith("encoder.layer.0.intermediate.dense.weight"))[:-len(
    "encoder.layer.0.intermediate.dense.weight")]
x = np.load(made)["hard/embeddings"]
hidden = x.shape[-1]
cell = nn.TransformerEncoderLayer(
    hidden, heads, wide, dropout=0.0, activation="relu", layer_norm_eps=epsilon, batch_first=True
)
encoder = nn.TransformerEncoder(cell, 3)
encoder.set_train(False)
get = lambda layer, name: state[f"{prefix}encoder.layer.{layer}.{name}"].asnumpy()
for layer, cell in enumerate(encoder.layers):
    parts = {}
    for part in ("weight", "bias"):
        parts["self_attn.in_proj_" + part] = np.concatenate(
            [get(layer, f"attention.self.{name}.{part}") for name in ("query", "key", "value")]
        )
        parts["self_attn.out_proj." + part] = get(layer, f"attention.output.dense.{part}")
        parts["dense1." + part] = get(layer, f"intermediate.dense.{part}")
        parts["dense2." + part] = get(layer, f"output.dense.{part}")
        norm = {"weight": "gamma", "bias": "beta"}[part]
        parts["norm1." + norm] = get(layer, f"attention.output.LayerNorm.{part}")
        parts["norm2." + norm] = get(layer, f"output.LayerNorm.{part}")
    places = dict(cell.parameters_and_names())
    for name, value in parts.items():
        places[name].set_data(Tensor(value))
mask = np.load(batches)["hard/attention_mask"]
np.save(output, encoder(Tensor(x), src_key_padding_mask=Tensor(mask == 0)).asnumpy())
"""


def test_its_layers_compute_what_mindspores_own_do(runs: dict[tuple[str, str], Run], tmp_path: Path) -> None:
    run = runs["ErnieModel", "mindnlp"]
    config = run.request.config
    assert config["hidden_act"] == "relu"
    shape = json.dumps([config["num_attention_heads"], config["intermediate_size"], config["layer_norm_eps"]])
    output = tmp_path / "out.npy"
    run_in("mindspore", LAYERS, run.request.weights, run.request.output, run.request.batches, output, shape)
    with np.load(run.request.batches) as file:
        real = file["hard/attention_mask"].astype(bool)
    gap = np.abs(np.load(output) - activations(run.request)["hard/layer.2"])[real]
    assert gap.max() < NOISE


# ------------------------------------------------------------------------------------------------------- Kernels

KERNELS = """
import os, sys
import numpy as np
from interlingua.verify.encoders.mindspore_ops import open_ops
from interlingua.verify.encoders.request import load_request
from pathlib import Path
os.chdir(sys.argv[2])
ops = open_ops(load_request(Path(sys.argv[1])))
import mindspore
x = np.load("x.npy")
gamma, beta = (ops.weight(np.load(name)) for name in ("gamma.npy", "beta.npy"))
put = ops.weight(x)
found = {name: ops.activation(name, put) for name in ("gelu", "gelu_tanh", "relu", "silu", "tanh", "linear")}
found["layer_norm"] = ops.layer_norm(put, gamma, beta, 1e-7)
found["unbiased"] = ops.unbiased_layer_norm(put, gamma, beta, 1e-3)
found["softmax"] = ops.softmax(put)
np.savez(sys.argv[3], **{name: ops.numpy(value) for name, value in found.items()})

@mindspore.jit
def broken(x):
    return x.no_such_method()

try:
    broken(put)
except Exception as error:
    print("COMPILATION", "FAILED")
print("LEFT", sorted(os.listdir()))
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, dict[str, np.ndarray], str]:
    """Numbers, what MindSpore's kernels make of them, and what the run printed."""
    pytest.importorskip("mindspore")
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "here").mkdir()
    rng = np.random.default_rng(3)
    x = np.concatenate([np.linspace(-12, 12, 4096), rng.normal(0, 1, 4096)]).astype(np.float32).reshape(-1, 64)
    np.save(folder / "here" / "x.npy", x)
    np.save(folder / "here" / "gamma.npy", np.linspace(0.5, 1.5, 64, dtype=np.float32))
    np.save(folder / "here" / "beta.npy", np.linspace(-1, 1, 64, dtype=np.float32))
    request(folder).dump(folder / "request.json")
    printed = run_in("mindspore", KERNELS, folder / "request.json", folder / "here", folder / "out.npz")
    with np.load(folder / "out.npz") as file:
        return x.astype(np.float64), {name: file[name] for name in file.files}, printed


def request(folder: Path, **overrides: Any) -> Request:
    """A request for a small BERT."""
    path = models.write_hf(folder / "hf", models.hf(), models.hf_config())
    return make_request(path, folder, "mindspore", ["own"], **overrides)


erf = np.vectorize(math.erf)
FORMULAS = {
    "gelu": lambda x: x / 2 * (1 + erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "linear": lambda x: x,
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "layer_norm": lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-7) * G + B,
    "unbiased": lambda x: G * (x - x.mean(-1, keepdims=True)) / (x.std(-1, ddof=1, keepdims=True) + 1e-3) + B,
}
G, B = np.linspace(0.5, 1.5, 64), np.linspace(-1, 1, 64)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_kernel_computes_its_formula(name: str, kernels: tuple[np.ndarray, dict[str, np.ndarray], str]) -> None:
    x, found, _ = kernels
    expected = FORMULAS[name](x)
    # LayerNorm of rows that hardly vary loses digits of the mean; all else is right to some units in the last place.
    bound = 4e-5 if name in ("layer_norm", "unbiased") else 1.5e-6 if name == "silu" else 6e-7
    assert np.abs(found[name] - expected).max() < bound


def test_tanh_is_right_where_mindspores_float32_kernel_is_flat(
    kernels: tuple[np.ndarray, dict[str, np.ndarray], str],
) -> None:
    x, found, _ = kernels
    far = np.abs(x) > 4
    assert far.any()
    assert np.abs(found["tanh"] - np.tanh(x))[far].max() < 1e-7


def test_nothing_is_left_in_the_working_directory(kernels: tuple[np.ndarray, dict[str, np.ndarray], str]) -> None:
    assert "COMPILATION FAILED" in kernels[2]
    assert kernels[2].partition("LEFT ")[2].strip() == "['beta.npy', 'gamma.npy', 'x.npy']"


# ---------------------------------------------------------------------------------------------- Containers and limits


def test_safetensors_and_half_precision_are_loaded_by_mindspore(tmp_path: Path) -> None:
    pytest.importorskip("mindspore")
    source = models.write_hf(tmp_path / "hf", models.hf(), models.hf_config())
    for to in ("mindspore-ckpt", "safetensors"):
        interlingua.convert(source, tmp_path / to, to="mindnlp", container=to, sync=False)
    asked = [
        make_request(tmp_path / to, tmp_path / f"run-{to}", "mindspore", ["own"])
        for to in ("mindspore-ckpt", "safetensors")
    ]
    asked.append(replace(asked[0], dtype="float16", output=str(tmp_path / "half.npz")))
    named = Path(asked[0].weights).with_name("weights.bin")
    named.write_bytes(Path(asked[0].weights).read_bytes())
    asked.append(replace(asked[0], weights=str(named), output=str(tmp_path / "named.npz")))
    said = answers("mindspore", asked)

    ckpt, tensors, half = (activations(one) for one in asked[:3])
    assert all((ckpt[name] == tensors[name]).all() for name in ckpt)
    gap = max(float(np.abs(ckpt[name] - half[name])[:, 0].max()) for name in ckpt)
    assert 1e-5 < gap < 3e-2
    assert "reads files named *.ckpt" in said[3]["refused"][0][1]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [({"device": "cuda"}, "no CUDA kernels"), ({"dtype": "bfloat16"}, "no matrix product of bfloat16")],
)
def test_what_mindspore_has_no_kernels_of_is_refused(
    overrides: dict[str, str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "__version__", "1.26.4")  # Whatever is here: NumPy 2 is refused first.
    with pytest.raises(UnavailableError, match=reason):
        mindspore_ops.settle(request(tmp_path, **overrides))


def test_numpy_2_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = request(tmp_path)
    monkeypatch.setattr(np, "__version__", "2.4.6")
    with pytest.raises(UnavailableError, match="Install numpy<2"):
        mindspore_ops.settle(asked)
