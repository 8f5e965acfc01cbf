"""Checkpoints of real sizes with random weights, written once and reused.

The weights are drawn with the spread that training leaves in BERTs (0.04 in matrices and embeddings, gammas about 0.9),
so that activations are of the order of 1 in every layer, and errors are those of trained models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from interlingua.formats.base import TensorSpec, blocks, write_at
from interlingua.formats.dtypes import FLOAT32
from interlingua.formats.safetensors import SafetensorsWriter
from interlingua.mappings.schema import BERT


@dataclass(frozen=True, slots=True)
class Size:
    """The sizes of a BERT."""

    name: str
    hidden: int
    layers: int
    heads: int
    vocab: int = 30522
    positions: int = 512

    @property
    def symbols(self) -> dict[str, int]:
        """Shape symbol -> size."""
        return {
            "vocab": self.vocab,
            "positions": self.positions,
            "types": 2,
            "hidden": self.hidden,
            "intermediate": 4 * self.hidden,
        }


SIZES = {
    size.name: size
    for size in (
        Size("tiny", 128, 2, 2),
        Size("base", 768, 12, 12),
        Size("large", 1024, 24, 16),
        Size("deep", 1024, 36, 16),
        Size("double", 1024, 52, 16),
    )
}
"""``double`` is BERT-large's width with a little over twice its bytes: memory must not grow with it."""


SPREAD = np.float32(0.04)
GAMMA, GAMMA_SPREAD = np.float32(0.9), np.float32(0.1)


def draw(rng: np.random.Generator, name: str, count: int) -> NDArray[np.float32]:
    """Return values of a tensor as training leaves them."""
    values = rng.standard_normal(count, np.float32)
    return GAMMA + GAMMA_SPREAD * values if name.endswith("LayerNorm.weight") else SPREAD * values


def make_model(size: Size, folder: Path) -> Path:
    """Return a Hugging Face folder with a BERT encoder and pooler of that size, making it where it is not there."""
    target = folder / f"bert-{size.name}-hf"
    if (target / "config.json").is_file():
        return target
    target.mkdir(parents=True, exist_ok=True)
    specs = specs_of(size)
    rng = np.random.default_rng(0)
    weights = target / "model.safetensors"
    weights.unlink(missing_ok=True)
    with SafetensorsWriter(weights, specs, metadata={"format": "pt"}) as writer:
        for spec in specs:
            with writer.slot(spec.name) as slot:
                for start, length in blocks(spec.nbytes):
                    write_at(slot.fd, slot.offset + start, draw(rng, spec.name, length // 4).tobytes())
        writer.finish()
    (target / "config.json").write_text(json.dumps(configuration(size), indent=2), encoding="utf-8")
    return target


def specs_of(size: Size) -> list[TensorSpec]:
    """Return the tensors of an encoder and its pooler, in float32."""
    specs = []
    for name, tensor in BERT.instances(size.layers):
        if tensor.part in ("encoder", "pooler"):
            specs.append(TensorSpec(name, FLOAT32, tuple(size.symbols[symbol] for symbol in tensor.shape)))
    return specs


def configuration(size: Size) -> dict[str, object]:
    """Return the configuration in the form of Hugging Face."""
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": size.vocab,
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": 4 * size.hidden,
        "max_position_embeddings": size.positions,
        "type_vocab_size": 2,
    }
