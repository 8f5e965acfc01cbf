"""HDF5 files being written: where each tensor's data goes is known first, then what leads to it.

Each dataset is contiguous and uncompressed. No times are stored, and the oldest version of every structure is used: the
same tensors give the same bytes, and every HDF5 reads them. libhdf5 is not used because to load it takes longer than to
write the structures of a large model.

Layout: see ``hdf5_layout`` and ``hdf5_encoding``.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence

from interlingua.errors import MappingError
from interlingua.formats.base import SingleFileWriter, TensorSpec, create, output_error, refuse_dtype, write_at
from interlingua.formats.dtypes import DTYPES
from interlingua.formats.hdf5 import MAX_DEPTH
from interlingua.formats.hdf5_encoding import AttributeValue
from interlingua.formats.hdf5_layout import SUPERBLOCK, lay_out

_TYPES = frozenset(name for name, dtype in DTYPES.items() if dtype.numpy and not name.startswith("float8"))
"""Element types that are read back as what they were; for others HDF5 and NumPy have only a number of bytes."""

_MAX_NAME = 0xFFF0
"""Bytes of one part of a path: groups of the newer kind keep it in a message of 64 KB at most."""

_ALIGNMENT = 64
"""Bytes of which every tensor begins at a multiple, so that whoever maps the file can use it where it lies."""


class Hdf5Writer(SingleFileWriter):
    """Writes an HDF5 file; subclasses say where Keras wants the datasets, and what beside them.

    Raises:
        MappingError: a name cannot be a path in an HDF5 file, or an element type is none of HDF5's.
        OutputError: the file cannot be created.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        tensors: Sequence[TensorSpec],
        *,
        metadata: Mapping[str, str] | None = None,
        ties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(path, tensors, metadata=metadata, ties=ties)
        for spec in tensors:
            self._check(spec)
        for name in self.tensors:
            self._check_group(name.rpartition("/")[0])
        self._prepare()
        end = self._place()
        start = end + -end % 8
        superblock, structures = lay_out(self.tensors, self.offsets, self._attributes(), start)
        self._fd = create(self.path)
        try:
            write_at(self._fd, 0, superblock)
            write_at(self._fd, start, structures)
        except OSError as error:
            self.close()
            raise output_error(error, self.path) from error

    def _check(self, spec: TensorSpec) -> None:
        """Raise MappingError where a tensor's name or element type cannot be written."""
        if spec.dtype.name not in _TYPES:
            raise refuse_dtype(self.container, spec)
        check_path(self.container, spec.name)

    def _prepare(self) -> None:
        """Work out, and check, what else is to be written; raises MappingError."""

    def _check_group(self, path: str) -> None:
        """Raise MappingError where a group of that path would be a tensor, or inside one."""
        at = len(path)
        while at > 0:
            if path[:at] in self.tensors:
                raise refuse_path(self.container, path)
            at = path.rfind("/", 0, at)

    def _place(self) -> int:
        """Give every tensor its offset; return the end of the last one."""
        end = SUPERBLOCK
        for name, spec in self.tensors.items():
            self.offsets[name] = end + -end % _ALIGNMENT
            end = self.offsets[name] + spec.nbytes
        return end

    @abstractmethod
    def _attributes(self) -> Mapping[str, Mapping[str, AttributeValue]]:
        """Return the attributes of groups and datasets, by path (the root group's is empty).

        A group that is not there is made for them. Nothing is refused any more.
        """


def check_path(container: str, path: str) -> None:
    """Raise MappingError where HDF5 cannot have something of that name."""
    try:
        parts = path.encode().split(b"/")
    except UnicodeEncodeError as error:
        raise refuse_path(container, path) from error
    if len(parts) > MAX_DEPTH or any(part in (b"", b".") or b"\0" in part or len(part) > _MAX_NAME for part in parts):
        raise refuse_path(container, path)


def refuse_path(container: str, path: str) -> MappingError:
    """Return the error of a container that cannot have something of that name."""
    return MappingError(
        f"{path[:200]!r} cannot be the path of anything in {container}.",
        names=(path,),
        hint="Choose another container with --container.",
    )
