"""Read what a source states of its tokenizer: in its own folder, else in what an earlier conversion kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from interlingua.convert.documents import read_object
from interlingua.convert.residue import Residue
from interlingua.convert.source import Checkpoint
from interlingua.errors import FormatError
from interlingua.mappings.config import Json
from interlingua.mappings.match import Match
from interlingua.mappings.registry import DIALECTS
from interlingua.mappings.tokenizer_settings import SmallFiles, TokenizerSettings, flag


@dataclass(frozen=True, slots=True)
class Stated:
    """What is stated of a tokenizer, and a sentence on each file that could not be read."""

    settings: TokenizerSettings
    notes: tuple[str, ...]


def stated_settings(source: Checkpoint, match: Match) -> Stated:
    """Return what a source states of its tokenizer.

    Its own folder has the first word, then its configuration, then what was kept of the systems that it came
    through, the last of them first. A file that is damaged says nothing: it would stop no conversion that carries it.
    """
    notes: list[str] = []
    listed = source.tokens is not None
    own = match.dialect.folder_of(match.table.family.name).settings(_in_folder(source, notes), listed)
    found = own.otherwise(TokenizerSettings(lower_case=flag(source.native_config.get("do_lower_case"))))
    if source.residue is not None:
        for name in dict.fromkeys(entry.dialect for entry in source.residue.of_kind("file")):
            if (dialect := DIALECTS.get(name)) is not None:
                form = dialect.folder_of(source.residue.families.get(name, ""))
                found = found.otherwise(form.settings(_in_residue(source.residue, name, notes), listed))
    return Stated(found, tuple(dict.fromkeys(notes)))


def _in_folder(source: Checkpoint, notes: list[str]) -> SmallFiles:
    """Return what reads the small files beside the weights."""

    def read(name: str) -> Mapping[str, Json]:
        path = source.folder / name
        try:
            return read_object(path) if path.is_file() else {}
        except FormatError:
            notes.append(_unread(name))
            return {}

    return read


def _in_residue(residue: Residue, dialect: str, notes: list[str]) -> SmallFiles:
    """Return what reads the files that were kept of a dialect's folder."""
    kept = residue.of(dialect, "file")

    def read(name: str) -> Mapping[str, Json]:
        try:
            return residue.json(kept[name]) if name in kept else {}
        except FormatError:
            notes.append(_unread(f"The kept {name}"))
            return {}

    return read


def _unread(name: str) -> str:
    return f"{name} cannot be read: what it states of the tokenizer is not carried."
