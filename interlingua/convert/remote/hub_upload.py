"""An upload to the Hub: one commit upon the one that was looked at, so that it is there whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile

from interlingua.convert.remote.hub_place import DEFAULT_BRANCH, HubPlace
from interlingua.convert.remote.hub_requests import Requests
from interlingua.convert.remote.hub_tree import listed
from interlingua.convert.remote.storage import MOST_FILES
from interlingua.errors import OutputError

THE_REPOSITORYS_OWN = frozenset(
    {".gitattributes", ".gitignore", "README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE"}
)
"""Files at a repository's root that describe it and not a checkpoint: they are in nobody's way, and are kept."""

NOTHING_IGNORED = "# Every file of a checkpoint is needed.\n"
"""A ``.gitignore`` in place of the repository's own, by which the Hub would leave out files without a word."""

MOVED = 412
"""The Hub's answer (Precondition Failed, RFC 9110) where a branch is no longer at the parent that a commit names."""

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload to a branch of a repository.

    Attributes:
        api: the Hub.
        requests: how it is asked.
        place: the branch, and the path in the repository.
    """

    api: HfApi
    requests: Requests
    place: HubPlace

    def put(self, folder: Path, names: Sequence[str], *, overwrite: bool) -> str:
        """Commit a local folder's files; return the commit.

        Args:
            folder: the folder.
            names: its files that are uploaded; where the first is called as the place is, they go beside it.
            overwrite: whether the place's files are replaced by these: all of them, or those of these names.

        Raises:
            OutputError: files are in the way, somebody else committed meanwhile, or the Hub refuses it.
        """
        if self.place.commit is not None:
            raise OutputError(
                f"{self._shown}: a commit stays as it is, and cannot be written to.",
                hint="Name a branch, or no revision.",
            )
        above, _, last = self.place.path.rpartition("/")
        beside = names[0] == last
        base = above if beside else self.place.path
        targets = {f"{base}/{name}".lstrip("/"): folder / name for name in names}
        parent = self._head()
        self._refuse_file(base, parent)
        old = self._replaced(base, parent, targets, beside=beside)
        if old and not overwrite:
            more = ", ..." if len(old) > _SHOWN else ""
            raise OutputError(
                f"{self._shown}: {', '.join(old[:_SHOWN])}{more} is there already.",
                hint="Choose another place, or pass --overwrite.",
            )
        return self._committed(base, targets, [path for path in old if path not in targets], parent)

    @property
    def _branch(self) -> str:
        return self.place.revision or DEFAULT_BRANCH

    @property
    def _shown(self) -> str:
        return self.place.shown(self.place.revision, self.place.path)

    def _head(self) -> str:
        found = self.requests.ask(
            lambda: self.api.model_info(
                self.place.repository, revision=self._branch, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
            ),
            self._shown,
            writing=True,
        )
        return str(found.sha)

    def _refuse_file(self, base: str, parent: str) -> None:
        """Raise OutputError where the folder, or one above it, is a file."""
        above = [base[:end] for end, char in enumerate(base) if char == "/"] + [base] * bool(base)
        if not above:
            return
        found = self.requests.ask(
            lambda: self.api.get_paths_info(self.place.repository, above, revision=parent), self._shown, writing=True
        )
        files = [entry.path for entry in found if isinstance(entry, RepoFile)]
        if files:
            raise OutputError(
                f"{self._shown}: {files[0]} is a file, and the output is a folder.", hint="Choose another place."
            )

    def _replaced(self, base: str, parent: str, targets: Mapping[str, Path], *, beside: bool) -> list[str]:
        """Return the files that are there and that the output takes the place of."""
        there = [entry.path for entry in self._tree(base, parent)]
        if beside:
            return sorted(path for path in there if path in targets)
        kept = THE_REPOSITORYS_OWN if not base else frozenset()
        return sorted(path for path in there if path in targets or path not in kept)

    def _tree(self, base: str, commit: str) -> list[RepoFile]:
        """Return every file below a folder; none where there is no such folder."""
        # This call tries again by itself.
        found = self.requests.ask(
            lambda: listed(self.api, self.place.repository, base, commit, deep=True, absent=True),
            self._shown,
            writing=True,
            again=False,
        )
        if len(found) > MOST_FILES:
            raise OutputError(f"{self._shown}: has more than {MOST_FILES} files.", hint="Choose another place.")
        return found

    def _committed(self, base: str, targets: Mapping[str, Path], gone: Sequence[str], parent: str) -> str:
        added = self._uploaded(targets)
        try:
            commit = self.requests.ask(lambda: self._commit(added, gone, parent), self._shown, writing=True)
        except OutputError as error:
            if not _is_moved(error.__cause__):
                raise
            # Where an answer was lost on the way, it is this very commit that the branch has moved to.
            commit = self._head()
            if commit == parent or self._difference(base, commit, added, gone):
                raise OutputError(
                    f"{self._shown}: somebody else has committed to the branch meanwhile, and nothing was written.",
                    hint="Look at what is there now, and try again.",
                ) from error
        difference = self._difference(base, commit, added, gone)
        if difference:
            raise OutputError(
                f"{self._shown}: commit {commit} has not what was uploaded: {', '.join(difference[:_SHOWN])}.",
                hint="Revert it on the Hub, and try again.",
            )
        return commit

    def _uploaded(self, targets: Mapping[str, Path]) -> list[CommitOperationAdd]:
        """Upload the large files, which nobody sees before there is a commit with them."""

        def upload() -> list[CommitOperationAdd]:
            added = [CommitOperationAdd(path, str(file)) for path, file in targets.items()]
            self.api.preupload_lfs_files(
                self.place.repository,
                added,
                revision=self._branch,
                free_memory=False,
                gitignore_content=NOTHING_IGNORED,
            )
            return added

        # This call tries again by itself.
        return self.requests.ask(upload, self._shown, writing=True, again=False)

    def _commit(self, added: Sequence[CommitOperationAdd], gone: Sequence[str], parent: str) -> str:
        done = self.api.create_commit(
            self.place.repository,
            [*added, *(CommitOperationDelete(path, is_folder=False) for path in gone)],
            commit_message=f"Checkpoint of {len(added)} files, converted by Interlingua",
            revision=self._branch,
            parent_commit=parent,
        )
        return str(done.oid)

    def _difference(
        self, base: str, commit: str, added: Sequence[CommitOperationAdd], gone: Sequence[str]
    ) -> list[str]:
        """Return the files that a commit has not as they were uploaded, or has although they were to go."""
        there = {entry.path: entry for entry in self._tree(base, commit)}
        other = [one.path_in_repo for one in added if not _has(there.get(one.path_in_repo), one)]
        return sorted([*other, *(path for path in gone if path in there)])


def _has(entry: RepoFile | None, addition: CommitOperationAdd) -> bool:
    """Say whether a file in a repository is the one that was uploaded, by the version that it has there."""
    if entry is None:
        return False
    if entry.lfs is not None:
        return bool(entry.lfs.sha256 == addition.upload_info.sha256.hex())
    with addition.as_file() as file:
        data = file.read()
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
    return bool(entry.blob_id == blob.hexdigest())


def _is_moved(error: BaseException | None) -> bool:
    return isinstance(error, HfHubHTTPError) and error.response.status_code == MOVED
