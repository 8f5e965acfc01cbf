"""Our own encoder in TensorFlow's operations: every dialect that TensorFlow or Keras can load, against the oracle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.frameworks import run_in
from tests.models import bare, hf_config, prefixed, write_hf
from tests.verify.encoders.hf_models import HEADS, make_models
from tests.verify.encoders.requests import answers, make_request
from tests.verify.encoders.tensorflow_checkpoints import NOISE, convert_models, distances, run_references

KERAS = ("BertModel", "AlbertModel", "DistilBertModel")
GOOGLE = [name for name in HEADS if name.startswith("Bert")] + ["AlbertModel", "AlbertForPreTraining"]
TF2 = [name for name in GOOGLE if name.startswith("Bert") and "MultipleChoice" not in name]
FACES = [name for name in HEADS if not name.startswith(("Ernie", "Nezha"))]
GARDEN = [name for name in GOOGLE if name not in ("BertForTokenClassification", "BertForMultipleChoice")]
CASES = [
    *(("tf1", name) for name in GARDEN),
    *(("tf2", name) for name in TF2),
    *(("keras-bert", name) for name in ("BertModel", "BertForPreTraining", "BertForNextSentencePrediction")),
    *(("keras-hub", name) for name in KERAS),
    *(("hf-tf", name) for name in FACES),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return make_models(tmp_path_factory.mktemp("hf"), FACES)


@pytest.fixture(scope="module")
def found(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("own")
    paths = {}
    for dialect, name in CASES:
        paths |= convert_models({name: models[name]}, folder, [dialect])
    return run_references("tensorflow", "tensorflow", paths, ["own"], folder)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_every_activation_is_the_oracles_within_float32(found: dict, case: tuple[str, str]) -> None:
    answered = found[case]
    assert "ran" in answered.answer, answered.answer
    assert answered.worst < NOISE, answered.gaps


def test_the_run_says_what_decides_its_numbers(found: dict) -> None:
    ran = found["tf1", "BertModel"].answer["ran"]
    assert (ran["reference"], ran["third_party"], ran["device"]) == ("own encoder", False, "cpu")
    assert ran["framework"].startswith("tensorflow 2.")
    assert ran["settings"]["attention"] == "written out"
    assert ran["settings"]["threads"] == "1"


HEADED = ("pooler", "masked_lm", "next_sentence")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "hf"
    return write_hf(folder, prefixed(bare(HEADED)), hf_config(heads=HEADED))


def test_shards_safetensors_and_halves_are_loaded(small: Path, tmp_path: Path) -> None:
    """The same model in every container gives the same numbers; in bfloat16, what a bfloat16 run explains."""
    whole = convert_models({"whole": small}, tmp_path / "a", ["hf-tf"])
    safetensors = convert_models({"safetensors": small}, tmp_path / "b", ["hf-tf"], container="safetensors")
    halves = convert_models({"halves": small}, tmp_path / "c", ["tf1"], dtype="bfloat16")
    shards = convert_models({"shards": small}, tmp_path / "d", ["hf-tf"], container="safetensors", max_shard_size=4000)
    paths = {**whole, **safetensors, **halves, **shards}
    found = run_references("tensorflow", "tensorflow", paths, ["own"], tmp_path)
    assert all("ran" in answered.answer for answered in found.values()), found
    assert all(answered.worst < NOISE for answered in found.values())
    arrays = [dict(np.load(found["hf-tf", name].request.output)) for name in ("whole", "safetensors", "shards")]
    for other in arrays[1:]:
        assert all(np.array_equal(other[name], array) for name, array in arrays[0].items())


def test_halves_are_computed_in_halves(small: Path, tmp_path: Path) -> None:
    path = convert_models({"model": small}, tmp_path, ["tf1"])["tf1", "model"]
    request = make_request(path, tmp_path / "float32", "tensorflow", ["own"])
    output = str(tmp_path / "bfloat16.npz")
    requests = [request, replace(request, dtype="bfloat16", output=output)]
    given = answers("tensorflow", requests)
    assert all("ran" in answer for answer in given), given
    full, half = (max(distances(path, request).values()) for request in requests)
    assert full < NOISE < 1e-3 < half < 5e-2


def test_what_tensorflow_cannot_do_is_said_not_guessed(small: Path, tmp_path: Path) -> None:
    """No GPU (the tests hide it) and a container that TensorFlow has no loader of."""
    gpu = replace(make_request(small, tmp_path / "gpu", "tensorflow", ["own"]), device="cuda")
    torch = replace(make_request(small, tmp_path / "zip", "tensorflow", ["own"]), container="torch-zip")
    reasons = [answer["refused"][0][1] for answer in answers("tensorflow", [gpu, torch])]
    assert reasons == [
        "TensorFlow sees no GPU",
        "TensorFlow and Keras have no loader of torch-zip (model.safetensors)",
    ]


OPERATIONS = """
import json
import numpy as np
from interlingua.verify.encoders.request import Request
from interlingua.verify.encoders.tensorflow_ops import open_ops

request = Request("tensorflow", (), "", "", (), "", "", {}, {}, {}, {}, {}, "", "")
ops = open_ops(request)
rng = np.random.default_rng(0)
x, gamma, beta = rng.standard_normal((2, 3, 7)), rng.standard_normal(7), rng.standard_normal(7)
made = ops.numpy(ops.unbiased_layer_norm(*(ops.weight(a.astype(np.float32)) for a in (x, gamma, beta)), 1e-3))
mean, deviation = x.mean(-1, keepdims=True), x.std(-1, ddof=1, keepdims=True)
gap = np.abs(made - (gamma * (x - mean) / (deviation + 1e-3) + beta)).max()
print("GAP", float(gap))
"""


def test_the_unbiased_layer_norm_divides_by_one_less() -> None:
    assert float(run_in("tensorflow", OPERATIONS).partition("GAP ")[2]) < 2e-6
