"""transformers' own models in PyTorch as a reference: every class, every head, loaded by its own loader."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interlingua.verify.encoders.request import Request
from tests import models
from tests.verify.encoders.conftest import Run
from tests.verify.encoders.hf_models import HEADS
from tests.verify.encoders.requests import activations, answers, error, make_request

NOISE = 2e-6
"""More than float32 explains at these sizes."""

LOGIT_NOISE = 2e-5
"""The same for models whose every weight is of size 1, whose logits go up to 20."""


@pytest.fixture(params=HEADS)
def case(request: pytest.FixtureRequest, hf_runs: dict[str, Run]) -> tuple[str, Run]:
    if request.param not in hf_runs:
        pytest.skip(f"this version of transformers has no {request.param}")
    return request.param, hf_runs[request.param]


def test_the_class_of_the_heads_runs_and_finds_every_parameter(case: tuple[str, Run]) -> None:
    name, run = case
    assert "error" not in run.said, run.said
    ran = run.said["ran"]
    assert ran["reference"] == f"transformers {name}"
    assert (ran["missing"], ran["unexpected"]) == ([], [])
    assert ran["third_party"]
    assert ran["settings"]["attention"] == "eager"


def test_every_head_is_there_and_nothing_else(case: tuple[str, Run]) -> None:
    name, run = case
    found = {key.partition("/")[2] for key in activations(run.theirs)}
    layers = {f"layer.{layer}" for layer in range(run.theirs.config["num_hidden_layers"])}
    assert found == {"embeddings", *layers, *HEADS[name]}


def test_it_computes_what_the_oracle_promises(case: tuple[str, Run]) -> None:
    _, run = case
    gaps = error(run.path, run.theirs)
    assert max(gaps.values()) < NOISE, gaps


DECODER, BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
ALL = ("pooler", "masked_lm", "next_sentence")
SETS = {
    (): "BertModel",
    ("pooler",): "BertModel",
    ("pooler", "masked_lm"): "BertForMaskedLM + BertModel",
    ("masked_lm", "span_qa"): "BertForMaskedLM + BertForQuestionAnswering",
    (*ALL, "sequence_classification", "span_qa"): (
        "BertForPreTraining + BertForSequenceClassification + BertForQuestionAnswering"
    ),
}
"""Heads that no class, or no class with a head, has together -> the classes that run."""


def save(folder: Path, arrays: models.Arrays, heads: Iterable[str]) -> Path:
    safetensors = pytest.importorskip("safetensors.numpy")
    folder.mkdir(parents=True)
    safetensors.save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    config: dict[str, Any] = {"model_type": "bert", "num_attention_heads": 6}
    if "sequence_classification" in heads:
        config["id2label"] = {str(index): f"LABEL_{index}" for index in range(5)}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


Answered = tuple[Path, Request, dict[str, Any]]


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Answered]:
    """Model -> its folder, the request, and what the worker said; one process for all."""
    folder = tmp_path_factory.mktemp("bert")
    full = models.hf(ALL)
    untied = {**full, DECODER: models.random_array(np.random.default_rng(1), (37, 12))}
    gammas = {
        name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): x for name, x in full.items()
    }
    places = {heads: save(folder / f"set {index}", models.hf(heads), heads) for index, heads in enumerate(SETS)}
    places |= {
        "untied": save(folder / "untied", untied, ALL),
        "untied twice": save(folder / "twice", {**untied, BIAS: full["cls.predictions.bias"].copy()}, ALL),
        "gammas": save(folder / "gammas", gammas, ALL),
        "position ids": save(folder / "ids", {**full, "bert.embeddings.position_ids": np.arange(17)[None]}, ALL),
    }
    requests = {name: make_request(path, path / "run", "torch", ("transformers",)) for name, path in places.items()}
    plain = requests["gammas"]
    for name, more in {
        "float16": {"dtype": "float16"},
        "bfloat16": {"dtype": "bfloat16"},
        "no pooler": {"native": lambda name: "pooler" not in name},
        "no layer": {"native": lambda name: "layer.1.output.dense" not in name},
        "names of others": {"dialect": "uer"},
        "no such family": {"family": "ernie-gram"},
        "another's configuration": {
            "beside": {"hidden_act": "relu", "layer_norm_eps": 0.5, "auto_map": {"AutoModel": "x"}}
        },
    }.items():
        values = dict(more)
        if kept := values.pop("native", None):
            less = save(folder / name, {key: x for key, x in full.items() if kept(key)}, ALL)
            values["weights"] = str(less / "model.safetensors")
        if beside := values.pop("beside", None):
            other = save(folder / name, full, ALL)
            (other / "config.json").write_text(json.dumps(beside))
            values["weights"] = str(other / "model.safetensors")
        places[name] = places["gammas"]
        requests[name] = replace(plain, output=str(folder / f"{name}.npz"), **values)
    said = answers("torch", list(requests.values()))
    return {name: (places[name], requests[name], answer) for name, answer in zip(requests, said, strict=True)}


@pytest.mark.parametrize("heads", SETS, ids="+".join)
def test_several_classes_run_where_none_has_all_heads(answered: dict[Any, Answered], heads: tuple[str, ...]) -> None:
    path, request, said = answered[heads]
    assert said["ran"]["reference"] == f"transformers {SETS[heads]}"
    assert (said["ran"]["missing"], said["ran"]["unexpected"]) == ([], [])
    assert max(error(path, request).values()) < LOGIT_NOISE


@pytest.mark.parametrize("name", ["untied", "untied twice", "gammas", "position ids", "another's configuration"])
def test_what_older_versions_saved_is_computed_with_all_of_it(answered: dict[Any, Answered], name: str) -> None:
    path, request, said = answered[name]
    assert said["ran"]["missing"] == []
    assert max(error(path, request).values()) < LOGIT_NOISE


def test_an_untied_decoder_is_none_of_the_embeddings(answered: dict[Any, Answered]) -> None:
    gap = activations(answered["untied"][1])["hard/masked_lm"] - activations(answered["gammas"][1])["hard/masked_lm"]
    assert np.abs(gap).max() > 1


@pytest.mark.parametrize(("dtype", "least", "most"), [("float16", 1e-4, 3e-2), ("bfloat16", 1e-3, 3e-1)])
def test_it_computes_in_the_element_type_that_is_asked_for(
    answered: dict[Any, Answered], dtype: str, least: float, most: float
) -> None:
    path, request, _ = answered[dtype]
    assert least < error(path, request)["hard/layer.2"] < most


def test_what_a_class_makes_up_is_no_head_of_the_checkpoint(answered: dict[Any, Answered]) -> None:
    _, request, said = answered["no pooler"]
    assert said["ran"]["missing"] == ["bert.pooler.dense.bias", "bert.pooler.dense.weight"]
    found = {key.partition("/")[2] for key in activations(request)}
    assert found == {"embeddings", "layer.0", "layer.1", "layer.2", "masked_lm"}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no layer", "BertForPreTraining does not find 2 tensors, bert.encoder.layer.1.output.dense.bias the first"),
        ("names of others", "transformers does not load the names of uer"),
        ("no such family", "has no model of the family ernie-gram"),
    ],
)
def test_what_it_cannot_run_is_refused(answered: dict[Any, Answered], name: str, why: str) -> None:
    _, _, said = answered[name]
    assert said["error"] == "no reference encoder can run here"
    [[reference, reason]] = said["refused"]
    assert reference == "transformers"
    assert why in reason
