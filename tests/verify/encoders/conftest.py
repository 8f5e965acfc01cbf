"""Runs that several modules look at, made once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from interlingua.verify.encoders.request import Request
from tests.verify.encoders.hf_models import make_models
from tests.verify.encoders.requests import answers, make_request


@dataclass(frozen=True)
class Run:
    """A saved model, run by transformers and by the own encoder.

    Attributes:
        path: the model's folder.
        theirs: the request that transformers answered.
        ours: the one that the own encoder answered.
        said: what the worker said of the first.
        said_of_ours: and of the second.
    """

    path: Path
    theirs: Request
    ours: Request
    said: dict[str, Any]
    said_of_ours: dict[str, Any]


@pytest.fixture(scope="session")
def hf_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Class of transformers -> a small random model of it, run both ways in one process."""
    folder = tmp_path_factory.mktemp("hf-runs")
    made = make_models(folder / "models")
    pairs = {
        name: tuple(make_request(path, folder / way / name, "torch", (way,)) for way in ("transformers", "own"))
        for name, path in made.items()
    }
    said = iter(answers("torch", [request for pair in pairs.values() for request in pair]))
    return {name: Run(made[name], *pair, next(said), next(said)) for name, pair in pairs.items()}
