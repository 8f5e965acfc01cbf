"""Container "paddle-pickle": what ``paddle.save`` writes, ``.pdparams`` and ``.pdopt``, read without unpickling.

It is one pickle of protocol 2 to 4: a dict of NumPy arrays by name, and by the side

    "StructuredToParameterName@@": {name in the state dict: name of the parameter}
    "UnpackBigParamInfor@@": {name: {"OriginShape": shape, "slices": [keys]}}   (protocols 2 and 3)

the latter for arrays over 2**30 - 1 bytes, which lie in the dict as flat pieces under keys of their own. Other
objects are pickled as they are, every tensor in them as a tuple of its parameter's name and its array, or, if it is
a DenseTensor (LoDTensor before 3.0), as the call ``eval("data", {"data": array})``.

A bfloat16 tensor is stored as an array of uint16 and nothing says so: Paddle, which has no uint16, takes every
such array for bfloat16. The reader tells what the file holds, uint16; whoever knows the model decides.

Source: PaddlePaddle/Paddle: python/paddle/framework/io.py (``_build_saved_state_dict``, ``_pickle_save``, ``load``),
python/paddle/framework/io_utils.py (``_unpack_saved_dict``, ``_pack_loaded_dict``).
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from interlingua.errors import FormatError, MappingError
from interlingua.formats import pickled_numpy, pickled_objects
from interlingua.formats.base import (
    Extent,
    Reader,
    SingleFileWriter,
    SourceFile,
    TensorSpec,
    create,
    output_error,
    refuse_dtype,
    write_at,
)
from interlingua.formats.pickle_layout import PickleLayout
from interlingua.formats.pickled_numpy import PickledArray, array_blocks, array_extents
from interlingua.formats.pickled_objects import leaf_object, named_leaves
from interlingua.formats.pickles import Make, TextSpan, describe, load
from interlingua.formats.registry import Probe
from interlingua.formats.strided import BlockReader, checked_shape

PARAMETER_NAMES = "parameter_names"
"""Key of ``metadata`` under which the table of parameter names lies, as JSON."""

LONE = "tensor"
"""Name of a tensor that is the whole file."""

_NAME_TABLE = "StructuredToParameterName@@"
_SLICE_TABLE = "UnpackBigParamInfor@@"

_KEPT_BLOCKS = 8
"""Tensors that are being put together at a time; each may keep some 16 MB."""

_MAX_TEXT = 4 << 20
_MAX_SHARING = 64
_FREE = 1 << 26


class NamedArray:
    """A tensor in an object that is no flat state dict: the parameter's name and the array."""

    __slots__ = ("array", "parameter")

    def __init__(self, parameter: str | None, array: PickledArray) -> None:
        self.parameter = parameter
        self.array = array


def _named_array(value: object) -> NamedArray | None:
    """Return what Paddle takes a value for that is a pair of a text and an array; None for any other."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], PickledArray):
        if isinstance(value[0], str):
            return NamedArray(value[0], value[1])
        if isinstance(value[0], TextSpan):
            return NamedArray(None, value[1])
    return None


def _tuple(items: object = ()) -> object:
    """Stand for ``builtins.tuple``, through which Paddle writes a tensor."""
    if not isinstance(items, (tuple, list)):
        raise ValueError(f"{describe(items)} is no tuple")
    return _named_array(tuple(items)) or tuple(items)


def _dense_tensor(code: object, names: object = None) -> PickledArray:
    """Stand for ``builtins.eval`` where it is the one call that Paddle writes, and refuse any other."""
    if code != "data" or not isinstance(names, dict) or list(names) != ["data"]:
        raise ValueError("only the text 'data', with that one name, is known")
    array = names["data"]
    if not isinstance(array, PickledArray):
        raise ValueError(f"its value is {describe(array)}, no array")
    return array


ALLOWED: dict[tuple[str, str], Make] = {
    **{name: make for name, make in pickled_objects.ALLOWED.items() if name[0] in ("builtins", "__builtin__")},
    ("collections", "OrderedDict"): pickled_objects.ALLOWED["collections", "OrderedDict"],
    **pickled_numpy.ALLOWED,
    **{(module, "tuple"): _tuple for module in ("builtins", "__builtin__")},
    **{(module, "eval"): _dense_tensor for module in ("builtins", "__builtin__")},
}
"""What stands for the names that Paddle's files need."""


class PaddlePickleReader(Reader):
    """Arrays in a pickle.

    A tensor inside of containers is named by the keys that lead to it, joined with ".". Numbers, texts and
    schedulers' states are in ``objects``.

    Attributes:
        parameter_names: name of the parameter by the tensor's name, as far as the file tells; in ``metadata``
            under ``parameter_names`` as JSON, which the writer takes up again.

    Raises:
        FormatError: the pickle is damaged, asks for what Paddle does not write, or its pieces do not fit.
    """

    container = "paddle-pickle"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self.parameter_names: dict[str, str] = {}
        self._parts: dict[str, tuple[PickledArray, ...]] = {}
        self._blocks: OrderedDict[str, tuple[BlockReader, ...]] = OrderedDict()
        self._lock = threading.Lock()
        self._file = SourceFile(path)
        self._text_left = _MAX_TEXT
        self._allowance = _MAX_SHARING * self._file.size + _FREE
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        root, stop = load(self._file, 0, self._file.size, ALLOWED)
        if stop != self._file.size:
            raise self._broken(f"has {self._file.size - stop} bytes behind its pickle", stop)
        big: dict[str, tuple[tuple[int, ...], tuple[PickledArray, ...]]] = {}
        if isinstance(root, dict):
            self._take_names(root.pop(_NAME_TABLE, None))
            big = self._join(root, root.pop(_SLICE_TABLE, None))
        for path, value in named_leaves(self._file, _marked(root)):
            name = LONE if path is None else path
            if isinstance(value, NamedArray) and value.parameter is not None:
                self.parameter_names[name] = value.parameter
            array = value.array if isinstance(value, NamedArray) else value
            if isinstance(array, PickledArray):
                self._add(name, array.shape, (array,))
            elif path is not None or not isinstance(root, dict):
                self.objects[name] = self._told(value)
        for name, (shape, pieces) in big.items():
            self._add(name, shape, pieces)
        if self.parameter_names:
            self.metadata[PARAMETER_NAMES] = json.dumps(self.parameter_names, ensure_ascii=False)

    def _told(self, value: object) -> object:
        """Return what ``objects`` says of a value; texts are read as long as they are not too many."""
        if isinstance(value, TextSpan):
            self._text_left -= value.nbytes
            if self._text_left < 0:
                return f"<{describe(value)}>"
        return leaf_object(self._file, value)

    def _broken(self, message: str, offset: int | None = None) -> FormatError:
        return FormatError(message, path=self.path, offset=offset)

    def _add(self, name: str, shape: tuple[int, ...], pieces: tuple[PickledArray, ...]) -> None:
        if name in self.tensors:
            raise self._broken(f"has two tensors that would both be called {name!r}")
        spec = TensorSpec(name, pieces[0].dtype, shape)
        self._allowance -= spec.nbytes
        if self._allowance < 0:
            raise self._broken("claims tensors far larger than the file, by using its bytes again")
        self.tensors[name] = spec
        self._parts[name] = pieces

    def _take_names(self, table: object) -> None:
        if table is None:
            return
        if not isinstance(table, dict):
            raise self._broken(f"has {describe(table)} for its table of parameter names")
        for name, parameter in table.items():
            if not (isinstance(name, str) and isinstance(parameter, (str, TextSpan))):
                raise self._broken("has a table of parameter names in which something else than texts stands")
            # Names so long that they were left in the file are no parameters'.
            if isinstance(parameter, str):
                self.parameter_names[name] = parameter

    def _join(
        self, root: dict[object, object], table: object
    ) -> dict[str, tuple[tuple[int, ...], tuple[PickledArray, ...]]]:
        """Take the pieces of big arrays out of ``root``; return shape and pieces by the arrays' names."""
        if table is None:
            return {}
        if not isinstance(table, dict):
            raise self._broken(f"has {describe(table)} for its table of slices")
        joined = {}
        for name, entry in table.items():
            if not isinstance(name, str) or not isinstance(entry, dict) or name in root:
                raise self._broken(f"has a table of slices with a wrong entry, {describe(name)}")
            slices = entry.get("slices")
            if not isinstance(slices, (list, tuple)) or not slices:
                raise self._broken(f"does not say which slices {describe(name)} has")
            pieces = tuple(self._slice(root, name, key) for key in slices)
            joined[name] = (self._sliced_shape(name, entry.get("OriginShape"), pieces), pieces)
        return joined

    def _slice(self, root: dict[object, object], name: str, key: object) -> PickledArray:
        """Take one slice out of ``root``: none can serve twice."""
        array = root.pop(key, None) if isinstance(key, str) else None
        if not isinstance(array, PickledArray):
            raise self._broken(f"lacks {describe(key)}, a slice of {describe(name)}, or uses it twice")
        if len(array.shape) != 1:
            raise self._broken(f"has a slice that is not flat, {describe(key)}")
        return array

    def _sliced_shape(self, name: str, shape: object, pieces: Sequence[PickledArray]) -> tuple[int, ...]:
        try:
            dims = checked_shape(shape)
        except ValueError as error:
            raise self._broken(f"gives {describe(name)} an impossible shape: {error}") from error
        if len({piece.dtype for piece in pieces}) != 1:
            raise self._broken(f"has slices of several types for {describe(name)}")
        elements = sum(piece.shape[0] for piece in pieces)
        if elements != math.prod(dims):
            raise self._broken(f"has slices of {elements} elements for {describe(name)} of shape {list(dims)}")
        return dims

    def extents(self, name: str) -> tuple[Extent, ...] | None:
        found: list[Extent] = []
        for piece in self._parts[name]:
            extents = array_extents(piece, self._file)
            if extents is None:
                return None
            found += extents
        return tuple(found)

    def read_into(self, name: str, start: int, view: memoryview) -> None:
        done = 0
        for piece, blocks in zip(self._parts[name], self._blocks_of(name), strict=True):
            count = min(piece.nbytes - start, len(view) - done)
            if count > 0:
                blocks.read_into(start, view[done : done + count])
                done += count
            start = max(0, start - piece.nbytes)
        if done < len(view):
            raise ValueError("asked for more bytes than the tensor has")

    def _blocks_of(self, name: str) -> tuple[BlockReader, ...]:
        with self._lock:
            blocks = self._blocks.pop(name, None)
            if blocks is None:
                blocks = tuple(array_blocks(piece, self._file) for piece in self._parts[name])
            self._blocks[name] = blocks
            if len(self._blocks) > _KEPT_BLOCKS:
                self._blocks.popitem(last=False)
            return blocks

    def close(self) -> None:
        self._blocks.clear()
        self._file.close()


def _marked(root: object) -> object:
    """Put a NamedArray in the place of every pair of a name and an array that lies in a dict or list."""
    todo = [root]
    seen: set[int] = set()
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        children = list(
            value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
        )
        todo += children
        named = [_named_array(child) for child in children]
        if isinstance(value, dict):
            value.update({key: found for key, found in zip(value, named, strict=True) if found})
        elif isinstance(value, list):
            value[:] = [found or child for found, child in zip(named, children, strict=True)]
    return _named_array(root) or root


_WRITABLE = {
    "bool": "b1",
    "int8": "i1",
    "int16": "i2",
    "int32": "i4",
    "int64": "i8",
    "uint8": "u1",
    "uint16": "u2",
    # As Paddle stores it.
    "bfloat16": "u2",
    "float16": "f2",
    "float32": "f4",
    "float64": "f8",
    "complex64": "c8",
    "complex128": "c16",
}


class PaddlePickleWriter(SingleFileWriter):
    """Writes what ``paddle.save(layer.state_dict(), path)`` writes, of NumPy 1 and protocol 4.

    bfloat16 is stored as uint16, as Paddle does it. ``metadata`` may hold ``parameter_names`` (JSON: the
    parameter's name by the tensor's); without it the table of names is left out, which Paddle does not mind.

    Raises:
        MappingError: Paddle cannot load an array of that element type, or the names are no table.
        OutputError: the file cannot be created.
    """

    container = "paddle-pickle"

    def __init__(
        self,
        path: str | os.PathLike[str],
        tensors: Sequence[TensorSpec],
        *,
        metadata: Mapping[str, str] | None = None,
        ties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(path, tensors, metadata=metadata, ties=ties)
        for spec in self.tensors.values():
            if spec.dtype.name not in _WRITABLE:
                raise refuse_dtype("A Paddle state dict", spec)
        names = self._parameter_names()
        pickle = PickleLayout()
        try:
            self._lay_out(pickle, names)
        except UnicodeEncodeError as error:
            raise MappingError("A name is no text that UTF-8 can hold.") from error
        self.offsets = pickle.gaps
        self._fd = create(self.path, pickle.size)
        try:
            for offset, data in pickle.pieces:
                write_at(self._fd, offset, data)
        except OSError as error:
            self.close()
            raise output_error(error, self.path) from error

    def _parameter_names(self) -> dict[str, str] | None:
        """Return the table of names for the tensors that are here: Paddle fails over one that is not."""
        text = self.metadata.get(PARAMETER_NAMES)
        if text is None:
            return None
        try:
            table = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise MappingError(f"The metadata {PARAMETER_NAMES!r} is no valid JSON.") from error
        if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
            raise MappingError(f"The metadata {PARAMETER_NAMES!r} is no table from names to names.")
        return {name: parameter for name, parameter in table.items() if name in self.tensors}

    def _lay_out(self, pickle: PickleLayout, names: dict[str, str] | None) -> None:
        # None stands for the table of names.
        table = () if names is None else (None,)
        for spec in pickle.entries([*self.tensors.values(), *table]):
            if spec is not None:
                pickle.text(spec.name, ("key", spec.name))
                pickle.array(spec.name, _WRITABLE[spec.dtype.name], spec.shape, spec.nbytes)
                continue
            pickle.text(_NAME_TABLE)
            for name, parameter in pickle.entries(list((names or {}).items())):
                pickle.text(name, ("key", name))
                pickle.text(parameter)
        pickle.finish()


_CONTAINERS = ("EMPTY_DICT", "DICT", "EMPTY_LIST", "LIST", "MARK", "GLOBAL", "SHORT_BINUNICODE", "BINUNICODE")
_PREAMBLE = ("PROTO", "FRAME")
_IMPORTING = ("GLOBAL", "STACK_GLOBAL")


def sniff(probe: Probe) -> bool:
    """Say whether a file is a pickle of a container, or of an array, that names NumPy's arrays near its start."""
    # PyTorch's legacy files and others are pickles too; but they do not begin with a container of arrays.
    if probe.is_dir or not probe.head:
        return False
    opened = False
    for opcode, value in _opcodes(probe.head):
        if opcode in _PREAMBLE:
            continue
        if not opened and opcode not in _CONTAINERS:
            return False
        opened = True
        if value == _NAME_TABLE or (opcode in _IMPORTING and value in _ARRAY_NAMES):
            return True
    return False


_ARRAY_NAMES = frozenset(f"{module} {name}" for module, name in pickled_numpy.ALLOWED if module.startswith("numpy."))


def _opcodes(head: bytes) -> Iterator[tuple[str, object]]:
    """Yield name and argument of the opcodes in the first bytes of a pickle, up to where they are cut off.

    The argument of an import is the module and the name with a space between.
    """
    import pickletools

    starts = {opcode.code for opcode in pickletools.opcodes if opcode.name in (*_PREAMBLE, *_CONTAINERS)}
    if head[:1].decode("latin-1") not in starts:
        return  # Not even an opcode's argument is looked at in a file of another kind.
    texts = ["", ""]
    try:
        for opcode, value, _ in pickletools.genops(head):
            if isinstance(value, str) and "UNICODE" in opcode.name:
                texts = [texts[1], value]
            yield opcode.name, " ".join(texts) if opcode.name == "STACK_GLOBAL" else value
    except ValueError:
        return


def open_reader(path: Path) -> PaddlePickleReader:
    """Open a state dict.

    Raises:
        FormatError: it is damaged or hostile.
    """
    return PaddlePickleReader(path)


def open_writer(
    path: Path,
    tensors: Sequence[TensorSpec],
    *,
    metadata: Mapping[str, str] | None = None,
    ties: Mapping[str, str] | None = None,
) -> PaddlePickleWriter:
    """Create a state dict.

    Raises:
        MappingError: an element type has no place in it.
        OutputError: it cannot be created.
    """
    return PaddlePickleWriter(path, tensors, metadata=metadata, ties=ties)
