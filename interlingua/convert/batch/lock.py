"""One batch at a time in a folder: a lock that ends with the process that holds it, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from interlingua.errors import OutputError, printable
from interlingua.formats.base import output_error, write_at

NAME = ".interlingua-batch.lock"
"""The lock's file; it stays, for removing it would let two processes hold two files of one name."""

PATIENCE = 10.0
"""Seconds that are given to what a process that is gone has left running."""


@contextlib.contextmanager
def batch_lock(folder: Path) -> Iterator[int]:
    """Hold the lock of a folder; yields the descriptor that holds it.

    Processes that get a copy of the descriptor hold the lock too: what a killed batch has left running keeps
    the next one out until it has ended.

    Raises:
        OutputError: another batch is at work there, or the file cannot be written.
    """
    path = folder / NAME
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise output_error(error, path) from error
    try:
        _acquire(fd, folder)
        holder = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        try:
            os.ftruncate(fd, 0)
            write_at(fd, 0, json.dumps(holder).encode("utf-8"))
        except OSError as error:
            raise output_error(error, path) from error
        yield fd
    finally:
        os.close(fd)


def _acquire(fd: int, folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words, gone = _holder(fd)
            if not gone or time.monotonic() > deadline:
                raise OutputError(
                    f"{folder}: another batch is at work here: {words}.", hint="Wait for it, or end it first."
                ) from None
            time.sleep(0.05)
        except OSError as error:
            raise output_error(error, folder / NAME) from error
        else:
            return


def _holder(fd: int) -> tuple[str, bool]:
    """Return who holds the lock, in words, and whether that process is gone from this machine."""
    try:
        found = json.loads(os.pread(fd, 1000, 0))
        process, host, since = int(found["process"]), str(found["host"]), str(found["since"])
    except (ValueError, KeyError, TypeError):
        return "a process that has not said who it is", False
    gone = host == socket.gethostname() and not os.path.exists(f"/proc/{process}") and os.path.isdir("/proc/self")
    return f"process {process} on {printable(host, 80)}, since {printable(since, 40)}", gone
