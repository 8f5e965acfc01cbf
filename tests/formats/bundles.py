"""Tensor bundles made by hand, so that they can lie, come in several shards, or be of another byte order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from crc32c import crc32c

from interlingua.formats.castagnoli import mask
from interlingua.formats.leveldb_table import encode_table
from interlingua.formats.protobuf_wire import encode_bytes, encode_fixed32, encode_number, encode_varint
from interlingua.formats.tensor_bundle_index import CODE_OF

HEADER = encode_number(1, 1) + encode_bytes(3, encode_number(1, 1))


def header(num_shards: int = 1, big_endian: bool = False, version: bytes = encode_number(1, 1)) -> bytes:
    """A BundleHeaderProto."""
    return encode_number(1, num_shards) + encode_number(2, int(big_endian)) + encode_bytes(3, version)


def shape_proto(shape: Sequence[int]) -> bytes:
    return b"".join(encode_bytes(2, encode_number(1, n)) for n in shape)


def slice_proto(box: Sequence[tuple[int, int] | None]) -> bytes:
    """A TensorSliceProto; None is a whole axis."""
    return b"".join(
        encode_bytes(1, b"" if extent is None else encode_number(1, extent[0]) + encode_number(2, extent[1]))
        for extent in box
    )


def entry(
    dtype: int | str = "float32",
    shape: Sequence[int] = (),
    shard: int = 0,
    offset: int = 0,
    size: int = 4,
    crc: int = 0,
    slices: Sequence[Sequence[tuple[int, int] | None]] = (),
) -> bytes:
    """A BundleEntryProto; ``crc`` is not masked yet."""
    return b"".join(
        (
            encode_number(1, dtype if isinstance(dtype, int) else CODE_OF[dtype]),
            encode_bytes(2, shape_proto(shape)),
            encode_number(3, shard),
            encode_number(4, offset),
            encode_number(5, size),
            encode_fixed32(6, mask(crc)),
            *(encode_bytes(7, slice_proto(box)) for box in slices),
        )
    )


def slice_key(name: str, box: Sequence[tuple[int, int]]) -> bytes:
    """The key of a slice; start and length below 64, or length -1 for a whole axis."""
    ends = bytes(number & 0xFF ^ 0x80 for extent in box for number in extent)
    return b"\0" + name.encode() + b"\0\x01\x01" + bytes([len(box)]) + ends


def write_bundle(prefix: Path, entries: dict[bytes, bytes], *shards: bytes, head: bytes = HEADER) -> Path:
    """Write a bundle of these entries and data files; return its prefix."""
    table = sorted({b"": head, **entries}.items())
    prefix.with_name(prefix.name + ".index").write_bytes(b"".join(encode_table(table)))
    for number, data in enumerate(shards):
        prefix.with_name(f"{prefix.name}.data-{number:05d}-of-{len(shards):05d}").write_bytes(data)
    return prefix


def string_payload(strings: Sequence[bytes], big_endian: bool = False) -> tuple[bytes, int]:
    """The payload of a string tensor, and its checksum as TensorFlow counts it."""
    order = "big" if big_endian else "little"
    fixed = b"".join(len(string).to_bytes(4, order) for string in strings)
    checksum = mask(crc32c(fixed)).to_bytes(4, order)
    body = b"".join(strings)
    return b"".join(encode_varint(len(string)) for string in strings) + checksum + body, crc32c(fixed + checksum + body)


def big_endian_bundle(prefix: Path, arrays: dict[str, np.ndarray | list[bytes]]) -> Path:
    """Write arrays and vectors of strings as a big-endian machine would."""
    data, entries = b"", {}
    for name, value in sorted(arrays.items()):
        if isinstance(value, list):
            payload, crc = string_payload(value, big_endian=True)
            entries[name.encode()] = entry("string", (len(value),), 0, len(data), len(payload), crc)
        else:
            part = value.real.dtype.itemsize
            payload = np.frombuffer(value.tobytes(), f"u{part}").byteswap().tobytes()
            entries[name.encode()] = entry(value.dtype.name, value.shape, 0, len(data), len(payload), crc32c(payload))
        data += payload
    return write_bundle(prefix, entries, data, head=header(big_endian=True))
