"""What is asked of ``--scheduler`` before Dask is imported: that it is an address, and that Dask is installed."""

from __future__ import annotations

import importlib.util

from interlingua.errors import UsageError, printable

LOCAL = "local"
"""Stands for a cluster of this machine alone, that lasts as long as the batch."""

SCHEMES = ("tcp://", "tls://", "ucx://", "ws://", "wss://")
"""How the address of a scheduler begins."""

NEEDED = ("distributed", "cryptography")
"""What the extra ``dask`` installs: the second makes the certificates of a cluster of this machine."""


def require_dask(address: str) -> None:
    """Refuse what is no address of a scheduler, and any address where Dask is not installed.

    Raises:
        UsageError: the one or the other.
    """
    if address != LOCAL and not address.startswith(SCHEMES):
        raise UsageError(
            f"{printable(address, 200)} is no address of a Dask scheduler.",
            hint="It is tcp://HOST:PORT or tls://HOST:PORT; local is a cluster of this machine alone.",
        )
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"Batches on Dask need {' and '.join(missing)}, which is not installed.",
            hint="Install it: pip install 'interlingua[dask]'.",
        )
