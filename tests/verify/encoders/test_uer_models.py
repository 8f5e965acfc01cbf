"""The modules of UER-py and of TencentPretrain as a reference, whose checkouts INTERLINGUA_UER and
INTERLINGUA_TENCENTPRETRAIN name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import interlingua
from interlingua.verify.encoders.request import Request
from tests.frameworks import run_in
from tests.verify.encoders.hf_models import HEADS, make_models
from tests.verify.encoders.requests import activations, answers, distance, error, make_request, mask_of

CHECKOUTS = {"uer": "INTERLINGUA_UER", "tencentpretrain": "INTERLINGUA_TENCENTPRETRAIN"}

CASES = (
    "BertModel",
    "BertForPreTraining",
    "BertForMaskedLM",
    "BertForNextSentencePrediction",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertForQuestionAnswering",
    "AlbertModel",
    "AlbertForPreTraining",
    "AlbertForMaskedLM",
    "AlbertForSequenceClassification",
)
"""Classes of transformers whose heads UER-py's models have too."""

NOISE = 3e-6
"""More than float32 explains at these sizes: an epsilon of 1e-12 for UER-py's 1e-6 is more."""

RENAME = """
import sys
import torch
source, target, old, new = sys.argv[1:]
state = torch.load(source, weights_only=True)
torch.save({name.replace(old, new): value for name, value in state.items()}, target)
"""

Answered = tuple[Path, Request, dict[str, Any]]


@pytest.fixture(params=CHECKOUTS)
def dialect(request: pytest.FixtureRequest) -> str:
    if not os.environ.get(CHECKOUTS[request.param]):
        pytest.skip(f"{CHECKOUTS[request.param]} names no checkout of {request.param}")
    return request.param


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[tuple[str, str], Answered]]:
    """What makes a dialect's runs when they are first asked for: tests of the two come in any order."""
    return cache(lambda dialect: run_all(dialect, tmp_path_factory.mktemp(dialect)))


@pytest.fixture
def answered(dialect: str, runs) -> dict[tuple[str, str], Answered]:
    return runs(dialect)


def run_all(dialect: str, folder: Path) -> dict[tuple[str, str], Answered]:
    """(model, reference) -> its folder, the request, and what the worker said; one process for all."""
    made = make_models(folder / "hf", CASES, type_vocab_size=2, hidden_act="gelu", num_hidden_groups=1)
    requests: dict[tuple[str, str], Request] = {}
    for name, path in made.items():
        interlingua.convert(path, folder / name, to=dialect, sync=False)
        for way in ("uer", "own"):
            requests[name, way] = make_request(folder / name, folder / way / name, "torch", (way,))
    plain = requests["BertForPreTraining", "uer"]
    for name, more in {
        "float16": {"dtype": "float16"},
        "bfloat16": {"dtype": "bfloat16"},
        "names of others": {"dialect": "hf"},
    }.items():
        requests[name, "uer"] = replace(plain, output=str(folder / f"{name}.npz"), **more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.environ[CHECKOUTS[dialect]])
        said = answers("torch", list(requests.values()))
    return {
        key: (folder / key[0], request, answer) for (key, request), answer in zip(requests.items(), said, strict=True)
    }


@pytest.mark.parametrize("name", CASES)
def test_the_modules_find_every_parameter_and_give_every_head(answered, dialect: str, name: str) -> None:
    _, request, said = answered[name, "uer"]
    assert "error" not in said, said
    assert said["ran"]["reference"] == f"{dialect} modules"
    assert (said["ran"]["missing"], said["ran"]["unexpected"]) == ([], [])
    layers = {f"layer.{layer}" for layer in range(request.config["num_hidden_layers"])}
    found = {key.partition("/")[2] for key in activations(request)}
    assert found == {"embeddings", *layers, *HEADS[name]}


@pytest.mark.parametrize("name", CASES)
def test_the_modules_compute_what_the_oracle_promises(answered, name: str) -> None:
    path, request, _ = answered[name, "uer"]
    gaps = error(path, request)
    assert max(gaps.values()) < NOISE, gaps


@pytest.mark.parametrize("name", CASES)
def test_the_own_encoder_computes_what_the_modules_do(answered, name: str) -> None:
    theirs, ours = (answered[name, way][1] for way in ("uer", "own"))
    gaps = distance(activations(ours), activations(theirs), mask_of(ours))
    assert max(gaps.values()) < NOISE, gaps


@pytest.mark.parametrize(("dtype", "least", "most"), [("float16", 1e-4, 3e-2), ("bfloat16", 1e-3, 3e-1)])
def test_they_compute_in_the_element_type_that_is_asked_for(answered, dtype: str, least: float, most: float) -> None:
    request = answered[dtype, "uer"][1]
    plain = answered["BertForPreTraining", "uer"][1]
    gaps = np.abs(activations(request)["hard/layer.2"] - activations(plain)["hard/layer.2"])[mask_of(plain)]
    assert least < gaps.max() < most


STATED = 1e-2
"""An epsilon whose absence from one LayerNorm, or presence in one too many, is far above the noise."""


def test_a_stated_epsilon_is_the_layers_alone(tmp_path: Path) -> None:
    checkout = os.environ.get(CHECKOUTS["tencentpretrain"])
    if not checkout:
        pytest.skip(f"{CHECKOUTS['tencentpretrain']} names no checkout of tencentpretrain")
    made = make_models(tmp_path / "hf", ["BertForPreTraining"], type_vocab_size=2, hidden_act="gelu")
    interlingua.convert(made["BertForPreTraining"], tmp_path / "model", to="tencentpretrain", sync=False)
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text(encoding="utf-8")), "layernorm_eps": STATED}))
    requests = [make_request(tmp_path / "model", tmp_path / way, "torch", (way,)) for way in ("uer", "own")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", checkout)
        answers("torch", requests)
    for request in requests:
        gaps = error(tmp_path / "model", request)
        assert max(gaps.values()) < NOISE, gaps


def test_names_of_another_system_are_refused(answered) -> None:
    said = answered["names of others", "uer"][2]
    assert said["refused"] == [["uer", "UER-py does not load the names of hf"]]


def test_without_its_package_there_is_no_reference(tmp_path: Path) -> None:
    made = make_models(tmp_path / "hf", ["BertModel"], type_vocab_size=2, hidden_act="gelu")
    interlingua.convert(made["BertModel"], tmp_path / "uer", to="uer", sync=False)
    request = make_request(tmp_path / "uer", tmp_path / "run", "torch", ("uer", "own"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        [said] = answers("torch", [request])
    [[name, why]] = said["refused"]
    assert name == "uer"
    assert "the package uer is not importable" in why
    assert said["ran"]["reference"] == "own encoder"


def test_names_of_an_older_version_are_left_to_the_own_encoder(dialect: str, tmp_path: Path) -> None:
    made = make_models(tmp_path / "hf", ["BertForPreTraining"], type_vocab_size=2, hidden_act="gelu")
    interlingua.convert(made["BertForPreTraining"], tmp_path / "new", to=dialect, sync=False)
    requests = []
    for name, old, new in (("words", ".word.embedding", ".word_embedding"), ("targets", "target.sp.", "target.sp_")):
        (tmp_path / name).mkdir()
        for file in ("config.json", "pytorch_model.bin"):
            (tmp_path / name / file).write_bytes((tmp_path / "new" / file).read_bytes())
        place = tmp_path / name / "pytorch_model.bin"
        run_in("torch", RENAME, place, place, old, new)
        requests.append(make_request(tmp_path / name, tmp_path / name / "run", "torch", ("uer", "own")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.environ[CHECKOUTS[dialect]])
        words, targets = answers("torch", requests)
    assert [said["ran"]["reference"] for said in (words, targets)] == ["own encoder"] * 2
    assert "do not find 1 tensors, embedding.word.embedding.weight the first" in words["refused"][0][1]
    assert "next_sentence" in targets["refused"][0][1]
