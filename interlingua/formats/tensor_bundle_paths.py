"""The files of a tensor bundle: one index, some data files, and the ``checkpoint`` file that says which is newest.

A bundle is addressed by its prefix (``folder/bert_model.ckpt``), which is itself no file.

Source: tensorflow/tensorflow: tensorflow/core/util/tensor_bundle/naming.cc,
tensorflow/python/checkpoint/checkpoint_management.py (the ``checkpoint`` file, a CheckpointState in text form).
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from interlingua.errors import FormatError, OutputError
from interlingua.formats.base import SourceFile
from interlingua.formats.leveldb_table import is_table

if TYPE_CHECKING:
    from interlingua.formats.registry import Probe

INDEX = ".index"
STATE = "checkpoint"

_MAX_STATE = 1 << 20
_SHARD = re.compile(r"(.+)\.data-\d{5,}-of-\d{5,}", re.DOTALL)
_LATEST = re.compile(rb"""^[ \t]*model_checkpoint_path[ \t]*:[ \t]*(["'])((?:\\.|[^\\\n])*?)\1""", re.MULTILINE)
_ABSOLUTE = re.compile(r"/|\w+://")
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)", re.DOTALL)
_CONTROL = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_QUOTED = {"\n": r"\n", "\r": r"\r", "\t": r"\t", '"': r"\"", "'": r"\'", "\\": r"\\"}


def index_of(prefix: Path) -> Path:
    """Return the path of a bundle's index."""
    return prefix.with_name(prefix.name + INDEX)


def shard_of(prefix: Path, number: int, count: int) -> Path:
    """Return the path of a bundle's data file ``number`` of ``count``."""
    return prefix.with_name(f"{prefix.name}.data-{number:05d}-of-{count:05d}")


def sniff(probe: Probe) -> bool:
    """Say whether a path leads to a bundle: a folder, an index, a data file, or a prefix.

    The index of a checkpoint of version 1 counts, which is then refused by name.
    """
    path = probe.path
    if probe.is_dir:
        return bool(_indices(path)) or _read_state(path) is not None
    if os.path.exists(path):
        # A data file is bare numbers: it has nothing but its name to be known by.
        return _is_index(path) or _SHARD.fullmatch(path.name) is not None
    return bool(path.name) and os.path.isfile(index_of(path))


def find_index(path: Path) -> Path:
    """Return the index of the one bundle that a path leads to, or the one file of a bundle of version 1.

    Raises:
        FormatError: there is none, or a folder holds several and does not say which.
    """
    if os.path.isdir(path):
        return _index_in(path)
    if _is_index(path):
        return path
    shard = _SHARD.fullmatch(path.name)
    prefix = path if shard is None else path.with_name(shard[1])
    if not os.path.isfile(index_of(prefix)):
        raise FormatError(
            f"the checkpoint has no index: {index_of(prefix).name} is not there",
            path=path,
            hint="A TensorFlow checkpoint is an .index and one or more .data files, side by side.",
        )
    return index_of(prefix)


def prefix_of(index: Path) -> Path:
    """Return the prefix of the bundle that has this index.

    Raises:
        FormatError: the name is none of an index, so that nobody can tell the data files' names.
    """
    if index.name.endswith(INDEX) and index.name != INDEX:
        return index.with_name(index.name[: -len(INDEX)])
    raise FormatError(
        "is the index of a TensorFlow checkpoint under another name",
        path=index,
        hint=f"Its name must be that of its data files up to .data-, then {INDEX}.",
    )


def _is_index(path: Path) -> bool:
    """Say whether a path is a file that ends as a table does; one that cannot be opened does not."""
    if os.path.isfile(path):
        with contextlib.suppress(FormatError), SourceFile(path) as file:
            return is_table(file)
    return False


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise FormatError(f"cannot be listed: {error.strerror}", path=folder) from error


def _indices(folder: Path) -> list[Path]:
    """Return the bundles' indices in a folder, by name."""
    names = (name for name in _listed(folder) if name.endswith(INDEX) and name != INDEX)
    return [folder / name for name in names if _is_index(folder / name)]


def _index_in(folder: Path) -> Path:
    """Return the index of a folder's newest bundle, as its state file says, or of its only one."""
    indices = _indices(folder)
    # What the state file says is a stranger's word: it may choose among this folder's files and do no more.
    latest = _read_state(folder)
    for name in () if latest is None else (latest + INDEX, latest):
        if name in _listed(folder) and _is_index(folder / name):
            return folder / name
    if len(indices) == 1:
        return indices[0]
    if not indices:
        raise FormatError(f"is a folder without a checkpoint's index (*{INDEX})", path=folder)
    shown = ", ".join(prefix_of(index).name for index in indices[:20])
    raise FormatError(
        f"is a folder of {len(indices)} checkpoints, and its file {STATE!r} does not choose one of them: {shown}",
        path=folder,
        hint="Name one: the folder, a slash, and one of these.",
    )


def _read_state(folder: Path) -> str | None:
    """Return what the state file calls the newest checkpoint; None where there is no state file that can be read.

    TensorFlow's Saver notes absolute paths, which folders that were moved or fetched outlive: of those the name counts.
    """
    path = folder / STATE
    text = b""
    if os.path.isfile(path):
        with contextlib.suppress(FormatError), SourceFile(path) as file:
            text = file.read_at(0, min(file.size, _MAX_STATE), "the state file")
    found = _LATEST.search(text)
    if found is None:
        return None
    name = os.fsdecode(_ESCAPE.sub(_plain, found[2]))
    return name.rpartition("/")[2] if _ABSOLUTE.match(name) else name


def _plain(escape: re.Match[bytes]) -> bytes:
    """Return the byte that an escape in a text proto stands for."""
    code = escape[1]
    if code[:1].isdigit():
        return bytes([int(code, 8) & 0xFF])
    if len(code) > 1:
        return bytes([int(code[1:], 16)])
    return _CONTROL.get(code, code)


def encode_state(prefix: Path) -> bytes:
    """Return the ``checkpoint`` file that TensorFlow writes beside a bundle.

    Raises:
        OutputError: the name cannot be spelt in it.
    """
    try:
        name = "".join(
            _QUOTED.get(char) or (f"\\{ord(char):03o}" if ord(char) < 32 or ord(char) == 127 else char)
            for char in prefix.name
        )
        return f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'.encode()
    except UnicodeEncodeError as error:
        raise OutputError(f"{prefix}: is no name that TensorFlow can keep: it is not UTF-8.") from error
