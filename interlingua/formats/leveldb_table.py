"""The sorted table of LevelDB (an "SSTable"), which TensorFlow keeps the index of a checkpoint in.

Layout: data blocks, a metaindex block, an index block, a footer of 48 bytes. A block is entries, restart offsets
(u32 each), their number (u32), then a trailer: compression (u8) and the masked CRC-32C of block and compression.
An entry is three varints (bytes shared with the key before it, bytes that follow, bytes of the value), key, value.

Source: tensorflow/tensorflow: tensorflow/core/lib/io/{format,table_builder,block_builder,block}.cc.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from interlingua.errors import FormatError
from interlingua.formats.base import SourceFile, crc32c
from interlingua.formats.castagnoli import mask
from interlingua.formats.protobuf_wire import encode_varint, read_varint
from interlingua.formats.snappy_block import decompress

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
FOOTER = 48
"""Bytes of the footer: two block handles, zeros up to 40, the magic number."""

MAX_BLOCK = 16 << 20
"""Bytes of a block, unpacked, beyond which it is refused: writers aim at 4 to 256 KiB."""

MAX_TABLE = 64 << 20
"""Bytes of all blocks, unpacked, and all keys, beyond which a table is refused: it holds no tensor data."""

_TRAILER = 5
_UNCOMPRESSED, _SNAPPY = 0, 1

_BLOCK_SIZE = 256 << 10
_RESTART_INTERVAL = 16
"""TensorFlow's choices (table_options.h); the index block restarts at every entry."""


def is_table(file: SourceFile) -> bool:
    """Say whether a file ends as a table does."""
    return file.size >= FOOTER and file.read_at(file.size - len(MAGIC), len(MAGIC), "its last bytes") == MAGIC


def read_table(file: SourceFile) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of a table, in the order of the keys, holding one block at a time.

    Raises:
        FormatError: a checksum, an offset, the order of the keys or anything else in it is wrong.
    """
    budget = _Budget(file)
    last_key: bytes | None = None
    end = 0
    index = _index_handle(file)
    for bound, handle in _entries(_read_block(index, budget), index, budget):
        place = _parse_handle(handle, 0, file, index.offset)[0]
        start, end = end, place.offset + place.size + _TRAILER
        if place.offset < start or end > index.offset:
            raise place.error("the table's index leads to one block twice, backwards, or to itself")
        for key, value in _entries(_read_block(place, budget), place, budget):
            if last_key is not None and key <= last_key:
                raise place.error(f"the key {_shown(key)} is there twice, or out of order")
            last_key = key
            yield key, value
        if last_key is None or bound < last_key:
            raise place.error(f"the index says that no key is beyond {_shown(bound)}, which is not so")


@dataclass(slots=True)
class _Budget:
    """What a table may still cost, in bytes of blocks and of keys: prefixes make keys far larger than their file."""

    file: SourceFile
    left: int = MAX_TABLE

    def take(self, nbytes: int) -> None:
        self.left -= nbytes
        if self.left < 0:
            raise FormatError(f"the table holds more than {MAX_TABLE} bytes of keys and values", path=self.file.path)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a block is: its offset and size in a file, without the trailer."""

    file: SourceFile
    offset: int
    size: int

    def error(self, message: str) -> FormatError:
        return FormatError(
            message, path=self.file.path, offset=self.offset, hint="The file is damaged; fetch it again."
        )


def _index_handle(file: SourceFile) -> _Place:
    """Return where the index block is, from the footer."""
    if not is_table(file):
        raise FormatError("does not end as a table does: it is truncated, or something else", path=file.path)
    at = file.size - FOOTER
    footer = file.read_at(at, FOOTER - len(MAGIC), "the footer")
    _, after = _parse_handle(footer, 0, file, at)
    return _parse_handle(footer, after, file, at)[0]


def _parse_handle(data: bytes, start: int, file: SourceFile, at: int) -> tuple[_Place, int]:
    """Return the block that a handle leads to, and where the handle ends; ``at`` is where ``data`` is from."""
    offset, start = read_varint(data, start, len(data), path=file.path, base=at)
    size, start = read_varint(data, start, len(data), path=file.path, base=at)
    if offset + size + _TRAILER > file.size - FOOTER:
        raise FormatError(
            f"a block claims bytes {offset} to {offset + size}, which the file does not have",
            path=file.path,
            offset=at,
            hint="The file is truncated or damaged; fetch it again.",
        )
    if size > MAX_BLOCK:
        raise FormatError(f"a block claims {size} bytes, more than {MAX_BLOCK}", path=file.path, offset=at)
    return _Place(file, offset, size), start


def _read_block(place: _Place, budget: _Budget) -> bytes:
    """Return a block's bytes, checked against their checksum and unpacked."""
    size = place.size
    data = place.file.read_at(place.offset, size + _TRAILER, "a block")
    if mask(crc32c(memoryview(data)[: size + 1])) != int.from_bytes(data[size + 1 :], "little"):
        raise place.error("a block does not match its checksum")
    if data[size] == _UNCOMPRESSED:
        block = data[:size]
    elif data[size] == _SNAPPY:
        block = decompress(data[:size], MAX_BLOCK, path=place.file.path, base=place.offset)
    else:
        raise place.error(f"a block has the unknown compression {data[size]}")
    budget.take(len(block))
    return block


def _entries(block: bytes, place: _Place, budget: _Budget) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of a block, and hold its restart offsets against where keys really begin anew."""
    restarts = _restarts(block, place)
    end = len(block) - 4 * (len(restarts) + 1)
    path, base = place.file.path, place.offset
    reached = at = 0
    key = b""
    while at < end:
        restarts_here = reached < len(restarts) and restarts[reached] == at
        shared, at = read_varint(block, at, end, path=path, base=base)
        added, at = read_varint(block, at, end, path=path, base=base)
        length, at = read_varint(block, at, end, path=path, base=base)
        if added + length > end - at:
            raise place.error("an entry is longer than its block")
        if shared > (0 if restarts_here else len(key)):
            raise place.error("a key leans on more of the key before it than there is")
        reached += restarts_here
        key = key[:shared] + block[at : at + added]
        budget.take(len(key))
        at += added
        yield key, block[at : at + length]
        at += length
    if reached != len(restarts) and (end or list(restarts) != [0]):
        raise place.error("a restart offset leads to no entry")


def _restarts(block: bytes, place: _Place) -> memoryview:
    """Return a block's restart offsets: where entries begin that share nothing with the key before."""
    count = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (count + 1)
    if end < 0 or (end and not count):
        raise place.error(f"a block claims {count} restart offsets")
    offsets = array("I", block[end:-4])
    if sys.byteorder == "big":
        offsets.byteswap()
    return memoryview(offsets)


def _shown(key: bytes) -> str:
    return repr(key[:60])[1:]


@dataclass(slots=True)
class _Block:
    """A block being written: its entries so far, and where keys begin anew."""

    interval: int
    data: bytearray = field(default_factory=bytearray)
    restarts: list[int] = field(default_factory=lambda: [0])
    first_key: bytes = b""
    last_key: bytes = b""
    run: int = 0

    def add(self, key: bytes, value: bytes) -> None:
        if not self.data:
            self.first_key = key
        if self.run == self.interval:
            self.restarts.append(len(self.data))
            self.run = 0
        shared = _common(key, self.last_key) if self.run else 0
        self.data += encode_varint(shared) + encode_varint(len(key) - shared) + encode_varint(len(value))
        self.data += key[shared:] + value
        self.last_key = key
        self.run += 1

    @property
    def size(self) -> int:
        return len(self.data) + 4 * len(self.restarts) + 4

    def encoded(self) -> bytes:
        """Return the block and its trailer."""
        tail = b"".join(offset.to_bytes(4, "little") for offset in (*self.restarts, len(self.restarts)))
        block = bytes(self.data) + tail + bytes([_UNCOMPRESSED])
        return block + mask(crc32c(block)).to_bytes(4, "little")


def encode_table(entries: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Yield the pieces of the file that TensorFlow's table builder writes for the same (key, value) pairs.

    Keys must come in ascending order. Blocks are uncompressed, as in every checkpoint that TensorFlow writes today.
    """
    index = _Block(interval=1)
    offset = 0
    handle = last_key = b""
    for block in _blocks(entries):
        if handle:
            index.add(_separator(last_key, block.first_key), handle)
        data = block.encoded()
        yield data
        handle, last_key = _handle(offset, data), block.last_key
        offset += len(data)
    if handle:
        index.add(_successor(last_key), handle)
    footer = b""
    for last in (_Block(_RESTART_INTERVAL), index):
        data = last.encoded()
        yield data
        footer += _handle(offset, data)
        offset += len(data)
    yield footer.ljust(FOOTER - len(MAGIC), b"\0") + MAGIC


def _blocks(entries: Iterable[tuple[bytes, bytes]]) -> Iterator[_Block]:
    """Fill blocks as TensorFlow does: until one reaches its size, or an entry comes that is larger than two."""
    block = _Block(_RESTART_INTERVAL)
    for key, value in entries:
        if block.data and len(key) + len(value) >= 2 * _BLOCK_SIZE:
            yield block
            block = _Block(_RESTART_INTERVAL)
        block.add(key, value)
        if block.size >= _BLOCK_SIZE:
            yield block
            block = _Block(_RESTART_INTERVAL)
    if block.data:
        yield block


def _handle(offset: int, block: bytes) -> bytes:
    return encode_varint(offset) + encode_varint(len(block) - _TRAILER)


def _common(one: bytes, other: bytes) -> int:
    """Return how many bytes two keys begin with alike."""
    for at, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return at
    return min(len(one), len(other))


def _separator(last: bytes, following: bytes) -> bytes:
    """Return a short key that is at least ``last`` and less than ``following``, as TensorFlow chooses it."""
    same = _common(last, following)
    if same < min(len(last), len(following)) and last[same] + 1 < following[same]:
        return last[:same] + bytes([last[same] + 1])
    return last


def _successor(last: bytes) -> bytes:
    """Return a short key that is at least ``last``, as TensorFlow chooses it."""
    for at, byte in enumerate(last):
        if byte != 0xFF:
            return last[:at] + bytes([byte + 1])
    return last
