"""Archives for the tests: honest ones of every kind, and headers that are made up."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

from interlingua.formats.archive import open_archive
from interlingua.formats.archive_names import Member

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


def special(name: str, kind: bytes, target: str = "", size: int = 0, form: int = tarfile.GNU_FORMAT) -> bytes:
    """The header of a member that is no regular file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info.tobuf(form)


END = bytes(1024)


PLAIN = tarred({"x": b"1"})[:1024]


def changed(header: bytes, at: int, field: bytes) -> bytes:
    """A header with another field, and the checksum that goes with it."""
    block = bytearray(header[:512])
    block[at : at + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + header[512:]


HEADER = special("f", b"0")
