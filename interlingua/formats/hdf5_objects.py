"""Object headers of HDF5: the messages that make an object a group, a dataset or a named type.

Layout: HDFGroup/hdf5: doxygen/examples/H5.format.html (HDF5 File Format Specification 3.0), section IV.A.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from interlingua.formats.hdf5_image import DAMAGED, REWRITE, Fields, Image

DATASPACE = 0x01
LINK_INFO = 0x02
DATATYPE = 0x03
OLD_FILL = 0x04
FILL = 0x05
LINK = 0x06
EXTERNAL_FILES = 0x07
LAYOUT = 0x08
FILTERS = 0x0B
ATTRIBUTE = 0x0C
SYMBOL_TABLE = 0x11
ATTRIBUTE_INFO = 0x15

MAX_HEADER = 8 << 20
"""Bytes of one object's header; small attributes are in it."""

MAX_MESSAGES = 0xFFFF
"""Messages in one object's header: as many as its oldest form can count."""

_CONTINUATION = 0x10
_LAST_KNOWN = 0x18

_SHARED = 0x02
_REFUSE_IF_UNKNOWN = 0x80

_HAS_ORDER = 0x04
_HAS_LIMITS = 0x10
_HAS_TIMES = 0x20
_CHECKSUM = 4


@dataclass(frozen=True, slots=True)
class Message:
    """One message of an object header.

    Attributes:
        kind: what it is about: ``DATASPACE``, ``DATATYPE``, ``LAYOUT`` ...
        data: its body.
        offset: byte of the file at which the body begins.
        shared: whether ``data`` only says where the body is.
    """

    kind: int
    data: bytes
    offset: int
    shared: bool

    def fields(self, image: Image, what: str) -> Fields:
        """Return the body; ``what`` names it in errors.

        Raises:
            FormatError: the body is elsewhere (a type that was given a name, or a table of shared messages).
        """
        fields = Fields(image, self.data, self.offset, what)
        if self.shared:
            raise fields.error("is shared between objects, which is not read here", REWRITE)
        return fields


def read_messages(image: Image, address: int) -> list[Message]:
    """Return the messages of the object header at ``address``, in order, those of its continuations included.

    Raises:
        FormatError: the header is damaged, larger than any real one, or needs a newer reader.
    """
    start = image.fields(address, 4, "an object header")
    if start.data == b"OHDR":
        walk = _new_header(image, address)
    else:
        start.version(1)
        walk = _old_header(image, address)
    messages: list[Message] = []
    for message in walk:
        messages.append(message)
        if len(messages) > MAX_MESSAGES:
            raise image.error(f"an object has more than {MAX_MESSAGES} properties", address)
    return messages


class _Blocks:
    """The blocks of one header still to be read: the first one, and those that messages say it goes on in."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self._waiting: deque[tuple[int, int]] = deque()
        self._seen: set[int] = set()
        self._left = MAX_HEADER

    def add(self, address: int, nbytes: int) -> None:
        self._left -= nbytes
        if address in self._seen or self._left < 0:
            raise self.image.error("an object header goes round in circles, or is far too long", address, DAMAGED)
        self._seen.add(address)
        self._waiting.append((address, nbytes))

    def follow(self, message: Message) -> None:
        fields = message.fields(self.image, "a continuation")
        self.add(fields.known_address(), fields.length())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        while self._waiting:
            yield self._waiting.popleft()


def _old_header(image: Image, address: int) -> Iterator[Message]:
    fields = image.fields(address, 16, "an object header")
    fields.take(8)
    blocks = _Blocks(image)
    blocks.add(address + 16, fields.uint(4))
    for at, nbytes in blocks:
        fields = image.fields(at, nbytes, "an object header")
        while fields.left >= 8:
            kind, size, flags = fields.uint(2), fields.uint(2), fields.uint(1)
            fields.take(3)
            yield from _message(fields, kind, size, flags, blocks)


def _new_header(image: Image, address: int) -> Iterator[Message]:
    fields = image.fields(address, 6, "an object header", b"OHDR")
    fields.version(2)
    flags = fields.uint(1)
    prefix = 6 + (16 if flags & _HAS_TIMES else 0) + (4 if flags & _HAS_LIMITS else 0)
    width = 1 << (flags & 3)
    fields = image.fields(address, prefix + width, "an object header")
    fields.take(prefix)
    first = prefix + width + fields.uint(width) + _CHECKSUM
    blocks = _Blocks(image)
    blocks.add(address, first)
    for at, nbytes in blocks:
        fields = image.checked(at, nbytes, "an object header", b"OHDR" if at == address else b"OCHK")
        if at == address:
            fields.take(prefix + width - 4)
        yield from _new_messages(fields, 2 if flags & _HAS_ORDER else 0, blocks)


def _new_messages(fields: Fields, order: int, blocks: _Blocks) -> Iterator[Message]:
    while fields.left >= 4 + order:
        kind, size, flags = fields.uint(1), fields.uint(2), fields.uint(1)
        fields.take(order)
        yield from _message(fields, kind, size, flags, blocks)


def _message(fields: Fields, kind: int, size: int, flags: int, blocks: _Blocks) -> Iterator[Message]:
    """Take a message's body: yield it, or follow it where it is a continuation."""
    offset = fields.offset + fields.at
    if kind > _LAST_KNOWN and flags & _REFUSE_IF_UNKNOWN:
        raise fields.error(f"has a message of the unknown kind {kind}", REWRITE)
    message = Message(kind, fields.take(size), offset, bool(flags & _SHARED))
    if kind == _CONTINUATION:
        blocks.follow(message)
    else:
        yield message


def find_message(messages: list[Message], kind: int) -> Message | None:
    """Return the first message of a kind that an object has at most once; None where it has none."""
    return next((message for message in messages if message.kind == kind), None)
