"""What is fuzzed: for each container, how bytes become a checkpoint, and valid ones to begin with."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from interlingua.formats.base import Reader, TensorSpec, blocks
from interlingua.formats.dtypes import from_numpy_dtype
from interlingua.formats.registry import CONTAINERS

ARRAYS: dict[str, np.ndarray] = {
    "layers.dense.kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "layers.dense.bias": np.arange(3, dtype=np.float16),
    "layers.step": np.array(7, np.int64),
    "layers.empty": np.zeros((0, 4), np.float32),
    "layers.mask": np.array([True, False]),
}

NAMES = {
    "keras-hdf5": {name: f"dense/{name.replace('.', '_')}:0" for name in ARRAYS},
    "keras-weights-hdf5": {name: f"layers/dense_{i}/vars/0" for i, name in enumerate(ARRAYS)},
}
"""Names by which a container's writer takes the arrays, where it does not take any name."""

WITHOUT_EMPTY = frozenset({"mindspore-ckpt"})


@dataclass(frozen=True)
class Target:
    """One fuzz target.

    Attributes:
        container: name of the container.
        place: writes fuzzed bytes below a folder and returns the path to open.
        seeds: valid inputs.
    """

    container: str
    place: Callable[[bytes, Path], Path]
    seeds: Callable[[Path], Iterator[bytes]]


def written(container: str, folder: Path, name: str = "seed") -> Path:
    """Write the arrays in a container and return its path."""
    path = folder / f"{name}{next(iter(CONTAINERS[container].suffixes), '')}"
    names = NAMES.get(container, {})
    arrays = {names.get(n, n): a for n, a in ARRAYS.items() if a.size or container not in WITHOUT_EMPTY}
    specs = [TensorSpec(n, from_numpy_dtype(a.dtype), a.shape) for n, a in arrays.items()]
    with CONTAINERS[container].load().open_writer(path, specs) as writer:
        for array_name, array in arrays.items():
            writer.write(array_name, array.tobytes())
        writer.finish()
    return path


def one_file(container: str) -> Target:
    """Return the target of a container that is one file."""

    def place(data: bytes, folder: Path) -> Path:
        path = folder / "fuzzed"
        path.write_bytes(data)
        return path

    def seeds(folder: Path) -> Iterator[bytes]:
        yield written(container, folder).read_bytes()

    return Target(container, place, seeds)


def read_only(container: str, make: Callable[[Path], Iterator[bytes]]) -> Target:
    """Return the target of a container that is only read, its seeds made otherwise."""
    return Target(container, one_file(container).place, make)


def bundle_index() -> Target:
    """Return the target of a tensor bundle's index, its data being whole."""

    def place(data: bytes, folder: Path) -> Path:
        if not (folder / "seed.ckpt.index").exists():
            written("tensor-bundle", folder)
        (folder / "seed.ckpt.index").write_bytes(data)
        return folder / "seed.ckpt"

    def seeds(folder: Path) -> Iterator[bytes]:
        written("tensor-bundle", folder)
        yield (folder / "seed.ckpt.index").read_bytes()

    return Target("tensor-bundle", place, seeds)


def combined_streams() -> Target:
    """Return the target of combined LoDTensors, the program beside them being whole."""

    def place(data: bytes, folder: Path) -> Path:
        path = folder / "seed.pdiparams"
        if not path.exists():
            written("lod-tensor-combined", folder)
        path.write_bytes(data)
        return path

    def seeds(folder: Path) -> Iterator[bytes]:
        yield written("lod-tensor-combined", folder).read_bytes()

    return Target("lod-tensor-combined", place, seeds)


def combined_program() -> Target:
    """Return the target of the program beside combined LoDTensors, those being whole."""

    def place(data: bytes, folder: Path) -> Path:
        path = folder / "seed.pdiparams"
        if not path.exists():
            written("lod-tensor-combined", folder)
        (folder / "seed.pdmodel").write_bytes(data)
        return path

    def seeds(folder: Path) -> Iterator[bytes]:
        written("lod-tensor-combined", folder)
        yield (folder / "seed.pdmodel").read_bytes()

    return Target("lod-tensor-combined", place, seeds)


def lone_stream() -> Target:
    """Return the target of one variable's file of a LoDTensor folder."""

    def seeds(folder: Path) -> Iterator[bytes]:
        for path in sorted(written("lod-tensor", folder).iterdir()):
            yield path.read_bytes()

    return Target("lod-tensor", one_file("lod-tensor").place, seeds)


def keras_archives(folder: Path) -> Iterator[bytes]:
    """Yield a Keras archive: a zip around Keras 3 weights."""
    weights = written("keras-weights-hdf5", folder)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(folder / "seed.keras", "w", method) as archive:
            archive.writestr("metadata.json", "{}")
            archive.writestr("config.json", "{}")
            archive.write(weights, "model.weights.h5")
        yield (folder / "seed.keras").read_bytes()


def fixtures(*names: str) -> Callable[[Path], Iterator[bytes]]:
    """Return a maker of seeds that takes them from the folder of files written by others, where it is there."""

    def make(_folder: Path) -> Iterator[bytes]:
        root = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
        for name in names:
            for path in sorted(root.glob(name)) if root.is_dir() else ():
                yield path.read_bytes()

    return make


TARGETS: dict[str, Target] = {
    "safetensors": one_file("safetensors"),
    "torch-zip": one_file("torch-zip"),
    "torch-legacy": read_only(
        "torch-legacy", fixtures("nlpodyssey__gopickle/**/*_proto[24].pt", "elixir*/**/*.legacy.pt")
    ),
    "torch-tar": read_only("torch-tar", fixtures()),
    "tensor-bundle": bundle_index(),
    "keras-hdf5": one_file("keras-hdf5"),
    "keras-weights-hdf5": one_file("keras-weights-hdf5"),
    "keras-archive": read_only("keras-archive", keras_archives),
    "hdf5": read_only("hdf5", fixtures("deeplearning4j*/**/*.h5", "jjhelmus*/**/*.hdf5")),
    "npz": one_file("npz"),
    "paddle-pickle": one_file("paddle-pickle"),
    "lod-tensor": lone_stream(),
    "lod-tensor-combined": combined_streams(),
    "lod-tensor-program": combined_program(),
    "mindspore-ckpt": one_file("mindspore-ckpt"),
}


def read_all(reader: Reader) -> None:
    """Read every tensor in blocks, as a conversion would."""
    for name, spec in reader.tensors.items():
        reader.extents(name)
        for start, length in blocks(spec.nbytes):
            reader.read_into(name, start, memoryview(bytearray(length)))


def seed_corpus(target: Target, corpus: Path) -> None:
    """Put a target's seeds into a corpus folder."""
    corpus.mkdir(parents=True, exist_ok=True)
    scratch = corpus.with_name(f"{corpus.name}-scratch")
    scratch.mkdir(exist_ok=True)
    for number, data in enumerate(target.seeds(scratch)):
        (corpus / f"seed-{number}").write_bytes(data)
    shutil.rmtree(scratch)
