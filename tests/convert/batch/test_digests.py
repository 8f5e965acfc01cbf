"""Digests of files and sources: right, remembered only as long as the file is what it was."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from benchmarks.families import write_model
from interlingua.convert.batch import digests as module
from interlingua.convert.batch.digests import (
    BLOCK,
    DigestsStoppedError,
    Stamp,
    content_digest,
    file_digest,
    file_digests,
    source_files,
    stamp,
    sums,
)
from interlingua.convert.source import Asked
from interlingua.errors import FormatError
from interlingua.mappings.schema import FAMILIES


class Memory:
    """A cache of digests, and what was asked of it."""

    def __init__(self) -> None:
        self.known: dict[Stamp, str] = {}

    def digest(self, key: Stamp) -> str | None:
        return self.known.get(key)

    def keep_digest(self, key: Stamp, digest: str) -> None:
        self.known[key] = digest


def old(path: Path, data: bytes) -> Path:
    """Write a file of which the system's times will tell a later change."""
    path.write_bytes(data)
    while not stamp(path).settled:
        time.sleep(0.01)
    return path


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_a_file_has_the_digest_that_others_compute(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    assert file_digest(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_a_file_that_is_not_there_is_an_error_by_name(tmp_path: Path) -> None:
    for function in (file_digest, stamp):
        with pytest.raises(FormatError, match="absent: cannot be read"):
            function(tmp_path / "absent")


def test_a_known_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, memory = old(tmp_path / "a", b"data"), Memory()
    first = file_digests([path], memory)
    monkeypatch.setattr(module, "file_digest", None)
    assert file_digests([path], memory) == first == {path: hashlib.sha256(b"data").hexdigest()}


@pytest.mark.parametrize("hide", [False, True])
def test_a_change_is_seen_even_where_the_time_is_set_back(tmp_path: Path, hide: bool) -> None:
    path, memory = old(tmp_path / "a", b"data"), Memory()
    file_digests([path], memory)
    before = path.stat()
    path.write_bytes(b"Data")
    if hide:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file_digests([path], memory) == {path: hashlib.sha256(b"Data").hexdigest()}


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK", 1 << 60)
    (tmp_path / "a").write_bytes(b"data")
    memory = Memory()
    assert len(file_digests([tmp_path / "a"], memory)) == 1
    assert memory.known == {}


def test_files_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a").write_bytes(b"data")
    found = file_digests([tmp_path / "absent", tmp_path / "folder", tmp_path / "a"], Memory())
    assert list(found) == [tmp_path / "a"]


def test_hashing_stops_when_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"data")
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(DigestsStoppedError):
        file_digests([tmp_path / "a"], Memory(), stopped=stopped)


def test_sums_are_read_by_sha256sum(tmp_path: Path) -> None:
    names = ["b", "a b", "sub/c", "line\nend", "back\\slash", "-dash", "Ä"]
    (tmp_path / "sub").mkdir()
    for name in names:
        (tmp_path / name).write_text(name)
    found = sums({name: file_digest(tmp_path / name) for name in names})
    (tmp_path / "SHA256SUMS").write_text(found)
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("OK") == len(names)


def test_the_content_is_names_and_bytes_in_any_order() -> None:
    one = content_digest({"a": "1", "b": "2"})
    assert one == content_digest({"b": "2", "a": "1"})
    assert one not in (content_digest({"a": "2", "b": "1"}), content_digest({"a": "1"}))


def test_a_source_is_all_that_it_is_read_from(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", FAMILIES["bert"], ("pooler",), 1)
    (folder / "diary.txt").write_text("not read")
    names = {"config.json", "model.safetensors", "vocab.txt"}
    assert set(source_files(folder, Asked())) == names
    assert set(source_files(folder / "model.safetensors", Asked())) == names
    (tmp_path / "other.txt").write_bytes((folder / "vocab.txt").read_bytes())
    asked = Asked(vocabulary=tmp_path / "other.txt")
    assert source_files(folder, asked)["other.txt"] == tmp_path / "other.txt"


def test_a_prefix_stands_for_its_files(tmp_path: Path) -> None:
    import interlingua

    folder = write_model(tmp_path / "m", FAMILIES["bert"], ("pooler",), 1)
    interlingua.convert(folder, tmp_path / "tf1", to="tf1", sync=False)
    found = source_files(tmp_path / "tf1", Asked())
    assert {name for name in found if ".ckpt." in name} >= {
        "bert_model.ckpt.index",
        "bert_model.ckpt.data-00000-of-00001",
    }
    assert all(path.is_file() for path in found.values())


def test_an_archive_is_one_file(tmp_path: Path) -> None:
    import tarfile

    folder = write_model(tmp_path / "m", FAMILIES["bert"], ("pooler",), 1)
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as archive:
        archive.add(folder, "m")
    assert source_files(tmp_path / "m.tar.gz", Asked()) == {"m.tar.gz": tmp_path / "m.tar.gz"}
