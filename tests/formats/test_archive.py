"""Archives that tarfile, zipfile and tar itself make are unpacked exactly; hostile ones are not unpacked at all."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import stat
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.errors import FormatError, OutputError
from interlingua.formats import archive
from interlingua.formats.archive import Member, name_flaw, open_archive, plain_name, sniff_archive
from interlingua.formats.registry import probe
from tests.formats.hostile import damaged

KINDS = ("zip", "zip-deflated", "tar", "tar.gz", "tar.bz2", "tar.xz")
PACK: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": lambda data: gzip.compress(data, 1, mtime=0),
    "tar.bz2": lambda data: bz2.compress(data, 1),
    "tar.xz": lambda data: lzma.compress(data, preset=0),
}

PARTS = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\:", exclude_categories=["Cs", "Cc", "Zl", "Zp"]),
    min_size=1,
    max_size=30,
).filter(lambda part: part not in (".", ".."))
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
TREES = st.dictionaries(PATHS, st.binary(max_size=2000), max_size=6).filter(
    lambda tree: not any(other.startswith(name + "/") for name in tree for other in tree)
)


def tarred(tree: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, data in tree.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped(tree: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in tree.items():
            file.writestr(name, data)
    return out.getvalue()


def packed(kind: str, tree: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    if kind.startswith("zip"):
        return zipped(tree, zipfile.ZIP_DEFLATED if kind == "zip-deflated" else zipfile.ZIP_STORED)
    return PACK[kind](tarred(tree, form))


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def new_folder(tmp_path: Path) -> Path:
    folder = tmp_path / f"unpacked{len(os.listdir(tmp_path))}"
    folder.mkdir()
    return folder


def files_below(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.rglob("*"):
        assert not path.is_symlink()
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def unpack(path: Path, folder: Path) -> dict[str, bytes]:
    """Unpack everything through the code under test and return what lies in the folder afterwards."""
    with open_archive(path) as opened:
        done = opened.unpack_needed(folder, lambda _name, _size: True)
        assert done == {name: folder / name for name in opened.members}
        found = files_below(folder)
        assert {name: Member(name, len(data)) for name, data in found.items()} == opened.members
        for name, data in found.items():
            place = opened.in_place(name)
            if place is not None:
                with path.open("rb") as raw:
                    raw.seek(place[0])
                    assert raw.read(place[1]) == data
        return found


# ----------------------------------------------------------------------------------------------- honest archives


@given(TREES, st.sampled_from(KINDS), st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_unpacks_what_was_packed(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, bytes], kind: str, form: int
) -> None:
    folder = tmp_path_factory.mktemp("archive")
    path = put(folder / "a", packed(kind, tree, form))
    if tree:
        assert sniff_archive(probe(path))
    elif not kind.startswith("zip"):
        # Nothing but zeros: a tar of nothing cannot be told from nothing.
        assert not sniff_archive(probe(path))
        return
    assert unpack(path, new_folder(folder)) == tree


@pytest.mark.parametrize("options", [["--format=gnu"], ["--format=pax"], ["--format=ustar"], ["--format=v7"], ["-z"]])
def test_unpacks_what_tar_itself_packs(tmp_path: Path, options: list[str]) -> None:
    source = tmp_path / "source"
    tree = {"vocab.txt": b"a\nb\n", "deep/er/model.bin": os.urandom(100_000), "empty": b""}
    for name, data in tree.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    (source / "same").symlink_to("deep/er/model.bin")
    (source / "deep/up").symlink_to("../vocab.txt")
    os.link(source / "vocab.txt", source / "zz-twin")
    made = subprocess.run(["tar", *options, "-C", source, "-cf", tmp_path / "a.tar", "."], check=False)
    if made.returncode:
        pytest.skip("no tar is installed")
    with open_archive(tmp_path / "a.tar") as opened:
        found = set(opened.members)
        links = dict(opened.links)
    assert unpack(tmp_path / "a.tar", new_folder(tmp_path)).keys() == found
    # Of two hard links tar packs as a file whichever it meets first.
    twin = links.pop("zz-twin", None) or links.pop("vocab.txt")
    assert plain_name(twin) in ("vocab.txt", "zz-twin")
    assert links == {"same": "deep/er/model.bin", "deep/up": "../vocab.txt"}
    assert len(found) == len(tree)
    assert {"deep/er/model.bin", "empty"} < found


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_wanted_is_unpacked(tmp_path: Path, kind: str) -> None:
    tree = {"a.txt": b"aa", "big.bin": bytes(10_000), "sub/b.txt": b"bbb"}
    asked = []

    def wanted(name: str, size: int) -> bool:
        asked.append((name, size))
        return name.endswith(".txt")

    folder = new_folder(tmp_path)
    with open_archive(put(tmp_path / "a", packed(kind, tree))) as opened:
        done = opened.unpack_needed(folder, wanted, budget=5)
    assert asked == [("a.txt", 2), ("big.bin", 10_000), ("sub/b.txt", 3)]
    assert done == {"a.txt": folder / "a.txt", "sub/b.txt": folder / "sub/b.txt"}
    assert files_below(folder) == {"a.txt": b"aa", "sub/b.txt": b"bbb"}


@pytest.mark.parametrize("kind", KINDS)
def test_named_members_are_extracted(tmp_path: Path, kind: str) -> None:
    path = put(tmp_path / "a", packed(kind, {"a": b"1", "b/c": b"2", "d": b"3"}))
    with open_archive(path) as opened:
        assert opened.extract(["b/c"], new_folder(tmp_path)).keys() == {"b/c"}
        with pytest.raises(FormatError, match="no file 'x'"):
            opened.extract(["a", "x"], new_folder(tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_budget_is_never_exceeded(tmp_path: Path, kind: str) -> None:
    path = put(tmp_path / "a", packed(kind, {"a": bytes(60), "b": bytes(60)}))
    folder = new_folder(tmp_path)
    with open_archive(path) as opened, pytest.raises(FormatError, match="more than 100 bytes with 'b'"):
        opened.unpack_needed(folder, lambda _name, _size: True, budget=100)
    assert sum(map(len, files_below(folder).values())) <= 100


def test_compressed_tar_is_unpacked_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    monkeypatch.setattr(archive, "_Unpacked", lambda file, real=archive._Unpacked: passes.append(file) or real(file))
    path = put(tmp_path / "a", packed("tar.gz", {"a": b"1", "b": b"2"}))
    with open_archive(path) as opened:
        assert passes == []
        opened.unpack_needed(new_folder(tmp_path), lambda _name, _size: True)
        assert list(opened.members) == ["a", "b"]
    assert len(passes) == 1


def test_stored_members_are_given_in_place_and_packed_ones_are_not(tmp_path: Path) -> None:
    places = {}
    for kind in KINDS:
        with open_archive(put(tmp_path / "a", packed(kind, {"x": b"12345"}))) as opened:
            places[kind] = opened.in_place("x")
    assert {kind for kind, place in places.items() if place is not None} == {"zip", "tar"}


def test_plain_tar_of_more_than_four_gigabytes_is_read(tmp_path: Path) -> None:
    big = (9 << 30) + 5  # more than eleven octal digits can say
    info = tarfile.TarInfo("big")
    info.size = big
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        header = info.tobuf(form)
        tail = tarred({"small": b"abc"}, form)
        path = tmp_path / "a.tar"
        with path.open("wb") as out:
            out.write(header)
            out.seek(big + -big % 512, io.SEEK_CUR)
            out.write(tail)
        with open_archive(path) as opened:
            assert opened.members == {"big": Member("big", big), "small": Member("small", 3)}
            assert opened.in_place("big") == (len(header), big)
            assert opened.extract(["small"], new_folder(tmp_path))["small"].read_bytes() == b"abc"


def test_several_compressed_streams_and_padding_are_one_archive(tmp_path: Path) -> None:
    data = tarred({"a": os.urandom(3000)})
    for kind in ("tar.gz", "tar.bz2", "tar.xz"):
        pieces = [PACK[kind](data[i : i + 1000]) for i in range(0, len(data), 1000)]
        path = put(tmp_path / "a", b"".join(pieces) + bytes(512))
        assert unpack(path, new_folder(tmp_path)) == {"a": data[512:3512]}


def test_members_are_for_nobody_else_to_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("sub/x")
    info.mode = 0o6777
    folder = new_folder(tmp_path)
    unpack(put(tmp_path / "a", info.tobuf() + bytes(1024)), folder)
    assert stat.S_IMODE((folder / "sub/x").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "sub").stat().st_mode) == 0o700


def test_file_that_is_in_the_way_is_not_overwritten(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    (folder / "a").symlink_to(tmp_path / "victim")
    with open_archive(put(tmp_path / "x", packed("tar", {"a": b"1"}))) as opened, pytest.raises(OutputError):
        opened.extract(["a"], folder)
    assert not (tmp_path / "victim").exists()


def test_other_files_are_not_claimed(tmp_path: Path) -> None:
    others = [
        b"",
        bytes(2000),
        gzip.compress(b"not a tar" * 99),
        b"\x1f\x8b\x08 broken",
        b"BZh9 broken",
        os.urandom(2000),
    ]
    others += [lzma.compress(b"x" * 9000), bz2.compress(b"y" * 9000), b"PK is no zip", b"\xfd7zXZ\0broken"]
    for data in others:
        path = put(tmp_path / "a", data)
        assert not sniff_archive(probe(path))
        with pytest.raises(FormatError):
            unpack(path, new_folder(tmp_path))
    assert not sniff_archive(probe(tmp_path))


# ------------------------------------------------------------------------------------------------- hostile names

BAD_NAMES = {
    "/etc/passwd": "absolute",
    "../x": "leads out",
    "a/../../x": "leads out",
    "a/..": "leads out",
    "a\\..\\x": "backslash",
    "C:/x": "drive letter",
    "C:x": "drive letter",
    "a\nb": "no text",
    "a\x1b[2Jb": "no text",
    "/".join("a" * 70): "too long",
    "x" * 256: "too long",
    "ä" * 130: "too long",
    "/".join(["y" * 250] * 20): "too long",
}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_member_outside_its_folder_is_refused_by_name(tmp_path: Path, kind: str, name: str) -> None:
    path = put(tmp_path / "a", packed(kind, {"good": b"1", name: b"2"}))
    folder = new_folder(tmp_path)
    with pytest.raises(FormatError, match=BAD_NAMES[name]) as caught:
        unpack(path, folder)
    assert repr(name)[:40] in str(caught.value)
    assert files_below(folder).keys() <= {"good"}


def test_flaws_of_names() -> None:
    assert name_flaw("a/b.c") is None
    assert name_flaw("bert/embeddings:0") is None
    assert name_flaw("...") is None
    assert name_flaw("") == "is empty"
    assert name_flaw("a\0b") == name_flaw("\ud800") == "has characters that are no text"
    assert plain_name("./a//b/./c") == "a/b/c"
    assert plain_name("./") == ""


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        ("a/b", "a/./b", "twice"),
        ("a/b", "./a//b", "twice"),
        ("a", "a/b", "lies below 'a'"),
        ("a/b", "a", "twice, as a folder and as a file"),
        ("a/b/c", "a/b", "twice, as a folder and as a file"),
    ],
)
def test_members_at_one_place_are_refused(tmp_path: Path, kind: str, first: str, second: str, match: str) -> None:
    path = put(tmp_path / "a", packed(kind, {first: b"1", second: b"2"}))
    with pytest.raises(FormatError, match=match):
        unpack(path, new_folder(tmp_path))


def special(name: str, kind: bytes, target: str = "", size: int = 0, form: int = tarfile.GNU_FORMAT) -> bytes:
    """The header of a member that is no regular file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info.tobuf(form)


END = bytes(1024)
PLAIN = tarred({"x": b"1"})[:1024]

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


def test_links_inside_are_named_and_not_made(tmp_path: Path) -> None:
    data = PLAIN + special("a/l", b"2", "../x") + special("h", b"1", "x") + special("self", b"2", ".") + END
    for kind in ("tar", "tar.gz"):
        path = put(tmp_path / "a", PACK[kind](data))
        assert unpack(path, new_folder(tmp_path)) == {"x": b"1"}
        with open_archive(path) as opened:
            assert list(opened.members) == ["x"]
            assert opened.links == {"a/l": "../x", "h": "x", "self": "."}


def zip_special(name: str, mode: int, data: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = mode << 16
        file.writestr(info, data)
    return out.getvalue()


ZIP_SPECIAL = {
    "a link to an absolute path": (zip_special("l", 0o120777, b"/etc/passwd"), "absolute"),
    "a link that leads out": (zip_special("l", 0o120777, b"../x"), "leads out"),
    "a link of a megabyte": (zip_special("l", 0o120777, bytes(1 << 20)), "a link of"),
    "a device": (zip_special("d", 0o020666), "no file, folder or link"),
    "a pipe": (zip_special("p", 0o010666), "no file, folder or link"),
    "a folder with data": (zip_special("f/", 0o040755, b"x"), "folder with data"),
}


@pytest.mark.parametrize("attack", ZIP_SPECIAL)
def test_special_member_of_a_zip_is_refused(tmp_path: Path, attack: str) -> None:
    data, match = ZIP_SPECIAL[attack]
    with pytest.raises(FormatError, match=match):
        unpack(put(tmp_path / "a", data), new_folder(tmp_path))


def test_links_and_folders_in_a_zip_are_not_files(tmp_path: Path) -> None:
    with open_archive(put(tmp_path / "a", zip_special("a/l", 0o120777, "../ü".encode()))) as opened:
        assert (opened.members, opened.links) == ({}, {"a/l": "../ü"})
    assert unpack(put(tmp_path / "a", zip_special("f/", 0o040755)), new_folder(tmp_path)) == {}
    assert unpack(put(tmp_path / "a", zip_special("f", 0o100644, b"1")), new_folder(tmp_path)) == {"f": b"1"}


# ---------------------------------------------------------------------------------------------- hostile numbers


def changed(header: bytes, at: int, field: bytes) -> bytes:
    """A header with another field, and the checksum that goes with it."""
    block = bytearray(header[:512])
    block[at : at + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + header[512:]


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    return special("pax", kind, "", len(records)) + records + bytes(-len(records) % 512)


def line(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n".encode()
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


HEADER = special("f", b"0")
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


def test_names_of_old_code_pages_are_kept_apart(tmp_path: Path) -> None:
    data = changed(HEADER, 0, "ä".encode("latin-1")) + changed(HEADER, 0, "ö".encode("latin-1")) + END
    assert unpack(put(tmp_path / "a", data), new_folder(tmp_path)) == {"ä": b"", "ö": b""}


def test_signed_checksums_of_old_writers_are_accepted(tmp_path: Path) -> None:
    block = bytearray(changed(HEADER, 0, b"\xe4"))
    total = sum(byte - 256 * (byte > 127) for byte in block[:148] + b" " * 8 + block[156:])
    block[148:156] = b"%06o\0 " % total
    assert unpack(put(tmp_path / "a", bytes(block) + END), new_folder(tmp_path)) == {"ä": b""}


def test_endless_headers_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 20)
    path = put(tmp_path / "a", special("n", b"L", "", 2) + b"ab" + bytes(510) + PLAIN + END)
    assert unpack(path, new_folder(tmp_path)) == {"ab": b"1"}
    path = put(tmp_path / "a", (special("n", b"L", "", 2) + b"ab" + bytes(510)) * 81 + PLAIN + END)
    with pytest.raises(FormatError, match="too many headers"):
        unpack(path, new_folder(tmp_path))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_too_many_members_or_names_are_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 20)
    good = packed(kind, {f"d/{i}": b"" for i in range(19)})
    assert len(unpack(put(tmp_path / "a", good), new_folder(tmp_path))) == 19
    with pytest.raises(FormatError, match="more than 20 members"):
        unpack(put(tmp_path / "a", packed(kind, {f"d/{i}": b"" for i in range(20)})), new_folder(tmp_path))
    monkeypatch.setattr(archive, "MAX_NAMES", 50)
    with pytest.raises(FormatError, match="too long names"):
        unpack(put(tmp_path / "a", good), new_folder(tmp_path))


# --------------------------------------------------------------------------------------------------------- bombs


@pytest.mark.parametrize("kind", ["zip-deflated", "tar.gz", "tar.bz2", "tar.xz"])
def test_bomb_is_refused_before_it_fills_disk_or_memory(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "RATIO_FLOOR", 3 << 20)
    path = put(tmp_path / "a", packed(kind, {"a": bytes(2 << 20), "b": bytes(30 << 20)}))
    assert path.stat().st_size * archive.MAX_RATIO < 32 << 20
    folder = new_folder(tmp_path)
    tracemalloc.start()
    # Also where nothing in it is wanted: to pass over it is to unpack it.
    for wanted in ({"b"}, set()):
        with pytest.raises(FormatError, match="although it has only"), open_archive(path) as opened:
            opened.extract(wanted, folder)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    assert files_below(folder) == {}


def test_bomb_whose_headers_are_humble_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Bytes that no header speaks of: the headers themselves, and zeros behind the end.
    monkeypatch.setattr(archive, "RATIO_FLOOR", 1 << 20)
    monkeypatch.setattr(archive, "MAX_RATIO", 1)
    headers = b"".join(changed(HEADER, 0, b"%d" % i) for i in range(3000))
    for bomb in (PLAIN + END + bytes(2 << 20), headers + END):
        path = put(tmp_path / "a", lzma.compress(bomb, preset=1))
        with open_archive(path) as opened, pytest.raises(FormatError, match="although it has only"):
            opened.extract([], new_folder(tmp_path))


def test_xz_that_wants_gigabytes_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 512 << 20, "preset": 0}]
    block = bytearray(
        lzma.compress(tarred({"a": b"1"}), lzma.FORMAT_XZ, filters=[{**filters[0], "dict_size": 1 << 20}])
    )
    # The dictionary's size is one byte of the block header, whose CRC-32 follows.
    at = block.index(b"\x21\x01") + 2
    block[at] = 38
    size = (block[12] + 1) * 4
    block[12 + size - 4 : 12 + size] = archive.zlib.crc32(bytes(block[12 : 12 + size - 4])).to_bytes(4, "little")
    with pytest.raises(FormatError, match=r"xz stream.*[Mm]emory"):
        unpack(put(tmp_path / "a", bytes(block)), new_folder(tmp_path))


def test_thousands_of_empty_streams_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "a", gzip.compress(PLAIN + END, mtime=0) + gzip.compress(b"", mtime=0) * 2000)
    with pytest.raises(FormatError, match="cut into"):
        unpack(path, new_folder(tmp_path))


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
def test_damaged_stream_is_noticed_even_behind_the_last_member(tmp_path: Path, kind: str) -> None:
    good = packed(kind, {"a": os.urandom(5000)})
    for bad in (good[:-9], good[:-1], good[:-8] + bytes([good[-8] ^ 1]) + good[-7:], good + b"junk"):
        with pytest.raises(FormatError):
            unpack(put(tmp_path / "a", bad), new_folder(tmp_path))


def test_damaged_archives_end_in_a_format_error_or_in_what_was_packed(tmp_path: Path) -> None:
    rng = random.Random(9)
    tree = {"a/b": b"12345" * 200, "c": b""}
    good = [packed(kind, tree) for kind in KINDS]
    outcomes = set()
    for number in range(400):
        path = put(tmp_path / "a", damaged(rng.choice(good), rng))
        sniff_archive(probe(path))
        folder = tmp_path / f"u{number}"
        folder.mkdir()
        try:
            unpack(path, folder)
            outcomes.add(True)
        except FormatError:
            outcomes.add(False)
        assert all(path.resolve().is_relative_to(folder) for path in folder.rglob("*"))
    assert outcomes == {True, False}
    assert {path.name for path in tmp_path.iterdir()} == {"a", *(f"u{n}" for n in range(400))}
