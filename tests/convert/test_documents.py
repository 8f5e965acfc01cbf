"""Texts beside the weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlingua.convert.documents import MAX_TEXT, MAX_YAML, json_object, read_object, read_text, to_json, to_text
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
    for read in (read_text, read_object):
        with pytest.raises(FormatError, match="too long"):
            read(tmp_path / "text")


@pytest.mark.parametrize("read", [read_text, read_object])
def test_a_missing_text_is_refused(tmp_path: Path, read) -> None:
    with pytest.raises(FormatError, match="cannot be opened"):
        read(tmp_path / "text")


@pytest.mark.parametrize("content", [b'{"a": "\xc3\xa9"}', b'\xef\xbb\xbf{"a": "\xc3\xa9"}'])
def test_json_is_read_with_and_without_a_mark_in_front(tmp_path: Path, content: bytes) -> None:
    assert read_object(a_file(tmp_path, content)) == {"a": "é"}


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"1", b'"a"', b"null", b"{", b'{"a": "\\ud800"}', b"[" * 99_999, b'{"a": "\xff"}', b"{} x"],
    ids=lambda content: repr(content[:12]),
)
def test_json_that_is_no_object_is_refused(tmp_path: Path, content: bytes) -> None:
    path = a_file(tmp_path, content)
    for read in (read_object, lambda path: json_object(content, path)):
        with pytest.raises(FormatError) as caught:
            read(path)
        assert caught.value.path == path


def test_json_is_written_in_the_given_order_and_readable() -> None:
    assert to_json({"b": "é", "a": [1]}) == '{\n  "b": "é",\n  "a": [\n    1\n  ]\n}\n'


def test_yaml_is_read_where_the_name_says_so(tmp_path: Path) -> None:
    text = "a: 1.0e-07\nb: {c: [x, true]}\nd: 3\n"
    (tmp_path / "c.yaml").write_text(f"{text}---\nhelp: the second document\n")
    found = read_object(tmp_path / "c.yaml")
    assert found == {"a": 1e-7, "b": {"c": ["x", True]}, "d": 3}
    (tmp_path / "again.yaml").write_text(to_text(found, "again.yaml"))
    assert read_object(tmp_path / "again.yaml") == found
    assert to_text(found, "again.json") == to_json(found)


def test_a_value_that_is_there_twice_is_spelled_out_twice(tmp_path: Path) -> None:
    shared = ["x"]
    (tmp_path / "c.yaml").write_text(to_text({"a": shared, "b": shared}, "c.yaml"))
    assert read_object(tmp_path / "c.yaml") == {"a": ["x"], "b": ["x"]}


@pytest.mark.parametrize(
    "content",
    [
        b"a: &x 1\nb: *x",
        b"a: *x",
        b"a: !!python/object/apply:os.system ['true']",
        b"a: !!str 1",
        b"- 1",
        b"1: 2",
        b"",
        b"a: [",
        b"a: 2001-99-99",
        b"a: " + b"9" * 5000,
        b"a: 0b_",
        b"a: =",
        b"<<: 3",
        b"? {a: 1}\n: 2",
        b"a: " + b"[" * 5000 + b"]" * 5000,
        b"a: \xff",
        b"a: 1\n" * (MAX_YAML // 5 + 1),
    ],
)
def test_hostile_yaml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(FormatError):
        read_object(tmp_path / "c.yaml")
