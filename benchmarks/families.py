"""Small random models of every family, as the dialect that knows it best writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interlingua.convert.configs import spell
from interlingua.formats.base import TensorSpec, write_at
from interlingua.formats.dtypes import DTYPES
from interlingua.formats.safetensors import open_writer
from interlingua.mappings.config import Config
from interlingua.mappings.dialect import Dialect
from interlingua.mappings.registry import DIALECTS
from interlingua.mappings.schema import ENCODER, Family

Array = NDArray[Any]
Draw = Callable[[np.random.Generator, str, tuple[int, ...]], Array]

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


def standard_normal(random: np.random.Generator, _name: str, shape: tuple[int, ...]) -> Array:
    """Draw values of which no two are alike to speak of."""
    return random.standard_normal(shape)


def realistic(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    """Draw values as training leaves them: weights and biases near 0, LayerNorm's gammas near 1."""
    spread = 0.25 * random.standard_normal(shape)
    return 1.0 + 0.5 * spread if name.endswith("LayerNorm.weight") else spread


def first(family: Family) -> Dialect:
    """Return the first dialect that has the family: the models are made in its form."""
    return next(dialect for dialect in DIALECTS.values() if family.name in dialect.tables)


def head_sets(family: Family) -> Iterator[tuple[str, ...]]:
    """Yield the heads of each of that dialect's classes of the family."""
    for _, heads in first(family).tables[family.name].architectures:
        yield tuple(head for head in family.heads if head in heads)


def layers_of(family: Family) -> int:
    """Return the number of ``{layer}`` in names."""
    return 1 if family.counts == "num_hidden_groups" else LAYERS


def config_of(family: Family, eps: float = 1e-12) -> Config:
    """Return the configuration of these models."""
    values: dict[str, Any] = {"type_vocab_size": 0, "max_position_embeddings": SIZES["positions"]}
    values |= {value: SIZES[symbol] for symbol, value in family.sizes.items()}
    owned = {"num_hidden_groups": 1, "use_task_id": True, "max_relative_position": 5}
    values |= {name: value for name, value in owned.items() if name in family.values}
    return Config(
        **values,
        num_hidden_layers=LAYERS,
        num_attention_heads=6,
        hidden_act="gelu",
        layer_norm_eps=eps,
        hidden_dropout_prob=0.25,
        attention_probs_dropout_prob=0.125,
        initializer_range=0.03,
        # RoBERTa's begins as every RoBERTa's does: <s>, <pad>.
        pad_token_id=1 if "roberta" in family.name else 0,
    )


def write_model(
    folder: Path, family: Family, heads: tuple[str, ...], seed: int, *, draw: Draw = standard_normal, eps: float = 1e-12
) -> Path:
    """Write a random model, in float32, as its first dialect does: safetensors, ``config.json`` and ``vocab.txt``.

    Args:
        folder: the folder to make.
        family: the model's family.
        heads: its heads.
        seed: seed of the random numbers.
        draw: draws a tensor, given its canonical name and its shape in the dialect.
        eps: LayerNorm's epsilon.
    """
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
            arrays[table.spell(rule.native, name, heads)] = draw(random, name, shape).astype(np.float32)
    specs = [TensorSpec(name, DTYPES["float32"], array.shape) for name, array in arrays.items()]
    given = dialect.folder.metadata["safetensors"]
    metadata = given(list(arrays)) if callable(given) else given
    with open_writer(folder / "model.safetensors", specs, metadata=metadata) as writer:
        for name, array in arrays.items():
            with writer.slot(name) as slot:
                write_at(slot.fd, slot.offset, memoryview(array.tobytes()))
        writer.finish()
    labels = tuple(f"label {number}" for number in range(SIZES["labels"]))
    config = Config(**{**config_of(family, eps).as_dict(), "labels": labels})
    native, _ = spell(config, dialect, table, heads, "float32", {})
    (folder / "config.json").write_text(json.dumps(native), encoding="utf-8")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(SIZES["vocab"] - 5))]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    return folder
