"""Held against transformers itself: what it saves is read, and what is written it loads, without a key too many."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import interlingua
from tests.frameworks import run_in
from tests.models import DECODER, SMALL, read_safetensors, read_torch, shapes, uer_name, weights_of

MODELS = {
    "BertModel": ("pooler",),
    "BertForMaskedLM": ("masked_lm",),
    "BertForNextSentencePrediction": ("pooler", "next_sentence"),
    "BertForPreTraining": ("pooler", "masked_lm", "next_sentence"),
    "BertForSequenceClassification": ("pooler", "sequence_classification"),
    "BertForTokenClassification": ("token_classification",),
    "BertForQuestionAnswering": ("span_qa",),
}
CASES = [f"{name}-{tied}" for name in MODELS for tied in ("tied", "untied")]
"""Every class, with ``tie_word_embeddings`` and without."""

SAVED = ("safetensors", "sharded", "bin")

MAKE = """
import sys
from pathlib import Path
import torch, transformers
from transformers import BertConfig

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
folder, labels = Path(sys.argv[1]), int(sys.argv[2])
torch.manual_seed(0)
for case in sys.argv[3:]:
    name, tied = case.split("-")
    config = BertConfig(
        vocab_size=37, hidden_size=12, num_hidden_layers=3, num_attention_heads=6, intermediate_size=20,
        max_position_embeddings=17, num_labels=2 if "Question" in name else labels, tie_word_embeddings=tied == "tied",
        hidden_act="gelu_new", layer_norm_eps=1e-5,
    )
    model = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.save_pretrained(folder / case / "safetensors")
    model.save_pretrained(folder / case / "sharded", max_shard_size="6KB")
    (folder / case / "bin").mkdir()
    torch.save(model.state_dict(), folder / case / "bin" / "pytorch_model.bin")
    config.architectures = [name]
    config.save_pretrained(folder / case / "bin")
"""

LOAD = """
import json, sys
from pathlib import Path
import torch, transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
inputs = {
    "input_ids": torch.tensor([[2, 5, 36, 7, 1, 1], [9, 3, 4, 4, 30, 11]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]),
    "token_type_ids": torch.tensor([[0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1]]),
}

def loaded(kind, folder):
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    return model.eval(), {key: sorted(map(str, value)) for key, value in info.items() if value}

def outputs(model):
    with torch.no_grad():
        found = model(**inputs)
    return [value for value in found.to_tuple() if isinstance(value, torch.Tensor)]

folder, result = Path(sys.argv[1]), {}
for case in sys.argv[2:]:
    kind = getattr(transformers, case.split("-")[0])
    original, _ = loaded(kind, folder / case / "safetensors")
    for place in sorted((folder / case).glob("back *")):
        model, info = loaded(kind, place)
        ours, theirs = model.state_dict(), original.state_dict()
        _, auto = loaded(transformers.AutoModel, place)
        result[f"{case}/{place.name}"] = {
            "info": info,
            "missing in AutoModel": [key for key in auto.get("missing_keys", ()) if "pooler" not in key],
            "names": sorted(ours) == sorted(theirs),
            "weights": [name for name in theirs if not torch.equal(ours[name], theirs[name])],
            "outputs": all(torch.equal(a, b) for a, b in zip(outputs(model), outputs(original), strict=True)),
            "config": model.config.to_dict() == original.config.to_dict(),
        }
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models as transformers saves them, in three ways each."""
    folder = tmp_path_factory.mktemp("transformers")
    run_in("transformers", MAKE, folder, str(SMALL.labels), *CASES)
    return folder


@pytest.fixture(scope="module")
def results(made: Path) -> dict[str, dict[str, object]]:
    """Each of them taken to UER and back, and what transformers says of it then."""
    for case in CASES:
        for saved in SAVED:
            there = made / case / f"uer {saved}"
            interlingua.convert(made / case / saved, there, to="uer", sync=False)
            interlingua.convert(there, made / case / f"back {saved}", to="hf", sync=False)
        interlingua.convert(
            made / case / "uer bin", made / case / "back as bin", to="hf", container="torch-zip", sync=False
        )
        shards = made / case / "back in shards"
        interlingua.convert(made / case / "uer bin", shards, to="hf", max_shard_size=5000, sync=False)
        straight = made / case / "back straight"
        interlingua.convert(made / case / "bin", straight, to="hf", container="safetensors", sync=False)
    return json.loads(run_in("transformers", LOAD, made, *CASES))


BACK = [*(f"back {saved}" for saved in SAVED), "back as bin", "back in shards", "back straight"]


@pytest.mark.parametrize("back", BACK)
@pytest.mark.parametrize("case", CASES)
def test_transformers_loads_what_is_written_without_missing_or_unexpected_keys(results, case: str, back: str) -> None:
    assert results[f"{case}/{back}"]["info"] == {}
    assert results[f"{case}/{back}"]["missing in AutoModel"] == []


@pytest.mark.parametrize("back", BACK)
@pytest.mark.parametrize("case", CASES)
def test_weights_outputs_and_configuration_are_what_they_were(results, case: str, back: str) -> None:
    found = results[f"{case}/{back}"]
    assert found["names"]
    assert found["weights"] == []
    assert found["outputs"]
    assert found["config"]


@pytest.mark.parametrize("case", CASES)
def test_all_ways_of_saving_are_the_same_model(made: Path, results, case: str) -> None:
    heads = MODELS[case.split("-")[0]]
    digests = set()
    for place in (made / case).iterdir():
        with interlingua.open(place) as checkpoint:
            assert checkpoint.heads == heads
            digests.add(interlingua.fingerprint(checkpoint).model)
    assert len(digests) == 1


@pytest.mark.parametrize("case", CASES)
def test_the_tensors_are_those_of_transformers_bit_for_bit(made: Path, results, case: str) -> None:
    original = read_safetensors(made / case / "safetensors" / "model.safetensors")
    back = read_safetensors(made / case / "back safetensors" / "model.safetensors")
    assert sorted(back) == sorted(original)
    assert all(back[name].tobytes() == original[name].tobytes() for name in original)
    state = read_torch(made / case / "bin" / "pytorch_model.bin")
    as_bin = read_torch(made / case / "back as bin" / "pytorch_model.bin")
    assert sorted(as_bin) == sorted(state)
    assert all(as_bin[name].tobytes() == state[name].tobytes() for name in state)


@pytest.mark.parametrize("case", CASES)
def test_the_names_in_uer_are_exactly_those_of_its_own_model(made: Path, results, case: str) -> None:
    heads = MODELS[case.split("-")[0]]
    names = [*shapes(heads), *([DECODER] if "masked_lm" in heads else [])]
    for saved in SAVED:
        found = weights_of(made / case / f"uer {saved}")
        assert sorted(found) == sorted(uer_name(name, heads) for name in names)
        assert found["embedding.seg.embedding.weight"].shape == (3, 12)
        assert not found["embedding.seg.embedding.weight"][0].any()


def test_minilm_loads_without_missing_or_unexpected_keys(minilm: Path, tmp_path: Path) -> None:
    interlingua.convert(minilm, tmp_path / "uer", to="uer", sync=False)
    interlingua.convert(tmp_path / "uer", tmp_path / "hf", to="hf", sync=False)
    code = """
import sys, json, torch, transformers
transformers.logging.set_verbosity_error()
found = []
for folder in sys.argv[1:]:
    model, info = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    ids = torch.tensor([[101, 7592, 2088, 102]])
    with torch.no_grad():
        found.append(model.eval()(ids).last_hidden_state)
    print(json.dumps({key: sorted(map(str, value)) for key, value in info.items() if value}))
print(torch.equal(*found))
"""
    *infos, same = run_in("transformers", code, minilm, tmp_path / "hf").splitlines()
    assert infos == ["{}", "{}"]
    assert same == "True"
