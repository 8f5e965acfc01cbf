"""Checkpoints over several files, listed by an index."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats.registry import open_container
from interlingua.formats.sharded import ShardedReader, read_index
from tests.formats.hostile import check_reader
from tests.formats.strategies import PLAIN_NAMES, Case, cases, equal_bits
from tests.models import safetensors_bytes

INDEX = "model.safetensors.index.json"


def write_shards(folder: Path, shards: dict[str, dict[str, np.ndarray]], **index: object) -> Path:
    """Shards by file name, and their index; ``index`` replaces keys of it."""
    for file, arrays in shards.items():
        (folder / file).write_bytes(safetensors_bytes(arrays, {"format": "pt"}))
    listed = {name: file for file, arrays in shards.items() for name in arrays}
    text = {"metadata": {"total_size": 0}, "weight_map": listed, **index}
    (folder / INDEX).write_text(json.dumps(text), encoding="utf-8")
    return folder / INDEX


A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(4, dtype=np.int64)
TWO = {"one.safetensors": {"a": A}, "two.safetensors": {"b": B}}


@given(cases(names=PLAIN_NAMES), st.integers(1, 4), st.randoms(use_true_random=False))
def test_tensors_are_read_from_the_file_that_holds_them(tmp_path_factory, case: Case, count: int, rng) -> None:
    folder = tmp_path_factory.mktemp("shards")
    shards: dict[str, dict[str, np.ndarray]] = {f"part{number}.safetensors": {} for number in range(count)}
    for name, array in case.arrays.items():
        if array.dtype.kind != "c":
            shards[rng.choice(list(shards))][name] = array
    with ShardedReader(write_shards(folder, shards)) as reader:
        expected = {name: array for arrays in shards.values() for name, array in arrays.items()}
        assert list(reader.tensors) == list(expected)
        for name, array in expected.items():
            assert equal_bits(reader.read(name), array)
            data = b"".join(e.file.read_at(e.offset, e.nbytes, name) for e in reader.extents(name))
            assert data == array.tobytes()
            assert reader.expected_checksum(name) is None


def test_containers_metadata_and_files_are_told(tmp_path: Path) -> None:
    with ShardedReader(write_shards(tmp_path, TWO)) as reader:
        assert reader.parts == ("safetensors",)
        assert reader.metadata == {"format": "pt"}
        assert [path.name for path in reader.files] == ["one.safetensors", "two.safetensors"]


def test_shards_of_pytorch_are_read_and_their_objects_told(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.arange(3), "epoch": 7}, tmp_path / "x.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "x.bin"}}')
    with ShardedReader(tmp_path / "pytorch_model.bin.index.json") as reader:
        assert reader.read("a").tolist() == [0, 1, 2]
        assert reader.parts == ("torch-zip",)
        assert reader.objects == {"epoch": 7}


def test_the_checksums_that_shards_keep_are_handed_on(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=A)
    (tmp_path / INDEX).write_text('{"weight_map": {"a": "x.npz"}}')
    with ShardedReader(tmp_path / INDEX) as reader, open_container(tmp_path / "x.npz") as alone:
        assert reader.expected_checksum("a") == alone.expected_checksum("a")
        assert alone.expected_checksum("a") is not None


@pytest.mark.parametrize(
    "file",
    [
        "../one.safetensors",
        "sub/one.safetensors",
        "/etc/passwd",
        "./one.safetensors",
        "..",
        ".",
        "",
        "sub/../one.safetensors",
        "missing.safetensors",
        "nul\0",
        "\ud800",
        INDEX,
        "sub",
    ],
)
def test_a_file_that_is_no_shard_in_the_folder_is_refused(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path, folder, folder / "sub"):
        (place / "one.safetensors").write_bytes(safetensors_bytes({"a": A}))
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": file}}))
    with pytest.raises(FormatError):
        ShardedReader(folder / INDEX)
    assert not check_reader(ShardedReader, folder / INDEX)


def test_a_fifo_among_the_shards_does_not_hang(tmp_path: Path) -> None:
    import os

    index = write_shards(tmp_path, TWO)
    (tmp_path / "two.safetensors").unlink()
    os.mkfifo(tmp_path / "two.safetensors")
    with pytest.raises(FormatError, match="not a regular file"):
        ShardedReader(index)


def test_a_tensor_that_the_shard_lacks_is_named(tmp_path: Path) -> None:
    index = write_shards(tmp_path, TWO, weight_map={"a": "one.safetensors", "b": "one.safetensors"})
    with pytest.raises(FormatError, match=r"one\.safetensors holds 'b', which it does not"):
        ShardedReader(index)


@pytest.mark.parametrize(
    "listed", [{"a": "one.safetensors"}, {"a": "one.safetensors", "b": "two.safetensors"}], ids=["none", "some"]
)
def test_a_tensor_that_the_index_does_not_list_is_named(tmp_path: Path, listed: dict[str, str]) -> None:
    shards = {"one.safetensors": {"a": A, "c": B}, "two.safetensors": {"b": B}}
    with pytest.raises(FormatError, match="does not list 'c'"):
        ShardedReader(write_shards(tmp_path, shards, weight_map=listed))


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    shards = {"one.safetensors": {"a": A, "b": B}, "two.safetensors": {"a": A}}
    with pytest.raises(FormatError, match=r"does not list 'a', which is in one\.safetensors"):
        ShardedReader(write_shards(tmp_path, shards))


def test_a_broken_shard_is_the_one_that_is_blamed(tmp_path: Path) -> None:
    index = write_shards(tmp_path, TWO)
    broken = tmp_path / "two.safetensors"
    broken.write_bytes(broken.read_bytes()[:-1])
    with pytest.raises(FormatError) as caught:
        ShardedReader(index)
    assert caught.value.path == broken


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": null}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": {"b": "c"}}}',
        '{"weight_map": {"\\ud800": "one.safetensors"}}',
        '{"weight_map": ' + "[" * 50_000,
        "7",
        "\x00",
    ],
    ids=lambda text: repr(text[:24]),
)
def test_what_is_no_index_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(FormatError) as caught:
        read_index(tmp_path / INDEX)
    assert caught.value.path == tmp_path / INDEX


def test_an_index_that_is_too_long_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / INDEX).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FormatError, match="too large"):
        read_index(tmp_path / INDEX)


def test_an_empty_index_is_a_checkpoint_without_tensors(tmp_path: Path) -> None:
    with ShardedReader(write_shards(tmp_path, {})) as reader:
        assert reader.tensors == {}
        assert reader.parts == ()
