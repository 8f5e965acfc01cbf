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
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.errors import FormatError, OutputError
from interlingua.formats import archive
from interlingua.formats.archive import open_archive, sniff_archive
from interlingua.formats.archive_names import Member, plain_name
from interlingua.formats.registry import probe
from tests.formats.archives import KINDS, TREES, files_below, new_folder, packed, put, tarred, unpack
from tests.formats.hostile import damaged


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
    real = archive.UnpackedStream
    monkeypatch.setattr(archive, "UnpackedStream", lambda file: passes.append(file) or real(file))
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
