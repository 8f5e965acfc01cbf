"""Sides that are run: each is asked what was asked for, on the device that there is, and is what became of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.families import realistic, write_model
from interlingua.convert.source import open_checkpoint
from interlingua.mappings.schema import BERT
from interlingua.verify.encoders.request import Ran, Request
from interlingua.verify.oracle import forward
from interlingua.verify.parity import runs as module
from interlingua.verify.parity.batch import Batch, hard_batch
from interlingua.verify.parity.outcome import Cause, Gap
from interlingua.verify.parity.process import Answer
from interlingua.verify.parity.runs import Settings, run_sides
from interlingua.verify.parity.side import Opened, open_side

RAN = Ran("package.Class", "1.2", True, "torch 9", "a device", {"threads": "2"})
CRASH = Answer(None, "torch's process died of SIGSEGV", (), 1.5)
REFUSED = Answer(None, "no reference encoder can run here", (("own", "it sees no CUDA device"),), 0.5)
WELL = Answer(RAN, None, (("uer", "not installed"),), 2.5)


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    folder = write_model(tmp_path_factory.mktemp("runs") / "model", BERT, ("pooler",), 3, draw=realistic)
    with open_checkpoint(folder) as checkpoint:
        yield open_side(checkpoint)


@pytest.fixture(scope="module")
def batch(side: Opened) -> Batch:
    return hard_batch(side.config, 9, rows=2)


@dataclass
class Launching:
    """Plays the processes: each run ends as ``endings`` say of its side and device, and is kept account of."""

    endings: Mapping[tuple[str, str], Answer] = field(default_factory=dict)
    value: float = 0.0
    asked: dict[tuple[str, str], Request] = field(default_factory=dict)
    options: list[dict[str, object]] = field(default_factory=list)
    running: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request, folder: Path, **options: object) -> Answer:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        key = (folder.name, request.device)
        self.asked[key] = request
        self.options.append(options)
        time.sleep(0.05)
        ending = self.endings.get(key, WELL)
        if ending.failure is None:
            np.savez(request.output, **{"hard/pooler": np.full((2, 3), self.value)})
        with self.lock:
            self.running -= 1
        return ending


def settings_of(launch: Launching, **more: object) -> Settings:
    return replace(Settings(launch=launch), **more)


# -- what is asked


def test_a_side_is_asked_what_was_asked_for(side: Opened, batch: Batch) -> None:
    launch = Launching()
    settings = settings_of(launch, dtype="bfloat16", interpreters={"torch": "/a/python", "paddle": "no"}, timeout=7.0)
    with run_sides({"A": side, "B": side}, [batch], settings):
        pass
    assert sorted(launch.asked) == [("A", "cpu"), ("B", "cpu")]
    for request in launch.asked.values():
        assert (request.dtype, request.framework) == ("bfloat16", "torch")
        assert request.references == ("transformers", "own")
        assert request.threads >= 1
    assert launch.options == [{"interpreter": "/a/python", "timeout": 7.0}] * 2


def test_our_own_encoder_alone_is_asked_for_where_others_are_not_wanted(side: Opened, batch: Batch) -> None:
    launch = Launching()
    with run_sides({"A": side}, [batch], settings_of(launch, third_party=False)):
        pass
    assert launch.asked["A", "cpu"].references == ("own",)
    assert launch.options == [{"interpreter": None, "timeout": module.TIMEOUT}]


def test_small_models_run_together_and_large_ones_one_after_the_other(
    side: Opened, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOGETHER", 0)
    launch = Launching()
    with run_sides({"A": side, "B": side}, [batch], settings_of(launch)):
        pass
    assert launch.most == 1
    assert {request.threads for request in launch.asked.values()} == {0}


@pytest.mark.parametrize(
    ("device", "driver", "wanted"),
    [
        ("cpu", True, "cpu"),
        ("cpu", False, "cpu"),
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cuda", True, "cuda"),
        ("cuda", False, "cuda"),
    ],
)
def test_a_gpu_is_tried_where_it_is_asked_for_or_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, driver: bool, wanted: str
) -> None:
    monkeypatch.setattr(module, "NVIDIA", tmp_path if driver else tmp_path / "absent")
    assert Settings(device=device).wanted == wanted


# -- what became of it


def test_what_a_side_computed_is_there_as_long_as_the_context_is(side: Opened, batch: Batch) -> None:
    launch = Launching(value=4.0)
    with run_sides({"A": side}, [batch], settings_of(launch)) as runs:
        folder = runs.runs["A"].file.parents[2]
        (subject,) = runs.subjects(share=False)
        assert subject.activations["hard/pooler"].tolist() == [[4.0] * 3] * 2
        assert folder.is_dir()
    assert not folder.exists()


def test_the_first_sides_weights_stand_for_all_only_where_they_are_the_same(side: Opened, batch: Batch) -> None:
    with run_sides({"A": side, "B": side}, [batch], settings_of(Launching())) as runs:
        a, b = runs.subjects(share=True)
        assert a.get is b.get
        a, b = runs.subjects(share=False)
        assert a.get is not b.get
        assert [subject.label for subject in (a, b)] == ["A", "B"]


@pytest.mark.parametrize("dead", ["A", "B"])
def test_a_side_that_died_has_computed_nothing_and_says_why(side: Opened, batch: Batch, dead: str) -> None:
    with run_sides({"A": side, "B": side}, [batch], settings_of(Launching({(dead, "cpu"): CRASH}))) as runs:
        assert [subject.label for subject in runs.subjects(share=True)] == [{"A": "B", "B": "A"}[dead]]
        found = runs.describe(dead, ())
    assert (found.failure, found.reference, found.third_party) == (CRASH.failure, "", False)
    assert (found.seconds, found.settings, found.device) == (1.5, {}, "cpu")


def test_a_side_is_described_by_what_ran(side: Opened, batch: Batch, gap_of_one: Gap) -> None:
    with run_sides({"A": side}, [batch], settings_of(Launching(), dtype="float16")) as runs:
        found = runs.describe("A", (gap_of_one,))
    assert (found.label, found.dialect, found.family, found.container) == ("A", "hf", "bert", "safetensors")
    assert (found.reference, found.version, found.third_party) == ("package.Class", "1.2", True)
    assert (found.framework, found.device, found.dtype) == ("torch 9", "a device", "float16")
    assert (found.settings, found.seconds, found.failure) == ({"threads": "2"}, 2.5, None)
    assert (found.refused, found.gaps) == ((("uer", "not installed"),), (gap_of_one,))
    assert found.config["layer_norm_eps"] == side.config.layer_norm_eps
    assert found.conventions["layer_norm"] == side.table.conventions.layer_norm


@pytest.fixture
def gap_of_one() -> Gap:
    return Gap("hard", "pooler", 1, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, None, 1.0, 1.0)


def test_our_own_encoder_is_nobody_elses(side: Opened, batch: Batch) -> None:
    ours = replace(WELL, ran=replace(RAN, third_party=False))
    with run_sides({"A": side}, [batch], settings_of(Launching({("A", "cpu"): ours}))) as runs:
        assert not runs.describe("A", ()).third_party


def test_what_a_model_class_did_not_find_is_a_fault(side: Opened, batch: Batch) -> None:
    lacking = replace(WELL, ran=replace(RAN, missing=[f"t{number}" for number in range(9)]))
    with run_sides({"A": side, "B": side}, [batch], settings_of(Launching({("B", "cpu"): lacking}))) as runs:
        assert runs.faults == (Cause("reference", "side B", "package.Class did not find t0, t1, t2, t3, t4."),)


def test_no_pickle_is_read_of_what_a_side_wrote(side: Opened, batch: Batch) -> None:
    with run_sides({"A": side}, [batch], settings_of(Launching())) as runs:
        np.savez(runs.runs["A"].file, **{"hard/pooler": np.array([{}], dtype=object)})
        (subject,) = runs.subjects(share=True)
        with pytest.raises(ValueError, match="allow_pickle=False"):
            _ = subject.activations["hard/pooler"]


# -- devices


def devices(endings: Mapping[tuple[str, str], Answer], side: Opened, batch: Batch) -> tuple[list[str], ...]:
    """Return where each side's run that counts was, who was run twice, and faults, of a check with --device cuda."""
    with run_sides({"A": side, "B": side}, [batch], settings_of(Launching(endings), device="cuda")) as runs:
        where = [runs.runs[label].device for label in "AB"]
        return where, sorted(runs.others), [fault.name for fault in runs.faults], list(runs.notes)


def test_each_device_has_its_own_run(side: Opened, batch: Batch) -> None:
    assert devices({}, side, batch) == (["cuda", "cuda"], ["A", "B"], [], [])


def test_a_framework_that_sees_no_gpu_runs_on_the_cpu_and_one_is_enough(side: Opened, batch: Batch) -> None:
    note = "B's framework sees no CUDA device: it ran on the CPU."
    assert devices({("B", "cuda"): REFUSED}, side, batch) == (["cuda", "cpu"], ["A"], [], [note])
    both = {("A", "cuda"): REFUSED, ("B", "cuda"): REFUSED}
    assert devices(both, side, batch)[:3] == (["cpu", "cpu"], [], ["device"])


def test_a_crash_on_a_gpu_is_not_covered_up_by_the_cpu(side: Opened, batch: Batch) -> None:
    launch = Launching({("B", "cuda"): CRASH})
    with run_sides({"A": side, "B": side}, [batch], settings_of(launch, device="cuda")) as runs:
        assert runs.describe("B", ()).failure == CRASH.failure
        assert [subject.label for subject in runs.subjects(share=True)] == ["A"]
        assert set(runs.devices([], {"A": (), "B": ()})) == {"A"}


def test_a_crash_on_the_cpu_leaves_the_gpus_run_as_it_is(side: Opened, batch: Batch) -> None:
    launch = Launching({("A", "cpu"): CRASH})
    with run_sides({"A": side}, [batch], settings_of(launch, device="cuda")) as runs:
        assert runs.describe("A", ()).failure is None
        assert runs.devices([], {"A": ()}) == {}


def test_both_devices_are_held_against_each_other(side: Opened, batch: Batch) -> None:
    exact = dict(forward(side.tensor, side.model, batch))

    class Apart(Launching):
        def __call__(self, request: Request, folder: Path, **options: object) -> Answer:
            np.savez(request.output, **{"hard/pooler": exact["pooler"] + (0.5 if request.device == "cuda" else 0.0)})
            return WELL

    gap = Gap("hard", "pooler", 1, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, None, 1e-6, 1e-6)
    with run_sides({"A": side}, [batch], settings_of(Apart(), device="cuda")) as runs:
        (found,) = runs.devices([batch], {"A": (gap,)})["A"]
    assert found.max_abs == pytest.approx(0.5)
    assert found.worst[0].value - found.worst[0].expected == pytest.approx(0.5)
