"""Stand-ins for what checkpoints hold beside tensors, and the paths to all of it."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
import pickle
import types
from pathlib import Path

import pytest

from interlingua.errors import FormatError
from interlingua.formats import pickled_numpy, pickled_objects
from interlingua.formats.base import SourceFile
from interlingua.formats.pickled_objects import leaf_object, named_leaves
from interlingua.formats.pickles import load

PLAIN = {**pickled_objects.ALLOWED, **pickled_numpy.ALLOWED}


def leaves(tmp_path: Path, value: object, protocol: int = 4) -> dict[str | None, object]:
    (tmp_path / "x").write_bytes(pickle.dumps(value, protocol))
    with SourceFile(tmp_path / "x") as file:
        root, _ = load(file, 0, file.size, PLAIN)
        return {name: leaf_object(file, leaf) for name, leaf in named_leaves(file, root)}


def test_leaves_are_named_by_keys_and_indices_in_order(tmp_path):
    value = {"b": [{"x": 1}, (b"z", None)], "a": {2: 3.5, True: "t"}, "l": [1, "x", None], "e": [], b"k\xff": 1}
    found = leaves(tmp_path, value)
    assert list(found.items()) == [
        ("b.0.x", 1),
        ("b.1.0", "<1 bytes>"),
        ("b.1.1", None),
        ("a.2", 3.5),
        ("a.True", "t"),
        ("l", [1, "x", None]),
        ("e", []),
        ("k\\xff", 1),
    ]


def test_a_root_that_is_a_leaf_has_no_name(tmp_path):
    assert leaves(tmp_path, 5) == {None: 5}
    assert leaves(tmp_path, [1, 2]) == {None: [1, 2]}


def test_long_texts_are_leaves_up_to_a_length(tmp_path):
    found = leaves(tmp_path, {"short": "x" * 50_000, "long": "x" * 70_000})
    assert found == {"short": "x" * 50_000, "long": "<a text of 70000 bytes>"}


@pytest.mark.parametrize("protocol", range(6))
def test_harmless_classes_have_stand_ins_in_every_protocol(tmp_path, protocol):
    value = {
        "ordered": collections.OrderedDict(a=1, b=collections.OrderedDict()),
        "count": collections.Counter("aab"),
        "default": collections.defaultdict(list, {"x": {"y": 1}}),
        "deque": collections.deque([1, 2], maxlen=3),
        "args": argparse.Namespace(lr=0.5, inner=argparse.Namespace(x=1)),
        "plain": types.SimpleNamespace(a="b"),
        "path": pathlib.PurePosixPath("/x/y"),
        "when": datetime.datetime(2020, 1, 2),
        "span": datetime.timedelta(seconds=5),
        "set": {1},
        "frozen": frozenset({1, 2}),
        "bytes": bytearray(b"ab"),
        "complex": 1 + 2j,
        "class": list,
    }
    assert leaves(tmp_path, value, protocol) == {
        "ordered.a": 1,
        "ordered.b": "<an empty dict>",
        "count.a": 2,
        "count.b": 1,
        "default.x.y": 1,
        "deque": [1, 2],
        "args.lr": 0.5,
        "args.inner.x": 1,
        "plain.a": "b",
        "path": "/x/y",
        "when": "<a datetime.datetime>",
        "span": "<a datetime.timedelta>",
        "set": "<a set of 1>",
        "frozen": "<a set of 2>" if protocol < 4 else "<a frozenset of 2>",
        "bytes": "<2 bytes>",
        "complex": "<(1+2j)>",
        "class": "<__builtin__.list>" if protocol < 3 else "<builtins.list>",
    }


def nest(open_: bytes, item: bytes, close: bytes, levels: int) -> bytes:
    """Containers of ten times the one before, each only a few bytes: billion laughs."""
    out = b"\x80\x02" + open_ + close + b"q\x00"
    for level in range(levels):
        item_code = item + b"h" + bytes([level])
        out += b"0" + open_ + b"(" + b"".join(item_code.replace(b"%", b"K" + bytes([i])) for i in range(10)) + close
        out += b"q" + bytes([level + 1])
    return out + b"."


LAUGHS_IN_LISTS = nest(b"]", b"", b"e", 30).replace(b"]eq\x00", b"](Neq\x00", 1)
LAUGHS_IN_DICTS = nest(b"}", b"%", b"u", 30).replace(b"}uq\x00", b"}(NNuq\x00", 1)


@pytest.mark.parametrize("data", [LAUGHS_IN_LISTS, LAUGHS_IN_DICTS])
def test_a_billion_paths_through_a_few_containers_are_not_walked(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with SourceFile(tmp_path / "x") as file:
        value, _ = load(file, 0, file.size, PLAIN)
        with pytest.raises(FormatError, match="too many names"):
            for _ in named_leaves(file, value):
                pass


@pytest.mark.parametrize("data", [b"]q\x00h\x00a.", b"}q\x00K\x01h\x00s.", b"]q\x00(]q\x01h\x00ah\x01e."])
def test_containers_that_hold_themselves_are_not_walked_for_ever(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with SourceFile(tmp_path / "x") as file:
        value, _ = load(file, 0, file.size, PLAIN)
        with pytest.raises(FormatError, match="holds itself"):
            list(named_leaves(file, value))


def test_deep_nesting_is_read_without_recursion_and_not_walked(tmp_path):
    (tmp_path / "x").write_bytes(b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".")
    with SourceFile(tmp_path / "x") as file:
        value, _ = load(file, 0, file.size, PLAIN)
        with pytest.raises(FormatError, match="nests too deep"):
            list(named_leaves(file, value))
