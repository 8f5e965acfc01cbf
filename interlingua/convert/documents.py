"""Small text files beside the weights (configurations, vocabularies), read with the same distrust."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from pathlib import Path

from interlingua.errors import FormatError
from interlingua.formats.base import SourceFile
from interlingua.formats.json_text import MAX_JSON, decode_json
from interlingua.mappings.config import Json

MAX_TEXT = MAX_JSON
"""Longest text, in bytes, that is read."""


def read_text(path: Path) -> str:
    """Return a UTF-8 text file's content.

    Raises:
        FormatError: it is missing, too long, or no UTF-8.
    """
    return decoded(_read(path), path)


def decoded(raw: bytes, path: Path) -> str:
    """Return the text that the bytes of a file are, a byte-order mark taken off.

    Raises:
        FormatError: it is no UTF-8.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError("is no UTF-8 text", path=path, offset=error.start) from error


def _read(path: Path) -> bytes:
    with SourceFile(path) as file:
        if file.size > MAX_TEXT:
            raise FormatError(f"is too long for a text of its kind ({file.size} bytes)", path=path)
        return file.read_at(0, file.size, "the text")


def read_json(path: Path) -> dict[str, Json]:
    """Return the object that a JSON file holds.

    Raises:
        FormatError: it is no JSON, or no object.
    """
    return json_object(_read(path), path)


def json_object(raw: bytes, path: Path) -> dict[str, Json]:
    """Return the object that a UTF-8 JSON text from ``path`` is.

    Raises:
        FormatError: it is no JSON, or no object.
    """
    try:
        found = decode_json(raw.removeprefix(BOM_UTF8))
    except ValueError as error:
        raise FormatError(f"is no valid JSON: {error}", path=path) from error
    if not isinstance(found, dict):
        raise FormatError("holds JSON, but no object", path=path)
    return found


def to_json(value: Json) -> str:
    """Return the JSON text of a value as configurations are usually written: indented, in the given order."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
