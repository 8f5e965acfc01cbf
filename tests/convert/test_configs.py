"""Configurations: what is stated, read off the shapes, defaulted or refused; and the way to the other dialect."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.convert.configs import complete, parse, spell, table_of
from interlingua.errors import FormatError, MappingError
from interlingua.mappings.config import Config
from interlingua.mappings.match import Match, match
from interlingua.mappings.registry import DIALECTS
from tests.models import SMALL, Sizes, hf, hf_config, uer, uer_config

HF_CONFIG, UER_CONFIG = (DIALECTS[name].tables["bert"].config for name in ("hf", "uer"))


def matched(heads=("pooler",), dialect: str = "hf", sizes: Sizes = SMALL, config=None) -> Match:
    arrays = (hf if dialect == "hf" else uer)(heads, sizes)
    found = DIALECTS[dialect]
    return match(found, found.tables["bert"], {n: a.shape for n, a in arrays.items()}, config or {})


def completed(native, heads=("pooler",), dialect: str = "hf", tokens: int | None = None, fallback=None, sizes=SMALL):
    found = matched(heads, dialect, sizes, native)
    return complete(
        parse(native, DIALECTS[dialect].tables["bert"].config, "config.json"),
        fallback or {},
        found,
        "config.json",
        tokens,
    )


def test_what_is_stated_is_taken() -> None:
    found = completed(hf_config())
    assert found.config == Config(
        vocab_size=37,
        hidden_size=12,
        num_hidden_layers=3,
        num_attention_heads=6,
        intermediate_size=20,
        max_position_embeddings=17,
        type_vocab_size=2,
        hidden_act="gelu_tanh",
        layer_norm_eps=3e-6,
        hidden_dropout_prob=0.25,
        attention_probs_dropout_prob=0.15,
        initializer_range=0.03,
        pad_token_id=1,
        tie_word_embeddings=True,
    )
    assert found.notes == ()


def test_what_uer_states_is_taken_and_the_rest_is_read_off_or_defaulted() -> None:
    found = completed(uer_config(), ("pooler", "masked_lm"), "uer")
    assert found.config == Config(
        vocab_size=37,
        hidden_size=12,
        num_hidden_layers=3,
        num_attention_heads=6,
        intermediate_size=20,
        max_position_embeddings=17,
        type_vocab_size=2,
        hidden_act="gelu_tanh",
        layer_norm_eps=1e-12,
        hidden_dropout_prob=0.35,
        attention_probs_dropout_prob=0.35,
        initializer_range=0.02,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    assert any("vocab_size 37, type_vocab_size 2" in note or "vocab_size 37" in note for note in found.notes)
    assert any("UER-py's own code" in note and "layer_norm_eps 1e-12" in note for note in found.notes)


def test_every_size_is_read_off_the_shapes_where_nothing_states_it() -> None:
    found = completed({"num_attention_heads": 6})
    expected = {
        "vocab_size": 37,
        "hidden_size": 12,
        "num_hidden_layers": 3,
        "intermediate_size": 20,
        "max_position_embeddings": 17,
        "type_vocab_size": 2,
    }
    assert {name: getattr(found.config, name) for name in expected} == expected
    (shapes,) = [note for note in found.notes if note.startswith("Read off the shapes")]
    assert all(f"{name} {size}" in shapes for name, size in expected.items())


def test_every_default_is_told() -> None:
    found = completed({"num_attention_heads": 6})
    (told,) = [note for note in found.notes if "own code" in note]
    for words in ("layer_norm_eps 1e-12", "hidden_dropout_prob 0.1", "initializer_range 0.02", "pad_token_id 0"):
        assert words in told
    assert "hidden_act gelu" in told
    assert found.config.hidden_act == "gelu"


@pytest.mark.parametrize(
    ("dialect", "hidden", "heads", "words"),
    [
        ("uer", 128, 2, "of hidden size 128"),
        ("uer", 256, 4, "of hidden size 256"),
        ("uer", 768, 12, "of hidden size 768"),
        ("uer", 1024, 16, "of hidden size 1024"),
        ("hf", 12, 12, "own default"),
        ("hf", 24, 12, "own default"),
    ],
)
def test_attention_heads_that_nothing_states_are_the_systems_own(dialect, hidden: int, heads: int, words: str) -> None:
    found = completed({}, dialect=dialect, sizes=Sizes(hidden=hidden, layers=1))
    assert found.config.num_attention_heads == heads
    assert any(f"num_attention_heads {heads}: " in note and words in note for note in found.notes)


@pytest.mark.parametrize(("dialect", "hidden"), [("uer", 12), ("uer", 770), ("hf", 20)])
def test_attention_heads_that_nothing_tells_are_refused(dialect: str, hidden: int) -> None:
    with pytest.raises(MappingError, match="number of attention heads") as caught:
        completed({}, dialect=dialect, sizes=Sizes(hidden=hidden, layers=1))
    assert "--config" in str(caught.value)


@pytest.mark.parametrize("heads", [0, 5, 7, 13, 24])
def test_attention_heads_that_do_not_divide_are_refused(heads: int) -> None:
    with pytest.raises(FormatError, match=rf"says {heads} attention heads, which do not divide the hidden size 12"):
        completed({"num_attention_heads": heads})


CONTRADICTIONS = {
    "vocab_size": 38,
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "intermediate_size": 21,
    "max_position_embeddings": 512,
    "type_vocab_size": 3,
}


@pytest.mark.parametrize(("key", "value"), CONTRADICTIONS.items())
def test_a_configuration_that_contradicts_the_weights_is_refused_with_both_numbers(key: str, value: int) -> None:
    with pytest.raises(FormatError, match=rf"config.json says {key} = {value}, but the weights say \d+") as caught:
        completed(hf_config(**{key: value}))
    assert "--config" in str(caught.value)


def test_a_contradiction_of_the_vocabulary_names_all_three_numbers() -> None:
    with pytest.raises(FormatError, match=r"says vocab_size = 40, but the weights say 37, the vocabulary has 36 lines"):
        completed(hf_config(vocab_size=40), tokens=36)


@pytest.mark.parametrize(("native", "says"), [(hf_config(), "37"), ({"num_attention_heads": 6}, "nothing")])
def test_a_vocabulary_longer_than_the_embedding_is_refused_with_the_numbers(native, says: str) -> None:
    words = rf"vocabulary has 38 lines, but the word embedding has 37 rows \(config.json says vocab_size = {says}\)"
    with pytest.raises(FormatError, match=words):
        completed(native, tokens=38)


@pytest.mark.parametrize("tokens", [0, 1, 36, 37])
def test_a_vocabulary_no_longer_than_the_embedding_is_fine(tokens: int) -> None:
    assert completed(hf_config(), tokens=tokens).config.vocab_size == 37


def test_what_was_kept_of_another_configuration_fills_in_and_what_is_stated_wins() -> None:
    kept = {"layer_norm_eps": 7e-7, "hidden_dropout_prob": 0.9, "vocab_size": 99, "attention_probs_dropout_prob": 0.8}
    found = completed(uer_config(), ("pooler",), "uer", fallback=kept).config
    assert (found.layer_norm_eps, found.hidden_dropout_prob, found.attention_probs_dropout_prob) == (7e-7, 0.35, 0.8)
    assert found.vocab_size == 37


KINDS = {
    "vocab_size": (True, 37.0, "37", -1, [37], {}),
    "num_attention_heads": ("6", 6.0, False, -6),
    "pad_token_id": (-1, "0", 0.5),
    "layer_norm_eps": ("1e-12", True, -1e-12, float("inf"), float("nan"), [1]),
    "hidden_dropout_prob": ("0.1", -0.1, {}),
    "tie_word_embeddings": (0, 1, "true", "no"),
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in KINDS.items() for value in values], ids=str)
def test_a_value_of_the_wrong_kind_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(FormatError, match=f"config.json: {key} = "):
        parse({key: value}, HF_CONFIG, "config.json")


@pytest.mark.parametrize("value", ["gelu_10", "", None, 5, ["gelu"], {"a": 1}, True])
def test_an_activation_that_is_not_known_is_refused(value: object) -> None:
    if value is None:
        assert "hidden_act" not in parse({"hidden_act": value}, HF_CONFIG, "config.json")
    else:
        with pytest.raises(MappingError, match="hidden_act"):
            parse({"hidden_act": value}, HF_CONFIG, "config.json")


OTHERS = [
    ("hf", "model_type", "roberta"),
    ("hf", "model_type", None),
    ("hf", "model_type", ["bert"]),
    ("hf", "position_embedding_type", "relative_key"),
    ("hf", "is_decoder", True),
    ("hf", "add_cross_attention", True),
    ("uer", "encoder", "gatedcnn"),
    ("uer", "embedding", ["word", "sinusoidalpos"]),
    ("uer", "embedding", "word_sinusoidalpos"),
    ("uer", "mask", "causal"),
    ("uer", "layernorm_positioning", "pre"),
    ("uer", "layernorm", "t5"),
    ("uer", "feed_forward", "gated"),
    ("uer", "parameter_sharing", True),
    ("uer", "factorized_embedding_parameterization", True),
    ("uer", "relative_position_embedding", True),
    ("uer", "remove_attention_scale", True),
]


@pytest.mark.parametrize(("dialect", "key", "value"), OTHERS, ids=str)
def test_another_architecture_is_refused_by_the_key_that_says_so(dialect: str, key: str, value: object) -> None:
    with pytest.raises(MappingError, match=f"says {key} = ") as caught:
        parse({key: value}, DIALECTS[dialect].tables["bert"].config, "config.json")
    assert "--keep-names" in str(caught.value)


def test_two_keys_of_one_value_must_agree() -> None:
    assert parse({"hidden_size": 12, "emb_size": 12}, UER_CONFIG, "c")["hidden_size"] == 12
    assert parse({"emb_size": 12}, UER_CONFIG, "c")["hidden_size"] == 12
    with pytest.raises(MappingError, match="gives hidden_size two values"):
        parse({"hidden_size": 12, "emb_size": 8}, UER_CONFIG, "c")


def test_labels_are_in_the_order_of_their_numbers() -> None:
    assert parse({"id2label": {"1": "b", "0": "a", "2": "c"}}, HF_CONFIG, "c")["labels"] == ("a", "b", "c")
    assert "labels" not in parse({"id2label": {}}, HF_CONFIG, "c")
    assert "labels" not in parse({"id2label": None}, HF_CONFIG, "c")


@pytest.mark.parametrize(
    "labels", [{"a": "b"}, {"0": "a", "2": "c"}, {"1": "a"}, {"0": "a", "00": "b", "2": "c"}], ids=str
)
def test_labels_that_are_not_numbered_are_refused(labels: dict[str, str]) -> None:
    with pytest.raises(FormatError, match="id2label"):
        parse({"id2label": labels}, HF_CONFIG, "config.json")


HEADS = ("pooler", "sequence_classification")


def test_labels_and_the_rows_of_the_classifier_are_held_against_each_other() -> None:
    assert completed(hf_config(heads=HEADS), HEADS).config.labels == tuple(f"name {number}" for number in range(5))
    few = {"id2label": {"0": "a", "1": "b"}}
    with pytest.raises(FormatError, match="names 2 labels, but the classifier has 5 rows"):
        completed(hf_config(**few), HEADS)
    # In a model without a classifier they mean nothing.
    assert completed(hf_config(**few)).config.labels == ("a", "b")


def test_labels_that_nothing_names_are_called_as_transformers_calls_them() -> None:
    for dialect, native in (("hf", {"num_attention_heads": 6}), ("uer", uer_config())):
        found = completed(native, HEADS, dialect)
        assert found.config.labels == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3", "LABEL_4")
        assert any("5 labels" in note for note in found.notes)


def test_labels_kept_of_another_classifier_are_not_taken() -> None:
    found = completed(uer_config(), HEADS, "uer", fallback={"labels": ("a", "b")})
    assert len(found.config.labels) == 5
    same = completed(uer_config(), HEADS, "uer", fallback={"labels": tuple("abcde")})
    assert same.config.labels == tuple("abcde")


def a_config(**changes: object) -> Config:
    return Config(
        **{
            "vocab_size": 37,
            "hidden_size": 12,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "intermediate_size": 20,
            "max_position_embeddings": 17,
            "type_vocab_size": 2,
            "hidden_act": "gelu_tanh",
            "layer_norm_eps": 3e-6,
            "hidden_dropout_prob": 0.25,
            "attention_probs_dropout_prob": 0.25,
            "initializer_range": 0.03,
            "pad_token_id": 1,
            **changes,
        }
    )


def spelled(config: Config, name: str, heads=("pooler",), base=None, dtype: str = "float32"):
    dialect = DIALECTS[name]
    return spell(config, dialect, dialect.tables["bert"], heads, dtype, base or {})


def test_transformers_configuration_is_spelled_whole() -> None:
    native, unsaid = spelled(a_config(labels=("no", "yes", "maybe")), "hf", HEADS, dtype="bfloat16")
    assert unsaid == ()
    assert native == {
        "architectures": ["BertForSequenceClassification"],
        "attention_probs_dropout_prob": 0.25,
        "dtype": "bfloat16",
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.25,
        "hidden_size": 12,
        "id2label": {"0": "no", "1": "yes", "2": "maybe"},
        "initializer_range": 0.03,
        "intermediate_size": 20,
        "label2id": {"no": 0, "yes": 1, "maybe": 2},
        "layer_norm_eps": 3e-6,
        "max_position_embeddings": 17,
        "model_type": "bert",
        "num_attention_heads": 6,
        "num_hidden_layers": 3,
        "pad_token_id": 1,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
        "type_vocab_size": 2,
        "vocab_size": 37,
    }


@pytest.mark.parametrize(
    ("heads", "target", "more"),
    [
        (("pooler", "masked_lm", "next_sentence"), ["mlm", "sp"], {}),
        (("masked_lm",), ["mlm"], {}),
        (("pooler", "next_sentence"), ["sp"], {}),
        (("pooler",), ["sp"], {}),
        ((), ["mlm"], {}),
        (("span_qa",), ["mlm"], {}),
        (("token_classification",), ["mlm"], {"labels_num": 3}),
    ],
)
def test_uers_configuration_is_spelled_whole(heads: tuple[str, ...], target: list[str], more) -> None:
    native, _ = spelled(a_config(labels=("a", "b", "c")), "uer", heads)
    assert native == {
        "data_processor": "bert",
        "dropout": 0.25,
        "emb_size": 12,
        "embedding": ["word", "pos", "seg"],
        "encoder": "transformer",
        "feedforward_size": 20,
        "heads_num": 6,
        "hidden_act": "gelu_fast",
        "hidden_size": 12,
        "layers_num": 3,
        "mask": "fully_visible",
        "max_seq_length": 17,
        "target": target,
        "tie_weights": True,
        **more,
    }


def test_an_activation_that_the_target_lacks_is_refused() -> None:
    with pytest.raises(MappingError, match="UER-py has no activation tanh"):
        spelled(a_config(hidden_act="tanh"), "uer")


def test_a_dropout_that_the_target_cannot_say_is_told() -> None:
    _, unsaid = spelled(a_config(attention_probs_dropout_prob=0.5), "uer")
    assert len(unsaid) == 1
    assert "0.25 is written" in unsaid[0]
    assert "0.5" in unsaid[0]
    assert spelled(a_config(attention_probs_dropout_prob=0.5), "hf")[1] == ()


def test_a_base_that_says_the_same_stays_as_it_is() -> None:
    base = hf_config(hidden_act="gelu_pytorch_tanh", dtype="float32")
    config = completed(base).config
    assert spelled(config, "hf", base=base)[0] == base
    assert json.dumps(spelled(config, "hf", base=base)[0]) == json.dumps(base)  # in its order, too


def test_a_base_is_mended_where_it_says_something_else() -> None:
    base = hf_config(torch_dtype="float32")
    native, _ = spelled(a_config(vocab_size=50, attention_probs_dropout_prob=0.15), "hf", base=base, dtype="float16")
    assert native == {**base, "vocab_size": 50, "torch_dtype": "float16"}


def test_a_base_that_is_silent_where_the_default_holds_stays_silent() -> None:
    base = {"num_attention_heads": 6, "model_type": "bert"}
    config = completed(base).config
    native, _ = spelled(config, "hf", base=base)
    assert "hidden_act" not in native
    assert "layer_norm_eps" not in native


def test_labels_of_a_base_are_mended_where_the_classifier_has_others() -> None:
    config = a_config(labels=("a", "b", "c"), attention_probs_dropout_prob=0.15)
    native, _ = spelled(config, "hf", HEADS, base=hf_config(heads=HEADS))
    assert native["id2label"] == {"0": "a", "1": "b", "2": "c"}
    assert native["label2id"] == {"a": 0, "b": 1, "c": 2}
    two = a_config(labels=("LABEL_0", "LABEL_1"), attention_probs_dropout_prob=0.15)
    assert "id2label" not in spelled(two, "hf", HEADS, base=hf_config())[0]


CONFIGS = st.builds(
    a_config,
    hidden_act=st.sampled_from(["gelu", "gelu_tanh", "relu", "silu", "linear"]),
    layer_norm_eps=st.floats(1e-13, 1e-3),
    hidden_dropout_prob=st.floats(0, 0.9),
    attention_probs_dropout_prob=st.floats(0, 0.9),
    initializer_range=st.floats(1e-3, 1),
    pad_token_id=st.integers(0, 36),
    tie_word_embeddings=st.booleans(),
)


@given(CONFIGS)
def test_what_is_spelled_is_parsed_as_it_was(config: Config) -> None:
    native, _ = spelled(config, "hf")
    json.dumps(native)
    found = complete(parse(native, HF_CONFIG, "c"), {}, matched(), "c", None)
    assert found.config == config
    assert found.notes == ()


@given(CONFIGS)
def test_a_configuration_comes_back_through_the_other_dialect(config: Config) -> None:
    base, _ = spelled(config, "hf")
    theirs, _ = spelled(config, "uer")
    kept = parse(base, HF_CONFIG, "c")
    back = complete(parse(theirs, UER_CONFIG, "c"), kept, matched(dialect="uer"), "c", None).config
    assert back == config
    assert spelled(back, "hf", base=base)[0] == base


def test_the_table_is_found_by_what_the_text_says() -> None:
    every = list(DIALECTS.values())
    assert table_of(hf_config(), matched(dialect="uer"), every) is HF_CONFIG
    assert table_of(uer_config(), matched(), every) is UER_CONFIG
    assert table_of({"hidden_size": 12}, matched(), every) is None
    assert table_of({}, matched(), every) is None
