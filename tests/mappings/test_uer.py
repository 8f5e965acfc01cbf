"""UER-py's and TencentPretrain's names and configurations of every year, written out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import interlingua
from interlingua.convert.configs import parse
from interlingua.errors import MappingError
from interlingua.mappings.match import match, recognise
from interlingua.mappings.registry import DIALECTS
from tests.models import Arrays, assert_same, hf, hf_config, uer, weights_of, write_hf, write_uer

ALBERT = {
    "embedding.word.embedding.weight": (37, 6),
    "embedding.pos.embedding.weight": (17, 6),
    "embedding.seg.embedding.weight": (3, 6),
    "embedding.layer_norm.gamma": (6,),
    "embedding.layer_norm.beta": (6,),
    "encoder.linear.weight": (12, 6),
    "encoder.linear.bias": (12,),
    "encoder.transformer.self_attn.linear_layers.0.weight": (12, 12),
    "encoder.transformer.self_attn.linear_layers.0.bias": (12,),
    "encoder.transformer.self_attn.linear_layers.1.weight": (12, 12),
    "encoder.transformer.self_attn.linear_layers.1.bias": (12,),
    "encoder.transformer.self_attn.linear_layers.2.weight": (12, 12),
    "encoder.transformer.self_attn.linear_layers.2.bias": (12,),
    "encoder.transformer.self_attn.final_linear.weight": (12, 12),
    "encoder.transformer.self_attn.final_linear.bias": (12,),
    "encoder.transformer.layer_norm_1.gamma": (12,),
    "encoder.transformer.layer_norm_1.beta": (12,),
    "encoder.transformer.feed_forward.linear_1.weight": (20, 12),
    "encoder.transformer.feed_forward.linear_1.bias": (20,),
    "encoder.transformer.feed_forward.linear_2.weight": (12, 20),
    "encoder.transformer.feed_forward.linear_2.bias": (12,),
    "encoder.transformer.layer_norm_2.gamma": (12,),
    "encoder.transformer.layer_norm_2.beta": (12,),
    "target.sp.linear_1.weight": (12, 12),
    "target.sp.linear_1.bias": (12,),
    "target.mlm.linear_1.weight": (6, 12),
    "target.mlm.linear_1.bias": (6,),
    "target.mlm.layer_norm.gamma": (6,),
    "target.mlm.layer_norm.beta": (6,),
    "target.mlm.linear_2.weight": (37, 6),
    "target.mlm.linear_2.bias": (37,),
    "target.sp.linear_2.weight": (2, 12),
    "target.sp.linear_2.bias": (2,),
}
"""What ``build_model`` of ``models/albert/base_config.json`` saves, in small."""

IN_TRANSFORMERS = {
    "embedding.word.embedding": "albert.embeddings.word_embeddings",
    "embedding.pos.embedding": "albert.embeddings.position_embeddings",
    "embedding.seg.embedding": "albert.embeddings.token_type_embeddings",
    "embedding.layer_norm": "albert.embeddings.LayerNorm",
    "encoder.linear": "albert.encoder.embedding_hidden_mapping_in",
    "encoder.transformer.self_attn.linear_layers.0": "LAYER.attention.query",
    "encoder.transformer.self_attn.linear_layers.1": "LAYER.attention.key",
    "encoder.transformer.self_attn.linear_layers.2": "LAYER.attention.value",
    "encoder.transformer.self_attn.final_linear": "LAYER.attention.dense",
    "encoder.transformer.layer_norm_1": "LAYER.attention.LayerNorm",
    "encoder.transformer.feed_forward.linear_1": "LAYER.ffn",
    "encoder.transformer.feed_forward.linear_2": "LAYER.ffn_output",
    "encoder.transformer.layer_norm_2": "LAYER.full_layer_layer_norm",
    "target.sp.linear_1": "albert.pooler",
    "target.sp.linear_2": "sop_classifier.classifier",
    "target.mlm.linear_1": "predictions.dense",
    "target.mlm.layer_norm": "predictions.LayerNorm",
    "target.mlm.linear_2": "predictions.decoder",
}

ALBERT_CONFIG = {
    "emb_size": 6,
    "feedforward_size": 20,
    "hidden_size": 12,
    "hidden_act": "relu",
    "heads_num": 3,
    "layers_num": 5,
    "max_seq_length": 17,
    "dropout": 0.0,
    "data_processor": "albert",
    "embedding": ["word", "pos", "seg"],
    "encoder": "transformer",
    "mask": "fully_visible",
    "factorized_embedding_parameterization": True,
    "parameter_sharing": True,
    "target": ["mlm", "sp"],
}


def albert() -> Arrays:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in ALBERT.items()}


def in_transformers(name: str) -> str:
    stem, _, part = name.rpartition(".")
    part = {"gamma": "weight", "beta": "bias"}.get(part, part)
    layer = "albert.encoder.albert_layer_groups.0.albert_layers.0"
    found = f"{IN_TRANSFORMERS[stem].replace('LAYER', layer)}.{part}"
    return found.replace("predictions.decoder.bias", "predictions.bias")


def write(folder: Path, arrays: Arrays, config: dict[str, object]) -> Path:
    pytest.importorskip("torch")
    return write_uer(folder, arrays, config, 37)


@pytest.mark.parametrize("dialect", ["uer", "tencentpretrain"])
def test_an_albert_goes_there_and_back(tmp_path: Path, dialect: str) -> None:
    more = {"layernorm_eps": 1e-06} if dialect == "tencentpretrain" else {}
    source, config = albert(), {**ALBERT_CONFIG, **more}
    write(tmp_path / "in", source, config)
    plan = interlingua.convert(tmp_path / "in", tmp_path / "hf", to="hf", sync=False).plan
    assert (plan.origin, plan.family) == (dialect, "albert")
    assert plan.heads == ("pooler", "masked_lm", "sentence_order")
    expected = {in_transformers(name): array for name, array in source.items()}
    segments = "albert.embeddings.token_type_embeddings.weight"
    expected[segments] = expected[segments][1:]
    # Its configuration ties nothing, so that the decoder is the model's own, its bias under both names.
    expected["predictions.decoder.bias"] = expected["predictions.bias"]
    assert_same(weights_of(tmp_path / "hf"), expected)
    written = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (written["embedding_size"], written["num_hidden_groups"], written["num_hidden_layers"]) == (6, 1, 5)
    assert (written["hidden_act"], written["layer_norm_eps"], written["tie_word_embeddings"]) == ("relu", 1e-12, False)
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to=dialect, sync=False)
    assert_same(weights_of(tmp_path / "back"), source)
    for name in ("config.json", "vocab.txt"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()


def test_a_fresh_configuration_has_the_flags_of_an_albert(tmp_path: Path) -> None:
    write(tmp_path / "in", albert(), ALBERT_CONFIG)
    interlingua.convert(tmp_path / "in", tmp_path / "hf", to="hf", residue="drop", sync=False)
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="uer", sync=False)
    assert json.loads((tmp_path / "back" / "config.json").read_text()) == {**ALBERT_CONFIG, "tie_weights": False}


def named(names: Arrays, changes: dict[str, str]) -> Arrays:
    """The tensors under the names of another year."""
    found = {}
    for name, array in names.items():
        old = next((old for new, old in changes.items() if name.startswith(new)), None)
        new = next((new for new in changes if name.startswith(new)), "")
        found[name if old is None else old + name.removeprefix(new)] = array
    return found


EMBEDDINGS = {
    "embedding.word.embedding": "embedding.word_embedding",
    "embedding.pos.embedding": "embedding.position_embedding",
    "embedding.seg.embedding": "embedding.segment_embedding",
}
MLM = {
    "target.mlm.linear_": "target.mlm_linear_",
    "target.mlm.layer_norm": "target.layer_norm",
}
YEARS = {
    "2019": {**EMBEDDINGS, **MLM, "target.sp.linear_": "target.nsp_linear_"},
    "2022": {**EMBEDDINGS, **MLM, "target.sp.linear_": "target.sp_linear_"},
    "July 2023": {**MLM, "target.sp.linear_": "target.sp_linear_"},
    "scripts of 2023": {"target.mlm.layer_norm": "target.layer_norm"},
    "today": {},
}


@pytest.mark.parametrize("changes", YEARS.values(), ids=YEARS)
def test_names_of_every_year_are_read_and_todays_written(tmp_path: Path, changes: dict[str, str]) -> None:
    heads = ("pooler", "masked_lm", "next_sentence")
    write(tmp_path / "in", named(uer(heads), changes), {"hidden_size": 12, "emb_size": 12, "heads_num": 6})
    plan = interlingua.convert(tmp_path / "in", tmp_path / "hf", to="hf", sync=False).plan
    assert plan.heads == heads
    assert_same(weights_of(tmp_path / "hf"), hf(heads))
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="uer", sync=False)
    assert_same(weights_of(tmp_path / "back"), uer(heads))


@pytest.mark.parametrize("old", ["target.sop_linear_", "target.sp_linear_"])
def test_older_names_of_an_albert_are_read(old: str) -> None:
    names = named(dict.fromkeys(ALBERT), {**EMBEDDINGS, **MLM, "target.sp.linear_": old})
    shapes = dict(zip(names, ALBERT.values(), strict=True))
    found = match(DIALECTS["uer"], DIALECTS["uer"].tables["albert"], shapes, ALBERT_CONFIG)
    assert found.leftovers == {}
    assert found.heads == ("pooler", "masked_lm", "sentence_order")
    assert (found.layers, found.sizes["embedding"], found.sizes["hidden"]) == (1, 6, 12)


@pytest.mark.parametrize("target", ["target.cls.linear_", "target.linear_"])
def test_a_target_that_pretrains_a_classifier_is_one(tmp_path: Path, target: str) -> None:
    heads = ("pooler", "sequence_classification")
    write(tmp_path / "in", named(uer(heads), {"output_layer_": target}), {"heads_num": 6, "target": "cls"})
    made = interlingua.convert(tmp_path / "in", tmp_path / "hf", to="hf", sync=False)
    assert_same(weights_of(tmp_path / "hf"), hf(heads))
    assert not any("linear_" in kept.name for kept in made.plan.residue)
    interlingua.convert(tmp_path / "hf", tmp_path / "again", to="uer", sync=False)
    assert sorted(weights_of(tmp_path / "again")) == sorted(weights_of(tmp_path / "in"))
    assert json.loads((tmp_path / "again/config.json").read_text())["target"] == "cls"


SIZES = {"emb_size": 12, "feedforward_size": 20, "hidden_size": 12, "heads_num": 6, "layers_num": 3, "dropout": 0.1}
CONFIGS = {
    "2019": SIZES,
    "2020": {**SIZES, "hidden_act": "gelu"},
    "2021": {**SIZES, "hidden_act": "gelu", "max_seq_length": 512},
    "August 2021": {**SIZES, "embedding": "word_pos_seg", "encoder": "transformer", "target": "bert"},
    "2019, by flags": {**SIZES, "embedding": "bert", "encoder": "bert", "target": "bert"},
    "2022": {**SIZES, "embedding": "word_pos_seg", "encoder": "transformer", "target": ["mlm", "sp"]},
    "today": {**SIZES, "embedding": ["word", "pos", "seg"], "target": ["mlm", "sp"], "tie_weights": True},
    "another order": {**SIZES, "embedding": ["word", "seg", "pos"], "target": ["mlm"]},
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_configurations_of_every_year_are_read(config: dict[str, object]) -> None:
    table = DIALECTS["uer"].tables["bert"].config
    assert table.recognises(config)
    values = parse(config, table, "config.json")
    assert (values["hidden_size"], values["num_hidden_layers"], values["num_attention_heads"]) == (12, 3, 6)


@pytest.mark.parametrize("config", [SIZES, CONFIGS["today"]], ids=["2019", "today"])
def test_a_configuration_comes_back_as_it_was(tmp_path: Path, config: dict[str, object]) -> None:
    sized = {**config, "max_seq_length": 17} if "target" in config else config
    arrays = uer(("masked_lm",))
    if "target" not in config:
        rows = np.random.default_rng(3).standard_normal((512, 12)).astype(np.float32)
        arrays["embedding.pos.embedding.weight"] = rows
    write(tmp_path / "in", arrays, sized)
    interlingua.convert(tmp_path / "in", tmp_path / "hf", to="hf", sync=False)
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="uer", sync=False)
    assert (tmp_path / "back" / "config.json").read_bytes() == (tmp_path / "in" / "config.json").read_bytes()


@pytest.mark.parametrize(
    "other",
    [
        {"embedding": ["word", "sinusoidalpos"]},
        {"encoder": "lstm"},
        {"mask": "causal"},
        {"layernorm_positioning": "pre"},
        {"relative_position_embedding": True},
        {"parameter_sharing": True},
        {"feed_forward": "gated"},
    ],
)
def test_another_architecture_is_refused(other: dict[str, object]) -> None:
    with pytest.raises(MappingError, match="architecture"):
        parse({**SIZES, **other}, DIALECTS["uer"].tables["bert"].config, "config.json")


def test_only_a_configuration_tells_the_successor(tmp_path: Path) -> None:
    shapes = {name: array.shape for name, array in uer(("masked_lm",)).items()}
    for config, first in (({}, "uer"), (SIZES, "uer"), ({**SIZES, "layernorm_eps": 1e-06}, "tencentpretrain")):
        assert recognise(DIALECTS, shapes, config, "torch-zip")[0].dialect.name == first


def test_an_epsilon_of_the_successors_travels(tmp_path: Path) -> None:
    write(tmp_path / "in", uer(("masked_lm",)), {**SIZES, "max_seq_length": 17, "layernorm_eps": 1e-05})
    interlingua.convert(tmp_path / "in", tmp_path / "hf", to="hf", sync=False)
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["layer_norm_eps"] == 1e-05
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="tencentpretrain", sync=False)
    assert (tmp_path / "back" / "config.json").read_bytes() == (tmp_path / "in" / "config.json").read_bytes()
    fresh = write_hf(tmp_path / "fresh", hf(("masked_lm",)), hf_config(heads=("masked_lm",), layer_norm_eps=1e-12), 37)
    interlingua.convert(fresh, tmp_path / "written", to="tencentpretrain", sync=False)
    assert "layernorm_eps" not in json.loads((tmp_path / "written" / "config.json").read_text())


@pytest.mark.parametrize(
    ("said", "to", "told"),
    [
        ({"layernorm_eps": 1e-05}, "uer", ("1e-05 in the source's", "1e-06 in the target's")),
        ({"layernorm_eps": 1e-06}, "uer", None),
    ],
)
def test_an_epsilon_that_the_older_system_cannot_have_is_told(
    tmp_path: Path, said: dict[str, float], to: str, told: tuple[str, str] | None
) -> None:
    write(tmp_path / "in", uer(("masked_lm",)), {**SIZES, "max_seq_length": 17, **said})
    made = interlingua.convert(tmp_path / "in", tmp_path / "out", to=to, dialect="tencentpretrain", sync=False)
    notes = [note for note in made.plan.notes if "epsilon" in note]
    assert not notes if told is None else all(part in notes[0] for part in told)


def test_lora_is_refused(tmp_path: Path) -> None:
    shapes = {name: array.shape for name, array in uer(("masked_lm",)).items()}
    lora = {"encoder.transformer.0.self_attn.linear_layers.0.lora_A": (2, 12)}
    successor = DIALECTS["tencentpretrain"]
    with pytest.raises(MappingError, match="lora_A"):
        match(successor, successor.tables["bert"], {**shapes, **lora}, {})


# What users of UER-py's own scripts ran into.


@pytest.mark.parametrize("heads", [("masked_lm",), ("pooler", "masked_lm", "next_sentence")])
def test_gamma_and_beta_are_read(tmp_path: Path, heads: tuple[str, ...]) -> None:
    old = {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): a
           for n, a in hf(heads).items()}  # fmt: skip
    pytest.importorskip("torch")
    write_hf(tmp_path / "in", old, hf_config(heads=heads), 37)
    interlingua.convert(tmp_path / "in", tmp_path / "out", to="uer", sync=False)
    assert_same(weights_of(tmp_path / "out"), uer(heads))


def test_a_model_without_a_pooler_is_converted(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    write_hf(tmp_path / "in", hf(("masked_lm",)), hf_config(heads=("masked_lm",)), 37)
    interlingua.convert(tmp_path / "in", tmp_path / "out", to="uer", sync=False)
    found = weights_of(tmp_path / "out")
    assert not any(name.startswith("target.sp") for name in found)
    assert found["embedding.seg.embedding.weight"].shape == (3, 12)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["target"] == ["mlm"]


def test_any_number_of_layers_needs_no_telling() -> None:
    shapes = {name: array.shape for name, array in uer(()).items()}
    deep = {name: shape for name, shape in shapes.items() if "transformer" not in name}
    for layer in range(36):
        deep |= {name.replace(".0.", f".{layer}.", 1): s for name, s in shapes.items() if "transformer.0." in name}
    assert match(DIALECTS["uer"], DIALECTS["uer"].tables["bert"], deep, {}).layers == 36


def test_more_than_two_token_types_do_not_fit(tmp_path: Path) -> None:
    arrays = hf(("masked_lm",))
    arrays["bert.embeddings.token_type_embeddings.weight"] = np.ones((4, 12), np.float32)
    write_hf(tmp_path / "in", arrays, hf_config(heads=("masked_lm",), type_vocab_size=4), 37)
    with pytest.raises(MappingError, match="always has 3 rows"):
        interlingua.convert(tmp_path / "in", tmp_path / "out", to="uer")
