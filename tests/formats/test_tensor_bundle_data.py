"""Checked reading of a bundle's data."""

from __future__ import annotations

import random
import threading
import tracemalloc
from pathlib import Path

import pytest
from crc32c import crc32c

from interlingua.errors import FormatError
from interlingua.formats.base import BLOCK, Extent, SourceFile
from interlingua.formats.tensor_bundle_data import Piece, Source, read_swapped


class Counted(SourceFile):
    """A file that counts the bytes read of it."""

    read = 0

    def read_into(self, offset: int, view: memoryview) -> None:
        self.read += len(view)
        super().read_into(offset, view)


@pytest.fixture
def file(tmp_path: Path) -> Counted:
    path = tmp_path / "data"
    path.write_bytes(random.Random(1).randbytes(3 * BLOCK + 17))
    return Counted(path)


def whole(file: SourceFile) -> bytes:
    return file.path.read_bytes()


def piece(file: SourceFile, offset: int = 0, nbytes: int | None = None, wrong: int = 0) -> Piece:
    data = whole(file)[offset:][:nbytes]
    return Piece(Extent(file, offset, len(data)), crc32c(data) ^ wrong, "x")


def test_reading_front_to_back_reads_every_byte_once(file: Counted) -> None:
    one = piece(file)
    out = bytearray(file.size)
    for start in range(0, file.size, 1000):
        one.read_into(start, memoryview(out)[start : start + 1000])
    assert out == whole(file)
    assert file.read == file.size


def test_reading_in_another_order_reads_it_all_once_more_and_not_again(file: Counted) -> None:
    one = piece(file)
    block = memoryview(bytearray(100))
    for start in (500, 100, 0, 500, 100, 200, 300, 0, 0):
        one.read_into(start, block)
        assert block == whole(file)[start : start + 100]
    assert file.read == file.size + 900


def test_checking_a_large_piece_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as out:
        out.truncate(64 << 20)
    crc = 0
    for _ in range(64):
        crc = crc32c(bytes(1 << 20), crc)
    large = Piece(Extent(SourceFile(path), 0, 64 << 20), crc, "x")
    tracemalloc.start()
    large.read_into(5, memoryview(bytearray(5)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_wrong_data_is_never_read_to_its_end(file: Counted) -> None:
    wrong = piece(file, wrong=1)
    wrong.read_into(0, memoryview(bytearray(file.size - 1)))
    with pytest.raises(FormatError, match="'x' does not match its checksum"):
        wrong.read_into(file.size - 1, memoryview(bytearray(1)))
    with pytest.raises(FormatError, match="'x' does not match its checksum") as caught:
        piece(file, 5, 10, wrong=1).read_into(3, memoryview(bytearray(1)))
    assert (caught.value.path, caught.value.offset) == (file.path, 5)


def test_pieces_are_joined_wherever_the_blocks_fall(file: Counted) -> None:
    sizes = (1, 7, 100, 1000)
    starts = (0, 1, 8, 108)
    offsets = (5000, 3, 2000, 700)
    data = whole(file)
    expected = b"".join(data[offset : offset + size] for offset, size in zip(offsets, sizes, strict=True))
    for step in (1, 3, 50, 2000):
        source = Source(tuple(piece(file, offset, size) for offset, size in zip(offsets, sizes, strict=True)), starts)
        out = memoryview(bytearray(len(expected)))
        for start in range(0, len(expected), step):
            source.read_into(start, out[start : start + step])
        assert out == expected


def test_words_are_turned_round_from_any_byte(file: Counted) -> None:
    data = whole(file)[:64]
    for word in (2, 4, 8):
        expected = b"".join(data[at : at + word][::-1] for at in range(0, 64, word))
        source = Source((piece(file, 0, 64),))
        for start in range(64):
            for stop in range(start, 65):
                out = memoryview(bytearray(stop - start))
                read_swapped(source, word, start, out)
                assert out == expected[start:stop]


def test_threads_that_read_one_piece_find_it_whole(file: Counted) -> None:
    data = whole(file)
    one = piece(file)
    failures: list[object] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            start = rng.choice((0, rng.randrange(file.size)))
            out = memoryview(bytearray(min(rng.randrange(200_000), file.size - start)))
            try:
                one.read_into(start, out)
            except FormatError as error:
                failures.append(error)
            if out != data[start : start + len(out)]:
                failures.append(start)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
