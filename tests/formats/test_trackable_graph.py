"""The object graph of TensorFlow 2 checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.errors import FormatError, MappingError
from interlingua.formats.protobuf_wire import LEN, VARINT, encode_bytes, encode_number, fields
from interlingua.formats.trackable_graph import build_graph, parse_full_names

HERE = Path("a.index")
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def children(graph: bytes, number: int) -> dict[str, int]:
    """The children of a node: number by name."""
    node = list(fields(graph, path=HERE))[number]
    found = {}
    for child in fields(graph, node.start, node.stop, path=HERE):
        if child.number == 1:
            parts = {f.number: f for f in fields(graph, child.start, child.stop, path=HERE)}
            found[graph[parts[2].start : parts[2].stop].decode()] = parts[1].value
    return found


def walk(graph: bytes, *path: str) -> int:
    number = 0
    for name in path:
        number = children(graph, number)[name]
    return number


def keys_of(graph: bytes, number: int) -> list[str]:
    node = list(fields(graph, path=HERE))[number]
    values = [f for f in fields(graph, node.start, node.stop, path=HERE) if f.number == 2]
    return [
        graph[f.start : f.stop].decode()
        for value in values
        for f in fields(graph, value.start, value.stop, path=HERE)
        if f.number == 3
    ]


def test_every_path_leads_to_its_key() -> None:
    keys = [f"model/a{VALUE}", f"model/b/0{VALUE}", f"model/b{VALUE}", f"save_counter{VALUE}", VALUE]
    graph = build_graph(keys, {})
    assert keys_of(graph, walk(graph, "model", "a")) == [keys[0]]
    assert keys_of(graph, walk(graph, "model", "b", "0")) == [keys[1]]
    assert keys_of(graph, walk(graph, "model", "b")) == [keys[2]]
    assert keys_of(graph, walk(graph, "save_counter")) == [keys[3]]
    assert keys_of(graph, 0) == [VALUE]
    assert keys_of(graph, walk(graph, "model")) == []


def test_escaped_names_are_spelt_out_in_the_graph() -> None:
    key = f"a.Sb..c/...S....S/x.S{VALUE}"
    graph = build_graph([key], {})
    assert keys_of(graph, walk(graph, "a/b.c", "./..S", "x/")) == [key]


def test_slots_belong_to_their_optimizer() -> None:
    slot = f"model/w/.OPTIMIZER_SLOT/optimizer/m..S{VALUE}"
    keys = [f"model/w{VALUE}", slot, f"optimizer/iter{VALUE}"]
    graph = build_graph(keys, {slot: "w/m"})
    optimizer = list(fields(graph, path=HERE))[walk(graph, "optimizer")]
    (reference,) = (f for f in fields(graph, optimizer.start, optimizer.stop, path=HERE) if f.number == 3)
    parts = {f.number: f for f in fields(graph, reference.start, reference.stop, path=HERE)}
    assert parts[1].value == walk(graph, "model", "w")
    assert graph[parts[2].start : parts[2].stop] == b"m.S"
    assert keys_of(graph, parts[3].value) == [slot]
    assert parse_full_names(graph, keys, path=HERE) == {slot: "w/m"}


def test_the_graph_does_not_depend_on_the_order_of_keys() -> None:
    keys = [f"{name}{VALUE}" for name in "dacb"]
    assert build_graph(keys, {}) == build_graph(keys[::-1], {})


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(st.dictionaries(st.lists(NAMES, min_size=1, max_size=4).map(tuple), NAMES, max_size=6))
def test_names_of_any_kind_come_back(paths: dict[tuple[str, ...], str]) -> None:
    full_names = {
        "/".join(name.replace(".", "..").replace("/", ".S") for name in path) + VALUE: full_name
        for path, full_name in paths.items()
    }
    graph = build_graph(full_names, full_names)
    assert parse_full_names(graph, full_names.keys(), path=HERE) == full_names
    assert parse_full_names(graph, list(full_names)[:1], path=HERE) == dict(list(full_names.items())[:1])
    for path, key in zip(paths, full_names, strict=True):
        assert keys_of(graph, walk(graph, *path)) == [key]


@pytest.mark.parametrize("owner", ["a.b", "a/", "/a", "a//b", ".OPTIMIZER_SLOT", "a.", "...", "a/.OPTIMIZER_SLOT/o/"])
def test_a_path_that_tensorflow_cannot_have_written_is_refused(owner: str) -> None:
    with pytest.raises(MappingError, match="cannot be the key") as caught:
        build_graph([f"fine{VALUE}", owner + VALUE], {})
    assert caught.value.names == (owner + VALUE,)


def test_deep_paths_need_no_recursion() -> None:
    key = "a/" * 20_000 + "a" + VALUE
    graph = build_graph([key], {key: "name"})
    assert parse_full_names(graph, [key], path=HERE) == {key: "name"}


def test_values_without_a_full_name_are_left_out() -> None:
    keys = [f"a{VALUE}", f"b{VALUE}"]
    assert parse_full_names(build_graph(keys, {keys[0]: "A"}), keys, path=HERE) == {keys[0]: "A"}


@pytest.mark.parametrize(
    "graph",
    [
        b"\xff",
        encode_bytes(1, b"\x80"),
        encode_bytes(1, encode_bytes(2, b"\x1a\x7fabc")),
        encode_bytes(1, encode_bytes(2, encode_bytes(2, b"\xff") + encode_bytes(3, b"k"))),
        encode_bytes(1, encode_bytes(2, encode_bytes(2, b"n") + encode_bytes(3, b"\xff"))),
    ],
)
def test_a_broken_graph_is_refused(graph: bytes) -> None:
    with pytest.raises(FormatError):
        parse_full_names(graph, ["k"], path=HERE)


def test_what_is_no_graph_but_well_formed_names_nothing() -> None:
    odd = encode_number(1, 5) + encode_bytes(2, b"x") + encode_bytes(1, encode_number(2, 1) + encode_bytes(5, b""))
    assert {f.wire for f in fields(odd, path=HERE)} == {VARINT, LEN}
    assert parse_full_names(odd, ["k"], path=HERE) == {}
