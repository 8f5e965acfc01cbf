"""PaddleNLP's own classes (2.8), made of a configuration that we write and filled by ``paddle.load``.

``from_pretrained`` is not used: it reads whatever ``config.json`` lies beside the weights. A class that is built and
then given a state dict computes the same; its epsilons come from ``_init_weights``, which runs while it is built.
What the classes do that their outputs would not show:

* Hidden states are taken where they pass from layer to layer, logits where the head's last module leaves them. So
  ``AlbertForQuestionAnswering``, which gives the start's logits for the end's too, and ``ElectraDiscriminator``, which
  squeezes every axis of length 1, are compared by what they compute, not by how they return it.
* ERNIE's classes with heads know no task ids; they are handed to the encoder inside, which does.
* The mask is given, 1 at tokens, so that none is made of the padding token. RoBERTa's positions are counted from it.
* A pooler is built into many classes that do not need it; it is random where the checkpoint has none.

Source: PaddlePaddle/PaddleNLP 2.8.1 ``paddlenlp/transformers/{bert,ernie,ernie_gram,albert,roberta,nezha,electra,
distilbert}/modeling.py``.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import paddle

from interlingua.verify.encoders.paddle_files import State, load_state
from interlingua.verify.encoders.paddle_ops import device_name, framework_version, settle
from interlingua.verify.encoders.paddle_recorder import find, recorded
from interlingua.verify.encoders.request import Activations, Array, Ran, Request, UnavailableError

os.environ.setdefault("USE_TF", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@dataclass(frozen=True, slots=True)
class Kind:
    """A class with heads.

    Attributes:
        suffix: its name, behind the family's.
        heads: head -> the module that gives its logits; ``""`` is the class itself.
    """

    suffix: str
    heads: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Classes:
    """A family's classes.

    Attributes:
        package: ``paddlenlp.transformers.{package}``.
        prefix: what the names of its classes begin with.
        base: the attribute under which a class with heads has the encoder.
        kinds: the classes with heads, those with several first.
        layers: where the encoder has its layers.
        pooler: the module of the encoder that gives the pooled output; None: there is none.
        pooled: heads that compute from the pooled output.
        has_types: whether it takes token types.
    """

    package: str
    prefix: str
    base: str
    kinds: tuple[Kind, ...]
    layers: str = "encoder.layers"
    pooler: str | None = "pooler"
    pooled: frozenset[str] = frozenset(
        {"next_sentence", "sentence_order", "sequence_classification", "multiple_choice"}
    )
    has_types: bool = True


SEQUENCE = Kind("ForSequenceClassification", {"sequence_classification": "classifier"})
TOKENS = Kind("ForTokenClassification", {"token_classification": "classifier"})
SPAN = Kind("ForQuestionAnswering", {"span_qa": "classifier"})
CHOICE = Kind("ForMultipleChoice", {"multiple_choice": "classifier"})
PRETRAINING = Kind("ForPretraining", {"masked_lm": "cls.predictions", "next_sentence": "cls.seq_relationship"})
MASKED_LM = Kind("ForMaskedLM", {"masked_lm": "cls.predictions"})

_BERT = (PRETRAINING, MASKED_LM, SEQUENCE, TOKENS, SPAN, CHOICE)

FAMILIES = {
    "bert": Classes("bert", "Bert", "bert", _BERT),
    "ernie": Classes("ernie", "Ernie", "ernie", _BERT),
    "ernie-gram": Classes("ernie_gram", "ErnieGram", "ernie_gram", (SEQUENCE, TOKENS, SPAN)),
    "nezha": Classes("nezha", "NeZha", "nezha", (PRETRAINING, SEQUENCE, TOKENS, SPAN, CHOICE), "encoder.layer"),
    "albert": Classes(
        "albert",
        "Albert",
        "transformer",
        (
            Kind("ForPretraining", {"masked_lm": "predictions", "sentence_order": "sop_classifier"}),
            Kind("ForMaskedLM", {"masked_lm": "predictions"}),
            SEQUENCE,
            TOKENS,
            Kind("ForQuestionAnswering", {"span_qa": "qa_outputs"}),
            CHOICE,
        ),
        "encoder.albert_layer_groups",
        "pooler_activation",
    ),
    "roberta": Classes(
        "roberta",
        "Roberta",
        "roberta",
        (Kind("ForMaskedLM", {"masked_lm": "lm_head"}), SEQUENCE, TOKENS, SPAN, CHOICE),
        pooled=frozenset({"multiple_choice"}),
    ),
    "electra": Classes(
        "electra",
        "Electra",
        "electra",
        (
            Kind("Discriminator", {"replaced_token_detection": "discriminator_predictions.dense_prediction"}),
            Kind("Generator", {"masked_lm": ""}),
            SEQUENCE,
            TOKENS,
            SPAN,
            CHOICE,
        ),
        pooler=None,
        pooled=frozenset(),
    ),
    "distilbert": Classes(
        "distilbert",
        "DistilBert",
        "distilbert",
        (Kind("ForMaskedLM", {"masked_lm": "vocab_projector"}), SEQUENCE, TOKENS, SPAN),
        pooler=None,
        pooled=frozenset(),
        has_types=False,
    ),
}
"""Family -> its classes."""

BASE = Kind("Model", {})
TWO = frozenset({"next_sentence", "sentence_order", "span_qa"})
"""Heads of two rows, which some classes size by the number of labels."""

RELATIVE = "embeddings.rel_pos_embeddings.weight"
COUNTED = "position_ids"
"""End of the name of a buffer that the classes count anew."""


def run(request: Request, batches: Mapping[str, Mapping[str, Array]]) -> tuple[Activations, Ran]:
    """Run every batch through the classes that have the checkpoint's heads.

    Raises:
        UnavailableError: PaddleNLP has no such class, its class does not compute with all the tensors, or there are no
            kernels for the device and element type.
    """
    if request.dialect != "paddle" or request.family not in FAMILIES:
        raise UnavailableError(f"PaddleNLP has no {request.family} of the dialect {request.dialect}")
    version = importlib.import_module("paddlenlp").__version__
    importlib.import_module("paddlenlp.utils.log").logger.set_level("ERROR")
    classes = FAMILIES[request.family]
    kinds = choose(classes, request.heads)
    settings = settle(request)
    try:
        with paddle.no_grad():
            activations, loads = _run_all(request, batches, kinds, load_state(request))
    finally:
        paddle.set_default_dtype("float32")
    ran = Ran(
        reference=f"PaddleNLP {' and '.join(f'{classes.prefix}{kind.suffix}' for kind in kinds)}",
        version=version,
        third_party=True,
        framework=framework_version(),
        device=device_name(request),
        settings={**settings, "attention": "unfused (paddle.nn.MultiHeadAttention or the class's own)"},
        missing=sorted({name for load in loads for name in load.missing}),
        unexpected=sorted(set.intersection(*(set(load.unexpected) for load in loads))),
    )
    return activations, ran


def choose(classes: Classes, heads: Sequence[str]) -> list[Kind]:
    """Return the classes that have these heads between them and no other, the base model where there are none.

    Raises:
        UnavailableError: no class has one of the heads without another that the checkpoint lacks.
    """
    wanted = set(heads) - {"pooler"}
    chosen: list[Kind] = []
    for kind in classes.kinds:
        if wanted & set(kind.heads) and set(kind.heads) <= set(heads):
            chosen.append(kind)
            wanted -= set(kind.heads)
    if wanted:
        raise UnavailableError(f"PaddleNLP has no {classes.prefix} class for {' and '.join(sorted(wanted))} alone")
    if "pooler" not in heads and any(set(kind.heads) & classes.pooled for kind in chosen):
        raise UnavailableError(f"PaddleNLP's {classes.prefix}{chosen[0].suffix} needs a pooler, and there is none")
    built_in = any(set(kind.heads) & classes.pooled for kind in chosen) or classes.package != "roberta"
    if not chosen or ("pooler" in heads and not built_in):
        chosen.append(BASE)
    return chosen


@dataclass(slots=True)
class _Load:
    """What a class wanted of the state dict and did not find, and what it did not know."""

    missing: list[str]
    unexpected: list[str]


def _run_all(
    request: Request, batches: Mapping[str, Mapping[str, Array]], kinds: Sequence[Kind], state: State
) -> tuple[Activations, list[_Load]]:
    activations: Activations = {}
    loads = []
    for kind in kinds:
        model = _build(request, kind)
        loads.append(_fill(request, kind, model, state))
        for name, batch in batches.items():
            try:
                found = _forward(request, kind, model, batch)
            except Exception as error:  # Of an element type without a kernel Paddle raises many things.
                if request.dtype == "float32":
                    raise
                raise UnavailableError(f"{type(model).__name__} does not run in {request.dtype}: {error}") from error
            activations |= {f"{name}/{key}": array for key, array in found.items()}
        del model
    return activations, loads


# -- building and loading


def _build(request: Request, kind: Kind) -> Any:
    """Return the class made of our configuration, in evaluation mode."""
    classes = FAMILIES[request.family]
    package = f"paddlenlp.transformers.{classes.package}"
    config_class = getattr(importlib.import_module(f"{package}.configuration"), f"{classes.prefix}Config")
    model_class = getattr(importlib.import_module(f"{package}.modeling"), f"{classes.prefix}{kind.suffix}")
    # Each row of a batch is a choice of its own.
    values = {**request.native_config, "num_choices": 1}
    if TWO & set(kind.heads):
        values = {key: value for key, value in values.items() if key not in ("id2label", "label2id")}
        values["num_labels"] = 2
    if RELATIVE in request.recipes:
        values["rel_pos_size"] = request.recipes[RELATIVE].shape[0]
    model = model_class(config_class(**values))
    model.eval()
    return model


def _fill(request: Request, kind: Kind, model: Any, state: State) -> _Load:
    """Give the model its tensors; say which it lacks, and which it does not know.

    Raises:
        UnavailableError: it does not compute with one of the tensors that the checkpoint's model is made of, or takes
            two for one that differ.
    """
    base = f"{FAMILIES[request.family].base}."
    own = model.state_dict()
    names = {_name_in(native, own, base): native for native in state}
    given = {
        ours: state[native].astype(tensor.dtype)
        for ours, native in names.items()
        if (tensor := own.get(ours)) is not None
    }
    model.set_state_dict(given)
    for name, tensor in given.items():
        if not bool((own[name] == tensor).all()):
            raise UnavailableError(f"{type(model).__name__} shares {name} with another tensor, which is not the same")
    unexpected = [native for ours, native in names.items() if ours not in own]
    _check_used(request, kind, model, set(unexpected))
    filled = {id(own[name]) for name in given}
    missing = [name for name, tensor in own.items() if id(tensor) not in filled and not name.endswith(COUNTED)]
    if "pooler" not in request.heads:
        missing = [name for name in missing if not name.startswith((f"{base}pooler", "pooler"))]
    return _Load(missing, unexpected)


def _name_in(native: str, own: Mapping[str, Any], base: str) -> str:
    """Return a native name as the class has it, which may have the encoder's prefix or be the encoder itself."""
    return next((name for name in (native, native.removeprefix(base), base + native) if name in own), native)


def _check_used(request: Request, kind: Kind, model: Any, unknown: set[str]) -> None:
    others = (set(request.heads) | {"pooler"}) - set(kind.heads)
    for canonical, recipe in request.recipes.items():
        lacking = {piece[0] for piece in recipe.pieces} & unknown
        if lacking and canonical.partition(".")[0] not in others:
            raise UnavailableError(f"{type(model).__name__} does not compute with {min(lacking)}")


# -- running


def _forward(request: Request, kind: Kind, model: Any, batch: Mapping[str, Array]) -> dict[str, Array]:
    """Return every activation of a batch by its name."""
    classes = FAMILIES[request.family]
    encoder = model if kind is BASE else getattr(model, classes.base)
    heads = {head: find(model, path) for head, path in kind.heads.items()}
    if "pooler" in request.heads and classes.pooler and getattr(encoder, classes.pooler, None) is not None:
        heads["pooler"] = find(encoder, classes.pooler)
    with (
        recorded(list(find(encoder, classes.layers)), heads, batch["predict"]) as outputs,
        _task_ids(request, encoder, batch["task_type_ids"]),
    ):
        model(**_inputs(request, kind, batch))
    return outputs


def _inputs(request: Request, kind: Kind, batch: Mapping[str, Array]) -> dict[str, Any]:
    """Return the arguments; a multiple choice takes [rows, choices, length]."""
    names = ("input_ids", "token_type_ids", "attention_mask")
    arrays = {name: batch[name] for name in names if name != "token_type_ids" or FAMILIES[request.family].has_types}
    if "multiple_choice" in kind.heads:
        arrays = {name: array[:, None] for name, array in arrays.items()}
    return {name: paddle.to_tensor(array) for name, array in arrays.items()}


@contextmanager
def _task_ids(request: Request, encoder: Any, ids: Array) -> Iterator[None]:
    """Hand task ids to an encoder that knows them, whichever class calls it."""
    if not request.native_config.get("use_task_id"):
        yield
        return
    encoder.forward = functools.partial(encoder.forward, task_type_ids=paddle.to_tensor(ids))
    try:
        yield
    finally:
        del encoder.forward
