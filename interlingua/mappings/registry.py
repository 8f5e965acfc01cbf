"""Every dialect there is."""

from __future__ import annotations

from interlingua.errors import UsageError
from interlingua.mappings.dialect import Dialect
from interlingua.mappings.huggingface import HF
from interlingua.mappings.uer import UER

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (HF, UER)}


def find(name: str) -> Dialect:
    """Return the dialect of that name.

    Raises:
        UsageError: there is none; the message suggests the nearest.
    """
    if name in DIALECTS:
        return DIALECTS[name]
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), DIALECTS, n=1)
    did = f"Did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"There is no dialect {name!r}.", hint=f"{did}There are: {', '.join(DIALECTS)}.")
