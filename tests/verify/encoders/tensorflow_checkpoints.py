"""Checkpoints of TensorFlow's dialects, and what the oracle computes of a checkpoint in float64."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import interlingua
from interlingua.convert.source import open_checkpoint
from interlingua.verify.encoders.request import Request, load_batches
from interlingua.verify.oracle import forward, real_tokens
from interlingua.verify.parity.batch import Batch
from interlingua.verify.parity.side import open_side
from tests.verify.encoders.requests import activations, answers, make_request

NOISE = 5e-7
"""What an activation in float32 differs by from the same in float64 at these models' sizes: the root mean square of the
difference, in proportion to that of what is expected where this is above 1. An epsilon of 1e-5 where 1e-12 is meant
makes it ten times that."""


def convert_models(
    models: Mapping[str, Path], folder: Path, dialects: Iterable[str], **how: object
) -> dict[tuple[str, str], Path]:
    """(Dialect, class) -> folder of a model of transformers in another dialect."""
    found = {}
    for dialect in dialects:
        for name, path in models.items():
            target = folder / dialect / name
            interlingua.convert(path, target, to=dialect, **how)
            found[dialect, name] = target
    return found


def distances(path: Path, request: Request) -> dict[str, float]:
    """Activation -> difference (see ``NOISE``) from what the oracle computes as the checkpoint's own system."""
    ran, found = activations(request), {}
    with open_checkpoint(path) as checkpoint:
        side = open_side(checkpoint)
        for name, arrays in load_batches(request.batches).items():
            batch = Batch(name, **arrays)
            for key, value in forward(side.tensor, side.model, batch):
                ours = real_tokens(ran.pop(f"{name}/{key}"), key, batch)
                assert ours.shape == value.shape, key
                scale = max(1.0, root_mean_square(value))
                found[f"{name}/{key}"] = root_mean_square(ours - value) / scale
    assert not ran, "there is more than the oracle has"
    return found


def root_mean_square(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))


@dataclass(frozen=True)
class Answered:
    """A request that was answered, and how far each activation is from the oracle's."""

    request: Request
    answer: dict
    gaps: dict[str, float]

    @property
    def worst(self) -> float:
        return max(self.gaps.values())


def run_references(
    module: str,
    framework: str,
    paths: Mapping[tuple[str, str], Path],
    references: Sequence[str],
    folder: Path,
    **overrides: object,
) -> dict[tuple[str, str], Answered]:
    """Run every checkpoint by ``references`` in one process, where ``module`` can be imported."""
    requests = {
        key: make_request(path, folder / "asked" / "-".join(key), framework, references, **overrides)
        for key, path in paths.items()
    }
    given = answers(module, list(requests.values()), timeout=900)
    found = {}
    for (key, request), answer in zip(requests.items(), given, strict=True):
        found[key] = Answered(request, answer, distances(paths[key], request) if "ran" in answer else {})
    return found
