"""What a Dask worker does for a batch: say whether it can take part, and carry out a task at a time in a thread.

A thread cannot be ended, and what a framework leaves behind in a process stays there: each task has an interpreter
of its own, which the thread watches over.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from distributed import Reschedule, Worker, get_worker
from distributed.core import Status

from interlingua.convert.batch.jobs import JobResult
from interlingua.convert.batch.places import elsewhere
from interlingua.convert.batch.provenance import was_written_here
from interlingua.convert.batch.schedule import HEED, Task, Work, clear_remains_of
from interlingua.convert.batch.task_process import TaskProcess

NANOSECONDS = 1_000_000_000
"""Of a second."""

CLIENTS = {
    "s3": ("fsspec", "s3fs"),
    "gs": ("fsspec", "gcsfs"),
    "http": ("fsspec", "aiohttp"),
    "https": ("fsspec", "aiohttp"),
    "hf": ("huggingface_hub",),
}
"""Scheme -> packages that reading and writing its URIs takes; the extra ``remote`` installs them."""

REMEDY = "pip install 'interlingua[remote]' there"

UNDER_WAY: set[str] = set()
"""Keys of the orders that threads of this process are at work on."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that jobs read, by what every machine that has it says of it.

    Attributes:
        path: absolute.
        size: in bytes.
        seconds: when its content last changed; whole, for not every file system keeps more.
    """

    path: str
    size: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Site:
    """What a worker has to share with the batch that it works for.

    Attributes:
        version: this program's.
        python: Python's version: its first two numbers, which decide what its modules do.
        beacon: a file of the batch; other machines see it where they share the file system. Empty where all that
            the jobs read and write is elsewhere, so that nothing need be shared.
        light: what that file says, as nobody else's does.
        sources: the files that the jobs read.
        folders: those that the jobs write into.
        schemes: of the URIs that the jobs read and write.
    """

    version: str
    python: str
    beacon: str
    light: bytes
    sources: tuple[SourceFile, ...]
    folders: tuple[str, ...]
    schemes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """A task as it is sent to a worker.

    Attributes:
        key: by which Dask knows it.
        work: carries it out.
        task: the task; its paths are absolute.
        site: what the worker has to share.
    """

    key: str
    work: Work
    task: Task
    site: Site


@dataclass(frozen=True, slots=True)
class Report:
    """What became of an order.

    Attributes:
        result: of the job; None where nobody could say.
        death: how the process ended then, in words; None where it did not.
    """

    result: JobResult | None
    death: str | None = None


def version() -> str:
    """Return the version of the package that this module has been loaded from, whatever is said to be installed."""
    return str(sys.modules[__name__.partition(".")[0]].__version__)


def python_version() -> str:
    """Return the first two numbers of this Python's version."""
    return ".".join(platform.python_version_tuple()[:2])


def flaw(site: Site) -> str | None:
    """Return why this process cannot work for a batch, as what follows its name; None: it can."""
    if version() != site.version:
        return f"has interlingua {version()}, and the batch is run by {site.version}"
    if python_version() != site.python:
        return f"runs Python {python_version()}, and the batch Python {site.python}"
    lacking = [name for scheme in site.schemes for name in CLIENTS.get(scheme, ()) if not _is_installed(name)]
    if lacking:
        return f"has no module {lacking[0]}, which the jobs' URIs take: {REMEDY}"
    if site.beacon and _content(site.beacon) != site.light:
        return f"does not see {os.path.dirname(site.beacon)}, or sees another folder there than the batch does"
    unseen = next((source.path for source in site.sources if not _same(source)), None)
    if unseen is not None:
        return f"does not see {unseen}, or sees another file there than the batch does"
    closed = next((folder for folder in site.folders if not os.access(folder, os.W_OK | os.X_OK)), None)
    return f"cannot write into {closed}" if closed is not None else None


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def carry_out(order: Order) -> Report:
    """Carry out an order: what Dask calls, in a thread of a worker.

    Raises:
        Reschedule: it was called off, or the worker is closing: this attempt does not count.
    """
    worker = get_worker()
    reason = flaw(order.site)
    if reason is not None:
        return Report(None, f"could not begin: the worker {worker.address} {reason}")
    job = order.task.job
    UNDER_WAY.add(order.key)
    try:
        clear_remains_of(job)  # An attempt on a worker that was lost may have left some.
        with TaskProcess(order.work, _again(order.task)) as process:
            while not process.wait(HEED):
                if _called_off(worker, order.key):
                    raise Reschedule
            ended = process.take()
    finally:
        UNDER_WAY.discard(order.key)
    if ended.death is None:
        return Report(ended.answer)
    clear_remains_of(job)
    return Report(None, f"on the worker {worker.address} {ended.death}")


def under_way(keys: Sequence[str]) -> bool:
    """Say whether a thread of this process is at work on one of some orders."""
    return not UNDER_WAY.isdisjoint(keys)


def _again(task: Task) -> Task:
    """Return the task as it is to be put now: what an attempt has finished before it was lost is replaced."""
    if elsewhere(task.job.target) is not None or not was_written_here(Path(task.job.target)):
        return task
    return replace(task, job=replace(task.job, options=replace(task.job.options, overwrite=True)))


def _called_off(worker: Worker, key: str) -> bool:
    state = worker.state.tasks.get(key)
    return worker.status not in (Status.running, Status.paused) or state is None or state.state == "cancelled"


def _content(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except OSError:
        return None


def _same(source: SourceFile) -> bool:
    try:
        found = os.stat(source.path)
    except OSError:
        return False
    same = (found.st_size, found.st_mtime_ns // NANOSECONDS) == (source.size, source.seconds)
    return same and os.access(source.path, os.R_OK)
