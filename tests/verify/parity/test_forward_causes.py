"""A framework that does not compute what its system promises is found out: the block, and what it does instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.families import realistic, write_model
from benchmarks.faults import InProcess
from interlingua.mappings.conventions import BEHIND_PADDING, UNBIASED
from interlingua.mappings.schema import BERT
from interlingua.verify.encoders.request import Request
from interlingua.verify.parity.check import Options, check
from interlingua.verify.parity.outcome import DIFFERENT, Outcome
from interlingua.verify.parity.process import Answer
from interlingua.verify.parity.runs import Settings

pytest.importorskip("torch")
pytest.importorskip("scipy")

Change = Callable[[Request], Request]


class Lying:
    """Runs A as it is asked, and B as somebody else asks."""

    def __init__(self, change: Change) -> None:
        self.change, self.honest = change, InProcess()

    def __call__(self, request: Request, folder: Path, **options: Any) -> Answer:
        return self.honest(self.change(request) if folder.name == "B" else request, folder, **options)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("causes") / "model"
    return write_model(folder, BERT, ("pooler", "masked_lm", "next_sentence"), 3, draw=realistic, eps=1e-7)


def outcome_of(model: Path, change: Change) -> Outcome:
    # Some rows are left for positions that begin behind the padding row.
    return check(
        model, model, Options(length=12, sentences=(), settings=Settings(launch=Lying(change), third_party=False))
    )


def configured(**values: object) -> Change:
    return lambda request: replace(request, config={**request.config, **values})


def conventional(**values: object) -> Change:
    return lambda request: replace(request, conventions={**request.conventions, **values})


def exchanged(one: str, other: str) -> Change:
    def change(request: Request) -> Request:
        recipes = dict(request.recipes)
        for kind in ("weight", "bias"):
            a, b = (f"encoder.layer.1.attention.self.{part}.{kind}" for part in (one, other))
            recipes[a], recipes[b] = recipes[b], recipes[a]
        return replace(request, recipes=recipes)

    return change


def transposed(request: Request) -> Request:
    name = "encoder.layer.2.attention.output.dense.weight"
    recipe = request.recipes[name]
    return replace(request, recipes={**request.recipes, name: replace(recipe, transpose=recipe.shape[:2])})


LIES = {
    "epsilon": (configured(layer_norm_eps=1e-3), "epsilon", "embeddings"),
    "activation": (configured(hidden_act="relu"), "activation", "layer.0"),
    "gelu by tanh": (configured(hidden_act="gelu_tanh"), "activation", "layer.0"),
    "LayerNorm": (conventional(layer_norm=UNBIASED), "LayerNorm formula", "embeddings"),
    "positions": (conventional(positions=BEHIND_PADDING), "position offset", "embeddings"),
    "query and key": (exchanged("query", "key"), "swapped tensors", "layer.1"),
    "query and value": (exchanged("query", "value"), "swapped tensors", "layer.1"),
    "transposed": (transposed, "untransposed", "layer.2"),
    "a head's epsilon": (conventional(head_eps={"masked_lm": 1e-3}), "epsilon", "masked_lm"),
    "a head's activation": (conventional(head_act={"masked_lm": "relu"}), "activation", "masked_lm"),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_framework_does_instead_is_named_with_its_place(model: Path, lie: str) -> None:
    change, cause, place = LIES[lie]
    outcome = outcome_of(model, change)
    assert outcome.verdict == DIFFERENT
    assert [(found.name, found.where) for found in outcome.causes] == [(cause, f"side B, {place}")]


def test_an_honest_run_has_no_cause(model: Path) -> None:
    outcome = outcome_of(model, lambda request: request)
    assert outcome.causes == ()
    assert outcome.exit_code(strict=True) == 0
