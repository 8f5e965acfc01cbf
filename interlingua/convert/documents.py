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

MAX_YAML = 64 << 10
"""Longest YAML text, in bytes, that is read: its parser takes seconds for this much."""

YAML = (".yaml", ".yml")
"""Endings of names of files that hold YAML."""


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


def read_object(path: Path) -> dict[str, Json]:
    """Return the object that a JSON or a YAML file holds; its name says which it is.

    Raises:
        FormatError: it is neither, or no object.
    """
    return parse_object(_read(path), path, path.name)


def parse_object(raw: bytes, path: Path, name: str) -> dict[str, Json]:
    """Return the object that the bytes of a file called ``name`` are; ``path`` is where they were found.

    Raises:
        FormatError: they are no JSON (no YAML, where the name says so), or no object.
    """
    return yaml_object(raw, path) if name.endswith(YAML) else json_object(raw, path)


def yaml_object(raw: bytes, path: Path) -> dict[str, Json]:
    """Return the object that a UTF-8 YAML text from ``path`` is; of several documents the first.

    Tags, anchors and aliases are refused: nothing is made but what the text spells out.

    Raises:
        FormatError: it is no such YAML, or no object.
    """
    from yaml import AliasEvent, SafeLoader, YAMLError, parse, safe_load_all

    if len(raw) > MAX_YAML:
        raise FormatError(f"is too long for YAML ({len(raw)} bytes)", path=path)
    text = decoded(raw, path)
    try:
        for event in parse(text, SafeLoader):
            if isinstance(event, AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise FormatError("holds YAML with a tag, an anchor or an alias", path=path)
        found = next(iter(safe_load_all(text)), None)
    except (YAMLError, ValueError, OverflowError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise FormatError(f"is no YAML that is read here: {reason}", path=path) from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise FormatError("holds YAML, but no object", path=path)
    return found


def to_text(value: Json, name: str) -> str:
    """Return the text of an object as a file called ``name`` holds it: YAML or JSON."""
    return to_yaml(value) if name.endswith(YAML) else to_json(value)


def to_yaml(value: Json) -> str:
    """Return the YAML text of a value, in the given order, everything spelled out."""
    from yaml import SafeDumper, dump

    class Dumper(SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    return str(dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=MAX_YAML))


def to_json(value: Json) -> str:
    """Return the JSON text of a value as configurations are usually written: indented, in the given order."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
