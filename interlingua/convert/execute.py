"""Carry out a plan: every tensor streamed into its place by two threads, into a folder that nobody sees yet."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from interlingua.convert.kernels import Losses
from interlingua.convert.plan import Output, Plan, Step
from interlingua.convert.stream import Readers, Tell, write_step
from interlingua.formats import registry
from interlingua.formats.base import Writer, create, make_folders, output_error, write_at
from interlingua.formats.dtypes import BFLOAT16, UINT16
from interlingua.formats.plain_files import PlainFileWriter

THREADS = 2
"""Tensors on their way at a time: one computes while the other waits for the system."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What narrowing lost of one tensor."""

    name: str
    elements: int
    losses: Losses


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a file that keeps its identity when it is renamed: device, inode, and offset in bytes."""

    device: int
    inode: int
    offset: int


def spot(fd: int, offset: int) -> Spot:
    """Return the place at ``offset`` of the file that is open at ``fd``."""
    status = os.fstat(fd)
    return Spot(status.st_dev, status.st_ino, offset)


@dataclass(frozen=True, slots=True)
class Written:
    """What carrying out a plan has put where.

    Attributes:
        lost: what narrowing casts lost, for the tensors of which they lost something.
        places: (output's path, tensor's name) -> where its bytes are, for the tensors whose bytes were read back
            and found equal to the source's.
        files: every file written, by its path in the output's folder, those of the weights first.
    """

    lost: tuple[Lost, ...]
    places: Mapping[tuple[str, str], Spot]
    files: tuple[str, ...]


class _StoppedError(Exception):
    """Another thread has failed; this one's work is of no use any more."""


class _Worker(threading.Thread):
    """A thread that can be waited for again after an interrupt.

    ``join`` cannot, up to Python 3.12: interrupted, it takes a thread for ended that goes on (bpo-45274 and what it
    left, in ``Thread._wait_for_tstate_lock``).
    """

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(name="interlingua-write")
        self._work = work
        self._ended = threading.Event()

    def run(self) -> None:
        try:
            self._work()
        finally:
            self._ended.set()

    def wait(self) -> None:
        """Return once its work has ended, and it has."""
        self._ended.wait()
        self.join()


def execute(
    plan: Plan,
    readers: Readers,
    folder: Path,
    *,
    verify: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Written:
    """Write every file of a plan below ``folder``.

    Args:
        plan: what to do.
        readers: origin of pieces -> reader.
        folder: an empty folder, of no interest to anybody until this returns.
        verify: read back each block of a copy, or of a turned matrix, as soon as it is written, and compare it.
        progress: told the number of bytes each time some are done, from several threads.

    Raises:
        FormatError: the source is damaged.
        OutputError: the output cannot be written.
        CheckError: what was read back is not what was written.
    """
    stop = threading.Event()

    def tell(count: int) -> None:
        if stop.is_set():
            raise _StoppedError
        if progress is not None:
            progress(count)

    for text in plan.texts:
        _write_text(folder, text.path, text.content)
    lost: list[Lost] = []
    places: dict[tuple[str, str], Spot] = {}
    files: list[str] = []
    for output in plan.outputs:
        path = folder / output.path
        try:
            make_folders(folder, output.path)
            with _open_writer(output, path) as writer:
                found, narrowed = _stream(output, writer, readers, verify, stop, tell)
                places |= {(output.path, name): place for name, place in found.items()}
                lost += narrowed
                writer.finish()
                files += [written.relative_to(folder).as_posix() for written in writer.paths]
        except OSError as error:
            raise output_error(error, path) from error
    return Written(tuple(lost), places, (*files, *(text.path for text in plan.texts)))


def _stream(
    output: Output, writer: Writer, readers: Readers, verify: bool, stop: threading.Event, tell: Tell
) -> tuple[dict[str, Spot], list[Lost]]:
    """Write an output's tensors, the largest first so that the last ones to finish are short.

    Returns:
        Where those that were read back are, by name; and what narrowing lost, of those of which it lost something.
    """
    steps = sorted(output.steps, key=lambda step: -step.target.nbytes)
    waiting = iter(steps)
    places: dict[str, Spot] = {}
    lost: dict[str, Lost] = {}
    errors: list[BaseException] = []

    def work(step: Step) -> None:
        name = step.target.name
        with writer.slot(name) as slot:
            checksum, losses = write_step(step, readers, slot, writer.checksum, tell, verify=verify)
            if verify and step.keeps_bits:
                places[name] = spot(slot.fd, slot.offset)
        writer.seal(name, checksum)
        if losses:
            lost[name] = Lost(name, step.target.elements, losses)

    def work_off() -> None:
        try:
            for step in waiting:
                work(step)
        except BaseException as error:
            stop.set()
            if not isinstance(error, _StoppedError):
                errors.append(error)

    # No pool: it makes a future for each tensor, which for thousands of them are megabytes.
    threads = [_Worker(work_off) for _ in steps[:THREADS]]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.wait()
    except BaseException:
        stop.set()
        for thread in threads:
            if thread.ident is not None:  # Not of one that could not be started.
                thread.wait()
        raise
    if errors:
        raise errors[0]
    return places, [lost[step.target.name] for step in steps if step.target.name in lost]


def _open_writer(output: Output, path: Path) -> Writer:
    specs = {step.target.name: step.target for step in output.steps}
    if output.container == "file":
        return PlainFileWriter(path, list(specs.values()))
    if output.bfloat16_as_uint16:
        specs = {n: replace(s, dtype=UINT16) if s.dtype is BFLOAT16 else s for n, s in specs.items()}
    specs |= {tied: replace(specs[owner], name=tied) for tied, owner in output.ties.items()}
    module = registry.find(output.container).load()
    return module.open_writer(path, list(specs.values()), metadata=output.metadata, ties=output.ties)


def _write_text(folder: Path, name: str, content: str) -> None:
    path = folder / name
    try:
        make_folders(folder, name)
        fd = create(path)
        try:
            write_at(fd, 0, content.encode("utf-8"))
        finally:
            os.close(fd)
    except OSError as error:
        raise output_error(error, path) from error
