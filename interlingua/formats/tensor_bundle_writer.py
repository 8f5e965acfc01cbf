"""Writing a tensor bundle: one data file, the index over it, and the file that names it the newest checkpoint.

Source: tensorflow/tensorflow: tensorflow/core/util/tensor_bundle/tensor_bundle.cc (BundleWriter),
tensorflow/python/training/saving/saveable_object_util.py (validate_and_slice_inputs: a Saver sorts tensors by name).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import ClassVar

from interlingua.errors import FormatError, MappingError, OutputError
from interlingua.formats.base import (
    Slot,
    TensorSpec,
    Writer,
    crc32c,
    create,
    output_error,
    read_own,
    refuse_dtype,
    write_at,
)
from interlingua.formats.castagnoli import mask
from interlingua.formats.dtypes import STRING
from interlingua.formats.tensor_bundle_index import CODE_OF, Entry, encode_index
from interlingua.formats.tensor_bundle_paths import STATE, encode_state, index_of, shard_of
from interlingua.formats.tensor_bundle_strings import StringPayload, encode_payload, parse_payload
from interlingua.formats.trackable_graph import ATTRIBUTES, GRAPH_KEY, build_graph

FULL_NAMES = "full_names"
"""Metadata key of the variables' own names: a JSON object, by key of the tensor."""


class TensorBundleWriter(Writer):
    """A tensor bundle of one shard being written, with the bytes that TensorFlow's Saver writes for the same tensors.

    Where names are paths of objects (``model/dense/kernel/.ATTRIBUTES/VARIABLE_VALUE``) and no object graph is
    among the tensors, the graph is made from the paths, with the variables' own names from ``metadata["full_names"]``.

    Args:
        path: the prefix; the index, the data file and the file ``checkpoint`` are made beside one another.
        tensors: every tensor; strings must come encoded as another bundle has them.
        metadata: ``full_names``, a JSON object of names by key, is used; the rest has no place here.
        ties: must be empty.

    Raises:
        MappingError: a tensor's type or name has no place in a bundle.
        OutputError: a file exists, or cannot be made.
    """

    container: ClassVar[str] = "tensor-bundle"
    checksum: ClassVar[str | None] = "crc32c"

    def __init__(
        self,
        path: str | os.PathLike[str],
        tensors: Sequence[TensorSpec],
        *,
        metadata: Mapping[str, str] | None = None,
        ties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(path, tensors, metadata=metadata, ties=ties)
        self._graph = self._build_graph()
        self._specs = dict(self.tensors)
        if self._graph:
            self._specs[GRAPH_KEY] = TensorSpec(GRAPH_KEY, STRING, (), len(self._graph))
        keys = {name: _key(spec) for name, spec in self._specs.items()}
        self._order = sorted(keys, key=keys.__getitem__)
        sizes = [self._specs[name].nbytes for name in self._order]
        self._offsets = dict(zip(self._order, accumulate(sizes, initial=0), strict=False))
        self._state = encode_state(self.path)
        if self.path.name == STATE:
            raise OutputError(f"{self.path}: is the name of the file in which TensorFlow notes the newest checkpoint.")
        self._fds: list[int] = []
        with contextlib.ExitStack() as opened:
            opened.callback(self.close)
            for file, size in zip(self.paths, (sum(sizes), None, None), strict=True):
                self._fds.append(create(file, size))
            opened.pop_all()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The data file, the index, and the file that names the newest checkpoint."""
        return (shard_of(self.path, 0, 1), index_of(self.path), self.path.with_name(STATE))

    def _build_graph(self) -> bytes:
        """Return the payload of the object graph; empty where none is to be made."""
        keys = [name for name in self.tensors if ATTRIBUTES in name]
        if not keys or GRAPH_KEY in self.tensors:
            return b""
        return encode_payload([build_graph(keys, _full_names(self.metadata))])

    def slot(self, name: str) -> contextlib.AbstractContextManager[Slot]:
        """Return the place of the tensor in the data file."""
        return contextlib.nullcontext(Slot(self._fds[0], self._offsets[name]))

    def finish(self) -> None:
        """Write the index and the file ``checkpoint``.

        Raises:
            MappingError: a string tensor is not encoded as TensorFlow encodes strings.
            OutputError: the disk is full, or fails.
        """
        data, index, state = self._fds
        current = self.paths[0]
        try:
            if self._graph:
                write_at(data, self._offsets[GRAPH_KEY], self._graph)
                self.checksums[GRAPH_KEY] = crc32c(self._graph)
            current = self.paths[1]
            at = 0
            for piece in encode_index((name.encode(), self._entry(name)) for name in self._order):
                write_at(index, at, piece)
                at += len(piece)
            current = self.paths[2]
            write_at(state, 0, self._state)
        except OSError as error:
            raise output_error(error, current) from error
        self.close()

    def _entry(self, name: str) -> Entry:
        spec = self._specs[name]
        crc = self.checksums.get(name)
        if crc is None:
            if spec.nbytes:
                raise ValueError(f"{name!r} was never sealed")
            crc = 0
        if spec.dtype is STRING:
            crc = self._payload(spec).convert(crc)
        return Entry(spec.dtype, spec.shape, 0, self._offsets[name], spec.nbytes, mask(crc))

    def _payload(self, spec: TensorSpec) -> StringPayload:
        """Read the head of a string tensor back: the checksum that TensorFlow keeps of it is not that of its bytes."""
        offset = self._offsets[spec.name]
        try:
            return parse_payload(
                lambda at, nbytes: read_own(self._fds[0], offset + at, nbytes),
                spec.nbytes,
                spec.elements,
                big_endian=False,
                what=f"{spec.name!r}",
                path=self.paths[0],
            )
        except FormatError as error:
            raise MappingError(
                f"{spec.name!r} is a tensor of strings that are not encoded as TensorFlow encodes them.",
                names=(spec.name,),
                hint="Only strings from another TensorFlow checkpoint can be written.",
            ) from error

    def close(self) -> None:
        """Close the files."""
        while self._fds:
            os.close(self._fds.pop())


def _key(spec: TensorSpec) -> bytes:
    """Return a tensor's key in the index, once name and type are known to have a place there."""
    if spec.dtype.name not in CODE_OF or (spec.dtype is STRING and spec.encoded is None):
        raise refuse_dtype(TensorBundleWriter.container, spec)
    try:
        key = spec.name.encode()
    except UnicodeEncodeError:
        key = b""
    if not key:
        raise MappingError(
            f"A TensorFlow checkpoint cannot hold a tensor of the name {spec.name!r}.", names=(spec.name,)
        )
    return key


def _full_names(metadata: Mapping[str, str]) -> dict[str, str]:
    try:
        names = json.loads(metadata.get(FULL_NAMES, "{}"))
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise MappingError(f"The metadata {FULL_NAMES!r} is no JSON object of names by key.")
    return names
