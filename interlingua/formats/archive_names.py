"""What the members of an archive may be called, and where each may lie: safe paths, each taken once.

A member is at a relative path inside the archive, or the archive is refused by that member's name: absolute paths,
``..``, drive letters, backslashes, links that lead outside, two members at one place, and members below a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from interlingua.errors import FormatError

MAX_MEMBERS = 100_000
"""Files, folders (those that a path implies, too) and links of one archive."""

MAX_NAMES = 32 << 20
"""Characters of their paths, all together."""

MAX_DEPTH = 64
MAX_PATH = 4000
MAX_PART = 255
"""Folders below each other, bytes of a path, and bytes of one name in it: what file systems can hold."""

_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DRIVE = re.compile("[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in an archive.

    Attributes:
        name: its path in the archive, with ``/``, without ``./`` and empty parts.
        size: its bytes once unpacked, as the archive declares them.
    """

    name: str
    size: int


def name_flaw(name: str) -> str | None:
    """Say why a name is no safe path below a folder; None where it is one."""
    if not name:
        return "is empty"
    if _CONTROL.search(name):
        return "has characters that are no text"
    if "\\" in name:
        return "has a backslash"
    if name.startswith("/"):
        return "is an absolute path"
    if _DRIVE.match(name):
        return "begins with a drive letter"
    parts = name.split("/")
    if ".." in parts:
        return "leads out of its folder"
    if len(parts) > MAX_DEPTH or len(name.encode()) > MAX_PATH or any(len(part.encode()) > MAX_PART for part in parts):
        return "is too long"
    return None


def plain_name(name: str) -> str:
    """Return a path without ``.`` and empty parts; an empty one where it is the folder itself."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def name_text(data: bytes) -> str:
    """Return a name: UTF-8, or what an old archive with an unknown code page has, byte by byte."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


class Catalogue:
    """The places that an archive's members take, each of them only once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.links: dict[str, str] = {}
        self._kinds: dict[str, str] = {}
        self._characters = 0

    def file(self, name: str, size: int) -> Member:
        """Enter a regular file."""
        place = self._checked(name, "a file")
        if not place or name.endswith(("/", "/.")):
            raise self._refused(name, "is no name of a file")
        return Member(place, size)

    def folder(self, name: str) -> None:
        """Enter a folder."""
        self._checked(name, "a folder")

    def symbolic(self, name: str, target: str) -> None:
        """Enter a symbolic link, whose target is relative to its folder."""
        place = self._checked(name, "a link")
        parts = target.split("/")
        flaw = name_flaw(target.replace("..", "_") if ".." in parts else target)
        depth = place.count("/")
        for part in parts:
            depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
            if depth < 0:
                flaw = "leads out of the archive"
        self._enter_link(name, place, target, flaw)

    def hard(self, name: str, target: str) -> None:
        """Enter a hard link, whose target is another member."""
        self._enter_link(name, self._checked(name, "a link"), target, name_flaw(target))

    def _enter_link(self, name: str, place: str, target: str, flaw: str | None) -> None:
        if flaw:
            raise self._refused(name, f"is a link to {target[:200]!r}, which {flaw}")
        self.links[place] = target

    def _checked(self, name: str, kind: str) -> str:
        """Return the place that a member of that name takes, when it is one that it may take."""
        flaw = name_flaw(name)
        if flaw:
            raise self._refused(name, flaw)
        place = plain_name(name)
        if not place:
            return place
        there = self._kinds.get(place)
        if there and (there, kind) != ("a folder", "a folder"):
            raise self._refused(name, f"is in it twice, as {there} and as {kind}")
        self._enter(place, kind)
        above = place.rpartition("/")[0]
        while above and above not in self._kinds:
            self._enter(above, "a folder")
            above = above.rpartition("/")[0]
        if above and self._kinds[above] != "a folder":
            raise self._refused(name, f"lies below {above!r}, which is {self._kinds[above]}")
        return place

    def _enter(self, place: str, kind: str) -> None:
        self._kinds[place] = kind
        self._characters += len(place)
        if len(self._kinds) > MAX_MEMBERS or self._characters > MAX_NAMES:
            raise FormatError(f"has more than {MAX_MEMBERS} members, or too long names", path=self.path)

    def _refused(self, name: str, why: str) -> FormatError:
        return FormatError(
            f"member {name[:200]!r} {why}",
            path=self.path,
            hint="An archive like this is not unpacked; ask whoever made it for another.",
        )
