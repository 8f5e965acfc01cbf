from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import interlingua
from interlingua.convert.remote import mirror as mirrors
from interlingua.convert.remote.mirror import open_mirror
from interlingua.convert.remote.storage import MOST_FILES, RemoteFile, Tell, unheard
from interlingua.convert.remote.uris import Uri
from interlingua.errors import FormatError
from interlingua.formats.base import SourceFile
from interlingua.formats.lazy_files import any_lazy
from tests import models

URI = Uri("s3", "bucket", "zoo/bert")


class Storage:
    """A folder of texts, in place of a remote one."""

    def __init__(self, texts: dict[str, bytes], named: str = "", sizes: dict[str, int] | None = None) -> None:
        self.texts = texts
        self.sizes = sizes or {}
        self.named = named
        self.uri = str(URI)
        self.closed = False
        self.copies: dict[str, Path] = {}
        self.read_bytes = 0

    def files(self) -> tuple[RemoteFile, ...]:
        return tuple(RemoteFile(name, self.sizes.get(name, len(data)), None) for name, data in self.texts.items())

    def read(self, file: RemoteFile, start: int, nbytes: int) -> bytes:
        self.read_bytes += nbytes
        return self.texts[file.name][start : start + nbytes]

    def local(self, file: RemoteFile) -> Path | None:
        return self.copies.get(file.name)

    def upload(self, folder: Path, names: Sequence[str], *, overwrite: bool, tell: Tell = unheard) -> None:
        raise AssertionError("a mirror uploads nothing")

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def use(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(mirrors, "open_storage", lambda uri: storage)
    return storage


def test_a_mirror_has_names_sizes_and_content(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = use(Storage({"a.txt": b"hello", "sub/b.txt": b"there", "empty": b""}), monkeypatch)
    with open_mirror(URI) as mirror:
        assert mirror.path == mirror.folder
        assert mirror.folder.name == "bert"
        assert (mirror.folder / "sub" / "b.txt").stat().st_size == 5
        assert (mirror.folder / "empty").stat().st_size == 0
        assert storage.read_bytes == 0
        with SourceFile(mirror.folder / "sub" / "b.txt") as file:
            assert file.read_at(0, 5, "it") == b"there"
        assert mirror.fetched() == 5
    assert storage.closed
    assert not any_lazy()
    assert list(temporary.iterdir()) == []


def test_other_processes_can_read_what_was_completed(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(Storage({"a.txt": b"hello", "b.txt": b"there"}), monkeypatch)
    with open_mirror(URI) as mirror:
        mirror.complete([mirror.folder / "a.txt"])
        assert (mirror.folder / "a.txt").read_bytes() == b"hello"
        assert (mirror.folder / "b.txt").read_bytes() == bytes(5)
        mirror.complete()
        assert (mirror.folder / "b.txt").read_bytes() == b"there"


def test_a_copy_that_is_here_is_not_fetched(temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = use(Storage({"a.txt": b"hello"}), monkeypatch)
    (tmp_path / "copy").write_bytes(b"HELLO")
    storage.copies["a.txt"] = tmp_path / "copy"
    with open_mirror(URI) as mirror, SourceFile(mirror.folder / "a.txt") as file:
        assert file.read_at(0, 5, "it") == b"HELLO"
    assert (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../x", "a\\b", "a\nb", "", "a//b", "x" * 300, "C:x", "a/"]
)
def test_a_hostile_name_is_refused_and_nothing_left(
    name: str, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = use(Storage({"a.txt": b"hello", name: b"x"}), monkeypatch)
    with pytest.raises(FormatError, match=r"s3://bucket/zoo/bert: holds a file .* whose name"):
        open_mirror(URI)
    assert storage.closed
    assert list(temporary.iterdir()) == []


def test_a_name_below_a_file_is_refused(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(Storage({"a": b"hello", "a/b": b"x"}), monkeypatch)
    with pytest.raises(FormatError, match="cannot be made"):
        open_mirror(URI)
    assert list(temporary.iterdir()) == []
    assert not any_lazy()


@pytest.mark.parametrize("size", [-1, 1 << 62, 1 << 64])
def test_an_impossible_size_is_refused(size: int, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(Storage({"a": b"hello"}, sizes={"a": size}), monkeypatch)
    with pytest.raises(FormatError, match=str(size)):
        open_mirror(URI)
    assert list(temporary.iterdir()) == []


def test_too_many_files_are_refused(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(Storage({str(number): b"" for number in range(MOST_FILES + 1)}), monkeypatch)
    with pytest.raises(FormatError, match="more than 10000 files"):
        open_mirror(URI)


def test_space_is_looked_at_first(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = use(Storage({"a": b"hello"}), monkeypatch)
    with open_mirror(URI) as mirror:
        usage = shutil.disk_usage(temporary)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3))
        with pytest.raises(FormatError, match=r"temporary space in .*, where 3 are free.*TMPDIR"):
            mirror.complete()
    assert storage.read_bytes == 0


def test_errors_name_the_uri_and_never_the_mirror(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for texts, named, shown in (
        ({"model.safetensors": b"\xff" * 100}, "model.safetensors", "s3://bucket/zoo/bert/model.safetensors"),
        ({"readme.txt": b"hello"}, "", "s3://bucket/zoo/bert"),
        ({"model.safetensors.index.json": b"{"}, "model.safetensors.index.json", "bert/model.safetensors.index.json"),
    ):
        use(Storage(texts, named), monkeypatch)
        with pytest.raises(FormatError) as caught:
            interlingua.open("s3://bucket/zoo/bert")
        assert shown in str(caught.value)
        assert str(temporary) not in str(caught.value)
    assert list(temporary.iterdir()) == []


def _emptied_and_read(storage: Storage) -> None:
    with interlingua.open("s3://bucket/zoo/bert") as checkpoint:
        storage.texts["model.safetensors"] = b""
        interlingua.fingerprint(checkpoint)


def test_an_error_after_opening_names_the_uri_too(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.write_hf(tmp_path / "bert", models.hf(("pooler",)), models.hf_config(), 40)
    texts = {file.name: file.read_bytes() for file in (tmp_path / "bert").iterdir()}
    storage = use(Storage(texts), monkeypatch)
    with interlingua.open("s3://bucket/zoo/bert") as checkpoint:
        assert checkpoint.name == "s3://bucket/zoo/bert"
        assert checkpoint.shown(checkpoint.weights) == "s3://bucket/zoo/bert/model.safetensors"
    with pytest.raises(FormatError) as caught:
        _emptied_and_read(storage)
    assert "s3://bucket/zoo/bert/model.safetensors" in str(caught.value)
    assert str(temporary) not in str(caught.value)
