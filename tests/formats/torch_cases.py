"""State dicts as PyTorch holds them, for the tests of its three kinds of files."""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from interlingua.formats.base import Reader, TensorSpec, blocks, checksum_of, write_at
from interlingua.formats.dtypes import DTYPES

torch = pytest.importorskip("torch")

TYPED = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.complex128,
)
UNTYPED = (
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
)
ALL = TYPED + UNTYPED


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def random_tensor(dtype: torch.dtype, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """A tensor of arbitrary bits; bools are 0 or 1."""
    count = int(np.prod(shape, dtype=np.int64))
    data = bytearray(random.Random(seed).randbytes(count * dtype.itemsize))
    if dtype == torch.bool:
        data = bytearray(byte & 1 for byte in data)
    return torch.frombuffer(data, dtype=dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)


def bits(tensor: torch.Tensor) -> bytes:
    """The row-major little-endian bytes of a tensor, by PyTorch's own reckoning."""
    if tensor.numel() == 0:
        return b""
    packed = tensor.detach().reshape(-1).clone(memory_format=torch.contiguous_format)
    return packed.view(torch.uint8).numpy().tobytes()


def data_of(reader: Reader, name: str, block: int = 1 << 20) -> bytes:
    """A tensor's bytes as the reader gives them in blocks; extents, where there are any, must say the same."""
    nbytes = reader.tensors[name].nbytes
    out = bytearray(nbytes)
    for start, length in blocks(nbytes, block):
        reader.read_into(name, start, memoryview(out)[start : start + length])
    extents = reader.extents(name)
    if extents is not None:
        assert b"".join(e.file.read_at(e.offset, e.nbytes, name) for e in extents) == out
    return bytes(out)


def assert_reads(reader: Reader, expected: Mapping[str, torch.Tensor]) -> None:
    """Assert that a reader has exactly these tensors, bit for bit."""
    assert list(reader.tensors) == list(expected)
    for name, tensor in expected.items():
        assert reader.tensors[name] == TensorSpec(name, DTYPES[name_of(tensor.dtype)], tuple(tensor.shape))
        assert data_of(reader, name) == bits(tensor), name


def flat(value: object, prefix: str = "") -> dict[str, torch.Tensor]:
    """Nested dicts, lists and tuples of tensors, under their paths."""
    if isinstance(value, torch.Tensor):
        return {prefix: value}
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    found: dict[str, torch.Tensor] = {}
    for key, entry in entries:
        found |= flat(entry, f"{prefix}.{key}" if prefix else str(key))
    return found


@st.composite
def tensors(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = ALL, plain: bool = False) -> torch.Tensor:
    """A tensor, often a view of a larger storage in some other order."""
    dims = tuple(draw(st.lists(st.integers(0, 5), max_size=5)))
    tensor = random_tensor(draw(st.sampled_from(dtypes)), dims, draw(st.integers(0, 1 << 30)))
    if plain or not dims:
        return tensor
    kind = draw(st.sampled_from(("whole", "permuted", "sliced", "stepped", "expanded", "flipped axes")))
    axis = draw(st.integers(0, len(dims) - 1))
    if kind == "permuted":
        return tensor.permute(draw(st.permutations(range(len(dims)))))
    if kind == "sliced":
        return tensor.narrow(axis, dims[axis] // 2, dims[axis] - dims[axis] // 2)
    if kind == "stepped":
        return tensor[(slice(None),) * axis + (slice(None, None, 2),)]
    if kind == "expanded":
        return tensor.unsqueeze(axis).expand(*dims[:axis], 3, *dims[axis:])
    return tensor.transpose(0, axis) if kind == "flipped axes" else tensor


@st.composite
def state_dicts(
    draw: st.DrawFn, names: st.SearchStrategy[str], dtypes: tuple[torch.dtype, ...] = ALL, plain: bool = False
) -> dict[str, torch.Tensor]:
    """Tensors by name, some of them one tensor under two names or two views of one storage."""
    chosen = draw(st.lists(names, max_size=6, unique=True))
    found: dict[str, torch.Tensor] = {}
    for name in chosen:
        if not plain and found and draw(st.integers(0, 3)) == 0:
            shared = draw(st.sampled_from(list(found.values())))
            found[name] = shared.reshape(-1)[1:] if shared.is_contiguous() and shared.numel() > 2 else shared
        else:
            found[name] = draw(tensors(dtypes, plain))
    return found


def write_all(writer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors with an open writer, out of order, in pieces, and finish."""
    for name in reversed(list(tensors)):
        if name in writer.ties:
            continue
        data = bits(tensors[name])
        half = len(data) // 2
        with writer.slot(name) as slot:
            write_at(slot.fd, slot.offset + half, data[half:])
            write_at(slot.fd, slot.offset, data[:half])
        writer.seal(name, checksum_of(writer.checksum, data))
    writer.finish()


def specs_of(tensors: Mapping[str, torch.Tensor]) -> list[TensorSpec]:
    return [TensorSpec(name, DTYPES[name_of(t.dtype)], tuple(t.shape)) for name, t in tensors.items()]


# Torch's own pickles, made by hand where PyTorch would never write such a thing.


class Global:
    """Pickles as a bare name of a module, which need not exist."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """Pickles as the call of a name with arguments."""

    def __init__(self, module: str, name: str, *args: object) -> None:
        self.function, self.args = Global(module, name), args


class Persistent:
    """Pickles as a persistent id."""

    def __init__(self, *identity: object) -> None:
        self.identity = identity


class _Pickler(pickle._Pickler):
    """Python's pickler, taught the three of them."""

    def persistent_id(self, obj: object) -> object:
        return obj.identity if isinstance(obj, Persistent) else None

    def save(self, obj: object, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Global):
            self.write(b"c" + obj.module.encode() + b"\n" + obj.name.encode() + b"\n")
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.args)
            self.write(b"R")
        else:
            super().save(obj, save_persistent_id)


def dumps(obj: object, protocol: int = 2) -> bytes:
    """The pickle of an object that may hold Global, Call and Persistent."""
    out = io.BytesIO()
    _Pickler(out, protocol).dump(obj)
    return out.getvalue()


def storage(key: object = "0", numel: object = 4, kind: str = "FloatStorage", location: object = "cpu") -> Persistent:
    return Persistent("storage", Global("torch", kind), key, location, numel)


def rebuilt(source: object, offset: object, size: object, stride: object) -> Call:
    hooks = Call("collections", "OrderedDict")
    return Call("torch._utils", "_rebuild_tensor_v2", source, offset, size, stride, False, hooks)


def zip_of(
    path: Path, data: bytes, storages: Mapping[str, bytes], *, method: int = 0, order: bytes = b"little"
) -> Path:
    """A zip as PyTorch's, with any pickle and any storages in it."""
    with zipfile.ZipFile(path, "w", method) as out:
        out.writestr("archive/data.pkl", data)
        out.writestr("archive/byteorder", order)
        for key, content in storages.items():
            out.writestr(f"archive/data/{key}", content)
        out.writestr("archive/version", "3\n")
    return path


def as_tensors(value: object) -> dict[str, torch.Tensor]:
    """What a file holds according to PyTorch: tensors, storages and NumPy arrays, all as tensors, by path."""
    if isinstance(value, (dict, list, tuple)):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        nested = {str(key): as_tensors(entry) for key, entry in entries}
        return {
            f"{key}.{name}" if name != "tensor" else key: t for key, part in nested.items() for name, t in part.items()
        }
    if isinstance(value, np.ndarray):
        return {"tensor": torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C"))}
    if isinstance(value, torch.storage.TypedStorage):
        untyped = value._untyped_storage
        return {
            "tensor": torch.empty(0, dtype=value.dtype).set_(untyped, 0, (untyped.nbytes() // value.dtype.itemsize,))
        }
    return {"tensor": value} if isinstance(value, torch.Tensor) else {}
