"""HDF5 files of any layout: every dataset that can be a tensor is one, under its path.

The layouts that Keras gives to HDF5 files are ``keras_hdf5`` and ``keras_weights_hdf5``, built on what is here.

What is refused, whatever the layout: links other than hard ones; data in other files; datasets that claim more bytes
than a file of this size could hold even compressed, or that share bytes with one another.

Layout: HDFGroup/hdf5: doxygen/examples/H5.format.html (HDF5 File Format Specification 3.0).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from interlingua.errors import FormatError
from interlingua.formats.base import BLOCK, Extent, Reader, SourceFile, TensorSpec
from interlingua.formats.hdf5_attributes import AttributeReader, Value
from interlingua.formats.hdf5_chunks import ChunkedData
from interlingua.formats.hdf5_datasets import Chunked, Contiguous, Dataset, is_dataset, read_dataset
from interlingua.formats.hdf5_groups import MAX_LINKS, is_group, read_links
from interlingua.formats.hdf5_image import DAMAGED, Image, looks_like_hdf5
from interlingua.formats.hdf5_objects import DATATYPE, Message, find_message, read_messages
from interlingua.formats.registry import Probe

MAX_DEPTH = 64
"""Groups inside one another; Keras nests them a dozen deep."""

MAX_PATHS = 64 << 20
"""Bytes that all paths of a file may take in memory, by an estimate that errs upwards."""

MAX_EXPANSION = 1000
SMALL = 64 << 20
"""Bytes of tensors that any file may hold, and that a larger file may hold for each of its own: Keras allows as much
(keras-team/keras: keras/src/saving/saving_lib.py, ``_H5_DATASET_MAX_EXPANSION``), and deflate makes at most 1032."""

_PATH = 400


@dataclass(slots=True)
class Tree:
    """What an HDF5 file holds, by path; the root's path is empty.

    Attributes:
        datasets: a description of each dataset, or the name of what it holds where that is nothing for a tensor.
        groups: the attributes of each group.
    """

    datasets: dict[str, Dataset | str] = field(default_factory=dict)
    groups: dict[str, dict[str, Value | None]] = field(default_factory=dict)


def walk(image: Image) -> Iterator[tuple[str, int, list[Message]]]:
    """Yield (path, address of the header, messages) of every object, groups before what is in them, by name.

    An object with two names comes up under each; a group, only under the first.

    Raises:
        FormatError: the file is damaged, or its groups are deeper or more than any checkpoint's.
    """
    waiting = [("", image.root, 0)]
    groups: set[int] = set()
    count, nbytes = 0, 0
    while waiting:
        path, address, depth = waiting.pop()
        if address in groups:
            continue
        messages = read_messages(image, address)
        yield path, address, messages
        if not is_group(messages):
            continue
        groups.add(address)
        for name, child in reversed(read_links(image, messages)):
            waiting.append((f"{path}/{name}" if path else name, child, depth + 1))
            count += 1
            nbytes += _PATH + 4 * len(waiting[-1][0])
            if depth >= MAX_DEPTH or count > MAX_LINKS or nbytes > MAX_PATHS:
                raise image.error("has more or deeper groups than are read here", child)


@dataclass(frozen=True, slots=True)
class Root:
    """The root group of an HDF5 file: what layouts are told apart by."""

    links: tuple[str, ...]
    attributes: dict[str, Value | None]


def read_root(path: Path) -> Root | None:
    """Return the root group of a file; None where the file is not one that can be read."""
    try:
        with SourceFile(path) as file:
            image = Image(file)
            messages = read_messages(image, image.root)
            links = tuple(name for name, _ in read_links(image, messages))
            return Root(links, AttributeReader(image).read(messages))
    except FormatError:
        return None


def read_tree(image: Image) -> Tree:
    """Read everything but the data.

    Raises:
        FormatError: the file is damaged or hostile: see the top of this module.
    """
    tree = Tree()
    attributes = AttributeReader(image)
    known: dict[int, Dataset | str] = {}
    for path, address, messages in walk(image):
        if is_dataset(messages):
            if address not in known:
                named = attributes.read(messages).get("dtype")
                known[address] = read_dataset(image, address, messages, named if isinstance(named, str) else None)
            tree.datasets[path] = known[address]
        elif is_group(messages):
            tree.groups[path] = attributes.read(messages)
        elif find_message(messages, DATATYPE) is None:
            raise image.error(f"{path!r} is neither a group nor a dataset", address, DAMAGED)
    _check_expansion(image, tree)
    _check_overlaps(image, known)
    return tree


def _check_expansion(image: Image, tree: Tree) -> None:
    total = sum(found.nbytes for found in tree.datasets.values() if isinstance(found, Dataset))
    if total > max(SMALL, MAX_EXPANSION * image.size):
        raise image.error(
            f"claims {total} bytes of tensors in a file of {image.size}",
            hint="It is made to exhaust memory or disk; get the checkpoint from somewhere else.",
        )


def _check_overlaps(image: Image, datasets: dict[int, Dataset | str]) -> None:
    stored = [found.storage for found in datasets.values() if isinstance(found, Dataset)]
    pieces = sorted((s.offset, s.offset + s.nbytes) for s in stored if isinstance(s, Contiguous) and s.nbytes)
    for (_, end), (start, _) in itertools.pairwise(pieces):
        if start < end:
            raise FormatError("has two datasets in one place", path=image.file.path, offset=start, hint=DAMAGED)


class Hdf5Reader(Reader):
    """Reads an HDF5 file; subclasses know where a layout of Keras' has the tensors, and what it calls them.

    What is no tensor is in ``objects``: ``group@attribute`` for what is attached to groups, and a note under the path
    of each dataset that no tensor can hold.

    Raises:
        FormatError: the file is damaged, hostile, or not of the layout.
    """

    container = "hdf5"

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._datasets: dict[str, Dataset] = {}
        self._chunked: ChunkedData | None = None
        self._file = SourceFile(path)
        try:
            self._image = self._open_image()
            tree = read_tree(self._image)
            self._describe(tree)
            self._datasets = self._arrange(tree)
        except BaseException:
            self.close()
            raise
        self.tensors = {name: TensorSpec(name, found.dtype, found.shape) for name, found in self._datasets.items()}

    def _open_image(self) -> Image:
        return Image(self._file)

    def _describe(self, tree: Tree) -> None:
        for path, attributes in tree.groups.items():
            for name, value in attributes.items():
                if value is not None:
                    self.objects[f"{path}@{name}"] = value
        for path, found in tree.datasets.items():
            if isinstance(found, str):
                self.objects[path] = f"<not a tensor: {found}>"

    def _forget(self, *attributes: str) -> None:
        """Take attributes out of ``objects`` that say how the file is laid out, and are not the model's."""
        known = tuple(f"@{name}" for name in attributes)
        for name in [name for name in self.objects if name.rstrip("0123456789").endswith(known)]:
            del self.objects[name]

    def _arrange(self, tree: Tree) -> dict[str, Dataset]:
        """Return the datasets that are tensors, in order, by the tensor's name."""
        return {path: found for path, found in tree.datasets.items() if isinstance(found, Dataset)}

    def extents(self, name: str) -> tuple[Extent, ...] | None:
        dataset = self._datasets[name]
        if isinstance(dataset.storage, Chunked):
            return self._chunks(name, dataset, dataset.storage).extents()
        if dataset.big_endian:
            return None
        return (self._extent(dataset.storage),) if dataset.storage.nbytes else ()

    def read_into(self, name: str, start: int, view: memoryview) -> None:
        dataset = self._datasets[name]
        if isinstance(dataset.storage, Chunked):
            self._chunks(name, dataset, dataset.storage).read_into(start, view)
        elif dataset.big_endian:
            self._read_swapped(dataset, dataset.storage, start, view)
        else:
            super().read_into(name, start, view)

    def _extent(self, storage: Contiguous) -> Extent:
        return Extent(self._file, storage.offset, storage.nbytes)

    def _chunks(self, name: str, dataset: Dataset, storage: Chunked) -> ChunkedData:
        """Return the dataset's chunks; the last dataset's are kept, since callers ask block after block."""
        kept = self._chunked
        if kept is None or kept.dataset is not dataset:
            self._chunked = None
            self._chunked = kept = ChunkedData(self._image, dataset, storage, name)
        return kept

    def _read_swapped(self, dataset: Dataset, storage: Contiguous, start: int, view: memoryview) -> None:
        """Fill ``view`` from big-endian data, whole numbers at a time however the caller cuts its blocks."""
        import numpy as np

        width = dataset.dtype.part_bits // 8
        done = 0
        while done < len(view):
            at = start + done
            first = at - at % width
            count = min(-(-(start + len(view) - first) // width) * width, BLOCK, storage.nbytes - first)
            if count <= at - first:
                raise ValueError("asked for more bytes than the tensor has")
            numbers = np.empty(count // width, f"u{width}")
            self._file.read_into(storage.offset + first, numbers.view(np.uint8).data)
            data = numbers.byteswap(inplace=True).view(np.uint8).data[at - first :]
            taken = min(len(data), len(view) - done)
            view[done : done + taken] = data[:taken]
            done += taken

    def close(self) -> None:
        self._chunked = None
        self._file.close()


def sniff(probe: Probe) -> bool:
    """Say whether the file is HDF5."""
    return looks_like_hdf5(probe.head)


def open_reader(path: Path) -> Hdf5Reader:
    """Open an HDF5 file of any layout.

    Raises:
        FormatError: it is damaged or hostile.
    """
    return Hdf5Reader(path)
