"""A remote folder as everything above it sees it: files of known size and version, read by ranges, and an upload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from interlingua.errors import FormatError

MOST_FILES = 10_000
"""More files than any checkpoint's folder has: a listing beyond it is refused, not fetched to its end."""


Tell = Callable[[int], None]
"""Told bytes each time some have been sent; fewer than none where a request failed and is made again."""


def unheard(_: int) -> None:
    """Take what is told, where nobody wants to know."""


class NotThereError(FormatError):
    """Nothing is at a place."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a remote folder.

    Attributes:
        name: path in the folder, with ``/``; never absolute, and without ``..``.
        size: bytes.
        version: a text that changes when the content does (``etag:...``, ``sha256:...``, ``git:...``); None where
            the system says nothing of the kind.
    """

    name: str
    size: int
    version: str | None


class Storage(Protocol):
    """A remote folder, or one file and what lies beside it.

    ``read`` is called from several threads at once; nothing else is.

    Attributes:
        uri: the folder, as messages name it: of a pinned revision where there is one, without credentials.
        named: what the user's URI names in the folder: a file, or what the names of several begin with; empty
            where it is the folder itself. A folder that is named so is listed with its own folders, the folder of
            a file without.
        tells: whether ``upload`` tells what it has sent.
    """

    uri: str
    named: str
    tells: bool

    def files(self) -> tuple[RemoteFile, ...]:
        """Return every file below the folder, in order of name.

        Raises:
            FormatError: there is none, it cannot be listed, it has too many files, or a name that is unsafe here.
        """
        ...

    def read(self, file: RemoteFile, start: int, nbytes: int) -> bytes:
        """Return exactly ``nbytes`` bytes of a file from ``start``.

        Raises:
            FormatError: it is gone, cannot be reached, or is not the version that was listed.
        """
        ...

    def local(self, file: RemoteFile) -> Path | None:
        """Return a whole copy of the file that this machine has already (a cache); None where there is none."""
        ...

    def upload(self, folder: Path, names: Sequence[str], *, overwrite: bool, tell: Tell = unheard) -> None:
        """Put a local folder's files there, so that they appear whole or not at all.

        Args:
            folder: a local folder.
            names: all of its files that are uploaded, what makes it a checkpoint (index of shards, weights) first:
                where files come one after another, that comes last.
            overwrite: whether what is there is replaced: the whole folder; of a URI that names a file, the files
                of these names. Without it, a file that is there is an error.
            tell: told bytes that have been sent, from any thread: in the end as many as the files have.

        Raises:
            OutputError: it cannot be written; what was put there is removed again.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
