"""Tensor bundles: TensorFlow's checkpoints of version 2, an index and one or more data files under one prefix.

Source: tensorflow/tensorflow: tensorflow/core/util/tensor_bundle/tensor_bundle.cc; for the index see
``tensor_bundle_index``, for partitioned variables ``tensor_bundle_slices``, for strings ``tensor_bundle_strings``,
for the objects of TensorFlow 2 ``trackable_graph``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import ClassVar

from interlingua.errors import FormatError
from interlingua.formats.base import Extent, Reader, SourceFile, TensorSpec
from interlingua.formats.castagnoli import join, unmask
from interlingua.formats.dtypes import STRING
from interlingua.formats.tensor_bundle_data import Piece, Source, read_swapped
from interlingua.formats.tensor_bundle_index import Entry, Index, read_index
from interlingua.formats.tensor_bundle_paths import find_index, prefix_of, shard_of
from interlingua.formats.tensor_bundle_paths import sniff as sniff
from interlingua.formats.tensor_bundle_slices import MAX_SCATTERED, Placement, tiles
from interlingua.formats.tensor_bundle_strings import StringPayload, parse_payload
from interlingua.formats.tensor_bundle_writer import TensorBundleWriter
from interlingua.formats.trackable_graph import GRAPH_KEY, MAX_GRAPH, parse_full_names

MISSING = "<missing: the data of the tensors in it cannot be read>"
"""Stands in ``objects`` for a data file that is not there."""


class TensorBundleReader(Reader):
    """A tensor bundle open for reading, every checksum in it verified.

    A bundle of which a data file is missing can be looked at (``objects`` says which), and not read.

    Slices of a partitioned variable are joined to the whole, big-endian numbers are turned round, and string tensors
    are handed out as TensorFlow encodes them (``encoded`` bytes).

    Args:
        path: the prefix, the index, a data file, or a folder that holds one bundle or says which is the newest.

    Raises:
        FormatError: a file is missing, damaged, or holds what is not read.
    """

    container: ClassVar[str] = "tensor-bundle"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        index = find_index(self.path)
        with SourceFile(index) as file:
            self._index: Index = read_index(file)
        self._prefix = prefix_of(index)
        self._files: dict[int, SourceFile] = {}
        self._sources: dict[str, Source] = {}
        with contextlib.ExitStack() as opened:
            opened.callback(self.close)
            self._check_places(index)
            for name, entry in self._index.entries.items():
                encoded = entry.nbytes if entry.dtype is STRING else None
                self.tensors[name] = TensorSpec(name, entry.dtype, entry.shape, encoded)
            for name in self._index.parts:
                self._sources[name] = self._joined(name)
            opened.pop_all()

    def _stored(self) -> Iterator[tuple[str, Entry]]:
        """Yield every run of bytes that the index tells of, with the name of its tensor."""
        for name, entry in self._index.entries.items():
            yield from ((name, part) for _, part in self._index.parts.get(name, ((None, entry),)))

    def _check_places(self, index: Path) -> None:
        """Check that every run is as long as its shape, inside its shard, and clear of every other."""
        places: list[tuple[int, int, int, str]] = []
        for name, entry in self._stored():
            spec = TensorSpec(name, entry.dtype, entry.shape)
            # The length of a string, even of an empty one, takes a byte or more.
            is_string = entry.dtype is STRING
            needed = spec.elements if is_string else spec.nbytes
            if entry.nbytes < needed or (entry.nbytes > needed and not is_string):
                raise FormatError(
                    f"{name!r} of shape {list(entry.shape)} and type {entry.dtype} cannot be {entry.nbytes} bytes",
                    path=index,
                )
            if entry.shard >= self._index.num_shards:
                raise FormatError(f"{name!r} is in shard {entry.shard} of {self._index.num_shards}", path=index)
            if self._is_there(entry.shard):
                self._shard(entry.shard).check(entry.offset, entry.nbytes, f"the tensor {name!r}")
            if entry.nbytes:
                places.append((entry.shard, entry.offset, entry.nbytes, name))
            elif unmask(entry.masked):
                raise FormatError(f"{name!r} is empty, but its checksum is not that of nothing", path=index)
        places.sort()
        for (shard, offset, nbytes, name), (next_shard, next_offset, _, next_name) in pairwise(places):
            if shard == next_shard and offset + nbytes > next_offset:
                raise FormatError(
                    f"the tensors {name!r} and {next_name!r} overlap",
                    path=shard_of(self._prefix, shard, self._index.num_shards),
                    offset=next_offset,
                )

    def _is_there(self, number: int) -> bool:
        """Say whether a data file is there; without it, the index still tells what the checkpoint holds."""
        path = shard_of(self._prefix, number, self._index.num_shards)
        if os.path.exists(path):
            return True
        self.objects[path.name] = MISSING
        return False

    def _shard(self, number: int) -> SourceFile:
        if number not in self._files:
            path = shard_of(self._prefix, number, self._index.num_shards)
            if not os.path.exists(path):
                raise FormatError(
                    "is not there, and the checkpoint's tensors are in it",
                    path=path,
                    hint="Put every .data file of the checkpoint beside its .index.",
                )
            self._files[number] = SourceFile(path)
        return self._files[number]

    def _joined(self, name: str) -> Source:
        """Return the source of a partitioned variable, once its slices are known to be all of it, each once."""
        entry = self._index.entries[name]
        boxes = [box for box, _ in self._index.parts[name]]
        placements = [Placement(box, entry.shape, entry.dtype.itemsize) for box in boxes]
        pieces = [Piece(self._extent(part), unmask(part.masked), name) for _, part in self._index.parts[name]]
        if all(place.run == place.nbytes for place in placements):
            order = sorted(range(len(boxes)), key=lambda number: placements[number].first)
            *starts, end = accumulate((placements[number].nbytes for number in order), initial=0)
            if [placements[number].first for number in order] == starts and end == self.tensors[name].nbytes:
                return Source(tuple(pieces[number] for number in order), tuple(starts))
        elif len(boxes) > MAX_SCATTERED:
            raise FormatError(f"{name!r} is cut into {len(boxes)} slices that interleave", path=self.path)
        elif tiles(boxes, entry.shape):
            return Source(tuple(pieces), placements=tuple(placements))
        raise FormatError(f"the slices of {name!r} overlap, or leave a part of it out", path=self.path)

    def _extent(self, entry: Entry) -> Extent:
        return Extent(self._shard(entry.shard), entry.offset, entry.nbytes)

    def _source(self, name: str) -> Source:
        """Return where a tensor's bytes come from; for strings that takes a look at the head of their payload."""
        source = self._sources.get(name)
        if source is None:
            entry = self._index.entries[name]
            crc = unmask(entry.masked)
            payload = None
            if entry.dtype is STRING:
                payload = self._payload(name, entry)
                crc = payload.convert(crc)
            source = self._sources[name] = Source((Piece(self._extent(entry), crc, name),), payload=payload)
        return source

    def _payload(self, name: str, entry: Entry) -> StringPayload:
        file = self._shard(entry.shard)
        return parse_payload(
            lambda at, nbytes: file.read_at(entry.offset + at, nbytes, "a string tensor"),
            entry.nbytes,
            self.tensors[name].elements,
            big_endian=self._index.big_endian,
            what=f"{name!r}",
            path=file.path,
        )

    def _word(self, name: str) -> int:
        """Bytes of the units that must be turned round; 1 where none need be."""
        dtype = self.tensors[name].dtype
        return dtype.part_bits // 8 if self._index.big_endian and dtype is not STRING else 1

    def extents(self, name: str) -> tuple[Extent, ...] | None:
        """Return the runs that are the tensor's data; None for big-endian numbers and slices that interleave."""
        entry = self._index.entries[name]
        if self._word(name) > 1 or (self._index.big_endian and entry.dtype is STRING):
            return None
        if not entry.slices:
            return (self._extent(entry),)
        source = self._sources[name]
        return None if source.placements else tuple(piece.extent for piece in source.pieces)

    def expected_checksum(self, name: str) -> tuple[str, int] | None:
        """Return ``crc32c`` and that checksum of the tensor's data, for whoever copies its extents.

        None where there are no extents: ``read_into`` then verifies what it reads, as it always does.

        Raises:
            FormatError: the head of a string tensor's payload is damaged.
        """
        if self.extents(name) is None:
            return None
        crc = 0
        for piece in self._source(name).pieces:
            crc = join(crc, piece.crc, piece.extent.nbytes)
        return "crc32c", crc

    def read_into(self, name: str, start: int, view: memoryview) -> None:
        """Fill ``view`` with the tensor's bytes from ``start``.

        Raises:
            FormatError: the data does not match its checksum; known at the latest when the last byte is read.
        """
        if not 0 <= start <= start + len(view) <= self.tensors[name].nbytes:
            raise ValueError("asked for more bytes than the tensor has")
        source = self._source(name)
        word = self._word(name)
        if word > 1:
            read_swapped(source, word, start, view)
            return
        source.read_into(start, view)
        if self._index.big_endian and source.payload is not None:
            begin = source.payload.head - len(source.payload.swapped)
            for at in range(max(start, begin), min(start + len(view), source.payload.head)):
                view[at - start] = source.payload.swapped[at - begin]

    @cached_property
    def full_names(self) -> dict[str, str]:
        """The variables' own names by key, from the object graph; empty for checkpoints of TensorFlow 1.

        Raises:
            FormatError: the graph is damaged.
        """
        spec = self.tensors.get(GRAPH_KEY)
        if spec is None or spec.dtype is not STRING or spec.shape:
            return {}
        if spec.nbytes > MAX_GRAPH:
            raise FormatError(f"the object graph is {spec.nbytes} bytes, more than {MAX_GRAPH}", path=self.path)
        data = memoryview(bytearray(spec.nbytes))
        self.read_into(GRAPH_KEY, 0, data)
        head = self._payload(GRAPH_KEY, self._index.entries[GRAPH_KEY]).head
        return parse_full_names(data[head:], self.tensors.keys(), path=self.path)

    def close(self) -> None:
        """Close the data files."""
        for file in self._files.values():
            file.close()


def open_reader(path: Path) -> TensorBundleReader:
    """Open a tensor bundle; see ``TensorBundleReader``."""
    return TensorBundleReader(path)


def open_writer(
    path: Path,
    tensors: Sequence[TensorSpec],
    *,
    metadata: Mapping[str, str] | None = None,
    ties: Mapping[str, str] | None = None,
) -> TensorBundleWriter:
    """Create a tensor bundle; see ``TensorBundleWriter``."""
    return TensorBundleWriter(path, tensors, metadata=metadata, ties=ties)
