"""Which containers there are, and which one a file is: decided by its content, never by its suffix."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from interlingua.errors import FormatError, UsageError, suggestion
from interlingua.formats.base import Reader, SourceFile, TensorSpec, Writer

HEAD = 4096
"""Bytes at the start of a file that a container may look at to recognise itself."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a container is shown of a path to recognise itself by.

    Attributes:
        path: the path as the user gave it; it may be a folder, or a prefix of existing files.
        is_dir: whether it is a folder.
        head: its first ``HEAD`` bytes; empty for a folder or a prefix.
        size: its size in bytes; 0 for a folder or a prefix.
    """

    path: Path
    is_dir: bool
    head: bytes
    size: int


class Recogniser(Protocol):
    """A module that knows a container when it sees one."""

    def sniff(self, probe: Probe) -> bool:
        """Say whether the path is of this container, from its content."""


class ContainerModule(Recogniser, Protocol):
    """What a container's module offers to this registry."""

    def open_reader(self, path: Path) -> Reader:
        """Open the path, which ``sniff`` has recognised; raise FormatError where it is damaged or hostile."""

    def open_writer(
        self,
        path: Path,
        tensors: Sequence[TensorSpec],
        *,
        metadata: Mapping[str, str] | None = None,
        ties: Mapping[str, str] | None = None,
    ) -> Writer:
        """Create the container at ``path``; only containers with ``writes`` have it."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container.

    Attributes:
        name: as ``--container`` takes it and ``inspect`` prints it.
        module: the module in this package that reads and writes it.
        suffixes: what its files are usually called; used to name outputs, never to recognise inputs.
        writes: whether it can be written.
        title: what people call it.
        shares: whether two names in it can share one tensor's bytes.
        form: ``file``; ``folder``, with a file for each tensor; or ``prefix``, of the names of several files.
        begins: a regular expression of the bytes that a file of this container begins with: where they are others,
            the module need not even be imported. Empty where any may be.
        known_by: the lighter module that is asked in place of ``module``, where the first bytes rule nothing out.
    """

    name: str
    module: str
    suffixes: tuple[str, ...]
    writes: bool
    title: str
    shares: bool = False
    form: str = "file"
    begins: bytes = b""
    known_by: str = ""

    def load(self) -> ContainerModule:
        """Import and return the container's module."""
        return cast(ContainerModule, import_module(f"interlingua.formats.{self.module}"))

    def may_be(self, seen: Probe) -> bool:
        """Say whether it is worth importing a module to ask it."""
        if seen.is_dir:
            return self.form != "file"
        return re.match(self.begins, seen.head, re.DOTALL) is not None

    def recognises(self, seen: Probe) -> bool:
        """Say whether a path is of this container, importing no more than that takes."""
        if not self.may_be(seen):
            return False
        recogniser: Recogniser = import_module(f"interlingua.formats.{self.known_by or self.module}")
        return recogniser.sniff(seen)


HDF5 = b"\x89HDF\r\n\x1a\n"

# What files begin with.
ZIP = rb"PK"
LENGTH_AND_JSON = rb".{8}\{"
TORCH = rb".{0,16}(\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.|L119547037146038801333356L\n\.)"
TAR = rb".{148}[ \x000-7]{8}"
NUMPY = rb"PK|\x93NUMPY"
PICKLE = rb"[\x80\x95}\]dl(cX\x8c]"
SUPERBLOCK = rb".*" + re.escape(HDF5)  # A user block may precede it.
STREAM = rb"\x00"  # Its version, which is 0.
RECORD = rb"\n|[\xd8-\xda]\x5e\x3a\x7f"  # Those three are encrypted.

# In the order in which they are tried: the ones with a magic number first, the guesses last.
_TABLE = (
    Container("safetensors", "safetensors", (".safetensors",), True, "safetensors", begins=LENGTH_AND_JSON),
    Container("torch-zip", "torch_zip", (".bin", ".pt", ".pth"), True, "PyTorch zip", shares=True, begins=ZIP),
    Container("torch-legacy", "torch_legacy", (".bin", ".pt", ".pth"), False, "PyTorch before 1.6", begins=TORCH),
    Container("torch-tar", "torch_tar", (".pt", ".pth"), False, "PyTorch before 0.1.10", begins=TAR),
    Container(
        "tensor-bundle",
        "tensor_bundle",
        (".ckpt",),
        True,
        "TensorFlow checkpoint",
        form="prefix",
        known_by="tensor_bundle_paths",
    ),
    Container("keras-archive", "keras_archive", (".keras",), False, "Keras 3 archive", begins=ZIP),
    Container("keras-hdf5", "keras_hdf5", (".h5", ".hdf5"), True, "Keras weights in HDF5", begins=SUPERBLOCK),
    Container(
        "keras-weights-hdf5", "keras_weights_hdf5", (".weights.h5",), True, "Keras 3 weights in HDF5", begins=SUPERBLOCK
    ),
    Container("hdf5", "hdf5", (".hdf5", ".h5"), False, "HDF5 of any layout", begins=SUPERBLOCK),
    Container("npz", "npz", (".npz",), True, "NumPy arrays", begins=NUMPY),
    Container("paddle-pickle", "paddle_pickle", (".pdparams", ".pdopt"), True, "Paddle pickle", begins=PICKLE),
    Container("lod-tensor", "lod_tensor", (), True, "Paddle LoDTensors, a file each", form="folder", begins=STREAM),
    Container(
        "lod-tensor-combined",
        "lod_tensor_combined",
        (".pdiparams",),
        True,
        "Paddle LoDTensors in one file",
        begins=STREAM,
    ),
    Container("mindspore-ckpt", "mindspore_ckpt", (".ckpt",), True, "MindSpore checkpoint", begins=RECORD),
)

CONTAINERS: dict[str, Container] = {container.name: container for container in _TABLE}

WEIGHT_SUFFIXES = frozenset(suffix for container in _TABLE if container.form == "file" for suffix in container.suffixes)
"""Endings of names by which an output is known to be one file."""


def by_name(file: str) -> Container | None:
    """Return the container that is written to a file of that name, or None where its ending names none."""
    fitting = [c for c in _TABLE if c.writes and c.form == "file" and file.endswith(c.suffixes)]
    return max(fitting, key=lambda container: max(map(len, container.suffixes)), default=None)


def probe(path: str | os.PathLike[str]) -> Probe:
    """Look at a path: whether it is a folder, how large it is, and its first bytes.

    Raises:
        FormatError: it is a file that cannot be opened, or no regular file.
    """
    path = Path(path)
    if os.path.isdir(path):
        return Probe(path, True, b"", 0)
    if _is_missing(path):
        return Probe(path, False, b"", 0)
    with SourceFile(path) as file:
        head = file.read_at(0, min(HEAD, file.size), "the start of the file")
        return Probe(path, False, head, file.size)


def _is_missing(path: Path) -> bool:
    """Say whether nothing is there, as opposed to something that cannot be looked at."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as error:
        raise FormatError(f"cannot be opened: {error.strerror}", path=path) from error
    except ValueError as error:
        raise FormatError(f"is no path: {error}", path=path) from error
    return False


def sniff(path: str | os.PathLike[str]) -> Container | None:
    """Return the container that a path is, or None where no container recognises it."""
    seen = probe(path)
    for container in _TABLE:
        if container.recognises(seen):
            return container
    return None


def open_container(path: str | os.PathLike[str]) -> Reader:
    """Open a file (or a folder or prefix that is one container) by what it is.

    Raises:
        FormatError: it is missing, damaged, hostile, or of no known container.
    """
    path = Path(path)
    container = sniff(path)
    if container is None:
        hint = None if _is_missing(path) else "`interlingua matrix` lists what is read."
        raise FormatError(describe_unknown(probe(path)), path=path, hint=hint)
    return container.load().open_reader(path)


def find(name: str) -> Container:
    """Return the container of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in CONTAINERS:
        raise UsageError(f"There is no container {name!r}.", hint=suggestion(name, CONTAINERS))
    return CONTAINERS[name]


def describe_unknown(seen: Probe) -> str:
    """Say what a path that no container recognises looks like."""
    if seen.is_dir:
        return "is a folder in which no checkpoint was found"
    if _is_missing(seen.path):
        return "does not exist"
    if seen.size == 0:
        return "is empty"
    for magic, name in _OTHER_FILES:
        if seen.head.startswith(magic):
            return f"is {name}, not a checkpoint"
    start = " ".join(f"{byte:02x}" for byte in seen.head[:8])
    return f"is of no container that is known here (it begins with the bytes {start})"


_OTHER_FILES = (
    (b"version https://git-lfs.github.com/spec", "a Git LFS pointer (the file itself was never downloaded)"),
    (b"<!DOCTYPE", "an HTML page (a download that failed?)"),
    (b"<html", "an HTML page (a download that failed?)"),
    (b"GGUF", "a GGUF model"),
    (b"{", "a JSON text"),
    (b"\x1f\x8b", "gzip-compressed"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
)
