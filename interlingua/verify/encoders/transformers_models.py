"""Hugging Face transformers' own models in PyTorch, loaded by its own ``from_pretrained`` (4.56 and newer, 5.x).

The configuration is made of the keys that the request spells, the weights are what PyTorch's or safetensors' own
loader gives; no file of the checkpoint but its weights is opened. Where no class has all heads of a checkpoint,
several classes run, and each says what it computes.

Sources: huggingface/transformers ``src/transformers/models/{bert,ernie,albert,roberta,xlm_roberta,electra,distilbert}/
modeling_*.py`` and, up to 4.57, ``models/deprecated/nezha/modeling_nezha.py``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from interlingua.verify.encoders.request import Activations, Array, Ran, Request, UnavailableError
from interlingua.verify.encoders.torch_ops import device_name, load_state, settle
from interlingua.verify.encoders.transformers_classes import (
    FAMILIES,
    POOLED_BASE,
    SPAN,
    Kind,
    Models,
    choose,
    lost_heads,
)

os.environ.setdefault("HF_HUB_OFFLINE", "1")

DIALECTS = ("hf", "sentence-transformers")
"""Dialects whose weights have the names of transformers' modules, and whose configuration has its keys."""


BIASES = {f"{module}.decoder.bias": f"{module}.bias" for module in ("cls.predictions", "predictions", "lm_head")}
"""The masked-LM bias by the name under which 5.x computes with it -> that under which older versions saved it alone.

Where the decoder is not tied, 5.x takes the two for different parameters, and zeros for the one that is not there.
"""


def run(request: Request, batches: Mapping[str, Mapping[str, Array]]) -> tuple[Activations, Ran]:
    """Run every batch in as many classes as the heads need.

    A head of which a class does not find every parameter is not among the activations: ``Ran.missing`` has them.

    Raises:
        UnavailableError: transformers is not installed or has no such family, a parameter of the encoder is not
            found under its name, the weights are in a container that PyTorch does not read, or there is no such device.
    """
    models = _models(request)
    device, settings = settle(request)
    state = load_state(request)
    activations: Activations = {}
    names, missing, unexpected = [], set(), set(state)
    for kind in choose(models.kinds, request.heads):
        model, lacking, unknown = _load(request, models, kind, state)
        twice = {name: state[BIASES[name]] for name in lacking if BIASES.get(name) in state}
        if twice:
            settings["masked-LM bias"] = f"given as {', '.join(twice)} too, where this version looks for it"
            model, lacking, unknown = _load(request, models, kind, {**state, **twice})
        names.append(type(model).__name__)
        missing |= lacking
        unexpected &= unknown
        found = _Runner(request, models, kind, model.to(device), lost_heads(models, kind, lacking))
        for batch, arrays in batches.items():
            for name, array in found.forward(arrays).items():
                activations.setdefault(f"{batch}/{name}", array)
    import transformers

    ran = Ran(
        reference=f"transformers {' + '.join(names)}",
        version=transformers.__version__,
        third_party=True,
        framework=f"torch {torch.__version__}",
        device=device_name(device),
        settings={**settings, "attention": "eager"},
        missing=sorted(missing),
        unexpected=sorted(unexpected),
    )
    return activations, ran


def _models(request: Request) -> Models:
    if request.dialect not in DIALECTS:
        raise UnavailableError(f"transformers does not load the names of {request.dialect}")
    try:
        import transformers
    except ImportError as error:
        raise UnavailableError(f"transformers is not installed: {error}") from error
    models = FAMILIES.get(request.family)
    if models is None or getattr(transformers, f"{models.prefix}Model", None) is None:
        raise UnavailableError(f"transformers {transformers.__version__} has no model of the family {request.family}")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return models


def _load(
    request: Request, models: Models, kind: Kind, state: Mapping[str, torch.Tensor]
) -> tuple[Any, set[str], set[str]]:
    """Return a model with the weights, the names of parameters not found, and those of tensors not known."""
    import transformers

    config = getattr(transformers, f"{models.prefix}Config").from_dict(dict(request.native_config))
    if kind is SPAN:
        config.num_labels = 2
    pooler = {} if kind.outputs or models.kinds[-2] is not POOLED_BASE else {"add_pooling_layer": kind.pooled}
    try:
        model, info = getattr(transformers, f"{models.prefix}{kind.suffix}").from_pretrained(
            None,
            config=config,
            state_dict=dict(state),
            dtype=getattr(torch, request.dtype),
            attn_implementation="eager",
            output_loading_info=True,
            **pooler,
        )
    except ValueError as error:
        # Before 5.x, a model with a head whose encoder's names lack the prefix.
        raise UnavailableError(f"{models.prefix}{kind.suffix} does not load these names: {error}") from error
    missing = {str(name) for name in info["missing_keys"]}
    heads = (*models.modules, "pooler.", "classifier.", "qa_outputs.", "sequence_summary.", "pre_classifier.")
    encoder = sorted(name for name in missing if not name.removeprefix(f"{model.base_model_prefix}.").startswith(heads))
    if encoder:
        raise UnavailableError(f"{type(model).__name__} does not find {len(encoder)} tensors, {encoder[0]} the first")
    return model.eval(), missing, {str(name) for name in info["unexpected_keys"]}


class _Runner:
    """A loaded model, and what it is asked for."""

    def __init__(self, request: Request, models: Models, kind: Kind, model: Any, lost: frozenset[str]) -> None:
        self.request, self.models, self.kind, self.model, self.lost = request, models, kind, model, lost
        self.device = next(model.parameters()).device

    def forward(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Return hidden states, the pooled output and logits by their names."""
        pooled: list[torch.Tensor] = []
        hooks = [self._encoder().register_forward_hook(lambda _module, _args, out: _keep(pooled, out))]
        if "masked_lm" in self.kind.outputs:
            # The class's own forward pass, but for positions that nobody asks for: a vocabulary each.
            where = self._put(batch["predict"])
            entry = self.model.get_submodule(self.models.masked_lm)
            hooks.append(entry.register_forward_pre_hook(lambda _module, args: (_at(args[0], where), *args[1:])))
        with torch.no_grad():
            out = self.model(**self._inputs(batch), output_hidden_states=True, return_dict=True)
        for hook in hooks:
            hook.remove()
        first, *layers = out.hidden_states
        found = {"embeddings": first, **{f"layer.{index}": state for index, state in enumerate(layers)}}
        if self.kind.pooled:
            found["pooler"] = pooled[0]
        for head, fields in self.kind.outputs.items():
            found[head] = _logits(head, [out[name] for name in fields])
        kept = {name: value for name, value in found.items() if name not in self.lost}
        return {name: value.float().cpu().numpy() for name, value in kept.items()}

    def _encoder(self) -> Any:
        return getattr(self.model, self.model.base_model_prefix, self.model)

    def _inputs(self, batch: Mapping[str, Array]) -> dict[str, torch.Tensor]:
        names = ["input_ids", "attention_mask"]
        if self.request.family != "distilbert":
            names.append("token_type_ids")
        if self.request.config.get("use_task_id"):
            names.append("task_type_ids")
        inputs = {name: self._put(batch[name]) for name in names}
        if "multiple_choice" not in self.kind.outputs:
            return inputs
        # Each row is the one choice of its own question. ErnieForMultipleChoice hands task types on as they come.
        return {name: ids if name == "task_type_ids" else ids[:, None] for name, ids in inputs.items()}

    def _put(self, ids: Array) -> torch.Tensor:
        return torch.tensor(ids, device=self.device)


def _keep(pooled: list[torch.Tensor], out: Any) -> None:
    """Keep an encoder's pooled output, where it has one."""
    value = getattr(out, "pooler_output", None)
    if value is not None:
        pooled.append(value)


def _at(states: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Return the hidden states at some positions: [rows, length, hidden], [rows, m] -> [rows, m, hidden]."""
    return torch.take_along_dim(states, where[..., None], dim=1)


def _logits(head: str, values: Sequence[torch.Tensor]) -> torch.Tensor:
    if head == "span_qa":
        return torch.stack(list(values), dim=-1)
    return values[0][..., None] if head == "replaced_token_detection" else values[0]
