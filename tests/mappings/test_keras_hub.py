"""The names and the nested configuration of KerasHub's presets, as its files have them."""

from __future__ import annotations

import json

import pytest

from interlingua.mappings.dialect import check_table
from interlingua.mappings.keras_hub import KERAS_HUB, layer_names, unwrap, wrap
from interlingua.mappings.rules import PadRows, SplitHeads, Transpose

# As BertBackbone.save_to_preset of keras-hub 0.32 writes them, with their shapes: hidden 12, 3 heads, intermediate 20.
BERT = {
    "embeddings.word_embeddings.weight": ("layers/reversible_embedding/vars/0", (37, 12), (37, 12)),
    "embeddings.position_embeddings.weight": ("layers/position_embedding/vars/0", (17, 12), (17, 12)),
    "embeddings.token_type_embeddings.weight": ("layers/embedding/vars/0", (2, 12), (2, 12)),
    "embeddings.LayerNorm.bias": ("layers/layer_normalization/vars/1", (12,), (12,)),
    "encoder.layer.0.attention.self.query.weight": (
        "layers/transformer_encoder/_self_attention_layer/query_dense/vars/0",
        (12, 12),
        (12, 3, 4),
    ),
    "encoder.layer.1.attention.self.value.bias": (
        "layers/transformer_encoder_1/_self_attention_layer/value_dense/vars/1",
        (12,),
        (3, 4),
    ),
    "encoder.layer.2.attention.output.dense.weight": (
        "layers/transformer_encoder_2/_self_attention_layer/output_dense/vars/0",
        (12, 12),
        (3, 4, 12),
    ),
    "encoder.layer.10.attention.output.dense.bias": (
        "layers/transformer_encoder_10/_self_attention_layer/output_dense/vars/1",
        (12,),
        (12,),
    ),
    "encoder.layer.0.attention.output.LayerNorm.weight": (
        "layers/transformer_encoder/_self_attention_layer_norm/vars/0",
        (12,),
        (12,),
    ),
    "encoder.layer.0.intermediate.dense.weight": (
        "layers/transformer_encoder/_feedforward_intermediate_dense/vars/0",
        (20, 12),
        (12, 20),
    ),
    "encoder.layer.0.output.dense.weight": (
        "layers/transformer_encoder/_feedforward_output_dense/vars/0",
        (12, 20),
        (20, 12),
    ),
    "encoder.layer.0.output.LayerNorm.bias": (
        "layers/transformer_encoder/_feedforward_layer_norm/vars/1",
        (12,),
        (12,),
    ),
    "pooler.dense.weight": ("layers/dense/vars/0", (12, 12), (12, 12)),
}


@pytest.mark.parametrize("family", KERAS_HUB.tables)
def test_every_table_is_sound(family: str) -> None:
    assert check_table(KERAS_HUB.tables[family]) == []


@pytest.mark.parametrize("canonical", BERT)
def test_names_and_shapes_of_a_bert(canonical: str) -> None:
    table = KERAS_HUB.tables["bert"]
    name, shape, native = BERT[canonical]
    rule = table.rule(canonical, ("pooler",))
    assert rule is not None
    assert table.spell(rule.native, canonical, ("pooler",)) == name
    assert table.parse(name) == (rule.native, int(canonical.split(".")[2]) if "layer." in canonical else None)
    assert (rule.operation.native_shape(shape, 3) if rule.operation else shape) == native


def test_square_matrices_are_turned_and_biases_are_cut() -> None:
    rules = {rule.canonical: rule.operation for rule in KERAS_HUB.tables["bert"].rules}
    layer = "encoder.layer.{layer}.attention"
    assert rules[f"{layer}.self.key.weight"] == Transpose(heads=1)
    assert rules[f"{layer}.self.key.bias"] == SplitHeads()
    assert rules[f"{layer}.output.dense.weight"] == Transpose(heads=0)
    assert rules["pooler.dense.weight"] == Transpose()


def test_alberts_first_dense_layer_is_its_projection_and_the_second_its_pooler() -> None:
    rules = {rule.canonical: rule.native for rule in KERAS_HUB.tables["albert"].rules}
    assert rules["encoder.embedding_hidden_mapping_in.weight"] == "layers/dense/vars/0"
    assert rules["pooler.dense.bias"] == "layers/dense_1/vars/1"


ELECTRA = ["layers/dense/vars/0", "layers/dense/vars/1", "layers/dense_1/vars/0", "layers/dense_1/vars/1"]


def test_electras_pooler_is_the_last_dense_layer_of_those_that_there_are() -> None:
    table = KERAS_HUB.tables["electra"]
    assert table.strangers(dict.fromkeys(ELECTRA, ())) == frozenset()
    assert table.strangers(dict.fromkeys(ELECTRA[:2], ())) == frozenset(ELECTRA[:2])
    projected = ["embeddings_project.weight", "embeddings_project.bias"]
    assert dict(table.fillings(projected)) == {ELECTRA[2]: ("hidden", "hidden"), ELECTRA[3]: ("hidden",)}
    assert list(table.fillings([])) == ELECTRA[:2]


def test_electra_calls_its_projection_otherwise_than_albert() -> None:
    describe = KERAS_HUB.folder_of("electra").metadata["keras-weights-hdf5"]
    assert callable(describe)
    names = json.loads(describe(ELECTRA)["names"])
    assert names == {"layers/dense/vars": "embeddings_projection", "layers/dense_1/vars": "pooled_dense"}


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_robertas_positions_begin_behind_the_padding_row(family: str) -> None:
    table = KERAS_HUB.tables[family]
    rule = table.rule("embeddings.position_embeddings.weight", ())
    assert rule is not None
    assert rule.operation == PadRows(before=-2)
    native = {
        "class_name": table.config.only["class_name"][0],
        "config": {"vocabulary_size": 37, "max_sequence_length": 512},
        "registered_name": "keras_hub>" + table.config.only["class_name"][0],
        "module": "keras_hub",
    }
    values = table.config.unwrap(native)
    assert (values["max_sequence_length"], values["pad_token_id"]) == (514, 1)
    assert table.config.wrap(values, native) == native


def test_groups_get_their_layers_names() -> None:
    names = [
        "layers/reversible_embedding/vars/0",
        "layers/layer_normalization/vars/0",
        "layers/layer_normalization/vars/1",
        "layers/transformer_encoder_1/_self_attention_layer/query_dense/vars/0",
        "layers/dense/vars/0",
    ]
    assert json.loads(layer_names(names)["names"]) == {
        "layers/reversible_embedding/vars": "token_embedding",
        "layers/layer_normalization/vars": "embeddings_layer_norm",
        "layers/transformer_encoder_1/_self_attention_layer/query_dense/vars": "query",
        "layers/dense/vars": "pooled_dense",
    }


def test_of_two_dense_layers_the_first_is_the_projection() -> None:
    names = json.loads(layer_names(["layers/dense/vars/0", "layers/dense_1/vars/0"])["names"])
    assert names == {"layers/dense/vars": "embedding_projection", "layers/dense_1/vars": "pooled_dense"}


def test_a_configuration_is_nested_and_comes_out_as_it_was() -> None:
    native = {
        "module": "keras_hub.src.models.bert.bert_backbone",
        "class_name": "BertBackbone",
        "config": {"name": "bert_backbone", "vocabulary_size": 37, "num_segments": 2},
        "registered_name": "keras_hub>BertBackbone",
        "compile_config": None,
    }
    assert unwrap(native)["vocabulary_size"] == 37
    assert unwrap(native)["class_name"] == "BertBackbone"
    again = wrap(unwrap(native), native)
    assert again == native
    assert list(again) == list(native)


def test_a_configuration_of_another_system_is_not_taken_for_one() -> None:
    assert unwrap({"config": 3, "vocab_size": 5}) == {"config": 3, "vocab_size": 5}
    assert not KERAS_HUB.recognises({"model_type": "bert", "hidden_size": 12})
