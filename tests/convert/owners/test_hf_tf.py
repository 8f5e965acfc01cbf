"""Every family and head of transformers' Keras classes, against those classes: both ways, and back."""

from __future__ import annotations

import json

import pytest

from tests.frameworks import run_in

BERT = {
    "Model": ["pooler"],
    "ForPreTraining": ["pooler", "masked_lm", "next_sentence"],
    "ForMaskedLM": ["masked_lm"],
    "ForNextSentencePrediction": ["pooler", "next_sentence"],
    "ForSequenceClassification": ["pooler", "sequence_classification"],
    "ForMultipleChoice": ["pooler", "multiple_choice"],
    "ForTokenClassification": ["token_classification"],
    "ForQuestionAnswering": ["span_qa"],
}
UNPOOLED = {
    "Model": [],
    "ForMaskedLM": ["masked_lm"],
    "ForSequenceClassification": ["sequence_classification"],
    "ForMultipleChoice": ["multiple_choice"],
    "ForTokenClassification": ["token_classification"],
    "ForQuestionAnswering": ["span_qa"],
}
ROBERTA = {**UNPOOLED, "Model": ["pooler"], "ForMultipleChoice": ["pooler", "multiple_choice"]}
ALBERT = {name: heads for name, heads in BERT.items() if name != "ForNextSentencePrediction"}
FAMILIES = {
    "Bert": ("bert", BERT),
    "Albert": ("albert", {**ALBERT, "ForPreTraining": ["pooler", "masked_lm", "sentence_order"]}),
    "Roberta": ("roberta", ROBERTA),
    "XLMRoberta": ("xlm-roberta", ROBERTA),
    "Electra": ("electra", {**UNPOOLED, "ForPreTraining": ["replaced_token_detection"]}),
    "DistilBert": ("distilbert", UNPOOLED),
}
"""Prefix of transformers' classes -> family, and class -> heads."""

CASES = [f"{prefix}{name}" for prefix, (_, models) in FAMILIES.items() for name in models]

RUN = """
import os
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import json, sys
from pathlib import Path
import numpy as np
import tensorflow as tf, torch, transformers
import h5py
from transformers.modeling_tf_pytorch_utils import load_tf2_model_in_pytorch_model
import interlingua

transformers.logging.set_verbosity_error()
folder, families = Path(sys.argv[1]), json.loads(sys.argv[2])
torch.manual_seed(0)
rng = np.random.default_rng(0)

SIZES = dict(
    vocab_size=37, hidden_size=12, num_hidden_layers=2, num_attention_heads=6, intermediate_size=20,
    max_position_embeddings=17, type_vocab_size=2, hidden_act="gelu_new", num_labels=5,
)
MORE = {
    "Albert": dict(embedding_size=7, num_hidden_groups=1, num_hidden_layers=2),
    "Electra": dict(embedding_size=7),
}
DISTILBERT = dict(
    vocab_size=37, dim=12, n_layers=2, n_heads=6, hidden_dim=20, max_position_embeddings=17, activation="relu",
    num_labels=5,
)

def config_of(prefix, name):
    sizes = DISTILBERT if prefix == "DistilBert" else {**SIZES, **MORE.get(prefix, {})}
    if "Question" in name or "PreTraining" in name:
        sizes = {**sizes, "num_labels": 2}
    return getattr(transformers, prefix + "Config")(**sizes)

def outputs(model, name, torch_tensors):
    ids = rng_ids.reshape(2, 2, 4) if "MultipleChoice" in name else rng_ids.reshape(2, 8)
    if torch_tensors:
        with torch.no_grad():
            found = model(torch.from_numpy(ids)).to_tuple()
        return [value.numpy() for value in found]
    return [value.numpy() for value in model(tf.constant(ids), training=False).to_tuple()]

rng_ids = np.random.default_rng(1).integers(3, 37, 16)

def worst(mine, theirs):
    assert [a.shape for a in mine] == [b.shape for b in theirs]
    return max(float(np.abs(a - b).max() / max(1.0, np.abs(b).max())) for a, b in zip(mine, theirs))

def faults(info):
    # A dropout layer has a number that counts every one made in the process: transformers' own files lack it too.
    found = [str(k) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for k in info[kind]]
    return sorted(key for key in found if not key.startswith("dropout_"))

def contents(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found

def same(mine, theirs):
    return sorted({name for name in mine.keys() | theirs.keys() if name not in mine or name not in theirs
                   or not np.array_equal(mine[name], theirs[name])})

def from_keras(prefix, name, path):
    model = getattr(transformers, "TF" + prefix + name)(config_of(prefix, name))
    model.build_in_name_scope()
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    model.save_pretrained(path)
    with interlingua.open(path) as seen:
        what = [seen.dialect, seen.family, list(seen.heads), dict(seen.match.leftovers)]
    interlingua.convert(path, path / "hf", to="hf")
    torch_class = getattr(transformers, prefix + name)
    ours, info = torch_class.from_pretrained(path / "hf", output_loading_info=True, attn_implementation="eager")
    interlingua.convert(path / "hf", path / "again", to="hf-tf")
    # from_pretrained(from_tf=True) of 4.57 leaves the weights on the meta device: this is what it calls.
    theirs = load_tf2_model_in_pytorch_model(torch_class(config_of(prefix, name)), model)
    mine, incumbent = ours.state_dict(), theirs.state_dict()
    return {
        "what": what,
        "faults": faults(info),
        "outputs": worst(outputs(ours.eval(), name, True), outputs(model, name, False)),
        "incumbent": same({k: v.numpy() for k, v in mine.items()}, {k: v.numpy() for k, v in incumbent.items()}),
        "again": same(contents(path / "tf_model.h5"), contents(path / "again" / "tf_model.h5")),
        "config": (path / "config.json").read_bytes() == (path / "again" / "config.json").read_bytes(),
    }

def variables(model):
    return {weight.name.partition("/")[2]: weight.numpy() for weight in model.weights}

def to_keras(prefix, name, path):
    model = getattr(transformers, prefix + name)(config_of(prefix, name)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
    model.save_pretrained(path)
    model.save_pretrained(path / "bin", safe_serialization=False)
    keras_class = getattr(transformers, "TF" + prefix + name)
    incumbent = variables(keras_class.from_pretrained(path / "bin", from_pt=True))
    found = {}
    forms = {"one file": {}, "shards": {"max_shard_size": 4000}, "safetensors": {"container": "safetensors"}}
    if prefix != "Bert":
        forms = {"one file": {}}
    for form, how in forms.items():
        there = path / form
        interlingua.convert(path, there, to="hf-tf", **how)
        keras, info = keras_class.from_pretrained(there, output_loading_info=True)
        found[form] = {
            "faults": faults(info),
            "outputs": worst(outputs(keras, name, False), outputs(model, name, True)),
            "incumbent": same(variables(keras), incumbent),
            "files": sorted(file.name for file in there.iterdir()),
        }
    return found

found = {}
for prefix, (family, models) in families.items():
    for name in models:
        case = prefix + name
        ways = {"from": from_keras, "to": to_keras}
        found[case] = {way: do(prefix, name, folder / way / case) for way, do in ways.items()}
print("FOUND", json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    out = run_in("tf_keras", RUN, tmp_path_factory.mktemp("hf-tf"), json.dumps(FAMILIES), timeout=1200)
    return json.loads(out.partition("FOUND ")[2])


NOISE = 2e-6
"""Largest difference of outputs in float32, of their largest value."""

FORMS = {
    "one file": ["tf_model.h5"],
    "shards": [*(f"tf_model-{number:05}-of-00004.h5" for number in (1, 2, 3, 4)), "tf_model.h5.index.json"],
    "safetensors": ["model.safetensors"],
}

TWO_BIASES = ("AlbertForPreTraining", "AlbertForMaskedLM")
"""ALBERT's masked LM has two biases in Keras, and computes with ``predictions/decoder/bias``. transformers' own
conversion to PyTorch, where they are one, lets the other win, and so changes what such a model computes."""


def expected(case: str) -> tuple[str, list[str]]:
    prefix = max((prefix for prefix in FAMILIES if case.startswith(prefix)), key=len)
    family, models = FAMILIES[prefix]
    return family, models[case.removeprefix(prefix)]


@pytest.mark.parametrize("case", CASES)
def test_a_model_of_keras_loads_in_torch_and_computes_the_same(found: dict, case: str) -> None:
    seen = found[case]["from"]
    family, heads = expected(case)
    dialect, seen_family, seen_heads, leftovers = seen["what"]
    assert (dialect, seen_family, seen_heads) == ("hf-tf", family, heads)
    assert [name.rpartition("predictions/")[2] for name in leftovers] == (["bias:0"] if case in TWO_BIASES else [])
    assert seen["faults"] == []
    assert seen["outputs"] < NOISE


@pytest.mark.parametrize("case", CASES)
def test_tensors_from_keras_are_those_of_transformers_own_conversion(found: dict, case: str) -> None:
    wrong = ["predictions.bias", "predictions.decoder.bias"] if case in TWO_BIASES else []
    assert found[case]["from"]["incumbent"] == wrong


@pytest.mark.parametrize("case", CASES)
def test_a_file_of_keras_comes_back_with_every_variable_under_every_name(found: dict, case: str) -> None:
    assert found[case]["from"]["again"] == []
    assert found[case]["from"]["config"]


@pytest.mark.parametrize("case", CASES)
def test_a_model_of_torch_loads_in_keras_and_equals_transformers_own_conversion(found: dict, case: str) -> None:
    forms = found[case]["to"]
    assert list(forms) == (list(FORMS) if case.startswith("Bert") else ["one file"])
    for seen in forms.values():
        assert seen["faults"] == []
        assert seen["incumbent"] == []
        assert seen["outputs"] < NOISE


@pytest.mark.parametrize("form", FORMS)
def test_the_files_are_called_as_transformers_calls_them(found: dict, form: str) -> None:
    others = ("config.json", "interlingua.residue.safetensors")
    assert [name for name in found["BertModel"]["to"][form]["files"] if name not in others] == FORMS[form]
