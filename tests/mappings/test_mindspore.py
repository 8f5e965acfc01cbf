"""MindSpore's model zoo and MindFormers: their names, written out by hand, and what is read off them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

import interlingua
from interlingua.errors import FormatError, InterlinguaError, MappingError
from tests.models import SMALL, assert_same, bare, hf, hf_config, random_array, read_safetensors, safetensors_bytes

LAYER = {
    "attention.self.query": "attention.attention.query_layer",
    "attention.self.key": "attention.attention.key_layer",
    "attention.self.value": "attention.attention.value_layer",
    "attention.output.dense": "attention.output.dense",
    "attention.output.LayerNorm": "attention.output.layernorm",
    "intermediate.dense": "intermediate",
    "output.dense": "output.dense",
    "output.LayerNorm": "output.layernorm",
}
MODEL = {
    "embeddings.word_embeddings": "bert_embedding_lookup",
    "embeddings.position_embeddings": "bert_embedding_postprocessor.full_position_embedding",
    "embeddings.token_type_embeddings": "bert_embedding_postprocessor.token_type_embedding",
    "embeddings.LayerNorm": "bert_embedding_postprocessor.layernorm",
    "pooler.dense": "dense",
}
HEADS = {
    "cls.predictions.transform.dense": "cls1.dense",
    "cls.predictions.transform.LayerNorm": "cls1.layernorm",
    "cls.seq_relationship": "cls2.dense",
    "classifier": "dense_1",
    "qa_outputs": "dense1",
}
HEAD_SETS = (
    ("pooler",),
    ("pooler", "masked_lm", "next_sentence"),
    ("masked_lm",),
    ("pooler", "sequence_classification"),
    ("token_classification",),
    ("span_qa",),
)


def zoo_name(name: str, outer: str = "bert.", inner: str = "bert.") -> str:
    """The zoo's name of a tensor that transformers' bare model calls ``name``."""
    stem, _, part = name.rpartition(".")
    if "LayerNorm" in stem:
        part = {"weight": "gamma", "bias": "beta"}[part]
    if stem == "cls.predictions":
        return f"{outer}cls1.output_bias"
    if stem in HEADS:
        return f"{outer}{HEADS[stem]}.{part}"
    if stem in MODEL:
        return f"{outer}{inner}{MODEL[stem]}.{'embedding_table' if stem.endswith('_embeddings') else part}"
    number, _, rest = stem.removeprefix("encoder.layer.").partition(".")
    return f"{outer}{inner}bert_encoder.layers.{number}.{LAYER[rest]}.{part}"


def zoo(heads: Iterable[str], outer: str = "bert.", inner: str = "bert.") -> dict[str, np.ndarray]:
    """A model of the zoo, the same as ``tests.models.hf`` makes."""
    return {zoo_name(name, outer, inner): array for name, array in bare(heads).items()}


def settings(script: str = "run_classifier", **more: object) -> str:
    """The text of a configuration as the zoo writes them."""
    values = {
        "seq_length": SMALL.positions,
        "vocab_size": SMALL.vocab,
        "hidden_size": SMALL.hidden,
        "num_hidden_layers": SMALL.layers,
        "num_attention_heads": SMALL.heads,
        "intermediate_size": SMALL.intermediate,
        "hidden_act": '"gelu"',
        "hidden_dropout_prob": 0.2,
        "attention_probs_dropout_prob": 0.3,
        "max_position_embeddings": SMALL.positions,
        "type_vocab_size": SMALL.types,
        "initializer_range": 0.04,
        "use_relative_positions": False,
        "dtype": "mstype.float32",
        "compute_type": "mstype.float16",
        **more,
    }
    block = "".join(f"    {key}: {value}\n" for key, value in values.items())
    return f"# the zoo's\ndescription: '{script}'\nbert_net_cfg:\n{block}---\nhelp: 'more'\n"


def folder_with(folder: Path, arrays: dict[str, np.ndarray], text: str | None = None) -> Path:
    folder.mkdir()
    (folder / "bert.safetensors").write_bytes(safetensors_bytes(arrays, {"format": "ms"}))
    if text is not None:
        (folder / "bert_config.yaml").write_text(text)
    return folder


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint under the names that it has."""
    found = {}
    with interlingua.open(path) as checkpoint:
        for name, spec in checkpoint.tensors.items():
            raw = bytearray(spec.nbytes)
            checkpoint.reader.read_into(name, 0, memoryview(raw))
            found[name] = np.frombuffer(raw, np.dtype(spec.dtype.numpy)).reshape(spec.shape)
    return found


def script_of(heads: Iterable[str]) -> str:
    return "run_ner" if "token_classification" in heads else "run_squad" if "span_qa" in heads else "run_classifier"


@pytest.mark.parametrize("heads", HEAD_SETS, ids="+".join)
def test_the_zoos_names_are_transformers_names_and_back(tmp_path: Path, heads: tuple[str, ...]) -> None:
    source = folder_with(tmp_path / "zoo", zoo(heads), settings(script_of(heads)))
    interlingua.convert(source, tmp_path / "hf", to="hf")
    expected = hf(heads)
    assert_same(read_safetensors(tmp_path / "hf" / "model.safetensors"), expected)
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="mindspore", container="safetensors")
    assert_same(read_safetensors(tmp_path / "back" / "bert.safetensors"), zoo(heads))
    assert (tmp_path / "back" / "bert_config.yaml").read_text() == settings(script_of(heads))


@pytest.mark.parametrize(("outer", "inner"), [("", ""), ("", "bert."), ("bert.", "bert."), ("bert.bert.", "bert.")])
def test_none_to_three_prefixes_are_read(tmp_path: Path, outer: str, inner: str) -> None:
    heads = ("pooler", "masked_lm", "next_sentence") if inner else ("pooler",)
    source = folder_with(tmp_path / "zoo", zoo(heads, outer, inner), settings())
    interlingua.convert(source, tmp_path / "hf", to="hf")
    assert_same(read_safetensors(tmp_path / "hf" / "model.safetensors"), hf(heads))


def test_tables_that_were_parameters_of_their_own_are_read(tmp_path: Path) -> None:
    older = {".token_type_embedding.embedding_table": ".embedding_table"}
    older[".full_position_embedding.embedding_table"] = ".full_position_embeddings"
    arrays = zoo(["pooler"])
    for today, before in older.items():
        table = f"bert.bert.bert_embedding_postprocessor{today}"
        arrays[table.replace(today, before)] = arrays.pop(table)
    interlingua.convert(folder_with(tmp_path / "zoo", arrays, settings()), tmp_path / "hf", to="hf")
    assert_same(read_safetensors(tmp_path / "hf" / "model.safetensors"), hf(["pooler"]))


def test_transformers_is_told_the_zoos_epsilon_and_gelu(tmp_path: Path) -> None:
    source = folder_with(tmp_path / "zoo", zoo(["pooler"]), settings())
    interlingua.convert(source, tmp_path / "hf", to="hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["hidden_act"] == "gelu_new"
    assert config["layer_norm_eps"] == 1e-7
    assert config["num_attention_heads"] == SMALL.heads
    assert (config["hidden_dropout_prob"], config["attention_probs_dropout_prob"]) == (0.2, 0.3)


def test_a_configuration_for_pretraining_says_which_of_its_models_it_is(tmp_path: Path) -> None:
    block = settings().partition("bert_net_cfg:\n")[2].partition("---")[0]
    other = block.replace(f"num_attention_heads: {SMALL.heads}", "num_attention_heads: 3")
    text = f"description: run_pretrain\nbert_network: large\nbase_net_cfg:\n{other}large_net_cfg:\n{block}"
    source = folder_with(tmp_path / "zoo", zoo(["pooler"]), text)
    with interlingua.open(source) as checkpoint:
        assert checkpoint.completed.config.num_attention_heads == SMALL.heads
    interlingua.convert(source, tmp_path / "hf", to="hf")
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="mindspore")
    assert (tmp_path / "back" / "bert_config.yaml").read_text() == text


def test_a_changed_configuration_is_written_as_the_code_reads_it(tmp_path: Path) -> None:
    source = tmp_path / "hf"
    source.mkdir()
    heads = ("pooler", "sequence_classification")
    (source / "model.safetensors").write_bytes(safetensors_bytes(hf(heads), {"format": "pt"}))
    (source / "config.json").write_text(json.dumps(hf_config(heads=heads)))
    interlingua.convert(source, tmp_path / "zoo", to="mindspore")
    text = (tmp_path / "zoo" / "bert_config.yaml").read_text()
    assert "description: run_classifier\nnum_class: 5\n" in text
    assert "\nbert_net_cfg:\n  " in text
    assert "\n  hidden_act: gelu\n" in text
    assert f"\n  seq_length: {SMALL.positions}" in text
    assert "&" not in text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (settings().replace('"gelu"', '"fast_gelu"'), "fast_gelu"),
        (settings().replace("use_relative_positions: False", "use_relative_positions: True"), "use_relative_positions"),
        (settings().replace("bert_net_cfg:", "bert_net_cfg: &all"), "anchor"),
        (settings().replace("bert_net_cfg:", "bert_net_cfg: !!python/dict"), "tag"),
    ],
)
def test_a_configuration_of_something_else_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    source = folder_with(tmp_path / "zoo", zoo(["pooler"]), text)
    with pytest.raises(InterlinguaError, match=complaint):
        interlingua.convert(source, tmp_path / "hf", to="hf")


def test_optimizer_moments_are_no_second_model_and_come_back(tmp_path: Path) -> None:
    arrays = zoo(["pooler"])
    rng = np.random.default_rng(7)
    slots = {
        f"{slot}.{name}": random_array(rng, array.shape)
        for slot in ("adam_m", "lamb_v", "moments")
        for name, array in arrays.items()
    }
    slots |= {
        "global_step": np.array([7], np.int32),
        "accu_grads.bert.bert.dense.bias": random_array(rng, (SMALL.hidden,)),
    }
    source = folder_with(tmp_path / "zoo", arrays | slots, settings())
    interlingua.convert(source, tmp_path / "hf", to="hf")
    assert_same(read_safetensors(tmp_path / "hf" / "model.safetensors"), hf(["pooler"]))
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="mindspore", container="safetensors")
    assert_same(read_safetensors(tmp_path / "back" / "bert.safetensors"), arrays | slots)


def test_a_tagger_is_told_by_its_script_or_by_its_transitions(tmp_path: Path) -> None:
    arrays = zoo(["pooler", "token_classification"])
    for name, text, more, expected in (
        ("script", settings("run_ner"), {}, "token_classification"),
        ("transitions", None, {"loss.transitions": np.zeros((5, 5), np.float32)}, "token_classification"),
        ("neither", None, {}, "sequence_classification"),
    ):
        with interlingua.open(folder_with(tmp_path / name, arrays | more, text)) as checkpoint:
            assert checkpoint.heads == ("pooler", expected), name


def test_a_tagger_behind_an_lstm_is_no_token_classification(tmp_path: Path) -> None:
    arrays = zoo(["pooler", "token_classification"])
    arrays["bert.lstm.weight_ih_l0"] = np.zeros((24, 12), np.float32)
    source = folder_with(tmp_path / "zoo", arrays, settings("run_ner"))
    with interlingua.open(source) as checkpoint:
        assert checkpoint.heads == ("pooler",)
        assert set(checkpoint.match.leftovers) == {"bert.lstm.weight_ih_l0", "bert.dense_1.weight", "bert.dense_1.bias"}
    interlingua.convert(source, tmp_path / "hf", to="hf")
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="mindspore", container="safetensors")
    assert_same(read_safetensors(tmp_path / "back" / "bert.safetensors"), arrays)


RELATIVE = "attention.attention._generate_relative_positions_embeddings"


def nezha(part: str = "embeddings_table") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    size = SMALL.hidden // SMALL.heads
    tables = {
        f"bert.bert.bert_encoder.layers.{layer}.{RELATIVE}.{part}": random_array(rng, (33, size))
        for layer in range(SMALL.layers)
    }
    return zoo(["pooler"]) | tables


@pytest.mark.parametrize("part", ["embeddings_table", "embeddings_for_position"])
def test_relative_positions_make_it_a_nezha(tmp_path: Path, part: str) -> None:
    source = folder_with(tmp_path / "zoo", nezha(part))
    with interlingua.open(source) as checkpoint:
        assert (checkpoint.dialect, checkpoint.family) == ("mindspore", "nezha")
        config = checkpoint.completed.config
        assert (config.num_attention_heads, config.max_relative_position) == (SMALL.heads, 16)
    with pytest.raises(MappingError, match=r"Hugging Face transformers has no .*position"):
        interlingua.convert(source, tmp_path / "hf", to="hf")
    interlingua.convert(source, tmp_path / "again", to="mindspore")
    assert_same(arrays_of(tmp_path / "again"), nezha())


def test_a_nezha_without_learned_positions_is_none_that_mindspore_could_compute(tmp_path: Path) -> None:
    source = tmp_path / "hf"
    source.mkdir()
    arrays = {name: array for name, array in bare(["pooler"]).items() if "position" not in name}
    (source / "model.safetensors").write_bytes(safetensors_bytes(arrays, {"format": "pt"}))
    config = {**hf_config(), "model_type": "nezha", "architectures": ["NezhaModel"], "max_relative_position": 64}
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(MappingError, match="relative_positions"):
        interlingua.convert(source, tmp_path / "zoo", to="mindspore")
    assert not (tmp_path / "zoo").exists()


def test_keras_bert_comes_to_mindspore(tmp_path: Path) -> None:
    """mindspore-ai/mindspore 143: a TF2 checkpoint, whose attention kernels have three axes, is no TF1 one."""
    heads = ("pooler",)
    source = tmp_path / "hf"
    source.mkdir()
    (source / "model.safetensors").write_bytes(safetensors_bytes(hf(heads), {"format": "pt"}))
    (source / "config.json").write_text(json.dumps(hf_config(heads=heads)))
    interlingua.convert(source, tmp_path / "tf2", to="tf2")
    interlingua.convert(tmp_path / "tf2", tmp_path / "zoo", to="mindspore")
    assert_same(arrays_of(tmp_path / "zoo"), zoo(heads))


FORMERS_LAYER = {
    "attention.self.query": ("attention.dense1", False),
    "attention.self.key": ("attention.dense2", False),
    "attention.self.value": ("attention.dense3", False),
    "attention.output.dense": ("attention.projection", True),
    "attention.output.LayerNorm": ("layernorm2", False),
    "intermediate.dense": ("output.mapping", True),
    "output.dense": ("output.projection", True),
    "output.LayerNorm": ("layernorm1", False),
}
FORMERS = {
    "embeddings.word_embeddings": "bert.word_embedding",
    "embeddings.position_embeddings": "bert.embedding_postprocessor.full_position_embedding",
    "embeddings.token_type_embeddings": "bert.embedding_postprocessor.token_type_embedding",
    "embeddings.LayerNorm": "bert.embedding_postprocessor.layernorm",
    "pooler.dense": "bert.dense",
    "cls.predictions.transform.dense": "mlmloss.dense",
    "cls.predictions.transform.LayerNorm": "mlmloss.layernorm",
    "cls.seq_relationship": "nsploss.dense",
    "classifier": "classifier",
    "qa_outputs": "qa_outputs",
}


def formers(heads: Iterable[str]) -> dict[str, np.ndarray]:
    """A model of MindFormers 1.0, the same as ``tests.models.hf`` makes."""
    found = {}
    for name, array in bare(heads).items():
        stem, _, part = name.rpartition(".")
        if "LayerNorm" in stem:
            part = {"weight": "gamma", "bias": "beta"}[part]
        if stem == "cls.predictions":
            found["mlmloss.output_bias"] = array
        elif stem in FORMERS:
            found[f"{FORMERS[stem]}.{'embedding_table' if stem.endswith('_embeddings') else part}"] = array
        else:
            number, _, rest = stem.removeprefix("encoder.layer.").partition(".")
            theirs, turned = FORMERS_LAYER[rest]
            turned = turned and array.ndim == 2
            found[f"bert.bert_encoder.encoder.blocks.{number}.{theirs}.{part}"] = array.T if turned else array
    return found


FORMERS_CLASSES = {"token_classification": "BertForTokenClassification", "span_qa": "BertForQuestionAnswering"}


@pytest.mark.parametrize("heads", HEAD_SETS, ids="+".join)
def test_mindformers_names_and_orientations_are_transformers_and_back(tmp_path: Path, heads: tuple[str, ...]) -> None:
    source = tmp_path / "formers"
    source.mkdir()
    arrays = {name: np.ascontiguousarray(array) for name, array in formers(heads).items()}
    (source / "mindspore_model.safetensors").write_bytes(safetensors_bytes(arrays))
    kind = next((FORMERS_CLASSES[head] for head in heads if head in FORMERS_CLASSES), "BertForPreTraining")
    block = settings(post_layernorm_residual=True).partition("bert_net_cfg:\n")[2].partition("---")[0]
    text = f"seed: 0\nmodel:\n  arch: {{type: {kind}}}\n  model_config:\n{block}"
    (source / "mindspore_model.yaml").write_text(text)
    interlingua.convert(source, tmp_path / "hf", to="hf")
    assert_same(read_safetensors(tmp_path / "hf" / "model.safetensors"), hf(heads))
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (config["hidden_act"], config["layer_norm_eps"]) == ("gelu_new", 1e-5)
    interlingua.convert(tmp_path / "hf", tmp_path / "back", to="mindformers")
    assert_same(arrays_of(tmp_path / "back" / "mindspore_model.ckpt"), arrays)
    assert (tmp_path / "back" / "mindspore_model.yaml").read_text() == text


def test_a_head_of_mindformers_own_script_is_kept_aside(tmp_path: Path) -> None:
    arrays = {name: np.ascontiguousarray(a) for name, a in formers(["pooler", "masked_lm"]).items()}
    del arrays["mlmloss.output_bias"]
    arrays["mlmloss.vocab_dense.weight"] = arrays["bert.word_embedding.embedding_table"]
    arrays = {name if name.startswith("bert.") else f"bert.{name}": array for name, array in arrays.items()}
    source = folder_with(tmp_path / "formers", arrays)
    with interlingua.open(source) as checkpoint:
        assert (checkpoint.dialect, checkpoint.heads) == ("mindformers", ("pooler",))
        assert all("mlmloss" in name for name in checkpoint.match.leftovers)


def test_a_damaged_yaml_is_refused(tmp_path: Path) -> None:
    source = folder_with(tmp_path / "zoo", zoo(["pooler"]), "bert_net_cfg: [")
    with pytest.raises(FormatError, match="no YAML"):
        interlingua.convert(source, tmp_path / "hf", to="hf")
