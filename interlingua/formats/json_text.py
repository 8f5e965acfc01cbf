"""JSON out of files that nobody vouches for: bounded in length, in depth and in the memory that it becomes."""

from __future__ import annotations

import json
from collections.abc import Callable

MAX_JSON = 16 << 20
"""Longest JSON text, in bytes, that is read: it takes up to four times as much once it is decoded."""

MAX_PARTS = 1_000_000
"""Most brackets and commas in a text: each stands for a value that takes some hundred bytes in memory."""

Pairs = Callable[[list[tuple[str, object]]], dict[str, object]]


def decode_json(raw: bytes, pairs: Pairs | None = None) -> object:
    """Return the value that a UTF-8 JSON text is.

    Args:
        raw: the text.
        pairs: makes an object of its keys and values; None: a dict.

    Raises:
        ValueError: it is no JSON, nested too deeply, too large, or holds text that is no Unicode.
    """
    if len(raw) > MAX_JSON:
        raise ValueError(f"it has {len(raw)} bytes, and {MAX_JSON} are read at most")
    if sum(map(raw.count, (b"{", b"[", b","))) > MAX_PARTS:
        raise ValueError(f"it has more than {MAX_PARTS} values")
    try:
        found: object = json.loads(raw.decode("utf-8"), object_pairs_hook=pairs)
        if b"\\u" in raw:
            # An escape can spell half a surrogate pair, which no file can hold as text.
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return found
