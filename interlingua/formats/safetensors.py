"""safetensors: a length, a JSON header, and the tensors' bytes one after another.

Layout (huggingface/safetensors ``README.md`` and ``safetensors/src/tensor.rs``): u64 length of the header,
the header (a JSON object, padded with spaces), then the data. The header maps each name to its dtype, shape
and ``data_offsets`` (begin and end within the data); ``__metadata__`` maps strings to strings. The data has
no holes and no overlaps.

The writer orders tensors as the reference does (wider types first, then by name), and keeps metadata in a
fixed order, which the reference does not: the same tensors always give the same file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from interlingua.errors import FormatError, MappingError
from interlingua.formats.base import (
    Extent,
    Reader,
    SingleFileWriter,
    SourceFile,
    TensorSpec,
    checked_shape,
    create,
    refuse_dtype,
    write_at,
)
from interlingua.formats.dtypes import DTYPES
from interlingua.formats.json_text import MAX_JSON, decode_json
from interlingua.formats.registry import Probe

MAX_HEADER = MAX_JSON
"""Longest header, in bytes, that is read: some 140 000 tensors. (The reference goes up to 100 MB.)"""

METADATA = "__metadata__"
"""The key of the header that is no tensor."""

ALIGNMENT = 8
"""The header is padded so that the data begins at a multiple of this many bytes."""

CODES = {
    "BOOL": "bool",
    "F4": "float4_e2m1fn",
    "F6_E2M3": "float6_e2m3fn",
    "F6_E3M2": "float6_e3m2fn",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
"""The format's codes, in its own order of alignment, and the element types that they are."""

_CODE_OF = {name: code for code, name in CODES.items()}
_RANK = {name: rank for rank, name in enumerate(CODES.values())}


def sniff(probe: Probe) -> bool:
    """Say whether the file begins as safetensors do: a plausible length, then an object."""
    if len(probe.head) < 9 or probe.head[8:9] != b"{":
        return False
    length = int.from_bytes(probe.head[:8], "little")
    return 2 <= length <= MAX_HEADER


def open_reader(path: Path) -> SafetensorsReader:
    """Open a safetensors file.

    Raises:
        FormatError: it is damaged or its header lies.
    """
    return SafetensorsReader(path)


def open_writer(
    path: Path,
    tensors: Sequence[TensorSpec],
    *,
    metadata: Mapping[str, str] | None = None,
    ties: Mapping[str, str] | None = None,
) -> SafetensorsWriter:
    """Create a safetensors file at ``path``."""
    return SafetensorsWriter(path, tensors, metadata=metadata, ties=ties)


class SafetensorsReader(Reader):
    """Reads a safetensors file; every tensor is one extent."""

    container = "safetensors"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._file = SourceFile(path)
        self._extents: dict[str, Extent] = {}
        try:
            self._read_header()
        except BaseException:
            self._file.close()
            raise

    def extents(self, name: str) -> tuple[Extent, ...]:
        return (self._extents[name],)

    def close(self) -> None:
        self._file.close()

    def _read_header(self) -> None:
        length = int.from_bytes(self._file.read_at(0, 8, "the header's length"), "little")
        if length > MAX_HEADER:
            raise self._broken(f"the header claims {length} bytes, more than the {MAX_HEADER} that are allowed", 0)
        header = self._parse(self._file.read_at(8, length, "the header"))
        metadata = header.pop(METADATA, None)
        if metadata is None:
            metadata = {}
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise self._broken("__metadata__ must map strings to strings", 8)
        self.metadata = metadata
        start = 8 + length
        entries = [self._entry(name, entry, self._file.size - start) for name, entry in header.items()]
        entries.sort(key=lambda entry: entry[1:])
        self._check_layout(entries, self._file.size - start)
        for spec, begin, end in entries:
            self.tensors[spec.name] = spec
            self._extents[spec.name] = Extent(self._file, start + begin, end - begin)

    def _parse(self, raw: bytes) -> dict[str, object]:
        if not raw.startswith(b"{"):
            raise self._broken("the header does not begin with {", 8)
        try:
            header = decode_json(raw, self._unique)
        except ValueError as error:
            raise self._broken(f"the header is no valid JSON: {error}", 8) from error
        if not isinstance(header, dict):
            raise self._broken("the header is no JSON object", 8)
        return header

    def _unique(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise self._broken("the header names something twice", 8)
        return found

    def _entry(self, name: str, entry: object, available: int) -> tuple[TensorSpec, int, int]:
        # The reference passes over keys that it does not know, too.
        if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= set(entry):
            raise self._broken(f"the entry of {name!r} lacks dtype, shape or data_offsets", 8)
        code, dims, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(code, str) or code not in CODES:
            raise self._broken(f"{name!r} has the unknown dtype {code!r}", 8)
        if not isinstance(dims, list) or not isinstance(offsets, list) or len(offsets) != 2:
            raise self._broken(f"the entry of {name!r} has no shape or no two offsets", 8)
        if not all(type(number) is int for number in (*dims, *offsets)):
            raise self._broken(f"{name!r} has a shape or offsets that are no integers", 8)
        dtype = DTYPES[CODES[code]]
        begin, end = offsets
        if not 0 <= begin <= end <= available:
            raise self._broken(f"{name!r} claims bytes {begin} to {end} of {available}", 8)
        spec = TensorSpec(name, dtype, checked_shape(dims, dtype, available, repr(name), self.path, 8))
        if spec.nbytes != end - begin or (spec.elements * dtype.bits) % 8:
            raise self._broken(
                f"{name!r} of shape {dims} and type {code} takes {spec.nbytes} bytes, but has {end - begin}", 8
            )
        return spec, begin, end

    def _check_layout(self, entries: Sequence[tuple[TensorSpec, int, int]], available: int) -> None:
        position = 0
        for spec, begin, end in entries:
            if begin != position:
                raise self._broken(f"{spec.name!r} begins at {begin} of the data, but {position} is due", 8)
            position = end
        if position != available:
            raise self._broken(f"the tensors end at {position} of the data, but the file at {available}", 8)

    def _broken(self, message: str, offset: int) -> FormatError:
        hint = "The file is damaged or was cut short; fetch it again."
        return FormatError(message, path=self.path, offset=offset, hint=hint)


class SafetensorsWriter(SingleFileWriter):
    """Writes a safetensors file; the header is known before any data."""

    container = "safetensors"

    def __init__(
        self,
        path: str | os.PathLike[str],
        tensors: Sequence[TensorSpec],
        *,
        metadata: Mapping[str, str] | None = None,
        ties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(path, tensors, metadata=metadata, ties=ties)
        for spec in tensors:
            if spec.dtype.name not in _CODE_OF:
                raise refuse_dtype("safetensors", spec)
            if spec.name == METADATA:
                raise MappingError(f"safetensors cannot have a tensor called {METADATA}.", names=(spec.name,))
        header = self._layout()
        self._fd = create(self.path, self._size)
        write_at(self._fd, 0, header)

    def _layout(self) -> bytes:
        order = sorted(self.tensors.values(), key=lambda spec: (-_RANK[spec.dtype.name], spec.name))
        entries: dict[str, object] = {}
        if self.metadata:
            entries[METADATA] = dict(sorted(self.metadata.items()))
        position = 0
        for spec in order:
            end = position + spec.nbytes
            code = _CODE_OF[spec.dtype.name]
            entries[spec.name] = {"dtype": code, "shape": list(spec.shape), "data_offsets": [position, end]}
            self.offsets[spec.name] = position
            position = end
        text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
        text += b" " * (-len(text) % ALIGNMENT)
        start = 8 + len(text)
        self.offsets = {name: start + offset for name, offset in self.offsets.items()}
        self._size = start + position
        return len(text).to_bytes(8, "little") + text
