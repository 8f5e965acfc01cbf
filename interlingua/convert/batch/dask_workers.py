"""The workers of a Dask scheduler, on this machine or on many, as the ``Workers`` of a batch.

Dask says who is there, sends each task to a worker, and sends it to another where that one is lost, as often as the
scheduler's setting ``allowed-failures`` says. What runs next is the batch's own to decide, so no more tasks are
handed over than there are threads for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Coroutine
from concurrent import futures
from concurrent.futures import Future as Reply
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from interlingua.convert.batch.dask_extra import LOCAL
from interlingua.convert.batch.dask_job import (
    NANOSECONDS,
    Order,
    Report,
    Site,
    SourceFile,
    carry_out,
    flaw,
    python_version,
    under_way,
    version,
)
from interlingua.convert.batch.jobs import DONE, JobResult
from interlingua.convert.batch.lock import NAME as LOCK
from interlingua.convert.batch.places import elsewhere
from interlingua.convert.batch.processes import GRACE
from interlingua.convert.batch.schedule import HEED, Task, Wanted, available_cores, output_parent
from interlingua.convert.batch.workers import Ended
from interlingua.errors import UsageError, printable

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT = 10.0
"""Seconds in which the scheduler has to answer."""

PATIENCE = 60.0
"""Seconds for which a batch waits while no worker or no scheduler is there, and for an output to be seen."""

CENSUS = 1.0
"""Seconds between two questions for the workers that are there."""

SILENT = logging.CRITICAL + 1
"""Level of Dask's log where nothing is to be heard of it."""

UNANSWERED = (OSError, TimeoutError, asyncio.TimeoutError, futures.TimeoutError)
"""How a question ends that nobody answers; the last three are one from Python 3.11 on."""

ATTEMPTS = 4
"""Workers that a job may lose before it fails, where the cluster is the batch's own; Dask's default, too."""


@dataclass(slots=True)
class _UnderWay:
    """A task that was given, and what is known of it."""

    task: Task
    future: Future | None = None
    report: Report | None = None
    since: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether there is a report, and what it speaks of is seen, or will not be."""
        if self.report is None or self.report.result is None:
            return self.report is not None
        return is_seen(self.task, self.report.result) or time.monotonic() - self.since > PATIENCE


class DaskWorkers:
    """Workers of a Dask scheduler.

    Args:
        client: connected to it.
        wanted: what they are hired for.
        site: what each of them has to share with the batch.
        census: of them.
        closing: closes what ``end`` is to close.
    """

    def __init__(self, client: Client, wanted: Wanted, site: Site, census: Census, closing: ExitStack) -> None:
        self._client, self._wanted, self._site, self._census, self._closing = client, wanted, site, census, closing
        self._batch = f"interlingua-{uuid.uuid4().hex}"
        self._given = 0
        self._under_way: dict[str, _UnderWay] = {}
        self._reports: queue.SimpleQueue[tuple[str, Report]] = queue.SimpleQueue()
        self._gone: str | None = None

    @property
    def memory(self) -> int | None:
        return self._census.memory

    @property
    def tasks(self) -> list[Task]:
        return [one.task for one in self._under_way.values()]

    @property
    def room(self) -> int:
        if self._gone is not None:
            return 1  # Whatever is given ends at once.
        threads = self._census.threads
        most = threads if self._wanted.count is None else min(threads, self._wanted.count)
        return most - len(self._under_way)

    def give(self, task: Task) -> None:
        self._given += 1
        key = f"{self._batch}-{self._given}"
        one = self._under_way[key] = _UnderWay(task)
        if self._gone is not None:
            return  # Which its report will say.
        order = Order(key, self._wanted.work, absolute(task), self._site)
        try:
            one.future = self._client.submit(carry_out, order, key=key, pure=False, retries=0)
        except Exception as error:  # The connection was lost a moment ago, whatever that is called.
            self._reports.put((key, _out_of_reach(error)))
        else:
            threading.Thread(target=_follow, args=(key, one.future, self._reports), daemon=True).start()

    def take(self, seconds: float) -> list[Ended[Task, JobResult]]:
        self._gone = self._gone or self._census.take()
        if self._gone is not None:
            return [self._ended(key, Report(None, self._gone)) for key in list(self._under_way)]
        self._collect(seconds)
        over = [(key, one.report) for key, one in self._under_way.items() if one.report is not None and one.is_over]
        return [self._ended(key, report) for key, report in over]

    def end(self) -> None:
        try:
            if self._under_way:
                self._call_off()
        finally:
            self._closing.close()

    def _ended(self, key: str, report: Report) -> Ended[Task, JobResult]:
        one = self._under_way.pop(key)
        if one.future is not None:
            one.future.release()
        if report.result is not None and not is_seen(one.task, report.result):
            report = Report(None, f"has written what is not seen here {PATIENCE:.0f} seconds later")
        return Ended(one.task, report.result, report.death)

    def _collect(self, seconds: float) -> None:
        """Note the reports that have come, waiting for the first."""
        waits = any(one.report is not None for one in self._under_way.values())
        try:
            found = self._reports.get(timeout=HEED if waits else seconds)
            while True:
                if found[0] in self._under_way:
                    one = self._under_way[found[0]]
                    one.report, one.since = found[1], time.monotonic()
                found = self._reports.get_nowait()
        except queue.Empty:
            pass

    def _call_off(self) -> None:
        """Cancel what is under way, and wait until no worker is at it any more; in seconds."""
        keys = list(self._under_way)
        try:
            self._client.cancel([one.future for one in self._under_way.values() if one.future is not None], force=True)
            deadline = time.monotonic() + GRACE + 2.0
            while self._client.status == "running" and time.monotonic() < deadline:
                asked = self._client.run(under_way, keys, asynchronous=True, on_error="ignore")
                if not any(_reply(self._client, asked).result(GRACE).values()):
                    return
                time.sleep(HEED)
        except UNANSWERED:
            pass  # Nobody is there to be asked; workers end what they do when their scheduler is gone.


class Census:
    """How many threads there are, asked for now and then without waiting for the answer."""

    def __init__(self, client: Client) -> None:
        self._address = client.scheduler.address
        self.threads = 0
        self.memory: int | None = None
        self._client = client
        self._reply: Reply[dict[str, Any]] | None = None
        self._asked = 0.0
        self._well = time.monotonic()

    def take(self) -> str | None:
        """Ask where it is time to, and note what has been answered; return why there is no hope left."""
        now = time.monotonic()
        if self._reply is not None and self._reply.done():
            self._note(self._reply)
            self._reply = None
        if self._client.status != "running":
            self.threads = 0
        elif self._reply is None and now - self._asked > CENSUS:
            self._asked, self._reply = now, _reply(self._client, self._client.scheduler.identity(n_workers=-1))
        if self.threads:
            self._well = now
        if now - self._well < PATIENCE:
            return None
        if self._client.status != "running":
            return f"is out of reach: the scheduler {self._address} does not answer any more"
        return f"was lost with its worker, and for {PATIENCE:.0f} seconds no other has come"

    def wait(self, stopped: threading.Event) -> str | None:
        """Wait for the first worker; return why there is no hope for one."""
        hopeless = None
        while hopeless is None and not self.threads and not stopped.is_set():
            hopeless = self.take()
            time.sleep(0.02)
        return hopeless

    def _note(self, reply: Reply[dict[str, Any]]) -> None:
        try:
            workers = list(reply.result()["workers"].values())
        except UNANSWERED:
            return  # The connection is lost; its state says so.
        able = [worker for worker in workers if worker["status"] in ("running", "paused")]
        self.threads = sum(int(worker["nthreads"]) for worker in able)
        limits = [int(worker["memory_limit"] or 0) for worker in able]
        self.memory = sum(limits) if all(limits) and limits else None


def hire_dask(address: str, wanted: Wanted) -> DaskWorkers:
    """Return the workers of a scheduler, each of which can do what is wanted.

    Args:
        address: the scheduler's (``tcp://host:port``, ``tls://host:port``), or ``LOCAL``.
        wanted: what they are hired for.

    Raises:
        UsageError: the scheduler does not answer, has no workers, or one of them is not fit.
    """
    from distributed.utils import silence_logging_cmgr

    site = site_of(wanted)
    with ExitStack() as stack:
        # Standard error is this program's: what matters of what Dask says is in the results.
        stack.enter_context(silence_logging_cmgr(SILENT))
        client = _own_cluster(wanted.count or available_cores(), stack) if address == LOCAL else _client(address, stack)
        census = Census(client)
        if census.wait(wanted.stopped) is not None:
            raise UsageError(
                f"The scheduler {address} has no workers, and none has come in {PATIENCE:.0f} seconds.",
                hint="Start some, and then the batch.",
            )
        if not wanted.stopped.is_set():
            _vet(client, site)
        return DaskWorkers(client, wanted, site, census, stack.pop_all())


def _client(address: str, stack: ExitStack) -> Client:
    from distributed import Client

    try:
        # An address of TLS takes its certificates from Dask's configuration.
        client = Client(address, timeout=CONNECT, set_as_default=False)
    except (*UNANSWERED, ValueError, TypeError, RuntimeError, ImportError) as error:
        raise UsageError(
            f"The scheduler {printable(address, 200)} does not answer: {printable(str(error), 300)}.",
            hint="Is it running? It is tcp://HOST:PORT, or tls://HOST:PORT with certificates in Dask's configuration.",
        ) from error
    stack.callback(client.close, CONNECT)
    return client


def _own_cluster(count: int, stack: ExitStack) -> Client:
    """Return the client of a cluster of this machine: as many worker processes as there are jobs at a time."""
    import dask
    from distributed import Client, LocalCluster

    # Whoever can send to a scheduler can have anything done: with certificates of its own, nobody else here can.
    scratch = stack.enter_context(TemporaryDirectory(prefix="interlingua-dask-"))
    ours = {
        "distributed.scheduler.allowed-failures": ATTEMPTS - 1,
        "distributed.scheduler.http.routes": [],
        "temporary-directory": scratch,
    }
    try:
        with dask.config.set(ours):
            cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                protocol="tls://",
                security=True,
                memory_limit=0,  # The batch itself minds the memory.
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # Its server runs all the same, with no pages.
                silence_logs=SILENT,
                preload=["interlingua.convert.batch.dask_local"],
                local_directory=scratch,
            )
    except (*UNANSWERED, RuntimeError) as error:
        raise UsageError(
            f"A cluster of this machine cannot be started: {printable(str(error), 300)}.",
            hint="Without --scheduler the jobs run in processes of the batch's own.",
        ) from error
    stack.callback(cluster.close, CONNECT)
    client = Client(cluster, timeout=CONNECT, set_as_default=False)
    stack.callback(client.close, CONNECT)
    return client


def _vet(client: Client, site: Site) -> None:
    """Refuse a worker that cannot work for the batch: jobs would fail there, or read something else.

    Raises:
        UsageError: there is one.
    """
    # Dask itself says which Python a worker runs; only where that is right does it make sense to send it something.
    said = client.get_versions()["workers"]
    found = {address: words for address, each in said.items() if (words := _python_flaw(each["host"]["python"], site))}
    if not found:
        try:
            asked = client.run(flaw, site, asynchronous=True, on_error="return")
            answers = _reply(client, asked).result(PATIENCE)
        except UNANSWERED as error:
            raise UsageError(
                f"Not every worker has said in {PATIENCE:.0f} seconds whether it sees the batch's files.",
                hint="Look into the workers' logs: does a file system hang?",
            ) from error
        found = {address: _words(each) for address, each in answers.items() if each}
    if found:
        address = min(found)
        more = f" {len(found) - 1} more workers are not fit, either." if len(found) > 1 else ""
        raise UsageError(
            f"The worker {address} {printable(found[address], 500)}.{more}",
            hint="Workers need the batch's versions of interlingua and Python, and its files under the same paths.",
        )


def _words(answer: str | Exception) -> str:
    if isinstance(answer, ModuleNotFoundError):
        return f"has no module {answer.name}"
    return answer if isinstance(answer, str) else f"cannot be asked: {type(answer).__name__}: {answer}"


def _python_flaw(python: str, site: Site) -> str | None:
    short = ".".join(python.split(".")[:2])
    return None if short == site.python else f"runs Python {short}, and the batch Python {site.python}"


def site_of(wanted: Wanted) -> Site:
    """Return what workers have to share with a batch."""
    os.fsync(wanted.lock)  # So that other machines read it as it is.
    beacon = wanted.folder.absolute() / LOCK
    sources = [
        SourceFile(os.path.abspath(path), stamp.size, stamp.mtime_ns // NANOSECONDS)
        for path, stamp in wanted.sources.items()
    ]
    folders = tuple(sorted({str(_nearest(path)) for path in wanted.targets}))
    shares = str(beacon) if sources or folders else ""
    found = (version(), python_version(), shares, beacon.read_bytes(), tuple(sources), folders)
    return Site(*found, tuple(sorted(wanted.schemes)))


def _nearest(path: Path) -> Path:
    """Return the innermost folder above a path that is there."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def absolute(task: Task) -> Task:
    """Return a task as it is understood in any folder."""
    job, source = task.job, task.job.options.source
    asked = replace(source, config=_absolute_or_none(source.config), vocabulary=_absolute_or_none(source.vocabulary))
    job = replace(job, options=replace(job.options, source=asked), golden=_absolute_or_none(job.golden))
    return replace(task, job=replace(job, source=_absolute(job.source), target=_absolute(job.target)))


def _absolute(path: str) -> str:
    return path if elsewhere(path) else os.path.abspath(path)


def _absolute_or_none(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else _absolute(os.fspath(path))


def is_seen(task: Task, result: JobResult) -> bool:
    """Say whether the outputs of a job are there: what another machine has written may take a while to be seen."""
    if result.status != DONE or elsewhere(task.job.target):
        return True
    folder = output_parent(task.job)
    try:
        os.listdir(folder)  # Which makes the clients of network file systems look again.
    except OSError:
        return False
    return all(os.path.lexists(folder / name) for name in result.outputs)


def _follow(key: str, future: Future, reports: queue.SimpleQueue[tuple[str, Report]]) -> None:
    """Wait for what becomes of an order, and pass it on: what a thread does."""
    reports.put((key, _report(future)))


def _report(future: Future) -> Report:
    from distributed import KilledWorker

    try:
        report: Report = future.result()
    except KilledWorker as error:
        times, last = error.allowed_failures + 1, error.last_worker.address
        return Report(None, f"was lost with its worker at every attempt ({times} in all), at the last with {last}")
    except Exception as error:  # Whatever Dask raises is about this one job.
        return _out_of_reach(error)
    return report


def _out_of_reach(error: Exception) -> Report:
    return Report(None, f"is out of reach: {type(error).__name__}: {printable(str(error), 300)}")


def _reply(client: Client, asked: Coroutine[Any, Any, Any]) -> Reply[Any]:
    """Have the client's own thread ask something."""
    return asyncio.run_coroutine_threadsafe(asked, client.loop.asyncio_loop)
