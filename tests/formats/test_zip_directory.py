"""Zip files as zipfile writes them are read exactly; zips that two readers could understand in two ways are refused."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats.base import BLOCK, SourceFile
from interlingua.formats.zip_directory import (
    DEFLATED,
    MAX_ENTRIES,
    STORED,
    MemberStream,
    check_crc,
    looks_like_zip,
    member_names,
    open_zip,
    read_directory,
)
from tests.formats.hostile import damaged

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20
)
CONTENTS = st.one_of(
    st.binary(max_size=300),
    st.tuples(st.binary(max_size=8), st.integers(0, 3 * BLOCK)).map(lambda p: (p[0] or b"\0") * (p[1] // 8)),
)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def unpacked(path: Path) -> dict[str, bytes]:
    """Read a zip through the code under test, and hold sizes to what the directory says."""
    file, entries = open_zip(path)
    with file:
        found = {name: b"".join(MemberStream(file, entry).chunks()) for name, entry in entries.items()}
        assert all(len(found[name]) == entry.size for name, entry in entries.items())
        for name, entry in entries.items():
            if entry.method == STORED:
                assert file.read_at(entry.offset, entry.stored, name) == found[name]
        return found


class Unseekable(io.BytesIO):
    """Makes zipfile write sizes behind the data instead of in front of it."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise OSError

    def tell(self) -> int:
        raise OSError


@given(
    st.dictionaries(NAMES, st.tuples(CONTENTS, st.sampled_from([STORED, DEFLATED]), st.booleans()), max_size=6),
    st.binary(max_size=40),
    st.booleans(),
)
def test_reads_whatever_zipfile_writes(
    tmp_path: Path, members: dict[str, tuple[bytes, int, bool]], comment: bytes, seekable: bool
) -> None:
    out = io.BytesIO() if seekable else Unseekable()
    with zipfile.ZipFile(out, "w") as archive:
        for name, (data, method, wide) in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with archive.open(info, "w", force_zip64=wide) as member:
                member.write(data)
        archive.comment = comment.replace(b"PK", b"")
    path = write(tmp_path / "a.zip", out.getvalue())
    # zipfile, too, looks a name up as it stands in the directory: with the separators of this system.
    names = [info.filename for info in zipfile.ZipFile(path).infolist()]
    assert list(unpacked(path)) == names == list(members)
    assert unpacked(path) == {name: data for name, (data, _, _) in members.items()}
    assert member_names(path) == tuple(names)
    assert looks_like_zip(path.read_bytes())


@given(st.integers(0, 2**32), st.sampled_from([STORED, DEFLATED]))
def test_member_is_read_at_any_place_in_any_order(tmp_path: Path, seed: int, method: int) -> None:
    rng = random.Random(seed)
    data = rng.randbytes(50_000) + bytes(BLOCK) + rng.randbytes(50_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("x", data)
    file, entries = open_zip(tmp_path / "a.zip")
    with file:
        stream = MemberStream(file, entries["x"])
        for _ in range(4):
            start = rng.randrange(len(data))
            view = bytearray(rng.choice([0, 1, 700, BLOCK, len(data) - start]))
            del view[len(data) - start :]
            stream.read_into(start, memoryview(view))
            assert view == data[start : start + len(view)]


def test_more_than_a_member_has_is_not_given(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x", b"12345")
    file, entries = open_zip(tmp_path / "a.zip")
    with file, pytest.raises(ValueError, match="5 bytes"):
        MemberStream(file, entries["x"]).read_into(3, memoryview(bytearray(3)))


def test_unix_mode_and_folders_are_told(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.create_system = 3
    link.external_attr = 0o120777 << 16
    dos = zipfile.ZipInfo("dos")
    dos.create_system = 0
    dos.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "target")
        archive.writestr(dos, "")
        archive.writestr("folder/", "")
    file, entries = open_zip(tmp_path / "a.zip")
    with file:
        assert (entries["link"].mode, entries["dos"].mode) == (0o120777, 0)
        assert [entry.is_folder for entry in entries.values()] == [False, False, True]


def test_zip_of_more_than_four_gigabytes_is_read(tmp_path: Path) -> None:
    big = (4 << 30) + 5
    path = tmp_path / "big.zip"
    forge = Forge([Item("big", size=big, stored=big, crc=7), Item("small", b"abc")])
    with path.open("wb") as out:
        out.write(forge.local(forge.items[0]))
        out.seek(big, io.SEEK_CUR)
        small = out.tell()
        out.write(forge.local(forge.items[1]) + b"abc")
        end = out.tell()
        rows = forge.row(forge.items[0], 0) + forge.row(forge.items[1], small)
        out.write(rows + forge.end(2, end, len(rows)))
    assert zipfile.ZipFile(path).read("small") == b"abc"
    file, entries = open_zip(path)
    with file:
        assert entries["big"].size == big
        assert b"".join(MemberStream(file, entries["small"]).chunks()) == b"abc"


# ---------------------------------------------------------------------------------------------- forged zips


@dataclass(frozen=True)
class Item:
    """A member to forge; whatever is None is what it truly is."""

    name: str
    data: bytes = b""
    method: int = STORED
    flags: int = 0
    raw: bytes | None = None
    size: int | None = None
    stored: int | None = None
    crc: int | None = None
    header: int | None = None
    disk: int = 0
    at_home: dict[str, int] = field(default_factory=dict)
    home_name: bytes | None = None
    home_extra: bytes = b""
    name_bytes: bytes | None = None

    @property
    def packed(self) -> bytes:
        if self.raw is not None:
            return self.raw
        if self.method != DEFLATED:
            return self.data
        squeeze = zlib.compressobj(wbits=-15)
        return squeeze.compress(self.data) + squeeze.flush()

    @property
    def values(self) -> dict[str, int]:
        return {
            "flags": self.flags,
            "method": self.method,
            "crc": zlib.crc32(self.data) if self.crc is None else self.crc,
            "stored": len(self.packed) if self.stored is None else self.stored,
            "size": len(self.data) if self.size is None else self.size,
        }


@dataclass(frozen=True)
class Forge:
    """Lays members out as a zip, lies included."""

    items: list[Item]

    @staticmethod
    def wide(*values: int) -> tuple[list[int], bytes]:
        over = [value for value in values if value >= 0xFFFFFFFF]
        extra = struct.pack(f"<2H{len(over)}Q", 1, 8 * len(over), *over) if over else b""
        return [min(value, 0xFFFFFFFF) for value in values], extra

    def local(self, item: Item) -> bytes:
        v = {**item.values, **item.at_home}
        name = item.home_name or item.name_bytes or item.name.encode()
        (size, stored), extra = self.wide(v["size"], v["stored"])
        extra += item.home_extra
        head = struct.pack(
            "<4s5H3I2H", b"PK\3\4", 20, v["flags"], v["method"], 0, 33, v["crc"], stored, size, len(name), len(extra)
        )
        return head + name + extra

    def row(self, item: Item, header: int) -> bytes:
        v = item.values
        name = item.name_bytes or item.name.encode()
        (size, stored, header), extra = self.wide(
            v["size"], v["stored"], header if item.header is None else item.header
        )
        counts = (len(name), len(extra), 0, item.disk, 0, 0)
        return (
            struct.pack(
                "<4s6H3I5H2I",
                b"PK\1\2",
                20,
                20,
                v["flags"],
                v["method"],
                0,
                33,
                v["crc"],
                stored,
                size,
                *counts,
                header,
            )
            + name
            + extra
        )

    def end(self, count: int, offset: int, nbytes: int) -> bytes:
        return (
            struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, nbytes, min(offset, 0xFFFFFFFF), 0)
            if offset < 0xFFFFFFFF
            else (
                end64(count, offset, nbytes)
                + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, nbytes, 0xFFFFFFFF, 0)
            )
        )

    def build(self, end: Callable[[int, int, int], bytes] | None = None) -> bytes:
        body, places = b"", []
        for item in self.items:
            places.append(len(body))
            body += self.local(item) + item.packed
        rows = b"".join(self.row(item, at) for item, at in zip(self.items, places, strict=True))
        return body + rows + (end or self.end)(len(self.items), len(body), len(rows))


def end64(count: int, offset: int, nbytes: int, /, **lies: int) -> bytes:
    v = {"magic": 0x06064B50, "length": 44, "made": 45, "needed": 45, "own": 0, "first": 0}
    v |= {"here": count, "count": count, "nbytes": nbytes, "offset": offset}
    place = {"disk": 0, "place": offset + nbytes, "disks": 1}
    v |= {key: value for key, value in lies.items() if key in v}
    place |= {key: value for key, value in lies.items() if key in place}
    return struct.pack("<IQ2H2I4Q", *v.values()) + struct.pack("<4sIQI", b"PK\6\7", *place.values())


def refused(path: Path, data: bytes, match: str) -> None:
    """The zip is refused, when its directory is read or at the latest when its members are."""
    write(path, data)
    with pytest.raises(FormatError, match=match):
        unpacked(path)


A = Item("a", b"first " * 20)
B = Item("b", b"second " * 20, DEFLATED)


def test_what_the_forge_builds_honestly_is_read(tmp_path: Path) -> None:
    for items in ([], [A], [A, B], [replace(A, flags=1 << 11)], [replace(B, flags=6, at_home={"flags": 0})]):
        write(tmp_path / "a.zip", Forge(items).build())
        assert unpacked(tmp_path / "a.zip") == {item.name: item.data for item in items}
    wide = Forge([A, B]).build(lambda n, at, size: end64(n, at, size) + Forge([]).end(n, at, size))
    assert unpacked(write(tmp_path / "a.zip", wide)) == {"a": A.data, "b": B.data}


LATE = 1 << 3

LIES = {
    "a duplicate name": ([A, replace(B, name="a")], "twice"),
    "a name hidden behind NUL": ([A, replace(B, name="a\0.txt")], "impossible name"),
    "an empty name": ([replace(A, name="")], "impossible name"),
    "a name that is no UTF-8": ([replace(A, name_bytes=b"\xff\xfe", flags=1 << 11)], "no UTF-8"),
    "another name in front of the data": ([replace(A, home_name=b"z")], "one thing in the zip's directory"),
    "another method in front of the data": ([replace(A, at_home={"method": 8})], "one thing"),
    "another size in front of the data": ([replace(A, at_home={"size": 5})], "one thing"),
    "another stored size in front of the data": ([replace(A, at_home={"stored": 5})], "one thing"),
    "another CRC in front of the data": ([replace(A, at_home={"crc": 5})], "one thing"),
    "no size in front of the data": ([replace(A, at_home={"size": 0})], "one thing"),
    "no CRC in front of the data": ([replace(A, at_home={"crc": 0})], "one thing"),
    "a size that follows, but is another": ([replace(A, flags=LATE, at_home={"size": 5})], "one thing"),
    "a size that follows in one header only": ([replace(A, at_home={"flags": LATE, "crc": 0})], "one thing"),
    "no 64-bit size although it says so": ([replace(A, at_home={"size": 0xFFFFFFFE + 1})], "one thing"),
    "encryption": ([replace(A, flags=1)], "encrypted"),
    "strong encryption": ([replace(A, flags=1 << 6)], "encrypted"),
    "hidden headers": ([replace(A, flags=1 << 13)], "encrypted"),
    "two sizes of a stored member": ([replace(A, size=5)], "two sizes"),
    "data that reaches into the directory": ([replace(A, size=121, stored=121)], "reaches beyond"),
    "data pushed into the directory": (
        [replace(A, stored=125, size=125, home_extra=bytes(9))],
        "into the zip's directory",
    ),
    "data beyond the file": ([replace(A, size=1 << 40, stored=1 << 40)], "reaches beyond"),
    "a header beyond the file": ([replace(A, header=1 << 40)], "reaches beyond"),
    "a header that is none": ([A, replace(B, header=3)], "not where"),
    "another disk": ([replace(A, disk=1)], "several files"),
    "more than deflate can make": ([replace(B, size=1 << 30)], "more than deflate can make"),
    "an unknown method": ([replace(A, method=12)], "method 12"),
    "deflate that goes on": ([replace(B, size=len(B.data) - 1)], "does not end"),
    "deflate that ends early": ([replace(B, size=len(B.data) + 1)], "ends early"),
    "bytes behind deflate's end": ([replace(B, raw=B.packed + b"hidden")], "does not end"),
    "many bytes behind deflate's end": ([replace(B, raw=B.packed + bytes(1 << 18))], "does not end"),
    "deflate without an end": ([replace(A, method=DEFLATED, raw=b"\0\x78\0\x87\xff" + A.data)], "does not end"),
    "deflate cut off": ([replace(B, raw=B.packed[:-3])], "damaged|ends early|does not end"),
    "no deflate": ([replace(B, raw=b"\xff" * 9)], "no deflate"),
    "a wrong CRC of a stored member": ([replace(A, crc=5)], "CRC-32"),
    "a wrong CRC of a deflated member": ([replace(B, crc=5)], "CRC-32"),
    "a wrong CRC of an empty member": ([Item("e", crc=5)], "CRC-32"),
    "data in an empty deflated member": ([replace(B, size=0, crc=0)], "does not end"),
}


@pytest.mark.parametrize("lie", LIES)
def test_member_that_lies_is_refused(tmp_path: Path, lie: str) -> None:
    items, match = LIES[lie]
    refused(tmp_path / "a.zip", Forge(items).build(), match)


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    # The quoting trick: a stored member contains the whole of the next one, header and all.
    inner = Forge([B]).local(B) + B.packed
    outer = Item("outer", inner)
    at = len(Forge([]).local(outer))
    body = Forge([]).local(outer) + inner
    rows = Forge([]).row(outer, 0) + Forge([]).row(B, at)
    refused(tmp_path / "a.zip", body + rows + Forge([]).end(2, len(body), len(rows)), "overlap")


def test_deflate_quoting_the_next_header_is_refused(tmp_path: Path) -> None:
    # Fifield's bomb: each member is a stored deflate block around the next local header, and then shares its data.
    inner = Forge([B]).local(B)
    quote = b"\0" + struct.pack("<2H", len(inner), len(inner) ^ 0xFFFF) + inner + B.packed
    outer = Item("outer", inner + B.data, DEFLATED, raw=quote)
    at = len(Forge([]).local(outer)) + 5
    body = Forge([]).local(outer) + quote
    rows = Forge([]).row(outer, 0) + Forge([]).row(B, at)
    refused(tmp_path / "a.zip", body + rows + Forge([]).end(2, len(body), len(rows)), "overlap")


GOOD = Forge([A, B]).build()
OFFSET = GOOD.index(b"PK\1\2")
ROWS = GOOD.index(b"PK\5\6") - OFFSET


def ended(**lies: int) -> bytes:
    v = {"disk": 0, "first": 0, "here": 2, "count": 2, "nbytes": ROWS, "offset": OFFSET, "comment": 0, **lies}
    return GOOD[: OFFSET + ROWS] + struct.pack("<4s4H2IH", b"PK\5\6", *v.values())


def ended64(**lies: int) -> bytes:
    return GOOD[: OFFSET + ROWS] + end64(2, OFFSET, ROWS, **lies) + GOOD[OFFSET + ROWS :]


ENDS = {
    "no end": (GOOD[: OFFSET + ROWS], "directory is missing"),
    "an empty file": (b"", "directory is missing"),
    "bytes behind the end": (GOOD + b"x", "directory is missing"),
    "a comment longer than the file": (ended(comment=5), "directory is missing"),
    "two ends": (ended(comment=22) + Forge([]).build(), "two ends"),
    "a directory elsewhere": (ended(offset=OFFSET - 1), "not where its end says"),
    "a directory beyond the file": (ended(offset=0xFFFFFFF0), "not where its end says"),
    "a longer directory": (ended(nbytes=ROWS + 1), "not where its end says"),
    "too many rows": (ended(here=3, count=3), "damaged|cut short|too small"),
    "one row less": (ended(here=1, count=1), "longer than its rows"),
    "rows on another disk": (ended(here=1), "several files"),
    "another disk": (ended(disk=1), "several files"),
    "another first disk": (ended(first=1), "several files"),
    "a 64-bit end elsewhere": (ended64(place=3), "not where it should be"),
    "a 64-bit end beyond the file": (ended64(place=1 << 62), "the file ends at"),
    "a 64-bit end of another length": (ended64(length=45), "not where it should be"),
    "another count in 64 bits": (ended64(count=3, here=3), "contradict"),
    "two counts in 64 bits": (ended64(here=1), "contradict"),
    "another place in 64 bits": (ended64(offset=OFFSET - 1), "contradict"),
    "another size in 64 bits": (ended64(nbytes=ROWS - 1), "contradict"),
    "a 64-bit end that is none": (ended64(magic=7), "not where it should be"),
    "another disk in 64 bits": (ended64(own=1), "several files"),
    "another first disk in 64 bits": (ended64(first=1), "several files"),
    "a 64-bit end on another disk": (ended64(disk=1), "several files"),
    "another disk in 16 of 64 bits": (ended64()[:-18] + b"\1" + ended64()[-17:], "several files"),
    "another first disk in 16 of 64 bits": (ended64()[:-16] + b"\1" + ended64()[-15:], "several files"),
    "a row that is none": (GOOD.replace(b"PK\1\2", b"PK\1\3"), "row of the zip's directory is damaged"),
    "several disks in 64 bits": (ended64(disks=2), "several files"),
}


@pytest.mark.parametrize("lie", ENDS)
def test_end_that_lies_is_refused(tmp_path: Path, lie: str) -> None:
    refused(tmp_path / "a.zip", *ENDS[lie])


@pytest.mark.parametrize(("count", "nbytes"), [(MAX_ENTRIES + 1, 46 * (MAX_ENTRIES + 1)), (1, 33 << 20), (2**60, 40)])
def test_directory_larger_than_any_is_refused_before_it_is_read(tmp_path: Path, count: int, nbytes: int) -> None:
    path = tmp_path / "a.zip"
    with path.open("wb") as out:
        out.truncate(nbytes)
        out.seek(nbytes)
        out.write(end64(count, 0, nbytes))
        out.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))
    tracemalloc.start()
    with SourceFile(path) as file, pytest.raises(FormatError, match=r"too many|too small"):
        read_directory(file)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_row_that_runs_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    row = GOOD.rindex(b"PK\1\2")
    data = bytearray(GOOD)
    data[row + 28 : row + 30] = b"\xff\xff"
    refused(tmp_path / "a.zip", bytes(data), "row of the zip's directory is damaged")


def test_missing_64_bit_sizes_are_refused(tmp_path: Path) -> None:
    row = GOOD.index(b"PK\1\2")
    data = bytearray(GOOD)
    data[row + 24 : row + 28] = b"\xff" * 4
    refused(tmp_path / "a.zip", bytes(data), "no 64-bit sizes")


@pytest.mark.parametrize("extra", [b"\1\0\4\0" + bytes(8), b"\1\0\x08\0" + bytes(7), b"\2\0\x08\0" + bytes(8), b"\1"])
def test_64_bit_sizes_cut_short_are_refused(tmp_path: Path, extra: bytes) -> None:
    row = bytearray(Forge([]).row(A, 0))
    row[24:28] = b"\xff" * 4
    row[30:32] = struct.pack("<H", len(extra))
    body = Forge([]).local(A) + A.data
    end = Forge([]).end(1, len(body), len(row) + len(extra))
    refused(tmp_path / "a.zip", body + bytes(row) + extra + end, "no 64-bit sizes")


def test_member_that_unpacks_beyond_four_gigabytes_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    items = [
        Item("zeros", method=DEFLATED, size=5 << 30, stored=6 << 20),
        Item("odd", method=12, size=1 << 30, stored=9),
    ]
    with path.open("wb") as out:
        out.write(Forge([]).local(items[0]))
        out.seek(6 << 20, io.SEEK_CUR)
        second = out.tell()
        out.write(Forge([]).local(items[1]) + bytes(9))
        end = out.tell()
        rows = Forge([]).row(items[0], 0) + Forge([]).row(items[1], second)
        out.write(rows + Forge([]).end(2, end, len(rows)))
    file, entries = open_zip(path)
    with file:
        assert {name: (entry.size, entry.stored) for name, entry in entries.items()} == {
            "zeros": (5 << 30, 6 << 20),
            "odd": (1 << 30, 9),
        }


def test_missing_64_bit_sizes_in_front_of_the_data_are_refused(tmp_path: Path) -> None:
    data = bytearray(GOOD)
    data[18:26] = b"\xff" * 8
    refused(tmp_path / "a.zip", bytes(data), "no 64-bit sizes")


def test_names_of_a_broken_zip_are_none(tmp_path: Path) -> None:
    assert member_names(write(tmp_path / "a.zip", GOOD[:-1])) is None
    assert member_names(tmp_path / "missing.zip") is None
    assert member_names(write(tmp_path / "a.zip", GOOD)) == ("a", "b")


def test_bomb_is_unpacked_in_bounded_memory(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", DEFLATED) as archive, archive.open("zeros", "w") as member:
        for _ in range(64):
            member.write(bytes(1 << 20))
    file, entries = open_zip(tmp_path / "a.zip")
    tracemalloc.start()
    with file:
        check_crc(file, entries["zeros"])
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_damage_ends_in_a_format_error_or_in_what_was_written(tmp_path: Path) -> None:
    rng = random.Random(5)
    honest = {"a": A.data, "b": B.data}
    good = [GOOD, ended64()]
    seen = 0
    for _ in range(600):
        path = write(tmp_path / "a.zip", damaged(rng.choice(good), rng))
        try:
            found = unpacked(path)
        except FormatError:
            seen += 1
            continue
        assert set(found.values()) <= set(honest.values())
    assert seen > 400
