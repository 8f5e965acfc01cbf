"""A checkpoint is found in the archives that zoos publish, and nothing of it is left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import interlingua
from interlingua.convert import locate
from interlingua.errors import FormatError
from tests.models import hf, hf_config, write_hf


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = write_hf(tmp_path / "zoo" / "model", hf(()), hf_config(heads=()), 37)
    (made / "notes.meta").write_bytes(b"x" * 2000)
    return made


@pytest.mark.parametrize("form", ["zip", "tar", "gztar"])
def test_an_archive_converts_as_its_folder_does(folder: Path, tmp_path: Path, monkeypatch, form: str) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(locate.tempfile, "tempdir", str(scratch))
    archive = shutil.make_archive(str(tmp_path / "a"), form, folder.parent)
    interlingua.convert(archive, tmp_path / "one", to="uer", sync=False)
    interlingua.convert(folder, tmp_path / "other", to="uer", sync=False)
    assert not list(scratch.iterdir())
    for name in ("pytorch_model.bin", "config.json", "vocab.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


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
