"""Any container converts to any other under the names that the tensors have, and back, with every bit."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

import interlingua
from interlingua.errors import MappingError
from interlingua.formats.base import TensorSpec, crc32c
from interlingua.formats.castagnoli import mask
from interlingua.formats.dtypes import FLOAT32, STRING, from_numpy_dtype
from interlingua.formats.registry import CONTAINERS
from interlingua.formats.tensor_bundle import open_writer
from tests.formats.strategies import equal_bits

ARRAYS = {
    "embeddings.word.weight": np.arange(35, dtype=np.float32).reshape(7, 5),
    "encoder.layer.0.weight": np.arange(24, dtype=np.float16).reshape(2, 3, 4),
    "encoder.layer.10.weight": np.array([np.nan, -0.0, np.inf, 1e-310]),
    "encoder.step": np.array(7, np.int64),
    "encoder.mask": np.array([True, False, True]),
}
WRITABLE = [name for name, container in CONTAINERS.items() if container.writes]


def written(container: str, folder: Path) -> Path:
    """Write the arrays in a container through its own writer."""
    folder.mkdir()
    path = folder / f"made{next(iter(CONTAINERS[container].suffixes), '')}"
    specs = [TensorSpec(name, from_numpy_dtype(array.dtype), array.shape) for name, array in ARRAYS.items()]
    with CONTAINERS[container].load().open_writer(path, specs) as writer:
        for name, array in ARRAYS.items():
            writer.write(name, array.tobytes())
        writer.finish()
    return path


def weights_in(folder: Path, container: str) -> Path:
    """What a conversion made in a folder."""
    return folder / f"model{next(iter(CONTAINERS[container].suffixes), '')}"


@pytest.mark.parametrize(("one", "other"), list(product(WRITABLE, WRITABLE)))
def test_a_container_converts_to_any_other_and_back(tmp_path: Path, one: str, other: str) -> None:
    source = written(one, tmp_path / "source")
    interlingua.convert(source, tmp_path / "there", keep_names=True, container=other, sync=False)
    interlingua.convert(
        weights_in(tmp_path / "there", other), tmp_path / "back", keep_names=True, container=one, sync=False
    )
    for path in (weights_in(tmp_path / "there", other), weights_in(tmp_path / "back", one)):
        with interlingua.open(path) as checkpoint:
            assert set(checkpoint.tensors) == set(ARRAYS)
            for name, array in ARRAYS.items():
                assert equal_bits(checkpoint.reader.read(name), array)


@pytest.mark.parametrize("container", WRITABLE)
def test_the_same_conversion_gives_the_same_bytes(tmp_path: Path, container: str) -> None:
    source = written("safetensors", tmp_path / "source")
    for name in ("a", "b"):
        interlingua.convert(source, tmp_path / name, keep_names=True, container=container, sync=False)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert files
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_strings_are_left_out_and_named_or_refused(tmp_path: Path) -> None:
    specs = [TensorSpec("w", FLOAT32, (2,)), TensorSpec("graph", STRING, (), encoded=8)]
    (tmp_path / "source").mkdir()
    with open_writer(tmp_path / "source" / "made.ckpt", specs) as writer:
        writer.write("w", bytes(8))
        # One string: its length, the lengths' masked CRC-32C, its bytes (tensor_bundle.cc, WriteStringTensor).
        checksum = mask(crc32c((3).to_bytes(4, "little"))).to_bytes(4, "little")
        writer.write("graph", b"\x03" + checksum + b"abc")
        writer.finish()
    source = tmp_path / "source" / "made.ckpt"
    result = interlingua.convert(source, tmp_path / "out.npz", keep_names=True, check=False, dry_run=True)
    assert [(kept.name, kept.nbytes) for kept in result.plan.residue] == [("graph", 8)]
    with pytest.raises(MappingError, match="graph"):
        interlingua.convert(source, tmp_path / "out.npz", keep_names=True, residue="error")
