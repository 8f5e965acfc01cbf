"""The encoder of our own: each family's forward pass in one framework's operations, from tensors that it loaded itself.

It runs where nobody else's implementation is installed, and is held against those in the tests. The formulas and
their sources are those of ``interlingua.verify.oracle``, written a second time in single precision.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from interlingua.verify.encoders.ops import Ops, Tensor
from interlingua.verify.encoders.request import Activations, Array, Ran, Request, make_tensors

MODULES = {
    "torch": "torch_ops",
    "tensorflow": "tensorflow_ops",
    "paddle": "paddle_ops",
    "mindspore": "mindspore_ops",
}

MASKED = -10000.0
"""Added to the scores of padding: what every one of the systems adds, or something lower; no sum tells them apart."""

POSITIONS_BEHIND_PADDING = "behind the padding row"
UNBIASED = "unbiased, outside"
MODEL_ACT = "the model's"


def run(request: Request, batches: Mapping[str, Mapping[str, Array]]) -> tuple[Activations, Ran]:
    """Run every batch.

    Raises:
        UnavailableError: the framework is not installed, has no such device, or cannot load the container.
    """
    ops: Ops = importlib.import_module(f"interlingua.verify.encoders.{MODULES[request.framework]}").open_ops(request)
    return run_on(ops, request, batches)


def run_on(ops: Ops, request: Request, batches: Mapping[str, Mapping[str, Array]]) -> tuple[Activations, Ran]:
    """Run every batch in operations that are already open; they are closed."""
    tensors = make_tensors(request, ops.load(request))
    encoder = _Encoder(request, ops, {name: ops.weight(array) for name, array in tensors.items()})
    activations: Activations = {}
    for name, batch in batches.items():
        for key, value in encoder.forward(batch).items():
            activations[f"{name}/{key}"] = ops.numpy(value)
    ran = Ran("own encoder", "", False, ops.framework, ops.device, ops.settings)
    ops.close()
    return activations, ran


class _Encoder:
    """A model's tensors on the device."""

    def __init__(self, request: Request, ops: Ops, tensors: dict[str, Tensor]) -> None:
        self.request, self.ops, self.tensors = request, ops, tensors
        self.config: Mapping[str, Any] = request.config
        self.heads = self.config["num_attention_heads"]
        self.hidden = self.config["hidden_size"]

    def forward(self, batch: Mapping[str, Array]) -> dict[str, Tensor]:
        """Return every activation by its name."""
        bias = self.ops.weight((1 - batch["attention_mask"][:, None, None, :]) * np.float32(MASKED))
        x = self.embed(batch)
        out = {"embeddings": x}
        for layer in range(self.config["num_hidden_layers"]):
            x = self.layer(x, bias, self._prefix(layer))
            out[f"layer.{layer}"] = x
        first = self._first_token(x)
        if "pooler" in self.request.heads:
            out["pooler"] = self.ops.activation("tanh", self.linear("pooler.dense", first))
        for head in self.request.heads:
            if head != "pooler":
                out[head] = self._head(head, x, first, out.get("pooler"), batch)
        return out

    def embed(self, batch: Mapping[str, Array]) -> Tensor:
        """Return the first layer's input, [rows, length, hidden]."""
        ops, table = self.ops, "embeddings.{}_embeddings.weight"
        unused = UNUSED_EMBEDDINGS.get(self.request.family)
        x = ops.embedding(self.tensors[table.format("word")], ops.ids(batch["input_ids"]))
        for kind, ids in (
            ("token_type", batch["token_type_ids"]),
            ("position", self._positions(batch["attention_mask"])),
            ("task_type", batch["task_type_ids"]),
        ):
            if kind != unused and table.format(kind) in self.tensors:
                x = x + ops.embedding(self.tensors[table.format(kind)], ops.ids(ids))
        x = self.layer_norm("embeddings.LayerNorm", x)
        for projection in ("encoder.embedding_hidden_mapping_in", "embeddings_project"):
            if f"{projection}.weight" in self.tensors:
                x = self.linear(projection, x)
        return x

    def _positions(self, mask: Array) -> Array:
        if self.request.conventions["positions"] != POSITIONS_BEHIND_PADDING:
            return np.broadcast_to(np.arange(mask.shape[1]), mask.shape)
        rows: Array = np.cumsum(mask, axis=1) * mask + self.config["pad_token_id"]
        return rows

    def layer(self, x: Tensor, bias: Tensor, prefix: str) -> Tensor:
        """Return a layer's output: attention and feed-forward, each added to its input and normalised after it."""
        attended = self._attention(x, bias, prefix)
        attended = self.linear(f"{prefix}.attention.output.dense", attended)
        x = self.layer_norm(f"{prefix}.attention.output.LayerNorm", x + attended)
        wide = self.ops.activation(self.config["hidden_act"], self.linear(f"{prefix}.intermediate.dense", x))
        return self.layer_norm(f"{prefix}.output.LayerNorm", x + self.linear(f"{prefix}.output.dense", wide))

    def _attention(self, x: Tensor, bias: Tensor, prefix: str) -> Tensor:
        ops, (rows, length) = self.ops, (int(x.shape[0]), int(x.shape[1]))
        size = self.hidden // self.heads
        query, key, value = (
            ops.permute(
                ops.reshape(self.linear(f"{prefix}.attention.self.{name}", x), (rows, length, self.heads, size)),
                (0, 2, 1, 3),
            )
            for name in ("query", "key", "value")
        )
        scores = ops.matmul(query, ops.permute(key, (0, 1, 3, 2)))
        relative = self._relative_positions(prefix, length) if self.request.family == "nezha" else None
        if relative is not None:
            scores = scores + self._by_distance(query, ops.permute(relative, (0, 2, 1)))
        weights = ops.softmax(scores * (1.0 / math.sqrt(size)) + bias)
        context = ops.matmul(weights, value)
        if relative is not None:
            context = context + self._by_distance(weights, relative)
        return ops.reshape(ops.permute(context, (0, 2, 1, 3)), (rows, length, self.hidden))

    def _by_distance(self, x: Tensor, table: Tensor) -> Tensor:
        """Multiply [rows, heads, length, m] at each position of the third axis by its own matrix of [length, m, n]."""
        ops = self.ops
        rows, heads, length, width = (int(side) for side in x.shape)
        flat = ops.reshape(ops.permute(x, (2, 0, 1, 3)), (length, rows * heads, width))
        product = ops.reshape(ops.matmul(flat, table), (length, rows, heads, -1))
        return ops.permute(product, (1, 2, 0, 3))

    def _relative_positions(self, prefix: str, length: int) -> Tensor:
        """Return [length, length, head size]: the table's row for the clipped distance from one position to another.

        The table is the layer's own where one is stored (mindspore-ai/models ``bert_model.py``), else sinusoids.
        """
        furthest = self.config["max_relative_position"]
        distance = np.clip(np.arange(length)[None, :] - np.arange(length)[:, None], -furthest, furthest) + furthest
        stored = self.tensors.get(f"{prefix}.attention.self.relative_positions.weight")
        table = self.ops.weight(_sinusoids(2 * furthest + 1, self.hidden // self.heads)) if stored is None else stored
        return self.ops.embedding(table, self.ops.ids(distance))

    def _head(self, head: str, x: Tensor, first: Tensor, pooled: Tensor | None, batch: Mapping[str, Array]) -> Tensor:
        if head == "masked_lm":
            return self._masked_lm(x, batch["predict"])
        if head in ("token_classification", "span_qa"):
            return self.linear(head, x)
        if head == "replaced_token_detection":
            inner = self.ops.activation(self._activation_of(head), self.linear(f"{head}.dense", x))
            return self.linear(f"{head}.output", inner)
        if f"{head}.dense.weight" in self.tensors:
            inner = self.ops.activation(self._activation_of(head), self.linear(f"{head}.dense", first))
            return self.linear(f"{head}.output", inner)
        return self.linear(head, first if pooled is None else pooled)

    def _masked_lm(self, x: Tensor, predict: Array) -> Tensor:
        rows, length = int(x.shape[0]), int(x.shape[1])
        flat = self.ops.reshape(x, (rows * length, self.hidden))
        where = predict + np.arange(rows)[:, None] * length
        chosen = self.ops.embedding(flat, self.ops.ids(where))
        inner = self.linear("masked_lm.transform.dense", chosen)
        inner = self.ops.activation(self._activation_of("masked_lm"), inner)
        inner = self.layer_norm("masked_lm.transform.LayerNorm", inner)
        return self.linear("masked_lm.decoder", inner)

    def _activation_of(self, head: str) -> str:
        """Return the canonical activation of a head's dense layer: the system's own, else the family's."""
        usual = HEAD_ACTIVATIONS.get(self.request.family, {}).get(head, MODEL_ACT)
        act = self.request.conventions.get("head_act", {}).get(head, usual)
        return str(self.config["hidden_act"] if act == MODEL_ACT else act)

    def _first_token(self, x: Tensor) -> Tensor:
        rows, length = int(x.shape[0]), int(x.shape[1])
        flat = self.ops.reshape(x, (rows * length, self.hidden))
        return self.ops.embedding(flat, self.ops.ids(np.arange(rows) * length))

    def _prefix(self, layer: int) -> str:
        groups = self.config.get("num_hidden_groups")
        if groups is None:
            return f"encoder.layer.{layer}"
        return f"encoder.group.{layer * groups // self.config['num_hidden_layers']}"

    def linear(self, name: str, x: Tensor) -> Tensor:
        """Apply the linear layer of a canonical name."""
        return self.ops.linear(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        """Apply the LayerNorm of a canonical name, as the side's own system computes it."""
        is_unbiased = self.request.conventions["layer_norm"] == UNBIASED
        norm = self.ops.unbiased_layer_norm if is_unbiased else self.ops.layer_norm
        return norm(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], self._epsilon(name))

    def _epsilon(self, name: str) -> float:
        """Return the epsilon of a LayerNorm, which has the embeddings' or its head's name in front."""
        conventions, part = self.request.conventions, name.partition(".")[0]
        embeddings = conventions.get("embeddings_eps")
        if part == "embeddings" and embeddings is not None:
            return float(embeddings)
        return float(conventions.get("head_eps", {}).get(part, self.config["layer_norm_eps"]))


def _sinusoids(rows: int, size: int) -> Array:
    """Return [rows, size] float32: sines at even columns, cosines at odd ones, of each row's number."""
    angles = np.arange(rows)[:, None] * np.exp(np.arange(0, size, 2) * (-math.log(10000.0) / size))
    table = np.zeros((rows, size), np.float32)
    table[:, 0::2], table[:, 1::2] = np.sin(angles), np.cos(angles)[:, : size // 2]
    return table


UNUSED_EMBEDDINGS = {"nezha": "position"}
"""Embedding that a family's code may store and does not add (mindspore-ai/models ``bert_model.py``)."""

_ROBERTA = {"masked_lm": "gelu", "sequence_classification": "tanh"}

HEAD_ACTIVATIONS = {
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "electra": {"masked_lm": "gelu", "sequence_classification": "gelu", "multiple_choice": "gelu"},
    "distilbert": {"sequence_classification": "relu", "multiple_choice": "relu"},
}
"""Family -> head -> activation of its dense layer, where that is not the model's (huggingface/transformers
``modeling_{family}.py``)."""
