"""mindone's own models, run as a reference for MindNLP's checkpoints, held against the oracle and the own encoder."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import interlingua
from interlingua.verify.encoders.request import Request
from tests.frameworks import run_in
from tests.verify.encoders.hf_models import HEADS, make_models
from tests.verify.encoders.requests import activations, answers, distance, error, make_request, mask_of

NOISE = 2e-6
"""More than float32 explains at these sizes."""

NAMES = tuple(name for name in HEADS if not name.startswith("Nezha") and name != "RobertaForMultipleChoice")
"""mindone has no NEZHA, and one class of it cannot run."""


@dataclass(frozen=True)
class Run:
    """A checkpoint of MindNLP, run by mindone and by the own encoder, and what the worker said of both."""

    path: Path
    theirs: Request
    ours: Request
    said: dict[str, Any]
    said_of_ours: dict[str, Any]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Class of transformers -> a small random model of it."""
    if importlib.util.find_spec("mindone") is None:
        pytest.skip("mindone is not installed")
    folder = tmp_path_factory.mktemp("mindone")
    paths = {}
    for name, path in make_models(folder / "hf", (*NAMES, "RobertaForMultipleChoice")).items():
        paths[name] = folder / "mindnlp" / name
        interlingua.convert(path, paths[name], to="mindnlp", sync=False)
    pairs = {
        name: tuple(make_request(path, folder / way / name, "mindspore", [way]) for way in ("mindone", "own"))
        for name, path in paths.items()
    }
    said = iter(answers("mindone", [request for pair in pairs.values() for request in pair], timeout=900))
    return {name: Run(paths[name], *pair, next(said), next(said)) for name, pair in pairs.items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_class_of_mindone_computes_what_the_oracle_promises(name: str, runs: dict[str, Run]) -> None:
    run = runs[name]
    assert "ran" in run.said, run.said
    ran = run.said["ran"]
    assert ran["reference"] == f"mindone {name}"
    assert (ran["third_party"], ran["missing"], ran["unexpected"]) == (True, [], [])
    assert ran["settings"]["attention"] == "eager"
    gaps = error(run.path, run.theirs)
    assert max(gaps.values()) < NOISE, gaps


@pytest.mark.parametrize("name", NAMES)
def test_the_own_encoder_computes_what_mindone_does(name: str, runs: dict[str, Run]) -> None:
    run = runs[name]
    assert run.said_of_ours["ran"]["reference"] == "own encoder"
    gaps = distance(activations(run.ours), activations(run.theirs), mask_of(run.ours))
    assert max(gaps.values()) < 2 * NOISE, gaps


def test_a_class_that_cannot_run_is_refused_with_its_reason(runs: dict[str, Run]) -> None:
    ((reference, reason),) = runs["RobertaForMultipleChoice"].said["refused"]
    assert reference == "mindone"
    assert "RobertaForMultipleChoice cannot run" in reason


LACKING = """
import sys
import mindspore
source, one, other = sys.argv[1:]
state = mindspore.load_checkpoint(source)
def save(path, kept):
    mindspore.save_checkpoint([{"name": name, "data": value} for name, value in kept.items()], path)
stranger = {"stranger.weight": state["bert.pooler.dense.bias"]}
save(one, {name: value for name, value in state.items() if "pooler" not in name} | stranger)
save(other, {name: value for name, value in state.items() if "layer.1.output.dense.bias" not in name})
"""


def test_it_says_what_it_did_not_find_and_refuses_what_it_cannot_run(runs: dict[str, Run], tmp_path: Path) -> None:
    whole = runs["BertForPreTraining"].theirs
    run_in("mindspore", LACKING, whole.weights, tmp_path / "one.ckpt", tmp_path / "other.ckpt")
    changes = [
        {"weights": str(tmp_path / "one.ckpt")},
        {"weights": str(tmp_path / "other.ckpt")},
        {"dialect": "mindspore"},
        {"family": "nezha"},
        {"dtype": "float16"},
    ]
    asked = [replace(whole, output=str(tmp_path / f"{number}.npz"), **change) for number, change in enumerate(changes)]
    pooled, *others = answers("mindone", asked)

    assert pooled["ran"]["missing"] == ["bert.pooler.dense.bias", "bert.pooler.dense.weight"]
    assert pooled["ran"]["unexpected"] == ["stranger.weight"]
    assert not {"hard/pooler", "hard/next_sentence"} & set(activations(asked[0]))
    assert "hard/masked_lm" in activations(asked[0])
    reasons = [answer["refused"][0][1] for answer in others]
    wanted = ["does not find 1 tensors", "names of mindspore", "nezha", "float32 only"]
    assert all(text in reason for text, reason in zip(wanted, reasons, strict=True)), reasons
