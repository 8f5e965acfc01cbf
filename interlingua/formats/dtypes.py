"""Element types that a checkpoint can hold, by name and width; containers map their own codes to these.

A conversion that does not cast treats elements as opaque words of ``bits``, so a type that NumPy does not
know is carried as safely as float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class DType:
    """One element type.

    Attributes:
        name: the field's name for it, as in NumPy and ml_dtypes (``float32``, ``bfloat16``, ``float8_e4m3fn``).
        bits: width of one element; 0 for a type whose elements vary in length (``string``).
        kind: ``f`` real floating point, ``i`` signed, ``u`` unsigned, ``b`` bool, ``c`` complex, ``s`` string.
        numpy: the name NumPy or ml_dtypes has for it; None where neither has one of that width.
    """

    name: str
    bits: int
    kind: str
    numpy: str | None

    def __str__(self) -> str:
        return self.name

    @property
    def itemsize(self) -> int:
        """Bytes of one element (of the word that holds it, for types narrower than a byte)."""
        return max(1, self.bits // 8)

    @property
    def part_bits(self) -> int:
        """Bits of the unit whose byte order matters: a complex number is two of them."""
        return self.bits // 2 if self.kind == "c" else self.bits


_TABLE = (
    DType("bool", 8, "b", "bool"),
    DType("int8", 8, "i", "int8"),
    DType("int16", 16, "i", "int16"),
    DType("int32", 32, "i", "int32"),
    DType("int64", 64, "i", "int64"),
    DType("uint8", 8, "u", "uint8"),
    DType("uint16", 16, "u", "uint16"),
    DType("uint32", 32, "u", "uint32"),
    DType("uint64", 64, "u", "uint64"),
    DType("float16", 16, "f", "float16"),
    DType("bfloat16", 16, "f", "bfloat16"),
    DType("float32", 32, "f", "float32"),
    DType("float64", 64, "f", "float64"),
    DType("complex64", 64, "c", "complex64"),
    DType("complex128", 128, "c", "complex128"),
    DType("float8_e4m3fn", 8, "f", "float8_e4m3fn"),
    DType("float8_e4m3fnuz", 8, "f", "float8_e4m3fnuz"),
    DType("float8_e5m2", 8, "f", "float8_e5m2"),
    DType("float8_e5m2fnuz", 8, "f", "float8_e5m2fnuz"),
    DType("float8_e8m0fnu", 8, "f", "float8_e8m0fnu"),
    DType("float6_e2m3fn", 6, "f", None),
    DType("float6_e3m2fn", 6, "f", None),
    DType("float4_e2m1fn", 4, "f", None),
    DType("int4", 4, "i", None),
    DType("string", 0, "s", None),
)

DTYPES: dict[str, DType] = {dtype.name: dtype for dtype in _TABLE}

NUMPY_CODES = {
    "b1": "bool",
    "i1": "int8",
    "i2": "int16",
    "i4": "int32",
    "i8": "int64",
    "u1": "uint8",
    "u2": "uint16",
    "u4": "uint32",
    "u8": "uint64",
    "f2": "float16",
    "f4": "float32",
    "f8": "float64",
    "c8": "complex64",
    "c16": "complex128",
}
"""NumPy's codes for element types, less the byte order, as ``.npy`` headers and pickled arrays have them."""

BOOL = DTYPES["bool"]
INT8 = DTYPES["int8"]
INT16 = DTYPES["int16"]
INT32 = DTYPES["int32"]
INT64 = DTYPES["int64"]
UINT8 = DTYPES["uint8"]
UINT16 = DTYPES["uint16"]
UINT32 = DTYPES["uint32"]
UINT64 = DTYPES["uint64"]
FLOAT16 = DTYPES["float16"]
BFLOAT16 = DTYPES["bfloat16"]
FLOAT32 = DTYPES["float32"]
FLOAT64 = DTYPES["float64"]
COMPLEX64 = DTYPES["complex64"]
COMPLEX128 = DTYPES["complex128"]
STRING = DTYPES["string"]


def numpy_dtype(dtype: DType) -> np.dtype[np.generic]:
    """Return the little-endian NumPy dtype of ``dtype``; ml_dtypes supplies those NumPy lacks.

    Raises:
        TypeError: no NumPy dtype of that width exists (types narrower than a byte, strings).
    """
    import numpy as np

    if dtype.numpy is None:
        raise TypeError(f"NumPy has no dtype for {dtype.name}")
    if dtype.name == "bfloat16" or dtype.name.startswith("float8"):
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, dtype.numpy))
    return np.dtype(dtype.numpy).newbyteorder("<")


def from_numpy_dtype(dtype: np.dtype[np.generic]) -> DType:
    """Return the element type of a NumPy (or ml_dtypes) dtype, whatever its byte order.

    Raises:
        TypeError: the dtype is none that a checkpoint holds (objects, dates, records).
    """
    found = DTYPES.get(dtype.name)
    if found is None or found.numpy is None:
        raise TypeError(f"no element type for NumPy dtype {dtype}")
    return found
