"""Variables and matrices of a manifest: what ``${name}`` and ``{name}`` stand for, and every combination of values.

Variables come from the manifest and from ``--set`` alone. The environment is not read: the same manifest and the same
command then mean the same jobs on every machine, and no secret of a CI job finds its way into a path or a report.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod

from interlingua.convert.batch.manifest_yaml import Document, Place
from interlingua.errors import UsageError, suggestion
from interlingua.mappings.config import Json

MAX_JOBS = 10_000
"""Jobs of one batch; and combinations of one matrix."""

MAX_TEXT = 4096
"""Characters of a text once its variables are in it."""

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_FIELD = re.compile(r"\{([^{}]*)\}")

Scope = Mapping[str, str]
"""Name of a variable -> its value."""


def declared(document: Document, given: Mapping[str, str]) -> dict[str, str]:
    """Return the manifest's variables; one may name those above it.

    Args:
        document: the manifest.
        given: what ``--set`` says, which goes before what the manifest says.

    Raises:
        UsageError: a variable is given that is not declared, has no value, or names one that there is not.
    """
    entries = document.value.get("variables") or {}
    known = entries if isinstance(entries, dict) else {}
    for name, text in given.items():
        if name not in known:
            raise UsageError(
                f"--set {name}: there is no such variable in {document.path}", hint=suggestion(name, known)
            )
        if "\0" in text:
            raise UsageError(f"--set {name}: its value is no text")
    scope: dict[str, str] = {}
    for name, value in known.items():
        if name in given:
            scope[name] = given[name]
        elif value is None:
            raise document.error(
                ("variables", name), "has no value", f"Give it one: --set {name}=..., or one in the manifest."
            )
        else:
            scope[name] = _filled(text_of(value), scope, document, ("variables", name))
    return scope


def text_of(value: Json) -> str:
    """Return the text that a scalar of YAML stands for in a path."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def substituted(value: Json, scope: Scope, document: Document, place: Place) -> Json:
    """Return a value with every ``${name}`` in its texts replaced; keys of mappings stay as they are.

    Raises:
        UsageError: there is no such variable, or a text becomes too long.
    """
    if isinstance(value, str):
        return _filled(value, scope, document, place)
    if isinstance(value, dict):
        return {key: substituted(item, scope, document, (*place, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [substituted(item, scope, document, (*place, number)) for number, item in enumerate(value)]
    return value


def _filled(text: str, scope: Scope, document: Document, place: Place) -> str:
    if "${" in _VARIABLE.sub("", text):
        raise document.error(place, "has a ${ without its }")
    for found in _VARIABLE.finditer(text):
        name = found[1]
        if name.startswith("env:"):
            hint = f"The environment is not read: declare a variable, and pass --set name=${name[4:]}."
            raise document.error(place, f"there is no variable {name!r}", hint)
        if name not in scope:
            raise document.error(place, f"there is no variable {name!r}", suggestion(name, scope))
    length = len(text) + sum(len(scope[found[1]]) for found in _VARIABLE.finditer(text))
    if length > MAX_TEXT:
        raise document.error(place, f"is longer than {MAX_TEXT} characters with its variables")
    return _VARIABLE.sub(lambda found: scope[found[1]], text)


def formatted(template: str, fields: Mapping[str, str], document: Document, place: Place) -> str:
    """Return a template with every ``{field}`` replaced.

    Raises:
        UsageError: there is no such field.
    """
    for found in _FIELD.finditer(template):
        if found[1] not in fields:
            raise document.error(place, f"{{{found[1]}}} stands for nothing", suggestion(found[1], fields))
    return _FIELD.sub(lambda found: fields[found[1]], template)


def combinations(
    matrix: Mapping[str, Sequence[str]], exclude: Sequence[Mapping[str, str]], document: Document, place: Place
) -> Iterator[dict[str, str]]:
    """Yield every combination of a matrix's values that no entry of ``exclude`` is part of, the last value fastest.

    Raises:
        UsageError: there are too many, or none; a value is listed twice; an exclusion excludes nothing.
    """
    for key, values in matrix.items():
        if len(set(values)) < len(values):
            raise document.error((*place, "matrix", key), "lists a value twice")
    if prod(map(len, matrix.values())) > MAX_JOBS:
        raise document.error((*place, "matrix"), f"has more than {MAX_JOBS} combinations")
    found = [dict(zip(matrix, values, strict=True)) for values in product(*matrix.values())]
    for number, entry in enumerate(exclude):
        for key in entry:
            if key not in matrix:
                raise document.error(
                    (*place, "exclude", number, key), "is no key of the matrix", suggestion(key, matrix)
                )
        if not any(entry.items() <= combination.items() for combination in found):
            raise document.error((*place, "exclude", number), "excludes no combination")
    left = [each for each in found if not any(entry.items() <= each.items() for entry in exclude)]
    if not left:
        raise document.error((*place, "exclude"), "leaves no combination")
    yield from left
