"""Which container a file is, whatever it is called."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.errors import FormatError, UsageError
from interlingua.formats import registry
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import FLOAT32
from interlingua.formats.registry import (
    CONTAINERS,
    WEIGHT_SUFFIXES,
    by_name,
    describe_unknown,
    find,
    open_container,
    probe,
    sniff,
)
from tests.models import safetensors_bytes

NAMES = ["a.safetensors", "a.bin", "a.pt", "a.ckpt", "a.h5", "a.npz", "a", "a.txt", "a.index", "a.pdparams"]


@pytest.mark.parametrize("name", NAMES)
def test_safetensors_are_recognised_under_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(safetensors_bytes({"x": np.zeros(3, np.float32)}))
    assert sniff(tmp_path / name).name == "safetensors"
    with open_container(tmp_path / name) as reader:
        assert reader.container == "safetensors"


@pytest.mark.parametrize("name", NAMES)
def test_files_of_pytorch_are_recognised_under_any_name(tmp_path: Path, name: str) -> None:
    torch = pytest.importorskip("torch")
    for zipped in (True, False):
        torch.save({"x": torch.zeros(3)}, tmp_path / name, _use_new_zipfile_serialization=zipped)
        assert sniff(tmp_path / name).name == ("torch-zip" if zipped else "torch-legacy")
        with open_container(tmp_path / name) as reader:
            assert list(reader.tensors) == ["x"]


UNKNOWN = {
    "is empty": b"",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "an HTML page": b"<!DOCTYPE html><html>",
    "an HTML page (": b"<html><body>404</body></html>",
    "a GGUF model": b"GGUF\x03\0\0\0" + bytes(64),
    "a JSON text": b'{"a": 1}',
    "gzip-compressed": b"\x1f\x8b\x08" + bytes(32),
    "a 7z archive": b"7z\xbc\xaf\x27\x1c" + bytes(32),
    "a RAR archive": b"Rar!\x1a\x07" + bytes(32),
    "begins with the bytes 68 65 6c 6c 6f 2c 20 77)": b"hello, world",
    "begins with the bytes 07)": b"\x07",
}


@pytest.mark.parametrize(("words", "content"), UNKNOWN.items())
def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path: Path, words: str, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert sniff(path) is None
    assert words in describe_unknown(probe(path))
    with pytest.raises(FormatError) as caught:
        open_container(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_is_not_there_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "nothing", tmp_path / "file" / "below"):
        with pytest.raises(FormatError, match="does not exist") as caught:
            open_container(path)
        assert "matrix" not in str(caught.value)


def test_an_empty_folder_is_called_that(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="a folder in which no checkpoint was found"):
        open_container(tmp_path)


@pytest.mark.parametrize("name", ["a" * 300, "nul\0", "half a pair \ud800"])
def test_what_cannot_be_a_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError):
        open_container(tmp_path / name)


def test_a_folder_that_may_not_be_entered_is_told_apart_from_nothing(tmp_path: Path, monkeypatch) -> None:
    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(registry.os, "stat", refuse)
    with pytest.raises(FormatError, match="cannot be opened: Permission denied"):
        probe(tmp_path / "x")


def test_no_fifo_or_device_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(FormatError, match="not a regular file"):
            open_container(path)


def test_only_the_start_of_a_file_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.write(b"hello")
        file.truncate(1 << 40)
    assert probe(path).size == 1 << 40
    assert len(probe(path).head) == registry.HEAD
    assert sniff(path) is None


def test_containers_are_found_by_their_names() -> None:
    for name, container in CONTAINERS.items():
        assert find(name) is container
    with pytest.raises(UsageError, match="There are: safetensors, torch-zip"):
        find("onnx")


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=lambda container: container.name)
def test_every_module_keeps_its_rows_promise(container) -> None:
    module = container.load()
    assert callable(module.sniff)
    if container.known_by:
        assert import_module(f"interlingua.formats.{container.known_by}").sniff is module.sniff
    assert callable(module.open_reader)
    assert hasattr(module, "open_writer") or not container.writes
    assert container.form in ("file", "folder", "prefix")
    assert container.form != "file" or set(container.suffixes) <= WEIGHT_SUFFIXES


def test_an_output_is_known_by_the_longest_ending() -> None:
    expected = {
        "a.safetensors": "safetensors",
        "a.bin": "torch-zip",
        "a.pth": "torch-zip",
        "a.weights.h5": "keras-weights-hdf5",
        "a.h5": "keras-hdf5",
        "a.npz": "npz",
        "a.ckpt": "mindspore-ckpt",
        "a.txt": None,
        "safetensors": None,
    }
    found = {name: by_name(name) for name in expected}
    assert {name: container and container.name for name, container in found.items()} == expected


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=lambda container: container.name)
@pytest.mark.parametrize("content", [*UNKNOWN.values(), bytes(5000), b"\xff" * 5000, b"PK\x03\x04", b"\x80\x02"])
def test_no_module_stumbles_over_foreign_bytes(tmp_path: Path, container, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    for seen in (probe(path), probe(tmp_path), probe(tmp_path / "prefix")):
        assert container.load().sniff(seen) in (True, False)


BEGINNINGS = (
    b"\x10\0\0\0\0\0\0\0{",
    b"PK\x03\x04" + bytes(22) + b"\x08\0\0\0data.pkl",
    b"PK\x03\x04" + bytes(22) + b"\x05\0\0\0x.npy",
    b"PK\x05\x06" + bytes(18),
    b"\x93NUMPY\x01\0",
    *(pickle.dumps(0x1950A86A20F9469CFC6C, protocol) for protocol in range(6)),
    *(pickle.dumps(found, protocol) for found in ({}, {"x": np.eye(2)}, np.eye(2), [1]) for protocol in range(6)),
    b"\x89HDF\r\n\x1a\n",
    bytes(512) + b"\x89HDF\r\n\x1a\n",
    bytes(12),
    bytes(4) + b"\x01" + bytes(30),
    b"\n\x0b\n\x01x\x12\x06\n\x00\x12\x02f4\x1a\x00",
    b"\xd8\x5e\x3a\x7f",
    b"\xda\x5e\x3a\x7f",
)


@given(st.sampled_from(BEGINNINGS), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=3))
def test_no_container_is_passed_over_that_would_have_known_the_file(tmp_path_factory, head: bytes, changes) -> None:
    content = bytearray(head)
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path_factory.mktemp("heads") / "x"
    path.write_bytes(content)
    seen = probe(path)
    for container in CONTAINERS.values():
        assert container.recognises(seen) == container.load().sniff(seen)


def test_a_tar_of_torch_is_not_passed_over(tmp_path: Path) -> None:
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "x", "w", format=form) as tar:
            tar.addfile(tarfile.TarInfo("tensors"), io.BytesIO())
        assert sniff(tmp_path / "x") is CONTAINERS["torch-tar"]


@pytest.mark.parametrize("name", ["safetensors", "torch-zip"])
def test_what_is_written_is_recognised_and_shares_what_the_row_says(tmp_path: Path, name: str) -> None:
    container = CONTAINERS[name]
    module, path = container.load(), tmp_path / f"a{container.suffixes[0]}"
    specs = [TensorSpec("one.weight", FLOAT32, (2, 2)), TensorSpec("two", FLOAT32, (2, 2))]
    ties = {"two": "one.weight"} if container.shares else None
    with module.open_writer(path, specs, ties=ties) as writer:
        assert type(writer).shares is container.shares
        for spec in specs[: 1 if ties else 2]:
            writer.write(spec.name, np.eye(2, dtype=np.float32).tobytes())
        writer.finish()
    assert sniff(path) is container
    with open_container(path) as reader:
        assert set(reader.tensors) == {"one.weight", "two"}
        assert reader.container == name
        assert (reader.extents("one.weight") == reader.extents("two")) is container.shares
        for spec in specs:
            np.testing.assert_array_equal(reader.read(spec.name), np.eye(2))
