"""ERNIE's own dygraph classes (paddle-ernie), run as a reference for fluid's checkpoints, held against the oracle."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import interlingua
from benchmarks.families import realistic, write_model
from interlingua.mappings.schema import BERT, ERNIE
from interlingua.verify.parity.references import system_of
from tests.frameworks import run_in
from tests.verify.encoders.hf_models import HEADS
from tests.verify.encoders.paddle_models import UNITS, Judged, fluid_models, run_paddle, units_of
from tests.verify.encoders.requests import activations, answers, make_request

PRETRAINED = ("pooler", "masked_lm", "next_sentence")

CLASSES = {
    "ErnieModel": "ErnieModel",
    "ErnieForPreTraining": "ErnieModelForPretraining",
    "ErnieForMaskedLM": "ErnieModelForPretraining",
    "ErnieForNextSentencePrediction": "ErnieModelForPretraining",
    "ErnieForSequenceClassification": "ErnieModelForSequenceClassification",
    "ErnieForTokenClassification": "ErnieModelForTokenClassification",
    "ErnieForQuestionAnswering": "ErnieModelForQuestionAnswering",
    "BertModel": "ErnieModel",
    "BertForPreTraining": "ErnieModelForPretraining",
    "BertForSequenceClassification": "ErnieModelForSequenceClassification",
    "BertForTokenClassification": "ErnieModelForTokenClassification",
    "BertForQuestionAnswering": "ErnieModelForQuestionAnswering",
}
"""transformers' class -> paddle-ernie's."""

Found = dict[str, dict[str, Judged]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("paddle-ernie")
    if importlib.util.find_spec("ernie") is None:
        pytest.skip("paddle-ernie is not installed")
    paths = fluid_models(folder, CLASSES, {"use_task_id": False})
    return run_paddle("ernie", paths, ("paddle-ernie", "own"), folder / "asked")


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_computes_every_activation_within_noise(found: Found, name: str) -> None:
    judged = found[name]["paddle-ernie"]
    assert "ran" in judged.answer, judged.answer
    assert judged.answer["ran"]["reference"] == f"paddle-ernie {CLASSES[name]}"
    assert judged.request.config["layer_norm_eps"] == 1e-5
    assert {key for key in judged.units if not key.startswith("layer.")} == {"embeddings", *HEADS[name]}
    assert sum(key.startswith("layer.") for key in judged.units) == 3
    assert max(judged.units.values()) < UNITS, judged.units


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_is_filled_by_fluids_names(found: Found, name: str) -> None:
    ran = found[name]["paddle-ernie"].answer["ran"]
    assert (ran["missing"], ran["unexpected"]) == ([], [])
    assert (ran["third_party"], ran["version"]) == (True, "0.2.0.dev1")
    assert ran["framework"].startswith("paddle ")
    assert ("masked-LM logits" in ran["settings"]) == ("masked_lm" in HEADS[name])


@pytest.mark.parametrize("name", CLASSES)
def test_our_own_encoder_computes_the_same(found: Found, name: str) -> None:
    judged = found[name]["own"]
    assert judged.answer["ran"]["reference"] == "own encoder"
    assert max(judged.units.values()) < UNITS, judged.units


def test_it_is_the_first_reference_of_the_dialect() -> None:
    assert system_of("ernie-fluid").references == ("paddle-ernie", "own")


# -- models as they are released


def released(folder: Path, family: str, act: str, *, task_ids: bool = False, **form: Any) -> Path:
    """Write a model of trained-like weights in fluid's form; a task embedding that is not used is kept by ERNIE."""
    folder.mkdir(parents=True, exist_ok=True)
    source = write_model(folder / "hf", {"bert": BERT, "ernie": ERNIE}[family], PRETRAINED, 5, draw=realistic)
    reword(source / "config.json", hidden_act=act)
    interlingua.convert(source, folder / "fluid", to="ernie-fluid", sync=False, **form)
    if family == "ernie":
        reword(folder / "fluid" / "ernie_config.json", use_task_id=task_ids)
    return folder / "fluid"


def reword(path: Path, **values: object) -> None:
    """Put values into a configuration."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("releases")
    if importlib.util.find_spec("ernie") is None:
        pytest.skip("paddle-ernie is not installed")
    paths = {
        "1.0": released(folder / "1.0", "ernie", "relu"),
        "2.0": released(folder / "2.0", "ernie", "gelu"),
        "2.0, pickled": released(folder / "pickled", "ernie", "gelu", container="paddle-pickle"),
        "2.0 with task ids": released(folder / "tasks", "ernie", "gelu", task_ids=True),
        "BERT": released(folder / "bert", "bert", "gelu"),
        "swish": released(folder / "swish", "bert", "silu"),
        "dygraph": saved_by_the_package(folder / "dygraph"),
    }
    return run_paddle("ernie", paths, ("paddle-ernie", "own"), folder / "asked")


SAVE = """
import json, sys
from pathlib import Path
import paddle
import ernie

paddle.seed(3)
folder = Path(sys.argv[1])
folder.mkdir(parents=True)
config = dict(
    vocab_size=37, hidden_size=12, num_hidden_layers=3, num_attention_heads=6, intermediate_size=20,
    max_position_embeddings=17, type_vocab_size=2, hidden_act="relu", hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1, initializer_range=0.25,
)
model = ernie.ErnieModelForPretraining(config, name="")
for name, parameter in model.state_dict().items():
    gamma = name.startswith(("ln.weight", "mlm_ln.weight")) or ".ln1.weight" in name or ".ln2.weight" in name
    parameter.set_value(paddle.randn(parameter.shape) * 0.25 + (1.0 if gamma else 0.0))
paddle.save(model.state_dict(), str(folder / "saved_weights.pdparams"))
(folder / "ernie_config.json").write_text(json.dumps(config))
"""


def saved_by_the_package(folder: Path) -> Path:
    """Have the package save a model of its own, as its users do."""
    run_in("ernie", SAVE, folder)
    return folder


@pytest.mark.parametrize("name", ["1.0", "2.0", "2.0, pickled", "BERT", "dygraph"])
def test_a_model_like_those_released_is_computed_within_noise(releases: Found, name: str) -> None:
    judged = releases[name]["paddle-ernie"]
    assert "ran" in judged.answer, judged.answer
    assert set(judged.units) == {"embeddings", "layer.0", "layer.1", "layer.2", *PRETRAINED}
    assert max(judged.units.values()) < UNITS, judged.units
    ran = judged.answer["ran"]
    unused = ["task_embedding"] if name == "2.0, pickled" else []
    assert (ran["missing"], ran["unexpected"]) == ([], unused)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("2.0 with task ids", "does not compute with task_embedding"), ("swish", "has no activation swish")],
)
def test_what_the_package_does_not_compute_is_left_to_our_own(releases: Found, name: str, reason: str) -> None:
    assert reason in releases[name]["paddle-ernie"].answer["refused"][0][1]
    assert max(releases[name]["own"].units.values()) < UNITS


LOAD = """
import sys
import numpy as np
import paddle
import ernie

folder, batches, output = sys.argv[1:]
load = paddle.load
paddle.load = lambda path: load(str(path))  # Paddle 3 takes the Path that the package gives it for an open file.
model = ernie.ErnieModel.from_pretrained(folder)
model.eval()
with np.load(batches) as file, paddle.no_grad():
    pooled, encoded = model(
        paddle.to_tensor(file["hard/input_ids"]),
        sent_ids=paddle.to_tensor(file["hard/token_type_ids"]),
        input_mask=paddle.to_tensor(file["hard/attention_mask"].astype("float32")),
    )
np.savez(output, pooled=pooled.numpy(), encoded=encoded.numpy())
"""


def test_what_runs_is_what_the_packages_own_loader_gives(releases: Found, tmp_path: Path) -> None:
    request = releases["dygraph"]["paddle-ernie"].request
    run_in("ernie", LOAD, Path(request.weights).parent, request.batches, tmp_path / "theirs.npz")
    ours = activations(request)
    with np.load(tmp_path / "theirs.npz") as theirs:
        np.testing.assert_array_equal(ours["hard/layer.2"], theirs["encoded"])
        np.testing.assert_array_equal(ours["hard/pooler"], theirs["pooled"])


# -- what it must not let pass


def nudge(path: Path, variable: str, target: Path) -> Path:
    """Copy a model of fluid and add to the last element of a variable."""
    shutil.copytree(path, target)
    file = target / "params" / variable
    data = file.read_bytes()
    last = np.frombuffer(data[-4:], "<f4") + np.float32(1e-3)
    file.write_bytes(data[:-4] + last.tobytes())
    return target


FIRST = {
    "word_embedding": "embeddings",
    "encoder_layer_1_ffn_fc_0.b_0": "layer.1",
    "pooled_fc.w_0": "pooler",
    "mask_lm_trans_fc.w_0": "masked_lm",
    "next_sent_fc.b_0": "next_sentence",
}
"""Variable -> the first activation in which it shows."""


@pytest.mark.parametrize("variable", FIRST)
def test_one_element_that_is_wrong_is_seen(releases: Found, tmp_path: Path, variable: str) -> None:
    judged = releases["2.0"]["paddle-ernie"]
    good = Path(judged.request.weights).parent
    units = units_of(nudge(good, variable, tmp_path / "broken"), judged.request)
    order = [name for name in ("embeddings", "layer.0", "layer.1", "layer.2", *PRETRAINED) if units[name] >= UNITS]
    assert order[0] == FIRST[variable], units


@pytest.mark.parametrize(
    ("name", "convention"),
    [("1.0", {"layer_norm_eps": 1e-12}), ("1.0", {"hidden_act": "gelu"}), ("2.0", {"hidden_act": "gelu_tanh"})],
)
def test_another_convention_than_fluids_is_seen(releases: Found, name: str, convention: dict[str, Any]) -> None:
    judged = releases[name]["paddle-ernie"]
    units = units_of(Path(judged.request.weights).parent, judged.request, **convention)
    assert units["layer.0"] > UNITS, units


def test_what_cannot_run_is_refused_by_name(releases: Found, tmp_path: Path) -> None:
    whole = releases["2.0"]["paddle-ernie"].request
    absent = {"embeddings.LayerNorm.bias": replace(whole.recipes["embeddings.LayerNorm.bias"], pieces=())}
    changes: list[dict[str, Any]] = [
        {"dialect": "paddle"},
        {"dtype": "float16"},
        {"heads": (*whole.heads, "multiple_choice")},
        # Without the recipe of a variable, its file is not loaded.
        {"recipes": {**whole.recipes, **absent}},
        {"native_config": {**whole.native_config, "vocab_size": 36}},
    ]
    asked = [replace(whole, output=str(tmp_path / f"{number}.npz"), **change) for number, change in enumerate(changes)]
    reasons = [answer["refused"][0][1] for answer in answers("ernie", asked)]
    assert reasons == [
        "paddle-ernie does not load the names of paddle",
        "paddle-ernie's models are run in float32 only, and float16 is asked for",
        "paddle-ernie has no class for multiple_choice",
        "ErnieModelForPretraining does not find 1 tensors, ln.bias the first",
        "ErnieModelForPretraining did not take mlm_bias",
    ]


def test_another_package_of_that_name_is_not_taken_for_it(tmp_path: Path) -> None:
    code = """
import importlib.metadata, json, sys
from pathlib import Path
def none(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = none
from interlingua.verify.encoders import worker
print("ANSWERS", json.dumps(worker._answer(worker.load_request(Path(sys.argv[1])))))
"""
    path = released(tmp_path / "model", "bert", "gelu")
    request = make_request(path, tmp_path / "asked", "paddle", ["paddle-ernie"])
    request.dump(tmp_path / "request.json")
    answer = json.loads(run_in("paddle", code, tmp_path / "request.json").partition("ANSWERS ")[2])
    ((reference, reason),) = answer["refused"]
    assert reference == "paddle-ernie"
    assert reason.startswith("paddle-ernie is not installed")


def test_a_real_model_is_computed_within_noise(minilm: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("ernie") is None:
        pytest.skip("paddle-ernie is not installed")
    interlingua.convert(minilm, tmp_path / "fluid", to="ernie-fluid", sync=False)
    judged = run_paddle("ernie", {"minilm": tmp_path / "fluid"}, ("paddle-ernie",), tmp_path / "asked")["minilm"]
    assert max(judged["paddle-ernie"].units.values()) < UNITS, judged["paddle-ernie"].units
