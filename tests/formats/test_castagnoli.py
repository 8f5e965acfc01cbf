"""Arithmetic on checksums."""

from __future__ import annotations

from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from interlingua.formats.castagnoli import join, mask, shift, unmask


@given(st.binary(max_size=200), st.binary(max_size=2000))
def test_joined_checksums_are_the_checksum_of_joined_data(first: bytes, second: bytes) -> None:
    assert join(crc32c(first), crc32c(second), len(second)) == crc32c(first + second)


def test_long_data_is_joined_as_well() -> None:
    whole, joined = 0, crc32c(bytes(1 << 20))
    for _ in range(16):
        whole = crc32c(bytes(1 << 20), whole)
    for megabytes in (1, 2, 4, 8):
        joined = join(joined, joined, megabytes << 20)
    assert joined == whole
    assert shift(shift(5, 3 << 40), 2 << 40) == shift(5, 5 << 40) != 5


@given(st.integers(0, 2**32 - 1))
def test_the_mask_comes_off(crc: int) -> None:
    assert 0 <= mask(crc) < 2**32
    assert unmask(mask(crc)) == crc


def test_the_mask_is_tensorflows() -> None:
    assert mask(0) == 0xA282EAD8
    # The empty metaindex block of every index that TensorFlow writes: no entries, one restart, uncompressed.
    assert mask(crc32c(bytes.fromhex("000000000100000000"))) == int.from_bytes(bytes.fromhex("c0f2a1b0"), "little")
