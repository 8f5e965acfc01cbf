"""mindone's models (0.5), transformers' classes in MindSpore, for checkpoints of MindNLP, whose names they share.

MindNLP itself runs PyTorch's classes by its own replacement of PyTorch, and does not work with today's MindSpore.
The configuration is made of the keys that the request spells, and the weights are what ``mindspore.load_checkpoint``
gives, put in place by ``mindspore.load_param_into_net``.

Sources: mindspore-lab/mindone ``mindone/transformers/models/{bert,ernie,albert,roberta,xlm_roberta,electra,
distilbert}/modeling_*.py`` and ``mindone/transformers/modeling_utils.py``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from interlingua.verify.encoders.mindspore_ops import load_parameters, settle, to_array
from interlingua.verify.encoders.ops import Tensor
from interlingua.verify.encoders.request import Activations, Array, Ran, Request, UnavailableError
from interlingua.verify.encoders.transformers_classes import (
    FAMILIES,
    POOLED_BASE,
    SPAN,
    Kind,
    Models,
    choose,
    lost_heads,
)

DIALECT = "mindnlp"

NATIVE = {"gamma": "weight", "beta": "bias", "embedding_table": "weight"}
"""What MindSpore's own layers call their parameters -> what a checkpoint of MindNLP does."""

BUFFERS = ("position_ids", "token_type_ids")
"""What some classes keep among their parameters, make themselves, and no checkpoint has."""

BROKEN = {"RobertaForMultipleChoice": "it calls Tensor.size, which is a number in MindSpore"}
"""Classes that cannot run, and why."""

POOLERS = ("pooler_activation", "pooler")
"""What the layer is called that gives the pooled output, the first that an encoder has."""


def run(request: Request, batches: Mapping[str, Mapping[str, Array]]) -> tuple[Activations, Ran]:
    """Run every batch in as many classes as the heads need.

    A head of which a class does not find every parameter is not among the activations: ``Ran.missing`` has them.

    Raises:
        UnavailableError: mindone is not installed or has no such family, the dialect's names are not mindone's, the
            encoder's parameters are not in the checkpoint, or MindSpore cannot run here (see ``settle``).
    """
    models = FAMILIES.get(request.family)
    if request.dialect != DIALECT:
        raise UnavailableError(f"mindone does not load the names of {request.dialect}")
    if request.dtype != "float32":
        raise UnavailableError(f"mindone's models are run in float32 only, and {request.dtype} is asked for")
    settings = settle(request)
    package = _import(request)
    if models is None or not hasattr(package, f"{models.prefix}Model"):
        raise UnavailableError(f"mindone has no model of the family {request.family}")
    from interlingua.verify.encoders import mindone_shim

    parameters = load_parameters(request)
    activations: Activations = {}
    names: list[str] = []
    missing: set[str] = set()
    unexpected = set(parameters)
    for kind in choose(models.kinds, request.heads):
        loaded = _load(request, package, models, kind, parameters)
        names.append(type(loaded.model).__name__)
        missing |= loaded.missing
        unexpected &= loaded.unexpected
        runner = _Runner(request, models, kind, loaded)
        for batch, arrays in batches.items():
            for name, array in runner.forward(arrays).items():
                activations.setdefault(f"{batch}/{name}", array)
    if "masked_lm" in request.heads:
        settings = {**settings, "masked-LM bias": "added where mindone's decoder leaves it out"}
    import mindspore

    return activations, Ran(
        reference=f"mindone {' + '.join(names)}",
        version=importlib.metadata.version("mindone"),
        third_party=True,
        framework=f"mindspore {mindspore.__version__}",
        device="cpu",
        settings={**settings, "attention": "eager", "stated anew for the CPU": mindone_shim.REPLACED},
        missing=sorted(missing),
        unexpected=sorted(unexpected),
    )


def _import(request: Request) -> ModuleType:
    """Return mindone's module of the family."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Else transformers 4.57 imports PyTorch and TensorFlow, if they are there, into MindSpore's process.
    os.environ["USE_TF"] = os.environ["USE_TORCH"] = "0"
    from interlingua.verify.encoders import mindone_shim

    mindone_shim.install_functions()
    try:
        import transformers

        transformers.logging.set_verbosity_error()
        mindone_shim.skip_other_models(transformers.__version__)
        utils: Any = importlib.import_module("mindone.transformers.modeling_utils")
        family = request.family.replace("-", "_")
        package = importlib.import_module(f"mindone.transformers.models.{family}.modeling_{family}")
    except ImportError as error:
        raise UnavailableError(f"mindone is not installed, or has no {request.family}: {error}") from error
    mindone_shim.install_layers()
    # Weights are put in right after; random ones need kernels that a CPU does not have.
    utils._init_weights = False
    return package


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model with its weights, and the native names that it did not find, and did not know."""

    model: Any
    missing: frozenset[str]
    unexpected: frozenset[str]


def _load(
    request: Request, package: ModuleType, models: Models, kind: Kind, parameters: Mapping[str, Tensor]
) -> _Loaded:
    import mindspore

    model = _make(request, package, models, kind)
    places = _places(model)
    known = {}
    for native in parameters:
        name = _name_in(places, native, model.base_model_prefix)
        if name is not None:
            known[native] = name
    given = {
        places[name]: mindspore.Parameter(parameters[native].astype(mindspore.float32), name=places[name])
        for native, name in known.items()
    }
    not_given, _ = mindspore.load_param_into_net(model, given, strict_load=True)
    native_of = {own: name for name, own in reversed(places.items())}
    missing = frozenset(native_of[own] for own in not_given if own in native_of)
    inner = f"{model.base_model_prefix}."
    heads = (*models.modules, "pooler.", "classifier.", "qa_outputs.", "sequence_summary.", "pre_classifier.")
    encoder = sorted(name for name in missing if not name.removeprefix(inner).startswith(heads))
    if encoder:
        raise UnavailableError(f"{type(model).__name__} does not find {len(encoder)} tensors, {encoder[0]} the first")
    return _Loaded(model, missing, frozenset(parameters) - known.keys())


def _make(request: Request, package: ModuleType, models: Models, kind: Kind) -> Any:
    """Return a model without its weights."""
    import transformers

    config = getattr(transformers, f"{models.prefix}Config").from_dict(dict(request.native_config))
    config._attn_implementation = "eager"
    if kind is SPAN:
        config.num_labels = 2
    pooler = {} if kind.outputs or models.kinds[-2] is not POOLED_BASE else {"add_pooling_layer": kind.pooled}
    name = f"{models.prefix}{kind.suffix}"
    if name in BROKEN:
        raise UnavailableError(f"mindone's {name} cannot run: {BROKEN[name]}")
    model = getattr(package, name)(config, **pooler)
    model.tie_weights()
    for path, parameter in model.parameters_and_names():
        parameter.name = path
    _use_bias(model)
    return model.set_train(False)


def _use_bias(model: Any) -> None:
    """Have a decoder that was given its bias afterwards add it: ``nn.Dense(has_bias=False)`` does not look at it."""
    from mindspore import ops

    for _, cell in model.cells_and_names():
        if getattr(cell, "has_bias", None) is False and getattr(cell, "bias", None) is not None:
            cell.has_bias, cell.bias_add = True, ops.BiasAdd()


def _places(model: Any) -> dict[str, str]:
    """Return the name that a checkpoint has of each parameter -> MindSpore's; a tied one has several."""
    places = {}
    for prefix, cell in model.cells_and_names():
        for name, parameter in cell.parameters_and_names(expand=False):
            last = name.rpartition(".")[2]
            if last not in BUFFERS:
                places[f"{prefix}.{NATIVE.get(last, last)}".removeprefix(".")] = parameter.name
    return places


def _name_in(places: Mapping[str, str], native: str, prefix: str) -> str | None:
    """Return a native name as the model has it: with the encoder's prefix in front or without."""
    candidates = (native, f"{prefix}.{native}", native.removeprefix(f"{prefix}."))
    return next((name for name in candidates if name in places), None)


class _Runner:
    """A loaded model, and what it is asked for."""

    def __init__(self, request: Request, models: Models, kind: Kind, loaded: _Loaded) -> None:
        self.request, self.kind, self.model = request, kind, loaded.model
        self.lost = lost_heads(models, kind, loaded.missing)
        self.cells = {name.removeprefix(f"{self.model.base_model_prefix}."): cell for name, cell in self._named()}
        self.masked_lm = models.masked_lm

    def _named(self) -> list[tuple[str, Any]]:
        return list(self.model.cells_and_names())

    def forward(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Return hidden states, the pooled output and logits by their names."""
        pooled: list[Tensor] = []
        hooks = []
        if self.kind.pooled:
            pooler = next(self.cells[name] for name in POOLERS if name in self.cells)
            hooks.append(pooler.register_forward_hook(lambda _cell, _inputs, out: pooled.append(out)))
        if "masked_lm" in self.kind.outputs:
            # The class's own forward pass, but for positions that nobody asks for: a vocabulary each.
            entry = self.cells[self.masked_lm]
            hooks.append(entry.register_forward_pre_hook(lambda _cell, inputs: (_at(inputs[0], batch["predict"]),)))
        out = self.model(**self._inputs(batch), output_hidden_states=True, return_dict=True)
        for hook in hooks:
            hook.remove()
        first, *layers = out.hidden_states
        found = {"embeddings": first, **{f"layer.{index}": state for index, state in enumerate(layers)}}
        if self.kind.pooled:
            found["pooler"] = pooled[0]
        for head, fields in self.kind.outputs.items():
            found[head] = _logits(head, [out[name] for name in fields])
        return {name: to_array(value) for name, value in found.items() if name not in self.lost}

    def _inputs(self, batch: Mapping[str, Array]) -> dict[str, Tensor]:
        import mindspore

        names = ["input_ids", "attention_mask"]
        if self.request.family != "distilbert":
            names.append("token_type_ids")
        if self.request.config.get("use_task_id"):
            names.append("task_type_ids")
        # Each row is the one choice of its own question; task types are handed on as they come.
        choices = {*names} - {"task_type_ids"} if "multiple_choice" in self.kind.outputs else set()
        arrays = {name: batch[name][:, None] if name in choices else batch[name] for name in names}
        return {name: mindspore.Tensor(np.ascontiguousarray(ids), mindspore.int32) for name, ids in arrays.items()}


def _at(states: Tensor, where: Array) -> Tensor:
    """Return the hidden states at some positions: [rows, length, hidden], [rows, m] -> [rows, m, hidden]."""
    import mindspore
    from mindspore import ops

    rows, length, width = states.shape
    flat = mindspore.Tensor(where + np.arange(rows)[:, None] * length, mindspore.int32)
    return ops.gather(states.reshape((rows * length, width)), flat, 0)


def _logits(head: str, values: list[Tensor]) -> Tensor:
    from mindspore import ops

    if head == "span_qa":
        return ops.stack(values, axis=-1)
    return values[0].expand_dims(-1) if head == "replaced_token_detection" else values[0]
