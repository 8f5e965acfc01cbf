"""Local files of which no byte is there before it is asked for: how readers of files read what is elsewhere.

Such a file is sparse: it has its size from the beginning, and its content comes block by block from whoever can
fetch it. It is known by its device and inode, so that every ``SourceFile`` that opens it, by whatever path, finds it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from interlingua.errors import FormatError

if TYPE_CHECKING:
    from concurrent.futures import Executor

Fetch = Callable[[int, int], bytes]
"""Returns ``nbytes`` bytes from ``start`` of the whole; called from several threads at once."""

BLOCK = 16 << 10
"""Bytes of which it is known whether they are there: little enough for the headers of many tensors."""

REQUEST = 4 << 20
"""Bytes fetched at a time at most: the time of a request is then mostly that of its bytes."""

WINDOW = 8 * REQUEST
"""Bytes fetched ahead of a read at most, by several requests at once."""

_MISSING, _COMING, _THERE = 0, 1, 2

_files: dict[tuple[int, int], LazyFile] = {}


class LazyFile:
    """A file that is registered until it is closed.

    Args:
        path: an existing file, empty as yet.
        size: bytes it is to have.
        fetch: where they come from.
        pool: makes several requests at once.

    Attributes:
        fetched: bytes that have come so far.

    Raises:
        OSError: the file cannot be opened, or not be that long.
    """

    def __init__(self, path: str | os.PathLike[str], size: int, fetch: Fetch, pool: Executor) -> None:
        self.path = os.fspath(path)
        self.size = size
        self.fetched = 0
        self._fetch = fetch
        self._pool = pool
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.ftruncate(self._fd, size)
            status = os.fstat(self._fd)
        except BaseException:
            os.close(self._fd)
            raise
        self._blocks = bytearray(-(-size // BLOCK))
        self._changed = threading.Condition()
        self._next = -1
        self._ahead = 1
        self._key = (status.st_dev, status.st_ino)
        _files[self._key] = self

    def have(self, offset: int, nbytes: int) -> None:
        """Return when these bytes, which lie within the file, are there.

        Raises:
            FormatError: they cannot be fetched, or not be kept.
        """
        if nbytes <= 0:
            return
        first, last = offset // BLOCK, -(-(offset + nbytes) // BLOCK)
        while True:
            with self._changed:
                runs = list(self._missing(first, last))
                if not runs and self._blocks.find(_COMING, first, last) < 0:
                    return
                if not runs:
                    self._changed.wait()  # Somebody else fetches them; if that fails, this one tries.
                    continue
                for start, end in runs:
                    self._mark(start, end, _COMING)
            self._bring(runs)

    def read_ahead(self, offset: int, nbytes: int) -> None:
        """As ``have``, and more where reads follow upon each other: each time twice as much."""
        if nbytes <= 0:
            return
        with self._changed:
            first, last = offset // BLOCK, -(-(offset + nbytes) // BLOCK)
            missing = self._blocks.find(_MISSING, first, last)
            if missing >= 0:
                self._ahead = min(REQUEST // BLOCK, 2 * self._ahead) if missing == self._next else 1
                self._next = max(last, missing + self._ahead)
                nbytes = max(nbytes, min(self.size, self._next * BLOCK) - offset)
        self.have(offset, nbytes)

    def have_run(self, offset: int, nbytes: int, known: int) -> None:
        """As ``have``; where something is missing, with what follows of the ``known`` bytes that will be read."""
        first, last = offset // BLOCK, -(-(offset + nbytes) // BLOCK)
        if self._blocks.count(_THERE, first, last) < last - first:
            self.have(offset, max(nbytes, min(known, WINDOW)))

    def have_all(self) -> None:
        """Return when the whole file is there.

        Raises:
            FormatError: as ``have``.
        """
        for start in range(0, self.size, WINDOW):
            self.have(start, min(WINDOW, self.size - start))

    def missing(self) -> int:
        """Return how many bytes are not there yet, in whole blocks."""
        return (len(self._blocks) - self._blocks.count(_THERE)) * BLOCK

    def close(self) -> None:
        """Forget the file; what is there stays, until somebody removes it."""
        if _files.get(self._key) is self:
            del _files[self._key]
        with self._changed:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _missing(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield runs (first block, block behind the last) of what nobody has fetched, of a request's length at most."""
        most = REQUEST // BLOCK
        start = self._blocks.find(_MISSING, first, last)
        while start >= 0:
            end = start
            while end < last and end - start < most and self._blocks[end] == _MISSING:
                end += 1
            yield start, end
            start = self._blocks.find(_MISSING, end, last)

    def _mark(self, start: int, end: int, state: int) -> None:
        self._blocks[start:end] = bytes([state]) * (end - start)

    def _bring(self, runs: list[tuple[int, int]]) -> None:
        if len(runs) == 1:
            self._bring_run(*runs[0])
            return
        from concurrent.futures import wait

        waiting = [self._pool.submit(self._bring_run, start, end) for start, end in runs]
        wait(waiting)
        for future in waiting:
            future.result()

    def _bring_run(self, start: int, end: int) -> None:
        state = _MISSING
        try:
            self._keep(start * BLOCK, min(end * BLOCK, self.size) - start * BLOCK)
            state = _THERE
        finally:
            with self._changed:
                self._mark(start, end, state)
                self._changed.notify_all()

    def _keep(self, offset: int, nbytes: int) -> None:
        data = self._fetch(offset, nbytes)
        if len(data) != nbytes:
            problem = f"{len(data)} bytes came where {nbytes} were asked for"
            raise FormatError(problem, path=self.path, offset=offset, hint="Try again.")
        try:
            with self._changed:  # So that the descriptor is not closed meanwhile, and another file's.
                done = 0
                while done < nbytes:
                    done += os.pwrite(self._fd, memoryview(data)[done:], offset + done)
                self.fetched += nbytes
        except OSError as error:
            raise FormatError(
                f"cannot be kept in {os.path.dirname(self.path)}: {error.strerror}",
                path=self.path,
                hint="Set TMPDIR to a place with more room.",
            ) from error


def any_lazy() -> bool:
    """Say whether there is any lazy file."""
    return bool(_files)


def find_lazy(status: os.stat_result) -> LazyFile | None:
    """Return the lazy file that a file is."""
    return _files.get((status.st_dev, status.st_ino)) if _files else None


def merged(ranges: Iterable[tuple[int, int]], gap: int = BLOCK) -> Iterator[tuple[int, int]]:
    """Yield (offset, bytes) of runs that cover the given ones, in order, those ``gap`` bytes apart at most as one."""
    run: tuple[int, int] | None = None
    for offset, nbytes in sorted(ranges):
        if run is not None and offset <= sum(run) + gap:
            run = run[0], max(sum(run), offset + nbytes) - run[0]
            continue
        if run is not None:
            yield run
        run = offset, nbytes
    if run is not None:
        yield run
