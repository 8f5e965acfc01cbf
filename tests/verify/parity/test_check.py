"""parity-check as a user runs it: each side in a process of its own, whatever becomes of it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import interlingua
from benchmarks.families import realistic, write_model
from benchmarks.faults import InProcess
from interlingua.cli import main
from interlingua.convert.source import Checkpoint, open_checkpoint
from interlingua.errors import UsageError
from interlingua.mappings.schema import BERT
from interlingua.verify import text
from interlingua.verify.parity import check as module
from interlingua.verify.parity.check import Options, check, check_against, check_one, make_batches
from interlingua.verify.parity.outcome import BY_CONVENTION, DIFFERENT, SAME, outcome_from_dict
from interlingua.verify.parity.runs import Settings
from interlingua.verify.parity.side import Opened, make_request, open_side

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


def script(path: Path, code: str) -> Path:
    path.write_text(f"#!{sys.executable}\n{code}", encoding="utf-8")
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
        tmp_path / "python", "import subprocess, time\nsubprocess.Popen(['sleep', '60'])\ntime.sleep(60)\n"
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


# -- in this process, where it does not matter that each side has its own


def quick(**more: Any) -> Options:
    """Return options that run both sides by the own encoder, here, on the hard batch."""
    settings = Settings(launch=InProcess(), third_party=False)
    return Options(**{"settings": settings, "sentences": (), "rows": 2, "length": 9, **more})


def rewritten(model: Path, folder: Path, name: str, by: float) -> Path:
    """Return a copy of a model with something added to one tensor."""
    safetensors = pytest.importorskip("safetensors.numpy")
    shutil.copytree(model, folder)
    arrays = safetensors.load_file(folder / "model.safetensors")
    arrays[name] = arrays[name] + np.float32(by)
    safetensors.save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_side_of_other_weights_does_what_its_own_weights_promise(model: Path, tmp_path: Path) -> None:
    other = rewritten(model, tmp_path / "other", "bert.pooler.dense.bias", 0.5)
    outcome = check(model, other, quick())
    assert outcome.verdict == DIFFERENT
    assert all(map(outcome.thresholds.allows, (*outcome.a.gaps, *outcome.b.gaps)))
    far = {gap.name for gap in outcome.agreement if not outcome.thresholds.allows(gap)}
    assert far == {"pooler", "next_sentence"}
    assert [name for name, _, _ in outcome.weights.differences] == ["pooler.dense.bias"]


def test_each_side_of_an_outcome_is_the_folder_that_was_given_for_it(model: Path, tmp_path: Path) -> None:
    interlingua.convert(model, tmp_path / "uer", to="uer")
    for pair in ((model, tmp_path / "uer"), (tmp_path / "uer", model)):
        outcome = check(*pair, quick())
        assert (outcome.a.path, outcome.b.path) == tuple(map(str, pair))
        assert outcome.verdict == BY_CONVENTION
        shares = {share.convention: (share.a, share.b) for share in outcome.shares}
        unbiased = shares["LayerNorm formula"].index("unbiased, outside")
        assert pair[unbiased].name == "uer"


def test_rows_are_as_long_as_positions_go_and_no_longer(model: Path) -> None:
    with open_checkpoint(model) as checkpoint:
        side = open_side(checkpoint)
        (batch,) = make_batches([side], quick(length=17))
        assert batch.input_ids.shape == (2, 17)
        with pytest.raises(UsageError, match="--seq-len 18 is more than the 17 positions"):
            make_batches([side], quick(length=18))


def test_the_seed_and_the_rows_decide_the_batch(model: Path) -> None:
    with open_checkpoint(model) as checkpoint:
        side = open_side(checkpoint)
        one, same, other = (make_batches([side], quick(seed=seed, rows=3))[0] for seed in (1, 1, 2))
    assert one.input_ids.shape == (3, 9)
    assert np.array_equal(one.input_ids, same.input_ids)
    assert not np.array_equal(one.input_ids, other.input_ids)


def test_every_token_of_a_batch_is_in_both_vocabularies(model: Path) -> None:
    with open_checkpoint(model) as checkpoint:
        side = open_side(checkpoint)
        small = replace(side, config=replace(side.config, vocab_size=20, type_vocab_size=1))
        for sides in ((side, small), (small, side)):
            (batch,) = make_batches(sides, quick())
            assert batch.input_ids.max() < 20
            assert batch.token_type_ids.max() == 0


@pytest.mark.parametrize(("beyond", "names"), [(-1, ["hard", "text"]), (0, ["hard"])])
def test_text_is_run_where_the_model_has_all_of_its_tokens(
    model: Path, monkeypatch: pytest.MonkeyPatch, beyond: int, names: list[str]
) -> None:
    with open_checkpoint(model) as checkpoint:
        side = open_side(checkpoint)
        (hard,) = make_batches([side], quick())
        ids = np.full_like(hard.input_ids, side.config.vocab_size + beyond)
        monkeypatch.setattr(text, "text_batch", lambda *_: replace(hard, name="text", input_ids=ids))
        assert [batch.name for batch in make_batches([side], quick(sentences=("x",)))] == names


@pytest.mark.parametrize("change", [{"vocab_size": 20}, {"max_position_embeddings": 8}])
def test_activations_of_another_model_are_no_batch_for_this_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, int]
) -> None:
    kept = tmp_path / "kept"
    check_one(model, quick(save=kept))
    assert check_against(model, kept, quick()).verdict == SAME

    def smaller(checkpoint: Checkpoint) -> Opened:
        side = open_side(checkpoint)
        return replace(side, config=replace(side.config, **change))

    monkeypatch.setattr(module, "open_side", smaller)
    with pytest.raises(UsageError, match="It was kept of another model"):
        check_against(model, kept, quick())


def test_activations_kept_of_other_weights_are_different_by_fingerprint(model: Path, tmp_path: Path) -> None:
    other = rewritten(model, tmp_path / "other", "bert.encoder.layer.0.attention.self.key.bias", 0.5)
    check_one(other, quick(save=tmp_path / "kept"))
    outcome = check_against(model, tmp_path / "kept", quick())
    # A key's bias shows in no output: the fingerprint alone says it.
    assert [what for _, what, _ in outcome.weights.differences] == ["fingerprint"]
    assert outcome.verdict == DIFFERENT


def test_activations_kept_in_fewer_bits_are_held_to_their_own_noise(model: Path, tmp_path: Path) -> None:
    narrow = quick(settings=Settings(launch=InProcess(), third_party=False, dtype="bfloat16"))
    check_one(model, replace(narrow, save=tmp_path / "kept"))
    outcome = check_against(model, tmp_path / "kept", narrow)
    assert outcome.verdict == SAME, outcome.reasons
    assert outcome.b.dtype == "bfloat16"
    assert max(gap.noise_rms for gap in outcome.b.gaps) > 1e-3


def test_each_side_is_held_to_the_noise_of_the_type_that_it_was_run_in(model: Path, tmp_path: Path) -> None:
    narrow = quick(settings=Settings(launch=InProcess(), third_party=False, dtype="bfloat16"))
    check_one(model, replace(narrow, save=tmp_path / "kept"))
    outcome = check_against(model, tmp_path / "kept", quick())
    assert (outcome.a.dtype, outcome.b.dtype) == ("float32", "bfloat16")
    assert max(gap.noise_rms for gap in outcome.a.gaps) < 1e-5
    assert max(gap.noise_rms for gap in outcome.b.gaps) > 1e-3
    assert outcome.verdict == SAME, outcome.reasons
