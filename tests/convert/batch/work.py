"""What processes of the tests' batches do: functions that a fresh interpreter finds by their names."""

from __future__ import annotations

import atexit
import os
import signal
import time
from pathlib import Path
from typing import Any

from interlingua.convert.batch.digests import file_digest
from interlingua.convert.batch.jobs import DONE, FAILED, CheckResult, Job, JobResult
from interlingua.convert.batch.schedule import Task
from interlingua.convert.commit import Destination, commit, staging
from interlingua.verify import jobs as verify_jobs


def double(number: int) -> int:
    """Return twice the number; 13 kills the process, 14 ends it, 15 takes for ever, after 16 its end takes long."""
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 14:
        os._exit(3)
    if number == 15:
        time.sleep(600)
    if number == 16:
        atexit.register(time.sleep, 2)
    return 2 * number


def copy(task: Task) -> JobResult:
    """Make an output of one file that says what the source says; the source's words may ask for trouble."""
    job, words = task.job, Path(task.job.source, "vocab.txt").read_text()
    log(job.target, "start")
    if "fail" in words:
        return JobResult(job.name, FAILED, (CheckResult("convert", False, "It says fail."),), exit_code=3)
    destination = Destination(Path(job.target), False, job.options.overwrite, False)
    destination.check(("model",))
    with staging(destination) as stage:
        (stage.path / "model").write_text(words)
        if "die" in words:
            os.kill(os.getpid(), signal.SIGKILL)
        if "sleep" in words:
            time.sleep(600)
        if "wait" in words:
            time.sleep(0.3)
        commit(stage, destination, ("model",))
    log(job.target, "end")
    outputs = {"model": file_digest(Path(job.target, "model"))}
    return JobResult(job.name, DONE, (CheckResult("convert", True, "copied"),), 0.1, 5, 0, outputs, "f" * 64)


def held(task: Task) -> JobResult:
    """Carry out a job as it is; the first attempt of all stops in the middle, says who it is, and waits for its end."""
    finish = verify_jobs.write_provenance

    def stop(job: Job, *args: Any, **options: Any) -> dict[str, str]:
        try:
            with open(Path(task.job.target).parent / "held", "x", encoding="utf-8") as file:
                file.write(f"{os.getpid()} {os.getppid()}\n")
        except FileExistsError:
            return finish(job, *args, **options)
        time.sleep(600)
        return {}

    verify_jobs.write_provenance = stop  # This process does nothing else.
    return verify_jobs.run_job(task)


def log(target: str, word: str) -> None:
    """Write down what happens beside the outputs, each line at once."""
    with open(Path(target).parent.parent / "log", "a", encoding="utf-8") as file:
        file.write(f"{word} {Path(target).name}\n")
