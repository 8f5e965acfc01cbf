"""What is said of a place that cannot be reached: no address with a signature, and where credentials come from."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from interlingua.convert.remote.retries import ATTEMPTS, TransientError, is_transient, persistent, status_of
from interlingua.convert.remote.storage import NotThereError
from interlingua.errors import FormatError, InterlinguaError

T = TypeVar("T")

CREDENTIALS = {
    "s3": "Credentials, region and endpoint are taken from where AWS's own tools have them (AWS_PROFILE, ~/.aws, "
    "AWS_ENDPOINT_URL); FSSPEC_S3_ANON=true reads a public bucket without.",
    "gs": "Credentials are taken from where Google's own tools have them (gcloud auth application-default login, "
    "GOOGLE_APPLICATION_CREDENTIALS); FSSPEC_GCS_TOKEN=anon reads a public bucket without.",
    "https": "Credentials are taken from ~/.netrc.",
    "http": "Credentials are taken from ~/.netrc.",
}
"""Scheme -> where its credentials are looked for."""

CHANGED = "changed while it was read"
TRY_AGAIN = "Nothing was written. Read it again once nobody writes there."

_OTHER_ATTEMPTS = {"gs": 2}
"""Scheme -> attempts, where the client cannot be kept from making several of each itself (gcsfs: six)."""

_QUERY = re.compile(r"\?[^\s'\"]*")
_MOST = 300


def reach(action: Callable[[], T], place: str, scheme: str) -> T:
    """Return what ``action`` does at a place, tried again as long as that may help.

    Args:
        action: a request, which may raise what its client's library raises.
        place: the place, as messages name it.
        scheme: of its URI.

    Raises:
        FormatError: it is not there, access is refused, it has changed, or it cannot be reached.
    """

    attempts = _OTHER_ATTEMPTS.get(scheme, ATTEMPTS)

    def once() -> T:
        try:
            return action()
        except Exception as error:  # Each system's client has errors of its own, with no base in common.
            if is_transient(error):
                raise TransientError(said(error)) from error
            raise

    try:
        return persistent(once, attempts=attempts)
    except InterlinguaError:
        raise
    except TransientError as error:
        raise FormatError(
            f"cannot be reached: {error} ({attempts} attempts)", path=place, hint="Try again later."
        ) from error
    except Exception as error:  # As above: what is left is the place's, or the network's.
        if is_own_fault(error):
            raise
        raise explained(error, place, scheme) from error


def is_own_fault(error: BaseException) -> bool:
    """Say whether an error is a fault of this program, which is not to look like one of the network.

    It is where this package's own code raised it, and it is of a kind that none of it raises on purpose; from a
    client's library the same kinds come where a server's answer is none that it knows.
    """
    if not isinstance(error, TypeError | AttributeError | NameError | AssertionError):
        return False
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(modules) and modules[-1].startswith("interlingua.")


def explained(error: Exception, place: str, scheme: str) -> FormatError:
    """Return the user's form of a client's error that will not pass."""
    status = status_of(error)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return NotThereError("does not exist", path=place)
    if status in (412, 416):
        return FormatError(CHANGED, path=place, hint=TRY_AGAIN)
    if isinstance(error, PermissionError) or status in (401, 403):
        return FormatError(f"access is refused: {said(error)}", path=place, hint=CREDENTIALS.get(scheme))
    return FormatError(f"cannot be read: {said(error)}", path=place, hint=CREDENTIALS.get(scheme))


def said(error: BaseException) -> str:
    """Return what an error says in one line, without what stands behind a question mark in an address."""
    status = getattr(error, "status", None)
    if isinstance(status, int) and type(error).__module__.startswith("aiohttp"):
        return f"the server answers {status} {_phrase(status)}".rstrip()
    text = _QUERY.sub("?...", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:_MOST]}" if text else type(error).__name__


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
