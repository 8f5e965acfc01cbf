from __future__ import annotations

import os
from pathlib import Path

import pytest

import interlingua
from interlingua.convert.remote import retries
from interlingua.convert.remote.http_storage import HttpStorage
from interlingua.convert.remote.storage import NotThereError, RemoteFile
from interlingua.convert.remote.uris import Uri, parse
from interlingua.errors import FormatError, UsageError
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import FLOAT32
from interlingua.formats.safetensors import open_writer
from tests import models
from tests.convert.remote.web_server import WebServer


def uri_of(url: str) -> Uri:
    found = parse(url)
    assert found is not None
    return found


def write_bert(folder: Path, seed: int = 0) -> Path:
    return models.write_hf(folder, models.hf(("pooler",), seed=seed), models.hf_config(), models.SMALL.vocab)


def only(storage: HttpStorage, name: str) -> RemoteFile:
    return next(file for file in storage.files() if file.name == name)


@pytest.fixture
def content(web: WebServer) -> bytes:
    data = os.urandom(300_000)
    (web.root / "a b.bin").write_bytes(data)
    return data


def storage_of(web: WebServer) -> HttpStorage:
    return HttpStorage(uri_of(f"{web.url}/a%20b.bin"))


def test_ranges_are_what_was_asked_for(web: WebServer, content: bytes) -> None:
    storage = storage_of(web)
    file = only(storage, "a b.bin")
    assert (storage.named, storage.uri, file.size) == ("a b.bin", web.url, len(content))
    for start, nbytes in ((0, 10), (299_990, 10), (1000, 100_000), (5, 0)):
        assert storage.read(file, start, nbytes) == content[start : start + nbytes]
    assert web.sent == 100_020
    assert web.conditional == 3
    storage.close()


@pytest.mark.parametrize("failures", [1, retries.ATTEMPTS - 1])
def test_a_server_that_is_busy_is_asked_again(web: WebServer, content: bytes, failures: int) -> None:
    storage = storage_of(web)
    file = only(storage, "a b.bin")
    web.failures = failures
    assert storage.read(file, 7, 1000) == content[7:1007]
    web.failures = 100
    with pytest.raises(FormatError, match=r"a%20b.bin: cannot be reached: the server answers 503 Service Unavailable"):
        storage.read(file, 7, 1000)
    storage.close()


def test_an_answer_that_breaks_off_is_asked_for_again(web: WebServer, content: bytes) -> None:
    storage = storage_of(web)
    file = only(storage, "a b.bin")
    web.hang_ups = 2
    assert storage.read(file, 0, 200_000) == content[:200_000]
    web.hang_ups = 100
    with pytest.raises(FormatError, match="cannot be reached"):
        storage.read(file, 0, 200_000)
    storage.close()


@pytest.mark.parametrize("conditions", [True, False])
def test_a_file_that_changes_is_an_error_and_no_mixture(web: WebServer, content: bytes, conditions: bool) -> None:
    storage = storage_of(web)
    file = only(storage, "a b.bin")
    storage.read(file, 0, 10)
    web.conditions = conditions
    (web.root / "a b.bin").write_bytes(os.urandom(len(content)))
    with pytest.raises(FormatError, match="changed while it was read"):
        storage.read(file, 10, 10)
    storage.close()


def test_a_file_that_grows_is_seen_by_its_length(web: WebServer, content: bytes) -> None:
    web.tags = False
    storage = storage_of(web)
    file = only(storage, "a b.bin")
    assert file.version is None
    (web.root / "a b.bin").write_bytes(content + b"more")
    with pytest.raises(FormatError, match="changed while it was read"):
        storage.read(file, 10, 10)
    storage.close()


def test_a_file_that_goes_is_missed(web: WebServer, content: bytes) -> None:
    storage = storage_of(web)
    file = only(storage, "a b.bin")
    (web.root / "a b.bin").unlink()
    with pytest.raises(NotThereError, match=r"a%20b\.bin: does not exist"):
        storage.read(file, 10, 10)
    storage.close()


def test_a_server_without_ranges_sends_each_file_once(web: WebServer, content: bytes) -> None:
    web.ignores_ranges = True
    storage = storage_of(web)
    file = only(storage, "a b.bin")
    for start in range(0, 300_000, 50_000):
        assert storage.read(file, start, 50_000) == content[start : start + 50_000]
    whole = [part for method, _, part in web.asked if method == "GET" and part is None]
    assert len(whole) == 1
    storage.close()


def test_a_server_without_ranges_whose_file_changes_is_an_error(web: WebServer, content: bytes) -> None:
    web.ignores_ranges = True
    storage = storage_of(web)
    file = only(storage, "a b.bin")
    (web.root / "a b.bin").write_bytes(content[:-1])
    with pytest.raises(FormatError, match="changed while it was read"):
        storage.read(file, 0, 10)
    storage.close()


def test_what_belongs_to_a_file_is_found_beside_it(web: WebServer) -> None:
    write_bert(web.root / "bert")
    storage = HttpStorage(uri_of(f"{web.url}/bert/model.safetensors"))
    assert {file.name for file in storage.files()} == {"model.safetensors", "config.json", "vocab.txt"}
    storage.close()


@pytest.mark.parametrize("address", ["bert", "bert/"])
def test_a_folder_is_looked_into_by_usual_names(web: WebServer, address: str) -> None:
    write_bert(web.root / "bert")
    with interlingua.open(f"{web.url}/{address}") as checkpoint:
        assert checkpoint.name == f"{web.url}/bert"
        assert checkpoint.weights.name == "model.safetensors"
        assert checkpoint.vocabulary is not None


def test_shards_are_found_by_their_index(web: WebServer, tmp_path: Path) -> None:
    source = write_bert(tmp_path / "source")
    interlingua.convert(source, web.root / "shards", to="hf", max_shard_size=4000)
    assert len(list((web.root / "shards").glob("*.safetensors"))) > 2
    with interlingua.open(source) as local, interlingua.open(f"{web.url}/shards") as far:
        assert interlingua.fingerprint(far) == interlingua.fingerprint(local)


@pytest.mark.parametrize("address", ["tf1", "tf1/bert_model.ckpt", "tf1/bert_model.ckpt.index"])
def test_a_prefix_is_found_with_its_data(web: WebServer, tmp_path: Path, address: str) -> None:
    source = write_bert(tmp_path / "source")
    interlingua.convert(source, web.root / "tf1", to="tf1")
    with interlingua.open(source) as local, interlingua.open(f"{web.url}/{address}") as far:
        assert interlingua.fingerprint(far) == interlingua.fingerprint(local)


def test_nothing_there_says_so(web: WebServer) -> None:
    with pytest.raises(NotThereError, match=f"{web.url}/none: does not exist, or is a folder"):
        interlingua.open(f"{web.url}/none")


def test_refused_access_says_where_credentials_come_from(web: WebServer, content: bytes) -> None:
    web.secret = "Basic bm9ib2R5Om5vdGhpbmc="
    with pytest.raises(FormatError, match=r"access is refused: the server answers 401 .*netrc"):
        storage_of(web).files()


def test_credentials_come_from_netrc(
    web: WebServer, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.secret = "Basic bm9ib2R5Om5vdGhpbmc="
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login nobody password nothing\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    storage = storage_of(web)
    assert storage.read(only(storage, "a b.bin"), 0, 5) == content[:5]
    storage.close()


def test_nothing_is_written_to_a_web_server(web: WebServer, tmp_path: Path) -> None:
    source = write_bert(tmp_path / "source")
    with pytest.raises(UsageError, match="nothing is written to a web server"):
        interlingua.convert(source, f"{web.url}/out", to="hf")


def test_looking_at_a_large_file_fetches_kilobytes(web: WebServer) -> None:
    specs = [TensorSpec(f"layer.{number}.weight", FLOAT32, (2048, 1024)) for number in range(25)]
    with open_writer(web.root / "model.safetensors", specs) as writer:
        writer.finish()  # Its data is a hole of 210 MB.
    assert (web.root / "model.safetensors").stat().st_size > 200_000_000
    with interlingua.open(f"{web.url}/model.safetensors") as checkpoint:
        assert len(checkpoint.tensors) == 25
    assert web.sent < 64_000


def test_a_checkpoint_full_of_optimizer_state_sends_only_the_model(web: WebServer, tmp_path: Path) -> None:
    import numpy as np

    arrays = models.hf(("pooler",))
    slots = {f"optimizer.slot_{number}": np.zeros((512, 1024), np.float32) for number in range(10)}
    models.write_hf(web.root / "trained", {**slots, **arrays}, models.hf_config(), models.SMALL.vocab)
    assert (web.root / "trained" / "model.safetensors").stat().st_size > 20_000_000
    interlingua.convert(f"{web.url}/trained", tmp_path / "out", to="paddle", residue="drop")
    model = sum(array.nbytes for array in arrays.values())
    assert web.sent < model + 200_000


def test_the_fingerprint_is_not_computed_unasked(web: WebServer) -> None:
    from interlingua.verify.description import describe

    write_bert(web.root / "bert")
    with interlingua.open(f"{web.url}/bert") as checkpoint:
        assert describe(checkpoint)["fingerprint"] is None
        assert describe(checkpoint, digest=True)["fingerprint"] is not None
