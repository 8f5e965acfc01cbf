"""A remote folder as a local one of lazy files: of their names and sizes, their content fetched as it is read.

Everything that reads paths reads a mirror as it is: detection, sharded containers, prefixes, archives.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from interlingua.convert.remote.opening import open_storage
from interlingua.convert.remote.storage import MOST_FILES, RemoteFile, Storage
from interlingua.convert.remote.uris import Uri
from interlingua.errors import FormatError
from interlingua.formats.archive_names import name_flaw
from interlingua.formats.lazy_files import LazyFile

REQUESTS = 8
"""Requests at a time."""


@dataclass(frozen=True)
class Mirror:
    """A mirror of a remote folder; also a context manager that removes it.

    Attributes:
        folder: the local folder, named as the remote one.
        uri: what it mirrors.
        path: what the user named, in there.
        shown: that, as messages name it.
        listed: what the storage said of each of its files.
    """

    folder: Path
    uri: str
    path: Path
    shown: str
    listed: Mapping[Path, RemoteFile]
    _files: dict[Path, LazyFile]
    _close: ExitStack = field(repr=False)

    def missing(self, paths: Iterable[Path] | None = None) -> int:
        """Return how many bytes of some of its files (None: of all) are not here yet."""
        return sum(file.missing() for file in self._chosen(paths))

    def sizes(self) -> dict[Path, int]:
        """Return the size of each of its files that is fetched as it is read."""
        return {path: file.size for path, file in self._files.items()}

    def fetched(self) -> int:
        """Return how many bytes have been fetched."""
        return sum(file.fetched for file in self._files.values())

    def complete(self, paths: Iterable[Path] | None = None) -> None:
        """Fetch what is missing of some of its files (None: of all), for readers in other processes.

        Raises:
            FormatError: it cannot be fetched, or there is no room for it.
        """
        chosen = self._chosen(paths)
        self.check_space(sum(file.missing() for file in chosen))
        for file in chosen:
            file.have_all()

    def check_space(self, nbytes: int) -> None:
        """Raise FormatError where the disk has no room for as many bytes."""
        free = shutil.disk_usage(self.folder).free
        if nbytes > free:
            raise FormatError(
                f"needs {nbytes} bytes of temporary space in {self.folder.parent.parent}, where {free} are free",
                path=self.uri,
                hint="Set TMPDIR to a place with more room.",
            )

    def _chosen(self, paths: Iterable[Path] | None) -> list[LazyFile]:
        names = self._files if paths is None else set(paths)
        return [file for path, file in self._files.items() if path in names]

    def close(self) -> None:
        """Remove it."""
        self._close.close()

    def __enter__(self) -> Mirror:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_mirror(uri: Uri) -> Mirror:
    """Mirror what a URI names, and what belongs to it: its folder, or the one that it is in.

    Raises:
        FormatError: it is not there, access is refused, or it has names or sizes that no folder here can have.
        UsageError: the packages that it takes are not installed.
    """
    with ExitStack() as stack:
        storage = open_storage(uri)
        stack.callback(storage.close)
        found = storage.files()
        _refuse_hostile(found, storage.uri)
        top = Path(tempfile.mkdtemp(prefix="interlingua-"))
        stack.callback(shutil.rmtree, top, ignore_errors=True)
        folder = top / _local_name(storage.uri)
        folder.mkdir()
        pool = ThreadPoolExecutor(REQUESTS, thread_name_prefix="interlingua-fetch")
        stack.callback(pool.shutdown, cancel_futures=True)
        files: dict[Path, LazyFile] = {}
        for file in found:
            made = _make(storage, file, folder / file.name, pool)
            if made is not None:
                stack.callback(made.close)
                files[folder / file.name] = made
        path = folder / storage.named if storage.named else folder
        shown = f"{storage.uri.rstrip('/')}/{storage.named}" if storage.named else storage.uri
        listed = {folder / file.name: file for file in found}
        return Mirror(folder, storage.uri, path, shown, listed, files, stack.pop_all())


def _refuse_hostile(files: Collection[RemoteFile], uri: str) -> None:
    for file in files:
        flaw = name_flaw(file.name) or ("has an empty part" if "" in file.name.split("/") else None)
        if flaw:
            raise FormatError(f"holds a file {file.name[:200]!r}, whose name {flaw}", path=uri)
        if file.size < 0:
            raise FormatError(f"holds a file {file.name!r} of {file.size} bytes", path=uri)
    if len(files) > MOST_FILES:
        raise FormatError(f"holds more than {MOST_FILES} files", path=uri, hint="Name the checkpoint's own folder.")


def _local_name(uri: str) -> str:
    """Return the last part of a folder's URI, where it can be a folder's name here."""
    name = unquote(uri.rstrip("/").rpartition("/")[2]).partition("@")[0]
    return name if name not in ("", ".") and "/" not in name and not name_flaw(name) else "folder"


def _make(storage: Storage, file: RemoteFile, path: Path, pool: ThreadPoolExecutor) -> LazyFile | None:
    """Make a file of the mirror: lazy, or a link to a copy that is here already."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        copy = storage.local(file)
        if copy is not None:
            path.symlink_to(os.path.abspath(copy))
            return None
        path.touch(mode=0o600, exist_ok=False)

        def fetch(start: int, nbytes: int) -> bytes:
            return storage.read(file, start, nbytes)

        return LazyFile(path, file.size, fetch, pool)
    except (OSError, OverflowError) as error:
        raise FormatError(
            f"a copy of {file.name!r} ({file.size} bytes) cannot be made: {getattr(error, 'strerror', error)}",
            path=storage.uri,
            hint="Set TMPDIR to another place.",
        ) from error
