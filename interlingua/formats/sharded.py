"""One checkpoint over several files, listed by an index: ``model.safetensors.index.json`` and its like.

Layout (huggingface/transformers, "Sharded checkpoints"): a JSON object whose ``weight_map`` maps each
tensor's name to the name of the file, in the same folder, that holds it.
"""

from __future__ import annotations

import os
from pathlib import Path

from interlingua.errors import FormatError
from interlingua.formats.base import Extent, Reader, SourceFile
from interlingua.formats.json_text import MAX_JSON, decode_json
from interlingua.formats.registry import open_container


class ShardedReader(Reader):
    """Reads several containers as one."""

    container = "sharded"

    def __init__(self, index: str | os.PathLike[str]) -> None:
        super().__init__(index)
        self._readers: dict[str, Reader] = {}
        self._home: dict[str, Reader] = {}
        try:
            self._open(read_index(self.path))
        except BaseException:
            self.close()
            raise

    def _open(self, weight_map: dict[str, str]) -> None:
        for file in dict.fromkeys(weight_map.values()):
            if file != Path(file).name or file in ("", ".", ".."):
                raise FormatError(f"names the file {file!r}, which is not in its folder", path=self.path)
            self._readers[file] = open_container(self.path.parent / file)
        for name, file in weight_map.items():
            reader = self._readers[file]
            if name not in reader.tensors:
                raise FormatError(f"says that {file} holds {name!r}, which it does not", path=self.path)
            self.tensors[name] = reader.tensors[name]
            self._home[name] = reader
        for file, reader in self._readers.items():
            missing = [name for name in reader.tensors if weight_map.get(name) != file]
            if missing:
                raise FormatError(f"does not list {missing[0]!r}, which is in {file}", path=self.path)
            self.metadata.update(reader.metadata)
            self.objects.update(reader.objects)
        containers = {reader.container for reader in self._readers.values()}
        self.parts = tuple(sorted(containers))

    def extents(self, name: str) -> tuple[Extent, ...] | None:
        return self._home[name].extents(name)

    def read_into(self, name: str, start: int, view: memoryview) -> None:
        self._home[name].read_into(name, start, view)

    def expected_checksum(self, name: str) -> tuple[str, int] | None:
        return self._home[name].expected_checksum(name)

    @property
    def files(self) -> tuple[Path, ...]:
        """The shards."""
        return tuple(reader.path for reader in self._readers.values())

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()


def read_index(path: Path) -> dict[str, str]:
    """Return the ``weight_map`` of an index file: tensor's name -> file's name.

    Raises:
        FormatError: it is no such index.
    """
    with SourceFile(path) as file:
        if file.size > MAX_JSON:
            raise FormatError(f"is too large for an index ({file.size} bytes)", path=path)
        raw = file.read_at(0, file.size, "the index")
    try:
        index = decode_json(raw)
    except ValueError as error:
        raise FormatError(f"is no valid JSON: {error}", path=path) from error
    found = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(found, dict) or not all(isinstance(file, str) for file in found.values()):
        raise FormatError("has no weight_map from names to files", path=path)
    return found
