"""A checkpoint is found in the archives that zoos publish, and nothing of it is left behind."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

import interlingua
from interlingua.convert import locate
from interlingua.errors import FormatError
from interlingua.mappings.registry import DIALECTS
from tests.models import assert_same, hf, hf_config, weights_of, write_hf


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = write_hf(tmp_path / "zoo" / "model", hf(()), hf_config(heads=()), 37)
    (made / "notes.meta").write_bytes(b"x" * 2000)
    return made


@pytest.mark.parametrize("form", ["zip", "tar", "gztar"])
def test_an_archive_converts_as_its_folder_does(folder: Path, tmp_path: Path, monkeypatch, form: str) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    archive = shutil.make_archive(str(tmp_path / "a"), form, folder.parent)
    interlingua.convert(archive, tmp_path / "one", to="uer", sync=False)
    interlingua.convert(folder, tmp_path / "other", to="uer", sync=False)
    assert not list(scratch.iterdir())
    for name in ("pytorch_model.bin", "config.json", "vocab.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


@pytest.mark.parametrize("form", ["zip", "gztar"])
@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "hf"])
def test_what_any_system_publishes_converts_straight_from_an_archive(
    folder: Path, tmp_path: Path, dialect: str, form: str
) -> None:
    interlingua.convert(folder, tmp_path / "published" / "bert_base_v1", to=dialect, sync=False)
    archive = shutil.make_archive(str(tmp_path / "a"), form, tmp_path / "published")
    with interlingua.open(archive) as seen:
        # A folder of sentence-transformers is one of transformers too, and told from it by being asked for.
        assert seen.dialect == ("hf" if dialect == "sentence-transformers" else dialect)
        assert seen.vocabulary is not None
    interlingua.convert(archive, tmp_path / "back", to="hf", sync=False)
    assert_same(weights_of(tmp_path / "back"), weights_of(folder))
    for name in ("config.json", "vocab.txt"):
        assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes()


def test_of_several_forms_only_the_best_known_weights_are_unpacked(monkeypatch) -> None:
    monkeypatch.setattr(locate, "SMALL", 1000)
    sizes = {"m/config.json": 10, "m/pytorch_model.bin": 5000, "m/model.safetensors": 5000, "__MACOSX/m/x": 1}
    assert locate._needed(sizes) == ["m/config.json", "m/model.safetensors"]
    assert locate._needed({"a.ckpt.meta": 5000, "a.ckpt.index": 10, "a.ckpt.data-00000-of-00001": 5000}) == [
        "a.ckpt.index",
        "a.ckpt.data-00000-of-00001",
    ]


def test_an_archive_of_two_checkpoints_or_none_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, folder.parent / "second")
    both = shutil.make_archive(str(tmp_path / "both"), "zip", folder.parent)
    with pytest.raises(FormatError, match="holds 2 checkpoints"):
        interlingua.convert(both, tmp_path / "out", to="uer")
    (tmp_path / "texts" / "inner").mkdir(parents=True)
    (tmp_path / "texts" / "inner" / "a.txt").write_text("words")
    none = shutil.make_archive(str(tmp_path / "none"), "zip", tmp_path / "texts")
    with pytest.raises(FormatError, match="no checkpoint was found"):
        interlingua.convert(none, tmp_path / "out", to="uer")
