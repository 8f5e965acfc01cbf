"""PaddleNLP: names of several versions, nested configurations, and which task a classifier is for.

Names and files are written out by hand from PaddleNLP 2.8.1 and 2.4.9.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import interlingua
from interlingua.errors import MappingError
from tests.models import (
    BFLOAT16,
    Arrays,
    assert_same,
    bare,
    hf,
    hf_config,
    prefixed,
    read_safetensors,
    safetensors_bytes,
    weights_of,
    write_hf,
)

RENAMED = {
    "encoder.layer.": "encoder.layers.",
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "linear1",
    "output.LayerNorm": "norm2",
    "output.dense": "linear2",
    "embeddings.LayerNorm": "embeddings.layer_norm",
    "cls.predictions.transform.dense": "cls.predictions.transform",
    "cls.predictions.transform.LayerNorm": "cls.predictions.layer_norm",
    "cls.predictions.bias": "cls.predictions.decoder_bias",
    "qa_outputs": "classifier",
}


def paddle(arrays: Mapping[str, np.ndarray], prefix: str = "", new: bool = True) -> Arrays:
    """A bare BERT as PaddleNLP keeps it; ``new``: 2.6 and later, where it has a masked-LM head."""
    made = {}
    for name, array in prefixed(arrays, prefix).items():
        turned = array.ndim == 2 and "_embeddings" not in name
        for theirs, ours in RENAMED.items():
            name = name.replace(theirs, ours)
        made[name] = np.ascontiguousarray(array.T) if turned else array
    if "cls.predictions.decoder_bias" in made:
        word = made[f"{prefix}embeddings.word_embeddings.weight"]
        made["cls.predictions.decoder.weight" if new else "cls.predictions.decoder_weight"] = word
        if new:
            made["cls.predictions.decoder.bias"] = made["cls.predictions.decoder_bias"]
    return made


def config(**more: object) -> dict[str, object]:
    return {
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 12,
        "initializer_range": 0.02,
        "intermediate_size": 20,
        "max_position_embeddings": 17,
        "num_attention_heads": 6,
        "num_hidden_layers": 3,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": 37,
        **more,
    }


def new_config(architecture: str, **more: object) -> dict[str, object]:
    return config(architectures=[architecture], model_type="bert", paddlenlp_version=None, **more)


def write_paddle(folder: Path, arrays: Mapping[str, np.ndarray], said: object, name: str = "config.json") -> Path:
    folder.mkdir(parents=True)
    names = {key: f"parameter_{number}" for number, key in enumerate(arrays)}
    data = {**arrays, "StructuredToParameterName@@": names}
    (folder / "model_state.pdparams").write_bytes(pickle.dumps(data, protocol=4))
    if said is not None:
        (folder / name).write_text(json.dumps(said, indent=2))
    return folder


def read_paddle(path: Path) -> Arrays:
    found = pickle.loads(path.read_bytes())
    found.pop("StructuredToParameterName@@", None)
    return found


TASKS = {
    "BertForSequenceClassification": ("sequence_classification", "classifier"),
    "BertForTokenClassification": ("token_classification", "classifier"),
    "BertForQuestionAnswering": ("span_qa", "qa_outputs"),
}


def headed(task: str, seed: int = 0) -> Arrays:
    """A model with a pooler, as PaddleNLP's classes all have, and a head."""
    return bare(("pooler", task), seed=seed)


@pytest.mark.parametrize("architecture", TASKS)
@pytest.mark.parametrize("nested", [False, True], ids=["config.json", "model_config.json"])
def test_a_classifier_is_what_the_class_says(tmp_path: Path, architecture: str, nested: bool) -> None:
    task, theirs = TASKS[architecture]
    arrays = headed(task)
    said = new_config(architecture) if not nested else old_config(architecture, 5)
    name = "model_config.json" if nested else "config.json"
    source = write_paddle(tmp_path / "a", paddle(arrays, "bert."), said, name)
    with interlingua.open(source) as seen:
        assert (seen.dialect, seen.family, seen.heads) == ("paddle", "bert", ("pooler", task))
    interlingua.convert(source, tmp_path / "hf", to="hf")
    found = read_safetensors(tmp_path / "hf/model.safetensors")
    assert_same(found, prefixed(arrays))
    assert f"{theirs}.weight" in found


def old_config(architecture: str, classes: int) -> dict[str, object]:
    """``model_config.json`` of PaddleNLP before 2.5."""
    return {
        "init_args": [{**config(pool_act="tanh"), "init_class": "BertModel"}],
        "num_classes": classes,
        "dropout": None,
        "init_class": architecture,
    }


def test_a_nested_configuration_comes_back_as_it_was(tmp_path: Path) -> None:
    said = old_config("BertForTokenClassification", 5)
    source = write_paddle(tmp_path / "a", paddle(headed("token_classification"), "bert."), said, "model_config.json")
    interlingua.convert(source, tmp_path / "hf", to="hf")
    written = json.loads((tmp_path / "hf/config.json").read_text())
    assert (written["model_type"], written["hidden_size"]) == ("bert", 12)
    assert written["architectures"] == ["BertForTokenClassification"]
    interlingua.convert(tmp_path / "hf", tmp_path / "again", to="paddle")
    assert json.loads((tmp_path / "again/config.json").read_text()) == said


def test_a_nested_configuration_takes_new_values_where_it_had_the_old() -> None:
    from interlingua.mappings.paddlenlp import nest, unnest

    said = old_config("BertForTokenClassification", 5)
    flat = unnest(said)
    assert (flat["hidden_size"], flat["init_class"], flat["num_classes"]) == (12, "BertForTokenClassification", 5)
    again = nest({**flat, "hidden_act": "relu", "num_classes": 7}, said)
    assert again["init_args"] == [{**config(pool_act="tanh"), "init_class": "BertModel", "hidden_act": "relu"}]
    assert (again["num_classes"], again["init_class"]) == (7, "BertForTokenClassification")
    assert nest(flat, {}) == flat


def test_the_decoders_of_older_versions_are_known(tmp_path: Path) -> None:
    arrays = bare(("pooler", "masked_lm", "next_sentence"))
    for new in (True, False):
        source = write_paddle(tmp_path / str(new), paddle(arrays, "bert.", new), new_config("BertForPretraining"))
        interlingua.convert(source, tmp_path / f"hf {new}", to="hf")
        assert_same(read_safetensors(tmp_path / f"hf {new}/model.safetensors"), prefixed(arrays))
        interlingua.convert(tmp_path / f"hf {new}", tmp_path / f"again {new}", to="paddle")
        assert_same(read_paddle(tmp_path / f"again {new}/model_state.pdparams"), paddle(arrays, "bert."))


def test_a_task_type_that_is_not_the_first_is_told(tmp_path: Path) -> None:
    """Every token gets the task that the configuration names; other systems take task 0."""
    said = {**new_config("ErnieModel"), "model_type": "ernie", "use_task_id": True, "task_id": 2}
    arrays = {**bare(("pooler",)), "embeddings.task_type_embeddings.weight": np.ones((3, 12), "f4")}
    source = write_paddle(tmp_path / "a", paddle(arrays), said)
    with pytest.raises(MappingError, match="task_id = 2"):
        interlingua.convert(source, tmp_path / "hf", to="hf")


def test_an_ernie_of_transformers_becomes_paddlenlps(tmp_path: Path) -> None:
    """ERNIE-Pytorch#26: back to PaddlePaddle, heads, task embedding and epsilon with it."""
    rng = np.random.default_rng(1)
    arrays = bare(("pooler", "masked_lm", "next_sentence"))
    arrays["embeddings.task_type_embeddings.weight"] = rng.standard_normal((3, 12)).astype("f4")
    said = {**hf_config(heads=("pooler", "masked_lm", "next_sentence")), "model_type": "ernie", "hidden_act": "relu"}
    said |= {"architectures": ["ErnieForPreTraining"], "use_task_id": True, "task_type_vocab_size": 3}
    write_hf(tmp_path / "hf", prefixed(arrays, "ernie."), {**said, "layer_norm_eps": 1e-5})
    made = interlingua.convert(tmp_path / "hf", tmp_path / "a", to="paddle")
    assert_same(read_paddle(tmp_path / "a/model_state.pdparams"), paddle(arrays, "ernie."))
    written = json.loads((tmp_path / "a/config.json").read_text())
    assert (written["model_type"], written["architectures"]) == ("ernie", ["ErnieForPretraining"])
    assert (written["use_task_id"], written["task_type_vocab_size"], written["hidden_act"]) == (True, 3, "relu")
    # ERNIE#75: PaddleNLP's ERNIE computes with 1e-12 whatever its configuration says.
    assert any("epsilon is 1e-05" in note and "1e-12" in note for note in made.plan.notes)
    assert any("padding token's embedding is taken" in note for note in made.plan.notes)


def test_bfloat16_that_paddle_keeps_as_uint16_is_bfloat16(tmp_path: Path) -> None:
    arrays = bare(("pooler",), dtype=BFLOAT16)
    kept = {name: array.view(np.uint16) for name, array in paddle(arrays).items()}
    source = write_paddle(tmp_path / "a", kept, new_config("BertModel", dtype="bfloat16"))
    (tmp_path / "b").mkdir()
    (tmp_path / "b/model.safetensors").write_bytes(safetensors_bytes(kept, {"format": "np"}))
    (tmp_path / "b/config.json").write_bytes((source / "config.json").read_bytes())
    for folder in ("a", "b"):
        interlingua.convert(tmp_path / folder, tmp_path / f"{folder} hf", to="hf")
        assert_same(read_safetensors(tmp_path / f"{folder} hf/model.safetensors"), arrays)


def test_shards_are_named_and_listed_as_paddlenlp_does(tmp_path: Path) -> None:
    arrays = bare(("pooler",))
    write_hf(tmp_path / "hf", arrays, hf_config())
    interlingua.convert(tmp_path / "hf", tmp_path / "a", to="paddle", max_shard_size=4096)
    index = json.loads((tmp_path / "a/model_state.pdparams.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert files[0] == f"model_state-00001-of-{len(files):05}.pdparams"
    found = {name: array for file in files for name, array in read_paddle(tmp_path / "a" / file).items()}
    assert_same(found, paddle(arrays))


def test_heads_that_only_paddlenlp_has_are_residue_and_come_back(tmp_path: Path) -> None:
    """UIE's and UTC's layers, and ERNIE-Health's: transformers has no such heads."""
    arrays = paddle(bare(("pooler",)))
    arrays |= {"linear_start.weight": np.ones((12, 1), "f4"), "linear_start.bias": np.ones(1, "f4")}
    source = write_paddle(tmp_path / "a", arrays, {**new_config("UIE"), "model_type": "ernie"})
    made = interlingua.convert(source, tmp_path / "hf", to="hf")
    assert {kept.name for kept in made.plan.residue} >= {"linear_start.weight", "linear_start.bias"}
    interlingua.convert(tmp_path / "hf", tmp_path / "again", to="paddle")
    assert_same(read_paddle(tmp_path / "again/model_state.pdparams"), arrays)
    assert (tmp_path / "again/config.json").read_bytes() == (source / "config.json").read_bytes()


def test_the_encoder_of_an_old_uie_is_found_behind_its_prefix(tmp_path: Path) -> None:
    arrays = paddle(bare(("pooler",)))
    named = {f"encoder.{name}": array for name, array in arrays.items()} | {"linear_end.bias": np.ones(1, "f4")}
    said = {**config(), "init_class": "UIE"}
    source = write_paddle(tmp_path / "a", named, {"init_args": [{**said, "init_class": "ErnieModel"}], **said})
    interlingua.convert(source, tmp_path / "hf", to="hf")
    assert_same(read_safetensors(tmp_path / "hf/model.safetensors"), bare(("pooler",)))


@pytest.mark.parametrize("container", ["paddle-pickle", "safetensors"])
def test_bfloat16_is_called_uint16_as_paddle_does(tmp_path: Path, container: str) -> None:
    source = write_hf(tmp_path / "hf", hf(("pooler",), dtype=BFLOAT16), hf_config(), 37)
    interlingua.convert(source, tmp_path / "paddle", to="paddle", container=container)
    file = next(path for path in (tmp_path / "paddle").iterdir() if path.name.startswith("model"))
    with interlingua.open(file, dialect="paddle", config=tmp_path / "paddle" / "config.json") as seen:
        assert {spec.dtype.name for spec in seen.tensors.values()} == {"bfloat16"}
    if container == "safetensors":
        raw = file.read_bytes()
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"U16"}
    interlingua.convert(tmp_path / "paddle", tmp_path / "back", to="hf")
    assert_same(weights_of(tmp_path / "back"), weights_of(source))


def test_a_narrowing_cast_for_paddle_is_the_one_for_any_other(tmp_path: Path) -> None:
    source = write_hf(tmp_path / "hf", hf(("pooler",)), hf_config(), 37)
    interlingua.convert(source, tmp_path / "narrow", to="hf", dtype="bfloat16")
    interlingua.convert(source, tmp_path / "paddle", to="paddle", container="safetensors", dtype="bfloat16")
    interlingua.convert(tmp_path / "paddle", tmp_path / "back", to="hf")
    assert_same(weights_of(tmp_path / "back"), weights_of(tmp_path / "narrow"))
