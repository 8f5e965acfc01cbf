"""Held against transformers itself: what it saves is read, and what is written it loads, without a key too many."""

from __future__ import annotations

import fcntl
import json
import os
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
CASES = [
    f"{name}-{tied}" for name in MODELS for tied in ("tied", "untied") if tied == "tied" or "masked_lm" in MODELS[name]
]
"""Every class, and with ``tie_word_embeddings`` off those to which it matters."""

RUN = """
import json, sys
from pathlib import Path
import torch, transformers
import interlingua

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
folder, labels, minilm, cases = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
torch.manual_seed(0)

def make(case):
    name, tied = case.split("-")
    config = transformers.BertConfig(
        vocab_size=37, hidden_size=12, num_hidden_layers=3, num_attention_heads=6, intermediate_size=20,
        max_position_embeddings=17, num_labels=2 if "Question" in name else labels, tie_word_embeddings=tied == "tied",
        hidden_act="gelu_new", layer_norm_eps=1e-5, architectures=[name],
    )
    model = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.save_pretrained(folder / case / "safetensors")
    model.save_pretrained(folder / case / "sharded", max_shard_size="6KB")
    (folder / case / "bin").mkdir()
    torch.save(model.state_dict(), folder / case / "bin" / "pytorch_model.bin")
    config.save_pretrained(folder / case / "bin")
    return model

def go_round(case):
    def convert(source, target, to, **options):
        interlingua.convert(folder / case / source, folder / case / target, to=to, sync=False, **options)

    for saved in ("safetensors", "sharded", "bin"):
        convert(saved, f"uer {saved}", "uer")
        convert(f"uer {saved}", f"back {saved}", "hf")
    if "PreTraining" in case:
        convert("uer bin", "back as bin", "hf", container="torch-zip")
        convert("uer bin", "back in shards", "hf", max_shard_size=5000)
        convert("bin", "back straight", "hf", container="safetensors")

def loaded(kind, place):
    model, info = kind.from_pretrained(place, output_loading_info=True)
    return model.eval(), {key: sorted(map(str, value)) for key, value in info.items() if value}

inputs = {
    "input_ids": torch.tensor([[2, 5, 36, 7, 1, 1], [9, 3, 4, 4, 30, 11]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]),
    "token_type_ids": torch.tensor([[0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1]]),
}

def outputs(model):
    with torch.no_grad():
        found = model(**inputs)
    return [value for value in found.to_tuple() if isinstance(value, torch.Tensor)]

def compare(original, place, kind):
    model, info = loaded(kind, place)
    ours, theirs, config = model.state_dict(), original.state_dict(), original.config.to_dict()
    return {
        "info": info,
        "missing in AutoModel": loaded(transformers.AutoModel, place)[1].get("missing_keys", []),
        "names": sorted(ours) == sorted(theirs),
        "weights": [name for name in theirs if not torch.equal(ours[name], theirs[name])],
        "outputs": all(torch.equal(a, b) for a, b in zip(outputs(model), outputs(original), strict=True)),
        "config": [key for key, value in model.config.to_dict().items() if value != config.get(key)],
    }

result = {}
for case in cases:
    original = make(case)
    go_round(case)
    for place in sorted((folder / case).glob("back *")):
        result[f"{case}/{place.name}"] = compare(original, place, type(original))
if minilm:
    interlingua.convert(minilm, folder / "minilm uer", to="uer", sync=False)
    interlingua.convert(folder / "minilm uer", folder / "minilm back", to="hf", sync=False)
    original, info = loaded(transformers.AutoModel, minilm)
    result["minilm"] = {**compare(original, folder / "minilm back", transformers.AutoModel), "info of the source": info}
print(json.dumps(result))
"""


BACK = [
    *((case, f"back {saved}") for case in CASES for saved in ("safetensors", "sharded", "bin")),
    *((case, f"back {how}") for case in CASES if "PreTraining" in case for how in ("as bin", "in shards", "straight")),
]
"""What comes back from UER, or straight from one container into another, by the folder's name."""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Models as transformers saves them, each taken to UER and back, and ``results.json`` of what it says then.

    Made once for all processes that run tests: transformers takes long to start.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = tmp_path_factory.getbasetemp().parent / f"transformers-{run}"
    folder.mkdir(exist_ok=True)
    try:
        minilm = str(request.getfixturevalue("minilm"))
    except pytest.skip.Exception:
        minilm = ""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "results.json").exists():
            found = run_in("transformers", RUN, folder, str(SMALL.labels), minilm, *CASES)
            (folder / "results.json").write_text(found)
    return folder


@pytest.fixture(scope="session")
def results(made: Path) -> dict[str, dict[str, object]]:
    return json.loads((made / "results.json").read_text())


@pytest.mark.parametrize(("case", "back"), BACK)
def test_transformers_loads_what_is_written_without_missing_or_unexpected_keys(results, case: str, back: str) -> None:
    assert results[f"{case}/{back}"]["info"] == {}
    # A bare model is made with a pooler, whether or not the one that was saved has it.
    missing = results[f"{case}/{back}"]["missing in AutoModel"]
    assert missing in (
        [],
        ["pooler.dense.bias", "pooler.dense.weight"] if "pooler" not in MODELS[case.split("-")[0]] else [],
    )


@pytest.mark.parametrize(("case", "back"), BACK)
def test_weights_outputs_and_configuration_are_what_they_were(results, case: str, back: str) -> None:
    found = results[f"{case}/{back}"]
    assert found["names"]
    assert found["weights"] == []
    assert found["outputs"]
    assert found["config"] in ([], ["_name_or_path"])


@pytest.mark.parametrize("case", CASES)
def test_all_ways_of_saving_are_the_same_model(made: Path, case: str) -> None:
    heads = MODELS[case.split("-")[0]]
    digests = set()
    for place in (made / case).iterdir():
        with interlingua.open(place) as checkpoint:
            assert checkpoint.heads == heads
            digests.add(interlingua.fingerprint(checkpoint).model)
    assert len(digests) == 1


@pytest.mark.parametrize("case", CASES)
def test_the_tensors_are_those_of_transformers_bit_for_bit(made: Path, case: str) -> None:
    original = read_safetensors(made / case / "safetensors" / "model.safetensors")
    back = read_safetensors(made / case / "back safetensors" / "model.safetensors")
    assert sorted(back) == sorted(original)
    assert all(back[name].tobytes() == original[name].tobytes() for name in original)
    if "PreTraining" in case:
        state = read_torch(made / case / "bin" / "pytorch_model.bin")
        as_bin = read_torch(made / case / "back as bin" / "pytorch_model.bin")
        assert sorted(as_bin) == sorted(state)
        assert all(as_bin[name].tobytes() == state[name].tobytes() for name in state)


@pytest.mark.parametrize("case", CASES)
def test_the_names_in_uer_are_exactly_those_of_its_own_model(made: Path, case: str) -> None:
    heads = MODELS[case.split("-")[0]]
    names = [*shapes(heads), *([DECODER] if "masked_lm" in heads else [])]
    for saved in ("safetensors", "sharded", "bin"):
        found = weights_of(made / case / f"uer {saved}")
        assert sorted(found) == sorted(uer_name(name, heads) for name in names)
        assert found["embedding.seg.embedding.weight"].shape == (3, 12)
        assert not found["embedding.seg.embedding.weight"][0].any()


def test_minilm_comes_back_as_it_was(minilm: Path, results) -> None:
    found = results["minilm"]
    assert found["info"] == found["info of the source"] == {}
    assert found["names"]
    assert found["weights"] == []
    assert found["outputs"]
    assert found["config"] in ([], ["_name_or_path"])
