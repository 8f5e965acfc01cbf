"""Container "lod-tensor-combined": Paddle's tensor streams one after the other, in order of their names.

``__params__`` of Paddle Fluid and ``*.pdiparams`` since. The file holds no name, no count and no index: names come
from the program beside it, whose persistable tensors, sorted by name, are the streams.

Source: PaddlePaddle/Paddle: python/paddle/static/io.py (``save_vars`` with a file name, ``_serialize_persistables``),
python/paddle/static/pir_io.py (``save_vars_pir``), operator save_combine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from interlingua.errors import FormatError, MappingError, OutputError
from interlingua.formats.base import SingleFileWriter, SourceFile, TensorSpec, create, output_error, write_at
from interlingua.formats.lod_tensor import (
    LodReader,
    Stream,
    begins_like_stream,
    encode_head,
    lod_of,
    read_stream,
)
from interlingua.formats.paddle_program import Variable, encode_pir, encode_program, is_json, read_variables
from interlingua.formats.pickles import load
from interlingua.formats.registry import Probe

_PROGRAM = ".pdmodel"
_PIR_PROGRAM = ".json"
# Fluid let its user choose both names; these are its defaults and the pair that its examples use.
_FLUID_NAMES = {"__params__": "__model__", "params": "model"}
_FLUID_PROGRAM = "__model__"

_INFO = ".info"

_NAMES = "names"
_STRUCTURED = "structured_names"


class CombinedReader(LodReader):
    """A file of several streams.

    ``objects["names"]`` says which program the names are from; where none lies beside the file, the tensors are
    ``stream.0``, ``stream.1`` and so on in the order of the file, which is that of their names.

    Attributes:
        structured_names: name in the layer's state dict by the variable's name, as far as the file ``<name>.info``
            beside it, which ``paddle.jit.save`` of Paddle 2 writes, tells it; also in ``objects``.

    Raises:
        FormatError: a stream or the program is damaged, or they do not agree on number or shapes.
    """

    container = "lod-tensor-combined"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self.structured_names: dict[str, str] = {}
        try:
            file = SourceFile(self.path)
            self._files.append(file)
            self._open(file, program_beside(self.path))
            self._take_structured_names()
        except BaseException:
            self.close()
            raise

    def _open(self, file: SourceFile, program: Path | None) -> None:
        if program is None:
            self.objects[_NAMES] = "<none: no program lies beside the file; tensors are numbered in its order>"
            if not file.size:
                raise FormatError("is empty", path=self.path)
            for number, stream in enumerate(_streams(file)):
                self.add(f"stream.{number}", file, stream)
            return
        self.objects[_NAMES] = f"<from {program.name}>"
        with SourceFile(program) as source:
            variables = read_variables(source)
        for number, stream in enumerate(_streams(file)):
            if number >= len(variables):
                raise _disagree(file, program, f"which declares {len(variables)} tensors, and the file holds more")
            self.add(_named(stream, variables[number], file, program), file, stream)
        if len(self.tensors) != len(variables):
            counts = f"which declares {len(variables)} tensors, and the file holds {len(self.tensors)}"
            raise _disagree(file, program, counts)

    def _take_structured_names(self) -> None:
        info = self.path.with_name(self.path.name + _INFO)
        if not os.path.isfile(info):
            return
        with SourceFile(info) as file:
            found, _ = load(file, 0, file.size, {})
            if not isinstance(found, dict):
                raise FormatError("is no table of variables", path=info, hint="The tensors are read without it too.")
        for name, entry in found.items():
            structured = entry.get("structured_name") if isinstance(entry, dict) else None
            if name in self.tensors and isinstance(structured, str):
                self.structured_names[name] = structured
        self.objects[_STRUCTURED] = dict(self.structured_names)


def _streams(file: SourceFile) -> Iterator[Stream]:
    at = 0
    number = 0
    while at < file.size:
        stream = read_stream(file, at, f"stream {number}")
        yield stream
        at = stream.stop
        number += 1


def _named(stream: Stream, variable: Variable, file: SourceFile, program: Path) -> str:
    """Return the variable's name, if the stream can be its."""
    open_sides = len(variable.dims) == len(stream.shape) and all(
        declared in (-1, side) for declared, side in zip(variable.dims, stream.shape, strict=True)
    )
    if not open_sides:
        shapes = f"where {variable.name!r} has shape {list(variable.dims)}, but the file {list(stream.shape)}"
        raise _disagree(file, program, shapes, stream.data)
    return variable.name


def _disagree(file: SourceFile, program: Path, how: str, offset: int | None = None) -> FormatError:
    return FormatError(
        f"does not belong to the program {program.name} beside it, {how}",
        path=file.path,
        offset=offset,
        hint="Put the program that was saved with this file beside it.",
    )


def program_beside(path: Path) -> Path | None:
    """Return the program that lies beside a combined file, under one of the names it can have; None without one.

    In this order: ``<stem>.pdmodel``, ``__model__`` (beside ``__params__``; ``model`` beside ``params``),
    ``<stem>.json`` if it is PIR, and ``__model__`` for a file of any other name that holds several streams.
    """
    fluid = _FLUID_NAMES.get(path.name)
    candidates = [
        path.with_suffix(_PROGRAM),
        *([path.with_name(fluid)] if fluid else []),
        path.with_suffix(_PIR_PROGRAM),
    ]
    if _has_several(path):
        candidates.append(path.with_name(_FLUID_PROGRAM))
    for candidate in candidates:
        if candidate != path and os.path.isfile(candidate) and _is_program(candidate):
            return candidate
    return None


def _is_program(path: Path) -> bool:
    """Say whether a file that has a program's name is one: any JSON may lie beside any file."""
    if path.suffix != _PIR_PROGRAM:
        return True
    try:
        with SourceFile(path) as file:
            if is_json(file):
                read_variables(file)
                return True
    except FormatError:
        pass
    return False


def _has_several(path: Path) -> bool:
    try:
        with SourceFile(path) as file:
            return file.size > 0 and read_stream(file, 0, path.name).stop < file.size
    except FormatError:
        return False


class CombinedWriter(SingleFileWriter):
    """Writes the file and, beside it, programs that declare its tensors: without one it has no names.

    They compute nothing, but both Paddle and ``CombinedReader`` read the parameters by them. A file called
    ``__params__`` gets ``__model__``; any other gets ``<stem>.pdmodel``, which Paddle 2 reads, and ``<stem>.json``,
    which Paddle 3 reads. A caller that renames the file must rename them with it (see ``paths``).
    ``metadata`` may hold LoDs, as ``LodReader`` leaves them.

    Raises:
        MappingError: an element type has no stream.
        OutputError: a file cannot be created.
    """

    container = "lod-tensor-combined"

    def __init__(
        self,
        path: str | os.PathLike[str],
        tensors: Sequence[TensorSpec],
        *,
        metadata: Mapping[str, str] | None = None,
        ties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(path, tensors, metadata=metadata, ties=ties)
        specs = [self.tensors[name] for name in sorted(self.tensors)]
        heads = {spec.name: encode_head(spec, lod_of(spec, self.metadata)) for spec in specs}
        programs = self._programs(specs)
        size = 0
        for spec in specs:
            self.offsets[spec.name] = size + len(heads[spec.name])
            size = self.offsets[spec.name] + spec.nbytes
        self._fd = create(self.path, size)
        try:
            for name, head in heads.items():
                write_at(self._fd, self.offsets[name] - len(head), head)
            for program, data in programs.items():
                _write_file(program, data)
        except OSError as error:
            self.close()
            raise output_error(error, self.path) from error
        except BaseException:
            self.close()
            raise
        self._paths = (self.path, *programs)

    def _programs(self, specs: Sequence[TensorSpec]) -> dict[Path, bytes]:
        try:
            description = encode_program(specs)
        except UnicodeEncodeError as error:
            raise MappingError("A Paddle program's names are UTF-8, and one here is no text at all.") from error
        if self.path.name in _FLUID_NAMES:
            return {self.path.with_name(_FLUID_NAMES[self.path.name]): description}
        programs = {
            self.path.with_suffix(_PROGRAM): description,
            self.path.with_suffix(_PIR_PROGRAM): encode_pir(specs),
        }
        if self.path in programs:
            raise OutputError(f"{self.path}: is the name of the program that lies beside the file.")
        return programs

    @property
    def paths(self) -> tuple[Path, ...]:
        return self._paths


def _write_file(path: Path, data: bytes) -> None:
    fd = create(path)
    try:
        write_at(fd, 0, data)
    finally:
        os.close(fd)


def sniff(probe: Probe) -> bool:
    """Say whether a file is several tensor streams, or one with its program beside it."""
    if probe.is_dir or not begins_like_stream(probe.head):
        return False
    try:
        with SourceFile(probe.path) as file:
            stop = read_stream(file, 0, probe.path.name, whole=False).stop
    except FormatError:
        return False
    return stop < probe.size or program_beside(probe.path) is not None


def open_reader(path: Path) -> CombinedReader:
    """Open a combined parameter file.

    Raises:
        FormatError: it, or the program beside it, is damaged, or they do not belong together.
    """
    return CombinedReader(path)


def open_writer(
    path: Path,
    tensors: Sequence[TensorSpec],
    *,
    metadata: Mapping[str, str] | None = None,
    ties: Mapping[str, str] | None = None,
) -> CombinedWriter:
    """Create a combined parameter file and its programs.

    Raises:
        MappingError: an element type has no place in it.
        OutputError: it cannot be created.
    """
    return CombinedWriter(path, tensors, metadata=metadata, ties=ties)
