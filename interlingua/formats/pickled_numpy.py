"""NumPy arrays inside pickles: what stands in for them, and how their data is read where it lies.

Source: numpy/numpy: numpy/_core/src/multiarray/methods.c (array_reduce, array_setstate),
numpy/_core/src/multiarray/descriptor.c (arraydescr_reduce, arraydescr_setstate), numpy/_core/numeric.py
(_frombuffer). NumPy 1 spells the package numpy.core, NumPy 2 numpy._core.
"""

from __future__ import annotations

import math
import struct
import threading
from bisect import bisect_right

from interlingua.errors import FormatError
from interlingua.formats.base import Extent, SourceFile
from interlingua.formats.dtypes import DTYPES, NUMPY_CODES, DType
from interlingua.formats.pickles import Global, Inert, Make, Span, TextSpan, describe, refuse_call
from interlingua.formats.strided import (
    BlockReader,
    FileRegion,
    MemoryRegion,
    Source,
    View,
    block_reader,
    checked_shape,
    column_major,
    row_major,
)

_ML_DTYPES = ("bfloat16", *(name for name in DTYPES if name.startswith("float8")))

_SCALARS = {
    "bool": "?",
    "int8": "b",
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "uint8": "B",
    "uint16": "H",
    "uint32": "I",
    "uint64": "Q",
    "float16": "e",
    "float32": "f",
    "float64": "d",
    "complex64": "ff",
    "complex128": "dd",
}

_CHUNK = 1 << 18
"""Bytes of a text that are decoded at a time."""


class PickledDType(Inert):
    """A NumPy dtype: an element type and a byte order."""

    __slots__ = ("big_endian", "dtype")

    def __init__(self, code: object, _align: object = False, _copy: object = True) -> None:
        name = NUMPY_CODES.get(code) if isinstance(code, str) else None
        if isinstance(code, Global) and code.module == "ml_dtypes":
            name = code.name
        if name is None:
            raise ValueError(f"arrays of {describe(code)} (objects, records, texts) are no tensors")
        self.dtype = DTYPES[name]
        self.big_endian = False

    def set_state(self, state: object) -> None:
        """Take the byte order from (version, order, subarray, names, fields, size, alignment, flags)."""
        if not isinstance(state, tuple) or len(state) < 5:
            raise ValueError("its state is damaged")
        if state[2:5] != (None, None, None):
            raise ValueError("arrays of records are no tensors")
        if state[1] not in ("<", ">", "=", "|"):
            raise ValueError(f"there is no byte order {describe(state[1])}")
        self.big_endian = state[1] == ">"


class PickledArray(Inert):
    """A NumPy array.

    Attributes:
        dtype: element type.
        shape: elements along each axis.
        fortran: whether the data is column-major.
        big_endian: whether its elements are.
        data: its bytes, or where in the file they lie: as they are (Span), or as a text with one character,
            at most 0xFF, a byte (TextSpan; protocols before 3 have no byte strings).
    """

    __slots__ = ("big_endian", "data", "dtype", "fortran", "shape")

    def __init__(self) -> None:
        self.dtype: DType = DTYPES["int8"]
        self.shape: tuple[int, ...] = (0,)
        self.fortran = False
        self.big_endian = False
        self.data: bytes | Span | TextSpan = b""

    def set_state(self, state: object) -> None:
        """Take (version, shape, dtype, fortran, data); the version is missing in the oldest."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise ValueError("its state is damaged")
        shape, dtype, fortran, data = state[-4:]
        if not isinstance(dtype, PickledDType):
            raise ValueError(f"its dtype is {describe(dtype)}")
        if isinstance(data, str):
            # A string of Python 2, which was read as UTF-8: the way back gives its very bytes.
            data = data.encode()
        if not isinstance(data, (bytes, Span, TextSpan)):
            raise ValueError(f"its data is {describe(data)}")
        self.dtype, self.big_endian = dtype.dtype, dtype.big_endian
        self.shape = checked_shape(shape)
        self.fortran = bool(fortran) and len(self.shape) > 1
        self.data = data
        self._check_size()

    def _check_size(self) -> None:
        have = len(self.data) if isinstance(self.data, bytes) else self.data.nbytes
        fits = self.nbytes == have
        if isinstance(self.data, TextSpan):
            # Characters from 0x80 on take two bytes of UTF-8; the exact count shows when they are read.
            fits = self.nbytes <= have <= 2 * self.nbytes
        if not fits:
            raise ValueError(f"its shape {list(self.shape)} of {self.dtype} does not fit its data of {have} bytes")

    @property
    def nbytes(self) -> int:
        """Bytes of the array's elements."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def view(self) -> View:
        """Where the elements lie in the data."""
        strides = column_major(self.shape) if self.fortran else row_major(self.shape)
        return View(self.dtype, self.shape, strides, 0, self.big_endian)


def array_extents(array: PickledArray, file: SourceFile) -> tuple[Extent, ...] | None:
    """Return the runs of ``file`` that are the array's data, row-major and little-endian; None if none are."""
    return array.view.extents(file, array.data.offset) if isinstance(array.data, Span) else None


def array_blocks(array: PickledArray, file: SourceFile) -> BlockReader:
    """Return what reads the array's data, whatever its order, byte order and encoding, in bounded memory."""
    return block_reader(array_source(array, file), array.view)


def array_source(array: PickledArray, file: SourceFile) -> Source:
    """Return the array's data as it was pickled, as bytes that can be read at any place."""
    if isinstance(array.data, bytes):
        return MemoryRegion(array.data)
    if isinstance(array.data, Span):
        return FileRegion(file, array.data.offset)
    return Latin1Text(file, array.data, array.nbytes)


class Latin1Text:
    """Bytes written as a text of as many characters, itself in UTF-8. Safe for several threads.

    It keeps the last 256 KB that it decoded: do not hold one for each of many arrays.

    Every character must be at most 0xFF and their number ``nbytes`` exactly; both are checked as they are read.
    """

    def __init__(self, file: SourceFile, span: TextSpan, nbytes: int) -> None:
        self.file = file
        self.span = span
        self.nbytes = nbytes
        self.lock = threading.Lock()
        # Where decoding can be taken up: (number of a character, its place in the UTF-8), in ascending order.
        self.places = [(0, 0)]
        self.chunk = -1
        self.data = b""

    def read_into(self, start: int, view: memoryview) -> None:
        """Fill ``view`` with the bytes from ``start``."""
        if start < 0 or start + len(view) > self.nbytes:
            raise ValueError("asked for more bytes than the array has")
        done = 0
        with self.lock:
            while done < len(view):
                low = self._seek(start + done)
                piece = self.data[low : low + len(view) - done]
                view[done : done + len(piece)] = piece
                done += len(piece)

    def _seek(self, number: int) -> int:
        """Make the chunk that has byte ``number`` the current one; return the byte's place in it."""
        while True:
            chunk = bisect_right(self.places, (number, self.span.nbytes)) - 1
            if chunk != self.chunk:
                self.data = self._decoded(chunk)
                self.chunk = chunk
            low = number - self.places[chunk][0]
            if low < len(self.data):
                return low

    def _decoded(self, chunk: int) -> bytes:
        """Return the bytes that a chunk of the text stands for, and note where the next one begins."""
        number, at = self.places[chunk]
        raw = self.file.read_at(self.span.offset + at, min(_CHUNK, self.span.nbytes - at), "an array")
        # A character of two bytes may lie across the end: it is left to the next chunk.
        if raw[-1:] >= b"\xc0" and at + len(raw) < self.span.nbytes:
            raw = raw[:-1]
        try:
            data = raw.decode().encode("latin-1")
        except UnicodeError as error:
            raise self._damaged(at) from error
        number, at = number + len(data), at + len(raw)
        if number > self.nbytes or (number < self.nbytes) == (at == self.span.nbytes):
            raise self._damaged(at)
        if chunk + 1 == len(self.places):
            self.places.append((number, at))
        return data

    def _damaged(self, at: int) -> FormatError:
        return FormatError(
            f"has an array whose text does not stand for {self.nbytes} bytes",
            path=self.file.path,
            offset=self.span.offset + at,
        )


def _reconstruct(kind: object, _shape: object = None, _code: object = None) -> PickledArray:
    if not (isinstance(kind, Global) and kind.name == "ndarray"):
        raise ValueError(f"{describe(kind)} is no array")
    return PickledArray()


def _frombuffer(data: object, dtype: object, shape: object, order: object) -> PickledArray:
    array = PickledArray()
    array.set_state((shape, dtype, order == "F", data))
    return array


def _scalar(dtype: object, data: object = None) -> object:
    if not isinstance(dtype, PickledDType):
        raise ValueError(f"its dtype is {describe(dtype)}")
    if isinstance(data, str):
        # Protocol 2 wrote the bytes as a text (through _codecs.encode, which gives bytes) or as Python 2's string.
        data = data.encode()
    code = _SCALARS.get(dtype.dtype.name)
    if code is None:
        raise ValueError(f"numbers of {dtype.dtype} outside of arrays are not known")
    form = (">" if dtype.big_endian else "<") + code
    if not isinstance(data, bytes) or len(data) != struct.calcsize(form):
        raise ValueError(f"its value is {describe(data)}")
    parts = struct.unpack(form, data)
    return complex(*parts) if len(parts) == 2 else parts[0]


def encode(text: object, encoding: object = "latin-1") -> object:
    """Stand for ``_codecs.encode``, through which protocols before 3 write bytes as a text."""
    if encoding not in ("latin1", "latin-1") or not isinstance(text, (str, TextSpan)):
        raise ValueError("only texts that stand for bytes are known")
    return text if isinstance(text, TextSpan) else text.encode("latin-1")


ALLOWED: dict[tuple[str, str], Make] = {
    ("numpy", "ndarray"): refuse_call,
    ("numpy", "dtype"): PickledDType,
    ("_codecs", "encode"): encode,
    **{("ml_dtypes", name): refuse_call for name in _ML_DTYPES},
    **{
        (f"numpy.{core}.{module}", name): make
        for core in ("core", "_core")
        for module, name, make in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}
"""What stands for the names that NumPy's arrays and scalars need in a pickle."""
