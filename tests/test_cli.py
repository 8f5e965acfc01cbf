"""The command line: exit codes by real causes, one JSON document, errors of one paragraph, nothing written in vain."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from interlingua import __version__, cli
from interlingua.cli import inspect_command
from interlingua.convert import conversion
from interlingua.errors import InterlinguaError, printable
from tests.conftest import ROOT
from tests.models import (
    assert_same,
    bare,
    hf,
    hf_config,
    prefixed,
    read_safetensors,
    safetensors_bytes,
    uer,
    uer_config,
    weights_of,
    write_hf,
    write_uer,
)
from tests.terminals import terminal

pytest.importorskip("torch")

ALL = ("pooler", "masked_lm", "next_sentence")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_hf(tmp_path / "src", hf(ALL), hf_config(heads=ALL), 37)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def done(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def failed(code: int, *arguments: object) -> str:
    """Run a command that fails with one paragraph on standard error and nothing on standard output; return it."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert result.stderr.startswith("interlingua: ")
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith((".\n", "?\n"))
    return result.stderr


def process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "interlingua", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# Exit codes, each by a real cause.


def test_0_done_and_true(source: Path, tmp_path: Path) -> None:
    done("convert", source, tmp_path / "uer", "--to", "uer", "--no-sync")
    assert_same(weights_of(tmp_path / "uer"), uer(ALL))
    assert "the same" in done("diff", source, tmp_path / "uer").stdout


def test_1_two_checkpoints_differ(source: Path, tmp_path: Path) -> None:
    other = write_hf(tmp_path / "other", hf(ALL, seed=1), hf_config(heads=ALL))
    result = run("diff", source, other)
    assert result.exit_code == 1
    assert "embeddings.word_embeddings.weight" in result.stdout
    assert result.stderr == ""


def test_1_what_was_written_is_not_what_was_read(source: Path, tmp_path: Path, monkeypatch) -> None:
    from interlingua.convert import planning

    step = planning._Planner._step
    monkeypatch.setattr(
        planning._Planner,
        "_step",
        lambda self, canonical, found, ours, do: step(
            self, canonical, self.match.tensors[canonical.replace(".query.", ".key.")], ours, do
        ),
    )
    message = failed(1, "convert", source, tmp_path / "uer", "--to", "uer", "--no-sync", "-q")
    assert "is not what was read" in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "ure"], "Did you mean 'uer'?"),
        ([], "Pass --to with one of hf, hf-tf"),
        (["--to", "uer", "--from", "hff"], "Did you mean 'hf'?"),
        (["--to", "uer", "--container", "zip"], "There is no container 'zip'"),
        (["--to", "uer", "--container", "safetensors"], "UER-py does not read safetensors files"),
        (["--to", "uer", "--submodel", "teacher"], "--submodel teacher fits 0"),
        (["--to", "uer", "--family", "gpt"], "There is no family 'gpt'"),
        (["--to", "uer", "--max-shard-size", "many"], "'many' is no size"),
        (["--to", "uer", "--max-shard-size", "9" * 400], "is no size"),
        (["--to", "uer", "--keep-names"], "Pass one of the two"),
        (["--keep-names"], "Nothing says which container"),
    ],
)
def test_2_wrong_usage(source: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    assert words in failed(2, "convert", source, tmp_path / "out", *arguments)
    assert os.listdir(tmp_path) == ["src"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert"],
        ["convert", "a"],
        ["frobnicate"],
        ["convert", "a", "b", "--dtype", "int8"],
        ["diff", "a", "b", "--atol", "x"],
        ["fingerprint"],
    ],
)
def test_2_what_click_refuses(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


BROKEN = {
    "does not exist": None,
    "is empty": b"",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "an HTML page": b"<!DOCTYPE html>",
    "no container that is known": b"hello",
    "claims bytes": b"\xff\x00\x00\x00\x00\x00\x00\x00{}",
    "no valid JSON": b"\x05\x00\x00\x00\x00\x00\x00\x00{abc}",
    "no model of a dialect that is known": safetensors_bytes({"a": np.zeros(2)}),
}


@pytest.mark.parametrize(("words", "content"), BROKEN.items())
def test_3_the_input_cannot_be_read(tmp_path: Path, words: str, content: bytes | None) -> None:
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    before = tree(tmp_path)
    commands = [
        ("convert", path, tmp_path / "out" / "deep", "--to", "uer"),
        ("fingerprint", path),
        ("diff", path, path),
    ]
    if words != "no model of a dialect that is known":
        commands.append(("inspect", path))
    for command in commands:
        message = failed(3, *command)
        assert words in message
        assert str(path) in message
    assert tree(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_3_a_truncated_file(source: Path, tmp_path: Path) -> None:
    weights = source / "model.safetensors"
    whole = weights.read_bytes()
    for length in (9, 100, 6000, len(whole) - 1):
        weights.write_bytes(whole[:length])
        assert "damaged" in failed(3, "convert", source, tmp_path / "out", "--to", "uer")
    assert os.listdir(tmp_path) == ["src"]


def test_3_a_pickle_that_would_run_code(tmp_path: Path) -> None:
    import pickle
    import zipfile

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    for name, data in (("a.bin", pickle.dumps(Evil(), 2)), ("b.bin", pickle.dumps({"x": Evil()}, 4))):
        with zipfile.ZipFile(tmp_path / name, "w") as out:
            out.writestr("archive/data.pkl", data)
            out.writestr("archive/version", "3\n")
        for command in (("inspect", tmp_path / name), ("convert", tmp_path / name, tmp_path / "out", "--to", "hf")):
            assert "system" in failed(3, *command)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a" * 300, "x/" * 1500 + "b" * 300])
def test_3_a_path_that_cannot_be(name: str) -> None:
    for command in (("inspect", name), ("convert", name, "out", "--to", "uer")):
        failed(3, *command)


def test_3_a_contradiction_with_its_three_numbers(tmp_path: Path) -> None:
    source = write_hf(tmp_path / "src", hf(), hf_config(vocab_size=40), 30)
    message = failed(3, "convert", source, tmp_path / "out", "--to", "uer")
    assert all(number in message for number in ("40", "37", "30"))


def test_4_the_target_cannot_hold_it(source: Path, tmp_path: Path) -> None:
    odd = hf() | {"encoder.layer.1.crossattention.self.query.weight": np.zeros((2, 2), np.float32)}
    message = failed(4, "convert", write_hf(tmp_path / "odd", odd), tmp_path / "out", "--to", "uer")
    assert "encoder.layer.1.crossattention.self.query.weight" in message
    incomplete = {name: array for name, array in hf().items() if "layer.1.output" not in name}
    message = failed(4, "convert", write_hf(tmp_path / "inc", incomplete), tmp_path / "out", "--to", "uer")
    assert "encoder.layer.1.output.dense.weight" in message
    assert "config.json" in failed(4, "convert", source, tmp_path / "out", "--to", "uer", "--residue", "error")
    assert not (tmp_path / "out").exists()


def test_5_the_output_cannot_be_written(source: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = tree(tmp_path)
    for target in ("there", "file", "src"):
        failed(5, "convert", source, tmp_path / target, "--to", "uer")
    for target in ("file/below", "y" * 300):
        failed(5, "convert", source, tmp_path / target, "--to", "uer", "-q")
    failed(5, "convert", source, tmp_path / "file", "--to", "uer", "--overwrite")
    failed(5, "convert", source, "/proc/nowhere/out", "--to", "uer", "-q")
    assert tree(tmp_path) == before


def test_5_a_file_too_large_for_the_place(source: Path, tmp_path: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from interlingua.cli import main; main()"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, "convert", source, tmp_path / "deep" / "out", "--to", "uer"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 5, found.stderr
    assert "File too large" in found.stderr
    assert os.listdir(tmp_path) == ["src"]


# Output.


KEYS = {"path", "container", "dialect", "family", "heads", "config", "parameters", "fingerprint", "tensors"}


def test_inspect_prints_one_json_document_with_the_keys_that_are_promised(source: Path) -> None:
    result = done("inspect", source, "--json")
    found = json.loads(result.stdout)
    assert result.stderr == ""
    assert set(found) >= KEYS
    assert (found["path"], found["container"], found["dialect"], found["family"]) == (
        str(source),
        "safetensors",
        "hf",
        "bert",
    )
    assert found["heads"] == list(ALL)
    assert found["config"]["num_attention_heads"] == 6
    assert {"name": "bert.pooler.dense.bias", "shape": [12], "dtype": "float32"} in found["tensors"]


def test_inspect_describes_a_model_of_nobody_with_nulls(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(safetensors_bytes({"汉.é": np.zeros((2, 3), np.int8)}, {"k": "v"}))
    found = json.loads(done("inspect", tmp_path / "x", "--json").stdout)
    assert [found[key] for key in ("dialect", "family", "heads", "config", "fingerprint")] == [None] * 5
    assert found["tensors"] == [{"name": "汉.é", "shape": [2, 3], "dtype": "int8"}]
    assert "汉.é" in done("inspect", tmp_path / "x").stdout


def test_every_command_prints_one_json_document_and_nothing_else(source: Path, tmp_path: Path) -> None:
    other = write_hf(tmp_path / "other", hf(ALL, seed=1), hf_config(heads=ALL))
    nan = hf(ALL)
    nan["bert.pooler.dense.bias"][0] = np.nan
    broken = write_hf(tmp_path / "nan", nan, hf_config(heads=ALL))
    commands = [
        ("inspect", source, "--stats", "--canonical"),
        ("inspect", broken, "--stats"),
        ("fingerprint", source, other, source),
        ("matrix",),
        ("diff", source, source),
        ("diff", source, other),
        ("diff", source, broken),
        ("convert", source, tmp_path / "dry", "--to", "uer", "--dry-run"),
        ("convert", source, tmp_path / "out", "--to", "uer"),
        ("convert", source, tmp_path / "half", "--to", "hf", "--dtype", "float16"),
    ]
    for command in commands:
        result = run(*command, "--json")
        assert result.exit_code in (0, 1)
        json.loads(result.stdout, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
        assert result.stderr == ""
        assert "\x1b" not in result.stdout


def test_the_json_of_a_conversion_says_what_was_done(source: Path, tmp_path: Path) -> None:
    dry = json.loads(done("convert", source, tmp_path / "out", "--to", "uer", "--dry-run", "--json").stdout)
    assert (dry["path"], dry["checked"], dry["lost"]) == (None, False, [])
    assert os.listdir(tmp_path) == ["src"]
    wet = json.loads(done("convert", source, tmp_path / "out", "--to", "uer", "--json").stdout)
    assert wet == {**dry, "path": str(tmp_path / "out"), "checked": True}
    assert sorted(entry["path"] for entry in wet["files"]) == sorted(os.listdir(tmp_path / "out"))


def test_the_json_of_a_difference_says_what_differs(source: Path, tmp_path: Path) -> None:
    arrays = hf(ALL)
    arrays["bert.pooler.dense.bias"][3] = np.inf
    other = write_hf(tmp_path / "other", arrays, hf_config(heads=ALL))
    result = run("diff", source, other, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["same"], found["compared"]) == (False, 5 + 48 + 2 + 5 + 2)
    (entry,) = found["differences"]
    assert (entry["name"], entry["what"], entry["greatest"], entry["differing"]) == (
        "pooler.dense.bias",
        "values",
        "inf",
        1,
    )


def test_fingerprints_are_printed_as_checksums_are(source: Path, tmp_path: Path) -> None:
    folder = write_uer(tmp_path / "uer", uer(ALL, padding=True), uer_config())
    lines = done("fingerprint", source, folder).stdout.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [str(source), str(folder)]
    assert lines[0].split()[0] == lines[1].split()[0]
    encoder = done("fingerprint", "--encoder", source).stdout
    assert encoder.split()[0] != lines[0].split()[0]
    assert len(done("fingerprint", "--tensors", source).stdout.splitlines()) == 5 + 48 + 2 + 5 + 2 + 1


def test_the_matrix_names_every_dialect_and_container() -> None:
    found = json.loads(done("matrix", "--json").stdout)
    assert found["dialects"]["uer"]["hf"] == ["bert", "albert"]
    assert found["dialects"]["hf"]["uer"] == ["bert", "ernie", "albert"]
    assert {"from": "hf", "to": "uer", "family": "ernie", "as": "bert"} in found["written_as_another_family"]
    assert found["containers"]["torch-legacy"] == {"reads": True, "writes": False, "title": "PyTorch before 1.6"}
    text = done("matrix").stdout
    assert all(name in text for name in (*found["dialects"], *found["containers"]))


def test_the_matrix_of_a_family_says_what_it_is_written_as() -> None:
    lines = done("matrix", "--family", "ernie").stdout.splitlines()
    row = next(line for line in lines if line.split()[1:2] == ["hf"])
    assert "yes" in row
    assert "as bert" in row
    assert "Did you mean 'ernie'?" in failed(2, "matrix", "--family", "erny")


def test_a_dry_run_prints_the_plan_and_writes_nothing(source: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    text = done("convert", source, tmp_path / "deep" / "out", "--to", "uer", "--dry-run").stdout
    for words in (
        "pad rows",
        "tie",
        "encoder.transformer.{0…2}.self_attn.final_linear.weight",
        "config.json",
        "note: ",
    ):
        assert words in text
    assert tree(tmp_path) == before
    assert os.listdir(tmp_path) == ["src"]


def test_quiet_prints_nothing_but_errors(source: Path, tmp_path: Path) -> None:
    assert done("convert", source, tmp_path / "out", "--to", "uer", "-q").output == ""
    assert done("diff", source, tmp_path / "out", "-q").output == ""
    assert run("diff", source, write_hf(tmp_path / "b", hf(ALL, seed=2), hf_config(heads=ALL)), "-q").output == ""
    failed(5, "convert", source, tmp_path / "out", "--to", "uer", "-q")


def test_a_narrowing_cast_tells_what_it_lost(tmp_path: Path) -> None:
    arrays = hf()
    arrays["embeddings.LayerNorm.bias"][:3] = [1e9, 1e-9, 1.0]
    source = write_hf(tmp_path / "src", arrays, hf_config(heads=()))
    text = done("convert", source, tmp_path / "out", "--to", "hf", "--dtype", "float16").stdout
    assert "narrowed: embeddings.LayerNorm.bias: of 12 elements 1 overflowed to infinity, 1 underflowed to zero" in text
    assert "equal to the source as cast" in text


# Options.


def test_overwriting(source: Path, tmp_path: Path) -> None:
    done("convert", source, tmp_path / "out", "--to", "uer")
    (tmp_path / "out" / "stale").write_text("x")
    done("convert", source, tmp_path / "out", "--to", "uer", "--overwrite")
    assert "stale" not in os.listdir(tmp_path / "out")


def test_residue_kept_or_dropped(source: Path, tmp_path: Path) -> None:
    for how, there in (("keep", True), ("drop", False)):
        done("convert", source, tmp_path / how, "--to", "uer", "--residue", how)
        assert (tmp_path / how / "interlingua.residue.safetensors").exists() is there


def test_shards(source: Path, tmp_path: Path) -> None:
    done("convert", source, tmp_path / "out", "--to", "hf", "--max-shard-size", "6kB")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    found = {}
    for file in set(index["weight_map"].values()):
        found |= read_safetensors(tmp_path / "out" / file)
    assert_same(found, hf(ALL))


def test_a_submodel(tmp_path: Path) -> None:
    arrays = prefixed(bare(), "student.") | prefixed(bare(seed=1), "teacher.")
    source = write_hf(tmp_path / "src", arrays, hf_config(heads=()))
    assert "'student', 'teacher'" in failed(2, "convert", source, tmp_path / "out", "--to", "uer")
    done("convert", source, tmp_path / "out", "--to", "uer", "--submodel", "teacher")
    assert_same(weights_of(tmp_path / "out"), uer(seed=1))


@pytest.mark.parametrize(
    ("container", "suffix"), [("safetensors", ".safetensors"), ("torch-zip", ".bin"), ("npz", ".npz")]
)
def test_names_are_kept_into_any_container_and_back(tmp_path: Path, container: str, suffix: str) -> None:
    arrays = {"a.b": np.arange(6, dtype=np.float32).reshape(2, 3), "c": np.arange(4)}
    (tmp_path / "x").write_bytes(safetensors_bytes(arrays))
    done("convert", tmp_path / "x", tmp_path / f"y{suffix}", "--keep-names")
    done("convert", tmp_path / "x", tmp_path / "folder", "--keep-names", "--container", container)
    assert os.listdir(tmp_path / "folder") == [f"model{suffix}"]
    done("convert", tmp_path / f"y{suffix}", tmp_path / "z.safetensors", "--keep-names")
    assert_same(read_safetensors(tmp_path / "z.safetensors"), arrays)


def test_a_configuration_and_a_vocabulary_from_elsewhere(tmp_path: Path) -> None:
    source = write_hf(tmp_path / "src", hf(), {"hidden_size": 99, "model_type": "bert"}, 50)
    other = write_hf(tmp_path / "other", {}, hf_config(heads=()), 37)
    failed(3, "convert", source, tmp_path / "out", "--to", "uer")
    done(
        *("convert", source, tmp_path / "out", "--to", "uer"),
        *("--config", other / "config.json", "--vocab", other / "vocab.txt"),
    )
    assert (tmp_path / "out" / "vocab.txt").read_text() == (other / "vocab.txt").read_text()


def test_no_check_and_no_sync(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("synced"))
    found = json.loads(
        done("convert", source, tmp_path / "o", "--to", "uer", "--no-sync", "--check", "none", "--json").stdout
    )
    assert found["checked"] is False


# Failures of the program itself, and hostile names.


@pytest.mark.parametrize(
    "error", [KeyError("x"), ZeroDivisionError("x"), RecursionError("x"), AttributeError("x"), OSError(5, "x")]
)
def test_a_fault_of_the_program_is_told_as_one(source: Path, tmp_path: Path, monkeypatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(conversion, "convert", fail)
    message = failed(cli.BUG, "convert", source, tmp_path / "out", "--to", "uer")
    assert f"a fault of interlingua itself ({type(error).__name__}" in message
    result = run("convert", source, tmp_path / "out", "--to", "uer", "--debug")
    assert result.exception is error


def test_debug_shows_where_a_failure_comes_from(tmp_path: Path) -> None:
    assert isinstance(run("inspect", tmp_path / "no", "--debug").exception, InterlinguaError)
    assert "Traceback" in process("inspect", tmp_path / "no", "--debug").stderr


def test_an_interruption_says_so(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, "convert", interrupt)
    result = run("convert", source, tmp_path / "out", "--to", "uer")
    assert result.exit_code == cli.INTERRUPTED
    assert "interrupted" in result.stderr


EVIL = "a\x1b]0;owned\x07\x1b[2J\nb\r\x9b1m\u202e"


def test_names_in_a_file_do_nothing_to_the_terminal(tmp_path: Path) -> None:
    arrays = hf() | {EVIL: np.zeros(2, np.float32), f"encoder.{EVIL}": np.zeros(2, np.float32)}
    unknown = {EVIL: np.zeros(2, np.float32)}
    (tmp_path / "unknown").write_bytes(safetensors_bytes(unknown))
    (tmp_path / "wide").write_bytes(safetensors_bytes({EVIL: np.full(2, 1e6, np.float32)}))
    left = {name: array for name, array in arrays.items() if name != f"encoder.{EVIL}"}
    source = write_hf(tmp_path / "src", arrays, hf_config(heads=()))
    fine = write_hf(tmp_path / "fine", left, hf_config(heads=()))
    results = [
        run("inspect", tmp_path / "unknown"),
        run("inspect", source),
        run("inspect", fine),
        run("convert", source, tmp_path / "out", "--to", "uer"),
        run("convert", fine, tmp_path / "out", "--to", "uer", "--dry-run"),
        run("convert", fine, tmp_path / "out", "--to", "uer"),
        run("convert", tmp_path / "unknown", tmp_path / "o.safetensors", "--keep-names", "--dry-run"),
        run("convert", tmp_path / "wide", tmp_path / "o.safetensors", "--keep-names", "--dtype", "float16"),
    ]
    assert [result.exit_code for result in results] == [0, 0, 0, 4, 0, 0, 0, 0]
    assert "overflowed" in results[-1].stdout
    for result in results:
        assert not set(result.output) & {"\x1b", "\x07", "\r", "\x9b", "\u202e"}
    assert results[3].stderr.count("\n") == 1


def test_a_name_of_a_megabyte_does_not_flood_the_terminal(tmp_path: Path) -> None:
    name = "encoder." + "x" * 1_000_000
    source = write_hf(tmp_path / "src", hf() | {name: np.zeros(2, np.float32)}, hf_config(heads=()))
    assert len(failed_long(4, source, tmp_path)) < 5000


def failed_long(code: int, source: Path, folder: Path) -> str:
    result = run("convert", source, folder / "out", "--to", "uer")
    assert result.exit_code == code
    return result.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 汉 …", "plain é 汉 …"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[1m", "\\x1b[1m"),
        ("\udce9", "\\udce9"),
        ("\u202e\u200b", "\\u202e\\u200b"),
        ("", ""),
    ],
)
def test_what_is_printable_stays_and_the_rest_is_spelled(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_long_text_is_cut_with_a_word_on_it() -> None:
    assert printable("x" * 10, 4) == "xxxx ... (6 more characters)"
    assert printable("xxxx", 4) == "xxxx"


# In a process of its own.


def test_it_runs_as_a_module_and_says_its_version() -> None:
    found = process("--version")
    assert (found.returncode, found.stderr) == (0, "")
    assert __version__ in found.stdout
    for command in ("convert", "inspect", "diff", "fingerprint", "matrix"):
        for option in ("-h", "--help"):
            assert done(command, option).stdout.startswith("Usage: ")


def test_convert_checkpoint_is_the_same_command(source: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.convert_checkpoint, [str(source), str(tmp_path / "out"), "--to", "uer"])
    assert result.exit_code == 0
    assert_same(weights_of(tmp_path / "out"), uer(ALL))


def test_no_framework_is_imported(source: Path) -> None:
    code = (
        "import sys\nfrom interlingua.cli import main\n"
        "try: main(sys.argv[1:], standalone_mode=False)\nexcept SystemExit: pass\n"
        "frameworks = {'torch', 'tensorflow', 'paddle', 'mindspore', 'transformers', 'keras'}\n"
        "print(sorted(frameworks & set(sys.modules)), file=sys.stderr)"
    )
    for arguments in (["--help"], ["inspect", str(source)], ["fingerprint", str(source)], ["matrix"]):
        found = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert found.stderr.strip() == "[]"


def test_piped_output_has_no_escape_codes_and_no_broken_lines(source: Path, tmp_path: Path) -> None:
    for command in (("inspect", source), ("convert", source, tmp_path / "out", "--to", "uer"), ("matrix",)):
        found = process(*command)
        assert found.returncode == 0
        assert "\x1b" not in found.stdout
        assert found.stderr == ""


def test_a_terminal_without_colours_gets_none(source: Path, tmp_path: Path) -> None:
    colours = re.compile(r"\x1b\[[0-9;]*(3[0-7]|4[0-7]|9[0-7]|38|48)[0-9;]*m")
    for command in (("inspect", source), ("convert", source, tmp_path / "out", "--to", "uer")):
        assert not colours.search(terminal(*command, NO_COLOR="1"))


def test_a_reader_that_goes_away_is_no_failure_to_speak_of(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "interlingua", "inspect", str(source), "--json"]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=-1, stderr=-1) as child:
        child.stdout.close()
        assert child.stderr.read() == b""

    def nobody_reads(_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(inspect_command, "print_json", nobody_reads)
    result = run("inspect", source, "--json")
    assert (result.exit_code, result.stderr) == (1, "")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_path_or_a_terminal_that_is_no_unicode_is_no_failure(tmp_path: Path, encoding: str) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \xe6\xb1\x89"))
    source = write_hf(odd, hf(("pooler",)), hf_config())
    for command in (("inspect", source), ("fingerprint", source), ("diff", source, source)):
        found = subprocess.run(
            [sys.executable, "-m", "interlingua", *command],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
        )
        assert (found.returncode, found.stderr) == (0, b""), found.stderr
    found = subprocess.run(
        [sys.executable, "-m", "interlingua", "inspect", source, "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    assert json.loads(found.stdout.decode(encoding))["path"] == str(odd)
