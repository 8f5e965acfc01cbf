"""What the Hub lists of a repository."""

from __future__ import annotations

from itertools import islice

from huggingface_hub import HfApi
from huggingface_hub.errors import RemoteEntryNotFoundError
from huggingface_hub.hf_api import RepoFile

from interlingua.convert.remote.storage import MOST_FILES


def listed(
    api: HfApi, repository: str, folder: str, commit: str, *, deep: bool, absent: bool = False
) -> list[RepoFile]:
    """Return the files in a folder of a repository: at most one more than a checkpoint may have.

    Args:
        api: the Hub.
        repository: the repository's name.
        folder: path in it; empty for its root.
        commit: the revision.
        deep: whether its own folders' files are listed, too.
        absent: whether a folder that is not there has no files; otherwise it is an error.

    Raises:
        HfHubHTTPError, httpx2.HTTPError: as huggingface_hub, which has tried again by itself.
    """
    tree = api.list_repo_tree(repository, folder or None, recursive=deep, revision=commit)
    try:
        return list(islice((entry for entry in tree if isinstance(entry, RepoFile)), MOST_FILES + 1))
    except RemoteEntryNotFoundError:
        if absent:
            return []
        raise


def version_of(entry: RepoFile) -> str:
    """Return the version of a file: the SHA-256 of what LFS or Xet has, the name in git of any other."""
    return f"sha256:{entry.lfs.sha256}" if entry.lfs is not None else f"git:{entry.blob_id}"
