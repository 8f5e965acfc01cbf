"""Recognising a model among names: wrappers, older spellings, heads, and everything that must be refused."""

from __future__ import annotations

import re

import pytest

from interlingua.errors import FormatError, MappingError, UsageError
from interlingua.mappings.dialect import Dialect
from interlingua.mappings.match import Match, listing, match, recognise
from interlingua.mappings.registry import DIALECTS
from tests.models import DECODER, HEAD_SETS, SMALL, bare, hf, prefixed, uer

Shapes = dict[str, tuple[int, ...]]
CANONICAL_COUNT = 5 + 3 * 16


def shapes(arrays) -> Shapes:
    return {name: array.shape for name, array in arrays.items()}


def matched(names, dialect: str = "hf", config=None, submodel: str | None = None) -> Match:
    found: Dialect = DIALECTS[dialect]
    names = names if all(isinstance(shape, tuple) for shape in names.values()) else shapes(names)
    return match(found, found.tables["bert"], names, config or {}, submodel)


def recognised(names: Shapes) -> list[str]:
    return list(dict.fromkeys(found.dialect.name for found in recognise(DIALECTS, names, {}, "safetensors")))


WRAPPERS = {
    "bare": ("", ""),
    "with heads": ("bert.", ""),
    "a RoBERTa's name for a BERT": ("roberta.", ""),
    "DataParallel": ("module.", "module."),
    "DataParallel with heads": ("module.bert.", "module."),
    "Lightning": ("state_dict.model.bert.", "state_dict.model."),
    "MoCo": ("state_dict.module.encoder_q.bert.", "state_dict.module.encoder_q."),
    "numbered": ("models.3.roberta.", "models.3."),
}


@pytest.mark.parametrize(("prefix", "root"), WRAPPERS.values(), ids=WRAPPERS.keys())
def test_a_model_is_found_behind_any_prefix(prefix: str, root: str) -> None:
    names = shapes(prefixed(bare(("pooler",)), prefix))
    assert recognised(names)[0] == "hf"
    found = matched(names)
    assert (found.root, found.roots) == (root, (root,))
    assert found.layers == 3
    assert found.heads == ("pooler",)
    assert found.leftovers == {}
    assert len(found.tensors) == CANONICAL_COUNT + 2
    assert {entry.native for entry in found.tensors.values()} == set(names)
    assert found.tensors["encoder.layer.2.output.dense.bias"].native == f"{prefix}encoder.layer.2.output.dense.bias"


@pytest.mark.parametrize("prefix", ["", "module.", "state_dict.", "a/b."])
def test_a_uer_model_is_found_behind_any_prefix(prefix: str) -> None:
    names = {f"{prefix}{name}": shape for name, shape in shapes(uer(("pooler", "masked_lm", "next_sentence"))).items()}
    assert recognised(names)[0] == "uer"
    found = matched(names, "uer")
    assert found.root == prefix
    assert found.heads == ("pooler", "masked_lm", "next_sentence")
    assert found.leftovers == {}
    assert {entry.native for entry in found.tensors.values()} == set(names)


@pytest.mark.parametrize("heads", HEAD_SETS, ids="+".join)
@pytest.mark.parametrize(("dialect", "maker"), [("hf", hf), ("uer", uer)])
def test_heads_are_told_apart(dialect: str, maker, heads: tuple[str, ...]) -> None:
    config = {"architectures": ["BertForTokenClassification"]} if heads == ("token_classification",) else {}
    if heads == ("sequence_classification",):
        config = {"architectures": ["BertForSequenceClassification"]}
    found = matched(maker(heads), dialect, config)
    assert found.heads == heads
    assert found.leftovers == {}
    assert found.sizes == {
        "vocab": 37,
        "hidden": 12,
        "positions": 17,
        "types": 2,
        "intermediate": 20,
        **({"labels": 5} if any(head.endswith("classification") for head in heads) else {}),
    }


def test_order_is_canonical_whatever_the_order_of_the_file() -> None:
    names = shapes(hf(("pooler", "masked_lm")))
    backwards = dict(reversed(list(names.items())))
    assert list(matched(names).tensors) == list(matched(backwards).tensors)
    assert next(iter(matched(names).tensors)) == "embeddings.word_embeddings.weight"


def test_leftovers_are_in_the_order_of_the_file_with_their_reasons() -> None:
    names = {
        "optimizer.state.7.exp_avg": (3,),
        **shapes(hf(("pooler", "masked_lm"))),
        "bert.embeddings.position_ids": (1, 17),
        "crf.transitions": (5, 5),
        "cls.seq_relationship.weight": (2, 12),
    }
    assert matched(names).leftovers == {
        "optimizer.state.7.exp_avg": "state of a training run",
        "bert.embeddings.position_ids": "a buffer, computed anew on loading",
        "crf.transitions": "a head or an addition that bert has no name for",
        "cls.seq_relationship.weight": "half of a head: next_sentence.bias missing",
    }


def test_what_lies_outside_of_a_wrapped_model_is_told_as_that() -> None:
    names = {**shapes(prefixed(bare(), "model.bert.")), "epoch_losses": (9,)}
    assert matched(names).leftovers == {"epoch_losses": "outside of the model (which is behind model)"}


@pytest.mark.parametrize(
    "name",
    [
        "encoder.layer.1.crossattention.self.query.weight",
        "encoder.layer.0.attention.self.distance_embedding.weight",
        "embeddings.task_type_embeddings.weight",
        "encoder.layer.{layer}.attention.self.query.weight",
        "encoder.layer.01.output.dense.weight",
        "encoder.layer.99999999999.output.dense.weight",
        f"encoder.layer.{'9' * 5000}.output.dense.weight",
    ],
)
def test_an_unknown_tensor_inside_the_encoder_is_refused_by_name(name: str) -> None:
    for prefix in ("", "bert.", "module.bert."):
        names = shapes(prefixed(bare(), prefix)) | {f"{prefix}{name}": (12, 12)}
        with pytest.raises(MappingError) as caught:
            matched(names)
        assert caught.value.names == (f"{prefix}{name}",)
        assert f"{prefix}{name}" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "encoder.relative_pos_emb.relative_attention_bias.weight",
        "encoder.transformer.0.feed_forward.linear_gate.weight",
        "encoder.layer_norm.gamma",
        "encoder.linear.weight",
        "embedding.stream_0_layer_norm.gamma",
    ],
)
def test_another_architecture_of_uer_is_refused_by_name(name: str) -> None:
    with pytest.raises(MappingError) as caught:
        matched(shapes(uer()) | {name: (12, 12)}, "uer")
    assert caught.value.names == (name,)


@pytest.mark.parametrize("missing", ["embeddings.LayerNorm.bias", "encoder.layer.1.output.dense.weight"])
def test_a_missing_encoder_tensor_is_refused_by_name(missing: str) -> None:
    arrays = bare(("pooler",))
    del arrays[missing]
    with pytest.raises(MappingError) as caught:
        matched(prefixed(arrays))
    assert caught.value.names == (missing,)
    assert "bert of 3 layers" in str(caught.value)


def test_a_gap_in_the_layers_is_refused_by_its_names() -> None:
    arrays = {name: array for name, array in bare().items() if not name.startswith("encoder.layer.1.")}
    with pytest.raises(MappingError) as caught:
        matched(arrays)
    assert len(caught.value.names) == 16
    assert all(name.startswith("encoder.layer.1.") for name in caught.value.names)


def test_no_layers_are_refused() -> None:
    with pytest.raises(MappingError, match="0 layers"):
        matched({name: array for name, array in bare().items() if not name.startswith("encoder.")})


@pytest.mark.parametrize("number", [1000, 999_999_999])
def test_a_huge_layer_number_is_refused_at_once(number: int) -> None:
    arrays = bare()
    arrays[f"encoder.layer.{number}.output.dense.bias"] = arrays["encoder.layer.2.output.dense.bias"]
    with pytest.raises(FormatError, match=f"numbered {number}, but there are only 4 layers"):
        matched(arrays)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("embeddings.word_embeddings.weight", "bert.embeddings.word_embeddings.weight"),
        ("embeddings.LayerNorm.weight", "embeddings.LayerNorm.gamma"),
        ("encoder.layer.1.output.LayerNorm.bias", "roberta.encoder.layer.1.output.LayerNorm.beta"),
    ],
)
def test_one_tensor_under_two_spellings_is_refused(one: str, other: str) -> None:
    arrays = bare()
    arrays[other] = arrays[one]
    with pytest.raises(FormatError) as caught:
        matched(arrays)
    assert repr(one) in str(caught.value)
    assert repr(other) in str(caught.value)


def test_two_eras_of_uer_in_one_file_are_refused() -> None:
    arrays = uer(("masked_lm",))
    arrays["target.mlm_linear_1.bias"] = arrays["target.mlm.linear_1.bias"]
    with pytest.raises(FormatError, match="two spellings"):
        matched(arrays, "uer")


def test_a_head_of_which_a_part_is_missing_is_left_over_whole() -> None:
    arrays = hf(("pooler", "masked_lm", "next_sentence"))
    del arrays["cls.predictions.transform.dense.bias"]
    found = matched(arrays)
    assert found.heads == ("pooler", "next_sentence")
    left = [name for name in arrays if name.startswith("cls.predictions.")]
    assert found.leftovers == dict.fromkeys(left, "half of a head: masked_lm.transform.dense.bias missing")
    assert not any(name.startswith("masked_lm") for name in found.tensors)


def test_a_tied_decoder_may_be_missing() -> None:
    arrays = hf(("masked_lm",))
    assert DECODER not in arrays
    assert matched(arrays).heads == ("masked_lm",)


def test_a_second_name_of_the_same_data_is_a_copy() -> None:
    arrays = hf(("masked_lm",))
    arrays["cls.predictions.decoder.bias"] = arrays["cls.predictions.bias"]
    found = matched(arrays)
    bias = found.tensors["masked_lm.decoder.bias"]
    assert (bias.native, bias.copies) == ("cls.predictions.bias", ("cls.predictions.decoder.bias",))
    assert found.leftovers == {}


def test_the_second_name_serves_alone() -> None:
    arrays = hf(("masked_lm",))
    arrays["cls.predictions.decoder.bias"] = arrays.pop("cls.predictions.bias")
    found = matched(arrays)
    bias = found.tensors["masked_lm.decoder.bias"]
    assert (bias.native, bias.copies) == ("cls.predictions.decoder.bias", ())


@pytest.mark.parametrize(
    ("name", "shape", "complaint"),
    [
        ("encoder.layer.1.attention.self.key.weight", (12, 13), "its hidden size should be 12"),
        ("encoder.layer.2.intermediate.dense.bias", (21,), "its intermediate size should be 20"),
        ("embeddings.position_embeddings.weight", (17, 11), "its hidden size should be 12"),
        ("embeddings.LayerNorm.weight", (12, 1), "hidden is due"),
        ("embeddings.LayerNorm.bias", (), "hidden is due"),
        ("cls.seq_relationship.bias", (3,), "its 2 size should be 2"),
        ("cls.predictions.bias", (36,), "its vocab size should be 37"),
    ],
)
def test_contradicting_shapes_name_the_tensor(name: str, shape: tuple[int, ...], complaint: str) -> None:
    arrays = shapes(bare(("pooler", "masked_lm", "next_sentence")))
    assert name in arrays
    with pytest.raises(FormatError) as caught:
        matched(arrays | {name: shape})
    assert f"{name!r} has the shape {list(shape)}" in str(caught.value)
    assert complaint in str(caught.value)


def test_a_contradiction_says_who_said_otherwise() -> None:
    arrays = shapes(bare()) | {"encoder.layer.0.output.dense.weight": (12, 24)}
    with pytest.raises(FormatError, match=re.escape("(as 'encoder.layer.0.intermediate.dense.weight' says)")):
        matched(arrays)


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5])
def test_token_types_of_uer_are_its_rows_without_the_padding(rows: int) -> None:
    arrays = shapes(uer()) | {"embedding.seg.embedding.weight": (rows, 12)}
    if rows == 0:
        with pytest.raises(FormatError, match=r"embedding\.seg\.embedding\.weight' has 0 rows"):
            matched(arrays, "uer")
    else:
        assert matched(arrays, "uer").sizes["types"] == rows - 1


CLASSIFIERS = [
    (("pooler",), {}, "sequence_classification", "there is a pooler"),
    ((), {}, "token_classification", "there is no pooler"),
    (("pooler",), {"architectures": ["BertForTokenClassification"]}, "token_classification", "BertForToken"),
    ((), {"architectures": ["BertForSequenceClassification"]}, "sequence_classification", "BertForSequence"),
    (("pooler",), {"architectures": ["ErnieForTokenClassification"]}, "token_classification", "ErnieForToken"),
    (("pooler",), {"architectures": ["BertModel"]}, "sequence_classification", "there is a pooler"),
    ((), {"architectures": None}, "token_classification", "there is no pooler"),
    ((), {"architectures": "BertForSequenceClassification"}, "sequence_classification", "BertForSequence"),
    ((), {"architectures": 5}, "token_classification", "there is no pooler"),
    ((), {"architectures": {"a": 1}}, "token_classification", "there is no pooler"),
    ((), {"architectures": [None, ["x"]]}, "token_classification", "there is no pooler"),
]


@pytest.mark.parametrize(("others", "config", "head", "why"), CLASSIFIERS)
def test_an_ambiguous_classifier_is_decided_and_the_reason_told(others, config, head: str, why: str) -> None:
    found = matched(hf((*others, "sequence_classification")), config=config)
    assert found.heads == (*others, head)
    (note,) = found.notes
    assert head.replace("_", " ") in note
    assert why in note


@pytest.mark.parametrize(
    ("rows", "config", "head"),
    [
        (2, {}, "span_qa"),
        (3, {}, "token_classification"),
        (1, {}, "token_classification"),
        (2, {"labels_num": 2}, "token_classification"),
        (2, {"heads_num": 2}, "span_qa"),
    ],
)
def test_an_output_layer_of_uer_is_a_span_or_labels(rows: int, config, head: str) -> None:
    arrays = shapes(uer()) | {"output_layer.weight": (rows, 12), "output_layer.bias": (rows,)}
    found = matched({"target.output_layer.weight": (37, 12)} | arrays, "uer", config)
    assert found.heads == (head,)
    assert head.replace("_", " ") in found.notes[0]


def test_no_ambiguity_is_told_where_there_is_none() -> None:
    assert matched(hf(("pooler", "masked_lm"))).notes == ()
    assert matched(uer(("pooler", "sequence_classification")), "uer").notes == ()


def twice(first: str, second: str) -> Shapes:
    return shapes(prefixed(bare(("pooler",)), first)) | shapes(prefixed(bare(("pooler",), seed=1), second))


@pytest.mark.parametrize(
    ("submodel", "root"),
    [("student", "student."), ("teacher", "a.teacher."), ("a.teacher", "a.teacher."), ("teacher.", "a.teacher.")],
)
def test_the_submodel_asked_for_is_taken(submodel: str, root: str) -> None:
    found = matched(twice("student.bert.", "a.teacher."), submodel=submodel)
    assert found.root == root
    assert found.roots == ("student.", "a.teacher.")
    assert all(entry.native.startswith(root) for entry in found.tensors.values())
    other = "student" if root != "student." else "a.teacher"
    assert all(name.startswith(f"{other}.") for name in found.leftovers)
    assert len(found.leftovers) == CANONICAL_COUNT + 2


@pytest.mark.parametrize("submodel", ["stud", "teach", "nobody", "bert", "a.b"])
def test_a_submodel_that_is_not_there_is_refused_with_those_that_are(submodel: str) -> None:
    with pytest.raises(UsageError, match=r"fits 0 .*'student', 'a\.teacher'"):
        matched(twice("student.bert.", "a.teacher."), submodel=submodel)


def test_a_submodel_that_fits_two_is_refused() -> None:
    with pytest.raises(UsageError, match="fits 2"):
        matched(twice("x.one.", "x.two."), submodel="x")


def test_several_models_without_a_choice_are_refused_with_their_names() -> None:
    with pytest.raises(UsageError, match=r"There are 2 models in here: 'student', 'a\.teacher'") as caught:
        matched(twice("student.bert.", "a.teacher."))
    assert "--submodel" in str(caught.value)


def test_the_query_encoder_is_preferred_to_the_key_encoder_and_that_is_told() -> None:
    found = matched(twice("state_dict.module.encoder_k.", "state_dict.module.encoder_q."))
    assert found.root == "state_dict.module.encoder_q."
    assert "encoder_k is its moving average" in found.notes[0]
    other = matched(twice("state_dict.module.encoder_k.", "state_dict.module.encoder_q."), submodel="encoder_k")
    assert other.root == "state_dict.module.encoder_k."


def test_a_third_model_beside_query_and_key_is_not_guessed_away() -> None:
    names = twice("encoder_k.", "encoder_q.") | shapes(prefixed(bare(), "third."))
    with pytest.raises(UsageError, match="3 models"):
        matched(names)


def test_foreign_names_are_of_no_dialect() -> None:
    assert recognised({"conv1.weight": (3, 3), "fc.bias": (2,)}) == []
    assert recognised({}) == []


def test_the_dialect_with_more_known_tensors_comes_first() -> None:
    names = shapes(uer()) | {"x.embeddings.word_embeddings.weight": (37, 12)}
    assert recognised(names).index("uer") < recognised(names).index("hf")


def test_thousands_of_prefixes_take_no_quadratic_time() -> None:
    names = {f"{number}.embeddings.word_embeddings.weight": (0,) for number in range(30_000)}
    assert recognised(names)[0] == "hf"
    with pytest.raises(UsageError) as caught:
        matched(names)
    assert len(str(caught.value)) < 1000
    with pytest.raises(UsageError) as caught:
        matched(names, submodel="nobody")
    assert len(str(caught.value)) < 1000


def test_thousands_of_tensors_take_no_quadratic_time() -> None:
    names = shapes(bare()) | {f"extra.{number}": (1,) for number in range(30_000)}
    assert len(matched(names).leftovers) == 30_000


def test_listings_stop_after_a_few_names() -> None:
    assert listing(["a", "b"]) == "a, b"
    assert listing([str(number) for number in range(8)]) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert listing([str(number) for number in range(11)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 3 more"


def test_36_layers_and_one_are_as_good_as_twelve() -> None:
    for layers in (1, 36):
        sizes = type(SMALL)(layers=layers)
        assert matched(hf(("pooler",), sizes)).layers == layers
        assert matched(uer(("pooler",), sizes), "uer").layers == layers
