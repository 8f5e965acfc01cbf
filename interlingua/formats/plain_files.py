"""Whole files as containers of one tensor of bytes each: how sidecars travel through the same engine as weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from interlingua.formats.base import Extent, Reader, SingleFileWriter, SourceFile, TensorSpec, create
from interlingua.formats.dtypes import UINT8


class PlainFiles(Reader):
    """Presents files of a folder as tensors of bytes, named by their path in it (with ``/``)."""

    container = "files"

    def __init__(self, folder: str | os.PathLike[str], names: Sequence[str]) -> None:
        super().__init__(folder)
        self._files: dict[str, SourceFile] = {}
        try:
            for name in names:
                file = SourceFile(self.path / name)
                self._files[name] = file
                self.tensors[name] = TensorSpec(name, UINT8, (file.size,))
        except BaseException:
            self.close()
            raise

    def extents(self, name: str) -> tuple[Extent, ...]:
        file = self._files[name]
        return (Extent(file, 0, file.size),)

    def close(self) -> None:
        for file in self._files.values():
            file.close()


class PlainFileWriter(SingleFileWriter):
    """Writes one tensor's bytes as a file and nothing else."""

    container = "file"

    def __init__(
        self,
        path: str | os.PathLike[str],
        tensors: Sequence[TensorSpec],
        *,
        metadata: Mapping[str, str] | None = None,
        ties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(path, tensors, metadata=metadata, ties=ties)
        (spec,) = tensors
        self._fd = create(self.path, spec.nbytes)
        self.offsets[spec.name] = 0
