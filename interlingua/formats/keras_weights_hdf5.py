"""Keras 3's layout of HDF5: ``.weights.h5``, alone or inside a ``.keras`` archive.

Each object that has variables is a group, after the path of Python attributes that leads to it; in it is a group
``vars`` with the variables as datasets ``0``, ``1`` ... and, in newer versions, the object's name as attribute
``name``. Keras marks bfloat16 by an attribute ``dtype`` of the dataset.

A tensor's name is its path: ``layers/dense/vars/0``.

Source: keras-team/keras: keras/src/saving/saving_lib.py (class H5IOStore).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from interlingua.errors import FormatError, MappingError
from interlingua.formats.base import SourceFile, TensorSpec
from interlingua.formats.dtypes import BFLOAT16
from interlingua.formats.hdf5 import Hdf5Reader, Tree, walk
from interlingua.formats.hdf5_datasets import Dataset
from interlingua.formats.hdf5_encoding import AttributeValue
from interlingua.formats.hdf5_image import Image, looks_like_hdf5
from interlingua.formats.hdf5_writer import Hdf5Writer, check_path
from interlingua.formats.json_text import decode_json
from interlingua.formats.registry import Probe

VARIABLES = "vars"
NAME = "name"
NAMES = "names"


class KerasWeightsReader(Hdf5Reader):
    """Reads the weights of a Keras 3 model.

    Attributes:
        names: name of the layer (or other object) whose variables are in a group, by the group's path.
    """

    container = "keras-weights-hdf5"

    def _arrange(self, tree: Tree) -> dict[str, Dataset]:
        self.names = {
            path: name
            for path, attributes in tree.groups.items()
            if is_variables(path) and isinstance(name := attributes.get(NAME), str)
        }
        self._forget(NAME)
        if self.names:
            self.metadata[NAMES] = json.dumps(self.names, ensure_ascii=False)
        for path, found in tree.datasets.items():
            if isinstance(found, str) and is_variables(path.rpartition("/")[0]):
                raise FormatError(f"has the variable {path!r}, whose elements are of a {found} type", path=self.path)
        return super()._arrange(tree)


def is_variables(path: str) -> bool:
    """Say whether a group of that path is one of variables."""
    return path == VARIABLES or path.endswith(f"/{VARIABLES}")


class KerasWeightsWriter(Hdf5Writer):
    """Writes weights so that Keras 3's ``load_weights`` reads them.

    Metadata that is used: ``names`` (JSON object: path of a group of variables -> name of the object they are of).

    Raises:
        MappingError: the metadata is malformed, or gives a name to a tensor instead of a group.
    """

    container = "keras-weights-hdf5"

    def _prepare(self) -> None:
        self._names = self._given_names()

    def _attributes(self) -> dict[str, dict[str, AttributeValue]]:
        halves = (name for name, spec in self.tensors.items() if spec.dtype == BFLOAT16)
        return {
            **{path: {NAME: name} for path, name in self._names.items()},
            **{name: {"dtype": BFLOAT16.name} for name in halves},
        }

    def _given_names(self) -> dict[str, str]:
        try:
            names = decode_json(self.metadata.get(NAMES, "{}").encode())
        except ValueError as error:
            raise MappingError(f"The metadata {NAMES} is no JSON: {error}.") from error
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise MappingError(f"The metadata {NAMES} does not give names to groups.")
        for path in names:
            check_path(self.container, path)
            self._check_group(path)
        return names


def sniff(probe: Probe) -> bool:
    """Say whether the file is HDF5 in which some group is one of variables."""
    if not looks_like_hdf5(probe.head):
        return False
    try:
        with SourceFile(probe.path) as file:
            return any(is_variables(path) for path, _, _ in walk(Image(file)))
    except FormatError:
        return False


def open_reader(path: Path) -> KerasWeightsReader:
    """Open the weights of a Keras 3 model.

    Raises:
        FormatError: the file is damaged or hostile, or holds variables that are no tensors.
    """
    return KerasWeightsReader(path)


def open_writer(
    path: str | os.PathLike[str],
    tensors: Sequence[TensorSpec],
    *,
    metadata: Mapping[str, str] | None = None,
    ties: Mapping[str, str] | None = None,
) -> KerasWeightsWriter:
    """Create the weights of a Keras 3 model at ``path``.

    Raises:
        MappingError: a name or an element type cannot be written.
        OutputError: the file cannot be created.
    """
    return KerasWeightsWriter(path, tensors, metadata=metadata, ties=ties)
