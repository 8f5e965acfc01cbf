"""Where the sources and outputs of a batch are: paths, or URIs of what is elsewhere; and how places compare."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from interlingua.convert.remote.uris import Uri, parse

PATTERN = "*?["
"""Signs that make a pattern of a path."""

BRANCH = "main"
"""The branch of a repository on the Hub, where none is named."""


def elsewhere(text: str | os.PathLike[str]) -> Uri | None:
    """Return the URI that a job's source or target is; None where it is a path.

    Raises:
        UsageError: it is a URI of no known scheme, or one that holds credentials.
    """
    return parse(text)


def readable(text: str) -> PurePosixPath:
    """Return a place as a path whose parts people know: without the scheme, escapes, and the revision on the Hub."""
    uri = elsewhere(text)
    if uri is None:
        return PurePosixPath(text)
    if uri.scheme == "hf":
        repository, _, below = _repository(uri)
        return PurePosixPath(uri.authority, repository, below)
    return PurePosixPath(uri.authority, unquote(uri.path) if uri.scheme in ("http", "https") else uri.path)


def identity(text: str) -> tuple[str, ...]:
    """Return what is the same of two names of one place: its parts, so that a place begins as the one that it is in."""
    uri = elsewhere(text)
    if uri is None:
        return "", *Path(os.path.realpath(text)).parts
    if uri.scheme == "hf":
        repository, revision, below = _repository(uri)
        return uri.scheme, uri.authority, f"{repository}@{revision or BRANCH}", *PurePosixPath(below).parts
    return uri.scheme, uri.authority, *PurePosixPath(uri.path).parts


def unversioned(uri: Uri) -> str:
    """Return a URI without the revision on the Hub."""
    if uri.scheme != "hf":
        return str(uri)
    repository, _, below = _repository(uri)
    return str(Uri(uri.scheme, uri.authority, f"{repository}/{below}".rstrip("/")))


def with_commit(uri: Uri, commit: str) -> Uri:
    """Return a URI on the Hub with a commit for its revision."""
    repository, _, below = _repository(uri)
    return Uri(uri.scheme, uri.authority, f"{repository}@{commit}/{below}".rstrip("/"))


def revision(uri: Uri) -> str:
    """Return the revision that a URI on the Hub names; empty where it names none."""
    return _repository(uri)[1]


def _repository(uri: Uri) -> tuple[str, str, str]:
    """Return the name of a repository in its organisation, the revision, and the path in it."""
    first, _, below = uri.path.partition("/")
    name, _, at = first.partition("@")
    return name, at, below
