"""Keras' older layout of HDF5: ``tf_model.h5``, ``save_weights("x.h5")``, whole models of ``model.save("x.h5")``.

A group (the root, or ``model_weights`` in a whole model) has the attribute ``layer_names``; each layer is a group under
it with the attribute ``weight_names``; a weight is the dataset ``<layer>/<weight name>``. A list of names that HDF5
cannot keep in one attribute is cut into ``layer_names0``, ``layer_names1`` ... Weights of the model itself, and the
optimizer's, have groups of their own. In the shards of ``tf_model.h5.index.json``, ``layer_names`` lists the datasets.

A tensor's name is its path below that group: ``bert/tf_bert_model/bert/pooler/dense/kernel:0``.

Source: keras-team/tf-keras: tf_keras/src/saving/legacy/hdf5_format.py; keras-team/keras:
keras/src/legacy/saving/legacy_h5_format.py; shards: huggingface/transformers v4: src/transformers/modeling_tf_utils.py.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from interlingua.errors import FormatError, MappingError
from interlingua.formats.base import TensorSpec, refuse_dtype
from interlingua.formats.dtypes import BFLOAT16
from interlingua.formats.hdf5 import Hdf5Reader, Tree, read_root
from interlingua.formats.hdf5_attributes import Value
from interlingua.formats.hdf5_datasets import Dataset
from interlingua.formats.hdf5_encoding import AttributeValue
from interlingua.formats.hdf5_image import DAMAGED, looks_like_hdf5
from interlingua.formats.hdf5_writer import Hdf5Writer, check_path, refuse_path
from interlingua.formats.json_text import decode_json
from interlingua.formats.registry import Probe

LAYER_NAMES = "layer_names"
WEIGHT_NAMES = "weight_names"

MODEL = "model_weights"
TOP_LEVEL = "top_level_model_weights"
OPTIMIZER = "optimizer_weights"

_UNLISTED = (TOP_LEVEL, OPTIMIZER)
"""Groups of weights that ``layer_names`` leaves out."""

_DEFAULTS = {"backend": "tensorflow", "keras_version": "2.15.0"}

ATTRIBUTE_LIMIT = 64512
"""Bytes of one attribute, beyond which Keras cuts a list of names (``HDF5_OBJECT_HEADER_LIMIT``)."""


class KerasReader(Hdf5Reader):
    """Reads a Keras model or its weights; ``metadata`` has what a writer needs to lay them out in the same way."""

    container = "keras-hdf5"

    def _arrange(self, tree: Tree) -> dict[str, Dataset]:
        model = MODEL if MODEL in tree.groups and not _has_names(tree.groups[""], LAYER_NAMES) else ""
        layers = self._names(tree, model, LAYER_NAMES)
        for name in _DEFAULTS:
            value = tree.groups[model].get(name)
            if isinstance(value, str):
                self.metadata[name] = value
        self.metadata[LAYER_NAMES] = json.dumps(layers, ensure_ascii=False)
        self._forget(*_DEFAULTS, LAYER_NAMES, WEIGHT_NAMES)
        found: dict[str, Dataset] = {}
        for name, path in self._listed(tree, model, layers):
            found[name] = self._tensor(tree, name, path)
        below = f"{model}/" if model else ""
        for path, dataset in tree.datasets.items():
            name = path.removeprefix(below)
            if isinstance(dataset, Dataset) and found.setdefault(name, dataset) is not dataset:
                raise FormatError(f"has two weights of the name {name!r}", path=self.path)
        return found

    def _listed(self, tree: Tree, model: str, layers: list[str]) -> Iterator[tuple[str, str]]:
        """Yield (name, path) of every weight that the file lists, in its order."""
        for layer in dict.fromkeys(layers):
            path = _join(model, layer)
            if path in tree.datasets:
                yield layer, path
            elif path in tree.groups:
                yield from self._weights(tree, layer, path)
            else:
                raise FormatError(f"lists the layer {layer!r}, which it lacks", path=self.path, hint=DAMAGED)
        for name, path in ((TOP_LEVEL, _join(model, TOP_LEVEL)), (OPTIMIZER, OPTIMIZER)):
            if path in tree.groups:
                yield from self._weights(tree, name, path)

    def _weights(self, tree: Tree, layer: str, path: str) -> Iterator[tuple[str, str]]:
        for weight in self._names(tree, path, WEIGHT_NAMES):
            yield _join(layer, weight), _join(path, weight)

    def _names(self, tree: Tree, group: str, key: str) -> list[str]:
        """Return the list of names that a group has under ``key``, put together from its parts."""
        attributes = tree.groups[group]
        if key in attributes:
            return self._checked_names(attributes[key], key)
        names: list[str] = []
        part = 0
        while f"{key}{part}" in attributes:
            names += self._checked_names(attributes[f"{key}{part}"], key)
            part += 1
        return names

    def _checked_names(self, value: Value | None, key: str) -> list[str]:
        if not isinstance(value, list):
            raise FormatError(f"has no list of names in its attribute {key}", path=self.path, hint=DAMAGED)
        names = [name for name in value if isinstance(name, str)]
        if len(names) != len(value):
            raise FormatError(f"has no list of names in its attribute {key}", path=self.path, hint=DAMAGED)
        return names

    def _tensor(self, tree: Tree, name: str, path: str) -> Dataset:
        found = tree.datasets.get(path)
        if found is None:
            raise FormatError(f"lists the weight {name!r}, which it lacks", path=self.path, hint=DAMAGED)
        if isinstance(found, str):
            raise FormatError(f"has the weight {name!r}, whose elements are of a {found} type", path=self.path)
        return found


def _has_names(attributes: Mapping[str, Value | None], key: str) -> bool:
    return key in attributes or f"{key}0" in attributes


def _join(group: str, name: str) -> str:
    return f"{group}/{name}" if group else name


class KerasWriter(Hdf5Writer):
    """Writes weights so that ``load_weights``, by order or by name, and transformers' TF classes read them.

    A tensor's layer is its name up to the first slash, or the longest of the layers listed in ``metadata`` that its
    name begins with. A name without a slash is its own layer and listed itself, as in the shards of transformers.

    Metadata that is used: ``layer_names`` (JSON list: layers in order, those without weights too), ``backend``,
    ``keras_version``.

    Raises:
        MappingError: a name is a layer's too, or bfloat16 is asked for: Keras writes it here, but cannot read it back.
    """

    container = "keras-hdf5"

    def _check(self, spec: TensorSpec) -> None:
        super()._check(spec)
        if spec.dtype == BFLOAT16:
            raise refuse_dtype(self.container, spec)

    def _prepare(self) -> None:
        self._weights = self._weights_of_layers()
        if not self.tensors or any(layer not in self.tensors for layer in self._weights):
            self._weights.setdefault(TOP_LEVEL, [])
        for layer, weights in self._weights.items():
            check_path(self.container, layer)
            self._check_group(layer.rpartition("/")[0] if layer in self.tensors else layer)
            for name in (layer, *weights):
                if len(name.encode()) > ATTRIBUTE_LIMIT:
                    raise refuse_path(self.container, name)

    def _attributes(self) -> dict[str, dict[str, AttributeValue]]:
        layers = self._weights
        root = cut_names(LAYER_NAMES, [layer for layer in layers if layer not in _UNLISTED])
        if TOP_LEVEL in layers:
            root.update((name, self.metadata.get(name, default).encode()) for name, default in _DEFAULTS.items())
        groups = (layer for layer in layers if layer not in self.tensors)
        return {"": root, **{layer: cut_names(WEIGHT_NAMES, layers[layer]) for layer in groups}}

    def _weights_of_layers(self) -> dict[str, list[str]]:
        """Return the layers in order, each with the names of its weights."""
        layers: dict[str, list[str]] = {layer: [] for layer in self._given_layers()}
        given = set(layers)
        for name in self.tensors:
            parts = name.split("/")
            prefixes = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
            layer = next((prefix for prefix in prefixes if prefix in given), parts[0])
            layers.setdefault(layer, [])
            if layer != name:
                layers[layer].append(name[len(layer) + 1 :])
        return layers

    def _given_layers(self) -> list[str]:
        try:
            layers = decode_json(self.metadata.get(LAYER_NAMES, "[]").encode())
        except ValueError as error:
            raise MappingError(f"The metadata {LAYER_NAMES} is no JSON: {error}.") from error
        if not isinstance(layers, list) or not all(isinstance(layer, str) for layer in layers):
            raise MappingError(f"The metadata {LAYER_NAMES} is no list of names.")
        return layers


def cut_names(key: str, names: Sequence[str]) -> dict[str, AttributeValue]:
    """Return the attributes that Keras gives a group for a list of names: one, or as few numbered ones as hold it.

    No name may be longer than ``ATTRIBUTE_LIMIT`` bytes.
    """
    raw = [name.encode() for name in names]
    width = max(map(len, raw), default=1)
    raw = [name.ljust(width, b"\0") for name in raw]
    parts = -(-len(raw) // (ATTRIBUTE_LIMIT // width))
    if parts <= 1:
        return {key: raw}
    cuts = [part * (len(raw) // parts) + min(part, len(raw) % parts) for part in range(parts + 1)]
    return {f"{key}{part}": raw[start:end] for part, (start, end) in enumerate(itertools.pairwise(cuts))}


def sniff(probe: Probe) -> bool:
    """Say whether the file is HDF5 with a list of layers, or a whole model."""
    if not looks_like_hdf5(probe.head):
        return False
    root = read_root(probe.path)
    return root is not None and (_has_names(root.attributes, LAYER_NAMES) or MODEL in root.links)


def open_reader(path: Path) -> KerasReader:
    """Open a Keras model or its weights.

    Raises:
        FormatError: it is damaged, hostile, or lists layers or weights that it lacks.
    """
    return KerasReader(path)


def open_writer(
    path: str | os.PathLike[str],
    tensors: Sequence[TensorSpec],
    *,
    metadata: Mapping[str, str] | None = None,
    ties: Mapping[str, str] | None = None,
) -> KerasWriter:
    """Create a weights file of the older layout at ``path``.

    Raises:
        MappingError: a name or an element type cannot be written.
        OutputError: the file cannot be created.
    """
    return KerasWriter(path, tensors, metadata=metadata, ties=ties)
