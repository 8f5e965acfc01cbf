"""Container "lod-tensor": Paddle's binary tensor streams, one file a variable, the file's name being the variable's.

It is what ``save_vars``, ``save_params`` and ``save_persistables`` of Paddle Fluid write into a folder, and what
``paddle.save(tensor, file, use_binary_format=True)`` writes into a single file. A stream is, little-endian:

    u32 version of the LoD part = 0, u64 number of LoD levels (none for a parameter),
    a level: u64 its bytes, then its offsets as u64,
    u32 version of the tensor part = 0, i32 length of the descriptor, TensorDesc (protobuf), row-major data

Source: PaddlePaddle/Paddle: paddle/phi/core/framework/dense_tensor_serialize.cc, dense_tensor_tostream.cc,
framework.proto (paddle/fluid/framework/lod_tensor.cc and tensor_util.cc before 3.0); python/paddle/static/io.py
(``save_vars``, ``load_program_state``: names with ``/`` are paths below the folder).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from interlingua.errors import FormatError, MappingError, OutputError
from interlingua.formats import strided
from interlingua.formats.base import (
    MAX_DIMENSIONS,
    Extent,
    Reader,
    Slot,
    SourceFile,
    TensorSpec,
    Writer,
    checked_shape,
    create,
    make_folders,
    output_error,
    refuse_dtype,
    write_at,
)
from interlingua.formats.dtypes import DTYPES, DType
from interlingua.formats.protobuf_wire import (
    LEN,
    VARINT,
    encode_number,
    fields,
    packed_varints,
    signed64,
)
from interlingua.formats.registry import Probe

MAX_TENSORS = 1 << 16
"""More variables than any program has, and few enough for their specs to fit into memory."""

CODES: dict[int, DType] = {
    code: DTYPES[name]
    for code, name in {
        0: "bool",
        1: "int16",
        2: "int32",
        3: "int64",
        4: "float16",
        5: "float32",
        6: "float64",
        20: "uint8",
        21: "int8",
        22: "bfloat16",
        23: "complex64",
        24: "complex128",
        32: "float8_e4m3fn",
        33: "float8_e5m2",
        36: "uint16",
        37: "uint32",
        38: "uint64",
    }.items()
}
"""Element types by ``VarType.Type`` of framework.proto."""

# Paddle 3.3 reads float8 streams as float32 and refuses those of wide unsigned integers; a stream that it
# cannot load is not worth writing.
WRITABLE = {dtype: code for code, dtype in CODES.items() if code < 32}

_MAX_LEVELS = 32
_MAX_LOD = 1 << 20
_MAX_DESCRIPTOR = 4096
_MAX_COMPONENT = 255
_LOD = ".lod"

# A stream in one of these is part of something else: a combined file of one parameter, or another container
# beside which a single tensor happens to lie.
_FOREIGN_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("safetensors", "bin", "pt", "pth", "ckpt", "index", "h5", "hdf5", "keras", "npz", "npy"),
        *("pdparams", "pdopt", "onnx", "gguf", "msgpack"),
    )
)
_COMBINED_SUFFIX = ".pdiparams"
_COMBINED_NAMES = frozenset(("__params__",))
_PROGRAM_NAMES = frozenset(("__model__",))

# A lone tensor's file is named after the variable, which has dots of its own (``fc_0.w_0``): only an ending that
# says "a tensor" is no part of the name.
_TENSOR_SUFFIXES = frozenset((".pdtensor", ".tensor", ".pdparams", _COMBINED_SUFFIX, ".bin"))


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a ``TensorDesc`` says: the code of the element type (None where it says none) and the dimensions."""

    code: int | None
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stream:
    """One tensor stream in a file.

    Attributes:
        dtype: element type.
        shape: number of elements along each axis.
        lod: offsets of each LoD level; ``()`` for a parameter.
        data: offset of the row-major little-endian data.
        stop: offset just after it.
    """

    dtype: DType
    shape: tuple[int, ...]
    lod: tuple[tuple[int, ...], ...]
    data: int
    stop: int


def read_descriptor(data: bytes, start: int, stop: int, *, path: Path, base: int) -> Descriptor:
    """Parse the ``TensorDesc`` message in ``data[start:stop]``; ``base`` is where ``data`` lies in the file.

    Raises:
        FormatError: it is malformed, or has more dimensions than a tensor can have.
    """
    code: int | None = None
    dims: list[int] = []
    for field in fields(data, start, stop, path=path, base=base):
        if field.number == 1 and field.wire == VARINT:
            code = field.value
        elif field.number == 2 and field.wire == VARINT:
            dims.append(signed64(field.value))
        elif field.number == 2 and field.wire == LEN:
            dims += map(signed64, packed_varints(data, field.start, field.stop, path=path, base=base))
        if len(dims) > MAX_DIMENSIONS:
            raise FormatError("describes a tensor of too many dimensions", path=path, offset=base + start)
    return Descriptor(code, tuple(dims))


def encode_descriptor(code: int, shape: Sequence[int]) -> bytes:
    """Encode a ``TensorDesc`` as Paddle does: dimensions unpacked."""
    return encode_number(1, code) + b"".join(encode_number(2, side) for side in shape)


def begins_like_stream(head: bytes) -> bool:
    """Say whether bytes that are not empty can be the start of a stream, however short they are."""
    return bool(head) and not any(head[:4]) and int.from_bytes(head[4:12], "little") <= _MAX_LEVELS


def read_stream(file: SourceFile, start: int, name: str, *, whole: bool = True) -> Stream:
    """Read the head of the stream that begins at ``start``; ``name`` is what an error calls it.

    Args:
        file: the file it lies in.
        start: offset of its first byte.
        name: the variable's name.
        whole: whether the data must lie inside the file; if not, ``stop`` may be beyond its end.

    Raises:
        FormatError: it is no stream, of an unknown version or type, or cut short.
    """
    lod, at = _read_lod(file, start, name)
    version, length = struct.unpack("<Ii", file.read_at(at, 8, f"the head of {name!r}"))
    if version != 0:
        raise FormatError(f"{name!r} has tensor version {version}; 0 is known", path=file.path, offset=at)
    at += 8
    if not 0 < length <= _MAX_DESCRIPTOR:
        raise FormatError(f"{name!r} has a descriptor of {length} bytes", path=file.path, offset=at - 4)
    data = file.read_at(at, length, f"the descriptor of {name!r}")
    described = read_descriptor(data, 0, length, path=file.path, base=at)
    dtype = None if described.code is None else CODES.get(described.code)
    if dtype is None:
        raise FormatError(f"{name!r} has element type {described.code}, not known here", path=file.path, offset=at)
    at += length
    try:
        shape = strided.checked_shape(described.dims)
    except ValueError as error:
        raise FormatError(f"{name!r} has an impossible shape: {error}", path=file.path, offset=at - length) from error
    if whole:
        checked_shape(shape, dtype, file.size - at, repr(name), file.path)
    return Stream(dtype, shape, lod, at, at + TensorSpec(name, dtype, shape).nbytes)


def _read_lod(file: SourceFile, start: int, name: str) -> tuple[tuple[tuple[int, ...], ...], int]:
    """Return the LoD of the stream at ``start``, and the offset behind it."""
    version, count = struct.unpack("<IQ", file.read_at(start, 12, f"the head of {name!r}"))
    if version != 0:
        raise FormatError(f"{name!r} has LoD version {version}; 0 is known", path=file.path, offset=start)
    if count > _MAX_LEVELS:
        raise FormatError(f"{name!r} claims {count} LoD levels", path=file.path, offset=start + 4)
    at = start + 12
    left = _MAX_LOD
    levels: list[tuple[int, ...]] = []
    for _ in range(count):
        (nbytes,) = struct.unpack("<Q", file.read_at(at, 8, f"a LoD level of {name!r}"))
        left -= nbytes
        if nbytes % 8 or left < 0:
            raise FormatError(f"{name!r} claims a LoD level of {nbytes} bytes", path=file.path, offset=at)
        data = file.read_at(at + 8, nbytes, f"a LoD level of {name!r}")
        levels.append(struct.unpack(f"<{nbytes // 8}Q", data))
        at += 8 + nbytes
    return tuple(levels), at


def encode_head(spec: TensorSpec, lod: Sequence[Sequence[int]] = ()) -> bytes:
    """Encode everything of a stream that precedes its data.

    Raises:
        MappingError: Paddle cannot load a stream of that element type.
    """
    code = WRITABLE.get(spec.dtype)
    if code is None:
        raise refuse_dtype("A Paddle tensor stream", spec)
    levels = b"".join(struct.pack(f"<Q{len(level)}Q", 8 * len(level), *level) for level in lod)
    descriptor = encode_descriptor(code, spec.shape)
    return struct.pack("<IQ", 0, len(lod)) + levels + struct.pack("<Ii", 0, len(descriptor)) + descriptor


def lod_of(spec: TensorSpec, metadata: Mapping[str, str]) -> list[list[int]]:
    """Return the LoD that ``metadata`` gives a tensor, as ``LodReader`` left it there: JSON under ``<name>.lod``.

    Raises:
        MappingError: it is no list of lists of offsets.
    """
    try:
        lod = json.loads(metadata.get(spec.name + _LOD, "[]"))
    except (ValueError, RecursionError) as error:
        raise _no_lod(spec) from error
    if not isinstance(lod, list) or len(lod) > _MAX_LEVELS:
        raise _no_lod(spec)
    for level in lod:
        if not isinstance(level, list) or not all(type(at) is int and 0 <= at < 1 << 64 for at in level):
            raise _no_lod(spec)
        if 8 * len(level) > _MAX_LOD:
            raise _no_lod(spec)
    return lod


def _no_lod(spec: TensorSpec) -> MappingError:
    return MappingError(
        f"The metadata {spec.name + _LOD!r} is no level-of-detail table (a list of lists of offsets).",
        names=(spec.name,),
        hint="Leave it out: a parameter has none.",
    )


class VariableFile(SourceFile):
    """A file that is open only while it is read, as a folder can hold more of them than a process may open.

    ``held`` gives a descriptor for as long as it is needed, and reads meanwhile use it; one that is taken as ``fd``
    stays open until ``close``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._fd = -1
        self._opening = threading.Lock()
        self._lent: SourceFile | None = None
        self._borrowers = 0
        super().__init__(path)

    @property
    def fd(self) -> int:
        with self._opening:
            if self._fd < 0:
                self._fd = self._reopened().fd
        return self._fd

    @fd.setter
    def fd(self, value: int) -> None:
        self._fd = value

    def close(self) -> None:
        # The base class closes ``fd``, but asking for it here would open it.
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @contextlib.contextmanager
    def held(self) -> Iterator[int]:
        """Give a descriptor of the file that is valid in the context."""
        with self._borrowed() as file:
            yield file.fd

    def read_at(self, offset: int, nbytes: int, what: str) -> bytes:
        if self._fd >= 0:
            return super().read_at(offset, nbytes, what)
        with self._borrowed() as file:
            return file.read_at(offset, nbytes, what)

    def read_into(self, offset: int, view: memoryview) -> None:
        with self._borrowed() as file:
            file.read_into(offset, view)

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[SourceFile]:
        """Give the open file, opened by the first who asks and closed by the last who is done."""
        with self._opening:
            if self._lent is None:
                self._lent = self._reopened()
            file = self._lent
            self._borrowers += 1
        try:
            yield file
        finally:
            with self._opening:
                self._borrowers -= 1
                if not self._borrowers:
                    self._lent = None
                    file.close()

    def _reopened(self) -> SourceFile:
        file = SourceFile(self.path)
        # A file that is filled while it is read has another time whenever more of it has come.
        if file.lazy is not self.lazy or (file.lazy is None and file.stamp != self.stamp):
            file.close()
            raise FormatError("was replaced while it was read", path=self.path)
        return file


class LodReader(Reader):
    """Tensors that lie in files as whole streams; the base of this container and of "lod-tensor-combined".

    A LoD is in ``objects`` under ``<name>.lod`` as a list of lists, and in ``metadata`` as its JSON, which a
    writer takes up again.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._extents: dict[str, Extent] = {}
        self._files: list[SourceFile] = []
        self._lod_left = _MAX_LOD

    def add(self, name: str, file: SourceFile, stream: Stream) -> None:
        """Take up a stream under a name.

        Raises:
            FormatError: there are more of them, or more LoD, than a checkpoint can have.
        """
        if len(self.tensors) >= MAX_TENSORS:
            raise FormatError(f"holds more than {MAX_TENSORS} tensors", path=self.path)
        self.tensors[name] = TensorSpec(name, stream.dtype, stream.shape)
        self._extents[name] = Extent(file, stream.data, stream.stop - stream.data)
        if not stream.lod:
            return
        self._lod_left -= 8 * sum(map(len, stream.lod))
        if self._lod_left < 0:
            raise FormatError("holds more LoD offsets than a checkpoint can", path=self.path)
        lod = [list(level) for level in stream.lod]
        self.objects[name + _LOD] = lod
        self.metadata[name + _LOD] = json.dumps(lod)

    def extents(self, name: str) -> tuple[Extent, ...]:
        return (self._extents[name],)

    def close(self) -> None:
        for file in self._files:
            file.close()


class LodTensorReader(LodReader):
    """A folder with a stream a file, or one file that is a stream.

    A tensor of a folder has the file's path below the folder as its name, with ``/``. What is no stream there
    (``__model__``, logs, empty files) is told in ``objects``. A lone file's tensor has the file's name, less an
    ending like ``.pdtensor``.

    Raises:
        FormatError: a file that begins like a stream is cut short, too long or malformed, or no file is one.
    """

    container = "lod-tensor"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        try:
            if self.path.is_dir():
                self._open_folder()
            else:
                self._open_file()
        except BaseException:
            self.close()
            raise

    def _open_file(self) -> None:
        file = SourceFile(self.path)
        self._files.append(file)
        name = lone_name(self.path)
        self.add(name, file, read_whole(file, name))

    def _open_folder(self) -> None:
        inside = Path(os.path.realpath(self.path))
        for name, entry in sorted(_walk(self.path), key=lambda found: found[0]):
            refusal = _refusal(entry, inside)
            if refusal is None:
                refusal = self._open_variable(name, Path(entry.path))
            if refusal is not None:
                self.objects[_printable(name)] = f"<not a tensor: {refusal}>"
        if not self.tensors:
            raise FormatError("is a folder without a single Paddle tensor stream", path=self.path)

    def _open_variable(self, name: str, path: Path) -> str | None:
        """Take up a file if it is a stream; else say what it is."""
        file = VariableFile(path)
        with file:  # What is closed here opens again when its data is asked for.
            if file.size == 0:
                return "an empty file"
            if not begins_like_stream(file.read_at(0, min(12, file.size), "the start of the file")):
                return f"a file of {file.size} bytes that is no tensor stream"
            if _printable(name) != name:
                raise FormatError("is a tensor stream with a name that is not UTF-8", path=_printable(os.fspath(path)))
            stream = read_whole(file, name)
        self._files.append(file)
        self.add(name, file, stream)
        return None


def read_whole(file: SourceFile, name: str) -> Stream:
    """Read the head of the stream that a whole file is.

    Raises:
        FormatError: it is none, or it ends before the file does.
    """
    stream = read_stream(file, 0, name)
    if stream.stop != file.size:
        raise FormatError(
            f"has {file.size - stream.stop} bytes behind its one tensor",
            path=file.path,
            offset=stream.stop,
            hint="If it is a file of several tensors, open it by itself, with its program (.pdmodel) beside it.",
        )
    return stream


def lone_name(path: Path) -> str:
    """Return the name of the tensor in a lone file."""
    return path.stem if path.suffix in _TENSOR_SUFFIXES else path.name


def _printable(name: str) -> str:
    """Return a file's name with bytes that are no UTF-8 spelled out."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _walk(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield all that is no folder below ``folder`` by its path there; links to folders are not followed."""
    pending = [(folder, "")]
    seen = 0
    while pending:
        place, prefix = pending.pop()
        for entry in _entries(place, MAX_TENSORS - seen):
            seen += 1
            if entry.is_dir(follow_symlinks=False):
                pending.append((Path(entry.path), f"{prefix}{entry.name}/"))
            else:
                yield prefix + entry.name, entry


def _entries(folder: Path, limit: int) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            entries = list(itertools.islice(found, limit + 1))
    except OSError as error:
        raise FormatError(f"cannot be listed: {error.strerror}", path=folder) from error
    if len(entries) > limit:
        raise FormatError(f"holds more than {MAX_TENSORS} files", path=folder)
    return entries


def _refusal(entry: os.DirEntry[str], inside: Path) -> str | None:
    """Say why a folder's entry is not to be opened; None where it may be."""
    try:
        if entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(inside):
            return "a link that leads out of the folder"
        if not entry.is_file():
            return "no regular file"
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return None


class LodTensorWriter(Writer):
    """Writes a folder with a stream a file.

    ``path`` must not exist or be an empty folder. A file is open while its ``slot`` is, so that hundreds of tensors
    need no more than one descriptor each at a time. ``metadata`` may hold LoDs, as
    ``LodReader`` leaves them.

    Raises:
        MappingError: a name cannot be a file's path below the folder, or an element type has no stream.
        OutputError: the folder or a file cannot be created.
    """

    container = "lod-tensor"

    def __init__(
        self,
        path: str | os.PathLike[str],
        tensors: Sequence[TensorSpec],
        *,
        metadata: Mapping[str, str] | None = None,
        ties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(path, tensors, metadata=metadata, ties=ties)
        _check_names(self.tensors)
        self._heads = {name: encode_head(spec, lod_of(spec, self.metadata)) for name, spec in self.tensors.items()}
        self._created: set[str] = set()
        self._create_folder()

    def _create_folder(self) -> None:
        try:
            self.path.mkdir(exist_ok=True)
            empty = not any(self.path.iterdir())
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be created: {error.strerror}.") from error
        if not empty:
            raise OutputError(f"{self.path}: is a folder that is not empty.", hint="Choose another place.")

    def _create_file(self, name: str) -> int:
        """Create a tensor's file, all but its data, and return its descriptor."""
        path, head = os.path.join(self.path, name), self._heads[name]
        if "/" in name:
            self._create_above(name)
        fd = create(path, len(head) + self.tensors[name].nbytes)
        self._created.add(name)
        try:
            write_at(fd, 0, head)
        except OSError as error:
            os.close(fd)
            raise output_error(error, path) from error
        return fd

    def _open_file(self, name: str) -> int:
        path = os.path.join(self.path, name)
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise output_error(error, path) from error

    def _create_above(self, name: str) -> None:
        try:
            make_folders(self.path, name)
        except OSError as error:
            raise OutputError(f"{(self.path / name).parent}: cannot be created: {error.strerror}.") from error

    @contextlib.contextmanager
    def slot(self, name: str) -> Iterator[Slot]:
        fd = self._open_file(name) if name in self._created else self._create_file(name)
        try:
            yield Slot(fd, len(self._heads[name]))
        finally:
            os.close(fd)

    def finish(self) -> None:
        """Create the files of which nobody wanted the slot: their tensors have no data."""
        for name in self.tensors:
            if name not in self._created:
                os.close(self._create_file(name))

    def close(self) -> None:
        """Do nothing: every file is closed between two tensors."""

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(self.path / name for name in self.tensors)


def _check_names(names: Mapping[str, object]) -> None:
    """Raise MappingError unless every name can be a file's path below a folder, and all of them together."""
    folders = {"/".join(parts[:end]) for name in names for parts in [name.split("/")] for end in range(1, len(parts))}
    refused = [name for name in names if not _is_safe(name) or name in folders]
    if refused:
        raise MappingError(
            f"{len(refused)} names cannot be file names, and a lod-tensor folder has a file for each tensor: "
            f"{', '.join(ascii(name[:80]) for name in refused[:5])}.",
            names=refused,
            hint="Choose another container with --container.",
        )
    if names and all("/" in name for name in names):
        raise MappingError(
            "Every name has a folder in it, and a folder is known for lod-tensor by the files directly in it.",
            names=list(names),
            hint="Choose another container with --container.",
        )


def _is_safe(name: str) -> bool:
    parts = name.split("/")
    if name in _PROGRAM_NAMES or "\0" in name or any(part in ("", ".", "..") for part in parts):
        return False
    try:
        return all(len(part.encode()) <= _MAX_COMPONENT for part in parts)
    except UnicodeEncodeError:
        return False


def sniff(probe: Probe) -> bool:
    """Say whether a file is one tensor stream, or a folder holds such files and no other container.

    A folder is judged by what lies directly in it: a folder above one of streams is not one itself.
    """
    if probe.is_dir:
        return _is_folder_of_streams(probe.path)
    from interlingua.formats import lod_tensor_combined

    return begins_like_stream(probe.head) and _is_lone_stream(probe) and not lod_tensor_combined.sniff(probe)


def _is_lone_stream(probe: Probe) -> bool:
    try:
        with SourceFile(probe.path) as file:
            # Whole or cut short: a truncated stream is recognised, so that opening it says what is wrong.
            return read_stream(file, 0, probe.path.name, whole=False).stop >= file.size
    except FormatError:
        return False


def _is_folder_of_streams(folder: Path) -> bool:
    found = False
    inside = Path(os.path.realpath(folder))
    try:
        for entry in _entries(folder, MAX_TENSORS):
            if entry.is_dir(follow_symlinks=False) or _refusal(entry, inside) is not None:
                continue
            suffix = os.path.splitext(entry.name)[1]
            if suffix == _COMBINED_SUFFIX or entry.name in _COMBINED_NAMES:
                return False
            is_foreign = suffix in _FOREIGN_SUFFIXES
            if found and not is_foreign:
                continue
            stream = _is_stream_file(Path(entry.path))
            if is_foreign and not stream:
                return False
            found = found or stream
    except FormatError:
        return False
    return found


def _is_stream_file(path: Path) -> bool:
    try:
        with SourceFile(path) as file:
            read_whole(file, path.name)
    except FormatError:
        return False
    return True


def open_reader(path: Path) -> LodTensorReader:
    """Open a folder of streams, or one stream.

    Raises:
        FormatError: it is damaged or none.
    """
    return LodTensorReader(path)


def open_writer(
    path: Path,
    tensors: Sequence[TensorSpec],
    *,
    metadata: Mapping[str, str] | None = None,
    ties: Mapping[str, str] | None = None,
) -> LodTensorWriter:
    """Create a folder of streams.

    Raises:
        MappingError: a name or an element type has no place in it.
        OutputError: it cannot be created.
    """
    return LodTensorWriter(path, tensors, metadata=metadata, ties=ties)
