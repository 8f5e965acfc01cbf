"""Texts beside the weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlingua.convert.documents import MAX_TEXT, json_object, read_json, read_text, to_json
from interlingua.errors import FormatError


def a_file(folder: Path, content: bytes) -> Path:
    (folder / "text").write_bytes(content)
    return folder / "text"


def test_a_text_that_is_no_utf_8_is_refused_with_the_place(tmp_path: Path) -> None:
    path = a_file(tmp_path, "ab汉".encode() + "汉".encode("gbk"))
    with pytest.raises(FormatError) as caught:
        read_text(path)
    assert (caught.value.path, caught.value.offset) == (path, 5)


def test_a_text_too_long_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "text").open("wb") as file:
        file.truncate(MAX_TEXT + 1)
    for read in (read_text, read_json):
        with pytest.raises(FormatError, match="too long"):
            read(tmp_path / "text")


@pytest.mark.parametrize("read", [read_text, read_json])
def test_a_missing_text_is_refused(tmp_path: Path, read) -> None:
    with pytest.raises(FormatError, match="cannot be opened"):
        read(tmp_path / "text")


@pytest.mark.parametrize("content", [b'{"a": "\xc3\xa9"}', b'\xef\xbb\xbf{"a": "\xc3\xa9"}'])
def test_json_is_read_with_and_without_a_mark_in_front(tmp_path: Path, content: bytes) -> None:
    assert read_json(a_file(tmp_path, content)) == {"a": "é"}


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"1", b'"a"', b"null", b"{", b'{"a": "\\ud800"}', b"[" * 99_999, b'{"a": "\xff"}', b"{} x"],
    ids=lambda content: repr(content[:12]),
)
def test_json_that_is_no_object_is_refused(tmp_path: Path, content: bytes) -> None:
    path = a_file(tmp_path, content)
    for read in (read_json, lambda path: json_object(content, path)):
        with pytest.raises(FormatError) as caught:
            read(path)
        assert caught.value.path == path


def test_json_is_written_in_the_given_order_and_readable() -> None:
    assert to_json({"b": "é", "a": [1]}) == '{\n  "b": "é",\n  "a": [\n    1\n  ]\n}\n'
