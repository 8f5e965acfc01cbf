"""Write a report's file so that it appears whole, or what was there before stays."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from interlingua.formats.base import output_error, write_at


def write_whole(path: Path, data: bytes) -> None:
    """Write a file's content, in place of what is there.

    Raises:
        OutputError: it cannot be written.
    """
    beside = path.with_name(f".{path.name[:100]}.{os.urandom(8).hex()}")
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            write_at(fd, 0, data)
        finally:
            os.close(fd)
        beside.replace(path)
    except OSError as problem:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise output_error(problem, path) from problem
