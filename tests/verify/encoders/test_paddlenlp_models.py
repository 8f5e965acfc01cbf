"""PaddleNLP's own classes, run as a reference: every head of every class, and nothing that is not the checkpoint's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import interlingua
from tests.verify.encoders.hf_models import FAMILY, HEADS
from tests.verify.encoders.paddle_models import UNITS, Judged, paddle_models, run_paddle

CLASSES = {
    "BertModel": "BertModel",
    "BertForPreTraining": "BertForPretraining",
    "BertForMaskedLM": "BertForMaskedLM",
    "BertForSequenceClassification": "BertForSequenceClassification",
    "BertForMultipleChoice": "BertForMultipleChoice",
    "BertForTokenClassification": "BertForTokenClassification",
    "BertForQuestionAnswering": "BertForQuestionAnswering",
    "ErnieModel": "ErnieModel",
    "ErnieForPreTraining": "ErnieForPretraining",
    "ErnieForMaskedLM": "ErnieForMaskedLM",
    "ErnieForSequenceClassification": "ErnieForSequenceClassification",
    "ErnieForMultipleChoice": "ErnieForMultipleChoice",
    "ErnieForTokenClassification": "ErnieForTokenClassification",
    "ErnieForQuestionAnswering": "ErnieForQuestionAnswering",
    "NezhaModel": "NeZhaModel",
    "NezhaForPreTraining": "NeZhaForPretraining",
    "NezhaForSequenceClassification": "NeZhaForSequenceClassification",
    "NezhaForMultipleChoice": "NeZhaForMultipleChoice",
    "NezhaForTokenClassification": "NeZhaForTokenClassification",
    "NezhaForQuestionAnswering": "NeZhaForQuestionAnswering",
    "RobertaModel": "RobertaModel",
    "RobertaForMaskedLM": "RobertaForMaskedLM",
    "RobertaForSequenceClassification": "RobertaForSequenceClassification",
    "RobertaForMultipleChoice": "RobertaForMultipleChoice",
    "RobertaForTokenClassification": "RobertaForTokenClassification",
    "RobertaForQuestionAnswering": "RobertaForQuestionAnswering",
    "AlbertModel": "AlbertModel",
    "AlbertForPreTraining": "AlbertForPretraining",
    "AlbertForMaskedLM": "AlbertForMaskedLM",
    "AlbertForSequenceClassification": "AlbertForSequenceClassification",
    "AlbertForMultipleChoice": "AlbertForMultipleChoice",
    "AlbertForTokenClassification": "AlbertForTokenClassification",
    "AlbertForQuestionAnswering": "AlbertForQuestionAnswering",
    "ElectraModel": "ElectraModel",
    "ElectraForPreTraining": "ElectraDiscriminator",
    "ElectraForMaskedLM": "ElectraGenerator",
    "ElectraForSequenceClassification": "ElectraForSequenceClassification",
    "ElectraForMultipleChoice": "ElectraForMultipleChoice",
    "ElectraForTokenClassification": "ElectraForTokenClassification",
    "ElectraForQuestionAnswering": "ElectraForQuestionAnswering",
    "DistilBertModel": "DistilBertModel",
    "DistilBertForMaskedLM": "DistilBertForMaskedLM",
    "DistilBertForSequenceClassification": "DistilBertForSequenceClassification",
    "DistilBertForTokenClassification": "DistilBertForTokenClassification",
    "DistilBertForQuestionAnswering": "DistilBertForQuestionAnswering",
}
"""transformers' class -> PaddleNLP's."""

REFUSED = {
    "BertForNextSentencePrediction": "no Bert class for next_sentence alone",
    "NezhaForMaskedLM": "no NeZha class for masked_lm alone",
}
"""Classes that PaddleNLP lacks -> what it says."""

CHANGES = {
    # Another epsilon than any that the code fixes (Paddle takes none above 1e-3), and another
    # activation than any that a head has of itself.
    "AlbertForMaskedLM": {"layer_norm_eps": 9e-4},
    "ElectraForMaskedLM": {"layer_norm_eps": 9e-4, "hidden_act": "relu"},
    "ErnieForMaskedLM": {"layer_norm_eps": 9e-4},
    "DistilBertForMaskedLM": {"hidden_act": "relu"},
    "ElectraForMultipleChoice": {"hidden_act": "tanh"},
    "RobertaForMaskedLM": {"hidden_act": "relu"},
    "BertForMaskedLM": {"hidden_act": "tanh", "layer_norm_eps": 9e-4},
}

Found = dict[str, dict[str, Judged]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("paddlenlp")
    return run_paddle("paddlenlp", paddle_models(folder, [*CLASSES, *REFUSED]), ("paddlenlp", "own"), folder / "asked")


def case(found: Found, name: str) -> dict[str, Judged]:
    if name not in found:
        pytest.skip(f"this transformers has no {name}")
    return found[name]


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_computes_every_activation_within_noise(found: Found, name: str) -> None:
    judged = case(found, name)["paddlenlp"]
    assert judged.answer["ran"]["reference"] == f"PaddleNLP {CLASSES[name]}"
    assert {key for key in judged.units if not key.startswith("layer.")} == {"embeddings", *HEADS[name]}
    assert sum(key.startswith("layer.") for key in judged.units) == (4 if FAMILY[name] == "albert" else 3)
    assert max(judged.units.values()) < UNITS, judged.units


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_is_filled_by_its_own_names(found: Found, name: str) -> None:
    ran = case(found, name)["paddlenlp"].answer["ran"]
    assert (ran["missing"], ran["unexpected"]) == ([], [])
    assert ran["third_party"]
    assert ran["framework"].startswith("paddle ")


@pytest.mark.parametrize("name", [*CLASSES, *REFUSED])
def test_our_own_encoder_computes_the_same(found: Found, name: str) -> None:
    judged = case(found, name)["own"]
    assert judged.answer["ran"]["reference"] == "own encoder"
    assert max(judged.units.values()) < UNITS, judged.units


@pytest.mark.parametrize("name", REFUSED)
def test_a_head_that_no_class_has_is_refused(found: Found, name: str) -> None:
    assert REFUSED[name] in case(found, name)["paddlenlp"].answer["refused"][0][1]


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("changed")
    return run_paddle("paddlenlp", paddle_models(folder, CHANGES, CHANGES), ("paddlenlp", "own"), folder / "asked")


@pytest.mark.parametrize("reference", ["paddlenlp", "own"])
@pytest.mark.parametrize("name", CHANGES)
def test_heads_have_epsilons_and_activations_of_their_own(changed: Found, name: str, reference: str) -> None:
    judged = case(changed, name)[reference]
    assert "ran" in judged.answer, judged.answer
    assert max(judged.units.values()) < UNITS, judged.units


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("forms")
    path = paddle_models(folder, ["BertForPreTraining"])["BertForPreTraining"]
    ways = {
        "safetensors": {"container": "safetensors"},
        "sharded": {"max_shard_size": 8000},
        "sharded safetensors": {"container": "safetensors", "max_shard_size": 8000},
        "bfloat16": {"dtype": "bfloat16"},
        "bfloat16 safetensors": {"dtype": "bfloat16", "container": "safetensors"},
        "float16": {"dtype": "float16"},
    }
    made = {way: folder / way for way in ways}
    for way, options in ways.items():
        interlingua.convert(path, made[way], to="paddle", sync=False, **options)
    made["evil config"] = spoil(path)
    made["untied"] = untie(folder, path)
    return run_paddle("paddlenlp", made, ("paddlenlp", "own"), folder / "asked")


def spoil(path: Path) -> Path:
    """Put keys into a configuration that would change what a class computes, were they read."""
    config = path / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "output_attentions": True, "return_dict": False, "dtype": "float64"}))
    return path


def untie(folder: Path, path: Path) -> Path:
    """Write the model with a decoder of its own."""
    interlingua.convert(path, folder / "hf again", to="hf", sync=False)
    run_code = """
import sys, transformers, torch
model = transformers.BertForPreTraining.from_pretrained(sys.argv[1], tie_word_embeddings=False)
decoder = model.cls.predictions.decoder
decoder.weight = torch.nn.Parameter(decoder.weight.detach().clone() + 0.25)
model.save_pretrained(sys.argv[2])
"""
    from tests.frameworks import run_in

    run_in("transformers", run_code, folder / "hf again", folder / "hf untied")
    interlingua.convert(folder / "hf untied", folder / "untied", to="paddle", sync=False)
    return folder / "untied"


@pytest.mark.parametrize("reference", ["paddlenlp", "own"])
@pytest.mark.parametrize(
    "way",
    [
        "safetensors",
        "sharded",
        "sharded safetensors",
        "bfloat16",
        "bfloat16 safetensors",
        "float16",
        "evil config",
    ],
)
def test_each_container_is_loaded_by_paddle_itself(forms: Found, way: str, reference: str) -> None:
    judged = forms[way][reference]
    assert "ran" in judged.answer, judged.answer
    assert max(judged.units.values()) < UNITS, judged.units


def test_a_decoder_of_its_own_is_computed_with_or_refused(forms: Found) -> None:
    assert max(forms["untied"]["own"].units.values()) < UNITS
    judged = forms["untied"]["paddlenlp"]
    if "ran" in judged.answer:
        assert max(judged.units.values()) < UNITS
    else:
        assert "is not the same" in judged.answer["refused"][0][1]
