from __future__ import annotations

import os
from pathlib import Path

import pytest

from interlingua.convert.remote.uris import Uri, parse, resolve
from interlingua.errors import FormatError, UsageError


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("s3://bucket/a/b", Uri("s3", "bucket", "a/b")),
        ("S3://bucket/a/b/", Uri("s3", "bucket", "a/b")),
        ("gcs://bucket/a", Uri("gs", "bucket", "a")),
        ("https://host:8443/a/b.bin", Uri("https", "host:8443", "a/b.bin")),
        ("hf://org/model@main/sub", Uri("hf", "org", "model@main/sub")),
        ("memory://a/b", Uri("memory", "a", "b")),
        ("memory:///a", Uri("memory", "", "a")),
        ("s3://bucket", Uri("s3", "bucket", "")),
    ],
)
def test_uris_are_taken_apart(text: str, uri: Uri) -> None:
    assert parse(text) == uri


def test_a_uri_is_spelled_with_both_its_slashes() -> None:
    assert str(parse("s3://bucket/a/b/")) == "s3://bucket/a/b"
    assert str(Uri("s3", "bucket", "a/b").parent) == "s3://bucket/a"
    assert str(Uri("s3", "bucket", "a").parent) == "s3://bucket"
    assert Uri("s3", "bucket", "a/b").name == "b"


@pytest.mark.parametrize("text", ["folder/file", "/a/b", "C:/x", "a:b", "s3:x", ""])
def test_what_is_no_uri_is_a_path(text: str) -> None:
    assert resolve(text) == Path(text)
    assert parse(Path(text)) is None


def test_a_file_uri_is_a_path() -> None:
    assert resolve("file:///a/with%20space") == Path("/a/with space")
    with pytest.raises(UsageError, match="on another machine"):
        resolve("file://elsewhere/a")


@pytest.mark.parametrize(
    "text",
    [
        "s3://key:the-secret@bucket/a",
        "https://user:the-secret@host/a",
        "https://host/a?X-Amz-Signature=the-secret",
        "https://host/a#the-secret",
    ],
)
def test_a_secret_in_a_uri_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(text)
    assert "the-secret" not in str(caught.value)


def test_an_unknown_scheme_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"ftp://.*s3://, gs://, https://"):
        resolve("ftp://host/a")


def test_a_path_that_ate_a_slash_is_said_to_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="two slashes"):
        resolve(Path("s3://bucket/a"))
    os.makedirs("s3:/bucket/a")
    assert resolve("s3:/bucket/a") == Path("s3:/bucket/a")


@pytest.mark.parametrize("text", ["s3://bucket/a/../b", "s3://bucket/a//b", "https://host/./a"])
def test_a_path_that_is_not_plain_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="empty part"):
        resolve(text)


def test_a_uri_without_a_place_is_refused() -> None:
    with pytest.raises(UsageError, match="names no place"):
        resolve("s3:///a")
