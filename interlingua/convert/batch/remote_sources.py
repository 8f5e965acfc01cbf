"""Sources that are elsewhere: what decides their content, told by the storage where it can, and hashed where not."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from interlingua.convert.batch.digests import DigestsStoppedError, file_digest, source_files
from interlingua.convert.batch.places import elsewhere, revision, unversioned, with_commit
from interlingua.convert.locate import Place
from interlingua.convert.remote.mirror import Mirror, open_mirror
from interlingua.convert.remote.uris import Uri
from interlingua.convert.source import Asked
from interlingua.errors import FormatError, InterlinguaError

ALGORITHM = "sha256"
"""What a file is hashed with whose storage knows no version of it."""


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """A source that is elsewhere, as it was found.

    Attributes:
        uri: its URI; on the Hub of the commit that its revision was.
        digest: one for all of its files' names, sizes and versions, and for where it is.
        versions: path in the source's folder -> version of the file; ``sha256:...`` of its bytes where the storage
            knows none, and of a file that is here (a configuration that was named).
        nbytes: bytes of its files.
    """

    uri: str
    digest: str
    versions: Mapping[str, str]
    nbytes: int


@contextmanager
def mirrored(uri: Uri) -> Iterator[Mirror]:
    """Yield a mirror; errors from what is done with it name what it mirrors.

    Raises:
        InterlinguaError: as ``open_mirror``.
    """
    with open_mirror(uri) as mirror:
        try:
            yield mirror
        except InterlinguaError as error:
            Place(mirror.path, mirror.folder, mirror.close, path=mirror.path, mirror=mirror).rename(error)
            raise


def described(
    uri: Uri, mirror: Mirror, asked: Asked, *, model: bool = True, stopped: threading.Event | None = None
) -> RemoteSource:
    """Return what is known of a source that is mirrored; no more is fetched of it than it takes to open it.

    Where the storage knows no version of a file, the file is fetched and hashed.

    Raises:
        InterlinguaError: it cannot be opened.
        DigestsStoppedError: ``stopped`` was set meanwhile.
    """
    versions, sizes = {}, {}
    for name, path in source_files(mirror.path, asked, model=model).items():
        listed = mirror.listed.get(path)
        sizes[name] = path.stat().st_size if listed is None else listed.size
        if listed is None or listed.version is None:
            mirror.complete([path])
            versions[name] = f"{ALGORITHM}:{file_digest(path, stopped)}"
        else:
            versions[name] = listed.version
    # Not every version is told by the content alone: those of two places may be equal, and the content not.
    lines = [unversioned(uri), *(f"{versions[name]} {sizes[name]} {name}" for name in sorted(versions))]
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    shown = mirror.shown if uri.scheme == "hf" else str(uri)
    return RemoteSource(shown, digest, versions, sum(sizes.values()))


class RemoteSources:
    """The sources of one batch: each looked at once, and a branch on the Hub looked up once for all of them."""

    def __init__(self, stopped: threading.Event | None = None) -> None:
        self._stopped = stopped
        self._commits: dict[tuple[str, str], str] = {}

    def find(self, uri: Uri, asked: Asked, *, model: bool = True) -> RemoteSource:
        """Return what is known of a source.

        Raises:
            InterlinguaError: it cannot be reached, or not be opened.
            DigestsStoppedError: the batch was stopped.
        """
        if self._stopped is not None and self._stopped.is_set():
            raise DigestsStoppedError
        repository = (uri.authority, uri.path.partition("/")[0])
        if uri.scheme == "hf" and repository in self._commits:
            uri = with_commit(uri, self._commits[repository])
        with mirrored(uri) as mirror:
            found = described(uri, mirror, asked, model=model, stopped=self._stopped)
        pinned = elsewhere(found.uri) if uri.scheme == "hf" else None
        if pinned is not None:
            self._commits[repository] = revision(pinned)
        return found


def refuse_other(found: RemoteSource, digest: str | None) -> None:
    """Refuse a source that is no longer what the batch has looked at.

    Raises:
        FormatError: it is another one.
    """
    if digest is not None and found.digest != digest:
        raise FormatError(
            "has changed since the batch has looked at it",
            path=found.uri,
            hint="Run the batch again: it converts what is there then.",
        )
