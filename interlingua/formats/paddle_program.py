"""The variables that a Paddle program declares: what names the nameless streams of a combined parameter file.

A program is a ``ProgramDesc`` in protobuf (``__model__``, ``*.pdmodel``) or, from Paddle 3 on, PIR as JSON
(``*.json``). Of either, only the declarations of persistable tensors are read; operators are passed over.

Source: PaddlePaddle/Paddle: paddle/phi/core/framework/framework.proto (ProgramDesc, BlockDesc, VarDesc, VarType);
paddle/fluid/pir/serialize_deserialize/include/schema.h and src/ir_serialize.cc (PIR's keys);
python/paddle/framework/io_utils.py (``is_persistable``), python/paddle/static/io.py (``save_vars``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from interlingua.errors import FormatError
from interlingua.formats.base import MAX_DIMENSIONS, SourceFile, TensorSpec
from interlingua.formats.json_text import MAX_JSON, decode_json
from interlingua.formats.lod_tensor import MAX_TENSORS, WRITABLE, encode_descriptor, read_descriptor
from interlingua.formats.protobuf_wire import LEN, VARINT, Field, encode_bytes, encode_number, fields, file_fields

MAX_PROGRAM = 64 << 20
"""Longest ``ProgramDesc``, in bytes, that is read: operators carry their call stacks, but no program comes near."""

_MAX_VARIABLE = 1 << 16

# Numbers of fields in framework.proto.
_PROGRAM_BLOCKS, _PROGRAM_VERSION = 1, 4
_BLOCK_INDEX, _BLOCK_PARENT, _BLOCK_VARS = 1, 2, 3
_VAR_NAME, _VAR_TYPE, _VAR_PERSISTABLE, _VAR_IS_PARAMETER = 1, 2, 3, 5
_TYPE_TYPE, _TYPE_DENSE_TENSOR = 1, 3
_DENSE_TENSOR_DESC = 1
_DENSE_TENSOR = 7

_PIR_MAGIC = "pir"
# What every Paddle 3 reads: it brings a program of an older version up to its own.
_PIR_VERSION = 1
_PIR_PARAMETER = "p"
_PIR_TYPES = {
    "bool": "bool",
    "int8": "i8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "uint8": "ui8",
    "float16": "f16",
    "bfloat16": "bf16",
    "float32": "f32",
    "float64": "f64",
    "complex64": "c64",
    "complex128": "c128",
}


@dataclass(frozen=True, slots=True)
class Variable:
    """A persistable tensor of a program: its name, and its sides (-1 for one that the program leaves open)."""

    name: str
    dims: tuple[int, ...]


def read_variables(file: SourceFile) -> list[Variable]:
    """Return the persistable tensors that a program declares, sorted by name as in a combined file.

    Raises:
        FormatError: the file is no program, or is damaged, or declares a name in two ways.
    """
    if is_json(file):
        return _sorted(_pir_variables(file), file)
    return _sorted(_program_variables(file), file)


def is_json(file: SourceFile) -> bool:
    """Say whether a file is JSON (no protobuf message of Paddle begins with the tag that ``{`` would be)."""
    return file.read_at(0, min(64, file.size), "a program").lstrip()[:1] == b"{"


def _sorted(found: Iterable[Variable], file: SourceFile) -> list[Variable]:
    by_name: dict[str, Variable] = {}
    for variable in found:
        if by_name.setdefault(variable.name, variable) != variable:
            raise FormatError(f"declares {variable.name!r} in two ways", path=file.path)
        if len(by_name) > MAX_TENSORS:
            raise FormatError(f"declares more than {MAX_TENSORS} variables", path=file.path)
    return [by_name[name] for name in sorted(by_name)]


def _program_variables(file: SourceFile) -> Iterator[Variable]:
    if file.size > MAX_PROGRAM:
        raise FormatError(f"is too large for a program ({file.size} bytes)", path=file.path)
    for block in _messages(file_fields(file, 0, file.size), _PROGRAM_BLOCKS):
        for variable in _messages(file_fields(file, block.start, block.stop), _BLOCK_VARS):
            found = _variable(file, variable)
            if found is not None:
                yield found


def _messages(found: Iterable[Field], number: int) -> Iterator[Field]:
    return (field for field in found if field.number == number and field.wire == LEN)


def _variable(file: SourceFile, field: Field) -> Variable | None:
    """Return what a ``VarDesc`` declares, if it is a persistable tensor."""
    if field.value > _MAX_VARIABLE:
        raise FormatError(f"declares a variable in {field.value} bytes", path=file.path, offset=field.start)
    data = file.read_at(field.start, field.value, "a variable")
    name: bytes | None = None
    persistable = False
    kind: Field | None = None
    for part in fields(data, path=file.path, base=field.start):
        if part.number == _VAR_NAME and part.wire == LEN:
            name = data[part.start : part.stop]
        elif part.number == _VAR_TYPE and part.wire == LEN:
            kind = part
        elif part.number == _VAR_PERSISTABLE and part.wire == VARINT:
            persistable = part.value != 0
    if not persistable or kind is None or name is None:
        return None
    dims = _dense_tensor_dims(data, kind, file, field.start)
    return None if dims is None else Variable(_decoded(name, file, field.start), dims)


def _dense_tensor_dims(data: bytes, kind: Field, file: SourceFile, base: int) -> tuple[int, ...] | None:
    """Return the dimensions that a ``VarType`` has; None where it is no tensor (feed, fetch, reader, raw)."""
    code: int | None = None
    dims: tuple[int, ...] = ()
    for part in fields(data, kind.start, kind.stop, path=file.path, base=base):
        if part.number == _TYPE_TYPE and part.wire == VARINT:
            code = part.value
        elif part.number == _TYPE_DENSE_TENSOR and part.wire == LEN:
            tensor = fields(data, part.start, part.stop, path=file.path, base=base)
            for desc in _messages(tensor, _DENSE_TENSOR_DESC):
                dims = read_descriptor(data, desc.start, desc.stop, path=file.path, base=base).dims
    return dims if code == _DENSE_TENSOR else None


def _decoded(name: bytes, file: SourceFile, offset: int) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise FormatError("declares a variable whose name is not UTF-8", path=file.path, offset=offset) from error


def _pir_variables(file: SourceFile) -> Iterator[Variable]:
    """Yield the parameters of ``program.regions[].blocks[].ops[]``."""
    if file.size > MAX_JSON:
        raise FormatError(f"is too large for a program ({file.size} bytes)", path=file.path)
    try:
        document = decode_json(file.read_at(0, file.size, "a program"))
    except ValueError as error:
        raise FormatError(f"is no JSON that is read: {error}", path=file.path) from error
    if _at(_at(document, "base_code"), "magic") != _PIR_MAGIC:
        raise FormatError("is JSON, but no Paddle program", path=file.path)
    for region in _list_at(_at(document, "program"), "regions"):
        for block in _list_at(region, "blocks"):
            for operation in _list_at(block, "ops"):
                if _at(operation, "#") == _PIR_PARAMETER:
                    yield _pir_parameter(operation, file)


def _pir_parameter(operation: object, file: SourceFile) -> Variable:
    attributes = _list_at(operation, "A")
    name = attributes[3] if len(attributes) == 4 else None
    described = _list_at(_at(_at(operation, "O"), "TT"), "D")
    dims = described[1] if len(described) > 1 else None
    if not isinstance(name, str) or not isinstance(dims, list) or len(dims) > MAX_DIMENSIONS:
        raise FormatError("declares a parameter without a name or a shape", path=file.path)
    if not all(type(side) is int for side in dims):
        raise FormatError("declares a parameter with an impossible shape", path=file.path)
    return Variable(name, tuple(dims))


def _at(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None


def _list_at(value: object, key: str) -> list[object]:
    found = _at(value, key)
    return found if isinstance(found, list) else []


def encode_program(tensors: Sequence[TensorSpec]) -> bytes:
    """Return a ``ProgramDesc`` of one block that declares the tensors as parameters and computes nothing.

    Its version is 0, which means to Paddle "of any".
    """
    variables = b"".join(encode_bytes(_BLOCK_VARS, _encode_variable(spec)) for spec in tensors)
    block = encode_number(_BLOCK_INDEX, 0) + encode_number(_BLOCK_PARENT, -1) + variables
    return encode_bytes(_PROGRAM_BLOCKS, block) + encode_bytes(_PROGRAM_VERSION, encode_number(1, 0))


def _encode_variable(spec: TensorSpec) -> bytes:
    tensor = encode_bytes(_DENSE_TENSOR_DESC, encode_descriptor(WRITABLE[spec.dtype], spec.shape))
    kind = encode_number(_TYPE_TYPE, _DENSE_TENSOR) + encode_bytes(_TYPE_DENSE_TENSOR, tensor)
    flags = encode_number(_VAR_PERSISTABLE, 1) + encode_number(_VAR_IS_PARAMETER, 1)
    return encode_bytes(_VAR_NAME, spec.name) + encode_bytes(_VAR_TYPE, kind) + flags


def encode_pir(tensors: Sequence[TensorSpec]) -> bytes:
    """Return a PIR program that declares the tensors as parameters and computes nothing."""
    block = {"#": "block_0", "args": [], "ops": [_pir_operation(*found) for found in enumerate(tensors, 1)]}
    document = {
        "base_code": {"magic": _PIR_MAGIC, "trainable": True, "version": _PIR_VERSION},
        "program": {"regions": [{"#": "region_0", "blocks": [block]}]},
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _pir_operation(value: int, spec: TensorSpec) -> dict[str, object]:
    described = [{"#": f"0.t_{_PIR_TYPES[spec.dtype.name]}"}, list(spec.shape), "NCHW", [], 0]
    return {
        "#": _PIR_PARAMETER,
        "A": [0, 1, 1, spec.name],
        "DA": [],
        "O": {"%": value, "TT": {"#": "0.t_dtensor", "D": described}},
        "OA": [1, 0, 1],
        "QA": [],
    }
