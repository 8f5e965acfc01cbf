"""The names of transformers' Keras classes, as their files have them."""

from __future__ import annotations

import json

import pytest

from interlingua.mappings.dialect import check_table
from interlingua.mappings.huggingface_tf import HF_TF, layer_names, name_in_file, snake_case, tidy
from interlingua.mappings.rules import Transpose

# As TFBertForPreTraining of transformers 4.57.1 writes them: layer, class, path.
WRITTEN = {
    "embeddings.word_embeddings.weight": "bert/{}/bert/embeddings/word_embeddings/weight:0",
    "embeddings.position_embeddings.weight": "bert/{}/bert/embeddings/position_embeddings/embeddings:0",
    "embeddings.token_type_embeddings.weight": "bert/{}/bert/embeddings/token_type_embeddings/embeddings:0",
    "embeddings.LayerNorm.weight": "bert/{}/bert/embeddings/LayerNorm/gamma:0",
    "encoder.layer.11.attention.self.query.weight": "bert/{}/bert/encoder/layer_._11/attention/self/query/kernel:0",
    "encoder.layer.0.output.LayerNorm.bias": "bert/{}/bert/encoder/layer_._0/output/LayerNorm/beta:0",
    "pooler.dense.weight": "bert/{}/bert/pooler/dense/kernel:0",
    "next_sentence.bias": "nsp___cls/{}/nsp___cls/seq_relationship/bias:0",
    "masked_lm.transform.dense.weight": "mlm___cls/{}/mlm___cls/predictions/transform/dense/kernel:0",
    "masked_lm.decoder.bias": "mlm___cls/{}/mlm___cls/predictions/bias:0",
}
OTHERS = {
    ("albert", "encoder.group.0.attention.self.key.weight", "AlbertModel"): (
        "albert/tf_albert_model/albert/encoder/albert_layer_groups_._0/albert_layers_._0/attention/key/kernel:0"
    ),
    ("roberta", "masked_lm.transform.LayerNorm.weight", "RobertaForMaskedLM"): (
        "lm_head/tf_roberta_for_masked_lm/lm_head/layer_norm/gamma:0"
    ),
    ("xlm-roberta", "sequence_classification.output.weight", "XLMRobertaForSequenceClassification"): (
        "classifier/tfxlm_roberta_for_sequence_classification/classifier/out_proj/kernel:0"
    ),
    ("electra", "embeddings_project.weight", "ElectraModel"): (
        "electra/tf_electra_model/electra/embeddings_project/kernel:0"
    ),
    ("distilbert", "encoder.layer.1.intermediate.dense.bias", "DistilBertModel"): (
        "distilbert/tf_distil_bert_model/distilbert/transformer/layer_._1/ffn/lin1/bias:0"
    ),
}


@pytest.mark.parametrize("family", HF_TF.tables)
def test_every_table_is_sound(family: str) -> None:
    assert check_table(HF_TF.tables[family]) == []


def test_there_is_no_ernie_and_no_nezha() -> None:
    assert list(HF_TF.tables) == ["bert", "albert", "roberta", "xlm-roberta", "electra", "distilbert"]


@pytest.mark.parametrize("canonical", WRITTEN)
def test_names_are_layer_class_and_path(canonical: str) -> None:
    table = HF_TF.tables["bert"]
    heads = ("pooler", "masked_lm", "next_sentence")
    rule = table.rule(canonical, heads)
    assert rule is not None
    assert table.spell(rule.native, canonical, heads) == WRITTEN[canonical].format("tf_bert_for_pre_training")
    assert (rule.operation == Transpose()) == (WRITTEN[canonical].endswith("kernel:0"))


@pytest.mark.parametrize(("family", "canonical", "model"), OTHERS)
def test_names_of_the_other_families(family: str, canonical: str, model: str) -> None:
    table = HF_TF.tables[family]
    heads = dict(table.architectures)[model]
    rule = table.rule(canonical, heads)
    assert rule is not None
    assert table.spell(rule.native, canonical, heads) == OTHERS[family, canonical, model]


def test_embeddings_are_listed_again_only_where_a_layer_computes_with_them() -> None:
    table = HF_TF.tables["bert"]
    with_head = table.rule("embeddings.LayerNorm.bias", ("masked_lm",))
    without = table.rule("embeddings.LayerNorm.bias", ("pooler",))
    assert with_head is not None
    assert without is not None
    assert with_head.copies == ("mlm___cls/{model}/bert/embeddings/LayerNorm/beta:0",)
    assert without.copies == ()


def test_the_decoder_of_a_masked_lm_has_no_name() -> None:
    assert all(table.rule("masked_lm.decoder.weight", ("masked_lm",)) is None for table in HF_TF.tables.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bert/tf_bert_model/bert/pooler/dense/kernel:0", "bert/pooler/dense/kernel"),
        ("bert/tf_bert_model_1/bert/pooler/dense/kernel:0", "bert/pooler/dense/kernel"),
        (
            "lm_head/tfxlm_roberta_for_masked_lm/roberta/embeddings/LayerNorm/beta:0",
            "roberta/embeddings/LayerNorm/beta",
        ),
        ("bert/pooler/dense/kernel:0", "bert/pooler/dense/kernel"),
    ],
)
def test_layer_and_class_are_taken_off(name: str, expected: str) -> None:
    assert tidy(name) == expected


def test_shards_and_safetensors_have_the_path_alone() -> None:
    name = "bert/tf_bert_model/bert/pooler/dense/kernel:0"
    assert name_in_file(name, "keras-hdf5", False) == name
    assert name_in_file(name, "keras-hdf5", True) == "bert/pooler/dense/kernel:0"
    assert name_in_file(name, "safetensors", False) == "bert/pooler/dense/kernel:0"


def test_a_shard_lists_its_variables_as_layers_and_one_file_lists_none() -> None:
    short = ["bert/pooler/dense/kernel:0", "bert/pooler/dense/bias:0"]
    assert json.loads(layer_names(short)["layer_names"]) == short
    assert layer_names(["bert/tf_bert_model/bert/pooler/dense/kernel:0"]) == {}
    assert layer_names([]) == {}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("TFBertForMaskedLM", "tf_bert_for_masked_lm"),
        ("TFXLMRobertaModel", "tfxlm_roberta_model"),
        ("TFDistilBertForQuestionAnswering", "tf_distil_bert_for_question_answering"),
    ],
)
def test_a_class_in_snake_case(name: str, expected: str) -> None:
    assert snake_case(name) == expected


@pytest.mark.parametrize(
    ("names", "config", "head"),
    [
        (["bert/tf_x/bert/pooler/dense/kernel:0"], {}, "sequence_classification"),
        (["classifier/tf_x/classifier/kernel:0"], {}, "token_classification"),
        (["bert/pooler/dense/kernel:0"], {"architectures": ["BertForMultipleChoice"]}, "multiple_choice"),
    ],
)
def test_the_task_is_told_as_in_torch(names: list[str], config: dict[str, object], head: str) -> None:
    finder = HF_TF.tables["bert"].find_task
    assert finder is not None
    told = finder(dict.fromkeys(names, (2, 2)), config)
    assert told is not None
    assert told[0] == head
