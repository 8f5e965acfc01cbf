"""An output that goes elsewhere: made in a local folder, uploaded whole, and read back from where it is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from interlingua.convert.locate import INDEX, PROVENANCE, find_weights
from interlingua.convert.remote.mirror import REQUESTS, open_mirror
from interlingua.convert.remote.opening import open_storage
from interlingua.convert.remote.storage import NotThereError, RemoteFile, Storage, Tell, unheard
from interlingua.convert.remote.uris import Uri
from interlingua.errors import CheckError, FormatError, InterlinguaError, OutputError, UsageError
from interlingua.formats.base import SourceFile, blocks
from interlingua.formats.lazy_files import REQUEST
from interlingua.formats.registry import WEIGHT_SUFFIXES

LAST = (".index.json", INDEX)
"""Endings of files that name the others of a checkpoint of several."""


PROVENANCE_ENDINGS = (PROVENANCE, ".provenance.json")
"""Endings of files in which an output says that a batch has made it: of a folder, and beside a weights file."""

DO_NOT_USE = "Do not use it: remove it, and convert again."


Phase = Callable[[str, int | None], None]
"""Told what begins, in words, and how many bytes are told of it; None where none are."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An output on its way.

    Attributes:
        uri: where it goes: a folder; or a weights file.
        path: where it is made, under the name that it will have.
    """

    uri: Uri
    path: Path

    def check(self, *, single_file: bool, overwrite: bool, nbytes: int) -> None:
        """Refuse what could not be uploaded in the end, before any work is done.

        Args:
            single_file: whether the output is a weights file.
            overwrite: whether what is there may be replaced.
            nbytes: bytes of the output.

        Raises:
            OutputError: something is in the way; or what is to be replaced is no checkpoint, and so somebody's work.
        """
        free = shutil.disk_usage(self.path.parent).free
        if nbytes > free:
            raise OutputError(
                f"{self.uri}: is made in {self.path.parent.parent} first, where {free} of {nbytes} bytes are free.",
                hint="Set TMPDIR to a place with more room.",
            )
        if self.uri.scheme == "hf":
            return  # Its commits are whole, and replace nothing for good.
        names = _names_there(self.uri)
        if names and not overwrite:
            raise OutputError(f"{self.uri}: is there already.", hint="Choose another place, or pass --overwrite.")
        if names and not single_file and PROVENANCE not in names:
            _refuse_strangers(self.uri)

    def send(
        self,
        files: Sequence[str],
        *,
        overwrite: bool,
        verify: bool,
        phase: Phase | None = None,
        progress: Tell | None = None,
    ) -> dict[str, str]:
        """Upload what was made; return what ``versions_there`` says of it then.

        Args:
            files: its files, the weights first.
            overwrite: whether what is there is replaced.
            verify: read everything back, and hold it against what was made.
            phase: told what begins.
            progress: told bytes as they are sent, or read back.

        Raises:
            OutputError: it cannot be written; then nothing of it is there.
            CheckError: what is read back is not what was uploaded.
        """
        folder = self.path if self.path.is_dir() else self.path.parent
        names = sorted(dict.fromkeys(files), key=lambda name: not name.endswith(LAST))
        if folder != self.path:
            names.sort(key=lambda name: name != self.path.name)
        # What says of an upload whose it is comes first: what a process that is killed leaves is known by it.
        names.sort(key=lambda name: name.endswith(PROVENANCE_ENDINGS))
        phase, progress = phase or (lambda *_: None), progress or unheard
        nbytes = sum((folder / name).stat().st_size for name in names)
        with closing(open_storage(self.uri)) as storage:
            phase("uploading", nbytes if storage.tells else None)
            storage.upload(folder, names, overwrite=overwrite, tell=progress)
        with closing(open_storage(self.uri)) as storage:
            if verify:
                phase("reading back", nbytes)
                self._compare(storage, folder, names, progress)
            return _versions(storage, storage.files(), self.uri, names)

    def _compare(self, storage: Storage, folder: Path, names: Sequence[str], progress: Tell) -> None:
        there = {file.name: file for file in storage.files()}
        with ThreadPoolExecutor(REQUESTS) as pool:
            for name in names:
                with SourceFile(folder / name) as ours:
                    theirs = there.get(name, RemoteFile(name, ours.size, None))
                    same = theirs.size == ours.size and _same(pool, storage, theirs, ours, progress)
                if not same:
                    raise CheckError(f"{self.uri}: {name}, read back, is not what was uploaded.", hint=DO_NOT_USE)


def versions_there(uri: Uri, names: Collection[str]) -> dict[str, str]:
    """Return what is at a place: path in the folder -> size and version, as one text.

    Of a folder that is every file, so that one more is seen; of a URI that names a weights file only those of
    ``names``, for others beside it are somebody else's, as are the files that describe a repository on the Hub.
    Where a storage knows no versions the result is empty, as where nothing is there.

    Raises:
        FormatError: the storage cannot be reached, or access is refused.
    """
    with closing(open_storage(uri)) as storage:
        try:
            return _versions(storage, storage.files(), uri, names)
        except NotThereError:
            return {}


def _versions(storage: Storage, files: Sequence[RemoteFile], uri: Uri, names: Collection[str]) -> dict[str, str]:
    single = bool(storage.named) or uri.name.endswith(tuple(WEIGHT_SUFFIXES))
    others = _describing(uri)
    counted = [file for file in files if file.name in names or not (single or file.name in others)]
    if any(file.version is None for file in counted):
        return {}
    return {file.name: f"{file.size} {file.version}" for file in counted}


def _describing(uri: Uri) -> Collection[str]:
    """Return the names of files that are at a place, and are no output's."""
    if uri.scheme != "hf":
        return ()
    from interlingua.convert.remote.hub_upload import THE_REPOSITORYS_OWN

    return THE_REPOSITORYS_OWN


def was_uploaded_here(uri: Uri) -> bool:
    """Say whether an output of a batch is there, or what an upload that was cut short has left of one.

    Raises:
        OutputError: the storage cannot be reached, or access is refused.
    """
    with closing(open_storage(uri)) as storage:
        try:
            names = {file.name for file in storage.files()}
        except NotThereError:
            return False
        except FormatError as error:
            raise OutputError(error.message, hint=error.hint) from error
    return PROVENANCE in names or f"{uri.name}{PROVENANCE_ENDINGS[1]}" in names


def _same(pool: ThreadPoolExecutor, storage: Storage, theirs: RemoteFile, ours: SourceFile, progress: Tell) -> bool:
    def same(block: tuple[int, int]) -> bool:
        start, nbytes = block
        same = storage.read(theirs, start, nbytes) == ours.read_at(start, nbytes, "the output")
        progress(nbytes)
        return same

    return all(pool.map(same, blocks(ours.size, REQUEST)))


@contextmanager
def upload_to(uri: Uri) -> Iterator[Upload]:
    """Yield an output that can be made and sent; what was made locally is removed at the end.

    Raises:
        UsageError: nothing is written there.
        OutputError: there is no temporary folder to make it in.
    """
    if uri.scheme in ("http", "https"):
        raise UsageError(f"{uri}: nothing is written to a web server.", hint="Write to a path, s3://, gs:// or hf://.")
    if not uri.path:
        raise UsageError(f"{uri}: names no folder in there.", hint=f"Add one: {uri}/NAME.")
    try:
        top = tempfile.mkdtemp(prefix="interlingua-")
    except OSError as error:
        raise OutputError(f"{uri}: no temporary folder to make it in: {error.strerror}.") from error
    upload = Upload(uri, Path(top, uri.name.partition("@")[0]))
    try:
        yield upload
    except InterlinguaError as error:
        error.message = _renamed(error.message, upload)
        raise
    finally:
        shutil.rmtree(top, ignore_errors=True)


def _renamed(text: str, upload: Upload) -> str:
    parent = str(upload.uri.parent)
    return text.replace(str(upload.path), str(upload.uri)).replace(f"{upload.path.parent}{os.sep}", f"{parent}/")


def _names_there(uri: Uri) -> set[str]:
    """Return what is at a place: of a folder its files; of a file its name."""
    with closing(open_storage(uri)) as storage:
        try:
            names = {file.name for file in storage.files()}
        except NotThereError:
            return set()
        except FormatError as error:
            raise OutputError(error.message, hint=error.hint) from error
        return names & {storage.named} if storage.named else names


def _refuse_strangers(uri: Uri) -> None:
    """Refuse to replace a folder that is no checkpoint, whatever ``--overwrite`` says: it is somebody's work."""
    with open_mirror(uri) as mirror:
        try:
            find_weights(mirror.path)
        except FormatError as error:
            reason = error.message.replace(str(mirror.folder), mirror.uri).removeprefix(f"{mirror.uri}: ")
            raise OutputError(
                f"{uri}: is not replaced, since it is not one checkpoint: {reason}.",
                hint="Choose another place, or clear it away yourself.",
            ) from error
