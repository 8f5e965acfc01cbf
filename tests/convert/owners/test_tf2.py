"""The TF Model Garden's own classes save what is converted here, and restore what is written here, all of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import interlingua
from tests.frameworks import run_in
from tests.mappings.test_google_tf import CONFIGS
from tests.models import bare, hf_config, prefixed, read_safetensors, write_hf
from tests.tensorflow_names import D, H, N

MODELS = """
import sys
from pathlib import Path
import numpy as np, tensorflow as tf, tf_keras
from official.nlp.modeling import layers, models, networks

SIZES = dict(vocab_size=37, hidden_size=12, num_attention_heads=6, max_sequence_length=17, type_vocab_size=2)

def encoder(cls=networks.BertEncoderV2):
    made = cls(**SIZES, num_layers=3, inner_dim=20, dict_outputs=True)
    if not isinstance(made, tf_keras.Model):
        made(made.inputs)
    return made

def albert():
    return networks.AlbertEncoder(**SIZES, num_layers=3, embedding_width=7, intermediate_size=20, dict_outputs=True)

def pretrainer(made, name):
    heads = [layers.ClassificationHead(inner_dim=12, num_classes=2, name=name)]
    model = models.BertPretrainerV2(made, mlm_activation=tf_keras.activations.gelu, classification_heads=heads)
    model(model.inputs)
    return model, dict(model.checkpoint_items, model=model)

def classifier(cls, **more):
    made = encoder()
    model = cls(made, **more)
    return model, dict(model=model, encoder=made)

def build():
    v2, v1, small = encoder(), encoder(networks.BertEncoder), albert()
    return {
        "v2": (v2, dict(encoder=v2)),
        "v1": (v1, dict(model=v1)),
        "albert": (small, dict(encoder=small)),
        "pretrainer": pretrainer(encoder(), "next_sentence"),
        "albert_pretrainer": pretrainer(albert(), "next_sentence"),
        "classifier": classifier(models.BertClassifier, num_classes=5),
        "tokens": classifier(models.BertTokenClassifier, num_classes=5),
        "span": classifier(models.BertSpanLabeler),
    }

INPUTS = dict(
    input_word_ids=tf.constant([[5, 9, 1, 0, 33, 2], [7, 7, 30, 1, 0, 0]]),
    input_mask=tf.constant([[1] * 6, [1] * 4 + [0] * 2]),
    input_type_ids=tf.constant([[0, 0, 0, 1, 1, 1]] * 2),
)
folder = Path(sys.argv[1])
"""

SAVE = (
    MODELS
    + """
rng = np.random.default_rng(0)
for name, (model, items) in build().items():
    for variable in model.variables:
        variable.assign(rng.standard_normal(variable.shape).astype(np.float32) / 2)
    (folder / name).mkdir()
    tf.train.Checkpoint(**items).write(str(folder / name / "bert_model.ckpt"))
    if name in ("v2", "v1", "albert"):
        found = model(INPUTS)
        np.savez(folder / name / "outputs.npz", hidden=found["sequence_output"], pooled=found["pooled_output"])
"""
)

RESTORE = (
    MODELS
    + """
for name, (model, items) in build().items():
    for variable in model.variables:
        variable.assign(tf.fill(variable.shape, np.nan))
    prefix = "albert_model.ckpt" if "albert" in name else "bert_model.ckpt"
    if name == "v1":
        items = dict(encoder=model)
    status = tf.train.Checkpoint(**items).read(str(folder / name / "back" / prefix))
    status.assert_existing_objects_matched()
    status.assert_consumed()
    assert all(np.isfinite(variable.numpy()).all() for variable in model.variables), name
    if name in ("v2", "v1", "albert"):
        found, known = model(INPUTS), np.load(folder / name / "outputs.npz")
        assert np.array_equal(found["sequence_output"], known["hidden"]), name
        assert np.array_equal(found["pooled_output"], known["pooled"]), name
    print(name)
encoder_of_ours = encoder()
status = tf.train.Checkpoint(encoder=encoder_of_ours).read(str(folder / "fresh" / "garden" / "bert_model.ckpt"))
status.assert_existing_objects_matched()
np.savez(folder / "fresh" / "weights.npz", **{v.name.replace("/", "|"): v.numpy() for v in encoder_of_ours.variables})
"""
)


def test_every_class_saves_what_is_read_and_restores_what_is_written(tmp_path: Path) -> None:
    heads = ("pooler", "masked_lm", "next_sentence")
    arrays = prefixed(bare(heads))
    write_hf(tmp_path / "fresh" / "hf", arrays, hf_config(heads=heads))
    interlingua.convert(tmp_path / "fresh" / "hf", tmp_path / "fresh" / "garden", to="tf2")
    run_in("official", SAVE, tmp_path)
    found = {}
    for folder in sorted(path for path in tmp_path.iterdir() if path.name != "fresh"):
        family = "albert" if "albert" in folder.name else "bert"
        (folder / f"{family}_config.json").write_text(json.dumps(CONFIGS[family]))
        with interlingua.open(folder) as opened:
            found[folder.name] = (opened.family, opened.heads)
        interlingua.convert(folder, folder / "hf", to="hf")
        interlingua.convert(folder / "hf", folder / "back", to="tf2")
    assert found == {
        "v2": ("bert", ("pooler",)),
        "v1": ("bert", ("pooler",)),
        "albert": ("albert", ("pooler",)),
        "pretrainer": ("bert", ("pooler", "masked_lm", "next_sentence")),
        "albert_pretrainer": ("albert", ("pooler", "masked_lm", "sentence_order")),
        "classifier": ("bert", ("pooler", "sequence_classification")),
        "tokens": ("bert", ("pooler", "token_classification")),
        "span": ("bert", ("pooler", "span_qa")),
    }
    printed = run_in("official", RESTORE, tmp_path)
    assert sorted(printed.split()) == sorted(found)
    weights = dict(np.load(tmp_path / "fresh" / "weights.npz"))
    kernel = next(a for name, a in weights.items() if "layer_1|self_attention|query|kernel" in name)
    output = next(a for name, a in weights.items() if "layer_1|self_attention|attention_output|kernel" in name)
    attention = "bert.encoder.layer.1.attention"
    assert np.array_equal(kernel.reshape(H, N * D).T, arrays[f"{attention}.self.query.weight"])
    assert np.array_equal(output.reshape(N * D, H).T, arrays[f"{attention}.output.dense.weight"])
    pooler = next(array for name, array in weights.items() if "pooler_transform|kernel" in name)
    assert np.array_equal(pooler.T, arrays["bert.pooler.dense.weight"])
    ours = read_safetensors(tmp_path / "v1" / "hf" / "model.safetensors")
    assert {name for name in ours if "pooler" in name} == {"pooler.dense.weight", "pooler.dense.bias"}
