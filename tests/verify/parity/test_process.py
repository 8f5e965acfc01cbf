"""A side's process: whatever becomes of it is an answer, and nothing that it started is left.

What plays a framework here ends by itself after a while, so that a test fails where it would else hang.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from interlingua.verify.encoders.request import Ran, Request, load_request
from interlingua.verify.parity import process
from interlingua.verify.parity.process import QUIET, Answer, run

LONG = 40
"""Seconds after which what seems to hang ends by itself."""

RAN = Ran("package.Class", "1.2", True, "torch 9", "cpu", {"threads": "2"}, ("missing",), ("unexpected",))
REQUEST = Request(
    framework="torch",
    references=("transformers", "own"),
    dialect="hf",
    family="bert",
    heads=("pooler",),
    weights="model.safetensors",
    container="safetensors",
    config={},
    native_config={},
    conventions={},
    recipes={},
    ties={},
    batches="batches.npz",
    output="activations.npz",
)


def interpreter(folder: Path, text: str) -> str:
    """Return a program that is started as Python would be: with ``-c``, code, our folder, request and response."""
    path = folder / "python"
    head = f"#!{sys.executable}\nimport json, os, signal, subprocess, sys, time\nasked, answered = sys.argv[4:]\n"
    path.write_text(head + textwrap.dedent(text), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def answer_of(tmp_path: Path, text: str, request: Request = REQUEST, timeout: float = 30.0) -> Answer:
    """Return what is made of a program in the place of Python."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return run(request, folder, interpreter=interpreter(tmp_path, text), timeout=timeout)


def says(answer: object, then: str = "") -> str:
    """Return a program that answers."""
    return f"open(answered, 'w').write({json.dumps(answer)!r})\n{then}"


def is_running(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def assert_ends(pid: int) -> None:
    """Wait until a process that was killed is gone, for much less than it would run."""
    deadline = time.monotonic() + LONG / 4
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(pid)


# -- what is left


CHILD = f"""
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep({LONG})"])
open(asked + ".pids", "w").write(f"{{os.getpid()}} {{child.pid}}")
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc to look for processes in")
@pytest.mark.parametrize(
    ("then", "timeout", "failure"),
    [
        (f"time.sleep({LONG})", 8.0, "torch had not finished after 8 s and was stopped"),
        ("sys.exit(3)", 30.0, "torch's process ended with exit code 3: it said nothing"),
        (says({"ran": asdict(RAN), "refused": []}), 30.0, None),
    ],
)
def test_nothing_that_a_process_started_outlives_it(
    tmp_path: Path, then: str, timeout: float, failure: str | None
) -> None:
    answer = answer_of(tmp_path, CHILD + then, timeout=timeout)
    assert answer.failure == failure
    for pid in (tmp_path / "folder" / "request.json.pids").read_text().split():
        assert_ends(int(pid))


def test_one_that_closes_its_output_and_hangs_is_stopped_too(tmp_path: Path) -> None:
    answer = answer_of(tmp_path, f"os.close(1); os.close(2); time.sleep({LONG})", timeout=1.0)
    assert answer.failure == "torch had not finished after 1 s and was stopped"


# -- what it is given


def test_it_is_told_the_request_and_nobody_writes_to_it(tmp_path: Path) -> None:
    answer = answer_of(tmp_path, says({"error": "read"}, "assert sys.stdin.read() == ''"))
    assert answer.failure == "read"
    assert load_request(tmp_path / "folder" / "request.json") == REQUEST


def environment_of(tmp_path: Path, **more: Any) -> dict[str, str]:
    """Return the environment of the process of a request."""
    text = "open(answered, 'w').write(json.dumps({'error': json.dumps(dict(os.environ))}))"
    answer = answer_of(tmp_path, text, replace(REQUEST, **more))
    found: dict[str, str] = json.loads(str(answer.failure))
    return found


def test_it_has_no_network_no_tf32_and_no_gpu_that_nobody_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("SOMETHING_ELSE", "stays")
    found = environment_of(tmp_path)
    assert {key: found[key] for key in QUIET} == QUIET
    assert (found["CUDA_VISIBLE_DEVICES"], found["SOMETHING_ELSE"]) == ("", "stays")


def test_a_gpu_that_is_asked_for_stays_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert environment_of(tmp_path, device="cuda")["CUDA_VISIBLE_DEVICES"] == "1"


def test_tensorflow_is_let_into_transformers_where_its_classes_are_asked_for(tmp_path: Path) -> None:
    found = environment_of(tmp_path, references=("transformers-tf", "own"))
    assert (found["USE_TF"], found["TF_USE_LEGACY_KERAS"]) == ("1", "1")


@pytest.mark.parametrize(("threads", "wanted"), [(3, "3"), (0, "7")])
def test_it_may_use_as_many_threads_as_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, wanted: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert environment_of(tmp_path, threads=threads)["OMP_NUM_THREADS"] == wanted


# -- what it answers


def test_what_ran_is_known_with_what_did_not(tmp_path: Path) -> None:
    answer = answer_of(tmp_path, says({"ran": asdict(RAN), "refused": [["uer", "not installed"]]}))
    assert answer.ran is not None
    assert asdict(answer.ran) == {**asdict(RAN), "missing": ["missing"], "unexpected": ["unexpected"]}
    assert (answer.failure, answer.refused) == (None, (("uer", "not installed"),))
    assert answer.seconds > 0


def test_why_nothing_ran_is_said_with_what_was_tried(tmp_path: Path) -> None:
    refused = [["uer", "not installed"], ["own", "no device"]]
    answer = answer_of(tmp_path, says({"error": "none can", "refused": refused, "trace": "Traceback"}))
    assert answer.failure == "none can (uer: not installed; own: no device)"
    assert answer.refused == (("uer", "not installed"), ("own", "no device"))
    assert (answer.ran, answer.detail) == (None, "Traceback")


@pytest.mark.parametrize(
    ("then", "failure"),
    [
        ("", "torch's process ended with exit code 0: it said nothing"),
        ("print('first'); print('last', file=sys.stderr)", "torch's process ended with exit code 0: last"),
        ("print('one', 'two', '   ', sep='\\n'); sys.exit(9)", "torch's process ended with exit code 9: two"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "torch's process died of SIGKILL: it said nothing"),
        (says({"ran": asdict(RAN)}, "sys.exit(1)"), "torch's process ended with exit code 1: it said nothing"),
        (
            says({"ran": asdict(RAN)}, "os.kill(os.getpid(), signal.SIGTERM)"),
            "torch's process died of SIGTERM: it said nothing",
        ),
    ],
)
def test_one_that_ends_badly_is_a_failure_whatever_it_answered(tmp_path: Path, then: str, failure: str) -> None:
    answer = answer_of(tmp_path, then)
    assert (answer.ran, answer.failure) == (None, failure)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"ran": {}}',
        '{"ran": null}',
        '{"ran": {"more": 1}}',
        '{"error": "x", "refused": [1]}',
    ],
)
def test_an_answer_that_is_none_is_a_failure_and_no_traceback(tmp_path: Path, text: str) -> None:
    answer = answer_of(tmp_path, f"open(answered, 'w').write({text!r})")
    assert answer.ran is None
    assert str(answer.failure).startswith("torch's process gave an answer that cannot be read: ")


def test_what_was_said_last_is_kept_and_no_more_however_much_it_was(tmp_path: Path) -> None:
    answer = answer_of(tmp_path, "sys.stdout.buffer.write(b'\\xff' * 10**6 + b'x' * 500 + b'end'); sys.exit(2)")
    assert answer.detail.endswith("xend")
    assert len(answer.detail) <= process.LAST
    assert len(str(answer.failure)) < 400


def test_one_that_cannot_be_started_is_a_failure(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program", encoding="utf-8")
    for number, path in enumerate((tmp_path / "absent", plain, tmp_path)):
        (tmp_path / str(number)).mkdir()
        answer = run(REQUEST, tmp_path / str(number), interpreter=str(path), timeout=5.0)
        assert str(answer.failure).startswith(f"{path} cannot be started: ")


def test_a_relative_interpreter_is_found_from_where_the_user_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    interpreter(tmp_path, says({"error": "found"}))
    monkeypatch.chdir(tmp_path)
    assert run(REQUEST, tmp_path / "folder", interpreter=f".{os.sep}python", timeout=30.0).failure == "found"


def test_a_signal_without_a_name_has_its_number() -> None:
    assert process._ending(-signal.SIGSEGV) == "died of SIGSEGV"
    assert process._ending(-200) == "died of signal 200"
    assert process._ending(3) == "ended with exit code 3"
