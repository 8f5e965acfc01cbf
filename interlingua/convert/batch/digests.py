"""SHA-256 of files and of whole sources, remembered by what the system says of each file."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from interlingua.convert.locate import is_archive
from interlingua.convert.source import Asked, open_checkpoint
from interlingua.errors import FormatError

BLOCK = 1 << 20
"""Bytes that are hashed at a time."""

TICK = 50_000_000
"""Nanoseconds in which a file may change twice under one time: one that is younger is not remembered."""


class DigestsStoppedError(Exception):
    """Hashing was asked to stop."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the system says of a file; it changes when the content does.

    The time of the last change of its entry is part of it, for that of the content can be set back.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def settled(self) -> bool:
        """Whether a change from now on would be seen."""
        return time.time_ns() - max(self.mtime_ns, self.ctime_ns) > TICK


def stamp(path: Path) -> Stamp:
    """Return a file's stamp.

    Raises:
        FormatError: the file is not there.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror}", path=path) from error
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class DigestCache(Protocol):
    """Digests that are known of files by their stamps."""

    def digest(self, key: Stamp) -> str | None: ...

    def keep_digest(self, key: Stamp, digest: str) -> None: ...


def file_digest(path: Path, stopped: threading.Event | None = None) -> str:
    """Return the SHA-256 of a file's bytes.

    Raises:
        FormatError: the file cannot be read.
        DigestsStoppedError: ``stopped`` was set meanwhile.
    """
    digest, block = hashlib.sha256(), memoryview(bytearray(BLOCK))
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(block):
                if stopped is not None and stopped.is_set():
                    raise DigestsStoppedError
                digest.update(block[:count])
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror}", path=path) from error
    return digest.hexdigest()


def file_digests(
    paths: Iterable[Path], cache: DigestCache, threads: int = 2, stopped: threading.Event | None = None
) -> dict[Path, str]:
    """Return the SHA-256 of files, those that can be read; what is not in the cache is hashed, and kept there.

    Raises:
        DigestsStoppedError: ``stopped`` was set meanwhile.
    """
    found: dict[Path, str] = {}
    unknown: list[tuple[Path, Stamp, bool]] = []
    for path in dict.fromkeys(paths):
        try:
            key = stamp(path)
        except FormatError:
            continue
        known = cache.digest(key)
        if known is None:
            unknown.append((path, key, key.settled))
        else:
            found[path] = known

    def hashed(entry: tuple[Path, Stamp, bool]) -> str | None:
        try:
            return file_digest(entry[0], stopped)
        except FormatError:
            return None

    with ThreadPoolExecutor(threads) as pool:
        # The cache belongs to this thread alone; the others only hash.
        for (path, key, settled), digest in zip(unknown, pool.map(hashed, unknown), strict=True):
            if digest is None:
                continue
            found[path] = digest
            if settled and _same(path, key):
                cache.keep_digest(key, digest)
    return found


def _same(path: Path, key: Stamp) -> bool:
    try:
        return stamp(path) == key
    except FormatError:
        return False


def source_files(source: Path, asked: Asked, *, model: bool = True) -> dict[str, Path]:
    """Return every file that a source is read from, by its path in the source's folder.

    An archive is one file, whatever is in it.

    Raises:
        InterlinguaError: as ``open_checkpoint`` lists them: it cannot be opened.
    """
    folder = source if source.is_dir() else source.parent
    if is_archive(source):
        files = [source, *(Path(path) for path in (asked.config, asked.vocabulary) if path is not None)]
    else:
        with open_checkpoint(source, asked, model=model) as opened:
            files = [file for path in opened.files for file in _expanded(path)]
    return {_name(file, folder): file for file in sorted(set(files))}


def _expanded(path: Path) -> list[Path]:
    """Return the files that a file, a folder or a prefix stands for."""
    if path.is_dir():
        return [file for file in path.rglob("*") if file.is_file()]
    if path.is_file():
        return [path]
    start = f"{path.name}."
    return [file for file in path.parent.iterdir() if file.name.startswith(start) and file.is_file()]


def _name(file: Path, folder: Path) -> str:
    """Return a file's path in the folder; of one that is elsewhere its name, for the place does not matter."""
    relative = os.path.relpath(file, folder)
    return file.name if relative.startswith("..") else Path(relative).as_posix()


def content_digest(digests: Mapping[str, str]) -> str:
    """Return one digest of several files: the SHA-256 of what ``sha256sum`` prints of them, sorted by name."""
    return hashlib.sha256(sums(digests).encode("utf-8", "surrogateescape")).hexdigest()


def sums(digests: Mapping[str, str]) -> str:
    """Return files' digests as ``sha256sum`` prints them (and ``sha256sum -c`` reads them), sorted by name."""
    return "".join(_line(name, digests[name]) for name in sorted(digests))


def _line(name: str, digest: str) -> str:
    if not any(sign in name for sign in "\\\n\r"):
        return f"{digest}  {name}\n"
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"\\{digest}  {escaped}\n"
