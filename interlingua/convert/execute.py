"""Carry out a plan: every tensor streamed into its place by two threads, into a folder that nobody sees yet."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from interlingua.convert.kernels import Losses
from interlingua.convert.plan import Output, Plan, Step
from interlingua.convert.stream import Readers, Tell, write_step
from interlingua.formats import registry
from interlingua.formats.base import Writer, create, output_error, write_at
from interlingua.formats.plain_files import PlainFileWriter

THREADS = 2
"""Tensors on their way at a time: one computes while the other waits for the system."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What narrowing lost of one tensor."""

    name: str
    elements: int
    losses: Losses


class _StoppedError(Exception):
    """Another thread has failed; this one's work is of no use any more."""


def execute(
    plan: Plan, readers: Readers, folder: Path, progress: Callable[[int], None] | None = None
) -> tuple[Lost, ...]:
    """Write every file of a plan below ``folder``.

    Args:
        plan: what to do.
        readers: origin of pieces -> reader.
        folder: an empty folder, of no interest to anybody until this returns.
        progress: told the number of bytes each time some are done, from several threads.

    Returns:
        What narrowing casts lost, for the tensors of which they lost something.

    Raises:
        FormatError: the source is damaged.
        OutputError: the output cannot be written.
    """
    stop = threading.Event()

    def tell(count: int) -> None:
        if stop.is_set():
            raise _StoppedError
        if progress is not None:
            progress(count)

    for text in plan.texts:
        _write_text(folder / text.path, text.content)
    lost: list[Lost] = []
    for output in plan.outputs:
        path = folder / output.path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _open_writer(output, path) as writer:
                lost += _stream(output, writer, readers, stop, tell)
                writer.finish()
        except OSError as error:
            raise output_error(error, path) from error
    return tuple(lost)


def _stream(output: Output, writer: Writer, readers: Readers, stop: threading.Event, tell: Tell) -> list[Lost]:
    """Write an output's tensors, the largest first so that the last ones to finish are short."""
    steps = sorted(output.steps, key=lambda step: -step.target.nbytes)

    def work(step: Step) -> Lost:
        with writer.slot(step.target.name) as slot:
            checksum, losses = write_step(step, readers, slot, writer.checksum, tell)
        writer.seal(step.target.name, checksum)
        return Lost(step.target.name, step.target.elements, losses)

    if len(steps) == 1:
        return [done for done in (work(steps[0]),) if done.losses]
    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(work, step) for step in steps]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            if any(not future.done() or future.exception() for future in futures):
                stop.set()
                pool.shutdown(cancel_futures=True)
    errors = [error for future in futures if not future.cancelled() and (error := future.exception())]
    for error in errors:
        if not isinstance(error, _StoppedError):
            raise error
    return [done for future in futures if (done := future.result()).losses]


def _open_writer(output: Output, path: Path) -> Writer:
    specs = [step.target for step in output.steps]
    if output.container == "file":
        return PlainFileWriter(path, specs)
    module = registry.find(output.container).load()
    return module.open_writer(path, specs, metadata=output.metadata, ties=output.ties)


def _write_text(path: Path, content: str) -> None:
    fd = create(path)
    try:
        write_at(fd, 0, content.encode("utf-8"))
    except OSError as error:
        raise output_error(error, path) from error
    finally:
        os.close(fd)
