"""The object graph of a TensorFlow 2 checkpoint: which object each tensor belongs to, and what it is called.

``tf.train.Checkpoint`` keys a tensor by the path of attribute names that leads to its variable, then
``/.ATTRIBUTES/`` and the name of the value. The graph, a string tensor beside the others, tells the loader the same
as nodes and edges, and keeps each variable's own ``full_name``.

Source: tensorflow/tensorflow: tensorflow/core/protobuf/trackable_object_graph.proto,
tensorflow/python/trackable/trackable_utils.py (keys and escapes), tensorflow/python/checkpoint/util.py (nodes).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from interlingua.errors import FormatError, MappingError
from interlingua.formats.protobuf_wire import LEN, AnyPath, Buffer, Field, encode_bytes, encode_number, fields

GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""Key of the string scalar that is the graph."""

ATTRIBUTES = "/.ATTRIBUTES/"
"""What parts an object's path from the name of its value in a key."""

_SLOT = "/.OPTIMIZER_SLOT/"

MAX_GRAPH = 16 << 20
"""Bytes beyond which a graph is refused: one of ten thousand variables takes about one million."""


def parse_full_names(graph: Buffer, keys: Collection[str], *, path: AnyPath) -> dict[str, str]:
    """Return the ``full_name`` of each variable by its key, for those of ``keys`` that have one.

    Raises:
        FormatError: the graph is no TrackableObjectGraph.
    """
    names: dict[str, str] = {}
    for node in fields(graph, path=path):
        if node.number != 1 or node.wire != LEN:
            continue
        for attribute in fields(graph, node.start, node.stop, path=path):
            if attribute.number == 2 and attribute.wire == LEN:
                texts = _texts(graph, attribute, path)
                key, name = texts.get(3, ""), texts.get(2, "")
                if name and key in keys:
                    names[key] = name
    return names


def _texts(graph: Buffer, message: Field, path: AnyPath) -> dict[int, str]:
    """Return fields 2 and 3 of a message, as text."""
    found: dict[int, str] = {}
    for part in fields(graph, message.start, message.stop, path=path):
        if part.wire == LEN and part.number in (2, 3):
            try:
                found[part.number] = bytes(graph[part.start : part.stop]).decode()
            except UnicodeDecodeError as error:
                raise FormatError("a name in the object graph is not UTF-8", path=path) from error
    return found


@dataclass(slots=True, eq=False)
class _Node:
    """One object: its children and values by name, and the slots that it, an optimizer, keeps for variables."""

    children: dict[str, _Node] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    slots: list[tuple[_Node, str, _Node]] = field(default_factory=list)

    def at(self, path: str) -> _Node:
        """Return the object at an escaped path below this one, made where there is none yet."""
        node = self
        for name in path.split("/") if path else ():
            node = node.children.setdefault(_unescape(name), _Node())
        return node


def build_graph(keys: Iterable[str], full_names: Mapping[str, str]) -> bytes:
    """Return the TrackableObjectGraph of the objects that ``keys`` name, from which TensorFlow restores them.

    Args:
        keys: keys of tensors, each with ``/.ATTRIBUTES/`` in it.
        full_names: the variables' own names by key; those without stay nameless.

    Raises:
        MappingError: a key is no path that TensorFlow could have written.
    """
    root = _Node()
    slot_variables: list[_Node] = []
    for key in sorted(keys):
        try:
            _add(root, key, slot_variables)
        except ValueError as error:
            raise MappingError(
                f"{key!r} cannot be the key of an object's value: {error}.",
                names=(key,),
                hint='In a path "." is spelt ".." and "/" inside a name is spelt ".S".',
            ) from error
    nodes = [*_breadth_first(root), *slot_variables]
    numbers = {node: number for number, node in enumerate(nodes)}
    return b"".join(encode_bytes(1, _encode_node(node, numbers, full_names)) for node in nodes)


def _add(root: _Node, key: str, slot_variables: list[_Node]) -> None:
    """Put the value that ``key`` names into the tree below ``root``."""
    owner, _, value = key.partition(ATTRIBUTES)
    variable, is_slot, rest = owner.partition(_SLOT)
    if is_slot:
        optimizer, _, slot = rest.rpartition("/")
        node = _Node()
        slot_variables.append(node)
        root.at(optimizer).slots.append((root.at(variable), _unescape(slot), node))
    else:
        node = root.at(owner)
    node.values[_unescape(value)] = key


def _unescape(name: str) -> str:
    if not re.fullmatch(r"(?:[^.]|\.[.S])+", name):
        raise ValueError(f"{name!r} is no escaped name")
    return re.sub(r"\.([.S])", lambda found: "." if found[1] == "." else "/", name)


def _breadth_first(root: _Node) -> Iterator[_Node]:
    """Yield a tree's nodes level by level, as TensorFlow numbers them."""
    level = [root]
    while level:
        yield from level
        level = [child for node in level for child in node.children.values()]


def _encode_node(node: _Node, numbers: Mapping[_Node, int], full_names: Mapping[str, str]) -> bytes:
    """Encode a TrackableObject; every one here holds values, or leads to some (field 5)."""
    children = (_reference(numbers[child]) + encode_bytes(2, name) for name, child in node.children.items())
    slots = (
        _reference(numbers[variable]) + encode_bytes(2, name) + encode_number(3, numbers[slot])
        for variable, name, slot in node.slots
    )
    return b"".join(
        (
            *(encode_bytes(1, child) for child in children),
            *(encode_bytes(2, _value(name, key, full_names)) for name, key in node.values.items()),
            *(encode_bytes(3, slot) for slot in slots),
            encode_bytes(5, encode_number(1, 1)),
        )
    )


def _reference(number: int) -> bytes:
    return encode_number(1, number) if number else b""


def _value(name: str, key: str, full_names: Mapping[str, str]) -> bytes:
    full_name = full_names.get(key, "")
    return encode_bytes(1, name) + (encode_bytes(2, full_name) if full_name else b"") + encode_bytes(3, key)
