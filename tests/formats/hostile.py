"""Damage valid files at random, and hold a reader to what it promises about the result."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from interlingua.errors import FormatError
from interlingua.formats.base import BLOCK, Reader, blocks

INTERESTING = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\x7f", b"\xff" * 8, b"\x00" * 8, b"\xff" * 7 + b"\x7f")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return ``data`` with a few bytes flipped, overwritten, cut out, doubled or appended."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                piece = rng.choice(INTERESTING)
                out[at : at + len(piece)] = piece
            case 2:
                del out[at:]
            case 3:
                del out[at : at + rng.randint(1, 64)]
            case 4:
                out[at:at] = out[at : at + rng.randint(1, 64)]
            case _:
                out += rng.randbytes(rng.randint(1, 64))
    return bytes(out)


def check_reader(open_reader: Callable[[Path], Reader], path: Path, limit_mb: int = 256) -> bool:
    """Open ``path`` and read every tensor in blocks; say whether that went well.

    Only two outcomes are allowed: success, or a FormatError. Any other exception passes through and fails
    the test; so does memory beyond ``limit_mb``, or data of another length than the specs say.
    """
    tracemalloc.start()
    try:
        with open_reader(path) as reader:
            for name, spec in reader.tensors.items():
                extents = reader.extents(name)
                if extents is not None:
                    assert sum(extent.nbytes for extent in extents) == spec.nbytes
                for start, length in blocks(spec.nbytes):
                    reader.read_into(name, start, memoryview(bytearray(min(length, BLOCK))))
        return True
    except FormatError:
        return False
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < limit_mb << 20, f"{peak >> 20} MB were taken"
