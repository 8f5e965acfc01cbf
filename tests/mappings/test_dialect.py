"""Tables of dialects: every one is sound, and names come and go as the systems spell them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from interlingua.mappings.config import ACTIVATIONS, REQUIRED, Config
from interlingua.mappings.dialect import Table, check_table
from interlingua.mappings.registry import DIALECTS
from interlingua.mappings.rules import Rule
from interlingua.mappings.schema import BERT
from tests.models import DECODER, HEAD_SETS, bare, uer_name

TABLES = [pytest.param(d, t, id=f"{d.name}-{t.family.name}") for d in DIALECTS.values() for t in d.tables.values()]

OWN = {
    "masked_lm.transform.dense": "cls.predictions.transform.dense",
    "masked_lm.transform.LayerNorm": "cls.predictions.transform.LayerNorm",
    "masked_lm.decoder": "cls.predictions.decoder",
    "next_sentence": "cls.seq_relationship",
    "sequence_classification": "classifier",
    "token_classification": "classifier",
    "span_qa": "qa_outputs",
}


def hf_name(canonical: str) -> str:
    """transformers' name of a canonical tensor, without prefix."""
    if canonical == "masked_lm.decoder.bias":
        return "cls.predictions.bias"
    for ours, theirs in OWN.items():
        if canonical.startswith(f"{ours}."):
            return theirs + canonical.removeprefix(ours)
    return canonical


@pytest.mark.parametrize(("_dialect", "table"), TABLES)
def test_every_table_is_sound(_dialect, table: Table) -> None:
    assert check_table(table) == []


@pytest.mark.parametrize(("dialect", "table"), TABLES)
def test_a_dialect_has_a_name_for_the_whole_encoder_and_for_whole_heads(dialect, table: Table) -> None:
    layers = 1 if table.family.counts == "num_hidden_groups" else 2
    for canonical, tensor in table.family.instances(layers):
        if tensor.part in ("encoder", *table.heads) and not tensor.optional and tensor.tied_to is None:
            assert table.rule(canonical, [tensor.part]) is not None, (dialect.name, canonical)


@pytest.mark.parametrize("heads", HEAD_SETS, ids="+".join)
@pytest.mark.parametrize("name", ["hf", "uer"])
def test_names_are_those_that_the_system_has(name: str, heads: tuple[str, ...]) -> None:
    table = DIALECTS[name].tables["bert"]
    prefix = "bert." if set(heads) - {"pooler"} else ""
    written = {}
    for canonical, tensor in BERT.instances(3):
        if tensor.part == "encoder" or tensor.part in heads:
            rule = table.rule(canonical, heads)
            written[hf_name(canonical)] = table.spell(rule.native, canonical, heads)
    names = [*bare(heads), *([DECODER] if "masked_lm" in heads else [])]
    base = ("embeddings.", "encoder.", "pooler.")
    expected = {
        native: (prefix if native.startswith(base) else "") + native if name == "hf" else uer_name(native, heads)
        for native in names
    }
    assert written == expected


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (lambda rules: (*rules, Rule("embeddings.nothing", "x")), "no tensor of bert"),
        (lambda rules: rules[1:], "no rule"),
        (lambda rules: (replace(rules[0], native=rules[1].native), *rules[1:]), "no head decides"),
        (lambda rules: tuple(replace(r, native=r.native.replace("{layer}", "0")) for r in rules), "on one side only"),
        (lambda rules: (replace(rules[0], aliases=("a.{layer}.b",)), *rules[1:]), "on one side only"),
    ],
)
def test_an_unsound_table_is_noticed(changed, complaint: str) -> None:
    table = DIALECTS["uer"].tables["bert"]
    assert any(complaint in line for line in check_table(replace(table, rules=changed(table.rules))))


def test_a_head_decides_between_rules_of_one_name() -> None:
    table = DIALECTS["uer"].tables["bert"]
    heads = ("pooler", "sequence_classification")
    assert table.rule("pooler.dense.weight", heads).native == "output_layer_1.weight"
    assert table.rule("pooler.dense.weight", ("pooler",)).native == "target.sp.linear_1.weight"
    assert table.rule("token_classification.weight", heads) is None


def test_the_most_demanding_class_that_fits_is_named() -> None:
    table = DIALECTS["hf"].tables["bert"]
    expected = {
        (): "BertModel",
        ("pooler",): "BertModel",
        ("masked_lm",): "BertForMaskedLM",
        ("pooler", "masked_lm"): "BertForMaskedLM",
        ("pooler", "masked_lm", "next_sentence"): "BertForPreTraining",
        ("pooler", "next_sentence"): "BertForNextSentencePrediction",
        ("pooler", "sequence_classification"): "BertForSequenceClassification",
        ("token_classification",): "BertForTokenClassification",
        ("span_qa",): "BertForQuestionAnswering",
    }
    assert {heads: table.architecture(heads) for heads in expected} == expected
    assert DIALECTS["uer"].tables["bert"].architecture(()) is None


def test_names_of_older_versions_are_cleaned() -> None:
    table = DIALECTS["hf"].tables["bert"]
    assert table.clean("bert.embeddings.LayerNorm.gamma") == "embeddings.LayerNorm.weight"
    assert table.clean("roberta.encoder.layer.0.output.LayerNorm.beta") == "encoder.layer.0.output.LayerNorm.bias"
    assert table.clean("cls.predictions.transform.LayerNorm.beta") == "cls.predictions.transform.LayerNorm.bias"
    assert table.clean("something.gamma") == "something.gamma"
    assert table.clean("bert.bert.pooler.dense.bias") == "bert.pooler.dense.bias"


@pytest.mark.parametrize(
    ("names", "roots"),
    [
        (["embeddings.word_embeddings.weight"], [""]),
        (["bert.embeddings.word_embeddings.weight"], [""]),
        (["roberta.embeddings.word_embeddings.weight"], [""]),
        (["module.bert.embeddings.word_embeddings.weight"], ["module."]),
        (["model.embeddings.word_embeddings.weight"], ["model."]),
        (["a.b.roberta.embeddings.word_embeddings.weight"], ["a.b."]),
        (["student/bert.embeddings.word_embeddings.weight"], ["student/"]),
        (["ernie.embeddings.word_embeddings.weight"], ["ernie."]),
        (["q.embeddings.word_embeddings.weight", "k.bert.embeddings.word_embeddings.weight"], ["q.", "k."]),
        (["myembeddings.word_embeddings.weight", "embeddings.word_embeddings.weight.x", "other"], []),
        (["mybert.embeddings.word_embeddings.weight"], ["mybert."]),
    ],
)
def test_models_are_found_by_their_word_embedding(names: list[str], roots: list[str]) -> None:
    assert DIALECTS["hf"].tables["bert"].roots(names) == roots


def test_models_of_every_era_are_found() -> None:
    table = DIALECTS["uer"].tables["bert"]
    assert table.roots(["module.embedding.word_embedding.weight"]) == ["module."]
    assert table.roots(["embedding.word.embedding.weight"]) == [""]


@pytest.mark.parametrize(("dialect", "table"), TABLES)
def test_every_dialect_spells_the_whole_configuration_or_says_what_it_cannot(dialect, table: Table) -> None:
    family, table = table.family, table.config
    known = set(Config.__dataclass_fields__)
    assert set(table.keys) <= known
    assert set(table.defaults) <= known
    assert set(table.activations.values()) <= set(ACTIVATIONS)
    for name in (*REQUIRED, *family.values):
        sized = name in family.sizes.values() or name in (family.counts, "num_attention_heads", "use_task_id")
        sized |= name == "type_vocab_size" and "types" not in family.sizes
        assert name in table.keys or name in table.defaults or sized, name
    # What is written is recognised again.
    assert table.marks & {*table.constants, *(key for keys in table.keys.values() for key in keys)}
    # The first container is the one that is written unasked; every one has a file name.
    assert set(dialect.containers) == set(dialect.folder.weights)
    assert set(dialect.folder.shards) <= set(dialect.containers)


@pytest.mark.parametrize(("_dialect", "table"), TABLES)
def test_every_activation_that_is_written_is_read_as_the_same(_dialect, table: Table) -> None:
    for canonical in ACTIVATIONS:
        spelled = table.config.spell_activation(canonical)
        assert spelled is None or table.config.activations[spelled] == canonical


def test_activations_are_written_as_the_systems_call_them() -> None:
    hf, uer = DIALECTS["hf"].tables["bert"].config, DIALECTS["uer"].tables["bert"].config
    assert [hf.spell_activation(name) for name in ACTIVATIONS] == ["gelu", "gelu_new", "relu", "silu", "tanh", "linear"]
    assert [uer.spell_activation(name) for name in ACTIVATIONS] == ["gelu", "gelu_fast", "relu", "silu", None, "linear"]
