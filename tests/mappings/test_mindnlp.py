"""MindNLP: transformers' names in a MindSpore checkpoint, and the older ones of its first versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import interlingua
from interlingua.mappings.registry import DIALECTS
from tests.mappings.test_mindspore import arrays_of
from tests.models import Arrays, assert_same, hf, hf_config, read_safetensors, safetensors_bytes, write_hf

HEADS = ("pooler", "masked_lm", "next_sentence")


def first(name: str) -> str:
    """The name that MindNLP 0.1 gives a tensor of BERT."""
    stem, _, part = name.rpartition(".")
    if stem.endswith("LayerNorm"):
        return f"{stem.removesuffix('LayerNorm')}layer_norm.{ {'weight': 'gamma', 'bias': 'beta'}[part] }"
    return f"{stem}.embedding_table" if stem.endswith("_embeddings") else name


def second(name: str) -> str:
    """The name that a file of 0.2 may have: transformers' layers with MindSpore's parameters."""
    return first(name).replace("layer_norm", "LayerNorm")


@pytest.mark.parametrize("version", [first, second], ids=["0.1", "0.2"])
@pytest.mark.parametrize("heads", [("pooler",), HEADS], ids="+".join)
def test_names_of_the_first_versions_are_read(
    tmp_path: Path, version: Callable[[str], str], heads: tuple[str, ...]
) -> None:
    older: Arrays = {version(name): array for name, array in hf(heads).items()}
    assert sorted(older) != sorted(hf(heads))
    source = tmp_path / "mindnlp"
    source.mkdir()
    (source / "mindspore.safetensors").write_bytes(safetensors_bytes(older))
    (source / "config.json").write_text(json.dumps(hf_config(heads=heads)))
    with interlingua.open(source) as checkpoint:
        assert (checkpoint.dialect, checkpoint.family, checkpoint.heads) == ("mindnlp", "bert", heads)
        assert checkpoint.match.leftovers == {}
    interlingua.convert(source, tmp_path / "hf", to="hf")
    assert_same(read_safetensors(tmp_path / "hf" / "model.safetensors"), hf(heads))


def test_a_folder_of_today_is_transformers_with_another_container(tmp_path: Path) -> None:
    source = write_hf(tmp_path / "hf", hf(HEADS), hf_config(heads=HEADS), tokens=37)
    interlingua.convert(source, tmp_path / "mindnlp", to="mindnlp")
    files = sorted(file.name for file in (tmp_path / "mindnlp").iterdir())
    assert files[:3] == ["config.json", "interlingua.residue.safetensors", "mindspore_model.ckpt"]
    assert json.loads((tmp_path / "mindnlp" / "config.json").read_text())["model_type"] == "bert"
    assert_same(arrays_of(tmp_path / "mindnlp"), hf(HEADS))
    with interlingua.open(tmp_path / "mindnlp") as checkpoint:
        assert (checkpoint.dialect, checkpoint.container) == ("mindnlp", "mindspore-ckpt")
    interlingua.convert(tmp_path / "mindnlp", tmp_path / "back", to="hf")
    assert_same(read_safetensors(tmp_path / "back" / "model.safetensors"), hf(HEADS))
    for name in ("config.json", "vocab.txt"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()


def test_every_family_of_transformers_is_there() -> None:
    assert set(DIALECTS["mindnlp"].tables) == set(DIALECTS["hf"].tables)
    for family, table in DIALECTS["mindnlp"].tables.items():
        assert table.rules == DIALECTS["hf"].tables[family].rules
