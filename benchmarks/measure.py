"""Run commands in turn and account for each as a whole process: wall time, CPU time, peak resident memory."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
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


def run(job: Job) -> Run:
    """Run a job once.

    Raises:
        RuntimeError: it failed, or did not do what it should.
    """
    _delete(job.target)
    started = time.perf_counter()
    process = subprocess.Popen(job.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    error = process.stderr.read().decode() if process.stderr else ""
    if process.returncode != 0 or not job.check():
        raise RuntimeError(f"{job.name} failed ({process.returncode}): {error[-2000:]}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)


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
