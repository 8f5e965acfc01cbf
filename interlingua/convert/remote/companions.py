"""What a checkpoint's files are usually called: what is tried where a folder cannot be listed."""

from __future__ import annotations

from collections.abc import Iterator

from interlingua.convert.locate import INDEX, PROVENANCE, RESIDUE, usual_names
from interlingua.mappings.dialect import EVERYWHERE
from interlingua.mappings.registry import DIALECTS

MOST_SHARDS = 64
"""Data files of a TensorFlow checkpoint that are looked for at most."""

_BESIDE = (".pdmodel", ".json", ".info")
"""Endings of what a weights file's own name is given for the file that describes it."""


def weights_names() -> tuple[str, ...]:
    """Return the names that systems give their weights, and the indices of several files of them."""
    names = dict.fromkeys(usual_names())
    return tuple(dict.fromkeys(form for name in names for form in (name, f"{name}{INDEX}")))


def companion_names(named: str) -> tuple[str, ...]:
    """Return what may lie beside a weights file (none: in a folder of one): configurations, vocabularies, the rest."""
    return tuple(dict.fromkeys(_companions(named)))


def _companions(named: str) -> Iterator[str]:
    for dialect in DIALECTS.values():
        for form in dialect.folders:
            yield from (form.config, *form.configs, form.vocabulary, *form.vocabularies, form.sentencepiece)
            yield from (pattern for pattern in form.sidecars if not set(pattern) & set("*?["))
    yield from (pattern for pattern in EVERYWHERE if not set(pattern) & set("*?["))
    yield from (RESIDUE, PROVENANCE, "__model__")
    if named:
        stem = named.rpartition(".")[0]
        yield from (stem + ending for ending in _BESIDE if stem)


def data_names(prefix: str, count: int) -> tuple[str, ...]:
    """Return what the data files of a TensorFlow checkpoint are called that has ``count`` of them."""
    return tuple(f"{prefix}.data-{number:05d}-of-{count:05d}" for number in range(count))
