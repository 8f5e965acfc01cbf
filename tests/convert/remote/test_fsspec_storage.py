from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlingua.convert.remote.fsspec_storage import PART, FsspecStorage, _sent
from interlingua.convert.remote.storage import NotThereError, RemoteFile
from interlingua.convert.remote.uris import Uri
from interlingua.errors import FormatError, OutputError
from tests.convert.remote.s3_server import ENVIRONMENT, S3Server

FILES = {"config.json": b"{}", "model.safetensors": os.urandom(100_000), "1_Pooling/config.json": b"{ }"}


@pytest.fixture(params=["memory", "s3", "gs"])
def place(request: pytest.FixtureRequest) -> Iterator[Uri]:
    fsspec = pytest.importorskip("fsspec")
    if request.param == "s3":
        request.getfixturevalue("s3")
        yield Uri("s3", "zoo", "bert")
        return
    if request.param == "gs":
        request.getfixturevalue("google")
        yield Uri("gs", "zoo", "bert")
        return
    yield Uri("memory", "zoo", "bert")
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_bytes(data)
    return tmp_path / "out"


NAMES = ["model.safetensors", "config.json", "1_Pooling/config.json"]


def put(place: Uri, folder: Path, *, overwrite: bool = False) -> list[int]:
    """Upload, and return what was told meanwhile."""
    told: list[int] = []
    FsspecStorage(place).upload(folder, NAMES, overwrite=overwrite, tell=told.append)
    return told


def names(place: Uri) -> list[str]:
    return [file.name for file in FsspecStorage(place).files()]


def test_what_is_uploaded_is_listed_and_read(place: Uri, folder: Path) -> None:
    assert sum(put(place, folder)) == sum(map(len, FILES.values()))
    storage = FsspecStorage(place)
    assert {file.name: file.size for file in storage.files()} == {name: len(data) for name, data in FILES.items()}
    assert (storage.named, storage.uri) == ("", str(place))
    for file in storage.files():
        data = FILES[file.name]
        assert file.version is not None
        assert storage.read(file, 0, len(data)) == data
        assert storage.read(file, 1, len(data) - 1) == data[1:]


def test_a_file_is_listed_with_what_lies_beside_it_and_no_further(place: Uri, folder: Path) -> None:
    put(place, folder)
    storage = FsspecStorage(Uri(place.scheme, place.authority, "bert/model.safetensors"))
    assert [file.name for file in storage.files()] == ["config.json", "model.safetensors"]
    assert (storage.named, storage.uri) == ("model.safetensors", str(place))


def test_what_names_begin_with_is_a_prefix(place: Uri, folder: Path) -> None:
    put(place, folder)
    storage = FsspecStorage(Uri(place.scheme, place.authority, "bert/model"))
    assert "model.safetensors" in {file.name for file in storage.files()}
    assert storage.named == "model"


@pytest.mark.parametrize("path", ["none", "bert/mod", "bert/model.safetensors/x"])
def test_nothing_there_says_so(place: Uri, folder: Path, path: str) -> None:
    put(place, folder)
    with pytest.raises(NotThereError, match=f"{place.scheme}://zoo/{path}: does not exist"):
        FsspecStorage(Uri(place.scheme, place.authority, path)).files()


def test_a_file_that_changes_is_an_error_and_no_mixture(place: Uri, folder: Path) -> None:
    put(place, folder)
    storage = FsspecStorage(place)
    file = next(file for file in storage.files() if file.name == "model.safetensors")
    storage.read(file, 0, 10)
    (folder / "model.safetensors").write_bytes(os.urandom(100_000))
    put(place, folder, overwrite=True)
    with pytest.raises(FormatError, match=r"model\.safetensors: changed while it was read"):
        storage.read(file, 10, 10)


def test_a_file_that_goes_is_missed(place: Uri, folder: Path) -> None:
    put(place, folder)
    storage = FsspecStorage(place)
    file = storage.files()[0]
    storage._fs.rm_file(f"{place}/{file.name}")
    # Google's system has replaced generations and deleted ones look alike.
    with pytest.raises(FormatError, match="changed while it was read" if place.scheme == "gs" else "does not exist"):
        storage.read(file, 0, 1)


def test_what_is_there_is_not_replaced_unasked(place: Uri, folder: Path) -> None:
    put(place, folder)
    (folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(OutputError, match="is there already"):
        put(place, folder)
    storage = FsspecStorage(place)
    file = next(file for file in storage.files() if file.name == "model.safetensors")
    assert storage.read(file, 0, file.size) == FILES["model.safetensors"]


def test_what_replaces_a_folder_leaves_nothing_of_it(place: Uri, folder: Path) -> None:
    put(place, folder)
    (folder / "weights.npz").write_bytes(b"other")
    FsspecStorage(place).upload(folder, ["weights.npz"], overwrite=True)
    assert names(place) == ["weights.npz"]


def test_a_file_goes_beside_others_and_replaces_its_own(place: Uri, folder: Path) -> None:
    put(place, folder)
    (folder / "other.npz").write_bytes(b"other")
    file = Uri(place.scheme, place.authority, "bert/other.npz")
    with pytest.raises(OutputError, match=r"config\.json is there already"):
        FsspecStorage(file).upload(folder, ["other.npz", "config.json"], overwrite=False)
    FsspecStorage(file).upload(folder, ["other.npz", "config.json"], overwrite=True)
    assert names(place) == ["1_Pooling/config.json", "config.json", "model.safetensors", "other.npz"]


def test_no_folder_takes_a_files_place(place: Uri, folder: Path) -> None:
    put(place, folder)
    with pytest.raises(OutputError, match="is a file, and the output is a folder"):
        FsspecStorage(Uri(place.scheme, place.authority, "bert/model.safetensors")).upload(
            folder, ["config.json"], overwrite=True
        )


def test_weights_are_never_seen_without_what_belongs_to_them(s3: S3Server, folder: Path) -> None:
    place = Uri("s3", "zoo", "bert")
    put(place, folder)
    put(place, folder, overwrite=True)
    assert len(s3.seen) >= 9
    for seen in s3.seen:
        if "bert/model.safetensors" in seen:
            assert seen == {f"bert/{name}" for name in FILES}


@pytest.mark.parametrize("name", FILES)
def test_an_upload_that_fails_leaves_nothing(s3: S3Server, folder: Path, name: str) -> None:
    s3.refuses = lambda method, path: method == "PUT" and path.endswith(name)
    with pytest.raises(OutputError, match=r"s3://zoo/bert: .*refused"):
        put(Uri("s3", "zoo", "bert"), folder)
    assert s3.held() == frozenset()


def test_what_somebody_else_writes_meanwhile_is_left_alone(
    s3: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Uri("s3", "zoo", "bert")
    put(place, folder)
    monkeypatch.setattr(FsspecStorage, "_in_the_way", lambda self, names, single: [])
    with pytest.raises(OutputError, match="appeared while it was being written"):
        put(place, folder)
    assert s3.held() == {f"bert/{name}" for name in FILES}


def test_a_server_without_conditions_is_written_to(s3: S3Server, folder: Path) -> None:
    s3.unconditional = True
    put(Uri("s3", "zoo", "bert"), folder)
    assert s3.held() == {f"bert/{name}" for name in FILES}


def test_a_large_file_is_uploaded_in_parts_and_aborted_as_a_whole(
    s3: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(101 << 20)
    place = Uri("s3", "zoo", "bert")
    s3.refuses = lambda method, path: method == "PUT" and path.endswith("model.safetensors")
    with pytest.raises(OutputError, match="refused"):
        put(place, folder)
    assert s3.held() == frozenset()
    assert ("DELETE", "/zoo/bert/model.safetensors") in s3.asked
    s3.reset()
    told = put(place, folder)
    assert max(told) == PART < 101 << 20 < sum(told)
    assert sum(request == ("PUT", "/zoo/bert/model.safetensors") for request in s3.asked) == -(-(101 << 20) // PART)
    assert next(file.size for file in FsspecStorage(place).files() if file.name == "model.safetensors") == 101 << 20


def test_no_file_has_more_parts_than_s3_allows() -> None:
    pytest.importorskip("s3fs")
    storage = FsspecStorage(Uri("s3", "zoo", "bert"))
    for nbytes in (0, 1, PART * 9_999, PART * 10_000, PART * 10_000 + 1, 5 << 40):
        size = storage._parts(nbytes)["chunksize"]
        assert size == PART or nbytes > PART * 10_000
        assert size * 10_000 >= nbytes


def test_a_server_that_is_busy_is_asked_again(s3: S3Server, folder: Path) -> None:
    place = Uri("s3", "zoo", "bert")
    s3.failures = 3
    put(place, folder)
    storage = FsspecStorage(place)
    file = storage.files()[0]
    s3.failures = 3
    assert storage.read(file, 0, file.size) == FILES[file.name]
    s3.failures = 1000
    with pytest.raises(FormatError, match="cannot be reached"):
        storage.read(file, 0, file.size)
    s3.failures = 0


def test_what_is_sent_is_told_once_however_often_it_is_sent(s3: S3Server, folder: Path) -> None:
    s3.failures = 3
    assert sum(put(Uri("s3", "zoo", "one"), folder)) == sum(map(len, FILES.values()))
    s3.unconditional = True
    assert sum(put(Uri("s3", "zoo", "two"), folder)) == sum(map(len, FILES.values()))


def test_what_a_client_has_not_told_is_told_at_the_end(tmp_path: Path) -> None:
    told: list[int] = []
    (tmp_path / "weights").write_bytes(bytes(100))
    with _sent(tmp_path / "weights", told.append) as sent:
        sent.relative_update(30)
    assert told == [30, 70]


def test_what_was_sent_of_a_file_that_fails_is_taken_back(tmp_path: Path) -> None:
    told: list[int] = []
    (tmp_path / "weights").write_bytes(bytes(100))

    def fail() -> None:
        with _sent(tmp_path / "weights", told.append) as sent:
            sent.set_size(100)
            sent.relative_update(30)
            sent.absolute_update(70)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()
    assert told == [0, 30, 40, -70]


def test_refused_access_says_where_credentials_come_from_and_no_secret(s3: S3Server) -> None:
    s3.refuses = lambda method, path: True
    with pytest.raises(FormatError, match=r"s3://zoo/bert: access is refused: .*AWS_PROFILE") as caught:
        FsspecStorage(Uri("s3", "zoo", "bert")).files()
    assert ENVIRONMENT["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)


def test_without_credentials_the_same(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(FormatError, match=r"s3://zoo/bert/a: .*AWS_PROFILE"):
        FsspecStorage(Uri("s3", "zoo", "bert")).read(RemoteFile("a", 1, None), 0, 1)
