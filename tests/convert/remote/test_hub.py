"""A repository of the Hub as a remote folder, against a Hub in small on loopback."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", "2.0")

import huggingface_hub
from huggingface_hub import constants, hf_hub_download, snapshot_download

from benchmarks.families import realistic, write_model
from interlingua.convert.remote import hub as hub_module
from interlingua.convert.remote import hub_ranges, hub_tree, hub_upload
from interlingua.convert.remote.hub import HubStorage
from interlingua.convert.remote.retries import ATTEMPTS
from interlingua.convert.remote.storage import RemoteFile
from interlingua.convert.remote.uris import parse
from interlingua.errors import FormatError, InterlinguaError, OutputError, UsageError
from interlingua.mappings.schema import FAMILIES
from tests.convert.remote.hub_server import SIGNATURE, Hub, Repo, git_oid, serving, sha256

MODEL = "org/model"
WEIGHTS = bytes(range(256)) * 4096
FILES = {
    ".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
    "README.md": b"---\nlicense: mit\n---\n",
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": WEIGHTS,
    "onnx/model.onnx": b"o" * 5000,
    "onnx/config.json": b"{}",
    "vocab.txt": b"[PAD]\n[UNK]\n",
}

Opener = Callable[..., HubStorage]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's own cache and token out; return the folder of the cache."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "hf"
    for name, value in {
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": False,
    }.items():
        monkeypatch.setattr(constants, name, value)
    return home / "hub"


@pytest.fixture
def hub(settings: Path) -> Iterator[Hub]:
    hub = Hub()
    hub.repos[MODEL] = Repo()
    hub.repos[MODEL].put(FILES)
    with serving(hub):
        yield hub
        huggingface_hub.close_session()


@pytest.fixture
def waits() -> list[float]:
    """The seconds that were waited for."""
    return []


@pytest.fixture
def opened(hub: Hub, waits: list[float]) -> Opener:
    def opener(text: str = f"hf://{MODEL}") -> HubStorage:
        uri = parse(text)
        assert uri is not None
        return HubStorage(uri, endpoint=hub.endpoint, pause=waits.append)

    return opener


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An output to be uploaded: a large file and a small one."""
    folder = tmp_path / "output"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(WEIGHTS[::-1])
    (folder / "config.json").write_bytes(b'{"new": 1}')
    return folder


OUTPUT = ("model.safetensors", "config.json")


def named(storage: HubStorage, name: str) -> RemoteFile:
    return next(file for file in storage.files() if file.name == name)


def whole(storage: HubStorage, name: str) -> bytes:
    file = named(storage, name)
    return storage.read(file, 0, file.size)


def is_one_paragraph(error: InterlinguaError) -> bool:
    return "\n" not in str(error) and bool(error.hint)


# -- revisions


def test_a_branch_is_looked_up_once_and_read_as_it_was_then(hub: Hub, opened: Opener) -> None:
    commit = hub.repos[MODEL].refs["main"]
    storage = opened()
    storage.files()
    hub.repos[MODEL].put({name: data[::-1] for name, data in FILES.items()})
    assert whole(storage, "config.json") == FILES["config.json"]
    assert whole(storage, "model.safetensors") == WEIGHTS
    assert hub.actions().count("info") == 1
    assert storage.uri == f"hf://{MODEL}@{commit}"
    asked = [seen.path for seen in hub.seen if seen.action in ("tree", "resolve")]
    assert asked
    assert all(commit in path for path in asked)


def test_a_branch_that_moves_between_look_up_and_listing_is_no_mixture(hub: Hub, opened: Opener) -> None:
    commit = hub.repos[MODEL].refs["main"]
    hub.before = lambda action: action == "tree" and hub.repos[MODEL].put({"config.json": b"new"})
    storage = opened()
    assert {file.name for file in storage.files()} == set(FILES)
    assert commit in storage.uri


def test_a_stated_commit_stays_and_no_branch_is_asked_for(hub: Hub, opened: Opener) -> None:
    commit = hub.repos[MODEL].refs["main"]
    hub.repos[MODEL].put({"other": b"1"})
    storage = opened(f"hf://{MODEL}@{commit}")
    assert whole(storage, "vocab.txt") == FILES["vocab.txt"]
    assert "info" not in hub.actions()
    assert storage.uri == f"hf://{MODEL}@{commit}"


@pytest.mark.parametrize("revision", ["v1.0", "feature%2Fnew", "refs/pr/3"])
def test_tags_and_branches_with_slashes_are_revisions(hub: Hub, opened: Opener, revision: str) -> None:
    commit = hub.repos[MODEL].put({"config.json": b"that one"}, revision.replace("%2F", "/"))
    storage = opened(f"hf://{MODEL}@{revision}")
    assert whole(storage, "config.json") == b"that one"
    assert commit in storage.uri


# -- files


def test_files_of_all_pages_have_size_and_version(hub: Hub, opened: Opener) -> None:
    files = opened().files()
    assert [file.name for file in files] == sorted(FILES)
    assert hub.actions().count("tree") == 3
    for file in files:
        data = FILES[file.name]
        large = len(data) > 4096
        assert file.size == len(data)
        assert file.version == (f"sha256:{sha256(data)}" if large else f"git:{git_oid(data)}")


def test_a_folder_of_a_repository_is_listed_alone(opened: Opener) -> None:
    storage = opened(f"hf://{MODEL}/onnx")
    assert [file.name for file in storage.files()] == ["config.json", "model.onnx"]
    assert storage.named == ""
    assert storage.uri.endswith("/onnx")
    assert whole(storage, "model.onnx") == FILES["onnx/model.onnx"]


@pytest.mark.parametrize(("path", "name"), [("onnx/model.onnx", "model.onnx"), ("onnx/model", "model")])
def test_a_file_or_what_files_begin_with_is_named_in_its_folder(opened: Opener, path: str, name: str) -> None:
    storage = opened(f"hf://{MODEL}/{path}")
    assert [file.name for file in storage.files()] == ["config.json", "model.onnx"]
    assert storage.named == name
    assert storage.uri.endswith("/onnx")


def test_beside_a_file_its_folders_own_folders_are_not_listed(opened: Opener) -> None:
    names = [file.name for file in opened(f"hf://{MODEL}/config.json").files()]
    assert names == sorted(name for name in FILES if "/" not in name)


def test_a_name_that_is_unsafe_is_refused(hub: Hub, opened: Opener) -> None:
    hub.repos[MODEL].put({"../../etc/passwd": b"x"})
    with pytest.raises(FormatError, match="leads out of its folder"):
        opened().files()


def test_too_many_files_are_not_listed_to_their_end(hub: Hub, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (hub_module, hub_tree):
        monkeypatch.setattr(module, "MOST_FILES", 4)
    hub.repos[MODEL].put({f"{number}": b"" for number in range(30)})
    with pytest.raises(FormatError, match="more than 4 files"):
        opened().files()
    assert hub.actions().count("tree") == 2


# -- ranges


def test_few_bytes_are_moved_for_a_header(hub: Hub, opened: Opener) -> None:
    storage = opened()
    file = named(storage, "model.safetensors")
    before = sum(seen.sent for seen in hub.seen)
    assert storage.read(file, 500_001, 100) == WEIGHTS[500_001:500_101]
    assert sum(seen.sent for seen in hub.seen) - before < 200


def test_a_large_files_address_is_asked_for_once(hub: Hub, opened: Opener) -> None:
    storage = opened()
    file = named(storage, "model.safetensors")
    assert b"".join(storage.read(file, start, 1000) for start in range(0, 10_000, 1000)) == WEIGHTS[:10_000]
    assert hub.actions().count("resolve") == 1


def test_an_address_that_has_expired_is_asked_for_anew(hub: Hub, opened: Opener, waits: list[float]) -> None:
    storage = opened()
    file = named(storage, "model.safetensors")
    storage.read(file, 0, 10)
    hub.fail("storage", 403, times=1)
    assert storage.read(file, 10, 10) == WEIGHTS[10:20]
    assert hub.actions().count("resolve") == 2
    assert not waits


def test_small_files_are_read_by_ranges_too(hub: Hub, opened: Opener) -> None:
    storage = opened()
    assert storage.read(named(storage, "config.json"), 2, 10) == FILES["config.json"][2:12]
    assert hub.seen[-1].range == "bytes=2-11"
    assert hub.seen[-1].sent == 10


def test_a_file_that_is_sent_whole_is_read_where_it_is_small(
    hub: Hub, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.ranges = False
    storage = opened()
    file = named(storage, "model.safetensors")
    assert storage.read(file, 70_000, 5) == WEIGHTS[70_000:70_005]
    monkeypatch.setattr(hub_ranges, "MOST_IN_VAIN", 60_000)
    with pytest.raises(FormatError, match="not sent by ranges"):
        storage.read(file, 70_000, 5)


def test_nothing_is_read_behind_the_end(hub: Hub, opened: Opener) -> None:
    storage = opened()
    file = named(storage, "vocab.txt")
    assert storage.read(file, file.size, 0) == b""
    with pytest.raises(FormatError, match="has no bytes"):
        storage.read(file, 1, file.size)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize(("added", "message"), [(b"", "another content"), (b"!", r"bytes now, and \d+ when")])
def test_a_file_that_is_another_than_was_listed_is_an_error(
    hub: Hub, opened: Opener, name: str, added: bytes, message: str
) -> None:
    storage = opened()
    storage.files()
    files = hub.repos[MODEL].head()
    files[name] = files[name][::-1] + added
    with pytest.raises(FormatError, match=message) as caught:
        storage.read(named(storage, name), 0, 10)
    assert is_one_paragraph(caught.value)


# -- the cache


def test_a_file_in_the_cache_of_that_commit_is_a_local_copy(hub: Hub, opened: Opener) -> None:
    commit = hub.repos[MODEL].refs["main"]
    hf_hub_download(MODEL, "model.safetensors", endpoint=hub.endpoint)
    storage = opened()
    path = storage.local(named(storage, "model.safetensors"))
    assert path is not None
    assert path.read_bytes() == WEIGHTS
    assert storage.local(named(storage, "vocab.txt")) is None
    hub.repos[MODEL].put(FILES | {"vocab.txt": b"another commit"})
    later = opened()
    assert commit not in later.uri
    assert later.local(named(later, "model.safetensors")) is None


def test_a_cached_file_that_was_cut_short_is_not_used(hub: Hub, opened: Opener) -> None:
    path = Path(hf_hub_download(MODEL, "model.safetensors", endpoint=hub.endpoint))
    os.truncate(path, 100)
    storage = opened()
    assert storage.local(named(storage, "model.safetensors")) is None


READ = """
import sys
from interlingua.convert.remote.opening import open_storage
from interlingua.convert.remote.uris import parse
from interlingua.errors import InterlinguaError
try:
    storage = open_storage(parse(sys.argv[1]))
    for file in storage.files():
        data = storage.read(file, 0, file.size)
        print(file.name, file.size, file.version, data == storage.local(file).read_bytes(), sep="|")
    print(storage.uri, storage.named)
except InterlinguaError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def in_a_process(uri: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", READ, uri],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("path", ["", "/onnx", "/onnx/model.onnx"])
def test_offline_a_cached_revision_opens_as_it_does_from_the_hub(
    hub: Hub, opened: Opener, settings: Path, path: str
) -> None:
    snapshot_download(MODEL, endpoint=hub.endpoint)
    online = opened(f"hf://{MODEL}{path}")
    expected = [f"{file.name}|{file.size}|{file.version}|True" for file in online.files()]
    before = len(hub.seen)
    offline = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": hub.endpoint}
    done = in_a_process(f"hf://{MODEL}{path}", HF_HUB_CACHE=str(settings), **offline)
    assert done.stdout.splitlines() == [*expected, f"{online.uri} {online.named}"]
    if not path:
        by_home = in_a_process(f"hf://{MODEL}", HF_HOME=str(settings.parent), **offline)
        assert by_home.stdout == done.stdout
    assert len(hub.seen) == before


@pytest.mark.parametrize("revision", ["", "@v2", f"@{'0' * 40}"])
def test_offline_anything_else_is_an_error_that_says_so(hub: Hub, settings: Path, revision: str) -> None:
    if revision:
        snapshot_download(MODEL, endpoint=hub.endpoint)
    before = len(hub.seen)
    done = in_a_process(
        f"hf://{MODEL}{revision}", HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(settings), HF_ENDPOINT=hub.endpoint
    )
    assert done.returncode == 3, done.stderr
    assert "is not in the cache of huggingface_hub, and HF_HUB_OFFLINE is set" in done.stdout
    assert "hf download org/model" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert len(hub.seen) == before


def test_offline_a_revision_that_is_partly_cached_is_an_error_with_the_missing_names(
    hub: Hub, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = snapshot_download(MODEL, endpoint=hub.endpoint, allow_patterns=["*.json", "*.safetensors"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FormatError, match=r"lacks README\.md, onnx/model\.onnx, vocab\.txt\.") as caught:
        opened().files()
    assert folder in str(caught.value)
    with pytest.raises(FormatError, match=r"lacks onnx/model\.onnx"):
        opened(f"hf://{MODEL}/onnx/config.json").files()


def test_offline_files_that_were_fetched_one_by_one_are_what_there_is(
    hub: Hub, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    hf_hub_download(MODEL, "config.json", endpoint=hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert [file.name for file in opened().files()] == ["config.json"]
    with pytest.raises(FormatError, match="is not in the cache of huggingface_hub"):
        opened(f"hf://{MODEL}/onnx").files()


def test_endpoint_and_token_are_those_of_huggingface_hub(hub: Hub, tmp_path: Path) -> None:
    hub.repos[MODEL].private = True
    home = tmp_path / "home"
    home.mkdir()
    (home / "token").write_text(hub.token)
    done = in_a_process(f"hf://{MODEL}/missing.bin", HF_HOME=str(home), HF_ENDPOINT=hub.endpoint)
    assert done.returncode == 3, done.stderr
    assert "is not in the repository at this revision" in done.stdout
    assert hub.token not in done.stdout + done.stderr
    asked = {seen.authorization for seen in hub.seen if seen.action in ("info", "paths", "tree")}
    assert asked == {f"Bearer {hub.token}"}


# -- the token, and what is refused


def test_the_token_goes_to_the_hub_and_to_nobody_else(
    hub: Hub, opened: Opener, output: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.repos[MODEL].private = True
    storage = opened()
    assert whole(storage, "model.safetensors") == WEIGHTS
    assert whole(storage, "config.json") == FILES["config.json"]
    hub.fail("storage", 503, times=1)
    opened(f"hf://{MODEL}/new").upload(output, OUTPUT, overwrite=False)
    assert {seen.authorization for seen in hub.seen if seen.origin == "hub"} == {f"Bearer {hub.token}"}
    assert {seen.authorization for seen in hub.seen if seen.origin == "storage"} == {None}
    shown = capfd.readouterr()
    assert shown.out + shown.err == ""


def refuse_private(hub: Hub) -> None:
    hub.repos[MODEL].private = True


def refuse_missing(hub: Hub) -> None:
    del hub.repos[MODEL]


def refuse_revision(hub: Hub) -> None:
    del hub.repos[MODEL].refs["main"]


@pytest.mark.parametrize(
    ("refuse", "message", "hint"),
    [
        (refuse_private, "no such repository, or it is private", "hf auth login"),
        (refuse_missing, "no such repository, or it is private", "Check its name"),
        (refuse_revision, "no such branch, tag or commit", "tree/main"),
        (lambda hub: hub.fail("info", 403), "refuses access", "token may do"),
        (lambda hub: hub.fail("info", 401), "does not take the token", "HF_TOKEN"),
        (lambda hub: hub.fail("info", 418), "418", "See http"),
        (lambda hub: hub.fail("info", 200), "huggingface_hub failed", "HF_ENDPOINT"),
    ],
)
def test_what_is_refused_is_told_in_a_paragraph_and_not_asked_again(
    hub: Hub, opened: Opener, waits: list[float], refuse: Callable[[Hub], object], message: str, hint: str
) -> None:
    refuse(hub)
    with pytest.raises(FormatError, match=message) as caught:
        opened().files()
    assert is_one_paragraph(caught.value)
    assert f"hf://{MODEL}: " in str(caught.value)
    assert hint in str(caught.value)
    assert len(hub.seen) == 1
    assert not waits


def test_a_gated_repository_is_said_to_be_gated(hub: Hub, opened: Opener) -> None:
    hub.repos[MODEL].gated = True
    storage = opened()
    with pytest.raises(FormatError, match="is gated") as caught:
        whole(storage, "config.json")
    assert f"Ask for access at {hub.endpoint}/{MODEL}" in str(caught.value)
    assert is_one_paragraph(caught.value)


def test_a_token_that_is_refused_is_not_shown(
    hub: Hub, opened: Opener, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_anOldOne")
    with pytest.raises(FormatError, match="does not take the token") as caught:
        opened().files()
    assert "hf_anOldOne" not in str(caught.value) + "".join(capfd.readouterr())


def test_a_signed_address_is_not_shown(hub: Hub, opened: Opener, capfd: pytest.CaptureFixture[str]) -> None:
    storage = opened()
    storage.files()
    hub.fail("storage", 403)
    with pytest.raises(FormatError, match="refuses access") as caught:
        whole(storage, "model.safetensors")
    assert SIGNATURE not in str(caught.value) + "".join(capfd.readouterr())
    assert is_one_paragraph(caught.value)


@pytest.mark.parametrize("kind", ["datasets", "spaces", "buckets", "kernels"])
def test_what_is_no_model_is_refused_by_name(hub: Hub, opened: Opener, kind: str) -> None:
    with pytest.raises(UsageError, match=f"is in the Hub's {kind}"):
        opened(f"hf://{kind}/org/model")
    assert not hub.seen


@pytest.mark.parametrize("text", ["hf://model", "hf://org/model@", "hf://org/a--b", "hf://org/model/C:x"])
def test_what_is_no_place_on_the_hub_is_a_wrong_use(opened: Opener, text: str) -> None:
    with pytest.raises(UsageError):
        opened(text)


# -- what passes


@pytest.mark.parametrize(("action", "status"), [("info", 503), ("resolve", 500), ("storage", 503), ("storage", 429)])
def test_what_passes_is_tried_again(hub: Hub, opened: Opener, waits: list[float], action: str, status: int) -> None:
    hub.fail(action, status, times=2)
    assert whole(opened(), "model.safetensors") == WEIGHTS
    assert len(waits) == 2


def test_a_listing_that_passes_is_tried_again_without_a_word(
    hub: Hub, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    hub.fail("tree", 503, times=1)
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.addHandler(caplog.handler)
    try:
        assert len(opened().files()) == len(FILES)
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.records
    assert logger.level == level


@pytest.mark.parametrize("named_by", [{"Retry_After": "77"}, {"RateLimit": '"resolvers";r=0;t=77'}])
def test_the_hub_is_waited_for_as_long_as_it_says(
    hub: Hub, opened: Opener, waits: list[float], named_by: dict[str, str]
) -> None:
    hub.fail("info", 429, times=1, **named_by)
    opened().files()
    assert 77.0 in waits


def test_what_does_not_pass_is_given_up(hub: Hub, opened: Opener, waits: list[float]) -> None:
    hub.fail("info", 503)
    with pytest.raises(FormatError, match=r"cannot answer now \(503\)") as caught:
        opened().files()
    assert hub.actions() == ["info"] * ATTEMPTS
    assert len(waits) == ATTEMPTS - 1
    assert is_one_paragraph(caught.value)


def test_an_answer_that_breaks_off_is_asked_for_again(hub: Hub, opened: Opener) -> None:
    broken = []

    def breaks_once(action: str) -> None:
        if action == "GET" and not broken:
            broken.append(action)
            raise ConnectionError

    storage = opened()
    storage.files()
    hub.after = breaks_once
    assert whole(storage, "model.safetensors") == WEIGHTS
    assert broken


def test_an_answer_that_is_too_short_is_asked_for_again(hub: Hub, opened: Opener, waits: list[float]) -> None:
    storage = opened()
    file = named(storage, "model.safetensors")
    hub.short = 1
    assert storage.read(file, 5, 100) == WEIGHTS[5:105]
    assert len(waits) == 1


def test_a_hub_that_is_not_there_is_said_to_be_unreachable(settings: Path, waits: list[float]) -> None:
    uri = parse(f"hf://{MODEL}")
    assert uri is not None
    with pytest.raises(FormatError, match=r"cannot be reached \(ConnectError\)") as caught:
        HubStorage(uri, endpoint="http://127.0.0.1:9", pause=waits.append).files()
    assert "HF_HUB_OFFLINE=1" in str(caught.value)
    huggingface_hub.close_session()


# -- uploads


@pytest.fixture
def token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub.token


def test_an_upload_is_one_commit_with_everything(hub: Hub, opened: Opener, output: Path, token: str) -> None:
    parent = hub.repos[MODEL].refs["main"]
    storage = opened(f"hf://{MODEL}/mindspore/small")
    storage.upload(output, OUTPUT, overwrite=False)
    added = {f"mindspore/small/{name}": (output / name).read_bytes() for name in OUTPUT}
    assert hub.repos[MODEL].head() == FILES | added
    assert len(hub.repos[MODEL].commits) == 2
    commit = hub.repos[MODEL].refs["main"]
    assert commit != parent
    assert storage.uri == f"hf://{MODEL}@{commit}/mindspore/small"
    assert whole(storage, "config.json") == b'{"new": 1}'


def test_an_upload_into_a_new_repository_leaves_what_describes_it(
    hub: Hub, opened: Opener, output: Path, token: str
) -> None:
    own = {name: FILES[name] for name in (".gitattributes", "README.md")}
    hub.repos[MODEL].put(own)
    opened().upload(output, OUTPUT, overwrite=False)
    assert hub.repos[MODEL].head() == own | {name: (output / name).read_bytes() for name in OUTPUT}


def test_an_upload_to_a_branch_is_seen_there_alone(hub: Hub, opened: Opener, output: Path, token: str) -> None:
    hub.repos[MODEL].put(FILES, "ms/1")
    opened(f"hf://{MODEL}@ms%2F1/ms").upload(output, OUTPUT, overwrite=False)
    assert hub.repos[MODEL].head() == FILES
    assert "ms/config.json" in hub.repos[MODEL].head("ms/1")


@pytest.mark.parametrize("path", ["", "/onnx"])
def test_what_is_there_is_not_replaced_unasked(hub: Hub, opened: Opener, output: Path, token: str, path: str) -> None:
    with pytest.raises(OutputError, match=r"config\.json.* is there already") as caught:
        opened(f"hf://{MODEL}{path}").upload(output, OUTPUT, overwrite=False)
    assert hub.repos[MODEL].head() == FILES
    assert "--overwrite" in str(caught.value)
    assert not {"preupload", "batch", "commit"} & set(hub.actions())


def test_a_card_that_is_there_is_not_replaced_unasked(hub: Hub, opened: Opener, output: Path, token: str) -> None:
    hub.repos[MODEL].put({"README.md": b"# mine\n"})
    (output / "README.md").write_bytes(b"# theirs\n")
    with pytest.raises(OutputError, match=r"README\.md is there already"):
        opened().upload(output, (*OUTPUT, "README.md"), overwrite=False)
    opened().upload(output, (*OUTPUT, "README.md"), overwrite=True)
    assert hub.repos[MODEL].head()["README.md"] == b"# theirs\n"


def test_overwriting_removes_in_the_same_commit_what_the_new_output_lacks(
    hub: Hub, opened: Opener, output: Path, token: str
) -> None:
    opened().upload(output, OUTPUT, overwrite=True)
    own = {name: FILES[name] for name in (".gitattributes", "README.md")}
    assert hub.repos[MODEL].head() == own | {name: (output / name).read_bytes() for name in OUTPUT}
    assert len(hub.repos[MODEL].commits) == 2


def test_overwriting_a_folder_leaves_the_rest(hub: Hub, opened: Opener, output: Path, token: str) -> None:
    opened(f"hf://{MODEL}/onnx").upload(output, OUTPUT, overwrite=True)
    rest = {name: data for name, data in FILES.items() if not name.startswith("onnx/")}
    assert hub.repos[MODEL].head() == rest | {f"onnx/{name}": (output / name).read_bytes() for name in OUTPUT}


def test_a_file_is_put_beside_others(hub: Hub, opened: Opener, output: Path, token: str) -> None:
    place = opened(f"hf://{MODEL}/onnx/model.safetensors")
    with pytest.raises(OutputError, match=r": onnx/config\.json is there already"):
        place.upload(output, OUTPUT, overwrite=False)
    place.upload(output, OUTPUT, overwrite=True)
    head = hub.repos[MODEL].head()
    assert head == FILES | {f"onnx/{name}": (output / name).read_bytes() for name in OUTPUT}


def test_the_same_again_is_no_new_commit(hub: Hub, opened: Opener, output: Path, token: str) -> None:
    opened(f"hf://{MODEL}/ms").upload(output, OUTPUT, overwrite=False)
    opened(f"hf://{MODEL}/ms").upload(output, OUTPUT, overwrite=True)
    assert len(hub.repos[MODEL].commits) == 2


@pytest.mark.parametrize("when", ["preupload", "commit"])
def test_an_upload_is_refused_where_the_branch_has_moved(
    hub: Hub, opened: Opener, output: Path, token: str, when: str
) -> None:
    theirs = FILES | {"ms/theirs.bin": b"1"}
    hub.before = lambda action: action == when and hub.repos[MODEL].put(theirs)
    with pytest.raises(OutputError, match="somebody else has committed") as caught:
        opened(f"hf://{MODEL}/ms").upload(output, OUTPUT, overwrite=False)
    assert hub.repos[MODEL].head() == theirs
    assert is_one_paragraph(caught.value)


def test_a_commit_whose_answer_was_lost_is_recognised(hub: Hub, opened: Opener, output: Path, token: str) -> None:
    lost = []

    def lose_once(action: str) -> None:
        if action == "commit" and not lost:
            lost.append(action)
            raise ConnectionError

    hub.after = lose_once
    storage = opened(f"hf://{MODEL}/ms")
    storage.upload(output, OUTPUT, overwrite=False)
    assert hub.actions().count("commit") == 2
    assert len(hub.repos[MODEL].commits) == 2
    assert hub.repos[MODEL].refs["main"] in storage.uri


def test_files_that_the_repository_ignores_are_uploaded_all_the_same(
    hub: Hub, opened: Opener, output: Path, token: str
) -> None:
    hub.repos[MODEL].ignored = "*.safetensors"
    opened(f"hf://{MODEL}/ms").upload(output, OUTPUT, overwrite=False)
    assert hub.repos[MODEL].head()["ms/model.safetensors"] == WEIGHTS[::-1]


def test_a_commit_that_lacks_a_file_is_no_success(
    hub: Hub, opened: Opener, output: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[MODEL].ignored = "*.safetensors"
    monkeypatch.setattr(hub_upload, "NOTHING_IGNORED", None)
    with pytest.raises(OutputError, match=r"has not what was uploaded: ms/model\.safetensors"):
        opened(f"hf://{MODEL}/ms").upload(output, OUTPUT, overwrite=False)


def test_nothing_is_there_where_the_large_files_cannot_be_put(
    hub: Hub, opened: Opener, output: Path, token: str, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.fail("storage", 403)
    with pytest.raises(OutputError, match="refuses access") as caught:
        opened(f"hf://{MODEL}/ms").upload(output, OUTPUT, overwrite=False)
    assert hub.repos[MODEL].head() == FILES
    assert "commit" not in hub.actions()
    assert SIGNATURE not in str(caught.value) + "".join(capfd.readouterr())


def test_without_a_token_an_upload_says_where_it_comes_from(hub: Hub, opened: Opener, output: Path) -> None:
    with pytest.raises(OutputError, match="HF_TOKEN") as caught:
        opened(f"hf://{MODEL}/ms").upload(output, OUTPUT, overwrite=False)
    assert hub.repos[MODEL].head() == FILES
    assert is_one_paragraph(caught.value)


def test_a_commit_cannot_be_written_to(hub: Hub, opened: Opener, output: Path, token: str) -> None:
    with pytest.raises(OutputError, match="a commit stays as it is"):
        opened(f"hf://{MODEL}@{hub.repos[MODEL].refs['main']}/ms").upload(output, OUTPUT, overwrite=True)
    assert not hub.seen


@pytest.mark.parametrize("path", ["config.json", "config.json/deeper"])
def test_a_file_is_not_made_a_folder(hub: Hub, opened: Opener, output: Path, token: str, path: str) -> None:
    with pytest.raises(OutputError, match=r"config\.json is a file"):
        opened(f"hf://{MODEL}/{path}").upload(output, OUTPUT, overwrite=True)
    assert hub.repos[MODEL].head() == FILES


def test_offline_nothing_is_uploaded(hub: Hub, opened: Opener, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OutputError, match="HF_HUB_OFFLINE"):
        opened().upload(output, OUTPUT, overwrite=True)
    assert not hub.seen


# -- the whole way


def test_a_round_trip_by_the_hub_is_what_it_is_on_the_disk(hub: Hub, tmp_path: Path) -> None:
    local = tmp_path / "local"
    local.mkdir()
    model = local / "hf"
    write_model(model, FAMILIES["bert"], ("pooler",), 7, draw=realistic)
    hub.repos[MODEL].put({path.name: path.read_bytes() for path in model.iterdir()})
    environment = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": hub.token,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }
    for base, extra in (str(local), {}), (f"hf://{MODEL}", environment):
        source = str(model) if base == str(local) else base
        for start, end, dialect in (source, f"{base}/ms", "mindspore"), (f"{base}/ms", f"{base}/back", "hf"):
            convert = [sys.executable, "-m", "interlingua", "convert", start, end, "--to", dialect, "-q"]
            done = subprocess.run(convert, env=os.environ | extra, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stderr
            assert hub.token not in done.stdout + done.stderr
    head = hub.repos[MODEL].head()
    for folder in ("ms", "back"):
        written = {path.name: path.read_bytes() for path in (local / folder).iterdir()}
        uploaded = {name.split("/")[1]: data for name, data in head.items() if name.startswith(f"{folder}/")}
        assert sorted(uploaded) == sorted(written)
        assert [name for name in written if uploaded[name] != written[name]] == []
    assert head["back/model.safetensors"] == head["model.safetensors"]
