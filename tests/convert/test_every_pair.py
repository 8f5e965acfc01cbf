"""Every family and head, from every dialect to every other that can hold it, and back to its own bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest

import interlingua
from benchmarks.families import first, head_sets, write_model
from interlingua.convert.missing import begins_behind
from interlingua.convert.source import Checkpoint
from interlingua.mappings.registry import DIALECTS, Conversion, conversions
from interlingua.mappings.schema import FAMILIES, Family

POSITIONS = "embeddings.position_embeddings.weight"

PAIRS = [
    pytest.param(pair, id=f"{pair.source} to {pair.target}, {pair.family}")
    for pair in conversions()
    if pair.source != pair.target
]


def contents(checkpoint: Checkpoint) -> dict[str, tuple[str, tuple[int, ...], str]]:
    """Every tensor by its native name: element type, shape and digest."""
    found = {}
    for name, spec in checkpoint.tensors.items():
        data = bytearray(spec.nbytes)
        checkpoint.reader.read_into(name, 0, memoryview(data))
        found[name] = (spec.dtype.name, spec.shape, hashlib.sha256(data).hexdigest())
    return found


def config_bytes(checkpoint: Checkpoint) -> bytes | None:
    return checkpoint.config_path.read_bytes() if checkpoint.config_path else None


def shortened(pair: Conversion, heads: tuple[str, ...]) -> set[str]:
    """The tables of which the target lacks the first rows that the source has: their values are in no fingerprint."""
    rules = [DIALECTS[name].tables[pair.family].rule(POSITIONS, heads) for name in (pair.source, pair.target)]
    before, after = (begins_behind(rule.operation) if rule else 0 for rule in rules)
    return {POSITIONS} if after > before else set()


Models = Callable[[str, Family, tuple[str, ...]], Path]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """A random model in any dialect, made once."""

    @lru_cache(None)
    def made(dialect: str, name: str, heads: tuple[str, ...]) -> Path:
        folder = tmp_path_factory.mktemp("model")
        seed = int.from_bytes(hashlib.sha256(repr((name, heads)).encode()).digest()[:4], "little")
        source = write_model(folder / "first", FAMILIES[name], heads, seed)
        options = {"dialect": first(FAMILIES[name]).name, "family": name, "sync": False, "residue": "drop"}
        interlingua.convert(source, folder / dialect / "model", to=dialect, **options)
        return folder / dialect / "model"

    return lambda dialect, family, heads: made(dialect, family.name, heads)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_model_comes_back_as_it_was(tmp_path: Path, models: Models, pair: Conversion) -> None:
    family = FAMILIES[pair.family]
    for number, heads in enumerate(head_sets(family)):
        there = models(pair.source, family, heads)
        beyond, back = tmp_path / str(number), tmp_path / f"{number} back"
        interlingua.convert(there, beyond, to=pair.target, dialect=pair.source, sync=False, check=number == 0)
        interlingua.convert(beyond, back, to=pair.source, dialect=pair.target, sync=False, check=number == 0)
        with (
            interlingua.open(there, dialect=pair.source) as a,
            interlingua.open(beyond, dialect=pair.target) as b,
            interlingua.open(back, dialect=pair.source) as c,
        ):
            assert (a.family, b.family, c.family) == (pair.family, pair.written_as, pair.family), heads
            assert contents(c) == contents(a), heads
            assert config_bytes(c) == config_bytes(a), heads
            assert a.completed.config == c.completed.config
            theirs, ours = interlingua.fingerprint(b), interlingua.fingerprint(a)
            assert ours == interlingua.fingerprint(c)
            if pair.family == pair.written_as:
                changed = {line.split()[0] for line in set(theirs.lines) - set(ours.lines)}
                made = changed - {line.split()[0] for line in ours.lines}
                assert changed - made == shortened(pair, heads), heads
                assert made <= family.neutral, heads
                severed = {line.split()[0] for line in set(ours.lines) - set(theirs.lines)} & family.severable
                whole = not (severed or changed)
                assert (theirs.encoder == ours.encoder) == whole, heads
                assert (theirs.model == ours.model) == (a.heads == b.heads and whole)


def test_the_matrix_is_what_is_tested_here() -> None:
    tested = {value for pair in PAIRS for value in pair.values}
    assert tested == {pair for pair in conversions() if pair.source != pair.target}
