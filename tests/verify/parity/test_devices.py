"""Sides on a GPU: those that see one run on it and on the CPU, the others on the CPU; with one, for real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import interlingua
from benchmarks.families import realistic, write_model
from benchmarks.faults import InProcess
from interlingua.mappings.schema import BERT
from interlingua.verify.encoders.request import Request
from interlingua.verify.parity.check import Options, check
from interlingua.verify.parity.outcome import SAME, Outcome
from interlingua.verify.parity.process import Answer
from interlingua.verify.parity.runs import Settings

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device")

HEADS = ("pooler", "masked_lm", "next_sentence")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("devices") / "model", BERT, HEADS, 3, draw=realistic)


class Pretending:
    """Plays a machine where some sides see a GPU: it is the CPU, and each run is kept count of."""

    def __init__(self, seeing: str) -> None:
        self.seeing, self.ran, self.honest = seeing, [], InProcess()

    def __call__(self, request: Request, folder: Path, **options: Any) -> Answer:
        self.ran.append((folder.name, request.device))
        if request.device == "cuda" and folder.name not in self.seeing:
            return Answer(None, "no reference encoder can run here", (("own", "it sees no CUDA device"),), 0.1)
        return self.honest(replace(request, device="cpu"), folder, **options)


def outcome_of(model: Path, launch: Pretending, device: str = "cuda") -> Outcome:
    return check(model, model, Options(settings=Settings(device=device, launch=launch, third_party=False)))


def test_each_side_that_sees_a_device_runs_on_it_and_on_the_cpu(model: Path) -> None:
    launch = Pretending("AB")
    outcome = outcome_of(model, launch)
    assert sorted(launch.ran) == [("A", "cpu"), ("A", "cuda"), ("B", "cpu"), ("B", "cuda")]
    assert set(outcome.devices) == {"A", "B"}
    assert all(gap.elements for gaps in outcome.devices.values() for gap in gaps)
    assert outcome.verdict == SAME, outcome.reasons


def test_a_side_that_sees_none_runs_on_the_cpu_and_that_is_said(model: Path) -> None:
    outcome = outcome_of(model, Pretending("A"))
    assert outcome.verdict == SAME, outcome.reasons
    assert set(outcome.devices) == {"A"}
    assert "B's framework sees no CUDA device: it ran on the CPU." in outcome.notes


def test_cuda_on_neither_side_is_no_pass(model: Path) -> None:
    outcome = outcome_of(model, Pretending(""))
    assert outcome.exit_code() == 1
    assert [fault.name for fault in outcome.faults] == ["device"]


def test_nothing_is_asked_of_a_gpu_where_the_cpu_is_wanted(model: Path) -> None:
    launch = Pretending("AB")
    outcome_of(model, launch, "cpu")
    assert sorted(launch.ran) == [("A", "cpu"), ("B", "cpu")]


@needs_gpu
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("third_party", [True, False])
def test_a_gpu_is_held_to_the_noise_of_its_type_and_to_the_cpu(
    model: Path, tmp_path: Path, dtype: str, third_party: bool
) -> None:
    interlingua.convert(model, tmp_path / "uer", to="uer", preserve="outputs")
    settings = Settings(device="cuda", dtype=dtype, third_party=third_party)
    outcome = check(model, tmp_path / "uer", Options(settings=settings))
    assert outcome.exit_code() == 0, outcome.reasons
    assert outcome.a.device != "cpu"
    assert outcome.a.settings["TF32"] == "off"
    assert outcome.devices["A"]
