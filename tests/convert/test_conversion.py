"""Whole conversions: options, destinations that are refused, and what Python callers get."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import interlingua
from interlingua.convert import execute as executing
from interlingua.convert.conversion import Options, Result, convert, parse_size
from interlingua.convert.source import Asked
from interlingua.errors import CheckError, FormatError, InterlinguaError, MappingError, OutputError, UsageError
from interlingua.formats.safetensors import SafetensorsReader
from tests.models import (
    assert_same,
    hf,
    hf_config,
    read_safetensors,
    safetensors_bytes,
    uer,
    uer_config,
    weights_of,
    write_hf,
    write_uer,
)

pytest.importorskip("torch")

ALL = ("pooler", "masked_lm", "next_sentence")


def run(
    source: Path, target: Path, to: str | None = None, *, check: bool = True, dry: bool = False, **options
) -> Result:
    return interlingua.convert(source, target, to=to, check=check, dry_run=dry, sync=False, **options)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_hf(tmp_path / "src", hf(ALL), hf_config(heads=ALL), 37)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_conversion_tells_what_it_did(source: Path, tmp_path: Path) -> None:
    result = run(source, tmp_path / "out", "uer")
    assert result.path == tmp_path / "out"
    assert result.checked
    assert result.lost == ()
    assert sorted(os.listdir(tmp_path / "out")) == sorted(result.plan.files)
    assert_same(weights_of(tmp_path / "out"), uer(ALL))
    assert not run(source, tmp_path / "out2", "uer", check=False).checked


def test_a_dry_run_writes_nothing(source: Path, tmp_path: Path) -> None:
    before = everything(tmp_path)
    result = run(source, tmp_path / "deep" / "out", "uer", dry=True)
    assert (result.path, result.lost, result.checked) == (None, (), False)
    assert result.plan == run(source, tmp_path / "out", "uer").plan
    assert not (tmp_path / "deep").exists()
    assert {name: data for name, data in everything(tmp_path).items() if not name.startswith("out")} == before


def test_the_plan_is_announced_before_anything_is_written_and_progress_adds_up(source: Path, tmp_path: Path) -> None:
    announced, told = [], []
    lock = threading.Lock()

    def progress(count: int) -> None:
        with lock:
            told.append(count)

    def announce(plan) -> None:
        assert not (tmp_path / "out").exists()
        assert os.listdir(tmp_path) == ["src"]
        announced.append(plan)

    result = convert(source, tmp_path / "out", Options("uer", sync=False), announce=announce, progress=progress)
    assert announced == [result.plan]
    assert sum(told) == result.plan.nbytes


@pytest.mark.parametrize("target", ["out", "m.bin"])
def test_what_is_added_at_the_end_appears_together_with_the_output(source: Path, tmp_path: Path, target: str) -> None:
    def finish(opened, folder: Path, plan, written) -> tuple[str, ...]:
        assert not (tmp_path / target).exists()
        assert set(written.files) == set(plan.files) == set(os.listdir(folder))
        (folder / "more").write_text("more")
        return ("more",)

    (tmp_path / "place").mkdir()
    convert(source, tmp_path / "place" / target, Options("uer", sync=False), finish=finish)
    base = tmp_path / "place" if target == "m.bin" else tmp_path / "place" / target
    assert (base / "more").read_text() == "more"
    assert [name for name in os.listdir(tmp_path / "place") if name.startswith(".")] == []


def test_an_output_of_a_batch_is_replaced_even_without_its_weights(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not replaced"):
        run(source, tmp_path / "out", "uer", overwrite=True)
    (tmp_path / "out" / "interlingua-provenance.json").write_text("{}")
    run(source, tmp_path / "out", "uer", overwrite=True)
    assert "pytorch_model.bin" in os.listdir(tmp_path / "out")


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("m.bin", {"m.bin", "config.json", "vocab.txt", "interlingua.residue.safetensors"}),
        ("m.pt", {"m.pt", "config.json", "vocab.txt", "interlingua.residue.safetensors"}),
    ],
)
def test_a_name_with_the_suffix_of_weights_is_a_file(
    source: Path, tmp_path: Path, target: str, names: set[str]
) -> None:
    run(source, tmp_path / "out" / target, "uer")
    assert set(os.listdir(tmp_path / "out")) == names
    with interlingua.open(tmp_path / "out" / target) as found:
        assert found.dialect == "uer"


def test_a_folder_may_be_called_like_a_file(source: Path, tmp_path: Path) -> None:
    (tmp_path / "m.bin").mkdir()
    run(source, tmp_path / "m.bin", "uer")
    assert "pytorch_model.bin" in os.listdir(tmp_path / "m.bin")


def test_the_suffix_chooses_among_the_containers_of_the_dialect(source: Path, tmp_path: Path) -> None:
    assert run(source, tmp_path / "a" / "m.safetensors", "hf").plan.container == "safetensors"
    assert run(source, tmp_path / "b" / "m.bin", "hf").plan.container == "torch-zip"
    assert run(source, tmp_path / "c" / "m.bin", "hf", container="torch-zip").plan.container == "torch-zip"
    with pytest.raises(UsageError, match=r"does not keep weights in \.safetensors files"):
        run(source, tmp_path / "d" / "m.safetensors", "uer")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "Nothing says what to convert to"),
        ({"to": "ure"}, "Did you mean 'uer'"),
        ({"to": "uer", "container": "safetensors"}, "UER-py does not read safetensors"),
        ({"to": "hf", "container": "zip"}, "There is no container 'zip'"),
        ({"keep_names": True}, "Nothing says which container"),
        ({"keep_names": True, "container": "torch-legacy"}, "read, but not written"),
        ({"keep_names": True, "to": "uer", "container": "safetensors"}, "Pass one of the two"),
        ({"to": "uer", "submodel": "teacher"}, "--submodel teacher fits 0"),
        ({"to": "uer", "dialect": "hff"}, "Did you mean 'hf'"),
        ({"to": "uer", "family": "gpt"}, "There is no family 'gpt'"),
    ],
)
def test_requests_that_make_no_sense_are_refused(source: Path, tmp_path: Path, options, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        run(source, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_option_that_is_none_is_a_type_error(source: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        run(source, tmp_path / "out", "uer", compress=True)


def test_options_of_the_source_may_be_texts(source: Path, tmp_path: Path) -> None:
    other = write_hf(tmp_path / "other", {}, hf_config(layer_norm_eps=0.5), 30)
    run(source, tmp_path / "out", "hf", config=str(other / "config.json"), vocabulary=str(other / "vocab.txt"))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["layer_norm_eps"] == 0.5
    assert (tmp_path / "out" / "vocab.txt").read_text() == (other / "vocab.txt").read_text()


# Destinations.


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "target",
    ["src", "src/model.safetensors", ".", "src/../src", "link", "link/model.safetensors", "src/config.json.bin/.."],
)
def test_an_output_that_would_take_its_source_away_is_refused(source: Path, tmp_path: Path, target, overwrite) -> None:
    (tmp_path / "link").symlink_to(source)
    (source / "config.json.bin").mkdir()
    before = everything(tmp_path)
    for path in (source, source / "model.safetensors"):
        with pytest.raises(OutputError):
            run(path, tmp_path / target, "hf", overwrite=overwrite)
    assert everything(tmp_path) == before


def test_companions_of_a_file_do_not_replace_those_of_the_source(source: Path) -> None:
    before = everything(source)
    for path in (source, source / "model.safetensors"):
        with pytest.raises(OutputError, match=r"config\.json: the source is there"):
            run(path, source / "uer.bin", "uer", overwrite=True)
    assert everything(source) == before


def test_a_shard_of_the_source_is_not_replaced(tmp_path: Path) -> None:
    arrays = hf()
    names = list(arrays)
    (tmp_path / "a.bin").write_bytes(safetensors_bytes({name: arrays[name] for name in names[:9]}))
    (tmp_path / "b.bin").write_bytes(safetensors_bytes({name: arrays[name] for name in names[9:]}))
    listed = {**dict.fromkeys(names[:9], "a.bin"), **dict.fromkeys(names[9:], "b.bin")}
    (tmp_path / "x.index.json").write_text(json.dumps({"weight_map": listed}))
    before = everything(tmp_path)
    with pytest.raises(OutputError, match=r"b\.bin: the source is there"):
        run(tmp_path / "x.index.json", tmp_path / "b.bin", "hf", overwrite=True)
    assert everything(tmp_path) == before


def test_a_configuration_or_vocabulary_asked_for_is_part_of_the_source(source: Path, tmp_path: Path) -> None:
    other = write_hf(tmp_path / "other", {}, hf_config(heads=ALL), 37)
    for asked in ({"config": other / "config.json"}, {"vocabulary": other / "vocab.txt"}):
        with pytest.raises(OutputError, match="the source is there"):
            run(source, other, "uer", overwrite=True, **asked)


def test_an_output_inside_the_source_is_fine(source: Path) -> None:
    run(source, source / "converted" / "uer", "uer")
    assert_same(weights_of(source / "converted" / "uer"), uer(ALL))


def test_nothing_is_replaced_unasked_and_all_of_it_when_asked(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out", "uer")
    (tmp_path / "out" / "mine").write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(OutputError, match="is there already"):
        run(source, tmp_path / "out", "uer")
    assert everything(tmp_path) == before
    result = run(source, tmp_path / "out", "uer", overwrite=True)
    assert sorted(os.listdir(tmp_path / "out")) == sorted(result.plan.files)


def test_a_failing_source_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = SafetensorsReader.extents

    def fail(self, name: str):
        if name.endswith("layer.2.output.dense.weight"):
            raise FormatError("is damaged", path=self.path)
        return read(self, name)

    monkeypatch.setattr(SafetensorsReader, "extents", fail)
    with pytest.raises(FormatError, match="is damaged"):
        run(source, tmp_path / "deep" / "out", "uer")
    assert os.listdir(tmp_path) == ["src"]


def test_a_full_disk_leaves_nothing_and_is_told(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OutputError, match="Free some space"):
        run(source, tmp_path / "deep" / "out", "uer")
    assert os.listdir(tmp_path) == ["src"]


def test_an_interruption_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "out", Options("uer", sync=False), progress=interrupt)
    assert os.listdir(tmp_path) == ["src"]


def test_the_same_conversion_twice_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    for to in ("uer", "hf"):
        for name in ("one", "two"):
            run(source, tmp_path / to / name / "out", to, max_shard_size=9000)
        assert everything(tmp_path / to / "one") == everything(tmp_path / to / "two")


def test_one_thread_or_two_give_the_same_bytes(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for threads in (1, 2, 7):
        monkeypatch.setattr(executing, "THREADS", threads)
        run(source, tmp_path / str(threads) / "out", "uer")
    first = everything(tmp_path / "1")
    assert everything(tmp_path / "2") == everything(tmp_path / "7") == first


# A checkpoint that was tampered with.


@pytest.mark.parametrize("name", ["../evil.json", "/tmp/evil.json", "1_Pooling/../../evil.json"])
def test_a_residue_writes_nothing_outside_of_the_output(tmp_path: Path, name: str) -> None:
    from interlingua.convert.residue import FILE_NAME, Entry, metadata_of

    entry = Entry("hf/file/x", "file", "hf", name, "because")
    folder = write_uer(tmp_path / "src", uer(), uer_config())
    (folder / FILE_NAME).write_bytes(safetensors_bytes({entry.key: np.zeros(3, np.uint8)}, metadata_of([entry])))
    before = everything(tmp_path)
    with pytest.raises(FormatError, match="leads out of its folder"):
        run(folder, tmp_path / "out" / "deep", "hf")
    assert everything(tmp_path) == before


def test_files_of_a_residue_that_stand_in_each_others_way_are_an_error(tmp_path: Path) -> None:
    from interlingua.convert.residue import FILE_NAME, Entry, metadata_of

    entries = [Entry(f"hf/file/{n}", "file", "hf", n, "because") for n in ("a", "a/b", "config.json/x")]
    folder = write_uer(tmp_path / "src", uer(), uer_config())
    arrays = {entry.key: np.zeros(3, np.uint8) for entry in entries}
    (folder / FILE_NAME).write_bytes(safetensors_bytes(arrays, metadata_of(entries)))
    with pytest.raises(InterlinguaError):
        run(folder, tmp_path / "out", "hf")
    assert os.listdir(tmp_path) == ["src"]


# Containers alone.


def test_any_model_goes_from_container_to_container_and_back(tmp_path: Path) -> None:
    import torch

    arrays = {"a.b": np.arange(6, dtype=np.float16).reshape(2, 3), "c": np.array(5), "d": np.zeros((0, 3), np.int8)}
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes(arrays))
    run(tmp_path / "x.safetensors", tmp_path / "y.pt", keep_names=True)
    loaded = torch.load(tmp_path / "y.pt", weights_only=True)
    assert {name: tensor.numpy().tolist() for name, tensor in loaded.items()} == {
        n: a.tolist() for n, a in arrays.items()
    }
    run(tmp_path / "y.pt", tmp_path / "z.safetensors", keep_names=True)
    assert_same(read_safetensors(tmp_path / "z.safetensors"), arrays)
    assert sorted(os.listdir(tmp_path)) == ["x.safetensors", "y.pt", "z.safetensors"]


def test_a_folder_gets_a_file_called_model(tmp_path: Path, source: Path) -> None:
    run(source, tmp_path / "out", keep_names=True, container="torch-zip")
    assert os.listdir(tmp_path / "out") == ["model.bin"]


def test_a_container_alone_can_be_cast_and_the_losses_are_told(tmp_path: Path) -> None:
    arrays = {"a": np.array([1e6, 1e-9, 1.0], np.float32), "b": np.array([1.0], np.float64), "c": np.array([7])}
    (tmp_path / "x").write_bytes(safetensors_bytes(arrays))
    result = run(tmp_path / "x", tmp_path / "y.safetensors", keep_names=True, dtype="float16")
    found = read_safetensors(tmp_path / "y.safetensors")
    assert found["a"].tolist() == [np.inf, 0.0, 1.0]
    assert (found["a"].dtype, found["b"].dtype, found["c"].dtype) == (np.float16, np.float16, np.int64)
    assert [(lost.name, lost.elements, lost.losses.overflow, lost.losses.underflow) for lost in result.lost] == [
        ("a", 3, 1, 1)
    ]
    assert result.checked


@pytest.mark.parametrize("broken", ["config.json", "vocab.txt"])
def test_a_container_alone_needs_nothing_of_what_stands_beside_it(tmp_path: Path, source: Path, broken: str) -> None:
    (source / broken).write_bytes(b"\xff\xfe not at all")
    run(source, tmp_path / "y.pt", keep_names=True)
    assert_same(weights_of(run(source, tmp_path / "z", keep_names=True, container="safetensors").path), hf(ALL))


# Checks.


def test_a_check_sees_the_output_in_its_place(source: Path, tmp_path: Path) -> None:
    seen = []

    def check(opened, path, plan, written) -> None:
        seen.append((opened.path, path, plan.target, sorted(os.listdir(path)) == sorted(plan.files)))
        raise CheckError("no")

    with pytest.raises(CheckError):
        convert(source, tmp_path / "out", Options("uer", sync=False), check=check)
    assert seen == [(source, tmp_path / "out", "uer", True)]


def test_a_model_that_cannot_be_held_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    arrays = hf() | {"encoder.layer.0.crossattention.self.query.weight": np.zeros((12, 12), np.float32)}
    source = write_hf(tmp_path / "src", arrays, hf_config())
    with pytest.raises(MappingError):
        run(source, tmp_path / "deep" / "out", "uer")
    assert os.listdir(tmp_path) == ["src"]


# Sizes.


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5GB", 5_000_000_000),
        ("5gb", 5_000_000_000),
        ("2GiB", 2 << 30),
        ("500MB", 500_000_000),
        ("1.5 kB", 1500),
        ("0.5KiB", 512),
        ("7", 7),
        ("7B", 7),
        (" 3t ", 3_000_000_000_000),
        ("0.1GB", 100_000_000),
        ("999999999999999TB", 999_999_999_999_999 * 10**12),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "-1", "0", "0GB", "0.4", "1e5", "5 apples", "1.2.3", "٣GB", "9" * 500, "nan"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        parse_size(text)


@given(st.text(max_size=12))
def test_no_text_makes_anything_but_a_size_or_a_refusal(text: str) -> None:
    try:
        assert parse_size(text) >= 1
    except UsageError:
        pass


# Python.


def test_the_package_offers_what_the_commands_do(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out", "uer")
    with interlingua.open(tmp_path / "out") as out, interlingua.open(str(source), dialect="hf") as src:
        assert (out.dialect, src.dialect) == ("uer", "hf")
        assert interlingua.fingerprint(out) == interlingua.fingerprint(src)
    assert Asked() == Asked(None, None, None, None, None)
    with interlingua.open(source / "model.safetensors") as alone:
        assert alone.heads == ALL


def test_a_folder_that_is_no_checkpoint_is_never_replaced(source: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years of it")
    with pytest.raises(OutputError, match="is not replaced"):
        interlingua.convert(source, tmp_path / "work", to="uer", overwrite=True, sync=False)
    assert (tmp_path / "work" / "thesis.txt").read_text() == "years of it"
    interlingua.convert(source, tmp_path / "out", to="uer", sync=False)
    interlingua.convert(source, tmp_path / "out", to="uer", overwrite=True, sync=False)
