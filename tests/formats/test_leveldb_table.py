"""The sorted table that keeps a TensorFlow checkpoint's index."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
from crc32c import crc32c
from hypothesis import example, given
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats.base import SourceFile
from interlingua.formats.castagnoli import mask
from interlingua.formats.leveldb_table import FOOTER, MAGIC, MAX_BLOCK, encode_table, is_table, read_table
from interlingua.formats.protobuf_wire import encode_varint
from tests.formats.hostile import damaged

Entries = list[tuple[bytes, bytes]]


def entry(shared: int, suffix: bytes, value: bytes = b"v") -> bytes:
    return encode_varint(shared) + encode_varint(len(suffix)) + encode_varint(len(value)) + suffix + value


def block(entries: bytes, restarts: Iterable[int] = (0,), count: int | None = None) -> bytes:
    offsets = list(restarts)
    tail = [*offsets, len(offsets) if count is None else count]
    return entries + b"".join(offset.to_bytes(4, "little") for offset in tail)


def sealed(data: bytes, compression: int = 0) -> bytes:
    data += bytes([compression])
    return data + mask(crc32c(data)).to_bytes(4, "little")


def handle(offset: int, size: int) -> bytes:
    return encode_varint(offset) + encode_varint(size)


def footer(meta: bytes, index: bytes) -> bytes:
    return (meta + index).ljust(FOOTER - 8, b"\0") + MAGIC


def table(*blocks: bytes, compression: int = 0, bounds: Iterable[bytes] | None = None) -> bytes:
    """A table of these data blocks, laid out as writers do it."""
    out, handles = b"", []
    for data in blocks:
        handles.append(handle(len(out), len(data)))
        out += sealed(data, compression)
    meta = handle(len(out), 8)
    out += sealed(block(b""))
    keys = list(bounds or (b"\xff" * (n + 1) for n in range(len(blocks))))
    entries, restarts = b"", []
    for key, place in zip(keys, handles, strict=True):
        restarts.append(len(entries))
        entries += entry(0, key, place)
    index = block(entries, restarts or (0,))
    return out + sealed(index) + footer(meta, handle(len(out), len(index)))


def read(tmp_path: Path, data: bytes) -> Entries:
    path = tmp_path / "a.index"
    path.write_bytes(data)
    with SourceFile(path) as file:
        return list(read_table(file))


def refused(tmp_path: Path, data: bytes, sentence: str) -> None:
    with pytest.raises(FormatError, match=sentence) as caught:
        read(tmp_path, data)
    assert str(tmp_path / "a.index") in str(caught.value)


KEYS = st.binary(max_size=40) | st.integers(0, 300).map(lambda n: b"bert/encoder/layer_%d/kernel" % n)


@given(st.dictionaries(KEYS, st.binary(max_size=60), max_size=60))
@example({})
@example({b"": b""})
@example({b"\xff": b"a", b"\xff\xff": b"b"})
def test_what_is_written_is_read(tmp_path: Path, entries: dict[bytes, bytes]) -> None:
    expected = sorted(entries.items())
    assert read(tmp_path, b"".join(encode_table(expected))) == expected


def test_many_blocks_and_huge_entries_are_read_back(tmp_path: Path) -> None:
    rng = random.Random(1)
    entries = {b"tensor/%d" % n: rng.randbytes(rng.choice((0, 30, 5_000))) for n in range(1_500)}
    entries[b"tensor/5" + b"x" * 600_000] = b"long key"
    entries[b"tensor/7x"] = rng.randbytes(700_000)
    expected = sorted(entries.items())
    assert read(tmp_path, b"".join(encode_table(expected))) == expected


@pytest.mark.parametrize(
    ("last", "following", "separator", "successor"),
    [
        (b"abc", b"ahz", b"ac", b"b"),
        (b"abc", b"adz", b"ac", b"b"),
        (b"abc", b"acz", b"abc", b"b"),
        (b"ab", b"abc", b"ab", b"b"),
        (b"a\xfe\x01", b"a\xff", b"a\xfe\x01", b"b"),
        (b"\xff", b"\xff\xff", b"\xff", b"\xff\xff"),
        (b"\xff\x01", b"\xff\x09", b"\xff\x02", b"\xff\x0a"),
    ],
)
def test_the_index_has_the_short_keys_that_tensorflow_gives_it(
    last: bytes, following: bytes, separator: bytes, successor: bytes
) -> None:
    *blocks, _, index, _ = encode_table([(last, bytes(600_000)), (following, bytes(600_000))])
    first, second = (len(data) for data in blocks)
    entries = [entry(0, separator, handle(0, first - 5)), entry(0, successor, handle(first, second - 5))]
    assert index == sealed(block(b"".join(entries), (0, len(entries[0]))))


def test_an_entry_larger_than_two_blocks_gets_one_of_its_own() -> None:
    half = 256 << 10
    for key, value, blocks in ((b"b" * half, bytes(half), 2), (b"b" * half, bytes(half - 1), 1)):
        *data, _, _, _ = encode_table([(b"a", b""), (key, value)])
        assert len(data) == blocks


def test_real_indices_are_rebuilt_to_the_byte(fixtures_dir: Path, tmp_path: Path) -> None:
    """Three that TensorFlow wrote uncompressed: what our builder makes of their entries is the same file."""
    rebuilt = 0
    for path in sorted(fixtures_dir.rglob("*.index")):
        data = path.read_bytes()
        with SourceFile(path) as file:
            entries = list(read_table(file))
        assert entries[0][0] == b""
        if "sonnet" not in path.parts[len(fixtures_dir.parts)]:
            assert b"".join(encode_table(entries)) == data
            rebuilt += 1
    assert rebuilt == 3


def test_a_real_compressed_index_is_read(fixtures_dir: Path) -> None:
    (path,) = (fixtures_dir / "google-deepmind__sonnet").rglob("*.index")
    with SourceFile(path) as file:
        keys = [key for key, _ in read_table(file)]
    assert keys == [
        b"",
        b"_CHECKPOINTABLE_OBJECT_GRAPH",
        b"module/count/.ATTRIBUTES/VARIABLE_VALUE",
        b"module/sum/.ATTRIBUTES/VARIABLE_VALUE",
        b"save_counter/.ATTRIBUTES/VARIABLE_VALUE",
    ]


def test_a_table_is_recognised_by_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for data, expected in ((table(block(entry(0, b"k"))), True), (MAGIC, False), (b"", False), (bytes(100), False)):
        path.write_bytes(data)
        with SourceFile(path) as file:
            assert is_table(file) is expected


def test_the_hand_made_table_of_these_tests_is_a_good_one(tmp_path: Path) -> None:
    one = block(entry(0, b"ab") + entry(1, b"c", b"") + entry(0, b"b"), (0,))
    two = block(entry(0, b"c") + entry(0, b"ca"), (0, len(entry(0, b"c"))))
    data = table(one, two, bounds=(b"bzz", b"ca"))
    assert read(tmp_path, data) == [(b"ab", b"v"), (b"ac", b""), (b"b", b"v"), (b"c", b"v"), (b"ca", b"v")]


def test_a_table_without_entries_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, table()) == []
    assert read(tmp_path, b"".join(encode_table([]))) == []
    empty = sealed(block(b"", (), 0))
    assert read(tmp_path, empty + footer(handle(0, 4), handle(0, 4))) == []


GOOD = block(entry(0, b"a") + entry(1, b"b"))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (block(entry(1, b"a")), "leans on more"),
        (block(entry(0, b"a") + entry(2, b"b")), "leans on more"),
        (block(entry(0, b"a") + entry(1, b"b"), (0, len(entry(0, b"a")))), "leans on more"),
        (block(entry(0, b"a") + entry(2**40, b"b")), "leans on more"),
        (block(b"\x00\x05\x01ab"), "longer than its block"),
        (block(b"\x00\x01" + encode_varint(2**63) + b"ab"), "longer than its block"),
        (block(b"\x00" + encode_varint(2**64 - 1) + b"\x01ab"), "longer than its block"),
        (block(b"\x00" + b"\xff" * 10), "longer than 64 bits"),
        (block(b"\x80"), "cut off"),
        (block(entry(0, b"b") + entry(0, b"a")), "twice, or out of order"),
        (block(entry(0, b"a") + entry(1, b"")), "twice, or out of order"),
        (block(entry(0, b"a"), (1,)), "leads to no entry"),
        (block(entry(0, b"a"), (0, 1)), "leads to no entry"),
        (block(entry(0, b"a"), (0, 0)), "leads to no entry"),
        (block(entry(0, b"a"), (0, 2**32 - 1)), "leads to no entry"),
        (block(entry(0, b"a") + entry(0, b"b"), (len(entry(0, b"a")), 0)), "leads to no entry"),
        (block(entry(0, b"a"), (), 0), "claims 0 restart"),
        (block(entry(0, b"a"), (0,), 2**32 - 1), "claims 4294967295 restart"),
        (block(entry(0, b"a"), (0,), 9), "claims 9 restart"),
        (block(b"", (0,)), "which is not so"),
        (b"", "claims 0 restart|which is not so|too short"),
        (b"\x00", "which is not so|claims"),
    ],
)
def test_a_block_that_lies_is_refused(tmp_path: Path, data: bytes, sentence: str) -> None:
    refused(tmp_path, table(data), sentence)


def test_a_flipped_bit_in_a_block_is_noticed(tmp_path: Path) -> None:
    data = bytearray(table(GOOD))
    data[3] ^= 1
    refused(tmp_path, bytes(data), "does not match its checksum")


def test_an_unknown_compression_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, table(GOOD, compression=2), "unknown compression 2")


def test_keys_must_ascend_from_block_to_block(tmp_path: Path) -> None:
    refused(tmp_path, table(GOOD, GOOD), "twice, or out of order")


def test_an_index_key_before_the_blocks_last_key_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, table(GOOD, bounds=[b"aa"]), "which is not so")


def test_an_index_that_leads_to_one_block_again_and_again_is_refused(tmp_path: Path) -> None:
    data = sealed(GOOD)
    entries = b"".join(entry(0, b"z" * n, handle(0, len(GOOD))) for n in range(1, 50))
    index = block(entries)
    whole = data + sealed(index) + footer(handle(0, len(GOOD)), handle(len(data), len(index)))
    refused(tmp_path, whole, "one block twice")


def test_an_index_that_leads_to_itself_is_refused(tmp_path: Path) -> None:
    size = len(block(entry(0, b"z", handle(0, 100))))
    index = block(entry(0, b"z", handle(0, size)))
    assert len(index) == size
    refused(tmp_path, sealed(index) + footer(handle(0, size), handle(0, size)), "or to itself")


@pytest.mark.parametrize("place", [handle(0, 2**63), handle(2**63, 8), handle(2**64 - 1, 2**64 - 1), handle(40, 9)])
def test_a_handle_beyond_the_file_is_refused(tmp_path: Path, place: bytes) -> None:
    index = block(entry(0, b"z", place))
    for data in (
        sealed(index) + footer(place, handle(0, len(index))),
        sealed(index) + footer(handle(0, len(index)), place),
        sealed(index) + footer(handle(0, len(index)), handle(0, len(index))),
    ):
        refused(tmp_path, data, "which the file does not have")


def test_a_handle_that_is_no_handle_is_refused(tmp_path: Path) -> None:
    index = block(entry(0, b"z", b"\x01"))
    refused(tmp_path, sealed(index) + footer(handle(0, len(index)), handle(0, len(index))), "cut off")
    refused(tmp_path, b"\xff" * 40 + MAGIC, "longer than 64 bits")


def test_a_block_too_large_for_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    with path.open("wb") as out:
        out.seek(8 << 30)
        out.write(footer(handle(0, 8), handle(0, 4 << 30)))
    tracemalloc.start()
    with SourceFile(path) as file, pytest.raises(FormatError, match="more than"):
        list(read_table(file))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_compressed_bomb_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, table(encode_varint(1 << 32) + b"\x00a", compression=1), "more than")


def test_prefixes_that_make_keys_without_end_are_refused(tmp_path: Path) -> None:
    """A key of a megabyte, and a hundred thousand that lean on it: 100 GB of keys in a file of 2 MB."""
    size = 1 << 20
    one = entry(0, b"a" * size) + b"".join(entry(size, n.to_bytes(4, "big")) for n in range(100_000))
    assert len(one) < MAX_BLOCK
    tracemalloc.start()
    refused(tmp_path, table(block(one)), "bytes of keys and values")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 256 << 20


@given(st.integers(0, 2**32))
def test_damaged_tables_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    entries = sorted((b"key/%d" % n, rng.randbytes(20)) for n in range(rng.randint(1, 60)))
    data = b"".join(encode_table(entries))
    try:
        assert read(tmp_path, damaged(data, rng)) == entries
    except FormatError:
        pass


@given(st.integers(0, 2**32))
def test_damaged_blocks_under_a_right_checksum_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    entries = b"".join(entry(3 * (n > 0), b"key%02d"[3 * (n > 0) :] % n) for n in range(20))
    try:
        keys = [key for key, _ in read(tmp_path, table(damaged(block(entries), rng), compression=rng.randint(0, 1)))]
        assert keys == sorted(set(keys))
    except FormatError:
        pass
