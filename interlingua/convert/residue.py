"""What a target has no place for, kept in a file beside it, so that converting back restores the source.

Layout of ``interlingua.residue.safetensors``: a safetensors file whose ``__metadata__`` has ``format`` =
``interlingua-residue``, ``version`` = ``1`` and ``entries``: a JSON list with one object for each tensor of
the file: ``key`` (its name in the file), ``kind``, ``dialect`` (whose it is), ``name``, ``reason``; and
``canonical``, where it is a tensor of the model.
``families`` is a JSON object: dialect -> the family that the model was of there.

Kinds: ``tensor``, a tensor by its native name; ``rows``, the first rows of the native tensor ``name``, which
the canonical one lacks; ``file``, the bytes of a file of the folder; ``config``, the bytes of the dialect's
own configuration; ``folded``, a LayerNorm's gamma as it was before ``--preserve outputs`` changed it;
``strings``, how TensorFlow encodes a string tensor; ``name``, without data, what the source called the tensor
``canonical`` where its system's users choose among several names; ``foreign``, a tensor that a trainer kept beside
the model: carried on, never put back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from interlingua.convert.documents import MAX_TEXT, decoded, parse_object
from interlingua.convert.locate import RESIDUE
from interlingua.errors import FormatError
from interlingua.formats.base import Reader
from interlingua.formats.json_text import decode_json
from interlingua.formats.safetensors import SafetensorsReader
from interlingua.mappings.config import Json

FILE_NAME = RESIDUE
FORMAT = "interlingua-residue"
VERSION = "1"
FOLDED_KIND = "folded"
NAME = "name"
KINDS = ("tensor", "rows", "strings", "file", "config", FOLDED_KIND, NAME, "foreign")
STRINGS = "strings"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing kept.

    Attributes:
        key: the tensor's name in the residue file.
        kind: one of ``KINDS``.
        dialect: the dialect that it came from, and to which alone it can return.
        name: native name of the tensor, or path of the file in its folder (with ``/``).
        reason: why the target had no place for it.
        canonical: its canonical name, where it is a tensor of the model; else empty.
    """

    key: str
    kind: str
    dialect: str
    name: str
    reason: str
    canonical: str = ""


def key_of(kind: str, dialect: str, name: str) -> str:
    """Return the name that an entry has in the residue file."""
    return f"{dialect}/{kind}/{name}"


def metadata_of(entries: Iterable[Entry], families: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the residue file's own metadata."""
    rows = [{key: value for key, value in asdict(entry).items() if value} for entry in entries]
    listed = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    more = {"families": json.dumps(dict(families))} if families else {}
    return {"format": FORMAT, "version": VERSION, "entries": listed, **more}


@dataclass(frozen=True, slots=True)
class Residue:
    """A residue file, open for reading."""

    reader: Reader
    entries: tuple[Entry, ...]
    families: Mapping[str, str] = field(default_factory=dict)

    def of(self, dialect: str, kind: str) -> dict[str, Entry]:
        """Return the entries of one dialect and kind by name."""
        return {e.name: e for e in self.entries if e.dialect == dialect and e.kind == kind}

    def of_kind(self, kind: str) -> tuple[Entry, ...]:
        """Return the entries of one kind."""
        return tuple(entry for entry in self.entries if entry.kind == kind)

    def json(self, entry: Entry) -> dict[str, Json]:
        """Return the object that a kept JSON or YAML file is.

        Raises:
            FormatError: it is none.
        """
        return parse_object(self._raw(entry), self.reader.path, entry.name)

    def text(self, entry: Entry) -> str:
        """Return the text that a kept file is.

        Raises:
            FormatError: it is no UTF-8.
        """
        return decoded(self._raw(entry), self.reader.path)

    def _raw(self, entry: Entry) -> bytes:
        nbytes = self.reader.tensors[entry.key].nbytes
        if nbytes > MAX_TEXT:
            raise FormatError(f"keeps a {entry.name} of {nbytes} bytes", path=self.reader.path)
        raw = bytearray(nbytes)
        self.reader.read_into(entry.key, 0, memoryview(raw))
        return bytes(raw)


def open_residue(path: Path) -> Residue:
    """Open a residue file.

    Raises:
        FormatError: it is none, or of a version that is not known here.
    """
    reader = SafetensorsReader(path)
    try:
        entries, families = _entries(reader, path), _families(reader, path)
    except BaseException:
        reader.close()
        raise
    return Residue(reader, entries, families)


def _families(reader: Reader, path: Path) -> dict[str, str]:
    try:
        found = decode_json(reader.metadata.get("families", "{}").encode("utf-8"))
    except ValueError as error:
        raise FormatError("names families in a way that cannot be read", path=path) from error
    if not isinstance(found, dict) or not all(isinstance(family, str) for family in found.values()):
        raise FormatError("names families in a way that cannot be read", path=path)
    return found


def _entries(reader: Reader, path: Path) -> tuple[Entry, ...]:
    metadata = reader.metadata
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
        raise FormatError(
            f"is no residue of version {VERSION}", path=path, hint="Move it away to convert without what it keeps."
        )
    try:
        listed = decode_json(metadata.get("entries", "").encode("utf-8"))
        entries = tuple(Entry(**entry) for entry in listed) if isinstance(listed, list) else ()
    except (ValueError, TypeError) as error:
        raise FormatError("has entries that cannot be read", path=path) from error
    texts = [value for entry in entries for value in asdict(entry).values()]
    if not all(isinstance(value, str) for value in texts) or any(entry.kind not in KINDS for entry in entries):
        raise FormatError("has entries of an unknown kind", path=path)
    for entry in entries:
        if entry.kind in ("file", "config") and not _stays_inside(entry.name):
            raise FormatError(f"keeps a file by the name {entry.name!r}, which leads out of its folder", path=path)
    if {entry.key for entry in entries} != set(reader.tensors) or len(entries) != len(reader.tensors):
        raise FormatError("has entries that are not its tensors", path=path)
    return entries


def _stays_inside(name: str) -> bool:
    return "\0" not in name and not any(part in ("", ".", "..") for part in name.split("/"))
