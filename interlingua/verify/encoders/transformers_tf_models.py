"""transformers' Keras classes (4.x, before they were given up), on checkpoints of their own: dialect ``hf-tf``.

A class is made from the configuration that the request states and filled by transformers' own loader. Hidden states
are what its main layer hands to the head; the head of a masked LM gets the predicted positions alone.

Sources: huggingface/transformers 4.57.1 ``src/transformers/modeling_tf_utils.py`` (load_tf_weights and its like),
``models/{bert,albert,roberta,xlm_roberta,electra,distilbert}/modeling_tf_*.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from interlingua.verify.encoders.request import Activations, Array, Ran, Request, UnavailableError
from interlingua.verify.encoders.tensorflow_device import (
    device_name,
    framework,
    import_framework,
    settle,
    tf,
    to_numpy,
)
from interlingua.verify.encoders.tensorflow_files import files

PREFIXES = {
    "bert": "Bert",
    "albert": "Albert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "electra": "Electra",
    "distilbert": "DistilBert",
}
"""Family -> what its classes begin with."""

Outputs = Mapping[str, str]
"""Head -> the field of a class's output that its logits are."""

PRETRAINING: Mapping[str, Outputs] = {
    "bert": {"masked_lm": "prediction_logits", "next_sentence": "seq_relationship_logits"},
    "albert": {"masked_lm": "prediction_logits", "sentence_order": "sop_logits"},
    "electra": {"replaced_token_detection": "logits"},
}
"""What ``ForPreTraining`` has, by family."""

TASKS: Mapping[str, Outputs] = {
    "ForMaskedLM": {"masked_lm": "logits"},
    "ForNextSentencePrediction": {"next_sentence": "logits"},
    "ForSequenceClassification": {"sequence_classification": "logits"},
    "ForTokenClassification": {"token_classification": "logits"},
    "ForQuestionAnswering": {"span_qa": "start_logits"},
    "ForMultipleChoice": {"multiple_choice": "logits"},
}
"""What every other class has."""

ON_POOLER = ("ForPreTraining", "ForNextSentencePrediction", "ForSequenceClassification", "ForMultipleChoice")
POOLED = {
    "bert": ON_POOLER,
    "albert": ON_POOLER,
    "roberta": ("ForMultipleChoice",),
    "xlm-roberta": ("ForMultipleChoice",),
}
"""Family -> endings of its classes whose heads stand on a pooler; the base class has one besides."""

LM_HEADS = ("mlm", "lm_head", "predictions", "generator_predictions", "vocab_transform")
"""The first layer of a masked LM's head, as one class or another calls it."""

LABELLED = ("sequence_classification.bias", "sequence_classification.output.bias", "token_classification.bias")
"""Tensors that have as many rows as there are labels."""

LOADERS = {
    "keras-hdf5": ("load_tf_weights_from_h5", "load_tf_sharded_weights"),
    "safetensors": ("load_tf_weights_from_safetensors", "load_tf_sharded_weights_from_safetensors"),
}
"""Container -> the functions that load one file, and shards."""

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def run(request: Request, batches: Mapping[str, Mapping[str, Array]]) -> tuple[Activations, Ran]:
    """Run every batch through the classes that have the checkpoint's heads between them.

    Raises:
        UnavailableError: transformers has no Keras classes any more, or none of these heads; or there is no device.
    """
    transformers = _import_transformers()
    names = choose(request.family, request.heads)
    settings = settle(request)
    _legacy_keras().mixed_precision.set_global_policy(request.dtype)
    activations: Activations = {}
    missing: list[set[str]] = []
    unexpected: list[set[str]] = []
    for name in names:
        model = _make(transformers, name, request)
        lacking, unknown = _load(model, request)
        missing.append(lacking)
        unexpected.append(unknown)
        watched = _Watched(model, outputs_of(request.family, name), "pooler" in request.heads)
        for batch, arrays in batches.items():
            for key, value in watched.forward(arrays).items():
                activations.setdefault(f"{batch}/{key}", value)
    return activations, Ran(
        reference=f"transformers {', '.join(names)}",
        version=transformers.__version__,
        third_party=True,
        framework=framework(),
        device=device_name(request),
        settings={**settings, "attention": "eager", "Keras": f"tf-keras {_legacy_keras().__version__}"},
        missing=sorted(set().union(*missing)),
        unexpected=sorted(set.intersection(*unexpected)),
    )


def choose(family: str, heads: Sequence[str]) -> list[str]:
    """Return the classes that have a model's heads between them, and no other head; the base class for none.

    Raises:
        UnavailableError: there are no such classes.
    """
    if family not in PREFIXES:
        raise UnavailableError(f"transformers has no Keras classes of {family}")
    wanted = set(heads) - {"pooler"}
    chosen = []
    for suffix in ("ForPreTraining", *TASKS):
        outputs = outputs_of(family, suffix)
        if outputs and wanted.issuperset(outputs):
            chosen.append(f"TF{PREFIXES[family]}{suffix}")
            wanted -= outputs.keys()
    if wanted:
        raise UnavailableError(f"transformers has no Keras class of {family} with {', '.join(sorted(wanted))} alone")
    if not chosen or ("pooler" in heads and not any(name.endswith(POOLED.get(family, ())) for name in chosen)):
        chosen.append(f"TF{PREFIXES[family]}Model")
    return chosen


def outputs_of(family: str, name: str) -> Outputs:
    """Return the heads of a class, by its name or by what that ends in."""
    if name.endswith("ForPreTraining"):
        return PRETRAINING.get(family, {})
    return next((outputs for suffix, outputs in TASKS.items() if name.endswith(suffix)), {})


def _import_transformers() -> Any:
    """Import it with TensorFlow in sight and Keras 2, which its classes are made of.

    Raises:
        UnavailableError: it is not installed, or has no Keras classes any more.
    """
    try:
        transformers = import_framework("transformers", USE_TF="1", TF_USE_LEGACY_KERAS="1")
        _legacy_keras()
    except ImportError as error:
        raise UnavailableError(f"{error.name or error} is not installed") from error
    if int(transformers.__version__.partition(".")[0]) > 4:
        raise UnavailableError(f"transformers {transformers.__version__} has no Keras classes any more")
    transformers.utils.logging.set_verbosity_error()
    return transformers


def _legacy_keras() -> Any:
    return import_framework("tf_keras")


def _make(transformers: Any, name: str, request: Request) -> Any:
    """Make a model of the request's configuration alone, its variables not yet loaded."""
    config = getattr(transformers, f"{PREFIXES[request.family]}Config").from_dict(dict(request.native_config))
    labels = [recipe.shape[0] for tensor, recipe in request.recipes.items() if tensor in LABELLED]
    if labels and labels[0] != config.num_labels:
        config.num_labels = labels[0]
    # Not asked for in calls: RoBERTa's multiple choice hands its arguments on by positions that are others'.
    config.output_hidden_states = True
    model = getattr(transformers, name)(config)
    model.build_in_name_scope()
    return model


def _load(model: Any, request: Request) -> tuple[set[str], set[str]]:
    """Fill a model's variables by transformers' own loader; return what the file lacks, and what the model does.

    Raises:
        UnavailableError: there is no loader of the container, or the class has a pooler and the checkpoint none.
    """
    loaders = import_framework("transformers.modeling_tf_utils")
    container, *others = set(request.container.split("+"))
    if others or container not in LOADERS:
        raise UnavailableError(f"transformers' Keras classes do not load {request.container}")
    one, many = LOADERS[container]
    paths = [str(path) for path in files(request.weights)]
    if request.weights.endswith(".index.json"):
        missing, unexpected, _ = getattr(loaders, many)(model, paths)
    else:
        missing, unexpected, _ = getattr(loaders, one)(model, paths[0])
    # Dropouts among the model's layers: they have no weights, and numbers that no file repeats.
    missing = set(missing) - {layer.name for layer in model.layers if not layer.weights}
    if "pooler" not in request.heads and any("pooler" in name for name in missing):
        if not type(model).__name__.endswith("Model"):
            raise UnavailableError(f"the head of {type(model).__name__} has a pooler, which the checkpoint has not")
        missing = {name for name in missing if "pooler" not in name}
    return missing, set(unexpected)


class _Watched:
    """A model whose main layer's output is kept, and whose masked LM gets the predicted positions alone.

    Args:
        model: the model, its variables loaded.
        outputs: the heads that it has.
        pooled: whether the checkpoint has a pooler.
    """

    def __init__(self, model: Any, outputs: Outputs, pooled: bool) -> None:
        self._model, self._outputs, self._pooled = model, outputs, pooled
        self._main: Any = None
        self._predict: Any = None
        main = getattr(model, model.base_model_prefix)
        main.call = self._keeping(main.call)
        if "masked_lm" in outputs:
            first = next(getattr(model, name) for name in LM_HEADS if hasattr(model, name))
            first.call = self._narrowed(first.call)

    def _keeping(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def keep(*args: Any, **kwargs: Any) -> Any:
            self._main = call(*args, **kwargs)
            return self._main

        return keep

    def _narrowed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def narrow(hidden: Any, *args: Any, **kwargs: Any) -> Any:
            return call(tf.gather(hidden, self._predict, batch_dims=1), *args, **kwargs)

        return narrow

    def forward(self, batch: Mapping[str, Array]) -> Activations:
        """Return a batch's activations by name."""
        self._predict = tf.constant(batch["predict"])
        given = {name: batch[name] for name in INPUTS}
        if self._model.base_model_prefix == "distilbert":
            del given["token_type_ids"]
        if "multiple_choice" in self._outputs:
            given = {name: array[:, None] for name, array in given.items()}
        tensors = {name: tf.constant(array) for name, array in given.items()}
        found = self._model(**tensors, return_dict=True, training=False)
        first, *layers = self._main.hidden_states
        named = {"embeddings": first, **{f"layer.{number}": x for number, x in enumerate(layers)}}
        if self._pooled and self._main.get("pooler_output") is not None:
            named["pooler"] = self._main.pooler_output
        for head, field in self._outputs.items():
            named[head] = self._logits(head, field, found)
        return {name: to_numpy(x) for name, x in named.items()}

    def _logits(self, head: str, field: str, found: Any) -> Any:
        if head == "span_qa":
            return tf.stack([found.start_logits, found.end_logits], axis=-1)
        return found[field][..., None] if head == "replaced_token_detection" else found[field]
