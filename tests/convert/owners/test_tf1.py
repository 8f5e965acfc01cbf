"""Google's TensorFlow 1 checkpoints, as TensorFlow writes them and transformers' own loaders of them read them.

Those loaders are the published readers that still run; they are gone from transformers 5.
"""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest

import interlingua
from tests import tensorflow_names as names
from tests.frameworks import run_in
from tests.mappings.test_google_tf import CONFIGS, FILES
from tests.models import read_safetensors
from tests.tensorflow_names import random_arrays

MODELS = {
    "BertModel": ("bert", ("pooler",)),
    "BertForPreTraining": ("bert", ("pooler", "masked_lm", "next_sentence")),
    "AlbertModel": ("albert", ("pooler",)),
    "AlbertForPreTraining": ("albert", ("pooler", "masked_lm", "sentence_order")),
    "AlbertForSequenceClassification": ("albert", ("pooler", "sequence_classification")),
}
"""The classes that the loaders fill completely. BERT's stumbles over a classifier's ``output_weights`` at the top, both
over SQuAD's heads."""

SAVE = """
import sys, numpy as np, tensorflow as tf
for path in sys.argv[1:]:
    arrays = dict(np.load(path + ".npz"))
    names = sorted(arrays)
    tf.raw_ops.SaveV2(
        prefix=path, tensor_names=names, shape_and_slices=[""] * len(names), tensors=[arrays[name] for name in names]
    )
"""

COMPARE = """
import contextlib, io, sys
from pathlib import Path
import numpy as np, tensorflow, torch, transformers
from transformers.models.albert.modeling_albert import load_tf_weights_in_albert
from transformers.models.bert.modeling_bert import load_tf_weights_in_bert

ids = torch.tensor([[5, 9, 1, 0, 33, 2], [7, 7, 30, 1, 0, 0]])
mask, types = torch.tensor([[1] * 6, [1] * 4 + [0] * 2]), torch.tensor([[0, 0, 0, 1, 1, 1]] * 2)
for name in sys.argv[2:]:
    folder = Path(sys.argv[1]) / name
    cls = getattr(transformers, name)
    ours, info = cls.from_pretrained(folder / "hf", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), (name, info)
    load = load_tf_weights_in_albert if name.startswith("Albert") else load_tf_weights_in_bert
    for prefix in ("google/model", "again/" + ("model.ckpt-best" if name.startswith("Albert") else "bert_model.ckpt")):
        theirs = cls(ours.config)
        for parameter in theirs.parameters():
            torch.nn.init.constant_(parameter, float("nan"))
        with contextlib.redirect_stdout(io.StringIO()):
            load(theirs, ours.config, str(folder / prefix))
        for key, tensor in theirs.state_dict().items():
            assert torch.equal(tensor, ours.state_dict()[key]), (name, prefix, key)
        inputs = dict(input_ids=ids, attention_mask=mask, token_type_ids=types)
        with torch.no_grad():
            one, other = ours.eval()(**inputs), theirs.eval()(**inputs)
        for a, b in zip(one.to_tuple(), other.to_tuple()):
            assert torch.equal(a, b) and torch.isfinite(a).all(), (name, prefix)
    print(name, ours.config.hidden_act)
"""


def skip_without_loaders() -> None:
    try:
        found = version("transformers")
    except PackageNotFoundError:
        pytest.skip("transformers is not installed")
    if int(found.partition(".")[0]) > 4:
        pytest.skip(f"transformers {found} has no loaders of TensorFlow 1 checkpoints any more")


def test_transformers_loads_what_tensorflow_wrote_as_it_loads_our_conversion(tmp_path: Path) -> None:
    """Bit for bit the same parameters and outputs: from TensorFlow's file, from ours, and from the converted folder."""
    skip_without_loaders()
    prefixes = []
    for seed, (name, (family, heads)) in enumerate(MODELS.items()):
        named = getattr(names, family)(heads)
        folder = tmp_path / name / "google"
        folder.mkdir(parents=True)
        arrays = random_arrays({key: shape for key, (_, shape) in named.items()}, seed)
        slots = {f"{key}/{slot}": array for key, array in arrays.items() for slot in ("adam_m", "adam_v")}
        np.savez(folder / "model.npz", **arrays, **slots, global_step=np.array(5, np.int64))
        (folder / FILES[family][0]).write_text(json.dumps({**CONFIGS[family], "hidden_act": "gelu"}))
        prefixes.append(folder / "model")
    run_in("tensorflow", SAVE, *prefixes)
    for prefix in prefixes:
        (prefix.parent / "model.npz").unlink()
        folder = prefix.parent.parent
        interlingua.convert(prefix.parent, folder / "hf", to="hf")
        interlingua.convert(folder / "hf", folder / "again", to="tf1")
        if "SequenceClassification" in folder.name:
            assert read_safetensors(folder / "hf" / "model.safetensors")["classifier.weight"].shape[0] == names.LABELS
    printed = run_in("transformers", COMPARE, tmp_path, *MODELS)
    assert printed.split() == [word for name in MODELS for word in (name, "gelu_new")]


FINE_TUNED = """
import sys, tensorflow, transformers
from transformers.models.bert.modeling_bert import load_tf_weights_in_bert

config = transformers.BertConfig.from_pretrained(sys.argv[2])
for name, attribute in zip(sys.argv[3::2], sys.argv[4::2]):
    model = getattr(transformers, name)(config)
    try:
        load_tf_weights_in_bert(model, config, sys.argv[1] + "/" + name + "/bert_model.ckpt")
    except AttributeError as error:
        print(name, "fails")
"""


def test_fine_tuned_heads_at_which_that_loader_fails_are_converted(tmp_path: Path) -> None:
    """transformers#393, #676, #2061, #3070, #9657: ``output_weights`` and ``squad`` raise AttributeError there."""
    skip_without_loaders()
    models = {
        "BertForSequenceClassification": ("pooler", "sequence_classification"),
        "BertForQuestionAnswering": ("span_qa",),
    }
    for name, heads in models.items():
        named = names.bert(heads)
        arrays = random_arrays({key: shape for key, (_, shape) in named.items()})
        folder = tmp_path / name
        names.write_bundle(folder / "bert_model.ckpt", arrays)
        (folder / "bert_config.json").write_text(json.dumps(CONFIGS["bert"]))
        interlingua.convert(folder, folder / "hf", to="hf")
        ours = read_safetensors(folder / "hf" / "model.safetensors")
        assert {key for key, _ in named.values()} == set(ours)
    pairs = [word for name in models for word in (name, "-")]
    printed = run_in("transformers", FINE_TUNED, tmp_path, tmp_path / "BertForQuestionAnswering" / "hf", *pairs)
    assert printed.splitlines() == [f"{name} fails" for name in models]
