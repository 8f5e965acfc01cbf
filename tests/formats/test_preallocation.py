"""Room on the disk is promised before anything is written, where the file system can."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from interlingua.errors import OutputError
from interlingua.formats import preallocation
from interlingua.formats.base import create
from interlingua.formats.preallocation import LARGE, preallocate


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def answers(monkeypatch, *numbers: int) -> list[int]:
    """Have fallocate fail with each number in turn, and then succeed; return the sizes that it is asked for."""
    left, asked = list(numbers), []

    def fallocate(fd: int, mode: int, start: ctypes.c_long, size: ctypes.c_long) -> int:
        asked.append(size.value)
        if left:
            ctypes.set_errno(left.pop(0))
            return -1
        os.ftruncate(fd, size.value)
        return 0

    monkeypatch.setattr(preallocation.ctypes, "CDLL", lambda *_, **__: SimpleNamespace(fallocate=fallocate))
    return asked


@pytest.mark.parametrize("size", [0, 1, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE])
def test_a_file_is_as_long_as_asked_and_reads_as_zeros(fd: int, size: int) -> None:
    preallocate(fd, size)
    assert os.fstat(fd).st_size == size
    assert os.pread(fd, size + 1, 0) == bytes(size)


def test_a_large_file_has_its_room_from_the_start(fd: int) -> None:
    if not preallocation._fallocate(fd, LARGE):
        pytest.skip("the file system promises no room")
    preallocate(fd, 2 * LARGE)
    assert os.fstat(fd).st_blocks * 512 >= 2 * LARGE


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_that_cannot_promise_is_written_to_all_the_same(fd: int, monkeypatch, number: int) -> None:
    asked = answers(monkeypatch, number)
    preallocate(fd, LARGE)
    assert asked == [LARGE]
    assert os.fstat(fd).st_size == LARGE


def test_a_system_without_the_call_does_without(fd: int, monkeypatch) -> None:
    monkeypatch.setattr(preallocation.ctypes, "CDLL", lambda *_, **__: SimpleNamespace())
    preallocate(fd, LARGE)
    assert os.fstat(fd).st_size == LARGE


def test_an_interrupted_call_is_made_again(fd: int, monkeypatch) -> None:
    asked = answers(monkeypatch, errno.EINTR, errno.EINTR)
    preallocate(fd, LARGE)
    assert asked == [LARGE] * 3
    assert os.fstat(fd).st_size == LARGE


@pytest.mark.parametrize("number", sorted(preallocation.IS_FULL))
def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path: Path, monkeypatch, number: int) -> None:
    answers(monkeypatch, number)
    with pytest.raises(OutputError, match=os.strerror(number)):
        create(tmp_path / "full", LARGE)


def test_a_file_beyond_what_a_process_may_write_is_refused(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * LARGE, hard))
    try:
        with pytest.raises(OutputError, match=os.strerror(errno.EFBIG)):
            create(tmp_path / "large", 3 * LARGE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
