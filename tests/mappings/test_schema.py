"""Names with a layer's number, and the canonical order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.mappings.schema import BERT, ENCODER, FAMILIES, LAYER, layer_of, template

SEPARATED = st.from_regex(r"[a-z_]{1,6}([./][a-z_]{1,6}){0,3}", fullmatch=True)


@given(SEPARATED, st.sampled_from("./"), st.integers(0, 10**9 - 1), st.sampled_from("./"), SEPARATED)
def test_a_number_between_separators_is_the_layer(start: str, before: str, number: int, after: str, end: str) -> None:
    name = f"{start}{before}{number}{after}{end}"
    assert layer_of(name) == number
    assert template(name) == f"{start}{before}{LAYER}{after}{end}"
    assert template(name).replace(LAYER, str(number)) == name


@pytest.mark.parametrize(
    "name",
    [
        "encoder.layer0.weight",
        "encoder.layer.0",
        "0.weight",
        "encoder.layer.-1.weight",
        "encoder.layer.01.weight",
        "encoder.layer.1e3.weight",
        "encoder.layer.\u0663.weight",
        "encoder.layer. 1.weight",
        "encoder.layer.1000000000.weight",
        "target.mlm.linear_1.weight",
        "",
        ".",
    ],
)
def test_what_is_no_number_of_a_layer_stays(name: str) -> None:
    assert layer_of(name) is None
    assert template(name) == name


def test_a_number_of_thousands_of_digits_is_none_and_takes_no_time() -> None:
    name = f"encoder.layer.{'9' * 100_000}.weight"
    assert layer_of(name) is None
    assert template(name) == name


def test_only_the_first_number_is_the_layer() -> None:
    name = "encoder.transformer.7.self_attn.linear_layers.2.weight"
    assert layer_of(name) == 7
    assert template(name) == "encoder.transformer.{layer}.self_attn.linear_layers.2.weight"


def test_instances_are_embeddings_then_layers_then_heads() -> None:
    listed = list(BERT.instances(3))
    names = [name for name, _ in listed]
    assert len(set(names)) == len(names) == 5 + 3 * 16 + 2 + 6 + 2 + 2 + 2 + 2 + 2
    assert names[:5] == [
        "embeddings.word_embeddings.weight",
        "embeddings.position_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
        "embeddings.LayerNorm.weight",
        "embeddings.LayerNorm.bias",
    ]
    assert names[5] == "encoder.layer.0.attention.self.query.weight"
    assert names[5 + 16] == "encoder.layer.1.attention.self.query.weight"
    assert names[5 + 3 * 16 - 1] == "encoder.layer.2.output.LayerNorm.bias"
    assert names[5 + 3 * 16] == "pooler.dense.weight"
    assert names[-1] == "multiple_choice.bias"
    assert [tensor.part == ENCODER for _, tensor in listed] == [True] * (5 + 3 * 16) + [False] * 18


def test_no_layers_leave_embeddings_and_heads() -> None:
    assert not any(tensor.repeated for _, tensor in BERT.instances(0))


def test_a_tensor_is_found_by_its_name_in_any_layer() -> None:
    assert BERT.find("encoder.layer.11.output.dense.weight").shape == ("hidden", "intermediate")
    assert BERT.find("encoder.layer.{layer}.output.dense.weight") is BERT.find("encoder.layer.0.output.dense.weight")
    with pytest.raises(KeyError):
        BERT.find("encoder.layer.0.nothing")


def test_heads_are_in_canonical_order() -> None:
    assert BERT.heads == (
        "pooler",
        "masked_lm",
        "next_sentence",
        "sequence_classification",
        "token_classification",
        "span_qa",
        "multiple_choice",
    )


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_every_family_is_consistent(family) -> None:
    names = [tensor.name for tensor in family.tensors]
    assert len(set(names)) == len(names)
    symbols = {symbol for tensor in family.tensors for symbol in tensor.shape if not symbol.isdigit()}
    assert symbols >= set(family.sizes)
    assert symbols - set(family.sizes) <= {"labels", "relative", "head_size", "attention_heads"}
    for tensor in family.tensors:
        if tensor.tied_to is not None:
            assert family.find(tensor.tied_to).shape == tensor.shape
            assert names.index(tensor.tied_to) < names.index(tensor.name)
