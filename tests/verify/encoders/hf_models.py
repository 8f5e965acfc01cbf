"""Small random models of every class of transformers, as it saves them itself."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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
    "Ernie": ("ernie", BERT),
    "Nezha": ("nezha", BERT),
    "Roberta": ("roberta", ROBERTA),
    "XLMRoberta": ("xlm-roberta", ROBERTA),
    "Albert": ("albert", {**ALBERT, "ForPreTraining": ["pooler", "masked_lm", "sentence_order"]}),
    "Electra": ("electra", {**UNPOOLED, "ForPreTraining": ["replaced_token_detection"]}),
    "DistilBert": ("distilbert", UNPOOLED),
}
"""Prefix of transformers' classes -> family, and class -> heads."""

HEADS = {f"{prefix}{name}": heads for prefix, (_, models) in FAMILIES.items() for name, heads in models.items()}
"""Class -> heads."""

FAMILY = {f"{prefix}{name}": family for prefix, (family, models) in FAMILIES.items() for name in models}
"""Class -> family."""

MAKE = """
import os
os.environ["USE_TF"] = "0"
import json, sys
from pathlib import Path
import torch, transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.manual_seed(0)
SIZES = dict(
    vocab_size=67, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=40,
    max_position_embeddings=38, type_vocab_size=3, hidden_act="gelu_new", layer_norm_eps=1e-5, num_labels=5,
)
MORE = {
    "Ernie": dict(use_task_id=True, task_type_vocab_size=4, hidden_act="relu"),
    "Albert": dict(embedding_size=10, num_hidden_groups=2, num_hidden_layers=4, hidden_act="gelu"),
    "Electra": dict(embedding_size=10, hidden_act="silu"),
    "Nezha": dict(max_relative_position=5, hidden_act="gelu"),
    "Roberta": dict(pad_token_id=1, type_vocab_size=1),
    "XLMRoberta": dict(pad_token_id=1, type_vocab_size=1, hidden_act="relu"),
}
DISTILBERT = dict(
    vocab_size=67, dim=24, n_layers=3, n_heads=4, hidden_dim=40, max_position_embeddings=38, activation="gelu",
    num_labels=5,
)
made = []
folder, more = Path(sys.argv[1]), json.loads(sys.argv[3])
for name in json.loads(sys.argv[2]):
    cls = getattr(transformers, name, None)
    if cls is None:
        continue
    prefix = name.partition("For")[0].removesuffix("Model")
    sizes = DISTILBERT if prefix == "DistilBert" else {**SIZES, **MORE.get(prefix, {})}
    if "Question" in name or "PreTraining" in name:
        sizes = {**sizes, "num_labels": 2}
    sizes = {**sizes, **more}
    model = cls(getattr(transformers, prefix + "Config")(**sizes)).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in key.lower() and key.endswith("weight") else 0.0, 0.15)
    model.save_pretrained(folder / name)
    made.append(name)
print("MADE", json.dumps(made))
"""


def make_models(folder: Path, names: Iterable[str] = tuple(HEADS), **config: Any) -> dict[str, Path]:
    """Class -> folder of a saved model; classes that this version of transformers lacks are left out.

    ``config`` are values of its configuration that are to be others than usual.
    """
    printed = run_in("transformers", MAKE, folder, json.dumps(list(names)), json.dumps(config))
    return {name: folder / name for name in json.loads(printed.partition("MADE ")[2])}
