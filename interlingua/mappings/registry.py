"""Every dialect there is: this package's own, and those that installed packages bring.

A package offers a dialect by an entry point of the group ``interlingua.dialects`` whose object is a ``Dialect``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from interlingua.errors import UsageError, suggestion
from interlingua.mappings.dialect import Dialect
from interlingua.mappings.ernie_fluid import ERNIE_FLUID
from interlingua.mappings.google_tf import TF1
from interlingua.mappings.huggingface import HF
from interlingua.mappings.huggingface_tf import HF_TF
from interlingua.mappings.keras_bert import KERAS_BERT
from interlingua.mappings.keras_hub import KERAS_HUB
from interlingua.mappings.mindformers import MINDFORMERS
from interlingua.mappings.mindnlp import MINDNLP
from interlingua.mappings.mindspore import MINDSPORE
from interlingua.mappings.model_garden import TF2
from interlingua.mappings.paddlenlp import PADDLE
from interlingua.mappings.schema import FAMILIES, Family
from interlingua.mappings.sentence_transformers import SENTENCE_TRANSFORMERS
from interlingua.mappings.tencentpretrain import TENCENTPRETRAIN
from interlingua.mappings.uer import UER

GROUP = "interlingua.dialects"

OWN: tuple[Dialect, ...] = (
    HF,
    HF_TF,
    SENTENCE_TRANSFORMERS,
    TF1,
    TF2,
    KERAS_HUB,
    KERAS_BERT,
    ERNIE_FLUID,
    PADDLE,
    MINDSPORE,
    MINDNLP,
    MINDFORMERS,
    UER,
    TENCENTPRETRAIN,
)
"""In the order in which they are listed; of two that fit a checkpoint alike, the first is taken."""


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


@dataclass(frozen=True, slots=True)
class Conversion:
    """One thing that can be done: a family's models from one dialect to another.

    Attributes:
        source: name of the dialect that they are in.
        target: name of the dialect that they are written in.
        family: name of the family.
        written_as: name of the family that they are written as: the same, or one of its kin.
    """

    source: str
    target: str
    family: str
    written_as: str


def conversions() -> tuple[Conversion, ...]:
    """Return everything that can be converted, by source, target and family."""
    return tuple(
        Conversion(source.name, target.name, name, table.family.name)
        for source in DIALECTS.values()
        for target in DIALECTS.values()
        for name, own in source.tables.items()
        if (table := target.table_for(own.family)) is not None and own.fits(table)
    )


def find(name: str) -> Dialect:
    """Return the dialect of that name.

    Raises:
        UsageError: there is none; the message suggests the nearest.
    """
    if name in DIALECTS:
        return DIALECTS[name]
    raise UsageError(f"There is no dialect {name!r}.", hint=suggestion(name, DIALECTS))
