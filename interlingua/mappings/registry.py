"""Every dialect there is: this package's own, and those that installed packages bring.

A package offers a dialect by an entry point of the group ``interlingua.dialects`` whose object is a ``Dialect``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from interlingua.errors import UsageError
from interlingua.mappings.dialect import Dialect
from interlingua.mappings.huggingface import HF
from interlingua.mappings.schema import FAMILIES, Family
from interlingua.mappings.uer import UER

GROUP = "interlingua.dialects"

OWN: tuple[Dialect, ...] = (HF, UER)


def _any_package() -> bool:
    """Say whether any installed package has an entry point of our group.

    importlib.metadata reads every package's metadata, which takes longer than a whole ``inspect``.
    """
    mark = f"[{GROUP}]".encode()
    for folder in sys.path:
        try:
            packages = [entry.path for entry in os.scandir(folder or ".") if entry.name.endswith("-info")]
        except OSError:
            continue
        for package in packages:
            try:
                with open(os.path.join(package, "entry_points.txt"), "rb") as file:
                    if mark in file.read():
                        return True
            except OSError:
                continue
    return False


def _brought() -> Iterator[Dialect]:
    """Yield the dialects of other packages.

    Raises:
        UsageError: an entry point is no dialect, or takes a name that there is.
    """
    if not _any_package():
        return
    from importlib.metadata import entry_points

    taken = {dialect.name for dialect in OWN}
    for entry in entry_points(group=GROUP):
        found = entry.load()
        if not isinstance(found, Dialect) or found.name in taken:
            raise UsageError(
                f"The entry point {entry.name!r} ({entry.value}) brings no dialect of a new name.",
                hint="Mend or uninstall the package that it is from.",
            )
        taken.add(found.name)
        yield found


DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (*OWN, *_brought())}


def families() -> dict[str, Family]:
    """Return every family by name: the schema's own, and those that only a brought dialect knows."""
    known = dict(FAMILIES)
    for dialect in DIALECTS.values():
        for table in dialect.tables.values():
            known.setdefault(table.family.name, table.family)
    return known


def find(name: str) -> Dialect:
    """Return the dialect of that name.

    Raises:
        UsageError: there is none; the message suggests the nearest.
    """
    if name in DIALECTS:
        return DIALECTS[name]
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), DIALECTS, n=1)
    did = f"Did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"There is no dialect {name!r}.", hint=f"{did}There are: {', '.join(DIALECTS)}.")
