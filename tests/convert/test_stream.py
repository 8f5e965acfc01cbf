"""Steps carried out in small pieces give what NumPy gives at once."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from interlingua.convert import stream
from interlingua.convert.kernels import Losses
from interlingua.convert.plan import RESIDUE, SOURCE, ZEROS, Piece, Step
from interlingua.convert.stream import cut, read_joined, same_bytes, step_blocks, tiles, write_step
from interlingua.errors import CheckError, FormatError
from interlingua.formats.base import Extent, Reader, Slot, SourceFile, TensorSpec, crc32c
from interlingua.formats.dtypes import BFLOAT16, DTYPES, FLOAT16, FLOAT32, UINT8, numpy_dtype


class Arrays(Reader):
    """Arrays in a file, each in runs of a few bytes; or computed, where ``computes``."""

    container = "arrays"

    def __init__(self, path: Path, arrays: dict[str, np.ndarray], run: int = 0, computes: bool = False) -> None:
        super().__init__(path)
        self.sums: dict[str, tuple[str, int]] = {}
        self.computes = computes
        self.arrays = arrays
        self.places: dict[str, tuple[Extent, ...]] = {}
        data, layout = bytearray(b"front"), {}
        for name, array in arrays.items():
            raw = array.tobytes()
            layout[name] = []
            for start in range(0, len(raw), run or max(1, len(raw))):
                piece = raw[start : start + (run or len(raw))]
                layout[name].append((len(data), len(piece)))
                data += piece + b"gap"
        path.write_bytes(data)
        self.file = SourceFile(path)
        for name, array in arrays.items():
            self.tensors[name] = TensorSpec(name, DTYPES[array.dtype.name], array.shape)
            self.places[name] = tuple(Extent(self.file, offset, nbytes) for offset, nbytes in layout[name])

    def extents(self, name: str) -> tuple[Extent, ...] | None:
        return None if self.computes else self.places[name]

    def read_into(self, name: str, start: int, view: memoryview) -> None:
        if self.computes:
            view[:] = self.arrays[name].tobytes()[start : start + len(view)]
        else:
            super().read_into(name, start, view)

    def expected_checksum(self, name: str) -> tuple[str, int] | None:
        return self.sums.get(name)

    def close(self) -> None:
        self.file.close()


@contextmanager
def small(tile: int = 40, block: int = 16, compare: int = 12, square: int = 4, again: int = 2) -> Iterator[None]:
    """Make every buffer so small that a few dozen elements take many of them."""
    from interlingua.formats.base import blocks

    # Threads keep their buffers, whose size is then another.
    for name in ("buffer", "pair", "scratch"):
        if hasattr(stream._local, name):
            delattr(stream._local, name)
    try:
        with (
            patch.multiple(stream, TILE=tile, BLOCK=block, COMPARE=compare, SQUARE=square, AGAIN=again, COPY=7, SIDE=3),
            patch.object(stream, "blocks", lambda nbytes, size=block: blocks(nbytes, size)),
        ):
            yield
    finally:
        for name in ("buffer", "pair", "scratch"):
            if hasattr(stream._local, name):
                delattr(stream._local, name)


def write(folder: Path, step: Step, readers: dict[str, Reader], checksum: str | None = None, offset: int = 3):
    """Carry out a step; return its bytes, its checksum, its losses and what was told, all written at ``offset``."""
    path = folder / "out"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        os.ftruncate(fd, offset + step.target.nbytes)
        told: list[int] = []
        slot = Slot(fd, offset)
        value, losses = write_step(step, readers, slot, checksum, told.append)
        if step.keeps_bits:
            again = write_step(step, readers, slot, checksum, lambda _: None, verify=True)
            assert again == (value, losses)
    finally:
        os.close(fd)
    data = path.read_bytes()
    assert data[:offset] == bytes(offset)
    assert len(data) == offset + step.target.nbytes
    assert sum(told) == step.target.nbytes
    streamed = b"".join(bytes(block) for block in step_blocks(step, readers))
    assert streamed == data[offset:]
    assert same_bytes(step, readers, step, readers)
    return data[offset:], value, losses


KINDS = ("float32", "float64", "float16", "bfloat16", "uint8", "complex128", "bool")


def random_bits(dtype, shape: tuple[int, ...], seed: int) -> np.ndarray:
    count = int(np.prod(shape, dtype=np.int64))
    if dtype.name == "bool":
        return np.random.default_rng(seed).integers(0, 2, shape).astype(np.bool_)
    return np.frombuffer(np.random.default_rng(seed).bytes(count * dtype.itemsize), numpy_dtype(dtype)).reshape(shape)


SIDES = st.integers(0, 13)


@given(
    st.sampled_from(KINDS),
    SIDES,
    SIDES,
    st.integers(0, 4),
    st.integers(0, 4),
    st.sampled_from([0, 1, 5, 8]),
    st.booleans(),
    st.sampled_from([None, "crc32", "crc32c"]),
)
def test_rows_dropped_and_padded_are_numpys(
    tmp_path_factory, name: str, rows: int, columns: int, drop: int, pad: int, run: int, computes: bool, checksum
) -> None:
    assume(drop <= rows)
    dtype = DTYPES[name]
    table, front = random_bits(dtype, (rows, columns), 1), random_bits(dtype, (pad, columns), 2)
    folder = tmp_path_factory.mktemp("rows")
    source, residue = Arrays(folder / "a", {"x": table}, run, computes), Arrays(folder / "b", {"rows": front}, run)
    row = columns * dtype.itemsize
    kept = Piece(SOURCE, "x", drop * row, (rows - drop) * row)
    target = TensorSpec("y", dtype, (pad + rows - drop, columns))
    for first, expected in (
        (Piece(ZEROS, "y", 0, pad * row), np.zeros_like(front)),
        (Piece(RESIDUE, "rows", 0, pad * row), front),
    ):
        step = Step(target, (first, kept))
        with small():
            data, value, losses = write(folder, step, {SOURCE: source, RESIDUE: residue}, checksum)
        joined = expected.tobytes() + table[drop:].tobytes()
        assert data == joined
        assert not losses
        assert value == (None if checksum is None else zlib.crc32(joined) if checksum == "crc32" else crc32c(joined))


@given(
    st.sampled_from(KINDS), SIDES, SIDES, st.sampled_from([0, 1, 5]), st.booleans(), st.sampled_from([None, "crc32"])
)
@example("float32", 0, 5, 0, False, None)
@example("float32", 5, 0, 0, False, "crc32")
@example("uint8", 13, 13, 5, True, "crc32")
def test_a_matrix_turned_in_tiles_is_numpys(
    tmp_path_factory, name: str, rows: int, columns: int, run: int, computes: bool, checksum
) -> None:
    matrix = random_bits(DTYPES[name], (rows, columns), 3)
    folder = tmp_path_factory.mktemp("turn")
    source = Arrays(folder / "a", {"x": matrix}, run, computes)
    target = TensorSpec("y", DTYPES[name], (columns, rows))
    step = Step(target, (Piece(SOURCE, "x", 0, matrix.nbytes),), transpose=(rows, columns))
    for tile, square in ((40, 4), (16, 1), (64, 100), (1 << 20, 1024)):
        with small(tile=tile, square=square):
            data, value, losses = write(folder, step, {SOURCE: source}, checksum)
        assert data == np.ascontiguousarray(matrix.T).tobytes()
        assert not losses
        assert value == (None if checksum is None else zlib.crc32(data))


@given(
    st.sampled_from(["float32", "float64", "float16", "bfloat16"]),
    st.sampled_from([FLOAT16, BFLOAT16, FLOAT32]),
    SIDES,
    SIDES,
    st.booleans(),
    st.booleans(),
)
def test_a_cast_in_blocks_is_numpys(
    tmp_path_factory, name: str, target_type, rows: int, columns: int, turned: bool, computes: bool
) -> None:
    assume(name != target_type.name)
    matrix = random_bits(DTYPES[name], (rows, columns), 4)
    folder = tmp_path_factory.mktemp("cast")
    source = Arrays(folder / "a", {"x": matrix}, 5, computes)
    target = TensorSpec("y", target_type, (columns, rows) if turned else (rows, columns))
    step = Step(
        target,
        (Piece(SOURCE, "x", 0, matrix.nbytes),),
        transpose=(rows, columns) if turned else None,
        cast_from=DTYPES[name],
    )
    with small():
        data, value, losses = write(folder, step, {SOURCE: source}, "crc32")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = matrix.astype(numpy_dtype(target_type))
        before, after = matrix.astype(np.float64), cast.astype(np.float64)
    assert data == np.ascontiguousarray(cast.T if turned else cast).tobytes()
    assert value == zlib.crc32(data)
    assert losses == Losses(
        int(np.count_nonzero(np.isfinite(before) & np.isinf(after))),
        int(np.count_nonzero((before != 0) & (after == 0))),
    )


def test_rows_padded_and_cast_together_are_numpys(tmp_path: Path) -> None:
    table, front = random_bits(FLOAT32, (5, 7), 1), random_bits(FLOAT32, (2, 7), 2)
    readers = {SOURCE: Arrays(tmp_path / "a", {"x": table}), RESIDUE: Arrays(tmp_path / "b", {"r": front})}
    pieces = (Piece(RESIDUE, "r", 0, front.nbytes), Piece(SOURCE, "x", 0, table.nbytes))
    with small():
        data, _, _ = write(tmp_path, Step(TensorSpec("y", FLOAT16, (7, 7)), pieces, cast_from=FLOAT32), readers)
    with np.errstate(over="ignore", invalid="ignore"):
        assert data == np.concatenate([front, table]).astype(np.float16).tobytes()


@given(
    st.integers(0, 90), st.integers(0, 90), st.sampled_from([1, 2, 4, 8, 16]), st.integers(1, 600), st.integers(1, 40)
)
def test_tiles_cover_a_matrix_exactly_once(rows: int, columns: int, itemsize: int, tile: int, square: int) -> None:
    covered = np.zeros((rows, columns), int)
    with patch.multiple(stream, TILE=tile, SQUARE=square):
        for top, left, height, width in tiles(rows, columns, itemsize):
            assert covered[top : top + height, left : left + width].shape == (height, width)
            covered[top : top + height, left : left + width] += 1
            assert height * width * itemsize <= max(tile, square * itemsize)
    assert (covered == 1).all()


@pytest.mark.parametrize("shape", [(1, 50_000_000), (50_000_000, 1), (30_522, 1024), (4096, 1024), (7, 3)])
def test_no_tile_takes_more_than_its_memory_nor_is_a_sliver(shape: tuple[int, int]) -> None:
    for top, _, height, width in tiles(*shape, 4):
        assert height * width * 4 <= stream.TILE
        assert height >= min(shape[0], stream.SQUARE) or top + height == shape[0]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=6), st.data())
def test_cutting_extents_gives_the_bytes_asked_for(runs: list[tuple[int, int]], draw: st.DataObject) -> None:
    extents = tuple(Extent(None, offset, nbytes) for offset, nbytes in runs)
    places = [offset + step for offset, nbytes in runs for step in range(nbytes)]
    start = draw.draw(st.integers(0, len(places)))
    count = draw.draw(st.integers(0, len(places) - start))
    found = list(cut(extents, start, count))
    assert [e.offset + step for e in found for step in range(e.nbytes)] == places[start : start + count]
    assert all(extent.nbytes for extent in found)


@pytest.mark.parametrize("failing", [None, "no such call", 38, 22, 18, 95])
def test_a_copy_works_with_and_without_the_kernel(tmp_path: Path, monkeypatch, failing) -> None:
    array = random_bits(UINT8, (100,), 5)
    step = Step(TensorSpec("y", UINT8, (100,)), (Piece(SOURCE, "x", 0, 100),))

    def refuse(*_: object) -> int:
        raise OSError(failing, "not here")

    if failing == "no such call":
        monkeypatch.delattr(os, "copy_file_range")
    elif failing is not None:
        monkeypatch.setattr(os, "copy_file_range", refuse)
    with small():
        data, _, _ = write(tmp_path, step, {SOURCE: Arrays(tmp_path / "a", {"x": array}, 9)})
    assert data == array.tobytes()


def test_a_kernel_that_stops_midway_is_helped_out(tmp_path: Path, monkeypatch) -> None:
    array = random_bits(UINT8, (100,), 6)
    copy, calls = os.copy_file_range, []

    def lazy(*args: object) -> int:
        calls.append(args)
        return copy(*args) if len(calls) < 4 else 0

    monkeypatch.setattr(os, "copy_file_range", lazy)
    step = Step(TensorSpec("y", UINT8, (100,)), (Piece(SOURCE, "x", 0, 100),))
    with small():
        data, _, _ = write(tmp_path, step, {SOURCE: Arrays(tmp_path / "a", {"x": array})})
    assert data == array.tobytes()


def test_a_full_disk_during_a_copy_is_an_error(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", full)
    step = Step(TensorSpec("y", UINT8, (9,)), (Piece(SOURCE, "x", 0, 9),))
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, step, {SOURCE: Arrays(tmp_path / "a", {"x": random_bits(UINT8, (9,), 7)})})


def test_a_source_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    source = Arrays(tmp_path / "a", {"x": random_bits(UINT8, (90,), 8)})
    os.truncate(tmp_path / "a", 50)
    step = Step(TensorSpec("y", UINT8, (90,)), (Piece(SOURCE, "x", 0, 90),))
    with pytest.raises(FormatError, match="became shorter"):
        write(tmp_path, step, {SOURCE: source})


@pytest.mark.parametrize("kind", ["crc32", "crc32c"])
@pytest.mark.parametrize("written", [None, "crc32", "crc32c"])
def test_the_checksum_that_the_source_keeps_is_checked_on_the_way(
    tmp_path: Path, kind: str, written: str | None
) -> None:
    array = random_bits(UINT8, (100,), 9)
    source = Arrays(tmp_path / "a", {"x": array}, 9)
    right = zlib.crc32(array.tobytes()) if kind == "crc32" else crc32c(array.tobytes())
    step = Step(TensorSpec("y", UINT8, (100,)), (Piece(SOURCE, "x", 0, 100),))
    source.sums["x"] = kind, right
    with small():
        assert write(tmp_path, step, {SOURCE: source}, written)[0] == array.tobytes()
        source.sums["x"] = kind, right ^ 1
        for verify in (False, True):
            with (tmp_path / "out").open("r+b") as file:
                slot = Slot(file.fileno(), 0)
                with pytest.raises(FormatError, match="'x' does not have the checksum") as caught:
                    write_step(step, {SOURCE: source}, slot, written, lambda _: None, verify=verify)
            assert caught.value.path == source.path


def test_a_reader_that_computes_holds_its_checksum_against_the_data_itself(tmp_path: Path, monkeypatch) -> None:
    def damaged(self: Arrays, name: str, start: int, view: memoryview) -> None:
        raise FormatError("does not match its checksum", path=self.path)

    source = Arrays(tmp_path / "a", {"x": random_bits(UINT8, (100,), 9)}, computes=True)
    monkeypatch.setattr(Arrays, "read_into", damaged)
    step = Step(TensorSpec("y", UINT8, (100,)), (Piece(SOURCE, "x", 0, 100),))
    with small(), pytest.raises(FormatError, match="does not match its checksum"):
        write(tmp_path, step, {SOURCE: source})


def test_the_checksum_of_a_whole_tensor_says_nothing_of_a_part(tmp_path: Path) -> None:
    array = random_bits(UINT8, (100,), 10)
    source = Arrays(tmp_path / "a", {"x": array})
    source.sums["x"] = "crc32", 12345
    step = Step(TensorSpec("y", UINT8, (90,)), (Piece(SOURCE, "x", 10, 90),))
    assert write(tmp_path, step, {SOURCE: source})[0] == array[10:].tobytes()


@pytest.mark.parametrize("place", [0, 50, 99])
def test_a_block_that_is_not_what_was_written_is_noticed(tmp_path: Path, monkeypatch, place: int) -> None:
    array = random_bits(UINT8, (100,), 11)
    readers = {SOURCE: Arrays(tmp_path / "a", {"x": array})}
    step = Step(TensorSpec("y", UINT8, (100,)), (Piece(SOURCE, "x", 0, 100),))

    def careless(fd: int, offset: int, data: memoryview) -> None:
        os.pwrite(fd, data, offset)
        if offset <= 3 + place < offset + len(data):
            os.pwrite(fd, bytes([array[place] ^ 1]), 3 + place)

    monkeypatch.setattr(stream, "write_at", careless)
    with (tmp_path / "out").open("w+b") as file, small():
        file.truncate(103)
        write_step(step, readers, Slot(file.fileno(), 3), "crc32", lambda _: None)
        with pytest.raises(CheckError, match="read back, is not what was written"):
            write_step(step, readers, Slot(file.fileno(), 3), None, lambda _: None, verify=True)


@pytest.mark.parametrize("shape", [(1, 20), (20, 1), (4, 5), (10, 2), (2, 50)])
@pytest.mark.parametrize("tile", [12, 40, 1000])
def test_a_turned_matrix_that_is_not_what_was_written_is_noticed(
    tmp_path: Path, monkeypatch, shape: tuple[int, int], tile: int
) -> None:
    matrix = random_bits(FLOAT32, shape, 12)
    readers = {SOURCE: Arrays(tmp_path / "a", {"x": matrix})}
    step = Step(TensorSpec("y", FLOAT32, shape[::-1]), (Piece(SOURCE, "x", 0, matrix.nbytes),), transpose=shape)
    damaged: list[int] = []

    def careless(fd: int, offset: int, data: memoryview) -> None:
        os.pwrite(fd, data, offset)
        for place in damaged:
            if offset <= place < offset + len(data):
                os.pwrite(fd, bytes([data[place - offset] ^ 1]), place)

    monkeypatch.setattr(stream, "write_at", careless)
    with (tmp_path / "out").open("w+b") as file, small(tile=tile, square=2):
        file.truncate(3 + matrix.nbytes)
        slot = Slot(file.fileno(), 3)
        write_step(step, readers, slot, "crc32", lambda _: None, verify=True)
        for place in range(3, 3 + matrix.nbytes, 7):
            damaged[:] = [place]
            write_step(step, readers, slot, "crc32", lambda _: None)
            with pytest.raises(CheckError, match="y, read back, is not what was written"):
                write_step(step, readers, slot, None, lambda _: None, verify=True)


@given(st.integers(0, 99), st.booleans())
def test_one_bit_makes_two_steps_different(tmp_path_factory, place: int, turned: bool) -> None:
    folder = tmp_path_factory.mktemp("bit")
    array = random_bits(UINT8, (10, 10), 12)
    other = array.copy()
    other[place // 10, place % 10] ^= 128
    ours = {SOURCE: Arrays(folder / "a", {"x": array})}
    theirs = {SOURCE: Arrays(folder / "b", {"x": other})}
    step = Step(TensorSpec("y", UINT8, (10, 10)), (Piece(SOURCE, "x", 0, 100),), (10, 10) if turned else None)
    with small():
        assert same_bytes(step, ours, step, ours)
        assert not same_bytes(step, ours, step, theirs)


def test_a_turned_matrix_equals_its_turned_copy(tmp_path: Path) -> None:
    matrix = random_bits(FLOAT32, (11, 7), 13)
    ours = {SOURCE: Arrays(tmp_path / "a", {"x": matrix})}
    theirs = {SOURCE: Arrays(tmp_path / "b", {"x": np.ascontiguousarray(matrix.T)})}
    turned = Step(TensorSpec("y", FLOAT32, (7, 11)), (Piece(SOURCE, "x", 0, matrix.nbytes),), (11, 7))
    plain = Step(TensorSpec("y", FLOAT32, (7, 11)), (Piece(SOURCE, "x", 0, matrix.nbytes),))
    with small():
        assert same_bytes(turned, ours, plain, theirs)
        assert not same_bytes(turned, theirs, plain, ours)


@given(
    st.tuples(st.integers(1, 13), st.integers(1, 13)),
    st.sampled_from((UINT8, FLOAT16, FLOAT32)),
    st.sampled_from(("plain", "turned", "cast")),
    st.integers(0, 10**6),
    st.booleans(),
    st.integers(1, 9),
)
def test_one_bit_is_seen_however_both_sides_are_made(
    tmp_path_factory, shape: tuple[int, int], dtype, made: str, place: int, swapped: bool, again: int
) -> None:
    """A matrix that is turned, beside the same one: as it is to be, turned too, or cast."""
    folder = tmp_path_factory.mktemp("bit")
    matrix = (np.random.default_rng(place).integers(0, 2, shape)).astype(numpy_dtype(dtype))
    bits = np.ascontiguousarray(matrix.T)
    turned_shape = shape[::-1]
    spec = TensorSpec("y", dtype, turned_shape)
    held = {
        "plain": (bits, Step(spec, (Piece(SOURCE, "x", 0, bits.nbytes),))),
        "turned": (matrix, Step(spec, (Piece(SOURCE, "x", 0, bits.nbytes),), shape)),
        "cast": (bits.astype(np.float64), Step(spec, (Piece(SOURCE, "x", 0, bits.size * 8),), None, DTYPES["float64"])),
    }
    array, step = held[made]
    wrong = array.copy()
    wrong.reshape(-1)[place % wrong.size] += 1
    one = Step(spec, (Piece(SOURCE, "x", 0, bits.nbytes),), shape)
    ours = {SOURCE: Arrays(folder / "a", {"x": matrix})}
    with small(again=again):
        for name, values, same in (("b", array, True), ("c", wrong, False)):
            theirs = {SOURCE: Arrays(folder / name, {"x": values})}
            sides = (one, ours, step, theirs)
            assert same_bytes(*(sides[2:] + sides[:2] if swapped else sides)) is same


def test_matrices_that_are_turned_otherwise_are_compared_as_they_become(tmp_path: Path) -> None:
    """Blocks of both are made in turn by one thread, and none may be in the other's buffer."""
    result = np.arange(60, dtype=np.uint8)
    spec = TensorSpec("y", UINT8, (60,))
    readers, steps = [], []
    for rows, columns in ((6, 10), (10, 6)):
        before = np.ascontiguousarray(result.reshape(columns, rows).T)
        readers.append({SOURCE: Arrays(tmp_path / f"{rows}", {"x": before})})
        steps.append(Step(spec, (Piece(SOURCE, "x", 0, 60),), (rows, columns)))
    with small():
        assert same_bytes(steps[0], readers[0], steps[1], readers[1])
        assert not same_bytes(steps[0], readers[0], steps[1], readers[0])


@given(st.data())
def test_joined_pieces_are_read_from_any_place(tmp_path_factory, draw: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("joined")
    array = np.arange(1, 61, dtype=np.uint8)
    readers = {SOURCE: Arrays(folder / "a", {"x": array}, 7)}
    lengths = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted)
    pieces, joined = [], b""
    for start, end in draw.draw(st.lists(lengths, max_size=4)):
        if draw.draw(st.booleans()):
            pieces.append(Piece(ZEROS, "", 0, end - start))
            joined += bytes(end - start)
        else:
            pieces.append(Piece(SOURCE, "x", start, end - start))
            joined += array[start:end].tobytes()
    start, end = draw.draw(st.tuples(st.integers(0, len(joined)), st.integers(0, len(joined))).map(sorted))
    view = bytearray(b"\xff" * (end - start))
    read_joined(tuple(pieces), readers, start, memoryview(view))
    assert view == joined[start:end]


def test_blocks_of_a_step_are_whole_blocks(tmp_path: Path) -> None:
    matrix = random_bits(FLOAT32, (11, 7), 14)
    readers = {SOURCE: Arrays(tmp_path / "a", {"x": matrix})}
    for transpose in (None, (11, 7)):
        step = Step(TensorSpec("y", FLOAT32, (7, 11)), (Piece(SOURCE, "x", 0, matrix.nbytes),), transpose)
        with small():
            lengths = [len(block) for block in step_blocks(step, readers)]
        assert lengths == [16] * (matrix.nbytes // 16) + [matrix.nbytes % 16]


def test_what_is_told_may_stop_the_work(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def tell(_: int) -> None:
        raise Stop

    array = random_bits(UINT8, (100,), 15)
    readers = {SOURCE: Arrays(tmp_path / "a", {"x": array})}
    step = Step(TensorSpec("y", UINT8, (100,)), (Piece(SOURCE, "x", 0, 100),))
    with (tmp_path / "out").open("w+b") as file, pytest.raises(Stop):
        write_step(step, readers, Slot(file.fileno(), 0), None, tell)
