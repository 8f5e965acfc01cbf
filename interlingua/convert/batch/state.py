"""What a batch remembers beside its outputs: one SQLite file with a row a job and the digests of files.

Each change is a transaction, of its own or together with others, so that a killed batch leaves what was true before or
after it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from interlingua.convert.batch.digests import Stamp
from interlingua.convert.batch.jobs import JobResult
from interlingua.convert.batch.results import result_dict, result_from_dict
from interlingua.errors import FormatError, OutputError

if TYPE_CHECKING:
    from typing_extensions import Self

NAME = ".interlingua-batch.sqlite3"
"""The file's name."""

APPLICATION = 0x696C6261
"""What the file's header says that it is (``ilba``)."""

VERSION = 1
"""Version of its tables."""

TABLES = """
CREATE TABLE jobs (name TEXT PRIMARY KEY, key TEXT NOT NULL, result TEXT NOT NULL);
CREATE TABLE digests (
    device TEXT, inode TEXT, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, digest TEXT NOT NULL,
    PRIMARY KEY (device, inode)
);
CREATE TABLE fingerprints (source TEXT PRIMARY KEY, fingerprint TEXT NOT NULL);
"""
"""A file has one row, that of its last stamp; devices and inodes are text, for they may have 64 bits."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a job: its key when it was last done, and what became of it."""

    key: str
    result: JobResult


class BatchState:
    """The state of the batches in one folder; also a context manager that closes it. For one thread.

    Raises:
        FormatError: the file is damaged, or is something else.
        OutputError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        try:
            # Every statement is a transaction unless it says otherwise.
            self._connection = sqlite3.connect(self.path, isolation_level=None)
        except sqlite3.Error as error:
            raise OutputError(f"{self.path}: cannot be opened: {error}.") from error
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    @contextmanager
    def together(self) -> Iterator[None]:
        """Keep all that is kept in the context, or nothing of it; and wait for the disk once."""
        self._rows("BEGIN IMMEDIATE")
        try:
            yield
            self._rows("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def job(self, name: str) -> Kept | None:
        """Return what is kept of a job; None: nothing."""
        rows = self._rows("SELECT key, result FROM jobs WHERE name = ?", name)
        if not rows:
            return None
        try:
            return Kept(str(rows[0][0]), result_from_dict(json.loads(rows[0][1])))
        except (ValueError, TypeError, KeyError) as error:
            raise self._damaged(str(error)) from error

    def keep_job(self, key: str, result: JobResult, name: str | None = None) -> None:
        """Keep that a job was done, under its name or another one."""
        text = json.dumps(result_dict(result), sort_keys=True)
        self._rows("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)", name or result.name, key, text)

    def digest(self, key: Stamp) -> str | None:
        """Return the SHA-256 that is known of a file."""
        sql = "SELECT size, mtime_ns, ctime_ns, digest FROM digests WHERE device = ? AND inode = ?"
        rows = self._rows(sql, str(key.device), str(key.inode))
        if not rows or rows[0][:3] != (key.size, key.mtime_ns, key.ctime_ns):
            return None
        return str(rows[0][3])

    def keep_digest(self, key: Stamp, digest: str) -> None:
        """Keep the SHA-256 of a file."""
        where = (str(key.device), str(key.inode), key.size, key.mtime_ns, key.ctime_ns)
        self._rows("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)", *where, digest)

    def fingerprint(self, source: str) -> str | None:
        """Return the fingerprint of the model in a source of this content."""
        rows = self._rows("SELECT fingerprint FROM fingerprints WHERE source = ?", source)
        return str(rows[0][0]) if rows else None

    def keep_fingerprint(self, source: str, fingerprint: str) -> None:
        """Keep the fingerprint of the model in a source of this content."""
        self._rows("INSERT OR REPLACE INTO fingerprints VALUES (?, ?)", source, fingerprint)

    def _prepare(self) -> None:
        self._rows("PRAGMA busy_timeout = 10000")
        self._rows("PRAGMA synchronous = NORMAL")
        self._rows("BEGIN IMMEDIATE")
        try:
            application = self._rows("PRAGMA application_id")[0][0]
            version = self._rows("PRAGMA user_version")[0][0]
            names = {str(row[0]) for row in self._rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not names and application == 0:
                self._create()
            elif application != APPLICATION or not {"jobs", "digests", "fingerprints"} <= names:
                raise self._damaged("it holds something else")
            elif version != VERSION:
                raise self._damaged(f"it is of version {version}, and {VERSION} is read here")
            self._rows("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):  # What made it necessary is what is told; the next to open the file undoes it.
            self._connection.rollback()

    def _create(self) -> None:
        for statement in TABLES.split(";"):
            self._rows(statement)
        self._rows(f"PRAGMA application_id = {APPLICATION}")
        self._rows(f"PRAGMA user_version = {VERSION}")

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            raise OutputError(f"{self.path}: cannot be used: {error}.") from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, why: str) -> FormatError:
        return FormatError(
            f"is not a batch's state: {why}",
            path=self.path,
            hint="Move it away: what is unchanged is then converted once more.",
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
