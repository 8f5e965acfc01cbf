"""NumPy's ``.npz``: a zip of ``.npy`` members, an array each; a lone ``.npy`` is read as one array named ``array``.

Layout of ``.npy`` (numpy/numpy ``numpy/lib/format.py``): ``\\x93NUMPY``, two bytes of version, the header's length
(u16 in version 1, u32 in 2 and 3), the header (a Python dict display with ``descr``, ``fortran_order`` and ``shape``,
padded with spaces so that the data begins at a multiple of 64), and the elements. The header is matched against
what NumPy writes, never evaluated. Arrays of Python objects are pickles, and are refused.

bfloat16: NumPy has no such type. It writes an array of ml_dtypes' bfloat16 as ``<V2`` (two bytes of no known
meaning, but with a byte order, which only a registered type of that width has), and gives back plain ``V2``. Both
directions follow it: ``<V2`` is read as bfloat16, and bfloat16 is written as ``<V2``, so that
``numpy.load(file)[name].view(ml_dtypes.bfloat16)`` is what was meant. Plain ``|V2`` could be anything, and is refused.

The writer leaves members uncompressed and their data at multiples of 64 bytes, and has one time stamp for all.
"""

from __future__ import annotations

import math
import os
import re
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from interlingua.errors import FormatError, MappingError
from interlingua.formats.archive_names import name_flaw, plain_name
from interlingua.formats.base import (
    MAX_DIMENSIONS,
    Extent,
    Reader,
    SingleFileWriter,
    SourceFile,
    TensorSpec,
    checked_shape,
    crc32,
    create,
    output_error,
    refuse_dtype,
    write_at,
)
from interlingua.formats.dtypes import DTYPES, NUMPY_CODES, DType
from interlingua.formats.registry import Probe
from interlingua.formats.strided import FileRegion, Gathered, Source, View, column_major, row_major
from interlingua.formats.zip_directory import (
    STORED,
    MemberStream,
    ZipEntry,
    check_crc,
    looks_like_zip,
    member_names,
    read_directory,
)

SUFFIX = ".npy"
LONE = "array"
"""The name that the only array of a ``.npy`` file goes by."""

MAGIC = b"\x93NUMPY"
MAX_HEADER = 10_000
"""Bytes of a header; NumPy's own limit."""

MAX_ELEMENTS = 1 << 56
"""More than an array has, an empty one's other axes counted, too."""

MAX_TEXT = 16 << 20
"""Bytes of all arrays of strings in a file, which are kept in memory."""

MAX_STRINGS = 1 << 20
"""Strings in one array."""

ALIGNMENT = 64

MAX_RATIO = 100
RATIO_FLOOR = 1 << 30
"""A packed column-major array is unpacked to a temporary file first; larger ones, relative to what they take packed
or absolutely, are refused."""

TYPES = {**NUMPY_CODES, "V2": "bfloat16"}
"""Codes for element types; NumPy writes ml_dtypes' bfloat16 as two opaque bytes."""

_CODE_OF = {name: code for code, name in TYPES.items()}

_FIELD = re.compile(
    r"""\s* (?P<q>['"]) (?P<key>descr|fortran_order|shape) (?P=q) \s* : \s*
        (?: (?P<r>['"]) (?P<text>[^'"\\]{1,32}) (?P=r) | (?P<flag>True|False) | \( (?P<dims>[0-9L,\ ]*) \) ) \s* ,?""",
    re.VERBOSE,
)
_DIM = re.compile(r" *([0-9]{1,20})L? *")
_DESCR = re.compile(r"([<>|]?)([A-Za-z])([0-9]{0,9})")

# How numpy pads the header, so that one axis can grow in place to any length.
_GROWTH = 21


@dataclass(frozen=True, slots=True)
class _Array:
    """One array: what it is, and where in its member (or file) its elements begin."""

    spec: TensorSpec
    view: View
    start: int
    entry: ZipEntry | None

    @property
    def in_order(self) -> bool:
        """Whether its elements lie row-major and little-endian."""
        runs = self.view.runs()
        return runs is not None and len(runs) < 2


@dataclass(frozen=True, slots=True)
class _Header:
    """A parsed header."""

    order: str
    kind: str
    width: str
    fortran: bool
    shape: tuple[int, ...]
    nbytes: int


def sniff(probe: Probe) -> bool:
    """Say whether the file is a ``.npy``, or a zip all of whose members are (an empty one, too)."""
    if probe.head.startswith(MAGIC):
        return True
    if not looks_like_zip(probe.head):
        return False
    names = member_names(probe.path)
    if names is None:
        # Damaged: the first member says what it was, and the reader will say what is wrong.
        length = int.from_bytes(probe.head[26:28], "little")
        return probe.head[30 : 30 + length].endswith(SUFFIX.encode())
    return all(name.endswith(SUFFIX) for name in names)


def open_reader(path: Path) -> NpzReader:
    """Open a ``.npz`` or a ``.npy`` file.

    Raises:
        FormatError: it is damaged, or holds pickled objects or types that no checkpoint has.
    """
    return NpzReader(path)


def open_writer(
    path: Path,
    tensors: Sequence[TensorSpec],
    *,
    metadata: Mapping[str, str] | None = None,
    ties: Mapping[str, str] | None = None,
) -> NpzWriter:
    """Create a ``.npz`` file at ``path``.

    Raises:
        MappingError: a tensor's type is none of NumPy's, or its name none for a member of a zip.
    """
    return NpzWriter(path, tensors, metadata=metadata, ties=ties)


class NpzReader(Reader):
    """Reads arrays from a ``.npz``; arrays of strings are among ``objects``, as lists.

    Arrays that lie as they should are extents. Compressed ones are unpacked as they are read, and their CRC-32 is
    checked when their end is reached; column-major and big-endian ones are put in order a tile at a time.
    """

    container = "npz"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._arrays: dict[str, _Array] = {}
        self._sources: dict[str, Source] = {}
        self._temporary: dict[str, _TemporaryFile] = {}
        self._lock = threading.Lock()
        self._file = SourceFile(path)
        self._text_left = MAX_TEXT
        try:
            magic = self._file.read_at(0, min(len(MAGIC), self._file.size), "the start of the file")
            if magic == MAGIC:
                self._add(LONE, None)
                return
            for name, entry in read_directory(self._file).items():
                if not name.endswith(SUFFIX):
                    raise FormatError(f"member {name[:200]!r} is no array", path=self.path, offset=entry.offset)
                self._add(name[: -len(SUFFIX)], entry)
        except BaseException:
            self._file.close()
            raise

    def extents(self, name: str) -> tuple[Extent, ...] | None:
        array = self._arrays[name]
        if not array.in_order or (array.entry is not None and array.entry.method != STORED):
            return None
        start = array.start if array.entry is None else array.entry.offset + array.start
        return (Extent(self._file, start, array.spec.nbytes),)

    def expected_checksum(self, name: str) -> tuple[str, int] | None:
        array = self._arrays[name]
        if array.entry is None or array.entry.method != STORED or not array.in_order:
            return None
        from isal.isal_zlib import crc32_combine

        # The member's CRC is over header and elements. CRCs are linear: take the header's share out again.
        header = self._file.read_at(array.entry.offset, array.start, "a header")
        return "crc32", array.entry.crc ^ int(crc32_combine(crc32(header), 0, array.spec.nbytes))

    def read_into(self, name: str, start: int, view: memoryview) -> None:
        """Fill ``view`` with the array's bytes from ``start``.

        Raises:
            FormatError: the data is damaged; a wrong CRC-32 is known at the latest when the last byte is read.
        """
        self._computed(name).read_into(start, view)

    def close(self) -> None:
        self._sources.clear()
        for file in self._temporary.values():
            file.close()
        self._temporary.clear()
        self._file.close()

    def _add(self, name: str, entry: ZipEntry | None) -> None:
        """File the array that a member (or, without one, the file) holds."""
        size = self._file.size if entry is None else entry.size
        raw = self._source(entry)
        head = bytearray(min(size, MAX_HEADER + 12))
        raw.read_into(0, memoryview(head))
        header = _Parser(self.path, f"the array {name[:200]!r}").header(bytes(head))
        available = size - header.nbytes
        if header.kind in "US":
            self.objects[name] = self._strings(name, header, raw, available)
            return
        dtype = _dtype(header, name, self.path)
        shape = checked_shape(header.shape, dtype, available, f"the array {name[:200]!r}", self.path)
        spec = TensorSpec(name, dtype, shape)
        if spec.nbytes != available:
            raise FormatError(
                f"the array {name[:200]!r} takes {spec.nbytes} bytes, but {available} are there",
                path=self.path,
                hint="The file is damaged, or more than one array was written to it.",
            )
        strides = column_major(shape) if header.fortran else row_major(shape)
        view = View(dtype, shape, strides, big_endian=header.order == ">")
        self.tensors[name] = spec
        self._arrays[name] = _Array(spec, view, header.nbytes, entry)

    def _strings(self, name: str, header: _Header, raw: Source, available: int) -> object:
        """Return an array of strings as NumPy's ``tolist`` would."""
        width = int(header.width or 0) * (4 if header.kind == "U" else 1)
        count = math.prod(header.shape)
        self._text_left -= available
        if count * width != available or count > MAX_STRINGS or self._text_left < 0:
            raise FormatError(
                f"the array of strings {name[:200]!r} needs {count * width} bytes and has {available}; no more than"
                f" {MAX_TEXT} bytes and {MAX_STRINGS} strings are read",
                path=self.path,
            )
        data = bytearray(available)
        raw.read_into(header.nbytes, memoryview(data))
        codec = "utf-8" if header.kind == "S" else "utf-32-be" if header.order == ">" else "utf-32-le"
        try:
            texts = [data[i * width : (i + 1) * width].decode(codec).rstrip("\0") for i in range(count)]
        except UnicodeDecodeError as error:
            raise FormatError(f"the array of strings {name[:200]!r} is no text", path=self.path) from error
        import numpy as np

        found: object = np.array(texts, object).reshape(header.shape, order="F" if header.fortran else "C").tolist()
        return found

    def _computed(self, name: str) -> Source:
        """Return the data of an array that cannot be copied as it stands; the last few are kept for the next block."""
        with self._lock:
            source = self._sources.pop(name, None) or self._new_source(name)
            self._sources[name] = source
            while len(self._sources) > 4:
                del self._sources[next(iter(self._sources))]
            return source

    def _new_source(self, name: str) -> Source:
        array = self._arrays[name]
        entry = array.entry
        raw = self._source(entry)
        if array.in_order:
            return _Shifted(raw, array.start)
        if entry is not None and array.view.strides != row_major(array.spec.shape):
            # It will be read in leaps, which is no way to unpack it, or to sum it up.
            if entry.method == STORED:
                check_crc(self._file, entry)
                raw = FileRegion(self._file, entry.offset)
            else:
                raw = self._unpacked(name, entry)
        return Gathered(_Shifted(raw, array.start), array.view)

    def _source(self, entry: ZipEntry | None) -> Source:
        return FileRegion(self._file, 0) if entry is None else _Streamed(MemberStream(self._file, entry))

    def _unpacked(self, name: str, entry: ZipEntry) -> Source:
        """Return a packed member as a temporary file, since it must be read in leaps."""
        if name not in self._temporary:
            total = entry.size + sum(file.size for file in self._temporary.values())
            if total > max(RATIO_FLOOR, MAX_RATIO * self._file.size):
                raise FormatError(
                    f"the array {name[:200]!r} unpacks to {entry.size} bytes, too many to be believed",
                    path=self.path,
                    hint="Load it in NumPy and save it with numpy.savez.",
                )
            self._temporary[name] = _TemporaryFile(MemberStream(self._file, entry))
        return self._temporary[name]


@dataclass(frozen=True, slots=True)
class _Shifted:
    """A source from ``start`` on."""

    source: Source
    start: int

    def read_into(self, offset: int, view: memoryview) -> None:
        self.source.read_into(self.start + offset, view)


class _Streamed:
    """A member that is read forwards, its CRC-32 checked at its end, as a source for several threads."""

    def __init__(self, stream: MemberStream) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def read_into(self, offset: int, view: memoryview) -> None:
        with self._lock:
            self._stream.read_into(offset, view)


class _TemporaryFile:
    """A member's unpacked bytes in a file without a name.

    Raises:
        OutputError: there is no room for it.
    """

    def __init__(self, stream: MemberStream) -> None:
        import tempfile

        self.size = stream.entry.size
        folder = tempfile.gettempdir()
        try:
            self._fd, path = tempfile.mkstemp(dir=folder)
        except OSError as error:
            raise output_error(error, Path(folder)) from error
        try:
            os.unlink(path)
            position = 0
            for chunk in stream.chunks():
                write_at(self._fd, position, chunk)
                position += len(chunk)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise output_error(error, Path(folder)) from error
            raise

    def read_into(self, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            count = os.preadv(self._fd, [view[done:]], offset + done)
            if count == 0:
                raise ValueError("asked for more bytes than the member has")
            done += count

    def close(self) -> None:
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class _Parser:
    """Matches a header against what NumPy writes. ``what`` names the array in errors."""

    path: Path
    what: str

    def header(self, head: bytes) -> _Header:
        """Parse the bytes at the start of a member."""
        if not head.startswith(MAGIC):
            raise self._refused("does not begin as an array does")
        version = head[6:8]
        length_size = {b"\1\0": 2, b"\2\0": 4, b"\3\0": 4}.get(version)
        if length_size is None:
            raise self._refused(f"is of the unknown version {'.'.join(map(str, version))}")
        start = len(MAGIC) + 2 + length_size
        length = int.from_bytes(head[8:start], "little")
        if len(head) < start + length or length > MAX_HEADER:
            raise self._refused(f"has a header of {length} bytes, which is cut off or longer than {MAX_HEADER}")
        # Whatever the version's encoding is: a plain array's header is ASCII.
        fields = self._fields(head[start : start + length].decode("latin-1").strip(" \n"))
        order, kind, width = self._descr(fields["descr"])
        return _Header(
            order, kind, width, fields["fortran_order"] == "True", self._shape(fields["shape"]), start + length
        )

    def _fields(self, text: str) -> dict[str, str]:
        """Return what stands behind each of the three keys, without quotes and brackets."""
        found: dict[str, str] = {}
        at = 1
        while match := _FIELD.match(text, at):
            kind = {"descr": "text", "fortran_order": "flag", "shape": "dims"}[match["key"]]
            if match["key"] in found or match[kind] is None:
                break
            found[match["key"]] = match[kind]
            at = match.end()
        if len(found) != 3 or not text.startswith("{") or text[at:].strip() != "}":
            raise self._refused("has a header that is none of a plain array (a record array, perhaps)")
        return found

    def _descr(self, text: str) -> tuple[str, str, str]:
        match = _DESCR.fullmatch(text)
        if match is None:
            raise self._refused(f"is of the unknown type {text!r}")
        if match[2] == "O":
            raise FormatError(
                f"{self.what} holds Python objects, which are a pickle and not read here",
                path=self.path,
                hint="Save it as numbers, or leave it out.",
            )
        return match[1], match[2], match[3]

    def _shape(self, text: str) -> tuple[int, ...]:
        parts = text.split(",")
        if not parts[-1].strip():
            parts.pop()
        elif len(parts) == 1:
            raise self._refused("has a shape that is no tuple")
        matches = [_DIM.fullmatch(part) for part in parts]
        dims = [int(match[1]) for match in matches if match]
        if len(dims) != len(parts) or math.prod(max(1, n) for n in dims[:MAX_DIMENSIONS]) >= MAX_ELEMENTS:
            raise self._refused("has a shape that no array can have")
        return tuple(dims)

    def _refused(self, why: str) -> FormatError:
        return FormatError(f"{self.what} {why}", path=self.path)


def _dtype(header: _Header, name: str, path: Path) -> DType:
    """Return the element type of a header."""
    code = header.kind + header.width
    if header.order == "|" and code == "V2":
        raise FormatError(
            f"the array {name[:200]!r} has elements of two bytes whose type is lost (bfloat16, perhaps)",
            path=path,
            hint="Save it again as numpy.savez(…, array.view(ml_dtypes.bfloat16)), or as float32.",
        )
    dtype = DTYPES.get(TYPES.get(code, ""))
    if dtype is None or (dtype.bits > 8 and header.order not in ("<", ">")):
        raise FormatError(f"the array {name[:200]!r} is of the type {header.order + code!r}, not read here", path=path)
    return dtype


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the writer puts an array: its local header, its member's data, and how long that is."""

    name: bytes
    header: int
    data: int
    npy: bytes
    size: int


_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")

_FULL16 = 0xFFFF
_FULL32 = 0xFFFFFFFF
_UTF8 = 1 << 11
_DATE = 1 << 5 | 1  # the first of January 1980, the first day that zip knows
_VERSION = 20
_VERSION64 = 45
_UNIX = 3 << 8
_MODE = 0o100644 << 16
_ZIP64 = 0x0001
_PADDING = 0xD935
"""The extra field by which Android's zipalign pads: the alignment, and zeros."""


class NpzWriter(SingleFileWriter):
    """Writes what ``numpy.load`` reads: members as ``numpy.savez`` has them, aligned, and the same on every day."""

    container = "npz"
    checksum = "crc32"

    def __init__(
        self,
        path: str | os.PathLike[str],
        tensors: Sequence[TensorSpec],
        *,
        metadata: Mapping[str, str] | None = None,
        ties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(path, tensors, metadata=metadata, ties=ties)
        self._places: dict[str, _Place] = {}
        position = 0
        for spec in tensors:
            if spec.dtype.name not in _CODE_OF:
                raise refuse_dtype("NumPy", spec)
            self._check_name(spec.name)
            name = (spec.name + SUFFIX).encode()
            npy = _npy_header(spec)
            size = len(npy) + spec.nbytes
            data = position + _LOCAL.size + len(name) + len(_sizes64(size))
            data += len(_padding(data))
            self._places[spec.name] = _Place(name, position, data, npy, size)
            self.offsets[spec.name] = data + len(npy)
            position = data + size
        self._directory = position
        self._fd = create(self.path, position)

    def _check_name(self, name: str) -> None:
        """Refuse a name that a zip cannot carry safely, or that ``numpy.load`` would take for another one's."""
        member = name + SUFFIX
        flaw = name_flaw(member)
        if flaw is None and plain_name(member) != member:
            flaw = "has empty parts"
        if flaw is None and member in self.tensors:
            flaw = f"would be read by NumPy where {member!r} is asked for"
        if flaw is not None:
            raise MappingError(
                f"The tensor name {name[:200]!r} {flaw}, which a .npz cannot have.",
                names=(name,),
                hint="Choose another container with --container.",
            )

    def finish(self) -> None:
        """Write the headers in front of the data, and the directory behind it."""
        directory = b""
        try:
            rows = []
            for name, place in self._places.items():
                crc = self._crc(name, place)
                write_at(self._fd, place.header, _local_header(place, crc) + place.npy)
                rows.append(_central_row(place, crc))
            directory = b"".join(rows)
            end = _end_records(len(rows), self._directory, len(directory))
            write_at(self._fd, self._directory, directory + end)
        except OSError as error:
            raise output_error(error, self.path) from error
        super().finish()

    def _crc(self, name: str, place: _Place) -> int:
        """Return the CRC-32 of a member: of its header and, as it was given to ``seal``, of its data."""
        from isal.isal_zlib import crc32_combine

        of_data = self.checksums.get(name)
        if of_data is None:
            raise ValueError(f"{name!r} was not sealed with a CRC-32")
        return int(crc32_combine(crc32(place.npy), of_data, self.tensors[name].nbytes))


def _npy_header(spec: TensorSpec) -> bytes:
    """Return what ``numpy.save`` writes in front of an array's elements."""
    code = _CODE_OF[spec.dtype.name]
    order = "|" if spec.dtype.bits == 8 else "<"
    text = f"{{'descr': '{order}{code}', 'fortran_order': False, 'shape': {spec.shape!r}, }}"
    if spec.shape:
        text += " " * (_GROWTH - len(repr(spec.shape[0])))
    prefix = len(MAGIC) + 4
    text += " " * (ALIGNMENT - (prefix + len(text) + 1) % ALIGNMENT) + "\n"
    return MAGIC + b"\1\0" + struct.pack("<H", len(text)) + text.encode("ascii")


def _sizes64(size: int) -> bytes:
    """Return a local header's extra field for sizes beyond 32 bits."""
    return struct.pack("<2H2Q", _ZIP64, 16, size, size) if size >= _FULL32 else b""


def _padding(position: int) -> bytes:
    """Return an extra field after which, when it begins at ``position``, the data begins aligned."""
    if position % ALIGNMENT == 0:
        return b""
    zeros = -(position + 6) % ALIGNMENT
    return struct.pack("<3H", _PADDING, 2 + zeros, ALIGNMENT) + bytes(zeros)


def _about(place: _Place, crc: int) -> tuple[int, ...]:
    """Return the fields that a member's two headers share: from the version to the name's length."""
    size = min(place.size, _FULL32)
    flags = 0 if place.name.isascii() else _UTF8
    return (_version(place), flags, STORED, 0, _DATE, crc, size, size, len(place.name))


def _version(place: _Place) -> int:
    return _VERSION64 if place.size >= _FULL32 or place.header >= _FULL32 else _VERSION


def _local_header(place: _Place, crc: int) -> bytes:
    """Return what stands in front of a member's data."""
    extra = _sizes64(place.size)
    extra += _padding(place.header + _LOCAL.size + len(place.name) + len(extra))
    return _LOCAL.pack(b"PK\x03\x04", *_about(place, crc), len(extra)) + place.name + extra


def _central_row(place: _Place, crc: int) -> bytes:
    """Return a member's row of the directory."""
    wide = [place.size] * 2 * (place.size >= _FULL32) + [place.header] * (place.header >= _FULL32)
    extra = struct.pack(f"<2H{len(wide)}Q", _ZIP64, 8 * len(wide), *wide) if wide else b""
    about = (_UNIX | _version(place), *_about(place, crc))
    rest = (len(extra), 0, 0, 0, _MODE, min(place.header, _FULL32))
    return _CENTRAL.pack(b"PK\x01\x02", *about, *rest) + place.name + extra


def _end_records(count: int, offset: int, nbytes: int) -> bytes:
    """Return what stands behind the directory: the end record, after its 64-bit form where 32 bits are too few."""
    short = _END.pack(
        b"PK\x05\x06",
        0,
        0,
        min(count, _FULL16),
        min(count, _FULL16),
        min(nbytes, _FULL32),
        min(offset, _FULL32),
        0,
    )
    if count < _FULL16 and nbytes < _FULL32 and offset < _FULL32:
        return short
    wide = (_VERSION64 | _UNIX, _VERSION64, 0, 0, count, count, nbytes, offset)
    end = _END64.pack(b"PK\x06\x06", _END64.size - 12, *wide)
    return end + _LOCATOR.pack(b"PK\x06\x07", 0, offset + nbytes, 1) + short
