"""Have the system set aside an output's room on the disk before anything is written into it."""

from __future__ import annotations

import ctypes
import errno
import os

LARGE = 1 << 20
"""Bytes of a file from which on it is worth a call of its own."""

IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Failures that say that a file of this size cannot be there."""


def preallocate(fd: int, size: int) -> None:
    """Make an empty file ``size`` bytes long, with room for all of them where the file system can promise that.

    A disk that is too full is noticed at once, and the system need not look for each block as it is written.
    ``os.posix_fallocate`` will not do: where the file system cannot, it writes to every block instead.

    Raises:
        OSError: the file cannot be as long as that.
    """
    if size < LARGE or not _fallocate(fd, size):
        os.ftruncate(fd, size)


def _fallocate(fd: int, size: int) -> bool:
    """Call fallocate(2); return whether it is there and has done it."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if function is None:
        return False
    while function(fd, 0, ctypes.c_long(0), ctypes.c_long(size)) != 0:
        number = ctypes.get_errno()
        if number in IS_FULL:
            raise OSError(number, os.strerror(number))
        if number != errno.EINTR:
            return False
    return True
