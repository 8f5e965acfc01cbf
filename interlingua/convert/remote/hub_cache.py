"""Revisions that huggingface_hub has on this machine already, in its cache, for when the Hub is not to be asked.

Layout of the cache: ``refs/<branch>`` holds a commit, ``snapshots/<commit>/<path>`` links to ``blobs/<name>``, and a
blob is called as its content is: the SHA-256 of a large file, the name in git of a small one
(https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi, get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    IncompleteSnapshotError,
    LocalEntryNotFoundError,
    RevisionResolutionError,
)

from interlingua.convert.remote.hub_place import COMMIT, DEFAULT_BRANCH, HubPlace
from interlingua.convert.remote.storage import RemoteFile
from interlingua.errors import FormatError

GITS_OWN = (".gitattributes", ".gitignore")
"""Files that nobody misses."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAMED = 3
"""Missing files that a message names."""


def cached_commit(api: HfApi, place: HubPlace) -> str:
    """Return the commit that a revision was when it was fetched.

    Raises:
        FormatError: it never was.
    """
    try:
        commit = api.resolve_revision(place.repository, revision=place.revision, local_files_only=True).resolved
    except RevisionResolutionError as error:
        raise absent(place) from error
    if not COMMIT.fullmatch(commit):
        raise FormatError(
            f"the cache of huggingface_hub has {commit[:60]!r} for its commit",
            path=place.shown(place.revision, place.path),
            hint="Fetch it again.",
        )
    return str(commit)


def cached_root(place: HubPlace, commit: str) -> Path:
    """Return the folder that has what was fetched of a commit.

    Raises:
        FormatError: there is none.
    """
    try:
        return Path(snapshot_download(place.repository, revision=commit, local_files_only=True))
    except IncompleteSnapshotError as error:
        return Path(error.snapshot_path)
    except LocalEntryNotFoundError as error:
        raise absent(place) from error


def refuse_missing(place: HubPlace, commit: str, root: Path, folder: str, *, deep: bool) -> None:
    """Raise FormatError where the cache has not all files of a folder, as far as it knows which the commit has.

    It knows where the commit was fetched as a whole, or was to be; files that were fetched one by one are taken for
    all that is wanted.
    """
    try:
        tree = get_cached_repo_tree(place.repository, revision=commit)
    except CachedRepoTreeNotFoundError:
        return
    start = f"{folder}/" if folder else ""
    names = (file.path for file in tree if file.path.startswith(start) and file.path not in GITS_OWN)
    missing = [name for name in names if (deep or "/" not in name[len(start) :]) and not (root / name).is_file()]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise FormatError(
            f"HF_HUB_OFFLINE is set, and the cache of huggingface_hub lacks {', '.join(missing[:_NAMED])}{more}",
            path=place.shown(commit, place.path),
            hint=f"Fetch what is missing (hf download {place.repository} --revision {commit}), "
            f"or name the folder of what there is: {root / folder}.",
        )


def cached_files(folder: Path, *, deep: bool) -> Iterator[RemoteFile]:
    """Yield the files in a folder of the cache; with ``deep``, those of its own folders, too."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file():
                yield RemoteFile(path.relative_to(folder).as_posix(), path.stat().st_size, _version(path))
        if not deep:
            return


def _version(path: Path) -> str | None:
    """Return the version of a cached file, which its blob is called by; None where it is no link to one."""
    name = os.path.basename(os.readlink(path)) if path.is_symlink() else ""
    if _SHA256.fullmatch(name):
        return f"sha256:{name}"
    return f"git:{name}" if COMMIT.fullmatch(name) else None


def absent(place: HubPlace) -> FormatError:
    """Return the error that a place is not in the cache."""
    revision = place.revision or DEFAULT_BRANCH
    return FormatError(
        "is not in the cache of huggingface_hub, and HF_HUB_OFFLINE is set",
        path=place.shown(place.revision, place.path),
        hint=f"Unset it; or fetch it where there is a network: hf download {place.repository} --revision {revision}.",
    )
