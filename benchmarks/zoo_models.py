"""A zoo of sixty checkpoints with random weights: five families in four sizes, each from three systems.

Names and sizes are those of published models, or of the sizes that Google's miniatures made common. Every weight is
drawn anew: no two checkpoints are alike, so that nothing that is known of one helps with another.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import interlingua
from benchmarks.families import first
from interlingua.convert.configs import spell
from interlingua.formats.base import TensorSpec, blocks, write_at
from interlingua.formats.dtypes import FLOAT32
from interlingua.formats.safetensors import open_writer
from interlingua.mappings.config import Config
from interlingua.mappings.schema import ENCODER, FAMILIES, Family

SPREAD = np.float32(0.02)
"""Standard deviation of the weights, which is BERT's own at its start."""


@dataclass(frozen=True, slots=True)
class Size:
    """The sizes of one model.

    Attributes:
        name: what the model is called.
        layers: how often its layers are applied.
        hidden: width.
        heads: attention heads.
        vocab: tokens.
        positions: tokens of the longest text.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    vocab: int
    positions: int = 512

    def small(self) -> Size:
        """Return the same model with hardly any weights."""
        return Size(self.name, min(self.layers, 3), 4 * self.heads, self.heads, 120 + self.layers, 40)


@dataclass(frozen=True, slots=True)
class Line:
    """The models of one family in the zoo.

    Attributes:
        family: its name.
        heads: the heads that its pre-trained models have.
        sizes: its models.
        sources: the systems that publish them, as dialects.
        targets: dialects in the order in which they are wanted; a source's own is left out.
    """

    family: str
    heads: tuple[str, ...]
    sizes: tuple[Size, ...]
    sources: tuple[str, ...]
    targets: tuple[str, ...]

    def wanted(self, source: str) -> tuple[str, ...]:
        """Return the three dialects that a source's models are converted to."""
        return tuple(target for target in self.targets if target != source)[:3]


def _miniatures(name: str, vocab: int) -> tuple[Size, ...]:
    """Return a family's models in the four smallest sizes of "Well-Read Students Learn Better" (arXiv:1908.08962)."""
    sizes = (("tiny", 2, 128, 2), ("mini", 4, 256, 4), ("small", 4, 512, 8), ("medium", 8, 512, 8))
    return tuple(Size(f"{name}-{size}", layers, hidden, heads, vocab) for size, layers, hidden, heads in sizes)


ZOO = (
    Line(
        "bert",
        ("pooler", "masked_lm", "next_sentence"),
        _miniatures("bert-uncased", 30522),
        ("hf", "tf1", "uer"),
        ("hf", "paddle", "mindspore", "tf1"),
    ),
    Line(
        "ernie",
        ("pooler", "masked_lm", "next_sentence"),
        (
            Size("ernie-3.0-nano-zh", 4, 312, 12, 40000, 2048),
            Size("ernie-3.0-micro-zh", 4, 384, 12, 40000, 2048),
            Size("ernie-3.0-mini-zh", 6, 384, 12, 40000, 2048),
            Size("ernie-3.0-medium-zh", 6, 768, 12, 40000, 2048),
        ),
        ("hf", "paddle", "ernie-fluid"),
        ("hf", "paddle", "ernie-fluid", "mindnlp"),
    ),
    Line(
        "albert",
        ("pooler", "masked_lm", "sentence_order"),
        (
            Size("albert-tiny-zh", 4, 312, 12, 21128),
            Size("albert-base-v2", 12, 768, 12, 30000),
            Size("albert-large-v2", 24, 1024, 16, 30000),
            Size("albert-xlarge-v2", 24, 2048, 16, 30000),
        ),
        ("hf", "tf1", "paddle"),
        ("hf", "paddle", "keras-hub", "mindspore"),
    ),
    Line(
        "roberta",
        ("masked_lm",),
        _miniatures("roberta", 50265),
        ("hf", "hf-tf", "paddle"),
        ("hf", "paddle", "hf-tf", "mindnlp"),
    ),
    Line(
        "electra",
        ("replaced_token_detection",),
        (
            Size("electra-tiny-discriminator", 2, 128, 2, 30522),
            Size("electra-small-discriminator", 12, 256, 4, 30522),
            Size("electra-small-ex-discriminator", 24, 256, 4, 30522),
            Size("electra-medium-discriminator", 8, 512, 8, 30522),
        ),
        ("hf", "hf-tf", "paddle"),
        ("hf", "paddle", "hf-tf", "mindnlp"),
    ),
)
"""At full size 6 GB; each system that publishes a family is there with the containers that it uses."""


def make_zoo(folder: Path, *, small: bool) -> Iterator[Path]:
    """Write every checkpoint as ``folder/FAMILY/SYSTEM/NAME``, and yield each once it is there.

    Args:
        folder: the folder; what is in it already is left as it is.
        small: make models of hardly any weights.
    """
    numbered = [(line, system, size) for line in ZOO for system in line.sources for size in line.sizes]
    for seed, (line, system, size) in enumerate(numbered):
        target = folder / line.family / system / size.name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            _make(target, line, system, size.small() if small else size, seed)
        yield target


def _make(target: Path, line: Line, system: str, size: Size, seed: int) -> None:
    """Write one checkpoint; it appears whole or not at all."""
    made = target.with_name(f".{target.name}")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    write_model(made, FAMILIES[line.family], line.heads, size, seed)
    if first(FAMILIES[line.family]).name == system:
        made.rename(target)
    else:
        interlingua.convert(made, target, to=system, residue="drop", sync=False)
        shutil.rmtree(made)


def write_model(folder: Path, family: Family, heads: tuple[str, ...], size: Size, seed: int) -> None:
    """Write a model of that size as the family's first dialect does, a block of weights at a time.

    Args:
        folder: an empty folder.
        family: the model's family.
        heads: its heads.
        size: its sizes.
        seed: seed of the random numbers.
    """
    dialect = first(family)
    table = dialect.tables[family.name]
    config = config_of(family, size)
    symbols = {symbol: int(getattr(config, value)) for symbol, value in family.sizes.items()}
    layers = 1 if family.counts == "num_hidden_groups" else size.layers
    specs = []
    for name, tensor in family.instances(layers):
        rule = table.rule(name, heads)
        if tensor.part in (ENCODER, *heads) and tensor.tied_to is None and rule is not None:
            shape = tuple(int(symbol) if symbol.isdigit() else symbols[symbol] for symbol in tensor.shape)
            shape = rule.operation.native_shape(shape) if rule.operation else shape
            specs.append(TensorSpec(table.spell(rule.native, name, heads), FLOAT32, shape))
    given = dialect.folder.metadata["safetensors"]
    metadata = given([spec.name for spec in specs]) if callable(given) else given
    random = np.random.default_rng(seed)
    with open_writer(folder / "model.safetensors", specs, metadata=metadata) as writer:
        for spec in specs:
            with writer.slot(spec.name) as slot:
                for start, length in blocks(spec.nbytes):
                    values = random.standard_normal(length // 4, np.float32) * SPREAD
                    write_at(slot.fd, slot.offset + start, values.tobytes())
        writer.finish()
    native, _ = spell(config, dialect, table, heads, "float32", {})
    (folder / "config.json").write_text(json.dumps(native, indent=2), encoding="utf-8")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"token{number}" for number in range(size.vocab - 5))]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")


def config_of(family: Family, size: Size) -> Config:
    """Return the configuration of a model of that size."""
    values: dict[str, Any] = {
        "vocab_size": size.vocab,
        "hidden_size": size.hidden,
        "intermediate_size": 4 * size.hidden,
        "max_position_embeddings": size.positions,
        "type_vocab_size": 4 if family.name == "ernie" else 2,
    }
    owned = {
        "embedding_size": min(128, size.hidden),
        "num_hidden_groups": 1,
        "task_type_vocab_size": 3,
        "use_task_id": True,
    }
    values |= {name: value for name, value in owned.items() if name in family.values}
    return Config(
        **values,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        hidden_act="gelu",
        layer_norm_eps=1e-12,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        initializer_range=float(SPREAD),
        pad_token_id=0,
    )
