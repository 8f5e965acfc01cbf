"""Processes that carry out jobs: one that dies takes its own job with it and nothing else.

Each is a fresh interpreter, told a task at a time. It ends when it is told to, when its parent dies, and by
itself in the middle of a task when it is terminated: what it was writing is then cleared away.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import connection, get_context, parent_process, reduction
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any, Generic

from interlingua.convert.batch.workers import Answer, Asked, Ended

GRACE = 3.0
"""Seconds that a process has to clear up before it is killed."""


class JobProcess(Generic[Asked, Answer]):
    """One process, which carries out a task at a time.

    Args:
        work: carries out a task; a function at the top of a module, for it is found by its name.
        lock: a descriptor that the process holds a copy of for as long as it lives.
    """

    def __init__(self, work: Callable[[Asked], Answer], lock: int) -> None:
        context = get_context("spawn")
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        self.task: Asked | None = None
        self.process: SpawnProcess = context.Process(target=_serve, args=(work, theirs, _Copied(lock)), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, task: Asked) -> None:
        """Hand it a task; a process that is dead is heard of when its answer is waited for."""
        self.task = task
        try:
            self.connection.send(task)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def take(self) -> Ended[Asked, Answer]:
        """Return what became of its task, once ``waiting`` says that it is over."""
        task, self.task = self.task, None
        if task is None:
            raise ValueError("it has no task")
        try:
            return Ended(task, self.connection.recv())
        except (EOFError, ConnectionResetError):
            self.process.join()
            return Ended(task, None, ending(self.process.exitcode))

    @property
    def alive(self) -> bool:
        """Whether it can take another task."""
        return self.process.is_alive()


class ProcessPool(Generic[Asked, Answer]):
    """Processes on this machine, started as they are needed: the ``Workers`` of a batch that names no others.

    Args:
        work: carries out a task; a function at the top of a module.
        lock: a descriptor that every process holds a copy of.
        count: tasks at a time.
    """

    memory = None

    def __init__(self, work: Callable[[Asked], Answer], lock: int, count: int) -> None:
        self._work, self._lock, self._count = work, lock, count
        self._processes: list[JobProcess[Asked, Answer]] = []

    @property
    def tasks(self) -> list[Asked]:
        return [process.task for process in self._processes if process.task is not None]

    @property
    def room(self) -> int:
        return self._count - len(self.tasks)

    def give(self, task: Asked) -> None:
        """Give it to a process that has none; to a new one where there is no such."""
        for dead in [process for process in self._processes if process.task is None and not process.alive]:
            self._processes.remove(dead)
            end([dead])
        process = next((process for process in self._processes if process.task is None), None)
        if process is None:
            process = JobProcess(self._work, self._lock)
            self._processes.append(process)
        process.give(task)

    def take(self, seconds: float) -> list[Ended[Asked, Answer]]:
        return [process.take() for process in waiting(self._processes, seconds)]

    def end(self) -> None:
        end(self._processes)


def waiting(processes: Sequence[JobProcess[Asked, Answer]], seconds: float) -> list[JobProcess[Asked, Answer]]:
    """Return those of the processes whose tasks are over, waiting at most some seconds for the first."""
    # A process that dies closes its end of the connection, which is then ready, too.
    ready = connection.wait([process.connection for process in processes if process.task is not None], seconds)
    return [process for process in processes if process.connection in ready]


def end(processes: Sequence[JobProcess[Asked, Answer]]) -> None:
    """End processes, in seconds: those that do not clear up in time are killed."""
    for one in processes:
        one.process.terminate()
    deadline = time.monotonic() + GRACE
    for one in processes:
        one.process.join(max(0.0, deadline - time.monotonic()))
        if one.process.is_alive():
            one.process.kill()
            one.process.join()
        one.connection.close()
        one.process.close()


class _Copied:
    """A descriptor that becomes a copy of itself in the process that it is sent to."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Callable[[object], int], tuple[object]]:
        return _detached, (reduction.DupFd(self.fd),)


def _detached(copied: Any) -> int:
    return int(copied.detach())


def _serve(work: Callable[[Asked], Answer], tasks: Connection, _lock: object) -> None:
    """Carry out tasks until there are no more: what the process does."""
    parent = parent_process()
    end_with(parent.sentinel if parent is not None else None)
    while True:
        try:
            task = tasks.recv()
        except (EOFError, OSError):
            return
        tasks.send(work(task))


def end_with(alive: int | Connection | None) -> None:
    """Make this process end when it is told to, and as soon as there is something to be read from ``alive``.

    That is what the end of another process makes of a descriptor; None: no other process matters.
    """
    # Ctrl-C in a terminal reaches every process; the batch's own alone decides what follows from it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    if alive is not None:
        threading.Thread(target=_end_after, args=(alive,), daemon=True).start()


def _leave(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)


def _end_after(alive: int | Connection) -> None:
    connection.wait([alive])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


def ending(code: int | None) -> str:
    """Return how a process ended, in words that go on from its name; a signal's number is negative."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        why = "; the system does that when memory runs out" if -code == signal.SIGKILL else ""
        return f"was ended by {name}{why}"
    return f"ended with exit code {code}"
