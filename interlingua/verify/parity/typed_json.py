"""Frozen dataclasses out of JSON that nobody vouches for, and the JSON Schema of what is accepted.

Both follow the type hints alone, so that they cannot say different things: ``str``, ``int``, ``float``, ``bool``,
``X | None``, ``tuple[X, ...]``, ``tuple[X, Y]``, ``Mapping[str, X]``, ``Any`` and other dataclasses. Of what is only
printed there is the schema alone: typed dictionaries, with ``list[X]``, ``dict[str, X]`` and ``Literal``.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from interlingua.errors import FormatError, printable

NON_FINITE = ("nan", "inf", "-inf")
"""What stands, as a string, for the numbers that JSON has no word for: Python's names of them."""

SHOWN = 60
"""Most characters of a wrong value that an error repeats."""

Schema = dict[str, Any]


def to_json(value: Any) -> Any:
    """Return a value of dicts, lists, tuples and scalars ready for JSON: tuples as lists, NaN as ``"nan"``."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    return value


# -- reading


def from_json(kind: Any, value: object, where: str = "") -> Any:
    """Return the value of a type that a decoded JSON text spells.

    Args:
        kind: a type, as the module's docstring lists them.
        value: what a JSON decoder gave.
        where: the path of keys to the value, as errors call it.

    Raises:
        FormatError: it is of another type, lacks a key, or has one that is not known; the message names the key.
    """
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _object(cast("type[Any]", kind), value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (given,) = (argument for argument in arguments if argument is not NoneType)
        return None if value is None else from_json(given, value, where)
    if origin is tuple:
        return tuple(_items(arguments, value, where))
    if origin is Mapping:
        return {key: from_json(arguments[1], item, f"{where}.{key}") for key, item in _mapping(value, where).items()}
    return _SCALARS[kind](value, where)


def _object(kind: type[Any], value: object, where: str) -> Any:
    found = _mapping(value, where)
    hints = get_type_hints(kind)
    for key in found:
        if key not in hints:
            raise FormatError(f"{_key(where, key)}: no key of this schema")
    missing = [key for key in hints if key not in found]
    if missing:
        raise FormatError(f"{_key(where, missing[0])}: missing")
    return kind(**{key: from_json(hint, found[key], _key(where, key)) for key, hint in hints.items()})


def _items(arguments: tuple[Any, ...], value: object, where: str) -> Iterator[Any]:
    if not isinstance(value, list):
        raise _wrong("a list", value, where)
    if arguments[-1] is not Ellipsis and len(value) != len(arguments):
        raise FormatError(f"{printable(where)}: {len(value)} entries, and there should be {len(arguments)}")
    for index, item in enumerate(value):
        kind = arguments[0] if arguments[-1] is Ellipsis else arguments[index]
        yield from_json(kind, item, f"{where}[{index}]")


def _mapping(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise _wrong("an object", value, where)
    return value


def _string(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong("a string", value, where)
    return value


def _boolean(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong("true or false", value, where)
    return value


def _integer(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong("an integer", value, where)
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, str) and value in NON_FINITE:
        return float(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong("a number", value, where)
    try:
        number = float(value)
    except OverflowError:  # An integer beyond the largest float.
        number = math.inf
    if not math.isfinite(number):
        raise _wrong("a finite number, or the name of another", value, where)
    return number


_SCALARS: dict[type, Callable[[object, str], Any]] = {str: _string, bool: _boolean, int: _integer, float: _number}


def _key(where: str, key: str) -> str:
    return printable(f"{where}.{key}" if where else key, SHOWN)


def _wrong(wanted: str, value: object, where: str) -> FormatError:
    # repr() of a huge integer raises; of a deep list it would recurse. Scalars alone are repeated.
    simple = isinstance(value, str | float | bool | NoneType)
    shown = printable(repr(value), SHOWN) if simple else f"of type {type(value).__name__}"
    return FormatError(f"{printable(where, SHOWN) or 'the text'}: {wanted} is expected, and it is {shown}")


# -- describing


def json_schema(kind: type[Any]) -> Schema:
    """Return the JSON Schema (draft 2020-12) of a dataclass (what ``from_json`` accepts) or a typed dictionary.

    Its descriptions are those of the ``Attributes`` sections of the docstrings.
    """
    definitions: dict[str, Schema] = {}
    root = _schema(kind, definitions)
    return {**root, "$defs": dict(sorted(definitions.items()))}


def _schema(kind: Any, definitions: dict[str, Schema]) -> Schema:
    if kind is Any:
        return {}
    if is_dataclass(kind) or is_typeddict(kind):
        return _definition(cast("type[Any]", kind), definitions)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        (value,) = arguments
        return {"const": value}
    if origin in (Union, UnionType):
        return {"anyOf": [_schema(argument, definitions) for argument in arguments]}
    if origin is list or (origin is tuple and arguments[-1] is Ellipsis):
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin is tuple:
        prefix = [_schema(argument, definitions) for argument in arguments]
        return {"type": "array", "prefixItems": prefix, "minItems": len(prefix), "maxItems": len(prefix)}
    if origin in (Mapping, dict):
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    return dict(_SCALAR_SCHEMAS[kind])


_SCALAR_SCHEMAS: dict[type, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"anyOf": [{"type": "number"}, {"enum": list(NON_FINITE)}]},
    NoneType: {"type": "null"},
}


def _definition(kind: type[Any], definitions: dict[str, Schema]) -> Schema:
    reference = {"$ref": f"#/$defs/{kind.__name__}"}
    if kind.__name__ in definitions:
        return reference
    definitions[kind.__name__] = {}  # Taken, so that a type that holds itself ends.
    summary, described = _docstring(kind)
    hints = get_type_hints(kind)
    properties = {}
    for name in (item.name for item in fields(kind)) if is_dataclass(kind) else hints:
        text = described.get(name)
        properties[name] = {**({"description": text} if text else {}), **_schema(hints[name], definitions)}
    required = getattr(kind, "__required_keys__", properties)
    definitions[kind.__name__] = {
        "description": summary,
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name in required],
        "additionalProperties": False,
    }
    return reference


def _docstring(kind: type[Any]) -> tuple[str, dict[str, str]]:
    """Return a docstring's first paragraph, and its attributes' descriptions by name."""
    head, _, attributes = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", attributes, re.MULTILINE)
    return _line(head.strip().partition("\n\n")[0]), {name: _line(text) for name, text in entries}


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("``", "`")).strip()
