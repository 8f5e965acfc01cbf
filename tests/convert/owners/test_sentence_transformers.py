"""Held against sentence-transformers itself: it loads what is written, and its sentences' vectors are the model's."""

from __future__ import annotations

import json

import pytest

from tests.frameworks import run_in

FAMILIES = ("bert", "ernie", "albert", "roberta", "xlm-roberta", "electra", "distilbert")

RUN = """
import json, sys, warnings
from pathlib import Path
import torch, transformers
warnings.simplefilter("ignore")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
from sentence_transformers import SentenceTransformer
import interlingua

folder, families = Path(sys.argv[1]), sys.argv[2:]
torch.manual_seed(0)
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
(folder / "vocab.txt").write_text("".join(word + chr(10) for word in words))
def tokenizer_of(family):
    kind = transformers.DistilBertTokenizer if family == "distilbert" else transformers.BertTokenizer
    return kind(str(folder / "vocab.txt"), model_max_length=15)

tokenizer = tokenizer_of("bert")
texts = ["a b c d", "x", "q r s t u v w"]

def convert(source, target, to, **more):
    return interlingua.convert(folder / source, folder / target, to=to, sync=False, **more)

def mean(model, inputs):
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1).float()
    return (hidden * mask).sum(1) / mask.sum(1)

def compare(model, place):
    loaded = SentenceTransformer(str(folder / place), device="cpu")
    inner = loaded[0].auto_model if hasattr(loaded[0], "auto_model") else loaded[0].model
    ours, theirs = inner.state_dict(), model.state_dict()
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    vectors = loaded.encode(texts, convert_to_tensor=True, show_progress_bar=False)
    inputs = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    return {
        "weights": [n for n in theirs if "pooler" not in n and not torch.equal(ours[n], theirs[n])],
        "names": sorted(set(ours) ^ set(theirs)),
        "difference": float((vectors - mean(model, inputs)).abs().max()),
        "modules": [type(module).__name__ for module in loaded],
        "longest": loaded.max_seq_length,
    }

result = {}
for family in families:
    sizes = dict(vocab_size=31, max_position_embeddings=17, pad_token_id=0)
    if family == "distilbert":
        sizes |= dict(dim=12, n_layers=2, n_heads=3, hidden_dim=20)
    else:
        sizes |= dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20)
    if family in ("albert", "electra"):
        sizes |= dict(embedding_size=6)
    config = transformers.AutoConfig.for_model(family, **sizes)
    model = transformers.AutoModelForMaskedLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.save_pretrained(folder / family)
    tokenizer_of(family).save_pretrained(folder / family)
    base = transformers.AutoModel.from_pretrained(folder / family).eval()
    plan = convert(family, f"{family} st", "sentence-transformers").plan
    result[family] = {
        **compare(base, f"{family} st"),
        "said": [note for note in plan.notes if "pooled" in note],
        "residue": sorted({entry.name.split(".")[0] for entry in plan.residue}),
    }
    convert(f"{family} st", f"{family} back", "hf", dialect="sentence-transformers")
    again = transformers.AutoModelForMaskedLM.from_pretrained(folder / f"{family} back")
    result[family]["back"] = all(torch.equal(t, again.state_dict()[n]) for n, t in model.state_dict().items())

from sentence_transformers import models as kinds
encoder = kinds.Transformer(str(folder / "bert"))
pooling = kinds.Pooling(12, pooling_mode="cls")
dense = kinds.Dense(12, 5)
whole = SentenceTransformer(modules=[encoder, pooling, dense, kinds.Normalize()], device="cpu")
whole.save(str(folder / "whole"), create_model_card=False)
convert("whole", "whole st", "sentence-transformers")
convert("whole", "whole uer", "uer")
convert("whole uer", "whole back", "sentence-transformers")
convert("whole", "whole hf", "hf")
vectors = whole.encode(texts, convert_to_tensor=True, show_progress_bar=False)
result["whole"] = {
    place: float((SentenceTransformer(str(folder / place), device="cpu").encode(
        texts, convert_to_tensor=True, show_progress_bar=False) - vectors).abs().max())
    for place in ("whole st", "whole back", "whole hf")
}
(folder / "whole uer" / "interlingua.residue.safetensors").unlink()
convert("whole uer", "no trace", "sentence-transformers")
loaded = SentenceTransformer(str(folder / "no trace"), device="cpu")
result["no trace"] = {"modules": [type(module).__name__ for module in loaded]}
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    printed = run_in("sentence_transformers", RUN, tmp_path_factory.mktemp("sentences"), *FAMILIES)
    return json.loads(printed.splitlines()[-1])


@pytest.mark.parametrize("family", FAMILIES)
def test_sentence_transformers_loads_what_is_written_and_computes_the_mean(results, family: str) -> None:
    found = results[family]
    assert found["names"] == []
    assert found["weights"] == []
    assert found["difference"] < 2e-6
    assert found["modules"] == ["Transformer", "Pooling"]
    assert found["longest"] <= (16 if "roberta" in family else 17)
    assert found["said"] == ["Nothing says how a sentence's tokens are pooled: their mean is taken."]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_is_kept_and_comes_back(results, family: str) -> None:
    assert results[family]["residue"]
    assert results[family]["back"]


def test_pooling_and_what_follows_it_travel_along(results) -> None:
    assert results["whole"] == {"whole st": 0.0, "whole back": 0.0, "whole hf": 0.0}


def test_an_encoder_from_elsewhere_gets_a_mean(results) -> None:
    assert results["no trace"]["modules"] == ["Transformer", "Pooling"]
