"""Held against the code of UER-py and of TencentPretrain, whose checkouts INTERLINGUA_UER and
INTERLINGUA_TENCENTPRETRAIN name: their models, and UER-py's own conversion scripts.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.frameworks import run_in

CHECKOUTS = {"uer": "INTERLINGUA_UER", "tencentpretrain": "INTERLINGUA_TENCENTPRETRAIN"}

CASES = ("bert", "bert-untied", "bert-mlm", "albert", "cls", "classifier", "albert-classifier", "ner", "cmrc")

CLASSES = {
    "bert": "BertForPreTraining",
    "bert-untied": "BertForPreTraining",
    "bert-mlm": "BertForMaskedLM",
    "albert": "AlbertForPreTraining",
    "cls": "BertForSequenceClassification",
    "classifier": "BertForSequenceClassification",
    "albert-classifier": "AlbertForSequenceClassification",
    "ner": "BertForTokenClassification",
    "cmrc": "BertForQuestionAnswering",
}

RUN = """
import importlib, json, os, subprocess, sys
from argparse import Namespace
from pathlib import Path
import torch, transformers
sys.path.insert(0, sys.argv[3])
dialect, folder, checkout = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
classes = json.loads(sys.argv[4])
import interlingua

torch.manual_seed(0)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
os.chdir(checkout)  # Its modules read a file of theirs when they are imported.
package = importlib.import_module({"uer": "uer", "tencentpretrain": "tencentpretrain"}[dialect])
def module(name):
    return importlib.import_module(f"{package.__name__}.{name}")
builder = module("model_builder")

def args_of(case):
    albert = case.startswith("albert")
    config = {
        "emb_size": 6 if albert else 12, "feedforward_size": 20, "hidden_size": 12,
        "hidden_act": "relu" if albert else "gelu", "heads_num": 3, "layers_num": 2, "max_seq_length": 17,
        "dropout": 0.1, "data_processor": "albert" if albert else "bert", "embedding": ["word", "pos", "seg"],
        "encoder": "transformer", "mask": "fully_visible",
        "target": {"bert-mlm": ["mlm"], "cls": ["cls"]}.get(case, ["mlm", "sp"]),
    }
    if albert:
        config |= {"factorized_embedding_parameterization": True, "parameter_sharing": True}
    elif case != "bert-untied":
        config |= {"tie_weights": True}
    if dialect == "tencentpretrain":
        config |= {"layernorm_eps": 1e-6}
    silent = {
        "factorized_embedding_parameterization": False, "parameter_sharing": False, "tie_weights": False,
        "layernorm_positioning": "post", "relative_position_embedding": False, "has_residual_attention": False,
        "remove_transformer_bias": False, "remove_attention_scale": False, "remove_embedding_layernorm": False,
        "layernorm": "normal", "feed_forward": "dense", "decoder": None, "pooling": "first", "labels_num": 5,
        "soft_targets": False, "soft_alpha": 0.5, "crf_target": False, "rotary_position_embedding": False,
        "layernorm_eps": 1e-6, "use_lora": False, "relative_attention_buckets_num": 32,
        "alibi_position_embedding": False, "layer_number_scale": False,
    }
    labels = {"labels_num": 5} if case in ("cls", "classifier", "albert-classifier", "ner") else {}
    vocabulary = Namespace(vocab=list(range(37)))
    return config | labels, Namespace(**{**silent, **config, "tokenizer": vocabulary})

def build(case):
    config, args = args_of(case)
    places = {
        "classifier": ("run_classifier", "Classifier"), "albert-classifier": ("run_classifier", "Classifier"),
        "ner": ("run_ner", "NerTagger"), "cmrc": ("run_cmrc", "MachineReadingComprehension"),
    }
    if case in places:
        file, kind = places[case]
        model = getattr(importlib.import_module(f"finetune.{file}"), kind)(args)
    else:
        model = builder.build_model(args)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return config, model.eval()

# The one thing that the two systems compute differently from the same weights: set equal.
def layer_norm(self, x):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], self.gamma, self.beta, 1e-12)

module("layers.layer_norm").LayerNorm.forward = layer_norm
words = torch.tensor([[2, 5, 36, 7, 1, 1], [9, 3, 4, 4, 30, 11]])
types = torch.tensor([[0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1]])

def theirs_computes(case, model):
    hidden = model.encoder(model.embedding(words, types + 1), types + 1)
    if case in ("classifier", "albert-classifier"):
        return [hidden, model.output_layer_2(torch.tanh(model.output_layer_1(hidden[:, 0])))]
    if case in ("ner", "cmrc"):
        logits = model.output_layer(hidden)
        return [hidden, logits] if case == "ner" else [hidden, logits[..., 0], logits[..., 1]]
    found = [hidden]
    target = model.target
    if case == "cls":
        return [hidden, target.cls.linear_2(torch.tanh(target.cls.linear_1(hidden[:, 0])))]
    mlm = target.mlm
    found.append(mlm.linear_2(mlm.layer_norm(mlm.act(mlm.linear_1(hidden)))))
    if "sp" in target.target_name_list:
        found.append(target.sp.linear_2(torch.tanh(target.sp.linear_1(hidden[:, 0]))))
    return found

def ours_computes(model):
    found = model(words, token_type_ids=types, output_hidden_states=True)
    heads = [getattr(found, n) for n in ("prediction_logits", "seq_relationship_logits", "sop_logits", "logits",
             "start_logits", "end_logits") if getattr(found, n, None) is not None]
    return [found.hidden_states[-1], *heads]

def equal(a, b):
    return sorted(a) == sorted(b) and all(torch.equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a)

def loaded(path):
    return torch.load(path / "pytorch_model.bin", weights_only=True)

def script(name, source, target, *more):
    done = subprocess.run([sys.executable, str(checkout / "scripts" / name), "--input_model_path", str(source),
        "--output_model_path", str(target), *more], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return torch.load(target, weights_only=True)

result = {}
for case in classes:
    config, model = build(case)
    place = folder / case
    (place / "native").mkdir(parents=True)
    torch.save(model.state_dict(), place / "native" / "pytorch_model.bin")
    (place / "native" / "config.json").write_text(json.dumps(config))
    for source, target, to, more in (
        ("native", "hf", "hf", {}), ("native", "hf bin", "hf", {"container": "torch-zip"}), ("hf", "back", dialect, {}),
    ):
        interlingua.convert(place / source, place / target, to=to, sync=False, **more)
    kind = getattr(transformers, classes[case])
    other, info = kind.from_pretrained(place / "hf", output_loading_info=True)
    other.eval()
    with torch.no_grad():
        pairs = list(zip(theirs_computes(case, model), ours_computes(other), strict=True))
    # What transformers itself saves, as its users have it: no residue, no trace of the other system.
    other.save_pretrained(place / "saved")
    interlingua.convert(place / "saved", place / "from saved", to=dialect, sync=False)
    again = build(case)[1]
    fresh = loaded(place / "from saved")
    native = loaded(place / "native")
    names = again.load_state_dict(fresh, strict=False)
    expected = dict(native)
    expected["embedding.seg.embedding.weight"] = native["embedding.seg.embedding.weight"].clone()
    expected["embedding.seg.embedding.weight"][0] = 0
    renamed = {n.replace("target.cls.linear_", "output_layer_"): t for n, t in expected.items()}
    back = {n.replace("target.cls.linear_", "output_layer_"): t for n, t in native.items()}
    result[case] = {
        "info": {key: sorted(map(str, value)) for key, value in info.items() if value},
        "difference": max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs),
        "outputs": len(pairs),
        "names": [sorted(names.missing_keys), sorted(names.unexpected_keys)],
        "weights": equal(fresh, renamed),
        "round trip": equal(loaded(place / "back"), back),
        "config": (place / "back" / "config.json").read_bytes() == (place / "native" / "config.json").read_bytes(),
        "act": other.config.hidden_act,
    }

if dialect == "uer":
    for case, family in (("bert", "bert"), ("albert", "albert")):
        place = folder / case
        layers = ["--layers_num", "2"] if family == "bert" else []
        to_hf = script(f"convert_{family}_from_uer_to_huggingface.py", place / "native" / "pytorch_model.bin",
                       place / "script.bin", *layers)
        ours = loaded(place / "hf bin")
        to_uer = script(f"convert_{family}_from_huggingface_to_uer.py", place / "hf bin" / "pytorch_model.bin",
                        place / "script back.bin", *layers)
        interlingua.convert(place / "hf bin", place / "ours back", to="uer", sync=False, residue="drop")
        from_hf = loaded(place / "ours back")
        result[case + " script"] = {
            "only ours": sorted(set(ours) - set(to_hf)),
            "only theirs": sorted(set(to_hf) - set(ours)),
            "equal": all(torch.equal(ours[n], to_hf[n]) for n in set(ours) & set(to_hf)),
            "names back": sorted(set(from_hf) ^ set(to_uer)),
            "different back": [n for n in to_uer if n in from_hf and not torch.equal(from_hf[n], to_uer[n])],
        }
print(json.dumps(result))
"""


@pytest.fixture(scope="module", params=CHECKOUTS)
def system(request: pytest.FixtureRequest) -> str:
    if not os.environ.get(CHECKOUTS[request.param]):
        pytest.skip(f"{CHECKOUTS[request.param]} names no checkout of {request.param}")
    return request.param


@pytest.fixture(scope="module")
def results(system: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    folder: Path = tmp_path_factory.mktemp(system)
    printed = run_in("transformers", RUN, system, folder, os.environ[CHECKOUTS[system]], json.dumps(CLASSES))
    return json.loads(printed.splitlines()[-1])


@pytest.mark.parametrize("case", CASES)
def test_transformers_computes_what_the_owners_model_does(results, case: str) -> None:
    assert results[case]["info"] == {}
    assert results[case]["difference"] < 5e-6
    assert results[case]["outputs"] == {"bert": 3, "bert-untied": 3, "albert": 3, "cmrc": 3}.get(case, 2)


@pytest.mark.parametrize("case", CASES)
def test_the_owners_model_loads_what_transformers_saved(results, case: str) -> None:
    targets = [f"target.cls.linear_{n}.{part}" for n in (1, 2) for part in ("bias", "weight")]
    layers = [f"output_layer_{n}.{part}" for n in (1, 2) for part in ("bias", "weight")]
    # The target that pretrains a classifier is written as the classifier that it is fine-tuned to.
    assert results[case]["names"] == ([targets, layers] if case == "cls" else [[], []])
    assert results[case]["weights"]


@pytest.mark.parametrize("case", CASES)
def test_the_way_there_and_back_changes_nothing(results, case: str) -> None:
    assert results[case]["round trip"]
    assert results[case]["config"]


def test_the_activation_travels_as_it_is_stated(results) -> None:
    assert results["albert"]["act"] == "relu"


@pytest.mark.parametrize("system", ["uer"], indirect=True)
@pytest.mark.parametrize("family", ["bert", "albert"])
def test_the_owners_conversion_scripts_say_the_same(results, family: str) -> None:
    found = results[f"{family} script"]
    # Its script leaves the decoder's bias out, which transformers' own file has under both names.
    assert found["only ours"] == (["cls.predictions.decoder.bias"] if family == "bert" else [])
    assert found["only theirs"] == []
    assert found["equal"]
    assert found["names back"] == []
    # It puts zeros where the padding's segment was; what was kept of it comes back here.
    assert found["different back"] == ["embedding.seg.embedding.weight"]
