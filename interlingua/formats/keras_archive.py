"""``.keras`` archives: a zip whose member ``model.weights.h5`` is a Keras 3 weights file.

Keras stores that member, so the tensors lie in the archive as they are; one that was deflated since is unpacked into a
nameless temporary file. ``config.json`` says how to build the model, with names of Python classes to import: it is
handed on as text, and nothing in it is ever looked up (CVE-2025-1550 and its like).

Source: keras-team/keras: keras/src/saving/saving_lib.py (``_save_model_to_fileobj``, ``_reject_zip_bomb``).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from interlingua.errors import FormatError
from interlingua.formats.base import SourceFile
from interlingua.formats.hdf5 import Tree
from interlingua.formats.hdf5_datasets import Dataset
from interlingua.formats.hdf5_image import Image
from interlingua.formats.json_text import MAX_JSON, decode_json
from interlingua.formats.keras_weights_hdf5 import KerasWeightsReader
from interlingua.formats.registry import Probe
from interlingua.formats.zip_directory import (
    STORED,
    MemberStream,
    ZipEntry,
    looks_like_zip,
    member_names,
    read_directory,
)

WEIGHTS = "model.weights.h5"
CONFIG = "config.json"
METADATA = "metadata.json"

MAX_EXPANSION = 100
SMALL = 4 << 30
"""A member that unpacks to more than ``SMALL`` bytes, and to so many times its own, is a bomb: Keras' own rule."""


class KerasArchiveReader(KerasWeightsReader):
    """Reads the weights in a ``.keras`` archive; ``objects`` has its ``config.json`` as text."""

    container = "keras-archive"

    def _open_image(self) -> Image:
        self._members = read_directory(self._file)
        weights = self._members.get(WEIGHTS)
        if weights is None:
            raise FormatError(
                f"has no {WEIGHTS}",
                path=self.path,
                hint="Save the model with weights in HDF5, as Keras does unless told otherwise.",
            )
        self._read_texts()
        if weights.method == STORED:
            return Image(self._file, weights.offset, weights.size)
        archive = self._file
        try:
            self._file = _unpacked(archive, weights)
        finally:
            archive.close()
        return Image(self._file)

    def _read_texts(self) -> None:
        self._texts = {}
        for name in (CONFIG, METADATA):
            entry = self._members.get(name)
            if entry is None:
                continue
            if entry.size > MAX_JSON:
                raise FormatError(f"has a {name} of {entry.size} bytes", path=self.path, offset=entry.offset)
            raw = b"".join(MemberStream(self._file, entry).chunks())
            try:
                self._texts[name] = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise FormatError(f"has a {name} that is no UTF-8", path=self.path, offset=entry.offset) from error

    def _arrange(self, tree: Tree) -> dict[str, Dataset]:
        found = super()._arrange(tree)
        if CONFIG in self._texts:
            self.objects[CONFIG] = self._texts[CONFIG]
        try:
            versions = decode_json(self._texts.get(METADATA, "{}").encode())
        except ValueError as error:
            raise FormatError(f"has a {METADATA} that is no JSON: {error}", path=self.path) from error
        if isinstance(versions, dict):
            self.metadata.update((key, value) for key, value in versions.items() if isinstance(value, str))
        return found


def _unpacked(archive: SourceFile, entry: ZipEntry) -> SourceFile:
    """Unpack a member into a temporary file that has no name any more when this returns.

    Raises:
        FormatError: the member is damaged, is a bomb, or there is no room for it.
    """
    if entry.size > max(SMALL, MAX_EXPANSION * entry.stored):
        raise FormatError(f"{entry.name} unpacks to {entry.size} bytes", path=archive.path, offset=entry.offset)
    try:
        with tempfile.NamedTemporaryFile() as out:
            for chunk in MemberStream(archive, entry).chunks():
                out.write(chunk)
            out.flush()
            file = SourceFile(out.name)
    except OSError as error:
        raise FormatError(
            f"{entry.name} cannot be unpacked: {error.strerror}",
            path=archive.path,
            hint=f"Give TMPDIR {entry.size} bytes of room, or unpack the archive yourself.",
        ) from error
    file.path = archive.path
    return file


def sniff(probe: Probe) -> bool:
    """Say whether the file is a zip with a member ``model.weights.h5``."""
    return looks_like_zip(probe.head) and WEIGHTS in (member_names(probe.path) or ())


def open_reader(path: Path) -> KerasArchiveReader:
    """Open a ``.keras`` archive.

    Raises:
        FormatError: it is damaged or hostile, or has no weights in HDF5.
    """
    return KerasArchiveReader(path)
