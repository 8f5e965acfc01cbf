"""A place on the Hugging Face Hub: ``hf://ORGANISATION/MODEL[@REVISION][/PATH]``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from huggingface_hub.errors import HfUriError
from huggingface_hub.utils import parse_hf_uri

from interlingua.convert.remote.uris import Uri
from interlingua.errors import UsageError
from interlingua.formats.archive_names import name_flaw

OTHER_KINDS = ("datasets", "spaces", "buckets", "kernels")
"""What the first part of an address says where it is of no model."""

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A commit's name in git, whole."""

DEFAULT_BRANCH = "main"


@dataclass(frozen=True, slots=True)
class HubPlace:
    """A folder or a file of a model's repository.

    Attributes:
        repository: its name, ``organisation/model``.
        revision: the branch, tag or commit that was asked for; None for the default branch.
        path: path in the repository; empty for its root.
    """

    repository: str
    revision: str | None
    path: str

    @property
    def commit(self) -> str | None:
        """The revision, where it is a commit and so stays what it is."""
        return self.revision if self.revision and COMMIT.fullmatch(self.revision) else None

    def shown(self, revision: str | None, path: str) -> str:
        """Return the URI of a path in this repository at a revision."""
        at = f"@{revision.replace('/', '%2F')}" if revision else ""
        return f"hf://{self.repository}{at}" + (f"/{path}" if path else "")


def hub_place(uri: Uri) -> HubPlace:
    """Return the place that a URI names.

    Raises:
        UsageError: it names no model's repository, or a path that no repository can have.
    """
    if uri.authority in OTHER_KINDS:
        raise UsageError(
            f"{uri}: is in the Hub's {uri.authority}, and checkpoints are read from and written to models.",
            hint="A model is hf://ORGANISATION/MODEL.",
        )
    try:
        found = parse_hf_uri(str(uri))
    except HfUriError as error:
        raise UsageError(
            f"{uri}: is no place on the Hub.",
            hint="It is hf://ORGANISATION/MODEL, perhaps with @REVISION (a / in that is %2F), perhaps with /PATH.",
        ) from error
    flaw = name_flaw(found.path_in_repo) if found.path_in_repo else None
    if flaw:
        raise UsageError(f"{uri}: its path {flaw}.")
    return HubPlace(found.id, found.revision, found.path_in_repo)
