"""A reader seen as a dialect sees it: under names that the file's own metadata gives, and with types it implies."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from interlingua.formats.base import Extent, Reader
from interlingua.formats.dtypes import BFLOAT16, UINT16


class AdaptedReader(Reader):
    """Another reader's tensors, some under other names, some with the element type that they really have.

    Two tensors that would get one name keep their own.
    """

    def __init__(self, inner: Reader, names: Mapping[str, str], *, bfloat16: Collection[str] = ()) -> None:
        """Look at ``inner``.

        Args:
            inner: the reader; closing this one closes it.
            names: name in the file -> name to be seen.
            bfloat16: names in the file of tensors whose uint16 elements are bfloat16.
        """
        super().__init__(inner.path)
        self._inner = inner
        self.metadata, self.objects = inner.metadata, inner.objects
        self.stored: dict[str, str] = {}
        seen = [names.get(name, name) for name in inner.tensors]
        for name, wanted in zip(inner.tensors, seen, strict=True):
            shown = wanted if seen.count(wanted) == 1 else name
            self.stored[shown] = name
            spec = inner.tensors[name]
            dtype = BFLOAT16 if name in bfloat16 and spec.dtype is UINT16 else spec.dtype
            self.tensors[shown] = replace(spec, name=shown, dtype=dtype)

    @property
    def carried(self) -> dict[str, str]:
        """What a writer of the same container takes as ``metadata``."""
        return self._inner.carried

    def extents(self, name: str) -> tuple[Extent, ...] | None:
        """Return the runs that are the tensor's data."""
        return self._inner.extents(self.stored[name])

    def expected_checksum(self, name: str) -> tuple[str, int] | None:
        """Return (kind, value) of the checksum that the container keeps of the tensor's data, or None."""
        return self._inner.expected_checksum(self.stored[name])

    def read_into(self, name: str, start: int, view: memoryview) -> None:
        """Fill ``view`` with the tensor's bytes from ``start``."""
        self._inner.read_into(self.stored[name], start, view)

    def close(self) -> None:
        """Close the reader that is looked at."""
        self._inner.close()
