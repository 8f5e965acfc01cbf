"""A side's process from within: references are tried in order, and each way in which one ends has its answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from interlingua.verify.encoders import worker
from interlingua.verify.encoders.request import Activations, Ran, Request, UnavailableError

RAN = Ran("package.Class", "1.2", True, "torch 9", "cpu", {"threads": "2"})
Run = Callable[[Request, Mapping[str, Any]], tuple[Activations, Ran]]


def ends(request: Request, batches: Mapping[str, Any]) -> tuple[Activations, Ran]:
    return {"hard/embeddings": batches["hard"]["input_ids"] * 2.0}, RAN


def unavailable(request: Request, batches: Mapping[str, Any]) -> tuple[Activations, Ran]:
    raise UnavailableError("it has no such model")


def incomplete(request: Request, batches: Mapping[str, Any]) -> tuple[Activations, Ran]:
    raise ModuleNotFoundError("No module named 'torch'")


def wrong(request: Request, batches: Mapping[str, Any]) -> tuple[Activations, Ran]:
    raise KeyError("pooler")


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run the worker with references that are made up, the first one first; returns its answer."""

    def asked(*runs: Run) -> dict[str, Any]:
        for number, run in enumerate(runs):
            module = ModuleType("made_up")
            module.__dict__["run"] = run
            monkeypatch.setitem(sys.modules, f"interlingua.verify.encoders.made_up_{number}", module)
            monkeypatch.setitem(worker.REFERENCES, f"reference {number}", f"made_up_{number}")
        names = tuple(f"reference {number}" for number in range(len(runs)))
        batches, output = tmp_path / "batches.npz", tmp_path / "activations.npz"
        np.savez(batches, **{"hard/input_ids": np.arange(3)})
        request = Request(
            "torch", names, "hf", "bert", (), "w", "safetensors", {}, {}, {}, {}, {}, str(batches), str(output)
        )
        request.dump(tmp_path / "request.json")
        monkeypatch.setattr(sys, "argv", ["-c", str(tmp_path / "request.json"), str(tmp_path / "response.json")])
        worker.main()
        answer: dict[str, Any] = json.loads((tmp_path / "response.json").read_text(encoding="utf-8"))
        return answer

    return asked


def test_the_first_that_can_run_does_and_its_activations_are_kept(ask, tmp_path: Path) -> None:
    assert ask(ends, wrong) == {"ran": asdict(RAN) | {"missing": [], "unexpected": []}, "refused": []}
    with np.load(tmp_path / "activations.npz", allow_pickle=False) as file:
        assert {name: file[name].tolist() for name in file.files} == {"hard/embeddings": [0.0, 2.0, 4.0]}


def test_those_that_cannot_are_passed_over_and_named(ask) -> None:
    answer = ask(unavailable, incomplete, ends)
    assert answer["ran"]["reference"] == "package.Class"
    assert answer["refused"] == [
        ["reference 0", "it has no such model"],
        ["reference 1", "ModuleNotFoundError: No module named 'torch'"],
    ]


def test_where_none_can_the_reasons_are_said_and_nothing_is_written(ask, tmp_path: Path) -> None:
    answer = ask(incomplete, unavailable)
    assert answer["error"] == "no reference encoder can run here"
    assert [name for name, _ in answer["refused"]] == ["reference 0", "reference 1"]
    assert "ran" not in answer
    assert not (tmp_path / "activations.npz").exists()


def test_one_that_fails_is_not_covered_up_by_the_next(ask, tmp_path: Path) -> None:
    answer = ask(unavailable, wrong, ends)
    assert answer["error"] == "reference 1: KeyError: 'pooler'"
    assert answer["refused"] == [["reference 0", "it has no such model"]]
    assert "raise KeyError" in answer["trace"]
    assert "ran" not in answer
    assert not (tmp_path / "activations.npz").exists()


def test_of_a_long_trace_the_end_is_kept(ask) -> None:
    def asked_for_another(request: Request, batches: Mapping[str, Any]) -> tuple[Activations, Ran]:
        raise NotImplementedError("x" * 10_000)

    assert len(ask(asked_for_another)["trace"]) <= 4000
