"""The threads that write an output: what ends them, and what they leave."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from interlingua.convert import execute as executing
from interlingua.convert.conversion import Options, Result, convert
from interlingua.errors import OutputError
from tests.models import hf, hf_config, weights_of, write_hf


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_hf(tmp_path / "source", hf(()), hf_config(heads=()), 37)


def run(source: Path, target: Path, progress: Callable[[int], None] | None = None, dtype: str = "keep") -> Result:
    return convert(source, target, Options(to="uer", sync=False, dtype=dtype), progress=progress)


def total_of(source: Path) -> int:
    return sum(array.nbytes for array in weights_of(source).values())


def writing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "interlingua-write"]


def test_what_stops_one_thread_stops_all_and_is_what_is_raised(source: Path, tmp_path: Path) -> None:
    told: list[int] = []

    def progress(count: int) -> None:
        told.append(count)
        if len(told) == 3:
            raise ZeroDivisionError("of this test")

    with pytest.raises(ZeroDivisionError, match="of this test"):
        run(source, tmp_path / "out", progress)
    assert sum(told) < total_of(source)
    assert len(told) <= 3 + executing.THREADS
    assert not writing()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A process that heeds SIGINT, as one does not that a shell has started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_the_threads_before_it_goes_on(source: Path, tmp_path: Path) -> None:
    told: list[int] = []
    interrupted = threading.Event()

    def progress(count: int) -> None:
        told.append(count)
        if len(told) == 2:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            interrupted.set()
        if interrupted.is_set():
            time.sleep(0.3)

    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "out", progress)
    assert sum(told) < total_of(source)
    assert not writing()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_thread_that_cannot_be_started_ends_the_one_that_was(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def start_one(thread: threading.Thread) -> None:
        if thread.name == "interlingua-write" and started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)
    with pytest.raises(RuntimeError, match="new thread"):
        run(source, tmp_path / "out")
    assert len(started) == 1
    assert not writing()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_losses_are_told_in_one_order_whichever_thread_is_first(tmp_path: Path) -> None:
    arrays = {name: np.full_like(array, 1e6) for name, array in hf(()).items()}
    source = write_hf(tmp_path / "source", arrays, hf_config(heads=()), 37)
    orders = set()
    for number in range(6):
        orders.add(tuple(lost.name for lost in run(source, tmp_path / str(number), dtype="float16").lost))
    assert len(orders) == 1
    assert len(orders.pop()) == len(arrays)


def test_a_disk_that_fails_under_the_folder_is_an_error_of_the_output(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = os.mkdir

    def fail(path: str | Path, *more: object, **named: object) -> None:
        if ".interlingua-" in Path(path).parent.name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        mkdir(path, *more, **named)

    monkeypatch.setattr(os, "mkdir", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        convert(source, tmp_path / "out", Options(to="sentence-transformers", sync=False))
