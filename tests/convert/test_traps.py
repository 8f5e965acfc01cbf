"""The failures that people met in the field, replayed: one test each, named after the trap.

Every one of them was a script that stopped with a KeyError, or worse, one that went on with random weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import interlingua
from interlingua.errors import FormatError, MappingError, UsageError
from tests.models import (
    DECODER,
    SMALL,
    Sizes,
    assert_same,
    bare,
    fingerprints,
    hf,
    hf_config,
    prefixed,
    read_safetensors,
    to_torch,
    torch_dict,
    uer,
    uer_config,
    weights_of,
    write_hf,
    write_uer,
)

torch = pytest.importorskip("torch")

ALL = ("pooler", "masked_lm", "next_sentence")


def convert(source: Path, target: Path, to: str, **options: object):
    return interlingua.convert(source, target, to=to, sync=False, **options)


def converted(source: Path, to: str, **options: object) -> dict[str, np.ndarray]:
    target = source.parent / f"{source.name} as {to}"
    convert(source, target, to, **options)
    return weights_of(target)


def digest(path: Path) -> str:
    with interlingua.open(path) as checkpoint:
        return interlingua.fingerprint(checkpoint).model


def renamed(arrays: Mapping[str, np.ndarray], *pairs: tuple[str, str]) -> dict[str, np.ndarray]:
    found = {}
    for name, array in arrays.items():
        for old, new in pairs:
            name = name.replace(old, new)
        found[name] = array
    return found


# Names of other times and other wrappers.


@pytest.mark.parametrize("heads", [("pooler",), ALL], ids="+".join)
def test_gamma_and_beta(tmp_path: Path, heads: tuple[str, ...]) -> None:
    old = renamed(hf(heads), ("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
    assert any(name.endswith("LayerNorm.gamma") for name in old)
    source = write_hf(tmp_path / "old", old, hf_config(heads=heads))
    assert_same(converted(source, "uer"), uer(heads))
    assert_same(converted(source, "hf"), hf(heads))
    assert digest(source) == fingerprints(bare(heads), heads)[0]


def test_without_a_pooler(tmp_path: Path) -> None:
    source = write_hf(tmp_path / "src", hf(), hf_config(heads=()))
    found = converted(source, "uer")
    assert_same(found, uer())
    assert not any(name.startswith("target.") for name in found)
    back = convert(tmp_path / "src as uer", tmp_path / "back", "hf")
    assert_same(weights_of(tmp_path / "back"), hf())
    assert any("no pooler" in note for note in back.plan.notes)


@pytest.mark.parametrize("heads", [("pooler",), ("masked_lm",)], ids="+".join)
def test_a_bert_behind_robertas_prefix(tmp_path: Path, heads: tuple[str, ...]) -> None:
    source = write_hf(tmp_path / "src", prefixed(bare(heads), "roberta."), hf_config(heads=heads))
    assert_same(converted(source, "uer"), uer(heads))
    assert_same(converted(source, "hf"), hf(heads))


def test_a_real_roberta_is_not_taken_for_a_bert(tmp_path: Path) -> None:
    source = write_hf(tmp_path / "src", prefixed(bare(("pooler",)), "roberta."), hf_config(model_type="roberta"))
    with pytest.raises(MappingError, match="UER-py has no roberta"):
        converted(source, "uer")


@pytest.mark.parametrize(
    "prefix", ["module.", "module.bert.", "model.bert.", "bert_model.", "net.0.encoder_model.bert."]
)
def test_behind_a_wrapper(tmp_path: Path, prefix: str) -> None:
    arrays = prefixed(bare(("pooler",)), prefix)
    source = write_hf(tmp_path / "src", arrays, hf_config())
    assert_same(converted(source, "uer"), uer(("pooler",)))
    assert_same(converted(source, "hf"), hf(("pooler",)))


def test_with_the_prefix_of_a_model_with_heads_but_no_head(tmp_path: Path) -> None:
    source = write_hf(tmp_path / "src", prefixed(bare(("pooler",))), hf_config())
    assert_same(converted(source, "hf"), hf(("pooler",)))


def test_heads_without_the_prefix(tmp_path: Path) -> None:
    source = write_hf(tmp_path / "src", bare(ALL), hf_config(heads=ALL))
    assert_same(converted(source, "hf"), hf(ALL))


ERA_A = (
    ("embedding.word.embedding", "embedding.word_embedding"),
    ("embedding.pos.embedding", "embedding.position_embedding"),
    ("embedding.seg.embedding", "embedding.segment_embedding"),
)
TARGETS_A = (
    ("target.mlm.layer_norm", "target.layer_norm"),
    ("target.mlm.", "target.mlm_"),
    ("target.sp.", "target.nsp_"),
)
TARGETS_B = (
    ("target.mlm.layer_norm", "target.layer_norm"),
    ("target.mlm.", "target.mlm_"),
    ("target.sp.", "target.sp_"),
)
ERAS = {
    "A, 2019 to 2022": (*ERA_A, *TARGETS_A),
    "B, 2022 to 2023": (*ERA_A, *TARGETS_B),
    "C, two days of 2023": TARGETS_B,
    "D, 2023": (),
    "D, as its conversion scripts wrote it": (("target.mlm.layer_norm", "target.layer_norm"),),
    "today": (),
}


@pytest.mark.parametrize("pairs", ERAS.values(), ids=ERAS.keys())
def test_an_older_naming_of_uer(tmp_path: Path, pairs: tuple[tuple[str, str], ...]) -> None:
    arrays = renamed(uer(ALL, padding=True), *pairs)
    if pairs[:3] == ERA_A:
        assert "embedding.word_embedding.weight" in arrays
        assert "target.mlm_linear_1.weight" in arrays
    source = write_uer(tmp_path / "src", arrays, uer_config())
    assert digest(source) == fingerprints(bare(ALL), ALL)[0]
    assert_same(converted(source, "hf"), hf(ALL))
    assert_same(converted(source, "uer"), uer(ALL, padding=True))


@pytest.mark.parametrize("buffer", ["embedding.pe", "embedding.sinusoidalpos.pe"])
def test_a_buffer_of_sinusoidal_positions_in_an_older_file_of_uer(tmp_path: Path, buffer: str) -> None:
    extra = {buffer: np.arange(12, dtype=np.float32).reshape(1, 1, 12)}
    source = write_uer(tmp_path / "src", uer(ALL) | extra, uer_config())
    assert_same(converted(source, "hf"), hf(ALL))
    assert_same(converted(source, "uer"), uer(ALL) | extra)


# Sizes.


@pytest.mark.parametrize("layers", [1, 2, 6, 11, 24, 36])
def test_a_number_of_layers_that_is_not_twelve(tmp_path: Path, layers: int) -> None:
    sizes = Sizes(layers=layers)
    source = write_hf(tmp_path / "src", hf(ALL, sizes), {"num_attention_heads": 6}, 37)
    assert_same(converted(source, "uer"), uer(ALL, sizes))
    config = json.loads((tmp_path / "src as uer" / "config.json").read_text())
    assert config["layers_num"] == layers
    convert(tmp_path / "src as uer", tmp_path / "back", "hf")
    assert_same(weights_of(tmp_path / "back"), hf(ALL, sizes))


@pytest.mark.parametrize("to", ["hf", "uer"])
def test_a_vocabulary_longer_than_the_embedding(tmp_path: Path, to: str) -> None:
    for source in (
        write_hf(tmp_path / "a", hf(), hf_config(), 38),
        write_uer(tmp_path / "b", uer(), uer_config(), 38),
    ):
        with pytest.raises(FormatError, match="the vocabulary has 38 lines, but the word embedding has 37 rows"):
            convert(source, tmp_path / "out", to)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["hf", "uer"])
def test_a_vocabulary_shorter_than_the_embedding(tmp_path: Path, to: str) -> None:
    # Embeddings are often padded to a multiple of eight rows.
    source = write_hf(tmp_path / "src", hf(), hf_config(), 33)
    convert(source, tmp_path / "out", to)
    assert (tmp_path / "out" / "vocab.txt").read_bytes() == (source / "vocab.txt").read_bytes()


def test_a_configuration_of_another_model(tmp_path: Path) -> None:
    source = write_hf(tmp_path / "src", hf(), hf_config(vocab_size=21128), 30)
    with pytest.raises(FormatError, match="21128, but the weights say 37, the vocabulary has 30 lines"):
        convert(source, tmp_path / "out", "uer")


@pytest.mark.parametrize("types", [1, 4, 16])
def test_more_or_fewer_token_types_than_uer_has(tmp_path: Path, types: int) -> None:
    source = write_hf(tmp_path / "src", hf((), Sizes(types=types)), hf_config(Sizes(types=types)))
    with pytest.raises(MappingError, match=f"always has 3 rows, but {types + 1} are due") as caught:
        convert(source, tmp_path / "out", "uer")
    assert "token types" in str(caught.value)
    assert caught.value.names == ("embeddings.token_type_embeddings.weight",)


# What else is in the file.


def test_an_optimizer_inside_the_file(tmp_path: Path) -> None:
    model = torch_dict(hf(("pooler",)))
    optimizer = {
        "state": {number: {"step": torch.tensor(9.0), "exp_avg": torch.ones(3)} for number in range(2)},
        "param_groups": [{"lr": 0.001, "params": [0, 1]}],
    }
    for name, content in {
        "beside": {"model": model, "optimizer": optimizer, "epoch": 7},
        "wrapped twice": {
            "checkpoint": {"state_dict": {f"module.{n}": t for n, t in model.items()}},
            "optimizer": optimizer,
        },
        "flat": {**model, "optimizer": optimizer, "step": 12},
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        torch.save(content, folder / "pytorch_model.bin")
        (folder / "config.json").write_text(json.dumps(hf_config()))
        result = convert(folder, tmp_path / f"{name} out", "uer")
        assert_same(weights_of(tmp_path / f"{name} out"), uer(("pooler",)))
        kept = {entry.name for entry in result.plan.residue}
        assert {f"optimizer.state.{number}.exp_avg" for number in range(2)} <= kept
        residue = read_safetensors(tmp_path / f"{name} out" / "interlingua.residue.safetensors")
        assert residue[next(key for key in residue if key.endswith("state.1.exp_avg"))].tolist() == [1, 1, 1]
        # What is no tensor cannot be kept, and that is said.
        assert any("no tensors are left out" in note for note in result.plan.notes)
        with pytest.raises(MappingError, match="optimizer"):
            convert(folder, tmp_path / "error", "uer", residue="error")


def moco(seed_of_keys: int = 5) -> dict[str, object]:
    """A trainer's file: two encoders of one kind, each with the trainer's own classifier, a queue and more."""
    state = {}
    for which, seed in (("encoder_q", 0), ("encoder_k", seed_of_keys)):
        state |= {f"module.{which}.{name}": array for name, array in prefixed(bare(("pooler",), seed=seed)).items()}
        rng = np.random.default_rng(seed)
        for layer, rows in (("classifier.0", SMALL.hidden), ("classifier.2", 8)):
            state[f"module.{which}.{layer}.weight"] = rng.standard_normal((rows, SMALL.hidden)).astype(np.float32)
            state[f"module.{which}.{layer}.bias"] = rng.standard_normal(rows).astype(np.float32)
    state["module.queue"] = np.ones((8, 16), np.float32)
    state["module.queue_ptr"] = np.array([3])
    return {
        "epoch": 3,
        "arch": "resnet50",
        "state_dict": torch_dict(state),
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
    }


def test_a_moco_trainers_file(tmp_path: Path) -> None:
    folder = tmp_path / "src"
    folder.mkdir()
    torch.save(moco(), folder / "moco.tar")
    (folder / "config.json").write_text(json.dumps(hf_config()))
    for source in (folder, folder / "moco.tar"):
        for to, expected in (("hf", hf(("pooler",))), ("uer", uer(("pooler",)))):
            target = tmp_path / f"{source.name} as {to}"
            result = convert(source, target, to)
            assert_same(weights_of(target), expected)
            assert result.plan.heads == ("pooler",)
            assert any("encoder_k is its moving average" in note for note in result.plan.notes)
            kept = {entry.name for entry in result.plan.residue}
            assert {"state_dict.module.queue", "state_dict.module.queue_ptr"} <= kept
            assert {f"state_dict.module.encoder_q.classifier.{n}.weight" for n in (0, 2)} <= kept
            assert "state_dict.module.encoder_k.bert.pooler.dense.bias" in kept
            # What belongs to the trainer stays out of any later conversion, and is not lost.
            convert(target, tmp_path / f"{source.name} {to} again", "hf")
            assert_same(weights_of(tmp_path / f"{source.name} {to} again"), hf(("pooler",)))
            residue = read_safetensors(tmp_path / f"{source.name} {to} again" / "interlingua.residue.safetensors")
            assert residue["hf/foreign/state_dict.module.queue"].shape == (8, 16)


def test_the_key_encoder_of_a_moco_trainers_file(tmp_path: Path) -> None:
    torch.save(moco(), tmp_path / "moco.bin")
    found = tmp_path / "out"
    convert(tmp_path / "moco.bin", found, "hf", submodel="encoder_k")
    assert_same(weights_of(found), hf(("pooler",), seed=5))


def test_a_student_and_a_teacher_in_one_file(tmp_path: Path) -> None:
    arrays = prefixed(bare(), "student.") | prefixed(bare(seed=4), "teacher.")
    source = write_hf(tmp_path / "src", arrays, hf_config(heads=()))
    with pytest.raises(UsageError, match="'student', 'teacher'"):
        convert(source, tmp_path / "out", "uer")
    convert(source, tmp_path / "out", "uer", submodel="teacher")
    assert_same(weights_of(tmp_path / "out"), uer(seed=4))


def test_position_ids_in_the_file(tmp_path: Path) -> None:
    extra = {
        "bert.embeddings.position_ids": np.arange(17)[None],
        "bert.embeddings.token_type_ids": np.zeros((1, 17), int),
    }
    source = write_hf(tmp_path / "src", hf(ALL) | extra, hf_config(heads=ALL))
    assert_same(converted(source, "uer"), uer(ALL))
    convert(tmp_path / "src as uer", tmp_path / "back", "hf")
    assert_same(weights_of(tmp_path / "back"), hf(ALL) | extra)
    assert (
        digest(source)
        == digest(tmp_path / "src as uer")
        == digest(tmp_path / "back")
        == fingerprints(bare(ALL), ALL)[0]
    )


def test_half_a_head(tmp_path: Path) -> None:
    arrays = hf(ALL)
    half = {name: arrays.pop(name) for name in list(arrays) if name.startswith("cls.predictions.transform")}
    del half["cls.predictions.transform.dense.bias"]
    source = write_hf(tmp_path / "src", arrays | half, hf_config(heads=ALL))
    result = convert(source, tmp_path / "out", "uer")
    assert result.plan.heads == ("pooler", "next_sentence")
    assert_same(weights_of(tmp_path / "out"), {n: a for n, a in uer(ALL).items() if "target.mlm" not in n})
    reasons = {entry.name: entry.reason for entry in result.plan.residue}
    assert "masked_lm.transform.dense.bias missing" in reasons["cls.predictions.bias"]
    convert(tmp_path / "out", tmp_path / "back", "hf")
    assert_same(weights_of(tmp_path / "back"), arrays | half)


# Tied and untied decoders.

WORD = "bert.embeddings.word_embeddings.weight"


def test_a_tied_decoder_that_safetensors_leave_out(tmp_path: Path) -> None:
    source = write_hf(tmp_path / "src", hf(("masked_lm",)), hf_config(heads=("masked_lm",)))
    found = converted(source, "uer")
    assert_same(found, uer(("masked_lm",)))
    assert found["target.mlm.linear_2.weight"].tobytes() == found["embedding.word.embedding.weight"].tobytes()


def test_a_tied_decoder_that_is_there_twice(tmp_path: Path) -> None:
    arrays = hf(("masked_lm",))
    for name, given in (
        ("equal", arrays | {DECODER: arrays[WORD].copy()}),
        (
            "equal with bias",
            arrays
            | {DECODER: arrays[WORD].copy(), "cls.predictions.decoder.bias": arrays["cls.predictions.bias"].copy()},
        ),
    ):
        source = write_hf(tmp_path / name, given, hf_config(heads=("masked_lm",)))
        assert digest(source) == fingerprints(bare(("masked_lm",)), ("masked_lm",))[0]
        assert_same(converted(source, "uer"), uer(("masked_lm",)))
        assert_same(converted(source, "hf"), hf(("masked_lm",)))


def test_a_tied_decoder_in_shared_storage(tmp_path: Path) -> None:
    arrays = hf(("masked_lm",))
    arrays[DECODER] = arrays[WORD]
    arrays["cls.predictions.decoder.bias"] = arrays["cls.predictions.bias"]
    source = write_uer(tmp_path / "src", arrays, hf_config(heads=("masked_lm",)))
    assert digest(source) == fingerprints(bare(("masked_lm",)), ("masked_lm",))[0]
    assert_same(converted(source, "hf"), hf(("masked_lm",)))
    # Written for PyTorch again, all four names are there and share their storages.
    assert_same(converted(source, "hf", container="torch-zip", overwrite=True), arrays)
    loaded = torch.load(tmp_path / "src as hf" / "pytorch_model.bin", weights_only=True)
    assert loaded[DECODER].data_ptr() == loaded[WORD].data_ptr()
    assert loaded["cls.predictions.decoder.bias"].data_ptr() == loaded["cls.predictions.bias"].data_ptr()
    found = torch.load(convert(source, tmp_path / "u", "uer").path / "pytorch_model.bin", weights_only=True)
    assert found["target.mlm.linear_2.weight"].data_ptr() == found["embedding.word.embedding.weight"].data_ptr()


def test_an_untied_decoder(tmp_path: Path) -> None:
    arrays = hf(("masked_lm",))
    decoder = np.random.default_rng(9).standard_normal((37, 12)).astype(np.float32)
    source = write_hf(tmp_path / "src", arrays | {DECODER: decoder}, hf_config(heads=("masked_lm",)))
    assert digest(source) == fingerprints(bare(("masked_lm",)) | {DECODER: decoder}, ("masked_lm",))[0]
    found = converted(source, "uer")
    assert_same(found, uer(("masked_lm",)) | {"target.mlm.linear_2.weight": decoder})
    assert json.loads((tmp_path / "src as uer" / "config.json").read_text())["tie_weights"] is False
    convert(tmp_path / "src as uer", tmp_path / "back", "hf")
    # In a model that is not tied, transformers looks for the bias under both names.
    copy = {"cls.predictions.decoder.bias": arrays["cls.predictions.bias"]}
    assert_same(weights_of(tmp_path / "back"), arrays | {DECODER: decoder} | copy)
    assert json.loads((tmp_path / "back" / "config.json").read_text())["tie_word_embeddings"] is False


def test_the_bias_of_the_decoder_under_either_name(tmp_path: Path) -> None:
    arrays = hf(("masked_lm",))
    bias = arrays.pop("cls.predictions.bias")
    source = write_hf(tmp_path / "a", arrays | {"cls.predictions.decoder.bias": bias}, hf_config(heads=("masked_lm",)))
    assert_same(converted(source, "uer"), uer(("masked_lm",)))
    assert_same(converted(source, "hf"), hf(("masked_lm",)))


def test_two_biases_of_an_untied_decoder(tmp_path: Path) -> None:
    arrays = hf(("masked_lm",))
    arrays |= {DECODER: arrays[WORD] * 2, "cls.predictions.decoder.bias": arrays["cls.predictions.bias"] * 3}
    source = write_hf(tmp_path / "src", arrays, hf_config(heads=("masked_lm",), tie_word_embeddings=False))
    found = converted(source, "uer")
    assert found["target.mlm.linear_2.bias"].tobytes() == arrays["cls.predictions.decoder.bias"].tobytes()
    convert(tmp_path / "src as uer", tmp_path / "back", "hf")
    assert_same(weights_of(tmp_path / "back"), arrays)
    assert_same(converted(source, "hf"), arrays)


# UER's third row.


def test_the_row_of_padding_comes_back_bit_for_bit(tmp_path: Path) -> None:
    arrays = uer(ALL, padding=True)
    arrays["embedding.seg.embedding.weight"][0, 0] = np.float32(np.nan)
    arrays["embedding.seg.embedding.weight"].view(np.uint32)[0, 0] |= 0x1234  # a payload
    source = write_uer(tmp_path / "src", arrays, uer_config(), 37)
    assert_same(converted(source, "hf"), hf(ALL))
    residue = read_safetensors(tmp_path / "src as hf" / "interlingua.residue.safetensors")
    kept = residue["uer/rows/embedding.seg.embedding.weight"]
    assert kept.tobytes() == arrays["embedding.seg.embedding.weight"][:1].tobytes()
    convert(tmp_path / "src as hf", tmp_path / "back", "uer")
    assert_same(weights_of(tmp_path / "back"), arrays)
    # Through a second stop, too.
    convert(tmp_path / "src as hf", tmp_path / "hf again", "hf")
    convert(tmp_path / "hf again", tmp_path / "back again", "uer")
    assert_same(weights_of(tmp_path / "back again"), arrays)


def test_without_the_residue_the_row_of_padding_is_zero(tmp_path: Path) -> None:
    source = write_uer(tmp_path / "src", uer(ALL, padding=True), uer_config())
    convert(source, tmp_path / "hf", "hf", residue="drop")
    convert(tmp_path / "hf", tmp_path / "back", "uer")
    assert_same(weights_of(tmp_path / "back"), uer(ALL))


# Element types.


def test_narrowing_to_float16_reports_what_it_loses(tmp_path: Path) -> None:
    arrays = hf(("pooler",))
    arrays["pooler.dense.weight"][0, :3] = [1e5, -7e4, 65519.0]
    arrays["pooler.dense.weight"][1, :2] = [1e-9, -1e-30]
    arrays["embeddings.LayerNorm.bias"][0] = 1e38
    source = write_hf(tmp_path / "src", arrays, hf_config(torch_dtype="float32"))
    result = convert(source, tmp_path / "out", "hf", dtype="float16")
    lost = {entry.name: (entry.elements, entry.losses.overflow, entry.losses.underflow) for entry in result.lost}
    assert lost["pooler.dense.weight"] == (144, 2, 2)
    assert lost["embeddings.LayerNorm.bias"] == (12, 1, 0)
    with np.errstate(over="ignore"):
        expected = {name: array.astype(np.float16) for name, array in arrays.items()}
    assert_same(weights_of(tmp_path / "out"), expected)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "float16"


def test_widening_loses_nothing_and_reports_nothing(tmp_path: Path) -> None:
    source = write_hf(tmp_path / "src", hf(("pooler",), dtype=ml_dtypes.bfloat16), hf_config())
    result = convert(source, tmp_path / "out", "uer", dtype="float32")
    assert result.lost == ()
    assert_same(
        weights_of(tmp_path / "out"),
        {n: a.astype(np.float32) for n, a in uer(("pooler",), dtype=ml_dtypes.bfloat16).items()},
    )


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float64])
def test_a_source_that_is_not_float32_stays_what_it_is(tmp_path: Path, dtype) -> None:
    source = write_hf(tmp_path / "src", hf(ALL, dtype=dtype), hf_config(heads=ALL))
    assert_same(converted(source, "uer"), uer(ALL, dtype=dtype))
    convert(tmp_path / "src as uer", tmp_path / "back", "hf")
    assert_same(weights_of(tmp_path / "back"), hf(ALL, dtype=dtype))
    assert digest(source) == digest(tmp_path / "src as uer") == fingerprints(bare(ALL, dtype=dtype), ALL)[0]


# Folders.

SIDECARS = {
    "modules.json": '[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]',
    "sentence_bert_config.json": '{"max_seq_length": 256}',
    "config_sentence_transformers.json": '{"__version__": {}}',
    "1_Pooling/config.json": '{"pooling_mode_mean_tokens": true}',
    "2_Dense/config.json": '{"in_features": 12}',
    "2_Dense/model.safetensors": "weights of another module",
    "tokenizer.json": '{"version": "1.0"}',
    "tokenizer_config.json": '{"do_lower_case": true}',
    "special_tokens_map.json": "{}",
    "README.md": "# model card\n",
    "LICENSE": "as is",
}


def test_the_folder_of_a_sentence_transformer(tmp_path: Path) -> None:
    source = write_hf(tmp_path / "src", hf(("pooler",)), hf_config(), 37)
    for name, content in SIDECARS.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(content)
    (source / "data_config.json").write_text("not ours")
    (source / ".gitattributes").write_text("not ours")
    convert(source, tmp_path / "uer", "uer")
    assert {p.name for p in (tmp_path / "uer").iterdir()} == {
        "pytorch_model.bin",
        "config.json",
        "vocab.txt",
        "interlingua.residue.safetensors",
    }
    convert(tmp_path / "uer", tmp_path / "back", "hf")
    convert(source, tmp_path / "copy", "hf")
    for folder in (tmp_path / "back", tmp_path / "copy"):
        found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        found.pop("interlingua.residue.safetensors", None)
        expected = {str(p.relative_to(source)): p.read_bytes() for p in source.rglob("*") if p.is_file()}
        del expected["data_config.json"], expected[".gitattributes"]
        assert found.keys() == expected.keys()
        weights = found.pop("model.safetensors"), expected.pop("model.safetensors")
        assert found == expected
        assert weights
        assert_same(weights_of(folder), hf(("pooler",)))


def test_a_file_saved_by_a_very_old_pytorch(tmp_path: Path) -> None:
    torch.save(torch_dict(uer(ALL)), tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    (tmp_path / "config.json").write_text(json.dumps(uer_config()))
    convert(tmp_path / "old.bin", tmp_path / "out", "hf")
    assert_same(weights_of(tmp_path / "out"), hf(ALL))


def test_weights_that_were_transposed_in_place(tmp_path: Path) -> None:
    # A view with strides is a legal state dict: its data lie in another order than its shape says.
    arrays = hf(("pooler",))
    state = torch_dict(arrays)
    state["pooler.dense.weight"] = to_torch(np.ascontiguousarray(arrays["pooler.dense.weight"].T)).t()
    assert not state["pooler.dense.weight"].is_contiguous()
    (tmp_path / "src").mkdir()
    torch.save(state, tmp_path / "src" / "pytorch_model.bin")
    (tmp_path / "src" / "config.json").write_text(json.dumps(hf_config()))
    assert_same(converted(tmp_path / "src", "uer"), uer(("pooler",)))


def test_labels_of_a_classifier_without_a_configuration_of_them(tmp_path: Path) -> None:
    heads = ("pooler", "sequence_classification")
    source = write_uer(tmp_path / "src", uer(heads), uer_config())
    convert(source, tmp_path / "out", "hf")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    # Without this, transformers takes two labels and refuses (or forgets) the classifier of five.
    assert config["id2label"] == {str(number): f"LABEL_{number}" for number in range(5)}
    assert config["label2id"] == {f"LABEL_{number}": number for number in range(5)}


def test_a_token_classifier_of_two_labels_is_not_taken_for_a_span(tmp_path: Path) -> None:
    sizes = Sizes(labels=2)
    source = write_hf(
        tmp_path / "src", hf(("token_classification",), sizes), hf_config(sizes, ("token_classification",))
    )
    assert_same(converted(source, "uer"), uer(("token_classification",), sizes))
    result = convert(tmp_path / "src as uer", tmp_path / "back", "hf")
    assert result.plan.heads == ("token_classification",)
    assert_same(weights_of(tmp_path / "back"), hf(("token_classification",), sizes))
