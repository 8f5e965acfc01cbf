"""Every family and head, from every dialect to every other that can hold it, and back to its own bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

import interlingua
from interlingua.convert.source import Checkpoint
from interlingua.mappings.config import Config
from interlingua.mappings.dialect import Dialect
from interlingua.mappings.registry import DIALECTS, Conversion, conversions
from interlingua.mappings.schema import ENCODER, FAMILIES, Family
from tests.models import safetensors_bytes

SIZES = {
    "vocab": 37,
    "positions": 17,
    "types": 2,
    "hidden": 12,
    "intermediate": 20,
    "embedding": 7,
    "tasks": 4,
    "labels": 5,
    "relative": 9,
    "attention_heads": 6,
}
"""No two are equal, so that no exchanged axis goes unseen; square matrices are seen by their values."""

LAYERS = 3

PAIRS = [
    pytest.param(pair, id=f"{pair.source} to {pair.target}, {pair.family}")
    for pair in conversions()
    if pair.source != pair.target
]


def first(family: Family) -> Dialect:
    """The first dialect that has the family: the models are made in its form."""
    return next(dialect for dialect in DIALECTS.values() if family.name in dialect.tables)


def head_sets(family: Family) -> Iterator[tuple[str, ...]]:
    """The heads of each of that dialect's classes of the family."""
    for _, heads in first(family).tables[family.name].architectures:
        yield tuple(head for head in family.heads if head in heads)


def layers_of(family: Family) -> int:
    return 1 if family.counts == "num_hidden_groups" else LAYERS


def config_of(family: Family) -> Config:
    values = {value: SIZES[symbol] for symbol, value in family.sizes.items()}
    return Config(
        **{
            "type_vocab_size": 0,
            "max_position_embeddings": SIZES["positions"],
            **values,
            **({"num_hidden_groups": 1} if "num_hidden_groups" in family.values else {}),
            **({"use_task_id": True} if "use_task_id" in family.values else {}),
            **({"max_relative_position": 5} if "max_relative_position" in family.values else {}),
        },
        num_hidden_layers=LAYERS,
        num_attention_heads=6,
        hidden_act="gelu",
        layer_norm_eps=1e-12,
        hidden_dropout_prob=0.25,
        attention_probs_dropout_prob=0.125,
        initializer_range=0.03,
        pad_token_id=0,
    )


def write_model(folder: Path, family: Family, heads: tuple[str, ...], seed: int) -> Path:
    """Write a random model as its first dialect does, every element of it another one."""
    from interlingua.convert.configs import spell

    folder.mkdir()
    dialect = first(family)
    table = dialect.tables[family.name]
    random = np.random.default_rng(seed)
    arrays = {}
    for name, tensor in family.instances(layers_of(family)):
        rule = table.rule(name, heads)
        if tensor.part in (ENCODER, *heads) and tensor.tied_to is None and rule is not None:
            shape = tuple(int(symbol) if symbol.isdigit() else SIZES[symbol] for symbol in tensor.shape)
            shape = rule.operation.native_shape(shape) if rule.operation else shape
            arrays[table.spell(rule.native, name, heads)] = random.standard_normal(shape).astype(np.float32)
    (folder / "model.safetensors").write_bytes(safetensors_bytes(arrays, dialect.folder.metadata["safetensors"]))
    labels = tuple(f"label {number}" for number in range(SIZES["labels"]))
    config = Config(**{**config_of(family).as_dict(), "labels": labels})
    native, _ = spell(config, dialect, table, heads, "float32", {})
    (folder / "config.json").write_text(json.dumps(native), encoding="utf-8")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(SIZES["vocab"] - 5))]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    return folder


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
                assert set(theirs.lines) <= set(ours.lines), heads
                severed = {line.split()[0] for line in set(ours.lines) - set(theirs.lines)} & family.severable
                assert (theirs.encoder == ours.encoder) == (not severed), heads
                assert (theirs.model == ours.model) == (a.heads == b.heads and not severed)


def test_the_matrix_is_what_is_tested_here() -> None:
    tested = {value for pair in PAIRS for value in pair.values}
    assert tested == {pair for pair in conversions() if pair.source != pair.target}
