"""Processes that carry out tasks: one that dies is a result, and none outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlingua.convert.batch.processes import JobProcess, end, waiting
from interlingua.convert.batch.workers import Ended
from tests.conftest import ROOT
from tests.convert.batch.work import double


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    yield fd
    os.close(fd)


def answers(processes: list[JobProcess[int, int]]) -> list[Ended[int, int]]:
    found: list[Ended[int, int]] = []
    while any(process.task is not None for process in processes):
        found += [process.take() for process in waiting(processes, 60)]
    return found


def test_tasks_are_carried_out_one_after_the_other(lock: int) -> None:
    process: JobProcess[int, int] = JobProcess(double, lock)
    for number in (1, 2, 3):
        process.give(number)
        assert answers([process]) == [Ended(number, 2 * number)]
    end([process])


def test_a_process_that_dies_takes_its_own_task_alone(lock: int) -> None:
    processes: list[JobProcess[int, int]] = [JobProcess(double, lock) for _ in range(3)]
    for process, number in zip(processes, (13, 14, 5), strict=True):
        process.give(number)
    found = {ended.asked: ended for ended in answers(processes)}
    assert found[5] == Ended(5, 10)
    assert found[13].death == "was ended by SIGKILL; the system does that when memory runs out"
    assert found[14].death == "ended with exit code 3"
    assert [process.alive for process in processes] == [False, False, True]
    end(processes)


def test_a_task_given_to_a_dead_process_is_over(lock: int) -> None:
    process: JobProcess[int, int] = JobProcess(double, lock)
    process.process.kill()
    process.process.join()
    process.give(1)
    (ended,) = answers([process])
    assert ended.answer is None
    assert "SIGKILL" in str(ended.death)
    end([process])


def test_a_process_at_work_can_be_ended(lock: int) -> None:
    process: JobProcess[int, int] = JobProcess(double, lock)
    process.give(1)
    answers([process])
    process.give(15)
    number = process.process.pid
    end([process])
    assert not os.path.exists(f"/proc/{number}")


PARENT = """
import os, sys, time
from interlingua.convert.batch.processes import JobProcess, waiting
from tests.convert.batch.work import double
if __name__ == "__main__":
    process = JobProcess(double, os.open(sys.argv[1], os.O_CREAT | os.O_RDWR))
    process.give(1)
    waiting([process], 60)
    process.take()
    process.give(15)
    print(process.process.pid, flush=True)
    time.sleep(600)
"""


def test_a_process_ends_with_its_parent_however_that_ends(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "lock")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        deadline = time.monotonic() + 60
        while os.path.exists(f"/proc/{child}") and "Z" not in state_of(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not os.path.exists(f"/proc/{child}") or "Z" in state_of(child)


def state_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
