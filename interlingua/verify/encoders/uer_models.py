"""The modules of UER-py and of TencentPretrain, whose packages have to be importable (neither is on an index).

A model is built as their ``load_hyperparam`` and ``build_model`` do: their options' defaults, the configuration that
the request spells over them, and the targets whose names the weights have. A fine-tuned model is the same embedding
and encoder with the layers that their ``finetune/run_{classifier,ner,cmrc}.py`` put behind it. What is inside of a
target (it returns a loss) is seen by hooks on its layers.

Sources: dbiir/UER-py ``uer/{opts,model_builder}.py``, ``uer/targets/*.py``, ``finetune/*.py``; Tencent/TencentPretrain
``tencentpretrain/{opts,model_builder}.py``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from interlingua.verify.encoders.request import Activations, Array, Ran, Request, UnavailableError
from interlingua.verify.encoders.torch_ops import device_name, load_state, settle

PACKAGES = {"uer": "uer", "tencentpretrain": "tencentpretrain"}
"""Dialect -> the package that computes it."""

TARGETS = ("mlm", "sp", "cls")
"""Targets that have heads of ours."""

FINE_TUNED = ("output_layer_1", "output_layer_2", "output_layer")
"""Linear layers of the fine-tuned models."""

WORDS, DECODER = "embedding.word.embedding.weight", "target.mlm.linear_2.weight"


def run(request: Request, batches: Mapping[str, Mapping[str, Array]]) -> tuple[Activations, Ran]:
    """Run every batch.

    Raises:
        UnavailableError: the package is not importable, the weights are in a container that PyTorch does not read or
            have the names of an older version of the package, or there is no such device.
    """
    package = _package(request)
    device, settings = settle(request)
    state = load_state(request)
    model = _build(package, request, state)
    missing, unexpected = _load(model, state, request)
    model = model.to(device, getattr(torch, request.dtype)).eval()
    activations: Activations = {}
    for batch, arrays in batches.items():
        found = _Runner(request, model).forward(arrays)
        absent = [head for head in request.heads if head not in found]
        if absent:
            raise UnavailableError(f"{package}'s targets do not have the names that {', '.join(absent)} has here")
        activations |= {f"{batch}/{name}": array for name, array in found.items()}
    ran = Ran(
        reference=f"{package} modules",
        version=_version(package),
        third_party=True,
        framework=f"torch {torch.__version__}",
        device=device_name(device),
        settings={**settings, "attention": "written out"},
        missing=missing,
        unexpected=unexpected,
    )
    return activations, ran


def _package(request: Request) -> str:
    """Return the name of the dialect's package, once it has been imported.

    Raises:
        UnavailableError: it cannot be.
    """
    name = PACKAGES.get(request.dialect)
    if name is None:
        raise UnavailableError(f"UER-py does not load the names of {request.dialect}")
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise UnavailableError(f"the package {name} is not importable: its checkout has to be on the path")
    try:
        # Its modules read a file of the checkout, by a relative path, when they are imported.
        with _inside(Path(found.origin).parent.parent):
            importlib.import_module(f"{name}.model_builder")
            importlib.import_module(f"{name}.opts")
    except (ImportError, OSError) as error:
        raise UnavailableError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
    return name


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Make a folder the working directory for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _version(package: str) -> str:
    """Return the version that the package states, if it does: a checkout has none."""
    return str(getattr(importlib.import_module(package), "__version__", "unversioned checkout"))


def _build(package: str, request: Request, state: Mapping[str, torch.Tensor]) -> Any:
    """Return a model with the targets, or the fine-tuned layers, that the weights have."""
    args = _options(package, request)
    args.target = [target for target in TARGETS if any(name.startswith(f"target.{target}.") for name in state)]
    labels = state.get("target.cls.linear_2.weight")
    if labels is not None:
        args.labels_num = len(labels)
    model = importlib.import_module(f"{package}.model_builder").build_model(args)
    for layer in FINE_TUNED:
        if f"{layer}.weight" in state:
            rows, columns = state[f"{layer}.weight"].shape
            model.add_module(layer, torch.nn.Linear(columns, rows))
    return model


def _options(package: str, request: Request) -> Namespace:
    """Return the package's own defaults with the request's configuration over them."""
    parser = ArgumentParser()
    importlib.import_module(f"{package}.opts").model_opts(parser)
    args = parser.parse_args([])
    # What trains a model is among other options; the sizes have no defaults at all.
    vars(args).update(request.native_config)
    args.tokenizer = Namespace(vocab=range(request.config["vocab_size"]))
    return args


def _load(model: Any, state: Mapping[str, torch.Tensor], request: Request) -> tuple[list[str], list[str]]:
    """Load the weights as the packages do, and return the names that are missing, and those not known.

    Raises:
        UnavailableError: parameters of the encoder have other names in the weights.
    """
    found = model.load_state_dict(dict(state), strict=False)
    words = model.get_parameter(WORDS)
    missing = [name for name in found.missing_keys if name != DECODER or model.get_parameter(DECODER) is not words]
    if not SENTENCES & set(request.heads):
        # A pooler alone comes in the target that it is the first layer of; nobody looks at the second.
        missing = [name for name in missing if not name.startswith(("target.sp.linear_2.", "target.cls.linear_2."))]
    encoder = [name for name in missing if name.startswith(("embedding.", "encoder."))]
    if encoder:
        raise UnavailableError(
            f"{request.dialect}'s modules do not find {len(encoder)} tensors, {encoder[0]} the first: "
            "the names are not those of its present version"
        )
    return missing, list(found.unexpected_keys)


class _Runner:
    """A loaded model, and what it is asked for."""

    def __init__(self, request: Request, model: Any) -> None:
        self.request, self.model = request, model
        self.device = next(model.parameters()).device

    def forward(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Return hidden states, the pooled output and logits by their names."""
        # Segments count from 1; 0 is padding, and that is the mask.
        segments = self._put((batch["token_type_ids"] + 1) * batch["attention_mask"])
        with torch.no_grad():
            states = self._states(self._put(batch["input_ids"]), segments)
            heads = self._targets(states[-1], segments, self._put(batch["predict"])) | self._fine_tuned(states[-1])
        found = {"embeddings": states[0], **{f"layer.{index}": x for index, x in enumerate(states[1:])}}
        found |= {name: x for name, x in heads.items() if name in self.request.heads}
        return {name: x.float().cpu().numpy() for name, x in found.items()}

    def _states(self, ids: torch.Tensor, segments: torch.Tensor) -> list[torch.Tensor]:
        """Return the first layer's input and each layer's output; layers that share weights are one module."""
        encoder = self.model.encoder
        layers = [encoder.transformer] if encoder.parameter_sharing else list(encoder.transformer)
        states: list[torch.Tensor] = []

        def entered(_layer: Any, args: tuple[torch.Tensor, ...]) -> None:
            if not states:
                states.append(args[0])

        hooks = [layers[0].register_forward_pre_hook(entered)]
        hooks += [layer.register_forward_hook(lambda _layer, _args, out: states.append(out[0])) for layer in layers]
        encoder(self.model.embedding(ids, segments), segments)
        for hook in hooks:
            hook.remove()
        return states

    def _targets(self, x: torch.Tensor, segments: torch.Tensor, where: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the logits of the pretraining targets, and what ``sp`` or ``cls`` pools."""
        target, found = self.model.target, {}
        if hasattr(target, "mlm"):
            chosen = torch.take_along_dim(x, where[..., None], dim=1)
            with _seen(target.mlm.linear_2) as seen:
                target.mlm(chosen, torch.ones_like(where), segments)
            found["masked_lm"] = seen[1].reshape(*where.shape, -1)
        for name in ("sp", "cls"):
            if hasattr(target, name):
                module = getattr(target, name)
                with _seen(module.linear_2) as seen:
                    module(x, torch.zeros(len(x), dtype=torch.long, device=self.device), segments)
                found["pooler"], logits = seen
                found |= dict.fromkeys(SENTENCE_HEADS[name], logits)
        return found

    def _fine_tuned(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what the fine-tuned models compute of the last hidden state."""
        found = {}
        if hasattr(self.model, "output_layer_1"):
            found["pooler"] = torch.tanh(self.model.output_layer_1(x[:, 0]))
            found["sequence_classification"] = self.model.output_layer_2(found["pooler"])
        if hasattr(self.model, "output_layer"):
            found |= dict.fromkeys(("token_classification", "span_qa"), self.model.output_layer(x))
        return found

    def _put(self, ids: Array) -> torch.Tensor:
        return torch.tensor(ids, device=self.device)


SENTENCE_HEADS = {"sp": ("next_sentence", "sentence_order"), "cls": ("sequence_classification",)}
"""Target -> the heads that it may be, of which a family has one."""

SENTENCES = frozenset(head for heads in SENTENCE_HEADS.values() for head in heads)
"""Heads that are computed from the pooled output."""


@contextmanager
def _seen(layer: Any) -> Iterator[list[torch.Tensor]]:
    """Collect a layer's input and its output while it runs."""
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda _layer, args, out: seen.extend((args[0], out)))
    try:
        yield seen
    finally:
        hook.remove()
