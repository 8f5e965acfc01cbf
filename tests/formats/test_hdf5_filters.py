"""Filters of HDF5 chunks, against h5py's own."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats.hdf5_filters import DEFLATE, FLETCHER32, LZF, SHUFFLE, Filter, Pipeline, fletcher32

OPTIONS = {
    "gzip": {"compression": "gzip"},
    "lzf": {"compression": "lzf"},
    "shuffle": {"shuffle": True},
    "fletcher32": {"fletcher32": True},
}


def pipeline(*steps: tuple[int, tuple[int, ...]]) -> Pipeline:
    return Pipeline(tuple(Filter(*step) for step in steps), Path("x.h5"))


def through_h5py(data: bytes, dtype: str, options: dict[str, object]) -> tuple[bytes, int, Pipeline]:
    """Return a chunk as h5py stores it, the mask of filters that were skipped, and its pipeline."""
    array = np.frombuffer(data, dtype)
    with h5py.File("x.h5", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("x", data=array, chunks=array.shape, **options)
        skipped, raw = dataset.id.read_direct_chunk((0,))
        plist = dataset.id.get_create_plist()
        steps = [plist.get_filter(index) for index in range(plist.get_nfilters())]
    return raw, skipped, pipeline(*((step[0], step[2]) for step in steps))


@st.composite
def compressible(draw: st.DrawFn) -> bytes:
    """Bytes in multiples of eight, random, repeated, or constant."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pieces = [rng.bytes(draw(st.integers(0, 60))), rng.bytes(3) * draw(st.integers(0, 200))]
    pieces.append(bytes(draw(st.integers(0, 600))))
    data = b"".join(pieces[index] for index in draw(st.permutations(range(3))))
    return data[: len(data) // 8 * 8] or bytes(8)


@settings(max_examples=150)
@given(data=compressible(), dtype=st.sampled_from(["u1", "u2", "u4", "u8"]), names=st.sets(st.sampled_from([*OPTIONS])))
def test_undoes_what_h5py_does(data, dtype, names):
    options = {key: value for name in sorted(names) for key, value in OPTIONS[name].items()}
    raw, skipped, steps = through_h5py(data, dtype, options)
    steps.check()
    assert steps.undo(raw, skipped, len(data), 0) == data


@settings(max_examples=60)
@given(data=st.binary(min_size=1, max_size=3000))
@example(bytes(5))
@example(b"\xff" * 3001)
@example(b"\xff\xff" * 200_001)
def test_fletcher32_is_libhdf5s(data):
    raw, _, _ = through_h5py(data, "u1", {"fletcher32": True})
    assert fletcher32(data).to_bytes(4, "little") == raw[-4:]


@pytest.mark.parametrize("name", ["gzip", "lzf", "fletcher32"])
def test_a_changed_byte_is_refused(name):
    data = bytes(range(200)) + bytes(800)
    raw, skipped, steps = through_h5py(data, "u1", OPTIONS[name])
    for at in range(0, len(raw), 7):
        changed = raw[:at] + bytes([raw[at] ^ 0x81]) + raw[at + 1 :]
        if name == "lzf":
            # LZF has no checksum: what comes out may be other data, but never of another length.
            try:
                assert len(steps.undo(changed, skipped, 1000, 0)) == 1000
            except FormatError:
                continue
        else:
            with pytest.raises(FormatError, match="chunk of a dataset is damaged"):
                steps.undo(changed, skipped, 1000, 0)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_chunk_of_another_length_is_refused(name):
    raw, skipped, steps = through_h5py(bytes(1000), "u1", OPTIONS[name])
    for wrong in (999, 1001, 0):
        with pytest.raises(FormatError, match="damaged"):
            steps.undo(raw, skipped, wrong, 0)
    with pytest.raises(FormatError, match="damaged"):
        steps.undo(raw[:-1], skipped, 1000, 0)


def test_a_bomb_is_not_unpacked():
    bomb = zlib.compress(bytes(1 << 24))
    with pytest.raises(FormatError, match="damaged"):
        pipeline((DEFLATE, (9,))).undo(bomb, 0, 1000, 0)
    lzf_bomb = b"\x00\x00" + b"\xe0\xff\x00" * 100_000
    with pytest.raises(FormatError, match="damaged"):
        pipeline((LZF, ())).undo(lzf_bomb, 0, 1000, 0)


@given(data=st.binary(max_size=200))
def test_random_bytes_are_unpacked_or_refused(data):
    for number, parameters in ((DEFLATE, ()), (LZF, ()), (SHUFFLE, (4,)), (FLETCHER32, ())):
        try:
            assert len(pipeline((number, parameters)).undo(data, 0, 64, 0)) == 64
        except FormatError:
            continue


def test_a_skipped_filter_is_not_undone():
    steps = pipeline((SHUFFLE, (2,)), (DEFLATE, (9,)))
    assert steps.undo(b"abcd", 0b11, 4, 0) == b"abcd"
    assert steps.undo(b"acbd", 0b10, 4, 0) == b"abcd"
    assert steps.undo(zlib.compress(b"abcd"), 0b01, 4, 0) == b"abcd"


@pytest.mark.parametrize(
    ("number", "parameters", "message"),
    [
        (4, (0,), "szip"),
        (5, (), "n-bit"),
        (32004, (), "LZ4"),
        (40000, (), "number 40000"),
        (SHUFFLE, (), "unknown width"),
    ],
)
def test_filters_that_cannot_be_undone_are_named(number, parameters, message):
    with pytest.raises(FormatError, match=message):
        pipeline((number, parameters)).check()
