"""The three heaps of HDF5: names of old groups, strings of varying length, and what dense groups hold.

Layout: HDFGroup/hdf5: doxygen/examples/H5.format.html (HDF5 File Format Specification 3.0), sections III.D (local
heap), III.E (global heap) and III.G (fractal heap); src/H5HFdtable.c (sizes of the rows of a fractal heap).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from interlingua.formats.hdf5_image import DAMAGED, REWRITE, Fields, Image, lookup3
from interlingua.formats.hdf5_trees import new_tree, number_width

MAX_NAME = 1 << 16
"""Bytes of one name, its NUL included."""

_MAX_COLLECTIONS = 8
"""Collections of strings kept in memory; libhdf5 fills up to 16 at a time, but mostly one after the other."""

_MAX_HUGE = 1 << 12
"""Attributes of one object that are too large for the blocks of a heap."""

_MAX_BLOCKS = 1 << 16
"""Blocks of one fractal heap: of 64 KB at most each, so far more than the budget for structure allows."""

_MAX_ROWS = 64
"""Rows of blocks in a fractal heap: each doubles the one before, and offsets have 64 bits."""

_HUGE_OBJECTS = 1
_HUGE_RECORDS = (1,)


class LocalHeap:
    """The names of one old-style group: text, each ended by a NUL.

    Raises:
        FormatError: it is damaged.
    """

    def __init__(self, image: Image, address: int) -> None:
        fields = image.fields(address, 8 + 2 * image.length_width + image.address_width, "a group's names", b"HEAP")
        fields.version(0)
        fields.take(3)
        size = fields.length()
        fields.length()
        self._image = image
        self._names = image.fields(fields.known_address(), size, "a group's names")

    def name(self, at: int) -> bytes:
        """Return the name that begins ``at`` bytes into the heap."""
        data = self._names.data
        end = data.find(0, at, at + MAX_NAME)
        if end < 0:
            raise self._names.error(f"have none that begins after {at} bytes", DAMAGED)
        self._image.spend(end - at)
        return data[at:end]


class GlobalHeap:
    """Strings of varying length, in collections all over the file, of which the last few are kept."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self._collections: dict[int, dict[int, bytes]] = {}

    def get(self, address: int, index: int) -> bytes:
        """Return object ``index`` of the collection at ``address``.

        Raises:
            FormatError: there is none, or the collection is damaged.
        """
        collection = self._collections.pop(address, None)
        if collection is None:
            collection = self._read(address)
        self._collections[address] = collection
        if len(self._collections) > _MAX_COLLECTIONS:
            del self._collections[next(iter(self._collections))]
        found = collection.get(index)
        if found is None:
            raise self.image.error(f"a string is said to be number {index} of a heap that lacks it", address, DAMAGED)
        return found

    def _read(self, address: int) -> dict[int, bytes]:
        head = 8 + self.image.length_width
        fields = self.image.fields(address, head, "a heap of strings", b"GCOL")
        fields.version(1)
        fields.take(3)
        size = fields.length()
        if size < head:
            raise fields.error(f"claims to have {size} bytes", DAMAGED)
        fields = self.image.fields(address + head, size - head, "a heap of strings")
        objects = {}
        while fields.left >= 8 + self.image.length_width:
            index = fields.uint(2)
            fields.take(6)
            nbytes = fields.length()
            if index == 0:
                break
            objects[index] = fields.take(nbytes)
            fields.take(min(-nbytes % 8, fields.left))
        return objects


@dataclass(frozen=True, slots=True)
class _Block:
    """A direct block of a fractal heap: ``size`` bytes of the heap from ``start``, at ``address`` of the file."""

    start: int
    size: int
    address: int


class FractalHeap:
    """The links or attributes of one object that has many, or large ones.

    Raises:
        FormatError: it is damaged, or filtered.
    """

    def __init__(self, image: Image, address: int) -> None:
        self.image = image
        widths = 12 * image.length_width + 3 * image.address_width
        fields = image.checked(address, 26 + widths, "a heap of links or attributes", b"FRHP")
        fields.version(0)
        fields.take(2)
        if fields.uint(2):
            raise fields.error("is filtered, which is not read here", REWRITE)
        self._has_checksums = bool(fields.uint(1) & 2)
        largest = fields.uint(4)
        fields.length()
        self._huge_tree = fields.address()
        fields.take(image.length_width + image.address_width + 8 * image.length_width)
        self._columns = fields.uint(2)
        self._first_size, self._largest_size = fields.length(), fields.length()
        bits = fields.uint(2)
        fields.take(2)
        root, rows = fields.address(), fields.uint(2)
        if not _power_of_two(self._columns, self._first_size, self._largest_size) or bits > 64:
            raise fields.error("has blocks of impossible sizes", DAMAGED)
        self._offset_width = (bits + 7) // 8
        largest_bits = self._largest_size.bit_length() - 1
        self._length_width = min((largest_bits + 7) // 8, number_width(largest))
        self._blocks = [] if root is None else self._direct_blocks(root, rows)
        self._starts = [block.start for block in self._blocks]
        self._data: dict[int, bytes] = {}
        self._huge: dict[int, tuple[int, int]] | None = None

    def get(self, reference: bytes, what: str) -> Fields:
        """Return the object that a heap ID refers to; ``what`` names it in errors.

        Raises:
            FormatError: it is not in the heap.
        """
        kind = reference[0] >> 4
        if kind == _HUGE_OBJECTS:
            return self._huge_object(int.from_bytes(reference[1:9], "little"), what)
        if kind != 0:
            raise self.image.error(f"{what} is stored in a way that is not read here", hint=REWRITE)
        split = 1 + self._offset_width
        start = int.from_bytes(reference[1:split], "little")
        nbytes = int.from_bytes(reference[split : split + self._length_width], "little")
        block = self._block_of(start, nbytes, what)
        self.image.spend(nbytes)
        data = self._block_data(block)
        at = start - block.start
        return Fields(self.image, data[at : at + nbytes], self.image.offset(block.address, 0, what) + at, what)

    def _block_of(self, start: int, nbytes: int, what: str) -> _Block:
        index = bisect_right(self._starts, start) - 1
        if index >= 0:
            block = self._blocks[index]
            if start + nbytes <= block.start + block.size:
                return block
        raise self.image.error(f"{what} is not in the heap that it should be in", hint=DAMAGED)

    def _block_data(self, block: _Block) -> bytes:
        """Return the whole of a direct block, its header included: offsets in the heap count from there."""
        if block.address not in self._data:
            what = "a block of links or attributes"
            fields = self.image.fields(block.address, block.size, what, b"FHDB")
            fields.version(0)
            fields.take(self.image.address_width + self._offset_width)
            if self._has_checksums:
                at = fields.at
                blank = fields.data[:at] + bytes(4) + fields.data[at + 4 :]
                if lookup3(blank) != fields.uint(4):
                    raise fields.error("has another checksum than it should", DAMAGED)
            self._data[block.address] = fields.data
        return self._data[block.address]

    def _huge_object(self, number: int, what: str) -> Fields:
        if self._huge is None:
            self._huge = {}
            if self._huge_tree is not None:
                for _, record in new_tree(self.image, self._huge_tree, _HUGE_RECORDS):
                    address, nbytes = record.known_address(), record.length()
                    self._huge[record.length()] = address, nbytes
                    if len(self._huge) > _MAX_HUGE:
                        raise self.image.error("an object has too many large attributes", address)
        if number not in self._huge:
            raise self.image.error(f"{what} is not in the heap that it should be in", hint=DAMAGED)
        return self.image.fields(*self._huge[number], what)

    def _direct_blocks(self, root: int, rows: int) -> list[_Block]:
        """List the heap's direct blocks, in the order of the heap."""
        if rows == 0:
            return [_Block(0, self._first_size, root)]
        found = []
        waiting = [(root, rows, 0)]
        while waiting:
            address, rows, start = waiting.pop()
            for size, child, at in self._children(address, rows, start):
                if size <= self._largest_size:
                    found.append(_Block(at, size, child))
                else:
                    waiting.append((child, self._rows_of(size), at))
            if len(found) + len(waiting) > _MAX_BLOCKS:
                raise self.image.error("a heap of links or attributes has too many blocks", address)
        return sorted(found, key=lambda block: block.start)

    def _children(self, address: int, rows: int, start: int) -> Iterator[tuple[int, int, int]]:
        """Yield (size, address, place in the heap) of the children of an indirect block."""
        if rows > _MAX_ROWS:
            raise self.image.error(f"a block of links or attributes has {rows} rows", address, DAMAGED)
        entries = rows * self._columns
        prefix = 5 + self.image.address_width + self._offset_width
        nbytes = prefix + entries * self.image.address_width + 4
        fields = self.image.checked(address, nbytes, "a block of links or attributes", b"FHIB")
        fields.version(0)
        fields.take(prefix - 5)
        for row in range(rows):
            size = self._first_size << max(0, row - 1)
            for _ in range(self._columns):
                child = fields.address()
                if child is not None:
                    yield size, child, start
                start += size

    def _rows_of(self, size: int) -> int:
        """Return the rows of an indirect block that stands for ``size`` bytes of the heap."""
        return size.bit_length() - (self._first_size * self._columns).bit_length() + 1


def dense_objects(
    image: Image, fields: Fields, kinds: tuple[int, ...], *, skip: int, width: int, what: str
) -> Iterator[Fields]:
    """Yield what a group or dataset keeps in a heap, by way of the tree that lists it by name.

    Args:
        image: the file.
        fields: a message from which the addresses of heap and tree are taken next.
        kinds: type of the tree's records.
        skip: bytes of a record before the heap ID.
        width: bytes of the heap ID.
        what: name of one thing in the heap, for errors.
    """
    heap_address, tree = fields.address(), fields.address()
    if heap_address is None or tree is None:
        return
    heap = FractalHeap(image, heap_address)
    for _, record in new_tree(image, tree, kinds):
        record.take(skip)
        yield heap.get(record.take(width), what)


def _power_of_two(*numbers: int) -> bool:
    return all(number > 0 and number & (number - 1) == 0 for number in numbers)


def decode(raw: bytes) -> str | None:
    """Return text as HDF5 keeps it, in UTF-8; None where it is none."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
