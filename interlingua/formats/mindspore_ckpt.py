"""MindSpore ``.ckpt``: a stream of protobuf records, one a parameter, with no header and no index.

Layout (mindspore-ai/mindspore ``mindspore/ccsrc/utils/checkpoint.proto`` and
``mindspore/python/mindspore/train/serialization.py``)::

    Checkpoint   1: Value, once a record
    Value        1: tag (the parameter's name)   2: TensorProto   3: MapTensorProto
    TensorProto  1: dims, a varint an axis       2: tensor_type   3: tensor_content, row-major little-endian

The records are written one by one, and together are one ``Checkpoint``. A parameter of more than 512 MiB is
spread over consecutive records that repeat tag, dims and type; their contents are one after another. A scalar has
no dims (or, from older versions, the one dim 0, with one element all the same). Text that
``save_checkpoint(append_dict=…)`` was given is of the type ``str``: UTF-32. ``crc_check=True`` appends ``crc_num``
and the CRC-32 of all bytes before it as ten big-endian bytes.

MindSpore's own loader joins whatever it finds and pads or cuts it to fit the dims, so that a damaged file loads with
wrong numbers; here, dims and bytes must agree. An ``Int4`` parameter holds two numbers in each of its bytes; as in
the framework's own safetensors files it is carried as int8, and ``metadata`` says ``Int4`` under its name.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from interlingua.errors import FormatError, MappingError
from interlingua.formats.base import (
    BLOCK,
    MAX_DIMENSIONS,
    Extent,
    Reader,
    SingleFileWriter,
    SourceFile,
    TensorSpec,
    blocks,
    checked_shape,
    crc32,
    create,
    output_error,
    read_extents,
    read_own,
    refuse_dtype,
    write_at,
)
from interlingua.formats.dtypes import DTYPES, INT8
from interlingua.formats.protobuf_wire import (
    LEN,
    MAX_VARINT,
    VARINT,
    Field,
    encode_bytes,
    encode_number,
    encode_tag,
    encode_varint,
    file_fields,
    packed_varints,
    read_varint,
    signed64,
)
from interlingua.formats.registry import Probe

SLICE = 512 << 20
"""Bytes of a parameter that one record holds at most."""

MAX_RECORDS = 100_000
"""Records in one file: a hundred times what the largest encoder has."""

MAX_ELEMENTS = 1 << 56
"""More than a tensor has, an empty one's other axes counted, too."""

MAX_TEXT = 16 << 20
"""Bytes of all names and texts in one file."""

TYPES = {
    "Bool": "bool",
    "Int8": "int8",
    "Int16": "int16",
    "Int32": "int32",
    "Int64": "int64",
    "UInt8": "uint8",
    "UInt16": "uint16",
    "UInt32": "uint32",
    "UInt64": "uint64",
    "Float16": "float16",
    "BFloat16": "bfloat16",
    "Float32": "float32",
    "Float64": "float64",
}
"""The framework's names for the element types that it both writes and reads."""

PACKED = "Int4"

# It saves these, but its loader knows none of their names.
_WRITTEN_ONLY = {
    "Complex64": "complex64",
    "Complex128": "complex128",
    "Float8E4M3FN": "float8_e4m3fn",
    "Float8E5M2": "float8_e5m2",
}
_TEXT = "str"
_READ = {**TYPES, **_WRITTEN_ONLY, PACKED: "int8"}
_TYPE_OF = {name: code for code, name in TYPES.items()}

_ENCRYPTED = {
    b"\xd8\x5e\x3a\x7f": "AES-GCM",
    b"\xd9\x5e\x3a\x7f": "AES-CBC",
    b"\xda\x5e\x3a\x7f": "SM4-CBC",
}

_VALUE_FIELDS = {1: "tag", 2: "tensor", 3: "maptensor"}
_TENSOR_FIELDS = {2: "tensor_type", 3: "tensor_content"}

_CRC_MARK = b"crc_num"
_CRC_BYTES = 10
_CRC_SUFFIX = len(_CRC_MARK) + _CRC_BYTES


# What precedes each field of a record: its number and wire type in one byte.
_RECORD = b"\x0a"
_NAME = b"\x0a"
_TENSOR, _MAP_TENSOR = b"\x12", b"\x1a"
_DIM, _PACKED_DIMS, _TYPE, _CONTENT = b"\x08", b"\x0a", b"\x12", b"\x1a"


@dataclass(frozen=True, slots=True)
class _Record:
    """One record of the stream, its content left where it is."""

    name: str
    code: str
    dims: tuple[int, ...]
    offset: int
    nbytes: int


def sniff(probe: Probe) -> bool:
    """Say whether the file begins with a whole record, or as an encrypted checkpoint does."""
    if probe.head[:4] in _ENCRYPTED:
        return True
    try:
        return _begins_with_record(probe)
    except (FormatError, UnicodeDecodeError):
        return False


def open_reader(path: Path) -> MindSporeReader:
    """Open a checkpoint.

    Raises:
        FormatError: it is damaged, encrypted, or holds what is no tensor.
    """
    return MindSporeReader(path)


def open_writer(
    path: Path,
    tensors: Sequence[TensorSpec],
    *,
    metadata: Mapping[str, str] | None = None,
    ties: Mapping[str, str] | None = None,
) -> MindSporeWriter:
    """Create a checkpoint at ``path``.

    Raises:
        MappingError: a tensor is of a type or shape that the framework's loader does not read back.
    """
    return MindSporeWriter(path, tensors, metadata=metadata, ties=ties)


def _begins_with_record(probe: Probe) -> bool:
    """Walk the first record as far as the head shows it, in the order in which protobuf writes fields."""
    head = probe.head

    def enter(at: int) -> tuple[bytes, int, int]:
        """Return the byte at ``at``, the number behind it, and where that ends."""
        value, after = read_varint(head, at + 1, len(head), path=probe.path)
        return head[at : at + 1], value, after

    kind, length, at = enter(0)
    end = at + length
    if kind != _RECORD or end > probe.size:
        return False
    kind, length, at = enter(at)
    if kind != _NAME or not head[at : at + length].decode("utf-8"):
        return False
    value, length, at = enter(at + length)
    if value not in (_TENSOR, _MAP_TENSOR) or at + length != end:
        return False
    if value == _MAP_TENSOR:
        # The first of its tensors; recognised in order to be refused by name.
        kind, length, at = enter(at)
        if kind != _RECORD or at + length > end:
            return False
        end = at + length
    kind, length, at = enter(at)
    while kind in (_DIM, _PACKED_DIMS):
        kind, length, at = enter(at + length if kind == _PACKED_DIMS else at)
    code = head[at : at + length].decode("utf-8")
    # Of unknown types too: the reader says what they are.
    if kind != _TYPE or not (code.isascii() and code.isalnum()):
        return False
    kind, length, at = enter(at + length)
    return kind == _CONTENT and at + length == end


class MindSporeReader(Reader):
    """Reads a MindSpore checkpoint; every tensor is one extent, or one for each of its records.

    Where the file carries a CRC-32 it is checked before the first tensor's data is given away.
    """

    container = "mindspore-ckpt"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._file = SourceFile(path)
        self._extents: dict[str, tuple[Extent, ...]] = {}
        self._lock = threading.Lock()
        self._unverified = False
        self._text_left = MAX_TEXT
        try:
            self._end = self._find_end()
            self._read_parameters()
        except BaseException:
            self._file.close()
            raise

    def extents(self, name: str) -> tuple[Extent, ...]:
        self.verify()
        return self._extents[name]

    def verify(self) -> None:
        """Read the file through and check its CRC-32, if it has one that was not checked yet.

        Raises:
            FormatError: the file's bytes are not those that were written.
        """
        with self._lock:
            if not self._unverified:
                return
            crc = 0
            for start, length in blocks(self._end):
                crc = crc32(self._file.read_at(start, length, "the records"), crc)
            suffix = self._file.read_at(self._end, _CRC_SUFFIX, "the CRC")
            if crc != int.from_bytes(suffix[len(_CRC_MARK) :], "big"):
                raise self._broken("the file does not have the CRC-32 that it carries", self._end)
            self._unverified = False

    def close(self) -> None:
        self._file.close()

    def _find_end(self) -> int:
        """Return where the records end; refuse a file that has none to read."""
        size = self._file.size
        mode = _ENCRYPTED.get(self._file.read_at(0, min(4, size), "the start of the file"))
        if mode is not None:
            raise FormatError(
                f"is a MindSpore checkpoint encrypted with {mode}",
                path=self.path,
                hint="Load it with its key in MindSpore and save it again without one.",
            )
        end = size - _CRC_SUFFIX
        if end < 0 or self._file.read_at(end, len(_CRC_MARK), "the end of the file") != _CRC_MARK:
            end = size
        if end == 0:
            raise FormatError(
                "is empty",
                path=self.path,
                hint="MindSpore writes such a file where no tensor has any element.",
            )
        self._unverified = end < size
        return end

    def _read_parameters(self) -> None:
        """Join the records of each parameter and file it."""
        parts: list[_Record] = []
        for record in self._records():
            if parts and record.name != parts[0].name:
                self._add(parts)
                parts = []
            if parts and (record.code, record.dims) != (parts[0].code, parts[0].dims):
                raise self._broken(f"the records of {record.name!r} disagree about its type or shape", record.offset)
            parts.append(record)
        if parts:
            self._add(parts)

    def _records(self) -> Iterator[_Record]:
        for count, field in enumerate(file_fields(self._file, 0, self._end), start=1):
            if (field.number, field.wire) != (1, LEN):
                raise self._broken(f"a checkpoint has no field {field.number}", field.start)
            if count > MAX_RECORDS:
                raise self._broken(f"has more than {MAX_RECORDS} records", field.start)
            yield self._record(field)

    def _record(self, field: Field) -> _Record:
        """Read one ``Value``, all but the content."""
        found: dict[int, Field] = {}
        for part in file_fields(self._file, field.start, field.stop):
            self._once(part, found, _VALUE_FIELDS)
        if 1 not in found:
            raise self._broken("a record has no name", field.start)
        name = self._text(found[1], "a name")
        if 3 in found:
            raise FormatError(
                f"{name!r} is a table of an embedding service (MapParameter), which is no tensor",
                path=self.path,
                offset=field.start,
                hint="Export the table as a Parameter in MindSpore.",
            )
        if 2 not in found:
            raise self._broken(f"the record of {name!r} has no tensor", field.start)
        return self._tensor(found[2], name)

    def _tensor(self, message: Field, name: str) -> _Record:
        """Read one ``TensorProto``, all but the content."""
        found: dict[int, Field] = {}
        dims: list[int] = []
        for count, part in enumerate(file_fields(self._file, message.start, message.stop)):
            if part.number == 1:
                dims += self._dims(part, name)
            else:
                self._once(part, found, _TENSOR_FIELDS)
            if len(dims) > MAX_DIMENSIONS or count > MAX_DIMENSIONS + len(found):
                raise self._broken(f"{name!r} has more than {MAX_DIMENSIONS} dimensions", part.start)
        if len(found) != len(_TENSOR_FIELDS):
            raise self._broken(f"{name!r} has no type or no content", message.start)
        content = found[3]
        return _Record(name, self._text(found[2], "a type"), tuple(dims), content.start, content.value)

    def _once(self, part: Field, found: dict[int, Field], schema: Mapping[int, str]) -> None:
        """Put a field that must be a run of bytes, known and the only one of its number, into ``found``."""
        if part.number not in schema:
            raise self._broken(f"a record has the unknown field {part.number}", part.start)
        if part.wire != LEN or part.number in found:
            raise self._broken(f"a record has two of {schema[part.number]}, or of another wire type", part.start)
        found[part.number] = part

    def _dims(self, part: Field, name: str) -> Iterator[int]:
        """Return the numbers in a field of dims: one, or several that are packed."""
        if part.wire == VARINT:
            return iter((signed64(part.value),))
        if part.wire != LEN or part.value > MAX_VARINT * MAX_DIMENSIONS:
            raise self._broken(f"{name!r} has no shape that a tensor can have", part.start)
        data = self._file.read_at(part.start, part.value, "dims")
        return map(signed64, packed_varints(data, 0, len(data), path=self.path, base=part.start))

    def _text(self, field: Field, what: str) -> str:
        self._take(field.value, field.start)
        try:
            return self._file.read_at(field.start, field.value, what).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._broken(f"{what} is no UTF-8", field.start) from error

    def _take(self, nbytes: int, offset: int) -> None:
        """Count text that is kept in memory."""
        self._text_left -= nbytes
        if self._text_left < 0:
            raise self._broken(f"has more than {MAX_TEXT} bytes of names and texts", offset)

    def _add(self, parts: Sequence[_Record]) -> None:
        """File the parameter (or the text) that these records make up."""
        name, code, dims, offset = parts[0].name, parts[0].code, parts[0].dims, parts[0].offset
        if name in self.tensors or name in self.objects:
            raise self._broken(f"has {name!r} twice", offset)
        extents = tuple(Extent(self._file, part.offset, part.nbytes) for part in parts)
        total = sum(part.nbytes for part in parts)
        if code == _TEXT:
            self.objects[name] = self._utf32(name, extents, total)
            return
        if code not in _READ:
            raise self._broken(f"{name!r} has the unknown type {code[:40]!r}", offset)
        dtype = DTYPES[_READ[code]]
        if dims == (0,) and total:
            dims = ()
        shape = checked_shape(dims, dtype, total, repr(name), self.path)
        if math.prod(max(1, n) for n in shape) >= MAX_ELEMENTS:
            raise self._broken(f"{name!r} has the impossible shape {list(shape)}", offset)
        spec = TensorSpec(name, dtype, shape)
        if spec.nbytes != total:
            raise self._broken(
                f"{name!r} of shape {list(shape)} and type {code} takes {spec.nbytes} bytes, but has {total}", offset
            )
        if code == PACKED:
            self.metadata[name] = PACKED
        self.tensors[name] = spec
        self._extents[name] = extents

    def _utf32(self, name: str, extents: tuple[Extent, ...], total: int) -> str:
        """Return a text as NumPy stores it: four bytes a character, padded with NULs."""
        self._take(total, extents[0].offset)
        data = bytearray(total)
        if total:
            read_extents(extents, 0, memoryview(data))
        try:
            return data.decode("utf-32-le").rstrip("\0")
        except UnicodeDecodeError as error:
            raise self._broken(f"the text {name!r} is no UTF-32", extents[0].offset) from error

    def _broken(self, message: str, offset: int) -> FormatError:
        hint = "The file is damaged or was cut short; fetch it again."
        return FormatError(message, path=self.path, offset=offset, hint=hint)


class MindSporeWriter(SingleFileWriter):
    """Writes what ``mindspore.save_checkpoint`` writes for the same parameters, byte for byte, without a CRC.

    It differs in two things: the file is not read-only, and a tensor without elements has a record (as the
    framework writes it only when it saves in the background) instead of getting lost. ``metadata`` is not kept, but
    for the word that marks an int8 tensor as ``Int4``.

    A tensor of more than 512 MiB is given one slot for all its data; ``seal`` moves its parts to their records.
    """

    container = "mindspore-ckpt"

    def __init__(
        self,
        path: str | os.PathLike[str],
        tensors: Sequence[TensorSpec],
        *,
        metadata: Mapping[str, str] | None = None,
        ties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(path, tensors, metadata=metadata, ties=ties)
        if not tensors:
            raise MappingError("MindSpore loads no checkpoint without a tensor, and there is none.")
        self._records: dict[str, list[tuple[bytes, int]]] = {}
        position = 0
        for spec in tensors:
            records = _record_headers(spec, self._code(spec))
            self._records[spec.name] = records
            position += sum(len(header) + nbytes for header, nbytes in records)
            self.offsets[spec.name] = position - spec.nbytes
        self._fd = create(self.path, position)
        for name, records in self._records.items():
            if len(records) == 1:
                header = records[0][0]
                self._write(self.offsets[name] - len(header), header)

    def seal(self, name: str, checksum: int | None) -> None:
        super().seal(name, checksum)
        records = self._records[name]
        if len(records) == 1:
            return
        source = self.offsets[name]
        target = source - sum(len(header) for header, _ in records)
        for header, nbytes in records:
            self._move(source, target + len(header), nbytes)
            self._write(target, header)
            source += nbytes
            target += len(header) + nbytes

    def _code(self, spec: TensorSpec) -> str:
        """Return the framework's name of a tensor's type, where its loader would read the tensor back."""
        if spec.dtype.name not in _TYPE_OF:
            raise refuse_dtype("MindSpore", spec)
        if spec.shape == (0,):
            raise MappingError(
                f"MindSpore reads {spec.name!r} of shape [0] back as a scalar.",
                names=(spec.name,),
                hint="Leave it out, or choose another container with --container.",
            )
        if spec.dtype is INT8 and self.metadata.get(spec.name) == PACKED:
            return PACKED
        return _TYPE_OF[spec.dtype.name]

    def _write(self, offset: int, data: bytes) -> None:
        try:
            write_at(self._fd, offset, data)
        except OSError as error:
            raise output_error(error, self.path) from error

    def _move(self, source: int, target: int, nbytes: int) -> None:
        """Move bytes towards the start of the file; block by block, so that what is read was not yet written over."""
        if source == target:
            return
        try:
            for start, length in blocks(nbytes, 4 * BLOCK):
                write_at(self._fd, target + start, read_own(self._fd, source + start, length))
        except OSError as error:
            raise output_error(error, self.path) from error


def _record_headers(spec: TensorSpec, code: str) -> list[tuple[bytes, int]]:
    """Return, for each record of a tensor, what stands before its content, and the content's length."""
    try:
        tag = encode_bytes(1, spec.name)
    except UnicodeEncodeError as error:
        raise MappingError(f"{spec.name!r} is no name that UTF-8 can spell.", names=(spec.name,)) from error
    dims = b"".join(encode_number(1, n) for n in spec.shape)
    about = dims + encode_bytes(2, code)
    headers = []
    for _, nbytes in list(blocks(spec.nbytes, SLICE)) or [(0, 0)]:
        tensor = about + encode_tag(3, LEN) + encode_varint(nbytes)
        value = tag + encode_tag(2, LEN) + encode_varint(len(tensor) + nbytes) + tensor
        headers.append((encode_tag(1, LEN) + encode_varint(len(value) + nbytes) + value, nbytes))
    return headers
