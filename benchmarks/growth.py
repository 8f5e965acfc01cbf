"""How time and memory grow with a checkpoint: sharded BERTs of BERT-large's width, and as many layers as it takes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.models import SIZES, Size, configuration, draw, specs_of
from interlingua.formats.base import TensorSpec, write_at
from interlingua.formats.safetensors import SafetensorsWriter

SHARD = 2 * 10**9
"""Bytes of tensors that a shard has at most."""

DRAWN = 8 << 20
"""Bytes of random values, which the weights repeat: what is measured does not look at them."""

SPARE = 1 << 30
"""Bytes that are left free on the disk."""


@dataclass(frozen=True, slots=True)
class Grown:
    """A checkpoint.

    Attributes:
        folder: where it is.
        nbytes: bytes of its tensors.
        sparse: whether its weights are holes, which take no room and are read as zeros.
    """

    folder: Path
    nbytes: int
    sparse: bool


def size_of(gigabytes: float, width: Size = SIZES["large"]) -> Size:
    """Return the BERT of a width whose weights come nearest to so many gigabytes (10^9 bytes)."""
    rest, layer = nbytes(replace(width, layers=1)), nbytes(replace(width, layers=2)) - nbytes(replace(width, layers=1))
    return replace(width, name=f"{gigabytes:g}GB", layers=max(1, 1 + round((gigabytes * 1e9 - rest) / layer)))


def nbytes(size: Size) -> int:
    """Return the bytes of a BERT's tensors."""
    return sum(spec.nbytes for spec in specs_of(size))


def room(size: Size, folder: Path) -> bool | None:
    """Return whether a checkpoint must be sparse for it and one output to fit on the disk; None: nor does it then."""
    free, needed = shutil.disk_usage(folder).free - SPARE, nbytes(size)
    if free >= 2 * needed:
        return False
    return True if free >= needed else None


def make(size: Size, folder: Path, *, sparse: bool, shard: int = SHARD) -> Grown:
    """Write a checkpoint in the way of Hugging Face: shards of safetensors, with an index."""
    target = folder / f"grown-{size.name}"
    target.mkdir(parents=True)
    parts = list(shards(specs_of(size), shard))
    names: dict[str, str] = {}
    for number, specs in enumerate(parts, 1):
        name = f"model-{number:05}-of-{len(parts):05}.safetensors"
        write(target / name, specs, sparse=sparse)
        names |= dict.fromkeys((spec.name for spec in specs), name)
    total = nbytes(size)
    index = {"metadata": {"total_size": total}, "weight_map": names}
    (target / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    (target / "config.json").write_text(json.dumps(configuration(size), indent=2), encoding="utf-8")
    return Grown(target, total, sparse)


def shards(specs: list[TensorSpec], most: int) -> Iterator[list[TensorSpec]]:
    """Yield the tensors in groups of at most so many bytes; a tensor that has more is alone."""
    group: list[TensorSpec] = []
    for spec in specs:
        if group and sum(one.nbytes for one in group) + spec.nbytes > most:
            yield group
            group = []
        group.append(spec)
    yield group


def write(path: Path, specs: list[TensorSpec], *, sparse: bool) -> None:
    """Write one shard."""
    block = draw(np.random.default_rng(0), "", DRAWN // 4).tobytes()
    with SafetensorsWriter(path, specs, metadata={"format": "pt"}) as writer:
        for spec in () if sparse else specs:
            with writer.slot(spec.name) as slot:
                for start in range(0, spec.nbytes, DRAWN):
                    write_at(slot.fd, slot.offset + start, memoryview(block)[: spec.nbytes - start])
        writer.finish()
    if sparse:
        size = path.stat().st_size
        os.truncate(path, size - sum(spec.nbytes for spec in specs))  # The header alone ...
        os.truncate(path, size)  # ... and holes again, which the writer has set room aside for.
