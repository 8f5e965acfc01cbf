"""One task in an interpreter of its own: its answer, its death, and its end with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from interlingua.convert.batch.task_process import TaskProcess
from interlingua.convert.batch.workers import Ended
from tests.conftest import ROOT
from tests.convert.batch.work import double


def test_a_task_is_answered() -> None:
    with TaskProcess(double, 4) as process:
        assert process.wait(60)
        assert process.take() == Ended(4, 8)
    assert process.process.returncode is not None


def test_a_process_that_dies_says_how() -> None:
    for number, words in ((13, "was ended by SIGKILL"), (14, "ended with exit code 3")):
        with TaskProcess(double, number) as process:
            assert process.wait(60)
            ended = process.take()
        assert ended.answer is None
        assert str(ended.death).startswith(words)


def test_an_interpreter_that_is_told_to_end_while_it_ends_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with TaskProcess(double, 16) as process:
        assert process.wait(60)
        assert process.take().answer == 32
        time.sleep(0.5)  # It is at its end by now, and told so in the midst of it.
    assert process.process.returncode == 0
    assert capfd.readouterr().err == ""


def test_a_task_that_takes_for_ever_is_ended() -> None:
    with TaskProcess(double, 15) as process:
        assert not process.wait(0.1)
    assert process.process.returncode is not None


PARENT = """
import sys, threading, time
from interlingua.convert.batch.task_process import TaskProcess
from tests.convert.batch.work import double
def start():
    with TaskProcess(double, 15) as process:
        print(process.process.pid, flush=True)
        process.wait(600)
threading.Thread(target=start).start()
"""


def test_it_ends_with_a_starter_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 60
    while is_there(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_there(child)


def is_there(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
