"""What is a URI and what a path, and how a URI is shown: without anything that is secret."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from interlingua.errors import FormatError, UsageError

SCHEMES = ("s3", "gs", "https", "http", "memory", "hf", "file")
"""What the places that are read have their URIs begin with; ``gcs`` is ``gs``, too."""

OTHER_NAMES = {"gcs": "gs"}

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_SHORT = re.compile(rf"({'|'.join(SCHEMES)}):/(?!/)")


@dataclass(frozen=True, slots=True)
class Uri:
    """A place that is not this machine's: the words of RFC 3986, none of them secret.

    Attributes:
        scheme: one of ``SCHEMES`` but ``file``.
        authority: the bucket, host (with port), or the first part of a repository's name; may be empty.
        path: what follows, without slashes at its ends; ``%``-escapes are as they were given.
    """

    scheme: str
    authority: str
    path: str

    def __str__(self) -> str:
        start = f"{self.scheme}://{self.authority}"
        return f"{start}/{self.path}" if self.path and self.authority else start + self.path

    @property
    def name(self) -> str:
        """The last part."""
        return self.path.rpartition("/")[2] or self.authority

    @property
    def parent(self) -> Uri:
        """The folder that it is in."""
        return Uri(self.scheme, self.authority, self.path.rpartition("/")[0])


def resolve(text: str | os.PathLike[str]) -> Uri | Path:
    """Return what the user names: a URI, or a path (``file://`` is one).

    Raises:
        UsageError: it is a URI of no known scheme, or one that holds credentials or what no file's name needs.
    """
    given = os.fspath(text)
    found = _URI.match(given)
    if found is None:
        if _SHORT.match(given) and not os.path.lexists(given):
            raise UsageError(
                f"{given}: is no URI, which has two slashes there.", hint="Pass it as a text, and not as a path."
            )
        return Path(given)
    scheme = OTHER_NAMES.get(found[1].lower(), found[1].lower())
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise UsageError(f"{found[0]} is nowhere that is known here.", hint=f"Known are paths, and {known}.")
    try:
        parts = urlsplit(given)
    except ValueError as error:
        raise UsageError(f"{found[0]}...: is no URI: {error}.") from error
    _refuse_secrets(scheme, parts.netloc, parts.query, parts.fragment)
    if scheme == "file":
        return _local(parts.netloc, parts.path)
    return _checked(Uri(scheme, parts.netloc, parts.path.strip("/")))


def parse(text: str | os.PathLike[str]) -> Uri | None:
    """Return the URI that the user names; None where it is a path.

    Raises:
        UsageError: as ``resolve``.
    """
    found = resolve(text)
    return found if isinstance(found, Uri) else None


def _refuse_secrets(scheme: str, authority: str, query: str, fragment: str) -> None:
    host = authority.rpartition("@")[2]
    # hf://org/model@revision has its @ in the path; none of these systems has a use for one in the authority.
    if "@" in authority:
        raise UsageError(
            f"{scheme}://...@{host}: a URI must hold no user and no password; it is shown, and kept in reports.",
            hint="They are taken from where that system usually has them: its environment variables and files.",
        )
    if query or fragment:
        what = "?" if query else "#"
        raise UsageError(
            f"{scheme}://{host}/...{what}...: a URI must end before its {what}: what follows there may be a secret, "
            "and would be kept in reports.",
            hint="Leave it out. A signed address cannot be read in place: download what it names.",
        )


def _local(authority: str, path: str) -> Path:
    if authority not in ("", "localhost"):
        raise UsageError(f"file://{authority}{path}: is on another machine.", hint="file:///folder is on this one.")
    return Path(unquote(path))


def _checked(uri: Uri) -> Uri:
    if not uri.authority and uri.scheme != "memory":
        raise UsageError(f"{uri}: names no place.", hint=f"It begins {uri.scheme}://NAME/.")
    if any(part in ("", ".", "..") for part in uri.path.split("/")[: None if uri.path else 0]):
        raise FormatError("has an empty part, or one of dots", path=str(uri))
    return uri
