"""What the workers of a cluster of this machine load as they start (a preload, in Dask's words)."""

from __future__ import annotations

import signal


def dask_setup(_worker: object) -> None:
    """Leave Ctrl-C to the batch: in a terminal it reaches every process, and the batch alone decides what follows."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
