"""One task in an interpreter of its own, started from wherever one is: a thread of a daemon, for one.

The standard library's processes refuse to be started by one that is a daemon itself, as workers of others are.
The interpreter ends with whoever started it, however that ends, and clears up what it was writing.
"""

from __future__ import annotations

import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Generic

from interlingua.convert.batch.processes import GRACE, end_with, ending
from interlingua.convert.batch.workers import Answer, Asked, Ended

if TYPE_CHECKING:
    from typing_extensions import Self


class TaskProcess(Generic[Asked, Answer]):
    """A process that carries out one task; also a context manager that ends it.

    Args:
        work: carries out the task; a function at the top of a module, for it is found by its name.
        task: the task.
    """

    def __init__(self, work: Callable[[Asked], Answer], task: Asked) -> None:
        self.task = task
        ours, theirs = socket.socketpair()
        with theirs:
            begin = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({theirs.fileno()})"
            self.process = subprocess.Popen(
                [sys.executable, "-c", begin], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        self._connection = Connection(ours.detach())
        try:
            self._connection.send((work, task))
        except (BrokenPipeError, ConnectionResetError):
            pass  # It is dead, which is heard of when its answer is waited for.
        except BaseException:
            self.end()
            raise

    def wait(self, seconds: float) -> bool:
        """Wait at most some seconds; say whether the task is over."""
        return self._connection.poll(seconds)

    def take(self) -> Ended[Asked, Answer]:
        """Return what became of the task, once it is over."""
        try:
            return Ended(self.task, self._connection.recv())
        except (EOFError, ConnectionResetError, pickle.UnpicklingError):
            return Ended(self.task, None, ending(self.process.wait()))

    def end(self) -> None:
        """End the process, in seconds: it is killed if it does not clear up in time."""
        self.process.terminate()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def serve(descriptor: int) -> None:
    """Carry out the task that comes through a socket: what the process does."""
    with Connection(descriptor) as starter:
        work, task = starter.recv()
        end_with(starter)  # Nothing more is sent: what is to be read from now on is the starter's end.
        answer = work(task)
        # Nothing is left to clear up, and an interpreter that is told to end while it ends says so on standard error.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        starter.send(answer)
