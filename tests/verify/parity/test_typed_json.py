"""Typed JSON: what is spelled is read back as it was, and nothing is taken for what it is not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.verify.parity.typed_json import SHOWN, from_json, json_schema, to_json


@dataclass(frozen=True)
class Leaf:
    """A leaf.

    Attributes:
        name: what it is called,
            on two lines.
        weight: in ``grams``.
    """

    name: str
    weight: float


@dataclass(frozen=True)
class Tree:
    """A tree.

    More of it, which no schema needs.

    Attributes:
        count: how many.
        alive: whether it is.
    """

    count: int
    alive: bool
    best: Leaf | None
    leaves: tuple[Leaf, ...]
    pair: tuple[int, str]
    named: Mapping[str, tuple[float, ...]]
    rest: Any = None
    last: float = field(default=0.0)


@dataclass(frozen=True)
class Chain:
    """One link, and the next."""

    next: Chain | None


GOOD: dict[str, Any] = {
    "count": 3,
    "alive": True,
    "best": {"name": "x", "weight": 1.5},
    "leaves": [{"name": "y", "weight": "nan"}, {"name": "z", "weight": 2}],
    "pair": [7, "seven"],
    "named": {"a": [0.5, "-inf"]},
    "rest": {"any": ["thing"]},
    "last": "inf",
}

NAMES = st.text(max_size=6)
FLOATS = st.floats() | st.sampled_from([-0.0, 5e-324, 1.7976931348623157e308])
LEAVES = st.builds(Leaf, NAMES, FLOATS)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
)
TREES = st.builds(
    Tree,
    st.integers(),
    st.booleans(),
    st.none() | LEAVES,
    st.lists(LEAVES, max_size=3).map(tuple),
    st.tuples(st.integers(), NAMES),
    st.dictionaries(NAMES, st.lists(FLOATS, max_size=3).map(tuple), max_size=3),
    JSON,
    FLOATS,
)


def put(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """Return the good document with another value at one place."""
    document: dict[str, Any] = json.loads(json.dumps(GOOD))
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


# -- there and back


@given(TREES)
def test_what_is_spelled_is_read_back_to_the_bit(tree: Tree) -> None:
    text = json.dumps(to_json(asdict(tree)), allow_nan=False)
    assert repr(from_json(Tree, json.loads(text))) == repr(tree)


@given(FLOATS)
def test_every_float_has_a_spelling_that_json_allows(number: float) -> None:
    back = from_json(float, json.loads(json.dumps(to_json(number), allow_nan=False)))
    assert (math.isnan(back) and math.isnan(number)) or (back, math.copysign(1, back)) == (
        number,
        math.copysign(1, number),
    )


def test_tuples_become_lists_and_numbers_without_a_word_their_names() -> None:
    assert to_json({"a": (1, (math.nan, -math.inf)), 2: [math.inf, True, None]}) == {
        "a": [1, ["nan", "-inf"]],
        "2": ["inf", True, None],
    }


def test_a_document_becomes_what_its_types_say() -> None:
    tree = from_json(Tree, GOOD)
    assert isinstance(tree, Tree)
    assert (tree.best, tree.leaves[1]) == (Leaf("x", 1.5), Leaf("z", 2.0))
    assert (tree.pair, tree.named, tree.last) == ((7, "seven"), {"a": (0.5, -math.inf)}, math.inf)
    assert isinstance(tree.leaves[1].weight, float)
    assert math.isnan(tree.leaves[0].weight)
    assert from_json(Tree, put(("best",), None)).best is None


# -- what is refused


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("count",), True, r"count: an integer is expected, and it is True"),
        (("count",), 3.0, r"count: an integer is expected, and it is 3\.0"),
        (("count",), "3", r"count: an integer is expected, and it is '3'"),
        (("count",), None, r"count: an integer is expected, and it is None"),
        (("alive",), 1, r"alive: true or false is expected, and it is of type int"),
        (("alive",), "true", r"alive: true or false is expected"),
        (("best", "name"), 5, r"best\.name: a string is expected"),
        (("best", "name"), None, r"best\.name: a string is expected"),
        (("best", "weight"), None, r"best\.weight: a number is expected, and it is None"),
        (("best", "weight"), False, r"best\.weight: a number is expected, and it is False"),
        (("best", "weight"), "1.5", r"best\.weight: a number is expected, and it is '1\.5'"),
        (("best", "weight"), "NaN", r"best\.weight: a number is expected, and it is 'NaN'"),
        (("best", "weight"), "infinity", r"best\.weight: a number is expected"),
        (("best",), [], r"best: an object is expected, and it is of type list"),
        (("leaves",), None, r"leaves: a list is expected, and it is None"),
        (("leaves",), {"0": 1}, r"leaves: a list is expected, and it is of type dict"),
        (("leaves",), "xy", r"leaves: a list is expected, and it is 'xy'"),
        (("leaves", 1), None, r"leaves\[1\]: an object is expected, and it is None"),
        (("leaves", 1, "weight"), [], r"leaves\[1\]\.weight: a number is expected, and it is of type list"),
        (("pair",), [1], r"pair: 1 entries, and there should be 2"),
        (("pair",), [1, "x", 2], r"pair: 3 entries, and there should be 2"),
        (("pair",), ["x", 1], r"pair\[0\]: an integer is expected"),
        (("pair", 1), 1, r"pair\[1\]: a string is expected"),
        (("named",), [], r"named: an object is expected"),
        (("named", "a"), 1, r"named\.a: a list is expected"),
        (("named", "a", 0), "x", r"named\.a\[0\]: a number is expected"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_key(
    path: tuple[str | int, ...], value: object, message: str
) -> None:
    with pytest.raises(FormatError, match=f"^{message}"):
        from_json(Tree, put(path, value))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 10**400, -(10**400)])
def test_a_number_that_is_not_finite_must_be_spelled(number: float) -> None:
    with pytest.raises(FormatError, match="weight: a finite number, or the name of another"):
        from_json(Leaf, {"name": "x", "weight": number})


@pytest.mark.parametrize("key", GOOD)
def test_a_missing_key_is_refused_though_the_class_has_a_default(key: str) -> None:
    with pytest.raises(FormatError, match=f"^{key}: missing"):
        from_json(Tree, {name: value for name, value in GOOD.items() if name != key})


def test_a_key_that_is_not_known_is_refused_wherever_it_is() -> None:
    with pytest.raises(FormatError, match=r"^more: no key of this schema"):
        from_json(Tree, {**GOOD, "more": 1})
    with pytest.raises(FormatError, match=r"^leaves\[0\]\.__class__: no key of this schema"):
        from_json(Tree, put(("leaves", 0, "__class__"), 1))


def test_keys_that_are_no_strings_make_no_object() -> None:
    with pytest.raises(FormatError, match=r"^the text: an object is expected"):
        from_json(Leaf, {"name": "x", "weight": 1.0, 3: 1})


def test_an_error_repeats_little_of_what_is_wrong_and_moves_no_cursor() -> None:
    for value in ("\x1b[31m\u202e", "x" * 10**5, ["deep"] * 10**4, 10**5000):
        with pytest.raises(FormatError) as caught:
            from_json(Leaf, {"name": value, "weight": value})
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 4 * SHOWN
    with pytest.raises(FormatError) as caught:
        from_json(Leaf, {"\x1b[31m" + "k" * 10**5: 1})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 4 * SHOWN


def test_a_list_nested_too_deep_to_be_repeated_is_named_by_its_type() -> None:
    deep: list[Any] = []
    for _ in range(10**5):
        deep = [deep]
    with pytest.raises(FormatError, match="it is of type list"):
        from_json(Leaf, {"name": deep, "weight": 1.0})
    while deep:  # Taken apart here: the interpreter may not free it in one go.
        deep = deep.pop()


# -- the schema


def test_the_schema_says_what_the_reader_does() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema(Tree)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(GOOD)
    for path, value in (
        (("count",), True),
        (("alive",), 1),
        (("best", "weight"), "NaN"),
        (("pair",), [1]),
        (("pair",), [1, "x", 2]),
        (("leaves", 0, "more"), 1),
        (("named", "a"), 1),
    ):
        assert not validator.is_valid(put(path, value)), path
    assert not validator.is_valid({key: value for key, value in GOOD.items() if key != "last"})


def test_the_schema_has_the_docstrings_words() -> None:
    found = json_schema(Tree)["$defs"]
    assert found["Tree"]["description"] == "A tree."
    assert found["Tree"]["properties"]["count"] == {"description": "how many.", "type": "integer"}
    assert "description" not in found["Tree"]["properties"]["rest"]
    assert found["Leaf"]["properties"]["name"]["description"] == "what it is called, on two lines."
    assert found["Leaf"]["properties"]["weight"]["description"] == "in `grams`."
    assert found["Leaf"]["additionalProperties"] is False
    assert found["Tree"]["required"] == list(GOOD)


def test_a_type_that_holds_itself_is_described_and_read() -> None:
    assert json_schema(Chain)["$defs"]["Chain"]["properties"]["next"] == {
        "anyOf": [{"$ref": "#/$defs/Chain"}, {"type": "null"}]
    }
    assert from_json(Chain, {"next": {"next": None}}) == Chain(Chain(None))
