"""The index of a tensor bundle: which tensors there are, and where in which shard each one's bytes lie.

The index is a sorted table. Its first key is empty and leads to a BundleHeaderProto; every other key is the name of
a tensor, or stands for one slice of a partitioned variable, and leads to a BundleEntryProto.

Source: tensorflow/tensorflow: tensorflow/core/protobuf/tensor_bundle.proto, tensorflow/core/framework/{types,
tensor_shape,tensor_slice,versions}.proto, tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from interlingua.errors import FormatError
from interlingua.formats.base import MAX_DIMENSIONS, SourceFile
from interlingua.formats.dtypes import DTYPES, DType
from interlingua.formats.leveldb_table import encode_table, read_table
from interlingua.formats.protobuf_wire import (
    FIXED32,
    LEN,
    VARINT,
    AnyPath,
    Field,
    encode_bytes,
    encode_fixed32,
    encode_number,
    fields,
    packed_varints,
    signed64,
)
from interlingua.formats.tensor_bundle_slices import FULL, Slice

MAX_MEMORY = 96 << 20
"""Bytes that all entries together may take in memory: some hundred thousand tensors."""

_VERSION = 1
"""The version of the format that is read and written (kTensorBundleVersion)."""

# types.proto. TensorFlow keeps its 2- and 4-bit integers one to a byte, which no type here is.
_CODES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    26: "float8_e4m3fnuz",
    28: "float8_e5m2fnuz",
}

_FOREIGN = {
    11: "qint8",
    12: "quint8",
    13: "qint32",
    15: "qint16",
    16: "quint16",
    20: "resource",
    21: "variant",
    27: "float8_e4m3b11fnuz",
    29: "int4",
    30: "uint4",
    31: "int2",
    32: "uint2",
    33: "float4_e2m1fn",
}

CODE_OF = {name: code for code, name in _CODES.items()}
"""TensorFlow's number of an element type, by the type's name."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One BundleEntryProto: what a tensor is, and where its bytes lie.

    Attributes:
        dtype: element type.
        shape: number of elements along each axis.
        shard: number of the data file.
        offset: first byte in that file.
        nbytes: bytes there.
        masked: masked CRC-32C of them.
        slices: for a partitioned variable the boxes it is stored as, and then nothing of the above but the first two.
    """

    dtype: DType
    shape: tuple[int, ...]
    shard: int = 0
    offset: int = 0
    nbytes: int = 0
    masked: int = 0
    slices: tuple[Slice, ...] = ()


@dataclass(frozen=True, slots=True)
class Index:
    """What an index says.

    Attributes:
        num_shards: number of data files.
        big_endian: whether numbers in them are big-endian.
        entries: by name, in the order of the file.
        parts: for each partitioned variable its boxes, and the entry of each.
    """

    num_shards: int
    big_endian: bool
    entries: dict[str, Entry]
    parts: dict[str, tuple[tuple[Slice, Entry], ...]]


def read_index(file: SourceFile) -> Index:
    """Read the whole index.

    Raises:
        FormatError: it is damaged, of a format that is not read, or holds an element type that is not.
    """
    table = read_table(file)
    key, value = next(table, (None, b""))
    if key != b"":
        raise FormatError("is a LevelDB table, but no index of a TensorFlow checkpoint", path=file.path)
    num_shards, big_endian = _parse_header(value, file.path)
    memory = _Memory(file.path, MAX_MEMORY)
    found: dict[bytes, Entry] = {}
    for key, value in table:
        memory.take(512 + 5 * len(key))
        found[key] = _parse_entry(key, value, memory)
    parts = {key: tuple(_parts(key, entry, found, file.path)) for key, entry in found.items() if entry.slices}
    stored = {box.key(_name(key, file.path)) for key, boxes in parts.items() for box in found[key].slices}
    return Index(
        num_shards,
        big_endian,
        {_name(key, file.path): entry for key, entry in found.items() if key not in stored},
        {_name(key, file.path): boxes for key, boxes in parts.items()},
    )


@dataclass(slots=True)
class _Memory:
    """What the entries of an index may still take of memory."""

    path: AnyPath
    left: int

    def take(self, nbytes: int) -> None:
        self.left -= nbytes
        if self.left < 0:
            raise FormatError("lists more tensors, or slices of them, than any checkpoint has", path=self.path)


def _name(key: bytes, path: AnyPath) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"the tensor name {key[:60]!r} is not UTF-8", path=path) from error


def _parts(key: bytes, entry: Entry, found: dict[bytes, Entry], path: AnyPath) -> Iterator[tuple[Slice, Entry]]:
    """Yield the boxes of a partitioned variable with their entries, each held against the variable's own."""
    name = _name(key, path)
    if entry.dtype.kind == "s":
        raise FormatError(f"{name!r} is a partitioned variable of strings, which nobody can read", path=path)
    for box in entry.slices:
        inside = box.within(entry.shape)
        if inside is None:
            raise FormatError(f"a slice of {name!r} lies outside its shape {list(entry.shape)}", path=path)
        part = found.get(box.key(name))
        if part is None or part.slices or part.dtype != entry.dtype or part.shape != inside.lengths:
            raise FormatError(f"the slice of {name!r} from {list(box.starts)} is missing, or another's", path=path)
        yield inside, part


def _parse_header(value: bytes, path: AnyPath) -> tuple[int, bool]:
    """Return number of shards and whether they are big-endian."""
    numbers = {1: 0, 2: 0}
    for field in fields(value, path=path):
        if field.number == 1 and field.wire == LEN:
            raise FormatError(
                "is a TensorFlow checkpoint of version 1, which is not read",
                path=path,
                hint="Restore it with tf.compat.v1.train.Saver and save it with "
                "tf.compat.v1.train.Saver(write_version=tf.compat.v1.train.SaverDef.V2).",
            )
        if field.wire == VARINT and field.number in numbers:
            numbers[field.number] = signed64(field.value)
        elif field.wire == LEN and field.number == 3:
            _check_version(value, field, path)
    num_shards, endianness = numbers[1], numbers[2]
    if not 0 < num_shards < 1 << 31 or endianness not in (0, 1):
        raise FormatError(f"claims {num_shards} shards of byte order {endianness}", path=path)
    return num_shards, endianness == 1


def _check_version(value: bytes, version: Field, path: AnyPath) -> None:
    """Refuse a VersionDef that says that readers of this version will misunderstand the file."""
    for field in fields(value, version.start, version.stop, path=path):
        least = signed64(field.value) if field.number == 2 and field.wire == VARINT else 0
        excluded: Iterable[int] = ()
        if field.number == 3:
            packed = packed_varints(value, field.start, field.stop, path=path)
            excluded = (field.value,) if field.wire == VARINT else packed
        if least > _VERSION or _VERSION in excluded:
            raise FormatError(
                f"wants a reader of another version of the format than {_VERSION}",
                path=path,
                hint="It comes from a newer TensorFlow than this reader knows; save it with an older one.",
            )


def _parse_entry(key: bytes, value: bytes, memory: _Memory) -> Entry:
    path = memory.path
    what = f"the entry {key[:200].decode(errors='replace')!r}"
    numbers = {1: 0, 3: 0, 4: 0, 5: 0}
    shape: list[int] = []
    slices: list[Slice] = []
    masked = 0
    for field in fields(value, path=path):
        if field.wire == VARINT and field.number in numbers:
            numbers[field.number] = signed64(field.value)
        elif field.wire == LEN and field.number == 2:
            shape += _parse_shape(value, field, what, path)
            memory.take(64 * len(shape))
        elif field.wire == FIXED32 and field.number == 6:
            masked = field.value
        elif field.wire == LEN and field.number == 7:
            slices.append(_parse_slice(value, field, what, path))
            memory.take(256 + 96 * len(slices[-1].starts))
    code, shard, offset, nbytes = numbers.values()
    if code not in _CODES:
        known = _FOREIGN.get(code)
        raise FormatError(
            f"{what} is of the element type {known or code}, which is not read",
            path=path,
            hint="Save the checkpoint without that variable." if known else None,
        )
    if min(shard, offset, nbytes, *shape, 0) < 0:
        raise FormatError(f"{what} has a negative size or place", path=path)
    return Entry(DTYPES[_CODES[code]], tuple(shape), shard, offset, nbytes, masked, tuple(slices))


def _parse_shape(value: bytes, shape: Field, what: str, path: AnyPath) -> Iterator[int]:
    """Yield the sizes of a TensorShapeProto."""
    count = 0
    for field in fields(value, shape.start, shape.stop, path=path):
        if field.number == 3 and field.wire == VARINT and field.value:
            raise FormatError(f"{what} has no shape", path=path)
        if field.number != 2 or field.wire != LEN:
            continue
        count += 1
        if count > MAX_DIMENSIONS:
            raise FormatError(f"{what} has more than {MAX_DIMENSIONS} dimensions", path=path)
        yield _numbers(value, field, path).get(1, 0)


def _parse_slice(value: bytes, box: Field, what: str, path: AnyPath) -> Slice:
    """Return a TensorSliceProto; an extent without a length is the whole axis."""
    starts: list[int] = []
    lengths: list[int] = []
    for field in fields(value, box.start, box.stop, path=path):
        if field.number != 1 or field.wire != LEN:
            continue
        extent = _numbers(value, field, path)
        starts.append(extent.get(1, 0))
        lengths.append(max(0, extent[2]) if 2 in extent else FULL)
        if len(starts) > MAX_DIMENSIONS:
            raise FormatError(f"{what} has a slice of more than {MAX_DIMENSIONS} dimensions", path=path)
    return Slice(tuple(starts), tuple(lengths))


def _numbers(value: bytes, message: Field, path: AnyPath) -> dict[int, int]:
    """Return fields 1 and 2 of a message that are there and numbers."""
    return {
        field.number: signed64(field.value)
        for field in fields(value, message.start, message.stop, path=path)
        if field.wire == VARINT and field.number in (1, 2)
    }


def encode_index(entries: Iterable[tuple[bytes, Entry]]) -> Iterator[bytes]:
    """Yield the pieces of the index file of a bundle of one little-endian shard; keys must come in ascending order."""
    header = encode_number(1, 1) + encode_bytes(3, encode_number(1, _VERSION))
    yield from encode_table([(b"", header), *((key, _encode_entry(entry)) for key, entry in entries)])


def _encode_entry(entry: Entry) -> bytes:
    dims = (encode_bytes(2, encode_number(1, n) if n else b"") for n in entry.shape)
    return b"".join(
        (
            encode_number(1, CODE_OF[entry.dtype.name]),
            encode_bytes(2, b"".join(dims)),
            encode_number(4, entry.offset) if entry.offset else b"",
            encode_number(5, entry.nbytes) if entry.nbytes else b"",
            encode_fixed32(6, entry.masked) if entry.masked else b"",
        )
    )
