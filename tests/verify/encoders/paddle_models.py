"""Checkpoints that Paddle runs, and whether what it computes is the oracle's but for float32's own noise."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import interlingua
from interlingua.convert.source import open_checkpoint
from interlingua.verify.encoders.request import Request, load_batches
from interlingua.verify.oracle import FLOAT32, forward, real_tokens
from interlingua.verify.parity.batch import Batch
from interlingua.verify.parity.measure import noise_of
from interlingua.verify.parity.side import open_side
from tests.verify.encoders.hf_models import make_models
from tests.verify.encoders.requests import activations, answers, make_request

UNITS = 3.0
"""How many times as large as a float32 oracle's an error may be: its root mean square, and its greatest element."""


def paddle_models(folder: Path, names: Iterable[str], changes: Mapping[str, Mapping[str, Any]] | None = None) -> dict:
    """Class of transformers -> its model in PaddleNLP's form, with ``changes`` in its configuration."""
    made = {}
    for name, path in make_models(folder / "hf", names).items():
        made[name] = folder / "paddle" / name
        interlingua.convert(path, made[name], to="paddle", sync=False)
        if changes and name in changes:
            config = made[name] / "config.json"
            config.write_text(json.dumps({**json.loads(config.read_text()), **changes[name]}))
    return made


def fluid_models(
    folder: Path, names: Iterable[str], config: Mapping[str, Any] | None = None, **form: str
) -> dict[str, Path]:
    """Class of transformers -> its model in fluid's form, made with ``config`` over the usual sizes."""
    made = {}
    for name, path in make_models(folder / "hf", names, **(config or {})).items():
        made[name] = folder / "fluid" / name
        interlingua.convert(path, made[name], to="ernie-fluid", sync=False, **form)
    return made


@dataclass(frozen=True)
class Judged:
    """An answered request, and each activation's error in units of the oracle's own in float32 (the worse figure)."""

    request: Request
    answer: dict[str, Any]
    units: dict[str, float]


def run_paddle(
    module: str, paths: Mapping[Any, Path], references: Iterable[str], folder: Path, **overrides: Any
) -> dict[Any, dict[str, Judged]]:
    """Run every checkpoint by every reference in one process where ``module`` can be imported: key -> reference."""
    references = tuple(references)
    asked = {
        (key, reference): make_request(path, folder / str(number) / reference, "paddle", [reference], **overrides)
        for number, (key, path) in enumerate(paths.items())
        for reference in references
    }
    found: dict[Any, dict[str, Judged]] = {key: {} for key in paths}
    given = answers(module, list(asked.values()), timeout=600)
    for ((key, reference), request), answer in zip(asked.items(), given, strict=True):
        units = units_of(paths[key], request) if "ran" in answer else {}
        found[key][reference] = Judged(request, answer, units)
    return found


def units_of(path: Path, request: Request, **conventions: Any) -> dict[str, float]:
    """Activation -> its error in units of noise, under the conventions of the checkpoint's own system.

    ``conventions`` are fields of the oracle's model that are to be others than that system's.
    """
    found, found_names = {}, activations(request)
    with open_checkpoint(path) as checkpoint:
        side = open_side(checkpoint)
        model = replace(side.model, **conventions)
        for name, arrays in load_batches(request.batches).items():
            batch = Batch(name, **arrays)
            noisy = dict(forward(side.tensor, model, batch, FLOAT32))
            for key, exact in forward(side.tensor, model, batch):
                noise = noise_of(np.asarray(noisy[key]), exact)
                error = noise_of(real_tokens(found_names.pop(f"{name}/{key}"), key, batch), exact)
                found[key] = max(error.rms / noise.rms, error.peak / noise.peak)
    assert not found_names
    return found
