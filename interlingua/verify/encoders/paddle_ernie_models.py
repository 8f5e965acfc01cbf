"""ERNIE's own dygraph classes (paddle-ernie 0.2), filled with fluid's variables by ``paddle.load``.

The package runs on Paddle 3 as it is, but for ``from_pretrained``, which gives ``paddle.load`` a ``Path``. It makes a
class of a configuration, loads a state dict and sets the one in the other; the same is done here, so that the
configuration is the one that we write, and what a class did not find is told. A class that is made with the name
``""`` gives its parameters fluid's names; its state dict has the dygraph code's. Both are known here. Only heads were
named anew when fluid was left: see ``Kind``.

* The masked-LM logits leave no module of their own: the class multiplies by the word embedding and hands the product
  to its loss. It is run to its end, with labels of 0, and what the loss is given is kept.
* The pooled output is what the head behind it is given (dropout does nothing here), or what the bare class returns.
* The mask is given, 1 at tokens, so that none is made of the padding token; the class makes -10000 of it, in padding's
  own rows too.
* There is no task embedding and no decoder but the word embedding: a checkpoint that has them is refused.
* Fluid's BERT has the same variables and computes the same, and is run by the same classes.

Source: PaddlePaddle/ERNIE, branch ``develop``, and the package paddle-ernie 0.2.0.dev1: ``ernie/modeling_ernie.py``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import paddle
from paddle.nn import functional

from interlingua.verify.encoders.paddle_files import State, load_state
from interlingua.verify.encoders.paddle_ops import device_name, framework_version, settle
from interlingua.verify.encoders.paddle_recorder import find, recorded
from interlingua.verify.encoders.request import Activations, Array, Ran, Request, UnavailableError

DIALECT = "ernie-fluid"
PACKAGE = "paddle-ernie"


@dataclass(frozen=True, slots=True)
class Kind:
    """A class.

    Attributes:
        suffix: its name, behind ``ErnieModel``.
        heads: its heads -> the linear layer that gives the logits, under whatever name the checkpoint has it; None:
            its layers have fluid's names, and the logits are what the loss is given.
        pooled: the module that is given the pooled output; None: there is none.
    """

    suffix: str = ""
    heads: Mapping[str, str | None] = field(default_factory=dict)
    pooled: str | None = None


BASE = Kind()

KINDS = (
    Kind("ForPretraining", {"masked_lm": None, "next_sentence": "pooler_heads.0.nsp"}, "pooler_heads.0"),
    Kind("ForSequenceClassification", {"sequence_classification": "classifier"}, "classifier"),
    Kind("ForTokenClassification", {"token_classification": "classifier"}),
    Kind("ForQuestionAnswering", {"span_qa": "classifier"}),
)
"""The classes with heads, those with several first."""

UNUSED = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.02}
"""Keys that a class wants of every configuration, and that change nothing of what is computed here."""

OPTIONAL = {"pooler": "pooler.", "next_sentence": "pooler_heads.", "masked_lm": "mlm"}
"""Part of a model -> what the names of its parameters begin with, which a class has whether the checkpoint does or not.
Where it does not, they are random, and nothing that is kept is computed with them."""


def run(request: Request, batches: Mapping[str, Mapping[str, Array]]) -> tuple[Activations, Ran]:
    """Run every batch through the classes that have the checkpoint's heads.

    Raises:
        UnavailableError: the package is not installed, the dialect is another, no class computes with all the tensors,
            the element type is not float32, or Paddle cannot run here (see ``settle``).
    """
    if request.dialect != DIALECT:
        raise UnavailableError(f"{PACKAGE} does not load the names of {request.dialect}")
    if request.dtype != "float32":
        raise UnavailableError(f"{PACKAGE}'s models are run in float32 only, and {request.dtype} is asked for")
    modeling, version = _import()
    kinds = choose(request.heads)
    settings = settle(request)
    state = load_state(request)
    activations: Activations = {}
    loads = []
    with paddle.no_grad():
        for kind in kinds:
            model = _build(request, modeling, kind)
            loads.append(_fill(request, kind, model, state))
            for name, batch in batches.items():
                activations |= {f"{name}/{key}": array for key, array in _forward(request, kind, model, batch).items()}
            del model
    if "masked_lm" in request.heads:
        settings = {**settings, "masked-LM logits": "as they are given to the class's own loss"}
    return activations, Ran(
        reference=f"{PACKAGE} {' and '.join(f'ErnieModel{kind.suffix}' for kind in kinds)}",
        version=version,
        third_party=True,
        framework=framework_version(),
        device=device_name(request),
        settings={**settings, "attention": "written out in the class"},
        missing=sorted({name for load in loads for name in load.missing}),
        unexpected=sorted(frozenset.intersection(*(load.unexpected for load in loads))),
    )


def _import() -> tuple[Any, str]:
    """Return the package's module of classes, and its version.

    Raises:
        UnavailableError: it is not installed: other packages, and ERNIE's checkout, are called ``ernie`` too.
    """
    try:
        version = importlib.metadata.version(PACKAGE)
        return importlib.import_module("ernie.modeling_ernie"), version
    except ImportError as error:
        raise UnavailableError(f"{PACKAGE} is not installed: {error}") from error


def choose(heads: Sequence[str]) -> list[Kind]:
    """Return the classes that have these heads between them; the bare one where none of them shows the pooled output.

    Raises:
        UnavailableError: no class has one of the heads, or its class needs a pooler and there is none.
    """
    wanted = set(heads) - {"pooler"}
    chosen = [kind for kind in KINDS if wanted & set(kind.heads)]
    unknown = wanted - {head for kind in chosen for head in kind.heads}
    if unknown:
        raise UnavailableError(f"{PACKAGE} has no class for {' and '.join(sorted(unknown))}")
    shown = any(kind.pooled for kind in chosen)
    return chosen if chosen and (shown or "pooler" not in heads) else [*chosen, BASE]


# -- building and loading


def _build(request: Request, modeling: Any, kind: Kind) -> Any:
    """Return the class made of our configuration, in evaluation mode.

    Raises:
        UnavailableError: it has no such activation.
    """
    config = {**UNUSED, **request.native_config}
    if config["hidden_act"] not in modeling.ACT_DICT:
        raise UnavailableError(f"{PACKAGE} has no activation {config['hidden_act']}")
    labels = [request.recipes[name].shape[0] for head in kind.heads if (name := f"{head}.weight") in request.recipes]
    if labels:
        config["num_labels"] = labels[0]
    # Paddle lets a parameter's name be used once; each class is to have fluid's.
    with paddle.utils.unique_name.guard():
        model = getattr(modeling, f"ErnieModel{kind.suffix}")(config, name="")
    model.eval()
    return model


@dataclass(frozen=True, slots=True)
class _Load:
    """What a class wanted of the state dict and did not find, and what it did not know."""

    missing: frozenset[str]
    unexpected: frozenset[str]


def _fill(request: Request, kind: Kind, model: Any, state: State) -> _Load:
    """Give the model its tensors; say which it lacks, and which it does not know.

    Raises:
        UnavailableError: it does not compute with one of the tensors that the checkpoint's model is made of, or
            its encoder lacks one.
    """
    own = model.state_dict()
    places = _places(request, kind, own)
    given = {places[native]: tensor.astype("float32") for native, tensor in state.items() if native in places}
    unexpected = frozenset(state) - set(places)
    _check_used(request, kind, unexpected)
    lacking, _ = model.set_state_dict(given)
    for name in sorted(given):
        # Paddle passes over a tensor of another shape with no more than a warning.
        if given[name].shape != own[name].shape or not bool((own[name] == given[name]).all()):
            raise UnavailableError(f"{type(model).__name__} did not take {name}")
    absent = tuple(prefix for head, prefix in OPTIONAL.items() if head not in request.heads)
    missing = frozenset(name for name in lacking if not name.startswith(absent))
    encoder = sorted(name for name in missing if not name.startswith(("mlm", "pooler", "classifier.")))
    if encoder:
        raise UnavailableError(f"{type(model).__name__} does not find {len(encoder)} tensors, {encoder[0]} the first")
    return _Load(missing, unexpected)


def _places(request: Request, kind: Kind, own: Mapping[str, Any]) -> dict[str, str]:
    """Return native name -> the name in the class's state dict: that itself, the parameter's own, or a head's."""
    places = {name: name for name in own} | {tensor.name: name for name, tensor in own.items()}
    for head, module in kind.heads.items():
        for part in ("weight", "bias"):
            recipe = request.recipes.get(f"{head}.{part}")
            if module is not None and recipe is not None:
                places[recipe.pieces[0][0]] = f"{module}.{part}"
    return places


def _check_used(request: Request, kind: Kind, unknown: frozenset[str]) -> None:
    others = (set(request.heads) | {"pooler"}) - set(kind.heads)
    for canonical, recipe in request.recipes.items():
        lacking = {piece[0] for piece in recipe.pieces} & unknown
        if lacking and canonical.partition(".")[0] not in others:
            raise UnavailableError(f"{PACKAGE}'s ErnieModel{kind.suffix} does not compute with {min(lacking)}")


# -- running


def _forward(request: Request, kind: Kind, model: Any, batch: Mapping[str, Array]) -> dict[str, Array]:
    """Return every activation of a batch by its name."""
    heads = {head: find(model, path) for head, path in kind.heads.items() if path is not None and head in request.heads}
    arguments = {
        "src_ids": paddle.to_tensor(batch["input_ids"]),
        "sent_ids": paddle.to_tensor(batch["token_type_ids"]),
        "input_mask": paddle.to_tensor(batch["attention_mask"].astype(np.float32)),
    }
    if "masked_lm" in kind.heads:
        arguments |= _labels(batch["predict"])
    with (
        recorded(list(model.encoder_stack.block), heads, batch["predict"]) as outputs,
        _given(find(model, kind.pooled) if kind.pooled else None) as pooled,
        _losses() as scored,
    ):
        returned = model(**arguments)
    if kind is BASE:
        pooled.append(returned[0])
    if "pooler" in request.heads and pooled:
        outputs["pooler"] = pooled[0].numpy()
    if "masked_lm" in kind.heads and "masked_lm" in request.heads:
        outputs["masked_lm"] = scored[-1].numpy().reshape(*batch["predict"].shape, -1)
    return outputs


def _labels(predict: Array) -> dict[str, Any]:
    """Return what the pretraining class wants beside its inputs: where it predicts, and labels that nobody looks at."""
    rows = np.arange(len(predict))[:, None].repeat(predict.shape[1], axis=1)
    return {
        "mlm_pos": paddle.to_tensor(np.stack([rows, predict], axis=-1).reshape(-1, 2).astype(np.int64)),
        "labels": paddle.zeros([predict.size], "int64"),
        "nsp_labels": paddle.zeros([len(predict), 1], "int64"),
    }


@contextmanager
def _given(module: Any | None) -> Iterator[list[Any]]:
    """Collect what a module is given while it runs."""
    seen: list[Any] = []
    if module is None:
        yield seen
        return
    hook = module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def _losses() -> Iterator[list[Any]]:
    """Collect the logits that a loss is computed of, and let it be computed."""
    seen: list[Any] = []
    compute = functional.cross_entropy

    def keep(logits: Any, *rest: Any, **options: Any) -> Any:
        seen.append(logits)
        return compute(logits, *rest, **options)

    with patch.object(functional, "cross_entropy", keep):
        yield seen
