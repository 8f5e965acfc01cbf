"""ERNIE of Paddle fluid: names, layouts, configurations and vocabularies as its own repository has them.

The names are written out by hand from PaddlePaddle/ERNIE's sources; the streams by hand as Paddle's own writer does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest

import interlingua
from interlingua.errors import MappingError
from tests import models
from tests.models import Arrays, Sizes, assert_same, bare, hf_config, prefixed, read_safetensors, write_hf

FLUID = {
    "embeddings.word_embeddings.weight": "word_embedding",
    "embeddings.position_embeddings.weight": "pos_embedding",
    "embeddings.token_type_embeddings.weight": "sent_embedding",
    "embeddings.task_type_embeddings.weight": "task_embedding",
    "embeddings.LayerNorm.weight": "pre_encoder_layer_norm_scale",
    "embeddings.LayerNorm.bias": "pre_encoder_layer_norm_bias",
    "pooler.dense.weight": "pooled_fc.w_0",
    "pooler.dense.bias": "pooled_fc.b_0",
    "cls.predictions.transform.dense.weight": "mask_lm_trans_fc.w_0",
    "cls.predictions.transform.dense.bias": "mask_lm_trans_fc.b_0",
    "cls.predictions.transform.LayerNorm.weight": "mask_lm_trans_layer_norm_scale",
    "cls.predictions.transform.LayerNorm.bias": "mask_lm_trans_layer_norm_bias",
    "cls.predictions.bias": "mask_lm_out_fc.b_0",
    "cls.predictions.decoder.weight": "mask_lm_out_fc.w_0",
    "cls.seq_relationship.weight": "next_sent_fc.w_0",
    "cls.seq_relationship.bias": "next_sent_fc.b_0",
}
FLUID_LAYER = {
    "attention.self.query.weight": "multi_head_att_query_fc.w_0",
    "attention.self.query.bias": "multi_head_att_query_fc.b_0",
    "attention.self.key.weight": "multi_head_att_key_fc.w_0",
    "attention.self.key.bias": "multi_head_att_key_fc.b_0",
    "attention.self.value.weight": "multi_head_att_value_fc.w_0",
    "attention.self.value.bias": "multi_head_att_value_fc.b_0",
    "attention.output.dense.weight": "multi_head_att_output_fc.w_0",
    "attention.output.dense.bias": "multi_head_att_output_fc.b_0",
    "attention.output.LayerNorm.weight": "post_att_layer_norm_scale",
    "attention.output.LayerNorm.bias": "post_att_layer_norm_bias",
    "intermediate.dense.weight": "ffn_fc_0.w_0",
    "intermediate.dense.bias": "ffn_fc_0.b_0",
    "output.dense.weight": "ffn_fc_1.w_0",
    "output.dense.bias": "ffn_fc_1.b_0",
    "output.LayerNorm.weight": "post_ffn_layer_norm_scale",
    "output.LayerNorm.bias": "post_ffn_layer_norm_bias",
}
TASKS = "embeddings.task_type_embeddings.weight"
HEADS = {
    "sequence_classification": ("classifier", "_cls_out"),
    "token_classification": ("classifier", "cls_seq_label_out"),
    "span_qa": ("qa_outputs", "cls_mrc_out"),
}

DYGRAPH = {
    "embeddings.word_embeddings.weight": "word_emb.weight",
    "embeddings.position_embeddings.weight": "pos_emb.weight",
    "embeddings.token_type_embeddings.weight": "sent_emb.weight",
    "embeddings.LayerNorm": "ln",
    "attention.self.query": "attn.q",
    "attention.self.key": "attn.k",
    "attention.self.value": "attn.v",
    "attention.output.dense": "attn.o",
    "attention.output.LayerNorm": "ln1",
    "intermediate.dense": "ffn.i",
    "output.dense": "ffn.o",
    "output.LayerNorm": "ln2",
    "pooler.dense": "pooler",
    "cls.predictions.transform.dense": "mlm",
    "cls.predictions.transform.LayerNorm": "mlm_ln",
    "cls.predictions.bias": "mlm_bias",
}

ERNIE = Sizes(hidden=12, intermediate=48)
"""Fluid's feed-forward layer is four times as wide as the encoder."""


def fluid_name(name: str, heads: Iterable[str]) -> str:
    """The variable that transformers' bare name is."""
    if name.startswith("encoder.layer."):
        number, _, rest = name.removeprefix("encoder.layer.").partition(".")
        return f"encoder_layer_{number}_{FLUID_LAYER[rest]}"
    for head in heads:
        theirs, native = HEADS.get(head, ("", ""))
        if theirs and name.startswith(f"{theirs}."):
            return f"{native}_{name.removeprefix(theirs)[1]}"
    return FLUID[name]


def turned(name: str, array: np.ndarray) -> np.ndarray:
    """A tensor as Paddle lays it out: linear weights are ``[in, out]``."""
    return np.ascontiguousarray(array.T) if array.ndim == 2 and "_embeddings" not in name else array


def fluid(arrays: Mapping[str, np.ndarray], heads: Iterable[str] = ()) -> Arrays:
    """The bare model as fluid keeps it."""
    heads = list(heads)
    return {fluid_name(name, heads): turned(name, array) for name, array in arrays.items()}


def stream(array: np.ndarray) -> bytes:
    """A float32 array as ``fluid.io.save_vars`` writes a variable."""
    form = b"\x08\x05" + b"".join(b"\x10" + varint(size) for size in array.shape)
    head = np.array([0, 0, 0, 0], "<u4").tobytes() + len(form).to_bytes(4, "little")
    return head + form + array.astype("<f4").tobytes()


def varint(number: int) -> bytes:
    made = b""
    while number > 127:
        made, number = made + bytes([number & 127 | 128]), number >> 7
    return made + bytes([number])


def config(sizes: Sizes = ERNIE, **more: object) -> dict[str, object]:
    """A configuration with the keys that both versions have."""
    return {
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "relu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": sizes.hidden,
        "initializer_range": 0.02,
        "max_position_embeddings": sizes.positions,
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.layers,
        "vocab_size": sizes.vocab,
        **more,
    }


def write_fluid(
    folder: Path, variables: Mapping[str, np.ndarray], said: Mapping[str, object], tokens: int | None = None
) -> Path:
    """A folder as the zoo's archives unpack."""
    (folder / "params").mkdir(parents=True)
    for name, array in variables.items():
        (folder / "params" / name).write_bytes(stream(array))
    (folder / "ernie_config.json").write_text(json.dumps(said, indent=2) + "\n")
    if tokens is not None:
        (folder / "vocab.txt").write_text("".join(f"token{row}\t{row}\n" for row in range(tokens)))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the residue."""
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in files.items() if name != "interlingua.residue.safetensors"}


def task(arrays: Arrays, rows: int = 3) -> Arrays:
    """The model with a task embedding."""
    rng = np.random.default_rng(7)
    return {**arrays, "embeddings.task_type_embeddings.weight": models.random_array(rng, (rows, ERNIE.hidden))}


HEAD_SETS = (
    (),
    ("pooler",),
    ("pooler", "masked_lm"),
    ("pooler", "masked_lm", "next_sentence"),
    ("pooler", "sequence_classification"),
    ("token_classification",),
    ("span_qa",),
)


@pytest.mark.parametrize("heads", HEAD_SETS, ids="+".join)
def test_every_variable_becomes_transformers_tensor_and_comes_back(tmp_path: Path, heads: tuple[str, ...]) -> None:
    arrays = task(bare(heads, ERNIE))
    slots = {
        "word_embedding_moment1_0": np.ones((2, 3), "f4"),
        "encoder_layer_0_ffn_fc_0.w_0_beta1_pow_acc_0": np.ones(1, "f4"),
        "learning_rate_0": np.ones(1, "f4"),
        "@LR_DECAY_COUNTER@": np.ones(1, "f4"),
        "encoder_layer_1_ffn_fc_1.w_0.master": np.ones((4, 5), "f4"),
        "exponential_task_fc.w_0": np.ones((12, 3), "f4"),
    }
    said = config(type_vocab_size=2, task_type_vocab_size=3, use_task_id=True)
    source = write_fluid(tmp_path / "a", {**fluid(arrays, heads), **slots}, said, 30)
    interlingua.convert(source, tmp_path / "hf", to="hf")
    base = set(heads) - {"pooler"}
    assert_same(read_safetensors(tmp_path / "hf/model.safetensors"), prefixed(arrays, "ernie.") if base else arrays)
    interlingua.convert(tmp_path / "hf", tmp_path / "again", to="ernie-fluid")
    assert contents(tmp_path / "again") == contents(source)


def test_a_task_embedding_that_is_not_computed_with_is_kept_and_not_switched_on(tmp_path: Path) -> None:
    arrays = task(bare(("pooler",), ERNIE))
    said = config(type_vocab_size=2, task_type_vocab_size=3, use_task_id=False)
    source = write_fluid(tmp_path / "a", fluid(arrays, ("pooler",)), said, 30)
    for dialect, name in (("hf", "config.json"), ("paddle", "config.json"), ("uer", "config.json")):
        made = interlingua.convert(source, tmp_path / dialect, to=dialect)
        assert [kept.name for kept in made.plan.residue if kept.name == "task_embedding"]
        assert not json.loads((tmp_path / dialect / name).read_text()).get("use_task_id")
        interlingua.convert(tmp_path / dialect, tmp_path / f"{dialect}-again", to="ernie-fluid")
        assert contents(tmp_path / f"{dialect}-again") == contents(source)
    assert TASKS not in read_safetensors(tmp_path / "hf/model.safetensors")
    interlingua.convert(source, tmp_path / "same", to="ernie-fluid")
    assert contents(tmp_path / "same") == contents(source)


def test_a_task_embedding_of_which_nothing_is_said_is_computed_with(tmp_path: Path) -> None:
    source = write_fluid(tmp_path / "a", fluid(task(bare((), ERNIE)), ()), config(type_vocab_size=2))
    made = interlingua.convert(source, tmp_path / "hf", to="hf")
    assert json.loads((tmp_path / "hf/config.json").read_text())["use_task_id"] is True
    assert any("Nothing states use_task_id" in note for note in made.plan.notes)


def test_what_its_code_computes_with_reaches_transformers_configuration(tmp_path: Path) -> None:
    """ERNIE#75: relu stays relu, and the epsilon is fluid's, not transformers' default."""
    source = write_fluid(tmp_path / "a", fluid(bare(("pooler",), ERNIE)), config(type_vocab_size=2))
    interlingua.convert(source, tmp_path / "hf", to="hf")
    written = json.loads((tmp_path / "hf/config.json").read_text())
    assert written["model_type"] == "ernie"
    assert (written["hidden_act"], written["layer_norm_eps"]) == ("relu", 1e-5)
    assert (written["use_task_id"], written["intermediate_size"], written["type_vocab_size"]) == (False, 48, 2)


def test_an_epsilon_that_fluid_does_not_compute_with_is_told(tmp_path: Path) -> None:
    """ERNIE#75, the other way: transformers' 1e-12 cannot be written."""
    arrays = prefixed(bare(("masked_lm",), ERNIE), "ernie.")
    said = {**hf_config(ERNIE, ("masked_lm",)), "model_type": "ernie", "layer_norm_eps": 1e-12}
    write_hf(tmp_path / "hf", arrays, said)
    made = interlingua.convert(tmp_path / "hf", tmp_path / "a", to="ernie-fluid")
    assert any("epsilon is 1e-12" in note and "1e-05" in note for note in made.plan.notes)


def test_more_segments_than_two_are_counted_under_both_keys(tmp_path: Path) -> None:
    """ERNIE#516: ERNIE 2.0 says sent_type_vocab_size, and the code of 1.0 reads type_vocab_size."""
    sizes = Sizes(hidden=12, intermediate=48, types=4)
    said = config(sizes, sent_type_vocab_size=4, task_type_vocab_size=16, hidden_act="gelu")
    source = write_fluid(tmp_path / "a", fluid(bare(("pooler",), sizes)), said)
    interlingua.convert(source, tmp_path / "hf", to="hf")
    written = json.loads((tmp_path / "hf/config.json").read_text())
    assert (written["type_vocab_size"], written["task_type_vocab_size"], written["use_task_id"]) == (4, 16, False)
    assert "embeddings.task_type_embeddings.weight" not in read_safetensors(tmp_path / "hf/model.safetensors")
    (tmp_path / "hf/interlingua.residue.safetensors").unlink()
    interlingua.convert(tmp_path / "hf", tmp_path / "again", to="ernie-fluid")
    again = json.loads((tmp_path / "again/ernie_config.json").read_text())
    assert (again["sent_type_vocab_size"], again["type_vocab_size"]) == (4, 4)


def test_the_feed_forward_layer_of_a_large_ernie_is_as_wide_as_its_weights(tmp_path: Path) -> None:
    """ERNIE-Pytorch#24: ERNIE 2.0 large has 1024 and 4096, whatever else says 3072; its configuration says neither."""
    sizes = Sizes(layers=2, hidden=1024, heads=16, intermediate=4096, vocab=11, positions=5, types=4)
    said = config(sizes, sent_type_vocab_size=4, task_type_vocab_size=16, hidden_act="gelu")
    source = write_fluid(tmp_path / "a", fluid(bare((), sizes)), said)
    interlingua.convert(source, tmp_path / "hf", to="hf")
    written = json.loads((tmp_path / "hf/config.json").read_text())
    assert (written["hidden_size"], written["intermediate_size"], written["num_attention_heads"]) == (1024, 4096, 16)


def test_rows_beyond_the_vocabulary_are_kept(tmp_path: Path) -> None:
    """ERNIE-Pytorch#11: ERNIE 1.0 has 17964 numbered lines and 18000 rows, and 513 positions."""
    sizes = Sizes(layers=1, hidden=4, heads=2, intermediate=16, vocab=18000, positions=513)
    arrays = bare(("pooler", "masked_lm"), sizes)
    source = write_fluid(tmp_path / "a", fluid(arrays), config(sizes, type_vocab_size=2), 17964)
    made = interlingua.convert(source, tmp_path / "hf", to="hf")
    assert any("36 rows beyond the vocabulary's 17964 tokens" in note for note in made.plan.notes)
    found = read_safetensors(tmp_path / "hf/model.safetensors")
    assert found["ernie.embeddings.word_embeddings.weight"].shape == (18000, 4)
    assert found["ernie.embeddings.position_embeddings.weight"].shape == (513, 4)
    written = json.loads((tmp_path / "hf/config.json").read_text())
    assert (written["vocab_size"], written["max_position_embeddings"]) == (18000, 513)
    lines = (tmp_path / "hf/vocab.txt").read_text().splitlines()
    assert (len(lines), lines[-1]) == (17964, "token17963")


def test_the_pooler_is_not_lost(tmp_path: Path) -> None:
    """ERNIE-Pytorch#75."""
    arrays = bare(("pooler", "masked_lm", "next_sentence"), ERNIE)
    source = write_fluid(tmp_path / "a", fluid(arrays), config(type_vocab_size=2))
    interlingua.convert(source, tmp_path / "hf", to="hf")
    found = read_safetensors(tmp_path / "hf/model.safetensors")
    np.testing.assert_array_equal(found["ernie.pooler.dense.weight"], arrays["pooler.dense.weight"])


def test_a_decoder_of_its_own_is_a_variable_of_its_own(tmp_path: Path) -> None:
    arrays = bare(("masked_lm",), ERNIE)
    arrays["cls.predictions.decoder.weight"] = models.random_array(np.random.default_rng(3), (37, 12))
    source = write_fluid(tmp_path / "a", fluid(arrays), config(type_vocab_size=2))
    assert (source / "params/mask_lm_out_fc.w_0").exists()
    interlingua.convert(source, tmp_path / "hf", to="hf")
    found = read_safetensors(tmp_path / "hf/model.safetensors")
    np.testing.assert_array_equal(found["cls.predictions.decoder.weight"], arrays["cls.predictions.decoder.weight"])
    assert json.loads((tmp_path / "hf/config.json").read_text())["tie_word_embeddings"] is False


@pytest.mark.parametrize("name", ["cls_out", "mnli_cls_out"])
def test_a_classifier_is_known_under_any_task(tmp_path: Path, name: str) -> None:
    heads = ("pooler", "sequence_classification")
    variables = fluid(bare(heads, ERNIE), heads)
    variables = {key.replace("_cls_out", name): array for key, array in variables.items()}
    assert f"{name}_w" in variables
    source = write_fluid(tmp_path / "a", variables, config(type_vocab_size=2))
    with interlingua.open(source) as seen:
        assert (seen.family, seen.heads, dict(seen.match.leftovers)) == ("ernie", heads, {})
    interlingua.convert(source, tmp_path / "hf", to="hf")
    interlingua.convert(tmp_path / "hf", tmp_path / "uer", to="uer")
    interlingua.convert(tmp_path / "uer", tmp_path / "again", to="ernie-fluid", family="ernie")
    assert contents(tmp_path / "again") == contents(source)


def test_fluids_bert_is_read_as_such_where_asked_and_stays_one(tmp_path: Path) -> None:
    heads = ("pooler", "sequence_classification")
    variables = {key.replace("_cls_out", "cls_out"): a for key, a in fluid(bare(heads, ERNIE), heads).items()}
    source = write_fluid(tmp_path / "a", variables, config(type_vocab_size=2))
    interlingua.convert(source, tmp_path / "hf", to="hf", family="bert")
    assert json.loads((tmp_path / "hf/config.json").read_text())["model_type"] == "bert"
    (tmp_path / "hf/interlingua.residue.safetensors").unlink()
    interlingua.convert(tmp_path / "hf", tmp_path / "again", to="ernie-fluid")
    assert contents(tmp_path / "again/params") == contents(source / "params")
    with interlingua.open(tmp_path / "again") as seen:
        assert seen.family == "bert"


def test_the_dygraph_codes_names_are_known(tmp_path: Path) -> None:
    """``saved_weights.pdparams``: the same tensors under the names of ``ernie/modeling_ernie.py``."""
    import pickle

    arrays = bare(("pooler", "masked_lm"), ERNIE)
    named = {}
    for name, array in arrays.items():
        key = name
        for theirs in sorted(DYGRAPH, key=len, reverse=True):
            if theirs in key:
                key = key.replace(theirs, DYGRAPH[theirs])
                break
        named[key.replace("encoder.layer.", "encoder_stack.block.")] = turned(name, array)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/saved_weights.pdparams").write_bytes(pickle.dumps(named, protocol=2))
    (tmp_path / "a/ernie_config.json").write_text(json.dumps(config(type_vocab_size=2)))
    with interlingua.open(tmp_path / "a") as seen:
        assert (seen.dialect, seen.heads, dict(seen.match.leftovers)) == ("ernie-fluid", ("pooler", "masked_lm"), {})
    interlingua.convert(tmp_path / "a", tmp_path / "hf", to="hf")
    assert_same(read_safetensors(tmp_path / "hf/model.safetensors"), prefixed(arrays, "ernie."))


def test_relative_positions_are_another_architecture(tmp_path: Path) -> None:
    variables = {**fluid(bare((), ERNIE)), "rel_pos_embedding": np.ones((3, 6), "f4")}
    source = write_fluid(tmp_path / "a", variables, config(type_vocab_size=2))
    with pytest.raises(MappingError, match="rel_pos_embedding"):
        interlingua.convert(source, tmp_path / "hf", to="hf")


def test_an_activation_that_nothing_states_is_not_guessed(tmp_path: Path) -> None:
    """ERNIE 1.0 has relu and 2.0 has gelu: either guess would be silently wrong for the other."""
    said = {key: value for key, value in config(type_vocab_size=2).items() if key != "hidden_act"}
    source = write_fluid(tmp_path / "a", fluid(bare((), ERNIE)), said)
    with pytest.raises(MappingError, match="hidden_act"):
        interlingua.convert(source, tmp_path / "hf", to="hf")
