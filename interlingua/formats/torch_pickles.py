"""What PyTorch pickles around its storages, in every form of its files: tensors as views of named storages.

Source: pytorch/pytorch: torch/_utils.py (``_rebuild_*``), torch/_tensor.py (``__reduce_ex__``), torch/storage.py
(``_dtype_to_storage_type_map``), torch/serialization.py (``persistent_load``).
"""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections import OrderedDict
from dataclasses import dataclass, replace

from interlingua.errors import FormatError
from interlingua.formats import pickled_numpy, pickled_objects
from interlingua.formats.base import Extent, Reader, SourceFile, TensorSpec
from interlingua.formats.dtypes import DTYPES, UINT8, DType
from interlingua.formats.pickled_numpy import PickledArray, array_blocks, array_extents
from interlingua.formats.pickled_objects import leaf_object, named_leaves
from interlingua.formats.pickles import Global, Inert, Make, Opaque, describe, refuse_call
from interlingua.formats.strided import (
    BlockReader,
    FileRegion,
    Source,
    View,
    block_reader,
    checked_naturals,
    checked_shape,
)

STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
    "complex128": "ComplexDoubleStorage",
}
"""The storage class of each element type that has one of its own."""

UNTYPED = (
    "uint16",
    "uint32",
    "uint64",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
)
"""The element types whose tensors name them and lie in storages of bytes (torch 2.1 and later)."""

_STORAGE_DTYPES = {storage: DTYPES[name] for name, storage in STORAGES.items()}
_STORAGE_DTYPES |= dict.fromkeys(("UntypedStorage", "_UntypedStorage"), UINT8)

_QUANTIZED = ("QInt8Storage", "QUInt8Storage", "QInt32Storage", "QUInt4x2Storage", "QUInt2x4Storage")

_DTYPES = {name: DTYPES[name] for name in (*STORAGES, *UNTYPED)}

_OTHER_DTYPES = ("qint8", "quint8", "qint32", "quint4x2", "quint2x4", "complex32", "float4_e2m1fn_x2")

# Views may use the same bytes again and again, so a small file could stand for more data than any disk holds.
_MAX_SHARING = 1024
_FREE = 1 << 30

_MAX_TENSORS = 1 << 16

_KEPT_BLOCKS = 4


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage as a pickle refers to it: ``numel`` elements from element ``start`` of the one called ``key``.

    Attributes:
        key: its name in the file.
        dtype: its element type.
        total: elements of the whole storage.
        start: where the part that is meant begins, in elements.
        numel: elements of the part.
    """

    key: str
    dtype: DType
    total: int
    start: int
    numel: int

    @property
    def total_nbytes(self) -> int:
        """Bytes of the whole storage."""
        return self.total * self.dtype.itemsize


class PickledTensor(Inert):
    """A tensor: a view of a storage. Attributes that Python code hung on it are dropped."""

    __slots__ = ("storage", "view")

    def __init__(self, storage: Storage, view: View) -> None:
        self.storage = storage
        self.view = view

    def set_state(self, state: object) -> None:
        pass


class Unreadable(Inert):
    """A tensor of a kind that has no plain elements; ``kind`` says which."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def set_state(self, state: object) -> None:
        pass


def stored_tuple(identity: object, fields: int) -> tuple[object, ...]:
    """Return the fields of a persistent id after the word ``storage``.

    Raises:
        ValueError: it means something else than a storage, or has another number of fields.
    """
    if not isinstance(identity, tuple) or not identity or not isinstance(identity[0], str):
        raise ValueError(f"{describe(identity)} is no persistent id of PyTorch's")
    if identity[0] == "module":
        raise ValueError("it is a module, with its code; save its state_dict() instead")
    if identity[0] != "storage" or len(identity) != fields + 1:
        raise ValueError(f"{describe(identity[0])} with {len(identity)} fields is no storage")
    return identity[1:]


def storage_of(kind: object, key: object, location: object, numel: object, part: object = None) -> object:
    """Return the Storage that a persistent id means, or what says that its data is not in the file.

    Args:
        kind: the storage class.
        key: its name in the file.
        location: the device it was on.
        numel: its elements.
        part: (name of the part, first element, elements) of the part that is meant, in the legacy form; None
            for all of it.

    Raises:
        ValueError: one of them is not what it should be.
    """
    if not isinstance(kind, Global) or not isinstance(key, str) or not isinstance(location, str):
        raise ValueError(f"a storage of {describe(kind)} cannot be called {describe(key)}")
    if location == "meta":
        return Unreadable("on the meta device, without data")
    dtype = _STORAGE_DTYPES.get(kind.name)
    if dtype is None:
        return Unreadable(f"in a {kind.name}, whose elements are encoded")
    (total,) = checked_naturals((numel,))
    if part is None:
        return Storage(key, dtype, total, 0, total)
    if not isinstance(part, tuple) or len(part) != 3:
        raise ValueError("a part of a storage is damaged")
    start, count = checked_naturals(part[1:])
    if start + count > total:
        raise ValueError(f"a part of a storage ends at element {start + count} of {total}")
    return Storage(key, dtype, total, start, count)


def tensor_of(
    storage: object,
    offset: object,
    size: object,
    strides: object,
    _requires_grad: object = None,
    _hooks: object = None,
    metadata: object = None,
    dtype: DType | None = None,
) -> object:
    """Stand for ``_rebuild_tensor`` and ``_rebuild_tensor_v2``."""
    if isinstance(storage, Unreadable):
        return storage
    if not isinstance(storage, Storage):
        raise ValueError(f"{describe(storage)} is no storage")
    if metadata:
        return Unreadable("lazily conjugated or negated")
    shape, steps = checked_shape(size), checked_naturals(strides)
    (first,) = checked_naturals((offset,))
    if len(shape) != len(steps):
        raise ValueError(f"a tensor has {len(shape)} axes and {len(steps)} strides")
    kind = dtype or storage.dtype
    have = storage.numel * storage.dtype.itemsize
    if storage.start and kind is not storage.dtype:
        raise ValueError("a part of a storage is read as another type")
    if View(kind, shape, steps, first).reach > have:
        raise ValueError(f"a tensor of shape {list(shape)} reaches beyond its storage of {have} bytes")
    return PickledTensor(storage, View(kind, shape, steps, storage.start + first))


def _tensor_v3(
    storage: object,
    offset: object,
    size: object,
    strides: object,
    requires_grad: object,
    hooks: object,
    dtype: object,
    metadata: object = None,
) -> object:
    found = _DTYPES.get(dtype.name) if isinstance(dtype, Global) and dtype.module == "torch" else None
    if found is None:
        return Unreadable(f"of type {describe(dtype)}")
    return tensor_of(storage, offset, size, strides, requires_grad, hooks, metadata, found)


def _parameter(data: object, *_: object) -> object:
    """Stand for a parameter, which is its tensor."""
    if not isinstance(data, (PickledTensor, Unreadable)):
        raise ValueError(f"{describe(data)} is no tensor")
    return data


def _converted(data: object, dtype: object = None, *_: object) -> object:
    """Stand for a tensor of a device that saves it as one of the processor's, or as a NumPy array."""
    name = dtype.name if isinstance(dtype, Global) else None
    if isinstance(data, PickledTensor):
        return data if data.view.dtype.name == name else Unreadable("of another type than its data")
    if isinstance(data, PickledArray):
        return data if data.dtype.name == name else Unreadable("of another type than its data")
    raise ValueError(f"{describe(data)} is no tensor")


def _unreadable(kind: str) -> Make:
    def make(*_: object) -> Unreadable:
        return Unreadable(kind)

    return make


_REBUILDS: dict[str, Make] = {
    "_rebuild_tensor": tensor_of,
    "_rebuild_tensor_v2": tensor_of,
    "_rebuild_tensor_v3": _tensor_v3,
    "_rebuild_parameter": _parameter,
    "_rebuild_parameter_with_state": _parameter,
    "_rebuild_device_tensor_from_cpu_tensor": _converted,
    "_rebuild_device_tensor_from_numpy": _converted,
    "_rebuild_xla_tensor": _converted,
    "_rebuild_meta_tensor_no_storage": _unreadable("on the meta device, without data"),
    "_rebuild_qtensor": _unreadable("quantised"),
    "_rebuild_sparse_tensor": _unreadable("sparse"),
    "_rebuild_sparse_csr_tensor": _unreadable("sparse"),
    "_rebuild_nested_tensor": _unreadable("nested"),
    "_rebuild_wrapper_subclass": _unreadable("a wrapper without data of its own"),
}


def _from_type(function: object, _kind: object, args: object, _state: object = None) -> object:
    """Stand for ``_rebuild_from_type_v2``, which calls one of the others and dresses its tensor as a subclass."""
    # The table is asked again, and not ``function.make``: a file could nest this call in itself.
    rebuild = _REBUILDS.get(function.name) if isinstance(function, Global) else None
    if rebuild is None or not isinstance(args, tuple):
        raise ValueError(f"{describe(function)} makes no tensor")
    return rebuild(*args)


def _size(lengths: object = ()) -> tuple[int, ...]:
    return checked_shape(lengths)


def _device(kind: object = "", index: object = None) -> Opaque:
    return Opaque(f"torch.device {describe(kind)}" + ("" if index is None else f" {describe(index)}"))


def _titled(text: object = "", *_: object) -> object:
    return text if isinstance(text, str) else describe(text)


_TENSOR_CLASSES = tuple(f"{name}Tensor" for name in ("Float", "Double", "Half", "Byte", "Char", "Short", "Int", "Long"))

_VALUES = (
    *_STORAGE_DTYPES,
    *_QUANTIZED,
    *_TENSOR_CLASSES,
    *_DTYPES,
    *_OTHER_DTYPES,
    "Tensor",
    "per_tensor_affine",
    "per_channel_affine",
    "per_channel_affine_float_qparams",
    "strided",
    "sparse_coo",
    "sparse_csr",
)

ALLOWED: dict[tuple[str, str], Make] = {
    **pickled_objects.ALLOWED,
    **pickled_numpy.ALLOWED,
    **{("torch._utils", name): make for name, make in _REBUILDS.items()},
    **{
        (module, name): _from_type
        for module in ("torch._tensor", "torch.tensor")
        for name in ("_rebuild_from_type", "_rebuild_from_type_v2")
    },
    **{("torch", name): refuse_call for name in _VALUES},
    **{("torch.cuda", name): refuse_call for name in (*_STORAGE_DTYPES, *_TENSOR_CLASSES)},
    **{("torch.storage", name): refuse_call for name in ("UntypedStorage", "_UntypedStorage")},
    ("torch._tensor", "Tensor"): refuse_call,
    ("torch.nn.parameter", "Parameter"): _parameter,
    ("torch.nn.parameter", "Buffer"): _parameter,
    ("torch.autograd.variable", "Variable"): _parameter,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    ("torch.serialization", "_get_layout"): _titled,
    ("torch.torch_version", "TorchVersion"): _titled,
}
"""What stands for the names that PyTorch's files need."""


class TorchReader(Reader):
    """What the readers of PyTorch's forms have in common: tensors as views of sources, and gathering.

    A subclass reads its pickle, then calls ``_take`` with the object.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._file = SourceFile(path)
        self._pickle_file = self._file
        self._parts: dict[str, tuple[View, Source | PickledArray]] = {}
        self._blocks: OrderedDict[str, BlockReader] = OrderedDict()
        self._lock = threading.Lock()
        self._big_endian = False
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def _open(self) -> None:
        """Read what the file says of its tensors."""

    @abstractmethod
    def _place(self, storage: Storage) -> Source:
        """Return the whole storage's bytes; raise FormatError where they are not there."""

    def _take(self, root: object) -> None:
        """Take tensors and objects from the object that was pickled in ``_pickle_file``."""
        allowance = _MAX_SHARING * self._file.size + _FREE
        for path, value in named_leaves(self._pickle_file, root):
            name = "tensor" if path is None else path
            found = self._located(name, value)
            if found is None:
                self._note("object" if path is None else path, leaf_object(self._pickle_file, value))
                continue
            view, _ = found
            if name in self._parts:
                raise FormatError(f"has two tensors that would both be called {name!r}", path=self.path)
            allowance -= view.nbytes
            if len(self._parts) == _MAX_TENSORS:
                raise FormatError(f"has more than {_MAX_TENSORS} tensors", path=self.path)
            if allowance < 0:
                raise FormatError("claims tensors far larger than the file, by using its bytes again", path=self.path)
            self._parts[name] = found
            self.tensors[name] = TensorSpec(name, view.dtype, view.shape)

    def _located(self, name: str, value: object) -> tuple[View, Source | PickledArray] | None:
        """Return where a leaf's data lies; None for a leaf that is no tensor."""
        if isinstance(value, Storage):
            value = PickledTensor(value, View(value.dtype, (value.numel,), (1,), value.start))
        if isinstance(value, PickledTensor):
            return replace(value.view, big_endian=self._big_endian), self._place(value.storage)
        if isinstance(value, PickledArray):
            return value.view, value
        if isinstance(value, Unreadable):
            raise FormatError(
                f"holds the tensor {name!r}, which is {value.kind}: it has no plain elements to convert",
                path=self.path,
                hint="Save it as an ordinary tensor, or leave it out.",
            )
        return None

    def _note(self, name: str, value: object) -> None:
        clash = name in self.objects and self.objects[name] != value
        self.objects[name] = "<several objects of this name>" if clash else value

    def extents(self, name: str) -> tuple[Extent, ...] | None:
        view, origin = self._parts[name]
        if isinstance(origin, PickledArray):
            return array_extents(origin, self._file) if self._pickle_file is self._file else None
        return view.extents(origin.file, origin.offset) if isinstance(origin, FileRegion) else None

    def read_into(self, name: str, start: int, view: memoryview) -> None:
        self._blocks_of(name).read_into(start, view)

    def _blocks_of(self, name: str) -> BlockReader:
        """Return what reads a tensor; few are kept, for some keep a part of their tensor."""
        with self._lock:
            blocks = self._blocks.pop(name, None)
            if blocks is None:
                while len(self._blocks) >= _KEPT_BLOCKS:
                    self._blocks.popitem(last=False)
                blocks = self._opened(*self._parts[name])
            self._blocks[name] = blocks
            return blocks

    def _opened(self, view: View, origin: Source | PickledArray) -> BlockReader:
        if isinstance(origin, PickledArray):
            return array_blocks(origin, self._pickle_file)
        return block_reader(self._seekable(origin) if view.runs() is None else origin, view)

    def _seekable(self, source: Source) -> Source:
        """Return the same bytes as a source that is fast at any place."""
        return source

    def close(self) -> None:
        self._blocks.clear()
        self._file.close()
