"""A typo is told what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from interlingua.cli import main
from interlingua.errors import nearest
from tests.models import hf, hf_config, write_hf

HEADS = ("pooler",)


def refusal(*arguments: object) -> str:
    found = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert found.exit_code in (2, 4), found.output
    assert found.stdout == ""
    return " ".join(found.stderr.split())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_hf(tmp_path / "source", hf(HEADS), hf_config(heads=HEADS), 37)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["convrt"], "convert"),
        (["convert", "a", "b", "--contaner", "npz"], "--container"),
        (["convert", "SRC", "b", "--to", "uerr"], "uer"),
        (["convert", "SRC", "b", "--to", "PADDLE"], "paddle"),
        (["inspect", "SRC", "--from", "tf-1"], "tf1"),
        (["inspect", "SRC", "--family", "albrt"], "albert"),
        (["matrix", "--family", "robrta"], "roberta"),
        (["convert", "SRC", "b", "--to", "hf", "--container", "safetensor"], "safetensors"),
        (["convert", "SRC", "b", "--to", "hf", "--dtype", "flaot16"], "float16"),
        (["convert", "SRC", "b", "--to", "hf", "--residue", "kep"], "keep"),
        (["parity", "SRC", "SRC", "--device", "cdua"], "cuda"),
        (["parity", "SRC", "SRC", "--python", "tensorflw=python"], "tensorflow"),
    ],
)
def test_what_was_probably_meant(arguments: list[str], meant: str, source: Path) -> None:
    text = refusal(*(source if word == "SRC" else word for word in arguments))
    assert "Did you mean" in text
    assert repr(meant) in text


def test_where_nothing_is_near_all_there_is_is_named(source: Path) -> None:
    assert "There are: keep, float32, float16, bfloat16." in refusal("convert", source, "b", "--dtype", "xyz")


def test_a_submodel_that_was_probably_meant(tmp_path: Path) -> None:
    both = {f"{side}.{name}": array for side in ("student", "teacher") for name, array in hf(HEADS).items()}
    source = write_hf(tmp_path / "two", both, hf_config(heads=HEADS))
    assert "Did you mean 'teacher'?" in refusal(
        "convert", source, tmp_path / "out", "--to", "hf", "--submodel", "techer"
    )
    assert "Found: 'student', 'teacher'." in refusal("convert", source, "x", "--to", "hf", "--submodel", "zzz")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("encoder.layer.1.attention.self.query.weight", "encoder.layer.1.attention.self.qurey.weight"),
        ("embeddings.position_embeddings.weight", "embeddings.position_embedings.weight"),
    ],
)
def test_a_misspelt_tensor_is_told_from_another_architecture(tmp_path: Path, right: str, wrong: str) -> None:
    arrays = {wrong if name == right else name: array for name, array in hf(HEADS).items()}
    source = write_hf(tmp_path / "wrong", arrays, hf_config(heads=HEADS))
    text = refusal("convert", source, tmp_path / "out", "--to", "uer", "--from", "hf")
    assert wrong in text
    assert f"Is it misspelt? {right} is missing." in text


def test_a_tensor_like_one_that_is_there_is_no_typo(tmp_path: Path) -> None:
    name = "encoder.layer.1.attention.self.query.weight"
    arrays = hf(HEADS)
    source = write_hf(tmp_path / "more", {**arrays, f"{name}2": arrays[name]}, hf_config(heads=HEADS))
    assert "another architecture" in refusal("convert", source, tmp_path / "out", "--to", "uer", "--from", "hf")


def test_what_is_like_nothing_is_near_nothing() -> None:
    assert nearest("zzz", ["hf", "uer"]) is None
    assert nearest("HF", ["hf", "uer"]) == "hf"
    assert nearest("encoder.weihgt", ["encoder.weight"], 0.99) is None
