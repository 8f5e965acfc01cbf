"""Small text files beside the weights (configurations, vocabularies), read with the same distrust."""

from __future__ import annotations

import json
from pathlib import Path

from interlingua.errors import FormatError
from interlingua.formats.base import SourceFile
from interlingua.mappings.config import Json

MAX_TEXT = 64 << 20
"""Longest text, in bytes, that is read."""


def read_text(path: Path) -> str:
    """Return a UTF-8 text file's content.

    Raises:
        FormatError: it is missing, too long, or no UTF-8.
    """
    with SourceFile(path) as file:
        if file.size > MAX_TEXT:
            raise FormatError(f"is too long for a text of its kind ({file.size} bytes)", path=path)
        raw = file.read_at(0, file.size, "the text")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError("is no UTF-8 text", path=path, offset=error.start) from error


def read_json(path: Path) -> dict[str, Json]:
    """Return the object that a JSON file holds.

    Raises:
        FormatError: it is no JSON, or no object.
    """
    return json_object(read_text(path), path)


def json_object(text: str, path: Path) -> dict[str, Json]:
    """Return the object that a JSON text from ``path`` is.

    Raises:
        FormatError: it is no JSON, or no object.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"is no valid JSON: {error}", path=path) from error
    if not isinstance(found, dict):
        raise FormatError("holds JSON, but no object", path=path)
    return found


def to_json(value: Json) -> str:
    """Return the JSON text of a value as configurations are usually written: indented, in the given order."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def count_lines(path: Path) -> int:
    """Return the number of entries of a vocabulary with one token a line; a last empty line is none.

    Only ``\\n`` ends a line: a vocabulary may hold other characters that Python calls line ends.
    """
    text = read_text(path)
    return text.count("\n") + (0 if text.endswith("\n") or not text else 1)
