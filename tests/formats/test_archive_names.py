"""A member of an archive is at a safe path inside it, and at a place of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlingua.errors import FormatError
from interlingua.formats import archive_names
from interlingua.formats.archive import open_archive
from interlingua.formats.archive_names import name_flaw, plain_name
from tests.formats.archives import (
    END,
    HEADER,
    PACK,
    PLAIN,
    changed,
    files_below,
    new_folder,
    packed,
    put,
    special,
    unpack,
)

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


def test_links_inside_are_named_and_not_made(tmp_path: Path) -> None:
    data = PLAIN + special("a/l", b"2", "../x") + special("h", b"1", "x") + special("self", b"2", ".") + END
    for kind in ("tar", "tar.gz"):
        path = put(tmp_path / "a", PACK[kind](data))
        assert unpack(path, new_folder(tmp_path)) == {"x": b"1"}
        with open_archive(path) as opened:
            assert list(opened.members) == ["x"]
            assert opened.links == {"a/l": "../x", "h": "x", "self": "."}


def test_names_of_old_code_pages_are_kept_apart(tmp_path: Path) -> None:
    data = changed(HEADER, 0, "ä".encode("latin-1")) + changed(HEADER, 0, "ö".encode("latin-1")) + END
    assert unpack(put(tmp_path / "a", data), new_folder(tmp_path)) == {"ä": b"", "ö": b""}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_too_many_members_or_names_are_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_names, "MAX_MEMBERS", 20)
    good = packed(kind, {f"d/{i}": b"" for i in range(19)})
    assert len(unpack(put(tmp_path / "a", good), new_folder(tmp_path))) == 19
    with pytest.raises(FormatError, match="more than 20 members"):
        unpack(put(tmp_path / "a", packed(kind, {f"d/{i}": b"" for i in range(20)})), new_folder(tmp_path))
    monkeypatch.setattr(archive_names, "MAX_NAMES", 50)
    with pytest.raises(FormatError, match="too long names"):
        unpack(put(tmp_path / "a", good), new_folder(tmp_path))
