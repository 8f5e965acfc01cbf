"""Writing PyTorch's zip files: one dict of tensors, as ``torch.save`` lays it out.

Source: pytorch/pytorch: torch/serialization.py (``_save``), caffe2/serialize/inline_container.cc
(``PyTorchStreamWriter``: names, alignment by an extra field). Zip: PKWARE APPNOTE.TXT 6.3, sections 4.3 to 4.5.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from interlingua.formats.base import (
    SingleFileWriter,
    TensorSpec,
    crc32,
    create,
    output_error,
    refuse_dtype,
    write_at,
)
from interlingua.formats.strided import row_major
from interlingua.formats.torch_pickles import STORAGES, UNTYPED

ALIGNMENT = 64
"""Storages begin at multiples of this, so that they can be mapped into memory."""

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_EXTRA = struct.Struct("<2H")

_ZIP64_EXTRA = 0x0001
_PADDING_EXTRA = 0x4246
_FULL16 = 0xFFFF
_FULL32 = 0xFFFFFFFF
_PLAIN, _WITH64 = 20, 45
_DATE = 0x0021  # 1 January 1980, the first day that zip knows: no clock gets into the file.

_SETITEMS_BATCH = 1000


@dataclass(slots=True)
class _Member:
    """One member of the zip: where it lies, and its bytes unless they are a tensor's."""

    name: bytes
    nbytes: int
    header: int = 0
    offset: int = 0
    payload: bytes | None = None
    crc: int = 0

    @property
    def wide(self) -> bool:
        """Whether its size needs 64 bits."""
        return self.nbytes >= _FULL32

    @property
    def far(self) -> bool:
        """Whether its place needs 64 bits."""
        return self.header >= _FULL32


class TorchZipWriter(SingleFileWriter):
    """Writes a PyTorch zip file; every place in it is known before any data.

    A tied tensor has its own shape and the storage of the tensor it is tied to.
    """

    container = "torch-zip"
    checksum = "crc32"
    shares = True

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
            if spec.dtype.name not in STORAGES and spec.dtype.name not in UNTYPED:
                raise refuse_dtype("PyTorch", spec)
        self._members: list[_Member] = []
        self._owners: dict[str, _Member] = {}
        self._end = 0
        self._layout()
        directory, tail = self._directory()
        self._fd = create(self.path, self._end + len(directory) + len(tail))

    def _layout(self) -> None:
        """Give every member its place."""
        root = archive_name(self.path)
        keys: dict[str, str] = {}
        for name in self.tensors:
            if name not in self.ties:
                keys[name] = str(len(keys))
        for name in self.ties:
            keys[name] = keys[self._owner(name)]
        self._place(f"{root}/data.pkl", payload=state_dict_pickle(self.tensors.values(), keys))
        self._place(f"{root}/byteorder", payload=b"little")
        for name, spec in self.tensors.items():
            if name not in self.ties:
                self._owners[name] = self._place(f"{root}/data/{keys[name]}", nbytes=spec.nbytes)
                self.offsets[name] = self._owners[name].offset
        self._place(f"{root}/version", payload=b"3\n")

    def _owner(self, name: str) -> str:
        """Return the tensor whose storage a tied one shares."""
        owner = self.ties[name]
        tied, own = self.tensors[name], self.tensors[owner]
        if owner in self.ties or (tied.dtype, tied.nbytes) != (own.dtype, own.nbytes):
            raise ValueError(f"{name!r} cannot share the storage of {owner!r}")
        return owner

    def _place(self, name: str, *, nbytes: int = 0, payload: bytes | None = None) -> _Member:
        member = _Member(name.encode(), nbytes, self._end, payload=payload)
        if payload is not None:
            member.nbytes = len(payload)
            member.crc = crc32(payload)
        start = self._end + _LOCAL.size + len(member.name) + (20 if member.wide else 0) + _EXTRA.size
        member.offset = start + -start % ALIGNMENT
        self._end = member.offset + member.nbytes
        self._members.append(member)
        return member

    def finish(self) -> None:
        for name, member in self._owners.items():
            checksum = self.checksums.get(name)
            if checksum is None and member.nbytes:
                raise ValueError(f"{name!r} was never sealed")
            member.crc = checksum or 0
        directory, tail = self._directory()
        try:
            for member in self._members:
                write_at(self._fd, member.header, _local_header(member) + (member.payload or b""))
            write_at(self._fd, self._end, directory + tail)
        except OSError as error:
            raise output_error(error, self.path) from error
        self.close()

    def _directory(self) -> tuple[bytes, bytes]:
        """Return the central directory and the records that end the file."""
        directory = b"".join(_central_header(member) for member in self._members)
        count, nbytes = len(self._members), len(directory)
        tail = b""
        if count >= _FULL16 or nbytes >= _FULL32 or self._end >= _FULL32:
            size = _END64.size - 12
            tail += _END64.pack(b"PK\x06\x06", size, _WITH64, _WITH64, 0, 0, count, count, nbytes, self._end)
            tail += _LOCATOR.pack(b"PK\x06\x07", 0, self._end + nbytes, 1)
        counts = min(count, _FULL16)
        return directory, tail + _END.pack(
            b"PK\x05\x06", 0, 0, counts, counts, min(nbytes, _FULL32), min(self._end, _FULL32), 0
        )


def _local_header(member: _Member) -> bytes:
    """Return the header in front of a member, padded so that the data begins where it should."""
    extra = struct.pack("<2H2Q", _ZIP64_EXTRA, 16, member.nbytes, member.nbytes) if member.wide else b""
    padding = member.offset - member.header - _LOCAL.size - len(member.name) - len(extra) - _EXTRA.size
    extra += _EXTRA.pack(_PADDING_EXTRA, padding) + bytes(padding)
    version = _WITH64 if member.wide else _PLAIN
    size = min(member.nbytes, _FULL32)
    sizes = (member.crc, size, size, len(member.name), len(extra))
    return _LOCAL.pack(b"PK\x03\x04", version, 0, 0, 0, _DATE, *sizes) + member.name + extra


def _central_header(member: _Member) -> bytes:
    """Return a member's row of the central directory."""
    wide = [member.nbytes, member.nbytes] if member.wide else []
    if member.far:
        wide.append(member.header)
    extra = struct.pack(f"<2H{len(wide)}Q", _ZIP64_EXTRA, 8 * len(wide), *wide) if wide else b""
    version = _WITH64 if wide else _PLAIN
    size = min(member.nbytes, _FULL32)
    sizes = (member.crc, size, size, len(member.name), len(extra))
    fixed = _CENTRAL.pack(
        b"PK\x01\x02", version, version, 0, 0, 0, _DATE, *sizes, 0, 0, 0, 0, min(member.header, _FULL32)
    )
    return fixed + member.name + extra


def archive_name(path: Path) -> str:
    """Return the folder inside the zip: the file's name without its suffix, as PyTorch has it.

    PyTorch writes ``archive`` where the path is not ASCII, for then it writes to a stream without a name.
    """
    name = path.name.rpartition("\\")[2]
    stem = name.rpartition(".")[0] or name
    return stem if stem.isascii() and stem.isprintable() and stem.strip(".") else "archive"


def state_dict_pickle(tensors: Iterable[TensorSpec], keys: Mapping[str, str]) -> bytes:
    """Return the pickle (protocol 2) of an OrderedDict of row-major tensors; ``keys`` name their storages."""
    out = _Emitter()
    out.op(b"\x80\x02").name("collections", "OrderedDict").op(b")R")
    batch = 0
    for spec in tensors:
        out.op(b"" if batch else b"(").text(spec.name)
        _emit_tensor(out, spec, keys[spec.name])
        batch = (batch + 1) % _SETITEMS_BATCH
        out.op(b"" if batch else b"u")
    return bytes(out.op(b"u." if batch else b".").codes)


def _emit_tensor(out: _Emitter, spec: TensorSpec, key: str) -> None:
    """Emit the call that makes a tensor of a storage."""
    untyped = spec.dtype.name in UNTYPED
    out.name("torch._utils", "_rebuild_tensor_v3" if untyped else "_rebuild_tensor_v2").op(b"((").word("storage")
    if untyped:
        out.name("torch.storage", "UntypedStorage")
    else:
        out.name("torch", STORAGES[spec.dtype.name])
    out.text(key).word("cpu").integer(spec.nbytes if untyped else spec.elements).op(b"tQ")
    out.integer(0).integers(spec.shape).integers(row_major(spec.shape)).op(b"\x89")
    out.name("collections", "OrderedDict").op(b")R")
    if untyped:
        out.name("torch", spec.dtype.name)
    out.op(b"tR")


class _Emitter:
    """Collects opcodes; words and names that recur are taken from the memo, as Python's pickler does."""

    def __init__(self) -> None:
        self.codes = bytearray()
        self.memo: dict[bytes, int] = {}

    def op(self, code: bytes) -> _Emitter:
        self.codes += code
        return self

    def text(self, value: str) -> _Emitter:
        data = value.encode()
        return self.op(b"X" + struct.pack("<I", len(data)) + data)

    def word(self, value: str) -> _Emitter:
        data = value.encode()
        return self._once(b"X" + struct.pack("<I", len(data)) + data)

    def name(self, module: str, name: str) -> _Emitter:
        return self._once(f"c{module}\n{name}\n".encode())

    def _once(self, code: bytes) -> _Emitter:
        if code in self.memo:
            return self.op(b"h" + bytes([self.memo[code]]))
        # A few dozen names and words recur at most: one byte numbers them all.
        self.memo[code] = len(self.memo)
        return self.op(code + b"q" + bytes([self.memo[code]]))

    def integer(self, value: int) -> _Emitter:
        if value < 1 << 8:
            return self.op(b"K" + struct.pack("<B", value))
        if value < 1 << 16:
            return self.op(b"M" + struct.pack("<H", value))
        if value < 1 << 31:
            return self.op(b"J" + struct.pack("<i", value))
        data = value.to_bytes(value.bit_length() // 8 + 1, "little")
        return self.op(b"\x8a" + bytes([len(data)]) + data)

    def integers(self, values: Sequence[int]) -> _Emitter:
        if len(values) > 3:
            self.op(b"(")
        for value in values:
            self.integer(value)
        return self.op({0: b")", 1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(values), b"t"))
