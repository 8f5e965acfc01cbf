from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner

import interlingua
from interlingua.cli import main
from interlingua.convert import conversion
from interlingua.convert.remote import fsspec_storage
from interlingua.errors import CheckError, FormatError, OutputError, UsageError
from interlingua.formats.lazy_files import any_lazy
from interlingua.mappings.registry import DIALECTS
from tests import models
from tests.convert.remote.s3_server import S3Server
from tests.convert.remote.web_server import WebServer

FORMS = [
    (dialect.name, container)
    for dialect in DIALECTS.values()
    if "bert" in dialect.tables
    for container in dialect.containers
]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files, in which nothing may be left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []
    assert not any_lazy()


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    arrays = models.hf(("pooler",), seed=5)
    return models.write_hf(tmp_path / "bert", arrays, models.hf_config(), models.SMALL.vocab)


def system() -> fsspec_storage.FsspecStorage:
    import fsspec

    return fsspec.filesystem("s3", use_listings_cache=False)


def put(folder: Path, place: str) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            system().pipe_file(f"{place}/{file.relative_to(folder).as_posix()}", file.read_bytes())


def seen(path: Path | str) -> object:
    """Return what is known of a checkpoint, but for where it is."""
    with interlingua.open(path) as checkpoint:
        return (
            checkpoint.dialect,
            checkpoint.container,
            dict(checkpoint.tensors),
            checkpoint.native_config,
            checkpoint.vocabulary and checkpoint.vocabulary.name,
            checkpoint.sidecars,
            interlingua.fingerprint(checkpoint),
        )


@pytest.mark.parametrize(("dialect", "container"), FORMS)
def test_every_container_reads_as_it_does_here(
    s3: S3Server, bert: Path, tmp_path: Path, dialect: str, container: str
) -> None:
    local = tmp_path / "out"
    interlingua.convert(bert, local, to=dialect, container=container, sync=False)
    put(local, "s3://zoo/out")
    here = seen(local)
    assert seen("s3://zoo/out") == here


@pytest.mark.parametrize("form", ["zip", "tgz"])
def test_an_archive_reads_as_it_does_here(web: WebServer, bert: Path, form: str) -> None:
    archive = web.root / f"bert.{form}"
    if form == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
            for file in bert.iterdir():
                out.write(file, f"bert/{file.name}")
    else:
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(bert, "bert")
    assert seen(f"{web.url}/bert.{form}") == seen(archive)
    with interlingua.open(f"{web.url}/bert.{form}") as checkpoint:
        assert checkpoint.shown(checkpoint.weights) == f"{web.url}/bert.{form}:bert/model.safetensors"


def test_older_files_of_pytorch_read_as_they_do_here(web: WebServer, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    arrays = models.torch_dict(models.hf(("pooler",), seed=5))
    web.root.joinpath("old").mkdir()
    file = web.root / "old" / "pytorch_model.bin"
    torch.save(arrays, file, _use_new_zipfile_serialization=False)
    models.write_companions(web.root / "old", models.hf_config(), models.SMALL.vocab)
    assert seen(f"{web.url}/old/pytorch_model.bin") == seen(file)


def test_there_and_back_nothing_is_lost(s3: S3Server, bert: Path, tmp_path: Path) -> None:
    result = interlingua.convert(bert, "s3://zoo/tf1", to="tf1")
    assert result.path == "s3://zoo/tf1"
    assert result.checked
    interlingua.convert("s3://zoo/tf1", "s3://zoo/paddle", to="paddle")
    interlingua.convert("s3://zoo/paddle", tmp_path / "back", to="hf", sync=False)
    weights = models.weights_of(tmp_path / "back")
    for name, array in models.weights_of(bert).items():
        assert weights[name].tobytes() == array.tobytes()
    with interlingua.open(bert) as one, interlingua.open(tmp_path / "back") as other:
        assert interlingua.fingerprint(one) == interlingua.fingerprint(other)
    assert (tmp_path / "back" / "vocab.txt").read_bytes() == (bert / "vocab.txt").read_bytes()


def test_what_the_system_copies_by_itself_is_fetched_first(
    s3: S3Server, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bert, "s3://zoo/bert")
    monkeypatch.setattr(conversion, "fetched_ahead", lambda steps, readers: nullcontext())
    interlingua.convert("s3://zoo/bert", tmp_path / "out", to="hf", check=False, sync=False)
    weights = models.weights_of(tmp_path / "out")
    for name, array in models.weights_of(bert).items():
        assert weights[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("check", [True, False])
def test_each_phase_is_told_its_bytes(s3: S3Server, bert: Path, check: bool) -> None:
    told: list[tuple[str, int | None, list[int]]] = []
    conversion.convert(
        bert,
        "s3://zoo/out",
        conversion.Options(to="uer"),
        check=(lambda *_: None) if check else None,
        phase=lambda words, total: told.append((words, total, [])),
        progress=lambda count: told[-1][2].append(count),
    )
    assert [words for words, *_ in told] == ["writing", "uploading", *["reading back"] * check]
    held = sum(system().info(path)["size"] for path in system().find("zoo/out"))
    assert [total for _, total, _ in told[1:]] == [held] * (1 + check)
    for _, total, counts in told:
        assert sum(counts) == total


def test_a_single_file_goes_to_its_name(s3: S3Server, bert: Path) -> None:
    interlingua.convert(bert, "s3://zoo/a/b.pdparams", to="paddle")
    assert "zoo/a/b.pdparams" in system().find("zoo")
    with interlingua.open(bert) as one, interlingua.open("s3://zoo/a/b.pdparams") as other:
        assert other.dialect == "paddle"
        assert interlingua.fingerprint(one) == interlingua.fingerprint(other)


def test_memory_can_be_written_from_python(bert: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    try:
        interlingua.convert(bert, "memory://zoo/uer", to="uer")
        assert seen("memory://zoo/uer")
    finally:
        fsspec.filesystem("memory").store.clear()


def test_shards_appear_with_their_index_last(s3: S3Server, bert: Path) -> None:
    interlingua.convert(bert, "s3://zoo/shards", to="hf", max_shard_size=4000)
    index = "shards/model.safetensors.index.json"
    for keys in s3.seen:
        if index in keys:
            assert keys == s3.held()
    assert index in s3.held()


def test_an_upload_that_fails_leaves_nothing_and_names_its_place(s3: S3Server, bert: Path, temporary: Path) -> None:
    s3.refuses = lambda method, path: method == "PUT" and path.endswith(".safetensors")
    with pytest.raises(OutputError, match=r"s3://zoo/bert: access is refused") as caught:
        interlingua.convert(bert, "s3://zoo/bert", to="hf")
    assert str(temporary) not in str(caught.value)
    assert s3.held() == frozenset()


def test_a_destination_that_is_taken_is_refused_before_any_work(s3: S3Server, bert: Path) -> None:
    interlingua.convert(bert, "s3://zoo/bert", to="hf")
    before = len(s3.seen)
    with pytest.raises(OutputError, match="s3://zoo/bert: is there already"):
        interlingua.convert(bert, "s3://zoo/bert", to="paddle")
    assert len(s3.seen) == before
    interlingua.convert(bert, "s3://zoo/bert", to="paddle", overwrite=True)
    assert not any(key.endswith(".safetensors") and "residue" not in key for key in s3.held())


def test_somebodys_work_is_not_replaced(s3: S3Server, bert: Path) -> None:
    system().pipe_file("zoo/thesis/report.txt", b"months of it")
    with pytest.raises(OutputError, match="s3://zoo/thesis: is not replaced, since it is not one checkpoint"):
        interlingua.convert(bert, "s3://zoo/thesis", to="hf", overwrite=True)
    assert s3.held() == {"thesis/report.txt"}


@pytest.mark.parametrize("target", ["s3://zoo/a/bert", "s3://zoo/a", "s3://zoo/a/bert/model.safetensors"])
def test_a_source_is_not_taken_away(s3: S3Server, bert: Path, target: str) -> None:
    interlingua.convert(bert, "s3://zoo/a/bert", to="hf")
    with pytest.raises(OutputError, match="the source is there"):
        interlingua.convert("s3://zoo/a/bert", target, to="hf", overwrite=True)


def test_what_arrives_is_read_back(s3: S3Server, bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def put_less(self: object, file: Path, address: str, *_: object) -> None:
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        system().pipe_file(address, bytes(data))

    monkeypatch.setattr(fsspec_storage.FsspecStorage, "_put", put_less)
    with pytest.raises(CheckError, match=r"s3://zoo/bert: .*, read back, is not what was uploaded"):
        interlingua.convert(bert, "s3://zoo/bert", to="hf")
    interlingua.convert(bert, "s3://zoo/unchecked", to="hf", check=False)


def test_there_must_be_room_for_what_is_fetched_and_made(
    s3: S3Server, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    put(bert, "s3://zoo/bert")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(FormatError, match=r"s3://zoo/bert: needs .* temporary space.*TMPDIR"):
        interlingua.convert("s3://zoo/bert", tmp_path / "out", to="tf1")
    with pytest.raises(OutputError, match=r"s3://zoo/out: is made in .* first, where 100 of .*TMPDIR"):
        interlingua.convert(bert, "s3://zoo/out", to="tf1")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.output


def test_the_commands_take_uris(s3: S3Server, bert: Path) -> None:
    code, printed = run("convert", str(bert), "s3://zoo/paddle", "--to", "paddle", "--json")
    assert code == 0
    assert json.loads(printed)["path"] == "s3://zoo/paddle"
    assert json.loads(run("inspect", "s3://zoo/paddle", "--json")[1])["path"] == "s3://zoo/paddle"
    assert run("diff", str(bert), "s3://zoo/paddle", "-q")[0] == 0
    digests = [line.split()[0] for line in run("fingerprint", str(bert), "s3://zoo/paddle")[1].splitlines()]
    assert len(set(digests)) == 1


def test_a_dry_run_names_both_and_writes_nothing(s3: S3Server, bert: Path) -> None:
    put(bert, "s3://zoo/bert")
    s3.seen.clear()
    code, printed = run("convert", "s3://zoo/bert", "s3://zoo/out", "--to", "uer", "--dry-run")
    assert code == 0
    assert "s3://zoo/bert" in printed
    assert "s3://zoo/out" in printed
    assert s3.seen == []


def test_places_that_make_no_sense_are_refused_with_a_reason(bert: Path, tmp_path: Path) -> None:
    for target, reason in (
        ("memory://a", "memory is gone"),
        ("https://host/a", "nothing is written to a web server"),
        ("s3://zoo", "names no folder"),
        ("s3://user:secret@zoo/a", "no user and no password"),
    ):
        code, printed = run("convert", str(bert), target, "--to", "uer")
        assert code == 2
        assert reason in printed
        assert "secret" not in printed
    code, printed = run("inspect", str(bert), "--config", "s3://zoo/config.json")
    assert code == 2
    assert "must be here" in printed


def test_no_traceback_and_the_right_code_where_nothing_is(s3: S3Server, bert: Path) -> None:
    code, printed = run("inspect", "s3://zoo/none")
    assert (code, printed) == (3, "interlingua: s3://zoo/none: does not exist.\n")
    s3.refuses = lambda method, path: method == "PUT"
    code, printed = run("convert", str(bert), "s3://zoo/out", "--to", "uer")
    assert code == 5
    assert "s3://zoo/out: access is refused" in printed


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    for uri in ("s3://zoo/a", "https://host/a"):
        with pytest.raises(UsageError, match=r"pip install 'interlingua\[remote\]'"):
            interlingua.open(uri)


def test_nothing_remote_is_imported_for_what_is_here(bert: Path) -> None:
    code = f"import sys, interlingua; interlingua.open({str(bert)!r}).close(); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(interlingua.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert not {"fsspec", "aiohttp", "s3fs", "huggingface_hub"} & set(done.stdout.split())


def test_other_processes_find_what_was_completed(s3: S3Server, bert: Path) -> None:
    put(bert, "s3://zoo/bert")
    with interlingua.open("s3://zoo/bert") as checkpoint:
        assert checkpoint.weights.read_bytes() != (bert / "model.safetensors").read_bytes()
        checkpoint.complete()
        for file in bert.iterdir():
            assert (checkpoint.folder / file.name).read_bytes() == file.read_bytes()


def test_parity_reads_both_sides_from_elsewhere(s3: S3Server, bert: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("scipy")
    pytest.importorskip("tokenizers")
    interlingua.convert(bert, "s3://zoo/hf", to="hf")
    interlingua.convert(bert, "s3://zoo/uer", to="uer")
    outcome = interlingua.parity("s3://zoo/hf", "s3://zoo/uer", third_party=False)
    assert (outcome.a.path, outcome.b.path) == ("s3://zoo/hf", "s3://zoo/uer")
    assert outcome.a.failure is None
    assert outcome.b.failure is None
    assert outcome.weights.identical
