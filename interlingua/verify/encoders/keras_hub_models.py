"""KerasHub's backbones, on weights of their own presets: dialect ``keras-hub``.

A backbone is made from the configuration that the request states and filled by Keras' own ``load_weights``; its
activation and epsilon stand in its code. Each hidden state is the output of one of its layers. ELECTRA's pooler is no
part of any other system's model, and not asked for.

Sources: keras-team/keras-hub 0.32
``keras_hub/src/models/{bert,albert,distil_bert,roberta,xlm_roberta,electra}/*_backbone.py``;
keras-team/keras 3.15 ``keras/src/saving/saving_lib.py``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from interlingua.verify.encoders.request import Activations, Array, Ran, Request, UnavailableError
from interlingua.verify.encoders.tensorflow_device import device_name, framework, import_framework, settle, to_numpy
from interlingua.verify.encoders.tensorflow_files import load_native

BACKBONES = {
    "bert": "BertBackbone",
    "albert": "AlbertBackbone",
    "distilbert": "DistilBertBackbone",
    "roberta": "RobertaBackbone",
    "xlm-roberta": "XLMRobertaBackbone",
    "electra": "ElectraBackbone",
}
"""Family -> class."""

SIZES = (
    "vocabulary_size",
    "vocab_size",
    "num_layers",
    "num_heads",
    "hidden_dim",
    "intermediate_dim",
    "max_sequence_length",
    "num_segments",
    "embedding_dim",
    "num_groups",
    "num_inner_repetitions",
)
"""Keys of a configuration that decide what is computed: the only ones that reach the class."""

SUFFIX = ".weights.h5"
"""What ``load_weights`` wants a file to be called."""

OWN_POOLER = ("electra",)
"""Families whose backbone has a pooler that no other system's has."""

INPUTS = {"token_ids": "input_ids", "padding_mask": "attention_mask", "segment_ids": "token_type_ids"}
"""A backbone's input -> the batch's array."""


def run(request: Request, batches: Mapping[str, Mapping[str, Array]]) -> tuple[Activations, Ran]:
    """Run every batch through the family's backbone.

    Raises:
        UnavailableError: KerasHub is not installed, or has no such model; or there is no device.
    """
    if request.family not in BACKBONES or set(request.heads) - {"pooler"}:
        raise UnavailableError(f"KerasHub has no backbone of {request.family} with {', '.join(request.heads)}")
    try:
        hub, keras = (import_framework(name, KERAS_BACKEND="tensorflow") for name in ("keras_hub", "keras"))
    except ImportError as error:
        raise UnavailableError(f"{error.name or error} is not installed") from error
    settings = settle(request)
    keras.config.disable_flash_attention()
    backbone = make_backbone(hub, request)
    load(backbone, request)
    model = keras.Model(backbone.inputs, outputs_of(backbone, request))
    activations: Activations = {}
    for name, batch in batches.items():
        given = {key: batch[INPUTS[key]].astype(np.int32) for key in backbone.input}
        # Called, not predicted: the latter would compile a graph.
        for key, value in model(given, training=False).items():
            activations[f"{name}/{key}"] = to_numpy(value)
    ran = Ran(
        reference=f"keras_hub {BACKBONES[request.family]}",
        version=hub.__version__,
        third_party=True,
        framework=framework(),
        device=device_name(request),
        settings={**settings, "attention": "not fused", "Keras": f"keras {keras.__version__}"},
        unexpected=unexpected(request),
    )
    return activations, ran


def make_backbone(hub: Any, request: Request) -> Any:
    """Return the family's backbone of the sizes that the request states, without dropout, its weights not loaded."""
    stated = request.native_config["config"]
    sizes = {key: stated[key] for key in SIZES if key in stated}
    return getattr(hub.models, BACKBONES[request.family])(**sizes, dropout=0.0, dtype=request.dtype)


def load(backbone: Any, request: Request) -> None:
    """Fill a backbone by Keras' own loader, which refuses a file that lacks any of its variables.

    Raises:
        UnavailableError: Keras does not load the container.
    """
    if request.container not in ("keras-weights-hdf5", "keras-archive"):
        raise UnavailableError(f"Keras' load_weights does not read {request.container}")
    path = Path(request.weights)
    suffix = SUFFIX if request.container == "keras-weights-hdf5" else ".keras"
    with ExitStack() as stack:
        if not path.name.endswith(suffix):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            link = folder / f"model{suffix}"
            link.symlink_to(path.absolute())
            path = link
        backbone.load_weights(str(path))


def outputs_of(backbone: Any, request: Request) -> dict[str, Any]:
    """Return the symbolic tensors of the activations by name."""
    steps = steps_of(backbone)
    named = {"embeddings": steps[0], **{f"layer.{number}": x for number, x in enumerate(steps[1:])}}
    if "pooler" in request.heads:
        named["pooler"] = backbone.output["pooled_output"]
    return named


def steps_of(backbone: Any) -> list[Any]:
    """Return the first layer's input and the output of every layer, in the order in which they are called.

    A group of ALBERT's is one layer that is called several times in a row.
    """
    layers: list[Any] = []
    for entry in backbone.transformer_layers:
        layers += entry if isinstance(entry, list | tuple) else [entry]
    calls = [call for layer in layers for call in layer._inbound_nodes]
    return [calls[0].input_tensors[0], *(call.output_tensors[0] for call in calls)]


def unexpected(request: Request) -> list[str]:
    """Return the variables in the file that are none of the model's, an optimizer's left out."""
    known = {piece[0] for recipe in request.recipes.values() for piece in recipe.pieces}
    if request.family in OWN_POOLER:
        known |= {f"layers/{layer}/vars/{number}" for layer in ("dense", "dense_1") for number in (0, 1)}
    return sorted(name for name in load_native(request).keys() - known if not name.startswith("optimizer/"))
