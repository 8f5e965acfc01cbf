"""How a tensor bundle is found and named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.errors import FormatError, OutputError
from interlingua.formats.leveldb_table import encode_table
from interlingua.formats.registry import Probe
from interlingua.formats.tensor_bundle_paths import (
    STATE,
    encode_state,
    find_index,
    index_of,
    prefix_of,
    shard_of,
    sniff,
)
from tests.formats.bundles import write_bundle


def is_bundle(path: Path) -> bool:
    return sniff(Probe(path, os.path.isdir(path), b"", 0))


def state(folder: Path, text: str | bytes) -> None:
    (folder / STATE).write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two bundles and things that are none."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_bundle(folder / "model.ckpt-1", {}, b"")
    write_bundle(folder / "model.ckpt-2", {}, b"", b"", b"")
    (folder / "faiss.index").write_bytes(b"no table" * 20)
    (folder / "notes.index").mkdir()
    (folder / "bert_config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    "name",
    ["model.ckpt-2", "model.ckpt-2.index", "model.ckpt-2.data-00000-of-00003", "model.ckpt-2.data-00002-of-00003"],
)
def test_a_bundle_is_found_by_prefix_index_and_data_file(folder: Path, name: str) -> None:
    assert is_bundle(folder / name)
    assert find_index(folder / name) == folder / "model.ckpt-2.index"
    assert prefix_of(find_index(folder / name)) == folder / "model.ckpt-2"


def test_a_prefix_may_itself_end_as_an_index_or_a_data_file_does(tmp_path: Path) -> None:
    for name in ("a.index", "b.data-00000-of-00001"):
        write_bundle(tmp_path / name, {}, b"")
        assert find_index(tmp_path / (name + ".index")) == index_of(tmp_path / name)
        assert find_index(shard_of(tmp_path / name, 0, 1)) == index_of(tmp_path / name)
        assert is_bundle(tmp_path / name)


def test_a_folder_of_several_is_refused_with_their_names(folder: Path) -> None:
    assert is_bundle(folder)
    with pytest.raises(FormatError, match=r"2 checkpoints.*: model\.ckpt-1, model\.ckpt-2"):
        find_index(folder)


def test_the_state_file_chooses(folder: Path) -> None:
    state(folder, 'model_checkpoint_path: "model.ckpt-1"\nall_model_checkpoint_paths: "model.ckpt-2"\n')
    assert find_index(folder) == folder / "model.ckpt-1.index"
    state(folder, "\tmodel_checkpoint_path :'model.ckpt-2'\n")
    assert find_index(folder) == folder / "model.ckpt-2.index"
    state(folder, b'model_checkpoint_path: "mo\\144el.ckpt\\x2d\\062"')
    assert find_index(folder) == folder / "model.ckpt-2.index"


@pytest.mark.parametrize(
    "name",
    [
        "../outside/model.ckpt-1",
        "/model.ckpt-1/",
        "/etc/passwd",
        "outside/model.ckpt-1",
        "./model.ckpt-1",
        "../run/model.ckpt-1",
        "model.ckpt-3",
        "",
        ".",
        "..",
        "model.ckpt-1\\000",
        "notes",
        "faiss",
        "bert_config.json",
        "x" * 5000,
    ],
)
def test_a_state_file_cannot_lead_out_of_its_folder(folder: Path, name: str) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    write_bundle(outside / "model.ckpt-1", {}, b"")
    state(folder, f'model_checkpoint_path: "{name}"\n')
    with pytest.raises(FormatError, match="2 checkpoints"):
        find_index(folder)


@pytest.mark.parametrize("home", ["/nowhere/run", "{outside}", "gs://bucket/run", "hdfs://host:1/run"])
def test_of_an_absolute_path_only_the_name_counts(folder: Path, home: str) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    write_bundle(outside / "model.ckpt-1", {}, b"")
    state(folder, f'model_checkpoint_path: "{home.format(outside=outside)}/model.ckpt-1"\n')
    assert find_index(folder) == folder / "model.ckpt-1.index"


def test_the_only_bundle_is_taken_whatever_the_state_file_says(folder: Path) -> None:
    for path in folder.glob("model.ckpt-2*"):
        path.unlink()
    for text in ("", 'model_checkpoint_path: "/elsewhere/model.ckpt-9"', "model_checkpoint_path: ", "\0" * 100):
        state(folder, text)
        assert find_index(folder) == folder / "model.ckpt-1.index"


@pytest.mark.parametrize(
    "text",
    [
        b" " * (2 << 20),
        b"\n" * (2 << 20),
        b"model_checkpoint_path" + b" " * (2 << 20),
        b"model_checkpoint_path:" + b" " * (2 << 20),
        b'model_checkpoint_path: "' + b"a" * (2 << 20),
        b'model_checkpoint_path: "' + b"\\" * (2 << 20),
        b'model_checkpoint_path: "\n' * 40_000,
    ],
)
def test_a_hostile_state_file_costs_nothing(folder: Path, text: bytes) -> None:
    state(folder, text)
    with pytest.raises(FormatError, match="2 checkpoints"):
        find_index(folder)


def test_a_state_file_that_is_a_pipe_is_left_alone(folder: Path) -> None:
    os.mkfifo(folder / STATE)
    os.mkfifo(folder / "pipe.index")
    with pytest.raises(FormatError, match="2 checkpoints"):
        find_index(folder)


def test_what_is_no_bundle_is_not_taken_for_one(folder: Path) -> None:
    empty = folder.parent / "empty"
    empty.mkdir()
    (empty / "faiss.index").write_bytes(bytes(100))
    for path in (empty, empty / "faiss.index", folder / "bert_config.json", folder / "faiss.index", folder / "none"):
        assert not is_bundle(path)
    for path in (Path("/"), Path("x" * 5000), Path("a\0b")):
        assert not is_bundle(path)
    with pytest.raises(FormatError, match="without a checkpoint's index"):
        find_index(empty)
    with pytest.raises(FormatError, match=r"none\.index is not there"):
        find_index(folder / "none")


def test_a_folder_with_a_state_file_alone_is_refused_as_a_checkpoint_without_index(tmp_path: Path) -> None:
    state(tmp_path, 'model_checkpoint_path: "model.ckpt"')
    assert is_bundle(tmp_path)
    with pytest.raises(FormatError, match="without a checkpoint's index"):
        find_index(tmp_path)


def test_a_data_file_without_its_index_is_refused_by_the_indexs_name(tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt.data-00000-of-00001"
    path.write_bytes(bytes(10))
    assert is_bundle(path)
    with pytest.raises(FormatError, match=r"m\.ckpt\.index is not there"):
        find_index(path)


def test_an_index_under_another_name_is_refused(tmp_path: Path) -> None:
    for name in ("renamed", ".index"):
        path = tmp_path / name
        path.write_bytes(b"".join(encode_table([])))
        assert find_index(path) == path
        with pytest.raises(FormatError, match="under another name"):
            prefix_of(path)


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20))
def test_a_state_file_that_is_written_is_understood(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "state"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    if name in (".", ".."):
        return
    write_bundle(folder / name, {}, b"")
    write_bundle(folder / (name + "2"), {}, b"")
    state(folder, encode_state(folder / name))
    assert find_index(folder) == index_of(folder / name)


def test_plain_names_are_noted_as_they_are() -> None:
    text = encode_state(Path("run/größe 1~!.ckpt")).decode()
    assert text == 'model_checkpoint_path: "größe 1~!.ckpt"\nall_model_checkpoint_paths: "größe 1~!.ckpt"\n'


def test_a_name_that_is_no_text_cannot_be_noted() -> None:
    with pytest.raises(OutputError, match="not UTF-8"):
        encode_state(Path(os.fsdecode(b"a\xff")))
