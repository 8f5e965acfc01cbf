"""The YAML of a batch's manifest as plain values, each with the line that it stands on.

Nothing is made but mappings, lists, texts, numbers, booleans and null. Anchors, aliases and ``<<`` are followed, up
to a number of values that no manifest written by hand comes near.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from interlingua.convert.documents import decoded
from interlingua.errors import FormatError, UsageError
from interlingua.formats.base import SourceFile
from interlingua.mappings.config import Json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yaml import MappingNode, Node, ScalarNode

MAX_MANIFEST = 256 << 10
"""Longest manifest, in bytes."""

MAX_VALUES = 50_000
"""Values that it may hold once every alias is followed."""

MAX_DEPTH = 24
"""Mappings and lists in each other; a manifest has six."""

MAX_BITS = 64
"""Bits of a number: Python does not spell out those of many thousands, which a few characters make."""

Place = tuple[str | int, ...]
"""Keys and numbers (from 0) on the way to a value: ``("jobs", 3, "to")``."""

TAG = "tag:yaml.org,2002:"
MERGE = f"{TAG}merge"
TEXTS = (f"{TAG}str", f"{TAG}timestamp", f"{TAG}value")
"""Tags of scalars that are taken as they are spelled: a date is a text here."""


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest as it was written.

    Attributes:
        path: its file.
        value: what it holds.
        lines: place of a value -> its line, from 1.
    """

    path: Path
    value: dict[str, Json]
    lines: Mapping[Place, int]

    def line_of(self, place: Place) -> int:
        """Return the line of a value; where it is not there, that of what it would be in."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def error(self, place: Place, problem: str, hint: str | None = None) -> UsageError:
        """Return the error that names file, line and key of what is wrong."""
        return _error(self.path, self.line_of(place), place, problem, hint)


def spelled(place: Place) -> str:
    """Return a place as people write it: ``jobs[3].to``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def read_yaml(path: Path) -> Document:
    """Read a manifest's YAML.

    Raises:
        FormatError: it is missing, too long, or no YAML.
        UsageError: a key is there twice, it has tags, or is no mapping.
    """
    from yaml import MarkedYAMLError, SafeLoader, YAMLError, compose

    with SourceFile(path) as file:
        if file.size > MAX_MANIFEST:
            raise FormatError(f"is too long for a manifest ({file.size} bytes)", path=path)
        text = decoded(file.read_at(0, file.size, "the manifest"), path)
    try:
        root = compose(text, SafeLoader)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise FormatError(f"{path}:{line}: is no YAML: {error.problem or error.context}") from error
    except (YAMLError, ValueError) as error:
        raise FormatError(f"is no YAML: {' '.join(str(error).split())}", path=path) from error
    except RecursionError as error:
        raise FormatError("is nested too deeply", path=path) from error
    builder = _Builder(path)
    value = builder.value(root, ()) if root is not None else None
    if not isinstance(value, dict):
        raise _error(path, 1, (), "a manifest is a mapping", "It begins with `version: 1`.")
    return Document(path, value, builder.lines)


@dataclass(slots=True)
class _Builder:
    """Makes values of YAML nodes and remembers their lines."""

    path: Path
    lines: dict[Place, int] = field(default_factory=dict)
    count: int = 0

    def value(self, node: Node, place: Place) -> Json:
        """Return what a node stands for."""
        from yaml import MappingNode, ScalarNode, SequenceNode

        self.count += 1
        self.lines.setdefault(place, _line(node))
        if self.count > MAX_VALUES or len(place) > MAX_DEPTH:
            raise self._error(node, place, "holds too much, its aliases followed")
        if isinstance(node, MappingNode) and node.tag == f"{TAG}map":
            return self._mapping(node, place)
        if isinstance(node, SequenceNode) and node.tag == f"{TAG}seq":
            return [self.value(item, (*place, number)) for number, item in enumerate(node.value)]
        if isinstance(node, ScalarNode):
            return self._scalar(node, place)
        raise self._error(node, place, f"has the tag {node.tag!r}, which means nothing here")

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, Json]:
        entries: dict[str, tuple[Node, Node]] = {}
        for key, value in node.value:
            if key.tag == MERGE:
                continue
            name = self._key(key, place)
            if name in entries:
                first = _line(entries[name][0])
                raise self._error(key, (*place, name), f"is there twice, on line {first} too")
            entries[name] = (key, value)
        for key, value in self._merged(node, place):
            entries.setdefault(self._key(key, place), (key, value))
        found = {}
        for name, (key, value) in entries.items():
            inner = (*place, name)
            self.lines[inner] = _line(key)
            found[name] = self.value(value, inner)
        return found

    def _merged(self, node: MappingNode, place: Place, depth: int = 0) -> Iterator[tuple[Node, Node]]:
        """Yield the entries that ``<<`` brings, those that win first."""
        from yaml import MappingNode, SequenceNode

        for key, value in node.value:
            if key.tag != MERGE:
                continue
            for source in value.value if isinstance(value, SequenceNode) else [value]:
                self.count += 1
                if not isinstance(source, MappingNode) or depth > MAX_DEPTH or self.count > MAX_VALUES:
                    raise self._error(key, place, "has a `<<` that is not followed by mappings")
                for entry in source.value:
                    self.count += 1
                    if entry[0].tag != MERGE:
                        yield entry
                yield from self._merged(source, place, depth + 1)

    def _key(self, node: Node, place: Place) -> str:
        from yaml import ScalarNode

        if not isinstance(node, ScalarNode):
            raise self._error(node, place, "has a key that is no text")
        return self._text(node, place)

    def _scalar(self, node: ScalarNode, place: Place) -> Json:
        from yaml import SafeLoader

        if node.tag in TEXTS:
            return self._text(node, place)
        if node.tag not in (f"{TAG}bool", f"{TAG}int", f"{TAG}float", f"{TAG}null"):
            raise self._error(node, place, f"has the tag {node.tag!r}, which means nothing here")
        try:
            made: Json = SafeLoader("").construct_object(node)
        except (ValueError, LookupError, OverflowError) as error:  # `!!int x`, or more digits than Python reads.
            raise self._error(node, place, "is no value of the kind that it claims") from error
        if isinstance(made, int) and made.bit_length() > MAX_BITS:
            raise self._error(node, place, "is too large a number")
        return made

    def _text(self, node: ScalarNode, place: Place) -> str:
        text: str = node.value
        if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
            raise self._error(node, place, "holds what is no text")
        return text

    def _error(self, node: Node, place: Place, problem: str) -> UsageError:
        return _error(self.path, _line(node), place, problem, None)


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _error(path: Path, line: int, place: Place, problem: str, hint: str | None) -> UsageError:
    where = f"{spelled(place)}: " if place else ""
    return UsageError(f"{path}:{line}: {where}{problem}", hint=hint)
