"""Attributes of HDF5 objects: strings and numbers that are attached to groups and datasets by name.

Layout: HDFGroup/hdf5: doxygen/examples/H5.format.html (HDF5 File Format Specification 3.0), sections IV.A.2.m and v
(attribute and attribute info messages).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from interlingua.formats.hdf5_heaps import GlobalHeap, decode, dense_objects
from interlingua.formats.hdf5_image import DAMAGED, Fields, Image
from interlingua.formats.hdf5_objects import ATTRIBUTE, ATTRIBUTE_INFO, Message, find_message
from interlingua.formats.hdf5_types import STRING, VARIABLE_STRING, Datatype, Space, read_datatype, read_shape

MAX_ATTRIBUTES = 32 << 20
"""Bytes that the values of all attributes of a file may take in memory, by an estimate that errs upwards."""

Value = str | int | float | list[str] | list[int | float]
"""What an attribute can say: one string or number, or a list of them."""

_ELEMENT = 64
"""Bytes that one element of a list costs beside its text."""

_RECORDS = (8,)

_STRUCTS = {"float16": "e", "float32": "f", "float64": "d"}


class AttributeReader:
    """Reads attributes of objects, all of one file on one budget of memory.

    Args:
        image: the file.
    """

    def __init__(self, image: Image) -> None:
        self.image = image
        self._strings = GlobalHeap(image)
        self._left = MAX_ATTRIBUTES

    def read(self, messages: list[Message]) -> dict[str, Value | None]:
        """Return an object's attributes: None for one that is neither text nor numbers.

        Raises:
            FormatError: one is damaged, or all together take too much memory.
        """
        found: dict[str, Value | None] = {}
        for fields in self._bodies(messages):
            name, value = self._attribute(fields)
            if name is not None:
                found[name] = value
        return found

    def _bodies(self, messages: list[Message]) -> Iterator[Fields]:
        for message in messages:
            if message.kind == ATTRIBUTE and not message.shared:
                yield message.fields(self.image, "an attribute")
        info = find_message(messages, ATTRIBUTE_INFO)
        if info is not None:
            fields = info.fields(self.image, "a list of attributes")
            fields.version(0)
            if fields.uint(1) & 1:
                fields.take(2)
            yield from dense_objects(self.image, fields, _RECORDS, skip=0, width=8, what="an attribute")

    def _attribute(self, fields: Fields) -> tuple[str | None, Value | None]:
        version, flags = fields.version(1, 2, 3), fields.uint(1)
        sizes = [fields.uint(2) for _ in range(3)]
        if version == 3:
            fields.take(1)
        parts = []
        for size in sizes:
            parts.append(fields.part(size))
            if version == 1:
                fields.take(min(-size % 8, fields.left))
        name, datatype, shape = parts
        text = decode(name.data.rstrip(b"\0"))
        # Bits 0 and 1 of the flags: type or shape are kept elsewhere.
        if version > 1 and flags & 3:
            return text, None
        return text, self._value(fields, read_datatype(datatype), read_shape(shape))

    def _value(self, fields: Fields, datatype: Datatype, space: Space | None) -> Value | None:
        if space is None:
            return None
        shape = space.shape
        count = math.prod(shape)
        if count * datatype.size > fields.left:
            raise fields.error(f"claims {count} elements of {datatype.size} bytes", DAMAGED)
        self._spend(fields, count * _ELEMENT)
        if datatype.kind in (STRING, VARIABLE_STRING):
            return self._texts(fields, datatype, count, bool(shape))
        numbers = _numbers(datatype, fields.take(count * datatype.size))
        return numbers if shape or numbers is None else numbers[0]

    def _texts(self, fields: Fields, datatype: Datatype, count: int, many: bool) -> Value | None:
        texts: list[str] = []
        for _ in range(count):
            raw = fields.take(datatype.size)
            if datatype.kind == VARIABLE_STRING:
                raw = self._variable(fields, raw)
            self._spend(fields, 4 * len(raw))
            text = decode(raw.rstrip(b"\0"))
            if text is None:
                return None
            texts.append(text)
        return texts if many else texts[0]

    def _variable(self, fields: Fields, raw: bytes) -> bytes:
        """Return the text that ``raw`` refers to: its length, and where in the heaps it is."""
        reference = Fields(self.image, raw, fields.offset, fields.what)
        length, address, index = reference.uint(4), reference.address(), reference.uint(4)
        if not length or not address:
            return b""
        return self._strings.get(address, index)[:length]

    def _spend(self, fields: Fields, nbytes: int) -> None:
        self._left -= nbytes
        if self._left < 0:
            raise fields.error(f"and others together take more than {MAX_ATTRIBUTES} bytes")


def _numbers(datatype: Datatype, raw: bytes) -> list[int | float] | None:
    """Decode numbers that lie one behind the other; None where they are of no type that Python has."""
    dtype, width = datatype.dtype, datatype.size
    if dtype is None:
        return None
    if dtype.name in _STRUCTS:
        order = ">" if datatype.big_endian else "<"
        return list(struct.unpack(f"{order}{len(raw) // width}{_STRUCTS[dtype.name]}", raw))
    if dtype.kind not in "iub":
        return None
    pieces = [raw[at : at + width] for at in range(0, len(raw), width)]
    return [
        int.from_bytes(piece, "big" if datatype.big_endian else "little", signed=dtype.kind == "i") for piece in pieces
    ]
