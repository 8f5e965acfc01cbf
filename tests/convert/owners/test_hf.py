"""Every family and head of transformers: recognised as what it is, and loaded again without a key too many."""

from __future__ import annotations

import json

import pytest

from tests.frameworks import run_in

BASE = {
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
ALBERT = {name: heads for name, heads in BASE.items() if name != "ForNextSentencePrediction"}
FAMILIES = {
    "Bert": ("bert", BASE),
    "Ernie": ("ernie", BASE),
    "Nezha": ("nezha", BASE),
    "Roberta": ("roberta", ROBERTA),
    "XLMRoberta": ("xlm-roberta", ROBERTA),
    "Albert": ("albert", {**ALBERT, "ForPreTraining": ["pooler", "masked_lm", "sentence_order"]}),
    "Electra": ("electra", {**UNPOOLED, "ForPreTraining": ["replaced_token_detection"]}),
    "DistilBert": ("distilbert", UNPOOLED),
}
"""Prefix of transformers' classes -> family, and class -> heads."""

CASES = [f"{prefix}{name}" for prefix, (_, models) in FAMILIES.items() for name in models]

RUN = """
import contextlib, io, json, sys
from pathlib import Path
import torch, transformers
import interlingua

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
folder, families = Path(sys.argv[1]), json.loads(sys.argv[2])
torch.manual_seed(0)

SIZES = dict(
    vocab_size=37, hidden_size=12, num_hidden_layers=3, num_attention_heads=6, intermediate_size=20,
    max_position_embeddings=17, type_vocab_size=3, hidden_act="gelu_new", layer_norm_eps=1e-5, num_labels=5,
)
MORE = {
    "Ernie": dict(use_task_id=True, task_type_vocab_size=4),
    "Albert": dict(embedding_size=7, num_hidden_groups=2, num_hidden_layers=4),
    "Electra": dict(embedding_size=7),
    "Nezha": dict(max_relative_position=5),
}
DISTILBERT = dict(
    vocab_size=37, dim=12, n_layers=3, n_heads=6, hidden_dim=20, max_position_embeddings=17, activation="relu",
    num_labels=5,
)

def make(prefix, name, path):
    cls = getattr(transformers, prefix + name, None)
    if cls is None:
        return None
    sizes = DISTILBERT if prefix == "DistilBert" else {**SIZES, **MORE.get(prefix, {})}
    if "Question" in name or "PreTraining" in name:
        sizes = {**sizes, "num_labels": 2}
    model = cls(getattr(transformers, prefix + "Config")(**sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.save_pretrained(path)
    return model

def equal(model, path):
    again, info = type(model).from_pretrained(path, output_loading_info=True)
    faults = sorted(str(key) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in info[kind])
    mine, theirs = model.state_dict(), again.state_dict()
    values = [name for name in mine if not torch.equal(mine[name], theirs[name])]
    configs = [found.config.to_dict() for found in (model, again)]
    for config in configs:
        for key in ("_name_or_path", "dtype", "torch_dtype"):
            config.pop(key, None)
    return faults, values, configs[0] == configs[1]

found = {}
for prefix, (family, models) in families.items():
    for name in models:
        path = folder / (prefix + name)
        model = make(prefix, name, path)
        if model is None:
            continue
        with interlingua.open(path) as seen:
            leftovers = dict(seen.match.leftovers) if seen.match else str(seen.problem)
            what = [seen.dialect, seen.family, list(seen.heads), leftovers]
        if seen.match is None:
            found[prefix + name] = what + [([], [], True)] * 2
            continue
        interlingua.convert(path, path / "bin", to="hf", container="torch-zip")
        interlingua.convert(path / "bin", path / "again", to="hf")
        found[prefix + name] = what + [equal(model, path / "bin"), equal(model, path / "again")]
print("FOUND", json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    out = run_in("transformers", RUN, tmp_path_factory.mktemp("hf"), json.dumps(FAMILIES))
    return json.loads(out.partition("FOUND ")[2])


@pytest.mark.parametrize("case", CASES)
def test_a_model_of_transformers_is_known_and_loads_again(found: dict, case: str) -> None:
    if case not in found:
        pytest.skip(f"this version of transformers has no {case}")
    prefix = max((prefix for prefix in FAMILIES if case.startswith(prefix)), key=len)
    family, models = FAMILIES[prefix]
    dialect, seen, heads, leftovers, as_bin, again = found[case]
    assert (dialect, seen, leftovers) == ("hf", family, {})
    assert heads == models[case.removeprefix(prefix)]
    for missing_or_unexpected, values, config_is_the_same in (as_bin, again):
        assert missing_or_unexpected == []
        assert values == []
        assert config_is_the_same
