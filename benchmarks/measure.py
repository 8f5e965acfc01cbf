"""Run commands in turn and account for each as a whole process: wall time, CPU time, peak resident memory."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Job:
    """One command to time.

    Attributes:
        name: what the table calls it.
        command: program and arguments.
        target: what it writes, deleted before each run.
        check: says whether the run did what it should.
    """

    name: str
    command: Sequence[str]
    target: Path
    check: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True)
class Run:
    """One run: seconds of wall clock and of processor, and peak resident memory in bytes."""

    wall: float
    cpu: float
    memory: int


@dataclass(frozen=True, slots=True)
class Row:
    """The medians of a job's runs, and the median of its wall times' ratios to the first job's, run by run."""

    name: str
    wall: float
    cpu: float
    memory: int
    ratio: float


LAUNCHER = """
import json, os, sys, time
started = time.perf_counter()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(child, 0)
wall = time.perf_counter() - started
print(json.dumps([os.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10]))
"""
"""Runs a command and accounts for it. A process of its own, and a small one: a child's peak of memory is never
less than what its parent had when it was started."""


def run(job: Job) -> Run:
    """Run a job once.

    Raises:
        RuntimeError: it failed, or did not do what it should.
    """
    _delete(job.target)
    os.sync()  # What an earlier run left to be written must not be written while this one is timed.
    command = [sys.executable, "-I", "-S", "-c", LAUNCHER, *job.command]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, wall, cpu, memory = json.loads(done.stdout)
    if code != 0 or not job.check():
        raise RuntimeError(f"{job.name} failed ({code}): {done.stderr[-2000:]}")
    return Run(wall, cpu, memory)


def in_turn(jobs: Sequence[Job], runs: int) -> list[Row]:
    """Run the jobs A B C A B C ... and return a row for each; one round before is not counted.

    The first job is what the others' wall times are divided by, each by the one of its own round.
    """
    rounds: list[list[Run]] = []
    for number in range(runs + 1):
        done = [run(job) for job in jobs]
        if number:
            rounds.append(done)
    rows = []
    for place, job in enumerate(jobs):
        mine = [done[place] for done in rounds]
        ratios = [done[place].wall / done[0].wall for done in rounds]
        rows.append(
            Row(
                job.name,
                statistics.median(run.wall for run in mine),
                statistics.median(run.cpu for run in mine),
                max(run.memory for run in mine),
                statistics.median(ratios),
            )
        )
    for job in jobs:
        _delete(job.target)
    return rows


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
