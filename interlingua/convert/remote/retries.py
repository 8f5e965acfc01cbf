"""Try again what may work the next time: a request that timed out, was refused for now, or broke off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from random import SystemRandom
from typing import TypeVar

T = TypeVar("T")

ATTEMPTS = 6
"""How often a request is made at most: with the pauses between them, over about half a minute."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 16.0
"""Seconds. A pause is twice the one before or up to half of that shorter, so that clients do not return all at once."""

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Status codes of HTTP (RFC 9110, 6585) that say that the same request may work later."""


class TransientError(Exception):
    """A failure that may be none the next time; its text says what it was."""


def persistent(
    action: Callable[[], T], *, attempts: int = ATTEMPTS, pause: Callable[[float], object] = time.sleep
) -> T:
    """Return what ``action`` does; where it raises a TransientError, try again after a pause that grows.

    Raises:
        TransientError: the last one, where all attempts failed.
    """
    for attempt in range(attempts - 1):
        try:
            return action()
        except TransientError:
            longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)
            pause(longest * SystemRandom().uniform(0.5, 1))
    return action()


def is_transient(error: BaseException) -> bool:
    """Say whether an error of the network or of a client's library is one that passes.

    What broke a connection off, or waited too long, passes; of any other error its status code tells.
    """
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if any(kind.__name__ in _PASSING_KINDS for kind in type(error).__mro__):
        return True
    return status_of(error) in PASSING


_PASSING_KINDS = frozenset(
    {
        "ClientConnectionError",  # aiohttp
        "ClientPayloadError",
        "ServerTimeoutError",
        "ConnectTimeoutError",  # botocore
        "ReadTimeoutError",
        "EndpointConnectionError",
        "ConnectionClosedError",
        "HTTPClientError",
        "IncompleteReadError",
        "ResponseStreamingError",
        "TransportError",  # httpx, google.auth
        "ChunkedEncodingError",  # requests
    }
)
"""Names of the classes of such errors, in libraries that need not be installed."""


def status_of(error: BaseException) -> int | None:
    """Return the status code of HTTP that an error of a client's library is about; None where it is of none."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return None
        for value in _codes(seen):
            if isinstance(value, int | str) and str(value).isdigit() and 100 <= int(value) < 600:
                return int(value)
        seen = seen.__cause__
    return None


def _codes(error: BaseException) -> Iterator[object]:
    """Yield what may be the status, one after the other: aiohttp's errors warn of their ``code``."""
    yield getattr(error, "status", None)
    response = getattr(error, "response", None)
    yield getattr(response, "status_code", None)
    if isinstance(response, dict):
        yield response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    yield getattr(error, "code", None)
