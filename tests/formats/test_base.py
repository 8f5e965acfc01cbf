"""The faces of readers and writers, and files whose size is never trusted."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.errors import FormatError, OutputError
from interlingua.formats import base
from interlingua.formats.base import (
    Extent,
    Reader,
    SourceFile,
    TensorSpec,
    blocks,
    checked_shape,
    checksum_of,
    create,
    output_error,
    read_extents,
    write_at,
)
from interlingua.formats.dtypes import DTYPES


def source(folder: Path, data: bytes) -> SourceFile:
    path = folder / "data"
    path.write_bytes(data)
    return SourceFile(path)


@given(st.integers(0, 5000), st.integers(1, 700))
def test_blocks_cover_everything_once_in_order(nbytes: int, size: int) -> None:
    covered = [place for start, length in blocks(nbytes, size) for place in range(start, start + length)]
    assert covered == list(range(nbytes))
    assert all(0 < length <= size for _, length in blocks(nbytes, size))


@pytest.mark.parametrize(
    ("name", "shape", "nbytes"),
    [
        ("float32", (2, 3), 24),
        ("float32", (), 4),
        ("float64", (0, 7), 0),
        ("complex128", (2,), 32),
        ("float4_e2m1fn", (3,), 2),
        ("float4_e2m1fn", (4,), 2),
        ("float6_e2m3fn", (4,), 3),
        ("bool", (5,), 5),
    ],
)
def test_bytes_of_a_tensor(name: str, shape: tuple[int, ...], nbytes: int) -> None:
    assert TensorSpec("a", DTYPES[name], shape).nbytes == nbytes


def test_bytes_of_a_tensor_of_varying_elements_are_those_of_its_payload() -> None:
    assert TensorSpec("a", DTYPES["string"], (3,), encoded=17).nbytes == 17


def test_a_read_beyond_the_end_names_file_and_offset(tmp_path: Path) -> None:
    with source(tmp_path, b"0123456789") as file:
        assert file.read_at(2, 8, "x") == b"23456789"
        for offset, nbytes in [(2, 9), (11, 0), (-1, 1), (0, -1), (1 << 70, 1), (0, 1 << 70)]:
            with pytest.raises(FormatError, match="a length claims bytes") as caught:
                file.read_at(offset, nbytes, "a length")
            assert caught.value.path == file.path
            assert caught.value.offset is not None
            assert 0 <= caught.value.offset <= 10


def test_a_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    with source(tmp_path, b"0123456789") as file:
        os.truncate(file.path, 4)
        with pytest.raises(FormatError, match="became shorter"):
            file.read_at(2, 6, "x")
        with pytest.raises(FormatError, match="became shorter"):
            file.read_into(2, memoryview(bytearray(6)))


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(FormatError, match="is not a regular file"):
            SourceFile(path)
    for name in ("nothing", "a" * 300, "nul\0"):
        with pytest.raises(FormatError, match="cannot be opened"):
            SourceFile(tmp_path / name)


def test_short_reads_and_writes_of_the_system_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pread, preadv, pwrite = os.pread, os.preadv, os.pwrite
    monkeypatch.setattr(os, "pread", lambda fd, count, offset: pread(fd, min(count, 3), offset))
    monkeypatch.setattr(os, "preadv", lambda fd, views, offset: preadv(fd, [views[0][:3]], offset))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:3], offset))
    fd = create(tmp_path / "out")
    write_at(fd, 2, bytearray(b"0123456789"))
    os.close(fd)
    with SourceFile(tmp_path / "out") as file:
        assert file.read_at(0, 12, "x") == b"\0\x000123456789"
        view = bytearray(10)
        file.read_into(2, memoryview(view))
        assert view == b"0123456789"


def test_a_write_that_makes_no_progress_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    fd = create(tmp_path / "out")
    with pytest.raises(OSError, match="nothing was written"):
        write_at(fd, 0, b"1")
    os.close(fd)


@given(st.binary(max_size=60), st.data())
def test_extents_read_as_their_concatenation(tmp_path_factory, data: bytes, draw: st.DataObject) -> None:
    with source(tmp_path_factory.mktemp("e"), data) as file:
        place = st.integers(0, len(data))
        runs = draw.draw(st.lists(st.tuples(place, place).map(sorted), max_size=6))
        joined = b"".join(data[start:end] for start, end in runs)
        extents = [Extent(file, start, end - start) for start, end in runs]
        start, end = sorted(draw.draw(st.tuples(st.integers(0, len(joined)), st.integers(0, len(joined)))))
        view = bytearray(end - start)
        read_extents(extents, start, memoryview(view))
        assert view == joined[start:end]
        with pytest.raises(ValueError, match="more bytes than"):
            read_extents(extents, start, memoryview(bytearray(len(joined) - start + 1)))


@pytest.mark.parametrize(
    "dims",
    [
        [-1],
        [2, -3],
        [1.0],
        [True],
        ["2"],
        [None],
        [[2]],
        [1] * 33,
        [1 << 63, 0],
        [0, 1 << 62, 2],
        [0, 10**4000],
        [10**4000] * 3,
    ],
    ids=lambda dims: str(dims)[:20],
)
def test_an_impossible_shape_is_refused(dims: list[object]) -> None:
    with pytest.raises(FormatError):
        checked_shape(dims, DTYPES["uint8"], 1 << 62, "'a'", Path("file"))


@pytest.mark.parametrize("dims", [[3], [1 << 62, 1 << 62], [(1 << 63) - 1] * 32])
def test_a_shape_larger_than_the_file_is_refused(dims: list[int]) -> None:
    with pytest.raises(FormatError, match="only 2 are there"):
        checked_shape(dims, DTYPES["uint8"], 2, "'a'", Path("file"))


@pytest.mark.parametrize("dims", [[], [2], [1, 2, 1], [0, 1 << 62], [1] * 32])
def test_a_shape_that_fits_is_a_tuple(dims: list[int]) -> None:
    assert checked_shape(dims, DTYPES["uint8"], 2, "'a'", Path("file")) == tuple(dims)


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_checksums_continue(one: bytes, other: bytes) -> None:
    for kind in ("crc32", "crc32c"):
        assert checksum_of(kind, other, checksum_of(kind, one) or 0) == checksum_of(kind, one + other)
    assert checksum_of("crc32", one) == zlib.crc32(one)
    assert checksum_of(None, one) is None


def test_checksums_are_those_of_the_standards() -> None:
    assert checksum_of("crc32", b"123456789") == 0xCBF43926
    assert checksum_of("crc32c", b"123456789") == 0xE3069283
    with pytest.raises(ValueError, match="md5"):
        checksum_of("md5", b"")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_mode_of_the_umask_and_the_size_asked_for(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        os.close(create(tmp_path / "out", 12))
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == mode
    assert (tmp_path / "out").stat().st_size == 12


def test_a_new_file_takes_nobodys_place(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("there", "link", "no/folder"):
        with pytest.raises(OutputError, match="cannot be created"):
            create(tmp_path / name)
    assert (tmp_path / "there").read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_is_told_with_what_to_do() -> None:
    assert "Free some space" in str(output_error(OSError(errno.ENOSPC, "No space left on device"), Path("out")))
    assert "Free some space" not in str(output_error(OSError(errno.EACCES, "Permission denied"), Path("out")))


class Computed(Reader):
    """A reader whose only tensor is computed."""

    container = "computed"

    def __init__(self) -> None:
        super().__init__("nowhere")
        self.tensors["a"] = TensorSpec("a", DTYPES["int16"], (2, 2))

    def extents(self, name: str) -> None:
        return None

    def read_into(self, name: str, start: int, view: memoryview) -> None:
        view[:] = np.array([[1, 2], [3, 4]], "<i2").tobytes()[start : start + len(view)]

    def close(self) -> None:
        pass


def test_a_reader_gives_arrays_too() -> None:
    with Computed() as reader:
        assert reader.read("a").tolist() == [[1, 2], [3, 4]]
        assert reader.read("a").dtype == np.int16
        with pytest.raises(KeyError):
            reader.read("b")
        assert reader.expected_checksum("a") is None


def test_a_reader_without_extents_has_to_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Computed, "read_into")
    with pytest.raises(NotImplementedError, match="Computed must compute 'a'"):
        Computed().read("a")


def test_a_block_divides_into_every_element() -> None:
    assert all(base.BLOCK % dtype.itemsize == 0 for dtype in DTYPES.values())


def test_a_file_that_changed_since_it_was_opened_is_refused(tmp_path: Path) -> None:
    with source(tmp_path, b"0123456789") as file:
        os.utime(tmp_path / "data", ns=(0, 0))
        file.stamp = base.Stamp.of(os.stat(tmp_path / "data"))
        assert file.read_at(2, 3, "it") == b"234"
        (tmp_path / "data").write_bytes(b"9876543210")
        for read in (lambda: file.read_at(2, 3, "it"), lambda: file.read_into(0, memoryview(bytearray(4)))):
            with pytest.raises(FormatError, match="was changed while it was read"):
                read()


def test_what_was_written_is_read_back_whole_or_not_at_all(tmp_path: Path) -> None:
    fd = create(tmp_path / "data", 10)
    try:
        write_at(fd, 0, b"0123456789")
        assert base.read_own(fd, 3, 4) == b"3456"
        with pytest.raises(OSError, match="became shorter"):
            base.read_own(fd, 8, 4)
    finally:
        os.close(fd)
