"""A reader whose uint16 tensors are seen as the bfloat16 that they are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from interlingua.formats.base import Extent, Reader
from interlingua.formats.dtypes import BFLOAT16, UINT16


class Bfloat16Reader(Reader):
    """Another reader's tensors, some of uint16 with the element type that their system means by it.

    Paddle keeps bfloat16 as uint16, without a mark (``python/paddle/framework/io.py``).
    """

    def __init__(self, inner: Reader, names: Collection[str]) -> None:
        """Look at ``inner``, which closing this one closes; ``names`` are the tensors that may be bfloat16."""
        super().__init__(inner.path)
        self._inner = inner
        self.metadata, self.objects = inner.metadata, inner.objects
        self.tensors = {
            name: replace(spec, dtype=BFLOAT16) if name in names and spec.dtype is UINT16 else spec
            for name, spec in inner.tensors.items()
        }

    @property
    def carried(self) -> dict[str, str]:
        """What a writer of the same container takes as ``metadata``."""
        return self._inner.carried

    def extents(self, name: str) -> tuple[Extent, ...] | None:
        """Return the runs that are the tensor's data."""
        return self._inner.extents(name)

    def expected_checksum(self, name: str) -> tuple[str, int] | None:
        """Return (kind, value) of the checksum that the container keeps of the tensor's data, or None."""
        return self._inner.expected_checksum(name)

    def read_into(self, name: str, start: int, view: memoryview) -> None:
        """Fill ``view`` with the tensor's bytes from ``start``."""
        self._inner.read_into(name, start, view)

    def close(self) -> None:
        """Close the reader that is looked at."""
        self._inner.close()
