"""Folders of sentence-transformers: the bare encoder, the modules beside it, and who is asked to read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import interlingua
from tests.models import SMALL, assert_same, bare, hf, hf_config, weights_of, write_hf

CLS = {
    "word_embedding_dimension": 12,
    "pooling_mode_cls_token": True,
    "pooling_mode_mean_tokens": False,
}


def write(folder: Path, heads: tuple[str, ...] = ("pooler",)) -> Path:
    return write_hf(folder, hf(heads), hf_config(heads=heads), SMALL.vocab)


def modules(folder: Path) -> Path:
    """A folder of transformers' that has modules beside the encoder."""
    write(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(CLS))
    (folder / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "", "type": "a.Transformer"}]\n')
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_an_encoder_gets_the_modules_that_make_a_sentence_of_it(tmp_path: Path) -> None:
    write(tmp_path / "in", ("pooler", "masked_lm", "next_sentence"))
    plan = interlingua.convert(tmp_path / "in", tmp_path / "out", to="sentence-transformers", sync=False).plan
    assert any("their mean is taken" in note for note in plan.notes)
    assert plan.heads == ("pooler",)
    assert_same(weights_of(tmp_path / "out"), bare(("pooler",)))
    assert [module["path"] for module in json.loads((tmp_path / "out" / "modules.json").read_text())] == [
        "",
        "1_Pooling",
    ]
    pooling = json.loads((tmp_path / "out" / "1_Pooling" / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == 12
    assert [mode for mode, on in pooling.items() if on is True] == ["pooling_mode_mean_tokens", "include_prompt"]
    assert json.loads((tmp_path / "out" / "sentence_bert_config.json").read_text())["max_seq_length"] == 17
    assert (tmp_path / "out" / "vocab.txt").read_bytes() == (tmp_path / "in" / "vocab.txt").read_bytes()


def test_modules_that_are_there_travel_along(tmp_path: Path) -> None:
    source = modules(tmp_path / "in")
    plan = interlingua.convert(source, tmp_path / "out", to="sentence-transformers", sync=False).plan
    assert not any("mean is taken" in note for note in plan.notes)
    interlingua.convert(tmp_path / "out", tmp_path / "back", dialect="sentence-transformers", to="hf", sync=False)
    for name in ("modules.json", "1_Pooling/config.json"):
        assert files(tmp_path / "out")[name] == files(source)[name] == files(tmp_path / "back")[name]


def test_modules_come_back_from_a_system_that_has_no_use_for_them(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    source = modules(tmp_path / "in")
    interlingua.convert(source, tmp_path / "uer", to="uer", sync=False)
    interlingua.convert(tmp_path / "uer", tmp_path / "back", to="sentence-transformers", sync=False)
    assert files(tmp_path / "back")["1_Pooling/config.json"] == files(source)["1_Pooling/config.json"]
    assert files(tmp_path / "back")["modules.json"] == files(source)["modules.json"]


def test_a_folder_with_modules_is_one_of_transformers_unless_asked_otherwise(tmp_path: Path) -> None:
    source = modules(tmp_path / "in")
    with interlingua.open(source) as found:
        assert found.dialect == "hf"
    with interlingua.open(source, dialect="sentence-transformers") as found:
        assert (found.dialect, found.heads) == ("sentence-transformers", ("pooler",))


def test_a_folder_goes_to_itself_with_everything(tmp_path: Path) -> None:
    source = modules(tmp_path / "in")
    interlingua.convert(
        source, tmp_path / "out", dialect="sentence-transformers", to="sentence-transformers", sync=False
    )
    assert {n: b for n, b in files(tmp_path / "out").items() if n != "model.safetensors"} == {
        n: b for n, b in files(source).items() if n != "model.safetensors"
    }
