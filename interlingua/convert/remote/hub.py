"""A model's repository on the Hugging Face Hub as a remote folder, at one commit.

huggingface_hub does the talking: its HF_ENDPOINT, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE hold, and the token is the
one it has (HF_TOKEN, or the file that `hf auth login` writes), sent to nobody but the Hub.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from huggingface_hub import HfApi, constants, is_offline_mode, try_to_load_from_cache
from huggingface_hub.hf_api import RepoFolder

from interlingua.convert.remote.hub_cache import absent, cached_commit, cached_files, cached_root, refuse_missing
from interlingua.convert.remote.hub_place import COMMIT, hub_place
from interlingua.convert.remote.hub_ranges import LIBRARY, ChangedError, Ranges
from interlingua.convert.remote.hub_requests import Requests, quietly
from interlingua.convert.remote.hub_tree import listed, version_of
from interlingua.convert.remote.hub_upload import Upload
from interlingua.convert.remote.storage import MOST_FILES, NotThereError, RemoteFile, Tell, unheard
from interlingua.convert.remote.uris import Uri
from interlingua.errors import FormatError, OutputError, printable
from interlingua.formats.archive_names import name_flaw


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A folder of a repository at a commit.

    Attributes:
        commit: the commit.
        folder: the folder's path in the repository; empty for its root.
        named: what the URI names in the folder; empty where it is the folder.
        files: the files below it.
        ranges: how they are read; None where they are all in the cache.
        cached: the folder in the cache, where the Hub is not asked.
    """

    commit: str
    folder: str
    named: str
    files: tuple[RemoteFile, ...]
    ranges: Ranges | None = None
    cached: Path | None = None

    def path(self, file: RemoteFile) -> str:
        """Return a file's path in the repository."""
        return _joined(self.folder, file.name)


class HubStorage:
    """The Storage of ``hf://ORGANISATION/MODEL[@REVISION][/PATH]``.

    A branch or a tag is looked up once, when the files are listed; from then on ``uri`` and every read are of the
    commit that it was. Where HF_HUB_OFFLINE is set, all of that comes out of the cache. An upload is one commit to
    the branch that the URI names (``main`` where it names none), after which this is of that commit.

    Args:
        uri: the place.
        endpoint: the Hub, where it is not the one of HF_ENDPOINT.
        pause: how a number of seconds is waited before something is tried again.

    Raises:
        UsageError: the URI names no model.
    """

    tells = False  # huggingface_hub draws bars of its own, and says nothing to anybody else.

    def __init__(self, uri: Uri, *, endpoint: str | None = None, pause: Callable[[float], object] = time.sleep) -> None:
        self._place = hub_place(uri)
        self._api = HfApi(endpoint=endpoint, library_name=LIBRARY)
        self._requests = Requests(self._api.endpoint, self._place.repository, pause)
        self._commit = self._place.commit
        self._snapshot: _Snapshot | None = None
        self.uri = self._place.shown(self._place.revision, self._place.path)
        self.named = ""

    def files(self) -> tuple[RemoteFile, ...]:
        return self._opened().files

    def read(self, file: RemoteFile, start: int, nbytes: int) -> bytes:
        snapshot = self._opened()
        path = snapshot.path(file)
        shown = self._place.shown(snapshot.commit, path)
        if not 0 <= start <= start + nbytes <= file.size:
            raise FormatError(f"has no bytes {start} to {start + nbytes}", path=shown)
        if nbytes == 0:
            return b""
        ranges = snapshot.ranges
        if ranges is None:
            return _read_cached(self.local(file), file, start, nbytes, shown)
        try:
            return self._requests.ask(lambda: ranges.read(path, file, start, nbytes), shown)
        except ChangedError as error:
            raise FormatError(str(error), path=shown, hint="Begin again, with what is there now.") from error

    def local(self, file: RemoteFile) -> Path | None:
        snapshot = self._opened()
        if snapshot.cached is not None:
            return snapshot.cached / file.name
        found = try_to_load_from_cache(self._place.repository, snapshot.path(file), revision=snapshot.commit)
        if not isinstance(found, str) or os.path.getsize(found) != file.size:
            return None
        return Path(found)

    def upload(self, folder: Path, names: Sequence[str], *, overwrite: bool, tell: Tell = unheard) -> None:
        if is_offline_mode():
            raise OutputError(f"{self.uri}: cannot be written while HF_HUB_OFFLINE is set.", hint="Unset it.")
        with quietly():
            self._commit = Upload(self._api, self._requests, self._place).put(folder, names, overwrite=overwrite)
        self._snapshot = None
        self.uri = self._place.shown(self._commit, self._place.path)

    def close(self) -> None:
        """Let go of nothing: the connections are huggingface_hub's, which shares them in the process."""

    def _opened(self) -> _Snapshot:
        if self._snapshot is None:
            with quietly():
                self._snapshot = self._cached() if is_offline_mode() else self._listed()
            self._commit, self.named = self._snapshot.commit, self._snapshot.named
            self.uri = self._place.shown(self._commit, self._snapshot.folder)
        return self._snapshot

    def _cached(self) -> _Snapshot:
        commit = self._commit or cached_commit(self._api, self._place)
        root = cached_root(self._place, commit)
        folder, named = self._place.path, ""
        if not (root / folder).is_dir():
            folder, named = _parted(folder)
        refuse_missing(self._place, commit, root, folder, deep=not named)
        files = self._checked(cached_files(root / folder, deep=not named), named, absent(self._place))
        return _Snapshot(commit, folder, named, files, cached=root / folder)

    def _listed(self) -> _Snapshot:
        commit = self._commit = self._commit or self._looked_up()
        shown = self._place.shown(commit, self._place.path)
        folder, named = self._place.path, ""
        if folder and not self._is_folder(commit):
            folder, named = _parted(folder)
        # This call tries again by itself.
        tree = self._requests.ask(
            lambda: listed(self._api, self._place.repository, folder, commit, deep=not named), shown, again=False
        )
        found = (RemoteFile(entry.path[len(folder) :].lstrip("/"), entry.size, version_of(entry)) for entry in tree)
        missing = NotThereError(
            "is not in the repository at this revision" if self._place.path else "has no files",
            path=shown,
            hint=f"See {self._api.endpoint}/{self._place.repository}/tree/{commit} for what is there.",
        )
        files = self._checked(found, named, missing)
        return _Snapshot(commit, folder, named, files, Ranges(self._api, self._place.repository, commit))

    def _looked_up(self) -> str:
        """Return the commit that the branch or tag is now."""
        found = self._requests.ask(
            lambda: (
                self._api.model_info(
                    self._place.repository, revision=self._place.revision, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
                ).sha
            ),
            self.uri,
        )
        if found is None or not COMMIT.fullmatch(found):
            raise FormatError(f"the Hub names no commit, but {found!r:.60}", path=self.uri)
        return str(found)

    def _is_folder(self, commit: str) -> bool:
        path = self._place.path
        found = self._requests.ask(
            lambda: self._api.get_paths_info(self._place.repository, [path], revision=commit),
            self._place.shown(commit, path),
        )
        return any(isinstance(entry, RepoFolder) and entry.path == path for entry in found)

    def _checked(self, found: Iterable[RemoteFile], named: str, missing: FormatError) -> tuple[RemoteFile, ...]:
        """Return the files in order.

        Raises:
            FormatError: they are too many, or have unsafe names; or ``missing``, where none is called as ``named`` is.
        """
        files = tuple(sorted(islice(found, MOST_FILES + 1), key=lambda file: file.name))
        if len(files) > MOST_FILES:
            raise FormatError(
                f"has more than {MOST_FILES} files", path=self.uri, hint="Name the folder of the checkpoint in it."
            )
        for file in files:
            flaw = name_flaw(file.name)
            if flaw:
                raise FormatError(f"the name {printable(file.name, 200)} {flaw}", path=self.uri)
        if not any(not named or file.name == named or file.name.startswith(f"{named}.") for file in files):
            raise missing
        return files


def _read_cached(path: Path | None, file: RemoteFile, start: int, nbytes: int, shown: str) -> bytes:
    try:
        with open(path or "", "rb") as stream:
            stream.seek(start)
            data = stream.read(nbytes)
    except OSError as error:
        raise FormatError(f"cannot be read from the cache: {error.strerror}", path=shown) from error
    if len(data) != nbytes or os.path.getsize(path or "") != file.size:
        raise FormatError("has changed in the cache", path=shown, hint="Fetch it again.")
    return data


def _parted(path: str) -> tuple[str, str]:
    """Return the folder that a path is in, and its name there."""
    folder, _, name = path.rpartition("/")
    return folder, name


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
