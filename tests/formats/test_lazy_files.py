from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from interlingua.errors import FormatError
from interlingua.formats.base import Extent, SourceFile, read_extents
from interlingua.formats.lazy_files import BLOCK, REQUEST, LazyFile, any_lazy, merged


class Far:
    """Content that is elsewhere, with a note of what was asked for."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []
        self.failures = 0

    def fetch(self, start: int, nbytes: int) -> bytes:
        self.asked.append((start, nbytes))
        if self.failures:
            self.failures -= 1
            raise FormatError("is gone", path="far")
        return self.content[start : start + nbytes]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def far() -> Far:
    return Far(random.Random(7).randbytes(3 * REQUEST + 12345))


@pytest.fixture
def lazy(tmp_path: Path, far: Far, pool: ThreadPoolExecutor) -> Iterator[LazyFile]:
    path = tmp_path / "file"
    path.touch()
    file = LazyFile(path, len(far.content), far.fetch, pool)
    yield file
    file.close()


def test_every_read_is_of_the_content(lazy: LazyFile, far: Far) -> None:
    chance = random.Random(1)
    with SourceFile(lazy.path) as file:
        assert file.size == len(far.content)
        for _ in range(200):
            start = chance.randrange(file.size)
            nbytes = chance.randrange(min(70_000, file.size - start) + 1)
            assert file.read_at(start, nbytes, "a part") == far.content[start : start + nbytes]
            view = bytearray(nbytes)
            file.read_into(start, memoryview(view))
            assert view == far.content[start : start + nbytes]


def test_only_what_is_read_is_fetched(lazy: LazyFile, far: Far) -> None:
    with SourceFile(lazy.path) as file:
        file.read_at(0, 8, "a header")
        file.read_at(file.size - 8, 8, "a footer")
        assert lazy.fetched <= 2 * BLOCK
        assert lazy.missing() >= file.size - 2 * BLOCK
        file.read_at(4, 100, "the header once more")
    assert len(far.asked) == 2


def test_reads_that_follow_upon_each_other_take_few_requests(lazy: LazyFile, far: Far) -> None:
    with SourceFile(lazy.path) as file:
        for start in range(0, file.size, 1000):
            file.read_at(start, min(1000, file.size - start), "a part")
    assert lazy.fetched == len(far.content)
    assert len(far.asked) < 20


def test_a_tensor_is_fetched_to_its_end_and_no_further(lazy: LazyFile, far: Far) -> None:
    with SourceFile(lazy.path) as file:
        extent = Extent(file, BLOCK * 3 + 5, REQUEST + 77)
        view = bytearray(1000)
        read_extents([extent], 0, memoryview(view))
        assert view == far.content[extent.offset : extent.offset + 1000]
        assert extent.nbytes <= lazy.fetched <= extent.nbytes + 2 * BLOCK
        read_extents([extent], REQUEST, memoryview(bytearray(77)))
    assert sum(nbytes for _, nbytes in far.asked) == lazy.fetched


def test_what_is_read_past_the_reader_is_there_once_it_was_asked_for(lazy: LazyFile, far: Far) -> None:
    with SourceFile(lazy.path) as file, file.held() as fd:
        file.fetch(12345, 2 * REQUEST)
        assert os.pread(fd, 2 * REQUEST, 12345) == far.content[12345 : 12345 + 2 * REQUEST]
        with pytest.raises(FormatError, match="the file ends at"):
            file.fetch(0, file.size + 1)


def test_no_block_is_fetched_twice_however_many_read_it(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    far = Far(os.urandom(REQUEST + 5))
    opened = threading.Event()

    def fetch(start: int, nbytes: int) -> bytes:
        opened.wait()
        return far.fetch(start, nbytes)

    path = tmp_path / "file"
    path.touch()
    lazy = LazyFile(path, len(far.content), fetch, pool)
    readers = [threading.Thread(target=lazy.have, args=(0, REQUEST + 5)) for _ in range(6)]
    for reader in readers:
        reader.start()
    opened.set()
    for reader in readers:
        reader.join()
    assert path.read_bytes() == far.content
    assert sum(nbytes for _, nbytes in far.asked) == len(far.content)
    lazy.close()


def test_what_could_not_be_fetched_is_tried_again_by_the_next_who_asks(lazy: LazyFile, far: Far) -> None:
    far.failures = 1
    with SourceFile(lazy.path) as file:
        with pytest.raises(FormatError, match="far: is gone"):
            file.read_at(0, 10, "a part")
        assert file.read_at(0, 10, "a part") == far.content[:10]


def test_too_few_bytes_are_no_content(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    path = tmp_path / "file"
    path.touch()
    lazy = LazyFile(path, 100, lambda start, nbytes: bytes(nbytes - 1), pool)
    with SourceFile(path) as file, pytest.raises(FormatError, match="99 bytes came where 100 were asked for"):
        file.read_at(0, 10, "a part")
    lazy.close()


def test_a_file_that_is_closed_is_an_ordinary_one(lazy: LazyFile, far: Far) -> None:
    with SourceFile(lazy.path) as file:
        file.read_at(0, 10, "a part")
    lazy.close()
    lazy.close()
    assert not any_lazy()
    count = len(far.asked)
    with SourceFile(lazy.path) as file:
        assert file.lazy is None
        file.read_at(REQUEST, 10, "a part")
    assert len(far.asked) == count


def test_a_link_to_a_lazy_file_is_it(tmp_path: Path, lazy: LazyFile, far: Far) -> None:
    (tmp_path / "link").symlink_to(lazy.path)
    with SourceFile(tmp_path / "link") as file:
        assert file.read_at(5, 10, "a part") == far.content[5:15]


def test_the_whole_file_can_be_asked_for(lazy: LazyFile, far: Far) -> None:
    lazy.have_all()
    assert Path(lazy.path).read_bytes() == far.content
    assert lazy.missing() == 0


def test_runs_that_nearly_touch_become_one() -> None:
    assert list(merged([(90, 10), (0, 50), (60, 10), (55, 2)], gap=10)) == [(0, 70), (90, 10)]
    assert list(merged([])) == []
