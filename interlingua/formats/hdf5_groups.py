"""The links of HDF5 groups, in all three ways that the format keeps them.

Only hard links are followed, and only by ``hdf5.walk``: a soft or external link may lead anywhere (CVE-2026-1669 reads
other files through them), so a group that has one is refused.

Layout: HDFGroup/hdf5: doxygen/examples/H5.format.html (HDF5 File Format Specification 3.0), sections III.A to III.C
(symbol tables), IV.A.2.c, g and r (link info, link and symbol table messages).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from interlingua.errors import FormatError
from interlingua.formats.hdf5_heaps import LocalHeap, decode, dense_objects
from interlingua.formats.hdf5_image import DAMAGED, Fields, Image
from interlingua.formats.hdf5_objects import LINK, LINK_INFO, SYMBOL_TABLE, Message, find_message
from interlingua.formats.hdf5_trees import GROUP_NODES, old_tree

MAX_LINKS = 1 << 16
"""Links of one file: a hundred times what a large checkpoint with its optimizer has."""

_NAME_RECORDS = (5,)

_HARD = 0
_LINKS = {1: "a soft link", 64: "an external link"}
_SOFT_CACHE = 2


def is_group(messages: list[Message]) -> bool:
    """Say whether an object with these messages is a group."""
    return any(message.kind in (SYMBOL_TABLE, LINK_INFO, LINK) for message in messages)


def read_links(image: Image, messages: list[Message]) -> list[tuple[str, int]]:
    """Return (name, address of the object's header) of a group's links, by name, as HDF5 lists them.

    Raises:
        FormatError: the group is damaged, or has links other than hard ones.
    """
    links: dict[str, int] = {}
    for name, address in itertools.chain(_table_links(image, messages), _message_links(image, messages)):
        if name in links:
            raise image.error(f"a group has two links of the name {name!r}", address, DAMAGED)
        if len(links) >= MAX_LINKS:
            raise image.error(f"a group has more than {MAX_LINKS} links", address)
        links[name] = address
    return sorted(links.items())


def _table_links(image: Image, messages: list[Message]) -> Iterator[tuple[str, int]]:
    """Yield the links of an old-style group: a B-tree of tables of entries, whose names are in a heap."""
    message = find_message(messages, SYMBOL_TABLE)
    if message is None:
        return
    fields = message.fields(image, "a group")
    tree, names = fields.known_address(), LocalHeap(image, fields.known_address())
    entry = 2 * image.address_width + 24
    for _, address in old_tree(image, tree, GROUP_NODES, image.length_width):
        head = image.fields(address, 8, "a table of links", b"SNOD")
        head.version(1)
        head.take(1)
        fields = image.fields(address + 8, head.uint(2) * entry, "a table of links")
        while fields.left:
            name = _link_name(fields, names.name(fields.uint(image.address_width)))
            target = fields.address()
            if fields.uint(4) == _SOFT_CACHE or target is None:
                raise _refuse_link(fields, name, "a soft link")
            fields.take(20)
            yield name, target


def _message_links(image: Image, messages: list[Message]) -> Iterator[tuple[str, int]]:
    """Yield the links of a new-style group: messages in its header or, where there are many, in a heap."""
    for message in messages:
        if message.kind == LINK:
            yield _link(message.fields(image, "a link"))
    info = find_message(messages, LINK_INFO)
    if info is not None:
        fields = info.fields(image, "a group")
        fields.version(0)
        if fields.uint(1) & 1:
            fields.take(8)
        for record in dense_objects(image, fields, _NAME_RECORDS, skip=4, width=7, what="a link"):
            yield _link(record)


def _link(fields: Fields) -> tuple[str, int]:
    """Take a link message: its name, and the address of what it leads to."""
    fields.version(1)
    flags = fields.uint(1)
    kind = fields.uint(1) if flags & 0x08 else _HARD
    fields.take((8 if flags & 0x04 else 0) + (1 if flags & 0x10 else 0))
    name = _link_name(fields, fields.take(fields.uint(1 << (flags & 3))))
    if kind != _HARD:
        raise _refuse_link(fields, name, _LINKS.get(kind, "a link of an unknown kind"))
    return name, fields.known_address()


def _link_name(fields: Fields, raw: bytes) -> str:
    name = decode(raw)
    if name is None or name in ("", ".") or "/" in name or "\0" in name:
        raise fields.error(f"has the impossible name {raw[:80]!r}", DAMAGED)
    return name


def _refuse_link(fields: Fields, name: str, what: str) -> FormatError:
    return fields.error(f"holds {name!r}, which is {what}", "Such links may lead anywhere and are never followed.")
