"""google-research BERT and ALBERT: every variable by its name, training's left aside, other layouts refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import interlingua
from interlingua.errors import MappingError
from tests import tensorflow_names as names
from tests.models import assert_same, read_safetensors, safetensors_bytes
from tests.tensorflow_names import LAYERS, E, F, H, N, P, T, V, random_arrays, read_bundle, write_bundle

SIZES = {
    "vocab_size": V,
    "hidden_size": H,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": N,
    "intermediate_size": F,
    "max_position_embeddings": P,
    "type_vocab_size": T,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.15,
    "attention_probs_dropout_prob": 0.25,
    "initializer_range": 0.03,
}
CONFIGS = {
    "bert": {**SIZES, "directionality": "bidi", "pooler_type": "first_token_transform"},
    "albert": {**SIZES, "embedding_size": E, "num_hidden_groups": 1, "inner_group_num": 1, "net_structure_type": 0},
}
FILES = {"bert": ("bert_config.json", "bert_model.ckpt"), "albert": ("albert_config.json", "model.ckpt-best")}
MODELS = [
    ("bert", ()),
    ("bert", ("pooler",)),
    ("bert", ("pooler", "masked_lm", "next_sentence")),
    ("bert", ("pooler", "sequence_classification")),
    ("bert", ("span_qa",)),
    ("albert", ("pooler",)),
    ("albert", ("pooler", "masked_lm", "sentence_order")),
    ("albert", ("pooler", "sequence_classification")),
    ("albert", ("span_qa",)),
]


def write_model(folder: Path, family: str, heads: tuple[str, ...], prefix: str = "") -> dict[str, np.ndarray]:
    """A folder as Google's archives hold it, its tensors under ``prefix``."""
    named = getattr(names, family)(heads)
    arrays = random_arrays({prefix + name: shape for name, (_, shape) in named.items()})
    config, weights = FILES[family]
    write_bundle(folder / weights, arrays)
    (folder / config).write_text(json.dumps(CONFIGS[family]))
    return arrays


def expected(family: str, heads: tuple[str, ...], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The model as transformers has it."""
    base = f"{family}." if set(heads) - {"pooler"} else ""
    named = getattr(names, family)(heads, base=base)
    return {theirs: arrays[name].T if name.endswith("kernel") else arrays[name] for name, (theirs, _) in named.items()}


@pytest.mark.parametrize(
    ("family", "heads"), MODELS, ids=lambda value: value if isinstance(value, str) else "+".join(value)
)
def test_every_variable_is_found_and_comes_back(tmp_path: Path, family: str, heads: tuple[str, ...]) -> None:
    arrays = write_model(tmp_path / "google", family, heads)
    interlingua.convert(tmp_path / "google", tmp_path / "hf", to="hf")
    config, weights = FILES[family]
    with interlingua.open(tmp_path / "google") as found:
        assert (found.dialect, found.family, found.heads) == ("tf1", family, heads)
    ours = read_safetensors(tmp_path / "hf" / "model.safetensors")
    # transformers has ALBERT's bias under two names, of which either file may hold one.
    ours.pop("predictions.decoder.bias", None)
    assert_same(ours, expected(family, heads, arrays))
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="tf1")
    assert_same(read_bundle(tmp_path / "back" / weights), arrays)
    assert (tmp_path / "back" / config).read_bytes() == (tmp_path / "google" / config).read_bytes()


def test_gelu_is_the_approximation_that_the_code_computes(tmp_path: Path) -> None:
    write_model(tmp_path / "google", "bert", ("pooler",))
    interlingua.convert(tmp_path / "google", tmp_path / "hf", to="hf")
    written = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (written["hidden_act"], written["layer_norm_eps"], written["model_type"]) == ("gelu_new", 1e-12, "bert")


def test_a_module_of_tensorflow_hub_is_read(tmp_path: Path) -> None:
    arrays = write_model(tmp_path / "hub", "bert", ("pooler", "masked_lm"), prefix="module/")
    interlingua.convert(tmp_path / "hub", tmp_path / "hf", to="hf")
    bare = {name.removeprefix("module/"): array for name, array in arrays.items()}
    assert_same(
        read_safetensors(tmp_path / "hf" / "model.safetensors"), expected("bert", ("pooler", "masked_lm"), bare)
    )


SLOTS = (
    "adam_m",
    "adam_v",
    "lamb_m",
    "lamb_v",
    "Adam",
    "Adam_1",
    "AdamWeightDecayOptimizer",
    "ExponentialMovingAverage",
)


def test_what_training_adds_is_kept_apart_and_comes_back(tmp_path: Path) -> None:
    heads = ("pooler", "masked_lm", "next_sentence")
    arrays = write_model(tmp_path / "model", "bert", heads)
    slots = {f"{name}/{slot}": array + 1 for name, array in arrays.items() for slot in SLOTS}
    slots |= {"global_step": np.int64(1234) * np.ones((), np.int64), "beta1_power": np.ones((), np.float32)}
    write_bundle(tmp_path / "run" / "bert_model.ckpt", {**arrays, **slots})
    (tmp_path / "run" / "bert_config.json").write_text(json.dumps(CONFIGS["bert"]))
    interlingua.convert(tmp_path / "run", tmp_path / "hf", to="hf")
    assert_same(read_safetensors(tmp_path / "hf" / "model.safetensors"), expected("bert", heads, arrays))
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="tf1")
    assert_same(read_bundle(tmp_path / "back" / "bert_model.ckpt"), {**arrays, **slots})
    interlingua.convert(tmp_path / "run", tmp_path / "copy", to="tf1")
    assert_same(read_bundle(tmp_path / "copy" / "bert_model.ckpt"), {**arrays, **slots})


def test_a_decoder_of_its_own_has_no_place(tmp_path: Path) -> None:
    """Google's masked LM computes with the word embedding; a head with another decoder cannot be written."""
    write_model(tmp_path / "google", "bert", ("pooler", "masked_lm"))
    interlingua.convert(tmp_path / "google", tmp_path / "hf", to="hf")
    path = tmp_path / "hf" / "model.safetensors"
    arrays = read_safetensors(path)
    untied = {**arrays, "cls.predictions.decoder.weight": arrays["bert.embeddings.word_embeddings.weight"] + 1}
    path.write_bytes(safetensors_bytes(untied, {"format": "pt"}))
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="tf1", residue="drop")
    assert not any(name.startswith("cls/") for name in read_bundle(tmp_path / "back" / "bert_model.ckpt"))


def test_layers_that_share_no_layer_norm_are_no_albert(tmp_path: Path) -> None:
    """Keras' LayerNormalization is made anew in every layer: such a model is not what its scopes say."""
    arrays = write_model(tmp_path / "model", "albert", ("pooler",))
    group = "bert/encoder/transformer/group_0"
    for layer in range(LAYERS):
        for number, part in enumerate(("gamma", "beta")):
            name = f"{group}_{layer}/layer_{layer}/inner_group_0/layer_normalization_{2 * layer + 1}/{part}"
            arrays[name] = np.full((H,), float(number), np.float32)
    write_bundle(tmp_path / "other" / "model.ckpt-64000", arrays)
    (tmp_path / "other" / "albert_config.json").write_text(json.dumps(CONFIGS["albert"]))
    with pytest.raises(MappingError, match="layer_normalization_1"):
        interlingua.convert(tmp_path / "other", tmp_path / "hf", to="hf")


def test_race_is_a_multiple_choice(tmp_path: Path) -> None:
    heads = ("pooler", "multiple_choice")
    write_model(tmp_path / "google", "albert", heads)
    with interlingua.open(tmp_path / "google") as found:
        assert found.heads == ("pooler", "sequence_classification")
    config = tmp_path / "google" / "albert_config.json"
    config.write_text(json.dumps({**CONFIGS["albert"], "task_name": "race"}))
    interlingua.convert(tmp_path / "google", tmp_path / "hf", to="hf")
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["architectures"] == ["AlbertForMultipleChoice"]


def test_groups_of_layers_keep_their_numbers(tmp_path: Path) -> None:
    named = names.albert(("pooler",), groups=2)
    arrays = random_arrays({name: shape for name, (_, shape) in named.items()})
    write_bundle(tmp_path / "google" / "model.ckpt-best", arrays)
    config = {**CONFIGS["albert"], "num_hidden_groups": 2, "num_hidden_layers": 4}
    (tmp_path / "google" / "albert_config.json").write_text(json.dumps(config))
    interlingua.convert(tmp_path / "google", tmp_path / "hf", to="hf")
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="tf1")
    assert_same(read_bundle(tmp_path / "back" / "model.ckpt-best"), arrays)


def test_a_sentencepiece_model_gets_the_name_that_google_gives_it(tmp_path: Path) -> None:
    write_model(tmp_path / "google", "albert", ("pooler",))
    (tmp_path / "google" / "30k-clean.model").write_bytes(b"pieces")
    interlingua.convert(tmp_path / "google", tmp_path / "hf", to="hf")
    assert (tmp_path / "hf" / "spiece.model").read_bytes() == b"pieces"
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="tf1")
    assert (tmp_path / "back" / "30k-clean.model").read_bytes() == b"pieces"


def test_a_training_checkpoint_of_another_project_comes_back_byte_for_byte(fixtures_dir: Path, tmp_path: Path) -> None:
    source = fixtures_dir / "CyberZHG__keras-bert" / "tests" / "test_checkpoint"
    interlingua.convert(source, tmp_path / "hf", to="hf")
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="tf1")
    for name in ("bert_config.json", "vocab.txt", "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes(), name


def test_the_index_of_chinese_bert_tells_the_model(fixtures_dir: Path) -> None:
    with interlingua.open(fixtures_dir / "google-research__bert" / "bert_model.ckpt.index") as found:
        assert (found.dialect, found.family) == ("tf1", "bert")
        assert found.heads == ("pooler", "masked_lm", "next_sentence")
        assert found.completed.config.vocab_size == 21128
