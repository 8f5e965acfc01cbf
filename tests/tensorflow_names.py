"""Names and shapes of the variables of Google's BERT and ALBERT, and of the TF Model Garden's, by hand.

Written down from google-research/bert and google-research/albert ``modeling.py``, ``run_*.py``, and from what
``tf.train.Checkpoint`` saves of tf-models-official 2.20; nothing here is taken from the package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import DTYPES
from interlingua.formats.registry import open_container
from interlingua.formats.tensor_bundle import open_writer
from tests.models import Arrays

V, P, T, H, F, E, N, D = 37, 17, 2, 12, 20, 7, 6, 2
LAYERS, LABELS = 3, 5

EMBEDDINGS = {
    "bert/embeddings/word_embeddings": ("embeddings.word_embeddings.weight", V),
    "bert/embeddings/position_embeddings": ("embeddings.position_embeddings.weight", P),
    "bert/embeddings/token_type_embeddings": ("embeddings.token_type_embeddings.weight", T),
}
LAYER = {
    "attention/self/query": ("attention.self.query", H, H),
    "attention/self/key": ("attention.self.key", H, H),
    "attention/self/value": ("attention.self.value", H, H),
    "attention/output/dense": ("attention.output.dense", H, H),
    "intermediate/dense": ("intermediate.dense", H, F),
    "output/dense": ("output.dense", F, H),
}
ALBERT_LAYER = {
    "attention_1/self/query": ("attention.query", H, H),
    "attention_1/self/key": ("attention.key", H, H),
    "attention_1/self/value": ("attention.value", H, H),
    "attention_1/output/dense": ("attention.dense", H, H),
    "ffn_1/intermediate/dense": ("ffn", H, F),
    "ffn_1/intermediate/output/dense": ("ffn_output", F, H),
}

Named = dict[str, tuple[str, tuple[int, ...]]]
"""Name in TensorFlow -> name in transformers, shape in TensorFlow."""


def dense(scope: str, theirs: str, rows: int, columns: int) -> Named:
    return {f"{scope}/kernel": (f"{theirs}.weight", (rows, columns)), f"{scope}/bias": (f"{theirs}.bias", (columns,))}


def norm(scope: str, theirs: str, width: int) -> Named:
    return {f"{scope}/gamma": (f"{theirs}.weight", (width,)), f"{scope}/beta": (f"{theirs}.bias", (width,))}


def output(scope: str, theirs: str, rows: int) -> Named:
    """A head's last layer: ``output_weights`` is not turned."""
    return {
        f"{scope}output_weights": (f"{theirs}.weight", (rows, H)),
        f"{scope}output_bias": (f"{theirs}.bias", (rows,)),
    }


def bert(heads: Iterable[str], base: str = "bert.") -> Named:
    """A BERT by google-research/bert."""
    found: Named = {name: (base + theirs, (rows, H)) for name, (theirs, rows) in EMBEDDINGS.items()}
    found |= norm("bert/embeddings/LayerNorm", f"{base}embeddings.LayerNorm", H)
    for number in range(LAYERS):
        scope, theirs = f"bert/encoder/layer_{number}", f"{base}encoder.layer.{number}"
        for name, (ours, rows, columns) in LAYER.items():
            found |= dense(f"{scope}/{name}", f"{theirs}.{ours}", rows, columns)
        found |= norm(f"{scope}/attention/output/LayerNorm", f"{theirs}.attention.output.LayerNorm", H)
        found |= norm(f"{scope}/output/LayerNorm", f"{theirs}.output.LayerNorm", H)
    if "pooler" in heads:
        found |= dense("bert/pooler/dense", f"{base}pooler.dense", H, H)
    if "masked_lm" in heads:
        found |= dense("cls/predictions/transform/dense", "cls.predictions.transform.dense", H, H)
        found |= norm("cls/predictions/transform/LayerNorm", "cls.predictions.transform.LayerNorm", H)
        found["cls/predictions/output_bias"] = ("cls.predictions.bias", (V,))
    if "next_sentence" in heads:
        found |= output("cls/seq_relationship/", "cls.seq_relationship", 2)
    if "sequence_classification" in heads:
        found |= output("", "classifier", LABELS)
    if "span_qa" in heads:
        found |= output("cls/squad/", "qa_outputs", 2)
    return found


def albert(heads: Iterable[str], groups: int = 1, base: str = "albert.") -> Named:
    """An ALBERT by google-research/albert."""
    found: Named = {name: (base + theirs, (rows, E)) for name, (theirs, rows) in EMBEDDINGS.items()}
    found |= norm("bert/embeddings/LayerNorm", f"{base}embeddings.LayerNorm", E)
    mapping = "embedding_hidden_mapping_in"
    found |= dense(f"bert/encoder/{mapping}", f"{base}encoder.{mapping}", E, H)
    for group in range(groups):
        scope = f"bert/encoder/transformer/group_{group}/inner_group_0"
        theirs = f"{base}encoder.albert_layer_groups.{group}.albert_layers.0"
        for name, (ours, rows, columns) in ALBERT_LAYER.items():
            found |= dense(f"{scope}/{name}", f"{theirs}.{ours}", rows, columns)
        found |= norm(f"{scope}/LayerNorm", f"{theirs}.attention.LayerNorm", H)
        found |= norm(f"{scope}/LayerNorm_1", f"{theirs}.full_layer_layer_norm", H)
    if "pooler" in heads:
        found |= dense("bert/pooler/dense", f"{base}pooler", H, H)
    if "masked_lm" in heads:
        found |= dense("cls/predictions/transform/dense", "predictions.dense", H, E)
        found |= norm("cls/predictions/transform/LayerNorm", "predictions.LayerNorm", E)
        found["cls/predictions/output_bias"] = ("predictions.bias", (V,))
    if "sentence_order" in heads:
        found |= output("cls/seq_relationship/", "sop_classifier.classifier", 2)
    if "sequence_classification" in heads:
        found |= output("", "classifier", LABELS)
    if "multiple_choice" in heads:
        found |= output("", "classifier", 1)
    if "span_qa" in heads:
        found |= output("cls/squad/", "qa_outputs", 2)
    return found


GARDEN = {
    "attention.self.query": "_attention_layer/_query_dense",
    "attention.self.key": "_attention_layer/_key_dense",
    "attention.self.value": "_attention_layer/_value_dense",
    "attention.output.dense": "_attention_layer/_output_dense",
    "attention.output.LayerNorm": "_attention_layer_norm",
    "intermediate.dense": "_intermediate_dense",
    "output.dense": "_output_dense",
    "output.LayerNorm": "_output_layer_norm",
}
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def garden(functional: bool = False) -> dict[str, str]:
    """Key of a BertEncoderV2 (or of the functional BertEncoder) -> the name in transformers' BertModel."""
    first = ["word_embeddings", "position_embeddings", "token_type_embeddings"]
    attributes = ["_embedding_layer", "_position_embedding_layer", "_type_embedding_layer", "_embedding_norm_layer"]
    attributes += [f"_transformer_layers/{number}" for number in range(LAYERS)] + ["_pooler_layer"]
    if functional:
        attributes = [f"layer_with_weights-{number}" for number in range(len(attributes))]
    found = {f"{at}/embeddings": f"embeddings.{name}.weight" for at, name in zip(attributes, first, strict=False)}
    found |= {f"{attributes[3]}/{a}": f"embeddings.LayerNorm.{b}" for a, b in (("gamma", "weight"), ("beta", "bias"))}
    for number in range(LAYERS):
        for ours, theirs in GARDEN.items():
            parts = ("gamma", "beta") if "LayerNorm" in ours else ("kernel", "bias")
            for native, part in zip(parts, ("weight", "bias"), strict=True):
                found[f"{attributes[4 + number]}/{theirs}/{native}"] = f"encoder.layer.{number}.{ours}.{part}"
    found |= {f"{attributes[-1]}/{a}": f"pooler.dense.{b}" for a, b in (("kernel", "weight"), ("bias", "bias"))}
    return {key + VALUE: name for key, name in found.items()}


def garden_array(key: str, array: np.ndarray) -> np.ndarray:
    """A tensor of transformers as the Model Garden has it: kernels turned, attention heads apart."""
    if "/kernel/" in key:
        array = array.T
    if "_output_dense/kernel" in key and "_attention_layer/" in key:
        return np.ascontiguousarray(array.reshape(N, D, H))
    if any(f"_{name}_dense/" in key for name in ("query", "key", "value")):
        return np.ascontiguousarray(array.reshape(*array.shape[:-1], N, D))
    return np.ascontiguousarray(array)


def random_arrays(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def write_bundle(prefix: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    """A tensor bundle with these tensors."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    specs = [TensorSpec(name, DTYPES[array.dtype.name], array.shape) for name, array in arrays.items()]
    with open_writer(prefix, specs) as writer:
        for name, array in arrays.items():
            writer.write(name, array.tobytes())
        writer.finish()
    return prefix


def read_bundle(prefix: Path) -> Arrays:
    """The tensors of a bundle that are no strings."""
    with open_container(prefix) as reader:
        return {name: reader.read(name) for name, spec in reader.tensors.items() if spec.dtype.name != "string"}
