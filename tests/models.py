"""Small BERTs in which no two sizes are equal and every element is random, and the files that systems write of them.

Nothing here is taken from the package: names, files and digests are what the systems themselves make of such a
model (transformers ``BertFor...``, UER-py ``uer/models/model.py`` and ``finetune/run_*.py``), written out by hand.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

Arrays = dict[str, np.ndarray]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model."""

    layers: int = 3
    hidden: int = 12
    heads: int = 6
    intermediate: int = 20
    vocab: int = 37
    positions: int = 17
    types: int = 2
    labels: int = 5


SMALL = Sizes()

LAYER = {
    "attention.self.query.weight": "hidden hidden",
    "attention.self.query.bias": "hidden",
    "attention.self.key.weight": "hidden hidden",
    "attention.self.key.bias": "hidden",
    "attention.self.value.weight": "hidden hidden",
    "attention.self.value.bias": "hidden",
    "attention.output.dense.weight": "hidden hidden",
    "attention.output.dense.bias": "hidden",
    "attention.output.LayerNorm.weight": "hidden",
    "attention.output.LayerNorm.bias": "hidden",
    "intermediate.dense.weight": "intermediate hidden",
    "intermediate.dense.bias": "intermediate",
    "output.dense.weight": "hidden intermediate",
    "output.dense.bias": "hidden",
    "output.LayerNorm.weight": "hidden",
    "output.LayerNorm.bias": "hidden",
}
"""One layer, by its names in transformers."""

EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "vocab hidden",
    "embeddings.position_embeddings.weight": "positions hidden",
    "embeddings.token_type_embeddings.weight": "types hidden",
    "embeddings.LayerNorm.weight": "hidden",
    "embeddings.LayerNorm.bias": "hidden",
}

HEADS = {
    "pooler": {"pooler.dense.weight": "hidden hidden", "pooler.dense.bias": "hidden"},
    "masked_lm": {
        "cls.predictions.transform.dense.weight": "hidden hidden",
        "cls.predictions.transform.dense.bias": "hidden",
        "cls.predictions.transform.LayerNorm.weight": "hidden",
        "cls.predictions.transform.LayerNorm.bias": "hidden",
        "cls.predictions.bias": "vocab",
    },
    "next_sentence": {"cls.seq_relationship.weight": "2 hidden", "cls.seq_relationship.bias": "2"},
    "sequence_classification": {"classifier.weight": "labels hidden", "classifier.bias": "labels"},
    "token_classification": {"classifier.weight": "labels hidden", "classifier.bias": "labels"},
    "span_qa": {"qa_outputs.weight": "2 hidden", "qa_outputs.bias": "2"},
}
"""Heads by their names in transformers, in the order in which they are listed anywhere."""

HEAD_SETS = (
    (),
    ("pooler",),
    ("masked_lm",),
    ("pooler", "masked_lm"),
    ("pooler", "next_sentence"),
    ("pooler", "masked_lm", "next_sentence"),
    ("pooler", "sequence_classification"),
    ("sequence_classification",),
    ("token_classification",),
    ("span_qa",),
)
"""What models of both systems have."""

CLASSES = {
    ("pooler",): "BertModel",
    ("masked_lm",): "BertForMaskedLM",
    ("pooler", "next_sentence"): "BertForNextSentencePrediction",
    ("pooler", "masked_lm", "next_sentence"): "BertForPreTraining",
    ("pooler", "sequence_classification"): "BertForSequenceClassification",
    ("token_classification",): "BertForTokenClassification",
    ("span_qa",): "BertForQuestionAnswering",
}
"""transformers' class of a model with these heads."""

DECODER = "cls.predictions.decoder.weight"


def shapes(heads: Iterable[str] = (), sizes: Sizes = SMALL) -> dict[str, tuple[int, ...]]:
    """Shapes by transformers' names, without the ``bert.`` prefix and without the tied decoder."""
    listed = dict(EMBEDDINGS)
    for layer in range(sizes.layers):
        listed |= {f"encoder.layer.{layer}.{name}": shape for name, shape in LAYER.items()}
    for head in heads:
        listed |= HEADS[head]
    return {
        name: tuple(int(word) if word.isdigit() else getattr(sizes, word) for word in shape.split())
        for name, shape in listed.items()
    }


def random_array(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype | type = np.float32) -> np.ndarray:
    """Normally distributed values, no two alike to speak of."""
    return rng.standard_normal(shape).astype(dtype)


def bare(heads: Iterable[str] = (), sizes: Sizes = SMALL, seed: int = 0, dtype: np.dtype | type = np.float32) -> Arrays:
    """A model by transformers' names, without prefix."""
    rng = np.random.default_rng(seed)
    return {name: random_array(rng, shape, dtype) for name, shape in shapes(heads, sizes).items()}


def is_base(name: str) -> bool:
    """Whether a transformers name belongs to the base model, so that ``bert.`` comes before it in one with heads."""
    return name.startswith(("embeddings.", "encoder.", "pooler."))


def prefixed(arrays: Mapping[str, np.ndarray], prefix: str = "bert.") -> Arrays:
    """The model as a class with heads saves it."""
    return {f"{prefix}{name}" if is_base(name) else name: array for name, array in arrays.items()}


def hf(heads: Iterable[str] = (), sizes: Sizes = SMALL, seed: int = 0, dtype: np.dtype | type = np.float32) -> Arrays:
    """A model as transformers saves it today: prefixed where it has heads, weights tied."""
    arrays = bare(heads, sizes, seed, dtype)
    return prefixed(arrays) if set(heads) - {"pooler"} else arrays


UER_LAYER = {
    "attention.self.query": "self_attn.linear_layers.0",
    "attention.self.key": "self_attn.linear_layers.1",
    "attention.self.value": "self_attn.linear_layers.2",
    "attention.output.dense": "self_attn.final_linear",
    "attention.output.LayerNorm": "layer_norm_1",
    "intermediate.dense": "feed_forward.linear_1",
    "output.dense": "feed_forward.linear_2",
    "output.LayerNorm": "layer_norm_2",
}
UER_OTHERS = {
    "embeddings.word_embeddings": "embedding.word.embedding",
    "embeddings.position_embeddings": "embedding.pos.embedding",
    "embeddings.token_type_embeddings": "embedding.seg.embedding",
    "embeddings.LayerNorm": "embedding.layer_norm",
    "pooler.dense": "target.sp.linear_1",
    "cls.predictions.transform.dense": "target.mlm.linear_1",
    "cls.predictions.transform.LayerNorm": "target.mlm.layer_norm",
    "cls.predictions": "target.mlm.linear_2",
    "cls.predictions.decoder": "target.mlm.linear_2",
    "cls.seq_relationship": "target.sp.linear_2",
    "qa_outputs": "output_layer",
}


def uer_name(name: str, heads: Iterable[str]) -> str:
    """The name that UER's own code has for a tensor of the bare model in a model with these heads."""
    stem, _, part = name.rpartition(".")
    if "LayerNorm" in stem:
        part = {"weight": "gamma", "bias": "beta"}[part]
    if stem.startswith("encoder.layer."):
        number, _, rest = stem.removeprefix("encoder.layer.").partition(".")
        return f"encoder.transformer.{number}.{UER_LAYER[rest]}.{part}"
    if "sequence_classification" in heads and stem in ("pooler.dense", "classifier"):
        return f"output_layer_{1 if stem == 'pooler.dense' else 2}.{part}"
    if stem == "classifier":
        return f"output_layer.{part}"
    return f"{UER_OTHERS[stem]}.{part}"


def uer(
    heads: Iterable[str] = (),
    sizes: Sizes = SMALL,
    seed: int = 0,
    dtype: np.dtype | type = np.float32,
    padding: bool = False,
) -> Arrays:
    """The same model (see ``hf``) as UER saves it: three segment rows, the first zero unless ``padding``."""
    arrays = bare(heads, sizes, seed, dtype)
    found = {uer_name(name, heads): array for name, array in arrays.items()}
    row = random_array(np.random.default_rng(seed + 1000), (1, sizes.hidden), dtype)
    segments = found["embedding.seg.embedding.weight"]
    found["embedding.seg.embedding.weight"] = np.concatenate([row if padding else np.zeros_like(row), segments])
    if "masked_lm" in heads:
        found["target.mlm.linear_2.weight"] = found["embedding.word.embedding.weight"]
    return found


def hf_config(sizes: Sizes = SMALL, heads: Iterable[str] = ("pooler",), **more: object) -> dict[str, object]:
    """The ``config.json`` of such a model, with values that no default has."""
    config: dict[str, object] = {
        "architectures": [CLASSES.get(tuple(heads), "BertModel")],
        "attention_probs_dropout_prob": 0.15,
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.25,
        "hidden_size": sizes.hidden,
        "initializer_range": 0.03,
        "intermediate_size": sizes.intermediate,
        "layer_norm_eps": 3e-06,
        "max_position_embeddings": sizes.positions,
        "model_type": "bert",
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.layers,
        "pad_token_id": 1,
        "type_vocab_size": sizes.types,
        "vocab_size": sizes.vocab,
        "a_key_of_somebody": {"kept": [1, 2.5, None, "é"]},
    }
    if {"sequence_classification", "token_classification"} & set(heads) and sizes.labels != 2:
        config["id2label"] = {str(number): f"name {number}" for number in range(sizes.labels)}
        config["label2id"] = {f"name {number}": number for number in range(sizes.labels)}
    return {**config, **more}


def uer_config(sizes: Sizes = SMALL, **more: object) -> dict[str, object]:
    """The JSON configuration that UER would be given for such a model (as ``models/bert/base_config.json``)."""
    return {
        "emb_size": sizes.hidden,
        "feedforward_size": sizes.intermediate,
        "hidden_size": sizes.hidden,
        "hidden_act": "gelu_fast",
        "heads_num": sizes.heads,
        "layers_num": sizes.layers,
        "max_seq_length": sizes.positions,
        "dropout": 0.35,
        "data_processor": "bert",
        "embedding": ["word", "pos", "seg"],
        "encoder": "transformer",
        "mask": "fully_visible",
        "target": ["mlm", "sp"],
        "tie_weights": True,
        **more,
    }


CODES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "bfloat16": "BF16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
}


def safetensors_bytes(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file, its tensors in the order given (readers may not rely on any)."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, array in arrays.items():
        end = position + array.nbytes
        header[name] = {"dtype": CODES[array.dtype.name], "shape": array.shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in arrays.values())


def read_safetensors(path: Path) -> Arrays:
    """The tensors of a safetensors file."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    types = {code: BFLOAT16 if name == "bfloat16" else np.dtype(name) for name, code in CODES.items()}
    return {
        name: np.frombuffer(
            data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]], types[entry["dtype"]]
        ).reshape(entry["shape"])
        for name, entry in header.items()
    }


def write_hf(
    folder: Path,
    arrays: Mapping[str, np.ndarray],
    config: Mapping[str, object] | None = None,
    tokens: int | None = None,
    name: str = "model.safetensors",
) -> Path:
    """A folder as transformers saves it: weights in safetensors, and a configuration and a vocabulary if asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(safetensors_bytes(arrays, {"format": "pt"}))
    write_companions(folder, config, tokens)
    return folder


def write_companions(folder: Path, config: Mapping[str, object] | None, tokens: int | None) -> None:
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if tokens is not None:
        (folder / "vocab.txt").write_text("".join(f"token{number}\n" for number in range(tokens)), encoding="utf-8")


def to_torch(array: np.ndarray):
    """The array as a tensor of PyTorch's (which must be installed)."""
    import torch

    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def from_torch(tensor) -> np.ndarray:
    """The tensor as an array."""
    import torch

    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy().view(BFLOAT16)
    return tensor.numpy()


def torch_dict(arrays: Mapping[str, np.ndarray]) -> dict[str, object]:
    """A state dict; one array under two names is one tensor under two names."""
    made: dict[int, object] = {}
    return {name: made.setdefault(id(array), to_torch(array)) for name, array in arrays.items()}


def write_uer(
    folder: Path,
    arrays: Mapping[str, np.ndarray],
    config: Mapping[str, object] | None = None,
    tokens: int | None = None,
    name: str = "pytorch_model.bin",
) -> Path:
    """A folder with a state dict as ``torch.save`` writes it, and a configuration and a vocabulary if asked for."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    torch.save(torch_dict(arrays), folder / name)
    write_companions(folder, config, tokens)
    return folder


def read_torch(path: Path) -> Arrays:
    """The tensors of a file of PyTorch's, as PyTorch itself loads it without running anything in it."""
    import torch

    return {name: from_torch(tensor) for name, tensor in torch.load(path, weights_only=True).items()}


def weights_of(folder: Path) -> Arrays:
    """The tensors of an output folder of either dialect, by its usual file name."""
    if (folder / "model.safetensors").exists():
        return read_safetensors(folder / "model.safetensors")
    return read_torch(folder / "pytorch_model.bin")


def assert_same(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Assert that the names are the same, and dtype, shape and every bit of each tensor."""
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


CANONICAL = {
    "cls.predictions.transform": "masked_lm.transform",
    "cls.predictions.decoder": "masked_lm.decoder",
    "cls.predictions": "masked_lm.decoder",
    "cls.seq_relationship": "next_sentence",
    "qa_outputs": "span_qa",
}


def fingerprints(arrays: Mapping[str, np.ndarray], heads: Iterable[str]) -> tuple[str, str]:
    """The digests (model, encoder) of a bare model, made as the documentation of fingerprints says.

    ``arrays`` is as ``bare`` returns it (an untied decoder among it where there is one).
    """
    order = [*shapes(heads)]
    if DECODER in arrays:
        order.insert(order.index("cls.predictions.bias"), DECODER)
    layers = sorted({int(name.split(".")[2]) for name in arrays if name.startswith("encoder.layer.")})
    template = [name for name in order if not name.startswith("encoder.layer.")]
    split = len(EMBEDDINGS)
    names = [*template[:split], *(f"encoder.layer.{n}.{name}" for n in layers for name in LAYER), *template[split:]]
    lines, encoder = [], []
    for name in names:
        array = arrays[name]
        canonical = name
        for theirs, ours in CANONICAL.items():
            if name.startswith(f"{theirs}."):
                canonical = ours + name.removeprefix(theirs)
                break
        if name.startswith("classifier."):
            canonical = next(head for head in heads if head.endswith("_classification")) + name.removeprefix(
                "classifier"
            )
        shape = "x".join(map(str, array.shape)) or "-"
        little = array.astype(array.dtype.newbyteorder("<")) if array.dtype != BFLOAT16 else array
        line = f"{canonical} {array.dtype.name} {shape} {hashlib.sha256(little.tobytes()).hexdigest()}\n"
        lines.append(line)
        if name.startswith(("embeddings.", "encoder.")):
            encoder.append(line)
    model, encoder_alone = (hashlib.sha256("".join(some).encode()).hexdigest() for some in (lines, encoder))
    return model, encoder_alone


def sparse_safetensors(path: Path, listed: Mapping[str, tuple[int, ...]]) -> Path:
    """A safetensors file of float32 zeros that takes no room on the disk, however large it is."""
    header: dict[str, object] = {}
    position = 0
    for name, shape in listed.items():
        end = position + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with path.open("r+b") as file:
        file.truncate(8 + len(text) + position)
    return path
