"""What a user points at: weights found, and everything beside them; or a clear word on what is there instead."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from interlingua.convert.source import Asked, Checkpoint, open_checkpoint
from interlingua.errors import FormatError, InterlinguaError, MappingError, UsageError
from tests.models import DECODER, hf, hf_config, safetensors_bytes, uer, uer_config, write_hf, write_uer

MODEL = ("pooler",)


def opened(path: Path, **asked: object) -> Checkpoint:
    strict = bool(asked.pop("strict", True))
    return open_checkpoint(path, Asked(**asked), strict=strict)


def test_a_folder_of_transformers_is_opened_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    folder = write_hf(tmp_path / "m", hf(MODEL), hf_config(), 37)
    for name in ("tokenizer.json", "modules.json", "README.md", "notes.txt", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "1_Pooling" / "other.bin").write_text("{}")
    (folder / "2_Dense" / "deep").mkdir(parents=True)
    (folder / "2_Dense" / "model.safetensors").write_text("")
    (folder / "2_Dense" / "deep" / "config.json").write_text("{}")
    with opened(folder) as found:
        assert found.weights == folder / "model.safetensors"
        assert (found.container, found.dialect, found.family, found.heads) == ("safetensors", "hf", "bert", MODEL)
        assert found.config_path == folder / "config.json"
        assert found.vocabulary == folder / "vocab.txt"
        assert sorted(found.sidecars) == [
            "1_Pooling/config.json",
            "2_Dense/model.safetensors",
            "README.md",
            "modules.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
        assert found.residue is None
        assert set(found.files) == {
            *(folder / name for name in found.sidecars),
            folder / "model.safetensors",
            folder / "config.json",
            folder / "vocab.txt",
        }


def test_a_file_is_opened_with_what_stands_beside_it_but_no_sidecars(tmp_path: Path) -> None:
    folder = write_hf(tmp_path / "m", hf(MODEL), hf_config(), 37)
    (folder / "tokenizer.json").write_text("{}")
    with opened(folder / "model.safetensors") as found:
        assert found.config_path == folder / "config.json"
        assert found.vocabulary == folder / "vocab.txt"
        assert found.sidecars == ()


def test_a_file_in_the_working_folder_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_hf(tmp_path, hf(MODEL), hf_config(), 37)
    monkeypatch.chdir(tmp_path)
    for path in ("model.safetensors", "."):
        with opened(Path(path)) as found:
            assert found.completed.config.num_attention_heads == 6


def shards(folder: Path) -> Path:
    arrays = hf(MODEL)
    names = list(arrays)
    files = {f"model-0000{n}-of-00003.safetensors": names[n - 1 :: 3] for n in (1, 2, 3)}
    folder.mkdir()
    for file, part in files.items():
        (folder / file).write_bytes(safetensors_bytes({name: arrays[name] for name in part}))
    weight_map = {name: file for file, part in files.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(hf_config()))
    return folder


def test_shards_are_opened_by_their_folder_or_their_index(tmp_path: Path) -> None:
    folder = shards(tmp_path / "m")
    for path in (folder, folder / "model.safetensors.index.json"):
        with opened(path) as found:
            assert found.container == "safetensors"
            assert found.completed.config.num_hidden_layers == 3
            np.testing.assert_array_equal(found.reader.read("pooler.dense.bias"), hf(MODEL)["pooler.dense.bias"])
            assert {p.name for p in found.files} >= {f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)}


def test_one_shard_alone_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="lacks"):
        opened(shards(tmp_path / "m") / "model-00001-of-00003.safetensors")


def test_shards_without_their_index_are_several_checkpoints(tmp_path: Path) -> None:
    folder = shards(tmp_path / "m")
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(FormatError, match=r"holds 3 checkpoints: model-00001-of-00003\.safetensors, "):
        opened(folder)


def test_safetensors_are_preferred_to_a_pickle_of_the_same(tmp_path: Path) -> None:
    folder = write_hf(tmp_path / "m", hf(MODEL), hf_config())
    (folder / "pytorch_model.bin").write_bytes(b"PK")
    with opened(folder) as found:
        assert found.weights.name == "model.safetensors"


@pytest.mark.parametrize("name", ["weights.bin", "my model.safetensors", "checkpoint", "a.ckpt"])
def test_weights_under_any_name_are_found_where_they_are_the_only_ones(tmp_path: Path, name: str) -> None:
    folder = write_hf(tmp_path / "m", hf(MODEL), hf_config(), 37, name=name)
    (folder / "README.md").write_text("words")
    with opened(folder) as found:
        assert found.weights.name == name
        assert found.dialect == "hf"


def test_several_weights_are_refused_by_their_names(tmp_path: Path) -> None:
    folder = write_hf(tmp_path / "m", hf(MODEL), name="a.bin")
    write_hf(folder, hf(MODEL), name="b.bin")
    with pytest.raises(FormatError, match=r"holds 2 checkpoints: a\.bin, b\.bin") as caught:
        opened(folder)
    assert "Name one of them" in str(caught.value)


def test_the_residue_is_not_taken_for_the_weights(tmp_path: Path) -> None:
    folder = write_hf(tmp_path / "m", {"x": np.zeros(1)}, name="interlingua.residue.safetensors")
    with pytest.raises(FormatError, match="no checkpoint was found"):
        opened(folder)


def test_an_older_folder_of_sentence_transformers_is_opened(tmp_path: Path) -> None:
    write_hf(tmp_path / "m" / "0_Transformer", hf(MODEL), hf_config(), 37)
    (tmp_path / "m" / "modules.json").write_text("[]")
    with opened(tmp_path / "m") as found:
        assert found.weights == tmp_path / "m" / "0_Transformer" / "model.safetensors"
        assert found.config_path == tmp_path / "m" / "0_Transformer" / "config.json"


BROKEN = {
    "does not exist": None,
    "is empty": b"",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "an HTML page": b"<!DOCTYPE html>",
    "a JSON text": b'{"weight_map": {}}',
    "no container that is known": b"nothing at all",
}


@pytest.mark.parametrize(("words", "content"), BROKEN.items())
@pytest.mark.parametrize("strict", [True, False])
def test_a_file_that_is_no_checkpoint_is_called_what_it_is(tmp_path: Path, words: str, content, strict: bool) -> None:
    path = tmp_path / "m" / "model.safetensors"
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    for source in (path, path.parent) if content is not None else (path,):
        with pytest.raises(FormatError, match=words):
            opened(source, strict=strict)


def test_a_folder_without_a_checkpoint_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("words")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    with pytest.raises(FormatError, match="a folder in which no checkpoint was found"):
        opened(tmp_path)


@pytest.mark.parametrize("name", ["a" * 300, "nul\0", "\udce9"])
def test_what_cannot_be_a_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError):
        opened(tmp_path / name)


@pytest.mark.parametrize("name", ["bert_config.json", "bert_base_config.json", "my_config.json"])
def test_a_configuration_under_another_name_is_found(tmp_path: Path, name: str) -> None:
    folder = write_hf(tmp_path, hf(MODEL))
    for other in ("tokenizer_config.json", "generation_config.json"):
        (folder / other).write_text(json.dumps(hf_config()))
    (folder / "broken_config.json").write_text("{")
    (folder / "list_config.json").write_text("[]")
    (folder / "foreign_config.json").write_text("{}")
    (folder / name).write_text(json.dumps(hf_config()))
    with opened(folder) as found:
        assert found.config_path == folder / name


def test_two_configurations_under_other_names_are_none(tmp_path: Path) -> None:
    folder = write_hf(tmp_path, hf(MODEL))
    for name in ("a_config.json", "b_config.json"):
        (folder / name).write_text(json.dumps(hf_config()))
    with opened(folder) as found:
        assert found.config_path is None
        assert found.native_config == {}


def test_a_configuration_in_the_other_dialect_is_understood(tmp_path: Path) -> None:
    folder = write_hf(tmp_path, hf(MODEL), uer_config())
    with opened(folder) as found:
        assert found.dialect == "hf"
        assert found.completed.config.hidden_dropout_prob == 0.35


def test_a_configuration_of_nobody_is_refused_when_it_is_needed(tmp_path: Path) -> None:
    folder = write_hf(tmp_path, hf(MODEL), {"foo": 1})
    with opened(folder) as found, pytest.raises(FormatError, match="no configuration of a dialect"):
        _ = found.completed


def test_what_is_asked_for_comes_before_what_is_found(tmp_path: Path) -> None:
    folder = write_hf(tmp_path / "m", hf(MODEL), hf_config(layer_norm_eps=0.1), 30)
    write_hf(tmp_path / "other", {}, hf_config(layer_norm_eps=0.2), 36)
    asked = {"config": str(tmp_path / "other" / "config.json"), "vocabulary": tmp_path / "other" / "vocab.txt"}
    with opened(folder, **asked) as found:
        assert found.completed.config.layer_norm_eps == 0.2
        assert found.vocabulary == tmp_path / "other" / "vocab.txt"


@pytest.mark.parametrize("strict", [True, False])
def test_a_configuration_asked_for_has_to_be_there(tmp_path: Path, strict: bool) -> None:
    folder = write_hf(tmp_path, hf(MODEL))
    with pytest.raises(FormatError, match=r"nothing\.json: cannot be opened"):
        opened(folder, config=tmp_path / "nothing.json", strict=strict)


def test_a_broken_configuration_is_refused_where_it_matters_and_told_where_not(tmp_path: Path) -> None:
    folder = write_hf(tmp_path, hf(MODEL))
    (folder / "config.json").write_text("{")
    with pytest.raises(FormatError, match=r"config\.json: is no valid JSON"):
        opened(folder)
    with opened(folder, strict=False) as found:
        assert found.dialect == "hf"
        assert "no valid JSON" in str(found.problem)


def test_the_dialect_asked_for_is_the_only_one(tmp_path: Path) -> None:
    folder = write_hf(tmp_path, hf(MODEL), hf_config())
    with opened(folder, dialect="hf") as found:
        assert found.dialect == "hf"
    with pytest.raises(FormatError, match="no model of uer"):
        opened(folder, dialect="uer")
    with pytest.raises(UsageError, match="There is no dialect 'huer'"):
        opened(folder, dialect="huer")


def test_the_family_asked_for_has_to_be_one(tmp_path: Path) -> None:
    folder = write_hf(tmp_path, hf(MODEL), hf_config(model_type="roformer"))
    with pytest.raises(UsageError, match=r"There is no family .bort.\. Did you mean .bert."):
        opened(folder, family="bort")
    with opened(folder) as found, pytest.raises(MappingError, match="model_type"):
        _ = found.completed
    with opened(folder, family="bert") as found:
        assert found.completed.config.hidden_size == 12


def test_an_unknown_model_is_refused_or_described(tmp_path: Path) -> None:
    folder = write_hf(tmp_path, {"conv.weight": np.zeros((2, 2)), "fc.bias": np.zeros(2)})
    with pytest.raises(
        FormatError, match=r"safetensors with 2 tensors \('conv\.weight', 'fc\.bias' \.\.\.\)"
    ) as caught:
        opened(folder)
    assert "--keep-names" in str(caught.value)
    with opened(folder, strict=False) as found:
        assert (found.dialect, found.family, found.heads, found.match) == (None, None, (), None)
        assert isinstance(found.problem, FormatError)
        assert found.ties == {}
        with pytest.raises(InterlinguaError):
            _ = found.completed


def test_nothing_stays_open_after_a_failure(tmp_path: Path) -> None:
    write_hf(tmp_path, hf(MODEL), hf_config())
    (tmp_path / "interlingua.residue.safetensors").write_bytes(b"broken")
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with pytest.raises(FormatError, match="residue"):
            opened(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == len(before)


# Ties.


def test_a_decoder_that_is_not_there_is_tied(tmp_path: Path) -> None:
    with opened(write_hf(tmp_path, hf(("masked_lm",)), hf_config(tie_word_embeddings=False))) as found:
        assert found.ties == {"masked_lm.decoder.weight": "embeddings.word_embeddings.weight"}
        assert found.completed.config.tie_word_embeddings is True


def test_a_decoder_of_equal_bytes_is_tied(tmp_path: Path) -> None:
    arrays = hf(("masked_lm",))
    arrays[DECODER] = arrays["bert.embeddings.word_embeddings.weight"].copy()
    with opened(write_hf(tmp_path, arrays, hf_config())) as found:
        assert list(found.ties) == ["masked_lm.decoder.weight"]


@pytest.mark.parametrize("change", ["bit", "sign of zero", "dtype"])
def test_a_decoder_that_differs_in_anything_is_not_tied(tmp_path: Path, change: str) -> None:
    arrays = hf(("masked_lm",))
    word = arrays["bert.embeddings.word_embeddings.weight"]
    word[36, 11] = 0.0
    decoder = word.copy()
    if change == "bit":
        decoder.view(np.uint32)[20, 3] ^= 1
    elif change == "dtype":
        decoder = decoder.astype(np.float64)
    else:
        decoder[36, 11] = -0.0
    with opened(write_hf(tmp_path, arrays | {DECODER: decoder}, hf_config())) as found:
        assert found.ties == {}
        assert found.completed.config.tie_word_embeddings is False


def test_a_decoder_in_the_same_bytes_is_tied_without_a_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    folder = write_uer(tmp_path, uer(("masked_lm",)), uer_config())
    with opened(folder) as found:
        monkeypatch.setattr(type(found.reader), "read_into", None)
        assert found.ties == {"masked_lm.decoder.weight": "embeddings.word_embeddings.weight"}


def test_a_model_without_a_masked_lm_has_no_ties_and_keeps_what_it_says_of_them(tmp_path: Path) -> None:
    with opened(write_hf(tmp_path, hf(MODEL), hf_config(tie_word_embeddings=False))) as found:
        assert found.ties == {}
        assert found.completed.config.tie_word_embeddings is False


# Two names that should be one tensor.

BIAS, COPY = "cls.predictions.bias", "cls.predictions.decoder.bias"


def test_two_biases_that_differ_are_refused_where_the_weights_are_tied(tmp_path: Path) -> None:
    arrays = hf(("masked_lm",))
    folder = write_hf(tmp_path, arrays | {COPY: arrays[BIAS] + 1}, hf_config())
    with pytest.raises(FormatError, match=r"'cls\.predictions\.bias' and 'cls\.predictions\.decoder\.bias' are one"):
        opened(folder)


def test_two_biases_that_differ_in_an_untied_model_are_told_apart(tmp_path: Path) -> None:
    # transformers 5 computes with the decoder's, and keeps the other untrained.
    arrays = hf(("masked_lm",))
    decoder = arrays["bert.embeddings.word_embeddings.weight"] * 2
    folder = write_hf(tmp_path, arrays | {COPY: arrays[BIAS] + 1, DECODER: decoder}, hf_config())
    with opened(folder) as found:
        assert found.match.tensors["masked_lm.decoder.bias"].native == COPY
        assert found.match.leftovers == {BIAS: f"differs from {COPY}, which is what the system computes with"}


def test_two_biases_of_two_sizes_are_refused(tmp_path: Path) -> None:
    arrays = hf(("masked_lm",))
    decoder = arrays["bert.embeddings.word_embeddings.weight"] * 2
    folder = write_hf(tmp_path, arrays | {COPY: np.zeros(38, np.float32), DECODER: decoder}, hf_config())
    with pytest.raises(FormatError, match="are one tensor by their names"):
        opened(folder)
