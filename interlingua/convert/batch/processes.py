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
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process, reduction
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any, Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

GRACE = 3.0
"""Seconds that a process has to clear up before it is killed."""


@dataclass(frozen=True, slots=True)
class Ended(Generic[Asked, Answer]):
    """A task that is over.

    Attributes:
        asked: the task.
        answer: what came of it; None where its process died.
        death: how that ended, in words; None where it did not.
    """

    asked: Asked
    answer: Answer | None
    death: str | None = None


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
            return Ended(task, None, _ending(self.process.exitcode))

    @property
    def alive(self) -> bool:
        """Whether it can take another task."""
        return self.process.is_alive()


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
    # Ctrl-C in a terminal reaches every process; the parent alone decides what follows from it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = tasks.recv()
        except (EOFError, OSError):
            return
        tasks.send(work(task))


def _leave(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is None:
        return
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        why = "; the system does that when memory runs out" if -code == signal.SIGKILL else ""
        return f"was ended by {name}{why}"
    return f"ended with exit code {code}"
