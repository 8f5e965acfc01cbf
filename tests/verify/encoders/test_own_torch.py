"""The own encoder in PyTorch, held against transformers, the oracle, and the ways in which weights are saved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests import models
from tests.frameworks import run_in
from tests.verify.encoders.conftest import Run
from tests.verify.encoders.hf_models import HEADS
from tests.verify.encoders.requests import activations, answers, distance, error, make_request, mask_of

NOISE = 2e-6
"""More than float32 explains at these sizes."""


@pytest.fixture(params=HEADS)
def run(request: pytest.FixtureRequest, hf_runs: dict[str, Run]) -> Run:
    if request.param not in hf_runs:
        pytest.skip(f"this version of transformers has no {request.param}")
    return hf_runs[request.param]


def test_it_computes_what_transformers_does(run: Run) -> None:
    gaps = distance(activations(run.ours), activations(run.theirs), mask_of(run.ours))
    assert max(gaps.values()) < NOISE, gaps


def test_it_computes_what_the_oracle_promises(run: Run) -> None:
    gaps = error(run.path, run.ours)
    assert max(gaps.values()) < NOISE, gaps


def test_it_says_what_ran(run: Run) -> None:
    ran = run.said_of_ours["ran"]
    assert ran["reference"] == "own encoder"
    assert not ran["third_party"]
    assert ran["framework"].startswith("torch ")
    assert ran["device"] == "cpu"
    assert ran["settings"] == {"threads": "1", "attention": "written out"}


SAVE = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file

source, folder = Path(sys.argv[1]), Path(sys.argv[2])
state = load_file(source / "model.safetensors")
config = (source / "config.json").read_text()

def place(name):
    (folder / name).mkdir()
    (folder / name / "config.json").write_text(config)
    return folder / name / "pytorch_model.bin"

torch.save(state, place("zip"))
torch.save(state, place("legacy"), _use_new_zipfile_serialization=False)
torch.save({"state_dict": {"module." + name: value for name, value in state.items()}, "epoch": 3}, place("nested"))
torch.save({name: value.bfloat16() for name, value in state.items()}, place("bfloat16"))
"""

WAYS = ("zip", "legacy", "nested", "bfloat16", "shards")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    """One model's activations, by the way in which it was saved; ``plain`` and ``bfloat16 plain`` as the standard."""
    folder = tmp_path_factory.mktemp("saved")
    arrays = models.hf(("pooler", "masked_lm", "next_sentence"))
    for name, dtype in (("plain", np.float32), ("bfloat16 plain", models.BFLOAT16)):
        (folder / name).mkdir()
        write(folder / name, {key: array.astype(dtype).astype(np.float32) for key, array in arrays.items()})
    run_in("torch", SAVE, folder / "plain", folder)
    write_shards(folder / "shards", arrays)
    names = ("plain", "bfloat16 plain", *WAYS)
    requests = [make_request(folder / name, folder / "runs" / name, "torch", ("own",)) for name in names]
    for said in answers("torch", requests):
        assert "error" not in said, said
    return {name: activations(request) for name, request in zip(names, requests, strict=True)}


CONFIG = {"model_type": "bert", "num_attention_heads": 6}


def write(folder: Path, arrays: models.Arrays) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG))


def write_shards(folder: Path, arrays: models.Arrays) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    folder.mkdir()
    names = list(arrays)
    weight_map = {}
    for shard, some in ((1, names[::2]), (2, names[1::2])):
        file = f"model-{shard:05}-of-00002.safetensors"
        safetensors.save_file({name: arrays[name] for name in some}, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(some, file)
    index = {"metadata": {"total_size": sum(array.nbytes for array in arrays.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(CONFIG))


@pytest.mark.parametrize("way", WAYS)
def test_however_weights_are_saved_the_outputs_are_the_same_bits(saved, way: str) -> None:
    plain = saved["bfloat16 plain" if way == "bfloat16" else "plain"]
    assert sorted(saved[way]) == sorted(plain)
    for name, array in saved[way].items():
        assert array.tobytes() == plain[name].tobytes(), name


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict]:
    """One model's requests by what is asked besides, and what the worker said."""
    folder = tmp_path_factory.mktemp("asked")
    (folder / "model").mkdir()
    write(folder / "model", models.hf(("pooler", "masked_lm", "next_sentence")))
    base = make_request(folder / "model", folder / "float32", "torch", ("own",))
    requests = {"float32": base}
    for name, more in {
        "float16": {"dtype": "float16"},
        "bfloat16": {"dtype": "bfloat16"},
        "cuda": {"device": "cuda"},
        "epsilon": {"config": {**base.config, "layer_norm_eps": 0.1}},
        "unbiased": {"conventions": {**base.conventions, "layer_norm": "unbiased, outside"}},
        "tanh": {"config": {**base.config, "hidden_act": "gelu_tanh"}},
        "not torch's": {"weights": base.batches},
    }.items():
        requests[name] = replace(base, output=str(folder / f"{name}.npz"), **more)
    return requests, dict(zip(requests, answers("torch", list(requests.values())), strict=True))


def last(request) -> np.ndarray:
    return activations(request)["hard/layer.2"][mask_of(request)]


@pytest.mark.parametrize(("dtype", "least", "most"), [("float16", 1e-4, 3e-2), ("bfloat16", 1e-3, 3e-1)])
def test_it_computes_in_the_element_type_that_is_asked_for(asked, dtype: str, least: float, most: float) -> None:
    requests, _ = asked
    error = np.abs(last(requests[dtype]) - last(requests["float32"])).max()
    assert least < error < most


@pytest.mark.parametrize("what", ["epsilon", "unbiased", "tanh"])
def test_it_computes_as_the_sides_own_system_does(asked, what: str) -> None:
    requests, _ = asked
    assert np.abs(last(requests[what]) - last(requests["float32"])).max() > 1e-4


def test_without_a_gpu_none_is_made_believe(asked) -> None:
    _, said = asked
    assert said["cuda"]["error"] == "no reference encoder can run here"
    assert said["cuda"]["refused"] == [["own", "PyTorch sees no CUDA device"]]


def test_a_file_that_torch_does_not_read_is_a_refusal(asked) -> None:
    _, said = asked
    [[name, why]] = said["not torch's"]["refused"]
    assert name == "own"
    assert "torch.load(weights_only=True) does not read batches.npz" in why
