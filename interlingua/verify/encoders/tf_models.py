"""The TF Model Garden's encoders and the models around them, on their own checkpoints: dialect ``tf2``.

The objects are made of the sizes that the request states, and restored by ``tf.train.Checkpoint.read`` from where the
checkpoint has them. Epsilon stands in their code.

Sources: tf-models-official 2.20 ``official/nlp/modeling/networks/{bert_encoder,albert_encoder}.py``,
``models/{bert_pretrainer,bert_classifier,bert_token_classifier,bert_span_labeler}.py``, ``layers/cls_head.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from interlingua.verify.encoders.request import Activations, Array, Ran, Request, UnavailableError
from interlingua.verify.encoders.tensorflow_device import (
    device_name,
    framework,
    import_framework,
    settle,
    tf,
    to_numpy,
)
from interlingua.verify.encoders.tensorflow_files import bundle_prefix

PAIRS = ("next_sentence", "sentence_order")
"""Heads for pairs of sentences; a model has one at most, and that has a pooler of its own."""

PAIR_HEAD = "next_sentence"
"""What the library's pretraining calls such a head, ALBERT's too; it is part of its pooler's key."""

POSITIONS = "embeddings.position_embeddings.weight"
ATTRIBUTE = "_position_embedding_layer"
"""The attribute of ``BertEncoderV2`` that a checkpoint has its position table under; functional models number it."""

OWN_POOLER = "..pooler_dense/"
"""Part of the keys of the pooler of a head for pairs of sentences: where it is the encoder's pooler once more, it is no
tensor of the model's, and is restored all the same."""

TRAINING = ("/.OPTIMIZER_SLOT/", "optimizer/", "save_counter", "global_step", "_CHECKPOINTABLE_OBJECT_GRAPH")
"""Parts of keys that no model has."""


@dataclass(frozen=True, slots=True)
class Built:
    """A model of the library's.

    Attributes:
        name: its class.
        encoder: its encoder.
        items: what a checkpoint of it has at its top.
        variables: all of its variables.
        heads: head -> what computes its logits of (sequence output, pooled output, positions to predict).
        pooler: computes the pooled output of the sequence output; None: the encoder's own.
    """

    name: str
    encoder: Any
    items: Mapping[str, Any]
    variables: list[Any]
    heads: Mapping[str, Callable[[Any, Any, Any], Any]]
    pooler: Callable[[Any], Any] | None = None


def run(request: Request, batches: Mapping[str, Mapping[str, Array]]) -> tuple[Activations, Ran]:
    """Run every batch through the encoder and the heads that the checkpoint was saved of.

    Raises:
        UnavailableError: the library is not installed, or has no such model; or there is no device.
    """
    official = import_official()
    settings = settle(request)
    dtype = request.dtype if request.dtype == "float32" else f"mixed_{request.dtype}"
    official.keras.mixed_precision.set_global_policy(dtype)
    built = build(official, request)
    missing, unexpected = restore(built, request)
    encode = encoding(official, built.encoder)
    activations: Activations = {}
    for name, batch in batches.items():
        for key, value in forward(built, encode, batch, request.heads).items():
            activations[f"{name}/{key}"] = to_numpy(value)
    ran = Ran(
        reference=f"tf-models-official {built.name}",
        version=official.version,
        third_party=True,
        framework=framework(),
        device=device_name(request),
        settings={**settings, "attention": "not fused", "Keras": f"tf-keras {official.keras.__version__}"},
        missing=missing,
        unexpected=unexpected,
    )
    return activations, ran


@dataclass(frozen=True, slots=True)
class Official:
    """The library's modules, and the Keras that it is written in."""

    networks: Any
    models: Any
    layers: Any
    tf_utils: Any
    keras: Any
    version: str


def import_official() -> Official:
    """Import the library.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        return Official(
            networks=import_framework("official.nlp.modeling.networks"),
            models=import_framework("official.nlp.modeling.models"),
            layers=import_framework("official.nlp.modeling.layers"),
            tf_utils=import_framework("official.modeling.tf_utils"),
            keras=import_framework("tf_keras"),
            version=version("tf-models-official"),
        )
    except ImportError as error:
        raise UnavailableError(f"{error.name or error} is not installed") from error


def build(official: Official, request: Request) -> Built:
    """Make the model that has the checkpoint's heads, its variables not yet loaded.

    Raises:
        UnavailableError: the library has none.
    """
    encoder = make_encoder(official, request)
    wanted = set(request.heads) - {"pooler"}
    base = root_of(request)
    if not wanted:
        return Built(type(encoder).__name__, encoder, {base: encoder}, encoder.variables, {})
    if wanted <= {"masked_lm", *PAIRS}:
        return _pretrainer(official, request, encoder)
    if wanted == {"sequence_classification"} and "pooler" in request.heads:
        model = official.models.BertClassifier(encoder, num_classes=labels_of(request))
        heads = {"sequence_classification": lambda _sequence, pooled, _predict: model.classifier(pooled)}
    elif wanted == {"token_classification"}:
        model = official.models.BertTokenClassifier(encoder, num_classes=labels_of(request))
        heads = {"token_classification": lambda sequence, _pooled, _predict: model.classifier(sequence)}
    elif wanted == {"span_qa"}:
        model = official.models.BertSpanLabeler(encoder)
        heads = {"span_qa": lambda sequence, _pooled, _predict: tf.stack(model.span_labeling(sequence), axis=-1)}
    else:
        raise UnavailableError(f"the Model Garden has no model with {', '.join(request.heads)} alone")
    items = {**model.checkpoint_items, "model": model}
    return Built(f"{type(model).__name__}({type(encoder).__name__})", encoder, items, model.variables, heads)


def _pretrainer(official: Official, request: Request, encoder: Any) -> Built:
    """Make a pretrainer: a masked LM, and a head for pairs of sentences."""
    pairs = [name for name in PAIRS if name in request.heads]
    size = request.config["hidden_size"]
    layers = [official.layers.ClassificationHead(inner_dim=size, num_classes=2, name=PAIR_HEAD) for _ in pairs]
    activation = official.tf_utils.get_activation(request.native_config["hidden_act"])
    model = official.models.BertPretrainerV2(encoder, mlm_activation=activation, classification_heads=layers)
    model(model.inputs)
    heads: dict[str, Callable[[Any, Any, Any], Any]] = {}
    if "masked_lm" in request.heads:
        heads["masked_lm"] = lambda sequence, _pooled, predict: model.masked_lm(sequence, masked_positions=predict)
    pooler = None
    for name in pairs[:1]:
        heads[name] = lambda sequence, _pooled, _predict: layers[0](sequence)
        pooler = _projection(layers[0])
    variables = list(encoder.variables)
    if "masked_lm" in request.heads:
        variables += model.masked_lm.variables
    variables += [variable for layer in layers for variable in layer.variables]
    items = {**model.checkpoint_items, "model": model}
    return Built(f"BertPretrainerV2({type(encoder).__name__})", encoder, items, variables, heads, pooler)


def _projection(layer: Any) -> Callable[[Any], Any]:
    return lambda sequence: layer(sequence, only_project=True)


def make_encoder(official: Official, request: Request) -> Any:
    """Make the encoder of the kind that the checkpoint's keys are of, of the sizes that the request states."""
    config = request.config
    sizes = {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "num_layers": config["num_hidden_layers"],
        "num_attention_heads": config["num_attention_heads"],
        "max_sequence_length": config["max_position_embeddings"],
        "type_vocab_size": config["type_vocab_size"],
        "intermediate_size": config["intermediate_size"],
        "activation": official.tf_utils.get_activation(request.native_config["hidden_act"]),
        "dict_outputs": True,
    }
    if request.family == "albert":
        if config["embedding_size"] == config["hidden_size"]:
            raise UnavailableError("AlbertEncoder has no projection where embeddings are as wide as layers")
        return official.networks.AlbertEncoder(embedding_width=config["embedding_size"], **sizes)
    if request.family != "bert":
        raise UnavailableError(f"the Model Garden has no encoder of {request.family} that is known here")
    if ATTRIBUTE not in position_key(request):
        return official.networks.BertEncoder(**sizes)
    encoder = official.networks.BertEncoderV2(return_word_embeddings=True, **sizes)
    encoder(encoder.inputs)
    return encoder


def position_key(request: Request) -> list[str]:
    """Return the attributes that lead to the position table."""
    return request.recipes[POSITIONS].pieces[0][0].split("/")


def root_of(request: Request) -> str:
    """Return what the checkpoint has the encoder under at its top: ``encoder``, or ``model``."""
    return position_key(request)[0]


def labels_of(request: Request) -> int:
    """Return the number of labels, from the head's bias."""
    return next(recipe.shape[0] for name, recipe in request.recipes.items() if name.endswith("_classification.bias"))


def restore(built: Built, request: Request) -> tuple[list[str], list[str]]:
    """Restore a model's variables; return those that the checkpoint lacks, and its keys that the model lacks.

    What the model has and nobody asked for, a pooler, may be lacking: nothing is computed with it.
    """
    for variable in built.variables:
        variable.assign(tf.fill(variable.shape, tf.constant(float("nan"), variable.dtype)))
    prefix = bundle_prefix(request.weights)
    status = tf.train.Checkpoint(**built.items).read(prefix)
    missing = [x.name for x in built.variables if bool(tf.reduce_any(tf.math.is_nan(x)))]
    # The encoder's own pooler is not computed with where a head has another, or none is asked for.
    if built.pooler is not None or "pooler" not in request.heads:
        missing = [name for name in missing if "pooler_transform" not in name]
    try:
        status.assert_consumed()
    except AssertionError:
        return sorted(missing), leftovers(prefix, request)
    return sorted(missing), []


def leftovers(prefix: str, request: Request) -> list[str]:
    """Return a checkpoint's keys that make none of the model's tensors, what training adds left out."""
    known = {piece[0] for recipe in request.recipes.values() for piece in recipe.pieces}
    keys = tf.train.load_checkpoint(prefix).get_variable_to_shape_map().keys() - known
    return sorted(key for key in keys if not any(part in key for part in (*TRAINING, OWN_POOLER)))


def encoding(official: Official, encoder: Any) -> Callable[[Mapping[str, Any]], Any]:
    """Return what runs an encoder, and also tells its first layer's input (``word_embeddings``)."""
    if not isinstance(encoder, official.keras.Model):
        return lambda inputs: encoder(inputs, training=False)
    block = official.layers.TransformerEncoderBlock
    first = next(layer for layer in encoder.layers if isinstance(layer, block))
    outputs = {**encoder.output, "word_embeddings": first.get_input_at(0)[0]}
    model = official.keras.Model(encoder.inputs, outputs)
    return lambda inputs: model(inputs, training=False)


def forward(
    built: Built, encode: Callable[[Mapping[str, Any]], Any], batch: Mapping[str, Array], heads: tuple[str, ...]
) -> dict[str, Any]:
    """Return a batch's activations by name."""
    inputs = {
        "input_word_ids": batch["input_ids"],
        "input_mask": batch["attention_mask"],
        "input_type_ids": batch["token_type_ids"],
    }
    found = encode({name: tf.constant(array.astype(np.int32)) for name, array in inputs.items()})
    sequence = found["sequence_output"]
    named = {"embeddings": found["word_embeddings"]}
    named |= {f"layer.{number}": x for number, x in enumerate(found["encoder_outputs"])}
    if "pooler" in heads:
        named["pooler"] = found["pooled_output"] if built.pooler is None else built.pooler(sequence)
    predict = tf.constant(batch["predict"].astype(np.int32))
    return named | {name: head(sequence, named.get("pooler"), predict) for name, head in built.heads.items()}
