"""What a tar's headers say is checked before it is believed."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from interlingua.errors import FormatError
from interlingua.formats import tar_directory
from tests.formats.archives import END, HEADER, PACK, PLAIN, changed, files_below, new_folder, put, special, unpack

SPECIAL = {
    "a symbolic link to an absolute path": (special("l", b"2", "/etc/passwd"), "absolute"),
    "a symbolic link that leads out": (special("a/l", b"2", "../../x"), "leads out"),
    "a symbolic link that leads out and in again": (special("a/l", b"2", "../../a/x"), "leads out"),
    "a symbolic link to nothing": (special("l", b"2", ""), "is empty"),
    "a symbolic link by backslashes": (special("l", b"2", "..\\..\\x"), "backslash"),
    "a file through a symbolic link": (
        special("l", b"2", "x") + special("l/f", b"0"),
        "lies below 'l', which is a link",
    ),
    "a link in place of a folder": (special("l/f", b"0") + special("l", b"2", "x"), "twice"),
    "a file in place of a link": (special("l", b"2", "x") + special("l", b"0"), "twice"),
    "a hard link to an absolute path": (special("l", b"1", "/etc/passwd"), "absolute"),
    "a hard link that leads out": (special("l", b"1", "../x"), "leads out"),
    "a hard link that brings data": (special("l", b"1", "x", 512) + bytes(512), "no file, but has data"),
    "a folder that brings data": (special("d", b"5", "", 512) + bytes(512), "no file, but has data"),
    "a character device": (special("dev", b"3"), "a device"),
    "a block device": (special("dev", b"4"), "a device"),
    "a pipe": (special("pipe", b"6"), "a pipe"),
    "an old sparse file": (special("s", b"S", "", 512) + bytes(512), "sparse"),
    "the rest of another archive's file": (special("m", b"M"), "another archive"),
    "an incremental folder": (special("d", b"D"), "incremental"),
    "an unknown kind": (special("u", b"Z"), "unknown kind"),
    "a folder outside": (special("../d/", b"5"), "leads out"),
    "a file without a name": (special("", b"0"), "is empty"),
    "a file named as a folder": (special("d/", b"0"), "no name of a file"),
    "the folder itself as a file": (special(".", b"0"), "no name of a file"),
}


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
@pytest.mark.parametrize("attack", SPECIAL)
def test_special_member_is_refused(tmp_path: Path, kind: str, attack: str) -> None:
    data, match = SPECIAL[attack]
    folder = new_folder(tmp_path)
    with pytest.raises(FormatError, match=match):
        unpack(put(tmp_path / "a", PACK[kind](PLAIN + data + END)), folder)
    assert files_below(folder).keys() <= {"x", "l/f"}


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    return special("pax", kind, "", len(records)) + records + bytes(-len(records) % 512)


def line(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n".encode()
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


LONG = special("long", b"L", "", 1 << 30)


NUMBERS = {
    "a negative size in base 256": (changed(HEADER, 124, b"\xff" * 12), "no size"),
    "a size in base 256 beyond the file": (
        changed(HEADER, 124, b"\x80" + b"\xff" * 11),
        "the file ends|cut short|although it has only",
    ),
    "a size in base 256 with another sign": (changed(HEADER, 124, b"\xc0" + bytes(11)), "no size"),
    "a size that is no octal": (changed(HEADER, 124, b"00000000008\0"), "no size"),
    "a size that is signed": (changed(HEADER, 124, b"-0000000001\0"), "no size"),
    "a size beyond the file": (changed(HEADER, 124, b"77777777777\0"), "the file ends|cut short|although it has only"),
    "a wrong checksum": (HEADER[:100] + b"7" + HEADER[101:], "header is damaged"),
    "no end": (b"", "cut short"),
    "half a header": (HEADER[:300], "cut short"),
    "a long name of a gigabyte": (LONG + bytes(1024), "a header has"),
    "a pax header of a gigabyte": (changed(special("p", b"x"), 124, b"10000000000\0"), "a header has"),
    "a pax header cut off": (special("p", b"x", "", 900) + bytes(512), "cut short|the file ends"),
    "a pax length beyond its header": (pax(b"99 path=x\n"), "damaged pax"),
    "a pax length of nothing": (pax(b"0 path=x\n"), "damaged pax"),
    "a pax length that is no number": (pax(b"x path=x\n"), "damaged pax"),
    "a pax length without a space": (pax(b"99999999999"), "damaged pax"),
    "a pax record without a value": (pax(b"7 path\n"), "damaged pax"),
    "a pax path that leads out": (pax(line("path", "../x")) + HEADER, "leads out"),
    "a pax path with NUL": (pax(line("path", "x\0y")) + HEADER, "no text"),
    "a pax target that leads out": (pax(line("linkpath", "/etc/passwd")) + special("l", b"2", "x"), "absolute"),
    "a negative pax size": (pax(line("size", "-1")) + HEADER, "the size"),
    "a pax size of 3000 digits": (pax(line("size", "9" * 3000)) + HEADER, "the size"),
    "a pax size beyond the file": (
        pax(line("size", "9" * 18)) + HEADER,
        "the file ends|cut short|although it has only",
    ),
    "a sparse file in pax": (pax(line("GNU.sparse.major", "1")) + HEADER, "sparse"),
    "one path for all": (pax(line("path", "x"), b"g") + HEADER, "one name or size"),
    "one size for all": (pax(line("size", "0"), b"g") + HEADER, "one name or size"),
}


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
@pytest.mark.parametrize("attack", NUMBERS)
def test_header_that_lies_is_refused(tmp_path: Path, kind: str, attack: str) -> None:
    data, match = NUMBERS[attack]
    end = b"" if "cut short" in match else END
    path = put(tmp_path / "a", PACK[kind](PLAIN + data + end))
    tracemalloc.start()
    with pytest.raises(FormatError, match=match):
        unpack(path, new_folder(tmp_path))
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_harmless_extensions_are_understood(tmp_path: Path) -> None:
    data = pax(line("comment", "harmless"), b"g") + pax(line("mtime", "1.5") + line("path", "ü/x")) + HEADER
    data += (
        special("volume", b"V")
        + special("old/", b"\0")
        + special("d", b"5")
        + special("c", b"7", "", 1)
        + b"1"
        + bytes(511)
    )
    assert unpack(put(tmp_path / "a", data + END), new_folder(tmp_path)) == {"ü/x": b"", "c": b"1"}


def test_signed_checksums_of_old_writers_are_accepted(tmp_path: Path) -> None:
    block = bytearray(changed(HEADER, 0, b"\xe4"))
    total = sum(byte - 256 * (byte > 127) for byte in block[:148] + b" " * 8 + block[156:])
    block[148:156] = b"%06o\0 " % total
    assert unpack(put(tmp_path / "a", bytes(block) + END), new_folder(tmp_path)) == {"ä": b""}


def test_endless_headers_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_directory, "MAX_HEADERS", 80)
    path = put(tmp_path / "a", special("n", b"L", "", 2) + b"ab" + bytes(510) + PLAIN + END)
    assert unpack(path, new_folder(tmp_path)) == {"ab": b"1"}
    path = put(tmp_path / "a", (special("n", b"L", "", 2) + b"ab" + bytes(510)) * 81 + PLAIN + END)
    with pytest.raises(FormatError, match="too many headers"):
        unpack(path, new_folder(tmp_path))
