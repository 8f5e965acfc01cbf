"""parity-check as a user runs it: each side in a process of its own, whatever becomes of it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import interlingua
from benchmarks.families import realistic, write_model
from interlingua.cli import main
from interlingua.convert.source import open_checkpoint
from interlingua.mappings.schema import BERT
from interlingua.verify.parity.outcome import BY_CONVENTION, SAME, outcome_from_dict
from interlingua.verify.parity.side import make_request, open_side

pytest.importorskip("torch")
pytest.importorskip("scipy")

HEADS = ("pooler", "masked_lm", "next_sentence")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("parity") / "model", BERT, HEADS, 3, draw=realistic)


def cli(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["parity", *map(str, arguments)])


def document(*arguments: str | Path) -> dict:
    done = cli(*arguments, "--json")
    assert done.stdout.startswith("{"), done.output
    return json.loads(done.stdout)


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_model_and_its_conversion_are_one_by_others_code_and_ours(model: Path, tmp_path: Path) -> None:
    interlingua.convert(model, tmp_path / "uer", to="uer")
    found = document(model, tmp_path / "uer", "--report", tmp_path / "page.html")
    assert found["verdict"] == BY_CONVENTION, found["reasons"]
    assert [share["convention"] for share in found["shares"]] == ["LayerNorm formula", "epsilon"]
    assert sum(share["share"] for share in found["shares"]) == pytest.approx(1.0)
    assert (tmp_path / "page.html").is_file()
    assert {gap["name"] for gap in found["agreement"]} >= {"embeddings", "layer.2", "pooler", "masked_lm"}
    if importlib.util.find_spec("transformers") is not None:
        assert found["a"]["third_party"]
        assert found["a"]["version"]


def test_paths_may_be_relative(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = Path(sys.executable)
    monkeypatch.chdir(model.parent)
    relative = os.path.relpath(python.parent, model.parent)
    done = cli(model.name, model.name, "--own", "--python", f"torch={relative}/{python.name}")
    assert done.exit_code == 0, done.output


def test_a_copy_is_the_same_in_every_way_and_strict_says_so_too(model: Path, tmp_path: Path) -> None:
    interlingua.convert(model, tmp_path / "copy", to="hf")
    done = cli(model, tmp_path / "copy", "--strict", "--own")
    assert done.exit_code == 0, done.output
    assert SAME in done.output
    assert "own encoder" in done.output


def test_a_model_without_a_vocabulary_is_run_on_the_hard_batch_alone(model: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        (tmp_path / "model").mkdir(exist_ok=True)
        shutil.copy(model / name, tmp_path / "model" / name)
    found = document(tmp_path / "model", model, "--own")
    assert found["verdict"] == SAME, found["reasons"]
    assert set(found["batches"]) == {"hard"}
    assert "vocabulary" in found["tokens"]["problem"]


def test_conventions_are_a_failure_where_strict_is_asked_for(model: Path, tmp_path: Path) -> None:
    interlingua.convert(model, tmp_path / "uer", to="uer")
    assert cli(model, tmp_path / "uer", "--own", "-q").exit_code == 0
    assert cli(model, tmp_path / "uer", "--own", "--strict", "-q").exit_code == 1


def test_outputs_preserved_by_folding_are_one_model(model: Path, tmp_path: Path) -> None:
    interlingua.convert(model, tmp_path / "uer", to="uer", preserve="outputs")
    found = document(model, tmp_path / "uer", "--own")
    assert found["verdict"] in (SAME, BY_CONVENTION), found["reasons"]
    assert found["weights"]["folded"] == 8


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_narrowed_copy_is_held_to_what_rounding_gives(model: Path, tmp_path: Path, dtype: str) -> None:
    interlingua.convert(model, tmp_path / "copy", to="hf", dtype=dtype)
    found = document(model, tmp_path / "copy", "--own")
    assert found["verdict"] == BY_CONVENTION, found["reasons"]
    assert found["weights"]["narrowed"] == dtype


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_run_in_fewer_bits_has_a_bound_of_its_own(model: Path, dtype: str) -> None:
    found = document(model, model, "--own", "--dtype", dtype)
    assert found["verdict"] == SAME, found["reasons"]
    assert found["a"]["gaps"][3]["noise_rms"] > 1e-4


def test_a_side_that_crashes_is_a_result_that_names_it(model: Path, tmp_path: Path) -> None:
    killer = script(tmp_path / "python", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    found = document(model, model, "--python", f"torch={killer}")
    assert found["a"]["failure"].startswith("torch's process died of SIGSEGV")
    assert found["verdict"] == "different"


def test_a_side_that_hangs_is_stopped_with_all_that_it_started(model: Path, tmp_path: Path) -> None:
    sleeper = script(
        tmp_path / "python", "import subprocess, time\nsubprocess.Popen(['sleep', '600'])\ntime.sleep(600)\n"
    )
    found = document(model, model, "--python", f"torch={sleeper}", "--timeout", "1")
    assert "had not finished after 1 s" in found["b"]["failure"]


def test_an_interpreter_that_is_not_there_is_a_result(model: Path, tmp_path: Path) -> None:
    found = document(model, model, "--python", f"torch={tmp_path / 'none'}")
    assert "cannot be started" in found["a"]["failure"]


def test_a_framework_that_is_not_installed_is_named(model: Path, tmp_path: Path) -> None:
    bare = script(
        tmp_path / "python",
        "import subprocess, sys\n"
        f'code = \'import sys; sys.modules["torch"] = None; sys.modules["transformers"] = None; \' + sys.argv[2]\n'
        f"sys.exit(subprocess.call([{sys.executable!r}, '-c', code, *sys.argv[3:]]))\n",
    )
    found = document(model, model, "--python", f"torch={bare}")
    assert "no reference encoder can run" in found["a"]["failure"]
    assert {name for name, _ in found["a"]["refused"]} == {"transformers", "own"}


def test_what_our_reader_refuses_never_reaches_a_framework(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"\xff" * 64)
    flag = tmp_path / "started"
    watcher = script(tmp_path / "python", f"open({str(flag)!r}, 'w')\n")
    done = cli(model, tmp_path / "model", "--python", f"torch={watcher}")
    assert done.exit_code == 3
    assert not flag.exists()


def test_no_key_of_a_configuration_but_known_ones_reaches_a_model_class(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    hostile = {"auto_map": {"AutoModel": "evil.Model"}, "trust_remote_code": True, "quantization_config": {"x": 1}}
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **hostile}), encoding="utf-8")
    with open_checkpoint(tmp_path / "model") as checkpoint:
        request = make_request(open_side(checkpoint), tmp_path / "batches", tmp_path / "output")
    assert not set(hostile) & set(request.native_config)


def test_activations_are_kept_and_compared_without_the_other_side(model: Path, tmp_path: Path) -> None:
    interlingua.convert(model, tmp_path / "uer", to="uer")
    kept = tmp_path / "uer.activations"
    assert cli(tmp_path / "uer", "--save-activations", kept, "--own").exit_code == 0
    found = document(model, "--against", kept, "--own")
    assert found["verdict"] == BY_CONVENTION, found["reasons"]
    assert found["b"]["dialect"] == "uer"
    other = write_model(tmp_path / "other", BERT, HEADS, 4, draw=realistic)
    wrong = document(other, "--against", kept, "--own")
    assert wrong["verdict"] == "different"
    assert wrong["weights"]["differences"]


def test_a_file_that_holds_no_activations_is_refused(model: Path) -> None:
    assert cli(model, "--against", model / "model.safetensors").exit_code == 3


def test_one_checkpoint_is_held_against_the_oracle_alone(model: Path) -> None:
    found = document(model, "--own")
    assert found["verdict"] == SAME, found["reasons"]
    assert found["b"]["reference"] == "oracle"


def test_stored_results_are_judged_again_without_running_anything(model: Path, tmp_path: Path) -> None:
    done = cli(model, model, "--own", "--json")
    stored = tmp_path / "outcome.json"
    stored.write_text(done.stdout, encoding="utf-8")
    assert outcome_from_dict(json.loads(done.stdout)).as_dict() == json.loads(done.stdout)
    again = CliRunner().invoke(main, ["judge", str(stored), "-q"])
    assert again.exit_code == 0
    strict = CliRunner().invoke(main, ["judge", str(stored), "--rms", "0.01", "--json"])
    assert strict.exit_code == 1
    assert json.loads(strict.stdout)["verdict"] == "different"


def test_a_conversion_can_check_itself_in_the_frameworks(model: Path, tmp_path: Path) -> None:
    arguments = ["convert", str(model), str(tmp_path / "uer"), "--to", "uer", "--check", "parity", "--json"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["parity"]["verdict"] == BY_CONVENTION


def test_names_alone_cannot_be_run(model: Path, tmp_path: Path) -> None:
    arguments = ["convert", str(model), str(tmp_path / "x"), "--keep-names", "--check", "parity"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert not (tmp_path / "x").exists()


def test_wrong_usage_is_said_before_anything_runs(model: Path, tmp_path: Path) -> None:
    assert cli(model, model, "--against", tmp_path / "x").exit_code == 2
    assert cli(model, model, "--python", "jax=python").exit_code == 2
    done = cli(model, model, "--seq-len", "4000")
    assert done.exit_code == 2
    assert "17 positions" in done.output


def test_the_extra_that_is_missing_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "scipy" else find(name, *rest))
    done = cli(model, model)
    assert done.exit_code == 2
    assert "interlingua[parity]" in done.output


def test_cuda_that_is_not_there_is_no_pass(model: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    found = document(model, model, "--device", "cuda", "--own")
    assert found["verdict"] == "different"
    assert [fault["name"] for fault in found["faults"]] == ["device"]
    assert found["a"]["device"] == "cpu"
    assert found["a"]["failure"] is None


def test_the_same_words_do_it_in_python(model: Path) -> None:
    assert interlingua.parity(model, model, third_party=False).verdict == SAME
