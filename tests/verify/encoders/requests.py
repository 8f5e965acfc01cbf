"""Requests to a side's process, as they are made of a checkpoint; and what reference encoders answer to them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from interlingua.convert.source import open_checkpoint
from interlingua.verify.encoders.request import Request
from interlingua.verify.oracle import forward, real_tokens
from interlingua.verify.parity.batch import Batch, hard_batch, longest_row
from interlingua.verify.parity.side import make_request as side_request
from interlingua.verify.parity.side import open_side
from tests.frameworks import run_in


def make_request(
    path: Path,
    tmp_path: Path,
    framework: str,
    references: Sequence[str],
    batches: Sequence[Batch] | None = None,
    **overrides: Any,
) -> Request:
    """The request to run a checkpoint, whose batches lie in ``tmp_path``; its answer goes there too.

    ``overrides`` are fields of the request. Batches are a hard one where none are given.
    """
    tmp_path.mkdir(parents=True, exist_ok=True)
    place, output = tmp_path / "batches.npz", tmp_path / "activations.npz"
    with open_checkpoint(path) as checkpoint:
        side = open_side(checkpoint)
        made = side_request(side, place, output, references=tuple(references))
        longest = longest_row(side.config, side.table.conventions.positions)
        batches = batches or [hard_batch(side.config, longest)]
    np.savez(place, **{key: array for batch in batches for key, array in batch.arrays().items()})
    return replace(made, **{"framework": framework, "threads": 1, **overrides})


ANSWER = """
import json, sys
from dataclasses import asdict
from pathlib import Path
import numpy as np
from interlingua.verify.encoders import worker
answers = []
for path in sys.argv[1:]:
    answers.append(worker._answer(worker.load_request(Path(path))))
print("ANSWERS", json.dumps(answers))
"""


def answers(framework: str, requests: Sequence[Request], timeout: float = 300) -> list[dict[str, Any]]:
    """What the worker answers several requests in one process; the activations lie where each request says.

    Skips the test where ``framework`` (the module that is looked for) is not installed.
    """
    paths = [Path(request.output).with_suffix(".request.json") for request in requests]
    for request, path in zip(requests, paths, strict=True):
        request.dump(path)
    printed = run_in(framework, ANSWER, *paths, timeout=timeout)
    found: list[dict[str, Any]] = json.loads(printed.partition("ANSWERS ")[2])
    return found


def activations(request: Request) -> dict[str, np.ndarray]:
    """The activations that an answered request left."""
    with np.load(request.output, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def promised(path: Path, request: Request) -> dict[str, np.ndarray]:
    """What the float64 oracle computes of a checkpoint on a request's hard batch, in the oracle's shapes."""
    with np.load(request.batches, allow_pickle=False) as file:
        batch = Batch("hard", *(file[f"hard/{name}"] for name in Batch.ARRAYS))
    with open_checkpoint(path) as checkpoint:
        side = open_side(checkpoint)
        return {f"hard/{name}": array for name, array in forward(side.tensor, side.model, batch)}


def error(path: Path, request: Request) -> dict[str, float]:
    """Activation -> greatest absolute distance of an answered request to the oracle; both must have the same names."""
    with np.load(request.batches, allow_pickle=False) as file:
        batch = Batch("hard", *(file[f"hard/{name}"] for name in Batch.ARRAYS))
    found, expected = activations(request), promised(path, request)
    assert sorted(found) == sorted(expected)
    return {
        name: float(np.abs(real_tokens(found[name], name.partition("/")[2], batch) - array).max())
        for name, array in expected.items()
    }


def mask_of(request: Request, batch: str = "hard") -> np.ndarray:
    """[rows, length] bool: where the tokens of a batch are."""
    with np.load(request.batches, allow_pickle=False) as file:
        return file[f"{batch}/attention_mask"].astype(bool)


def distance(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], mask: np.ndarray) -> dict[str, float]:
    """Activation -> greatest absolute difference at real tokens; both must have the same names and shapes."""
    assert sorted(ours) == sorted(theirs)
    found = {}
    for name, array in ours.items():
        assert array.shape == theirs[name].shape, name
        gap = np.abs(array.astype(np.float64) - theirs[name].astype(np.float64))
        by_token = array.shape[:2] == mask.shape and not name.endswith("masked_lm")
        found[name] = float((gap[mask] if by_token else gap).max())
    return found
