"""HDF5 files being written: h5py lays out every dataset first, then the data goes where the file says.

Each dataset is contiguous, uncompressed, and allocated when it is created but never filled; the file is closed before
any data is written, so nothing of libhdf5's is left in memory that could be written over it. No times are stored, and
the oldest version of every structure is used: the same tensors give the same bytes, and every HDF5 reads them.

Conventions (bool, complex numbers, bfloat16): see ``hdf5_types``.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from interlingua.errors import MappingError, OutputError
from interlingua.formats.base import SingleFileWriter, TensorSpec, create, refuse_dtype
from interlingua.formats.dtypes import BFLOAT16, DTYPES, numpy_dtype

if TYPE_CHECKING:
    from typing import Any

    from h5py import Dataset, File, Group

_TYPES = frozenset(name for name, dtype in DTYPES.items() if dtype.numpy and not name.startswith("float8"))
"""Element types that are read back as what they were; for others HDF5 and NumPy have only a number of bytes."""

_MAX_NAME = 0xFFF0
"""Bytes of one part of a path: old-style groups keep it in a message of 64 KB at most."""


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
        self._fd = create(self.path)
        try:
            self._create_file()
        except BaseException:
            self.close()
            raise

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

    def _create_file(self) -> None:
        import h5py

        try:
            with h5py.File(self.path, "w", libver="earliest", locking=False, track_order=False) as file:
                self._lay_out(file)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror or error}.") from error

    @abstractmethod
    def _lay_out(self, root: File) -> None:
        """Create every group, attribute and dataset; nothing is refused any more."""

    def _create_dataset(self, root: Group, name: str) -> Dataset:
        """Create the dataset of the tensor of that name under that path, and note where its data goes."""
        import h5py
        import numpy as np

        spec = self.tensors[name]
        element = np.dtype("V2") if spec.dtype == BFLOAT16 else numpy_dtype(spec.dtype)
        space = h5py.h5s.create_simple(spec.shape) if spec.shape else h5py.h5s.create(h5py.h5s.SCALAR)
        kind = h5py.h5t.py_create(element, logical=True)
        found = h5py.h5d.create(root.id, name.encode(), kind, space, _dataset_properties(), _link_properties())
        self.offsets[name] = found.get_offset() or 0
        return h5py.Dataset(found)


def check_path(container: str, path: str) -> None:
    """Raise MappingError where HDF5 cannot have something of that name."""
    try:
        parts = path.encode().split(b"/")
    except UnicodeEncodeError as error:
        raise refuse_path(container, path) from error
    if any(part in (b"", b".") or b"\0" in part or len(part) > _MAX_NAME for part in parts):
        raise refuse_path(container, path)


def refuse_path(container: str, path: str) -> MappingError:
    """Return the error of a container that cannot have something of that name."""
    return MappingError(
        f"{path[:200]!r} cannot be the path of anything in {container}.",
        names=(path,),
        hint="Choose another container with --container.",
    )


def _dataset_properties() -> Any:
    import h5py

    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    return properties


def _link_properties() -> Any:
    import h5py

    properties = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    properties.set_create_intermediate_group(True)
    properties.set_char_encoding(h5py.h5t.CSET_UTF8)
    return properties
