"""How the Hub is asked: again where that may help, without noise, and with failures told in a paragraph."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx2
from huggingface_hub import errors
from huggingface_hub.utils import disable_progress_bars, logging

from interlingua.convert.remote.failures import is_own_fault
from interlingua.convert.remote.retries import TransientError, is_transient, persistent
from interlingua.errors import FormatError, InterlinguaError, OutputError, printable

T = TypeVar("T")

LONGEST_WAIT = 300.0
"""Seconds that the Hub is waited for where it names a time: it counts requests over five minutes."""

LOGIN = "Log in with `hf auth login`, or set HF_TOKEN, to an account that may read it"

FAILURES = (httpx2.HTTPError, httpx2.InvalidURL, errors.EntryNotFoundError, errors.OIDCError, OSError, ValueError)
"""What huggingface_hub raises, HfHubHTTPError and the errors of its connections among them."""

_UNREADABLE = (LookupError, TypeError, AttributeError, RuntimeError)
"""What it raises, too, where an answer is not one of the Hub, or something came in the way of an upload."""

_ADDRESS = re.compile(r"\w+://\S+")
_RESET = re.compile(r";\s*t\s*=\s*(\d+)")
_MOST_SAID = 300


@dataclass(frozen=True, slots=True)
class Requests:
    """How the Hub is asked.

    Attributes:
        endpoint: whom, for hints.
        repository: what the questions are about, for hints.
        pause: how a number of seconds is waited.
    """

    endpoint: str
    repository: str
    pause: Callable[[float], object] = time.sleep

    def ask(self, question: Callable[[], T], uri: str, *, writing: bool = False, again: bool = True) -> T:
        """Return what ``question`` does.

        Args:
            question: calls huggingface_hub.
            uri: what it is about, for messages.
            writing: whether a failure is one of writing.
            again: whether to try again; not where the library does so itself.

        Raises:
            FormatError: it failed, and would the next time (an OutputError, where ``writing``).
        """
        try:
            return self._persistently(question) if again else question()
        except (*FAILURES, *_UNREADABLE) as error:
            if is_own_fault(error):
                raise
            raise self._told(error, uri, writing) from error

    def _persistently(self, question: Callable[[], T]) -> T:
        asked_to_wait = 0.0

        def attempt() -> T:
            nonlocal asked_to_wait
            if asked_to_wait:
                self.pause(asked_to_wait)
            try:
                return question()
            except FAILURES as error:
                if not is_transient(error):
                    raise
                asked_to_wait = _named_wait(error)
                raise TransientError(type(error).__name__) from error

        try:
            return persistent(attempt, pause=self.pause)
        except TransientError as error:
            raise error.__cause__ or error from None

    def _told(self, error: BaseException, uri: str, writing: bool) -> InterlinguaError:
        message, hint = self._what(error)
        if writing:
            return OutputError(f"{uri}: {message}", hint=hint)
        return FormatError(message, path=uri, hint=hint)

    def _what(self, error: BaseException) -> tuple[str, str]:
        """Say what a failure was, and what to do. Addresses are left out: a signed one is a key to what it names."""
        where = f"{self.endpoint}/{self.repository}"
        if isinstance(error, RuntimeError) and isinstance(error.__cause__, FAILURES):
            return self._what(error.__cause__)
        if isinstance(error, errors.OfflineModeIsEnabled):
            return "is asked of the Hub, but HF_HUB_OFFLINE is set", "Unset it."
        if isinstance(error, errors.GatedRepoError):
            return "is gated, and nobody is let in without asking", f"Ask for access at {where}. {LOGIN}."
        if isinstance(error, errors.DisabledRepoError):
            return "has been disabled on the Hub", f"See {where}."
        if isinstance(error, errors.RevisionNotFoundError):
            return "the repository has no such branch, tag or commit", f"See {where}/tree/main for those it has."
        if isinstance(error, errors.RepositoryNotFoundError):
            return "there is no such repository, or it is private", f"Check its name. {LOGIN}."
        if isinstance(error, errors.EntryNotFoundError):
            return "is not in the repository at this revision", f"See {where} for what is."
        if isinstance(error, errors.LocalTokenNotFoundError | errors.OIDCError):
            return "no token could be had", "Log in with `hf auth login`, or set HF_TOKEN."
        if isinstance(error, errors.HfHubHTTPError):
            return _status(error, where)
        if isinstance(error, httpx2.HTTPError | httpx2.InvalidURL):
            return (
                f"{self.endpoint} cannot be reached ({type(error).__name__})",
                "Check the network, and HF_ENDPOINT. What is in the cache is read where HF_HUB_OFFLINE=1 is set.",
            )
        if isinstance(error, _UNREADABLE):
            return f"huggingface_hub failed ({_said(error)})", f"Check that HF_ENDPOINT ({self.endpoint}) is a Hub."
        return _said(error), "Mend that, and try again."


def _status(error: errors.HfHubHTTPError, where: str) -> tuple[str, str]:
    """Say what a status code means here."""
    status = error.response.status_code
    said = f" ({_plain(error.server_message)})" if error.server_message else ""
    if status == 401:
        return f"the Hub does not take the token, or wants one{said}", "Log in with `hf auth login`, or set HF_TOKEN."
    if status == 403:
        return f"the Hub refuses access{said}", f"Check what the token may do (read, or write), and {where}."
    if status == 429:
        return "the Hub asks for fewer requests (429)", "Wait some minutes, or log in: accounts may make more."
    if status >= 500:
        return f"the Hub cannot answer now ({status})", "Try again later."
    return f"the Hub refuses the request ({status}){said}", f"See {where}."


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {_plain(str(error))}" if str(error) else type(error).__name__


def _plain(text: str) -> str:
    return printable(_ADDRESS.sub("...", " ".join(text.split())), _MOST_SAID)


def _named_wait(error: BaseException) -> float:
    """Return the seconds that the Hub asks to wait for where it was asked too often: in ``Retry-After`` (RFC 9110)
    or in ``RateLimit`` (the IETF's draft of it)."""
    response = getattr(error, "response", None)
    if response is None or response.status_code not in (429, 503):
        return 0.0
    after = response.headers.get("Retry-After", "")
    reset = _RESET.search(response.headers.get("RateLimit", "")) if response.status_code == 429 else None
    seconds = after if after.isdigit() else reset[1] if reset else "0"
    return min(LONGEST_WAIT, float(seconds))


@contextmanager
def quietly() -> Iterator[None]:
    """Keep huggingface_hub from drawing and warning: a retry is nobody's business, nor the address it goes to.

    What it changes is the whole process's: one thread at a time may be in it.
    """
    before = logging.get_verbosity()
    if before == logging.WARNING:
        logging.set_verbosity_error()
    try:
        with disable_progress_bars(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
